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
        admin.execute("SELECT reco.import_model('linear', %b)", [tiny.linear_model()])
        admin.execute("SELECT reco.grant_model('tiny', 'public'), reco.grant_model('linear', 'public')")
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


@pytest.fixture
def connect(stage):
    """A factory of connections to the database, closed when the test ends: `connect('attacker')`."""
    opened = []

    def open_connection(user, **of_the_session):
        # A driver that prepares statements by itself would change what is looked at.
        given = {"autocommit": True, "prepare_threshold": None}
        dsn = stage.dsn(dbname="hostile", user=user, **of_the_session)
        try:
            opened.append(psycopg.connect(dsn, **given))
        except psycopg.OperationalError:
            # After a crash, as soon as there is a server again.
            stage.wait_ready().close()
            opened.append(psycopg.connect(dsn, **given))
        return opened[-1]

    yield open_connection
    for connection in opened:
        connection.close()


@pytest.fixture
def evil(connect):
    """The attacker's own connection."""
    return connect("attacker")


@pytest.fixture(params=VICTIMS)
def victim(request, connect, bystander):
    """A victim's session; when the test ends, the server stands and nobody has gained rights."""
    yield Session(connect(request.param))
    bystander.assert_unhurt(request.node.name)


@pytest.fixture
def misled(request, connect, bystander):
    """A superuser whose path has the attacker's schema before PostgreSQL's own."""
    yield Session(connect("root_victim", options="-c search_path=evil,pg_catalog"))
    bystander.assert_unhurt(request.node.name)


@pytest.fixture
def trick(connect):
    """Says what the attacker's models do from now on; the test over, nothing."""
    connection = connect("attacker")

    def choose(statement):
        connection.execute("DELETE FROM evil.trick")
        if statement is not None:
            connection.execute("INSERT INTO evil.trick VALUES (%s)", [statement])

    yield choose
    choose(None)
