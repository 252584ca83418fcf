"""Columns are read as the types that they have when they are read, and by what their own types bring: nobody's casts."""

import threading
import time

import psycopg
import pytest

# Column, and what its type becomes.
RETYPED = [
    ("item_id", "bigint"),
    ("item_id", "smallint"),
    ("item_id", "text"),
    ("item_id", "numeric"),
    ("item_id", "uuid USING lpad(item_id::text, 32, '0')::uuid"),
    ("item_id", "made.id"),
    ("item_id", "boolean USING item_id > 5"),
    ("user_id", "integer"),
    ("user_id", "text"),
    ("user_id", "uuid USING lpad(user_id::text, 32, '0')::uuid"),
    ("user_id", "timestamptz USING now()"),
    ("weight", "double precision"),
    ("weight", "numeric"),
    ("weight", "bigint"),
    ("weight", "smallint"),
    ("weight", "text"),
    ("ts", "date"),
    ("ts", "timestamp"),
    ("ts", "text"),
    ("event", "varchar(20)"),
    ("event", "char(20)"),
    ("event", "bigint USING 7"),
    ("event", "evil.colour USING 'red'"),
]
ASKED = [
    "SELECT * FROM reco.recommend('columns', 3, 5)",
    "SELECT * FROM reco.explain('columns', 3, 4)",
    "SELECT * FROM reco.recommend_all('columns', 2)",
]


@pytest.fixture
def columns(connect):
    """A model over a table of the superuser's own, made anew."""
    admin = connect("root_victim")
    admin.execute("DROP TABLE IF EXISTS made.columns; DROP DOMAIN IF EXISTS made.id; CREATE DOMAIN made.id AS bigint")
    admin.execute("CREATE TABLE made.columns (user_id bigint, item_id integer, weight real, ts timestamptz, event text)")
    admin.execute(
        """INSERT INTO made.columns SELECT u, (u * 7 + i * i * 3) % 20, 1 + (u + i) % 3, timestamptz '2026-01-01' + i * interval '1 day', 'buy'
             FROM generate_series(1, 24) u, generate_series(1, 6) i"""
    )
    admin.execute(
        """SELECT reco.train('columns', 'TABLE made.columns', 'ials', '{"factors": 2, "iterations": 2}',
                             event_weights => '{"buy": 2}', half_life => '30 days')"""
    )
    yield admin
    admin.execute("DROP TABLE IF EXISTS made.columns")
    admin.execute("SELECT reco.drop_model('columns')")


def asked(connection, statement):
    """What a statement gives: rows without the last digits, or the SQLSTATE of a refusal."""
    try:
        rows = connection.execute(statement).fetchall()
    except psycopg.Error as error:
        assert error.sqlstate and not error.sqlstate.startswith("XX"), f"{statement}: {error.sqlstate} {error}"
        return error.sqlstate
    return [tuple(round(value, 3) if isinstance(value, float) else value for value in row) for row in rows]


@pytest.mark.parametrize("column, type_", RETYPED)
def test_a_column_of_another_type_is_read_as_a_new_session_reads_it(columns, connect, bystander, column, type_):
    old = connect("root_victim")
    before = [asked(old, statement) for statement in ASKED]
    assert all(isinstance(rows, list) and rows for rows in before)
    columns.execute(f"ALTER TABLE made.columns ALTER {column} TYPE {type_}")
    found = [asked(old, statement) for statement in ASKED]
    again = [asked(old, statement) for statement in ASKED]
    fresh = connect("root_victim")
    expected = [asked(fresh, statement) for statement in ASKED]
    assert bystander.crashes() == []
    assert found == again == expected
    # Numbers of other sizes are the same numbers.
    if column in ("weight", "item_id") and type_ in ("double precision", "numeric", "bigint", "smallint", "text") and (column, type_) not in (
        ("item_id", "numeric"),
        ("weight", "text"),
    ):
        assert found == before


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE made.columns DROP COLUMN weight",
        "ALTER TABLE made.columns DROP COLUMN item_id",
        "ALTER TABLE made.columns ADD COLUMN first integer DEFAULT 1",
        "ALTER TABLE made.columns RENAME weight TO item",
        "ALTER TABLE made.columns RENAME TO columns_before; ALTER TABLE made.columns_before SET SCHEMA public; DROP TABLE public.columns_before",
        """DROP TABLE made.columns; CREATE TABLE made.columns (event text, weight bigint, item_id text, user_id bigint, ts date);
           INSERT INTO made.columns VALUES ('buy', 1, '4', 3, '2026-01-02')""",
        """DROP TABLE made.columns; CREATE VIEW made.columns AS SELECT 3::bigint AS user_id, 'x'::text AS item_id, 1::numeric AS weight,
                                                                       date '2026-01-01' AS ts, 'buy'::varchar AS event""",
        "TRUNCATE made.columns",
        "ALTER TABLE made.columns ALTER user_id TYPE integer, ALTER item_id TYPE text, ALTER weight TYPE numeric, ALTER ts TYPE date",
    ],
)
def test_another_table_is_read_as_a_new_session_reads_it(columns, connect, bystander, change):
    old = connect("root_victim")
    assert all(isinstance(asked(old, statement), list) for statement in ASKED)
    columns.execute(change)
    try:
        found = [asked(old, statement) for statement in ASKED]
        again = [asked(old, statement) for statement in ASKED]
        fresh = connect("root_victim")
        assert bystander.crashes() == []
        assert found == again == [asked(fresh, statement) for statement in ASKED]
    finally:
        columns.execute("DROP VIEW IF EXISTS made.columns" if "CREATE VIEW" in change else "SELECT 1")


def test_types_change_under_a_thousand_calls(columns, connect, bystander):
    """A second session retypes columns all the time: each call gives rows or a clear refusal."""
    until, failed = time.monotonic() + 3, []

    def retype():
        connection = connect("root_victim")
        connection.execute("SET lock_timeout = '1s'")
        turns = ["item_id TYPE bigint", "weight TYPE numeric", "item_id TYPE integer USING item_id::int", "weight TYPE float8", "weight TYPE real"]
        while time.monotonic() < until:
            for turn in turns:
                try:
                    connection.execute(f"ALTER TABLE made.columns ALTER {turn}")
                except psycopg.Error as error:
                    if error.sqlstate not in ("55P03", "40P01"):
                        failed.append(error)

    readers = [connect("root_victim") for _ in range(2)]

    def read(connection):
        statements = [*ASKED, "SELECT * FROM reco.split('TABLE made.columns')", "SELECT count(*) FROM reco.augment('TABLE made.columns', 'bootstrap', 5)"]
        while time.monotonic() < until:
            for statement in statements:
                try:
                    connection.execute(statement)
                except psycopg.Error as error:
                    if not error.sqlstate or error.sqlstate.startswith("XX"):
                        failed.append(f"{statement}: {error.sqlstate} {error}")
                        return

    threads = [threading.Thread(target=retype), *(threading.Thread(target=read, args=[reader]) for reader in readers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bystander.crashes() == []
    assert failed == []


# Every function that reads columns as it finds them, on every type that the attacker made.
READ = [
    "SELECT reco.train_synthesizer('made', {source})",
    "SELECT * FROM reco.augment({source}, 'bootstrap', 3)",
    "SELECT * FROM reco.augment({source}, 'smote_nc', 3, 'label')",
    "SELECT reco.synthetic_report({source}, {source})",
    "SELECT * FROM reco.alignment_weights({source}, {source})",
    "SELECT * FROM reco.importance({source}, 'loss', 'label')",
    "SELECT * FROM reco.find_label_errors({source}, 'label')",
    "SELECT * FROM reco.embed_query({source}, 'tiny')",
    "SELECT reco.train('made', {source}, 'popularity')",
]
HOSTILE = {
    "enum": "colour",
    "array of enums": "ARRAY[colour, 'green']",
    "array of arrays": "ARRAY[ARRAY[colour]]",
    "domain over number": "s.x",
    "array of domains": "ARRAY[s.x]",
    "array of domains over text": "words",
    "row": "s",
    "array of rows": "ARRAY[s]",
    "json of a row": "'{}'::json",
    "collated text": "s.label COLLATE evil.odd",
    "range": "int4range(s.y, s.y + 2)",
    "money": "s.y::money",
    "bits": "B'101'",
    "names": "ARRAY['a'::name]",
    "xml": "NULL::xml",
    "void": "pg_sleep(0)",
    "unknown": "NULL",
    "regclass": "'evil.sample'::regclass",
    "role": "'attacker'::reco.role",
    "record": "ROW(1, colour)",
}


@pytest.mark.parametrize("type_", HOSTILE)
def test_no_cast_or_check_of_anothers_type_runs(victim, type_):
    value = HOSTILE[type_]
    source = f"SELECT s.id, s.y, s.label, {value} AS text, {value} AS item_id, s.id AS user_id FROM evil.sample s JOIN evil.tagged USING (id)"
    quoted = "'" + source.replace("'", "''") + "'"
    for statement in READ:
        statement = statement.format(source=quoted)
        with victim.unchanged(statement):
            try:
                victim.run(statement)
            except psycopg.Error as error:
                assert error.sqlstate and not error.sqlstate.startswith("XX"), f"{statement}: {error.sqlstate} {error}"
    victim.run("SELECT reco.drop_model(name) FROM reco.models WHERE name = 'made' AND in_use")
