"""Export: a scheduled spiking graph to a self-contained ONNX file's content."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import FunctionProto, NodeProto, helper, numpy_helper

from onnx_snn.load import MIN_OPSET
from onnx_snn.ops import (
    ADD_IF_NEURON,
    DOMAIN,
    EVENT_CONV,
    EVENT_CONV_ADD_IF_NEURON,
    EVENT_CONV_IF_NEURON,
    EVENT_IF_NEURON,
    EVENT_MAX_POOL,
    EVENT_SUM_POOL,
    IF_NEURON,
    NEURONS,
    PHASE_NEURON,
    SPIKE_MAX_POOL,
    STATEFUL,
    VERSION,
)
from onnx_snn.ops.portable import (
    Signature,
    add_if_neuron_function,
    event_conv_add_if_neuron_function,
    event_conv_function,
    event_conv_if_neuron_function,
    event_if_neuron_function,
    event_max_pool_function,
    event_sum_pool_function,
    if_neuron_function,
    phase_neuron_function,
    spike_max_pool_function,
)
from onnx_snn.schedule import METADATA_KEY, ScheduleRecord

THRESHOLDS_KEY = "onnx_snn.thresholds"

DOC = (
    "Spiking neural network made by onnx_snn. Runs in any onnxruntime; with the onnx_snn "
    "library registered, its neurons run as native kernels."
)


def export(graph: gs.Graph, record: ScheduleRecord, metadata: Mapping[str, str]) -> onnx.ModelProto:
    """Build the model: nodes, portable bodies, default of T, and metadata.

    Args:
        graph: of a scheduled spiking network.
        record: of its schedule.
        metadata: entries for ``metadata_props``.

    Returns:
        A valid ONNX model; equal arguments give equal bytes.
    """
    functions, graph.functions = graph.functions, []
    model: onnx.ModelProto = gs.export_onnx(graph, do_type_check=False)
    graph.functions = functions
    del model.functions[:]
    opset = next((e.version for e in model.opset_import if e.domain in ("", "ai.onnx")), MIN_OPSET)
    model.functions.extend(_portable_bodies(model.graph, opset))
    if not any(entry.domain == DOMAIN for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(DOMAIN, VERSION))
    if record.timesteps_input:
        default = np.array(record.timesteps, np.int64)
        model.graph.initializer.append(numpy_helper.from_array(default, record.timesteps_input))
    _hide_spike_shapes(model.graph)
    model.ir_version = max(model.ir_version, 8)
    model.producer_name, model.doc_string = "onnx_snn", DOC
    entries = {**metadata, METADATA_KEY: record.to_json()}
    helper.set_model_props(model, dict(sorted(entries.items())))
    return model


def _hide_spike_shapes(graph: onnx.GraphProto) -> None:
    """Forget the shapes of spikes, which are those of the currents.

    Where onnxruntime knows them, it moves a pooling layer into its blocked layout and so copies
    the spikes; where it does not, it copies the pooled spikes, a fraction of them.
    """
    spikes = {
        node.output[0] for node in graph.node if node.domain == DOMAIN and node.op_type in NEURONS
    }
    for value in graph.value_info:
        if value.name in spikes:
            value.type.tensor_type.ClearField("shape")
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _hide_spike_shapes(attribute.g)


def _portable_bodies(graph: onnx.GraphProto, opset: int) -> Iterator[FunctionProto]:
    """One for each operator of the set that the model uses, those that others call first."""
    neurons = _nodes(graph, IF_NEURON, *_CALLING_IF_NEURON)
    if neurons:
        signature = _signature(graph, neurons)
        yield if_neuron_function(signature, opset)
        for op, function in _CALLING_IF_NEURON.items():
            if _nodes(graph, op):
                yield function(signature, opset)
    if _nodes(graph, EVENT_CONV):
        yield event_conv_function(opset)
    if _nodes(graph, EVENT_SUM_POOL):
        yield event_sum_pool_function(opset)
    pools = _nodes(graph, EVENT_MAX_POOL)
    if pools:
        yield event_max_pool_function(len(pools[0].input) > 2, len(pools[0].output) > 1, opset)
    spike_pools = _nodes(graph, SPIKE_MAX_POOL)
    if spike_pools:
        first, elem_type = spike_pools[0], _type_read(graph, spike_pools)
        has_state, gives_state = len(first.input) > 2, len(first.output) > 1
        yield spike_max_pool_function(elem_type, has_state, gives_state, opset)
    phase_neurons = _nodes(graph, PHASE_NEURON)
    if phase_neurons:
        yield phase_neuron_function(_type_read(graph, phase_neurons), opset)


_CALLING_IF_NEURON: Mapping[str, Callable[[Signature, int], FunctionProto]] = MappingProxyType(
    {
        ADD_IF_NEURON: add_if_neuron_function,
        EVENT_IF_NEURON: event_if_neuron_function,
        EVENT_CONV_IF_NEURON: event_conv_if_neuron_function,
        EVENT_CONV_ADD_IF_NEURON: event_conv_add_if_neuron_function,
    }
)
"""Operators whose portable bodies call ``IFNeuron``, and what makes those bodies."""


def _nodes(graph: onnx.GraphProto, *op_types: str) -> list[NodeProto]:
    """All nodes of some operators of the set, those in subgraphs too."""
    found = []
    for node in graph.node:
        if node.domain == DOMAIN and node.op_type in op_types:
            found.append(node)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                found += _nodes(attribute.g, *op_types)
    return found


def _type_read(graph: onnx.GraphProto, nodes: list[NodeProto]) -> int:
    """The type of the first input of nodes that are all of one type."""
    types = _elem_types(graph)
    known = (types.get(node.input[0]) for node in nodes)
    return next((elem_type for elem_type in known if elem_type), onnx.TensorProto.FLOAT)


def _elem_types(graph: onnx.GraphProto) -> dict[str, int]:
    """The types of all tensors that have one written down, those in subgraphs too."""
    values = (*graph.input, *graph.value_info, *graph.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                types |= _elem_types(attribute.g)
    return types


def _signature(graph: onnx.GraphProto, neurons: list[NodeProto]) -> Signature:
    first = neurons[0]
    attributes = {a.name: helper.get_attribute_value(a) for a in first.attribute}
    constants = {tensor.name: tensor.data_type for tensor in graph.initializer}
    inputs = {value.name: value.type.tensor_type.elem_type for value in graph.input}
    types = {**inputs, **constants}
    states = [node.input[STATEFUL[node.op_type] + 1 :] for node in neurons]
    elem_type = next((types[given[0]] for given in states if given[0] in types), None)
    return Signature(
        binary=all(_is_binary(node) for node in neurons),
        v=len(states[0]) > 0,
        n=len(states[0]) > 1,
        v_next=len(first.output) > 1,
        n_next=len(first.output) > 2,
        reset=attributes["reset"].decode(),
        elem_type=elem_type or onnx.TensorProto.FLOAT,
    )


def _is_binary(node: NodeProto) -> bool:
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    alphabet = attributes["spike_min"], attributes["spike_max"]
    return alphabet == (0, 1) and attributes["count_max"] < 0


def recorded_thresholds(model: onnx.ModelProto) -> dict[str, float | list[float]]:
    """λ of every neuron as a converted file has it in its metadata: one number, or per channel.

    Empty for a file without them.
    """
    text = next((p.value for p in model.metadata_props if p.key == THRESHOLDS_KEY), "{}")
    thresholds: dict[str, float | list[float]] = json.loads(text)
    return thresholds
