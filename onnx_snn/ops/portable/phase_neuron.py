"""The portable body of ``PhaseNeuron``: one Scan that integrates, and one that emits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from onnx import FunctionProto, NodeProto, TensorProto, helper

from onnx_snn.ops import MOST_RADIX_STEPS, PHASE_NEURON
from onnx_snn.ops.portable.folded_time import (
    constant,
    fold_spikes,
    make_function,
    node,
    read_attributes,
    state_info,
    state_type,
    unfold_currents,
)

ATTRIBUTES: Mapping[str, int | float] = {
    "constant_input": 0,
    "base": 2,
    "v_threshold": 1.0,
    "v_init": 0.5,
}
"""Attributes that the body reads from the node, with the defaults of the operator."""


def phase_neuron_function(elem_type: int, opset: int) -> FunctionProto:
    """The body for all neurons of a model.

    Args:
        elem_type: the ``TensorProto`` type of the currents.
        opset: the default-domain opset of the model, at least 18.

    Returns:
        A function ``onnx_snn.PhaseNeuron``, equal to ``onnx_snn.ops.reference.phase_neuron``.
    """
    nodes = [
        *read_attributes(ATTRIBUTES, elem_type),
        *_limit_steps(),
        *unfold_currents("T_limited"),
        *_weights(),
        *_integrate(elem_type),
        *_emit(elem_type),
        *fold_spikes(),
    ]
    return make_function(
        PHASE_NEURON,
        ["x", "T"],
        ["s"],
        nodes,
        opset,
        ATTRIBUTES,
        "Neurons of two-phase and radix coding over T time steps (onnx_snn, version 1).",
    )


def _limit_steps() -> Iterable[NodeProto]:
    """T, or 0, which is an error, where there are too many or the base is neither 1 nor 2."""
    yield constant("two", value_int=2)
    yield constant("most_radix", value_int=MOST_RADIX_STEPS)
    yield constant("unlimited", value_int=2**62)
    yield node("Equal", ["base_attribute", "one"], "is_two_phase")
    yield node("Equal", ["base_attribute", "two"], "is_radix")
    yield node("Where", ["is_radix", "most_radix", "zero"], "most_else")
    yield node("Where", ["is_two_phase", "unlimited", "most_else"], "most")
    yield node("Greater", ["T", "most"], "is_too_many")
    yield node("Where", ["is_too_many", "zero", "T"], "T_limited")


def _weights() -> Iterable[NodeProto]:
    """The weights [T, 1] of the spikes, the largest first.

    The powers of the base are made by shifts, since Pow need not be exact.
    """
    yield node("Squeeze", ["steps"], "step_count")
    yield node("Range", ["zero", "step_count", "one"], "step")
    yield node("Sub", ["step_count", "one"], "last_step")
    yield node("Sub", ["last_step", "step"], "steps_left")
    yield node("Sub", ["base_attribute", "one"], "bits_per_step")
    yield node("Mul", ["steps_left", "bits_per_step"], "bits")
    yield node("Cast", ["bits"], "bits_unsigned", to=TensorProto.UINT64)
    yield node("Cast", ["one"], "one_unsigned", to=TensorProto.UINT64)
    yield node("BitShift", ["one_unsigned", "bits_unsigned"], "powers_unsigned", direction="LEFT")
    yield node("CastLike", ["powers_unsigned", "x_state"], "powers")
    yield node("Mul", ["powers", "v_threshold"], "weights_flat")
    yield node("Unsqueeze", ["weights_flat", "second"], "weights")


def _integrate(elem_type: int) -> Iterable[NodeProto]:
    step = [node("Mul", ["base", "A"], "A_raised"), node("Add", ["A_raised", "x_t"], "A_out")]
    body = helper.make_graph(
        step,
        "integration",
        [state_info(name, elem_type) for name in ("A", "x_t")],
        [state_info("A_out", elem_type)],
    )
    yield node("Expand", ["silent", "M"], "A_0")
    yield node("Scan", ["A_0", "currents"], "A_T", body=body, num_scan_inputs=1)
    yield node("Mul", ["v_init", "v_threshold"], "start")
    yield node("Add", ["A_T", "start"], "V_0")


def _emit(elem_type: int) -> Iterable[NodeProto]:
    step = [
        node("GreaterOrEqual", ["V", "weight"], "fires"),
        node("CastLike", ["fires", "V"], "s_t"),
        node("Sub", ["V", "weight"], "V_left"),
        node("Where", ["fires", "V_left", "V"], "V_out"),
    ]
    weight = helper.make_tensor_value_info("weight", state_type(elem_type), [1])
    body = helper.make_graph(
        step,
        "emission",
        [state_info("V", elem_type), weight],
        [state_info(name, elem_type) for name in ("V_out", "s_t")],
    )
    yield helper.make_node(
        "Scan", ["V_0", "weights"], ["V_T", "spikes"], body=body, num_scan_inputs=1
    )
