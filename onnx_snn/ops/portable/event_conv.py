"""The portable bodies of ``EventConv`` and ``EventConvIFNeuron``: ``Conv``, between Transposes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from onnx import AttributeProto, FunctionProto, NodeProto, TensorProto, helper

from onnx_snn.ops import DOMAIN, EVENT_CONV, EVENT_CONV_IF_NEURON, IF_NEURON
from onnx_snn.ops.portable.folded_time import make_function, node
from onnx_snn.ops.portable.if_neuron import ATTRIBUTES as NEURON_ATTRIBUTES
from onnx_snn.ops.portable.if_neuron import Signature

CONV_ATTRIBUTES: Mapping[str, list[int] | int] = {
    "strides": [1, 1],
    "pads": [0, 0, 0, 0],
    "dilations": [1, 1],
    "group": 1,
}
"""Attributes of the convolution, with the defaults of the operators."""

_OWN_NEURON_ATTRIBUTES = {k: v for k, v in NEURON_ATTRIBUTES.items() if k != "constant_input"}


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
    inputs, outputs = signature.inputs, signature.outputs
    neuron = helper.make_node(
        IF_NEURON,
        ["currents", *inputs[1:]],
        ["spikes", *outputs[1:]],
        domain=DOMAIN,
        constant_input=0,
        reset=signature.reset,
    )
    _refer(neuron, _OWN_NEURON_ATTRIBUTES)
    return make_function(
        EVENT_CONV_IF_NEURON,
        ["x", "W", "B", *inputs[1:]],
        outputs,
        [*_convolve("currents"), neuron, node("Cast", ["spikes"], "s", to=TensorProto.INT8)],
        opset,
        {**CONV_ATTRIBUTES, **_OWN_NEURON_ATTRIBUTES},
        "Convolution of events and integrate-and-fire neurons (onnx_snn, version 1).",
        calls_others=True,
    )


def _convolve(currents: str) -> Iterable[NodeProto]:
    """The currents, channels last."""
    yield node("Cast", ["x"], "x_float", to=TensorProto.FLOAT)
    yield node("Transpose", ["x_float"], "x_channels_first", perm=[0, 3, 1, 2])
    yield node("Transpose", ["W"], "W_channels_first", perm=[3, 2, 0, 1])
    conv = node("Conv", ["x_channels_first", "W_channels_first", "B"], "y_channels_first")
    _refer(conv, CONV_ATTRIBUTES)
    yield conv
    yield node("Transpose", ["y_channels_first"], currents, perm=[0, 2, 3, 1])


_TYPES = {float: AttributeProto.FLOAT, int: AttributeProto.INT, list: AttributeProto.INTS}


def _refer(to: NodeProto, attributes: Mapping[str, Any]) -> None:
    """Lets a node of the body have the attributes of the calling node."""
    for name, default in attributes.items():
        reference = to.attribute.add()
        reference.name = reference.ref_attr_name = name
        reference.type = _TYPES[type(default)]
