"""Put a converted network on another schedule, readout or T, without converting it again."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from onnx_snn.errors import OptionError
from onnx_snn.export import export
from onnx_snn.graph import replace_uses, unique_name
from onnx_snn.model_io import ModelSource, read_model
from onnx_snn.ops import (
    DOMAIN,
    EVENTS,
    FIRING,
    FUSED_FOR_CUDA,
    NEURONS,
    STATEFUL,
    TIMESTEPS_INPUT,
)
from onnx_snn.options import parse_choice
from onnx_snn.passes.fuse_shortcuts import fuse_shortcuts
from onnx_snn.passes.pool_spikes import pool_spikes
from onnx_snn.passes.put_on_schedule import put_on_schedule
from onnx_snn.passes.spike import FOLDED
from onnx_snn.passes.use_events import use_events
from onnx_snn.schedule import (
    METADATA_KEY,
    Readout,
    Schedule,
    ScheduleOptions,
    ScheduleRecord,
)
from onnx_snn.spiking_graph import GATE, READOUT, SILENT, SpikingGraph, placeholder
from onnx_snn.target import Target
from onnx_snn.time_axis.steps import states_of


def reschedule(
    source: ModelSource,
    *,
    schedule: str | None = None,
    readout: str | None = None,
    timesteps: int | None = None,
    block: int | None = None,
    target: str | None = None,
) -> onnx.ModelProto:
    """The same spiking network, run another way. What is not given stays as it is.

    Args:
        source: a converted model, of any schedule.
        schedule: ``"layer"``, ``"loop"`` or ``"step"``.
        readout: ``"mean"`` (outputs [N, …]) or ``"running"`` (outputs [T, N, …]).
        timesteps: default number of steps T.
        block: steps evaluated together in ``loop``.
        target: ``"cpu"``: layers that read events, which cost in proportion to the spikes;
            ``"cuda"``: fewer passes over memory; see ``onnx_snn.target``. There is no way back.

    Raises:
        ModelError: not a model made by onnx_snn.
        OptionError: an unknown schedule, readout or target, T or block not a positive whole
            number, or a model written for one target is wanted for another.
    """
    model = read_model(source)
    record = ScheduleRecord.of(model)
    options = ScheduleOptions(
        schedule=parse_choice(Schedule, schedule or record.schedule, "schedule"),
        readout=parse_choice(Readout, readout or record.readout, "readout"),
        timesteps=record.timesteps if timesteps is None else timesteps,
        block=record.block if block is None else block,
    )
    network = unschedule(model, record)
    _aim(network, target)
    new = put_on_schedule(network, options)
    metadata = {p.key: p.value for p in model.metadata_props if p.key != METADATA_KEY}
    return export(network.graph, new, metadata)


def _aim(network: SpikingGraph, target: str | None) -> None:
    if target is None:
        return
    wanted = parse_choice(Target, target, "target")
    used = {node.op for node in network.graph.nodes if node.domain == DOMAIN}
    for written_for, operators in ((Target.CPU, EVENTS), (Target.CUDA, FUSED_FOR_CUDA)):
        if wanted is not written_for and used.intersection(operators):
            raise OptionError(
                f"the network is written for target '{written_for.value}' and cannot be put back "
                f"to target '{wanted.value}'; convert it again"
            )
    if wanted is Target.CPU:
        use_events(network)
    elif wanted is Target.CUDA:
        pool_spikes(network)
        fuse_shortcuts(network)


def unschedule(model: onnx.ModelProto, record: ScheduleRecord) -> SpikingGraph:
    """Undo ``put_on_schedule``: the network as it was before, with its placeholders."""
    graph = gs.import_onnx(_without_default(model, record.timesteps_input))
    if record.schedule is Schedule.LOOP:
        _unroll(graph)
    timesteps, spikes = _free_timesteps(graph, record)
    tensors = graph.tensors()
    _restore_sequences(graph, record, tensors)
    _restore_outputs(graph, record, tensors)
    for copy, source in record.repeated.items():
        replace_uses(graph, tensors[copy], tensors[source])
    for rows_name, mean_name in record.readouts:
        rows, mean = tensors[rows_name], tensors[mean_name]
        mean.inputs.clear()
        mean.shape = None if mean.shape is None else ["N", *mean.shape[1:]]
        graph.nodes.append(placeholder(READOUT, [rows], mean))
    for crossing in record.crossings:
        sources, result = [tensors[name] for name in crossing.inputs], tensors[crossing.output]
        if crossing.op == GATE:
            sources.insert(0, timesteps)
        result.inputs.clear()
        graph.nodes.append(placeholder(crossing.op, sources, result, crossing.averages))
    if record.silent:
        silent = tensors[record.silent]
        silent.inputs.clear()
        graph.nodes.append(placeholder(SILENT, spikes, silent))
    states = {name for state in record.states for name in (state.input, state.output)}
    graph.inputs[:] = [tensor for tensor in graph.inputs if tensor.name not in states]
    graph.outputs[:] = [tensor for tensor in graph.outputs if tensor.name not in states]
    graph.cleanup(remove_unused_graph_inputs=False).toposort()
    # The name is free only now that what read or computed T is gone.
    timesteps.name = record.timesteps_input or unique_name(graph, "T")
    return SpikingGraph(
        graph, timesteps, record.input_coding, record.coding, record.window, record.ramp
    )


def _without_default(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for index, tensor in enumerate(copy.graph.initializer):
        if tensor.name == name:
            del copy.graph.initializer[index]  # in place: weights may be large
            break
    return copy


def _unroll(graph: gs.Graph) -> None:
    """Put the body of the Loop in its place: all steps are one block."""
    loop = next(node for node in graph.nodes if node.op == "Loop")
    body = loop.attrs["body"]
    outer = graph.tensors()
    starts = zip(body.inputs[2:], loop.inputs[2:], strict=True)
    known = {**outer, **{inside.name: start for inside, start in starts}}
    for node in body.nodes:
        node.inputs = [known.get(tensor.name, tensor) for tensor in node.inputs]
    graph.nodes += body.nodes
    loop.inputs.clear()
    loop.outputs.clear()
    graph.nodes.remove(loop)


def _free_timesteps(
    graph: gs.Graph, record: ScheduleRecord
) -> tuple[gs.Variable, list[gs.Variable]]:
    """Every neuron reads a T that nobody computes yet, and starts anew; T and all spikes."""
    spikes = []
    timesteps = gs.Variable(unique_name(graph, "onnx_snn/T"), np.dtype(np.int64), [])
    starts: dict[str, gs.Constant] = {}
    for node in graph.nodes:
        if node.domain != DOMAIN or node.op not in TIMESTEPS_INPUT:
            continue
        if node.op in FIRING:
            spikes.append(node.outputs[0])
        given = node.inputs[TIMESTEPS_INPUT[node.op]]
        if given is not timesteps:
            replace_uses(graph, given, timesteps)
        if node.op in NEURONS:
            currents = node.inputs[0].shape  # a file has no shapes of spikes
            node.outputs[0].shape = None if currents is None else [FOLDED, *currents[1:]]
        if node.op not in STATEFUL:
            continue
        for state in states_of(node):
            value = node.attrs["v_init"] * node.attrs["v_threshold"] if state.name == "v" else 0
            key = f"onnx_snn/{state.name}_init/{state.dtype}"
            start = starts.setdefault(key, gs.Constant(key, np.asarray(value, state.dtype)))
            node.inputs[state.input] = start
            node.outputs[state.output] = gs.Variable.empty()
    graph.inputs[:] = [tensor for tensor in graph.inputs if tensor.name != record.timesteps_input]
    return timesteps, spikes


def _restore_sequences(
    graph: gs.Graph, record: ScheduleRecord, tensors: dict[str, gs.Tensor]
) -> None:
    for index, whole in enumerate(graph.inputs):
        if whole.name in record.sequences:
            rows = tensors[record.sequences[whole.name]]
            rows.inputs.clear()
            rows.name, whole.name = whole.name, rows.name  # the nodes that fold it still read it
            rows.dtype, rows.shape = whole.dtype, [FOLDED, *whole.shape[2:]]
            graph.inputs[index] = rows


def _restore_outputs(
    graph: gs.Graph, record: ScheduleRecord, tensors: dict[str, gs.Tensor]
) -> None:
    """Outputs [T, N, …] become the rows they were stacked from, under the same name."""
    for index, whole in enumerate(graph.outputs):
        if whole.name in record.outputs:
            rows = tensors[record.outputs[whole.name]]
            whole.inputs.clear()
            rows.name, rows.dtype = whole.name, whole.dtype
            rows.shape = whole.shape and ["N", *whole.shape[2:]]
            graph.outputs[index] = rows
