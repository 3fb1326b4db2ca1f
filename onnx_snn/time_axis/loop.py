"""Schedule ``loop``: an ONNX Loop over blocks of steps; states are carried from one to the next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from onnx_snn.emit import Emitter
from onnx_snn.schedule import Readout
from onnx_snn.spiking_graph import SILENT, SpikingGraph
from onnx_snn.time_axis.behind import nodes_behind
from onnx_snn.time_axis.carried import Carried
from onnx_snn.time_axis.cross_time import cross_time
from onnx_snn.time_axis.inputs import Inputs, count_steps
from onnx_snn.time_axis.means import add_up, mean_of_sum, running_mean, sums_so_far
from onnx_snn.time_axis.placeholders import take_apart
from onnx_snn.time_axis.silence import is_silent
from onnx_snn.time_axis.steps import Steps, states_of

_PREFIX = "onnx_snn"


def loop(
    network: SpikingGraph,
    readout: Readout,
    inputs: Inputs,
    size: int,
    inside: list[gs.Node],
) -> None:
    """Write the nodes of all placeholders, and put what is evaluated at every step into a Loop.

    Args:
        network: its graph is edited in place; its inputs are open.
        readout: the mean over T, or the running mean.
        inputs: what ``open_inputs`` gave.
        size: steps of a block; the last may be shorter.
        inside: the network's temporal nodes, which become the body of the Loop.
    """
    graph, readouts = network.graph, network.readouts()
    head: list[gs.Node] = []
    before = Emitter(head, f"{_PREFIX}/before_loop")
    count_steps(before, network, inputs)
    block_size = before.const(size)
    round_up = before.node("Add", [network.timesteps, before.const(size - 1)])
    trips = before.node("Div", [round_up, block_size])

    block = _begin_block(network, inputs, block_size)
    _move_inside(network, block, inside)
    going_on = _go_on_until_silent(network, block, readout)
    _carry_states(network, block)
    tail: list[gs.Node] = []
    after = Emitter(tail, f"{_PREFIX}/after_loop")
    for node in readouts:
        _read_out(network, block, node, readout, after)

    whole = _close(block, going_on, trips, graph.opset)
    results = [tensor for node in tail for tensor in node.outputs]
    behind = {id(node) for node in nodes_behind(graph, results)}
    taken = {id(node) for node in (*inside, *readouts)}
    rest = [node for node in graph.nodes if id(node) not in taken]
    ahead = [node for node in rest if id(node) not in behind]
    graph.nodes[:] = [*head, *ahead, whole, *tail, *(n for n in rest if id(n) in behind)]


@dataclass(frozen=True)
class _Block:
    """The body of the Loop, one block of steps, while it is being written.

    Attributes:
        nodes: of the body.
        emit: appends to them.
        iteration: number of the block, from 0.
        going: whether the block before wanted another.
        size: steps of a block.
        steps: those of this block, of which the last has fewer.
        carried: what goes from block to block.
    """

    nodes: list[gs.Node]
    emit: Emitter
    iteration: gs.Variable
    going: gs.Variable
    size: gs.Tensor
    steps: Steps
    carried: Carried


def _begin_block(network: SpikingGraph, inputs: Inputs, size: gs.Tensor) -> _Block:
    """Count the steps before this block and in it, and take its part of the sequences."""
    nodes: list[gs.Node] = []
    emit, carried = Emitter(nodes, f"{_PREFIX}/block"), Carried()
    iteration = gs.Variable(f"{_PREFIX}/iteration", np.dtype(np.int64), [])
    going = gs.Variable(f"{_PREFIX}/going", np.dtype(np.bool_), [])
    start = emit.node("Mul", [emit.on_host(iteration), size], dtype=np.int64)
    left = emit.node("Sub", [emit.on_host(network.timesteps), start], dtype=np.int64)
    count = emit.node("Min", [size, left], dtype=np.int64)
    for sequence in inputs.sequences:
        end = emit.node("Add", [start, count])
        part = emit.node(
            "Slice",
            [sequence.whole, emit.vector(start), emit.vector(end), emit.const([0])],
            dtype=sequence.whole.dtype,
        )
        emit.join_time(part, into=sequence.rows)
    steps = Steps(count, start, carried.add_zero)
    return _Block(nodes, emit, iteration, going, size, steps, carried)


def _move_inside(network: SpikingGraph, block: _Block, inside: list[gs.Node]) -> None:
    """Let the network's temporal nodes be those of the body, and read its number of steps."""
    for node in inside:
        node.inputs = [block.steps.count if t is network.timesteps else t for t in node.inputs]
    crossings = {id(node) for node in network.crossings()}
    for node in inside:
        if id(node) in crossings:
            block.nodes.extend(cross_time(node, network.weights, block.steps))
        elif node.op != SILENT:
            block.nodes.append(node)


def _go_on_until_silent(
    network: SpikingGraph, block: _Block, readout: Readout
) -> gs.Variable | None:
    """Whether the Loop must go on; None where that does not depend on spikes."""
    node = network.silent
    if node is None:
        return None
    spikes, silent = take_apart(node)
    false = gs.Constant(f"{silent.name}/not_yet", np.zeros((), np.bool_))
    name = f"{silent.name}/block"
    _, now = block.carried.add(name, np.dtype(np.bool_), false, final=silent)
    emit, steps = block.emit, block.steps
    total = emit.node("Add", [steps.start(emit), steps.count])
    is_silent(emit, network, spikes, steps.count, total, now)
    if readout is Readout.RUNNING:
        return None  # the mean is wanted at every step
    return emit.node("Not", [now], dtype=np.bool_)


def _carry_states(network: SpikingGraph, block: _Block) -> None:
    for node in network.stateful():
        for state in states_of(node):
            initial = node.inputs[state.input]
            held = block.carried.add(f"{node.name}/{state.name}", state.dtype, initial)
            node.inputs[state.input], node.outputs[state.output] = held


def _read_out(
    network: SpikingGraph, block: _Block, node: gs.Node, readout: Readout, after: Emitter
) -> None:
    """Sum up in the block, and behind the Loop (``after``) divide."""
    emit, carried, weights = block.emit, block.carried, network.readout_weights
    (rows,), mean = take_apart(node)
    currents = emit.split_time(rows, block.steps.count)
    weighted = weights.weighted(emit, currents, block.steps.start(emit), block.steps.count)
    before, now = carried.add_zero(f"{node.name}/sum", rows.dtype, rows)
    total = carried.finals[-1]
    add_up(emit, weighted, before, now)
    if readout is Readout.RUNNING:
        sums = sums_so_far(emit, weighted, before)
        missing = emit.node("Sub", [block.size, block.steps.count])
        padded = _pad_steps(emit, sums, missing)
        scanned = carried.scan(f"{node.name}/sums", rows.dtype, padded)
        sums = _first_steps(after, after.join_time(scanned), network.timesteps)
        running_mean(after, weights, sums, Steps(network.timesteps), mean)
    else:
        mean_of_sum(after, weights, total, network.timesteps, mean)


def _pad_steps(emit: Emitter, sequence: gs.Variable, missing: gs.Tensor) -> gs.Variable:
    """[t, N, …] with zeros behind: a Loop stacks equal shapes, the last block may be shorter."""
    pads = emit.node("Concat", [emit.const([0]), emit.vector(missing)], axis=0)
    inputs = [sequence, pads, gs.Variable.empty(), emit.const([0])]
    return emit.node("Pad", inputs, dtype=sequence.dtype)


def _first_steps(emit: Emitter, sequence: gs.Variable, count: gs.Tensor) -> gs.Variable:
    inputs = [sequence, emit.const([0]), emit.vector(count), emit.const([0])]
    return emit.node("Slice", inputs, dtype=sequence.dtype)


def _close(block: _Block, going_on: gs.Variable | None, trips: gs.Variable, opset: int) -> gs.Node:
    """The Loop, whose body is complete."""
    carried = block.carried
    still_going = block.emit.node("Identity", [going_on or block.going], dtype=np.bool_)
    body = gs.Graph(
        nodes=block.nodes,
        inputs=[block.iteration, block.going, *carried.inside],
        outputs=[still_going, *carried.next, *carried.scans],
        name=f"{_PREFIX}/block",
        opset=opset,
    )
    return gs.Node(
        "Loop",
        f"{_PREFIX}/loop",
        attrs={"body": body},
        inputs=[trips, gs.Variable.empty(), *carried.starts],
        outputs=[*carried.finals, *carried.scanned],
    )
