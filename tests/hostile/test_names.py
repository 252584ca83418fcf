"""A name is nobody's prey: neither the schema's, nor a model's that somebody else had first or had before."""

import psycopg
import pytest
import tiny
from session import refused

FEW = "SELECT * FROM (VALUES (1, {0}), (1, {0} + 1), (2, {0}), (2, {0} + 2)) AS t(user_id, item_id)"


@pytest.fixture
def models(connect):
    """Trains as a role: `models('attacker', 'name', 100)`; what was made goes with the test."""
    made = set()

    def train(user, name, first=100):
        made.add(name)
        return connect(user).execute("SELECT reco.train(%s, %s, 'popularity')", [name, FEW.format(first)])

    yield train
    admin = connect("root_victim")
    for name in made:
        if admin.execute("SELECT 1 FROM reco.models WHERE name = %s", [name]).fetchone():
            admin.execute("SELECT reco.drop_model(%s)", [name])


def test_an_extension_is_not_put_into_anothers_schema(stage):
    stage.create_database("squatted")
    with stage.connect(dbname="squatted") as admin:
        admin.execute("GRANT CREATE ON DATABASE squatted TO attacker")
        with stage.connect(dbname="squatted", user="attacker") as evil:
            evil.execute("CREATE SCHEMA reco")
        with pytest.raises(psycopg.Error) as error:
            admin.execute("CREATE EXTENSION pg_reco")
        assert "reco" in str(error.value) and not error.value.sqlstate.startswith("XX")
        assert admin.execute("SELECT FROM pg_extension WHERE extname = 'pg_reco'").fetchone() is None
        # A schema of the superuser's own will do, and one that is not there.
        admin.execute("DROP SCHEMA reco")
        admin.execute("CREATE EXTENSION pg_reco")


def test_nobody_but_its_owner_puts_anything_into_the_schema(stage, connect):
    for user in ("attacker", "plain_victim"):
        refused(connect(user), "CREATE FUNCTION reco.recommend(text, integer) RETURNS integer LANGUAGE sql AS 'SELECT 1'", "42501")
        refused(connect(user), "CREATE OPERATOR reco.= (LEFTARG = reco.role, RIGHTARG = reco.role, FUNCTION = int4eq)", "42501", "42883")


@pytest.mark.parametrize("victim_role", ["root_victim", "plain_victim"])
def test_a_version_of_a_model_is_its_owners_to_add(models, connect, victim_role):
    """Otherwise whoever has the name first owns, promotes and exports what others train."""
    models("attacker", "wanted")
    refused(connect(victim_role), f"SELECT reco.train('wanted', {FEW.format(500)!r}, 'popularity')", "42501", "42710")
    refused(connect(victim_role), f"SELECT reco.train_synthesizer('wanted', {FEW.format(500)!r})", "42501", "42710", "42809")
    with pytest.raises(psycopg.Error):
        connect(victim_role).execute("SELECT reco.import_model('wanted', %b)", [tiny.linear_model()])
    assert connect("attacker").execute("SELECT version, task FROM reco.models WHERE name = 'wanted'").fetchall() == [(1, "recommendation")]
    # As a member that acts as the owner, it can be done.
    admin = connect("root_victim")
    admin.execute("SET ROLE attacker")
    assert models("attacker", "wanted", 300).fetchone() == (2,)
    assert admin.execute(f"SELECT reco.train('wanted', {FEW.format(400)!r}, 'popularity')").fetchone() == (3,)


def test_a_view_serves_the_model_it_was_made_for_or_none(models, connect):
    """The owner drops the model; somebody else takes the name."""
    models("attacker", "serving", 100)
    evil, admin = connect("attacker"), connect("root_victim")
    evil.execute("SELECT reco.grant_model('serving', 'public')")
    evil.execute("SELECT reco.create_view('serving', 'evil.serving', 3), reco.create_function('serving', 'evil.serve', 3)")
    assert evil.execute("SELECT count(*) FROM evil.serving WHERE item_id >= 100").fetchone()[0] > 0
    evil.execute("SELECT reco.drop_model('serving')")
    models("plain_victim", "serving", 900)
    admin.execute("SELECT reco.grant_model('serving', 'public')")
    try:
        for query in ("SELECT item_id FROM evil.serving", "SELECT item_id FROM evil.serve(1)"):
            for reader in (evil, admin, connect("root_victim")):
                try:
                    rows = reader.execute(query).fetchall()
                except psycopg.Error as error:
                    assert not error.sqlstate.startswith("XX"), f"{error.sqlstate} {error}"
                    rows = []
                assert [item for (item,) in rows if item >= 900] == []
    finally:
        evil.execute("DROP VIEW evil.serving; DROP FUNCTION evil.serve")


def test_a_grant_of_a_model_that_is_gone_is_not_one_of_its_namesake(models, connect):
    models("attacker", "granted", 100)
    connect("attacker").execute("SELECT reco.grant_model('granted', 'public')")
    connect("attacker").execute("SELECT reco.drop_model('granted')")
    models("root_victim", "granted", 900)
    refused(connect("attacker"), "SELECT * FROM reco.recommend('granted', 1)", "42501")
    refused(connect("plain_victim"), "SELECT reco.export_model('granted')", "42501")


@pytest.mark.parametrize(
    "call",
    [
        "SELECT reco.promote_model('kept', 1)",
        "SELECT reco.drop_model('kept')",
        "SELECT reco.drop_model('kept', 1)",
        "SELECT reco.grant_model('kept', 'attacker')",
        "SELECT reco.revoke_model('kept', 'plain_victim')",
        "SELECT reco.export_model('kept')",
        "SELECT reco.refresh('kept')",
        "SELECT * FROM reco.recommend('kept', 1)",
        "SELECT * FROM reco.model_users('kept')",
        "SELECT * FROM reco.describe_model('kept')",
        "SELECT * FROM reco.interaction_importance('kept')",
        "SELECT * FROM reco.evaluate('kept', 'SELECT 1 AS user_id, 2 AS item_id')",
        "SELECT reco.create_view('kept', 'evil.kept')",
        "SELECT reco.create_function('kept', 'evil.kept')",
        "SELECT reco.warm('kept')",
        "DELETE FROM reco.model",
        "UPDATE reco.model SET owner = 'attacker'",
        "INSERT INTO reco.model_grant VALUES ('kept', 'attacker')",
        "SELECT * FROM reco.model_part",
    ],
)
def test_a_model_that_was_not_granted_is_closed(models, connect, call):
    models("plain_victim", "kept")
    refused(connect("attacker"), call, "42501")


def test_a_model_that_was_handed_over_is_read_in_its_new_owners_name_at_once(stage, connect, bystander):
    """A session that has the model loaded neither goes on as the old owner nor takes the old owner's conditions."""
    admin, evil, reader = connect("root_victim"), connect("attacker"), connect("plain_victim")
    admin.execute("DROP TABLE IF EXISTS made.handed; CREATE TABLE made.handed AS SELECT u AS user_id, i AS item_id FROM generate_series(1, 6) u, generate_series(1, 6) i WHERE (u + i) % 2 = 0")
    admin.execute("GRANT SELECT ON made.handed TO attacker")
    condition = "SELECT count(*) FROM reco.recommend('handed', 1, 9, filter => 'item_id > 0')"
    evil.execute("SELECT reco.train('handed', 'TABLE made.handed', 'popularity', items => 'SELECT DISTINCT item_id FROM made.handed')")
    evil.execute("SELECT reco.grant_model('handed', 'public')")
    notices = []
    reader.add_notice_handler(lambda notice: notices.append(notice.message_primary))
    try:
        for connection in (reader, evil):
            assert connection.execute("SELECT count(*) FROM reco.recommend('handed', 1, 9)").fetchone() == (3,)
        assert evil.execute(condition).fetchone() == (3,) and notices == []
        admin.execute("UPDATE reco.model SET owner = 'plain_victim' WHERE name = 'handed'")
        # Who owns it now may not read the table, and who owned it before is a caller like others.
        assert reader.execute("SELECT count(*) FROM reco.recommend('handed', 1, 9)").fetchone() == (3,)
        assert len(notices) == 1 and "permission denied for table handed" in notices[0]
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="must be owner of model"):
            evil.execute(condition)
    finally:
        admin.execute("SELECT reco.drop_model('handed'); DROP TABLE made.handed")
    assert bystander.crashes() == []
