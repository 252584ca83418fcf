"""Rows made of rows, without training, and the weights that align them."""

import json
from collections import Counter

import psycopg
import pytest
from psycopg import errors

NUMBERS = "SELECT x, y, label FROM leaf"


@pytest.fixture(scope="module")
def leaves(server, database):
    """Few of the one kind, many of the other, apart in x."""
    with psycopg.connect(server, dbname=database, autocommit=True) as db:
        db.execute(
            """CREATE TABLE leaf AS
               SELECT i AS id, (CASE WHEN i % 20 = 0 THEN 5 ELSE 0 END + abs(hashint4(i)) % 1000 / 500.0)::numeric(6, 3) AS x,
                      abs(hashint4(i * 3)) % 90 AS y, (ARRAY['oak', 'elm'])[1 + i % 2] AS tree,
                      CASE WHEN i % 20 = 0 THEN 'rare' ELSE 'common' END AS label
                 FROM generate_series(1, 600) i"""
        )
        db.execute("ALTER TABLE leaf ADD PRIMARY KEY (id)")
        yield
        db.execute("DROP TABLE leaf")


pytestmark = pytest.mark.usefixtures("leaves")


@pytest.fixture
def augment(rows):
    def run(source, method, **arguments):
        given = "".join(f", {key} => %s" for key in arguments)
        values = [json.dumps(value) if key == "options" else value for key, value in arguments.items()]
        return [row for (row,) in rows(f"SELECT r FROM reco.augment(%s, %s{given}) r", source, method, *values)]

    return run


@pytest.mark.parametrize("method", ["smote", "smote_nc", "adasyn", "mixup", "jitter", "bootstrap"])
def test_new_rows_look_like_those_of_their_class(augment, method):
    source = NUMBERS if method == "smote" else "SELECT id, x, y, tree, label FROM leaf"
    made = augment(source, method, n=400, label="label")
    assert len(made) == 400
    for row in made:
        assert round(row["x"], 3) == row["x"] and 0 <= row["x"] <= 7 and row["y"] == int(row["y"])
        if method in ("smote", "smote_nc", "bootstrap"):
            assert (row["x"] >= 5) == (row["label"] == "rare")
    assert made == augment(source, method, n=400, label="label")
    assert made != augment(source, method, n=400, label="label", seed=1)


@pytest.mark.parametrize("method", ["smote_nc", "adasyn", "mixup", "bootstrap"])
def test_balance_makes_a_label_even(db, rows, augment, method):
    made = augment("TABLE leaf", method, label="label", balance=True)
    assert Counter(row["label"] for row in made) == {"rare": 540}
    assert sorted(row["id"] for row in made) == list(range(601, 1141))
    with db.transaction(force_rollback=True):
        db.execute("INSERT INTO leaf SELECT * FROM reco.augment(NULL::leaf, 'TABLE leaf', %s, label => 'label', balance => true)", [method])
        assert rows("SELECT DISTINCT count(*) FROM leaf GROUP BY label") == [(570,)]


def test_what_cannot_be_done_is_told(augment):
    wrong = [
        (dict(source="TABLE leaf", method="smote", n=3, label="label"), "smote_nc"),
        (dict(source="TABLE leaf", method="smotee", n=3), "smotee"),
        (dict(source="TABLE leaf", method="jitter"), '"n" must not be null'),
        (dict(source="TABLE leaf", method="jitter", n=-1), "invalid value for n: -1"),
        (dict(source="TABLE leaf", method="jitter", balance=True), '"label" must not be null'),
        (dict(source="TABLE leaf", method="jitter", n=3, balance=True, label="label"), 'cannot specify both "n" and "balance"'),
        (dict(source="TABLE leaf", method="jitter", n=3, label="gone"), "gone"),
        (dict(source="TABLE leaf", method="jitter", n=3, options={"size": 1}), "size"),
        (dict(source="SELECT 1 AS x WHERE false", method="jitter", n=3), "no rows"),
    ]
    for arguments, name in wrong:
        with pytest.raises(psycopg.DatabaseError, match=name) as raised:
            augment(**arguments)
        told = f"{raised.value} {raised.value.diag.message_hint}"
        assert raised.value.diag.sqlstate in ("22023", "42703", "0A000"), told
    assert augment("TABLE leaf", "bootstrap", n=0) == []
    assert len(augment("SELECT 1.5 AS x, 'a' AS c", "smote_nc", n=5)) == 5


def test_weights_align_shifted_rows_with_the_real_ones(db, rows, scalar):
    db.execute("CREATE TEMP TABLE shifted AS SELECT id AS number, x, y, tree FROM leaf WHERE tree = 'oak' OR id % 5 = 0")
    real, synthetic = "SELECT x, y, tree FROM leaf", "TABLE shifted"
    weights = rows("SELECT id, weight FROM reco.alignment_weights(%s, %s, id => 'number')", real, synthetic)
    assert len(weights) == scalar("SELECT count(*) FROM shifted") and all(weight > 0 for _, weight in weights)
    share = scalar(
        """SELECT sum(weight) FILTER (WHERE tree = 'oak') / sum(weight)
             FROM reco.alignment_weights(%s, %s, id => 'number') w JOIN shifted s ON s.number = w.id::int""",
        real, synthetic,
    )  # fmt: skip
    before = scalar("SELECT avg((tree = 'oak')::int) FROM shifted")
    assert before > 0.7 and abs(share - 0.5) < 0.12
    drawn = rows("SELECT ordinal, id FROM reco.resample_aligned(%s, %s, 1000, id => 'number')", real, synthetic)
    assert [ordinal for ordinal, _ in drawn] == list(range(1, 1001))
    oak = scalar("SELECT avg((tree = 'oak')::int) FROM unnest(%s::int[]) d (id) JOIN shifted s ON s.number = d.id", [int(id) for _, id in drawn])
    assert abs(float(oak) - share) < 0.03
    with pytest.raises(errors.InvalidParameterValue):
        db.execute("SELECT * FROM reco.alignment_weights('SELECT 1 AS a', 'SELECT 1 AS b')")
