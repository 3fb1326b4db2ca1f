"""Damaged and hostile model files, the same ones for the same seed.

Each starts as a small valid network; one damage is done to its bytes, its protobuf or the data
beside it. What is left may be valid: the damage may hit a name or a low bit of a weight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nets import Gaussian, cnn, mlp, residual

SHAPES = {"cnn": (2, 8, 8), "normalised": (2, 8, 8), "residual": (3, 6, 6), "mlp": (7,)}
"""What each network takes, without the batch axis."""

Damage = Callable[[onnx.ModelProto, np.random.Generator], None]


def networks() -> dict[str, onnx.ModelProto]:
    """The networks that are damaged, by the name that begins the names of their files."""
    return {
        "cnn": cnn(Gaussian(0)),
        "normalised": cnn(Gaussian(1), normalised=True),
        "residual": residual(Gaussian(2)),
        "mlp": mlp(Gaussian(3)),
    }


def write_corrupted_files(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """Write ``count`` files ``network-damage-index.onnx``, each structural damage at least once.

    Beside them lies ``weights.bin``, which some of them refer to.
    """
    random = np.random.default_rng(seed)
    originals = networks()
    (folder / "weights.bin").write_bytes(bytes(4096))
    structure, in_bytes = list(STRUCTURE), list(BYTES)
    paths = []
    for index in range(count):
        if index < len(structure):
            kind = structure[index]
        else:
            kind = str(random.choice(in_bytes if index % 3 else structure))
        for name in random.permutation(list(originals)):  # not every network has every operator
            original = originals[name].SerializeToString(deterministic=True)
            content = _damaged(original, kind, random)
            if content != original:
                break
        path = folder / f"{name}-{kind}-{index}.onnx"
        path.write_bytes(content)
        paths.append(path)
    return paths


def _damaged(content: bytes, kind: str, random: np.random.Generator) -> bytes:
    if kind in BYTES:
        return BYTES[kind](content, random)
    model = onnx.ModelProto.FromString(content)
    STRUCTURE[kind](model, random)
    return model.SerializeToString(deterministic=True)


# Damage to bytes


def _flip(content: bytes, random: np.random.Generator) -> bytes:
    damaged = bytearray(content)
    for at in random.integers(len(damaged), size=random.integers(1, 9)):
        damaged[at] ^= 1 << int(random.integers(8))
    return bytes(damaged)


def _flip_outside_weights(content: bytes, random: np.random.Generator) -> bytes:
    """Flip bits in what the protobuf says about nodes and names, which is a small part of it."""
    model = onnx.ModelProto.FromString(content)
    weights = [tensor.raw_data for tensor in model.graph.initializer]
    spans = [(content.find(raw), len(raw)) for raw in weights]
    outside = np.ones(len(content), bool)
    for start, length in spans:
        outside[start : start + length] = False
    damaged = bytearray(content)
    for at in random.choice(np.flatnonzero(outside), size=random.integers(1, 4)):
        damaged[at] ^= 1 << int(random.integers(8))
    return bytes(damaged)


def _truncate(content: bytes, random: np.random.Generator) -> bytes:
    return content[: int(random.integers(len(content)))]


def _remove(content: bytes, random: np.random.Generator) -> bytes:
    start = int(random.integers(len(content)))
    return content[:start] + content[start + int(random.integers(1, 64)) :]


def _repeat(content: bytes, random: np.random.Generator) -> bytes:
    start = int(random.integers(len(content)))
    return content[: start + int(random.integers(1, 64))] + content[start:]


def _zero(content: bytes, random: np.random.Generator) -> bytes:
    start, length = int(random.integers(len(content))), int(random.integers(1, 256))
    return content[:start] + bytes(len(content[start : start + length])) + content[start + length :]


BYTES: dict[str, Callable[[bytes, np.random.Generator], bytes]] = {
    "flip": _flip,
    "flip_outside_weights": _flip_outside_weights,
    "truncate": _truncate,
    "remove": _remove,
    "repeat": _repeat,
    "zero": _zero,
}


# Damage to structure


def _pick(items: Iterable[object], random: np.random.Generator) -> object:
    items = list(items)
    return items[int(random.integers(len(items)))]


def _attribute(op_types: tuple[str, ...], name: str, value: object) -> Damage:
    """Set an attribute of every node of these types."""

    def damage(model: onnx.ModelProto, random: np.random.Generator) -> None:
        for node in (node for node in model.graph.node if node.op_type in op_types):
            kept = [a for a in node.attribute if a.name != name]
            del node.attribute[:]
            node.attribute.extend([*kept, helper.make_attribute(name, value)])

    return damage


def _field(path: str, value: object) -> Damage:
    """Set a field, such as ``graph.initializer[0].data_type``, to a value."""
    *parents, last = path.split(".")

    def damage(model: onnx.ModelProto, random: np.random.Generator) -> None:
        message = model
        for step in parents:
            name, _, index = step.partition("[")
            message = getattr(message, name)
            message = message[int(index[:-1])] if index else message
        if isinstance(value, list):
            message.ClearField(last)
            getattr(message, last).extend(value)
        else:
            setattr(message, last, value)

    return damage


def _without(path: str) -> Damage:
    """Clear a field of the graph."""

    def damage(model: onnx.ModelProto, random: np.random.Generator) -> None:
        model.graph.ClearField(path)

    return damage


def _insert(*nodes: onnx.NodeProto, **constants: object) -> Damage:
    """Let nodes compute ``result`` from ``values``, the network's output, and be its output.

    Nodes may also read ``constants``.
    """

    def damage(model: onnx.ModelProto, random: np.random.Generator) -> None:
        model.graph.node[-1].output[0] = "values"
        model.graph.node.extend(nodes)
        for name, values in constants.items():
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
        result = helper.make_tensor_value_info("result", TensorProto.FLOAT, [None, None])
        model.graph.output[0].CopyFrom(result)

    return damage


def _make(op_type: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op_type, inputs.split(" ") if inputs else [], [output], **attributes)


def _add_huge(*nodes: onnx.NodeProto, **constants: object) -> Damage:
    """Add the sum of ``huge``, computed from constants alone, to the output."""
    return _insert(
        *nodes,
        _make("ReduceSum", "huge", "sum", keepdims=0),
        _make("Add", "values sum", "result"),
        **constants,
    )


def _cycle(model: onnx.ModelProto, random: np.random.Generator) -> None:
    node = model.graph.node[0]
    node.input[0] = model.graph.node[-1].output[0]


def _own_input(model: onnx.ModelProto, random: np.random.Generator) -> None:
    node = _pick(model.graph.node, random)
    node.input[0] = node.output[0]


def _dangling(model: onnx.ModelProto, random: np.random.Generator) -> None:
    _pick(model.graph.node, random).input[0] = "nobody"


def _left_out_input(model: onnx.ModelProto, random: np.random.Generator) -> None:
    _pick(model.graph.node, random).input[0] = ""


def _no_inputs(model: onnx.ModelProto, random: np.random.Generator) -> None:
    _pick(model.graph.node, random).ClearField("input")


def _no_node_outputs(model: onnx.ModelProto, random: np.random.Generator) -> None:
    _pick(model.graph.node, random).ClearField("output")


def _many_inputs(model: onnx.ModelProto, random: np.random.Generator) -> None:
    node = _pick(model.graph.node, random)
    node.input.extend([node.input[0]] * 1000)


def _duplicated_output(model: onnx.ModelProto, random: np.random.Generator) -> None:
    model.graph.node[-1].output[0] = model.graph.node[0].output[0]
    model.graph.output[0].name = model.graph.node[0].output[0]


def _duplicated_node(model: onnx.ModelProto, random: np.random.Generator) -> None:
    model.graph.node.append(model.graph.node[0])


def _duplicated_node_names(model: onnx.ModelProto, random: np.random.Generator) -> None:
    for node in model.graph.node:
        node.name = "same"


def _duplicated_initializer(model: onnx.ModelProto, random: np.random.Generator) -> None:
    model.graph.initializer.append(model.graph.initializer[0])


def _duplicated_input(model: onnx.ModelProto, random: np.random.Generator) -> None:
    model.graph.input.append(model.graph.input[0])


def _duplicated_graph_output(model: onnx.ModelProto, random: np.random.Generator) -> None:
    model.graph.output.append(model.graph.output[0])


def _shuffled_nodes(model: onnx.ModelProto, random: np.random.Generator) -> None:
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _other_operator(name: str) -> Damage:
    def damage(model: onnx.ModelProto, random: np.random.Generator) -> None:
        _pick(model.graph.node, random).op_type = name

    return damage


def _dims_without_data(*dims: int) -> Damage:
    def damage(model: onnx.ModelProto, random: np.random.Generator) -> None:
        model.graph.initializer[0].ClearField("raw_data")
        model.graph.initializer[0].dims[:] = dims

    return damage


def _swapped_weights(model: onnx.ModelProto, random: np.random.Generator) -> None:
    first, last = model.graph.initializer[0], model.graph.initializer[-1]
    first.name, last.name = last.name, first.name


def _not_finite(value: float) -> Damage:
    def damage(model: onnx.ModelProto, random: np.random.Generator) -> None:
        tensor = _pick(model.graph.initializer, random)
        values = numpy_helper.to_array(tensor).copy()
        values.ravel()[0] = value
        tensor.raw_data = values.tobytes()

    return damage


def _weights_times(factor: float) -> Damage:
    def damage(model: onnx.ModelProto, random: np.random.Generator) -> None:
        for tensor in model.graph.initializer:
            values = numpy_helper.to_array(tensor)
            if values.dtype == np.float32:
                with np.errstate(over="ignore"):
                    tensor.raw_data = (values * np.float32(factor)).tobytes()

    return damage


def _variance(value: float) -> Damage:
    def damage(model: onnx.ModelProto, random: np.random.Generator) -> None:
        names = {n.input[4] for n in model.graph.node if n.op_type == "BatchNormalization"}
        for tensor in model.graph.initializer:
            if tensor.name in names:
                shape = tuple(tensor.dims)
                tensor.raw_data = np.full(shape, value, np.float32).tobytes()

    return damage


def _external(location: str, **entries: object) -> Damage:
    def damage(model: onnx.ModelProto, random: np.random.Generator) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, **entries}.items():
            tensor.external_data.add(key=key, value=str(value))

    return damage


def _whole_external(model: onnx.ModelProto, random: np.random.Generator) -> None:
    """The only one that is well: all bytes of the tensor are there."""
    size = len(model.graph.initializer[0].raw_data)
    _external("weights.bin", offset=64, length=size)(model, random)


def _external_constant(model: onnx.ModelProto, random: np.random.Generator) -> None:
    """A tensor in an attribute, whose data is outside of the folder."""
    tensor = TensorProto(name="t", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    node = helper.make_node("Constant", [], ["constant"], value=tensor)
    model.graph.node.insert(0, node)


def _nested(depth: int) -> Damage:
    """If in If in If …; protobuf itself refuses more than a hundred messages in each other."""

    def damage(model: onnx.ModelProto, random: np.random.Generator) -> None:
        out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
        graph = helper.make_graph([_make("Relu", "values", "out")], "g", [], [out])
        for _ in range(depth):
            node = _make("If", "true", "out", then_branch=graph, else_branch=_leaf())
            graph = helper.make_graph([node], "g", [], [out])
        node.output[0] = "result"
        _insert(node, true=True)(model, random)

    return damage


def _leaf() -> onnx.GraphProto:
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    return helper.make_graph([_make("Neg", "values", "out")], "leaf", [], [out])


def _endless_loop(model: onnx.ModelProto, random: np.random.Generator) -> None:
    """A Loop over constants alone, of so many rounds that it never ends."""
    body = helper.make_graph(
        [_make("Identity", "go", "go_on"), _make("Add", "sum one", "next")],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, []),
        ],
    )
    one = np.float32(1)
    loop = _make("Loop", "rounds true zero", "total", body=body)
    add = _make("Add", "values total", "result")
    constants = {"rounds": np.int64(2**62), "true": True, "zero": np.float32(0), "one": one}
    _insert(loop, add, **constants)(model, random)


def _function(*nodes: onnx.NodeProto, name: str = "F", calls: int = 1) -> Damage:
    """The output goes through a function of the model's own with these nodes."""

    def damage(model: onnx.ModelProto, random: np.random.Generator) -> None:
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)]
        model.functions.append(
            helper.make_function("local", name, ["a"], ["b"], list(nodes), opsets)
        )
        model.opset_import.append(helper.make_opsetid("local", 1))
        _insert(_make("F", "values", "result", domain="local"))(model, random)

    return damage


def _mutual_functions(model: onnx.ModelProto, random: np.random.Generator) -> None:
    _function(_make("G", "a", "b", domain="local"))(model, random)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)]
    back = [_make("F", "a", "b", domain="local")]
    model.functions.append(helper.make_function("local", "G", ["a"], ["b"], back, opsets))


def _doubling_functions(model: onnx.ModelProto, random: np.random.Generator) -> None:
    """Each function calls the next one twice: 2^40 nodes when inlined."""
    _function(_make("F1", "a", "c", domain="local"), _make("F1", "c", "b", domain="local"))(
        model, random
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)]
    for level in range(1, 40):
        name = f"F{level + 1}"
        nodes = [_make(name, "a", "c", domain="local"), _make(name, "c", "b", domain="local")]
        function = helper.make_function("local", f"F{level}", ["a"], ["b"], nodes, opsets)
        model.functions.append(function)
    last = helper.make_function("local", "F40", ["a"], ["b"], [_make("Relu", "a", "b")], opsets)
    model.functions.append(last)


def _renamed(name: str) -> Damage:
    """Give a tensor, a node and the input an odd name, everywhere."""

    def damage(model: onnx.ModelProto, random: np.random.Generator) -> None:
        node = _pick(list(model.graph.node)[:-1], random)
        tensor = node.output[0]
        node.name = name
        for each in model.graph.node:
            each.input[:] = [name if t == tensor else t for t in each.input]
            each.output[:] = [name if t == tensor else t for t in each.output]

    return damage


def _input_shape(*shape: int | str | None) -> Damage:
    def damage(model: onnx.ModelProto, random: np.random.Generator) -> None:
        name = model.graph.input[0].name
        value = helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))
        model.graph.input[0].CopyFrom(value)

    return damage


def _unshaped_input(model: onnx.ModelProto, random: np.random.Generator) -> None:
    model.graph.input[0].type.tensor_type.ClearField("shape")


def _untyped_input(model: onnx.ModelProto, random: np.random.Generator) -> None:
    model.graph.input[0].ClearField("type")


def _sequence_input(model: onnx.ModelProto, random: np.random.Generator) -> None:
    model.graph.input[0].type.sequence_type.elem_type.tensor_type.elem_type = TensorProto.FLOAT


def _unused_input(model: onnx.ModelProto, random: np.random.Generator) -> None:
    model.graph.input.append(helper.make_tensor_value_info("extra", TensorProto.STRING, [None, 3]))


def _missing_output(model: onnx.ModelProto, random: np.random.Generator) -> None:
    model.graph.output[0].name = "nobody"


def _input_as_output(model: onnx.ModelProto, random: np.random.Generator) -> None:
    model.graph.output[0].CopyFrom(model.graph.input[0])


def _weight_as_output(model: onnx.ModelProto, random: np.random.Generator) -> None:
    model.graph.output.append(onnx.ValueInfoProto(name=model.graph.initializer[0].name))
    model.graph.output[-1].type.tensor_type.elem_type = TensorProto.FLOAT


def _no_default_opset(model: onnx.ModelProto, random: np.random.Generator) -> None:
    model.opset_import[0].domain = "nowhere.example"


def _two_opsets(model: onnx.ModelProto, random: np.random.Generator) -> None:
    model.opset_import.append(helper.make_opsetid("ai.onnx", 7))


def _foreign_domain(model: onnx.ModelProto, random: np.random.Generator) -> None:
    _pick(model.graph.node, random).domain = "nowhere.example"
    model.opset_import.append(helper.make_opsetid("nowhere.example", 1))


def _overlong_chain(model: onnx.ModelProto, random: np.random.Generator) -> None:
    """More than a thousand nodes in a row: too deep for whatever follows edges by recursion."""
    names = ["values", *(f"chain{i}" for i in range(1199)), "result"]
    _insert(*(_make("Neg", before, after) for before, after in pairwise(names)))(model, random)


def _wide_constant_chain(model: onnx.ModelProto, random: np.random.Generator) -> None:
    """A constant concatenated with itself forty times over: 2^40 values."""
    names = ["seed", *(f"twice{i}" for i in range(39)), "huge"]
    nodes = [_make("Concat", f"{a} {a}", b, axis=0) for a, b in pairwise(names)]
    _add_huge(*nodes, seed=np.ones(1, np.float32))(model, random)


def _doubled_shape(model: onnx.ModelProto, random: np.random.Generator) -> None:
    """The same with the shape of the output, which is no constant."""
    names = ["shape", *(f"twice{i}" for i in range(39)), "long"]
    nodes = [_make("Concat", f"{a} {a}", b, axis=0) for a, b in pairwise(names)]
    shape, cast = _make("Shape", "values", "shape"), _make("Cast", "long", "huge", to=1)
    _add_huge(shape, *nodes, cast)(model, random)


_HUGE = np.array([200_000, 200_000])
_ONE = np.ones((1, 1), np.float32)
_CONV, _POOL = ("Conv",), ("AveragePool",)

STRUCTURE: dict[str, Damage] = {
    # the graph
    "cycle": _cycle,
    "own_input": _own_input,
    "dangling": _dangling,
    "left_out_input": _left_out_input,
    "no_inputs": _no_inputs,
    "no_node_outputs": _no_node_outputs,
    "many_inputs": _many_inputs,
    "duplicated_output": _duplicated_output,
    "duplicated_node": _duplicated_node,
    "duplicated_node_names": _duplicated_node_names,
    "duplicated_initializer": _duplicated_initializer,
    "duplicated_input": _duplicated_input,
    "duplicated_graph_output": _duplicated_graph_output,
    "shuffled_nodes": _shuffled_nodes,
    "missing_output": _missing_output,
    "input_as_output": _input_as_output,
    "weight_as_output": _weight_as_output,
    "unused_input": _unused_input,
    "no_outputs": _without("output"),
    "no_graph_inputs": _without("input"),
    "no_nodes": _without("node"),
    "no_initializers": _without("initializer"),
    "no_graph": lambda model, random: model.ClearField("graph"),
    "overlong_chain": _overlong_chain,
    "operator_nonesuch": _other_operator("Nonesuch"),
    "operator_empty": _other_operator(""),
    "operator_loop": _other_operator("Loop"),
    "operator_matmul": _other_operator("MatMul"),
    "operator_batch_normalization": _other_operator("BatchNormalization"),
    "operator_reshape": _other_operator("Reshape"),
    "operator_resize": _other_operator("Resize"),
    # attributes
    "kernel_shape_text": _attribute((*_CONV, *_POOL), "kernel_shape", "three"),
    "kernel_shape_zero": _attribute((*_CONV, *_POOL), "kernel_shape", [0, 0]),
    "kernel_shape_negative": _attribute(_POOL, "kernel_shape", [-2, -2]),
    "kernel_shape_huge": _attribute(_POOL, "kernel_shape", [2**31, 2**31]),
    "kernel_shape_short": _attribute(_CONV, "kernel_shape", [3]),
    "kernel_shape_other": _attribute(_CONV, "kernel_shape", [5, 5]),
    "strides_zero": _attribute((*_CONV, *_POOL), "strides", [0, 0]),
    "strides_negative": _attribute((*_CONV, *_POOL), "strides", [-1, -1]),
    "strides_huge": _attribute((*_CONV, *_POOL), "strides", [2**62, 2**62]),
    "strides_float": _attribute(_CONV, "strides", [1.0, 1.0]),
    "pads_huge": _attribute((*_CONV, *_POOL), "pads", [2**20] * 4),
    "pads_overflow": _attribute((*_CONV, *_POOL), "pads", [2**62] * 4),
    "pads_negative": _attribute((*_CONV, *_POOL), "pads", [-3] * 4),
    "pads_odd": _attribute((*_CONV, *_POOL), "pads", [1, 1, 1]),
    "dilations_zero": _attribute(_CONV, "dilations", [0, 0]),
    "dilations_huge": _attribute(_CONV, "dilations", [2**40, 2**40]),
    "group_zero": _attribute(_CONV, "group", 0),
    "group_negative": _attribute(_CONV, "group", -1),
    "group_huge": _attribute(_CONV, "group", 2**62),
    "group_three": _attribute(_CONV, "group", 3),
    "auto_pad_unknown": _attribute(_CONV, "auto_pad", "SOMETIMES"),
    "axis_out_of_range": _attribute(("Flatten", "Concat"), "axis", 9),
    "axis_negative": _attribute(("Flatten", "Concat"), "axis", -(2**62)),
    "axis_batch": _attribute(("Concat",), "axis", 0),
    "alpha_not_a_number": _attribute(("Gemm",), "alpha", float("nan")),
    "beta_infinite": _attribute(("Gemm",), "beta", float("inf")),
    "alpha_zero": _attribute(("Gemm",), "alpha", 0.0),
    "alpha_integer": _attribute(("Gemm",), "alpha", 1),
    "trans_b": _attribute(("Gemm",), "transB", 1),
    "trans_a": _attribute(("Gemm",), "transA", 1),
    "epsilon_negative": _attribute(("BatchNormalization",), "epsilon", -1e9),
    "epsilon_not_a_number": _attribute(("BatchNormalization",), "epsilon", float("nan")),
    "training_mode": _attribute(("BatchNormalization",), "training_mode", 1),
    "unknown_attribute": _attribute(("Relu",), "colour", "blue"),
    "reference_attribute": _field(
        "graph.node[0].attribute",
        [onnx.AttributeProto(name="pads", ref_attr_name="outer", type=onnx.AttributeProto.INTS)],
    ),
    "untyped_attribute": _field("graph.node[0].attribute", [onnx.AttributeProto(name="pads")]),
    "perm_not_a_permutation": _insert(_make("Transpose", "values", "result", perm=[0, 0])),
    "perm_short": _insert(_make("Transpose", "values", "result", perm=[0])),
    "perm_out_of_range": _insert(_make("Transpose", "values", "result", perm=[0, 7])),
    "perm_moves_batch": _insert(_make("Transpose", "values", "result", perm=[1, 0])),
    "reduce_axis": _insert(_make("ReduceMean", "values axes", "result"), axes=np.array([9])),
    "reshape_impossible": _insert(_make("Reshape", "values to", "result"), to=np.array([7, 11])),
    "reshape_two_unknown": _insert(_make("Reshape", "values to", "result"), to=np.array([-1, -1])),
    "reshape_negative": _insert(_make("Reshape", "values to", "result"), to=np.array([-5, 2])),
    "reshape_overflow": _insert(
        _make("Reshape", "values to", "result"), to=np.array([2**40, 2**40])
    ),
    "reshape_float": _insert(_make("Reshape", "values to", "result"), to=np.array([1.5])),
    "cast_to_nothing": _insert(_make("Cast", "values", "result", to=999)),
    "gather_out_of_range": _insert(
        _make("Gather", "values at", "result", axis=1), at=np.array([10**9])
    ),
    "slice_step_zero": _insert(
        _make("Slice", "values zero one one zero", "result"), zero=np.array([0]), one=np.array([1])
    ),
    "split_wrong": _insert(
        helper.make_node("Split", ["values", "parts"], ["result", "rest"], axis=1),
        parts=np.array([1, 100]),
    ),
    "squeeze_batch": _insert(_make("Squeeze", "values axes", "result"), axes=np.array([0])),
    "unsqueeze_twice": _insert(_make("Unsqueeze", "values axes", "result"), axes=np.array([1, 1])),
    "integer_division": _add_huge(
        _make("Div", "one zero", "number"),
        _make("Cast", "number", "huge", to=1),
        one=np.array([1]),
        zero=np.array([0]),
    ),
    "integer_modulo": _add_huge(
        _make("Mod", "one zero", "number"),
        _make("Cast", "number", "huge", to=1),
        one=np.array([1]),
        zero=np.array([0]),
    ),
    # weights
    "raw_data_short": _field("graph.initializer[0].raw_data", b"\x00" * 7),
    "raw_data_long": _field("graph.initializer[0].raw_data", b"\x00" * 4096),
    "raw_data_and_float_data": _field("graph.initializer[0].float_data", [1.0]),
    "dims_negative": _field("graph.initializer[0].dims", [-1, 2, 3, 3]),
    "dims_zero": _field("graph.initializer[0].dims", [0, 2, 3, 3]),
    "dims_zero_without_data": _dims_without_data(0, 10**18),
    "dims_huge": _field("graph.initializer[0].dims", [2**40, 2**40]),
    "dims_huge_without_data": _dims_without_data(2**31, 2**31),
    "dims_none": _field("graph.initializer[0].dims", []),
    "dims_flat": lambda model, random: _field(
        "graph.initializer[0].dims", [int(np.prod(model.graph.initializer[0].dims))]
    )(model, random),
    "dims_many": lambda model, random: model.graph.initializer[0].dims.extend([1] * 100),
    "type_undefined": _field("graph.initializer[0].data_type", 0),
    "type_unknown": _field("graph.initializer[0].data_type", 1234),
    "type_int32": _field("graph.initializer[0].data_type", TensorProto.INT32),
    "type_string": _field("graph.initializer[0].data_type", TensorProto.STRING),
    "unnamed_initializer": _field("graph.initializer[0].name", ""),
    "swapped_weights": _swapped_weights,
    "not_a_number": _not_finite(np.nan),
    "infinite": _not_finite(np.inf),
    "denormal": _weights_times(1e-44),
    "greatest": _weights_times(1e38),
    "all_zero": _weights_times(0.0),
    "variance_negative": _variance(-1.0),
    "variance_zero": _variance(0.0),
    "external_parent": _external("../../etc/passwd"),
    "external_absolute": _external("/etc/passwd"),
    "external": _whole_external,
    "external_of_other_size": _external("weights.bin", length=8),
    "external_missing": _external("nothing.bin"),
    "external_device": _external("/dev/zero", length=288),
    "external_folder": _external("."),
    "external_nowhere": _external(""),
    "external_offset_beyond": _external("weights.bin", offset=2**40, length=288),
    "external_length_beyond": _external("weights.bin", length=2**40),
    "external_offset_negative": _external("weights.bin", offset=-5),
    "external_offset_text": _external("weights.bin", offset="five"),
    "external_odd_key": _external("weights.bin", length=252, __class__="x"),
    "external_nul": _external("weights\0.bin"),
    "external_constant": _external_constant,
    # inputs
    "input_negative": _input_shape(-1, -2, -3),
    "input_zero": _input_shape("N", 0, 0, 0),
    "input_huge": _input_shape("N", 2**40, 2**40, 2**40),
    "input_scalar": _input_shape(),
    "input_other_rank": _input_shape("N", 3),
    "input_unknown_dims": _input_shape(None, None, None, None),
    "input_named_dims": _input_shape("N", "N", "N", "N"),
    "input_many_dims": _input_shape(*[1] * 1000),
    "unshaped_input": _unshaped_input,
    "untyped_input": _untyped_input,
    "sequence_input": _sequence_input,
    "input_type_string": _field("graph.input[0].type.tensor_type.elem_type", TensorProto.STRING),
    "input_type_unknown": _field("graph.input[0].type.tensor_type.elem_type", 777),
    # versions
    "opset_zero": _field("opset_import[0].version", 0),
    "opset_negative": _field("opset_import[0].version", -1),
    "opset_unborn": _field("opset_import[0].version", 10**9),
    "opset_greatest": _field("opset_import[0].version", 2**63 - 1),
    "opset_one": _field("opset_import[0].version", 1),
    "opset_seven": _field("opset_import[0].version", 7),
    "no_default_opset": _no_default_opset,
    "two_opsets": _two_opsets,
    "foreign_domain": _foreign_domain,
    "unused_foreign_domain": lambda model, random: model.opset_import.append(
        helper.make_opsetid("nowhere.example", 3)
    ),
    "ir_version_zero": _field("ir_version", 0),
    "ir_version_negative": _field("ir_version", -1),
    "ir_version_unborn": _field("ir_version", 2**40),
    "ir_version_three": _field("ir_version", 3),
    # nesting and functions
    "nested_5": _nested(5),
    "nested_12": _nested(12),
    "endless_loop": _endless_loop,
    "function": _function(_make("Neg", "a", "b")),
    "recursive_function": _function(_make("F", "a", "b", domain="local")),
    "mutual_functions": _mutual_functions,
    "doubling_functions": _doubling_functions,
    "empty_function": _function(),
    "invalid_function": _function(_make("Nonesuch", "a", "b")),
    # names
    "name_nul": _renamed("a\0b"),
    "name_right_to_left": _renamed("\u202eabc\u2066"),
    "name_emoji": _renamed("🧠" * 100),
    "name_newline": _renamed("a\nb\r\t\x1b[31m"),
    "name_path": _renamed("../../../tmp/escape"),
    "name_long": _renamed("n" * 100_000),
    "name_of_ours": _renamed("onnx_snn/T"),
    "name_t": _renamed("T"),
    "name_timesteps": _renamed("timesteps"),
    # tensors that would be gigantic
    "huge_constant_of_shape": _add_huge(_make("ConstantOfShape", "sizes", "huge"), sizes=_HUGE),
    "huge_expand": _add_huge(_make("Expand", "one sizes", "huge"), one=_ONE, sizes=_HUGE),
    "huge_tile": _add_huge(_make("Tile", "one sizes", "huge"), one=_ONE, sizes=_HUGE),
    "huge_range": _add_huge(
        _make("Range", "zero end one", "numbers"),
        _make("Cast", "numbers", "huge", to=1),
        zero=np.int64(0),
        end=np.int64(10**11),
        one=np.int64(1),
    ),
    "huge_range_float": _add_huge(
        _make("Range", "zero end one", "huge"),
        zero=np.float32(0),
        end=np.float32(1e11),
        one=np.float32(1),
    ),
    "huge_pad": _add_huge(
        _make("Pad", "one sizes", "huge"), one=_ONE, sizes=np.array([0, 0, *_HUGE])
    ),
    "huge_resize": _add_huge(
        _make("Resize", "one  scales", "huge"), one=_ONE, scales=np.float32([2e5, 2e5])
    ),
    "huge_one_hot": _add_huge(
        _make("OneHot", "indices depth values01", "huge"),
        indices=np.zeros(10, np.int64),
        depth=np.int64(10**11),
        values01=np.float32([0, 1]),
    ),
    "huge_product": _add_huge(
        _make("MatMul", "column row", "huge"),
        column=np.ones((40_000, 1), np.float32),
        row=np.ones((1, 40_000), np.float32),
    ),
    "huge_sum": _add_huge(
        _make("Add", "column row", "huge"),
        column=np.ones((40_000, 1), np.float32),
        row=np.ones((1, 40_000), np.float32),
    ),
    "huge_random": _add_huge(_make("RandomNormal", "", "huge", shape=[200_000, 200_000])),
    "huge_eye": _add_huge(
        _make("ConstantOfShape", "sizes", "square"),
        _make("EyeLike", "square", "huge", dtype=1),
        sizes=_HUGE,
    ),
    "huge_behind_unknown_shape": _add_huge(
        _make("NonZero", "ones", "places"),
        _make("ReduceMax", "places", "last", keepdims=0),
        _make("Mul", "last many", "size"),
        _make("Reshape", "size one", "sizes"),
        _make("ConstantOfShape", "sizes", "huge"),
        ones=np.ones(1000, np.float32),
        many=np.int64(10**8),
        one=np.array([1]),
    ),
    "huge_concat_chain": _wide_constant_chain,
    "huge_shape_chain": _doubled_shape,
    "huge_output_tile": _insert(
        _make("Tile", "values sizes", "result"), sizes=np.array([1, 10**9])
    ),
    "huge_output_expand": _insert(
        _make("Unsqueeze", "values axes", "column"),
        _make("Expand", "column sizes", "result"),
        axes=np.array([2]),
        sizes=np.array([1, 1, 10**9]),
    ),
    "huge_output_pad": _insert(
        _make("Pad", "values sizes", "result"), sizes=np.array([0, 0, 0, 10**9])
    ),
    "huge_output_batch_pad": _insert(
        _make("Pad", "values sizes", "result"), sizes=np.array([0, 0, 10**9, 0])
    ),
}
"""Damages by name. Those of ``huge`` ask for tensors of hundreds of gigabytes."""
