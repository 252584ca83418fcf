"""A model whose source cannot be read serves what it was trained on, says so each time the same way, and reads again when it can."""

import psycopg
import pytest

# What is done to the source, and what takes it back.
BREAKAGES = {
    "revoked": ("REVOKE ALL ON made.visit FROM attacker", "GRANT SELECT ON made.visit TO attacker"),
    "renamed": ("ALTER TABLE made.visit RENAME TO gone", "ALTER TABLE made.gone RENAME TO visit"),
    "without the user": ("ALTER TABLE made.visit RENAME user_id TO who", "ALTER TABLE made.visit RENAME who TO user_id"),
    "without the item": ("ALTER TABLE made.visit RENAME item_id TO what", "ALTER TABLE made.visit RENAME what TO item_id"),
    "item id of a type that is none": (
        "ALTER TABLE made.visit ALTER item_id TYPE bytea USING item_id::text::bytea",
        "ALTER TABLE made.visit ALTER item_id TYPE bigint USING encode(item_id, 'escape')::bigint",
    ),
    "function dropped": (
        "ALTER FUNCTION made.seen(bigint) RENAME TO unseen",
        "ALTER FUNCTION made.unseen(bigint) RENAME TO seen",
    ),
    "function forbidden": (
        "REVOKE ALL ON FUNCTION made.seen FROM PUBLIC, attacker",
        "GRANT EXECUTE ON FUNCTION made.seen TO PUBLIC",
    ),
    "schema forbidden": ("REVOKE USAGE ON SCHEMA made FROM PUBLIC, attacker", "GRANT ALL ON SCHEMA made TO PUBLIC"),
}


@pytest.fixture
def visits(connect):
    """A table of the superuser's that the attacker may read, and the attacker's model on it."""
    admin = connect("root_victim")
    admin.execute(
        """DROP TABLE IF EXISTS made.visit; DROP TABLE IF EXISTS made.gone; DROP FUNCTION IF EXISTS made.seen; DROP FUNCTION IF EXISTS made.unseen;
           CREATE FUNCTION made.seen(bigint) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN true; END';
           CREATE TABLE made.visit (user_id bigint, item_id bigint);
           INSERT INTO made.visit SELECT u, (u + i * i) % 12 FROM generate_series(1, 12) u, generate_series(1, 4) i;
           GRANT SELECT ON made.visit TO attacker"""
    )
    evil = connect("attacker")
    evil.execute("SELECT reco.train('visits', 'SELECT user_id, item_id FROM made.visit WHERE made.seen(item_id)', 'item_knn')")
    evil.execute("SELECT reco.grant_model('visits', 'public')")
    yield admin
    evil.execute("SELECT reco.drop_model('visits')")
    admin.execute("DROP TABLE made.visit; DROP FUNCTION made.seen")


class Reader:
    """A session that asks, and the notices that it is given."""

    def __init__(self, connection):
        self.connection, self.notices = connection, []
        connection.add_notice_handler(lambda notice: self.notices.append(notice.message_primary))

    def history(self):
        """The items that the model knows of user 1, and what it says on the side."""
        self.notices.clear()
        rows = self.connection.execute("SELECT item_id FROM reco.recommend('visits', 1, 20)").fetchall()
        return set(range(12)) - {int(item) for (item,) in rows}, [notice for notice in self.notices if "could not be read" in notice]


@pytest.mark.parametrize("warm", [True, False], ids=["after a plan was made", "at first sight"])
@pytest.mark.parametrize("breakage", BREAKAGES)
def test_what_was_learned_serves_until_the_source_is_back(visits, connect, bystander, breakage, warm):
    breaks, mends = BREAKAGES[breakage]
    trained = {2, 5, 10, 5}
    reader = Reader(connect("plain_victim"))
    visits.execute("INSERT INTO made.visit VALUES (1, 11)")
    if warm:
        assert reader.history() == (trained | {11}, [])
    visits.execute(breaks)
    try:
        for _ in range(3):
            seen, said = reader.history()
            assert seen == trained and len(said) == 1
    finally:
        visits.execute(mends)
    assert reader.history() == (trained | {11}, [])
    visits.execute("INSERT INTO made.visit VALUES (1, 7)")
    assert reader.history() == (trained | {11, 7}, [])
    assert bystander.crashes() == []


def test_an_error_in_the_data_is_an_error_each_time(visits, connect):
    reader = Reader(connect("plain_victim"))
    for kept in (False, True):
        fails = "BEGIN RETURN 1 / 0; END"
        visits.execute(f"CREATE OR REPLACE FUNCTION made.seen(bigint) RETURNS boolean LANGUAGE plpgsql AS '{fails}'")
        for _ in range(2):
            with pytest.raises(psycopg.errors.DivisionByZero):
                reader.history()
        visits.execute("CREATE OR REPLACE FUNCTION made.seen(bigint) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN true; END'")
        assert reader.history() == ({2, 5, 10}, []), kept


def test_within_a_transaction_it_is_said_once_and_tried_no_more_than_needed(visits, connect):
    reader = Reader(connect("plain_victim"))
    visits.execute("REVOKE ALL ON made.visit FROM attacker")
    with reader.connection.transaction():
        first, said = reader.history()
        again, _ = reader.history()
        assert first == again and len(said) == 1
    visits.execute("GRANT SELECT ON made.visit TO attacker")
    assert reader.history()[1] == []


@pytest.mark.parametrize("warm", [True, False], ids=["after a plan was made", "at first sight"])
@pytest.mark.parametrize(
    "type_, back",
    [
        ("text", "bigint USING user_id::bigint"),
        ("integer", "bigint"),
        ("numeric", "bigint"),
        ("uuid USING lpad(user_id::text, 32, '0')::uuid", "bigint USING translate(user_id::text, '-', '')::bigint"),
    ],
)
def test_a_user_id_of_another_type_is_no_error(visits, connect, bystander, type_, back, warm):
    """The list is the same each time, and right again when the type is."""
    reader = Reader(connect("plain_victim"))
    if warm:
        reader.history()
    visits.execute(f"ALTER TABLE made.visit ALTER user_id TYPE {type_}")
    assert reader.history() == reader.history()
    visits.execute(f"ALTER TABLE made.visit ALTER user_id TYPE {back}")
    visits.execute("INSERT INTO made.visit VALUES (1, 11)")
    assert reader.history() == ({2, 5, 10, 11}, [])
    assert bystander.crashes() == []


def test_what_the_owners_function_raises_is_raised_each_time_until_it_is_mended(visits, connect):
    reader = Reader(connect("plain_victim"))
    broken = "CREATE OR REPLACE FUNCTION made.seen(bigint) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN {0}; END'"
    visits.execute(broken.format("1 / 0"))
    said = []
    for _ in range(3):
        try:
            said.append(reader.history())
        except psycopg.Error as error:
            said.append(error.sqlstate)
    assert said[0] in ("22012", ({2, 5, 10}, said[0][1])) and said[1:] == said[:1] * 2
    visits.execute(broken.format("true"))
    assert reader.history() == ({2, 5, 10}, [])


SOURCES = [
    "TABLE made.visit; -- and no more",
    "TABLE made.visit ; ;",
    "TABLE made.visit -- all of it",
    "TABLE made.visit /* all of it */;",
    "SELECT user_id, item_id, item_id FROM made.visit",
    "SELECT user_id, user_id, item_id FROM made.visit",
    "SELECT user_id, item_id, 1 AS weight, 2 AS weight FROM made.visit",
    "SELECT user_id, item_id FROM made.visit FOR UPDATE",
    "(SELECT user_id, item_id FROM made.visit)",
    "SELECT user_id, item_id FROM made.visit) AS x, (SELECT 1",
    "SELECT $1::bigint AS user_id, item_id FROM made.visit",
    "SELECT user_id, item_id FROM made.visit WHERE item_id >= 0;;",
    "WITH v AS (TABLE made.visit) TABLE v",
    "VALUES (1, 2)",
    "SELECT user_id::text COLLATE evil.odd AS user_id, item_id FROM made.visit",
]


@pytest.mark.parametrize("source", SOURCES)
def test_what_training_takes_recommending_can_read(visits, connect, source):
    """A source that could never be read is refused when it is given."""
    reader = Reader(connect("root_victim"))
    try:
        reader.connection.execute("SELECT reco.train('sourced', %s, 'popularity')", [source])
    except psycopg.Error as error:
        assert error.sqlstate[:2] in ("22", "42", "0A"), f"{error.sqlstate} {error}"
        return
    try:
        user = "'1'::text" if "::text" in source else "1"
        assert reader.connection.execute(f"SELECT count(*) FROM reco.recommend('sourced', {user}, 3)").fetchone()[0] > 0
        assert reader.notices == []
    finally:
        reader.connection.execute("SELECT reco.drop_model('sourced')")
