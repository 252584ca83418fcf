"""Universal Sentence Encoder multilingual v3 (Yang et al., 2019) in float, with its tokenizer beside it.

The packaged graph has two things that this project cannot use as they are:
- Its first node is the tokenizer, an operator that only an extension library of ONNX Runtime has. The tokenizer becomes
  a `tokenizer.json`, and the node's outputs become the graph's inputs: `token_ids`, the tokens of all texts one after
  another, and `row_splits`, where each text begins, with the total at the end.
- Its matrix products are 8-bit with activations quantised over the whole batch, so a text's vector would depend on what
  it is batched with. They become float products with the weights as stored, minus their zero point; the scales that the
  graph multiplies with afterwards stay, the activations' own become 1.
"""

import numpy as np
from onnx import helper, load, numpy_helper

import sentencepiece
from graph import INT32, INT64, save

ONE = "activation_scale_one"


def build(source, target):
    """Writes `model.onnx` and `tokenizer.json` to the folder `target` from the one .onnx file in `source`."""
    (packaged,) = source.glob("*.onnx")
    model = load(packaged)
    renamed, message = _remove_tokenizer(model.graph)
    renamed |= _to_float(model.graph)
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = renamed.get(name, name)
    _drop_unused_weights(model.graph)
    _replace(model.opset_import, [entry for entry in model.opset_import if entry.domain != "ai.onnx.contrib"])
    save(model, target / "model.onnx")
    sentencepiece.tokenizer(message).save(str(target / "tokenizer.json"), pretty=False)


def _remove_tokenizer(graph):
    """Cuts the tokenizer off; returns the new names of its outputs and the SentencePiece message it held."""
    (node,) = [node for node in graph.node if node.op_type == "SentencepieceTokenizer"]
    (message,) = [attribute.s for attribute in node.attribute if attribute.name == "model"]
    token_ids, row_splits = node.output
    graph.node.remove(node)
    inputs = [
        helper.make_tensor_value_info("token_ids", INT32, ["tokens"]),
        helper.make_tensor_value_info("row_splits", INT64, ["batch_plus_1"]),
    ]
    _replace(graph.input, inputs)
    return {token_ids: "token_ids", row_splits: "row_splits"}, message


def _to_float(graph):
    """Undoes the dynamic quantisation; returns the new names of the activations' scales."""
    weights = {weight.name: weight for weight in graph.initializer}
    float_weights = {}
    activations, renamed = {}, {}
    for node in [node for node in graph.node if node.op_type == "DynamicQuantizeLinear"]:
        quantized, scale, _zero_point = node.output
        activations[quantized] = node.input[0]
        renamed[scale] = ONE
        graph.node.remove(node)
    for node in [node for node in graph.node if node.op_type == "MatMulInteger"]:
        activation, weight, *zero_points = node.input
        name = weight + "_float"
        if name not in float_weights:
            values = numpy_helper.to_array(weights[weight]).astype(np.float32)
            # The fourth input is the weights' zero point; the third, the activations', goes with them.
            if len(zero_points) == 2 and zero_points[1]:
                values = values - numpy_helper.to_array(weights[zero_points[1]]).astype(np.float32)
            float_weights[name] = numpy_helper.from_array(values, name)
        node.op_type = "MatMul"
        _replace(node.input, [activations[activation], name])
    graph.initializer.append(numpy_helper.from_array(np.array(1, np.float32), ONE))
    graph.initializer.extend(float_weights.values())
    return renamed


def _drop_unused_weights(graph):
    used = {name for node in graph.node for name in node.input}
    _replace(graph.initializer, [weight for weight in graph.initializer if weight.name in used])


def _replace(repeated, values):
    """Protobuf's repeated fields take no assignment."""
    values = list(values)
    del repeated[:]
    repeated.extend(values)
