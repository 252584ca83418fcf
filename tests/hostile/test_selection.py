"""What `filter` and `group_by` select is asked for anew wherever it could be another: never another tenant's, never what was."""

import threading

import pytest

FILTER = "'SELECT item_id FROM made.allowed'"


@pytest.fixture
def allowed(connect):
    """Which items each tenant may see, told apart by a setting; a plain role that reads them and may not look past its own."""
    admin = connect("root_victim")
    admin.execute(
        """DROP TABLE IF EXISTS made.allowed;
           CREATE TABLE made.allowed (tenant text, item_id bigint);
           INSERT INTO made.allowed SELECT CASE WHEN i % 2 = 0 THEN 'even' ELSE 'odd' END, i FROM generate_series(0, 19) i;
           ALTER TABLE made.allowed ENABLE ROW LEVEL SECURITY;
           CREATE POLICY own ON made.allowed USING (tenant = current_setting('app.tenant', true) OR current_setting('app.tenant', true) = 'all');
           GRANT ALL ON made.allowed TO plain_victim"""
    )
    yield admin
    admin.execute("DROP TABLE made.allowed CASCADE")


@pytest.fixture
def plain(connect):
    return connect("plain_victim", options="-c app.tenant=all")


LISTS = {
    "recommend": f"ARRAY(SELECT item_id::bigint FROM reco.recommend('evil favourites', 1, 20, exclude_seen => false, filter => {FILTER}))",
    "recommend_for_items": f"ARRAY(SELECT item_id::bigint FROM reco.recommend_for_items('evil favourites', '{{1}}'::bigint[], k => 20, filter => {FILTER}))",
    "recommend_all": f"ARRAY(SELECT DISTINCT item_id::bigint FROM reco.recommend_all('evil favourites', 20, false, filter => {FILTER}))",
    "group_by": """ARRAY(SELECT item_id::bigint FROM reco.recommend('evil favourites', 1, 20, exclude_seen => false, max_per_group => 100,
                              group_by => 'SELECT item_id, tenant AS group_name FROM made.allowed', filter => 'SELECT item_id FROM made.allowed'))""",
}


def in_plpgsql(connection, name, body, kind="FUNCTION"):
    """Makes a function or a procedure of the caller's that keeps its lists in a table of the session."""
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS found (step text, items bigint[])")
    connection.execute("TRUNCATE found")
    returns = "RETURNS void" if kind == "FUNCTION" else ""
    connection.execute(f"CREATE {kind} made.{name}() {returns} LANGUAGE plpgsql AS $$ DECLARE one bigint[]; two bigint[]; BEGIN {body} END $$")


@pytest.mark.parametrize("function", LISTS)
def test_a_setting_that_row_security_reads_changes_the_selection(allowed, plain, function):
    asked = LISTS[function]
    in_plpgsql(
        plain,
        "both",
        f"""PERFORM set_config('app.tenant', 'even', true); one := {asked};
            PERFORM set_config('app.tenant', 'odd', true); two := {asked};
            INSERT INTO found VALUES ('even', one), ('odd', two);""",
    )
    try:
        plain.execute("SELECT made.both()")
    finally:
        plain.execute("DROP FUNCTION made.both")
    found = dict(plain.execute("TABLE found").fetchall())
    assert found["even"] and all(item % 2 == 0 for item in found["even"])
    assert found["odd"] and all(item % 2 == 1 for item in found["odd"])


@pytest.mark.parametrize("function", LISTS)
def test_a_commit_in_a_procedure_is_seen(allowed, plain, function):
    asked = LISTS[function]
    in_plpgsql(
        plain,
        "before_and_after",
        f"one := {asked}; DELETE FROM made.allowed WHERE item_id >= 5; COMMIT; two := {asked}; INSERT INTO found VALUES ('before', one), ('after', two);",
        "PROCEDURE",
    )
    try:
        plain.execute("CALL made.before_and_after()")
    finally:
        plain.execute("DROP PROCEDURE made.before_and_after")
    found = dict(plain.execute("TABLE found").fetchall())
    assert max(found["before"]) >= 5 and found["after"] and max(found["after"]) < 5


@pytest.mark.parametrize("function", LISTS)
def test_rows_that_others_commit_are_seen_by_the_next_statement(allowed, plain, connect, function):
    """Within one call of a function each of its statements sees what is committed by then."""
    asked, other = LISTS[function], connect("root_victim")
    in_plpgsql(
        plain,
        "waiting",
        f"""one := {asked}; PERFORM pg_advisory_unlock(90); PERFORM pg_advisory_lock(91); PERFORM pg_advisory_unlock(91); two := {asked};
            INSERT INTO found VALUES ('before', one), ('after', two);""",
    )
    try:
        plain.execute("SELECT pg_advisory_lock(90)")
        other.execute("SELECT pg_advisory_lock(91)")
        thread = threading.Thread(target=plain.execute, args=["SELECT made.waiting()"])
        thread.start()
        # Given free by the function between its two lists.
        other.execute("SET statement_timeout = '20s'")
        other.execute("SELECT pg_advisory_lock(90)")
        other.execute("DELETE FROM made.allowed WHERE item_id >= 5")
        other.execute("SELECT pg_advisory_unlock_all()")
        thread.join(20)
    finally:
        plain.execute("DROP FUNCTION made.waiting")
    found = dict(plain.execute("TABLE found").fetchall())
    assert max(found["before"]) >= 5 and found["after"] and max(found["after"]) < 5


def test_another_role_in_the_same_statement_has_a_selection_of_its_own(allowed, plain, connect):
    """A function with its owner's rights selects what its owner may see; the caller's own list is the caller's."""
    admin = connect("root_victim")
    admin.execute(
        f"""CREATE FUNCTION made.all_of_them() RETURNS bigint[] LANGUAGE plpgsql SECURITY DEFINER AS
            $$ BEGIN RETURN {LISTS["recommend"]}; END $$"""
    )
    try:
        plain.execute("SELECT set_config('app.tenant', 'even', false)")
        definers, own, again = plain.execute(f"SELECT made.all_of_them(), {LISTS['recommend']}, made.all_of_them()").fetchone()
        assert any(item % 2 for item in definers) and definers == again
        assert own and not any(item % 2 for item in own)
    finally:
        admin.execute("DROP FUNCTION made.all_of_them")


def test_a_filter_that_counts_its_calls_may_be_asked_once_for_a_whole_join(allowed, plain):
    """Keeping a selection within one scan is what makes a join over many users fast: it stays right there."""
    rows = plain.execute(
        f"""SELECT u, l.item_id::bigint FROM generate_series(1, 24) u,
                   reco.recommend('evil favourites', u, 20, exclude_seen => false, filter => {FILTER}) l"""
    ).fetchall()
    assert {item for _, item in rows} <= set(range(20)) and len({user for user, _ in rows}) == 24
