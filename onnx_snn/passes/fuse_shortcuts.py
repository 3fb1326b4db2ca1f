"""Fuse shortcuts: neurons that add up the currents of a residual block themselves, for a GPU.

    Add(x, r), IFNeuron           becomes  AddIFNeuron(x, r, 1)
    Add(x, Mul(r, R)), IFNeuron   becomes  AddIFNeuron(x, r, R)      R: a number for each channel

There the sum would cross memory three times, the product two times, and the neuron's currents once
more; so x and r are read once, and nothing but the spikes is written. A float32 or float64 network
gives the same spikes, as each sum is rounded as before; in float16 sums are taken in float32.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from onnx_snn.emit import Emitter
from onnx_snn.graph import insert_before, is_constant
from onnx_snn.ops import ADD_IF_NEURON, DOMAIN, IF_NEURON
from onnx_snn.scale import FloatArray
from onnx_snn.spiking_graph import SpikingGraph


def fuse_shortcuts(network: SpikingGraph) -> None:
    """Put ``AddIFNeuron`` in the place of sums and the neurons behind them.

    Args:
        network: not yet on a schedule; edited in place.
    """
    graph = network.graph
    for node in graph.nodes:
        if node.op == IF_NEURON and node.domain == DOMAIN and not node.attrs["constant_input"]:
            _fuse(graph, node)
    graph.cleanup(remove_unused_graph_inputs=False).toposort()


def separate_shortcuts(network: SpikingGraph) -> None:
    """Undo ``fuse_shortcuts``, for what wants to see currents.

    Args:
        network: not yet on a schedule; edited in place.
    """
    for node in list(network.graph.nodes):
        if node.op == ADD_IF_NEURON and node.domain == DOMAIN:
            _separate(network.graph, node)


def _separate(graph: gs.Graph, neuron: gs.Node) -> None:
    x, r, factors, *rest = neuron.inputs
    dtype = x.dtype
    nodes: list[gs.Node] = []
    emit = Emitter(nodes, f"{neuron.outputs[0].name}/shortcut")
    values = factors.values.reshape(*factors.shape, *[1] * (len(x.shape) - 2))
    if np.any(values != 1):
        r = emit.node("Mul", [r, emit.const(values, dtype)], dtype=dtype)
        r.shape = x.shape
    currents = emit.node("Add", [x, r], dtype=dtype)
    currents.shape = x.shape
    insert_before(graph, neuron, nodes)
    neuron.op, neuron.inputs = IF_NEURON, [currents, *rest]
    neuron.attrs = {**neuron.attrs, "constant_input": 0}


def _fuse(graph: gs.Graph, neuron: gs.Node) -> None:
    add = _producer(graph, neuron.inputs[0], "Add")
    if add is None or any(is_constant(tensor) for tensor in add.inputs):
        return
    x, r = add.inputs
    if not _have_one_shape(neuron.outputs[0], x, r):
        return
    factors = np.ones(())
    for one, other in ((r, x), (x, r)):
        found = _scaled(graph, one)
        if found is not None:
            (r, factors), x = found, other
            break
    dtype = neuron.outputs[0].dtype
    weight = gs.Constant(f"{neuron.outputs[0].name}/shortcut_weight", factors.astype(dtype))
    neuron.op = ADD_IF_NEURON
    neuron.inputs = [x, r, weight, *neuron.inputs[1:]]
    neuron.attrs = {name: a for name, a in neuron.attrs.items() if name != "constant_input"}
    add.outputs.clear()


def _scaled(graph: gs.Graph, tensor: gs.Variable) -> tuple[gs.Variable, FloatArray] | None:
    """A tensor as a product: rows of its shape, and a number for all or one for each channel."""
    mul = _producer(graph, tensor, "Mul")
    if mul is None:
        return None
    rows = [t for t in mul.inputs if not is_constant(t)]
    constants = [t for t in mul.inputs if is_constant(t)]
    if len(rows) != 1 or not _have_one_shape(tensor, *rows):
        return None
    channels, *behind = tensor.shape[1:]
    values = np.asarray(constants[0].values)
    if values.size == 1:
        return rows[0], values.reshape(())
    try:
        by_channel = np.broadcast_to(values, (1, channels, *behind)).reshape(channels, -1)
    except ValueError:
        return None
    if not np.array_equal(by_channel, np.broadcast_to(by_channel[:, :1], by_channel.shape)):
        return None
    return rows[0], by_channel[:, 0]


def _have_one_shape(*tensors: gs.Variable) -> bool:
    """Whether all are known to be of the same shape, but for the number of rows."""
    shapes = [tensor.shape for tensor in tensors]
    if any(not shape for shape in shapes):
        return False
    features = shapes[0][1:]
    is_known = bool(features) and all(isinstance(size, int) and size > 0 for size in features)
    return is_known and all(shape == shapes[0] for shape in shapes)


def _producer(graph: gs.Graph, tensor: gs.Variable, op: str) -> gs.Node | None:
    """The node that computes a tensor for one reader only, if it is such a node."""
    if len(tensor.outputs) != 1 or any(tensor is output for output in graph.outputs):
        return None
    node = tensor.inputs[0] if tensor.inputs else None
    return node if node is not None and node.op == op and node.domain != DOMAIN else None
