"""Use events: convolutions that touch active inputs only, for a CPU.

    Conv, IFNeuron              becomes  EventConvIFNeuron     Gemm and MatMul too
    Conv + shortcut, IFNeuron   becomes  EventConvAddIFNeuron  shortcut: spikes, or Conv 1x1
    Conv behind spikes          becomes  EventConv
    other neurons               become   EventIFNeuron, where a layer reads their spikes
    pooling between spikes      becomes  EventMaxPool, EventSumPool

Spikes between these are 8-bit integers, channels last. What else reads a spike reads it as before:
a Cast and a Transpose stand between. The spikes are the same but where a current is at the
threshold to the last bit, since sums are rounded in another order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from onnx_snn.emit import Emitter
from onnx_snn.events.currents import Currents, Source, currents_of, layer_of
from onnx_snn.events.event_tensor import (
    EventTensor,
    Size,
    channels_first,
    channels_last,
    event_size,
    rows_shape,
)
from onnx_snn.events.event_weights import EventLayer, pool_window
from onnx_snn.graph import variables
from onnx_snn.ops import (
    DOMAIN,
    EVENT_CONV,
    EVENT_CONV_ADD_IF_NEURON,
    EVENT_CONV_IF_NEURON,
    EVENT_IF_NEURON,
    EVENT_MAX_POOL,
    EVENT_SUM_POOL,
    IF_NEURON,
    STATEFUL,
)
from onnx_snn.spiking_graph import ACCUMULATE, DIFFERENCE, SpikingGraph

_MOST = 127
"""The greatest |event|."""


def use_events(network: SpikingGraph) -> None:
    """Put event-driven operators into a spiking network, as far as there are some.

    Networks of ``PhaseNeuron``, of other types than float32, and layers of sizes that are known at
    run time only stay as they are.

    Args:
        network: not yet on a schedule; edited in place.
    """
    rewriting = _Rewriting(network)
    for node in list(network.graph.nodes):
        rewriting.add_events(node)
    for node in list(network.graph.nodes):
        rewriting.read_events(node)
    rewriting.join()
    network.graph.cleanup(remove_unused_graph_inputs=False).toposort()


class _Rewriting:
    """The events of a network while they are being put in, by the float tensor they stand for."""

    def __init__(self, network: SpikingGraph) -> None:
        self._network = network
        self._graph = network.graph
        self._events: dict[str, EventTensor] = {}
        self._floats: dict[str, gs.Variable] = {}
        self._optional: set[str] = set()
        self._kinds: dict[tuple[str | None, str], Callable[[gs.Node], EventTensor | None]] = {
            (DOMAIN, IF_NEURON): self._neuron,
            (DOMAIN, DIFFERENCE): self._max_pool,
            (None, "AveragePool"): self._sum_pool,
            (None, "Concat"): self._concat,
            (None, "Flatten"): self._flatten,
            (None, "Reshape"): self._flatten,
            (None, "Squeeze"): self._flatten,
        }

    def add_events(self, node: gs.Node) -> None:
        """Let there be events for a node's output, if there can be some."""
        kind = self._kinds.get((node.domain or None, node.op))
        result = node.outputs[0] if node.outputs else None
        if kind is None or result is None or result.dtype not in (None, np.dtype(np.float32)):
            return
        events = kind(node)
        if events is not None:
            self._events[result.name], self._floats[result.name] = events, result

    def read_events(self, node: gs.Node) -> None:
        """Let a layer or a mean over whole images that still stands read events."""
        if not node.outputs or node.domain == DOMAIN:
            return
        x = self._events.get(node.inputs[0].name) if node.inputs else None
        if node.op == "GlobalAveragePool" and x is not None:
            self._mean_over_image(node, x)
            return
        source = layer_of(self._graph, node.outputs[0], self._events)
        if source is None:
            return
        result = source.nodes[-1].outputs[0]
        size = event_size(result)
        if size is not None:
            self._layer(source, result, size)

    def join(self) -> None:
        """Compute the float tensors that are still read from the events, where there are some."""
        silent = self._network.silent
        if silent is not None:
            silent.inputs = [
                self._events[t.name].events if t.name in self._events else t for t in silent.inputs
            ]
        for name in reversed(list(self._events)):
            events, result = self._events[name], self._floats[name]
            is_read = result.outputs or any(result is output for output in self._graph.outputs)
            if not events.events.outputs and (name in self._optional or not is_read):
                _detach(events.events.inputs[0])
            elif is_read:
                for producer in list(result.inputs):
                    _detach(producer)
                events.as_float(self._emitter(result), result)

    def _neuron(self, node: gs.Node) -> EventTensor | None:
        spikes, size = node.outputs[0], event_size(node.outputs[0])
        most = max(-node.attrs["spike_min"], node.attrs["spike_max"])
        if size is None or most > _MOST or node.inputs[0].dtype not in (None, np.float32):
            return None
        found = None
        if not node.attrs["constant_input"]:
            found = currents_of(self._graph, node.inputs[0], self._events)
        events = self._new_events(spikes, size)
        if found is None:
            self._optional.add(spikes.name)
            self._encode(node, events, size)
        else:
            self._fuse(node, events, found)
        return EventTensor(events, size, len(spikes.shape), most)

    def _encode(self, node: gs.Node, events: gs.Variable, size: Size) -> None:
        """Neurons of which something else computes the currents; they stand beside those there."""
        given = node.inputs[0]
        currents = channels_last(self._emitter(node.outputs[0]), given, size)
        currents.shape = rows_shape(size, given.shape[0])
        self._append(
            EVENT_IF_NEURON, node.name, [currents, *node.inputs[1:]], [events], dict(node.attrs)
        )

    def _fuse(self, node: gs.Node, events: gs.Variable, found: Currents) -> None:
        """Neurons along with the layer that computes their currents, in the place of both."""
        main, shortcut = found.main, found.shortcut
        op = EVENT_CONV_IF_NEURON
        inputs = [main.x.events, *self._weights(main.layer, events.name)]
        attributes = {k: v for k, v in node.attrs.items() if k != "constant_input"}
        attributes |= main.layer.attributes
        if shortcut is not None:
            op = EVENT_CONV_ADD_IF_NEURON
            weight = gs.Constant(f"{events.name}/shortcut_weight", shortcut.layer.weight)
            inputs += [shortcut.x.events, weight]
            attributes["shortcut_strides"] = list(shortcut.layer.strides)
            attributes["shortcut_group"] = shortcut.layer.group
        inputs += node.inputs[1:]
        for old in (node, *found.nodes):
            _detach(old)
        self._append(op, node.name, inputs, [events], attributes)

    def _max_pool(self, node: gs.Node) -> EventTensor | None:
        """A maximum of the sums so far, handed on by difference."""
        pool = node.inputs[0].inputs[0] if node.inputs[0].inputs else None
        if pool is None or pool.op != "MaxPool" or node.attrs["averages"]:
            return None
        sums = pool.inputs[0].inputs[0] if pool.inputs[0].inputs else None
        if sums is None or sums.op != ACCUMULATE or sums.domain != DOMAIN:
            return None
        x, size = self._events.get(sums.inputs[0].name), event_size(node.outputs[0])
        window = None if x is None else pool_window(pool, x.size)
        if x is None or size is None or window is None or sums.attrs["averages"]:
            return None
        events = self._new_events(node.outputs[0], size)
        start = gs.Constant(f"{events.name}/count_init", np.zeros((), np.float32))
        inputs = [x.events, self._network.timesteps, start]
        self._append(EVENT_MAX_POOL, f"{node.name}/events", inputs, [events], window)
        return EventTensor(events, size, x.rank, x.most, x.factor)

    def _sum_pool(self, node: gs.Node) -> EventTensor | None:
        x, size = self._events.get(node.inputs[0].name), event_size(node.outputs[0])
        window = None if x is None else pool_window(node, x.size)
        if x is None or size is None or window is None:
            return None
        area = int(np.prod(window["kernel_shape"]))
        uneven = any(window["pads"]) and not node.attrs.get("count_include_pad", 0)
        if uneven or area * x.most > _MOST:
            return None
        events = self._new_events(node.outputs[0], size)
        self._append(EVENT_SUM_POOL, f"{node.name}/events", [x.events], [events], window)
        return EventTensor(events, size, x.rank, area * x.most, x.factor / area)

    def _concat(self, node: gs.Node) -> EventTensor | None:
        parts = [self._events.get(tensor.name) for tensor in node.inputs]
        known = [part for part in parts if part is not None]
        size = event_size(node.outputs[0])
        if len(known) != len(parts) or size is None:
            return None
        is_by_channel = node.attrs["axis"] in (1, 1 - known[0].rank)
        if not is_by_channel or len({part.factor for part in known}) > 1:
            return None
        if sum(part.size[2] for part in known) != size[2]:  # flattened images have other channels
            return None
        events = self._new_events(node.outputs[0], size)
        joined = [part.events for part in known]
        name = f"{node.name}/events"
        self._graph.nodes.append(gs.Node("Concat", name, {"axis": 3}, joined, [events]))
        most = max(part.most for part in known)
        return EventTensor(events, size, known[0].rank, most, known[0].factor)

    def _flatten(self, node: gs.Node) -> EventTensor | None:
        """The same events, seen as two axes."""
        x, shape = self._events.get(node.inputs[0].name), node.outputs[0].shape
        if x is None or x.rank == 2 or shape is None or len(shape) != 2:
            return None
        if len(variables(node)) > 1 or shape[1] != int(np.prod(x.size)):
            return None
        return x.flattened()

    def _mean_over_image(self, node: gs.Node, x: EventTensor) -> None:
        result = node.outputs[0]
        emit = self._emitter(result)
        floats = emit.node("Cast", [x.events], dtype=np.float32, to=onnx.TensorProto.FLOAT)
        mean = emit.node("ReduceMean", [floats, emit.const([1, 2])], dtype=np.float32, keepdims=1)
        if x.factor != 1.0:
            mean = emit.node("Mul", [mean, emit.const(x.factor, np.float32)], dtype=np.float32)
        _detach(node)
        channels_first(emit, mean, (1, 1, x.size[2]), len(result.shape), result)

    def _layer(self, source: Source, result: gs.Variable, size: Size) -> None:
        """A layer whose currents others than a neuron read."""
        name, shape = f"{result.name}/channels_last", rows_shape(size, result.shape[0])
        currents = gs.Variable(name, np.dtype(np.float32), shape)
        inputs = [source.x.events, *self._weights(source.layer, name)]
        node_name = f"{source.nodes[0].name}/events"
        for old in source.nodes:
            _detach(old)
        self._append(EVENT_CONV, node_name, inputs, [currents], source.layer.attributes)
        channels_first(self._emitter(result), currents, size, len(result.shape), result)

    def _weights(self, layer: EventLayer, name: str) -> list[gs.Tensor]:
        return [
            gs.Constant(f"{name}/weight", layer.weight),
            gs.Constant(f"{name}/bias", layer.bias),
        ]

    def _new_events(self, tensor: gs.Variable, size: Size) -> gs.Variable:
        name = f"{tensor.name}/events"
        return gs.Variable(name, np.dtype(np.int8), rows_shape(size, tensor.shape[0]))

    def _append(
        self,
        op: str,
        name: str,
        inputs: list[gs.Tensor],
        outputs: list[gs.Variable],
        attributes: dict[str, Any],
    ) -> None:
        """Add a node; its last states are there, and nobody reads them yet."""
        if op in STATEFUL:
            given = len(inputs) - 1 - STATEFUL[op]
            outputs = outputs + [gs.Variable.empty() for _ in range(given)]
        self._graph.nodes.append(gs.Node(op, name, attributes, inputs, outputs, DOMAIN))

    def _emitter(self, tensor: gs.Variable) -> Emitter:
        return Emitter(self._graph.nodes, f"{tensor.name}/events")


def _detach(node: gs.Node) -> None:
    """Take a node's tensors from it; the graph loses it when it is cleaned up."""
    node.inputs.clear()
    node.outputs.clear()
