"""Updates: from every version that was published to this one, and what is said when library and SQL do not fit together.

`versions/` holds the SQL of each version as it was published; a new version adds its own.
"""

import re
import shutil
import subprocess
from pathlib import Path

import psycopg
import pytest
import tiny
from psycopg import sql as identifiers

PUBLISHED = sorted(path.stem.split("--")[1] for path in Path(__file__).parent.glob("versions/pg_reco--*.sql"))
ROOT = Path(__file__).parents[1]
CURRENT = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]

# Everything that belongs to the extension, each object as one text.
MEMBERS = {
    "objects": "SELECT pg_describe_object(classid, objid, objsubid) FROM members",
    "comments": """SELECT pg_describe_object(m.classid, m.objid, 0) || ' ' || d.objsubid || ': ' || d.description
                     FROM members m JOIN pg_description d ON (d.classoid, d.objoid) = (m.classid, m.objid)""",
    "functions": """SELECT CASE WHEN prokind = 'a' THEN
                                (a.aggfnoid, aggkind, aggtransfn, aggfinalfn, aggcombinefn, aggserialfn, aggdeserialfn, aggtranstype::regtype,
                                 aggtransspace, aggfinalmodify, agginitval, proparallel, prosupport)::text
                           ELSE pg_get_functiondef(p.oid) END
                      FROM members m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid
                      LEFT JOIN pg_aggregate a ON a.aggfnoid = p.oid""",
    "rights": """SELECT pg_describe_object(classid, objid, 0) || ' ' || ARRAY(SELECT item::text FROM unnest(acl) AS item ORDER BY 1)::text
                   FROM members m, LATERAL (SELECT proacl FROM pg_proc WHERE oid = objid AND classid = 'pg_proc'::regclass UNION ALL
                                            SELECT relacl FROM pg_class WHERE oid = objid AND classid = 'pg_class'::regclass UNION ALL
                                            SELECT typacl FROM pg_type WHERE oid = objid AND classid = 'pg_type'::regclass) AS a (acl)
                  WHERE acl IS NOT NULL""",
    "columns": """SELECT (attrelid::regclass, attname, attnum, format_type(atttypid, atttypmod), attnotnull, attstorage,
                          pg_get_expr(adbin, adrelid))::text
                    FROM members m JOIN pg_attribute a ON m.classid = 'pg_class'::regclass AND attrelid = m.objid AND attnum > 0
                    LEFT JOIN pg_attrdef ON (adrelid, adnum) = (attrelid, attnum) WHERE NOT attisdropped""",
    "relations": """SELECT (m.objid::regclass, relkind, reloptions, CASE WHEN relkind = 'v' THEN pg_get_viewdef(m.objid) END)::text
                      FROM members m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid""",
    "indexes": """SELECT pg_get_indexdef(indexrelid) FROM members JOIN pg_index ON classid = 'pg_class'::regclass AND indrelid = objid""",
    "constraints": """SELECT (conrelid::regclass, conname, pg_get_constraintdef(c.oid))::text
                        FROM members m JOIN pg_constraint c ON m.classid = 'pg_class'::regclass AND conrelid = m.objid""",
    "triggers": """SELECT pg_get_triggerdef(t.oid) FROM members m JOIN pg_trigger t
                       ON m.classid = 'pg_class'::regclass AND tgrelid = m.objid AND NOT tgisinternal""",
    "dumped": """SELECT (t.oid::regclass, t.condition)::text FROM pg_extension, unnest(extconfig, extcondition) AS t (oid, condition)
                  WHERE extname = 'pg_reco'""",
}


def objects(connection):
    members = """WITH members AS (SELECT classid, objid, 0 AS objsubid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
                                   WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'pg_reco')"""
    with connection.transaction():
        # Every name is then written out in full.
        connection.execute("SET LOCAL search_path = ''")
        return {kind: sorted(row[0] for row in connection.execute(members + query)) for kind, query in MEMBERS.items()}


@pytest.fixture(scope="module")
def published_scripts():
    """The published versions' SQL, where CREATE EXTENSION … VERSION finds it."""
    share = subprocess.run(["pg_config", "--sharedir"], check=True, capture_output=True, text=True).stdout.strip()
    placed = []
    for version in PUBLISHED:
        target = Path(share, "extension", f"pg_reco--{version}.sql")
        if not target.exists():
            shutil.copy(Path(__file__).parent / "versions" / target.name, target)
            placed.append(target)
    yield
    for target in placed:
        target.unlink()


@pytest.fixture
def fresh(server, published_scripts):
    """Connections to a database of their own, without the extension."""
    name = identifiers.Identifier("pg_reco_upgrade")
    opened = []
    with psycopg.connect(server, dbname="postgres", autocommit=True) as connection:
        connection.execute(identifiers.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
        connection.execute(identifiers.SQL("CREATE DATABASE {}").format(name))

        def connect():
            opened.append(psycopg.connect(server, dbname="pg_reco_upgrade", autocommit=True))
            return opened[-1]

        yield connect
        for each in opened:
            each.close()
        connection.execute(identifiers.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def test_every_published_version_has_its_sql_kept():
    changelog = (ROOT / "CHANGELOG.md").read_text()
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", changelog, re.MULTILINE)
    assert released[0] == CURRENT, "CHANGELOG.md begins with another version than Cargo.toml's"
    assert set(released[1:]) == set(PUBLISHED)


@pytest.mark.parametrize("version", PUBLISHED)
def test_an_update_gives_the_objects_of_a_fresh_install(fresh, db, version):
    connection = fresh()
    connection.execute(f"CREATE EXTENSION pg_reco VERSION '{version}'")
    connection.execute("ALTER EXTENSION pg_reco UPDATE")
    assert connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'pg_reco'").fetchone() == (CURRENT,)
    # Who may call what is the one thing that differs, until it is said that it shall not.
    connection.execute("CALL reco.revoke_from_public()")
    updated, installed = objects(connection), objects(db)
    for kind in MEMBERS:
        assert updated[kind] == installed[kind], kind
    assert len(installed["functions"]) > 30


CALLABLE = "SELECT DISTINCT proname FROM pg_proc WHERE pronamespace IN (SELECT oid FROM pg_namespace WHERE nspname IN ('reco', 'reco_internal')) AND has_function_privilege('public', oid, 'execute')"


@pytest.mark.parametrize("version", [version for version in PUBLISHED if version < "0.4.0"])
def test_an_update_lets_everybody_call_what_it_could_and_says_so(fresh, db, version):
    connection = fresh()
    warnings = []
    connection.add_notice_handler(lambda notice: warnings.append((notice.message_primary, notice.message_hint)))
    connection.execute(f"CREATE EXTENSION pg_reco VERSION '{version}'")
    before = set(connection.execute(CALLABLE).fetchall())
    connection.execute("ALTER EXTENSION pg_reco UPDATE")
    assert before <= set(connection.execute(CALLABLE).fetchall()) and ("train",) in before and ("import_model",) not in before
    (told,) = [hint for message, hint in warnings if "as before this update" in message]
    assert "CALL reco.revoke_from_public()" in told
    connection.execute("CALL reco.revoke_from_public()")
    assert set(connection.execute(CALLABLE).fetchall()) == set(db.execute(CALLABLE).fetchall())


def test_an_update_keeps_what_was_granted_and_taken_away(fresh, role):
    role("keeper").close()
    connection = fresh()
    connection.execute("CREATE EXTENSION pg_reco VERSION '0.3.0'")
    connection.execute("REVOKE EXECUTE ON FUNCTION reco.grant_model, reco.train FROM PUBLIC")
    connection.execute("GRANT EXECUTE ON FUNCTION reco.grant_model, reco.train TO keeper WITH GRANT OPTION")
    connection.execute("INSERT INTO reco.model (name, owner, version_in_use) VALUES ('a', 'postgres', 0), ('b', 'postgres', 0)")
    connection.execute("INSERT INTO reco.model_grant (name, grantee) VALUES ('a', 'public')")
    connection.execute("ALTER EXTENSION pg_reco UPDATE")
    may = """SELECT proname, has_function_privilege('public', oid, 'execute'), has_function_privilege('keeper', oid, 'execute with grant option')
               FROM pg_proc WHERE proname IN ('grant_model', 'revoke_model', 'train') ORDER BY 1"""
    assert connection.execute(may).fetchall() == [("grant_model", False, True), ("revoke_model", True, False), ("train", False, True)]
    assert connection.execute("SELECT name, grantee::text, privilege FROM reco.model_grant").fetchall() == [("a", "public", "read")]
    assert connection.execute("SELECT count(DISTINCT id) FROM reco.model").fetchone() == (2,)
    connection.execute("DROP OWNED BY keeper")


def test_a_dump_of_an_updated_database_has_what_was_granted_since_and_a_fresh_installs_rights_else(fresh, role, server):
    role("keeper").close()
    connection = fresh()
    connection.execute("CREATE EXTENSION pg_reco VERSION '0.3.0'")
    connection.execute("ALTER EXTENSION pg_reco UPDATE")
    connection.execute("GRANT EXECUTE ON FUNCTION reco.train TO keeper; REVOKE EXECUTE ON FUNCTION reco.embed_image FROM PUBLIC")
    dump = subprocess.run(["pg_dump", "--dbname", f"{server} dbname=pg_reco_upgrade"], capture_output=True, check=True).stdout
    name = "pg_reco_updated"
    with psycopg.connect(server, dbname="postgres", autocommit=True) as maintenance:
        maintenance.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        maintenance.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        try:
            restore = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "--dbname", f"{server} dbname={name}"]
            subprocess.run(restore, input=dump, check=True, capture_output=True)
            may = """SELECT proname, array_agg(r ORDER BY r) FILTER (WHERE has_function_privilege(r, oid, 'execute'))
                       FROM pg_proc, unnest(ARRAY['keeper', 'public', 'reco_trainer']) AS r
                      WHERE proname IN ('embed_image', 'train', 'tune') AND pronamespace IN (SELECT oid FROM pg_namespace WHERE nspname IN ('reco', 'reco_internal')) GROUP BY proname ORDER BY 1"""
            with psycopg.connect(server, dbname=name, autocommit=True) as restored:
                assert restored.execute(may).fetchall() == [
                    ("embed_image", None), ("train", ["keeper", "reco_trainer"]), ("tune", ["reco_trainer"]),
                ]  # fmt: skip
        finally:
            maintenance.execute(f"DROP DATABASE {name} WITH (FORCE)")
            connection.execute("DROP OWNED BY keeper")


@pytest.mark.parametrize(
    ("done", "said"),
    [
        ("ALTER SCHEMA reco OWNER TO squatter", 'schema "reco" is owned by role "squatter"'),
        ("GRANT CREATE ON SCHEMA reco TO squatter", 'role "squatter" can create objects in schema "reco"'),
        (
            """GRANT CREATE ON SCHEMA reco TO squatter; SET ROLE squatter;
               CREATE FUNCTION reco.train(name varchar) RETURNS integer LANGUAGE sql AS 'SELECT 1';
               RESET ROLE; REVOKE CREATE ON SCHEMA reco FROM squatter""",
            r'schema "reco" contains function reco.train\(character varying\), which is owned by another role',
        ),
    ],
    ids=["owns", "may create", "has created"],
)
def test_an_update_is_refused_where_another_role_makes_objects_in_the_schema(fresh, role, done, said):
    role("squatter").close()
    connection = fresh()
    connection.execute("CREATE EXTENSION pg_reco VERSION '0.3.0'")
    connection.execute(done)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match=said) as error:
        connection.execute("ALTER EXTENSION pg_reco UPDATE")
    assert error.value.diag.message_hint
    connection.execute("ALTER SCHEMA reco OWNER TO postgres; DROP OWNED BY squatter")
    connection.execute("ALTER EXTENSION pg_reco UPDATE")


@pytest.mark.parametrize("version", PUBLISHED)
def test_models_outlive_an_update(fresh, db, version):
    connection = fresh()
    connection.execute(f"CREATE EXTENSION pg_reco VERSION '{version}'")
    db.execute("SELECT reco.import_model('linear', %b)", [tiny.linear_model()])
    try:
        for table in ("model", "model_version", "model_file", "model_part"):
            of_then = "SELECT string_agg(attname, ', ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0"
            (columns,) = connection.execute(of_then, [f"reco.{table}"]).fetchone()
            with db.cursor().copy(f"COPY (SELECT {columns} FROM reco.{table} WHERE name = 'linear') TO STDOUT") as source:
                data = b"".join(source)
            with connection.cursor().copy(f"COPY reco.{table} ({columns}) FROM STDIN") as target:
                target.write(data)
    finally:
        db.execute("SELECT reco.drop_model('linear')")
    connection.execute("ALTER EXTENSION pg_reco UPDATE")
    assert connection.execute("""SELECT reco.predict('linear', '{"x": [[1, 2]]}')""").fetchone() == ({"y": [[2.0, 4.0]]},)


def test_a_view_over_an_old_function_outlives_an_update(fresh):
    connection = fresh()
    connection.execute("CREATE EXTENSION pg_reco VERSION '0.1.0'")
    connection.execute("CREATE VIEW lists AS SELECT u, l.* FROM generate_series(1, 3) u, reco.recommend('goods', u::bigint, k => 2) l")
    connection.execute("CREATE VIEW every_list AS SELECT * FROM reco.recommend_all('goods')")
    connection.execute("ALTER EXTENSION pg_reco UPDATE")
    connection.execute("CREATE TABLE sale AS SELECT u AS user_id, i AS item_id FROM generate_series(1, 5) u, generate_series(1, 9) i WHERE u <> i")
    connection.execute("SELECT reco.train('goods', 'TABLE sale', 'popularity')")
    got = connection.execute("SELECT u, rank, item_id FROM lists").fetchall()
    new = "SELECT u, rank, item_id FROM generate_series(1, 3) u, reco.recommend('goods', u::bigint, k => 2)"
    assert len(got) == 3 and got == connection.execute(new).fetchall()
    assert connection.execute("SELECT count(*) FROM every_list").fetchone() == (5,)
    # The functions left behind are the user's now: a dump has them, and they go with the views.
    connection.execute("DROP VIEW lists, every_list")
    connection.execute("DROP FUNCTION reco.recommend_before_0_2(text, bigint, integer, boolean, text)")


def test_a_view_over_functions_of_other_list_types_outlives_an_update(fresh):
    connection = fresh()
    connection.execute("CREATE EXTENSION pg_reco VERSION '0.2.0'")
    lists = {
        "lists": "SELECT u, l.rank, l.item_id FROM generate_series(1, 3) u, reco.recommend('goods', u::bigint, k => 2, deny => ARRAY['4']) l",
        "baskets": "SELECT rank, item_id FROM reco.recommend_for_items('goods', ARRAY[3]::bigint[], ARRAY[1]::real[], k => 2)",
        "every_list": "SELECT user_id, rank, item_id FROM reco.recommend_all('goods', k => 2)",
        "means": "SELECT reco.mean_embedding(ARRAY[i, 1]::real[]) AS mean, reco.top_k(i, i, 2) AS best FROM generate_series(1, 3) i",
    }
    for name, query in lists.items():
        connection.execute(f"CREATE VIEW {name} AS {query}")
    connection.execute("ALTER EXTENSION pg_reco UPDATE")
    connection.execute("CREATE TABLE sale AS SELECT u AS user_id, i AS item_id FROM generate_series(1, 5) u, generate_series(1, 9) i WHERE u <> i")
    connection.execute("SELECT reco.train('goods', 'TABLE sale', 'popularity')")
    for name, query in lists.items():
        got = connection.execute(f"TABLE {name}").fetchall()
        assert got and got == connection.execute(query).fetchall(), name
    connection.execute("DROP VIEW lists, baskets, every_list, means")
    connection.execute("DROP FUNCTION reco.recommend_before_0_4, reco.recommend_for_items_before_0_4, reco.recommend_all_before_0_4")


@pytest.mark.parametrize("version", PUBLISHED)
def test_a_newer_library_says_that_the_objects_are_older(fresh, version):
    connection = fresh()
    connection.execute(f"CREATE EXTENSION pg_reco VERSION '{version}'")
    said = f"library is version {CURRENT}, but its SQL objects are version {version}"
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match=re.escape(said)) as error:
        connection.execute("SELECT reco.embed('x')")
    assert f"ALTER EXTENSION pg_reco UPDATE TO '{CURRENT}'" in error.value.diag.message_hint
    # The same connection goes on after the update.
    connection.execute("ALTER EXTENSION pg_reco UPDATE")
    with pytest.raises(psycopg.errors.UndefinedObject, match="does not exist"):
        connection.execute("SELECT reco.embed('x')")


def test_an_older_library_says_that_the_objects_are_newer(fresh):
    connection = fresh()
    connection.execute("CREATE EXTENSION pg_reco")
    connection.execute("UPDATE pg_extension SET extversion = '99.0' WHERE extname = 'pg_reco'")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="its SQL objects are version 99.0"):
        connection.execute("SELECT reco.recommend('any', 1)")
