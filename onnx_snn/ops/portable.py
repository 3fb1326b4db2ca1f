"""The portable body of ``IFNeuron``: a model-local function of standard ONNX operators.

onnxruntime inlines it where no native kernel is registered, so a converted file runs anywhere.
The body flattens the state to one axis, so that its Scan has fixed ranks, which older versions
of onnxruntime insist on; all attributes but ``reset`` are read from the calling node.

A model can hold one function of a name, and onnxruntime wants a call to have exactly the inputs
and outputs of the function (an output not wanted has an empty name). So all neurons of one model
share a ``Signature``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import AttributeProto, FunctionProto, NodeProto, TensorProto, helper

from onnx_snn.ops import DOMAIN, IF_NEURON

ATTRIBUTES: Mapping[str, int | float] = {
    "constant_input": 0,
    "v_threshold": 1.0,
    "v_init": 0.5,
    "spike_min": 0,
    "spike_max": 1,
    "count_min": 0,
    "count_max": -1,
}
"""Attributes that the body reads from the node, with the defaults of the operator."""


@dataclass(frozen=True)
class Signature:
    """What the neurons of one model have in common.

    Attributes:
        binary: whether all of them emit 0 and 1 only, without count limits.
        v: whether they are given the membrane before the first step.
        n: whether they are given the spike count before the first step.
        v_next: whether they give the membrane after the last step.
        n_next: whether they give the spike count after the last step.
        reset: ``"subtract"`` or ``"zero"``.
        elem_type: the ``TensorProto`` type of the currents.
    """

    binary: bool = True
    v: bool = True
    n: bool = False
    v_next: bool = True
    n_next: bool = False
    reset: str = "subtract"
    elem_type: int = TensorProto.FLOAT

    @property
    def inputs(self) -> list[str]:
        return ["x", "T", *(["v"] if self.v or self.n else []), *(["n"] if self.n else [])]

    @property
    def outputs(self) -> list[str]:
        wanted = ["v_next"] if self.v_next or self.n_next else []
        return ["s", *wanted, *(["n_next"] if self.n_next else [])]

    @property
    def counts(self) -> bool:
        return not self.binary or self.n or self.n_next


def if_neuron_function(signature: Signature, opset: int) -> FunctionProto:
    """The body for one signature.

    Args:
        signature: shared by all neurons of the model.
        opset: the default-domain opset of the model, at least 18.

    Returns:
        A function ``onnx_snn.IFNeuron``, equal to ``onnx_snn.ops.reference.if_neuron``.
    """
    nodes = [
        *_constants(signature),
        *_flatten_input(signature),
        *_initial_state(signature),
        _scan(signature),
        *_restore_shapes(signature),
    ]
    return helper.make_function(
        DOMAIN,
        IF_NEURON,
        signature.inputs,
        signature.outputs,
        nodes,
        [helper.make_opsetid("", opset)],
        attribute_protos=[helper.make_attribute(*item) for item in ATTRIBUTES.items()],
        doc_string="Integrate-and-fire neurons over T time steps (onnx_snn, version 1).",
    )


def _constants(signature: Signature) -> Iterable[NodeProto]:
    # float16 currents are integrated in float32 within a call, as in the reference.
    yield _node("Cast", ["x"], "x_state", to=_state_type(signature))
    for name, default in ATTRIBUTES.items():
        kind = "float" if isinstance(default, float) else "int"
        node = helper.make_node("Constant", [], [f"{name}_attribute"])
        reference = node.attribute.add()
        reference.name = f"value_{kind}"
        reference.ref_attr_name = name
        reference.type = AttributeProto.FLOAT if kind == "float" else AttributeProto.INT
        yield node
        if name != "constant_input":
            yield _node("CastLike", [f"{name}_attribute", "x_state"], name)
    # No tensor has -2 rows: a T of 0 or less becomes an error, not a division by zero.
    yield _constant("impossible", value_int=-2)
    yield _constant("zero", value_int=0)
    yield _constant("one", value_int=1)
    yield _constant("first", value_ints=[0])
    yield _constant("second", value_ints=[1])
    yield _constant("end", value_ints=[2**62])
    yield _constant("flat", value_ints=[-1])
    yield _node("CastLike", ["zero", "x_state"], "silent")


def _flatten_input(signature: Signature) -> Iterable[NodeProto]:
    """x to [T, M], M values in all neurons together, repeated where the input is constant."""
    yield _node("Equal", ["constant_input_attribute", "one"], "is_constant")
    yield _node("Less", ["T", "one"], "is_too_few")
    yield _node("Where", ["is_too_few", "impossible", "T"], "T_checked")
    yield _node("Where", ["is_constant", "one", "T_checked"], "steps_given")
    yield _node("Shape", ["x"], "x_shape")
    yield _node("Size", ["x"], "x_size")
    yield _node("Div", ["x_size", "steps_given"], "width")
    yield _node("Reshape", ["width", "flat"], "M")
    yield _node("Reshape", ["T_checked", "flat"], "steps")
    yield _node("Reshape", ["steps_given", "flat"], "rows_given")
    yield _node("Concat", ["rows_given", "M"], "given_shape", axis=0)
    yield _node("Concat", ["steps", "M"], "full_shape", axis=0)
    yield _node("Reshape", ["x_state", "given_shape"], "given", allowzero=1)
    yield _node("Expand", ["given", "full_shape"], "currents")


def _initial_state(signature: Signature) -> Iterable[NodeProto]:
    if signature.v:
        yield _node("CastLike", ["v", "x_state"], "v_state")
        yield _node("Reshape", ["v_state", "flat"], "v_flat")
    else:
        yield _node("Mul", ["v_init", "v_threshold"], "v_flat")
    yield _node("Expand", ["v_flat", "M"], "V_0")
    if not signature.counts:
        return
    if signature.n:
        yield _node("CastLike", ["n", "x_state"], "n_state")
        yield _node("Reshape", ["n_state", "flat"], "n_flat")
    else:
        yield _node("Identity", ["silent"], "n_flat")
    yield _node("Expand", ["n_flat", "M"], "n_0")


def _scan(signature: Signature) -> NodeProto:
    """One time step as the body of a Scan over the currents."""
    nodes = [_node("Add", ["V", "x_t"], "V_in"), *_fire(signature)]
    if signature.reset == "subtract":
        nodes += [
            _node("Mul", ["s_t", "v_threshold"], "discharge"),
            _node("Sub", ["V_in", "discharge"], "V_out"),
        ]
    else:
        nodes += [
            _node("Equal", ["s_t", "silent"], "is_silent"),
            _node("Where", ["is_silent", "V_in", "silent"], "V_out"),
        ]
    state_in, state_out, start = ["V"], ["V_out"], ["V_0"]
    state_end = ["V_T"]
    if signature.counts:
        state_in.append("n_in")
        state_out.append("n_out")
        start.append("n_0")
        state_end.append("n_T")

    def info(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, _state_type(signature), [None])

    body = helper.make_graph(
        nodes,
        "time_step",
        [info(name) for name in (*state_in, "x_t")],
        [info(name) for name in (*state_out, "s_t")],
    )
    return helper.make_node(
        "Scan", [*start, "currents"], [*state_end, "spikes"], body=body, num_scan_inputs=1
    )


def _fire(signature: Signature) -> Iterable[NodeProto]:
    """The spikes of one time step, and the count with them."""
    if not signature.counts:
        yield _node("GreaterOrEqual", ["V_in", "v_threshold"], "fires")
        yield _node("CastLike", ["fires", "V_in"], "s_t")
        return
    yield _node("Sub", ["count_min", "n_in"], "room_below")
    yield _node("Max", ["spike_min", "room_below"], "lowest_free")
    yield _node("Min", ["lowest_free", "silent"], "lowest")
    yield _node("Sub", ["count_max", "n_in"], "room_above")
    # A negative count_max means no limit.
    yield _node("Less", ["count_max", "silent"], "unlimited")
    yield _node("Where", ["unlimited", "spike_max", "room_above"], "room")
    yield _node("Min", ["spike_max", "room"], "highest_free")
    yield _node("Max", ["highest_free", "silent"], "highest")
    yield _node("Div", ["V_in", "v_threshold"], "quotient")
    yield _node("Floor", ["quotient"], "floor")
    # Not Max, which would let a NaN through.
    yield _node("Greater", ["floor", "lowest"], "is_above")
    yield _node("Where", ["is_above", "floor", "lowest"], "at_least")
    yield _node("Min", ["at_least", "highest"], "s_t")
    yield _node("Add", ["n_in", "s_t"], "n_out")


def _restore_shapes(signature: Signature) -> Iterable[NodeProto]:
    yield _node("Slice", ["x_shape", "second", "end"], "features")
    yield _node("Slice", ["x_shape", "first", "second"], "x_rows")
    yield _node("Div", ["x_rows", "rows_given"], "N")
    yield _node("Mul", ["N", "steps"], "TN")
    yield _node("Concat", ["TN", "features"], "s_shape", axis=0)
    yield _node("CastLike", ["spikes", "x"], "spikes_x")
    yield _node("Reshape", ["spikes_x", "s_shape"], "s", allowzero=1)
    yield _node("Concat", ["N", "features"], "state_shape", axis=0)
    if "v_next" in signature.outputs:
        yield _node("CastLike", ["V_T", "x"], "V_T_x")
        yield _node("Reshape", ["V_T_x", "state_shape"], "v_next", allowzero=1)
    if "n_next" in signature.outputs:
        yield _node("CastLike", ["n_T", "x"], "n_T_x")
        yield _node("Reshape", ["n_T_x", "state_shape"], "n_next", allowzero=1)


def _state_type(signature: Signature) -> int:
    return TensorProto.FLOAT if signature.elem_type == TensorProto.FLOAT16 else signature.elem_type


def _node(op: str, inputs: list[str], output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(op, inputs, [output], **attributes)


def _constant(name: str, **value: Any) -> NodeProto:
    return helper.make_node("Constant", [], [name], **value)
