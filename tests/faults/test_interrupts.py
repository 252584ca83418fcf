"""Cancel, terminate and shut down at random moments of everything that takes time: they act at once and leave no thread.

tests/test_cancel.py has the time-outs and cancelling while embedding and training.
"""

import random
import threading
import time

import psycopg
import pytest
import surviving
import tiny
from cluster import Cluster, threads

LATEST = 1.0
MINILM = "all-minilm-l6-v2"
WIDE = "SELECT u AS user_id, (u * 7919 + i * i) % 20011 AS item_id FROM generate_series(1, 20000) u, generate_series(1, 20) i"
WORK = {
    "load": f"SELECT reco.warm('{MINILM}'), reco.unload('{MINILM}') FROM generate_series(1, 100)",
    "embed": "SELECT count(*) FROM reco.embed((SELECT array_agg(repeat('word ', 250) || i) FROM generate_series(1, 2000) i))",
    "embed a query": "SELECT count(*) FROM reco.embed_query('SELECT i AS id, repeat(''word '', 250) || i AS text FROM generate_series(1, 5000) i')",
    "embed one by one": "SELECT count(reco.embed('word ' || i)) FROM generate_series(1, 100000) i",
    "embed images": "SELECT count(*) FROM reco.embed_images('SELECT i AS id, image FROM large_picture, generate_series(1, 500) i', 'picture')",
    "embed a long text": "SELECT length(reco.embed(repeat('word ', 30000000))::text)",
    "train": f"SELECT reco.train('slow', '{WIDE}', 'ials', '{{\"factors\": 256, \"iterations\": 1000}}')",
    "train by neighbours": f"SELECT reco.train('slow', '{WIDE}', 'item_knn')",
    "recommend to all": "SELECT count(*) FROM reco.recommend_all('wide', 1000)",
    "recommend one by one": "SELECT count(*) FROM generate_series(1, 100000) u, reco.recommend('wide', u::bigint, 100)",
    "similar one by one": "SELECT count(*) FROM generate_series(1, 20000) i, reco.similar_items('wide', (i % 20000)::bigint, 100)",
    "evaluate": f"SELECT count(*) FROM reco.evaluate('wide', '{WIDE}', 100, false), generate_series(1, 20)",
    "compare models": f"SELECT count(*) FROM reco.compare_models('wide', 'wide', '{WIDE}', 100, false, sampled_negatives => 1000)",
    "cross-validate": f"SELECT count(*) FROM reco.cross_validate('{WIDE}', 'item_knn', k => 100)",
    "split": "SELECT count(*) FROM reco.split('SELECT u AS user_id, u % 99 AS item_id FROM generate_series(1, 3000000) u', 'leave_one_out')",
    "describe": f"SELECT count(*) FROM generate_series(1, 100) g, reco.describe_model('{MINILM}', 1 + 0 * g)",
    "export": f"SELECT sum(length(reco.export_model('{MINILM}', 1 + 0 * g))) FROM generate_series(1, 100) g",
    "import": f"SELECT reco.import_model('again', reco.export_model('{MINILM}', 1 + 0 * g)) FROM generate_series(1, 20) g",
    "predict": "SELECT count(reco.predict('large', jsonb_build_object('x', jsonb_build_array(jsonb_build_array(g, 1))))) FROM generate_series(1, 100000) g",
    "predict on much": "SELECT count(reco.predict('linear', jsonb_build_object('x', (SELECT jsonb_agg('[1,2]'::jsonb) FROM generate_series(1, 300000 + 0 * g))))) FROM generate_series(1, 50) g",
    "top_k": "SELECT length(reco.top_k(i, i::real, 100000)::text) FROM generate_series(1, 20000000) i",
}


@pytest.fixture(scope="module")
def cluster():
    with Cluster("jit = off\n") as made:
        made.start()
        with made.connect() as connection:
            tiny.prepare(connection)
            tiny.import_kept(connection, MINILM)
            tiny.import_image(connection)
            connection.execute("CREATE TABLE large_picture AS SELECT %b::bytea AS image", [tiny.picture(5000, 4000)])
            tiny.train(connection, "wide", source=WIDE, options={"factors": 16, "iterations": 1})
        yield made


@pytest.fixture(scope="module")
def expected(cluster):
    with cluster.connect() as connection:
        return tiny.answers(connection)


def run(connection, statement, ended):
    """Nothing is kept, should it get to its end."""
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(statement)
            ended.append((None, time.monotonic()))
    except psycopg.Error as error:
        if not ended:
            ended.append((error, time.monotonic()))


def interrupt(connection, statement, after, act):
    """Starts the statement and acts on it after some seconds. Gives its error and how long it took to come."""
    ended = []
    thread = threading.Thread(target=run, args=[connection, statement, ended])
    thread.start()
    thread.join(after)
    start = time.monotonic()
    act()
    if after < 0.05:
        # It may have come between two statements, where there is nothing to cancel.
        thread.join(3)
        if not ended:
            start = time.monotonic()
            act()
    thread.join(60)
    assert ended, "the statement goes on a minute later"
    ((error, end),) = ended
    return error, end - start


def at_rest(connection):
    """Threads after a first run: ONNX Runtime keeps a pool for each loaded model."""
    connection.execute("SELECT reco.unload(name) FROM (VALUES ('all-minilm-l6-v2'), ('picture'), ('large'), ('linear'), ('tiny')) m(name)")
    return threads(connection.info.backend_pid)


@pytest.mark.parametrize("work", WORK)
def test_a_cancel_request_acts_at_once_and_leaves_no_thread(cluster, expected, work):
    chance = random.Random(work)
    late = []
    with surviving.nobody_hurt(cluster), cluster.connect() as connection:
        connection.execute("SELECT reco.embed('red', 'tiny')")
        before = at_rest(connection)
        for _ in range(surviving.times(3, 15)):
            after = chance.choice([0.001, 0.02, 0.1, 0.4, 1.2]) * chance.uniform(0.5, 1.5)
            error, took = interrupt(connection, WORK[work], after, connection.cancel)
            assert error is None or isinstance(error, psycopg.errors.QueryCanceled), error
            if error is not None or after >= 0.05:
                late.append((round(took, 3), round(after, 3)))
            assert at_rest(connection) <= before
        assert tiny.answers(connection) == expected
    print(work, sorted(late)[-3:])
    assert max(late, default=(0,))[0] < LATEST, f"{work}: seconds to act, after seconds: {sorted(late)}"


@pytest.mark.parametrize("work", WORK)
def test_a_terminated_backend_ends_at_once(cluster, expected, work):
    chance = random.Random(work)
    late = []
    with surviving.nobody_hurt(cluster) as bystander:
        for _ in range(surviving.times(1, 6)):
            with cluster.connect() as connection:
                pid = connection.info.backend_pid
                act = lambda pid=pid: bystander.execute("SELECT pg_terminate_backend(%s)", [pid])  # noqa: E731
                error, took = interrupt(connection, WORK[work], chance.uniform(0.05, 1.2), act)
            assert error is None or isinstance(error, psycopg.OperationalError), error
            late.append(round(took, 3))
            surviving.wait_until(
                lambda pid=pid: bystander.execute("SELECT count(*) FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone() == (0,)
            )
        assert tiny.answers(bystander) == expected
        assert bystander.execute("SELECT count(*) FROM reco.model WHERE name IN ('slow', 'again')").fetchone() == (0,)
    print(work, late)
    assert max(late) < LATEST


@pytest.mark.parametrize("work", WORK if surviving.LONG else ["load", "train", "import", "embed a query"])
def test_a_fast_shutdown_does_not_wait_for_it(cluster, expected, work):
    chance = random.Random(work)
    connection = cluster.wait_ready()
    deaths = len(surviving.crashes(cluster))
    ended = []
    thread = threading.Thread(target=run, args=[connection, WORK[work], ended])
    thread.start()
    time.sleep(chance.uniform(0.1, 1.0))
    start = time.monotonic()
    cluster.stop("fast")
    took = time.monotonic() - start
    thread.join(30)
    connection.close()
    assert surviving.crashes(cluster)[deaths:] == []
    cluster.start()
    surviving.assert_right(cluster, expected)
    # The checkpoint of what was written is PostgreSQL's.
    assert took < LATEST + 4, f"{work}: {took:.1f} s"


def test_a_client_that_goes_away_ends_its_query(cluster):
    """With client_connection_check_interval, as for any query."""
    with surviving.nobody_hurt(cluster) as bystander:
        connection = cluster.connect(options="-c client_connection_check_interval=200ms")
        pid = connection.info.backend_pid
        connection.pgconn.send_query(WORK["train"].encode())
        time.sleep(0.5)
        connection.pgconn.finish()
        gone = lambda: bystander.execute("SELECT count(*) FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone() == (0,)  # noqa: E731
        surviving.wait_until(gone, 5, "the end of the query")


def test_the_server_is_whole_afterwards(cluster, expected):
    surviving.assert_right(cluster, expected)
    assert surviving.half_made(cluster) == []
