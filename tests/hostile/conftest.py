"""One database with an attacker who has done what a login role can, and two victims: a superuser and a role with no more than a login."""

import json

import attacker
import psycopg
import pytest
import tiny
from cluster import Cluster
from session import Bystander, Session

VICTIMS = ["root_victim", "plain_victim"]
SETTINGS = """
shared_preload_libraries = 'pg_reco'
max_connections = 40
reco.threads = 1
track_functions = 'all'
autovacuum = off
jit = off
max_stack_depth = '500kB'
"""


@pytest.fixture(scope="session")
def cluster():
    with Cluster(SETTINGS) as made:
        made.start()
        yield made


@pytest.fixture(scope="session")
def stage(cluster):
    """The cluster with the database `hostile`, in which the attacker has made everything."""
    cluster.create_database("hostile")
    with cluster.connect(dbname="hostile") as admin:
        admin.execute("CREATE EXTENSION pg_reco")
        admin.execute("CREATE ROLE attacker LOGIN; CREATE ROLE plain_victim LOGIN; CREATE ROLE root_victim LOGIN SUPERUSER")
        admin.execute("CREATE SCHEMA evil AUTHORIZATION attacker; CREATE SCHEMA made; GRANT ALL ON SCHEMA made TO PUBLIC")
        # Both are to get as far as a function lets them: what keeps them from calling it is tested elsewhere.
        admin.execute("GRANT EXECUTE ON ALL ROUTINES IN SCHEMA reco TO attacker, plain_victim; GRANT pg_read_all_stats TO plain_victim")
        for (role,) in admin.execute("SELECT rolname FROM pg_roles WHERE rolname IN ('reco_trainer', 'reco_importer')").fetchall():
            admin.execute(f"GRANT {role} TO attacker, plain_victim")
        if admin.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'dblink'").fetchone():
            admin.execute("CREATE EXTENSION dblink")
        tiny.import_text(admin)
        tiny.import_image(admin)
        tiny.import_pair(admin)
        admin.execute("SELECT reco.import_model('linear', %b)", [tiny.linear_model()])
        admin.execute("SELECT reco.grant_model(name, 'public') FROM (VALUES ('tiny'), ('picture'), ('pair'), ('linear')) m(name)")
        admin.execute("CREATE TABLE made.graph (onnx bytea); GRANT SELECT ON made.graph TO PUBLIC")
        admin.execute("INSERT INTO made.graph VALUES (%b)", [tiny.linear_model(3)])
    with cluster.connect(dbname="hostile", user="attacker") as connection:
        for statement in attacker.statements():
            connection.execute(statement)
        for name, (algorithm, source, options, items) in attacker.MODELS.items():
            connection.execute("SELECT reco.train(%s, %s, %s, %s, items => %s)", [name, source, algorithm, json.dumps(options), items])
            grant(connection, name)
        connection.execute("SELECT reco.train_synthesizer(%s, %s)", [attacker.SYNTHESIZER, attacker.SAMPLE])
        grant(connection, attacker.SYNTHESIZER)
        connection.execute("SELECT reco.train_predictor(%s, %s)", [attacker.PREDICTOR, attacker.SAMPLE])
        grant(connection, attacker.PREDICTOR)
        connection.execute("SELECT reco.train_search(%s, %s, embedding_model => 'tiny')", [attacker.INDEX, attacker.TITLES])
        grant(connection, attacker.INDEX)
    return cluster


def grant(connection, name):
    """To everybody, with what it was trained on."""
    takes = connection.execute("SELECT max(pronargs) FROM pg_proc WHERE proname = 'grant_model'").fetchone()[0]
    connection.execute(f"SELECT reco.grant_model(%s, 'public'{', %s' * (takes - 2)})", [name, "read"][: takes - 1])


@pytest.fixture(scope="session")
def bystander(stage):
    made = Bystander(stage)
    made.crashes()
    return made


@pytest.fixture(scope="session")
def connect_kept(stage):
    """A factory of connections to the database: `connect_kept('attacker')`."""

    def open_connection(user, **of_the_session):
        dsn = stage.dsn(dbname="hostile", user=user, **of_the_session)
        # A driver that prepares statements by itself would change what is looked at.
        given = {"autocommit": True, "prepare_threshold": None}
        try:
            return psycopg.connect(dsn, **given)
        except psycopg.OperationalError:
            # After a crash, as soon as there is a server again.
            stage.wait_ready().close()
            return psycopg.connect(dsn, **given)

    return open_connection


@pytest.fixture
def connect(connect_kept):
    """The same, closed when the test ends."""
    opened = []

    def open_connection(user, **of_the_session):
        opened.append(connect_kept(user, **of_the_session))
        return opened[-1]

    yield open_connection
    for connection in opened:
        connection.close()


@pytest.fixture(scope="session")
def sessions(stage):
    """Sessions that go from test to test, as a pool's go from client to client: each test leaves its own as it was, or it fails."""
    kept = {}
    yield kept
    for session in kept.values():
        session.connection.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    item.failed = getattr(item, "failed", False) or report.failed
    return report


def lend(request, sessions, connect, bystander, role, **settings):
    """One of the sessions for a test. When the test ends, the server stands and nobody has gained rights."""
    name = (role, *settings)
    if name not in sessions:
        sessions[name] = Session(connect(role, **settings))
    yield sessions[name]
    if getattr(request.node, "failed", True) or not sessions[name].give_back():
        sessions.pop(name).connection.close()
    bystander.assert_unhurt(request.node.name)


@pytest.fixture(params=VICTIMS)
def victim(request, sessions, connect_kept, bystander):
    """A victim's session."""
    yield from lend(request, sessions, connect_kept, bystander, request.param)


@pytest.fixture
def misled(request, sessions, connect_kept, bystander):
    """A superuser whose path has the attacker's schema before PostgreSQL's own."""
    yield from lend(request, sessions, connect_kept, bystander, "root_victim", options="-c search_path=evil,pg_catalog")


@pytest.fixture
def trick(bystander):
    """Says what the attacker's models do from now on; the test over, nothing."""
    yield bystander.choose
    bystander.choose(None)
