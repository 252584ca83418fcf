"""Scores of interactions on the server: both forms, what they find, what they refuse, under whose rights they read."""

import time

import psycopg
import pytest
from psycopg import errors

METHODS = ["auto", "mean_loss", "grad_norm", "leave_self_out"]
# Users and items of two colours: two pairs in five of one colour, and one in twenty-five of two.
SOURCE = "SELECT user_id, item_id FROM fields"
HELD_OUT = "TABLE other_fields"


@pytest.fixture(scope="module")
def fields(server, database):
    with psycopg.connect(server, dbname=database, autocommit=True) as db:
        db.execute(
            """CREATE TABLE fields AS
               SELECT u AS user_id, 'i' || i AS item_id FROM generate_series(1, 80) u, generate_series(1, 60) i
                WHERE abs(hashint8(u * 7919 + i)) % 100 < CASE WHEN (u + i) % 2 = 0 THEN 40 ELSE 4 END;
               CREATE TABLE other_fields AS
               SELECT u AS user_id, 'i' || i AS item_id FROM generate_series(1, 80) u, generate_series(1, 60) i
                WHERE (u + i) % 2 = 0 EXCEPT TABLE fields"""
        )
        yield
        db.execute("DROP TABLE fields, other_fields")


pytestmark = pytest.mark.usefixtures("fields")


def found(rows):
    """The chance that a pair of two colours has a lower score than one of one colour."""
    strange = [score for user, item, score in rows if (int(user) + int(item[1:])) % 2]
    others = [score for user, item, score in rows if not (int(user) + int(item[1:])) % 2]
    assert strange and others
    return sum((a < b) + (a == b) / 2 for a in strange for b in others) / len(strange) / len(others)


@pytest.mark.parametrize("method", METHODS)
def test_random_pairs_have_low_scores(rows, scalar, method):
    scores = rows("SELECT * FROM reco.interaction_importance(source => %s, method => %s)", SOURCE, method)
    assert len(scores) == scalar("SELECT count(*) FROM fields")
    assert found(scores) > 0.95


def test_shapley_values_find_them_towards_held_out_pairs(rows):
    query = "SELECT * FROM reco.interaction_importance(source => %s, method => 'knn_shapley', validation => %s)"
    assert found(rows(query, SOURCE, HELD_OUT)) > 0.9


def test_a_model_s_interactions_are_those_of_its_source_as_it_is_now(db, rows):
    db.execute("CREATE TABLE grows AS TABLE fields")
    db.execute("SELECT reco.train('grown', 'TABLE grows', 'item_knn')")
    db.execute("INSERT INTO grows VALUES (1, 'i1000')")
    try:
        of_model = rows("SELECT * FROM reco.interaction_importance('grown', method => 'leave_self_out')")
        of_source = rows("SELECT * FROM reco.interaction_importance(source => 'TABLE grows', method => 'leave_self_out')")
        assert of_model == of_source
        # Nobody else chose it: no support.
        assert ("1", "i1000", 0.0) in of_model
    finally:
        db.execute("SELECT reco.drop_model('grown')")
        db.execute("DROP TABLE grows")


def test_any_number_of_threads_gives_the_same_scores(db, rows):
    def with_threads(threads, method):
        db.execute(f"SET reco.threads = {threads}")
        query = "SELECT * FROM reco.interaction_importance(source => %s, method => %s, validation => %s)"
        return rows(query, SOURCE, method, HELD_OUT if method == "knn_shapley" else None)

    for method in ["auto", "knn_shapley"]:
        assert with_threads(1, method) == with_threads(2, method) == with_threads(3, method)


def test_pairs_count_once_and_what_was_turned_down_has_no_score(rows):
    source = """SELECT * FROM (VALUES (1, 10, 2), (1, 10, 5), (1, 11, 1), (2, 10, 1), (2, 11, -3), (2, 12, 0), (3, 11, 1), (3, 11, -1))
                  AS v(user_id, item_id, weight)"""
    scores = rows("SELECT * FROM reco.interaction_importance(source => %s)", source)
    assert [(user, item) for user, item, _ in scores] == [("1", "10"), ("1", "11"), ("2", "10")]


@pytest.mark.parametrize("method", METHODS)
def test_one_row_has_a_score(rows, method):
    ((user, item, score),) = rows(
        "SELECT * FROM reco.interaction_importance(source => 'SELECT 7 AS user_id, 9 AS item_id', method => %s)", method
    )
    assert (user, item) == ("7", "9") and abs(score) < 1e3


BAD = [
    ("method => 'loss', source => 'TABLE fields'", errors.InvalidParameterValue, 'unknown method "loss"'),
    ("method => NULL, source => 'TABLE fields'", errors.InvalidParameterValue, 'argument "method" must not be null'),
    ("method => 'auto'", errors.InvalidParameterValue, 'either "model" or "source" must be specified'),
    ("'m', source => 'TABLE fields'", errors.InvalidParameterValue, 'cannot specify both "model" and "source"'),
    ("'m'", errors.UndefinedObject, 'model "m" does not exist'),
    ("source => 'TABLE fields LIMIT 0'", errors.InvalidParameterValue, "the source has no rows"),
    ("source => 'SELECT 1 AS user_id'", errors.UndefinedColumn, 'the source has no column "item_id"'),
    (
        "source => $$SELECT 1 AS user_id, 2 AS item_id, 'NaN'::float8 AS weight$$",
        errors.InvalidParameterValue,
        'invalid weight for user "1" and item "2": NaN',
    ),
    (
        "source => 'SELECT 1 AS user_id, 2 AS item_id, -1 AS weight'",
        errors.InvalidParameterValue,
        "the source has no rows with a weight above 0",
    ),
    ("source => 'TABLE fields', method => 'knn_shapley'", errors.InvalidParameterValue, 'method "knn_shapley" requires the argument "validation"'),
    ("source => 'TABLE fields', validation => 'TABLE fields'", errors.InvalidParameterValue, 'cannot specify "validation" for method "auto"'),
    (
        "source => 'TABLE fields', method => 'knn_shapley', validation => 'TABLE fields'",
        errors.InvalidParameterValue,
        "the validation query has no pair to judge by",
    ),
    (
        "source => 'TABLE fields', method => 'knn_shapley', validation => 'SELECT -1 AS user_id, -1 AS item_id'",
        errors.InvalidParameterValue,
        "the validation query has no pair to judge by",
    ),
    (
        "source => 'TABLE fields', options => '{\"epocs\": 3}'",
        errors.InvalidParameterValue,
        'unknown option "epocs" of auto',
    ),
    (
        "source => 'TABLE fields', options => '{\"runs\": 0}'",
        errors.InvalidParameterValue,
        'invalid value for option "runs": 0',
    ),
    ("source => 'DELETE FROM fields RETURNING *'", errors.DatabaseError, None),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "error", "message"), BAD)
def test_what_cannot_be_scored_is_refused_by_name(db, arguments, error, message):
    with pytest.raises(error) as raised:
        db.execute(f"SELECT * FROM reco.interaction_importance({arguments})")
    assert message is None or raised.value.diag.message_primary == message
    assert raised.value.diag.message_hint


def test_only_its_owner_has_a_model_s_source_read(db, role):
    gardener, passerby = role("gardener", "reco_trainer"), role("passerby", "reco_trainer")
    db.execute("GRANT SELECT ON fields TO gardener")
    call = "SELECT count(*) FROM reco.interaction_importance('garden', method => 'leave_self_out')"
    gardener.execute("SELECT reco.train('garden', 'SELECT * FROM public.fields', 'item_knn')")
    try:
        expected = gardener.execute("SELECT count(*) FROM public.fields").fetchone()
        assert gardener.execute(call).fetchone() == expected
        with pytest.raises(errors.InsufficientPrivilege, match='permission denied for model "garden"'):
            passerby.execute(call)
        gardener.execute("SELECT reco.grant_model('garden', 'passerby', 'read')")
        with pytest.raises(errors.InsufficientPrivilege, match='must be owner of model "garden"'):
            passerby.execute(call)
        with pytest.raises(errors.InsufficientPrivilege, match="permission denied for table fields"):
            passerby.execute("SELECT * FROM reco.interaction_importance(source => 'SELECT * FROM public.fields')")
        # A superuser may; the source is read with the owner's rights all the same.
        assert db.execute(call).fetchone() == expected
        db.execute("REVOKE SELECT ON fields FROM gardener")
        with pytest.raises(errors.InsufficientPrivilege, match="permission denied for table fields"):
            db.execute(call)
    finally:
        db.execute("SELECT reco.drop_model('garden')")


def test_a_read_only_transaction_may_ask(db, rows):
    db.execute("SELECT reco.train('read', 'TABLE fields', 'item_knn')")
    try:
        with db.transaction():
            db.execute("SET TRANSACTION READ ONLY")
            assert rows("SELECT * FROM reco.interaction_importance('read', method => 'leave_self_out')")
    finally:
        db.execute("SELECT reco.drop_model('read')")


def test_a_timeout_acts_in_the_middle(db):
    db.execute(
        """CREATE TEMP TABLE wide AS SELECT u AS user_id, (u * 7919 + i * i) % 20011 AS item_id
             FROM generate_series(1, 20000) u, generate_series(1, 40) i"""
    )
    for seconds in (2.5, 4):
        db.execute(f"SET statement_timeout = '{int(seconds * 1000)}ms'")
        start = time.monotonic()
        with pytest.raises(errors.QueryCanceled, match="statement timeout"):
            db.execute("SELECT count(*) FROM reco.interaction_importance(source => 'TABLE wide', options => '{\"runs\": 1000}')")
        assert time.monotonic() - start < seconds + 5
        db.execute("RESET statement_timeout")
    assert db.execute("SELECT 1").fetchone() == (1,)
