"""Evaluation on the server against the definitions, which are themselves held to ranx and scikit-learn."""

import json
import math
import time
from pathlib import Path

import numpy
import psycopg
import pytest
from psycopg import errors

ALGORITHMS = {"popularity": "{}", "item_knn": "{}", "ials": '{"factors": 6, "iterations": 5}'}
K = 5
TEST = "TABLE held_out"
GOLDEN = json.loads(Path(__file__).with_name("evaluation_golden.json").read_text())
OF_RELEVANCE = ["precision", "recall", "f1", "ndcg", "map", "hit_rate", "mrr", "accuracy", "auc"]
OF_LISTS = ["diversity", "novelty", "popularity_bias", "coverage", "gini"]


@pytest.fixture(scope="module")
def shop(server, database):
    """Two kinds of users and of items, some of both rare, split into what is trained on and what is held out."""
    with psycopg.connect(server, dbname=database, autocommit=True) as db:
        db.execute(
            """CREATE TABLE visit AS
               SELECT u::bigint AS user_id, i AS item_id, 1 + (u + i) % 3 AS weight, hashint8(u * 1000 + i) % 4 = 0 AS is_test
                 FROM generate_series(1, 90) u, generate_series(1, 60) i
                WHERE abs(hashint8(i * 7919 + u)) % 100 < CASE WHEN (u + i) % 2 = 0 THEN 60 ELSE 8 END * (1 + u % 5) * (61 - i) / 120
               UNION ALL
               SELECT u, 61 + u % 30, 1, u > 60 FROM generate_series(1, 90) u WHERE u % 2 = 0;
               CREATE TABLE trained AS SELECT user_id, item_id, weight FROM visit WHERE NOT is_test AND user_id <= 84;
               CREATE TABLE held_out AS SELECT user_id, item_id FROM visit WHERE is_test"""
        )
        for algorithm, options in ALGORITHMS.items():
            db.execute("SELECT reco.train(%s, 'TABLE trained', %s, %s::jsonb)", [f"by_{algorithm}", algorithm, options])
        yield
        for algorithm in ALGORITHMS:
            db.execute("SELECT reco.drop_model(%s)", [f"by_{algorithm}"])
        db.execute("DROP TABLE visit, trained, held_out")


pytestmark = pytest.mark.usefixtures("shop")


@pytest.fixture
def evaluate(rows):
    """{segment: {metric: value}} of a call of reco.evaluate; arguments by name."""

    def run(model, test=TEST, k=K, **arguments):
        given = "".join(f", {name} => %s" for name in arguments)
        found = {}
        query = f"SELECT segment, metric, value FROM reco.evaluate(%s, %s, %s{given})"
        for segment, metric, value in rows(query, model, test, k, *arguments.values()):
            assert metric not in found.setdefault(segment, {})
            found[segment][metric] = value
        return found

    return run


# ------------------------------------------------------------------------------------------------------ the definitions


def judged(ranked, relevant, k, candidates):
    """The metrics of one user's list, of `ranked` cut at k."""
    ranked, relevant = list(ranked)[:k], set(relevant)
    hits = [item in relevant for item in ranked]
    right, best = sum(hits), min(k, len(relevant))
    precision, recall = right / k, right / len(relevant)
    gain = [1 / math.log2(place + 2) for place in range(k)]
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if right else 0,
        "ndcg": sum(g for g, hit in zip(gain, hits) if hit) / sum(gain[:best]),
        "map": sum(sum(hits[: p + 1]) / (p + 1) for p, hit in enumerate(hits) if hit) / best,
        "hit_rate": float(right > 0),
        "mrr": next((1 / (p + 1) for p, hit in enumerate(hits) if hit), 0),
        "accuracy": 1 - (len(ranked) - right + len(relevant) - right) / candidates,
    }


def auc(positive, negative):
    """The share of pairs in the right order; ties half."""
    p, n = numpy.asarray(positive, float)[:, None], numpy.asarray(negative, float)[None, :]
    return float(((p > n) + (p == n) / 2).mean())


@pytest.mark.parametrize("k", GOLDEN["values"])
def test_these_definitions_are_those_of_ranx_and_scikit_learn(k):
    for n, user in enumerate(GOLDEN["users"]):
        scores, relevant = numpy.array(user["scores"]), user["relevant"]
        got = judged(user["ranked"], relevant, int(k), len(scores))
        got["auc"] = auc(scores[relevant], numpy.delete(scores, relevant))
        assert got.keys() == GOLDEN["values"][k].keys()
        for metric, of_users in GOLDEN["values"][k].items():
            assert got[metric] == pytest.approx(of_users[n], abs=1e-12), metric


class Known:
    """What a model was trained on and asked about, and its order of all items for each user."""

    def __init__(self, rows, model):
        self.taken, self.relevant, self.audience = {}, {}, {}
        for user, item in rows("SELECT user_id, item_id FROM trained"):
            self.taken.setdefault(user, set()).add(item)
            self.audience.setdefault(item, set()).add(user)
        for user, item in rows("SELECT user_id, item_id FROM held_out"):
            if user in self.taken and item in self.audience:
                self.relevant.setdefault(user, set()).add(item)
        self.ranked, self.scores = {}, {}
        query = """SELECT user_id, item_id, score, reason FROM (SELECT DISTINCT user_id FROM trained) u,
                   reco.recommend(%s, user_id, 1000, history => 'trained') ORDER BY user_id, rank"""
        for user, item, score, reason in rows(query, model):
            self.ranked.setdefault(user, []).append(int(item))
            # What is filled in by popularity stands behind whatever has a score.
            self.scores.setdefault(user, {})[int(item)] = score - 1e6 * (reason == "popularity")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_metrics_of_full_ranking_are_their_definitions(rows, evaluate, algorithm):
    known = Known(rows, f"by_{algorithm}")
    got = evaluate(f"by_{algorithm}")
    assert list(got) == ["all"]
    assert list(got["all"])[:14] == OF_RELEVANCE + OF_LISTS
    users, items = len(known.taken), len(known.audience)
    found = {metric: [] for metric in [*OF_RELEVANCE, "diversity", "novelty"]}
    listed, taken, exposure = [], [], dict.fromkeys(known.audience, 0)
    for user, relevant in known.relevant.items():
        ranked, scores = known.ranked[user], known.scores[user]
        assert len(ranked) == items - len(known.taken[user])
        values = judged(ranked, relevant, K, len(ranked))
        values["auc"] = auc([scores[i] for i in relevant], [s for i, s in scores.items() if i not in relevant])
        values["novelty"] = numpy.mean([-math.log2(len(known.audience[i]) / users) for i in ranked[:K]])
        cosines = [
            len(known.audience[a] & known.audience[b]) / math.sqrt(len(known.audience[a]) * len(known.audience[b]))
            for n, a in enumerate(ranked[:K])
            for b in ranked[n + 1 : K]
        ]
        values["diversity"] = 1 - numpy.mean(cosines)
        for metric, value in values.items():
            found[metric].append(value)
        listed.append(numpy.mean([len(known.audience[i]) for i in ranked[:K]]))
        taken.append(numpy.mean([len(known.audience[i]) for i in known.taken[user]]))
        for item in ranked[:K]:
            exposure[item] += 1
    for metric, values in found.items():
        assert got["all"][metric] == pytest.approx(numpy.mean(values), abs=1e-6), metric
    assert got["all"]["popularity_bias"] == pytest.approx(numpy.mean(listed) / numpy.mean(taken) - 1)
    assert got["all"]["coverage"] == pytest.approx(sum(n > 0 for n in exposure.values()) / items)
    shares = numpy.sort(numpy.array(list(exposure.values())))
    gini = ((2 * numpy.arange(1, items + 1) - items - 1) * shares).sum() / (items * shares.sum())
    assert got["all"]["gini"] == pytest.approx(gini)
    assert got["all"]["users"] == len(known.relevant)
    asked = dict(rows("SELECT metric, value FROM reco.evaluate(%s, %s) WHERE metric LIKE 'rows%%'", f"by_{algorithm}", TEST))
    total, strangers = rows("SELECT count(*), count(*) FILTER (WHERE user_id NOT IN (SELECT user_id FROM trained)) FROM held_out")[0]
    assert asked["rows"] == total and asked["rows_of_unknown_users"] == strangers > 0
    assert got["all"]["auc"] > 0.6 or algorithm == "ials"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_given_candidates_are_ranked_among_themselves(db, rows, evaluate, algorithm):
    """The protocol of the NCF paper: each user's held-out items among that user's negatives."""
    known = Known(rows, f"by_{algorithm}")
    db.execute(
        """CREATE TEMP TABLE candidate AS
           SELECT user_id, item_id FROM (SELECT DISTINCT user_id FROM held_out WHERE user_id <> 7) u, generate_series(1, 70) item_id
            WHERE abs(hashint8(user_id * 31 + item_id)) % 5 = 0"""
    )
    got = evaluate(f"by_{algorithm}", negatives="TABLE candidate")["all"]
    assert not set(got) & set(OF_LISTS)
    negatives = {}
    for user, item in rows("SELECT user_id, item_id FROM candidate"):
        negatives.setdefault(user, set()).add(item)
    found = {metric: [] for metric in OF_RELEVANCE}
    for user, relevant in known.relevant.items():
        others = (negatives.get(user, set()) & set(known.ranked[user])) - relevant
        if not others:
            assert user == 7
            continue
        values = judged([i for i in known.ranked[user] if i in others | relevant], relevant, K, len(others | relevant))
        scores = known.scores[user]
        values["auc"] = auc([scores[i] for i in relevant], [scores[i] for i in others])
        for metric, value in values.items():
            found[metric].append(value)
    for metric, values in found.items():
        assert got[metric] == pytest.approx(numpy.mean(values), abs=1e-6), metric
    assert got["users"] == len(found["auc"]) and got["users_without_negatives"] == 1
    query = "SELECT count(*) FROM candidate WHERE user_id = ANY(%s) AND item_id NOT IN (SELECT item_id FROM trained)"
    ((unknown,),) = rows(query, list(known.relevant))
    assert got["negatives_of_unknown_items"] == unknown > 0 and got["negatives_seen_in_training"] > 0


def test_sampled_candidates_follow_the_seed_and_all_of_them_are_full_ranking(evaluate):
    first, again = (evaluate("by_item_knn", sampled_negatives=10, seed=1)["all"] for _ in range(2))
    other = evaluate("by_item_knn", sampled_negatives=10, seed=2)["all"]
    assert first == again != other
    full = evaluate("by_item_knn")["all"]
    # Fewer rivals: more hits. The AUC is about pairs, of which some are drawn.
    assert first["hit_rate"] > full["hit_rate"] and first["auc"] == pytest.approx(full["auc"], abs=0.1)
    everything = evaluate("by_item_knn", sampled_negatives=100000)["all"]
    assert everything["users_with_fewer_negatives"] == full["users"]
    for metric in OF_RELEVANCE:
        assert everything[metric] == pytest.approx(full[metric]), metric


def test_segments_are_what_the_same_users_alone_give(db, rows, evaluate):
    got = evaluate("by_item_knn", segments=["users", "items"])
    assert list(got) == ["all", *(f"{of} {n}" for of in ("users", "items") for n in ("0", "1-3", "4-10", "11+"))]
    # That users are asked about who are no part of it changes nothing but the count of those that are not.
    assert got["all"] | {"rows_of_unknown_users": 0} == evaluate("by_item_knn")["all"] | {"rows_of_unknown_users": 0}
    bounds = {"1-3": (1, 3), "4-10": (4, 10), "11+": (11, 1000)}
    asked = 0
    for name, (low, high) in bounds.items():
        group = f"""SELECT h.* FROM held_out h
                     WHERE (SELECT count(*) FROM trained t WHERE t.user_id = h.user_id) BETWEEN {low} AND {high}"""
        expected = evaluate("by_item_knn", group)["all"]
        segment = got[f"users {name}"]
        for metric in OF_RELEVANCE + OF_LISTS + ["users"]:
            assert segment[metric] == pytest.approx(expected[metric]), (name, metric)
        asked += segment["users"]
        rare = f"""SELECT h.* FROM held_out h
                    WHERE (SELECT count(*) FROM trained t WHERE t.item_id = h.item_id) BETWEEN {low} AND {high}"""
        expected = evaluate("by_item_knn", rare)["all"]
        segment = got[f"items {name}"]
        # The other relevant items are wrong there and are left out of it here: accuracy and AUC differ.
        for metric in ["precision", "recall", "f1", "ndcg", "map", "hit_rate", "mrr", "users"]:
            assert segment[metric] == pytest.approx(expected[metric]), (name, metric)
        assert not set(segment) & set(OF_LISTS)
    assert asked == got["all"]["users"]
    # Users that the model does not know are a segment, and no part of all: they get what is popular.
    popular = [int(i) for (i,) in rows("SELECT item_id FROM reco.recommend('by_item_knn', 9999, %s) ORDER BY rank", K)]
    hits, strangers = [], {}
    query = "SELECT * FROM held_out WHERE user_id NOT IN (SELECT user_id FROM trained) AND item_id IN (SELECT item_id FROM trained)"
    for user, item in rows(query):
        strangers.setdefault(user, set()).add(item)
    hits = [bool(relevant & set(popular)) for relevant in strangers.values()]
    assert got["users 0"]["users"] == len(strangers) and got["users 0"]["hit_rate"] == pytest.approx(numpy.mean(hits))
    assert got["users 0"]["popularity_bias"] is None and got["items 0"]["ndcg"] is None and got["items 0"]["users"] == 0


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_new_users_are_evaluated_by_the_history_that_is_given(db, rows, evaluate, algorithm):
    db.execute(
        """CREATE TEMP TABLE early AS
           SELECT user_id, item_id, weight FROM visit v WHERE user_id > 84 AND NOT is_test
              AND (SELECT count(*) FROM visit w WHERE w.user_id = v.user_id AND NOT w.is_test AND w.item_id < v.item_id) < 3"""
    )
    got = evaluate(f"by_{algorithm}", history="TABLE early", segments=["users"])
    values = []
    for user, items, weights in rows("SELECT user_id, array_agg(item_id::text), array_agg(weight::real) FROM early GROUP BY user_id"):
        relevant = {i for (i,) in rows("SELECT item_id FROM held_out WHERE user_id = %s AND item_id IN (SELECT item_id FROM trained)", user)}
        query = "SELECT item_id FROM reco.recommend_for_items(%s, %s::text[], %s::real[], %s::int) ORDER BY rank"
        ranked = [int(i) for (i,) in rows(query, f"by_{algorithm}", items, weights, K)]
        if relevant:
            values.append(judged(ranked, relevant, K, 60)["ndcg"])
    assert got["users 1-3"]["users"] >= len(values) > 1
    only = evaluate(f"by_{algorithm}", "SELECT * FROM held_out WHERE user_id > 84", history="TABLE early")["all"]
    assert only["users"] == len(values) and only["ndcg"] == pytest.approx(numpy.mean(values))
    assert only["rows_of_unknown_users"] < evaluate(f"by_{algorithm}", "SELECT * FROM held_out WHERE user_id > 84", segments=["users"])["all"]["rows"]


def mix(x):
    """SplitMix64's finaliser, of which all chance here is made."""
    mask = (1 << 64) - 1
    z = (x + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ z >> 27) * 0x94D049BB133111EB) & mask
    return z ^ z >> 31


def draws(resamples, users, seed):
    """Which users each resample has."""
    starts = [mix((mix(seed) + b) % 2**64) for b in range(resamples)]
    return numpy.array([[mix((start + j) % 2**64) * users >> 64 for j in range(users)] for start in starts])


def hits(rows, model):
    """Whether each user's list has a hit, users in the order of their ids."""
    known = Known(rows, model)
    users = sorted(known.relevant, key=str)
    return numpy.array([float(bool(set(known.ranked[user][:K]) & known.relevant[user])) for user in users])


def test_intervals_are_quantiles_of_resampled_users(rows):
    found = rows(
        "SELECT value, low, high FROM reco.evaluate('by_item_knn', %s, %s, metrics => '{hit_rate}', bootstrap => 200, confidence => 0.9, seed => 5) LIMIT 1",
        TEST, K,
    )  # fmt: skip
    of_users = hits(rows, "by_item_knn")
    means = of_users[draws(200, len(of_users), 5)].mean(axis=1)
    assert found[0] == pytest.approx((of_users.mean(), *numpy.quantile(means, [0.05, 0.95])))


def p_value(differences):
    """The paired t-test's, by adding up the density of Student's distribution outside ±t."""
    n = len(differences)
    t = abs(differences.mean()) / (differences.std(ddof=1) / math.sqrt(n))
    x = numpy.linspace(0, t, 200001)
    log = math.lgamma(n / 2) - math.lgamma((n - 1) / 2) - 0.5 * math.log((n - 1) * math.pi)
    density = numpy.exp(log - n / 2 * numpy.log1p(x * x / (n - 1)))
    return 1 - 2 * numpy.trapezoid(density, x)


def test_two_models_are_compared_user_by_user(rows, evaluate):
    query = "SELECT metric, a, b, difference, low, high, p_value FROM reco.compare_models('by_item_knn', 'by_popularity', %s, %s, bootstrap => 100, seed => 3)"
    got = {metric: rest for metric, *rest in rows(query, TEST, K)}
    a, b = evaluate("by_item_knn")["all"], evaluate("by_popularity")["all"]
    for metric in OF_RELEVANCE + OF_LISTS + ["users", "rows"]:
        assert got[metric][:2] == [pytest.approx(a[metric]), pytest.approx(b[metric])], metric
    knn, popular = hits(rows, "by_item_knn"), hits(rows, "by_popularity")
    chosen = draws(100, len(knn), 3)
    differences = knn[chosen].mean(axis=1) - popular[chosen].mean(axis=1)
    expected = [(knn - popular).mean(), *numpy.quantile(differences, [0.025, 0.975]), p_value(knn - popular)]
    assert got["hit_rate"][2:] == pytest.approx(expected, abs=1e-9)
    assert got["coverage"][3:] == got["gini"][3:] == [None] * 3
    assert got["popularity_bias"][3] is not None and got["popularity_bias"][5] is None
    itself = rows("SELECT difference, p_value FROM reco.compare_models('by_ials', 'by_ials', %s, metrics => '{ndcg,auc}') LIMIT 2", TEST)
    assert itself == [(0, 1), (0, 1)]


def test_compared_models_are_asked_the_same_although_they_know_different_items(db, rows):
    db.execute("SELECT reco.train('fewer', 'SELECT * FROM trained WHERE item_id % 4 <> 0 AND user_id <> 3', 'item_knn')")
    common = "SELECT * FROM held_out WHERE item_id % 4 <> 0 AND user_id <> 3"
    for arguments in ["", ", sampled_negatives => 20", ", segments => '{users,items}'"]:
        whole = rows(f"SELECT metric, a, b FROM reco.compare_models('by_item_knn', 'fewer', %s, 5{arguments}) WHERE metric NOT LIKE 'rows%%'", TEST)
        part = rows(f"SELECT metric, a, b FROM reco.compare_models('by_item_knn', 'fewer', %s, 5{arguments}) WHERE metric NOT LIKE 'rows%%'", common)
        assert whole == part
        swapped = rows(f"SELECT metric, b, a FROM reco.compare_models('fewer', 'by_item_knn', %s, 5{arguments}) WHERE metric NOT LIKE 'rows%%'", TEST)
        if "segments" not in arguments:
            assert swapped == whole
    db.execute("SELECT reco.drop_model('fewer')")


def test_cross_validation_holds_everything_out_once_and_stores_nothing(db, rows):
    query = "SELECT fold, metric, value FROM reco.cross_validate(%s, %s, %s::jsonb, folds => 4, k => 5, seed => 9)"
    before = rows("SELECT name, version FROM reco.models")
    for algorithm, options in ALGORITHMS.items():
        got = rows(query, "TABLE trained", algorithm, options)
        assert [fold for fold, _, _ in got] == [1] * 14 + [2] * 14 + [3] * 14 + [4] * 14 + [None] * 14
        for metric in OF_RELEVANCE + OF_LISTS:
            values = [v for f, m, v in got if m == metric and f]
            assert [v for f, m, v in got if m == metric and not f] == [pytest.approx(numpy.mean(values))]
        shuffled = rows(query, "SELECT * FROM trained ORDER BY random()", algorithm, options)
        assert shuffled == got
    assert rows("SELECT name, version FROM reco.models") == before
    one = rows("SELECT metric, value FROM reco.cross_validate('TABLE trained', 'ials', metrics => '{ndcg}', folds => 2) WHERE fold IS NULL")
    assert [metric for metric, _ in one] == ["ndcg"] and 0 < one[0][1] < 1


def test_old_calls_give_what_they_gave(rows):
    got = rows("SELECT metric, value FROM reco.evaluate('by_ials', %s, 5, true)", TEST)
    assert got == rows("SELECT metric, value FROM reco.evaluate('by_ials', %s, k => 5)", TEST)
    joined = rows(
        "SELECT metric, a.value, b.value FROM reco.evaluate('by_ials', %s) a JOIN reco.evaluate('by_popularity', %s) b USING (metric)", TEST, TEST
    )
    assert len(joined) == len(got)
    threads = rows("SELECT set_config('reco.threads', '1', false)") and rows("SELECT metric, value FROM reco.evaluate('by_ials', %s, 5)", TEST)
    assert threads == got


@pytest.mark.parametrize(
    "arguments, state, said, hint",
    [
        ("'by_ials', 'TABLE held_out', 0", "22023", "invalid value for k: 0", "1 or more"),
        ("'by_ials', NULL", "22023", 'argument "test" must not be null', "Pass a value"),
        ("NULL, 'TABLE held_out'", "22023", 'argument "model" must not be null', "Pass a value"),
        ("'none', 'TABLE held_out'", "42704", "does not exist", "reco.models"),
        ("'by_ials', 'SELECT * FROM held_out WHERE false'", "22023", "no rows", "at least one row"),
        ("'by_ials', 'SELECT user_id FROM held_out'", "42703", "no column \"item_id\"", "AS item_id"),
        ("'by_ials', 'SELECT 99999 AS user_id, item_id FROM held_out'", "22023", "no pair to find", "trained on"),
        ("'by_ials', 'TABLE held_out', metrics => '{ndgc}'", "22023", 'unknown metric "ndgc"', "ndcg"),
        ("'by_ials', 'TABLE held_out', metrics => '{ndcg,NULL}'", "22023", 'argument "metrics" must not contain nulls', "NULL"),
        ("'by_ials', 'TABLE held_out', segments => '{weekdays}'", "22023", 'unknown kind of segment "weekdays"', "users, items"),
        ("'by_ials', 'TABLE held_out', sampled_negatives => 0", "22023", "invalid value for sampled_negatives: 0", "1 or more"),
        ("'by_ials', 'TABLE held_out', sampled_negatives => 5, negatives => 'TABLE held_out'", "22023", 'both "negatives" and "sampled_negatives"', "either"),
        ("'by_ials', 'TABLE held_out', sampled_negatives => 5, metrics => '{coverage}'", "22023", 'metric "coverage" is not defined for lists of candidates', "negatives"),
        ("'by_ials', 'TABLE held_out', negatives => 'SELECT 99999 AS user_id, 1 AS item_id'", "22023", "the negatives query has no candidate", "did not take"),
        ("'by_ials', 'TABLE held_out', bootstrap => -1", "22023", "invalid value for bootstrap: -1", "resamples"),
        ("'by_ials', 'TABLE held_out', bootstrap => 10, confidence => 95", "22023", "invalid value for confidence: 95", "0.95"),
        ("'by_ials', 'TABLE held_out', history => 'SELECT user_id, item_id, ''NaN''::real AS weight FROM held_out'", "22023", "NaN", "finite"),
        ("'by_ials', 'DELETE FROM held_out RETURNING *'", "22023", "must be a read-only query", "SELECT"),
    ],
)
def test_what_cannot_be_evaluated_is_said(rows, arguments, state, said, hint):
    for function in (f"reco.evaluate({arguments})", f"reco.compare_models('by_popularity', {arguments})"):
        if "NULL, " in arguments and "compare" in function:
            said = 'argument "model_b" must not be null'
        with pytest.raises(psycopg.Error, match=said) as error:
            rows(f"SELECT * FROM {function}")
        assert error.value.sqlstate == state and hint in error.value.diag.message_hint


def test_what_cannot_be_cross_validated_is_said(rows):
    for arguments, said in [
        ("'TABLE trained', folds => 1", "invalid value for folds: 1"),
        ("'TABLE trained', folds => -3", "invalid value for folds"),
        ("'TABLE trained', folds => 1000000", "invalid value for folds: 1000000"),
        ("'TABLE trained', 'magic'", "unknown algorithm"),
        ("'TABLE trained', k => 0", "invalid value for k: 0"),
        ("'TABLE trained', metrics => '{x}'", "unknown metric"),
        ("'TABLE trained', options => '{\"facters\": 3}'", "unknown option"),
        ("'SELECT * FROM trained WHERE false'", "no rows"),
        ("'SELECT i AS user_id, i AS item_id FROM generate_series(1, 9) i'", "no pair to find"),
        ("NULL", 'argument "source" must not be null'),
    ]:
        with pytest.raises(errors.InvalidParameterValue, match=said):
            rows(f"SELECT * FROM reco.cross_validate({arguments})")


@pytest.mark.parametrize(
    "work",
    [
        "reco.evaluate('wide', '{WIDE}', 1000, false, bootstrap => 100000)",
        "reco.evaluate('wide', '{WIDE}', 10, false, '{auc}')",
        "reco.compare_models('wide', 'wide', '{WIDE}', 10, false, '{ndcg}', sampled_negatives => 2000, bootstrap => 100000)",
        "reco.cross_validate('{WIDE}', 'ials', '{\"factors\": 64, \"iterations\": 1000}')",
    ],
)
def test_evaluation_can_be_cancelled(db, rows, work):
    wide = "SELECT u AS user_id, (u * 7919 + i * i) % 20011 AS item_id FROM generate_series(1, 20000) u, generate_series(1, 20) i"
    if rows("SELECT count(*) FROM reco.models WHERE name = 'wide'") == [(0,)]:
        db.execute("SELECT reco.train('wide', %s, 'ials', '{\"factors\": 128, \"iterations\": 1}')", [wide])
    try:
        for after in (0.4, 1.5):
            db.execute(f"SET statement_timeout = '{int(after * 1000)}ms'")
            start = time.monotonic()
            with pytest.raises(errors.QueryCanceled):
                db.execute(f"SELECT count(*) FROM {work}".replace("{WIDE}", wide))
            assert time.monotonic() - start < after + 1
    finally:
        db.execute("RESET statement_timeout; SELECT reco.drop_model('wide')")
