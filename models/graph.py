"""A small writer of ONNX graphs: named nodes in order, weights as initializers."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# Opset 17 is the first with LayerNormalization as one node, which ONNX Runtime fuses best.
OPSET = 17
# The IR version of that opset's time, so that older runtimes read the file too.
IR_VERSION = 8

FLOAT = TensorProto.FLOAT
INT32 = TensorProto.INT32
INT64 = TensorProto.INT64


class Graph:
    """Collects nodes and weights; every method that adds a node returns its output's name."""

    def __init__(self, name):
        self.name = name
        self.nodes = []
        self.initializers = []

    def weight(self, name, values):
        """Adds a named array as it is and returns its name."""
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def scalar(self, value):
        """Adds one float."""
        return self.weight(f"constant_{len(self.initializers)}", np.array(value, np.float32).reshape(()))

    def integers(self, *values):
        """Adds a vector of integers, as shapes, axes and slices want them."""
        return self.weight(f"constant_{len(self.initializers)}", np.array(values, np.int64))

    def node(self, operator, inputs, output=None, **attributes):
        """Adds a node with one output. Without `output` it is named by operator and position."""
        output = output or f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def model(self, inputs, outputs):
        """Closes the graph. `inputs` and `outputs` are (name, element type, shape) triples."""
        graph = helper.make_graph(
            self.nodes,
            self.name,
            [helper.make_tensor_value_info(*value) for value in inputs],
            [helper.make_tensor_value_info(*value) for value in outputs],
            self.initializers,
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="pg_reco"
        )
        model.ir_version = IR_VERSION
        return model


def l2_normalized(graph, vectors, output):
    """Scales each row of `vectors` to unit length; a row of zeros stays one."""
    length = graph.node("ReduceL2", [vectors], axes=[1], keepdims=1)
    length = graph.node("Max", [length, graph.scalar(1e-12)])
    return graph.node("Div", [vectors, length], output)


def save(model, path):
    """Checks the graph and writes it, the same bytes for the same version of onnx."""
    onnx.checker.check_model(model)
    onnx.save(model, path)
