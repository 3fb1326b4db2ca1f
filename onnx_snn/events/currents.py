"""Currents that an event-driven operator can compute: one layer of events, or the sum of two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx_graphsurgeon as gs

from onnx_snn.events.event_tensor import EventTensor
from onnx_snn.events.event_weights import EventLayer, event_layer, scaling
from onnx_snn.graph import is_constant
from onnx_snn.linear_layer import LinearLayer
from onnx_snn.scale import FloatArray


@dataclass(frozen=True)
class Source:
    """Events and the layer that makes currents of them.

    Attributes:
        x: the events.
        layer: the layer.
        nodes: the nodes of the float network that it stands for.
    """

    x: EventTensor
    layer: EventLayer
    nodes: tuple[gs.Node, ...] = ()


@dataclass(frozen=True)
class Currents:
    """The sum of a layer and, behind a residual block, of its shortcut, a 1 x 1 convolution."""

    main: Source
    shortcut: Source | None = None
    nodes: tuple[gs.Node, ...] = ()


def layer_of(
    graph: gs.Graph, currents: gs.Variable, events: Mapping[str, EventTensor]
) -> Source | None:
    """The layer that computes some currents out of events.

    Args:
        graph: the float network.
        currents: a tensor of it.
        events: the events there are, by the float tensor they stand for.
    """
    if not currents.inputs:
        return None
    layer = LinearLayer.of(graph, currents.inputs[0])
    if layer is None:
        return None
    x = events.get(layer.node.inputs[0].name)
    found = None if x is None else event_layer(layer, x)
    if x is None or found is None:
        return None
    nodes = (layer.node,) if layer.add is None else (layer.node, layer.add)
    return Source(x, found, nodes)


def currents_of(
    graph: gs.Graph, currents: gs.Variable, events: Mapping[str, EventTensor]
) -> Currents | None:
    """What a neuron integrates, where that can be computed along with the neuron.

    Args:
        graph: as for ``layer_of``.
        currents: as for ``layer_of``.
        events: as for ``layer_of``.
    """
    if not _is_read_once(graph, currents):
        return None
    main = layer_of(graph, currents, events)
    if main is not None:
        return Currents(main, nodes=main.nodes)
    add = currents.inputs[0] if currents.inputs else None
    if add is None or add.op != "Add" or any(is_constant(t) for t in add.inputs):
        return None
    terms = [_term(graph, tensor, events) for tensor in add.inputs]
    first, second = terms
    if first is None or second is None:
        return None
    if not second.layer.is_pointwise or (
        first.layer.is_pointwise and first.layer.weight.size < second.layer.weight.size
    ):
        first, second = second, first
    sizes = [source.layer.out_size(source.x.size) for source in (first, second)]
    if not second.layer.is_pointwise or sizes[0] != sizes[1]:
        return None
    first = replace(first, layer=replace(first.layer, bias=first.layer.bias + second.layer.bias))
    return Currents(first, second, (*first.nodes, *second.nodes, add))


def _term(graph: gs.Graph, tensor: gs.Variable, events: Mapping[str, EventTensor]) -> Source | None:
    """One of two currents that are added: a layer of events, or events times a factor."""
    if tensor.name in events:
        x = events[tensor.name]
        return Source(x, scaling(np.asarray(x.factor), x.size[2]))
    if not _is_read_once(graph, tensor) or not tensor.inputs:
        return None
    producer = tensor.inputs[0]
    if producer.op != "Mul":
        return layer_of(graph, tensor, events)
    factors = [t for t in producer.inputs if is_constant(t)]
    rows = [t for t in producer.inputs if t.name in events]
    if len(factors) != 1 or len(rows) != 1:
        return None
    x = events[rows[0].name]
    factor = _channel_factors(factors[0], x)
    return None if factor is None else Source(x, scaling(factor * x.factor, x.size[2]), (producer,))


def _channel_factors(factors: gs.Constant, x: EventTensor) -> FloatArray | None:
    """One number for each channel, where a constant has no more than that."""
    height, width, channels = x.size
    shape = {4: (1, channels, height, width), 3: (1, channels, width)}.get(x.rank, (1, channels))
    try:
        values = np.broadcast_to(np.asarray(factors.values, np.float64), shape)
    except ValueError:
        return None
    per_channel = values.reshape(channels, -1)
    return per_channel[:, 0] if np.all(per_channel == per_channel[:, :1]) else None


def _is_read_once(graph: gs.Graph, tensor: gs.Variable) -> bool:
    return len(tensor.outputs) == 1 and all(tensor is not output for output in graph.outputs)
