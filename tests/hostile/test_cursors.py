"""A query that is read bit by bit is read through its own portal and as the types that it has, whatever has that name by now."""

import psycopg
import pytest

SOURCE = "SELECT i AS id, ''red wine '' || i AS text FROM generate_series(1, 5000) i"
# One row at a time: a select list gives rows as they are asked for.
STREAM = f"DECLARE stream CURSOR FOR SELECT reco.embed_query('{SOURCE}', 'tiny')"
# Other types, other numbers of columns, other orders.
FORGERIES = [
    "SELECT 'a text' AS id, 7::bigint AS text FROM generate_series(1, 9000)",
    "SELECT 1::bigint AS id, 123456789012345::bigint AS text FROM generate_series(1, 9000)",
    "SELECT 1.5::float8 AS id, true AS text FROM generate_series(1, 9000)",
    "SELECT 1 AS id FROM generate_series(1, 9000)",
    "SELECT",
    "SELECT ARRAY[1, 2] AS id, ROW(1, 2) AS text FROM generate_series(1, 9000)",
    "SELECT NULL::text AS id, NULL::bigint AS text FROM generate_series(1, 9000)",
    "SELECT 'forged' AS text, 1 AS id FROM generate_series(1, 9000)",
]


def try_each(connection, statements):
    """Runs what can be run in the transaction that is open; gives how many could."""
    done = 0
    for statement in statements:
        try:
            with connection.transaction():
                connection.execute(statement)
            done += 1
        except psycopg.Error:
            pass
    return done


def unnamed(until=80):
    return [f'"<unnamed portal {number}>"' for number in range(1, until)]


@pytest.mark.parametrize("forgery", FORGERIES)
def test_another_portal_of_its_name_is_not_read(connect, bystander, forgery):
    connection = connect("plain_victim")
    with connection.transaction(force_rollback=True):
        connection.execute(STREAM)
        first = connection.execute("FETCH 2 FROM stream").fetchall()
        assert [row[0][0] for row in first] == ["1", "2"]
        for name in unnamed():
            # Both or neither: a name is only worth taking when its portal is gone.
            try_each(connection, [f"CLOSE {name}; DECLARE {name} CURSOR FOR {forgery}"])
        try:
            rest = connection.execute("FETCH ALL FROM stream").fetchall()
            assert [row[0][0] for row in rest] == [str(i) for i in range(3, 5001)]
        except psycopg.Error as error:
            assert error.sqlstate and not error.sqlstate.startswith("XX"), f"{error.sqlstate} {error}"
    assert bystander.crashes() == []


@pytest.mark.parametrize("end", ["CLOSE ALL", "ROLLBACK TO before", "CLOSE stream"])
def test_a_portal_that_is_gone_is_an_error_or_no_loss(connect, bystander, end):
    connection = connect("plain_victim")
    for _ in range(2):
        connection.execute("BEGIN")
        connection.execute("SAVEPOINT before")
        connection.execute(STREAM)
        connection.execute("FETCH 2 FROM stream")
        connection.execute(end)
        with pytest.raises(psycopg.errors.InvalidCursorName):
            connection.execute("FETCH 1 FROM stream")
        connection.execute("ROLLBACK")
    assert bystander.crashes() == []
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_stream_goes_on_after_a_savepoint_is_rolled_back(connect, bystander):
    connection = connect("plain_victim")
    with connection.transaction(force_rollback=True):
        connection.execute(STREAM)
        for number in range(1, 400):
            connection.execute("SAVEPOINT s")
            fetched = connection.execute("FETCH 1 FROM stream").fetchall()
            assert fetched[0][0][0] == str(number)
            connection.execute("RELEASE s")
        connection.execute("SAVEPOINT s")
        connection.execute("FETCH 900 FROM stream")
        connection.execute("ROLLBACK TO s")
        try:
            connection.execute("FETCH ALL FROM stream")
        except psycopg.Error as error:
            assert error.sqlstate and not error.sqlstate.startswith("XX"), f"{error.sqlstate} {error}"
    assert bystander.crashes() == []


def test_a_source_may_close_every_portal_but_its_own(victim):
    """Called for each row, on cursors of the caller's and of the call's."""
    victim.open_cursor("WITH HOLD")
    victim.run(
        """CREATE FUNCTION made.close_all(i integer) RETURNS integer LANGUAGE plpgsql AS $$
           DECLARE c record; BEGIN
               FOR c IN SELECT name FROM pg_cursors WHERE name <> 'victims' LOOP
                   BEGIN EXECUTE format('CLOSE %I', c.name); EXCEPTION WHEN OTHERS THEN NULL; END;
               END LOOP; RETURN i; END $$"""
    )
    try:
        for statement in (
            "SELECT * FROM reco.embed_query('SELECT made.close_all(i) AS id, ''wine'' AS text FROM generate_series(1, 300) i', 'tiny')",
            "SELECT * FROM reco.split('SELECT made.close_all(i) AS user_id, i AS item_id FROM generate_series(1, 300) i', 'random')",
            "SELECT * FROM reco.recommend('evil shop', 3, filter => 'SELECT made.close_all(i) AS item_id FROM generate_series(1, 20) i')",
            "SELECT * FROM reco.augment('SELECT made.close_all(i) AS a, i AS b FROM generate_series(1, 300) i', 'bootstrap', 3)",
        ):
            with victim.unchanged(statement):
                try:
                    victim.run(statement)
                except psycopg.Error as error:
                    assert not error.sqlstate.startswith("XX"), f"{statement}: {error.sqlstate} {error}"
        victim.read_on()
    finally:
        victim.run("DROP FUNCTION made.close_all")


def test_streams_that_are_left_early_leave_no_portal(victim):
    with victim.unchanged("streams left early"):
        for _ in range(20):
            victim.run(f"SELECT * FROM (SELECT reco.embed_query('{SOURCE}', 'tiny')) s LIMIT 1")
    victim.run("BEGIN")
    with victim.unchanged("streams left early, in a transaction"):
        for _ in range(20):
            victim.run(f"SELECT * FROM (SELECT reco.embed_query('{SOURCE}', 'tiny')) s LIMIT 1")
    victim.run("COMMIT")
