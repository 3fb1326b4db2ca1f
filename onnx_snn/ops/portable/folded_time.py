"""What the portable bodies share: the time axis out of the rows of x and back, and attributes.

The bodies flatten the state to one axis, so that their Scans have fixed ranks, which older versions
of onnxruntime insist on; attributes are read from the calling node. The names that the nodes here
give to their results are for the rest of the body to use.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import onnx
from onnx import AttributeProto, FunctionProto, NodeProto, TensorProto, helper

from onnx_snn.ops import DOMAIN, VERSION


def state_type(elem_type: int) -> int:
    """The type of the state: float16 currents are integrated in float32 within a call."""
    return TensorProto.FLOAT if elem_type == TensorProto.FLOAT16 else elem_type


def state_info(name: str, elem_type: int) -> onnx.ValueInfoProto:
    """An input or output of a Scan's body: the state of all neurons, or their currents."""
    return helper.make_tensor_value_info(name, state_type(elem_type), [None])


def read_attributes(attributes: Mapping[str, int | float], elem_type: int) -> Iterable[NodeProto]:
    """x_state and all attributes in the state's type; ``*_attribute`` as they are; constants."""
    yield node("Cast", ["x"], "x_state", to=state_type(elem_type))
    for name, default in attributes.items():
        kind = "float" if isinstance(default, float) else "int"
        attribute = helper.make_node("Constant", [], [f"{name}_attribute"])
        reference = attribute.attribute.add()
        reference.name = f"value_{kind}"
        reference.ref_attr_name = name
        reference.type = AttributeProto.FLOAT if kind == "float" else AttributeProto.INT
        yield attribute
        if name != "constant_input":
            yield node("CastLike", [f"{name}_attribute", "x_state"], name)
    # No tensor has -2 rows: a T of 0 or less becomes an error, not a division by zero.
    yield constant("impossible", value_int=-2)
    yield constant("zero", value_int=0)
    yield constant("one", value_int=1)
    yield constant("first", value_ints=[0])
    yield constant("second", value_ints=[1])
    yield constant("end", value_ints=[2**62])
    yield constant("flat", value_ints=[-1])
    yield node("CastLike", ["zero", "x_state"], "silent")


def unfold_currents(timesteps: str = "T") -> Iterable[NodeProto]:
    """x to currents [T, M], M values in all neurons together, repeated where x is constant.

    Args:
        timesteps: the tensor with T.
    """
    yield node("Equal", ["constant_input_attribute", "one"], "is_constant")
    yield node("Less", [timesteps, "one"], "is_too_few")
    yield node("Where", ["is_too_few", "impossible", timesteps], "T_checked")
    yield node("Where", ["is_constant", "one", "T_checked"], "steps_given")
    yield node("Shape", ["x"], "x_shape")
    yield node("Size", ["x"], "x_size")
    yield node("Div", ["x_size", "steps_given"], "width")
    yield node("Reshape", ["width", "flat"], "M")
    yield node("Reshape", ["T_checked", "flat"], "steps")
    yield node("Reshape", ["steps_given", "flat"], "rows_given")
    yield node("Concat", ["rows_given", "M"], "given_shape", axis=0)
    yield node("Concat", ["steps", "M"], "full_shape", axis=0)
    yield node("Reshape", ["x_state", "given_shape"], "given", allowzero=1)
    yield node("Expand", ["given", "full_shape"], "currents")


def fold_spikes() -> Iterable[NodeProto]:
    """Spikes [T, M] to s [T*N, ...] of x's type."""
    yield node("Slice", ["x_shape", "second", "end"], "features")
    yield node("Slice", ["x_shape", "first", "second"], "x_rows")
    yield node("Div", ["x_rows", "rows_given"], "N")
    yield node("Mul", ["N", "steps"], "TN")
    yield node("Concat", ["TN", "features"], "s_shape", axis=0)
    yield node("CastLike", ["spikes", "x"], "spikes_x")
    yield node("Reshape", ["spikes_x", "s_shape"], "s", allowzero=1)


def make_function(
    name: str,
    inputs: list[str],
    outputs: list[str],
    nodes: list[NodeProto],
    opset: int,
    attributes: Mapping[str, Any],
    doc: str,
    *,
    calls_others: bool = False,
) -> FunctionProto:
    """The function of the operator set, with the defaults of its attributes.

    ``calls_others`` says that its body calls other functions of the set.
    """
    opsets = [helper.make_opsetid("", opset)]
    if calls_others:
        opsets.append(helper.make_opsetid(DOMAIN, VERSION))
    return helper.make_function(
        DOMAIN,
        name,
        inputs,
        outputs,
        nodes,
        opsets,
        attribute_protos=[helper.make_attribute(*item) for item in attributes.items()],
        doc_string=doc,
    )


_TYPES = {float: AttributeProto.FLOAT, int: AttributeProto.INT, list: AttributeProto.INTS}


def refer(to: NodeProto, attributes: Mapping[str, Any], prefix: str = "") -> None:
    """Lets a node of the body have attributes of the calling node, named there with a prefix."""
    for name, default in attributes.items():
        reference = to.attribute.add()
        reference.name = name
        reference.ref_attr_name = prefix + name
        reference.type = _TYPES[type(default)]


def node(op: str, inputs: list[str], output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(op, inputs, [output], **attributes)


def constant(name: str, **value: Any) -> NodeProto:
    return helper.make_node("Constant", [], [name], **value)
