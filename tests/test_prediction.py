"""Predictors: trained on a query, run on another, the same in Python's ONNX Runtime, and what goes wrong."""

import json
import math
import random

import numpy
import onnxruntime
import psycopg
import pytest
from psycopg import errors


@pytest.fixture
def visits(connect):
    """Rows of every kind of column; whether somebody bought depends on some."""
    connection = connect()
    connection.execute("CREATE TYPE mood AS ENUM ('calm', 'hurried')")
    connection.execute(
        "CREATE TABLE visit (id int PRIMARY KEY, customer int, price numeric, kind text, mood mood, seen timestamp, taste real[], bought boolean, spent float8, weight real)"
    )
    draw = random.Random(5)
    with connection.cursor().copy("COPY visit FROM STDIN") as copy:
        for n in range(1200):
            price, kind = round(draw.uniform(1, 100), 2), draw.choice(["茶", "coffee", "milk's \"best\""])
            taste = [draw.random(), draw.random()]
            score = (50 - price) / 15 + (2 if kind == "茶" else -1) + 3 * (taste[0] - 0.5)
            bought = draw.random() < 1 / (1 + math.exp(-score))
            seen = f"2026-{1 + n % 12:02}-{1 + n % 28:02} {n % 24:02}:30"
            row = [n, n % 100, None if n % 13 == 0 else price, None if n % 17 == 0 else kind, draw.choice(["calm", "hurried"]), seen,
                   None if n % 19 == 0 else "{%s,%s}" % tuple(taste), bought, price * (2 if kind == "茶" else 1) + draw.random(), 1]  # fmt: skip
            copy.write_row(row)
    yield connection
    for (name,) in connection.execute("SELECT DISTINCT name FROM reco.models WHERE task = 'prediction'").fetchall():
        connection.execute("SELECT reco.drop_model(%s)", [name])
    connection.execute("DROP TABLE visit; DROP TYPE mood")


SOURCE = "SELECT id, price, kind, mood, seen, taste, bought FROM visit"
FAST = '{"rounds": 30}'


def train(connection, source=SOURCE, label="bought", options=FAST, **more):
    named = "".join(f', "{name}" => %s' for name in more)
    return connection.execute(
        f"SELECT reco.train_predictor('buyers', %s, %s, options => %s{named})", [source, label, options, *more.values()]
    ).fetchone()[0]


def metrics(connection):
    return connection.execute("SELECT metrics FROM reco.models WHERE name = 'buyers' AND in_use").fetchone()[0]


def predicted(connection, source=SOURCE, **more):
    named = "".join(f', "{name}" => %s' for name in more)
    return connection.execute(f"SELECT * FROM reco.predict_query('buyers', %s{named})", [source, *more.values()]).fetchall()


def test_a_label_is_predicted_and_measured_on_rows_that_were_held_out(visits):
    train(visits, options="{}")
    found = metrics(visits)
    assert 0.8 < found["metrics"]["auc"] < 0.97 and found["folds"] == 5 and found["held_out"] == 1200
    rows = predicted(visits)
    assert [row[0] for row in rows] == [str(n) for n in range(1200)]
    for _, prediction, probability, probabilities in rows:
        assert probabilities.keys() == {"t", "f"} and sum(probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert probability == max(probabilities.values()) == probabilities[prediction] >= 0.5
    auc = visits.execute(
        """SELECT reco.auc((p.probabilities->>'t')::float8, v.bought) FROM reco.predict_query('buyers', %s) AS p JOIN visit v ON v.id = p.id::int""",
        [SOURCE],
    ).fetchone()[0]
    # Of rows that it has seen.
    assert auc > found["metrics"]["auc"]


def test_numbers_are_predicted(visits):
    train(visits, "SELECT id, price, kind, spent FROM visit", "spent", "{}")
    assert metrics(visits)["metrics"]["r2"] > 0.8
    rows = predicted(visits, "SELECT id, price, kind FROM visit")
    assert all(probability is None and probabilities is None for _, _, probability, probabilities in rows)
    error = visits.execute(
        "SELECT reco.mae(p.prediction::float8, v.spent) FROM reco.predict_query('buyers', 'TABLE visit') AS p JOIN visit v ON v.id = p.id::int"
    ).fetchone()[0]
    assert error < 10


@pytest.mark.parametrize("label", ["bought", "spent", "kind"])
def test_onnx_runtime_in_python_gives_the_same(visits, label):
    source = f"SELECT id, price, mood, seen, taste, {label} FROM visit WHERE kind IS NOT NULL" + (" AND true" if label == "kind" else "")
    if label != "kind":
        source = source.replace("mood", "mood, kind")
    train(visits, source, label)
    session = onnxruntime.InferenceSession(visits.execute("SELECT reco.export_model('buyers')").fetchone()[0])
    rows = visits.execute(
        """SELECT price::float8, mood::text, kind, extract(epoch FROM seen - timestamp '2000-01-01')::float8 / 86400, taste FROM visit
            WHERE kind IS NOT NULL ORDER BY id"""
    ).fetchall()
    price, mood, kind, seen, taste = zip(*rows)
    given = {
        "price": numpy.array([math.nan if value is None else value for value in price]),
        "mood": numpy.array(mood, dtype=object),
        "kind": numpy.array(kind, dtype=object),
        "seen": numpy.array(seen),
        "taste": numpy.array([[math.nan] * 2 if value is None else value for value in taste], numpy.float32),
    }
    (found,) = session.run(None, {port.name: given[port.name] for port in session.get_inputs()})
    ours = predicted(visits, source)
    assert len(ours) == len(found)
    if label == "spent":
        assert [float(prediction) for _, prediction, _, _ in ours] == pytest.approx(found.tolist(), rel=1e-5)
    else:
        names = sorted(ours[0][3], key=str.encode)
        assert [[row[3][name] for name in names] for row in ours] == [pytest.approx(row, abs=1e-5) for row in found.tolist()]


def test_the_same_seed_gives_the_same_bytes_on_any_number_of_threads(visits):
    files = []
    for threads in (1, 2):
        visits.execute(f"SET reco.threads = {threads}")
        train(visits, seed=3, keep=1)
        files.append(visits.execute("SELECT reco.export_model('buyers')").fetchone()[0])
    assert files[0] == files[1]


def test_rows_are_numbered_without_an_id_and_columns_that_are_not_needed_may_be_of_any_type(visits):
    train(visits)
    rows = predicted(visits, "SELECT price, kind, mood, seen, taste, '{}'::jsonb AS more, now() - now() AS other FROM visit LIMIT 3")
    assert [row[0] for row in rows] == ["1", "2", "3"]
    rows = predicted(visits, "SELECT 'n' || id AS name, price, kind, mood, seen, taste FROM visit ORDER BY visit.id LIMIT 2", id="name")
    assert [row[0] for row in rows] == ["n0", "n1"]


def test_new_categories_nan_and_infinity_are_values(visits):
    train(visits)
    rows = predicted(
        visits,
        """SELECT * FROM (VALUES (1, 'NaN'::float8, 'never seen', 'calm'::mood, 'infinity'::timestamp, NULL::real[]),
                                 (2, 'infinity', '', NULL, NULL, '{1,1}')) AS t (id, price, kind, mood, seen, taste)""",
    )
    assert len(rows) == 2 and all(0.5 <= probability <= 1 for _, _, probability, _ in rows)
    train(visits, "SELECT id, CASE WHEN id % 2 = 0 THEN 'infinity' ELSE price::float8 END AS price, kind, bought FROM visit")


def test_a_group_is_held_out_together_and_time_holds_out_the_latest(visits):
    # Every customer always does the same: who is known in training is known altogether.
    source = "SELECT id, customer, customer::text AS name, customer % 2 = 0 AS same FROM visit"
    train(visits, source, "same", '{"rounds": 30, "least_rows": 1}')
    alone = metrics(visits)["metrics"]["accuracy"]
    train(visits, source.replace("customer,", "customer AS customer,"), "same", '{"rounds": 30, "least_rows": 1}', fold_by="customer")
    assert alone > 0.9 > metrics(visits)["metrics"]["accuracy"]
    train(visits, time="seen")
    assert metrics(visits)["folds"] == 1 and metrics(visits)["held_out"] == 240


def test_texts_are_embedded_or_hashed(visits):
    text = "SELECT id, 'a fine cup of ' || CASE WHEN id % 2 = 0 THEN 'green tea' ELSE 'black coffee' END || ' number ' || id AS text, id % 2 = 0 AS tea FROM visit"
    train(visits, text, "tea", '{"rounds": 20}')
    assert metrics(visits)["metrics"]["accuracy"] > 0.95
    train(visits, text + " LIMIT 400", "tea", '{"rounds": 20}', embedding_model="all-minilm-l6-v2")
    assert metrics(visits)["metrics"]["accuracy"] > 0.95 and metrics(visits)["features"] == 384
    found = predicted(visits, "SELECT 'a fine cup of green tea' AS text UNION ALL SELECT 'a fine cup of black coffee'")
    assert [prediction for _, prediction, _, _ in found] == ["t", "f"]


def test_whoever_may_predict_needs_no_privilege_on_the_embedding_model(visits, role):
    text = "SELECT id, 'a fine cup of ' || CASE WHEN id % 2 = 0 THEN 'green tea' ELSE 'black coffee' END || ' number ' || id AS text, id % 2 = 0 AS tea FROM visit"
    train(visits, text + " LIMIT 400", "tea", '{"rounds": 5}', embedding_model="all-minilm-l6-v2")
    reader = role("reader")
    with pytest.raises(errors.InsufficientPrivilege):
        predicted(reader, "SELECT 'green tea' AS text")
    visits.execute("SELECT reco.grant_model('buyers', 'reader')")
    assert predicted(reader, "SELECT 'a fine cup of green tea' AS text")[0][1] == "t"


def test_weights_close_the_loop(visits):
    visits.execute("UPDATE visit SET weight = (id % 2)::real")
    source = "SELECT id, price, kind, CASE WHEN id % 2 = 0 THEN NOT bought ELSE bought END AS bought, weight FROM visit"
    train(visits, source, weight="weight")
    agree = "SELECT count(*) FROM reco.predict_query('buyers', 'TABLE visit') AS p JOIN visit v ON v.id = p.id::int AND v.id % 2 = 1 AND p.prediction::bool = v.bought"
    assert visits.execute(agree).fetchone()[0] > 420


def test_a_column_that_tells_the_label_is_said(visits):
    visits.add_notice_handler(lambda notice: said.append((notice.severity, notice.message_primary)))
    said = []
    train(visits, "SELECT id, price, bought, CASE WHEN bought THEN 'b' ELSE 'n' END AS receipt FROM visit")
    assert ("WARNING", 'column "receipt" alone predicts "bought": is it known before the label is?') in said
    assert any(severity == "NOTICE" and "on rows that it was not trained on, accuracy" in text for severity, text in said)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ("'SELECT 1 AS x, 2 AS y'", errors.UndefinedColumn, 'label'),
        ("'SELECT id AS x, true AS label FROM visit'", errors.InvalidParameterValue, "has only one class"),
        ("'SELECT price AS x, NULL::boolean AS label FROM visit'", errors.NullValueNotAllowed, "label"),
        ("'SELECT price, bought AS label FROM visit LIMIT 3'", errors.InvalidParameterValue, "has only one class|too few"),
        ("'SELECT price, bought AS label FROM visit WHERE false'", errors.InvalidParameterValue, "no rows|returned no"),
        ("'SELECT id, bought AS label FROM visit'", errors.InvalidParameterValue, "no features"),
        ("'SELECT price, bought AS label, -1 AS w FROM visit', weight => 'w'", errors.InvalidParameterValue, "weight of row 1 is -1"),
        ("'SELECT price, bought AS label, 0 AS w FROM visit', weight => 'w'", errors.InvalidParameterValue, "all weights are 0"),
        ("'SELECT price, bought AS label FROM visit', weight => 'w'", errors.UndefinedColumn, "w"),
        ("'SELECT price, bought AS label, kind FROM visit', weight => 'kind'", errors.InvalidParameterValue, 'column "kind" has no numbers'),
        ("'SELECT price, bought AS label, id % 2 AS g FROM visit', fold_by => 'g'", errors.InvalidParameterValue, "fold_by has 2 groups"),
        ("'SELECT price, bought AS label, seen FROM visit', fold_by => 'seen', \"time\" => 'seen'", errors.InvalidParameterValue, "exclude each other"),
        ("'SELECT price, bought AS label FROM visit', method => 'magic'", errors.InvalidParameterValue, "magic"),
        ("'SELECT price, bought AS label FROM visit', task => 'ranks'", errors.InvalidParameterValue, "ranks"),
        ("'SELECT price, kind AS label FROM visit WHERE kind IS NOT NULL', task => 'numbers'", errors.InvalidParameterValue, "is text, not a number"),
        ("'SELECT price, taste AS label FROM visit WHERE taste IS NOT NULL'", errors.InvalidParameterValue, "is a vector"),
        ("'SELECT price, bought AS label FROM visit', options => '{\"leafs\": 3}'", errors.InvalidParameterValue, "leafs"),
        ("'SELECT price, bought AS label FROM visit', embedding_model => 'nobody'", errors.UndefinedObject, "nobody"),
        ("NULL", errors.InvalidParameterValue, "source"),
    ],
)
def test_what_cannot_be_learned_is_refused(visits, arguments, error, message):
    with pytest.raises(psycopg.Error, match=message) as found:
        visits.execute(f"SELECT reco.train_predictor('buyers', {arguments})")
    assert isinstance(found.value, error), type(found.value)
    assert visits.execute("SELECT count(*) FROM reco.models WHERE name = 'buyers'").fetchone() == (0,)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("SELECT price, kind, mood, seen FROM visit", 'the source has no column "taste"'),
        ("SELECT price::text, kind, mood, seen, taste FROM visit", 'column "price" has another type in the source'),
        ("SELECT price, kind, mood, price AS seen, taste FROM visit", 'column "seen" has another type in the source'),
        ("SELECT price, kind, mood, seen, '{1,2,3}'::real[] AS taste FROM visit", 'column "taste" of the source has vectors of 3 dimensions'),
    ],
)
def test_a_source_that_does_not_fit_is_named(visits, source, message):
    train(visits)
    with pytest.raises(errors.InvalidParameterValue) as error:
        predicted(visits, source)
    assert error.value.diag.message_primary == message and "in training" in error.value.diag.message_hint


def test_what_is_no_predictor_does_not_predict(visits):
    with pytest.raises(psycopg.Error, match="all-minilm-l6-v2"):
        visits.execute("SELECT * FROM reco.predict_query('all-minilm-l6-v2', 'TABLE visit')")
    train(visits)
    with pytest.raises(psycopg.Error, match="buyers"):
        visits.execute("SELECT reco.embed('x', 'buyers')")
    assert predicted(visits, SOURCE + " WHERE false") == []


def test_training_and_predicting_can_be_canceled(visits):
    wide = "SELECT n AS id, sin(n) AS a, cos(n) AS b, n % 7 AS c, sin(n) > random() AS bought FROM generate_series(1, 300000) AS n"
    visits.execute("SET statement_timeout = '1500ms'")
    with pytest.raises(errors.QueryCanceled):
        train(visits, wide, options="{}")
    visits.execute("SET statement_timeout = 0")
    train(visits, wide.replace("300000", "2000"))
    visits.execute("SET statement_timeout = '300ms'")
    with pytest.raises(errors.QueryCanceled):
        visits.execute("SELECT count(*) FROM reco.predict_query('buyers', %s)", [wide.replace("300000", "30000000")])
    visits.execute("SET statement_timeout = 0")


def test_a_model_that_changes_while_rows_are_predicted_is_noticed(visits, connect):
    train(visits)
    with visits.transaction(), visits.cursor("rows") as cursor:
        cursor.execute("SELECT * FROM reco.predict_query('buyers', 'SELECT v.* FROM visit v, generate_series(1, 40)')")
        cursor.fetchone()
        # A set-returning function in FROM has been read to its end by now.
        train(connect())
        assert len(cursor.fetchall()) == 1200 * 40 - 1


def test_versions_are_kept_promoted_and_described(visits):
    assert [train(visits, keep=2) for _ in range(3)] == [1, 2, 3]
    assert visits.execute("SELECT array_agg(version ORDER BY version), min(task), min(algorithm) FROM reco.models WHERE name = 'buyers'").fetchone() == (
        [2, 3], "prediction", "boosting")  # fmt: skip
    visits.execute("SELECT reco.promote_model('buyers', 2)")
    assert len(predicted(visits)) == 1200
    inputs = visits.execute("SELECT reco.describe_model('buyers')").fetchall()
    assert "price" in json.dumps(inputs) and "probabilities" in json.dumps(inputs)
