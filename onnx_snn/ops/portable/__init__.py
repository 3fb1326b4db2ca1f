"""The portable bodies: model-local functions of standard ONNX operators.

onnxruntime inlines them where no native kernel is registered, so a converted file runs anywhere.
A model can hold one function of a name: it is made for all nodes of the model that call it.
"""

from onnx_snn.ops.portable.add_if_neuron import add_if_neuron_function
from onnx_snn.ops.portable.event_conv import (
    event_conv_add_if_neuron_function,
    event_conv_function,
    event_conv_if_neuron_function,
)
from onnx_snn.ops.portable.event_if_neuron import event_if_neuron_function
from onnx_snn.ops.portable.event_pool import event_max_pool_function, event_sum_pool_function
from onnx_snn.ops.portable.if_neuron import ATTRIBUTES, Signature, if_neuron_function
from onnx_snn.ops.portable.phase_neuron import phase_neuron_function
from onnx_snn.ops.portable.spike_max_pool import spike_max_pool_function

__all__ = [
    "ATTRIBUTES",
    "Signature",
    "add_if_neuron_function",
    "event_conv_add_if_neuron_function",
    "event_conv_function",
    "event_conv_if_neuron_function",
    "event_if_neuron_function",
    "event_max_pool_function",
    "event_sum_pool_function",
    "if_neuron_function",
    "phase_neuron_function",
    "spike_max_pool_function",
]
