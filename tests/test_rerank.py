"""Texts ranked by cross-encoders, against Python's tokenizers and ONNX Runtime on the same graphs."""

import json
import time

import numpy
import onnx
import onnxruntime
import psycopg
import pytest
import tiny
import tokenizers
from onnx import TensorProto, helper
from psycopg import errors
from reference import MODELS, onnx_bytes

SENTENCES = "all-minilm-l6-v2"
MAX_LENGTH = 32
CONFIG = json.dumps({"max_length": MAX_LENGTH})
IMPORT = "SELECT reco.import_model(%s, %b, 'text_pair', %b, %s)"
RERANK = "SELECT rank, ordinal, score FROM reco.rerank(%s, %s::text[], %s)"
# Another limit than the worker's: such a session runs its models itself.
BY_ITSELF = "SET reco.run_memory_limit = '999MB'"
TEXTS = [
    "red wine",
    "",
    "milk",
    "dry red wine and bread with milk",
    "tea",
    "red wine",
    "红葡萄酒 — “quotes” 🍷",
    "sweet dark coffee " * 30,
    "   ",
    "[SEP] wine [CLS]",
]


def transformer(logits=1):
    """The set-up's BERT with a drawn head over the first token: a cross-encoder as published ones are, which knows nothing."""
    model = onnx.load_from_string(onnx_bytes(SENTENCES))
    weights = numpy.random.default_rng(3).standard_normal((384, logits)).astype(numpy.float32)
    model.graph.initializer.extend([tiny.constant("first", numpy.int64(0)), tiny.constant("head", weights)])
    model.graph.node.extend(
        [
            helper.make_node("Gather", ["last_hidden_state", "first"], ["pooled"], axis=1),
            helper.make_node("MatMul", ["pooled", "head"], ["logits"]),
        ]
    )
    del model.graph.output[:]
    model.graph.output.append(tiny.port("logits", TensorProto.FLOAT, ["batch", logits]))
    return model.SerializeToString()


class Reference:
    """One pair at a time, unpadded, cut by `only_second`."""

    def __init__(self, graph, tokenizer, max_length=MAX_LENGTH):
        self.tokenizer = tokenizers.Tokenizer.from_str(tokenizer.decode())
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(max_length, strategy="only_second")
        self.session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])

    def score(self, query, text):
        encoding = self.tokenizer.encode(query, text)
        values = {"input_ids": encoding.ids, "attention_mask": encoding.attention_mask, "token_type_ids": encoding.type_ids}
        taken = [value.name for value in self.session.get_inputs()]
        (logits,) = self.session.run(None, {name: numpy.array([values[name]], numpy.int64) for name in taken})
        found = logits.reshape(-1)
        return float(found[1] - found[0] if len(found) == 2 else found[0])


def by_place(found):
    return [score for _, score in sorted((ordinal, score) for _, ordinal, score in found)]


@pytest.fixture(scope="module")
def encoders(server, database):
    """A superuser's connection, and the models `pair` and `transformer`."""
    with psycopg.connect(server, dbname=database, autocommit=True) as connection:
        tiny.import_pair(connection, "pair", CONFIG)
        tokenizer = (MODELS / SENTENCES / "tokenizer.json").read_bytes()
        connection.execute(IMPORT, ["transformer", transformer(), tokenizer, '{"max_length": 256}'])
        yield connection
        connection.execute("SELECT reco.drop_model('pair'), reco.drop_model('transformer')")


@pytest.mark.parametrize("query", ["red wine", "", "coffee with milk", "bread [SEP] tea"])
def test_scores_equal_pythons_whatever_the_batch(encoders, connect, query):
    reference = Reference(tiny.pair_model(), tiny.pair_tokenizer())
    expected = [reference.score(query, text) for text in TEXTS]
    for settings in ("", BY_ITSELF, "SET reco.max_batch = 1", f"{BY_ITSELF}; SET reco.max_batch = 3; SET reco.threads = 1"):
        connection = connect()
        connection.execute(settings or "SELECT 1")
        found = connection.execute(RERANK, [query, TEXTS, "pair"]).fetchall()
        assert numpy.allclose(by_place(found), expected, rtol=1e-5, atol=1e-5), settings


def test_a_transformer_with_berts_own_tokenizer_equals_pythons(encoders, connect):
    tokenizer = (MODELS / SENTENCES / "tokenizer.json").read_bytes()
    reference = Reference(transformer(), tokenizer, 256)
    query = "Which wine goes with cheese?"
    texts = [*TEXTS, "A dry white wine, served cold. " * 60, "Käse und Wein — was passt?", "word " * 500]
    expected = [reference.score(query, text) for text in texts]
    for settings in ("SELECT 1", BY_ITSELF):
        connection = connect()
        connection.execute(settings)
        found = connection.execute(RERANK, [query, texts, "transformer"]).fetchall()
        assert numpy.allclose(by_place(found), expected, rtol=1e-3, atol=1e-3)
        # Clear differences have Python's order.
        order = [ordinal - 1 for _, ordinal, _ in found]
        assert all(expected[a] > expected[b] - 0.05 for a, b in zip(order, order[1:]))


def test_the_best_come_first_ties_in_the_order_of_the_array_and_null_last(encoders):
    texts = ["milk", None, "red wine", "tea", "red wine", None, "", "red wine"]
    found = encoders.execute(RERANK, ["red wine", texts, "pair"]).fetchall()
    assert [rank for rank, _, _ in found] == list(range(1, 9))
    assert sorted(ordinal for _, ordinal, _ in found) == list(range(1, 9))
    assert found[-2:] == [(7, 2, None), (8, 6, None)]
    scores = [score for _, _, score in found[:-2]]
    assert scores == sorted(scores, reverse=True)
    places = [ordinal for _, ordinal, _ in found]
    assert places.index(3) + 2 == places.index(5) + 1 == places.index(8), "equal texts have equal scores"


def test_without_texts_there_are_no_rows(encoders):
    for arguments in (["red", [], "pair"], ["red", None, "pair"], [None, ["red"], "pair"], ["red", ["wine"], None]):
        assert encoders.execute("SELECT * FROM reco.rerank(%s::text, %s::text[], %s::text)", arguments).fetchall() == []
    assert encoders.execute(RERANK, ["red", [None], "pair"]).fetchall() == [(1, 1, None)]


def test_a_join_finds_the_rows_again(encoders):
    got = encoders.execute(
        """WITH candidate AS (SELECT array_agg(id ORDER BY id) AS ids, array_agg(text ORDER BY id) AS texts
                                FROM (VALUES (7, 'milk'), (9, 'red wine'), (12, 'tea')) AS c (id, text))
           SELECT rank, ids[ordinal], texts[ordinal], score FROM candidate, reco.rerank('red wine', texts, 'pair') ORDER BY rank"""
    ).fetchall()
    assert {(id, text) for _, id, text, _ in got} == {(7, "milk"), (9, "red wine"), (12, "tea")}
    assert [rank for rank, *_ in got] == [1, 2, 3]


@pytest.mark.parametrize(
    "model",
    [
        {"logits": 2},
        {"types": False},
        {"logits": 2, "types": False, "shape": ["batch", "classes"]},
    ],
    ids=["two logits", "no token types", "an unknown number of logits"],
)
def test_graphs_of_other_forms_equal_pythons(encoders, model):
    tiny.import_pair(encoders, "other", CONFIG, **model)
    reference = Reference(tiny.pair_model(**model), tiny.pair_tokenizer())
    found = encoders.execute(RERANK, ["sweet tea", TEXTS, "other"]).fetchall()
    assert numpy.allclose(by_place(found), [reference.score("sweet tea", text) for text in TEXTS], rtol=1e-5, atol=1e-5)
    encoders.execute("SELECT reco.drop_model('other')")


def test_one_number_for_each_pair_will_do(encoders):
    """[batch]: the sum of the text's token ids."""
    graph = tiny.model_bytes(
        [
            helper.make_node("Mul", ["input_ids", "token_type_ids"], ["of_text"]),
            helper.make_node("Mul", ["of_text", "attention_mask"], ["kept"]),
            helper.make_node("ReduceSum", ["kept", "axes"], ["sums"], keepdims=0),
            helper.make_node("Cast", ["sums"], ["score"], to=TensorProto.FLOAT),
        ],
        [tiny.port(name, TensorProto.INT64, ["batch", "length"]) for name in ("input_ids", "attention_mask", "token_type_ids")],
        [tiny.port("score", TensorProto.FLOAT, ["batch"])],
        [tiny.constant("axes", numpy.array([1], numpy.int64))],
    )
    encoders.execute(IMPORT, ["sums", graph, tiny.pair_tokenizer(), '{"pad_id": 1, "output": "score"}'])
    # red is token 4, wine 7; [SEP] is 3.
    assert encoders.execute(RERANK, ["wine", ["", "red", "red wine"], "sums"]).fetchall() == [(1, 3, 14.0), (2, 2, 7.0), (3, 1, 3.0)]
    encoders.execute("SELECT reco.drop_model('sums')")


def test_a_tokenizer_as_xlm_robertas_has_its_own_template(encoders):
    tokenizer = tiny.pair_tokenizer("[CLS] $A [SEP] [SEP] $B [SEP]")
    tiny.import_pair(encoders, "roberta", CONFIG, tokenizer, types=False)
    reference = Reference(tiny.pair_model(types=False), tokenizer)
    found = encoders.execute(RERANK, ["red", TEXTS, "roberta"]).fetchall()
    assert numpy.allclose(by_place(found), [reference.score("red", text) for text in TEXTS], rtol=1e-5, atol=1e-5)
    encoders.execute("SELECT reco.drop_model('roberta')")


def test_a_long_query_keeps_half_of_the_length(encoders):
    reference = Reference(tiny.pair_model(), tiny.pair_tokenizer())
    query, kept = "red wine " * 50, "red wine " * (MAX_LENGTH // 4)
    found = encoders.execute(RERANK, [query, TEXTS, "pair"]).fetchall()
    assert numpy.allclose(by_place(found), [reference.score(kept, text) for text in TEXTS], rtol=1e-5, atol=1e-5)


def test_runs_are_counted(encoders):
    counted = "SELECT coalesce(sum(rows), 0), coalesce(sum(tokens), 0) FROM reco.stat_models WHERE model = 'pair'"
    rows, tokens = encoders.execute(counted).fetchone()
    encoders.execute(RERANK, ["red wine", ["tea", "milk", "tea", None], "pair"])
    assert encoders.execute(counted).fetchone() == (rows + 3, tokens + 2 * len("[CLS] red wine [SEP] tea [SEP]".split()))
    assert encoders.execute("SELECT task FROM reco.models WHERE name = 'pair'").fetchone() == ("text_pair",)
    inputs = encoders.execute("SELECT name FROM reco.describe_model('pair') WHERE kind = 'input'").fetchall()
    assert inputs == [("input_ids",), ("attention_mask",), ("token_type_ids",)]


# -------------------------------------------------------------------------------------------------------------- bad input


@pytest.fixture
def fails(encoders):
    """Asserts that a statement fails with this error, message and hint, and that the connection then works."""

    def check(state, message, statement, *parameters, hint=""):
        with pytest.raises(state, match=message) as error:
            encoders.execute(statement, parameters)
        assert hint in error.value.diag.message_hint
        assert encoders.execute("SELECT count(*) FROM reco.rerank('red', '{wine}', 'pair')").fetchone() == (1,)
        assert encoders.execute("SELECT count(*) FROM reco.models WHERE name = 'bad'").fetchone() == (0,)

    return check


def test_models_of_other_tasks_and_unknown_ones(fails):
    fails(errors.WrongObjectType, f'model "{SENTENCES}" is for text_embedding, not for text_pair', RERANK, "red", ["wine"], SENTENCES, hint="'text_pair'")
    fails(errors.WrongObjectType, 'model "pair" is for text_pair, not for text_embedding', "SELECT reco.embed('red', 'pair')")
    fails(errors.UndefinedObject, 'model "none" does not exist', RERANK, "red", ["wine"], "none")
    # Also where there is nothing to rank.
    fails(errors.UndefinedObject, 'model "none" does not exist', RERANK, "red", [], "none")


def test_a_role_without_a_grant(encoders, role):
    reader = role("pair_reader")
    with pytest.raises(errors.InsufficientPrivilege, match='permission denied for model "pair"') as error:
        reader.execute(RERANK, ["red", ["wine"], "pair"])
    assert "reco.grant_model('pair', role)" in error.value.diag.message_hint
    encoders.execute("SELECT reco.grant_model('pair', 'pair_reader')")
    assert reader.execute(RERANK, ["red", ["wine"], "pair"]).fetchall() == encoders.execute(RERANK, ["red", ["wine"], "pair"]).fetchall()
    encoders.execute("SELECT reco.revoke_model('pair', 'pair_reader')")


def test_more_texts_than_a_call_may_have(encoders, fails):
    assert len(encoders.execute(RERANK, ["red", ["wine"] * 9_999 + [None], "pair"]).fetchall()) == 10_000
    message = 'argument "texts" needs 10001 elements, but the limit is 10000'
    fails(errors.ProgramLimitExceeded, message, RERANK, "red", ["wine"] * 10_001, "pair", hint="best texts")
    fails(errors.ProgramLimitExceeded, message, RERANK, "red", [None] * 10_001, "pair", hint="best texts")


def test_texts_of_a_megabyte_are_cut_or_refused(encoders, fails):
    long, short = ["wine " * 210_000, "red " * 260_000], ["wine " * 40, "red " * 40]
    for query in ("tea", "dry wine " * 120_000):
        found, expected = (by_place(encoders.execute(RERANK, [query, texts, "pair"]).fetchall()) for texts in (long, short))
        assert found == expected
    endless = "x" * 1_050_000
    limit = "1050000 bytes to be read, but the limit is 131072 bytes"
    fails(errors.ProgramLimitExceeded, limit, RERANK, "red", ["wine", endless], "pair", hint="left")
    fails(errors.ProgramLimitExceeded, limit, RERANK, endless, ["wine"], "pair", hint="left")


def test_graphs_that_give_no_score_for_a_pair(fails):
    def imported(message, state, hint, **model):
        fails(state, message, IMPORT, "bad", tiny.pair_model(**model), tiny.pair_tokenizer(), "{}", hint=hint)

    imported(r'output "logits" has type float\[batch,3\]', errors.FeatureNotSupported, "[batch, 2]", logits=3)
    # Whose shape the graph does not say.
    message = r'model "bad" failed: output "logits" has shape \[3, 3\] for 3 pairs, expected \[3\], \[3, 1\] or \[3, 2\]'
    imported(message, errors.ExternalRoutineException, "describe_model", logits=3, shape=["batch", "classes"])
    fails(errors.FeatureNotSupported, "has type float", IMPORT, "bad", tiny.text_model(), tiny.pair_tokenizer(), "{}", hint="[batch, 1]")
    fails(errors.FeatureNotSupported, 'input "input_ids" does not exist', IMPORT, "bad", tiny.linear_model(), tiny.pair_tokenizer(), "{}")
    nothing = tiny.model_bytes(
        [
            helper.make_node("Cast", ["input_ids"], ["ids"], to=TensorProto.FLOAT),
            helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
            helper.make_node("Sub", ["ids", "ids"], ["zero"]),
            helper.make_node("Div", ["zero", "zero"], ["nan"]),
            helper.make_node("Mul", ["nan", "mask"], ["all"]),
            helper.make_node("ReduceMax", ["all"], ["score"], axes=[1], keepdims=0),
        ],
        [tiny.port(name, TensorProto.INT64, ["batch", "length"]) for name in ("input_ids", "attention_mask")],
        [tiny.port("score", TensorProto.FLOAT, ["batch"])],
    )
    fails(errors.ExternalRoutineException, "not a number", IMPORT, "bad", nothing, tiny.pair_tokenizer(), "{}")


def test_configs_and_tokenizers_that_do_not_fit(fails):
    graph, tokenizer = tiny.pair_model(), tiny.pair_tokenizer()
    fails(errors.InvalidParameterValue, 'task "text_pair" requires a tokenizer', "SELECT reco.import_model('bad', %b, 'text_pair')", graph, hint="tokenizer.json")
    fails(errors.InvalidParameterValue, "tokenizer does not separate", IMPORT, "bad", graph, tiny.tokenizer(), "{}", hint="cross-encoder")
    fails(errors.InvalidParameterValue, "tokenizer does not separate", IMPORT, "bad", graph, tiny.pair_tokenizer("$A $B:1"), "{}", hint="cross-encoder")
    broken = json.loads(tokenizer)
    del broken["post_processor"]["special_tokens"]["[SEP]"]
    fails(errors.InvalidBinaryRepresentation, "invalid template", IMPORT, "bad", graph, json.dumps(broken).encode(), "{}")
    fails(errors.InvalidBinaryRepresentation, "invalid tokenizer", IMPORT, "bad", graph, b"{}", "{}")
    fails(errors.InvalidParameterValue, "config: 7", IMPORT, "bad", graph, tokenizer, '{"max_length": 7}', hint="at least 8")
    fails(errors.InvalidParameterValue, "unknown field `pooling`", IMPORT, "bad", graph, tokenizer, '{"pooling": "mean"}')
    fails(errors.FeatureNotSupported, 'output "x" does not exist', IMPORT, "bad", graph, tokenizer, '{"output": "x"}')


@pytest.mark.parametrize("settings", ["SELECT 1", BY_ITSELF], ids=["by a worker", "by itself"])
def test_a_call_can_be_canceled_in_the_middle(encoders, connect, settings):
    connection = connect()
    connection.execute(settings)
    slow = "SELECT count(*) FROM reco.rerank('red', (SELECT array_agg(repeat('word ', 250) || i) FROM generate_series(1, 5000) i), 'transformer')"
    connection.execute("SELECT reco.warm('transformer')")
    for seconds in (0.3, 1.5):
        connection.execute(f"SET statement_timeout = '{int(seconds * 1000)}ms'")
        start = time.monotonic()
        with pytest.raises(errors.QueryCanceled, match="statement timeout"):
            connection.execute(slow)
        assert time.monotonic() - start < seconds + 5
        connection.execute("RESET statement_timeout")
        assert connection.execute("SELECT count(*) FROM reco.rerank('red', '{wine,tea}', 'transformer')").fetchone() == (2,)
