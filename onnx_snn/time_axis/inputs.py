"""Inputs of a network with a time axis: T for a constant image, or sequences that tell it."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_graphsurgeon as gs

from onnx_snn.coding import InputCoding
from onnx_snn.emit import Emitter
from onnx_snn.spiking_graph import SpikingGraph


@dataclass(frozen=True)
class Sequence:
    """An input [T, N, …] and the folded rows that the network reads."""

    whole: gs.Variable
    rows: gs.Variable


def open_inputs(network: SpikingGraph) -> list[Sequence]:
    """Make T an input of the graph, or put sequences in the place of folded inputs."""
    graph = network.graph
    if network.input_coding is InputCoding.CONSTANT:
        graph.inputs.append(network.timesteps)
        return []
    sequences = []
    for index, rows in enumerate(graph.inputs):
        whole = gs.Variable(rows.name, rows.dtype, ["T", "N", *rows.shape[1:]])
        rows.name = f"{rows.name}/rows"
        graph.inputs[index] = whole
        sequences.append(Sequence(whole, rows))
    return sequences


def count_steps(emit: Emitter, network: SpikingGraph, sequences: list[Sequence]) -> None:
    """T from the shape of a sequence; nothing where the input is constant."""
    if sequences:
        shape = emit.node("Shape", [sequences[0].whole])
        emit.node("Gather", [shape, emit.const(0)], into=network.timesteps)


def fold_sequences(network: SpikingGraph, sequences: list[Sequence]) -> list[gs.Node]:
    """[T, N, …] to rows, and T from its shape; nothing where the input is constant."""
    nodes: list[gs.Node] = []
    emit = Emitter(nodes, "onnx_snn/sequence")
    count_steps(emit, network, sequences)
    for sequence in sequences:
        emit.join_time(sequence.whole, into=sequence.rows)
    return nodes
