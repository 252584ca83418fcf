"""all-MiniLM-L6-v2: a BERT encoder whose output is the mean over a text's tokens, scaled to unit length.

The graph is written from the published weights (`model.safetensors`) and follows Devlin et al., 2019, with the pooling
of Reimers and Gurevych, 2019. Inputs are padded: [batch, sequence] of token ids, attention mask and token types.
"""

import json
import math

import numpy as np

import safetensors
from graph import FLOAT, INT64, Graph, l2_normalized, save

# Added to the scores of padding before the softmax: far below any score, far from float's limit.
MASKED_SCORE = -1e9


def build(source, target):
    """Writes `model.onnx` and `tokenizer.json` to the folder `target` from the files in `source`."""
    settings = json.loads((source / "config.json").read_text())
    save(encoder(safetensors.load(source / "model.safetensors"), settings), target / "model.onnx")
    write_tokenizer(source / "tokenizer.json", target / "tokenizer.json")


def write_tokenizer(source, target):
    """Copies a tokenizer without padding and truncation.

    The published file pads and cuts every text to 128 tokens; the extension pads each batch to its own length and cuts
    at the model's limit.
    """
    tokenizer = json.loads(source.read_text())
    tokenizer["padding"] = None
    tokenizer["truncation"] = None
    target.write_text(json.dumps(tokenizer, ensure_ascii=False))


def encoder(weights, settings):
    """The whole graph. `weights` has the names that the transformers library gives them."""
    graph = Graph("bert")
    layers = _Layers(graph, weights, settings)
    mask = graph.node("Cast", ["attention_mask"], to=FLOAT)
    score_bias = _score_bias(graph, mask)
    hidden = layers.embeddings()
    for number in range(settings["num_hidden_layers"]):
        hidden = layers.transformer(hidden, score_bias, f"encoder.layer.{number}")
    hidden = graph.node("Identity", [hidden], "last_hidden_state")
    l2_normalized(graph, _masked_mean(graph, hidden, mask), "sentence_embedding")
    width = settings["hidden_size"]
    return graph.model(
        inputs=[
            (name, INT64, ["batch", "sequence"]) for name in ("input_ids", "attention_mask", "token_type_ids")
        ],
        outputs=[
            ("last_hidden_state", FLOAT, ["batch", "sequence", width]),
            ("sentence_embedding", FLOAT, ["batch", width]),
        ],
    )


def _score_bias(graph, mask):
    """0 where a token is, MASKED_SCORE where padding is; shaped [batch, 1, 1, sequence] for the scores."""
    rows = graph.node("Unsqueeze", [mask, graph.integers(1, 2)])
    padding = graph.node("Sub", [graph.scalar(1), rows])
    return graph.node("Mul", [padding, graph.scalar(MASKED_SCORE)])


def _masked_mean(graph, hidden, mask):
    """The mean of the hidden states over the tokens that are no padding."""
    column = graph.node("Unsqueeze", [mask, graph.integers(2)])
    kept = graph.node("Mul", [hidden, column])
    total = graph.node("ReduceSum", [kept, graph.integers(1)], keepdims=0)
    count = graph.node("ReduceSum", [mask, graph.integers(1)], keepdims=1)
    return graph.node("Div", [total, graph.node("Max", [count, graph.scalar(1e-9)])])


class _Layers:
    """BERT's layers, each taking and returning the name of a [batch, sequence, hidden] tensor."""

    def __init__(self, graph, weights, settings):
        self.graph = graph
        self.weights = weights
        self.epsilon = settings["layer_norm_eps"]
        hidden = settings["hidden_size"]
        heads = settings["num_attention_heads"]
        self.head_width = hidden // heads
        # In a Reshape 0 keeps the input's size.
        self.split_shape = graph.integers(0, 0, heads, self.head_width)
        self.joined_shape = graph.integers(0, 0, hidden)
        self.score_scale = graph.scalar(1 / math.sqrt(self.head_width))

    def embeddings(self):
        """Word + token type + position, normalised."""
        graph = self.graph
        words = graph.node("Gather", [self._table("word_embeddings"), "input_ids"], axis=0)
        types = graph.node("Gather", [self._table("token_type_embeddings"), "token_type_ids"], axis=0)
        shape = graph.node("Shape", ["input_ids"])
        sequence = graph.node("Slice", [shape, graph.integers(1), graph.integers(2)])
        positions = graph.node(
            "Slice",
            [self._table("position_embeddings"), graph.integers(0), sequence, graph.integers(0)],
        )
        total = graph.node("Add", [graph.node("Add", [words, types]), positions])
        return self.layer_norm(total, "embeddings.LayerNorm")

    def transformer(self, hidden, score_bias, prefix):
        """Self-attention, then the feed-forward pair, each with a residual connection and a norm."""
        graph = self.graph
        attended = self.attention(hidden, score_bias, f"{prefix}.attention.self")
        attended = self.linear(attended, f"{prefix}.attention.output.dense")
        hidden = self.layer_norm(
            graph.node("Add", [attended, hidden]), f"{prefix}.attention.output.LayerNorm"
        )
        inner = self.gelu(self.linear(hidden, f"{prefix}.intermediate.dense"))
        outer = self.linear(inner, f"{prefix}.output.dense")
        return self.layer_norm(graph.node("Add", [outer, hidden]), f"{prefix}.output.LayerNorm")

    def attention(self, hidden, score_bias, prefix):
        """softmax(QKᵀ / √d + bias) V over all heads at once."""
        graph = self.graph
        query = self._heads(self.linear(hidden, f"{prefix}.query"), [0, 2, 1, 3])
        # The key comes out transposed: [batch, head, width, sequence].
        key = self._heads(self.linear(hidden, f"{prefix}.key"), [0, 2, 3, 1])
        value = self._heads(self.linear(hidden, f"{prefix}.value"), [0, 2, 1, 3])
        scores = graph.node("Mul", [graph.node("MatMul", [query, key]), self.score_scale])
        shares = graph.node("Softmax", [graph.node("Add", [scores, score_bias])], axis=-1)
        mixed = graph.node("Transpose", [graph.node("MatMul", [shares, value])], perm=[0, 2, 1, 3])
        return graph.node("Reshape", [mixed, self.joined_shape])

    def gelu(self, values):
        """x/2 · (1 + erf(x/√2)), written as ONNX Runtime's fusion recognises it."""
        graph = self.graph
        error = graph.node("Erf", [graph.node("Div", [values, graph.scalar(math.sqrt(2))])])
        doubled = graph.node("Mul", [values, graph.node("Add", [error, graph.scalar(1)])])
        return graph.node("Mul", [doubled, graph.scalar(0.5)])

    def linear(self, values, name):
        """x Wᵀ + b; the weight is stored transposed, since MatMul wants it so."""
        matrix = self.graph.weight(f"{name}.weight", self._array(f"{name}.weight").T)
        bias = self.graph.weight(f"{name}.bias", self._array(f"{name}.bias"))
        return self.graph.node("Add", [self.graph.node("MatMul", [values, matrix]), bias])

    def layer_norm(self, values, name):
        scale = self.graph.weight(f"{name}.weight", self._array(f"{name}.weight"))
        shift = self.graph.weight(f"{name}.bias", self._array(f"{name}.bias"))
        return self.graph.node("LayerNormalization", [values, scale, shift], axis=-1, epsilon=self.epsilon)

    def _heads(self, values, permutation):
        split = self.graph.node("Reshape", [values, self.split_shape])
        return self.graph.node("Transpose", [split], perm=permutation)

    def _table(self, name):
        return self.graph.weight(name, self._array(f"embeddings.{name}.weight"))

    def _array(self, name):
        return self.weights[name].astype(np.float32)
