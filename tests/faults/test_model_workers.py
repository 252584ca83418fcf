"""Model workers: under load, ended, killed, reloaded, with slow and failing graphs. Every caller gets the answer to its own question."""

import contextlib
import json
import os
import random
import shutil
import signal
import threading
import time

import graphs
import numpy
import onnx
import psycopg
import pytest
import surviving
import tiny
from cluster import Cluster, own
from psycopg import errors
from psycopg.rows import dict_row

MINILM = "all-minilm-l6-v2"
# Segments of shared memory are files of the cluster then, and can be counted.
SETTINGS = """
shared_preload_libraries = 'pg_reco'
reco.execution_provider = 'cpu'
dynamic_shared_memory_type = 'mmap'
jit = off
"""
# What a call may take in which nothing is to be waited for, and what nothing may exceed.
SOON, HANGS = 2.0, 40.0
# Seconds until a canceled call is over.
LATEST = 1.0

EMBED = "SELECT reco.embed(%s, %s)"
# Two thousand texts: their tokens and vectors do not fit a slot.
MANY = """SELECT array_agg(e.embedding ORDER BY e.id) FROM reco.embed_query(
            $$SELECT i AS id, regexp_replace(regexp_replace(i::bit(11)::text, '0', 'red ', 'g'), '1', 'tea ', 'g') AS text
                FROM generate_series(0, 1999) i$$, %s) e"""
IMAGES = """SELECT array_agg(e.embedding ORDER BY e.id) FROM reco.embed_images(
              $$SELECT i AS id, image FROM picture, generate_series(1, 9) i$$, 'picture') e"""
PREDICT = """SELECT (reco.predict('linear', '{"x": [[1, 2]]}')->'y'->0->>1)::real"""
ENDLESS = "SELECT reco.embed('dark', 'slow')"
ENDLESS_RUN = f"""SELECT reco.predict('slow', '{{"input_ids": [[{graphs.token("dark")}]], "attention_mask": [[1]]}}')"""
OUT_OF_TABLE = "indices element out of data bounds"
ENDED_TWICE = "model worker ended twice while it ran model"


def some_texts():
    """Of one to fourteen words, none of which makes a graph fail or slow."""
    chance = random.Random(3)
    words = [word for word in tiny.WORDS if word not in ("light", "dark", "dry")]
    return [" ".join(chance.choices(words, k=1 + number % 14)) for number in range(60)]


TEXTS = some_texts()


def import_text(connection, name, graph, **config):
    config = json.dumps({"max_length": 32, **config})
    connection.execute("SELECT reco.import_model(%s, %b, 'text_embedding', %b, %s)", [name, graph, tiny.tokenizer(), config])


def worker(connection):
    """The row of the worker for the CPU."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute("SELECT * FROM reco.stat_workers WHERE worker = 0").fetchone()


def wait_for_worker(connection, is_so=lambda row: row["pid"], what="the start of the worker", seconds=20):
    """Its row as soon as it is so; counts lag by a tenth of a second."""
    surviving.wait_until(lambda: is_so(worker(connection)), seconds, what)
    return worker(connection)


def at_rest(connection):
    """The row of a worker that has counted all that was asked of it."""
    wait_for_worker(connection, lambda row: row["pid"] and row["running"] == row["waiting"] == 0, "rest")
    time.sleep(0.3)
    return worker(connection)


def maps(pid, what):
    """How often a process has such a file mapped."""
    with open(f"/proc/{pid}/maps") as mapped:
        return sum(what in line for line in mapped)


def run_themselves(connections):
    """How many connections have loaded ONNX Runtime."""
    return sum(maps(connection.info.backend_pid, "libonnxruntime") > 0 for connection in connections)


@contextlib.contextmanager
def by_itself(cluster, **settings):
    """A connection that runs its models itself."""
    with cluster.connect(options="-c reco.run_memory_limit=512MB", **settings) as connection:
        yield connection


@pytest.fixture(scope="module")
def cluster():
    with Cluster(SETTINGS) as made:
        made.start()
        with made.connect() as connection:
            connection.execute("CREATE EXTENSION pg_reco")
            wait_for_worker(connection)
            tiny.import_text(connection)
            tiny.import_kept(connection, MINILM)
            tiny.import_image(connection)
            connection.execute("CREATE TABLE picture AS SELECT %b::bytea AS image", [tiny.picture(20, 10)])
            connection.execute("SELECT reco.import_model('linear', %b)", [tiny.linear_model()])
            import_text(connection, "fragile", graphs.fails_for_light())
            import_text(connection, "slow", graphs.endless_for_dark())
        yield made


def questions_of(connection, model="tiny", texts=TEXTS):
    """Statement, parameters and answer of each text, asked one by one."""
    return [(EMBED, [text, model], connection.execute(EMBED, [text, model]).fetchone()[0]) for text in texts]


@pytest.fixture(scope="module")
def texts(cluster):
    """What clients ask, and the answers of a session that asks no worker."""
    with by_itself(cluster) as connection:
        return questions_of(connection)


@pytest.fixture(scope="module")
def questions(cluster, texts):
    """Among them some of other kinds; the last one is large."""
    others = [(PREDICT, None), (IMAGES, None), (MANY, ["tiny"])]
    with by_itself(cluster) as connection:
        return [*texts, *((statement, given, connection.execute(statement, given).fetchone()[0]) for statement, given in others)]


@pytest.fixture
def there(cluster):
    """A connection that looks on."""
    with cluster.wait_ready() as connection:
        wait_for_worker(connection)
        yield connection


def asked_of(model, questions):
    """The same questions to a model that gives the same answers."""
    return [(EMBED, [text, model], answer) for _, (text, _), answer in questions]


def equals(got, answer):
    """An answer is an array or, where it may be one of several, a list of arrays."""
    answers = answer if isinstance(answer, tuple) else (answer,)
    got = numpy.asarray(got)
    return any(got.shape == numpy.shape(a) and numpy.allclose(got, a, rtol=0, atol=1e-5) for a in answers)


class Clients:
    """Connections that ask questions at random until the block ends, each in a thread of its own.

    The answer to a question is an array; or a tuple of those that are right; or a text: the error that must come.
    """

    def __init__(self, cluster, count, questions, reconnect=False, **settings):
        self.cluster, self.questions, self.reconnect, self.settings = cluster, questions, reconnect, settings
        self.stopped = threading.Event()
        self.tries, self.connections = [0] * count, [None] * count
        # Answers that were wrong, errors that were not asked for, errors that were, and connections that were lost.
        self.wrong, self.errors, self.refused, self.lost = [], [], [], []
        self.threads = [threading.Thread(target=self.run, args=[number], daemon=True) for number in range(count)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self.advance(1)

    def __exit__(self, *_):
        self.stopped.set()
        deadline = time.monotonic() + HANGS
        for thread in self.threads:
            thread.join(max(0, deadline - time.monotonic()))
        assert not any(thread.is_alive() for thread in self.threads), "a call hangs"

    def advance(self, tries=5):
        """Waits until each has got answers or errors to so many further questions."""
        before = list(self.tries)
        done = lambda: all(now - then >= tries for now, then in zip(self.tries, before))  # noqa: E731
        surviving.wait_until(done, HANGS, f"an answer to each client (lost: {self.lost[:3]})")
        return self

    def run(self, number):
        chance, connection = random.Random(number), None
        while not self.stopped.is_set():
            try:
                if connection is None or connection.closed:
                    connection = self.connections[number] = self.cluster.connect(**self.settings)
                self.ask(connection, *chance.choice(self.questions))
            except psycopg.Error as error:
                if connection is None or connection.closed:
                    self.lost.append(error)
                    if not self.reconnect:
                        return
                    time.sleep(0.05)
                else:
                    self.errors.append(error)
            self.tries[number] += 1
        if connection is not None:
            connection.close()

    def ask(self, connection, statement, parameters, answer):
        try:
            (got,) = connection.execute(statement, parameters).fetchone()
            if isinstance(answer, str) or not equals(got, answer):
                self.wrong.append((statement, parameters, got))
        except psycopg.Error as error:
            if not isinstance(answer, str) or answer not in str(error):
                raise
            self.refused.append(error)

    def assert_right(self):
        """No error, no wrong answer, no connection lost."""
        assert [str(error) for error in self.errors] == [] and self.wrong == [] and self.lost == []


# ------------------------------------------------------------------------------------------------------------- together


def test_one_worker_serves_all_connections_from_one_graph(cluster, there):
    tiny.import_text(there, "shared", seed=4)
    before = at_rest(there)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(cluster.connect()) for _ in range(8)]
        answers = [client.execute(EMBED, [text, "shared"]).fetchone() for client in clients for text in ("red", "red wine")]
        assert answers == answers[:2] * 8 and answers[0] != answers[1]
        assert run_themselves(clients) == 0
        after = at_rest(there)
    # Each opens the model once.
    assert after["requests"] - before["requests"] == 8 * 3
    assert after["runs"] - before["runs"] == 8 * 2
    assert (after["models"], after["bytes"], after["pid"]) == (before["models"], before["bytes"], before["pid"])
    assert maps(after["pid"], "libonnxruntime")
    there.execute("SELECT reco.drop_model('shared')")
    there.execute(EMBED, ["red", "tiny"])
    wait_for_worker(there, lambda row: row["models"] == before["models"] - 1, "that what was dropped is unloaded", seconds=5)


@pytest.mark.parametrize("model", ["tiny", MINILM])
def test_texts_of_many_connections_run_together_and_each_gets_its_own_vector(cluster, there, model):
    tries = 10 if model == MINILM else 40
    with by_itself(cluster) as connection:
        asked = questions_of(connection, model, TEXTS[:28])
    before = at_rest(there)
    with surviving.nobody_hurt(cluster), Clients(cluster, 16, asked) as clients:
        clients.advance(tries)
    clients.assert_right()
    after = at_rest(there)
    assert after["rows"] - before["rows"] >= 16 * tries
    # Each call has one text.
    assert after["rows"] - before["rows"] > after["runs"] - before["runs"]
    assert after["max_batch"] > 1 and after["failed"] == before["failed"]


def test_a_text_that_fails_in_a_shared_run_is_its_callers_failure_alone(cluster, there, texts):
    asked = asked_of("fragile", texts)
    failing = [(EMBED, ["light", "fragile"], OUT_OF_TABLE), (EMBED, ["red and light", "fragile"], OUT_OF_TABLE)]
    before = at_rest(there)
    with surviving.nobody_hurt(cluster), Clients(cluster, 12, asked) as right, Clients(cluster, 4, failing) as wrong:
        wrong.advance(30)
        right.advance(30)
    right.assert_right()
    wrong.assert_right()
    assert {error.sqlstate for error in wrong.refused} == {"38000"} and len(wrong.refused) >= 4 * 30
    after = at_rest(there)
    assert after["failed"] - before["failed"] == len(wrong.refused)
    assert after["rows"] - before["rows"] > after["runs"] - before["runs"], "they did run together"


def test_counts_are_right_soon_after_the_last_request(cluster, there):
    there.execute(EMBED, ["dry", "slow"])
    for text in ["dry"] * 3 + ["red"] * 3:
        before = at_rest(there)
        there.execute(EMBED, [text, "slow"])
        is_counted = lambda row, before=before: (row["runs"], row["running"], row["waiting"]) == (before["runs"] + 1, 0, 0)  # noqa: E731
        wait_for_worker(there, is_counted, "the count of a run", seconds=3)


# ------------------------------------------------------------------------------------------------------------ it is ended


def end_by_signal(there, pid):
    os.kill(pid, signal.SIGTERM)


@pytest.mark.parametrize("count, end", [(16, end_by_signal), (64, end_by_signal)])
def test_an_ended_worker_is_started_again_and_what_it_had_is_repeated(cluster, there, questions, count, end):
    before = worker(there)
    with surviving.nobody_hurt(cluster), Clients(cluster, count, questions) as clients:
        for number in range(1, 3):
            end(there, worker(there)["pid"])
            wait_for_worker(there, lambda row, number=number: row["restarts"] == before["restarts"] + number and row["pid"], f"start {number}")
            clients.advance(3)
    assert clients.wrong == [] and clients.lost == []
    assert [error for error in clients.errors if ENDED_TWICE not in str(error) or error.sqlstate != "58000"] == []
    assert worker(there)["pid"] != before["pid"]
    requests = at_rest(there)["requests"]
    assert equals(there.execute(*questions[0][:2]).fetchone()[0], questions[0][2])
    assert at_rest(there)["requests"] > requests


def test_a_worker_that_ends_again_and_again_costs_an_error_that_says_so(cluster, there):
    """The run never ends, and so is lost with each worker."""
    restarts = worker(there)["restarts"]
    with surviving.nobody_hurt(cluster), cluster.connect() as connection:
        connection.execute(EMBED, ["red", "slow"])
        with running(connection, ENDLESS) as ended:
            for number in range(2):
                row = wait_for_worker(there, lambda row, number=number: row["restarts"] == restarts + number and row["running"], "the run")
                os.kill(row["pid"], signal.SIGTERM)
            surviving.wait_until(lambda: ended, 10, "the error")
            assert ENDED_TWICE in str(ended[0]) and ended[0].sqlstate == "58000" and ended[0].diag.message_hint
        assert connection.execute(EMBED, ["red", "slow"]).fetchone()


def test_a_killed_worker_restarts_the_server_as_any_process_does(cluster, there, questions):
    pid = worker(there)["pid"]
    deaths = len(surviving.crashes(cluster))
    with Clients(cluster, 16, questions, reconnect=True) as clients:
        os.kill(pid, signal.SIGKILL)
        surviving.wait_until(lambda: len(surviving.crashes(cluster)) > deaths, 20, "the server's notice")
        with cluster.wait_ready() as fresh:
            assert equals(fresh.execute(*questions[0][:2]).fetchone()[0], questions[0][2])
            row = wait_for_worker(fresh)
            assert row["pid"] != pid and row["restarts"] == 0
        clients.advance()
    assert clients.lost and clients.errors == [] and clients.wrong == []
    with pytest.raises(psycopg.OperationalError):
        there.execute("SELECT 1")
    with cluster.connect() as fresh:
        requests = at_rest(fresh)["requests"]
        assert fresh.execute(*questions[0][:2]).fetchone()
        assert at_rest(fresh)["requests"] == requests + 2, "the worker is asked again"
        surviving.assert_whole(fresh)


def test_a_fast_restart_under_load_comes_back(cluster, there, questions):
    there.close()
    deaths = len(surviving.crashes(cluster))
    with Clients(cluster, 16, questions, reconnect=True) as clients:
        start = time.monotonic()
        cluster.restart()
        assert time.monotonic() - start < HANGS
        with cluster.wait_ready() as fresh:
            wait_for_worker(fresh)
            assert equals(fresh.execute(*questions[0][:2]).fetchone()[0], questions[0][2])
        clients.advance()
    assert clients.lost and clients.errors == [] and clients.wrong == []
    assert surviving.crashes(cluster)[deaths:] == []


# ---------------------------------------------------------------------------------------------------------------- it is slow


@contextlib.contextmanager
def running(connection, statement):
    """Runs the statement in a thread, canceled at the end; gives the list that its error or None is put into."""
    ended = []

    def run():
        try:
            connection.execute(statement)
            ended.append(None)
        except psycopg.Error as error:
            ended.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield ended
    finally:
        deadline = time.monotonic() + 10
        while thread.is_alive() and time.monotonic() < deadline:
            if not connection.closed:
                connection.cancel()
            thread.join(0.2)
        assert not thread.is_alive(), "the statement hangs"


def answers_soon(connection, questions):
    start = time.monotonic()
    for statement, parameters, answer in questions[:3]:
        assert equals(connection.execute(statement, parameters).fetchone()[0], answer)
    assert time.monotonic() - start < SOON


INTERRUPTS = {
    "pg_cancel_backend": (lambda there, pid: there.execute("SELECT pg_cancel_backend(%s)", [pid]), "57014"),
    "pg_terminate_backend": (lambda there, pid: there.execute("SELECT pg_terminate_backend(%s)", [pid]), "57P01"),
    "statement_timeout": (lambda there, pid: None, "57014"),
}


@pytest.mark.parametrize("statement", [ENDLESS, ENDLESS_RUN], ids=["embed", "predict"])
@pytest.mark.parametrize("how", INTERRUPTS)
def test_a_caller_that_is_interrupted_leaves_at_once_and_the_worker_goes_on(cluster, there, questions, how, statement):
    act, sqlstate = INTERRUPTS[how]
    other = cluster.connect()
    answers_soon(other, questions)
    before = at_rest(there)
    timeout = 1.0 if how == "statement_timeout" else 0
    with surviving.nobody_hurt(cluster), other, cluster.connect() as caller:
        caller.execute(EMBED, ["red", "slow"])
        caller.execute(f"SET statement_timeout = {int(1000 * timeout)}")
        start = time.monotonic()
        with running(caller, statement) as ended:
            wait_for_worker(there, lambda row: row["running"] == 1, "the run")
            answers_soon(other, questions)
            assert ended == []
            if not timeout:
                start = time.monotonic()
            act(there, caller.info.backend_pid)
            surviving.wait_until(lambda: ended, timeout + 10, "the end of the call")
            took = time.monotonic() - start - timeout
        assert ended[0].sqlstate == sqlstate, ended
        after = wait_for_worker(there, lambda row: row["withdrawn"] == before["withdrawn"] + 1 and row["running"] == 0, "the end of the run", seconds=5)
        assert (after["pid"], after["failed"]) == (before["pid"], before["failed"])
        answers_soon(other, questions)
        assert took < LATEST


def test_slow_runs_on_all_lanes_do_not_keep_a_small_one_waiting(cluster, there, questions):
    with contextlib.ExitStack() as stack:
        callers = [stack.enter_context(cluster.connect()) for _ in range(worker(there)["lanes"])]
        for caller in callers:
            caller.execute(EMBED, ["red", "slow"])
        ended = [stack.enter_context(running(caller, ENDLESS)) for caller in callers]
        wait_for_worker(there, lambda row: row["running"] == len(callers), "the runs")
        for _ in range(3):
            with cluster.connect() as other:
                answers_soon(other, questions)
        assert not any(ended)
    at_rest(there)


def test_runs_that_were_withdrawn_leave_their_lanes(cluster, there, questions):
    """More often than there are lanes of all kinds."""
    before = at_rest(there)
    times = 4 * before["lanes"] + 2
    with surviving.nobody_hurt(cluster), cluster.connect() as caller:
        caller.execute(EMBED, ["red", "slow"])
        for _ in range(times):
            caller.execute("SET statement_timeout = '60ms'")
            with pytest.raises(errors.QueryCanceled):
                caller.execute(ENDLESS)
            caller.execute("RESET statement_timeout")
        answers_soon(caller, questions)
    assert at_rest(there)["withdrawn"] - before["withdrawn"] == times


class Impatient(Clients):
    """They cancel some of their calls."""

    def ask(self, connection, statement, parameters, answer):
        try:
            connection.execute(f"SET statement_timeout = {random.choice([0, 1, 2, 4, 8, 16])}")
            super().ask(connection, statement, parameters, answer)
        except errors.QueryCanceled as error:
            self.refused.append(error)


def test_calls_canceled_at_random_moments_spoil_no_later_answer(cluster, there, questions):
    before = at_rest(there)
    # The large ones are more often in the middle of something.
    asked = questions + questions[-1:] * 20
    with surviving.nobody_hurt(cluster), Impatient(cluster, 12, asked) as clients:
        clients.advance(60)
    clients.assert_right()
    assert 0 < len(clients.refused) < sum(clients.tries)
    after = at_rest(there)
    assert after["pid"] == before["pid"] and after["withdrawn"] > before["withdrawn"]


def test_no_shared_memory_is_left_of_calls_that_end_at_random_moments(cluster, there, questions):
    chance = random.Random(5)
    segments = lambda: len(list((cluster.data / "pg_dynshmem").iterdir()))  # noqa: E731
    with cluster.connect() as connection:
        connection.execute(MANY, ["tiny"])
    row, before = at_rest(there), segments()
    mapped = maps(row["pid"], "pg_dynshmem")
    with surviving.nobody_hurt(cluster):
        for number in range(24):
            with cluster.connect() as caller:
                caller.execute(EMBED, ["red", "tiny"])
                with running(caller, f"SELECT count(*) FROM ({MANY.replace('%s', chr(39) + 'tiny' + chr(39))}) q, generate_series(1, 50)"):
                    time.sleep(chance.uniform(0, 0.08))
                    if number % 2:
                        there.execute("SELECT pg_terminate_backend(%s, 5000)", [caller.info.backend_pid])
    assert maps(at_rest(there)["pid"], "pg_dynshmem") == mapped
    # PostgreSQL's own statistics may have grown by one.
    assert segments() <= before + 1
    assert equals(there.execute(MANY, ["tiny"]).fetchone()[0], questions[-1][2])


# --------------------------------------------------------------------------------------------------- what is around it changes


def test_the_cache_may_be_deleted_under_load(cluster, there, questions):
    with surviving.nobody_hurt(cluster), Clients(cluster, 12, questions) as clients:
        for number in range(4):
            aside = cluster.data / f"pg_reco.{number}"
            (cluster.data / "pg_reco").rename(aside)
            shutil.rmtree(aside)
            clients.advance(10)
    clients.assert_right()
    assert surviving.half_made(cluster) == []


def prepared_file(cluster, connection, model, part):
    """The file of a model's prepared graph that has these bytes, and where."""
    (folder,) = connection.execute("SELECT DISTINCT folder FROM reco.cache WHERE model = %s", [model]).fetchone()
    for path in (cluster.data / "pg_reco" / folder).glob("prepared-*/*"):
        if (at := path.read_bytes().find(part)) >= 0:
            return path, at
    raise AssertionError("no file has them")


def delete(path, _):
    path.unlink()


def alter(path, at):
    """In a new file under the old name: whoever has it mapped keeps the old one."""
    bytes_ = bytearray(path.read_bytes())
    bytes_[at : at + 320] = bytes(320)
    aside = path.with_suffix(".new")
    aside.write_bytes(bytes_)
    own(aside)
    aside.rename(path)


@pytest.mark.parametrize("damage", [delete, alter])
def test_a_worker_that_starts_again_does_not_trust_a_damaged_cache(cluster, there, damage):
    graph = onnx.ModelProto.FromString(tiny.text_model(11)).graph
    (table,) = (onnx.numpy_helper.to_array(tensor).tobytes() for tensor in graph.initializer if tensor.name == "table")
    tiny.import_text(there, "damaged", seed=11)
    with by_itself(cluster) as connection:
        ((*asked, answer),) = questions_of(connection, "damaged", TEXTS[-1:])
    try:
        with cluster.connect() as holder:
            assert equals(holder.execute(*asked).fetchone()[0], answer)
            damage(*prepared_file(cluster, there, "damaged", table))
            row = worker(there)
            os.kill(row["pid"], signal.SIGTERM)
            wait_for_worker(there, lambda now: now["pid"] and now["restarts"] > row["restarts"])
            for connection in (holder, cluster.connect(), cluster.connect()):
                with connection:
                    assert equals(connection.execute(*asked).fetchone()[0], answer)
    finally:
        there.execute("SELECT reco.drop_model('damaged')")


RELOADED = [
    ("cache_size", ["'1kB'", "'1GB'"], False),
    ("execution_provider", ["'auto'", "'cpu'"], False),
    ("max_batch", ["1", "7"], False),
    ("threads", ["1", "2"], False),
    ("run_memory_limit", ["'700MB'", "'800MB'"], True),
]


@pytest.mark.parametrize("setting, values, restarts", RELOADED, ids=[name for name, *_ in RELOADED])
def test_a_setting_may_be_changed_under_load(cluster, there, texts, questions, setting, values, restarts):
    asked = [*questions, *asked_of("fragile", texts)]
    before = at_rest(there)
    try:
        with surviving.nobody_hurt(cluster), Clients(cluster, 12, asked) as clients:
            for number, value in enumerate(values, 1):
                there.execute(f"ALTER SYSTEM SET reco.{setting} = {value}")
                there.execute("SELECT pg_reload_conf()")
                if restarts:
                    wait_for_worker(there, lambda row, number=number: row["pid"] and row["restarts"] == before["restarts"] + number)
                clients.advance(20)
        if not restarts:
            clients.assert_right()
        assert clients.wrong == [] and clients.lost == []
        assert [str(error) for error in clients.errors if ENDED_TWICE not in str(error)] == []
        with cluster.connect() as fresh:
            requests = at_rest(there)["requests"]
            assert equals(fresh.execute(*questions[0][:2]).fetchone()[0], questions[0][2])
            assert at_rest(there)["requests"] > requests, "the worker runs the models of new connections"
        assert worker(there)["restarts"] == before["restarts"] + restarts * len(values)
    finally:
        there.execute(f"ALTER SYSTEM RESET reco.{setting}")
        there.execute("SELECT pg_reload_conf()")
        time.sleep(0.3)
        wait_for_worker(there)


def test_who_called_while_the_memory_limit_changed_asks_the_worker_again(cluster, there, texts):
    restarts = worker(there)["restarts"]
    try:
        with surviving.nobody_hurt(cluster), Clients(cluster, 16, texts) as clients:
            for number, limit in enumerate(("850MB", "900MB"), 1):
                there.execute(f"ALTER SYSTEM SET reco.run_memory_limit = '{limit}'")
                there.execute("SELECT pg_reload_conf()")
                wait_for_worker(there, lambda row, number=number: row["pid"] and row["restarts"] == restarts + number)
                clients.advance()
                # One that was told before the worker was has run a model itself in between.
                asking, pids = set(), {connection.info.backend_pid for connection in clients.connections}

                def all_ask(asking=asking, pids=pids):
                    asking |= {pid for (pid,) in there.execute("SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Extension'")}
                    return asking >= pids

                surviving.wait_until(all_ask, 20, "all of them to ask the worker")
        assert clients.wrong == [] and clients.lost == []
    finally:
        there.execute("ALTER SYSTEM RESET reco.run_memory_limit")
        there.execute("SELECT pg_reload_conf()")
        time.sleep(0.5)
        wait_for_worker(there)


def test_a_model_may_be_dropped_and_imported_anew_under_load(cluster, there):
    moving, answers = "moving", []
    with by_itself(cluster) as connection:
        for seed in (5, 6):
            tiny.import_text(connection, moving, seed)
            answers.append(questions_of(connection, moving))
        assert not equals(answers[0][0][2], answers[1][0][2])
        asked = [(statement, parameters, (first, second)) for (statement, parameters, first), (*_, second) in zip(*answers)]
        with surviving.nobody_hurt(cluster), Clients(cluster, 12, asked) as clients:
            for number in range(6):
                if number % 3 == 2:
                    connection.execute("SELECT reco.drop_model(%s)", [moving])
                    time.sleep(0.1)
                tiny.import_text(connection, moving, 5 + number % 2)
                clients.advance(5)
        assert clients.wrong == [] and clients.lost == []
        assert {str(error).splitlines()[0] for error in clients.errors} <= {f'model "{moving}" does not exist'}
        assert equals(connection.execute(EMBED, [TEXTS[0], moving]).fetchone()[0], answers[1][0][2])


@pytest.mark.parametrize("moment", ["under load", "during an endless run"])
def test_the_extension_may_be_dropped_while_requests_wait(cluster, there, moment):
    cluster.create_database("tenant")
    pid = worker(there)["pid"]
    with surviving.nobody_hurt(cluster), cluster.connect(dbname="tenant") as tenant, contextlib.ExitStack() as stack:
        tenant.execute("CREATE EXTENSION pg_reco")
        tiny.import_text(tenant)
        import_text(tenant, "slow", graphs.endless_for_dark())
        asked = questions_of(tenant)
        caller = stack.enter_context(cluster.connect(dbname="tenant"))
        caller.execute(EMBED, ["red", "slow"])
        if moment == "during an endless run":
            ended = stack.enter_context(running(caller, ENDLESS))
            wait_for_worker(there, lambda row: row["running"] >= 1, "the run")
            tenant.execute("SET lock_timeout = '1s'")
            with pytest.raises(errors.LockNotAvailable):
                tenant.execute("DROP EXTENSION pg_reco CASCADE")
            assert ended == []
            caller.cancel()
            tenant.execute("SET lock_timeout = 0")
        with Clients(cluster, 8, asked, dbname="tenant") as clients:
            drop(tenant)
            clients.advance()
        assert clients.wrong == [] and clients.lost == []
        said = {str(error).splitlines()[0] for error in clients.errors}
        assert said and {error.sqlstate for error in clients.errors} <= {"3F000", "42883", "42P01", "40P01"}, said
        with pytest.raises(psycopg.Error):
            tenant.execute(*asked[0][:2])
        assert tenant.execute("SELECT 1").fetchone() == (1,)
    row = at_rest(there)
    assert row["pid"] == pid
    there.execute("DROP DATABASE tenant WITH (FORCE)")


def drop(connection):
    """Who reads the catalog takes its locks in another order: one of the two may have to do it again."""
    for _ in range(5):
        with contextlib.suppress(errors.DeadlockDetected):
            return connection.execute("DROP EXTENSION pg_reco CASCADE")
    raise AssertionError("a deadlock each time")


# ------------------------------------------------------------------------------------------------------------------- roles


@pytest.fixture(scope="module")
def roles(cluster):
    """A model of a superuser and one of an importer, each to be used by two other roles."""
    with cluster.wait_ready() as connection:
        for name in ("worker_importer", "worker_first", "worker_second"):
            connection.execute(f"CREATE ROLE {name} LOGIN")
        connection.execute("GRANT reco_importer TO worker_importer")
        import_text(connection, "trusted", graphs.sees_its_run(), normalize=False)
        with cluster.connect(user="worker_importer") as importer:
            import_text(importer, "curious", graphs.sees_its_run(), normalize=False)
            importer.execute("SELECT reco.grant_model('curious', 'public')")
        connection.execute("SELECT reco.grant_model('trusted', 'public')")


class Onlookers(Clients):
    """Connections of a role that embed some words of their own, with a graph that tells what else was in its run."""

    def __init__(self, cluster, user, model, words):
        super().__init__(cluster, 8, [(EMBED, [word, model], graphs.token(word)) for word in words], user=user)
        self.seen = set()

    def ask(self, connection, statement, parameters, token):
        own, least, largest, _ = connection.execute(statement, parameters).fetchone()[0]
        if own != token:
            self.wrong.append((parameters, own))
        self.seen.add((int(least), int(largest)))


@pytest.mark.parametrize("model, mixes", [("curious", False), ("trusted", True)])
def test_texts_of_two_roles_run_together_only_for_a_superusers_model(cluster, there, roles, model, mixes):
    words = ("red", "white"), ("tea", "bread")
    of_first, of_second = ({graphs.token(word) for word in mine} for mine in words)
    first, second = (Onlookers(cluster, user, model, mine) for user, mine in zip(("worker_first", "worker_second"), words))
    # The tokens of the first role are smaller.
    is_mixed = lambda: any(least in of_first and largest in of_second for least, largest in first.seen | second.seen)  # noqa: E731
    deadline = time.monotonic() + 20
    with surviving.nobody_hurt(cluster), first, second:
        first.advance(60)
        second.advance(60)
        while mixes and not is_mixed() and time.monotonic() < deadline:
            first.advance(10)
    first.assert_right()
    second.assert_right()
    assert is_mixed() == mixes
    for role, mine in ((first, of_first), (second, of_second)):
        assert any(least != largest for least, largest in role.seen), "calls of one role run together"
        assert mixes or {token for seen in role.seen for token in seen} == mine


# -------------------------------------------------------------------------------------------------------- without the worker


def test_a_session_of_another_memory_limit_runs_models_itself(cluster, there, questions):
    with cluster.connect() as connection:
        connection.execute("SET reco.run_memory_limit = '512MB'")
        before = at_rest(there)["requests"]
        for statement, parameters, answer in questions:
            assert equals(connection.execute(statement, parameters).fetchone()[0], answer)
        assert at_rest(there)["requests"] == before
        assert run_themselves([connection]) == 1
    with cluster.connect() as connection:
        connection.execute(*questions[0][:2])
        assert at_rest(there)["requests"] == before + 2


@pytest.fixture
def restarted(cluster):
    """Restarts the server with other settings, and with its own after the test."""
    yield cluster.restart
    cluster.restart()
    with cluster.connect() as connection:
        wait_for_worker(connection)


def worker_processes(cluster):
    def is_worker(pid):
        # A process that was listed may have ended since.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"pg_reco model worker" in file.read()
        return False

    return [pid for pid in cluster.processes() if is_worker(pid)]


def test_without_model_workers_every_session_runs_models_itself(cluster, questions, restarted):
    assert len(worker_processes(cluster)) >= 1
    restarted("reco.model_workers = 0")
    assert worker_processes(cluster) == []
    with cluster.connect() as connection:
        assert connection.execute("TABLE reco.stat_workers").fetchall() == []
        with Clients(cluster, 8, questions) as clients:
            clients.advance()
            assert run_themselves(clients.connections) == 8
    clients.assert_right()


def test_without_the_library_preloaded_models_run_and_statistics_say_what_they_need(cluster, questions, restarted):
    restarted("shared_preload_libraries = ''")
    assert worker_processes(cluster) == []
    with cluster.connect() as connection:
        with pytest.raises(errors.ObjectNotInPrerequisiteState, match='reco.stat_workers requires .*"shared_preload_libraries"'):
            connection.execute("TABLE reco.stat_workers")
    with Clients(cluster, 8, questions) as clients:
        clients.advance()
    clients.assert_right()


def test_all_connections_that_there_can_be_get_answers_at_once(cluster, questions, restarted):
    restarted("max_connections = 30\nmax_wal_senders = 0\nreco.worker_threads = 1")
    with cluster.connect() as connection:
        assert wait_for_worker(connection)["lanes"] == 1
    with surviving.nobody_hurt(cluster) as bystander:
        with Clients(cluster, 29, questions) as clients:
            with pytest.raises(psycopg.OperationalError, match="too many clients"):
                cluster.connect()
            clients.advance(10)
        clients.assert_right()
        # The slots of those who have gone are free again.
        with Clients(cluster, 29, questions) as clients:
            clients.advance(3)
        clients.assert_right()
        assert at_rest(bystander)["requests"] > 29 * 10


def test_one_lane_serves_small_calls_beside_a_slow_one(cluster, questions, restarted):
    restarted("reco.worker_threads = 1")
    with cluster.connect() as there, cluster.connect() as caller:
        assert wait_for_worker(there)["lanes"] == 1
        caller.execute(EMBED, ["red", "slow"])
        with running(caller, ENDLESS) as ended:
            wait_for_worker(there, lambda row: row["running"] == 1, "the run")
            with Clients(cluster, 8, questions) as clients:
                clients.advance()
            clients.assert_right()
            assert ended == []


# ----------------------------------------------------------------------------------------------------------------- a standby


def test_a_standby_has_a_worker_of_its_own_before_and_after_its_promotion(texts):
    replicated = SETTINGS + "wal_level = replica\nmax_wal_senders = 5\nhot_standby = on\nfull_page_writes = on\n"
    with Cluster(replicated) as primary, Cluster(replicated, create=False) as standby:
        primary.start()
        with primary.connect() as connection:
            connection.execute("CREATE EXTENSION pg_reco")
            wait_for_worker(connection)
            tiny.import_text(connection)
        standby.owned(
            *("pg_basebackup", "--dbname", primary.dsn(), "--pgdata", standby.data),
            *("--checkpoint", "fast", "--wal-method", "stream", "--no-sync", "--write-recovery-conf"),
        )
        standby.start()
        with standby.wait_ready() as here:
            assert here.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)
            pid = wait_for_worker(here)["pid"]
            with Clients(standby, 12, texts) as clients:
                clients.advance(10)
                assert wait_for_worker(here, lambda row: row["requests"], "requests")["requests"] > 0
                primary.stop("immediate")
                standby.owned("pg_ctl", "promote", "--wait", "--silent", "--pgdata", standby.data)
                clients.advance(10)
            clients.assert_right()
            assert here.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)
            tiny.import_text(here, "new_here", seed=9)
            before = at_rest(here)
            assert here.execute(EMBED, ["red", "new_here"]).fetchone()
            after = at_rest(here)
            assert after["requests"] > before["requests"] and after["pid"] == pid


def test_the_server_is_whole_afterwards(cluster, questions):
    with cluster.wait_ready() as connection:
        wait_for_worker(connection)
        for statement, parameters, answer in questions:
            assert equals(connection.execute(statement, parameters).fetchone()[0], answer)
        surviving.assert_whole(connection)
        assert at_rest(connection)["restarts"] == 0
    assert surviving.half_made(cluster) == []
