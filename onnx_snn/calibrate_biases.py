"""Calibrate biases: let the mean rates of a spiking network be the ANN's, layer by layer.

A neuron's rate is off for more reasons than rounding: spikes that come in unevenly are not taken
back, what is above the threshold is lost. Part of it is the same for all samples, and a bias takes
that away. For each layer, the ones ahead of it corrected already, the mean error of channel c,

    e_c = mean(clip(ANN_c, 0, most) − SNN_c)      over samples and positions; SNN: mean over time

is added to the current of every step. ``most`` is the greatest rate a neuron has: what is lost
above it cannot be made up for by neurons below it. Silent neurons do not answer to a shift in
full, others answer too much (a flat background starts to fire all at once), so that this is done
twice. The mean error is taken of every other sample; a channel keeps a correction only if that
lowers the squared error, on the samples between, of the mean rate of each sample's channel. The
mean, as later layers sum over positions: what single neurons are off by averages out in them.
At last the mean error of each channel of a readout, such as the score of a class, is taken off it.

Source: Li et al. 2021, "A free lunch from ANN: towards efficient, accurate spiking neural networks
calibration", section 4.1 (bias correction); clipping, repeating and checking are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_graphsurgeon as gs

from onnx_snn.coding import InputCoding
from onnx_snn.data import Batch, first_samples
from onnx_snn.errors import CalibrationError, OptionError
from onnx_snn.export import export
from onnx_snn.graph import insert_behind, unique_name, variables
from onnx_snn.ops import NEURONS
from onnx_snn.options import check_positive
from onnx_snn.passes.put_on_schedule import put_on_schedule
from onnx_snn.probe import ValueProbe, channels_of, refusals, session_options
from onnx_snn.schedule import ScheduleOptions
from onnx_snn.session import create_session
from onnx_snn.shift_current import absorb_shift, insert_shift, shaped, shift_current
from onnx_snn.spiking_graph import READOUT, SpikingGraph, placeholder

Array = npt.NDArray[Any]
Correction = npt.NDArray[np.float64]
"""What is added to the current of each channel at every step, in units of the threshold; [C]."""

_ROUNDS = 2
"""So often a correction is corrected: neurons that stay silent do not answer to it in full."""

_MOST = 1.0
"""No correction is greater: it makes a neuron fire at every step."""

_SHIFT = "onnx_snn/shift"
_VALUES = 4_000_000  # spikes of one layer in one run, so that a run takes little memory
_MEMORY = 2 * 2**30  # bytes of spikes that are kept for later layers


def calibrate_biases(
    network: SpikingGraph,
    ann: gs.Graph,
    batches: Iterable[Batch],
    timesteps: int,
    *,
    samples: int = 256,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Correction]:
    """Correct the biases of a spiking network, which is not on a schedule yet.

    Each layer is run three times on the spikes that the layers ahead of it sent: the cost is that
    of three runs of the whole network.

    Args:
        network: edited in place.
        ann: the normalised graph that it was made from; not changed.
        batches: calibration data with the ANN's inputs [N, …].
        timesteps: T, the steps of a run; for drain, those after the input too.
        samples: so many samples are used at most; fewer where the spikes of a large network
            would take too much memory.
        progress: called with 1 after each layer.

    Returns:
        The correction of every neuron by the name of its node: [C], or [1] where the neurons
        have no channels (axis 1 of their currents).

    Raises:
        OptionError: the network takes sequences, or a number is not a positive whole number.
        CalibrationError: there are no samples.
        ModelError: onnxruntime cannot run the network.
    """
    check_positive(timesteps, "timesteps")
    check_positive(samples, "samples")
    if network.input_coding is InputCoding.SEQUENCE:
        raise OptionError(
            "biases are calibrated on images that are the same at every step; leave this out for "
            "sequences, or use input_coding='constant'"
        )
    layers, readouts = _layers(network, ann), _readouts(network, ann)
    chunks = _chunks(batches, samples, ann, layers, timesteps) if layers else []
    spikes, targets = _Kept(), _Kept()
    corrections: dict[str, Correction] = {}
    for index, layer in enumerate(layers):
        wanted = [values for (values,) in _ann_part(ann, layer).run(chunks, targets)]
        part = _spiking_part(network, layer, timesteps)
        sent, correction = _calibrate(layer, part, chunks, spikes, wanted)
        targets[layer.activation.name] = wanted
        spikes[layer.neuron.outputs[0].name] = sent
        corrections[layer.neuron.name] = correction
        later: list[_Layer | _Readout] = [*layers[index + 1 :], *readouts]
        _keep_only(targets, (name for part in later for name in part.targets))
        _keep_only(spikes, (name for part in later for name in part.sources))
        if progress is not None:
            progress(1)
    shifts = [
        _readout_error(network, ann, readout, timesteps, chunks, spikes, targets)
        for readout in readouts
    ]
    for layer in layers:
        shift_current(network, layer.neuron, corrections[layer.neuron.name])
    for readout, shift in zip(readouts, shifts, strict=True):
        absorb_shift(network, readout.node.inputs[0], shift)
    return corrections


_Kept = dict[str, list[Array]]
"""Tensors that later layers depend on: of each its values in every chunk."""


def _keep_only(kept: _Kept, names: Iterable[str]) -> None:
    for name in kept.keys() - set(names):
        del kept[name]


@dataclass(frozen=True)
class _Layer:
    """Neurons, and the activation of the ANN that they stand for.

    Attributes:
        neuron: their node.
        activation: the ANN's tensor.
        sources: names of the spikes that their current depends on.
        targets: names of the ANN's activations that ``activation`` depends on.
    """

    neuron: gs.Node
    activation: gs.Variable
    sources: list[str]
    targets: list[str]

    @property
    def most(self) -> int:
        """The greatest rate, in spikes per step."""
        return int(self.neuron.attrs.get("spike_max", 1))

    @property
    def channels(self) -> int:
        """Their number; 1 where there are none, or as many as the data has."""
        return channels_of(self.neuron.inputs[0]) or 1


def _layers(network: SpikingGraph, ann: gs.Graph) -> list[_Layer]:
    """In order of evaluation."""
    nodes = {node.name: node for node in ann.nodes}  # a neuron has the name of its activation
    neurons = [node for node in network.graph.nodes if node.op in NEURONS]
    spikes = {node.outputs[0].name for node in neurons}
    activations = {nodes[node.name].outputs[0].name for node in neurons}
    layers = []
    for neuron in neurons:
        node = nodes[neuron.name]
        sources, targets = _sources(neuron, spikes), _sources(node, activations)
        layers.append(_Layer(neuron, node.outputs[0], sources, targets))
    return layers


@dataclass(frozen=True)
class _Readout:
    """A mean over time, and the tensor of the ANN that it stands for; see ``_Layer``."""

    node: gs.Node
    activation: gs.Variable
    sources: list[str]
    targets: list[str]


def _readouts(network: SpikingGraph, ann: gs.Graph) -> list[_Readout]:
    """Those with channels of which there is always the same number."""
    nodes = {node.name: node for node in ann.nodes}
    neurons = [node for node in network.graph.nodes if node.op in NEURONS]
    spikes = {node.outputs[0].name for node in neurons}
    activations = {nodes[node.name].outputs[0].name for node in neurons}
    tensors = ann.tensors()
    found = []
    for node in network.readouts():
        rows, mean = node.inputs[0], node.outputs[0]
        tensor = tensors.get(mean.name, tensors.get(rows.name))  # an output keeps its name
        if tensor is None or not tensor.inputs or channels_of(tensor) is None:
            continue
        if rows.name not in spikes:
            targets = _sources(tensor.inputs[0], activations)
            found.append(_Readout(node, tensor, _sources(node, spikes), targets))
    return found


def _readout_error(
    network: SpikingGraph,
    ann: gs.Graph,
    readout: _Readout,
    timesteps: int,
    chunks: Sequence[_Chunk],
    spikes: _Kept,
    targets: _Kept,
) -> Correction:
    """The mean error of each channel of a readout, which is linear: one run tells it."""
    wanted = _cut(ann, readout.targets, readout.activation.name)
    expected = _Part(gs.export_onnx(wanted), _types(wanted)).run(chunks, targets)
    part = _cut(network.graph, readout.sources, readout.node.outputs[0].name)
    types = _types(part)
    clock = part.tensors().get(network.timesteps.name) or network.timesteps.copy()
    cut = replace(network, graph=part, timesteps=clock)
    record = put_on_schedule(cut, ScheduleOptions(timesteps=timesteps))
    means = _Part(export(part, record, {}), types).run(chunks, spikes)
    fitted, checked = [], []
    for chunk, (mean,), (target,) in zip(chunks, means, expected, strict=True):
        error = target.astype(np.float64) - mean
        if not error.size:
            return np.zeros(error.shape[1])
        error = error.reshape(len(error), error.shape[1], -1).mean(axis=2)
        fitted.append(error[chunk.is_fitted])
        checked.append(error[chunk.is_checked])
    shift: Correction = np.concatenate(fitted).mean(axis=0)
    errors = np.concatenate(checked)
    is_better = np.square(errors - shift).sum(axis=0) < np.square(errors).sum(axis=0)
    return np.where(is_better, shift, 0.0)


def _sources(node: gs.Node, names: set[str]) -> list[str]:
    """Those of the named tensors that a node depends on, the ones behind others left out."""
    found: dict[str, None] = {}
    seen: set[str] = set()
    pending = variables(node)
    while pending:
        tensor = pending.pop()
        if tensor.name in seen:
            continue
        seen.add(tensor.name)
        if tensor.name in names:
            found[tensor.name] = None
        else:
            pending += [t for producer in tensor.inputs for t in variables(producer)]
    return list(found)


@dataclass(frozen=True)
class _Chunk:
    """Samples of one run.

    Attributes:
        feeds: the ANN's inputs.
        is_fitted: of each sample, whether corrections are fitted to it.
        is_checked: of each sample, whether they are checked on it.
    """

    feeds: Mapping[str, Array]
    is_fitted: npt.NDArray[np.bool_]
    is_checked: npt.NDArray[np.bool_]


def _chunks(
    batches: Iterable[Batch],
    samples: int,
    ann: gs.Graph,
    layers: Sequence[_Layer],
    timesteps: int,
) -> list[_Chunk]:
    """As many samples as memory has room for, so few in each chunk that a run is small."""
    parts: list[Batch] = []
    position, size, limit = 0, 0, samples
    for batch in first_samples(batches, samples):
        if not size and len(batch):
            values = timesteps * _largest(ann, layers, batch)
            size = max(1, _VALUES // values)
            limit = min(samples, max(2, _MEMORY // (4 * values)))  # four layers at a time
        end = min(len(batch), limit - position)
        parts += [batch.take(slice(k, min(k + size, end))) for k in range(0, end, max(size, 1))]
        position += end
        if position == limit:
            break
    if not parts:
        raise CalibrationError("there are no samples to calibrate biases on; give a few hundred")
    chunks, start = [], 0
    for part in parts:
        index = start + np.arange(len(part))
        start += len(part)
        chunks.append(_Chunk(part.feeds, index % 2 == 0, (index % 2 == 1) | (position == 1)))
    return chunks


def _largest(ann: gs.Graph, layers: Sequence[_Layer], batch: Batch) -> int:
    """Neurons of the largest layer, for one sample."""
    probe = ValueProbe(ann, [layer.activation for layer in layers])
    return max(1, *(values.size for values in probe.values(batch.take(slice(0, 1)).feeds)))


class _Part:
    """The part of a network that computes one layer from the layers before.

    Args:
        model: has a default for all inputs but these.
        inputs: names and types of what the ANN's inputs and the layers before give.
    """

    def __init__(self, model: onnx.ModelProto, inputs: Mapping[str, np.dtype[Any]]) -> None:
        self._inputs = inputs
        self._session = create_session(model, ["CPUExecutionProvider"], session_options())

    def run(self, chunks: Sequence[_Chunk], kept: _Kept, **feeds: Array) -> Iterator[list[Array]]:
        """All outputs, chunk by chunk; ``feeds``: further inputs."""
        for index, chunk in enumerate(chunks):
            for name, dtype in self._inputs.items():
                given = kept[name][index] if name in kept else chunk.feeds[name]
                feeds[name] = given.astype(dtype, copy=False)
            with refusals():
                results = self._session.run(None, feeds)
            yield results


def _cut(graph: gs.Graph, known: Sequence[str], end: str) -> gs.Graph:
    """A copy of the part that computes one tensor from others and the graph's inputs."""
    part = graph.copy()
    tensors = part.tensors()
    for name in known:
        tensors[name].inputs.clear()
        part.inputs.append(tensors[name])
    part.outputs = [tensors[end]]
    return part.cleanup(remove_unused_graph_inputs=True)


def _types(part: gs.Graph) -> dict[str, np.dtype[Any]]:
    return {tensor.name: np.dtype(tensor.dtype) for tensor in part.inputs}


def _ann_part(ann: gs.Graph, layer: _Layer) -> _Part:
    """Gives the activation [N, …]."""
    part = _cut(ann, layer.targets, layer.activation.name)
    return _Part(gs.export_onnx(part), _types(part))


def _spiking_part(network: SpikingGraph, layer: _Layer, timesteps: int) -> _Part:
    """Gives the spikes [T·N, …] and the rates [N, …]; takes a shift of the currents too."""
    part = _cut(network.graph, layer.sources, layer.neuron.outputs[0].name)
    types = _types(part)
    clock = part.tensors()[network.timesteps.name]
    # Plain means, whatever a readout weighs: what late steps are off by is not the bias's fault.
    cut = replace(network, graph=part, timesteps=clock, ramp=1)
    neuron = next(node for node in part.nodes if node.name == layer.neuron.name)
    spikes = neuron.outputs[0]
    rank = len(neuron.inputs[0].shape)
    shift = gs.Variable(_SHIFT, spikes.dtype, ["C", *[1] * max(rank - 2, 0)])
    insert_shift(cut, neuron, shift)
    shape = None if spikes.shape is None else ["N", *spikes.shape[1:]]
    rates = gs.Variable(unique_name(part, "onnx_snn/rates"), spikes.dtype, shape)
    insert_behind(part, spikes, [placeholder(READOUT, [spikes], rates)])
    part.outputs.append(rates)
    part.inputs.append(shift)
    record = put_on_schedule(cut, ScheduleOptions(timesteps=timesteps))
    return _Part(export(part, record, {}), types)


def _calibrate(
    layer: _Layer, part: _Part, chunks: Sequence[_Chunk], kept: _Kept, wanted: Sequence[Array]
) -> tuple[list[Array], Correction]:
    """Correct the biases of one layer.

    Args:
        layer: whose.
        part: runs it.
        chunks: the samples.
        kept: spikes of the layers before, which are corrected.
        wanted: the ANN's activations, of each chunk.

    Returns:
        The spikes of the corrected layer, of each chunk, and the correction.
    """
    correction = np.zeros(layer.channels)
    pace = np.ones(layer.channels)
    spikes, mean, square = _run(layer, part, chunks, kept, wanted, correction)
    for _ in range(_ROUNDS):
        tried = np.clip(correction + pace * mean, -_MOST, _MOST)
        if np.array_equal(tried, correction):
            break
        new_spikes, new_mean, new_square = _run(layer, part, chunks, kept, wanted, tried)
        is_better = new_square < square
        # A neuron depends on the shift of its own channel alone: channels can be put together.
        for index, rows in enumerate(new_spikes):
            chosen = is_better.reshape(-1, *[1] * max(rows.ndim - 2, 0))
            spikes[index] = np.where(chosen, rows, spikes[index])
        correction = np.where(is_better, tried, correction)
        mean = np.where(is_better, new_mean, mean)
        square = np.where(is_better, new_square, square)
        pace = np.where(is_better, pace, pace / 2)
    return spikes, correction


def _run(
    layer: _Layer,
    part: _Part,
    chunks: Sequence[_Chunk],
    kept: _Kept,
    wanted: Sequence[Array],
    shift: Correction,
) -> tuple[list[Array], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Run a layer with a shift of its currents.

    Returns:
        Its spikes, of each chunk; for each channel the mean error of its rates on the samples
        that are fitted, and the sum of the squared mean errors of those that are checked.
    """
    dtype = np.dtype(layer.neuron.outputs[0].dtype or np.float32)
    rank = len(layer.neuron.inputs[0].shape)
    small = np.int8 if layer.most <= np.iinfo(np.int8).max else np.int16
    total, square, count = np.zeros(layer.channels), np.zeros(layer.channels), 0
    spikes = []
    runs = part.run(chunks, kept, **{_SHIFT: shaped(shift, rank).astype(dtype)})
    for chunk, (rows, rates), target in zip(chunks, runs, wanted, strict=True):
        spikes.append(rows.astype(small))
        error = np.clip(target.astype(np.float64), 0, layer.most) - rates
        error = error.reshape(
            len(error), layer.channels, error.size // (len(error) * layer.channels)
        )
        fitted, checked = error[chunk.is_fitted], error[chunk.is_checked]
        total += fitted.sum(axis=(0, 2))
        count += fitted.size // layer.channels
        square += np.square(checked.mean(axis=2)).sum(axis=0)
    return spikes, total / max(count, 1), square
