"""What every test against the server starts from.

`make test` starts the private cluster and names it in the environment: PG_RECO_DSN is a connection string, PG_RECO_TEMPLATE a
database with the extension and the three models in it. Each run of the tests works in a fresh copy of that.
"""

import psycopg
import pytest
from environment import from_environment
from psycopg import sql as identifiers

TEST_DATABASE = "pg_reco_test"


@pytest.fixture(scope="session")
def server():
    """The connection string of the private cluster, without a database of its own choosing."""
    return from_environment("PG_RECO_DSN")


@pytest.fixture(scope="session")
def database(server):
    """The name of a database made for this run: the extension, the models, no rows."""
    name = identifiers.Identifier(TEST_DATABASE)
    template = identifiers.Identifier(from_environment("PG_RECO_TEMPLATE"))
    with psycopg.connect(server, dbname="postgres", autocommit=True) as connection:
        connection.execute(identifiers.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
        connection.execute(identifiers.SQL("CREATE DATABASE {} TEMPLATE {}").format(name, template))
    return TEST_DATABASE


@pytest.fixture
def connect(server, database):
    """A factory of connections to the test database, closed when the test ends: `connect(user='analyst')`."""
    opened = []

    def open_connection(**settings):
        connection = psycopg.connect(server, **{"dbname": database, "autocommit": True, **settings})
        opened.append(connection)
        return connection

    yield open_connection
    for connection in opened:
        connection.close()


@pytest.fixture
def db(connect):
    """One connection as superuser, each statement its own transaction."""
    return connect()


@pytest.fixture
def rows(db):
    """Runs a query and returns its rows: `rows('SELECT %s::int', 1) == [(1,)]`."""

    def run(query, *parameters):
        return db.execute(query, parameters or None).fetchall()

    return run


@pytest.fixture
def scalar(rows):
    """Runs a query of one row and one column and returns that value."""

    def run(query, *parameters):
        ((value,),) = rows(query, *parameters)
        return value

    return run


@pytest.fixture
def role(db, connect):
    """A factory of connections as a fresh login role that owns nothing; the role goes with the test.

    `role('analyst', 'reco_trainer')` makes it a member of another.
    """
    created = []

    def connect_as(name, *member_of, **settings):
        identifier = identifiers.Identifier(name)
        # Roles belong to the whole cluster: one may be left from a run that was killed.
        db.execute(identifiers.SQL("DROP ROLE IF EXISTS {}").format(identifier))
        db.execute(identifiers.SQL("CREATE ROLE {} LOGIN").format(identifier))
        created.append(identifier)
        for group in member_of:
            db.execute(identifiers.SQL("GRANT {} TO {}").format(identifiers.Identifier(group), identifier))
        return connect(user=name, **settings)

    yield connect_as
    for identifier in created:
        # Objects first: a role that owns or may use something cannot be dropped.
        db.execute(identifiers.SQL("DROP OWNED BY {} CASCADE").format(identifier))
        db.execute(identifiers.SQL("DROP ROLE {}").format(identifier))
