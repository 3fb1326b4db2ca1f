"""Schedule ``step``: one block of steps per Run; states are inputs and outputs of the file."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from onnx_snn.emit import Emitter
from onnx_snn.graph import insert_before
from onnx_snn.schedule import CLOCK, Readout, StateRecord
from onnx_snn.spiking_graph import SpikingGraph
from onnx_snn.time_axis.cross_time import cross_time
from onnx_snn.time_axis.inputs import Inputs, read_inputs
from onnx_snn.time_axis.means import add_up, mean_of_sum, running_mean, sums_so_far
from onnx_snn.time_axis.placeholders import replace, take_apart
from onnx_snn.time_axis.silence import tell_silence
from onnx_snn.time_axis.steps import Steps, states_of


def step(network: SpikingGraph, readout: Readout, inputs: Inputs) -> list[StateRecord]:
    """Write the nodes of all placeholders, and let every state come in and go out.

    Args:
        network: its graph is edited in place; its inputs are open.
        readout: the mean so far, or that at every step of the run.
        inputs: what ``open_inputs`` gave.

    Returns:
        The states of the file.
    """
    graph, weights = network.graph, network.readout_weights
    states = _States(graph)
    _open_states(network, states)
    head = read_inputs(network, inputs)
    past, now = _clock(head, network.timesteps, states)
    graph.nodes[:0] = head
    steps = Steps(network.timesteps, past, states.add_zero)
    for node in network.crossings():
        replace(graph, node, cross_time(node, network.weights, steps))
    for node in network.readouts():
        nodes: list[gs.Node] = []
        emit = Emitter(nodes, node.name)
        (rows,), mean = take_apart(node)
        before, after = states.add_zero(f"{node.name}/sum", rows.dtype, rows)
        currents = emit.split_time(rows, steps.count)
        weighted = weights.weighted(emit, currents, past, steps.count)
        add_up(emit, weighted, before, after)
        if readout is Readout.RUNNING:
            running_mean(emit, weights, sums_so_far(emit, weighted, before), steps, mean)
        else:
            mean_of_sum(emit, weights, after, now, mean)
        replace(graph, node, nodes)
    tell_silence(network, now)
    graph.outputs.extend(states.after)
    return states.records


class _States:
    """The states of a file; each is made an input of the graph at once."""

    def __init__(self, graph: gs.Graph) -> None:
        self._graph = graph
        self.records: list[StateRecord] = []
        self.after: list[gs.Variable] = []

    def add(self, before: gs.Variable, after: gs.Variable, init: float) -> None:
        self._graph.inputs.append(before)
        self.records.append(StateRecord(before.name, after.name, init))
        self.after.append(after)

    def add_of(
        self, rows: gs.Variable, name: str, dtype: np.dtype[np.generic], init: float
    ) -> tuple[gs.Variable, gs.Variable]:
        """Add a state [N, …] of rows; returns it before and after the steps of a run.

        Where a size is known at run time only, the state may start with 1, and is broadcast.
        """
        sizes = rows.shape[1:]
        start = ["N", *(size if isinstance(size, int) else None for size in sizes)]
        before = gs.Variable(name, dtype, start)
        after = gs.Variable(f"{name}_next", dtype, ["N", *sizes])
        self.add(before, after, init)
        return before, after

    def add_zero(
        self, name: str, dtype: np.dtype[np.generic], rows: gs.Variable
    ) -> tuple[gs.Variable, gs.Variable]:
        """Add a state that starts at 0."""
        return self.add_of(rows, name, dtype, 0.0)


def _open_states(network: SpikingGraph, states: _States) -> None:
    """Let the states of operators come in and go out."""
    for node in network.stateful():
        for state in states_of(node):
            init = float(node.inputs[state.input].values)
            name = f"{node.name}/{state.name}"
            before, after = states.add_of(state.rows, name, state.dtype, init)
            if None in before.shape:
                before = _expand(network, node, before)
            node.inputs[state.input] = before
            node.outputs[state.output] = after


def _expand(network: SpikingGraph, node: gs.Node, state: gs.Variable) -> gs.Variable:
    """A state in the shape of the neurons, where it may be smaller."""
    nodes: list[gs.Node] = []
    emit = Emitter(nodes, state.name)
    currents = node.inputs[0]
    shape = emit.shape(currents)
    if not node.attrs.get("constant_input", 0):
        samples = emit.node("Div", [emit.shape(currents, 0, 1), emit.vector(network.timesteps)])
        shape = emit.node("Concat", [samples, emit.shape(currents, 1)], axis=0)
    expanded = emit.node("Expand", [state, shape], dtype=state.dtype)
    insert_before(network.graph, node, nodes)
    return expanded


def _clock(
    nodes: list[gs.Node], timesteps: gs.Variable, states: _States
) -> tuple[gs.Variable, gs.Variable]:
    """Count the steps of all runs: those before this one, and with it."""
    given = gs.Variable(CLOCK, np.dtype(np.int64), [])
    now = gs.Variable(f"{CLOCK}_next", np.dtype(np.int64), [])
    emit = Emitter(nodes, "onnx_snn/clock")
    past = emit.on_host(given)
    emit.node("Add", [past, timesteps], into=now)
    states.add(given, now, 0)
    return past, now
