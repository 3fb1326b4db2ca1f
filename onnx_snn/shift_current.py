"""Shift a neuron's current: add a number for each channel at every step."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from onnx_snn.graph import insert_before, is_constant, is_present, new_name, own_name, set_constant
from onnx_snn.scale import FloatArray
from onnx_snn.spiking_graph import GATE, SpikingGraph, placeholder


def shift_current(network: SpikingGraph, neuron: gs.Node, shift: FloatArray) -> None:
    """Add to the current of one neuron, and of no other.

    The shift goes into the bias of what computes the current where nothing else reads that, and
    else into a node of its own. With drain it ends with the input, as all biases do.

    Args:
        network: edited in place.
        neuron: one of its neurons.
        shift: of each channel [C], or the same for all [1]; in units of the threshold.
    """
    if not np.any(shift):
        return
    if not absorb_shift(network, neuron.inputs[0], shift):
        dtype = np.dtype(neuron.outputs[0].dtype or np.float32)
        values = shaped(shift, len(neuron.inputs[0].shape)).astype(dtype)
        insert_shift(network, neuron, gs.Constant(own_name(neuron, "shift"), values))


def insert_shift(network: SpikingGraph, neuron: gs.Node, shift: gs.Tensor) -> None:
    """Put a node ahead of a neuron that adds a tensor, broadcast, to its current."""
    current = neuron.inputs[0]
    name = new_name(set(network.graph.tensors()), f"{neuron.name}/shifted")
    shifted = gs.Variable(name, current.dtype, current.shape and list(current.shape))
    if network.window is None:
        node = gs.Node("Add", name, inputs=[current, shift], outputs=[shifted])
    else:
        node = placeholder(GATE, [network.timesteps, shift, current], shifted)
    insert_before(network.graph, neuron, [node])
    neuron.inputs[0] = shifted


def shaped(shift: FloatArray, rank: int) -> npt.NDArray[np.float64]:
    """In a form that broadcasts against currents of this rank, channels at axis 1."""
    return shift.reshape(-1, *[1] * max(rank - 2, 0))


def absorb_shift(network: SpikingGraph, tensor: gs.Variable, shift: FloatArray) -> bool:
    """Let what computes a tensor add a shift [C]; whether that was possible.

    It is where a bias or constant on the way to it has room, and nobody else reads it.
    """
    if not _is_private(network.graph, tensor) or list(tensor.shape or [])[1:2] != [shift.size]:
        return False
    node, rank = tensor.inputs[0], len(tensor.shape)
    if node.op in ("Add", "Sub"):
        return _absorb_addition(network, node, rank, shift)
    if node.op == GATE:
        return _add_to(node, 1, shaped(shift, rank))
    is_linear = node.op in ("Conv", "ConvTranspose", "Gemm")
    beta = float(node.attrs.get("beta", 1.0)) if is_linear else 0.0
    return beta != 0 and network.window is None and _add_to(node, 2, shift / beta)


def _is_private(graph: gs.Graph, tensor: gs.Variable) -> bool:
    """Whether a node computes a tensor for one reader alone."""
    is_output = any(output is tensor for output in graph.outputs)
    return bool(tensor.inputs) and len(tensor.outputs) == 1 and not is_output


def _absorb_addition(network: SpikingGraph, node: gs.Node, rank: int, shift: FloatArray) -> bool:
    if network.window is None:  # else constants of an addition never end, but for zeros
        for index, tensor in enumerate(node.inputs):
            if is_constant(tensor):
                sign = -1 if node.op == "Sub" and index == 1 else 1
                return _add_to(node, index, sign * shaped(shift, rank))
    summands = node.inputs[:1] if node.op == "Sub" else node.inputs
    return any(
        absorb_shift(network, tensor, shift)
        for tensor in summands
        if not is_constant(tensor) and len(tensor.shape) == rank
    )


def _add_to(node: gs.Node, index: int, shift: FloatArray) -> bool:
    """Add to a constant that a node reads, or give it one; whether there is room for it."""
    if index >= len(node.inputs) or not is_present(node.inputs[index]):
        values = shift.astype(np.dtype(node.outputs[0].dtype or np.float32))
        node.inputs = [*node.inputs[:index], gs.Constant(own_name(node, "shift"), values)]
        return True
    if not is_constant(node.inputs[index]):
        return False
    set_constant(node, index, np.asarray(node.inputs[index].values) + shift, "shifted")
    return True
