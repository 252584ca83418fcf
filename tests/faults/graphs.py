"""Small graphs with many kinds of operators: what mutants are made of."""

import numpy
import onnx
import tiny
from onnx import TensorProto, helper
from reference import MODELS
from tiny import constant, model_bytes, port

F, I64, I8, U8, BOOL, TEXT = (
    TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT8, TensorProto.UINT8, TensorProto.BOOL, TensorProto.STRING,
)  # fmt: skip
node = helper.make_node
RANDOM = numpy.random.default_rng(7)


def floats(*shape):
    return RANDOM.standard_normal(shape).astype(numpy.float32)


def int64s(*values):
    return numpy.array(values, numpy.int64)


def convolution():
    return model_bytes(
        [
            node("Conv", ["x", "kernel", "bias"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1], group=1),
            node("BatchNormalization", ["c", "scale", "bias", "bias", "scale"], ["b"], epsilon=1e-3),
            node("Clip", ["b", "low", "high"], ["r"]),
            node("MaxPool", ["r"], ["m"], kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 1, 1]),
            node("ConvTranspose", ["m", "back"], ["t"], strides=[2, 2], kernel_shape=[2, 2]),
            node("Resize", ["t", "", "scales"], ["z"], mode="linear"),
            node("Pad", ["z", "pads"], ["p"], mode="reflect"),
            node("AveragePool", ["p"], ["a"], kernel_shape=[2, 2], auto_pad="SAME_UPPER", count_include_pad=1),
            node("InstanceNormalization", ["a", "scale", "bias"], ["n"]),
            node("GlobalAveragePool", ["n"], ["g"]),
            node("Flatten", ["g"], ["f"], axis=1),
            node("Gemm", ["f", "dense", "out_bias"], ["y"], alpha=0.5, beta=1.0, transB=1),
        ],
        [port("x", F, ["batch", 3, 6, 6])],
        [port("y", F, ["batch", 2])],
        [
            constant("kernel", floats(4, 3, 3, 3)), constant("bias", floats(4)), constant("scale", abs(floats(4))),
            constant("low", numpy.float32(0)), constant("high", numpy.float32(6)), constant("back", floats(4, 4, 2, 2)),
            constant("scales", numpy.array([1, 1, 2, 2], numpy.float32)), constant("pads", int64s(0, 0, 1, 1, 0, 0, 1, 1)),
            constant("dense", floats(2, 4)), constant("out_bias", floats(2)),
        ],
    )  # fmt: skip


def shapes():
    """Reshaping, slicing, gathering, scattering: where an index or a length may be wrong."""
    return model_bytes(
        [
            node("Shape", ["x"], ["shape"]),
            node("Gather", ["shape", "zero"], ["rows"], axis=0),
            node("Unsqueeze", ["rows", "axes0"], ["rows1"]),
            node("Concat", ["rows1", "two_two"], ["target"], axis=0),
            node("Reshape", ["x", "target"], ["cube"]),
            node("Transpose", ["cube"], ["turned"], perm=[0, 2, 1]),
            node("Slice", ["turned", "starts", "ends", "axes1", "steps"], ["sliced"]),
            node("Split", ["turned"], ["left", "right"], axis=1),
            node("Concat", ["left", "right", "sliced"], ["joined"], axis=1),
            node("Tile", ["joined", "repeats"], ["tiled"]),
            node("Expand", ["left", "wide"], ["expanded"]),
            node("GatherND", ["turned", "places"], ["picked"]),
            node("ScatterND", ["turned", "places", "updates"], ["scattered"]),
            node("GatherElements", ["joined", "elements"], ["gathered"], axis=1),
            node("ScatterElements", ["turned", "elements", "new_values"], ["put"], axis=1),
            node("TopK", ["x", "k"], ["top", "where"], axis=1, largest=1, sorted=1),
            node("OneHot", ["where", "depth", "off_on"], ["hot"], axis=-1),
            node("NonZero", ["x"], ["not_zero"]),
            node("CumSum", ["x", "axis_one"], ["summed"], reverse=1),
            node("Trilu", ["cube"], ["triangle"], upper=0),
            node("ReduceSum", ["tiled", "axes2"], ["y"], keepdims=0),
            node("Range", ["zero_scalar", "rows", "one_scalar"], ["counted"]),
            node("ConstantOfShape", ["target"], ["filled"], value=helper.make_tensor("v", F, [1], [1.5])),
            node("DepthToSpace", ["deep"], ["spaced"], blocksize=2),
        ],
        [port("x", F, ["rows", 4])],
        [port(n, t, s) for n, t, s in [
            ("y", F, ["rows", "c"]), ("expanded", F, ["a", "b", "c"]), ("picked", F, ["p"]), ("scattered", F, ["a", "b", "c"]),
            ("gathered", F, ["a", "b", "c"]), ("put", F, ["a", "b", "c"]), ("hot", F, ["a", "b", "c"]), ("not_zero", I64, ["n", "m"]),
            ("summed", F, ["rows", 4]), ("triangle", F, ["a", "b", "c"]), ("counted", I64, ["n"]), ("filled", F, ["a", "b", "c"]),
            ("spaced", F, ["a", "b", "c", "d"])]],
        [
            constant("zero", numpy.int64(0)), constant("axes0", int64s(0)), constant("two_two", int64s(2, 2)),
            constant("starts", int64s(0)), constant("ends", int64s(9)), constant("axes1", int64s(1)), constant("steps", int64s(2)),
            constant("repeats", int64s(1, 2, 1)), constant("wide", int64s(1, 3, 2)), constant("places", int64s(0, 1, 1).reshape(1, 3)),
            constant("updates", floats(1)), constant("elements", int64s(0, 1).reshape(1, 1, 2)), constant("new_values", floats(1, 1, 2)),
            constant("k", int64s(2)), constant("depth", numpy.int64(4)), constant("off_on", numpy.array([0, 1], numpy.float32)),
            constant("axis_one", numpy.int64(1)), constant("axes2", int64s(2)), constant("zero_scalar", numpy.int64(0)),
            constant("one_scalar", numpy.int64(1)), constant("deep", floats(1, 4, 2, 2)),
        ],
    )  # fmt: skip


def subgraphs():
    """If, Loop and Scan, one inside the other."""
    then_branch = helper.make_graph([node("Mul", ["x", "x"], ["then_y"])], "then", [], [port("then_y", F, ["n", 2])])
    else_branch = helper.make_graph([node("Neg", ["x"], ["else_y"])], "else", [], [port("else_y", F, ["n", 2])])
    body = helper.make_graph(
        [
            node("Add", ["state", "one"], ["added"]),
            node("If", ["going"], ["next"], then_branch=helper.make_graph(
                [node("Sqrt", ["added"], ["root"])], "inner", [], [port("root", F, [1])]), else_branch=helper.make_graph(
                [node("Identity", ["added"], ["same"])], "other", [], [port("same", F, [1])])),
            node("Identity", ["going"], ["go_on"]),
            node("Identity", ["next"], ["seen"]),
        ],
        "body",
        [port("turn", I64, []), port("going", BOOL, []), port("state", F, [1])],
        [port("go_on", BOOL, []), port("next", F, [1]), port("seen", F, [1])],
    )  # fmt: skip
    step = helper.make_graph(
        [node("Add", ["sum_in", "row"], ["sum_out"]), node("Identity", ["sum_out"], ["each"])],
        "step",
        [port("sum_in", F, [2]), port("row", F, [2])],
        [port("sum_out", F, [2]), port("each", F, [2])],
    )
    return model_bytes(
        [
            node("ReduceSum", ["x"], ["total"], keepdims=0),
            node("Greater", ["total", "zero"], ["positive"]),
            node("If", ["positive"], ["y"], then_branch=then_branch, else_branch=else_branch),
            node("Loop", ["turns", "yes", "start"], ["last", "history"], body=body),
            node("Scan", ["origin", "x"], ["sum", "sums"], body=step, num_scan_inputs=1),
        ],
        [port("x", F, ["n", 2])],
        [port("y", F, ["n", 2]), port("last", F, [1]), port("history", F, ["turns", 1]), port("sum", F, [2]), port("sums", F, ["n", 2])],
        [
            constant("zero", numpy.float32(0)), constant("one", numpy.ones(1, numpy.float32)), constant("turns", numpy.int64(4)),
            constant("yes", numpy.array(True)), constant("start", numpy.zeros(1, numpy.float32)),
            constant("origin", numpy.zeros(2, numpy.float32)),
        ],
    )  # fmt: skip


def quantised():
    return model_bytes(
        [
            node("DynamicQuantizeLinear", ["x"], ["q", "q_scale", "q_zero"]),
            node("MatMulInteger", ["q", "w", "q_zero", "w_zero"], ["product"]),
            node("Cast", ["product"], ["as_float"], to=F),
            node("Mul", ["as_float", "q_scale"], ["scaled"]),
            node("QuantizeLinear", ["scaled", "scale", "zero8"], ["again"]),
            node("QLinearMatMul", ["again", "scale", "zero8", "w2", "scale", "w_zero", "scale", "zero8"], ["small"]),
            node("DequantizeLinear", ["small", "scale", "zero8"], ["y"]),
            node("MatMulNBits", ["x", "packed", "nbit_scales"], ["z"], domain="com.microsoft", K=32, N=4, bits=4, block_size=32),
            node("QLinearConv", ["img", "scale", "zero8", "wk", "scale", "w_zero", "scale", "zero8"], ["qc"], kernel_shape=[2, 2]),
            node("DequantizeLinear", ["qc", "scale", "zero8"], ["qy"]),
            node("DynamicQuantizeMatMul", ["x", "w", "scale", "w_zero"], ["dq"], domain="com.microsoft"),
        ],
        [port("x", F, ["n", 32])],
        [port("y", F, ["n", 3]), port("z", F, ["n", 4]), port("qy", F, ["a", "b", "c", "d"]), port("dq", F, ["n", 8])],
        [
            constant("w", RANDOM.integers(-99, 99, (32, 8)).astype(numpy.int8)), constant("w_zero", numpy.int8(0)),
            constant("w2", RANDOM.integers(-99, 99, (8, 3)).astype(numpy.int8)), constant("scale", numpy.float32(0.1)),
            constant("zero8", numpy.uint8(3)), constant("packed", RANDOM.integers(0, 255, (4, 1, 16)).astype(numpy.uint8)),
            constant("nbit_scales", abs(floats(4))), constant("img", RANDOM.integers(0, 255, (1, 1, 4, 4)).astype(numpy.uint8)),
            constant("wk", RANDOM.integers(-9, 9, (1, 1, 2, 2)).astype(numpy.int8)),
        ],
        domains=["com.microsoft"],
    )  # fmt: skip


def recurrent():
    return model_bytes(
        [
            node("LSTM", ["x", "W", "R", "B", "lengths"], ["all", "h", "c"], hidden_size=3, direction="bidirectional"),
            node("GRU", ["x", "W3", "R3"], ["gru", "gh"], hidden_size=3, linear_before_reset=1),
            node("RNN", ["x", "W1", "R1"], ["rnn", "rh"], hidden_size=3),
            node("Einsum", ["h", "h"], ["e"], equation="dbh,dbk->dhk"),
            node("Softmax", ["e"], ["s"], axis=-1),
            node("LogSoftmax", ["gh"], ["ls"], axis=-1),
        ],
        [port("x", F, [5, 1, 4])],
        [port("s", F, ["d", "h", "k"]), port("ls", F, ["a", "b", "c"]), port("rh", F, ["a", "b", "c"])],
        [
            constant("W", floats(2, 12, 4)), constant("R", floats(2, 12, 3)), constant("B", floats(2, 24)),
            constant("lengths", numpy.array([4], numpy.int32)), constant("W3", floats(1, 9, 4)), constant("R3", floats(1, 9, 3)),
            constant("W1", floats(1, 3, 4)), constant("R1", floats(1, 3, 3)),
        ],
    )  # fmt: skip


def transformer():
    """A layer as exporters write it, and the fused operators of com.microsoft."""
    ms = "com.microsoft"
    return model_bytes(
        [
            node("EmbedLayerNormalization", ["ids", "", "words", "places", "", "gamma", "beta", "", "mask"], ["e", "m"], domain=ms),
            node("Attention", ["e", "qkv", "qkv_bias", "m"], ["a"], domain=ms, num_heads=2),
            node("SkipLayerNormalization", ["a", "e", "gamma", "beta"], ["s"], domain=ms),
            node("MatMul", ["s", "up"], ["u"]),
            node("BiasGelu", ["u", "up_bias"], ["g"], domain=ms),
            node("FusedMatMul", ["g", "up"], ["d"], domain=ms, transB=1, alpha=0.5),
            node("LayerNormalization", ["d", "gamma", "beta"], ["l"], axis=-1),
            node("MultiHeadAttention", ["l", "l", "l"], ["mha"], domain=ms, num_heads=2),
            node("RotaryEmbedding", ["mha", "positions", "cosines", "sines"], ["r"], domain=ms, num_heads=2),
            node("QuickGelu", ["r"], ["y"], domain=ms),
        ],
        [port("ids", TensorProto.INT32, ["b", "n"]), port("mask", TensorProto.INT32, ["b", "n"])],
        [port("y", F, ["b", "n", 8])],
        [
            constant("words", floats(20, 8)), constant("places", floats(16, 8)), constant("gamma", floats(8)), constant("beta", floats(8)),
            constant("qkv", floats(8, 24)), constant("qkv_bias", floats(24)), constant("up", floats(8, 16)), constant("up_bias", floats(16)),
            constant("positions", int64s(0)), constant("cosines", floats(16, 2)), constant("sines", floats(16, 2)),
        ],
        domains=[ms],
    )  # fmt: skip


def classical():
    """ai.onnx.ml: trees, encoders, vectorisers, scalers, text."""
    ml = "ai.onnx.ml"
    tree = dict(
        nodes_treeids=[0, 0, 0], nodes_nodeids=[0, 1, 2], nodes_featureids=[0, 0, 0], nodes_values=[0.5, 0.0, 0.0],
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"], nodes_truenodeids=[1, 0, 0], nodes_falsenodeids=[2, 0, 0],
        nodes_hitrates=[1.0, 1.0, 1.0], nodes_missing_value_tracks_true=[0, 0, 0],
    )  # fmt: skip
    return model_bytes(
        [
            node("Scaler", ["x"], ["scaled"], domain=ml, offset=[0.1, 0.2], scale=[1.0, 2.0]),
            node("Normalizer", ["scaled"], ["normal"], domain=ml, norm="L2"),
            node("TreeEnsembleRegressor", ["normal"], ["t"], domain=ml, n_targets=1, target_ids=[0, 0], target_nodeids=[1, 2],
                 target_treeids=[0, 0], target_weights=[1.0, 2.0], **tree),
            node("TreeEnsembleClassifier", ["x"], ["tl", "tp"], domain=ml, class_ids=[0, 1], class_nodeids=[1, 2],
                 class_treeids=[0, 0], class_weights=[1.0, 1.0], classlabels_int64s=[0, 1], **tree),
            node("LinearClassifier", ["x"], ["ll", "lp"], domain=ml, coefficients=[0.1, 0.2, 0.3, 0.4], intercepts=[0.0, 0.1],
                 classlabels_ints=[0, 1], post_transform="SOFTMAX"),
            node("SVMRegressor", ["x"], ["v"], domain=ml, coefficients=[1.0, -1.0], support_vectors=[0.0, 1.0, 1.0, 0.0], n_supports=2,
                 rho=[0.1], kernel_type="RBF", kernel_params=[0.5, 0.0, 3.0]),
            node("LabelEncoder", ["words"], ["codes"], domain=ml, keys_strings=["red", "wine"], values_int64s=[1, 2], default_int64=-1),
            node("StringNormalizer", ["words"], ["lower"], case_change_action="LOWER", locale="C", stopwords=["the"], is_case_sensitive=0),
            node("TfIdfVectorizer", ["words"], ["counts"], mode="TF", min_gram_length=1, max_gram_length=2, max_skip_count=1,
                 ngram_counts=[0, 2], ngram_indexes=[0, 1, 2], pool_strings=["red", "wine", "red", "wine"]),
            node("ArrayFeatureExtractor", ["x", "column"], ["feature"], domain=ml),
            node("Imputer", ["x"], ["imputed"], domain=ml, imputed_value_floats=[0.0, 0.0], replaced_value_float=9.0),
            node("Tokenizer", ["words"], ["tokens"], domain="com.microsoft", mark=0, pad_value="#", separators=["e"], mincharnum=1),
        ],
        [port("x", F, ["n", 2]), port("words", TEXT, ["m"])],
        [port(n, t, s) for n, t, s in [
            ("t", F, ["n", 1]), ("tl", I64, ["n"]), ("tp", F, ["n", 2]), ("ll", I64, ["n"]), ("lp", F, ["n", 2]), ("v", F, ["n", 1]),
            ("codes", I64, ["m"]), ("lower", TEXT, ["k"]), ("counts", F, ["c"]), ("feature", F, ["n", 1]), ("imputed", F, ["n", 2]),
            ("tokens", TEXT, ["m", "t"])]],
        [constant("column", int64s(1))],
        domains=[ml, "com.microsoft"],
    )  # fmt: skip


def elementwise():
    """A long chain of small operators, with types changing on the way."""
    chain = ["Abs", "Sqrt", "Tanh", "Erf", "Sigmoid", "Exp", "Log", "Sin", "HardSwish", "Softplus", "Elu", "Round", "Floor", "Sign"]
    nodes = [node(op, [f"v{i}" if i else "x"], [f"v{i + 1}"]) for i, op in enumerate(chain)]
    last = f"v{len(chain)}"
    return model_bytes(
        [
            *nodes,
            node("Cast", [last], ["i"], to=I64),
            node("Mod", ["i", "three"], ["m"]),
            node("BitShift", ["u", "u"], ["shifted"], direction="LEFT"),
            node("Equal", ["m", "three"], ["same"]),
            node("Where", ["same", "x", last], ["chosen"]),
            node("Div", ["i", "three"], ["divided"]),
            node("Pow", ["x", "two"], ["powered"]),
            node("ArgMax", ["x"], ["best"], axis=1),
            node("ReduceLogSumExp", ["x"], ["lse"], axes=[1]),
            node("Max", ["x", last, "powered"], ["max"]),
            node("Sum", ["max", "chosen"], ["y"]),
            node("Cast", ["divided"], ["text"], to=TEXT),
            node("Cast", ["shifted"], ["shifts"], to=I64),
        ],
        [port("x", F, ["n", 3])],
        [port("y", F, ["n", 3]), port("best", I64, ["n", 1]), port("lse", F, ["n", 1]), port("text", TEXT, ["n", 3]), port("shifts", I64, [2])],
        [constant("three", numpy.int64(3)), constant("two", numpy.float32(2)), constant("u", numpy.array([1, 3], numpy.uint8))],
    )


def of_a_kept_model(values=9):
    """The first operators of a real model, whose weights are small there."""
    model = onnx.shape_inference.infer_shapes(onnx.load(MODELS / "efficientnet-lite0" / "model.onnx"))
    end = model.graph.node[values].output[0]
    return onnx.utils.Extractor(model).extract_model([model.graph.input[0].name], [end]).SerializeToString()


def all_graphs():
    """Name → bytes of each graph."""
    made = {f.__name__: f() for f in (convolution, shapes, subgraphs, quantised, recurrent, transformer, classical, elementwise, of_a_kept_model)}
    return {**made, "linear": tiny.linear_model(), "text": tiny.text_model()}


# Text models whose runs depend on the tokens, and on the other texts of a run. The vectors of other texts are those of `tiny.text_model()`.


def token(word):
    """The id that `tiny.tokenizer()` gives to a word."""
    return 2 + tiny.WORDS.index(word)


def fails_for_light():
    """The token of "light" is beyond the table of embeddings."""
    model = onnx.ModelProto.FromString(tiny.text_model())
    table = next(tensor for tensor in model.graph.initializer if tensor.name == "table")
    table.CopyFrom(constant("table", onnx.numpy_helper.to_array(table)[: token("light")]))
    return model.SerializeToString()


def endless_for_dark():
    """Runs without end for a text with "dark", and for some ten milliseconds for one with "dry"."""
    model = onnx.ModelProto.FromString(tiny.text_model())
    turns = numpy.zeros(len(tiny.WORDS) + 3, numpy.int64)
    turns[token("dry")], turns[token("dark")] = 30_000, 2**62
    body = helper.make_graph(
        [node("Cos", ["state"], ["next"]), node("Identity", ["going"], ["go_on"])],
        "body", [port("turn", I64, []), port("going", BOOL, []), port("state", F, [1])],
        [port("go_on", BOOL, []), port("next", F, [1])],
    )  # fmt: skip
    model.graph.node[-1].output[0] = "pooled"
    model.graph.node.extend([
        node("Gather", ["turns", "input_ids"], ["turns_of_tokens"]),
        node("ReduceMax", ["turns_of_tokens"], ["all_turns"], keepdims=0),
        node("Loop", ["all_turns", "yes", "zero"], ["looped"], body=body),
        node("Mul", ["looped", "zero"], ["nothing"]),
        node("Add", ["pooled", "nothing"], ["tokens"]),
    ])  # fmt: skip
    model.graph.initializer.extend([
        constant("turns", turns), constant("yes", numpy.array(True)), constant("zero", numpy.zeros(1, numpy.float32)),
    ])  # fmt: skip
    return model.SerializeToString()


def sees_its_run():
    """The vector of a text of one word: its token, the smallest and the largest of the run, and the number of texts in it."""
    return model_bytes(
        [
            node("ReduceMax", ["input_ids"], ["own_id"], axes=[1], keepdims=1),
            node("Cast", ["own_id"], ["own"], to=F),
            node("ReduceMin", ["own"], ["least"], axes=[0], keepdims=1),
            node("ReduceMax", ["own"], ["largest"], axes=[0], keepdims=1),
            node("ReduceMax", ["attention_mask"], ["one_id"], axes=[1], keepdims=1),
            node("Cast", ["one_id"], ["one"], to=F),
            node("ReduceSum", ["one"], ["count"], keepdims=1),
            *(node("Mul", ["one", name], [f"{name}_each"]) for name in ("least", "largest", "count")),
            node("Concat", ["own", "least_each", "largest_each", "count_each"], ["vectors"], axis=1),
        ],
        [port("input_ids", I64, ["batch", "length"]), port("attention_mask", I64, ["batch", "length"])],
        [port("vectors", F, ["batch", 4])],
    )
