"""Models go where the database goes: dumps of every kind, upgrades, and what becomes of owners and grants on the way."""

import psycopg
import pytest
import tiny
from cluster import Cluster, bindir, major_version, own

ROLES = ("analyst", "reader")
MODELS = "SELECT name, version, in_use, task, algorithm, size, sha256, owner, created, source, config, metrics, id FROM reco.models ORDER BY 1, 2"
GRANTS = "SELECT name, grantee::text, privilege FROM reco.model_grant ORDER BY 1, 2"
CREATED = {
    "view": "SELECT array_agg(r::text ORDER BY user_id, rank) FROM shop.recommended r WHERE user_id IN (3, 7)",
    "function": "SELECT array_agg(r::text ORDER BY rank) FROM shop.recommend(7) r",
}


def fill(connection):
    """The shop and its models, with owners, grants, and a version that is not the newest in use."""
    tiny.prepare(connection)
    connection.execute("SELECT reco.import_model('linear', %b)", [tiny.linear_model(3)])
    connection.execute("SELECT reco.promote_model('linear', 1)")
    connection.execute("GRANT EXECUTE ON FUNCTION reco.import_model TO analyst")
    connection.execute("SET ROLE analyst")
    tiny.import_text(connection, "analysts own", seed=2)
    connection.execute("SELECT reco.grant_model('analysts own', 'reader')")
    connection.execute("RESET ROLE")
    connection.execute("SELECT reco.grant_model('tiny', 'public'), reco.grant_model('shop_ials', 'reader', 'read')")
    connection.execute("CREATE SCHEMA shop")
    connection.execute("SELECT reco.create_view('shop_ials', 'shop.recommended', k => 3)")
    connection.execute("SELECT reco.create_function('shop_ials', 'shop.recommend', k => 3)")
    connection.execute("GRANT USAGE ON SCHEMA shop TO reader; GRANT SELECT ON shop.recommended TO reader")


def state(connection):
    """All that a dump must carry, as a user sees it."""
    got = tiny.answers(connection)
    for name, query in CREATED.items():
        got[name] = connection.execute(query).fetchone()
    got["models"] = connection.execute(MODELS).fetchall()
    got["grants"] = connection.execute(GRANTS).fetchall()
    privilege = "SELECT has_function_privilege('analyst', oid, 'execute') FROM pg_proc WHERE proname = 'import_model'"
    got["execute"] = connection.execute(privilege).fetchone()
    return got


def usable_by(connection, role):
    """The names of the models that a role may use."""
    connection.execute(f'SET ROLE "{role}"')
    names = [name for (name,) in connection.execute("SELECT DISTINCT name FROM reco.models ORDER BY 1").fetchall()]
    connection.execute("RESET ROLE")
    return names


@pytest.fixture(scope="module")
def old():
    with Cluster() as cluster:
        cluster.start()
        with cluster.connect() as connection:
            for role in ROLES:
                connection.execute(f"CREATE ROLE {role} LOGIN")
        cluster.create_database("shop")
        with cluster.connect(dbname="shop") as connection:
            fill(connection)
        yield cluster


@pytest.fixture(scope="module")
def expected(old):
    with old.connect(dbname="shop") as connection:
        got = state(connection)
    assert got["grants"] == [("analysts own", "reader", "serve"), ("shop_ials", "reader", "read"), ("tiny", "public", "serve")]
    assert {row[7] for row in got["models"]} == {"postgres", "analyst"}
    return got


@pytest.fixture(scope="module")
def new():
    """Another cluster with the same roles, whose numbers there are others."""
    with Cluster() as cluster:
        cluster.start()
        with cluster.connect() as connection:
            for role in ("somebody", "somebody_else", *reversed(ROLES)):
                connection.execute(f"CREATE ROLE {role} LOGIN")
        yield cluster


def restore(cluster, database, dump, *options):
    cluster.create_database(database)
    cluster.program("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", database, *options, input=dump)


def assert_equal(got, expected):
    """Part by part: the whole would print a page."""
    assert got.keys() == expected.keys()
    for part, value in expected.items():
        assert got[part] == value, part


def assert_restored(cluster, database, expected):
    with cluster.connect(dbname=database) as connection:
        assert_equal(state(connection), expected)
        assert usable_by(connection, "reader") == ["analysts own", "shop_ials", "tiny"]
        assert usable_by(connection, "analyst") == ["analysts own", "tiny"]
    assert list((cluster.data / "pg_reco").iterdir()), "the cache is made from the catalog"


def test_a_plain_dump_carries_models_owners_and_grants_into_another_cluster(old, new, expected):
    assert not (new.data / "pg_reco").exists()
    restore(new, "plain", old.program("pg_dump", "shop").stdout)
    assert_restored(new, "plain", expected)


def test_a_dump_by_inserts_carries_them_too(old, new, expected):
    restore(new, "inserts", old.program("pg_dump", "--inserts", "shop").stdout)
    assert_restored(new, "inserts", expected)


@pytest.mark.parametrize("dump_format", ["custom", "directory"])
def test_a_parallel_restore_carries_them_too(old, new, expected, tmp_path, dump_format):
    made = tmp_path / "dump"
    jobs = ["--jobs=2"] if dump_format == "directory" else []
    old.program("pg_dump", f"--format={dump_format}", *jobs, "--file", made, "shop")
    new.create_database("parallel")
    new.program("pg_restore", "--exit-on-error", "--jobs=2", "--dbname", "parallel", made)
    assert_restored(new, "parallel", expected)


def test_a_restore_over_what_is_there_replaces_it(old, new, expected):
    dump = old.program("pg_dump", "--clean", "--if-exists", "shop").stdout
    restore(new, "again", dump)
    with new.connect(dbname="again") as connection:
        connection.execute("SELECT reco.drop_model('linear')")
    new.program("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "again", input=dump)
    assert_restored(new, "again", expected)


def test_pg_dumpall_carries_them_with_the_roles(old, expected):
    dump = old.program("pg_dumpall").stdout
    with Cluster() as cluster:
        cluster.start()
        # One error is right: the role that restores is there already.
        said = cluster.program("psql", "-X", "-q", input=dump).stderr.decode()
        assert [line for line in said.splitlines() if "ERROR" in line and 'role "postgres" already exists' not in line] == []
        assert_restored(cluster, "shop", expected)


@pytest.mark.skipif(not (bindir() / "pg_upgrade").exists(), reason="this PostgreSQL has no pg_upgrade here")
def test_pg_upgrade_carries_them(expected):
    with Cluster() as source, Cluster() as target:
        source.start()
        with source.connect() as connection:
            for role in ROLES:
                connection.execute(f"CREATE ROLE {role} LOGIN")
            connection.execute("CREATE DATABASE shop TEMPLATE template0")
        with source.connect(dbname="shop") as connection:
            fill(connection)
            before = state(connection)
        source.stop()
        target.start()
        target.stop()
        work = target.folder / "upgrade"
        work.mkdir()
        own(work)
        target.owned(
            *("pg_upgrade", "--old-bindir", source.bin, "--new-bindir", target.bin, "--username", "postgres"),
            *("--old-datadir", source.data, "--new-datadir", target.data, "--socketdir", target.folder),
        )
        assert not (target.data / "pg_reco").exists()
        target.start()
        assert_restored(target, "shop", before)
        with target.connect(dbname="shop") as connection:
            assert tiny.train(connection, "shop_ials") == 2


def test_the_schema_dump_of_pg_upgrade_names_every_part_of_the_extension(old):
    """What pg_upgrade does where it is not installed: the extension is made empty and its objects one by one."""
    dump = old.program("pg_dump", "--schema-only", "--binary-upgrade", "shop").stdout.decode()
    assert "binary_upgrade_create_empty_extension('pg_reco'" in dump
    for table in ("model", "model_version", "model_file", "model_part", "model_grant"):
        assert f"CREATE TABLE reco.{table} " in dump
        assert f"ALTER EXTENSION pg_reco ADD TABLE reco.{table};" in dump


def test_a_schema_with_a_recommenders_view_and_function_is_dumped_alone(old, new, expected):
    dump = old.program("pg_dump", "--schema=shop", "shop").stdout
    restore(new, "schema_alone", old.program("pg_dump", "--exclude-schema=shop", "shop").stdout)
    new.program("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "schema_alone", input=dump)
    with new.connect(dbname="schema_alone") as connection:
        for name, query in CREATED.items():
            assert connection.execute(query).fetchone() == expected[name]


@pytest.mark.skipif(major_version() < 14, reason="pg_dump --extension came with PostgreSQL 14")
def test_the_models_are_dumped_without_the_data(old, new, expected):
    restore(new, "models_alone", old.program("pg_dump", "--extension=pg_reco", "--schema=reco", "shop").stdout)
    with new.connect(dbname="models_alone") as connection:
        assert connection.execute(MODELS).fetchall() == expected["models"]
        assert connection.execute(GRANTS).fetchall() == expected["grants"]
        assert connection.execute("SELECT to_regclass('purchase'), to_regnamespace('shop')").fetchone() == (None, None)
        # Without its source a recommender serves what it learned.
        trained = "SELECT array_agg(r::text ORDER BY rank) FROM reco.recommend('shop_ials', 7, 5, history => 'trained') r"
        with old.connect(dbname="shop") as there:
            assert connection.execute(trained).fetchone() == there.execute(trained).fetchone()
        assert connection.execute(tiny.ANSWERS["large"]).fetchone() == expected["large"]


@pytest.mark.skipif(major_version() < 14, reason="pg_read_all_data came with PostgreSQL 14")
def test_a_role_that_reads_all_data_can_dump(old, new, expected):
    with old.connect(dbname="shop") as connection:
        connection.execute("CREATE ROLE dumper LOGIN IN ROLE pg_read_all_data")
    try:
        restore(new, "by_a_reader", old.program("pg_dump", "shop", env={"PGUSER": "dumper"}).stdout)
    finally:
        with old.connect(dbname="shop") as connection:
            connection.execute("DROP ROLE dumper")
    assert_restored(new, "by_a_reader", expected)


def test_a_databases_owner_that_may_dump_models_dumps_all(old, new):
    """No superuser: the database is its own, and reco_dumper lets it read the models, which are others'."""
    with old.connect() as connection:
        connection.execute("CREATE ROLE shopkeeper LOGIN IN ROLE reco_dumper")
        connection.execute("CREATE DATABASE kept TEMPLATE template0 OWNER shopkeeper")
    try:
        with old.connect(dbname="kept") as connection:
            connection.execute("CREATE EXTENSION pg_reco; GRANT reco_trainer TO shopkeeper; CREATE SCHEMA shop AUTHORIZATION shopkeeper")
            tiny.import_text(connection, "tiny")
            connection.execute("SELECT reco.grant_model('tiny', 'reader')")
            connection.execute("SET ROLE shopkeeper; SET search_path = shop")
            connection.execute(tiny.PURCHASES)
            tiny.train(connection, "own", source="TABLE shop.purchase")
            connection.execute("SELECT reco.create_view('own', 'shop.lists', k => 2); RESET ROLE")
            expected = [connection.execute(q).fetchall() for q in (MODELS, GRANTS, "TABLE shop.lists", "SELECT reco.embed('red wine', 'tiny')")]
        restore(new, "kept", old.program("pg_dump", "--no-owner", "kept", env={"PGUSER": "shopkeeper"}).stdout)
        with new.connect(dbname="kept") as connection:
            # The owner is a role that this cluster does not have.
            connection.execute("UPDATE reco.model SET owner = 'postgres' WHERE name = 'own'")
            got = [connection.execute(q).fetchall() for q in (MODELS, GRANTS, "TABLE shop.lists", "SELECT reco.embed('red wine', 'tiny')")]
        assert [row[:7] + row[8:] for row in got[0]] == [row[:7] + row[8:] for row in expected[0]]
        assert got[1:] == expected[1:]
    finally:
        with old.connect() as connection:
            connection.execute("DROP DATABASE kept WITH (FORCE)")
            connection.execute("DROP ROLE shopkeeper")


def test_a_databases_owner_that_may_not_dump_models_dumps_its_own_part(old, new):
    """Models are not the owner's to read; the rest is, and leaving the extension out is said in one option."""
    with old.connect() as connection:
        connection.execute("CREATE ROLE shopkeeper LOGIN")
        connection.execute("CREATE DATABASE kept TEMPLATE template0 OWNER shopkeeper")
    with old.connect(dbname="kept") as connection:
        connection.execute("CREATE EXTENSION pg_reco; CREATE SCHEMA shop AUTHORIZATION shopkeeper")
        connection.execute("SET ROLE shopkeeper; CREATE TABLE shop.thing AS SELECT 1 AS thing")
    try:
        whole = old.program("pg_dump", "kept", env={"PGUSER": "shopkeeper"}, check=False)
        assert whole.returncode != 0 and b"permission denied for table model" in whole.stderr
        part = old.program("pg_dump", "--schema=shop", "--no-owner", "kept", env={"PGUSER": "shopkeeper"}).stdout
        restore(new, "part", part)
        with new.connect(dbname="part") as connection:
            assert connection.execute("TABLE shop.thing").fetchall() == [(1,)]
    finally:
        with old.connect() as connection:
            connection.execute("DROP DATABASE kept WITH (FORCE)")
            connection.execute("DROP ROLE shopkeeper")


# ------------------------------------------------------------------------------------------------ roles that are gone


@pytest.fixture
def bereft(old):
    """A database in which a role that is gone held a grant, and one that is gone owned a model. Gives both numbers."""
    old.create_database("bereft")
    with old.connect(dbname="bereft") as connection:
        connection.execute("CREATE ROLE granted; CREATE ROLE owning")
        numbers = [
            connection.execute("SELECT oid::bigint FROM pg_roles WHERE rolname = %s", [role]).fetchone()[0]
            for role in ("granted", "owning")
        ]
        tiny.prepare(connection)
        connection.execute("SELECT reco.grant_model('tiny', 'granted'), reco.grant_model('tiny', 'reader')")
        connection.execute("GRANT EXECUTE ON FUNCTION reco.import_model TO owning")
        connection.execute("SET ROLE owning")
        tiny.import_text(connection, "orphan", seed=3)
        connection.execute("RESET ROLE")
        for role in ("granted", "owning"):
            try:
                connection.execute(f"DROP ROLE {role}")
            except psycopg.errors.DependentObjectsStillExist:
                # As PostgreSQL's own message says: first what it owns and may use.
                connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
    yield numbers
    with old.connect() as connection:
        connection.execute("DROP DATABASE bereft WITH (FORCE)")
        connection.execute("DROP ROLE IF EXISTS granted; DROP ROLE IF EXISTS owning")


def roles_with_numbers(cluster, numbers):
    """Makes roles until some have these numbers, as happens in a cluster that lives long; gives their names."""
    with cluster.connect() as connection:
        named = {}
        for made in range(max(numbers)):
            connection.execute(f"CREATE ROLE stranger_{made}")
            number = connection.execute("SELECT max(oid)::bigint FROM pg_roles").fetchone()[0]
            if number in numbers:
                named[number] = f"stranger_{made}"
            if number >= max(numbers):
                return [named[number] for number in numbers if number in named]


def test_a_dump_with_roles_that_are_gone_restores(old, new, bereft):
    restore(new, "bereft", old.program("pg_dump", "bereft").stdout)
    with new.connect(dbname="bereft") as connection:
        assert connection.execute(tiny.ANSWERS["embed"]).fetchone()
        assert usable_by(connection, "reader") == ["tiny"]


def test_a_role_with_the_number_of_one_that_is_gone_gets_nothing(old, bereft):
    dump = old.program("pg_dump", "bereft").stdout
    with Cluster() as cluster:
        cluster.start()
        strangers = roles_with_numbers(cluster, bereft)
        assert len(strangers) == 2
        with cluster.connect() as connection:
            connection.execute("CREATE ROLE reader")
        restore(cluster, "bereft", dump)
        with cluster.connect(dbname="bereft") as connection:
            for stranger in strangers:
                assert usable_by(connection, stranger) == []


def test_a_dump_restores_where_its_roles_do_not_exist(old, expected):
    """What belonged to a role that is not there is left to superusers, and grants to it are nobody's."""
    dump = old.program("pg_dump", "--no-owner", "--no-privileges", "shop").stdout
    with Cluster() as cluster:
        cluster.start()
        restore(cluster, "shop", dump)
        with cluster.connect(dbname="shop") as connection:
            assert connection.execute(tiny.ANSWERS["large"]).fetchone() == expected["large"]
            owners = connection.execute("SELECT DISTINCT owner FROM reco.models ORDER BY owner").fetchall()
            assert owners == [("",), ("postgres",)]
            assert connection.execute("SELECT count(*) FROM reco.models").fetchone() == (len(expected["models"]),)


def test_the_catalog_is_sound_after_a_restore(old, new):
    """Each file has its SHA-256 and its length, part by part."""
    restore(new, "sound", old.program("pg_dump", "shop").stdout)
    with new.connect(dbname="sound") as connection:
        wrong = connection.execute(
            """SELECT f.name, f.file FROM reco.model_file f
                WHERE (SELECT (encode(sha256(string_agg(p.data, ''::bytea ORDER BY p.part)), 'hex'), sum(length(p.data)))
                         FROM reco.model_part p WHERE (p.name, p.version, p.file) = (f.name, f.version, f.file))
                      IS DISTINCT FROM (f.sha256, f.size)"""
        ).fetchall()
    assert wrong == []
