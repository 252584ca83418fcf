"""What is counted over all connections, how far long calls are, and a server that was not told to keep either."""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from reference import MODELS, ROOT, onnx_bytes
from test_cancel import SLOW_QUERY, SLOW_TEXTS, SLOW_TRAINING
from test_models import linear

COUNTED = "SELECT loads, runs, rows, tokens FROM reco.stat_models WHERE model = %s AND provider = %s"
SMALL = "SELECT i % 10 AS user_id, i * i % 7 AS item_id FROM generate_series(1, 60) i"
# 66 characters of three bytes, and two more: as long as a model's name can be.
LONGEST_NAME = "推荐" * 33 + "xx"


@pytest.fixture
def fresh(db):
    """Every count of the test's database begins at the test; models that it makes go with it."""
    db.execute("SELECT reco.reset_stat_models()")
    yield db
    for (name,) in db.execute("SELECT DISTINCT name FROM reco.models WHERE task IN ('recommendation', 'predict')").fetchall():
        db.execute("SELECT reco.drop_model(%s)", [name])


@pytest.fixture
def small(fresh):
    fresh.execute("SELECT reco.train('small', %s, 'item_knn')", [SMALL])
    return "small"


def test_texts_runs_and_tokens_are_counted_over_all_connections(fresh, connect):
    counted = "SELECT * FROM reco.embed(ARRAY['red wine', 'red wine', NULL, 'cheese'])"
    for _ in range(3):
        connection = connect()
        connection.execute("SET reco.max_batch = 1")
        # Equal texts enter once: [CLS] red wine [SEP] and [CLS] cheese [SEP].
        connection.execute(counted)
    assert fresh.execute(COUNTED, ["all-minilm-l6-v2", "cpu"]).fetchone() == (3, 6, 9, 3 * (4 + 3))
    load_time, mean, p99, size, since = fresh.execute(
        "SELECT load_time, mean_latency, p99_latency, bytes, stats_reset FROM reco.stat_models WHERE model = 'all-minilm-l6-v2'"
    ).fetchone()
    assert load_time > 0 and 0 < mean < 10_000 and p99 > mean / 2
    # What is mapped is laid out for this processor: somewhat more than what is stored.
    (stored,) = fresh.execute("SELECT size FROM reco.models WHERE name = 'all-minilm-l6-v2'").fetchone()
    assert stored < size < 2 * stored
    assert fresh.execute("SELECT %s BETWEEN now() - interval '1 hour' AND now()", [since]).fetchone() == (True,)


def test_a_run_of_each_kind_counts_its_rows(fresh, small):
    fresh.execute("SELECT reco.recommend('small', 1), reco.recommend('small', 'nobody'::text)")
    fresh.execute("SELECT * FROM reco.recommend_for_items('small', ARRAY[1, 2]::bigint[])")
    fresh.execute("SELECT * FROM reco.similar_items('small', 1::bigint)")
    assert fresh.execute(COUNTED, ["small", "scan"]).fetchone() == (1, 4, 4, None)
    fresh.execute("SELECT * FROM reco.recommend_all('small', 3)")
    assert fresh.execute(COUNTED, ["small", "scan"]).fetchone() == (1, 5, 14, None)
    # Measuring a model is no use of it.
    fresh.execute("SELECT * FROM reco.evaluate('small', %s, 3, false)", [SMALL])
    assert fresh.execute(COUNTED, ["small", "scan"]).fetchone() == (1, 5, 14, None)
    fresh.execute("""SELECT reco.predict('small', '{"item_index": [0], "weight": [1]}')""")
    assert fresh.execute(COUNTED, ["small", "cpu"]).fetchone() == (1, 1, 1, None)


def test_an_import_counts_nothing_and_a_prediction_counts_its_rows(fresh):
    fresh.execute("SELECT reco.import_model('linear', %b)", [linear()])
    assert fresh.execute(COUNTED, ["linear", "cpu"]).fetchone() is None
    fresh.execute("""SELECT reco.predict('linear', '{"x": [[1, 1], [2, 2], [3, 3]]}')""")
    assert fresh.execute(COUNTED, ["linear", "cpu"]).fetchone() == (1, 1, 3, None)


def test_an_image_is_a_row(fresh, connect):
    png = bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63606060000000040001f61738550000000049454e44ae426082"
    )
    connect().execute("SELECT reco.embed_image(%b)", [png])
    assert fresh.execute(COUNTED, ["efficientnet-lite0", "cpu"]).fetchone() == (1, 1, 1, None)


def test_a_run_that_fails_or_is_canceled_is_not_counted(fresh, small):
    with pytest.raises(psycopg.Error):
        fresh.execute("SELECT reco.similar_items('small', 4711::bigint)")
    assert fresh.execute(COUNTED, ["small", "scan"]).fetchone() == (1, 0, 0, None)
    assert fresh.execute("SELECT mean_latency, p99_latency FROM reco.stat_models WHERE model = 'small'").fetchone() == (None, None)


def test_no_run_of_many_connections_at_once_is_lost(fresh, small, connect):
    each, connections = 300, [connect() for _ in range(8)]
    failed = []

    def work(connection):
        try:
            for i in range(each):
                connection.execute("SELECT count(*) FROM reco.recommend('small', %s)", [i % 12])
        except psycopg.Error as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=[connection]) for connection in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert fresh.execute(COUNTED, ["small", "scan"]).fetchone() == (8, 8 * each, 8 * each, None)


def test_a_reset_begins_anew_for_one_model_or_for_all(fresh, small):
    fresh.execute("SELECT reco.embed('a'), reco.recommend('small', 1)")
    before = fresh.execute("SELECT stats_reset FROM reco.stat_models WHERE model = 'small'").fetchone()
    assert fresh.execute("SELECT reco.reset_stat_models('small')").fetchone() == (1,)
    assert fresh.execute(COUNTED, ["small", "scan"]).fetchone() == (0, 0, 0, None)
    after, size = fresh.execute("SELECT stats_reset, bytes FROM reco.stat_models WHERE model = 'small'").fetchone()
    assert (after,) > before and size > 0
    assert fresh.execute(COUNTED, ["all-minilm-l6-v2", "cpu"]).fetchone()[1] == 1
    assert fresh.execute("SELECT reco.reset_stat_models()").fetchone()[0] >= 2
    assert fresh.execute(COUNTED, ["all-minilm-l6-v2", "cpu"]).fetchone()[1] == 0
    assert fresh.execute("SELECT reco.reset_stat_models('no such model')").fetchone() == (0,)


def test_a_dropped_model_has_no_row_and_one_of_its_name_begins_anew(fresh, small):
    fresh.execute("SELECT reco.recommend('small', 1)")
    fresh.execute("SELECT reco.drop_model('small')")
    assert fresh.execute(COUNTED, ["small", "scan"]).fetchone() is None
    fresh.execute("SELECT reco.train('small', %s, 'popularity')", [SMALL])
    assert fresh.execute(COUNTED, ["small", "scan"]).fetchone() is None
    fresh.execute("SELECT reco.recommend('small', 1)")
    assert fresh.execute(COUNTED, ["small", "scan"]).fetchone() == (1, 1, 1, None)


def test_other_databases_are_counted_apart(fresh, server):
    with psycopg.connect(server, dbname=os.environ["PG_RECO_TEMPLATE"], autocommit=True) as template:
        template.execute("SELECT reco.reset_stat_models()")
        fresh.execute("SELECT reco.embed('a')")
        assert template.execute("SELECT COALESCE(sum(runs), 0) FROM reco.stat_models").fetchone() == (0,)


def test_a_role_sees_the_models_that_it_may_use(fresh, small, role):
    fresh.execute("SELECT reco.recommend('small', 1)")
    analyst = role("stat_analyst")
    seen = "SELECT count(*) FROM reco.stat_models WHERE model = 'small'"
    assert analyst.execute(seen).fetchone() == (0,)
    assert analyst.execute("SELECT count(*) FROM reco.stat_models() WHERE model = 'small'").fetchone() == (0,)
    fresh.execute("SELECT reco.grant_model('small', 'stat_analyst')")
    assert analyst.execute(seen).fetchone() == (1,)
    fresh.execute("SELECT reco.revoke_model('small', 'stat_analyst')")
    assert analyst.execute(seen).fetchone() == (0,)
    fresh.execute("GRANT pg_read_all_stats TO stat_analyst")
    assert analyst.execute(seen).fetchone() == (1,)


def test_only_who_is_granted_it_resets(fresh, small, role):
    analyst = role("stat_resetter")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        analyst.execute("SELECT reco.reset_stat_models()")
    fresh.execute("GRANT EXECUTE ON FUNCTION reco.reset_stat_models TO stat_resetter")
    assert analyst.execute("SELECT reco.reset_stat_models()").fetchone()[0] >= 0


def test_the_longest_name_is_shown_whole(fresh, connect):
    assert len(LONGEST_NAME.encode()) == 200
    fresh.execute("SELECT reco.train(%s, %s, 'popularity')", [LONGEST_NAME, SMALL])
    fresh.execute("SELECT reco.recommend(%s, 1)", [LONGEST_NAME])
    assert fresh.execute(COUNTED, [LONGEST_NAME, "scan"]).fetchone() == (1, 1, 1, None)
    slow = SLOW_TRAINING.replace("'slow'", f"'{LONGEST_NAME}'")
    with running(connect(), slow):
        assert row_when(fresh, "model IS NOT NULL")["model"] == LONGEST_NAME


def test_when_the_table_is_full_the_row_unused_for_longest_gives_way(fresh, small):
    fresh.execute("SELECT reco.recommend('small', 1)")
    assert fresh.execute(COUNTED, ["small", "scan"]).fetchone()[1] == 1
    fresh.execute("SELECT pg_sleep(0.01)")
    fresh.execute(
        f"""DO $$ BEGIN
                FOR i IN 1..1000 LOOP
                    PERFORM reco.train('m' || i, '{SMALL}', 'popularity');
                END LOOP;
            END $$"""
    )
    # A statement each: a row was used when its last statement began.
    for i in range(1, 1001):
        fresh.execute("SELECT reco.recommend(%s, 1, history => 'trained')", [f"m{i}"])
    assert fresh.execute("SELECT count(*) FROM reco.stat_models WHERE model ~ '^m[0-9]+$' AND runs = 1").fetchone() == (1000,)
    assert fresh.execute(COUNTED, ["small", "scan"]).fetchone() is None


# ------------------------------------------------------------------------------------------------------------ progress


@contextlib.contextmanager
def running(connection, statement, until_canceled=True):
    """Runs a statement on a thread of its own and cancels it at the end."""
    outcome = []

    def work():
        try:
            connection.execute(statement)
        except psycopg.Error as error:
            outcome.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield outcome
    finally:
        if until_canceled:
            connection.cancel()
        thread.join(30)


def progress(db, condition="true"):
    with db.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(f"SELECT * FROM reco.stat_progress WHERE {condition}").fetchall()


def row_when(db, condition, seconds=20):
    """The first row that fulfils the condition, waited for."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if rows := progress(db, condition):
            return rows[0]
        time.sleep(0.01)
    raise AssertionError(f"no progress where {condition}: {progress(db)}")


def test_training_is_seen_from_another_connection_until_it_is_canceled(db, connect, database):
    other = connect()
    with running(other, SLOW_TRAINING) as outcome:
        reading = row_when(db, "function = 'train'")
        assert (reading["pid"], reading["datname"], reading["usename"]) == (other.info.backend_pid, database, "postgres")
        assert reading["model"] == "slow"
        sweep = row_when(db, "phase = 'ials sweeps' AND done > 0")
        assert 0 < sweep["done"] <= sweep["total"] == 1000
        assert sweep["started"] == reading["started"]
        later = row_when(db, f"phase = 'ials sweeps' AND done > {sweep['done']}")
        assert later["started"] == reading["started"]
    assert isinstance(outcome[0], psycopg.errors.QueryCanceled)
    assert progress(db) == []


def test_embedding_a_query_and_an_array_is_seen(db, connect):
    with running(connect(), SLOW_QUERY):
        row = row_when(db, "phase = 'rows embedded' AND done > 0")
        assert (row["function"], row["model"], row["total"]) == ("embed_query", "all-minilm-l6-v2", None)
        # Within a window of rows too, which take some seconds.
        assert row["done"] < 1024
    assert progress(db) == []
    with running(connect(), SLOW_TEXTS):
        row = row_when(db, "phase = 'texts embedded' AND done > 0")
        assert row["function"] == "embed" and row["done"] < row["total"] == 2000
    assert progress(db) == []


def test_comparing_items_is_seen(db, connect):
    knn = """SELECT reco.train('slow', 'SELECT u AS user_id, (u * 7919 + i * i) % 20011 AS item_id
                                          FROM generate_series(1, 20000) u, generate_series(1, 60) i', 'item_knn')"""
    with running(connect(), knn):
        row = row_when(db, "phase = 'items compared' AND done > 0")
        assert row["done"] <= row["total"]
    assert progress(db) == []


def test_an_error_takes_the_row_away_before_its_transaction_ends(db, connect):
    connection = connect(autocommit=False)
    failing = "SELECT i AS user_id, 1 / (300000 - i) AS item_id FROM generate_series(1, 300000) i"
    with pytest.raises(psycopg.errors.DivisionByZero):
        connection.execute("SELECT reco.train('failing', %s)", [failing])
    assert connection.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
    assert progress(db) == []
    connection.rollback()
    # The same where the error is caught.
    connection.execute(
        f"""DO $$ BEGIN
                PERFORM reco.train('failing', '{failing}');
            EXCEPTION WHEN division_by_zero THEN NULL;
            END $$"""
    )
    assert progress(db) == []


def test_a_cursor_that_was_read_to_its_end_or_not_leaves_nothing(db, connect):
    connection = connect()
    connection.execute("BEGIN")
    # In the select list rows are made one by one.
    connection.execute(
        """DECLARE c CURSOR FOR
           SELECT reco.embed_query('SELECT i AS id, ''x'' || i AS text FROM generate_series(1, 50) i')"""
    )
    connection.execute("FETCH 5 FROM c")
    assert [row["done"] for row in progress(db)] == [50]
    connection.execute("FETCH ALL FROM c")
    assert progress(db) == []
    connection.execute("CLOSE c")
    connection.execute(
        "DECLARE c CURSOR FOR SELECT reco.embed_query('SELECT i AS id, ''x'' AS text FROM generate_series(1, 50) i')"
    )
    connection.execute("FETCH 5 FROM c")
    assert len(progress(db)) == 1
    connection.execute("CLOSE c")
    assert progress(db) == []


def test_a_terminated_backend_leaves_nothing(db, connect):
    victim = connect()
    with running(victim, SLOW_TRAINING, until_canceled=False) as outcome:
        row_when(db, "phase = 'ials sweeps'")
        db.execute("SELECT pg_terminate_backend(%s, 5000)", [victim.info.backend_pid])
    assert isinstance(outcome[0], psycopg.OperationalError)
    assert progress(db) == []


def test_a_client_that_goes_away_leaves_nothing(db, connect):
    connection = connect()
    connection.execute("BEGIN")
    connection.execute(
        "DECLARE c CURSOR FOR SELECT reco.embed_query('SELECT i AS id, ''x'' AS text FROM generate_series(1, 50) i')"
    )
    connection.execute("FETCH 5 FROM c")
    pid = connection.info.backend_pid
    assert [row["pid"] for row in progress(db)] == [pid]
    connection.close()
    end = time.monotonic() + 10
    while progress(db) and time.monotonic() < end:
        time.sleep(0.01)
    assert progress(db) == []


def test_of_calls_inside_each_other_the_last_to_report_is_shown_and_none_stays(db, connect):
    connection = connect()
    # A run for each text, in this process, so that the inner calls, of two texts, report too.
    connection.execute("SET reco.max_batch = 1; SET reco.run_memory_limit = '999MB'")
    nested = """SELECT count(*) FROM reco.embed_query(
                    'SELECT i AS id, i || repeat('' word'', 250) || (SELECT count(*) FROM reco.embed(ARRAY[i::text, ''b''])) AS text
                       FROM generate_series(1, 500) i')"""
    with running(connection, nested):
        assert row_when(db, "function = 'embed'")["total"] == 2
        assert row_when(db, "function = 'embed_query' AND done > 0")["model"] == "all-minilm-l6-v2"
    assert progress(db) == []


def test_a_role_sees_its_own_calls(db, role):
    worker, analyst = role("stat_worker"), role("stat_reader")
    db.execute("SELECT reco.grant_model('all-minilm-l6-v2', 'public')")
    with running(worker, SLOW_TEXTS):
        row_when(db, "usename = 'stat_worker'")
        assert progress(analyst) == []
        assert analyst.execute("SELECT count(*) FROM reco.stat_progress()").fetchone() == (0,)
        db.execute("GRANT stat_worker TO stat_reader")
        assert row_when(analyst, "true")["usename"] == "stat_worker"
        db.execute("REVOKE stat_worker FROM stat_reader")
        assert progress(analyst) == []
        db.execute("GRANT pg_read_all_stats TO stat_reader")
        assert row_when(analyst, "true")["usename"] == "stat_worker"


# ---------------------------------------------------------------------------------------------------- with and without


def test_the_postmaster_preloads_the_extension_and_not_the_runtime(db, scalar):
    postmaster = Path(scalar("SELECT current_setting('data_directory')"), "postmaster.pid").read_text().split()[0]
    db.execute("SELECT reco.embed('a')")
    maps = Path("/proc", postmaster, "maps").read_text()
    assert "pg_reco" in maps and "libonnxruntime" not in maps
    worker = scalar("SELECT pid FROM reco.stat_workers WHERE worker = 0")
    assert "libonnxruntime" in Path("/proc", str(worker), "maps").read_text()


@pytest.fixture(scope="module")
def unshared():
    """A connection to a cluster of its own that preloads nothing."""
    as_owner = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    # Not pytest's folder, which the owner of the cluster may not enter.
    folder = Path(tempfile.mkdtemp(prefix="pg_reco_"))
    if as_owner:
        shutil.chown(folder, "postgres")

    def run(program, *arguments):
        environment = {name: value for name, value in os.environ.items() if name != "RUST_BACKTRACE"}
        command = [*as_owner, shutil.which(program), *arguments]
        subprocess.run(command, cwd="/", env=environment, check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)

    try:
        run("initdb", "--pgdata", folder / "data", "--username", "postgres", "--auth", "trust", "--encoding", "UTF8", "--no-sync")
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c port=54322 -c fsync=off"
        run("pg_ctl", "start", "--wait", "--pgdata", folder / "data", "--log", folder / "log", "--options", options)
        try:
            with psycopg.connect(host=str(folder), port=54322, user="postgres", dbname="postgres", autocommit=True) as connection:
                connection.execute("CREATE EXTENSION pg_reco")
                name = "all-minilm-l6-v2"
                config = json.loads((ROOT / "models" / f"{name}.json").read_text())["config"]
                connection.execute(
                    "SELECT reco.import_model(%s, %b, 'text_embedding', %b, %s)",
                    [name, onnx_bytes(name), (MODELS / name / "tokenizer.json").read_bytes(), Jsonb(config)],
                )
                yield connection
        finally:
            run("pg_ctl", "stop", "--wait", "--mode", "immediate", "--pgdata", folder / "data")
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    "statement, name",
    [
        ("SELECT * FROM reco.stat_models", "reco.stat_models"),
        ("SELECT * FROM reco.stat_progress", "reco.stat_progress"),
        ("SELECT * FROM reco.stat_workers", "reco.stat_workers"),
        ("SELECT reco.reset_stat_models()", "reco.reset_stat_models"),
    ],
)
def test_without_preloading_who_asks_is_told_what_to_do(unshared, statement, name):
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match=f'{name} requires pg_reco to be loaded via "shared_preload_libraries"') as error:
        unshared.execute(statement)
    assert "shared_preload_libraries" in error.value.diag.message_hint


def test_without_preloading_everything_else_works_as_with_it(unshared, fresh):
    embed = "SELECT reco.embed('red wine', 'all-minilm-l6-v2')"
    train = f"SELECT reco.train('small', '{SMALL}', 'ials', '{{\"factors\": 8}}', 7)"
    lists = "SELECT * FROM reco.recommend_all('small', 3)"
    drop = "SELECT reco.drop_model('small')"
    for statement in [embed, train, lists, drop]:
        assert unshared.execute(statement).fetchall() == fresh.execute(statement).fetchall()


def test_without_preloading_only_a_superuser_names_the_library(unshared):
    unshared.execute("DROP ROLE IF EXISTS stat_other; CREATE ROLE stat_other LOGIN")
    unshared.execute("SELECT reco.grant_model('all-minilm-l6-v2', 'public')")
    with psycopg.connect(unshared.info.dsn, user="stat_other", autocommit=True) as other:
        # Before the extension's own library is loaded any name can be set; loading it throws that away with a warning.
        other.execute("SET reco.onnxruntime_library = '/tmp/evil.so'")
        assert other.execute("SELECT array_length(reco.embed('a'), 1)").fetchone() == (384,)
        assert other.execute("SHOW reco.onnxruntime_library").fetchone() == ("$libdir/pg_reco/libonnxruntime.so",)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            other.execute("SET reco.onnxruntime_library = '/tmp/evil.so'")
