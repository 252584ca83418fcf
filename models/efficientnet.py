"""EfficientNet-Lite0 without its classifier: an image becomes the pooled features, scaled to unit length.

The network of Tan and Le, 2019, in its Lite form (no squeeze-and-excitation, ReLU6 for swish). Every batch normalisation
is folded into the convolution before it: W' = W · γ/√(σ² + ε), b' = β − μ · γ/√(σ² + ε).
"""

import numpy as np

import torch_legacy
from graph import FLOAT, Graph, l2_normalized, save

# (repeats, stride of the first) of each stage of inverted-residual blocks.
STAGES = [(1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1)]
IMAGE_SIZE = 224
FEATURES = 1280
BATCH_NORM_EPSILON = 1e-3


def build(source, target):
    """Writes `model.onnx` to the folder `target` from the one .pth file in `source`."""
    (state_file,) = source.glob("*.pth")
    save(network(torch_legacy.load(state_file)), target / "model.onnx")


def network(state):
    """The whole graph; `pixel_values` is [batch, 3, 224, 224], RGB, scaled as the manifest says."""
    layers = _Layers(Graph("efficientnet_lite0"), state)
    values = layers.convolution("pixel_values", "_conv_stem", "_bn0", stride=2)
    block = 0
    for repeats, stride in STAGES:
        for repeat in range(repeats):
            first = repeat == 0
            values = layers.block(values, f"_blocks.{block}.", stride if first else 1, residual=not first)
            block += 1
    values = layers.convolution(values, "_conv_head", "_bn1")
    graph = layers.graph
    pooled = graph.node("Flatten", [graph.node("GlobalAveragePool", [values])], axis=1)
    l2_normalized(graph, pooled, "image_embedding")
    return graph.model(
        inputs=[("pixel_values", FLOAT, ["batch", 3, IMAGE_SIZE, IMAGE_SIZE])],
        outputs=[("image_embedding", FLOAT, ["batch", FEATURES])],
    )


class _Layers:
    def __init__(self, graph, state):
        self.graph = graph
        self.state = state
        self.lower = graph.weight("relu6_lower", np.float32(0).reshape(()))
        self.upper = graph.weight("relu6_upper", np.float32(6).reshape(()))

    def block(self, values, prefix, stride, residual):
        """Widen (1×1), filter each channel (depthwise), narrow (1×1, linear)."""
        inner = values
        if prefix + "_expand_conv.weight" in self.state:
            inner = self.convolution(inner, prefix + "_expand_conv", prefix + "_bn0")
        channels = self.state[prefix + "_depthwise_conv.weight"].shape[0]
        inner = self.convolution(
            inner, prefix + "_depthwise_conv", prefix + "_bn1", stride=stride, groups=channels
        )
        inner = self.convolution(inner, prefix + "_project_conv", prefix + "_bn2", activated=False)
        return self.graph.node("Add", [values, inner]) if residual else inner

    def convolution(self, values, name, norm, stride=1, groups=1, activated=True):
        """A convolution with its batch normalisation folded in, then ReLU6 unless it is linear."""
        weight = self.state[name + ".weight"]
        scale = self.state[norm + ".weight"] / np.sqrt(self.state[norm + ".running_var"] + BATCH_NORM_EPSILON)
        shift = self.state[norm + ".bias"] - self.state[norm + ".running_mean"] * scale
        folded = (weight * scale[:, None, None, None]).astype(np.float32)
        output = self.graph.node(
            "Conv",
            [
                values,
                self.graph.weight(name + ".weight", folded),
                self.graph.weight(name + ".bias", shift.astype(np.float32)),
            ],
            auto_pad="SAME_UPPER",
            strides=[stride, stride],
            group=groups,
            kernel_shape=list(weight.shape[2:]),
        )
        return self.graph.node("Clip", [output, self.lower, self.upper]) if activated else output
