"""To half: weights, currents and spikes become float16; inputs and outputs stay what they are.

Spikes are small integers and exact in float16, and weights in units of the threshold need no more
than its range. A neuron keeps its membrane in float32 during a run, and sums over time are taken in
float32; between the blocks of a loop or a stream a membrane is rounded to float16.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from onnx_snn.errors import OptionError
from onnx_snn.graph import data_variables, insert_behind, is_constant, new_name, replace_uses
from onnx_snn.spiking_graph import SpikingGraph

_FLOAT, _HALF = 1, 10  # of TensorProto
_ALWAYS_FLOAT = {"Resize": 2, "Upsample": 1}
"""Inputs that are float32 whatever the type of the data."""


def to_half(network: SpikingGraph) -> None:
    """Let a float32 network compute in float16.

    Args:
        network: edited in place.

    Raises:
        OptionError: a weight is too large for float16, or there is nothing in float32.
    """
    graph = network.graph
    _narrow_constants(graph)
    variables = [tensor for tensor in data_variables(graph) if tensor.dtype == np.float32]
    if not variables:
        raise OptionError("precision 'fp16' is for networks in float32; leave it out")
    names = set(graph.tensors())
    for tensor in graph.inputs:
        if tensor.dtype == np.float32:
            half = gs.Variable(new_name(names, f"{tensor.name}/half"), tensor.dtype, tensor.shape)
            replace_uses(graph, tensor, half)
            variables.append(half)
            insert_behind(graph, tensor, [_cast(tensor, half, _HALF)])
    for index, tensor in enumerate(graph.outputs):
        if tensor.dtype == np.float32:
            _widen_output(graph, index, names)
            variables.append(graph.outputs[index].inputs[0].inputs[0])
    kept = {id(tensor) for tensor in (*graph.inputs, *graph.outputs)}
    for tensor in variables:
        if id(tensor) not in kept:
            tensor.dtype = np.dtype(np.float16)


def _narrow_constants(graph: gs.Graph) -> None:
    """All weights, and the types that nodes state."""
    narrowed: dict[str, gs.Constant] = {}
    for node in graph.nodes:
        for index, tensor in enumerate(node.inputs):
            is_float = is_constant(tensor) and tensor.dtype == np.float32
            if is_float and _ALWAYS_FLOAT.get(node.op) != index:
                node.inputs[index] = _narrowed(tensor, narrowed)
        if node.op == "Cast" and node.attrs["to"] == _FLOAT:
            node.attrs["to"] = _HALF
        value = node.attrs.get("value") if node.op == "ConstantOfShape" else None
        if value is not None and value.dtype == np.float32:
            node.attrs["value"] = _narrowed(value, narrowed)


def _narrowed(tensor: gs.Constant, known: dict[str, gs.Constant]) -> gs.Constant:
    """The constant in float16, one for all who read it."""
    if tensor.name not in known:
        with np.errstate(over="ignore"):
            values = np.asarray(tensor.values).astype(np.float16)
        if np.any(np.isinf(values) & np.isfinite(tensor.values)):
            raise OptionError(
                f"'{tensor.name}' has values above {np.finfo(np.float16).max:.0f}, which is too "
                "much for precision 'fp16'; leave it out"
            )
        known[tensor.name] = gs.Constant(tensor.name, values)
    return known[tensor.name]


def _widen_output(graph: gs.Graph, index: int, names: set[str]) -> None:
    """Let a graph output be a cast of what computed it, under its own name."""
    output = graph.outputs[index]
    half = gs.Variable(new_name(names, f"{output.name}/half"), output.dtype, output.shape)
    producer = output.inputs[0]
    producer.outputs = [half if tensor is output else tensor for tensor in producer.outputs]
    replace_uses(graph, output, half)
    graph.outputs[index] = output
    insert_behind(graph, half, [_cast(half, output, _FLOAT)])


def _cast(source: gs.Variable, result: gs.Variable, to: int) -> gs.Node:
    return gs.Node("Cast", f"{result.name}/cast", {"to": to}, [source], [result])
