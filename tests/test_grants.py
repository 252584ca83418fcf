"""What a grant of a model shows, and what views and functions over a model are bound to."""

import psycopg
import pytest
import tiny
from psycopg import errors

PURCHASES = "SELECT u::bigint AS user_id, (u * 7 + i * i * 3) % 40 AS item_id FROM generate_series(1, 30) u, generate_series(1, 6) i"


@pytest.fixture(scope="module")
def shop(server, database):
    """A superuser's connection, and in the database a table, a recommender `granted` and what is asked of it."""
    with psycopg.connect(server, dbname=database, autocommit=True) as connection:
        connection.execute(f"CREATE TABLE granted_purchase AS {PURCHASES}")
        connection.execute("SELECT reco.train('granted', 'TABLE granted_purchase', 'ials', '{\"factors\": 8}')")
        connection.execute("SELECT reco.import_model('graph', %b)", [tiny.linear_model()])
        yield connection
        connection.execute("DROP SCHEMA IF EXISTS shelf CASCADE; DROP TABLE granted_purchase")
        connection.execute("SELECT reco.drop_model(name) FROM reco.models WHERE name IN ('granted', 'graph', 'copies') AND in_use")


SERVED = [
    "SELECT count(*) FROM reco.recommend('granted', 3)",
    "SELECT count(*) FROM reco.recommend('granted', 29)",
    "SELECT count(*) FROM reco.recommend_for_items('granted', ARRAY[3, 4])",
    "SELECT count(*) FROM reco.similar_items('granted', 3)",
    """SELECT reco.predict('graph', '{"x": [[1, 2]]}')""",
    "SELECT reco.warm('granted')",
    "SELECT count(*) FROM reco.evaluate('granted', 'SELECT 3 AS user_id, 4 AS item_id')",
    "SELECT reco.model_name(id) FROM reco.models WHERE name = 'granted'",
]
READ = [
    "SELECT count(*) FROM reco.explain('granted', 3, 4)",
    "SELECT count(*) FROM reco.model_users('granted')",
    "SELECT count(*) FROM reco.similar_users('granted', 3)",
    "SELECT count(*) FROM reco.recommend_all('granted', 3)",
    "SELECT reco.export_model('granted')",
]
DESCRIBED = "SELECT count(*) FILTER (WHERE kind = 'metadata' OR name = 'config'), count(*) FILTER (WHERE kind = 'input') FROM reco.describe_model('granted')"
SHOWN = "SELECT source IS NOT NULL, config IS NOT NULL, metrics IS NOT NULL FROM reco.models WHERE name = 'granted'"


def test_a_grant_to_serve_gives_answers_and_a_grant_to_read_what_they_come_from(shop, role):
    reader = role("served_reader")
    for statement in SERVED[:-1] + READ:
        with pytest.raises(errors.InsufficientPrivilege, match="permission denied for model"):
            reader.execute(statement)
    shop.execute("SELECT reco.grant_model('granted', 'served_reader'), reco.grant_model('graph', 'served_reader')")
    for statement in SERVED:
        assert reader.execute(statement).fetchone() == shop.execute(statement).fetchone()
    for statement in READ:
        with pytest.raises(errors.InsufficientPrivilege, match='permission denied for model "granted": privilege "read" is required') as error:
            reader.execute(statement)
        assert "reco.grant_model('granted', role, 'read')" in error.value.diag.message_hint
    assert reader.execute(SHOWN).fetchone() == (False, False, False)
    hidden, inputs = reader.execute(DESCRIBED).fetchone()
    assert (hidden, inputs > 0) == (0, True)
    shop.execute("SELECT reco.grant_model('granted', 'served_reader', 'read')")
    for statement in SERVED + READ + [SHOWN, DESCRIBED]:
        assert reader.execute(statement).fetchone() == shop.execute(statement).fetchone()
    # Granting less takes nothing away; taking read back leaves serve, taking serve back leaves nothing.
    shop.execute("SELECT reco.grant_model('granted', 'served_reader')")
    assert reader.execute(READ[1]).fetchone() == (30,)
    shop.execute("SELECT reco.revoke_model('granted', 'served_reader', 'read')")
    with pytest.raises(errors.InsufficientPrivilege):
        reader.execute(READ[1])
    assert reader.execute(SERVED[0]).fetchone()
    shop.execute("SELECT reco.revoke_model('granted', 'served_reader'), reco.revoke_model('graph', 'served_reader')")
    with pytest.raises(errors.InsufficientPrivilege):
        reader.execute(SERVED[0])


def test_the_strongest_grant_counts(shop, role):
    reader = role("served_reader")
    shop.execute("SELECT reco.grant_model('granted', 'public'), reco.grant_model('granted', 'served_reader', 'read')")
    try:
        assert reader.execute(READ[1]).fetchone() == (30,)
        assert reader.execute(SHOWN).fetchall() == [(True, True, True)]
        shop.execute("SELECT reco.revoke_model('granted', 'served_reader')")
        assert reader.execute(SHOWN).fetchall() == [(False, False, False)]
    finally:
        shop.execute("SELECT reco.revoke_model('granted', 'public')")


def test_a_privilege_that_does_not_exist_is_named(shop):
    for function in ("grant_model", "revoke_model"):
        with pytest.raises(errors.InvalidParameterValue, match='unknown privilege "write"') as error:
            shop.execute(f"SELECT reco.{function}('granted', 'public', 'write')")
        assert "serve, read" in error.value.diag.message_hint


def test_rows_that_are_those_of_the_source_take_read(shop, role):
    maker = role("row_maker")
    shop.execute("SELECT reco.train_synthesizer('copies', 'TABLE granted_purchase', 'bootstrap')")
    shop.execute("SELECT reco.grant_model('copies', 'row_maker')")
    for call in ["synthesize('copies', 1)", "synthesize(NULL::granted_purchase, 'copies', 1)"]:
        with pytest.raises(errors.InsufficientPrivilege, match='privilege "read" is required'):
            maker.execute(f"SELECT * FROM reco.{call}")
    shop.execute("SELECT reco.grant_model('copies', 'row_maker', 'read')")
    assert maker.execute("SELECT count(*) FROM reco.synthesize('copies', 3)").fetchone() == (3,)
    shop.execute("SELECT reco.drop_model('copies')")


# ------------------------------------------------------------------------------------------ views, functions and identity


@pytest.fixture
def shelf(shop):
    """A schema with a view and a function over `granted`."""
    shop.execute("CREATE SCHEMA shelf; GRANT USAGE ON SCHEMA shelf TO PUBLIC")
    shop.execute("SELECT reco.create_view('granted', 'shelf.lists', k => 2), reco.create_function('granted', 'shelf.list', k => 2)")
    yield shop
    shop.execute("DROP SCHEMA shelf CASCADE")


def test_a_view_reads_and_a_function_serves(shelf, role):
    reader = role("shelf_reader")
    shelf.execute("GRANT SELECT ON shelf.lists TO shelf_reader")
    asked = "SELECT array_agg((rank, item_id, score) ORDER BY rank) FROM shelf.list(7)"
    with pytest.raises(errors.InsufficientPrivilege, match="permission denied for model with id") as error:
        reader.execute(asked)
    # Not even its name is told.
    assert "granted" not in str(error.value)
    shelf.execute("SELECT reco.grant_model('granted', 'shelf_reader')")
    expected = shelf.execute("SELECT array_agg((rank, item_id::int, score) ORDER BY rank) FROM reco.recommend('granted', 7, 2)").fetchone()
    assert reader.execute(asked).fetchone() == expected
    with pytest.raises(errors.InsufficientPrivilege, match='privilege "read" is required'):
        reader.execute("TABLE shelf.lists")
    shelf.execute("SELECT reco.grant_model('granted', 'shelf_reader', 'read')")
    assert reader.execute("SELECT array_agg((rank, item_id, score) ORDER BY rank) FROM shelf.lists WHERE user_id = 7").fetchone() == expected
    shelf.execute("SELECT reco.revoke_model('granted', 'shelf_reader')")


def test_a_model_made_later_under_the_name_does_not_take_the_place_of_the_old_one(shelf, role):
    squatter = role("squatter", "reco_trainer")
    kept = shelf.execute("SELECT id FROM reco.models WHERE name = 'granted'").fetchone()
    shelf.execute("SELECT reco.drop_model('granted')")
    try:
        squatter.execute("SELECT reco.train('granted', 'SELECT 7::bigint AS user_id, 666 AS item_id UNION SELECT 8, 667', 'popularity')")
        squatter.execute("SELECT reco.grant_model('granted', 'public', 'read')")
        for query in ["TABLE shelf.lists", "SELECT * FROM shelf.list(7)"]:
            with pytest.raises(errors.UndefinedObject, match=f"model with id {kept[0]} was dropped") as error:
                shelf.execute(query)
            assert error.value.diag.message_hint
    finally:
        squatter.execute("SELECT reco.drop_model('granted')")
        shelf.execute("SELECT reco.train('granted', 'TABLE granted_purchase', 'item_knn')")


def test_new_versions_of_a_model_serve_its_views(shelf):
    before = shelf.execute("SELECT id, version FROM reco.models WHERE name = 'granted' AND in_use").fetchone()
    shelf.execute("SELECT reco.train('granted', 'TABLE granted_purchase', 'popularity')")
    after = shelf.execute("SELECT id, version FROM reco.models WHERE name = 'granted' AND in_use").fetchone()
    assert after == (before[0], before[1] + 1)
    expected = shelf.execute("SELECT array_agg(item_id::int ORDER BY rank) FROM reco.recommend('granted', 7, 2)").fetchone()
    assert shelf.execute("SELECT array_agg(item_id ORDER BY rank) FROM shelf.lists WHERE user_id = 7").fetchone() == expected


def test_types_of_the_callers_search_path_are_not_found_by_what_was_created(shop, role):
    """A SQL function's body is looked up when it is called, under the caller's path."""
    shop.execute("SELECT reco.train('worded', 'SELECT user_id::text, item_id::text FROM granted_purchase', 'popularity')")
    shop.execute("CREATE SCHEMA shelf; SELECT reco.create_function('worded', 'shelf.worded')")
    role("type_maker").close()
    try:
        shop.execute("CREATE SCHEMA evil AUTHORIZATION type_maker; SET ROLE type_maker")
        for name in ("text", "uuid", "int8", "int4", "float4"):
            shop.execute(f"CREATE DOMAIN evil.{name} AS pg_catalog.varchar CHECK (false)")
        shop.execute("RESET ROLE; SET search_path = evil, pg_catalog")
        assert shop.execute("SELECT count(*) FROM shelf.worded('7')").fetchone() == (10,)
    finally:
        shop.execute("RESET ROLE; RESET search_path; DROP SCHEMA IF EXISTS evil CASCADE; DROP SCHEMA shelf CASCADE")
        shop.execute("SELECT reco.drop_model('worded')")


def test_operators_of_the_callers_search_path_are_not_found_by_training(shop):
    shop.execute("CREATE SCHEMA evil")
    try:
        shop.execute(
            """CREATE FUNCTION evil.act(name, text) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE ''acted''; END';
               CREATE OPERATOR evil.!~~ (LEFTARG = name, RIGHTARG = text, FUNCTION = evil.act);
               SET search_path = evil, pg_catalog, public"""
        )
        shop.execute("SELECT reco.train('under_evil', 'TABLE granted_purchase', 'popularity')")
        shop.execute("SELECT reco.drop_model('under_evil')")
    finally:
        shop.execute("RESET search_path; DROP SCHEMA evil CASCADE")


def test_the_text_of_what_is_created_names_the_model_by_its_id_once_in_a_query(shelf):
    (id,) = shelf.execute("SELECT id FROM reco.models WHERE name = 'granted' AND in_use").fetchone()
    (text,) = shelf.execute("SELECT pg_get_functiondef('shelf.list'::regproc)").fetchone()
    assert f"reco.model_name('{id}'::pg_catalog.uuid)" in text and "'granted'" not in text
    plan = shelf.execute("EXPLAIN (FORMAT json, VERBOSE) TABLE shelf.lists").fetchone()[0]
    calls = find(plan, "Function Call")
    assert len(calls) == 2 and "model_name" not in str(calls), "it is looked up by the plan once, not by each call"


def find(plan, key):
    """Every value of a key in a plan."""
    if isinstance(plan, dict):
        return ([plan[key]] if key in plan else []) + [found for value in plan.values() for found in find(value, key)]
    return [found for value in plan for found in find(value, key)] if isinstance(plan, list) else []
