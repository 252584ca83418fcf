"""Queries that are given as arguments: errors name the argument, cursors end with the call, progress is seen from the start."""

import threading
import time

import psycopg
import pytest
import tiny

GOOD = "SELECT u AS user_id, i AS item_id FROM generate_series(1, 9) u, generate_series(1, 9) i WHERE u <> i"
FAILS = "SELECT u AS user_id, u / (u - 5) AS item_id FROM generate_series(1, 9) u"
ROWS = "SELECT i AS id, mod(i, 7) AS x, mod(i, 2) AS label FROM generate_series(1, 60) i"
BAD_ROWS = "SELECT i AS id, i / (i - 5) AS x, mod(i, 2) AS label FROM generate_series(1, 60) i"

# The call, with the argument's query in the place of %s.
READS = [
    ("source", "SELECT reco.train('failing', %s, 'popularity')", FAILS),
    ("items", f"SELECT reco.train('failing', '{GOOD}', 'popularity', items => %s)", "SELECT i AS item_id, 1 / (i - 5) AS price FROM generate_series(1, 9) i"),
    ("users", f"SELECT reco.train('failing', '{GOOD}', 'popularity', users => %s)", "SELECT i AS user_id, 1 / (i - 5) AS age FROM generate_series(1, 9) i"),
    ("source", "SELECT count(*) FROM reco.split(%s)", FAILS),
    ("test", "SELECT count(*) FROM reco.evaluate('contexts', %s)", FAILS),
    ("history", f"SELECT count(*) FROM reco.evaluate('contexts', '{GOOD}', history => %s)", FAILS),
    ("negatives", f"SELECT count(*) FROM reco.evaluate('contexts', '{GOOD}', negatives => %s)", FAILS),
    ("filter", "SELECT count(*) FROM reco.recommend('contexts', 1, filter => %s)", "SELECT 1 / (i - 5) AS item_id FROM generate_series(1, 9) i"),
    ("source", "SELECT count(*) FROM reco.importance(%s, 'aum')", BAD_ROWS),
    ("validation", f"SELECT count(*) FROM reco.importance('{ROWS}', 'knn_shapley', validation => %s)", BAD_ROWS),
    ("validation", f"SELECT count(*) FROM reco.interaction_importance(source => '{GOOD}', method => 'knn_shapley', validation => %s)", FAILS),
    ("source", "SELECT reco.train_synthesizer('failing', %s, 'independent')", BAD_ROWS),
    ("real_source", f"SELECT reco.synthetic_report(%s, '{ROWS}')", BAD_ROWS),
    ("synthetic_source", f"SELECT reco.synthetic_report('{ROWS}', %s)", BAD_ROWS),
    ("source", "SELECT count(*) FROM reco.embed_query(%s, 'texts')", "SELECT 1 / (i - 5) AS id, 'red' AS text FROM generate_series(1, 9) i"),
]  # fmt: skip


@pytest.fixture(scope="module")
def models(server, database):
    with psycopg.connect(server, dbname=database, autocommit=True) as connection:
        tiny.import_text(connection, "texts")
        connection.execute("SELECT reco.train('contexts', %s, 'popularity')", [GOOD])
        yield
        connection.execute("SELECT reco.drop_model('contexts'), reco.drop_model('texts')")


@pytest.mark.parametrize("argument, call, query", READS)
def test_an_error_in_a_query_names_its_argument(db, models, argument, call, query):
    for _ in range(2):
        with pytest.raises(psycopg.errors.DivisionByZero) as error:
            db.execute(call, [query])
        context = error.value.diag.context
        # A filter is read within a query of its own.
        shown = query.replace("'", "''")
        assert context.count("while reading") == 1 and f"while reading {argument} => '" in context and shown in context
    with pytest.raises(psycopg.errors.SyntaxError) as error:
        db.execute(call, ["SELECT '1' FROM FROM"])
    assert f"while reading {argument} => '" in error.value.diag.context and "SELECT ''1'' FROM FROM" in error.value.diag.context
    # Nothing stays behind for what fails next.
    with pytest.raises(psycopg.errors.DivisionByZero) as error:
        db.execute("SELECT 1 / 0")
    assert error.value.diag.context is None


def test_a_caught_error_leaves_no_context_behind(db, models):
    db.execute(
        """CREATE FUNCTION pg_temp.tries(query text) RETURNS text LANGUAGE plpgsql AS $$
           DECLARE said text;
           BEGIN
               FOR i IN 1 .. 3 LOOP
                   BEGIN
                       PERFORM reco.train('failing', query, 'popularity');
                   EXCEPTION WHEN division_by_zero THEN
                       GET STACKED DIAGNOSTICS said = PG_EXCEPTION_CONTEXT;
                   END;
               END LOOP;
               RETURN said;
           END $$"""
    )
    (said,) = db.execute("SELECT pg_temp.tries(%s)", [FAILS]).fetchone()
    assert said.count("while reading") == 1
    with pytest.raises(psycopg.errors.DivisionByZero) as error:
        db.execute("SELECT pg_temp.tries(%s), 1 / 0", [FAILS])
    assert "while reading" not in (error.value.diag.context or "")


def test_a_context_shows_the_beginning_of_a_long_query(db):
    query = f"{FAILS} WHERE '{'ü' * 300}' <> ''"
    with pytest.raises(psycopg.errors.DivisionByZero) as error:
        db.execute("SELECT reco.train('failing', %s, 'popularity')", [query])
    (line,) = [line for line in error.value.diag.context.splitlines() if line.startswith("while reading")]
    assert line.endswith("ü…'") and len(line.encode()) < 250


def test_a_call_within_a_source_names_both_arguments(db, models):
    inner = "SELECT reco.train(''failing'', ''SELECT 1 / 0 AS user_id, 1 AS item_id'')"
    with pytest.raises(psycopg.Error) as error:
        db.execute("SELECT count(*) FROM reco.embed_query(%s, 'texts')", [f"SELECT 1 AS id, ({inner.replace(chr(39) * 2, chr(39))})::text AS text"])
    assert "while reading source => 'SELECT 1 AS id" in error.value.diag.context


CURSORS = "SELECT count(*) FROM pg_cursors WHERE statement LIKE 'SELECT i AS id, ''red''%'"
TEXTS = "SELECT i AS id, 'red' AS text FROM generate_series(1, 5000) i"


def test_a_call_that_is_stopped_early_closes_its_cursor(db, models):
    with db.transaction():
        for _ in range(20):
            assert len(db.execute("SELECT reco.embed_query(%s, 'texts') LIMIT 3", [TEXTS]).fetchall()) == 3
        assert db.execute(CURSORS).fetchone() == (0,)
        assert db.execute("SELECT count(*) FROM pg_cursors").fetchone() == (0,)
        # Another's cursor stays open until it is closed itself.
        db.execute("DECLARE kept CURSOR FOR SELECT (reco.embed_query(%s, 'texts')).id".replace("%s", psycopg.sql.Literal(TEXTS).as_string(db)))
        assert db.execute("FETCH 2 FROM kept").fetchall() == [("1",), ("2",)]
        assert db.execute("SELECT count(*) FROM pg_cursors WHERE name <> 'kept'").fetchone() == (1,)
        db.execute("CLOSE kept")
        assert db.execute("SELECT count(*) FROM pg_cursors").fetchone() == (0,)


def test_a_call_that_is_stopped_early_is_seen_no_more(db, models):
    if db.execute("SHOW shared_preload_libraries").fetchone()[0] == "":
        pytest.skip("the library is not preloaded")
    seen = "SELECT count(*) FROM reco.stat_progress WHERE pid = pg_backend_pid()"
    embedding = "SELECT reco.embed_query({}, 'texts')".format(psycopg.sql.Literal(TEXTS).as_string(db))
    with db.transaction():
        for call in ("SELECT reco.recommend_all('contexts')", embedding):
            assert len(db.execute(f"{call} LIMIT 1").fetchall()) == 1
            assert db.execute(seen).fetchone() == (0,)
        db.execute(f"DECLARE kept CURSOR FOR {embedding}")
        db.execute("FETCH 2 FROM kept")
        assert db.execute(seen).fetchone() == (1,)
        db.execute("CLOSE kept")
        assert db.execute(seen).fetchone() == (0,)


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK", "ROLLBACK TO before", "SELECT 1 / 0"])
def test_an_open_call_ends_with_its_transaction(db, models, end):
    db.execute("BEGIN")
    db.execute("SAVEPOINT before")
    db.execute("DECLARE kept CURSOR FOR SELECT (reco.embed_query(%s, 'texts')).id".replace("%s", psycopg.sql.Literal(TEXTS).as_string(db)))
    db.execute("FETCH 2 FROM kept")
    if "/" in end:
        with pytest.raises(psycopg.errors.DivisionByZero):
            db.execute(end)
    else:
        db.execute(end)
    if end != "COMMIT":
        db.execute("ROLLBACK")
    assert db.execute("SELECT count(*) FROM pg_cursors").fetchone() == (0,)
    assert db.execute("SELECT count(*) FROM reco.embed_query(%s, 'texts')", [TEXTS]).fetchone() == (5000,)


@pytest.mark.parametrize(
    "call, query, phase",
    [
        ("SELECT reco.train('slow', %s, 'popularity')", "SELECT 1 AS user_id, 2 AS item_id FROM pg_sleep(5)", "reading source"),
        ("SELECT count(*) FROM reco.split(%s)", "SELECT 1 AS user_id, 2 AS item_id, now() AS ts FROM pg_sleep(5)", "reading source"),
        ("SELECT reco.train_synthesizer('slow', %s)", "SELECT 1 AS a, 2 AS b FROM pg_sleep(5)", "reading source"),
        ("SELECT count(*) FROM reco.importance(%s)", "SELECT 1 AS a, 2 AS label FROM pg_sleep(5)", "reading source"),
        ("SELECT count(*) FROM reco.evaluate('contexts', %s)", "SELECT 1 AS user_id, 2 AS item_id FROM pg_sleep(5)", "reading test"),
    ],
)
def test_a_call_is_seen_before_its_source_gives_a_row(connect, models, call, query, phase):
    watcher, worker = connect(), connect()
    pid = worker.info.backend_pid

    def run():
        with pytest.raises(psycopg.errors.QueryCanceled):
            worker.execute(call, [query])

    if watcher.execute("SHOW shared_preload_libraries").fetchone()[0] == "":
        pytest.skip("the library is not preloaded")
    thread = threading.Thread(target=run)
    thread.start()
    try:
        deadline = time.monotonic() + 4
        seen = None
        while time.monotonic() < deadline and seen in (None, ("loading the model",)):
            seen = watcher.execute("SELECT phase FROM reco.stat_progress WHERE pid = %s", [pid]).fetchone()
        assert seen == (phase,)
    finally:
        watcher.execute("SELECT pg_cancel_backend(%s)", [pid])
        thread.join()
    assert watcher.execute("SELECT count(*) FROM reco.stat_progress WHERE pid = %s", [pid]).fetchone() == (0,)
