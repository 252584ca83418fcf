"""Pairs made for sparse users and cold items: whose they are, what they weigh, what is refused, under whose rights they are drawn."""

import json
import time

import psycopg
import pytest
from psycopg import errors

# Users and items of two colours, two pairs in five of one colour; users from 61 on have four pairs at most.
SOURCE = "SELECT user_id, item_id, weight FROM tiles"
TRAINING = {"factors": 4, "hidden": 32, "epochs": 200, "batch_size": 32, "learning_rate": 0.01}
OPTIONS = {"mult_vae": {"training": TRAINING}, "model": {}, "neighbors": {}}


@pytest.fixture(scope="module")
def tiles(server, database):
    with psycopg.connect(server, dbname=database, autocommit=True) as db:
        db.execute(
            """CREATE TABLE tiles AS
               SELECT user_id, item_id, weight
                 FROM (SELECT u AS user_id, 'i' || i AS item_id, (1 + i % 3)::real AS weight,
                              row_number() OVER (PARTITION BY u ORDER BY hashint8(u * 104729 + i)) AS place
                         FROM generate_series(1, 80) u, generate_series(1, 60) i
                        WHERE (u + i) % 2 = 0 AND abs(hashint8(u * 7919 + i)) % 100 < 40) AS pair
                WHERE user_id <= 60 OR place <= 4"""
        )
        db.execute("SELECT reco.train('tiler', 'TABLE tiles', 'item_knn')")
        yield
        db.execute("SELECT reco.drop_model('tiler')")
        db.execute("DROP TABLE tiles")


pytestmark = pytest.mark.usefixtures("tiles")


@pytest.fixture
def made(rows):
    def made(method, n=100, seed=0, **options):
        return rows(
            "SELECT * FROM reco.augment_interactions(%s, %s, %s, %s, %s, %s)",
            SOURCE,
            n,
            method,
            "tiler" if method == "model" else None,
            json.dumps(OPTIONS[method] | options),
            seed,
        )

    return made


@pytest.mark.parametrize("method", OPTIONS)
def test_new_pairs_are_likely_and_weigh_less_than_any_real_one(made, rows, method):
    pairs = made(method)
    assert 80 <= len(pairs) <= 100
    assert len({pair[:2] for pair in pairs}) == len(pairs)
    real = rows("SELECT user_id::text, item_id, weight FROM tiles")
    assert not {pair[:2] for pair in pairs} & {pair[:2] for pair in real}
    least = {}
    for user, _, weight in real:
        least[user] = min(weight, least.get(user, weight))
    assert all(0 < weight < least[user] for user, _, weight in pairs)
    fitting = [pair for pair in pairs if (int(pair[0]) + int(pair[1][1:])) % 2 == 0]
    # By chance half would: the lists of users with one to four pairs are mostly noise.
    assert len(fitting) > 0.6 * len(pairs)


@pytest.mark.parametrize("method", OPTIONS)
def test_they_are_for_users_who_have_few(made, rows, method):
    counts = dict(rows("SELECT user_id::text, count(*) FROM tiles GROUP BY 1"))
    pairs = made(method, 40, items=0, max_history=6)
    assert pairs
    for user, _, _ in pairs:
        counts[user] += 1
    assert all(counts[user] <= 6 for user, _, _ in pairs)


@pytest.mark.parametrize("method", OPTIONS)
def test_the_seed_and_not_the_threads_decide(db, made, method):
    def with_threads(threads, seed):
        db.execute(f"SET reco.threads = {threads}")
        return made(method, seed=seed)

    assert with_threads(1, 5) == with_threads(2, 5) == with_threads(3, 5) != with_threads(2, 6)


def test_the_model_s_own_scores_are_followed(db, made):
    by_items = made("model")
    db.execute("SELECT reco.train('popular', 'TABLE tiles', 'popularity')")
    try:
        arguments = [SOURCE, json.dumps({})]
        by_popularity = db.execute("SELECT * FROM reco.augment_interactions(%s, 100, 'model', 'popular', %s)", arguments).fetchall()
        assert by_popularity != by_items
    finally:
        db.execute("SELECT reco.drop_model('popular')")


@pytest.mark.parametrize("method", OPTIONS)
def test_fewer_come_where_no_more_fit_and_none_where_none_are_wanted(made, scalar, method):
    pairs = made(method, 1_000_000)
    assert 0 < len(pairs) < scalar("SELECT count(*) FROM tiles")
    assert made(method, 0) == []


@pytest.mark.parametrize("method", ["mult_vae", "neighbors"])
def test_one_row_leaves_nothing_to_make(rows, method):
    assert rows("SELECT * FROM reco.augment_interactions('SELECT 7 AS user_id, 9 AS item_id', 5, %s)", method) == []


def test_a_recommender_is_trained_on_both(db):
    db.execute(
        """CREATE TABLE more AS TABLE tiles;
           INSERT INTO more SELECT user_id::int, item_id, weight FROM reco.augment_interactions('TABLE tiles', 100, 'neighbors')"""
    )
    try:
        assert db.execute("SELECT reco.train('both', 'TABLE more', 'ials', '{\"factors\": 4}')").fetchone() == (1,)
        db.execute("SELECT reco.drop_model('both')")
    finally:
        db.execute("DROP TABLE more")


BAD = [
    ("NULL, 5", errors.InvalidParameterValue, 'argument "source" must not be null'),
    ("'TABLE tiles', NULL", errors.InvalidParameterValue, 'argument "n" must not be null'),
    ("'TABLE tiles', -1", errors.InvalidParameterValue, "invalid value for n: -1"),
    ("'TABLE tiles', 5, 'magic'", errors.InvalidParameterValue, 'unknown method "magic"'),
    ("'TABLE tiles', 5, NULL", errors.InvalidParameterValue, 'argument "method" must not be null'),
    ("'TABLE tiles', 5, seed => NULL", errors.InvalidParameterValue, 'argument "seed" must not be null'),
    ("'TABLE tiles', 5, 'model'", errors.InvalidParameterValue, 'method "model" requires the argument "model"'),
    ("'TABLE tiles', 5, 'model', 'm'", errors.UndefinedObject, 'model "m" does not exist'),
    ("'TABLE tiles', 5, 'neighbors', 'tiler'", errors.InvalidParameterValue, 'cannot use model "tiler" with method "neighbors"'),
    ("'TABLE tiles', 5, options => '[]'", errors.InvalidParameterValue, "options must be a JSON object, not []"),
    ("'TABLE tiles', 5, options => '{\"wait\": 1}'", errors.InvalidParameterValue, 'unknown option "wait" of mult_vae'),
    ("'TABLE tiles', 5, options => '{\"weight\": 1}'", errors.InvalidParameterValue, 'invalid value for option "weight": 1'),
    ("'TABLE tiles', 5, options => '{\"temperature\": 0}'", errors.InvalidParameterValue, 'invalid value for option "temperature": 0'),
    ("'TABLE tiles', 5, options => '{\"training\": {\"facters\": 1}}'", errors.InvalidParameterValue, 'unknown option "facters" of mult_vae'),
    ("'TABLE tiles', 5, 'neighbors', options => '{\"training\": {}}'", errors.InvalidParameterValue, 'unknown option "training" of neighbors'),
    ("'TABLE tiles LIMIT 0', 5", errors.InvalidParameterValue, "the source has no rows"),
    ("'SELECT 1 AS user_id', 5", errors.UndefinedColumn, 'the source has no column "item_id"'),
    ("'DELETE FROM tiles RETURNING *', 5", errors.DatabaseError, None),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "error", "message"), BAD)
def test_what_cannot_be_made_is_refused_by_name(db, arguments, error, message):
    with pytest.raises(error) as raised:
        db.execute(f"SELECT * FROM reco.augment_interactions({arguments})")
    assert message is None or raised.value.diag.message_primary == message
    assert raised.value.diag.message_hint


def test_source_and_model_are_used_under_the_caller_s_rights(db, role):
    passerby = role("passerby", "reco_trainer")
    with pytest.raises(errors.InsufficientPrivilege, match="permission denied for table tiles"):
        passerby.execute("SELECT * FROM reco.augment_interactions('SELECT * FROM public.tiles', 5, 'neighbors')")
    db.execute("GRANT SELECT ON tiles TO passerby")
    call = "SELECT count(*) FROM reco.augment_interactions('SELECT * FROM public.tiles', 20, %s, %s)"
    assert passerby.execute(call, ["neighbors", None]).fetchone() == (20,)
    with pytest.raises(errors.InsufficientPrivilege, match='permission denied for model "tiler"'):
        passerby.execute(call, ["model", "tiler"])
    db.execute("SELECT reco.grant_model('tiler', 'passerby')")
    try:
        assert passerby.execute(call, ["model", "tiler"]).fetchone() == (20,)
    finally:
        db.execute("SELECT reco.revoke_model('tiler', 'passerby')")
        db.execute("REVOKE SELECT ON tiles FROM passerby")


def test_a_read_only_transaction_may_ask(db, made):
    with db.transaction():
        db.execute("SET TRANSACTION READ ONLY")
        assert made("model", 10)


def test_a_timeout_acts_in_the_middle(db):
    db.execute(
        """CREATE TEMP TABLE wide AS SELECT u AS user_id, (u * 7919 + i * i) % 20011 AS item_id
             FROM generate_series(1, 20000) u, generate_series(1, 40) i"""
    )
    for seconds in (2.5, 4):
        db.execute(f"SET statement_timeout = '{int(seconds * 1000)}ms'")
        start = time.monotonic()
        with pytest.raises(errors.QueryCanceled, match="statement timeout"):
            db.execute("SELECT count(*) FROM reco.augment_interactions('TABLE wide', 1000)")
        assert time.monotonic() - start < seconds + 5
        db.execute("RESET statement_timeout")
    assert db.execute("SELECT 1").fetchone() == (1,)
