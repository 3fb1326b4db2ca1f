"""The portable body of ``IFNeuron``; all attributes but ``reset`` are read from the calling node.

A model can hold one function of a name, and onnxruntime wants a call to have exactly the inputs
and outputs of the function (an output not wanted has an empty name). So all neurons of one model
share a ``Signature``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from onnx import FunctionProto, NodeProto, TensorProto, helper

from onnx_snn.ops import DOMAIN, IF_NEURON
from onnx_snn.ops.portable.folded_time import (
    fold_spikes,
    make_function,
    node,
    read_attributes,
    refer,
    state_info,
    unfold_currents,
)

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

CURRENTS_OF_EACH_STEP: Mapping[str, int | float] = {
    name: value for name, value in ATTRIBUTES.items() if name != "constant_input"
}
"""Those of neurons whose currents are computed by the same operator."""


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
        *read_attributes(ATTRIBUTES, signature.elem_type),
        *unfold_currents(),
        *_initial_state(signature),
        _scan(signature),
        *fold_spikes(),
        *_end_state(signature),
    ]
    return make_function(
        IF_NEURON,
        signature.inputs,
        signature.outputs,
        nodes,
        opset,
        ATTRIBUTES,
        "Integrate-and-fire neurons over T time steps (onnx_snn, version 1).",
    )


def call_if_neuron(
    signature: Signature,
    inputs: list[str],
    outputs: list[str],
    attributes: Mapping[str, int | float],
) -> NodeProto:
    """A call of ``IFNeuron`` in the body of another function.

    Args:
        signature: of the function that the model holds.
        inputs: of the call, as many as the signature has.
        outputs: likewise.
        attributes: those that the neurons have from the node that calls the body.
    """
    neuron = helper.make_node(IF_NEURON, inputs, outputs, domain=DOMAIN, reset=signature.reset)
    if "constant_input" not in attributes:
        neuron.attribute.append(helper.make_attribute("constant_input", 0))
    refer(neuron, attributes)
    return neuron


def _initial_state(signature: Signature) -> Iterable[NodeProto]:
    if signature.v:
        yield node("CastLike", ["v", "x_state"], "v_state")
        yield node("Reshape", ["v_state", "flat"], "v_flat")
    else:
        yield node("Mul", ["v_init", "v_threshold"], "v_flat")
    yield node("Expand", ["v_flat", "M"], "V_0")
    if not signature.counts:
        return
    if signature.n:
        yield node("CastLike", ["n", "x_state"], "n_state")
        yield node("Reshape", ["n_state", "flat"], "n_flat")
    else:
        yield node("Identity", ["silent"], "n_flat")
    yield node("Expand", ["n_flat", "M"], "n_0")


def _scan(signature: Signature) -> NodeProto:
    """One time step as the body of a Scan over the currents."""
    nodes = [node("Add", ["V", "x_t"], "V_in"), *_fire(signature)]
    if signature.reset == "subtract":
        nodes += [
            node("Mul", ["s_t", "v_threshold"], "discharge"),
            node("Sub", ["V_in", "discharge"], "V_out"),
        ]
    else:
        nodes += [
            node("Equal", ["s_t", "silent"], "is_silent"),
            node("Where", ["is_silent", "V_in", "silent"], "V_out"),
        ]
    state_in, state_out, start = ["V"], ["V_out"], ["V_0"]
    state_end = ["V_T"]
    if signature.counts:
        state_in.append("n_in")
        state_out.append("n_out")
        start.append("n_0")
        state_end.append("n_T")

    body = helper.make_graph(
        nodes,
        "time_step",
        [state_info(name, signature.elem_type) for name in (*state_in, "x_t")],
        [state_info(name, signature.elem_type) for name in (*state_out, "s_t")],
    )
    return helper.make_node(
        "Scan", [*start, "currents"], [*state_end, "spikes"], body=body, num_scan_inputs=1
    )


def _fire(signature: Signature) -> Iterable[NodeProto]:
    """The spikes of one time step, and the count with them."""
    if not signature.counts:
        yield node("GreaterOrEqual", ["V_in", "v_threshold"], "fires")
        yield node("CastLike", ["fires", "V_in"], "s_t")
        return
    yield node("Sub", ["count_min", "n_in"], "room_below")
    yield node("Max", ["spike_min", "room_below"], "lowest_free")
    yield node("Min", ["lowest_free", "silent"], "lowest")
    yield node("Sub", ["count_max", "n_in"], "room_above")
    # A negative count_max means no limit.
    yield node("Less", ["count_max", "silent"], "unlimited")
    yield node("Where", ["unlimited", "spike_max", "room_above"], "room")
    yield node("Min", ["spike_max", "room"], "highest_free")
    yield node("Max", ["highest_free", "silent"], "highest")
    yield node("Div", ["V_in", "v_threshold"], "quotient")
    yield node("Floor", ["quotient"], "floor")
    # Not Max, which would let a NaN through.
    yield node("Greater", ["floor", "lowest"], "is_above")
    yield node("Where", ["is_above", "floor", "lowest"], "at_least")
    yield node("Min", ["at_least", "highest"], "s_t")
    yield node("Add", ["n_in", "s_t"], "n_out")


def _end_state(signature: Signature) -> Iterable[NodeProto]:
    yield node("Concat", ["N", "features"], "state_shape", axis=0)
    if "v_next" in signature.outputs:
        yield node("CastLike", ["V_T", "x"], "V_T_x")
        yield node("Reshape", ["V_T_x", "state_shape"], "v_next", allowzero=1)
    if "n_next" in signature.outputs:
        yield node("CastLike", ["n_T", "x"], "n_T_x")
        yield node("Reshape", ["n_T_x", "state_shape"], "n_next", allowzero=1)
