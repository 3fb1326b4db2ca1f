"""Behind a running mean: functions that see all steps as samples, and outputs [T, N, …]."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from onnx_snn.emit import Emitter
from onnx_snn.graph import insert_before, variables
from onnx_snn.schedule import Readout
from onnx_snn.spiking_graph import SpikingGraph
from onnx_snn.time_axis.behind import nodes_behind


def mark_tail(network: SpikingGraph, means: list[gs.Variable], readout: Readout) -> None:
    """Behind the means, the leading axis is that of the samples, or of all their steps."""
    leading = "T*N" if readout is Readout.RUNNING else "N"
    for node in nodes_behind(network.graph, means):
        for tensor in node.outputs:
            if tensor.shape and not isinstance(tensor.shape[0], int):
                tensor.shape = [leading, *tensor.shape[1:]]


def repeat_for_tail(network: SpikingGraph, means: list[gs.Variable]) -> dict[str, str]:
    """Where a running mean meets a tensor [N, …] that does not vary with time: repeat that.

    What has no axis of samples, such as a grid computed from the image's size, is broadcast.

    Returns:
        For each copy the tensor it repeats.
    """
    graph = network.graph
    varying = _varying(graph, means)
    copies: dict[str, gs.Variable] = {}
    for node in nodes_behind(graph, means):
        for tensor in variables(node):
            if tensor.name in varying or not tensor.shape or tensor.shape[0] != "N":
                continue
            if tensor.name not in copies:
                copies[tensor.name] = gs.Variable(f"{tensor.name}/shown", tensor.dtype)
                nodes: list[gs.Node] = []
                emit = Emitter(nodes, copies[tensor.name].name)
                emit.repeat(tensor, network.timesteps, into=copies[tensor.name])
                insert_before(graph, node, nodes)
            node.inputs = [copies[tensor.name] if t is tensor else t for t in node.inputs]
    return {copy.name: name for name, copy in copies.items()}


def stack_outputs(network: SpikingGraph, means: list[gs.Variable]) -> dict[str, str]:
    """Give outputs that vary with time the shape [T, N, …]; returns the rows behind each."""
    graph = network.graph
    varying = _varying(graph, means)
    stacked = {}
    for index, output in enumerate(graph.outputs):
        if output.name not in varying:
            continue
        shape = None if output.shape is None else output.shape[1:]
        whole = gs.Variable(output.name, output.dtype, shape and ["T", "N", *shape])
        output.name = f"{whole.name}/rows"
        emit = Emitter(graph.nodes, output.name)
        emit.split_time(output, network.timesteps, into=whole)
        graph.outputs[index] = whole
        stacked[whole.name] = output.name
    return stacked


def _varying(graph: gs.Graph, means: list[gs.Variable]) -> set[str]:
    """Names of the means and of all that depends on them."""
    behind = (tensor for node in nodes_behind(graph, means) for tensor in node.outputs)
    return {tensor.name for tensor in (*means, *behind)}
