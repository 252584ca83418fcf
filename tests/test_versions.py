"""How many versions of a model stay, and that others can work on it while a new one is made."""

import threading
import time
from pathlib import Path

import pytest
from psycopg import errors

VERSIONS = "SELECT array_agg(version ORDER BY version) FROM reco.models WHERE name = %s"


@pytest.fixture(scope="module", autouse=True)
def bought(database, server):
    import psycopg

    with psycopg.connect(server, dbname=database, autocommit=True) as connection:
        connection.execute(
            """CREATE TABLE bought AS SELECT u AS user_id, (u * 7 + i * i) % 30 AS item_id
                 FROM generate_series(1, 40) u, generate_series(1, 6) i;
               CREATE TABLE pause (seconds float8);
               INSERT INTO pause VALUES (0);
               CREATE FUNCTION slowly() RETURNS SETOF bought LANGUAGE plpgsql STABLE AS
                   'BEGIN PERFORM pg_sleep((SELECT seconds FROM pause)); RETURN QUERY SELECT * FROM bought; END'"""
        )
        yield
        connection.execute("DROP FUNCTION slowly; DROP TABLE pause, bought")


@pytest.fixture
def kept(db):
    """The name of a model that goes with the test."""
    yield "kept"
    db.execute("SELECT reco.drop_model('kept') WHERE EXISTS (SELECT FROM reco.models WHERE name = 'kept')")


def train(scalar, arguments=""):
    return scalar(f"SELECT reco.train('kept', 'TABLE bought', 'popularity'{arguments})")


def test_a_training_keeps_as_many_versions_as_it_is_told(scalar, kept):
    for _ in range(3):
        train(scalar, ", keep => 0")
    assert scalar(VERSIONS, kept) == [1, 2, 3]
    assert train(scalar, ", keep => 2") == 4
    assert scalar(VERSIONS, kept) == [3, 4]
    assert scalar("SELECT reco.refresh('kept', keep => 1)") == 5
    assert scalar(VERSIONS, kept) == [5]
    assert scalar("SELECT count(*) FROM reco.model_part WHERE name = 'kept'") == scalar(
        "SELECT count(*) FROM reco.model_part WHERE name = 'kept' AND version = 5"
    )


def test_a_synthesizer_keeps_as_many_versions_as_it_is_told(scalar, kept):
    for number in range(1, 4):
        assert scalar("SELECT reco.train_synthesizer('kept', 'TABLE bought', 'independent', keep => 2)") == number
    assert scalar(VERSIONS, kept) == [2, 3]


def test_the_version_in_use_stays_and_so_does_the_new_one(db, scalar, kept):
    train(scalar)
    for number in range(2, 5):
        assert train(scalar, ", promote => 'never', keep => 1") == number
        assert scalar(VERSIONS, kept) == [1, number]
    assert scalar("SELECT version FROM reco.models WHERE name = 'kept' AND in_use") == 1


def test_the_setting_says_how_many_stay_where_the_call_does_not(db, scalar, kept):
    assert scalar("SHOW reco.keep_versions") == "10"
    for _ in range(11):
        train(scalar)
    assert scalar(VERSIONS, kept) == list(range(2, 12))
    db.execute("SET reco.keep_versions = 3")
    train(scalar)
    assert scalar(VERSIONS, kept) == [10, 11, 12]
    db.execute("SET reco.keep_versions = 0")
    train(scalar)
    assert scalar(VERSIONS, kept) == [10, 11, 12, 13]


@pytest.mark.parametrize(
    "call",
    [
        "reco.train('kept', 'TABLE bought', 'popularity', keep => -1)",
        "reco.train_synthesizer('kept', 'TABLE bought', keep => -1)",
        "reco.refresh('kept', keep => -1)",
        "reco.prune_versions('kept', 0)",
        "reco.prune_versions('kept', -1)",
        "reco.prune_versions('kept', NULL)",
        "reco.prune_versions(NULL, 1)",
    ],
)
def test_a_number_of_versions_that_cannot_be_is_refused(db, call):
    with pytest.raises(errors.InvalidParameterValue, match='invalid value for keep: |"(keep|name)" must not be null') as error:
        db.execute(f"SELECT {call}")
    assert error.value.diag.message_hint


def test_pruning_gives_the_versions_that_went(db, rows, scalar, kept):
    for _ in range(5):
        train(scalar)
    db.execute("SELECT reco.promote_model('kept', 2)")
    assert rows("SELECT reco.prune_versions('kept', 2)") == [(1,), (3,)]
    assert scalar(VERSIONS, kept) == [2, 4, 5]
    assert rows("SELECT reco.prune_versions('kept', 2)") == []
    with pytest.raises(errors.UndefinedObject, match="no such model"):
        db.execute("SELECT reco.prune_versions('no such model', 2)")


def test_only_the_owner_prunes(db, role, scalar, kept):
    train(scalar), train(scalar)
    db.execute("SELECT reco.grant_model('kept', 'public')")
    with pytest.raises(errors.InsufficientPrivilege, match="must be owner of model"):
        role("stranger").execute("SELECT reco.prune_versions('kept', 1)")
    assert scalar(VERSIONS, kept) == [1, 2]


def test_the_files_of_a_pruned_version_go_with_the_commit(db, scalar, kept):
    cache = Path(scalar("SELECT current_setting('data_directory')")) / "pg_reco"
    train(scalar)
    db.execute("SELECT count(*) FROM reco.recommend('kept', 1)")
    folder = scalar("SELECT folder FROM reco.cache WHERE model = 'kept'")
    db.execute("INSERT INTO bought VALUES (41, 1)")
    db.execute("BEGIN")
    train(scalar, ", keep => 1")
    db.execute("ROLLBACK")
    assert scalar(VERSIONS, kept) == [1] and (cache / folder).exists()
    train(scalar, ", keep => 1")
    assert scalar(VERSIONS, kept) == [2] and not (cache / folder).exists()
    # The same files again: the folder is that of the version that stays.
    db.execute("SELECT count(*) FROM reco.recommend('kept', 1)")
    db.execute("DELETE FROM bought WHERE user_id = 41")


# ---------------------------------------------------------------------------------------------------- others meanwhile


@pytest.fixture
def slow_refresh(db, connect, scalar, kept):
    """Begins a refresh that reads its source for two seconds; what it gives, or its error, comes with `join`."""
    db.execute("UPDATE pause SET seconds = 0")
    scalar("SELECT reco.train('kept', 'SELECT * FROM slowly()', 'popularity')")
    scalar("SELECT reco.train('kept', 'SELECT * FROM slowly()', 'popularity')")
    db.execute("UPDATE pause SET seconds = 2")
    refreshing, outcome = connect(), []

    def refresh():
        try:
            outcome.append(refreshing.execute("SELECT reco.refresh('kept')").fetchone()[0])
        except Exception as error:  # noqa: BLE001 - the test looks at it
            outcome.append(error)

    thread = threading.Thread(target=refresh)
    thread.start()
    sleeping = "SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = %s"
    deadline = time.monotonic() + 20
    while not scalar(sleeping, refreshing.info.backend_pid):
        assert time.monotonic() < deadline and not outcome, outcome
        time.sleep(0.01)
    # What would have to wait for it fails.
    db.execute("UPDATE pause SET seconds = 0; SET lock_timeout = '500ms'")

    def join():
        thread.join()
        return outcome[0]

    yield join
    thread.join()


def test_a_model_is_granted_revoked_and_promoted_while_it_is_refreshed(db, scalar, slow_refresh, kept):
    began = time.monotonic()
    db.execute("SELECT reco.grant_model('kept', 'public')")
    db.execute("SELECT reco.revoke_model('kept', 'public')")
    db.execute("SELECT reco.promote_model('kept', 1)")
    db.execute("SELECT reco.drop_model('kept', 2)")
    assert time.monotonic() - began < 1
    # The version that it began from is gone; the model is not.
    assert slow_refresh() == 2
    assert scalar(VERSIONS, kept) == [1, 2]


def test_a_model_that_is_dropped_while_it_is_refreshed_stays_dropped(db, scalar, slow_refresh, kept):
    db.execute("SELECT reco.drop_model('kept')")
    error = slow_refresh()
    assert isinstance(error, errors.UndefinedObject) and '"kept" was dropped' in str(error) and error.diag.message_hint
    assert scalar("SELECT count(*) FROM reco.models WHERE name = 'kept'") == 0


def test_a_model_made_anew_while_the_old_one_is_refreshed_gets_no_version_of_it(db, scalar, slow_refresh, kept):
    db.execute("SELECT reco.drop_model('kept')")
    train(scalar)
    assert isinstance(slow_refresh(), errors.UndefinedObject)
    assert scalar(VERSIONS, kept) == [1]


def test_an_owner_who_loses_a_model_while_refreshing_it_stores_nothing(db, connect, role, scalar, kept):
    """The right is asked for again when the version is stored."""
    role("first_owner", "reco_trainer").execute("SELECT 1")
    db.execute("GRANT SELECT ON bought, pause TO first_owner; UPDATE pause SET seconds = 0")
    owner = connect(user="first_owner")
    owner.execute("SELECT reco.train('kept', 'SELECT * FROM slowly()', 'popularity')")
    db.execute("UPDATE pause SET seconds = 2")
    outcome = []

    def refresh():
        try:
            outcome.append(owner.execute("SELECT reco.refresh('kept')").fetchone())
        except Exception as error:  # noqa: BLE001 - the test looks at it
            outcome.append(error)

    thread = threading.Thread(target=refresh)
    thread.start()
    while not scalar("SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = %s", owner.info.backend_pid):
        assert not outcome, outcome
        time.sleep(0.01)
    db.execute("UPDATE reco.model SET owner = (SELECT oid FROM pg_roles WHERE rolname = 'postgres') WHERE name = 'kept'")
    thread.join()
    assert isinstance(outcome[0], errors.InsufficientPrivilege) and "must be owner of model" in str(outcome[0])
    assert scalar(VERSIONS, kept) == [1]
