"""Inputs of a network with a time axis: T for a constant image, or sequences that tell it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_graphsurgeon as gs

from onnx_snn.coding import InputCoding
from onnx_snn.emit import Emitter
from onnx_snn.graph import unique_name
from onnx_snn.spiking_graph import SpikingGraph


@dataclass(frozen=True)
class Sequence:
    """An input [T, N, …] and the folded rows that the network reads."""

    whole: gs.Variable
    rows: gs.Variable


@dataclass(frozen=True)
class Inputs:
    """What tells the number of steps.

    Attributes:
        timesteps: the input T, []; None: the sequences tell it.
        sequences: empty where the input is constant.
    """

    timesteps: gs.Variable | None = None
    sequences: list[Sequence] = field(default_factory=list)


def open_inputs(network: SpikingGraph) -> Inputs:
    """Make T an input of the graph, or put sequences in the place of folded inputs."""
    graph, timesteps = network.graph, network.timesteps
    if network.input_coding is InputCoding.CONSTANT:
        given = gs.Variable(timesteps.name, np.dtype(np.int64), [])
        timesteps.name = unique_name(graph, f"{given.name}/on_host")
        graph.inputs.append(given)
        return Inputs(given)
    inputs = Inputs()
    for index, rows in enumerate(graph.inputs):
        whole = gs.Variable(rows.name, rows.dtype, ["T", "N", *rows.shape[1:]])
        rows.name = f"{rows.name}/rows"
        graph.inputs[index] = whole
        inputs.sequences.append(Sequence(whole, rows))
    return inputs


def count_steps(emit: Emitter, network: SpikingGraph, inputs: Inputs) -> None:
    """Let the network know T."""
    if inputs.timesteps is not None:
        emit.on_host(inputs.timesteps, into=network.timesteps)
    else:
        shape = emit.node("Shape", [inputs.sequences[0].whole])
        emit.node("Gather", [shape, emit.const(0)], into=network.timesteps)


def read_inputs(network: SpikingGraph, inputs: Inputs) -> list[gs.Node]:
    """Know T, and fold [T, N, …] to rows."""
    nodes: list[gs.Node] = []
    emit = Emitter(nodes, "onnx_snn/input")
    count_steps(emit, network, inputs)
    for sequence in inputs.sequences:
        emit.join_time(sequence.whole, into=sequence.rows)
    return nodes
