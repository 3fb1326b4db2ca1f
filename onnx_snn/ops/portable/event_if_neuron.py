"""The portable body of ``EventIFNeuron``: ``IFNeuron``, whose spikes become events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from onnx import FunctionProto, NodeProto, TensorProto

from onnx_snn.ops import EVENT_IF_NEURON
from onnx_snn.ops.portable.folded_time import make_function, node
from onnx_snn.ops.portable.if_neuron import ATTRIBUTES, Signature, call_if_neuron


def event_if_neuron_function(signature: Signature, opset: int) -> FunctionProto:
    """The body for one signature; it calls ``IFNeuron``.

    Args:
        signature: shared by all neurons of the model, with spikes of any type: the model holds the
            function that ``if_neuron_function`` makes for the same signature.
        opset: the default-domain opset of the model, at least 18.

    Returns:
        A function ``onnx_snn.EventIFNeuron``, equal to ``onnx_snn.ops.reference.event_if_neuron``.
    """
    return make_function(
        EVENT_IF_NEURON,
        signature.inputs,
        signature.outputs,
        [*emit_events(signature, "x", ATTRIBUTES)],
        opset,
        ATTRIBUTES,
        "Integrate-and-fire neurons whose spikes are events (onnx_snn, version 1).",
        calls_others=True,
    )


def emit_events(
    signature: Signature, currents: str, attributes: Mapping[str, int | float]
) -> Iterable[NodeProto]:
    """Neurons on currents, to the outputs of the signature; s is int8.

    Args:
        signature: of the neurons.
        currents: the tensor with what the neurons are given.
        attributes: those that the neurons have from the calling node.
    """
    inputs, outputs = [currents, *signature.inputs[1:]], ["spikes", *signature.outputs[1:]]
    yield call_if_neuron(signature, inputs, outputs, attributes)
    yield node("Cast", ["spikes"], "s", to=TensorProto.INT8)
