"""Tell when a network has fallen silent: the window is over, and no neuron fires any more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from onnx_snn.emit import Emitter
from onnx_snn.spiking_graph import SpikingGraph
from onnx_snn.time_axis.placeholders import replace, take_apart


def tell_silence(network: SpikingGraph, total: gs.Tensor) -> None:
    """Put nodes in the place of Silent, if there is one.

    Args:
        network: rows of its spikes hold T steps.
        total: number of steps so far, with those T.
    """
    node = network.silent
    if node is None:
        return
    spikes, silent = take_apart(node)
    nodes: list[gs.Node] = []
    is_silent(Emitter(nodes, node.name), network, spikes, network.timesteps, total, silent)
    replace(network.graph, node, nodes)


def is_silent(
    emit: Emitter,
    network: SpikingGraph,
    spikes: Sequence[gs.Tensor],
    count: gs.Tensor,
    total: gs.Tensor,
    into: gs.Variable,
) -> None:
    """Whether the window is over, and no neuron fires in the last of ``count`` steps."""
    counts = []
    for rows in spikes:
        last = emit.node("Gather", [emit.split_time(rows, count), emit.const(-1)], axis=0)
        last = emit.node("Cast", [last], to=1)  # float32: sums of float16 overflow
        size = emit.node("Abs", [last], dtype=np.float32)
        counts.append(emit.node("ReduceSum", [size], dtype=np.float32, keepdims=0))
    fired = emit.node("Sum", counts, dtype=np.float32)
    none = emit.node("Equal", [fired, emit.const(0, np.float32)], dtype=np.bool_)
    number = emit.on_device(total, fired)
    over = emit.node("Greater", [number, emit.const(network.window or 0, np.float32)])
    both = emit.node("And", [none, over], dtype=np.bool_)
    emit.node("Squeeze", [both, emit.const([0])], into=into)
