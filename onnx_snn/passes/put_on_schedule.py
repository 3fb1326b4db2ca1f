"""Schedule: give a spiking network its time axis as nodes, inputs and outputs.

- ``layer``: T steps folded into the batch of every layer; the graph is as long as the ANN's.
- ``loop``: an ONNX Loop over blocks of steps; membranes and sums are carried from one to the next.
- ``step``: one block of steps per Run; membranes and sums are inputs and outputs of the file.

The nodes of the network itself are the same in all three; see ``SpikingGraph``.
"""

from __future__ import annotations

from onnx_snn.schedule import (
    CrossingRecord,
    Readout,
    Schedule,
    ScheduleOptions,
    ScheduleRecord,
    StateRecord,
)
from onnx_snn.spiking_graph import SpikingGraph
from onnx_snn.time_axis.inputs import open_inputs
from onnx_snn.time_axis.layer import layer
from onnx_snn.time_axis.loop import loop
from onnx_snn.time_axis.running import mark_tail, repeat_for_tail, stack_outputs
from onnx_snn.time_axis.step import step


def put_on_schedule(network: SpikingGraph, options: ScheduleOptions) -> ScheduleRecord:
    """Put a spiking network on a schedule.

    Args:
        network: its graph is edited in place, and is complete but for the default value of T.
        options: which schedule.

    Returns:
        What a file must record to be read back by ``onnx_snn.reschedule``.

    Raises:
        OptionError: the network's coding cannot have this schedule.
    """
    options.check(network.coding)
    silence = network.silent and network.silent.outputs[0].name
    readouts = [(node.inputs[0].name, node.outputs[0]) for node in network.readouts()]
    crossings = [CrossingRecord.of(node) for node in network.crossings()]
    temporal = network.temporal_nodes()
    inputs = open_inputs(network)
    states: list[StateRecord] = []
    if options.schedule is Schedule.LAYER or network.coding.is_phased:
        layer(network, options.readout, inputs)
    elif options.schedule is Schedule.LOOP:
        loop(network, options.readout, inputs, options.block, temporal)
    else:
        states = step(network, options.readout, inputs)
    means = [mean for _, mean in readouts]
    mark_tail(network, means, options.readout)
    stacked, repeated = {}, {}
    if options.readout is Readout.RUNNING:
        repeated = repeat_for_tail(network, means)
        stacked = stack_outputs(network, means)
    return ScheduleRecord(
        schedule=options.schedule,
        readout=options.readout,
        input_coding=network.input_coding,
        coding=network.coding,
        window=network.window,
        ramp=network.ramp,
        silent=silence or "",
        timesteps=options.timesteps,
        block=options.block,
        timesteps_input="" if inputs.timesteps is None else inputs.timesteps.name,
        readouts=[[rows, mean.name] for rows, mean in readouts],
        crossings=crossings,
        outputs=stacked,
        repeated=repeated,
        states=states,
        sequences={s.whole.name: s.rows.name for s in inputs.sequences},
    )
