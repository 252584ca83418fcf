"""Metrics of predictions as aggregates: the values of scikit-learn, groups, NULL, and what is refused."""

import json
from pathlib import Path

import pytest
from psycopg import errors

GOLDEN = json.loads(Path(__file__).with_name("prediction_golden.json").read_text())


@pytest.fixture
def predicted(db):
    """Each kind of predictions as a table."""
    tables = {
        "judged": ("probability float8, label boolean", zip(GOLDEN["binary"]["probabilities"], GOLDEN["binary"]["labels"])),
        "numbers": ("prediction float8, label float8", zip(GOLDEN["numbers"]["predictions"], GOLDEN["numbers"]["labels"])),
        "classes": ("prediction text, label text", zip(GOLDEN["classes"]["predictions"], GOLDEN["classes"]["labels"])),
        "gains": ("score float8, gain float8", zip(GOLDEN["gains"]["scores"], GOLDEN["gains"]["gains"])),
    }
    for name, (columns, rows) in tables.items():
        db.execute(f"CREATE TABLE {name} ({columns})")
        with db.cursor().copy(f"COPY {name} FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
    yield db
    db.execute(f"DROP TABLE {', '.join(tables)}")


def close(found, expected):
    assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", GOLDEN["binary"]["values"])
def test_of_binary_labels_they_are_those_of_scikit_learn(predicted, scalar, name):
    prediction = "probability" if name in ("auc", "average_precision", "log_loss", "brier") else "probability > 0.5"
    close(scalar(f"SELECT reco.{name}({prediction}, label) FROM judged"), GOLDEN["binary"]["values"][name])


@pytest.mark.parametrize("name", GOLDEN["numbers"]["values"])
def test_of_numbers_they_are_those_of_scikit_learn(predicted, scalar, name):
    close(scalar(f"SELECT reco.{name}(prediction, label) FROM numbers"), GOLDEN["numbers"]["values"][name])


def test_of_classes_they_are_those_of_scikit_learn(predicted, scalar, rows):
    close(scalar("SELECT reco.accuracy(prediction, label) FROM classes"), GOLDEN["classes"]["accuracy"])
    for average, expected in GOLDEN["classes"]["averages"].items():
        query = "SELECT reco.precision_score(prediction, label, %s), reco.recall_score(prediction, label, %s), reco.f1(prediction, label, %s) FROM classes"
        close(list(rows(query, average, average, average)[0]), expected)
    found, golden = scalar("SELECT reco.confusion(prediction, label) FROM classes"), GOLDEN["classes"]["confusion"]
    counts = [[found.get(label, {}).get(prediction, 0) for prediction in golden["names"]] for label in golden["names"]]
    assert counts == golden["counts"]


@pytest.mark.parametrize("k", GOLDEN["gains"]["ndcg"])
def test_ndcg_is_that_of_scikit_learn(predicted, scalar, k):
    close(scalar("SELECT reco.ndcg(score, gain, %s::int) FROM gains", k), GOLDEN["gains"]["ndcg"][k])


def test_calibration_has_the_bins_of_scikit_learn(predicted, scalar):
    golden = GOLDEN["binary"]["calibration"]
    found = scalar("SELECT reco.calibration(probability, label, %s) FROM judged", golden["bins"])
    close([bin["rate"] for bin in found["bins"]], golden["rates"])
    close([bin["probability"] for bin in found["bins"]], golden["probabilities"])
    distances = [abs(bin["rate"] - bin["probability"]) * bin["rows"] for bin in found["bins"]]
    close(found["error"], sum(distances) / len(GOLDEN["binary"]["labels"]))


@pytest.mark.parametrize(("hits", "rows_", "confidence", "low", "high"), GOLDEN["rates"][:3])
def test_intervals_of_rates_are_those_of_scipy(scalar, hits, rows_, confidence, low, high):
    found = scalar("SELECT reco.rate(n <= %s, %s) FROM generate_series(1, %s) AS n", hits, confidence, rows_)
    close([found["low"], found["high"], found["rate"]], [low, high, hits / rows_])
    assert found["rows"] == rows_


def test_lift_is_the_rate_of_the_best_over_that_of_all(scalar):
    assert scalar("SELECT reco.lift(n, n > 90, 0.1) FROM generate_series(1, 100) AS n") == pytest.approx(10)
    assert scalar("SELECT reco.lift(-n, n > 90, 0.1) FROM generate_series(1, 100) AS n") == 0
    assert scalar("SELECT reco.lift(1, n > 90, 0.1) FROM generate_series(1, 100) AS n") == pytest.approx(1)


def test_each_group_has_its_own(rows):
    found = rows("SELECT part, reco.auc(n, n > 2) FROM generate_series(1, 4) AS n, generate_series(1, 2) AS part GROUP BY part ORDER BY part")
    assert found == [(1, 1.0), (2, 1.0)]


@pytest.mark.parametrize(
    "call",
    ["auc(x, l)", "average_precision(x, l)", "ndcg(x, x, 3)", "lift(x, l, 0.5)", "calibration(x, l, 3)", "log_loss(x, l)", "brier(x, l)", "rmse(x, x)",
     "mae(x, x)", "r2(x, x)", "rate(l, 0.9)", "accuracy(x, x)", "confusion(x, x)", "precision_score(l, l)", "recall_score(l, l)", "f1(l, l)",
     "f1(x, x, 'macro')"],
)  # fmt: skip
def test_of_no_rows_a_metric_is_null_and_null_does_not_count(scalar, call):
    source = "(VALUES (NULL::float8, NULL::boolean)) AS t (x, l)"
    assert scalar(f"SELECT reco.{call} FROM {source} WHERE false") is None
    assert scalar(f"SELECT reco.{call} FROM {source}") is None
    some = "(VALUES (0.5::float8, true), (0.25, false)) AS t (x, l)"
    both = f"(SELECT * FROM {some} UNION ALL SELECT NULL, true UNION ALL SELECT 0.9, NULL) AS t"
    if "l" in call.split("(")[1]:
        assert scalar(f"SELECT reco.{call} FROM {both} WHERE l IS NOT NULL AND x IS NOT NULL") == scalar(f"SELECT reco.{call} FROM {some}")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("auc('NaN', true)", "invalid value for score: NaN"),
        ("log_loss(1.5, true)", "invalid value for probability: 1.5"),
        ("brier(-0.1, true)", "invalid value for probability: -0.1"),
        ("calibration('NaN', true, 3)", "invalid value for probability: NaN"),
        ("calibration(0.5, true, 0)", "invalid value for bins: 0"),
        ("calibration(0.5, true, 10001)", "invalid value for bins: 10001"),
        ("calibration(0.5, true, NULL)", 'argument "bins" must not be null'),
        ("ndcg(1, 1, 0)", "invalid value for k: 0"),
        ("ndcg(1, -1, 3)", "invalid value for gain: -1"),
        ("ndcg(1, 'infinity', 3)", "invalid value for gain: inf"),
        ("lift(1, true, 0)", "invalid value for share: 0"),
        ("lift(1, true, 1.5)", "invalid value for share: 1.5"),
        ("rate(true, 1)", "invalid value for confidence: 1"),
        ("rmse('infinity', 1)", "invalid value for prediction: inf"),
        ("r2(1, 'NaN')", "invalid value for label: NaN"),
        ("f1('a'::text, 'b'::text, 'mean')", 'invalid value for average: "mean"'),
        ("f1('a'::text, 'b'::text, NULL)", 'argument "average" must not be null'),
    ],
)
def test_what_is_no_prediction_is_refused(scalar, call, message):
    with pytest.raises(errors.InvalidParameterValue) as error:
        scalar(f"SELECT reco.{call}")
    assert error.value.diag.message_primary == message and error.value.diag.message_hint


def test_an_argument_that_changes_between_rows_is_refused(scalar):
    with pytest.raises(errors.InvalidParameterValue, match="k must be the same in every row, but is 1 and 2"):
        scalar("SELECT reco.ndcg(n, n, n) FROM generate_series(1, 3) AS n")


def test_too_many_classes_are_refused(scalar):
    with pytest.raises(errors.ProgramLimitExceeded) as error:
        scalar("SELECT reco.accuracy(n, n) FROM generate_series(1, 1000001) AS n")
    assert "reco.rmse" in error.value.diag.message_hint


def test_infinite_scores_rank(scalar):
    assert scalar("SELECT reco.auc(s, l) FROM (VALUES ('infinity'::float8, true), ('-infinity', false), (0, false)) AS t (s, l)") == 1


def test_a_large_group_can_be_canceled(connect):
    connection = connect()
    connection.execute("SET statement_timeout = '400ms'")
    with pytest.raises(errors.QueryCanceled):
        connection.execute("SELECT reco.auc(sin(n), n % 2 = 0) FROM generate_series(1, 20000000) AS n")
