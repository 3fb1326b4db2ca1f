"""The portable bodies of the convolutions of events: ``Conv``, between Transposes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from onnx import FunctionProto, NodeProto, TensorProto

from onnx_snn.ops import EVENT_CONV, EVENT_CONV_ADD_IF_NEURON, EVENT_CONV_IF_NEURON
from onnx_snn.ops.portable.event_if_neuron import emit_events
from onnx_snn.ops.portable.folded_time import constant, make_function, node, refer
from onnx_snn.ops.portable.if_neuron import CURRENTS_OF_EACH_STEP, Signature

CONV_ATTRIBUTES: Mapping[str, list[int] | int] = {
    "strides": [1, 1],
    "pads": [0, 0, 0, 0],
    "dilations": [1, 1],
    "group": 1,
}
"""Attributes of the convolution, with the defaults of the operators."""

SHORTCUT_ATTRIBUTES: Mapping[str, list[int] | int] = {"strides": [1, 1], "group": 1}
"""Attributes of the convolution of a shortcut; those of the operator begin with ``shortcut_``."""


def event_conv_function(opset: int) -> FunctionProto:
    """The body for all nodes of a model.

    Args:
        opset: the default-domain opset of the model, at least 18.

    Returns:
        A function ``onnx_snn.EventConv``, equal to ``onnx_snn.ops.reference.event_conv``.
    """
    return make_function(
        EVENT_CONV,
        ["x", "W", "B"],
        ["y"],
        [*_convolve("y")],
        opset,
        CONV_ATTRIBUTES,
        "Convolution of events, channels last (onnx_snn, version 1).",
    )


def event_conv_if_neuron_function(signature: Signature, opset: int) -> FunctionProto:
    """The body for one signature; it calls ``IFNeuron``.

    Args:
        signature: shared by all neurons of the model, with or without a convolution: the model
            holds the function that ``if_neuron_function`` makes for the same signature.
        opset: the default-domain opset of the model, at least 18.

    Returns:
        A function ``onnx_snn.EventConvIFNeuron``, equal to
        ``onnx_snn.ops.reference.event_conv_if_neuron``.
    """
    return make_function(
        EVENT_CONV_IF_NEURON,
        ["x", "W", "B", *signature.inputs[1:]],
        signature.outputs,
        [*_convolve("currents"), *emit_events(signature, "currents", CURRENTS_OF_EACH_STEP)],
        opset,
        {**CONV_ATTRIBUTES, **CURRENTS_OF_EACH_STEP},
        "Convolution of events and integrate-and-fire neurons (onnx_snn, version 1).",
        calls_others=True,
    )


def event_conv_add_if_neuron_function(signature: Signature, opset: int) -> FunctionProto:
    """The body for one signature; it calls ``IFNeuron``.

    Args:
        signature: as for ``event_conv_if_neuron_function``.
        opset: the default-domain opset of the model, at least 18.

    Returns:
        A function ``onnx_snn.EventConvAddIFNeuron``, equal to
        ``onnx_snn.ops.reference.event_conv_add_if_neuron``.
    """
    nodes = [
        *_convolve("main"),
        *_shortcut("shortcut"),
        # Add would broadcast; no tensor has -2 rows.
        node("Shape", ["main"], "size"),
        node("Shape", ["shortcut"], "shortcut_size"),
        node("Equal", ["size", "shortcut_size"], "is_same"),
        constant("impossible", value_int=-2),
        node("Where", ["is_same", "size", "impossible"], "size_checked"),
        node("Reshape", ["shortcut", "size_checked"], "shortcut_checked", allowzero=1),
        node("Add", ["main", "shortcut_checked"], "currents"),
        *emit_events(signature, "currents", CURRENTS_OF_EACH_STEP),
    ]
    shortcut = {f"shortcut_{name}": value for name, value in SHORTCUT_ATTRIBUTES.items()}
    return make_function(
        EVENT_CONV_ADD_IF_NEURON,
        ["x", "W", "B", "r", "R", *signature.inputs[1:]],
        signature.outputs,
        nodes,
        opset,
        {**CONV_ATTRIBUTES, **shortcut, **CURRENTS_OF_EACH_STEP},
        "Convolution of events, a shortcut and integrate-and-fire neurons (onnx_snn, version 1).",
        calls_others=True,
    )


def _convolve(currents: str) -> Iterable[NodeProto]:
    """x to its currents."""
    conv = node("Conv", ["x_channels_first", "W_channels_first", "B"], f"{currents}_channels_first")
    refer(conv, CONV_ATTRIBUTES)
    yield from _channels_last("x", "W", conv, currents)


def _shortcut(currents: str) -> Iterable[NodeProto]:
    """r to its currents."""
    conv = node(
        "Conv",
        ["r_channels_first", "R_channels_first"],
        f"{currents}_channels_first",
        kernel_shape=[1, 1],
    )
    refer(conv, SHORTCUT_ATTRIBUTES, "shortcut_")
    yield from _channels_last("r", "R", conv, currents)


def _channels_last(
    events: str, weights: str, conv: NodeProto, currents: str
) -> Iterable[NodeProto]:
    """What a Conv needs around it."""
    yield node("Cast", [events], f"{events}_float", to=TensorProto.FLOAT)
    yield node("Transpose", [f"{events}_float"], f"{events}_channels_first", perm=[0, 3, 1, 2])
    yield node("Transpose", [weights], f"{weights}_channels_first", perm=[3, 2, 0, 1])
    yield conv
    yield node("Transpose", [f"{currents}_channels_first"], currents, perm=[0, 2, 3, 1])
