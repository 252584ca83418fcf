"""Damaged ONNX files, made from good ones: the same seed and number give the same bytes."""

import random

import numpy
import onnx
from onnx import AttributeProto, TensorProto, helper

EXTREMES = [0, 1, -1, 2, -2, 3, 7, 255, 65536, 2**31 - 1, 2**31, -(2**31), 2**40, 2**62, 2**63 - 1, -(2**63)]
FLOATS = [0.0, -0.0, 1e-45, 1e38, -1e38, float("inf"), float("-inf"), float("nan"), 0.5, -1.0]
OPERATORS = [(schema.domain, schema.name) for schema in onnx.defs.get_all_schemas()]
MICROSOFT = """Attention BiasGelu BiasSplitGelu BiasAdd FusedConv FusedGemm FusedMatMul Gelu GroupQueryAttention GridSample
    Inverse LongformerAttention MatMulNBits MatMulInteger16 MultiHeadAttention MurmurHash3 NGramRepeatBlock NhwcMaxPool Pad
    PackedAttention QAttention QEmbedLayerNormalization QGemm QLinearAdd QLinearAveragePool QLinearConcat QLinearMul
    QLinearSigmoid QLinearSoftmax QMoE QuantizeLinear DequantizeLinear Range ReduceSumInteger RotaryEmbedding Sampling
    BeamSearch GreedySearch SkipLayerNormalization SparseAttention SparseToDenseMatMul Tokenizer TransposeMatMul Trilu Unique
    WordConvEmbedding ExpandDims CDist CropAndResize DecoderMaskedMultiHeadAttention DynamicQuantizeLSTM MaxpoolWithMask
    UnfoldTensor BifurcationDetector QOrderedMatMul GatherBlockQuantized MoE EPContext""".split()
OPERATORS += [("com.microsoft", name) for name in MICROSOFT]


def graphs_of(graph):
    """A graph and those within it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs] if attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) else []:
                yield from graphs_of(inner)


def tensors_of(graph):
    for tensor in graph.initializer:
        yield tensor
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                yield attribute.t


def names_of(graph):
    names = [n for node in graph.node for n in [*node.input, *node.output]]
    return names + [t.name for t in graph.initializer] + [p.name for p in graph.input]


class Mutator:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.changes = [
            self.change_dims, self.change_dims, self.change_tensor_type, self.change_tensor_values, self.change_tensor_values,
            self.cut_tensor, self.change_port, self.change_operator, self.change_operator, self.rewire, self.rewire,
            self.add_input, self.drop_input, self.rename_output, self.change_attribute, self.change_attribute, self.change_attribute,
            self.change_attribute, self.add_attribute, self.drop_attribute, self.move_node, self.copy_node, self.drop_node,
            self.change_version, self.add_output, self.nest, self.drop_initializer, self.change_domain,
        ]  # fmt: skip

    def pick(self, values):
        values = list(values)
        return self.random.choice(values) if values else None

    def mutate(self, good):
        """1 to 4 changes of the graph, or of the bytes alone."""
        if self.random.random() < 0.15:
            return self.change_bytes(good)
        model = onnx.ModelProto.FromString(good)
        for _ in range(self.random.choice([1, 1, 1, 2, 2, 3, 4])):
            graph = self.pick(graphs_of(model.graph))
            try:
                self.pick(self.changes)(model, graph)
            except (ValueError, TypeError, OverflowError):
                # What protobuf itself does not let be said.
                continue
        made = model.SerializeToString()
        return self.change_bytes(made) if self.random.random() < 0.1 else made

    def change_bytes(self, good):
        bytes_ = bytearray(good)
        for _ in range(self.random.choice([1, 1, 2, 4, 16])):
            at = self.random.randrange(len(bytes_)) if bytes_ else 0
            kind = self.random.randrange(5)
            if kind == 0 and bytes_:
                bytes_[at] ^= 1 << self.random.randrange(8)
            elif kind == 1 and bytes_:
                bytes_[at] = self.random.choice([0, 1, 0x7F, 0x80, 0xFF, self.random.randrange(256)])
            elif kind == 2:
                del bytes_[at : at + self.random.choice([1, 2, 8, 64])]
            elif kind == 3:
                bytes_[at:at] = bytes_[at : at + self.random.choice([1, 8, 64])]
            else:
                bytes_[at:at] = self.random.randbytes(self.random.choice([1, 4, 16]))
        return bytes(bytes_)

    # ------------------------------------------------------------------------------------------------------- tensors

    def change_dims(self, _, graph):
        tensor = self.pick(tensors_of(graph))
        if tensor is None:
            return
        kind = self.random.randrange(5)
        dims = list(tensor.dims)
        if kind == 0 or not dims:
            dims.insert(self.random.randint(0, len(dims)), self.pick(EXTREMES))
        elif kind == 1:
            dims[self.random.randrange(len(dims))] = self.pick(EXTREMES)
        elif kind == 2:
            self.random.shuffle(dims)
        elif kind == 3:
            dims.pop()
        else:
            dims[self.random.randrange(len(dims))] += self.pick([-1, 1])
        tensor.dims[:] = dims

    def change_tensor_type(self, _, graph):
        tensor = self.pick(tensors_of(graph))
        if tensor is not None:
            tensor.data_type = self.random.randint(0, 27)

    def change_tensor_values(self, _, graph):
        """Numbers that are shapes, axes, indices, counts; or weights."""
        tensor = self.pick(tensors_of(graph))
        if tensor is None or not tensor.raw_data:
            return
        kind = {TensorProto.INT64: numpy.int64, TensorProto.INT32: numpy.int32, TensorProto.FLOAT: numpy.float32}.get(tensor.data_type)
        if kind is None:
            tensor.raw_data = self.change_bytes(tensor.raw_data)[: len(tensor.raw_data)].ljust(len(tensor.raw_data), b"\0")
            return
        values = numpy.frombuffer(tensor.raw_data, kind).copy()
        for _ in range(self.random.choice([1, 1, 2])):
            if len(values):
                new = self.pick(FLOATS if kind is numpy.float32 else EXTREMES)
                values[self.random.randrange(len(values))] = new if kind is not numpy.int32 else numpy.int64(new).astype(numpy.int32)
        tensor.raw_data = values.tobytes()

    def cut_tensor(self, _, graph):
        tensor = self.pick(tensors_of(graph))
        if tensor is not None:
            size = len(tensor.raw_data)
            tensor.raw_data = tensor.raw_data[: self.random.randint(0, size)] if self.random.random() < 0.5 else tensor.raw_data * 2

    def drop_initializer(self, _, graph):
        if graph.initializer:
            del graph.initializer[self.random.randrange(len(graph.initializer))]

    # --------------------------------------------------------------------------------------------------------- ports

    def change_port(self, _, graph):
        port = self.pick([*graph.input, *graph.output])
        if port is None:
            return
        tensor = port.type.tensor_type
        if self.random.random() < 0.3:
            tensor.elem_type = self.random.randint(0, 27)
        elif self.random.random() < 0.3 or not tensor.shape.dim:
            tensor.shape.dim.add().dim_value = self.pick(EXTREMES)
        elif self.random.random() < 0.3:
            del tensor.shape.dim[-1]
        else:
            dim = self.pick(tensor.shape.dim)
            dim.dim_value = self.pick(EXTREMES)

    def add_output(self, _, graph):
        name = self.pick(names_of(graph))
        if name:
            graph.output.append(helper.make_tensor_value_info(name, self.random.randint(0, 20), self.pick([None, [], ["n"], [2, 2]])))

    # --------------------------------------------------------------------------------------------------------- nodes

    def change_operator(self, model, graph):
        node = self.pick(graph.node)
        if node is None:
            return
        node.domain, node.op_type = self.pick(OPERATORS)
        if node.domain and all(o.domain != node.domain for o in model.opset_import):
            model.opset_import.append(helper.make_opsetid(node.domain, self.pick([1, 1, 2, 3, 5])))

    def change_domain(self, _, graph):
        node = self.pick(graph.node)
        if node is not None:
            node.domain = self.pick(["", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc", "org.other", "ai.onnx.training"])

    def rewire(self, _, graph):
        node = self.pick(n for n in graph.node if n.input)
        if node is not None:
            node.input[self.random.randrange(len(node.input))] = self.pick([*names_of(graph), "", "nowhere"])

    def add_input(self, _, graph):
        node = self.pick(graph.node)
        if node is not None:
            node.input.extend([self.pick([*names_of(graph), ""]) for _ in range(self.random.choice([1, 1, 2, 9]))])

    def drop_input(self, _, graph):
        node = self.pick(n for n in graph.node if n.input)
        if node is not None:
            del node.input[self.random.randrange(len(node.input))]

    def rename_output(self, _, graph):
        node = self.pick(n for n in graph.node if n.output)
        if node is not None:
            node.output[self.random.randrange(len(node.output))] = self.pick([*names_of(graph), "", "unheard of"])

    def move_node(self, _, graph):
        if len(graph.node) > 1:
            nodes = list(graph.node)
            self.random.shuffle(nodes)
            del graph.node[:]
            graph.node.extend(nodes)

    def copy_node(self, _, graph):
        node = self.pick(graph.node)
        if node is not None:
            graph.node.append(node)

    def drop_node(self, _, graph):
        if graph.node:
            del graph.node[self.random.randrange(len(graph.node))]

    # ---------------------------------------------------------------------------------------------------- attributes

    def change_attribute(self, _, graph):
        node = self.pick(n for n in graph.node if n.attribute)
        attribute = self.pick(node.attribute) if node is not None else None
        if attribute is None:
            return
        if self.random.random() < 0.1:
            attribute.type = self.random.randint(0, 14)
        elif attribute.type == AttributeProto.INT:
            attribute.i = self.pick(EXTREMES)
        elif attribute.type == AttributeProto.FLOAT:
            attribute.f = self.pick(FLOATS)
        elif attribute.type == AttributeProto.STRING:
            attribute.s = self.pick([b"", b"\xff\xfe", b"linear", b"cubic", b"SAME_LOWER", b"VALID", b"reverse", b"...ij,jk->ik", b"i" * 5000])
        elif attribute.type == AttributeProto.INTS:
            self.change_list(attribute.ints, EXTREMES)
        elif attribute.type == AttributeProto.FLOATS:
            self.change_list(attribute.floats, FLOATS)
        elif attribute.type == AttributeProto.STRINGS:
            self.change_list(attribute.strings, [b"", b"\xff", b"BRANCH_LEQ", b"LEAF", b"BRANCH_MEMBER", b"x" * 3000])
        elif attribute.type == AttributeProto.TENSOR:
            attribute.t.dims[:] = [self.pick(EXTREMES)]

    def change_list(self, values, choices):
        kind = self.random.randrange(3)
        if kind == 0 and values:
            values[self.random.randrange(len(values))] = self.pick(choices)
        elif kind == 1 and values:
            del values[self.random.randrange(len(values))]
        else:
            values.append(self.pick(choices))

    def add_attribute(self, _, graph):
        """Of another node, or one that the operator has by its definition."""
        node = self.pick(graph.node)
        if node is None:
            return
        if self.random.random() < 0.3:
            other = self.pick(n for n in graph.node if n.attribute)
            if other is not None:
                node.attribute.append(self.pick(other.attribute))
        elif onnx.defs.has(node.op_type, node.domain):
            name = self.pick(onnx.defs.get_schema(node.op_type, node.domain).attributes)
            if name and all(a.name != name for a in node.attribute):
                value = self.pick([self.pick(EXTREMES), self.pick(FLOATS), "x", [self.pick(EXTREMES) for _ in range(3)], [0.5, -1.0]])
                node.attribute.append(helper.make_attribute(name, value))

    def drop_attribute(self, _, graph):
        node = self.pick(n for n in graph.node if n.attribute)
        if node is not None:
            del node.attribute[self.random.randrange(len(node.attribute))]

    # --------------------------------------------------------------------------------------------------------- model

    def change_version(self, model, _):
        if self.random.random() < 0.5:
            model.ir_version = self.pick([0, 1, 3, 4, 7, 9, 10, 11, 99, *EXTREMES])
        elif model.opset_import:
            self.pick(model.opset_import).version = self.pick([1, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 18, 19, 20, 21, 22, 23, 99, *EXTREMES])

    def nest(self, model, graph):
        """The whole graph inside one of its own nodes."""
        node = self.pick(graph.node)
        if node is not None:
            copy = onnx.GraphProto()
            copy.CopyFrom(model.graph)
            node.attribute.append(helper.make_attribute(self.pick(["then_branch", "else_branch", "body", "other"]), copy))


# Kinds of a tensor's values, by the names that schemas use.
TYPES = {
    "tensor(float)": (TensorProto.FLOAT, numpy.float32), "tensor(double)": (TensorProto.DOUBLE, numpy.float64),
    "tensor(int32)": (TensorProto.INT32, numpy.int32), "tensor(int64)": (TensorProto.INT64, numpy.int64),
    "tensor(uint8)": (TensorProto.UINT8, numpy.uint8), "tensor(int8)": (TensorProto.INT8, numpy.int8),
    "tensor(bool)": (TensorProto.BOOL, numpy.bool_), "tensor(float16)": (TensorProto.FLOAT16, numpy.float16),
    "tensor(uint64)": (TensorProto.UINT64, numpy.uint64), "tensor(string)": (TensorProto.STRING, numpy.object_),
}  # fmt: skip
SMALL = [-3, -2, -1, 0, 1, 2, 3, 4]
SCHEMAS = [s for s in onnx.defs.get_all_schemas() if not s.deprecated and s.domain in ("", "ai.onnx.ml")]
OPSETS = {"": min(21, onnx.defs.onnx_opset_version()), "ai.onnx.ml": 3}


class OneOperator:
    """A graph of a single operator: what it takes has the right types, and any shapes and values."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def shape(self):
        return [self.random.choice([0, 1, 1, 2, 2, 3, 4, 5]) for _ in range(self.random.choice([0, 1, 1, 2, 2, 3, 4, 4, 5]))]

    def values(self, kind, shape):
        count = int(numpy.prod(shape))
        source = SMALL if self.random.random() < 0.7 else EXTREMES
        if kind is numpy.object_:
            return numpy.array([self.random.choice([b"", b"a", b"red", b"\xff\xfe"]) for _ in range(count)], object).reshape(shape)
        if kind in (numpy.float32, numpy.float64, numpy.float16):
            source = [*source, *FLOATS]
        with numpy.errstate(all="ignore"):
            return numpy.array([numpy.float64(self.random.choice(source)) for _ in range(count)]).astype(kind).reshape(shape)

    def attribute(self, name, attribute):
        whole = SMALL if self.random.random() < 0.6 else EXTREMES
        pick = self.random.choice
        kinds = onnx.defs.OpSchema.AttrType
        value = {
            kinds.INT: lambda: pick(whole),
            kinds.FLOAT: lambda: pick(FLOATS),
            kinds.STRING: lambda: pick(["", "linear", "cubic", "nearest", "SAME_UPPER", "VALID", "NOTSET", "reflect", "wrap", "max", "ij,jk->ik", "TF"]),
            kinds.INTS: lambda: [pick(whole) for _ in range(pick([0, 1, 2, 2, 3, 4]))],
            kinds.FLOATS: lambda: [pick(FLOATS) for _ in range(pick([0, 1, 2, 4]))],
            kinds.STRINGS: lambda: [pick(["", "a", "LEAF", "BRANCH_LEQ", "Tanh", "Relu"]) for _ in range(pick([0, 1, 2, 3]))],
            kinds.TENSOR: lambda: onnx.numpy_helper.from_array(self.values(numpy.float32, self.shape()), "t"),
        }.get(attribute.type)
        # With its type, since an empty list does not say what of.
        return [helper.make_attribute(name, value(), attr_type=attribute.type.value)] if value else []

    def make(self):
        schema = self.random.choice(SCHEMAS)
        while schema.since_version > OPSETS[schema.domain]:
            schema = self.random.choice(SCHEMAS)
        allowed = {c.type_param_str: [t for t in c.allowed_type_strs if t in TYPES] for c in schema.type_constraints}
        chosen = {name: self.random.choice(types) for name, types in allowed.items() if types}

        def kind_of(parameter):
            return TYPES.get(chosen.get(parameter.type_str, parameter.type_str), TYPES["tensor(float)"])

        ports, constants, inputs = [], [], []
        common = self.shape()
        wanted = self.random.randint(schema.min_input, min(schema.max_input, len(schema.inputs) + 2))
        for number in range(wanted):
            element_type, kind = kind_of(schema.inputs[min(number, len(schema.inputs) - 1)])
            shape = common if self.random.random() < 0.5 else self.shape()
            name = f"i{number}"
            if number and self.random.random() < 0.05:
                name = ""
            elif number == 0 and element_type in (TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL, TensorProto.STRING):
                ports.append(helper.make_tensor_value_info(name, element_type, shape if self.random.random() < 0.7 else ["n"] * len(shape)))
            else:
                constants.append(onnx.numpy_helper.from_array(self.values(kind, shape), name))
            inputs.append(name)
        attributes = []
        for name, attribute in schema.attributes.items():
            if attribute.required or self.random.random() < 0.4:
                attributes += self.attribute(name, attribute)
        outputs = [f"o{n}" for n in range(self.random.randint(max(1, schema.min_output), max(1, len(schema.outputs))))]
        node = helper.make_node(schema.name, inputs, outputs, domain=schema.domain)
        node.attribute.extend(attributes)
        last = len(schema.outputs) - 1
        results = [helper.make_tensor_value_info(o, kind_of(schema.outputs[min(n, last)])[0], None) for n, o in enumerate(outputs)]
        graph = helper.make_graph([node], "one", ports, results, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid(d, v) for d, v in OPSETS.items()])
        model.ir_version = 9
        return schema.name, model.SerializeToString()


def mutant(seed, number, goods):
    """The bytes of mutant `number`, and what it comes from: every other one is a single operator, the rest damaged graphs."""
    if number % 2:
        return OneOperator(f"{seed}/{number}").make()
    mutator = Mutator(f"{seed}/{number}")
    name = mutator.pick(sorted(goods))
    return name, mutator.mutate(goods[name])
