"""Models small enough to be imported in milliseconds, and a shop small enough to be trained on as fast."""

import io
import json
import struct
import zlib

import numpy

import tokenizers
from onnx import TensorProto, helper, numpy_helper
from reference import MODELS, ROOT

WORDS = "red white green wine coffee tea bread milk of the and with dry sweet dark light".split()

PURCHASES = """
    CREATE TABLE purchase AS
    SELECT u::bigint AS user_id, ((u * 7 + i * i * 3 + u * i) % 50)::int AS item_id, 1 + (u + i) % 3 AS weight
      FROM generate_series(1, 60) u, generate_series(1, 9) i;
    CREATE INDEX ON purchase (user_id)"""


def model_bytes(nodes, inputs, outputs, initializers=(), opset=17, domains=()):
    graph = helper.make_graph(nodes, "graph", inputs, outputs, list(initializers))
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 3 if domain == "ai.onnx.ml" else 1) for domain in domains)]
    model = helper.make_model(graph, opset_imports=opsets, producer_name="test")
    model.ir_version = 8
    return model.SerializeToString()


def port(name, element_type, shape):
    return helper.make_tensor_value_info(name, element_type, shape)


def constant(name, array):
    return numpy_helper.from_array(numpy.asarray(array), name)


def text_model(seed=1, dimension=8):
    """A vector for each token: a table of embeddings, pooled by the extension."""
    table = numpy.random.default_rng(seed).standard_normal((len(WORDS) + 3, dimension)).astype(numpy.float32)
    return model_bytes(
        [
            helper.make_node("Gather", ["table", "input_ids"], ["looked_up"]),
            helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["mask", "last"], ["wide"]),
            helper.make_node("Mul", ["looked_up", "wide"], ["tokens"]),
        ],
        [port("input_ids", TensorProto.INT64, ["batch", "length"]), port("attention_mask", TensorProto.INT64, ["batch", "length"])],
        [port("tokens", TensorProto.FLOAT, ["batch", "length", dimension])],
        [constant("table", table), constant("last", numpy.array([2], numpy.int64))],
    )


def tokenizer():
    vocabulary = {token: index for index, token in enumerate(["[PAD]", "[UNK]", *WORDS, "##s"])}
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return made.to_str().encode()


def import_text(connection, name="tiny", seed=1):
    """Imports the tiny text model; the same seed gives the same vectors."""
    connection.execute(
        "SELECT reco.import_model(%s, %b, 'text_embedding', %b, '{\"max_length\": 32}')", [name, text_model(seed), tokenizer()]
    )


def pair_model(seed=1, dimension=8, logits=1, types=True, shape=None):
    """A cross-encoder: sums of embeddings of the query's tokens and of the text's, multiplied and weighed. Without `types` there is one sum."""
    draw = numpy.random.default_rng(seed).standard_normal
    table, weights = draw((len(WORDS) + 5, dimension)).astype(numpy.float32), draw((dimension, logits)).astype(numpy.float32)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["looked_up"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
    ]
    if types:
        nodes += [
            helper.make_node("Cast", ["token_type_ids"], ["types"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["mask", "types"], ["text_mask"]),
            helper.make_node("Sub", ["mask", "text_mask"], ["query_mask"]),
        ]
    for part in ("query", "text"):
        nodes += [
            helper.make_node("Unsqueeze", [f"{part}_mask" if types else "mask", "last"], [f"{part}_wide"]),
            helper.make_node("Mul", ["looked_up", f"{part}_wide"], [f"{part}_tokens"]),
            helper.make_node("ReduceSum", [f"{part}_tokens", "tokens"], [f"{part}_sum"], keepdims=0),
        ]
    nodes += [helper.make_node("Mul", ["query_sum", "text_sum"], ["both"]), helper.make_node("MatMul", ["both", "weights"], ["logits"])]
    inputs = ["input_ids", "attention_mask", *(["token_type_ids"] if types else [])]
    return model_bytes(
        nodes,
        [port(name, TensorProto.INT64, ["batch", "length"]) for name in inputs],
        [port("logits", TensorProto.FLOAT, shape or ["batch", logits])],
        [
            constant("table", table),
            constant("weights", weights),
            constant("tokens", numpy.array([1], numpy.int64)),
            constant("last", numpy.array([2], numpy.int64)),
        ],
    )


def pair_tokenizer(pair="[CLS] $A [SEP] $B:1 [SEP]:1"):
    """Of whole words, with BERT's special tokens or those of another template."""
    vocabulary = {token: index for index, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS, "##s"])}
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    special = [("[CLS]", 2), ("[SEP]", 3)]
    made.post_processor = tokenizers.processors.TemplateProcessing(single="[CLS] $A [SEP]", pair=pair, special_tokens=special)
    return made.to_str().encode()


def import_pair(connection, name="pair", config="{}", tokenizer=None, **model):
    """Imports a tiny cross-encoder."""
    parameters = [name, pair_model(**model), tokenizer or pair_tokenizer(), config]
    connection.execute("SELECT reco.import_model(%s, %b, 'text_pair', %b, %s)", parameters)


def import_kept(connection, name):
    """Imports one of the set-up's own models."""
    config = json.loads((ROOT / "models" / f"{name}.json").read_text())
    files = MODELS / name
    tokens = (files / "tokenizer.json").read_bytes() if (files / "tokenizer.json").exists() else None
    connection.execute(
        "SELECT reco.import_model(%s, %b, %s, %b, %s::jsonb)",
        [name, (files / "model.onnx").read_bytes(), config["task"], tokens, json.dumps(config["config"])],
    )


def import_image(connection, name="picture"):
    """Imports an image model: the mean of each channel of 8 × 8 pixels."""
    model = model_bytes(
        [helper.make_node("GlobalAveragePool", ["pixels"], ["means"]), helper.make_node("Flatten", ["means"], ["vector"])],
        [port("pixels", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [port("vector", TensorProto.FLOAT, ["batch", 3])],
    )
    config = {"input": "pixels", "output": "vector", "dimension": 3, "resize": 8, "crop": 8, "mean": [0, 0, 0], "std": [1, 1, 1]}
    connection.execute("SELECT reco.import_model(%s, %b, 'image_embedding', NULL, %s)", [name, model, json.dumps(config)])


def picture(width, height):
    """A PNG of one colour, of which a thousand pixels take a byte."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    out, packer = io.BytesIO(), zlib.compressobj()
    for _ in range(height):
        out.write(packer.compress(b"\0" * (width + 1)))
    out.write(packer.flush())
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", out.getvalue()) + chunk(b"IEND", b"")


def linear_model(weight=2.0):
    """y = weight · x for x [rows, 2]."""
    return model_bytes(
        [helper.make_node("Mul", ["x", "w"], ["y"])],
        [port("x", TensorProto.FLOAT, ["rows", 2])],
        [port("y", TensorProto.FLOAT, ["rows", 2])],
        [constant("w", numpy.float32(weight))],
    )


def large_model(values=1_500_000):
    """The largest of x · w for x [rows, 2]: weights of 12 MB, so that the stored file has several parts."""
    weights = numpy.random.default_rng(5).standard_normal((2, values)).astype(numpy.float32)
    return model_bytes(
        [helper.make_node("MatMul", ["x", "w"], ["all"]), helper.make_node("ReduceMax", ["all"], ["y"], axes=[1], keepdims=0)],
        [port("x", TensorProto.FLOAT, ["rows", 2])],
        [port("y", TensorProto.FLOAT, ["rows"])],
        [constant("w", weights)],
    )


def train(connection, name="shop", algorithm="ials", source="TABLE purchase", options=None):
    given = options or ({"factors": 8, "iterations": 3} if algorithm == "ials" else {})
    return connection.execute("SELECT reco.train(%s, %s, %s, %s::jsonb)", [name, source, algorithm, json.dumps(given)]).fetchone()[0]


def prepare(connection):
    """The extension, small models, the shop and a recommender of each kind."""
    connection.execute("CREATE EXTENSION IF NOT EXISTS pg_reco")
    connection.execute(PURCHASES)
    import_text(connection)
    connection.execute("SELECT reco.import_model('linear', %b)", [linear_model()])
    connection.execute("SELECT reco.import_model('large', %b)", [large_model()])
    for algorithm in ("ials", "item_knn", "popularity"):
        train(connection, f"shop_{algorithm}", algorithm)


ANSWERS = {
    "embed": "SELECT reco.embed('red wine', 'tiny')",
    "predict": """SELECT reco.predict('linear', '{"x": [[1, 2]]}')""",
    "large": """SELECT reco.predict('large', '{"x": [[1, 2], [-3, 0.5]]}')""",
    "ials": "SELECT array_agg(r::text ORDER BY rank) FROM reco.recommend('shop_ials', 7, 5) r",
    "item_knn": "SELECT array_agg(r::text ORDER BY rank) FROM reco.recommend('shop_item_knn', 7, 5) r",
    "popularity": "SELECT array_agg(r::text ORDER BY rank) FROM reco.recommend('shop_popularity', 7, 5) r",
    "similar": "SELECT array_agg(r::text ORDER BY rank) FROM reco.similar_items('shop_ials', 3, 5) r",
    "basket": "SELECT array_agg(r::text ORDER BY rank) FROM reco.recommend_for_items('shop_ials', ARRAY[3, 4], k => 5) r",
    "describe": "SELECT array_agg(r::text ORDER BY r) FROM reco.describe_model('shop_ials') r",
}


def answers(connection):
    """What the models say: equal before and after whatever was done to the server."""
    return {name: connection.execute(query).fetchone() for name, query in ANSWERS.items()}


def config(name):
    """The config of one of the set-up's own models, as JSON."""
    return json.dumps(json.loads((ROOT / "models" / f"{name}.json").read_text())["config"])
