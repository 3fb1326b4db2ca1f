"""Spiking networks simulated without the package: the original ANN, one time step after the other.

The simulation stays in the ANN's own units: weights as trained, a threshold λ at every Relu, and
spikes worth λ. With powers of two for λ and dyadic weights and inputs every sum is exact, so a
converted network must agree bit for bit, whatever its schedule.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from nets import Array, run
from onnx_snn import ActivationStats, create_session
from onnx_snn.activation_stats import TensorStats
from onnx_snn.load import load_graph
from onnx_snn.schedule import Readout, Schedule, ScheduleRecord
from onnx_snn.spiking_activations import spiking_nodes

Thresholds = Mapping[str, Array]
"""λ by the name of the Relu node, in a shape that broadcasts against its activations."""


@dataclass
class Simulation:
    """Per step, time first: outputs by name, spikes and last membranes by the Relu's name."""

    outputs: dict[str, Array]
    spikes: dict[str, Array]
    membranes: dict[str, Array]

    def running_means(self, thresholds: Thresholds) -> dict[str, Array]:
        """Of the outputs and, in the ANN's units, of the spikes: [T, N, …]."""
        weighted = {n: (s * thresholds[n]).astype(np.float32) for n, s in self.spikes.items()}
        return {
            name: _running_mean(values) for name, values in {**self.outputs, **weighted}.items()
        }


def _running_mean(values: Array) -> Array:
    steps = np.arange(1, len(values) + 1, dtype=np.float32)
    return np.cumsum(values, axis=0) / steps.reshape(-1, *[1] * (values.ndim - 1))


def simulate(
    model: onnx.ModelProto,
    thresholds: Thresholds,
    frames: Iterable[Mapping[str, Array]],
    *,
    v_init: float = 0.5,
    reset: str = "subtract",
    neuron: str = "if",
) -> Simulation:
    """Show one frame (a feed [N, …]) at each step; onnx's NumPy evaluator does the linear part."""
    membranes = {name: np.asarray(v_init * level) for name, level in thresholds.items()}
    counts = {name: np.zeros(()) for name in thresholds}
    spikes: dict[str, list[Array]] = {name: [] for name in thresholds}

    class Relu(OpRun):
        op_domain = ""

        def _run(self, x: Array) -> tuple[Array]:
            name = self.onnx_node.name
            potential = membranes[name] + x
            fired = _fire(neuron, potential / thresholds[name], counts[name])
            counts[name] = counts[name] + fired
            after = potential - fired * thresholds[name] if reset == "subtract" else 0
            membranes[name] = np.where(fired != 0, after, potential)
            spikes[name].append(fired)
            return ((fired * thresholds[name]).astype(x.dtype),)

    evaluator = ReferenceEvaluator(model, new_ops=[Relu])
    steps = [evaluator.run(None, dict(frame)) for frame in frames]
    outputs = dict(
        zip(evaluator.output_names, map(np.stack, zip(*steps, strict=True)), strict=True)
    )
    return Simulation(outputs, {name: np.stack(s) for name, s in spikes.items()}, membranes)


def _fire(neuron: str, potential: Array, counts: Array) -> Array:
    """The spikes of one step; the potential is in thresholds."""
    if neuron == "if":
        return (potential >= 1).astype(int)
    if neuron == "signed":
        return (potential >= 1).astype(int) - ((potential < 0) & (counts > 0))
    return np.minimum(np.maximum(potential, 0) // 1, int(neuron[6:-1]))


def relus(model: onnx.ModelProto) -> dict[str, str]:
    """Relu nodes in order: node name → tensor."""
    return {node.name: node.output[0] for node in model.graph.node if node.op_type == "Relu"}


def expose(model: onnx.ModelProto, tensors: Iterable[str]) -> onnx.ModelProto:
    """A copy with more graph outputs, of the types and shapes that inference finds."""
    known = {v.name: v for v in onnx.shape_inference.infer_shapes(model).graph.value_info}
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    present = {output.name for output in model.graph.output}
    copy.graph.output.extend(known[name] for name in tensors if name not in present)
    return copy


def dyadic_thresholds(
    model: onnx.ModelProto, feeds: Mapping[str, Array], *, per_channel: bool = False
) -> dict[str, Array]:
    """Powers of two near half the greatest activation: some neurons saturate, most do not."""
    names = relus(model)
    values = run(expose(model, names.values()), feeds)[-len(names) :]
    return {
        name: _power_of_two(value, per_channel and value.ndim > 1)
        for name, value in zip(names, values, strict=True)
    }


def _power_of_two(values: Array, per_channel: bool) -> Array:
    greatest = float(values.max()) or 1.0
    level = np.asarray(greatest)
    if per_channel:
        level = values.max(axis=tuple(a for a in range(values.ndim) if a != 1), keepdims=True)
    level = np.where(level > 0, level, greatest)
    return np.exp2(np.round(np.log2(level / 2))).astype(np.float32)


def stats_of(model: onnx.ModelProto, thresholds: Thresholds) -> ActivationStats:
    """Statistics under which ``mode="max"`` gives exactly these thresholds."""

    def stats(node: Any) -> TensorStats:
        level = thresholds[node.name]
        channels = [float(value) for value in np.ravel(level)] if level.ndim else []
        return TensorStats(node.name, float(level.max()), channels)

    nodes = spiking_nodes(load_graph(model))
    return ActivationStats({node.outputs[0].name: stats(node) for node in nodes}, samples=1)


def play(
    model: onnx.ModelProto,
    feeds: Mapping[str, Array],
    timesteps: int | None = None,
    *,
    use_native: bool = True,
) -> dict[str, Array]:
    """Run a converted model of any schedule over T steps; outputs and, of ``step``, last states."""
    session = create_session(model, ["CPUExecutionProvider"], use_native=use_native)
    names = [output.name for output in session.get_outputs()]
    record = ScheduleRecord.of(model)

    def once(inputs: Mapping[str, Array], steps: int | None) -> dict[str, Array]:
        given = dict(inputs)
        if steps is not None and record.timesteps_input:
            given[record.timesteps_input] = np.array(steps, np.int64)
        return dict(zip(names, session.run(None, given), strict=True))

    if record.schedule is not Schedule.STEP:
        return once(feeds, timesteps)
    total = timesteps or (
        len(feeds[next(iter(record.sequences))]) if record.sequences else record.timesteps
    )
    shapes = {value.name: (value.shape, value.type) for value in session.get_inputs()}
    samples = next(iter(feeds.values())).shape[1 if record.sequences else 0]
    states = {}
    for state in record.states:
        shape, kind = shapes[state.input]
        dtype = np.int64 if kind == "tensor(int64)" else np.float32
        states[state.input] = np.full(
            [samples if s == "N" else s for s in shape], state.init, dtype
        )
    pieces = []
    for start in range(0, total, record.block):
        stop = min(start + record.block, total)
        shown = {n: x[start:stop] if n in record.sequences else x for n, x in feeds.items()}
        pieces.append(once({**shown, **states}, stop - start))
        states = {state.input: pieces[-1][state.output] for state in record.states}
    stacked = set(record.outputs) if record.readout is Readout.RUNNING else set()
    return {
        n: np.concatenate([p[n] for p in pieces]) if n in stacked else pieces[-1][n] for n in names
    }
