"""What a user can get wrong: a clear error with its SQLSTATE and a hint, or a right answer; the connection goes on."""

import family
import onnx
import psycopg
import pytest
from family import ALGORITHMS
from onnx import external_data_helper
from psycopg import errors
from reference import MODELS, onnx_bytes
from test_models import linear

GOOD = "SELECT * FROM (VALUES (1, 10), (1, 11), (2, 10), (2, 12)) AS t(user_id, item_id)"


@pytest.fixture
def fails(db):
    """Asserts that a statement fails with this SQLSTATE, message and hint, and that the connection then works."""

    def check(state, message, statement, *parameters, hint=""):
        with pytest.raises(state, match=message) as error:
            db.execute(statement, parameters or None)
        assert error.value.sqlstate == state.sqlstate
        assert error.value.diag.message_hint, error.value.diag.message_primary
        assert hint in error.value.diag.message_hint
        assert db.execute("SELECT 1").fetchone() == (1,)

    return check


def train(source, algorithm="ials", options="{}"):
    return "SELECT reco.train('bad', %s, %s, %s::jsonb)", source, algorithm, options


SOURCES = [
    (errors.UndefinedColumn, 'no column "user_id"', "SELECT 1 AS user, 2 AS item_id", "user, item_id"),
    (errors.UndefinedColumn, 'no column "item_id"', "SELECT 1 AS user_id", "AS item_id"),
    (errors.InvalidParameterValue, "has no rows", f"{GOOD} WHERE false", "at least one row"),
    (errors.NullValueNotAllowed, 'column "user_id" is null in row 2', "SELECT * FROM (VALUES (1, 1), (NULL, 1)) t(user_id, item_id)", "user_id IS NOT NULL"),
    (errors.NullValueNotAllowed, 'column "item_id" is null in row 1', "SELECT 1 AS user_id, NULL::int AS item_id", ""),
    (errors.NullValueNotAllowed, 'column "weight" is null', "SELECT 1 AS user_id, 1 AS item_id, NULL::real AS weight", ""),
    (errors.InvalidParameterValue, 'user "7" and item "8": NaN', "SELECT 7 AS user_id, 8 AS item_id, 'NaN'::float8 AS weight", "finite"),
    (errors.InvalidParameterValue, "no rows with a weight above 0", "SELECT 7 AS user_id, 8 AS item_id, -1 AS weight", "at least one row"),
    (errors.InvalidParameterValue, 'item "8": inf', "SELECT 7 AS user_id, 8 AS item_id, 'Infinity'::numeric AS weight", ""),
    (errors.InvalidParameterValue, "no rows with a weight above 0", "SELECT 7 AS user_id, 8 AS item_id, 0 AS weight", ""),
    (errors.DatatypeMismatch, 'column "user_id" has type boolean', "SELECT true AS user_id, 8 AS item_id", "text, bigint"),
    (errors.DatatypeMismatch, 'column "weight" has type text', "SELECT 1 AS user_id, 8 AS item_id, 'x'::text AS weight", "number"),
]  # fmt: skip


@pytest.mark.parametrize("state, message, source, hint", SOURCES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_source_that_cannot_be_trained_on(fails, scalar, algorithm, state, message, source, hint):
    fails(state, message, *train(source, algorithm), hint=hint)
    assert scalar("SELECT count(*) FROM reco.model WHERE name = 'bad'") == 0


WRITES = [
    "CREATE TABLE t (i int)",
    "SELECT 1 AS user_id, 2 AS item_id; SELECT 2",
    "INSERT INTO secret_log SELECT 1, 2 RETURNING user_id, item_id",
    "WITH d AS (DELETE FROM secret_log RETURNING *) SELECT * FROM d",
    "EXPLAIN SELECT 1",
    "",
]


@pytest.mark.parametrize("source", WRITES)
def test_a_source_that_is_no_query_that_only_reads(db, fails, source):
    db.execute("CREATE TABLE IF NOT EXISTS secret_log AS " + GOOD)
    fails(errors.InvalidParameterValue, 'argument "source" must be a read-only query', *train(source), hint="SELECT")
    assert db.execute("SELECT count(*), to_regclass('t') FROM secret_log").fetchone() == (4, None)
    db.execute("DROP TABLE secret_log")


@pytest.mark.parametrize("source", ["not sql", "TABLE no_such_table", "SELECT 1/0 AS user_id, 2 AS item_id"])
def test_a_source_that_fails_fails_as_itself(db, source):
    with pytest.raises((errors.SyntaxError, errors.UndefinedTable, errors.DivisionByZero)):
        db.execute(*[train(source)[0], train(source)[1:]])
    assert db.execute("SELECT 1").fetchone() == (1,)


def test_no_privilege_on_the_source(role, db):
    db.execute("CREATE TABLE secret AS " + GOOD)
    outsider = role("outsider", "reco_trainer")
    for statement in [
        "SELECT reco.train('bad', 'TABLE secret')",
        "SELECT * FROM reco.embed_query('SELECT user_id AS id, ''x'' AS text FROM secret')",
        "SELECT * FROM reco.split('TABLE secret', 'random')",
    ]:
        with pytest.raises(errors.InsufficientPrivilege, match="permission denied for table secret"):
            outsider.execute(statement)
        assert outsider.execute("SELECT 1").fetchone() == (1,)
    db.execute("DROP TABLE secret")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_one_user_with_one_item_is_a_model(db, rows, algorithm):
    family.train(db, "tiny", "SELECT 1 AS user_id, 2 AS item_id", algorithm, "SELECT 2 AS item_id, 'a' AS kind")
    assert rows("SELECT * FROM reco.recommend('tiny', 1)") == []
    assert rows("SELECT item_id FROM reco.recommend('tiny', 1, exclude_seen => false)") == [("2",)]
    assert rows("SELECT item_id FROM reco.recommend('tiny', 5)") == [("2",)]
    db.execute("SELECT reco.drop_model('tiny')")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_unknown_option_lists_the_known_ones(fails, algorithm):
    items = ", items => 'SELECT 10 AS item_id, ''a'' AS kind'" if algorithm == "two_tower" else ""
    fails(
        errors.InvalidParameterValue,
        f'unknown option "facters" of {algorithm}',
        f"SELECT reco.train('bad', %s, %s, '{{\"facters\": 3}}'{items})",
        GOOD,
        algorithm,
        hint="Known options: ",
    )


def test_what_an_algorithm_cannot_do_without(fails):
    fails(errors.InvalidParameterValue, "items", *train(GOOD, "two_tower"))
    huge = "SELECT i % 7 AS user_id, i AS item_id FROM generate_series(1, 40000) i"
    fails(errors.ProgramLimitExceeded, "40000", *train(huge, "ease"), hint="gf_cf")


def test_options_and_names_that_do_not_exist(fails):
    fails(errors.InvalidParameterValue, 'unknown algorithm "als"', *train(GOOD, "als"), hint="ials")
    fails(errors.InvalidParameterValue, 'unknown option "factor"', *train(GOOD, "ials", '{"factor": 8}'), hint="factors")
    fails(errors.InvalidParameterValue, "factors", *train(GOOD, "ials", '{"factors": 0}'))
    fails(errors.InvalidParameterValue, "factors", *train(GOOD, "ials", '{"factors": "many"}'))
    fails(errors.InvalidParameterValue, "options", *train(GOOD, "ials", "[1]"))
    fails(errors.InvalidParameterValue, "name", "SELECT reco.train('', %s)", GOOD)
    fails(errors.UndefinedObject, 'model "none" does not exist', "SELECT * FROM reco.recommend('none', 1)", hint="reco.models")
    fails(errors.UndefinedObject, 'model "none" does not exist', "SELECT reco.embed('x', 'none')")
    fails(errors.UndefinedObject, 'model "none" does not exist', "SELECT reco.drop_model('none')")
    fails(errors.WrongObjectType, "not for recommendation", "SELECT * FROM reco.recommend('all-minilm-l6-v2', 1)")
    fails(errors.WrongObjectType, "not for text_embedding", "SELECT reco.embed('x', 'efficientnet-lite0')")
    fails(errors.InvalidParameterValue, "split method", "SELECT * FROM reco.split(%s, 'halves')", GOOD, hint="by_time")
    fails(errors.InvalidParameterValue, "ratio", "SELECT * FROM reco.split(%s, 'random', 1.5)", GOOD)
    fails(errors.UndefinedColumn, 'no column "ts"', "SELECT * FROM reco.split(%s, 'by_time')", GOOD)


def test_k_is_at_least_one_and_may_be_huge(db, rows, fails):
    db.execute("SELECT reco.train('small', %s)", [GOOD])
    for k in (0, -1):
        fails(errors.InvalidParameterValue, f"invalid value for k: {k}", "SELECT * FROM reco.recommend('small', 1, %s)", k, hint="1 or more")
        fails(errors.InvalidParameterValue, f"invalid value for k: {k}", "SELECT * FROM reco.recommend_all('small', %s)", k)
        fails(errors.InvalidParameterValue, f"invalid value for k: {k}", "SELECT * FROM reco.similar_items('small', 10, %s)", k)
        fails(errors.InvalidParameterValue, f"invalid value for k: {k}", "SELECT reco.top_k(1, 1, %s::int)", k)
        fails(errors.InvalidParameterValue, f"invalid value for k: {k}", "SELECT * FROM reco.evaluate('small', %s, %s::int)", GOOD, k)
    assert len(rows("SELECT * FROM reco.recommend('small', 1, 2147483647)")) == 1
    assert len(rows("SELECT * FROM reco.recommend('small', 9, 2147483647)")) == 3
    assert len(rows("SELECT * FROM reco.similar_items('small', 10, 2147483647)")) == 2
    fails(errors.InvalidParameterValue, 'item "99" is unknown to the model', "SELECT * FROM reco.similar_items('small', 99)")
    fails(errors.InvalidParameterValue, "history", "SELECT * FROM reco.recommend('small', 1, history => 'x')", hint="trained")
    fails(errors.InvalidParameterValue, "history", "SELECT reco.create_view('small', 'v', 3, history => 'x')", hint="trained")
    fails(errors.InvalidParameterValue, "null", "SELECT * FROM reco.recommend_for_items('small', ARRAY['a', NULL])")
    fails(errors.InvalidParameterValue, "weights", "SELECT * FROM reco.recommend_for_items('small', ARRAY['a'], '{1,2}')")
    fails(errors.InvalidParameterValue, "NaN", "SELECT * FROM reco.recommend_for_items('small', ARRAY['a'], '{NaN}')")
    fails(errors.InvalidParameterValue, "no pair to find", "SELECT * FROM reco.evaluate('small', %s)", GOOD)
    db.execute("SELECT reco.drop_model('small')")


def test_what_is_no_onnx_or_is_cut_short(fails):
    import_model = "SELECT reco.import_model('bad', %b)"
    whole = onnx_bytes("efficientnet-lite0")
    for broken in [b"", b"this is no model", bytes(1000), whole[: len(whole) // 2], whole[:100], linear()[:-5]]:
        fails(errors.InvalidBinaryRepresentation, "invalid ONNX model", import_model, broken, hint=".onnx")
    fails(errors.InvalidParameterValue, 'unknown task "magic"', "SELECT reco.import_model('bad', %b, 'magic')", linear())


def test_graphs_that_need_other_files_or_operators(fails):

    import_model = "SELECT reco.import_model('bad', %b)"
    fails(errors.FeatureNotSupported, "custom operators", import_model, linear(domain="my.operators"), hint="standard")
    model = onnx.load_from_string(linear())
    tensor = model.graph.initializer[0]
    tensor.raw_data = tensor.raw_data or b"\0\0\0\0"
    external_data_helper.set_external_data(tensor, "../../../../etc/passwd", 0, 4)
    tensor.ClearField("raw_data")
    fails(errors.FeatureNotSupported, "is stored in an external file", import_model, model.SerializeToString(), hint="one file")
    fails(errors.ExternalRoutineException, "bad", import_model, linear(opset=9999))


def test_a_text_model_that_cannot_be_fed(fails):
    text = "SELECT reco.import_model('bad', %b, 'text_embedding', %b, %s::jsonb)"
    tokenizer = MODELS / "all-minilm-l6-v2" / "tokenizer.json"
    good = onnx_bytes("all-minilm-l6-v2")
    fails(errors.FeatureNotSupported, "input .* does not exist", text, linear(), tokenizer.read_bytes(), "{}")
    fails(errors.InvalidBinaryRepresentation, "invalid tokenizer", text, good, b"{}", "{}")
    fails(errors.InvalidParameterValue, "config", text, good, tokenizer.read_bytes(), '{"max_len": 3}')
    fails(errors.FeatureNotSupported, 'output "x" does not exist', text, good, tokenizer.read_bytes(), '{"output": "x"}')
    fails(errors.InvalidParameterValue, "tokenizer", "SELECT reco.import_model('bad', %b, 'text_embedding')", good)


def test_wrong_input_shapes(db, fails):
    db.execute("SELECT reco.import_model('shapes', %b)", [linear()])
    for inputs, message in [
        ('{"x": [[1, 2, 3]]}', r"shape \[1, 3\]"),
        ('{"x": [1, 2]}', "shape"),
        ('{"x": [[1, 2], [3]]}', "different lengths"),
        ('{"x": [["a", "b"]]}', "not a number"),
        ("{}", "is missing"),
        ('{"x": [[1, 2]], "z": 1}', "does not exist"),
        ("[]", "inputs must be a JSON object"),
    ]:
        fails(errors.InvalidParameterValue, message, "SELECT reco.predict('shapes', %s::jsonb)", inputs, hint="float")
    db.execute("SELECT reco.drop_model('shapes')")


def test_a_text_of_a_megabyte_is_cut_and_embedded(scalar, fails):
    for text in ["wine " * 210_000, "葡萄酒" * 350_000, "x" * 100_000, " " * 100_000]:
        for model in ("all-minilm-l6-v2", "use-multilingual-v3"):
            assert len(scalar("SELECT reco.embed(%s, %s)", text, model)) in (384, 512)
    # What has no tokens to speak of would have to be read to its end.
    for text in ["x" * 1_050_000, " " * 1_050_000]:
        fails(errors.ProgramLimitExceeded, "1050000 bytes to be read, but the limit is 131072 bytes", "SELECT reco.embed(%s)", text, hint="left")


def test_an_image_that_is_none(fails):
    for image in [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", bytes(10_000)]:
        fails(errors.InvalidBinaryRepresentation, "could not read image", "SELECT reco.embed_image(%b)", image, hint="PNG")


def test_images_of_a_query_that_are_none(fails):
    broken = "SELECT * FROM reco.embed_images('SELECT i AS id, ''GIF89a''::bytea AS image FROM generate_series(7, 9) i')"
    fails(errors.InvalidBinaryRepresentation, 'could not read image: image with id "', broken, hint="PNG")
    fails(errors.UndefinedColumn, 'no column "image"', "SELECT * FROM reco.embed_images('SELECT 1 AS id')")
    fails(errors.DatatypeMismatch, 'column "image"', "SELECT * FROM reco.embed_images('SELECT 1 AS id, ''x''::text AS image')")
    fails(errors.NullValueNotAllowed, 'column "id"', "SELECT * FROM reco.embed_images('SELECT NULL::int AS id, ''x''::bytea AS image')")
    fails(errors.WrongObjectType, "all-minilm-l6-v2", "SELECT * FROM reco.embed_images('SELECT 1 AS id, ''x''::bytea AS image', 'all-minilm-l6-v2')")


def test_vectors_that_do_not_fit(fails):
    fails(errors.lookup("2202E"), "different vector dimensions 2 and 3", "SELECT reco.cosine_similarity('{1,2}', '{1,2,3}')", hint="same model")
    fails(errors.InvalidParameterValue, 'vector "a" must not contain nulls', "SELECT reco.dot_product('{1,NULL}', '{1,2}')")
    fails(errors.InvalidParameterValue, "NaN", "SELECT reco.dot_product('{1,NaN}', '{1,2}')")
    fails(errors.InvalidParameterValue, 'vector "a" must not be empty', "SELECT reco.dot_product('{}', '{}')")
    fails(errors.lookup("2202E"), "different vector dimensions 1 and 2", "SELECT reco.mean_embedding(e) FROM (VALUES ('{1}'::real[]), ('{1,2}')) t(e)")
    fails(errors.InvalidParameterValue, "weights", "SELECT reco.fuse('{1}', '{2}', weights => '{1,-1}')")
    fails(errors.InvalidParameterValue, "method", "SELECT reco.fuse('{1}', '{2}', method => 'blend')")
    fails(errors.InvalidParameterValue, "invalid value for score: NaN", "SELECT reco.top_k(1, 'NaN', 3)")
    fails(errors.InvalidParameterValue, "k must be the same in every row", "SELECT reco.top_k(i, i, i) FROM generate_series(1, 3) i")


def test_embed_query_without_its_columns(fails):
    fails(errors.UndefinedColumn, 'no column "text"', "SELECT * FROM reco.embed_query('SELECT 1 AS id')", hint="AS text")
    fails(errors.UndefinedColumn, 'no column "id"', "SELECT * FROM reco.embed_query('SELECT ''x'' AS text')")
    fails(errors.DatatypeMismatch, 'column "text"', "SELECT * FROM reco.embed_query('SELECT 1 AS id, 2 AS text')")
    fails(errors.NullValueNotAllowed, 'column "id"', "SELECT * FROM reco.embed_query('SELECT NULL::int AS id, ''x'' AS text')")
    fails(errors.InvalidParameterValue, "input", "SELECT reco.embed('x', input => 'question')", hint="query")


ENDLESS = "SELECT * FROM (VALUES (1, 10, '2024-01-01'::timestamptz), (2, 11, 'infinity'), (2, 10, '-infinity'), (1, 11, NULL)) t(user_id, item_id, ts)"


@pytest.mark.parametrize("kind", ["timestamptz", "timestamp", "date"])
def test_a_time_without_end_is_named_where_ages_count(fails, db, scalar, kind):
    source = f"SELECT user_id, item_id, ts::{kind} FROM ({ENDLESS}) s"
    for algorithm in ("popularity", "ials"):
        fails(
            errors.DatetimeFieldOverflow,
            'column "ts" is infinite in row 2 of the source',
            f"SELECT reco.train('endless', %s, '{algorithm}', half_life => '30 days')",
            source,
            hint="isfinite(ts)",
        )
    fails(errors.DatetimeFieldOverflow, 'column "ts" is infinite', "SELECT * FROM reco.tune(%s, half_life => '1 day')", source, hint="isfinite")
    fails(errors.DatetimeFieldOverflow, 'column "ts" is infinite', "SELECT * FROM reco.cross_validate(%s, half_life => '1 day')", source, hint="isfinite")
    option = f"{source} WHERE ts <> '-infinity'"
    fails(errors.DatetimeFieldOverflow, 'column "ts" is infinite', *train(option, "popularity", '{"half_life": 30}'), hint="isfinite")
    # Without ages a time is only an order; and what is infinitely old counts nothing, as what has no time does.
    assert scalar("SELECT reco.train('endless', %s, 'popularity')", source) == 1
    finite = f"{source} WHERE ts <> 'infinity' OR ts IS NULL"
    assert scalar("SELECT reco.train('endless', %s, 'popularity', half_life => '30 days')", finite) == 2
    assert scalar("SELECT (metrics ->> 'interactions')::int FROM reco.models WHERE name = 'endless' AND version = 2") == 1
    db.execute("SELECT reco.drop_model('endless')")


def nested(levels):
    return "[" * levels + "]" * levels


def test_json_that_is_nested_too_deep_is_refused_in_plain_words(fails, db):
    db.execute("SELECT reco.import_model('linear_json', %b)", [linear()])
    message = "jsonb argument is nested more than 127 levels deep"
    for levels in (128, 129, 5000):
        deep = f'{{"factors": {nested(levels - 1)}}}'
        fails(errors.InvalidParameterValue, message, *train(GOOD, options=deep), hint="at most 127")
        fails(errors.InvalidParameterValue, message, "SELECT reco.predict('linear_json', %s)", f'{{"x": {nested(levels - 1)}}}', hint="at most 127")
        fails(errors.InvalidParameterValue, message, "SELECT * FROM reco.tune(%s, grid => %s)", GOOD, deep, hint="at most 127")
    fails(errors.InvalidParameterValue, "factors", *train(GOOD, options=f'{{"factors": {nested(126)}}}'))
    fails(errors.InvalidParameterValue, "number out of range", *train(GOOD, options='{"factors": 1e999}'), hint="float8")
    # Brackets in texts do not nest.
    fails(errors.InvalidParameterValue, "factors", *train(GOOD, options='{"factors": "' + "[" * 500 + '\\\\\\""}'))
    db.execute("SELECT reco.drop_model('linear_json')")
