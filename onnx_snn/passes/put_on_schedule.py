"""Schedule: give a spiking network its time axis as nodes, inputs and outputs.

- ``layer``: T steps folded into the batch of every layer; the graph is as long as the ANN's.
- ``loop``: an ONNX Loop over blocks of steps; membranes and sums are carried from one to the next.
- ``step``: one block of steps per Run; membranes and sums are inputs and outputs of the file.

The nodes of the network itself are the same in all three; see ``SpikingGraph``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from onnx_snn.coding import InputCoding
from onnx_snn.emit import Emitter
from onnx_snn.graph import activations, insert_before, variables
from onnx_snn.passes.cross_time import cross_time, mean_over_time
from onnx_snn.schedule import (
    CLOCK,
    CrossingRecord,
    Readout,
    Schedule,
    ScheduleOptions,
    ScheduleRecord,
    StateRecord,
)
from onnx_snn.spiking_graph import SILENT, SpikingGraph
from onnx_snn.time_weights import TimeWeights

PREFIX = "onnx_snn"


def put_on_schedule(network: SpikingGraph, options: ScheduleOptions) -> ScheduleRecord:
    """Put a spiking network on a schedule.

    Args:
        network: its graph is edited in place, and is complete but for the default value of T.
        options: which schedule.

    Returns:
        What a file must record to be read back by ``onnx_snn.reschedule``.
    """
    options.check(network.coding)
    silence = network.silent and network.silent.outputs[0].name
    readouts = [(node.inputs[0].name, node.outputs[0]) for node in network.readouts()]
    crossings = [CrossingRecord.of(node) for node in network.crossings()]
    temporal = network.temporal_nodes()
    sequences = _open_inputs(network)
    states: list[StateRecord] = []
    if options.schedule is Schedule.LAYER or network.coding.is_phased:
        _layer(network, options, sequences)
    elif options.schedule is Schedule.LOOP:
        _loop(network, options, sequences, temporal)
    else:
        states = _step(network, options, sequences)
    stacked, repeated = {}, {}
    _mark_tail(network, [mean for _, mean in readouts], options.readout)
    if options.readout is Readout.RUNNING:
        means = [mean for _, mean in readouts]
        repeated = _repeat_for_tail(network, means)
        stacked = _stack_outputs(network, means)
    return ScheduleRecord(
        schedule=options.schedule,
        readout=options.readout,
        input_coding=network.input_coding,
        coding=network.coding,
        window=network.window,
        silent=silence or "",
        timesteps=options.timesteps,
        block=options.block,
        timesteps_input="" if sequences else network.timesteps.name,
        readouts=[[rows, mean.name] for rows, mean in readouts],
        crossings=crossings,
        outputs=stacked,
        repeated=repeated,
        states=states,
        sequences={s.whole.name: s.rows.name for s in sequences},
    )


@dataclass(frozen=True)
class _Sequence:
    """An input [T, N, …] and the folded rows that the network reads."""

    whole: gs.Variable
    rows: gs.Variable


def _open_inputs(network: SpikingGraph) -> list[_Sequence]:
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
        sequences.append(_Sequence(whole, rows))
    return sequences


def _layer(network: SpikingGraph, options: ScheduleOptions, sequences: list[_Sequence]) -> None:
    graph = network.graph
    graph.nodes[:0] = _fold_sequences(network, sequences)
    weights, timesteps = network.weights, network.timesteps
    for node in network.crossings():
        _replace(graph, node, cross_time(node, weights, timesteps, None, None))
    for node in network.readouts():
        nodes: list[gs.Node] = []
        emit = Emitter(nodes, node.name)
        rows, mean = _take_apart(node)
        currents = emit.split_time(rows, timesteps)
        if options.readout is Readout.RUNNING:
            weighted = weights.weighted(emit, currents, timesteps)
            sums = emit.node("CumSum", [weighted, emit.const(0)])
            _running_mean(emit, weights, sums, emit.const(0), timesteps, mean)
        else:
            mean_over_time(emit, weights, currents, timesteps, into=mean)
        _replace(graph, node, nodes)
    _tell_silence(network, timesteps)


def _step(
    network: SpikingGraph, options: ScheduleOptions, sequences: list[_Sequence]
) -> list[StateRecord]:
    graph = network.graph
    states: list[StateRecord] = []

    def state(before: gs.Variable, after: gs.Variable, init: float) -> None:
        graph.inputs.append(before)
        states.append(StateRecord(before.name, after.name, init))
        after_states.append(after)

    after_states: list[gs.Variable] = []
    for node in network.neurons():
        for index, name in enumerate(_states_of(node)):
            before, after = _state_of(f"{node.name}/{name}", node.outputs[0])
            state(before, after, float(node.inputs[2 + index].values))
            if None in before.shape:
                before = _expand_state(network, node, before)
            node.inputs[2 + index] = before
            node.outputs[1 + index] = after
    head: list[gs.Node] = _fold_sequences(network, sequences)
    clock = Emitter(head, f"{PREFIX}/clock")
    past = gs.Variable(CLOCK, np.dtype(np.int64), [])
    now = gs.Variable(f"{CLOCK}_next", np.dtype(np.int64), [])
    clock.node("Add", [past, network.timesteps], into=now)
    state(past, now, 0)
    graph.nodes[:0] = head

    def carry(
        name: str, dtype: np.dtype[np.generic], rows: gs.Variable
    ) -> tuple[gs.Variable, gs.Variable]:
        before, after = _state_of(name, rows, dtype)
        state(before, after, 0.0)
        return before, after

    for node in network.crossings():
        _replace(graph, node, cross_time(node, network.weights, network.timesteps, past, carry))
    for node in network.readouts():
        nodes: list[gs.Node] = []
        emit = Emitter(nodes, node.name)
        rows, mean = _take_apart(node)
        before, after = carry(f"{node.name}/sum", rows.dtype, rows)
        currents = emit.split_time(rows, network.timesteps)
        block = emit.node("ReduceSum", [currents, emit.const([0])], keepdims=0)
        emit.node("Add", [before, block], into=after)
        if options.readout is Readout.RUNNING:
            sums = emit.node("CumSum", [currents, emit.const(0)])
            sums = emit.node("Add", [sums, before])
            _running_mean(emit, network.weights, sums, past, network.timesteps, mean)
        else:
            _mean(emit, network.weights, after, now, mean)
        _replace(graph, node, nodes)
    _tell_silence(network, now)
    graph.outputs.extend(after_states)
    return states


def _state_of(
    name: str, rows: gs.Variable, dtype: np.dtype[np.generic] | None = None
) -> tuple[gs.Variable, gs.Variable]:
    """A state [N, …] before and after the steps whose rows are given.

    Where a size is known at run time only, the state may start with 1, and is broadcast.
    """
    sizes = rows.shape[1:]
    start = ["N", *(size if isinstance(size, int) else None for size in sizes)]
    before = gs.Variable(name, dtype or rows.dtype, start)
    return before, gs.Variable(f"{name}_next", dtype or rows.dtype, ["N", *sizes])


def _states_of(neuron: gs.Node) -> Sequence[str]:
    """What a neuron keeps from step to step: its membrane, and if it is signed its count."""
    return ("v", "n")[: len(neuron.inputs) - 2]


def _expand_state(network: SpikingGraph, node: gs.Node, state: gs.Variable) -> gs.Variable:
    """A state in the shape of the neurons, where it may be smaller."""
    nodes: list[gs.Node] = []
    emit = Emitter(nodes, state.name)
    currents = node.inputs[0]
    shape = emit.shape(currents)
    if not node.attrs["constant_input"]:
        samples = emit.node("Div", [emit.shape(currents, 0, 1), emit.vector(network.timesteps)])
        shape = emit.node("Concat", [samples, emit.shape(currents, 1)], axis=0)
    expanded = emit.node("Expand", [state, shape], dtype=state.dtype)
    insert_before(network.graph, node, nodes)
    return expanded


def _loop(
    network: SpikingGraph,
    options: ScheduleOptions,
    sequences: list[_Sequence],
    inside: list[gs.Node],
) -> None:
    """``inside``: the network's temporal nodes, which become the body of the Loop."""
    graph, readouts = network.graph, network.readouts()
    head: list[gs.Node] = []
    before = Emitter(head, f"{PREFIX}/before_loop")
    _count_steps(before, network, sequences)
    block = before.const(options.block)
    round_up = before.node("Add", [network.timesteps, before.const(options.block - 1)])
    trips = before.node("Div", [round_up, block])

    body: list[gs.Node] = []
    emit = Emitter(body, f"{PREFIX}/block")
    iteration = gs.Variable(f"{PREFIX}/iteration", np.dtype(np.int64), [])
    going = gs.Variable(f"{PREFIX}/going", np.dtype(np.bool_), [])
    start, steps = _begin_block(emit, network, sequences, iteration, block)
    for node in inside:
        node.inputs = [steps if t is network.timesteps else t for t in node.inputs]
    carried = _Carried()
    crossings = {id(node) for node in network.crossings()}
    for node in inside:
        if id(node) in crossings:
            body += cross_time(node, network.weights, steps, start, carried.add_zero)
        elif node.op != SILENT:
            body.append(node)
    going_on = _go_on_until_silent(emit, network, start, steps, carried, options)
    for node in network.neurons():
        for index, name in enumerate(_states_of(node)):
            initial = node.inputs[2 + index]
            held = carried.add(f"{node.name}/{name}", node.outputs[0].dtype, initial)
            node.inputs[2 + index], node.outputs[1 + index] = held
    tail: list[gs.Node] = []
    after = Emitter(tail, f"{PREFIX}/after_loop")
    for node in readouts:
        name = node.name
        rows, mean = _take_apart(node)
        currents = emit.split_time(rows, steps)
        past, now = carried.add_zero(f"{name}/sum", rows.dtype, rows)
        block_sum = emit.node("ReduceSum", [currents, emit.const([0])], keepdims=0)
        emit.node("Add", [past, block_sum], into=now)
        if options.readout is Readout.RUNNING:
            sums = emit.node("Add", [emit.node("CumSum", [currents, emit.const(0)]), past])
            missing = emit.node("Sub", [block, steps])
            scanned = carried.scan(f"{name}/sums", rows.dtype, _pad_steps(emit, sums, missing))
            sums = _first_steps(after, after.join_time(scanned), network.timesteps)
            _running_mean(after, network.weights, sums, after.const(0), network.timesteps, mean)
        else:
            _mean(after, network.weights, carried.finals[-1], network.timesteps, mean)

    still_going = emit.node("Identity", [going_on or going], dtype=np.bool_)
    loop = gs.Node(
        "Loop",
        f"{PREFIX}/loop",
        attrs={
            "body": gs.Graph(
                nodes=body,
                inputs=[iteration, going, *carried.inside],
                outputs=[still_going, *carried.next, *carried.scans],
                name=f"{PREFIX}/block",
                opset=graph.opset,
            )
        },
        inputs=[trips, gs.Variable.empty(), *carried.starts],
        outputs=[*carried.finals, *carried.scanned],
    )
    behind = _behind(graph, [tensor for node in tail for tensor in node.outputs])
    taken = {id(node) for node in (*inside, *readouts)}
    rest = [node for node in graph.nodes if id(node) not in taken]
    ahead = [node for node in rest if node.name not in behind]
    graph.nodes[:] = [*head, *ahead, loop, *tail, *(n for n in rest if n.name in behind)]


def _begin_block(
    emit: Emitter,
    network: SpikingGraph,
    sequences: list[_Sequence],
    iteration: gs.Variable,
    block: gs.Tensor,
) -> tuple[gs.Variable, gs.Variable]:
    """The steps before this block and in it (the last may be shorter); its part of sequences."""
    start = emit.node("Mul", [iteration, block], dtype=np.int64)
    left = emit.node("Sub", [network.timesteps, start], dtype=np.int64)
    steps = emit.node("Min", [block, left], dtype=np.int64)
    for sequence in sequences:
        end = emit.node("Add", [start, steps])
        part = emit.node(
            "Slice",
            [sequence.whole, emit.vector(start), emit.vector(end), emit.const([0])],
            dtype=sequence.whole.dtype,
        )
        emit.join_time(part, into=sequence.rows)
    return start, steps


def _pad_steps(emit: Emitter, sequence: gs.Variable, missing: gs.Tensor) -> gs.Variable:
    """[t, N, …] with zeros behind: a Loop stacks equal shapes, the last block may be shorter."""
    pads = emit.node("Concat", [emit.const([0]), emit.vector(missing)], axis=0)
    inputs = [sequence, pads, gs.Variable.empty(), emit.const([0])]
    return emit.node("Pad", inputs, dtype=sequence.dtype)


def _first_steps(emit: Emitter, sequence: gs.Variable, count: gs.Tensor) -> gs.Variable:
    inputs = [sequence, emit.const([0]), emit.vector(count), emit.const([0])]
    return emit.node("Slice", inputs, dtype=sequence.dtype)


class _Carried:
    """What a Loop carries from block to block, per tensor its four names; and what it stacks."""

    def __init__(self) -> None:
        self.starts: list[gs.Tensor] = []
        self.inside: list[gs.Variable] = []
        self.next: list[gs.Variable] = []
        self.finals: list[gs.Variable] = []
        self.scans: list[gs.Variable] = []
        self.scanned: list[gs.Variable] = []

    def add(
        self, name: str, dtype: np.dtype[np.generic], start: gs.Tensor
    ) -> tuple[gs.Variable, gs.Variable]:
        """Carry one more tensor; returns it as the body reads it, and as the body leaves it.

        It starts as a scalar and has its full shape from the first block on.
        """
        before, after, final = (
            gs.Variable(f"{name}{suffix}", dtype) for suffix in ("", "_next", "_final")
        )
        self.starts.append(start)
        self.inside.append(before)
        self.next.append(after)
        self.finals.append(final)
        return before, after

    def add_zero(
        self, name: str, dtype: np.dtype[np.generic], rows: gs.Variable
    ) -> tuple[gs.Variable, gs.Variable]:
        """Carry a tensor that starts at 0."""
        return self.add(name, dtype, gs.Constant(f"{name}/zero", np.zeros((), dtype)))

    def scan(self, name: str, dtype: np.dtype[np.generic], block: gs.Variable) -> gs.Variable:
        """Stack what every block gives: [blocks, *shape of one]."""
        self.scans.append(block)
        self.scanned.append(gs.Variable(name, dtype))
        return self.scanned[-1]


def _count_steps(emit: Emitter, network: SpikingGraph, sequences: list[_Sequence]) -> None:
    if sequences:
        shape = emit.node("Shape", [sequences[0].whole])
        emit.node("Gather", [shape, emit.const(0)], into=network.timesteps)


def _fold_sequences(network: SpikingGraph, sequences: list[_Sequence]) -> list[gs.Node]:
    """[T, N, …] to rows, and T from its shape; nothing where the input is constant."""
    nodes: list[gs.Node] = []
    emit = Emitter(nodes, f"{PREFIX}/sequence")
    _count_steps(emit, network, sequences)
    for sequence in sequences:
        emit.join_time(sequence.whole, into=sequence.rows)
    return nodes


def _tell_silence(network: SpikingGraph, steps: gs.Tensor) -> None:
    """Put nodes in the place of Silent; ``steps``: those so far, with those of this run."""
    node = network.silent
    if node is None:
        return
    nodes: list[gs.Node] = []
    emit = Emitter(nodes, node.name)
    spikes, silent = list(node.inputs), node.outputs[0]
    node.inputs.clear()
    node.outputs.clear()
    _is_silent(emit, network, spikes, network.timesteps, steps, silent)
    _replace(network.graph, node, nodes)


def _go_on_until_silent(
    emit: Emitter,
    network: SpikingGraph,
    start: gs.Variable,
    steps: gs.Variable,
    carried: _Carried,
    options: ScheduleOptions,
) -> gs.Variable | None:
    """Whether a Loop must go on; None where that does not depend on spikes."""
    node = network.silent
    if node is None:
        return None
    spikes, silent = list(node.inputs), node.outputs[0]
    node.inputs.clear()
    node.outputs.clear()
    false = gs.Constant(f"{silent.name}/not_yet", np.zeros((), np.bool_))
    now = carried.add(f"{silent.name}/block", np.dtype(np.bool_), false)[1]
    silent.inputs.clear()
    carried.finals[-1] = silent
    _is_silent(emit, network, spikes, steps, emit.node("Add", [start, steps]), now)
    if options.readout is Readout.RUNNING:
        return None  # the mean is wanted at every step
    return emit.node("Not", [now], dtype=np.bool_)


def _is_silent(
    emit: Emitter,
    network: SpikingGraph,
    spikes: list[gs.Tensor],
    steps: gs.Tensor,
    total: gs.Tensor,
    into: gs.Variable,
) -> None:
    """Whether the window is over, and no neuron fires in the last of these steps."""
    counts = []
    for rows in spikes:
        last = emit.node("Gather", [emit.split_time(rows, steps), emit.const(-1)], axis=0)
        last = emit.node("Cast", [last], to=1)  # float32: sums of float16 overflow
        size = emit.node("Abs", [last], dtype=np.float32)
        counts.append(emit.node("ReduceSum", [size], dtype=np.float32, keepdims=0))
    fired = emit.node("Sum", counts, dtype=np.float32)
    none = emit.node("Equal", [fired, emit.const(0, np.float32)], dtype=np.bool_)
    over = emit.node("Greater", [total, emit.const(network.window or 0)], dtype=np.bool_)
    emit.node("And", [none, over], into=into)


def _take_apart(readout: gs.Node) -> tuple[gs.Variable, gs.Variable]:
    """Free the two tensors of a placeholder."""
    rows, mean = readout.inputs[0], readout.outputs[0]
    readout.inputs.clear()
    readout.outputs.clear()
    return rows, mean


def _mean(
    emit: Emitter, weights: TimeWeights, total: gs.Tensor, count: gs.Tensor, into: gs.Variable
) -> None:
    emit.node("Div", [total, weights.total(emit, count, total)], into=into)


def _running_mean(
    emit: Emitter,
    weights: TimeWeights,
    sums: gs.Tensor,
    past: gs.Tensor,
    count: gs.Tensor,
    into: gs.Variable,
) -> None:
    """Weighted sums so far [T, N, …], divided by their weight, as rows."""
    means = emit.node("Div", [sums, weights.elapsed(emit, past, count, sums)], dtype=into.dtype)
    emit.join_time(means, into=into)
    if into.shape:
        into.shape = ["T*N", *into.shape[1:]]


def _replace(graph: gs.Graph, node: gs.Node, nodes: list[gs.Node]) -> None:
    at = graph.nodes.index(node)
    graph.nodes[at : at + 1] = nodes


def _behind(graph: gs.Graph, roots: list[gs.Variable]) -> set[str]:
    """Names of the nodes that depend on the given tensors."""
    known = {tensor.name for tensor in roots}
    names = set()
    for node in graph.nodes:
        if any(tensor.name in known for tensor in variables(node)):
            known |= {tensor.name for tensor in node.outputs}
            names.add(node.name)
    return names


def _mark_tail(network: SpikingGraph, means: list[gs.Variable], readout: Readout) -> None:
    """Behind the means, the leading axis is that of the samples, or of all their steps."""
    behind = _behind(network.graph, means)
    leading = "T*N" if readout is Readout.RUNNING else "N"
    for node in network.graph.nodes:
        for tensor in node.outputs if node.name in behind else []:
            if tensor.shape and not isinstance(tensor.shape[0], int):
                tensor.shape = [leading, *tensor.shape[1:]]


def _repeat_for_tail(network: SpikingGraph, means: list[gs.Variable]) -> dict[str, str]:
    """Where a running mean meets what does not vary with time: repeat that; returns the copies."""
    graph = network.graph
    behind = _behind(graph, means)
    varying = {tensor.name for tensor in means}
    varying |= {t.name for node in graph.nodes if node.name in behind for t in node.outputs}
    copies: dict[str, gs.Variable] = {}
    for node in [node for node in graph.nodes if node.name in behind]:
        for tensor in activations(node):
            if tensor.name in varying or not tensor.shape:
                continue
            if tensor.name not in copies:
                copies[tensor.name] = gs.Variable(f"{tensor.name}/shown", tensor.dtype)
                nodes: list[gs.Node] = []
                emit = Emitter(nodes, copies[tensor.name].name)
                emit.repeat(tensor, network.timesteps, into=copies[tensor.name])
                insert_before(graph, node, nodes)
            node.inputs = [copies[tensor.name] if t is tensor else t for t in node.inputs]
    return {copy.name: name for name, copy in copies.items()}


def _stack_outputs(network: SpikingGraph, means: list[gs.Variable]) -> dict[str, str]:
    """Give outputs that vary with time the shape [T, N, …]; returns the rows behind each."""
    graph = network.graph
    behind = _behind(graph, means)
    varying = {tensor.name for tensor in means}
    varying |= {t.name for node in graph.nodes if node.name in behind for t in node.outputs}
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
