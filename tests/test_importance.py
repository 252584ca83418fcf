"""Importance of rows on the server: flipped labels are found, methods agree however they are asked, odd input is told by name."""

import json

import numpy
import psycopg
import pytest
import tiny
from onnx import TensorProto, helper
from psycopg import errors

# Those of networks on a small source: a hundred rows need no more.
METHODS = ["auto", "loss", "el2n", "grad_norm", "aum", "forgetting", "self_confidence", "tracin", "influence", "knn_shapley", "data_oob"]
NEED_VALIDATION = ["influence", "knn_shapley"]
CLEAN = "SELECT id, x, kind, ok, at, v, label FROM visit WHERE id > 600"
NOISY = "SELECT id, x, kind, ok, at, v, label FROM visit WHERE id <= 600"


@pytest.fixture(scope="module")
def visits(server, database):
    """A visit ends in a purchase or not by what is known of it; of the first 600, one in ten is labelled wrong."""
    with psycopg.connect(server, dbname=database, autocommit=True) as db:
        db.execute(
            """CREATE TABLE visit AS
               SELECT id, CASE WHEN id % 17 > 0 THEN x END AS x, kind, ok, at, v, price,
                      CASE WHEN truth <> (id % 10 = 3 AND id <= 600) THEN 'buys' ELSE 'leaves' END AS label,
                      id % 10 = 3 AND id <= 600 AS wrong,
                      CASE WHEN id % 10 = 3 AND id <= 600 THEN 20 - price ELSE price END AS paid
                 FROM (SELECT id, x, kind, ok, at, v, 8 * x + CASE kind WHEN '茶' THEN 6 ELSE 0 END AS price,
                              x + CASE kind WHEN '茶' THEN 1 ELSE 0 END + v[1] > 1.2 AS truth
                         FROM (SELECT id, (abs(hashint4(id)) % 1000) / 1000.0 AS x,
                                      (ARRAY['茶', 'coffee', 'cocoa'])[1 + abs(hashint4(id * 3)) % 3] AS kind,
                                      id % 2 = 0 AS ok, timestamp '2025-01-01' + id * interval '7 hours' AS at,
                                      ARRAY[(abs(hashint4(id * 5)) % 1000) / 1000.0, 1]::real[] AS v
                                 FROM generate_series(1, 900) id) raw) known"""
        )
        yield
        db.execute("DROP TABLE visit")


pytestmark = pytest.mark.usefixtures("visits")


@pytest.fixture
def importance(rows):
    """{id: score} of a call of reco.importance; arguments by name."""

    def run(source=NOISY, method="auto", **arguments):
        given = "".join(f", {name} => %s" for name in arguments)
        values = [json.dumps(value) if name == "options" else value for name, value in arguments.items()]
        found = rows(f"SELECT id, score, rank FROM reco.importance(%s, %s{given})", source, method, *values)
        scores = {int(id): score for id, score, _ in found}
        assert len(scores) == len(found)
        assert sorted(rank for *_, rank in found) == list(range(1, len(found) + 1))
        by_rank = [score for _, score, _ in sorted(found, key=lambda row: row[2])]
        assert by_rank == sorted(by_rank, reverse=True)
        return scores

    return run


def auc(scores, wrong):
    """How likely a wrong row scores below a right one."""
    bad = numpy.array([score for id, score in scores.items() if wrong(id)])
    good = numpy.array([score for id, score in scores.items() if not wrong(id)])
    return numpy.mean((bad[:, None] < good[None]) + 0.5 * (bad[:, None] == good[None]))


def is_wrong(id):
    return id % 10 == 3


@pytest.mark.parametrize("method", METHODS)
def test_every_method_puts_flipped_labels_last(importance, method):
    scores = importance(method=method, validation=CLEAN)
    assert len(scores) == 600
    assert auc(scores, is_wrong) > (0.7 if method in ("forgetting", "tracin") else 0.85)


@pytest.mark.parametrize("method", ["auto", "loss", "el2n", "grad_norm", "self_confidence", "tracin", "influence", "knn_shapley", "data_oob"])
def test_every_method_that_takes_numbers_puts_wrong_prices_last(importance, method):
    source = "SELECT id, x, kind, {} AS price FROM visit WHERE x IS NOT NULL AND id {} 600 AND abs(price - 10) > 3"
    scores = importance(source.format("paid", "<="), method, label="price", validation=source.format("price", ">"))
    assert auc(scores, is_wrong) > 0.8


@pytest.mark.parametrize("method", ["aum", "forgetting"])
def test_methods_of_classes_refuse_numbers(db, method):
    with pytest.raises(errors.FeatureNotSupported, match=method):
        db.execute("SELECT * FROM reco.importance('SELECT x, price AS label FROM visit', %s)", [method])


def test_several_methods_give_what_each_gives_alone(rows, importance):
    methods = ["aum", "knn_shapley", "el2n"]
    together = rows("SELECT method, id, score FROM reco.importance(%s, %s::text[], validation => %s, seed => 3)", NOISY, methods, CLEAN)
    for method in methods:
        alone = importance(method=method, validation=CLEAN, seed=3)
        assert {int(id): score for name, id, score in together if name == method} == alone


def test_the_same_seed_gives_the_same_scores_on_any_number_of_threads(db, importance):
    one = importance(method="auto", seed=5)
    db.execute("SET reco.threads = 1")
    assert importance(method="auto", seed=5) == one
    assert importance(method="auto", seed=6) != one


def test_rows_are_known_by_their_id_or_their_number(rows):
    query = "SELECT 'row ' || id AS visit, x, label FROM visit WHERE id <= 100"
    named = rows("SELECT id FROM reco.importance(%s, 'loss', id => 'visit')", query)
    assert sorted(named) == sorted((f"row {i}",) for i in range(1, 101))
    numbered = rows("SELECT id FROM reco.importance('SELECT x, label FROM visit WHERE id <= 100', 'loss')")
    assert sorted(int(id) for (id,) in numbered) == list(range(1, 101))


def test_an_identifier_among_the_columns_is_told_and_changes_nothing(connect, importance):
    connection, told = connect(), []
    connection.add_notice_handler(lambda notice: told.append(notice.message_primary))
    query = "SELECT id, {} x, label FROM visit WHERE id <= 300"
    plain = connection.execute("SELECT id, score FROM reco.importance(%s, 'el2n')", [query.format("")]).fetchall()
    assert not told
    more = connection.execute("SELECT id, score FROM reco.importance(%s, 'el2n')", [query.format("id AS number, md5(id::text) AS code,")])
    assert more.fetchall() == plain
    assert [("number" in text or "code" in text) and "identifier" in text for text in told] == [True, True]


def test_ten_thousand_categories_are_cut_and_told(connect):
    connection, told = connect(), []
    connection.add_notice_handler(lambda notice: told.append(notice.message_primary))
    query = "SELECT 'c' || least(i, 10000) AS category, i % 3 AS x, i % 2 AS label FROM generate_series(1, 12000) i"
    scores = connection.execute("SELECT count(*) FROM reco.importance(%s, 'knn_shapley', validation => %s)", [query, query + " LIMIT 50"])
    assert scores.fetchone() == (12000,)
    assert any("10000 categories" in text for text in told)


def test_a_text_column_is_hashed_or_embedded(importance):
    query = """SELECT i AS id, CASE WHEN i % 2 = 0 THEN 'red running shoe size ' ELSE 'green jasmine tea bag ' END || i AS title,
                      CASE WHEN (i % 2 = 0) <> (i % 25 = 7) THEN 'shoes' ELSE 'tea' END AS label
                 FROM generate_series(1, 300) i"""
    for options in ({}, {"embedding_model": "all-minilm-l6-v2"}):
        assert auc(importance(query, "self_confidence", options=options), lambda id: id % 25 == 7) > 0.95


def test_pruning_leaves_out_the_lowest_scores(rows, importance):
    stay = rows("SELECT id::int FROM reco.prune(%s, 'aum', 0.1)", NOISY)
    scores = importance(method="aum")
    assert sorted(id for (id,) in stay) == sorted(sorted(scores, key=lambda id: (-scores[id], id))[:540])
    assert sum(is_wrong(id) for (id,) in stay) < 20


def test_label_errors_come_with_the_label_that_fits(rows):
    found = rows("SELECT id::int, label, suggested_label, confidence FROM reco.find_label_errors(%s)", NOISY)
    assert all(label != suggested and {label, suggested} == {"buys", "leaves"} for _, label, suggested, _ in found)
    assert [row[3] for row in found] == sorted((row[3] for row in found), reverse=True)
    right = sum(is_wrong(id) for id, *_ in found)
    assert right > 0.7 * len(found) and right > 0.7 * 60


def classifier(weights, bias, logits=False):
    """Linear, two classes, with what enters the last layer as an output too."""
    nodes = [
        helper.make_node("Identity", ["x"], ["h"]),
        helper.make_node("Gemm", ["h", "w", "b"], ["z"]),
        helper.make_node("Softmax", ["z"], ["p"], axis=1),
    ]
    ports = [tiny.port(name, TensorProto.FLOAT, ["n", 2]) for name in (["z"] if logits else ["p"])] + [tiny.port("h", TensorProto.FLOAT, ["n", 2])]
    initializers = [tiny.constant("w", numpy.array(weights, numpy.float32)), tiny.constant("b", numpy.array(bias, numpy.float32))]
    return tiny.model_bytes(nodes, [tiny.port("x", TensorProto.FLOAT, ["n", 2])], ports, initializers)


def test_a_users_own_classifier_scores_rows_by_its_outputs(db, rows):
    db.execute("SELECT reco.import_model('clicks', %s)", [classifier([[1, -1], [0.5, 2]], [0.1, 0])])
    db.execute("SELECT reco.import_model('clicks_logits', %s)", [classifier([[1, -1], [0.5, 2]], [0.1, 0], logits=True)])
    query = "SELECT i AS id, sin(i) AS a, cos(i) AS b, i % 2 AS label FROM generate_series(1, 3000) i"
    i = numpy.arange(1, 3001)
    x = numpy.stack([numpy.sin(i), numpy.cos(i)], 1)
    z = x @ numpy.array([[1, -1], [0.5, 2]]) + numpy.array([0.1, 0])
    p = numpy.exp(z) / numpy.exp(z).sum(1, keepdims=True)
    residual = numpy.linalg.norm(p - numpy.eye(2)[i % 2], axis=1)
    expected = {
        "loss": numpy.log(p[numpy.arange(3000), i % 2]),
        "el2n": -residual,
        "grad_norm": -residual * numpy.sqrt((x**2).sum(1) + 1),
    }
    for model in ("clicks", "clicks_logits"):
        found = rows(
            "SELECT method, id::int, score FROM reco.importance(%s, %s::text[], model => %s, options => '{\"hidden_output\": \"h\"}')",
            query,
            list(expected),
            model,
        )
        for method, scores in expected.items():
            own = numpy.array([score for _, score in sorted((id, score) for name, id, score in found if name == method)])
            assert numpy.abs(own - scores).max() < 1e-5
    assert rows("SELECT runs, rows FROM reco.stat_models WHERE model = 'clicks'") in ([(3, 3000)], [])
    with pytest.raises(errors.FeatureNotSupported, match="aum"):
        db.execute("SELECT * FROM reco.importance(%s, 'aum', model => 'clicks')", [query])
    with pytest.raises(errors.InvalidParameterValue, match="rows of 1 numbers"):
        db.execute("SELECT * FROM reco.importance('SELECT 1.5 AS a, i AS label FROM generate_series(0, 1) i', 'loss', model => 'clicks')")
    with pytest.raises(errors.NullValueNotAllowed, match='"b" is null in row 1'):
        db.execute("SELECT * FROM reco.importance('SELECT 1.5 AS a, NULL::real AS b, i AS label FROM generate_series(0, 1) i', 'loss', model => 'clicks')")
    with pytest.raises(errors.UndefinedObject):
        db.execute("SELECT * FROM reco.importance(%s, 'loss', model => 'no such')", [query])
    db.execute("SELECT reco.drop_model('clicks'); SELECT reco.drop_model('clicks_logits')")


BAD = [
    ("SELECT 1 AS x, 'a' AS label", {}, errors.InvalidParameterValue, 'has only one class, "a"'),
    ("SELECT x, NULLIF(label, 'buys') AS label FROM visit", {}, errors.NullValueNotAllowed, 'column "label" is null in row'),
    ("SELECT 7 AS x, label FROM visit", {}, errors.InvalidParameterValue, "the source has no features"),
    ("SELECT CASE WHEN id = 5 THEN 'NaN' ELSE x END AS x, label FROM visit ORDER BY id", {}, errors.InvalidParameterValue, 'invalid value for column "x" of row 5: NaN'),
    ("SELECT CASE WHEN id = 5 THEN 'infinity' ELSE x::float8 END AS x, label FROM visit", {}, errors.InvalidParameterValue, 'column "x" of row'),
    ("SELECT x, v[1:1 + id % 2] AS v, label FROM visit", {}, errors.InvalidParameterValue, "not [0-9]+ as before"),
    ("SELECT x, label FROM visit WHERE false", {}, errors.InvalidParameterValue, "the source has no rows"),
    ("SELECT x FROM visit", {}, errors.UndefinedColumn, '"label"'),
    ("SELECT x, label FROM visit", {"id": "code"}, errors.UndefinedColumn, '"code"'),
    ("SELECT 1 AS id, x, label FROM visit", {}, errors.InvalidParameterValue, 'duplicate id "1"'),
    ("SELECT NULL::int AS id, x, label FROM visit", {}, errors.NullValueNotAllowed, 'column "id" is null in row 1'),
    ("SELECT x, point(1, 2) AS at, label FROM visit", {}, errors.DatatypeMismatch, 'column "at" has type point'),
    ("SELECT x, label FROM visit", {"method": "magic"}, errors.InvalidParameterValue, 'unknown method "magic"'),
    ("SELECT x, label FROM visit", {"method": None}, errors.InvalidParameterValue, 'argument "method" must not be null'),
    ("SELECT x, label FROM visit", {"options": '{"epoch": 3}'}, errors.InvalidParameterValue, 'unknown option "epoch"'),
    ("SELECT x, label FROM visit", {"options": '{"task": "regression"}'}, errors.InvalidParameterValue, 'label "label" is text, not a number'),
    ("SELECT x, label FROM visit", {"method": "influence"}, errors.InvalidParameterValue, "needs validation rows"),
    ("SELECT x, label FROM visit", {"method": "knn_shapley", "validation": "SELECT 1 AS y, 'buys' AS label"}, errors.InvalidParameterValue, 'the validation query has no column "x"'),
    ("SELECT x, label FROM visit", {"method": "knn_shapley", "validation": "SELECT 1 AS x, 'rents' AS label"}, errors.InvalidParameterValue, 'class "rents", which the source lacks'),
    ("SELECT x, label FROM visit", {"method": "knn_shapley", "validation": "SELECT 'a' AS x, 'buys' AS label"}, errors.InvalidParameterValue, "has another type"),
    ("SELECT x, label FROM visit", {"validation": "SELECT x, label FROM visit WHERE false", "method": "influence"}, errors.InvalidParameterValue, 'query for argument "validation" returned no rows'),
    ("DELETE FROM visit", {}, errors.InvalidParameterValue, "must be a read-only query"),
]


@pytest.mark.parametrize(("source", "arguments", "error", "message"), BAD)
def test_bad_input_is_an_error_that_names_it(db, source, arguments, error, message):
    arguments = {"method": "el2n", **arguments}
    given = ", ".join(f"{name} => %s" for name in arguments)
    with pytest.raises(error, match=message):
        db.execute(f"SELECT * FROM reco.importance(%s, {given})", [source, *arguments.values()])
    assert db.execute("SELECT count(*) FROM visit").fetchone() == (900,)


@pytest.mark.parametrize("method", [method for method in METHODS if method != "auto"])
def test_few_rows_are_scored_all_the_same(importance, method):
    """Fewer than K neighbours, folds or a batch, and a class of one row."""
    source = "SELECT id, x, CASE WHEN id = 4 THEN 'b' ELSE 'a' END AS label FROM visit WHERE id <= 4"
    scores = importance(source, method, validation=source)
    assert len(scores) == 4 and all(numpy.isfinite(score) for score in scores.values())


def test_the_callers_rights_count(connect, db):
    db.execute("CREATE ROLE importance_analyst LOGIN IN ROLE reco_trainer")
    try:
        with pytest.raises(errors.InsufficientPrivilege, match="table visit"):
            connect(user="importance_analyst").execute("SELECT * FROM reco.importance('TABLE visit', 'el2n')")
    finally:
        db.execute("DROP ROLE importance_analyst")


# Rows that keep a method busy for long, where they are not 200,000.
SLOW = {"influence": 2_000_000, "el2n": 2_000_000}


@pytest.mark.parametrize("method", METHODS)
def test_scoring_can_be_cancelled(connect, method):
    connection = connect()
    numbers = ", ".join(f"sin(i * {k}.5)::real AS x{k}" for k in range(20))
    wide = "SELECT i AS id, {}, mod(hashint4(i), 2) AS label FROM generate_series(1, {}) i"
    connection.execute("SET statement_timeout = '1500ms'")
    with pytest.raises(errors.QueryCanceled):
        connection.execute(
            "SELECT count(*) FROM reco.importance(%s, %s, validation => %s)",
            [wide.format(numbers, SLOW.get(method, 200_000)), method, wide.format(numbers, 20_000)],
        )
    connection.execute("RESET statement_timeout")
    assert connection.execute("SELECT count(*) FROM reco.importance('SELECT x, label FROM visit', 'el2n')").fetchone() == (900,)
