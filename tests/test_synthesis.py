"""Synthetic rows on the server: types, keys and constraints hold in every row, methods learn what goes with what, odd input is told
by name."""

import json
import threading
import time

import numpy
import onnxruntime
import psycopg
import pytest
from psycopg import errors

METHODS = ["cart", "gaussian_copula", "tvae", "ctgan", "bootstrap", "independent"]
QUICK = {"tvae": {"epochs": 5}, "ctgan": {"epochs": 3}}
DECLARED = {
    "segment": ["new", "老客", "vip"],
    "label": ["t", "f"],
    "price": {"low": 0, "high": 400},
    "ordered": {"low": "2024-01-01", "high": "2026-12-31"},
    "shipped": {"low": "2024-01-01", "high": "2026-12-31"},
    "at": {"low": "2024-01-01 00:00:00", "high": "2026-12-31 00:00:00"},
    "pieces": {"low": 1, "high": 9},
}
AIM = {"epsilon": 3, "domain": {name: DECLARED[name] for name in ("segment", "price", "ordered", "shipped", "at", "pieces")}}


@pytest.fixture(scope="module")
def orders(server, database):
    """Orders of a shop: a key, a reference, a check, an order of two dates, NULLs, a typed rest. Who is new pays less."""
    with psycopg.connect(server, dbname=database, autocommit=True) as db:
        db.execute("CREATE TYPE way AS ENUM ('post', 'courier', 'pick-up')")
        db.execute("CREATE TABLE customer (id integer PRIMARY KEY, name text, city text, born date)")
        db.execute(
            """INSERT INTO customer SELECT i * 3, 'Customer ' || i, (ARRAY['Oslo', '北京', 'Roma'])[1 + i % 3],
                      date '1950-01-01' + abs(hashint4(i)) % 18000 FROM generate_series(1, 60) i"""
        )
        db.execute(
            """CREATE TABLE purchase (
                 id bigint PRIMARY KEY, customer_id integer NOT NULL REFERENCES customer, segment text NOT NULL,
                 price numeric(8, 2) NOT NULL CHECK (price > 0 AND price < 500), ordered date NOT NULL, shipped date, at timestamptz,
                 pieces smallint CHECK (pieces BETWEEN 1 AND 9), gift boolean NOT NULL, sent way, place real[], tags text[],
                 note jsonb, label boolean NOT NULL, CHECK (ordered <= shipped))"""
        )
        db.execute(
            """INSERT INTO purchase
               SELECT i, 3 * (1 + h % 60), segment, round((CASE segment WHEN 'new' THEN 10 ELSE 200 END + h % 9000 / 100.0)::numeric, 2),
                      date '2025-01-01' + h % 300, CASE WHEN h % 10 > 0 THEN date '2025-01-01' + h % 300 + h % 7 END,
                      timestamptz '2025-01-01 00:00+00' + h % 5000 * interval '1 hour', 1 + h % 9, h % 4 = 0,
                      (ARRAY['post', 'courier', 'pick-up'])[1 + h % 3]::way, ARRAY[h % 90, h % 180]::real[],
                      CASE h % 3 WHEN 0 THEN '{a}' WHEN 1 THEN '{a,b}' END::text[], jsonb_build_object('score', h % 5),
                      segment = 'new' AND h % 3 > 0
                 FROM (SELECT i, abs(hashint4(i)) AS h, (ARRAY['new', '老客', 'vip'])[1 + abs(hashint4(i * 7)) % 3] AS segment
                         FROM generate_series(1, 1200) i) raw"""
        )
        yield
        db.execute("DROP TABLE purchase, customer")
        db.execute("DROP TYPE way")


pytestmark = pytest.mark.usefixtures("orders")


@pytest.fixture
def train(db, scalar):
    """Trains a synthesizer and drops it in the end; arguments by name."""
    made = []

    def run(name, source="TABLE purchase", method="cart", **arguments):
        given = "".join(f", {key} => %s" for key in arguments)
        values = [json.dumps(value) if key == "options" else value for key, value in arguments.items()]
        made.append(name)
        return scalar(f"SELECT reco.train_synthesizer(%s, %s, %s{given})", name, source, method, *values)

    yield run
    for name in set(made):
        db.execute("SELECT reco.drop_model(name) FROM reco.models WHERE name = %s AND in_use", [name])


@pytest.mark.parametrize("method", METHODS)
def test_rows_of_every_method_can_be_stored_beside_the_real_ones(db, rows, train, method):
    """The table's own keys, references and checks are the judge."""
    train("p", method=method, options=QUICK.get(method, {}), label="label")
    with db.transaction(force_rollback=True):
        db.execute("INSERT INTO purchase SELECT * FROM reco.synthesize(NULL::purchase, 'p', 3000, seed => 5)")
        found = rows(
            """SELECT count(*), min(id), max(id), count(DISTINCT segment), bool_and(price = round(price, 2)),
                      bool_and(price BETWEEN (SELECT min(price) FROM purchase WHERE id <= 1200) AND (SELECT max(price) FROM purchase WHERE id <= 1200)),
                      count(*) FILTER (WHERE shipped IS NULL), bool_and(extract(minute FROM at) = 0), bool_and(array_length(place, 1) = 2),
                      count(*) FILTER (WHERE tags IS NULL), bool_and(note ? 'score')
                 FROM purchase WHERE id > 1200"""
        )[0]
    assert found[:3] == (3000, 1201, 4200)
    assert found[3] == 3 and found[4] and found[5]
    assert 100 < found[6] < 800
    assert found[7] and found[8] and 500 < found[9] < 1600 and found[10]


def test_rows_as_json_are_those_of_the_type_of_the_table(db, rows, train):
    train("p")
    with db.transaction():
        db.execute("SET LOCAL timezone = 'UTC'")
        differing = rows(
            """SELECT made.r, to_jsonb(typed) FROM reco.synthesize('p', 2000, seed => 5) WITH ORDINALITY made(r, n)
                 JOIN (SELECT *, row_number() OVER () AS n FROM reco.synthesize(NULL::purchase, 'p', 2000, seed => 5)) typed USING (n)
                WHERE made.r <> to_jsonb(typed) - 'n' OR made.r <> made.r::text::jsonb
                   OR EXISTS (SELECT FROM jsonb_object_keys(made.r) k WHERE NOT made.r ? k)"""
        )
        kinds = rows("SELECT DISTINCT jsonb_typeof(v) FROM reco.synthesize('p', 2000, seed => 5) r, jsonb_each(r) e(k, v) ORDER BY 1")
    assert differing == []
    assert [kind for (kind,) in kinds] == ["array", "boolean", "null", "number", "object", "string"]


@pytest.mark.parametrize("document", ["1e400", '{"b": 12345678901234567890123.5, "a": [1, {"水": null}, true, []], "c": {}}', '"x"', "[" * 300 + "]" * 300])
def test_json_comes_back_as_it_was(rows, train, document):
    train("p", f"SELECT '{document}'::json AS j FROM generate_series(1, 40)")
    assert rows(f"SELECT DISTINCT r -> 'j' = '{document}'::jsonb, r = r::text::jsonb FROM reco.synthesize('p', 20) r") == [(True, True)]


def test_json_that_jsonb_cannot_hold_is_an_error(rows, train):
    train("p", "SELECT '\"\\u0000\"'::json AS j FROM generate_series(1, 40)")
    with pytest.raises(errors.UntranslatableCharacter):
        rows("SELECT r FROM reco.synthesize('p', 1) r")


def test_private_rows_keep_to_what_was_declared(db, rows, train):
    source = "SELECT segment, price, ordered, shipped, at, pieces, gift, sent, label FROM purchase"
    train("p", source, "aim", options=AIM, label="label", seed=1)
    found = rows("SELECT r FROM reco.synthesize('p', 2000, seed => 2) r")
    assert len(found) == 2000
    assert {row["segment"] for (row,) in found} <= {"new", "老客", "vip"}
    assert all(0 <= row["price"] <= 400 and 1 <= row["pieces"] <= 9 for (row,) in found if row["pieces"] is not None)
    share = [sum(row["label"] for (row,) in found if (row["segment"] == "new") == new) for new in (True, False)]
    assert share[0] > 4 * share[1]
    metrics = db.execute("SELECT metrics FROM reco.models WHERE name = 'p'").fetchone()[0]
    assert metrics["epsilon"] == 3 and metrics["delta"] == 1e-9


@pytest.mark.parametrize("method", ["cart", "gaussian_copula", "tvae", "ctgan"])
def test_what_goes_with_what_is_learned(rows, train, method):
    train("p", "SELECT segment, price, label FROM purchase", method, options={"epochs": 300} if method in QUICK else {}, label="label")
    found = dict(rows("SELECT r ->> 'segment', avg((r ->> 'price')::float8) FROM reco.synthesize('p', 5000) r GROUP BY 1"))
    assert found["new"] < 130 < min(found["老客"], found["vip"])


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_rows(rows, train, method):
    train("p", method=method, options=QUICK.get(method, {}))
    take = "SELECT r FROM reco.synthesize('p', %s, seed => %s) r"
    first = rows(take, 300, 1)
    assert first == rows(take, 300, 1)
    assert first == rows(take, 9000, 1)[:300]
    assert first != rows(take, 300, 2)


@pytest.mark.parametrize("method", [*METHODS, "aim"])
def test_the_exported_graph_makes_the_same_kind_of_rows_elsewhere(scalar, train, method):
    """Random numbers in, rows out: a category by its number, a number as it is."""
    options = {**QUICK.get(method, {}), **({"epsilon": 5, "domain": {"segment": DECLARED["segment"], "price": DECLARED["price"]}} if method == "aim" else {})}
    train("p", "SELECT segment, price FROM purchase", method, options=options)
    session = onnxruntime.InferenceSession(scalar("SELECT reco.export_model('p')"), providers=["CPUExecutionProvider"])
    rng = numpy.random.default_rng(1)
    draws = {
        "uniform": lambda shape: rng.random(shape),
        "uniforms": lambda shape: rng.random(shape),
        "noise": rng.standard_normal,
        "normal": rng.standard_normal,
        "condition": lambda shape: rng.integers(0, 3, shape),
    }
    types = {"tensor(float)": numpy.float32, "tensor(double)": numpy.float64, "tensor(int32)": numpy.int32}
    given = {i.name: draws[i.name]([2000 if isinstance(n, str) else n for n in i.shape]).astype(types[i.type]) for i in session.get_inputs()}
    made = session.run(["rows"], given)[0]
    assert made.shape == (2000, 2) and made.dtype == numpy.float64
    segments, prices = made[:, 0], made[:, 1]
    assert set(segments) == {0, 1, 2}
    assert numpy.isfinite(prices).all() and -50 < prices.min() < 60 and 200 < prices.max() < 450


def test_threads_change_nothing(db, rows, train):
    for method in METHODS:
        made = []
        for threads in (1, 2):
            db.execute(f"SET reco.threads = {threads}")
            train("p", method=method, options=QUICK.get(method, {}), seed=3)
            made.append(rows("SELECT r FROM reco.synthesize('p', 500, seed => 4) r"))
        assert made[0] == made[1], method


def test_conditions_fix_columns(rows, train):
    train("p", label="label")
    found = rows(
        """SELECT r FROM reco.synthesize('p', 400, '{"segment": ["new", "vip"], "label": true, "price": {"max": 60}, "gift": false,
                                                      "ordered": {"min": "2025-03-01"}, "sent": "courier", "id": {"min": 9000}}') r"""
    )
    assert len(found) == 400
    for (row,) in found:
        assert row["segment"] == "new" and row["label"] is True and row["price"] <= 60 and row["gift"] is False
        assert row["ordered"] >= "2025-03-01" and row["sent"] == "courier" and row["id"] >= 9000


def test_conditions_that_no_row_meets_are_errors(db, train):
    train("p")
    wrong = [
        ('{"segment": "gone"}', "segment", "Known values"),
        ('{"price": 10000}', "price", "from"),
        ('{"size": 3}', "size", "The source has"),
        ('{"tags": "x", "note": 3}', "note", ""),
        ('{"label": true, "segment": "vip"}', "only 0 of [0-9]+ rows drawn meet the conditions", "Widen"),
        ('[1]', "conditions", "JSON object"),
    ]
    for conditions, name, hint in wrong:
        with pytest.raises(psycopg.DatabaseError, match=name) as raised:
            db.execute("SELECT count(*) FROM reco.synthesize('p', 10, %s)", [conditions])
        assert hint in (raised.value.diag.message_hint or "")


def test_no_rows_and_a_great_many(db, scalar, train):
    train("p", "SELECT segment, price FROM purchase")
    assert scalar("SELECT count(*) FROM reco.synthesize('p', 0)") == 0
    with pytest.raises(errors.InvalidParameterValue, match="invalid value for n: -1"):
        db.execute("SELECT reco.synthesize('p', -1)")
    # Rows come as they are asked for.
    start = time.monotonic()
    with db.transaction():
        db.execute("DECLARE many CURSOR FOR SELECT reco.synthesize('p', 10000000000)")
        assert len(db.execute("FETCH 1000 FROM many").fetchall()) == 1000
    assert time.monotonic() - start < 30
    db.execute("SET statement_timeout = '700ms'")
    with pytest.raises(errors.QueryCanceled):
        db.execute("SELECT count(*) FROM (SELECT reco.synthesize('p', 10000000000)) s")
    db.execute("RESET statement_timeout")


def test_a_target_of_other_columns_is_an_error(db, train):
    train("p", "SELECT segment, price FROM purchase")
    db.execute("CREATE TEMP TABLE fewer (segment text)")
    db.execute("CREATE TEMP TABLE more (segment text, price numeric, size text)")
    db.execute("CREATE TEMP TABLE fits (price double precision, segment varchar(20))")
    with pytest.raises(errors.InvalidParameterValue, match='column "price" of model "p" is missing from type fewer'):
        db.execute("SELECT * FROM reco.synthesize(NULL::fewer, 'p', 1)")
    with pytest.raises(errors.InvalidParameterValue, match='column "size" is unknown to model "p"'):
        db.execute("SELECT * FROM reco.synthesize(NULL::more, 'p', 1)")
    with pytest.raises(errors.InvalidParameterValue, match="target must have a row type, not integer"):
        db.execute("SELECT reco.synthesize(NULL::integer, 'p', 1)")
    assert db.execute("SELECT count(price) FROM reco.synthesize(NULL::fits, 'p', 7)").fetchone() == (7,)


@pytest.mark.parametrize("method", [*METHODS, "aim"])
def test_odd_tables_are_learned(rows, train, method):
    options = {"epsilon": 1, "domain": {"x": ["a", "b"], "n": {"low": 0, "high": 9}}} if method == "aim" else QUICK.get(method, {})
    train("p", "SELECT 'a' AS x, 3 AS n", method, options=options)
    assert {(r["x"], r["n"]) for (r,) in rows("SELECT r FROM reco.synthesize('p', 20) r")} <= (
        {("a", 3)} if method != "aim" else {(x, n) for x in ("a", "b", None) for n in (*range(10), None)}
    )
    if method == "aim":
        return
    train("p", "SELECT NULL::integer AS n, NULL::text AS t, 7 AS seven, i % 2 AS i FROM generate_series(1, 50) i", method, options=options)
    found = rows("SELECT r FROM reco.synthesize('p', 100) r")
    assert all(r["n"] is None and r["t"] is None and r["seven"] == 7 and r["i"] in (0, 1) for (r,) in found)


@pytest.mark.parametrize("method", METHODS)
def test_a_hundred_thousand_categories_are_learned(rows, train, method):
    options = {"text": {"c": "category"}, **QUICK.get(method, {})}
    train("p", "SELECT 'c' || i % 100000 AS c, i % 7 AS n FROM generate_series(1, 120000) i", method, options=options)
    found = rows("SELECT r ->> 'c' FROM reco.synthesize('p', 20000) r")
    assert len({c for (c,) in found}) > 1000 and all(c[0] == "c" and int(c[1:]) < 100000 for (c,) in found)


def test_types_that_cannot_be_made_are_named(db, train):
    with pytest.raises(errors.DatatypeMismatch, match='column "b" has type bytea') as raised:
        train("p", "SELECT 1 AS a, '\\x00'::bytea AS b")
    assert "drop" in raised.value.diag.message_hint
    train("p", "SELECT i % 3 AS a, '\\x00'::bytea AS b FROM generate_series(1, 40) i", options={"drop": ["b"]})
    assert db.execute("SELECT r FROM reco.synthesize('p', 1) r").fetchone()[0].keys() == {"a"}
    with pytest.raises(errors.UndefinedColumn, match='"gone"'):
        train("p", options={"drop": ["gone"]})
    with pytest.raises(errors.InvalidParameterValue, match="specified more than once"):
        train("p", "SELECT 1 AS a, 2 AS a")
    with pytest.raises(errors.InvalidParameterValue, match="the source has no rows"):
        train("p", "SELECT 1 AS a WHERE false")
    with pytest.raises(errors.InvalidParameterValue, match='unknown option "leaves" of cart'):
        train("p", options={"leaves": 3})
    with pytest.raises(errors.InvalidParameterValue, match='unknown method "forest"'):
        train("p", method="forest")
    with pytest.raises(errors.InvalidParameterValue, match="finite|infinity"):
        train("p", "SELECT 'NaN'::float8 AS x")
    assert db.execute("SELECT count(*) FROM reco.models WHERE name = 'p'").fetchone() == (1,)


@pytest.mark.parametrize("epsilon", [0, -1, 1e-9, "much", None])
def test_a_privacy_that_is_none_is_an_error(train, epsilon):
    with pytest.raises(errors.InvalidParameterValue, match="epsilon"):
        train("p", "SELECT 1 AS a", "aim", options={"epsilon": epsilon})


def test_private_names_that_few_rows_have_are_not_told(rows, train):
    source = "SELECT CASE WHEN i = 1 THEN 'the only one' ELSE 'c' || i % 3 END AS c FROM generate_series(1, 3000) i"
    train("p", source, "aim", options={"epsilon": 1}, seed=4)
    assert {r["c"] for (r,) in rows("SELECT r FROM reco.synthesize('p', 3000) r")} <= {"c0", "c1", "c2", None}
    assert b"the only one" not in rows("SELECT reco.export_model('p')")[0][0]


def test_constraints_of_the_caller_hold(db, scalar, train):
    source = "SELECT i % 50 AS low, i % 50 + i % 7 AS high FROM generate_series(1, 500) i"
    train("p", source, "independent", options={"constraints": ["low <= high", "high < 60"]})
    assert scalar("SELECT bool_and((r ->> 'low')::int <= (r ->> 'high')::int) FROM reco.synthesize('p', 5000) r")
    for constraints, name in [(["low < high"], "row 7 of the source"), (["low ~ high"], "low ~ high"), (["size > 1"], "size")]:
        with pytest.raises(psycopg.DatabaseError, match=name):
            train("p", source, options={"constraints": constraints})
    with pytest.raises(errors.InvalidParameterValue, match="contradict each other"):
        train("p", "SELECT NULL::int AS a, NULL::int AS b, i FROM generate_series(1, 9) i", options={"constraints": ["a < b", "b < a"]})


def test_names_can_be_replaced_and_texts_are_put_together_anew(rows, train):
    real = {name for (name,) in rows("SELECT name FROM customer")}
    train("p", "SELECT name, city FROM customer", options={"pseudonymize": ["name"], "text": {"name": "category"}})
    found = {r["name"] for (r,) in rows("SELECT r FROM reco.synthesize('p', 200) r")}
    assert found and not found & real and all(name.startswith("name_") for name in found)
    assert not any(name.encode() in rows("SELECT reco.export_model('p')")[0][0] for name in real)
    words = "red green blue warm cold wool cotton shirt jacket".split()
    texts = [" ".join(words[(i * p) % 9] for p in (1, 2, 4, 5)) for i in range(60)]
    source = "SELECT t, i % 2 AS i FROM unnest(ARRAY['" + "','".join(texts) + "']) WITH ORDINALITY AS u (t, i)"
    train("p", source, options={"text": {"t": "free"}})
    found = [r["t"] for (r,) in rows("SELECT r FROM reco.synthesize('p', 100) r")]
    assert all(set(text.split()) <= set(words) for text in found)


def test_parents_and_children_are_consistent(db, rows, train):
    options = {"children": {"purchase": {"source": "SELECT id, customer_id, price, segment FROM purchase", "key": "customer_id"}}}
    train("customer", "TABLE customer", options=options)
    made = rows("SELECT table_name, data FROM reco.synthesize_related('customer', 50, seed => 1)")
    parents = {data["id"] for table, data in made if table == "customer"}
    children = [data for table, data in made if table == "purchase"]
    assert len(parents) == 50 and min(parents) > 180
    assert {child["customer_id"] for child in children} <= parents
    assert 700 < len(children) < 1300
    assert len({child["id"] for child in children}) == len(children)
    assert made == rows("SELECT table_name, data FROM reco.synthesize_related('customer', 50, seed => 1)")
    assert all(row.keys() == {"id", "name", "city", "born"} for (row,) in rows("SELECT r FROM reco.synthesize('customer', 3) r"))
    train("p")
    with pytest.raises(errors.InvalidParameterValue, match="related tables"):
        db.execute("SELECT * FROM reco.synthesize_related('p', 1)")
    with pytest.raises(errors.InvalidParameterValue, match="children"):
        train("p", options={"children": {"purchase": 3}})
    with pytest.raises(psycopg.DatabaseError, match="which no parent has"):
        orphans = {"source": "SELECT 5 AS customer_id, 1 AS n", "key": "customer_id"}
        train("p", "TABLE customer", options={"children": {"orphan": orphans}})


@pytest.mark.parametrize("key", ["'c-' || i", "md5(i::text)::uuid"])
def test_each_child_has_the_key_of_its_parent_whatever_its_type(rows, train, key):
    parents = f"SELECT {key} AS id, i % 3 AS kind FROM generate_series(1, 60) i"
    children = f"SELECT {key} AS parent, i % 7 AS pieces FROM generate_series(1, 60) i, generate_series(1, 4)"
    train("shop", parents, options={"keys": ["id"], "children": {"visit": {"source": children, "key": "parent"}}})
    made = rows("SELECT table_name, data FROM reco.synthesize_related('shop', 50, seed => 1)")
    known = [data["id"] for table, data in made if table == "shop"]
    owners = [data["parent"] for table, data in made if table == "visit"]
    assert len(set(known)) == 50 and len(owners) == 200
    assert all(owners.count(parent) == 4 for parent in known)
    real = {key for (key,) in rows(f"SELECT id::text FROM ({parents}) p")}
    assert not real & set(known)


def test_training_that_is_cancelled_leaves_nothing(connect, db):
    connection = connect()
    raised = []

    def train():
        try:
            connection.execute(
                """SELECT reco.train_synthesizer('slow', 'SELECT i % 997 AS a, i % 89 AS b, sqrt(i) AS c FROM generate_series(1, 50000) i',
                                                 'ctgan', '{"epochs": 10000}')"""
            )
        except psycopg.DatabaseError as error:
            raised.append(error)

    thread = threading.Thread(target=train)
    thread.start()
    time.sleep(2)
    start = time.monotonic()
    connection.cancel()
    thread.join()
    assert time.monotonic() - start < 5
    assert isinstance(raised[0], errors.QueryCanceled)
    assert db.execute("SELECT count(*) FROM reco.model WHERE name = 'slow'").fetchone() == (0,)


def test_a_model_of_another_task_is_named(db):
    with pytest.raises(errors.WrongObjectType, match="text_embedding, not for synthesis"):
        db.execute("SELECT reco.synthesize('all-minilm-l6-v2', 1)")
    with pytest.raises(errors.UndefinedObject, match='"none"'):
        db.execute("SELECT reco.synthesize('none', 1)")


def test_a_synthesizer_is_granted_as_other_models_are(connect, db, train):
    train("p", "SELECT segment, price FROM purchase")
    db.execute("DROP ROLE IF EXISTS maker")
    db.execute("CREATE ROLE maker LOGIN")
    try:
        maker = connect(user="maker")
        with pytest.raises(errors.InsufficientPrivilege):
            maker.execute("SELECT reco.synthesize('p', 1)")
        db.execute("SELECT reco.grant_model('p', 'maker')")
        assert maker.execute("SELECT count(*) FROM reco.synthesize('p', 3)").fetchone() == (3,)
        with pytest.raises(errors.InsufficientPrivilege):
            maker.execute("SELECT reco.train_synthesizer('q', 'TABLE purchase')")
        maker.close()
    finally:
        db.execute("SELECT reco.revoke_model('p', 'maker')")
        db.execute("DROP ROLE maker")
