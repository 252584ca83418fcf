"""What clients' drivers send for lists: types of their own choosing, none at all, empty lists."""

import numpy
import psycopg
import pytest
import tiny
from psycopg.types.numeric import Int2, Int4, Int8

A, B = [3.0, 4.0], [4.0, 3.0]


@pytest.fixture(scope="module")
def shop(server, database):
    with psycopg.connect(server, dbname=database, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA drivers; SET search_path = drivers, public")
        connection.execute(tiny.PURCHASES)
        tiny.train(connection, "drivers", "item_knn")
        yield
        connection.execute("SELECT reco.drop_model('drivers'); DROP SCHEMA drivers CASCADE")


def untyped(values):
    """A list as drivers send it that leave the type to the server: node-postgres, and psycopg for texts alone."""
    return "{" + ",".join(map(str, values)) + "}"


LISTS = [
    (list, "double precision[]"),
    (lambda values: [int(v) for v in values], "smallint[]"),
    (lambda values: [Int4(v) for v in values], "integer[]"),
    (lambda values: [Int8(v) for v in values], "bigint[]"),
    (lambda values: [numpy.float32(v) for v in values], "real[]"),
    (untyped, None),
]


@pytest.mark.parametrize("make, sent", LISTS)
def test_vectors_of_every_type_that_a_driver_sends(db, make, sent):
    assert make is untyped or db.execute("SELECT pg_typeof(%s)::text", [make(A)]).fetchone() == (sent,)
    a, b = make(A), make(B)
    for given in ((a, b), (A, b), (a, B), (untyped(A), b), (a, untyped(B))):
        assert db.execute("SELECT reco.cosine_similarity(%s, %s), reco.dot_product(%s, %s)", given * 2).fetchone() == pytest.approx((0.96, 24))
    # A column is real[]: the client gives the other vector.
    kept = "SELECT reco.cosine_similarity(v, %s), reco.dot_product(%s, v) FROM (SELECT %s::real[] AS v OFFSET 0) kept"
    assert db.execute(kept, [b, b, A]).fetchone() == pytest.approx((0.96, 24))
    (fused,) = db.execute("SELECT reco.fuse(%s, %s, weights => %s, method => 'add')", [a, b, make([1, 0])]).fetchone()
    assert fused == pytest.approx([0.6, 0.8])
    (three,) = db.execute("SELECT reco.fuse(%s, %s, %s, weights => %s)", [a, b, a, make([0, 1, 0])]).fetchone()
    assert three == pytest.approx([0, 0, 0.8, 0.6, 0, 0])


@pytest.mark.parametrize("cast", ["real[]", "double precision[]", "numeric[]", "integer[]", "smallint[]", "bigint[]", "reco.numbers"])
def test_columns_of_every_type_of_number(db, cast):
    rows = f"(SELECT v::real[]::{cast} AS v, s FROM (VALUES ('{{1,0}}', 'a'), ('{{3,2}}', 'b'), ('{{0,1}}', 'a'), ('{{4,2}}', 'b')) r (v, s) OFFSET 0) r"
    assert db.execute(f"SELECT reco.mean_embedding(v), reco.mean_embedding(v, 2) FROM {rows}").fetchone() == ([2.0, 1.25], [2.0, 1.25])
    for label in ("s", "ascii(s)", "ascii(s)::float8", "s = 'a'"):
        assert len(db.execute(f"SELECT reco.importance(v, {label}, 'el2n') OVER () FROM {rows}").fetchall()) == 4
    assert db.execute(f"SELECT DISTINCT reco.cosine_similarity(v, v) FROM {rows}").fetchone()[0] == pytest.approx(1)


def test_vectors_without_any_type(db):
    assert db.execute("SELECT reco.cosine_similarity('{3,4}', '{4,3}'), reco.dot_product(ARRAY[3, 4], ARRAY[0.5, 1])").fetchone() == (
        pytest.approx(0.96),
        5.5,
    )
    assert db.execute("SELECT reco.cosine_similarity(NULL, NULL), reco.fuse('{1}', '{1}')").fetchone()[0] is None
    for empty in ([], "{}", numpy.zeros(0).tolist()):
        with pytest.raises(psycopg.errors.InvalidParameterValue, match='vector "a" must not be empty'):
            db.execute("SELECT reco.cosine_similarity(%s, %s)", [empty, empty])
        with pytest.raises(psycopg.errors.InvalidParameterValue, match='vector "b" must not be empty'):
            db.execute("SELECT reco.dot_product(%s, %s)", [A, empty])


def test_a_number_too_large_for_a_vector_is_named(db):
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="vector element (1e39|1000000)") as error:
        db.execute("SELECT reco.cosine_similarity(%s, %s)", [[1e39], [1.0]])
    assert "fit real" in error.value.diag.message_hint
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="must not contain nulls"):
        db.execute("SELECT reco.cosine_similarity(%s, %s)", [[1.0, None], A])


def test_a_role_without_rights_on_the_internal_schema_uses_the_casts(role):
    connection = role("driver_reader")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT reco_internal.numbers(ARRAY[1])")
    with pytest.raises(psycopg.errors.InvalidTextRepresentation):
        connection.execute("SELECT reco.cosine_similarity('{a}', '{b}')")
    assert connection.execute("SELECT reco.cosine_similarity('{3,4}', ARRAY[4, 3])").fetchone()[0] == pytest.approx(0.96)


@pytest.mark.parametrize("binary", [False, True])
def test_baskets_of_every_type_that_a_driver_sends(db, shop, binary):
    query = "SELECT item_id, score FROM reco.recommend_for_items('drivers', %{0}, {1} k => 5)"
    query = query.replace("{0}", "b" if binary else "s")
    ids = [3, 7, 11]
    expected = db.execute(query.replace("{1}", ""), [[str(i) for i in ids]]).fetchall()
    assert len(expected) == 5
    for given in (ids, [Int2(i) for i in ids], [Int4(i) for i in ids], [Int8(i) for i in ids]):
        assert db.execute(query.replace("{1}", ""), [given]).fetchall() == expected
    weighted = query.replace("{1}", "weights => %s,")
    unequal = db.execute(weighted, [ids, untyped([1, 2, 0.5])]).fetchall()
    assert unequal != expected
    for weights in ([1.0, 2.0, 0.5], [numpy.float32(w) for w in (1, 2, 0.5)]):
        assert db.execute(weighted, [ids, weights]).fetchall() == unequal
    assert db.execute(weighted, [ids, [1, 1, 1]]).fetchall() == expected


def test_baskets_without_a_type_and_empty_ones(db, shop):
    query = "SELECT item_id, score FROM reco.recommend_for_items('drivers', %s, %s, 5)"
    assert db.execute(query, ["{3,7}", None]).fetchall() == db.execute(query, [[3, 7], [1.0, 1.0]]).fetchall()
    popular = db.execute(query, ["{}", None]).fetchall()
    assert len(popular) == 5
    assert db.execute(query, [[], []]).fetchall() == db.execute(query, [[], None]).fetchall() == popular
    with pytest.raises(psycopg.errors.InvalidParameterValue, match='"item_ids" must not be an array of double precision') as error:
        db.execute(query, [[0.5], None])
    assert "array of text, bigint" in error.value.diag.message_hint
    with pytest.raises(psycopg.errors.InvalidParameterValue, match='argument "item_ids" must not contain nulls'):
        db.execute(query, [[1, None], None])


def test_a_list_that_came_as_one_text_is_warned_of_once_a_statement(db):
    tiny.import_text(db, "driver_texts")
    said = []
    db.add_notice_handler(lambda notice: said.append((notice.message_primary, notice.message_hint)))
    # A list of texts goes without a type, which PostgreSQL takes for text.
    for call in ("SELECT reco.embed(%s, 'driver_texts')", "SELECT count(*) FROM reco.augment_text(%s, 1, 'swap')"):
        db.execute(call, [["red", "wine"]])
        ((message, hint),) = said
        assert message.endswith("looks like an array but has type text") and "::text[]" in hint
        said.clear()
    db.execute("SELECT reco.embed(t, 'driver_texts') FROM (VALUES ('{a}'), ('{b,c}'), ('{}')) v (t)")
    assert len(said) == 1
    said.clear()
    db.execute("SELECT reco.embed(t, 'driver_texts') FROM (VALUES ('red'), ('{\"json\": 1}'), ('{a} and {b}')) v (t)")
    assert db.execute("SELECT count(*) FROM reco.embed(%s::text[], 'driver_texts')", [["red", "wine"]]).fetchone() == (2,)
    assert db.execute("SELECT count(*) FROM reco.embed(%s::text[], 'driver_texts')", [[]]).fetchone() == (0,)
    assert said == []
    db.execute("SELECT reco.drop_model('driver_texts')")


@pytest.mark.parametrize("deny", [[3, 7], [Int4(3), Int4(7)], [Int8(3), Int8(7)], ["3", "7"], "{3,7}"])
def test_items_are_denied_by_ids_of_every_type(db, shop, deny):
    for call in (
        "SELECT item_id FROM reco.recommend('drivers', 5, 50, deny => %s)",
        "SELECT item_id FROM reco.recommend('drivers', '5', 50, deny => %s)",
        "SELECT item_id FROM reco.recommend_for_items('drivers', ARRAY[11, 12], k => 50, deny => %s)",
        "SELECT item_id FROM reco.recommend_for_items('drivers', '{11,12}', k => 50, deny => %s)",
        "SELECT item_id FROM reco.recommend_all('drivers', 50, exclude_seen => false, deny => %s)",
    ):
        every = {item for (item,) in db.execute(call, [[]])}
        assert {item for (item,) in db.execute(call.replace(", deny => %s", ""))} == {item for (item,) in db.execute(call, [None])} == every
        assert {item for (item,) in db.execute(call, [deny])} == every - {"3", "7"}
    with pytest.raises(psycopg.errors.InvalidParameterValue, match='"deny" must not be an array of double precision'):
        db.execute("SELECT reco.recommend('drivers', 5, deny => %s)", [[0.5]])
