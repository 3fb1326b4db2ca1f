"""Schedule ``layer``: T steps folded into the batch of every layer, evaluated in one run."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from onnx_snn.emit import Emitter
from onnx_snn.schedule import Readout
from onnx_snn.spiking_graph import SpikingGraph
from onnx_snn.time_axis.cross_time import cross_time
from onnx_snn.time_axis.inputs import Inputs, read_inputs
from onnx_snn.time_axis.means import mean_over_time, running_mean, sums_so_far
from onnx_snn.time_axis.placeholders import replace, take_apart
from onnx_snn.time_axis.silence import tell_silence
from onnx_snn.time_axis.steps import Steps


def layer(network: SpikingGraph, readout: Readout, inputs: Inputs) -> None:
    """Write the nodes of all placeholders; every membrane starts from its constant.

    Args:
        network: its graph is edited in place; its inputs are open.
        readout: the mean over T, or the running mean.
        inputs: what ``open_inputs`` gave.
    """
    graph, steps = network.graph, Steps(network.timesteps)
    inside, weights = network.weights, network.readout_weights
    graph.nodes[:0] = read_inputs(network, inputs)
    for node in network.crossings():
        replace(graph, node, cross_time(node, inside, steps))
    for node in network.readouts():
        nodes: list[gs.Node] = []
        emit = Emitter(nodes, node.name)
        (rows,), mean = take_apart(node)
        currents = emit.split_time(rows, steps.count)
        if readout is Readout.RUNNING:
            sums = sums_so_far(
                emit, weights.weighted(emit, currents, steps.start(emit), steps.count)
            )
            running_mean(emit, weights, sums, steps, mean)
        else:
            mean_over_time(emit, weights, currents, steps.count, into=mean)
        replace(graph, node, nodes)
    tell_silence(network, steps.count)
