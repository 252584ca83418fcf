"""What a server goes through: caches made by many at once and lost, progress, plans, upgrades of settings in flight."""

import shutil
import threading
from pathlib import Path

import pytest


@pytest.fixture
def cache(scalar):
    """The folder in which the server keeps the models' files, read through the server's own idea of its place."""
    return Path(scalar("SELECT current_setting('data_directory')")) / "pg_reco"


def test_a_lost_cache_is_made_again_by_many_at_once(connect, cache):
    connections = [connect() for _ in range(6)]
    expected = connections[0].execute("SELECT reco.embed('red wine')").fetchone()
    shutil.rmtree(cache, ignore_errors=True)
    got, failed = [], []

    def embed(connection):
        try:
            got.append(connection.execute("SELECT reco.embed('red wine')").fetchone())
        except Exception as error:  # noqa: BLE001 - whatever goes wrong in a thread is the test's failure
            failed.append(error)

    # The first keeps what it has loaded; the others must make the files.
    threads = [threading.Thread(target=embed, args=[connection]) for connection in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and len(got) == 6 and all(vector == expected for vector in got)
    assert not [folder for folder in cache.iterdir() if "." in folder.name], "nothing half made is left"


def test_a_damaged_cache_is_made_again(connect, cache):
    expected = connect().execute("SELECT reco.embed('red wine')").fetchone()
    damaged = 0
    for file in cache.glob("*/model.onnx"):
        with open(file, "r+b") as content:
            content.truncate(1000)
        damaged += 1
    for folder in cache.glob("*/prepared-*"):
        shutil.rmtree(folder)
    assert damaged
    assert connect().execute("SELECT reco.embed('red wine')").fetchone() == expected


def test_dropping_a_model_removes_its_files(db, cache):
    before = set(cache.iterdir()) if cache.exists() else set()
    db.execute("SELECT reco.train('short lived', 'SELECT 1 AS user_id, 2 AS item_id UNION SELECT 3, 4', 'popularity')")
    assert db.execute("SELECT count(*) FROM reco.recommend('short lived', 1)").fetchone() == (1,)
    made = set(cache.iterdir()) - before - {cache / "databases"}
    assert made
    db.execute("SELECT reco.drop_model('short lived')")
    assert not made & set(cache.iterdir())


def test_a_long_training_says_how_far_it_is_when_asked(db):
    notices = []
    db.add_notice_handler(lambda notice: notices.append(notice.message_primary))
    train = """SELECT reco.train('long', 'SELECT u AS user_id, (u * 7919 + i * i) % 5003 AS item_id
                                            FROM generate_series(1, 5000) u, generate_series(1, 40) i',
                                 'ials', '{"factors": 128, "iterations": 500}')"""
    db.execute("BEGIN; " + train + "; ROLLBACK")
    assert notices == []
    db.execute("SET reco.progress_interval = 1")
    db.execute("BEGIN; " + train + "; ROLLBACK")
    assert notices and all(" of 500" in notice or "rows" in notice or "bytes" in notice for notice in notices)
    notices.clear()
    db.execute("SELECT count(*) FROM reco.embed_query('SELECT i AS id, ''word '' || i AS text FROM generate_series(1, 20000) i')")
    assert [notice for notice in notices if notice.startswith("rows embedded: ")]


def test_functions_that_run_models_stay_in_the_leader(db):
    db.execute(
        """SET max_parallel_workers_per_gather = 2; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;
           SET min_parallel_table_scan_size = 0; CREATE TABLE spread AS SELECT 'x' || i AS text FROM generate_series(1, 9999) i;
           ANALYZE spread"""
    )
    try:
        plan = "\n".join(line for (line,) in db.execute("EXPLAIN (VERBOSE) SELECT reco.embed(text) FROM spread").fetchall())
        in_the_leader, in_the_workers = plan.split("Parallel Seq Scan")
        assert "reco.embed" in in_the_leader and "reco.embed" not in in_the_workers
    finally:
        db.execute("DROP TABLE spread")


def test_models_run_inside_functions_cursors_and_jit(db):
    db.execute("SET jit = on; SET jit_above_cost = 0; SET jit_inline_above_cost = 0; SET jit_optimize_above_cost = 0")
    db.execute(
        """CREATE OR REPLACE FUNCTION pg_temp.nearest(query text, VARIADIC texts text[]) RETURNS text LANGUAGE plpgsql AS $$
           DECLARE best text; wanted real[] := reco.embed(query);
           BEGIN
               SELECT texts[ordinal] INTO best FROM reco.embed(texts)
                ORDER BY reco.cosine_similarity(embedding, wanted) DESC LIMIT 1;
               RETURN best;
           END $$"""
    )
    assert db.execute("SELECT pg_temp.nearest('kitten', 'lorry', 'cat', 'invoice')").fetchone() == ("cat",)
    with db.transaction(), db.cursor("c") as cursor:
        cursor.execute("SELECT * FROM reco.embed_query('SELECT i AS id, ''x'' || i AS text FROM generate_series(1, 50) i')")
        assert len(cursor.fetchmany(7)) == 7
        assert len(cursor.fetchall()) == 43


def test_an_error_rolls_back_and_leaves_the_connection_whole(connect):
    connection = connect(autocommit=False)
    connection.execute("CREATE TABLE half (i int)")
    with pytest.raises(Exception, match="does not exist"):
        connection.execute("SELECT reco.embed('x', 'no such model')")
    connection.rollback()
    assert connection.execute("SELECT to_regclass('half')").fetchone() == (None,)
    assert connection.execute("SELECT array_length(reco.embed('x'), 1)").fetchone() == (384,)
