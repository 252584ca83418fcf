"""The report on synthetic rows on the server: its figures, what it warns of, its page, odd input told by name."""

import json
from xml.etree import ElementTree

import psycopg
import pytest
from psycopg import errors

REAL = "SELECT x, kind, ok, at, label FROM trip WHERE id <= 900"
HELD_OUT = "SELECT x, kind, ok, at, label FROM trip WHERE id > 900"
# The columns of other trips, each put together anew.
SHUFFLED = """SELECT a.x, b.kind, c.ok, a.at, d.label
                FROM trip a
                JOIN trip b ON b.id = 1 + (a.id * 7) % 1500
                JOIN trip c ON c.id = 1 + (a.id * 11) % 1500
                JOIN trip d ON d.id = 1 + (a.id * 13) % 1500
               WHERE a.id <= 900"""


@pytest.fixture(scope="module")
def trips(server, database):
    """A trip is long or not by what is known of it."""
    with psycopg.connect(server, dbname=database, autocommit=True) as db:
        db.execute(
            """CREATE TABLE trip AS
               SELECT id, CASE WHEN id % 17 > 0 THEN x END AS x, kind, CASE WHEN id % 13 > 0 THEN x > 0.6 END AS ok,
                      timestamp '2025-01-01' + (1000 * x)::int * interval '1 hour' AS at,
                      CASE WHEN x + CASE kind WHEN '车' THEN 0.3 ELSE 0 END > 0.9 THEN 'long' ELSE 'short' END AS label
                 FROM (SELECT id, (abs(hashint4(id)) % 1000) / 1000.0::double precision AS x,
                              (ARRAY['车', 'bus', 'train'])[1 + abs(hashint4(id * 3)) % 3] AS kind
                         FROM generate_series(1, 1500) id) raw"""
        )
        yield
        db.execute("DROP TABLE trip")


pytestmark = pytest.mark.usefixtures("trips")


@pytest.fixture
def report(scalar):
    """What reco.synthetic_report gives; arguments by name."""

    def run(real=REAL, synthetic=REAL, **arguments):
        given = "".join(f", {name} => %s" for name in arguments)
        values = [json.dumps(value) if name == "options" else value for name, value in arguments.items()]
        return scalar(f"SELECT reco.synthetic_report(%s, %s{given})", real, synthetic, *values)

    return run


def test_copies_have_the_best_quality_and_are_told_of(report):
    found = report(holdout=HELD_OUT)
    assert found["quality"]["score"] == 1
    assert found["copies"]["share"] == 1
    assert found["copies"]["warning"] in found["warnings"]
    assert found["membership_attack"]["auc"] > 0.6
    assert found["distance_to_closest_record"]["synthetic_to_real"]["median"] == 0
    assert found["rows"] == {"real": 900, "synthetic": 900, "holdout": 600}


def test_fresh_rows_of_the_same_kind_are_no_copies(report):
    found = report(synthetic=HELD_OUT)
    assert found["quality"]["score"] > 0.9
    assert found["two_sample_test"]["auc"] < 0.6
    assert found["membership_attack"]["auc"] is None and "holdout" in found["membership_attack"]["reason"]


def test_every_type_that_rows_can_be_made_of_can_be_reported(report):
    source = """SELECT time '08:00' + id % 50 * interval '7 minutes' AS opens, jsonb_build_object('wheels', id % 3) AS about,
                       ARRAY[kind, 'x'] AS tags, ARRAY[id % 4] AS seats, name 'road' AS way FROM trip WHERE id"""
    quality = report(f"{source} <= 900", f"{source} > 900")["quality"]
    assert {column["column"]: column["kind"] for column in quality["columns"]} == {
        "opens": "time", "about": "category", "tags": "category", "seats": "category", "way": "category"
    }
    assert all(column["shape"]["score"] > 0.9 for column in quality["columns"])


def test_a_type_that_cannot_be_compared_is_named(report):
    source = "SELECT point(id, 1) AS place FROM trip"
    with pytest.raises(errors.DatatypeMismatch, match='"place" has type point'):
        report(source, source)


def test_rows_put_together_at_random_keep_the_columns_and_lose_the_pairs(report):
    found = report(synthetic=SHUFFLED, holdout=HELD_OUT, label="label")
    quality = found["quality"]
    assert quality["column_shapes"] > 0.93 > 0.9 > quality["column_pair_trends"]
    assert found["two_sample_test"]["auc"] > 0.7
    trained = found["efficacy"]["trained_on"]
    assert trained["real"]["auc"] > 0.95 > 0.7 > trained["synthetic"]["auc"]
    assert found["efficacy"]["augmenting_raises_f1"] is False
    assert found["efficacy"]["judged_by"] == "holdout"


def test_column_shapes_are_those_by_hand(report):
    found = report(
        "SELECT x, c FROM (VALUES (1.0, 'a'), (2.0, 'a'), (3.0, 'b'), (4.0, NULL)) t (x, c)",
        "SELECT x, c FROM (VALUES (3.0, 'a'), (4.0, 'c'), (5.0, 'b'), (NULL, 'b')) t (x, c)",
    )
    x, c = found["quality"]["columns"]
    # Half of the real numbers lie below all synthetic ones; shares of 5/12, 1/6 and 1/4 move.
    assert x["shape"] == {"metric": "KSComplement", "score": pytest.approx(0.5)}
    assert c["shape"] == {"metric": "TVComplement", "score": pytest.approx(7 / 12, abs=1e-4)}
    assert x["coverage"]["score"] == pytest.approx(1 / 3) and c["coverage"]["score"] == 1
    # NULL is outside where no real row has one, as 5 is.
    assert x["boundary"]["score"] == 0.5 and c["boundary"]["score"] == 0.75


def test_the_same_seed_gives_the_same_report_on_any_number_of_threads(db, report):
    one = report(synthetic=SHUFFLED, holdout=HELD_OUT, label="label", seed=3)
    db.execute("SET reco.threads = 1")
    assert report(synthetic=SHUFFLED, holdout=HELD_OUT, label="label", seed=3) == one


def test_the_page_is_one_well_formed_file(scalar):
    page = scalar("SELECT reco.synthetic_report_html(%s, %s, %s, 'label')", REAL, SHUFFLED, HELD_OUT)
    assert page.startswith("<!DOCTYPE html>")
    root = ElementTree.fromstring(page.split("\n", 1)[1])
    assert len(list(root.iter("figure"))) == 5
    assert "http" not in page and "<script" not in page and "车" in page


def test_names_with_markup_stay_text(scalar):
    query = """SELECT n AS "<b>&", CASE WHEN n % 2 = 0 THEN '<i>"' ELSE 'a' END AS c FROM generate_series(1, 50) n"""
    page = scalar("SELECT reco.synthetic_report_html(%s, %s)", query, query)
    ElementTree.fromstring(page.split("\n", 1)[1])
    assert "&lt;b&gt;&amp;" in page and "<i>\"" not in page


@pytest.mark.parametrize(
    ("synthetic", "arguments", "error", "names"),
    [
        ("SELECT x, kind, ok, at FROM trip", {}, errors.InvalidParameterValue, '"label"'),
        ("SELECT x, kind, ok, at, label, 1 AS more FROM trip", {}, errors.InvalidParameterValue, '"more"'),
        ("SELECT x::text, kind, ok, at, label FROM trip", {}, errors.InvalidParameterValue, '"x"'),
        (f"{REAL} AND false", {}, errors.InvalidParameterValue, "synthetic_source"),
        (REAL, {"label": "colour"}, errors.UndefinedColumn, '"colour"'),
        (REAL, {"options": {"rowz": 1}}, errors.InvalidParameterValue, '"rowz"'),
        (REAL, {"options": {"max_rows": 0}}, errors.InvalidParameterValue, '"max_rows"'),
        (REAL, {"options": {"leave_out": ["colour"]}}, errors.InvalidParameterValue, '"colour"'),
    ],
)
def test_what_does_not_fit_is_told_by_name(report, synthetic, arguments, error, names):
    with pytest.raises(error, match=names):
        report(synthetic=synthetic, **arguments)


def test_one_row_all_null_and_constants_are_reported(report):
    query = "SELECT 1 AS one, NULL::double precision AS nothing, 'a' AS always"
    found = report(query, query, label="always")
    scores = {column["column"]: column["shape"]["score"] for column in found["quality"]["columns"]}
    assert scores == {"one": 1, "nothing": None, "always": 1}
    assert found["quality"]["column_pair_trends"] is None
    assert 'has only one class, "a"' in found["efficacy"]["reason"]
