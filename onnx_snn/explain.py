"""Explain: where a spiking network loses accuracy, and what each layer adds to that.

In units of λ, with a the activation of the ANN, r the mean spikes of a step, x̄ the mean current
that reached the neuron, and f the activation function (Relu or Clip):

    a − r  =  a − f(x̄)               inherited: the current was wrong already
           +  f(x̄) − min(f(x̄), h)    clipping: more than the neuron can say, h spikes in a step
           +  min(f(x̄), h) − Q       quantisation: T steps have only so many levels
           +  Q − r                  unevenness: currents that come at uneven times

    Q  =  clip(⌊T·x̄ + V_0⌋, 0, T·h) / T      the rate if all the current came before the first spike

Clipping, quantisation and unevenness are those of Bu et al. 2022, "Optimal ANN-SNN conversion for
high-accuracy and ultra-low-latency spiking neural networks"; here they are measured with the
current that came, so that what earlier layers did wrong is told apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import onnx_graphsurgeon as gs

from onnx_snn.coding import Coding
from onnx_snn.data import Batch, Dataset, ImagePreprocessing, first_samples
from onnx_snn.errors import DataError, ModelError, UnsupportedModelError
from onnx_snn.evaluate import (
    STEPS,
    blocks_of_steps,
    data_specs,
    sample_first,
    session_options,
    shown_to_ann,
)
from onnx_snn.export import export, recorded_thresholds
from onnx_snn.graph import insert_behind, unique_name
from onnx_snn.load import load_graph
from onnx_snn.model_io import ModelSource, read_model
from onnx_snn.ops import DOMAIN, EVENTS, IF_NEURON, SPIKE_MAX_POOL
from onnx_snn.options import check_positive
from onnx_snn.passes.fold_batch_normalization import fold_batch_normalization
from onnx_snn.passes.fuse_shortcuts import separate_shortcuts
from onnx_snn.passes.put_on_schedule import put_on_schedule
from onnx_snn.passes.rewrite_activations import rewrite_activations
from onnx_snn.probe import ValueProbe, channels_of
from onnx_snn.progress import progress_bar
from onnx_snn.reschedule import unschedule
from onnx_snn.scale import FloatArray
from onnx_snn.schedule import Schedule, ScheduleOptions, ScheduleRecord
from onnx_snn.spiking_activations import spiking_nodes
from onnx_snn.spiking_graph import (
    ACCUMULATE,
    DIFFERENCE,
    READOUT,
    SpikingGraph,
    placeholder,
)
from onnx_snn.stream import Stream

Array = npt.NDArray[Any]

_SAMPLES = 8  # of one run: it gives, for every neuron, two means beside the states of a stream
_NEGLIGIBLE = 0.01  # so small an error needs no remedy
_ROUNDING = 2.0**-22  # of a mean in float32; what would be a whole number of spikes stays one
_ATTRIBUTES = {
    "constant_input",
    "v_threshold",
    "v_init",
    "reset",
    "spike_min",
    "spike_max",
    "count_min",
    "count_max",
}


@dataclass(frozen=True)
class LayerError:
    """The error of one layer's firing rates, and what it is made of; see the module's text.

    Errors are root mean squares over all samples and neurons, divided by that of the ANN's
    activations. The four parts add up for each neuron; their root mean squares do not.

    Attributes:
        name: of the layer's node.
        op: the activation function it stands in for, as rewritten: Relu or Clip.
        total: of the rate against the activation.
        inherited: the part that came with the current.
        clipping: the part above what a neuron can say.
        quantisation: the part between the levels of T steps.
        unevenness: the part due to the times at which the current came.
        added: of the rate against f(x̄): the last three together.
        share: of ``added``² in the sum over all layers, in [0, 1].
        remedy: what to do about the greatest part; empty where the total is below 1 %.
    """

    name: str
    op: str
    total: float
    inherited: float
    clipping: float
    quantisation: float
    unevenness: float
    added: float
    share: float
    remedy: str

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return asdict(self)


class Parts(NamedTuple):
    """The parts of an error, each in the shape of the activation; they add up to it."""

    inherited: FloatArray
    clipping: FloatArray
    quantisation: FloatArray
    unevenness: FloatArray


def explain(
    snn: ModelSource,
    data: Any,
    reference: ModelSource,
    *,
    timesteps: int | None = None,
    limit: int | None = None,
    batch_size: int = _SAMPLES,
    preprocessing: ImagePreprocessing | None = None,
) -> list[LayerError]:
    """Tell for each layer of neurons how far its rates are from the ANN's activations, and why.

    Args:
        snn: a converted model, of any schedule.
        data: samples [S, …]; see ``onnx_snn.data.Dataset``. A network that takes sequences
            wants [S, T, …], and the ANN sees their mean over time.
        reference: the ANN it was made from.
        timesteps: number of steps T; None: the file's own, or that of the sequences.
        limit: only the first so many samples.
        batch_size: samples per run, where the data does not come in batches.
        preprocessing: for a folder of images.

    Returns:
        The errors of all layers, in order of evaluation.

    Raises:
        DataError: the reference is not the model that the network was made from.
        UnsupportedModelError: its neurons do not stand for Relu or Clip by their rate.
        OnnxSnnError: see ``onnx_snn.errors``.
    """
    model = read_model(snn)
    record = ScheduleRecord.of(model)
    for value, option in ((timesteps, "timesteps"), (limit, "limit")):
        if value is not None:
            check_positive(value, option)
    ann = load_graph(read_model(reference))
    rewrite_activations(ann)
    fold_batch_normalization(ann)
    specs = [sample_first(spec, record) for spec in data_specs(model, record)]
    dataset = Dataset(data, specs, batch_size, preprocessing=preprocessing)
    total = dataset.size if limit is None or dataset.size is None else min(limit, dataset.size)
    with progress_bar("explaining", total) as advance:
        return layer_errors(
            model, ann, first_samples(dataset, limit), timesteps=timesteps, progress=advance
        )


def layer_errors(
    snn: onnx.ModelProto,
    ann: gs.Graph,
    batches: Iterable[Batch],
    *,
    timesteps: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[LayerError]:
    """Like ``explain``, for batches that are checked already and an ANN as calibration sees it.

    Args:
        snn: a converted model, of any schedule.
        ann: clean, its activations rewritten, folded, not yet normalised; not changed.
        batches: at least one. Sequences come sample first, [N, T, …].
        timesteps: see ``explain``.
        progress: called with the number of samples after each batch.
    """
    rates = _RateProbe(snn)
    layers = _match(rates.neurons, ann, recorded_thresholds(snn))
    tensors = {node.name: node.outputs[0] for node in spiking_nodes(ann)}
    activations = ValueProbe(ann, [tensors[layer.name] for layer in layers])
    inputs = {tensor.name for tensor in ann.inputs}
    squares = np.zeros((len(layers), len(_MEASURED)))
    for batch in batches:
        feeds = shown_to_ann(batch, rates.record)
        if inputs != set(feeds):
            raise _other_model(f"takes the inputs {', '.join(sorted(inputs))}")
        steps = rates.timesteps(batch, timesteps)
        measured = zip(layers, activations.values(feeds), rates.run(batch, steps), strict=True)
        for index, (layer, activation, (rate, current)) in enumerate(measured):
            if activation.size != rate.size:
                raise _other_model(f"has neurons of another number in '{layer.name}'")
            shape = activation.shape
            squares[index] += layer.squares(
                activation, rate.reshape(shape), current.reshape(shape), steps
            )
        if progress is not None:
            progress(len(batch))
    return _results(layers, squares)


def split(
    activation: Array,
    rate: Array,
    current: Array,
    *,
    timesteps: int,
    v_init: float = 0.5,
    most: float = 1.0,
    cap: float | FloatArray = np.inf,
) -> Parts:
    """The parts of the error ``activation − rate``; see the module's text for the formula.

    Args:
        activation: a, in units of λ.
        rate: r, mean spikes per step.
        current: x̄, mean current per step in units of the threshold.
        timesteps: T.
        v_init: V_0, in units of the threshold.
        most: h, the greatest rate.
        cap: upper bound of the activation function, in units of λ; it may broadcast.
    """
    activation, rate, current = (v.astype(np.float64) for v in (activation, rate, current))
    wanted = np.clip(current, 0, cap)
    possible = np.minimum(wanted, most)
    charge = timesteps * current
    spikes = np.floor(charge + _ROUNDING * np.abs(charge) + v_init)
    quantised = np.clip(spikes / timesteps, 0, most)
    return Parts(activation - wanted, wanted - possible, possible - quantised, quantised - rate)


_MEASURED = ("signal", "total", "added", *Parts._fields)


@dataclass(frozen=True)
class _Layer:
    """A layer of neurons and the activation function it stands for.

    Attributes:
        name, op: see ``LayerError``.
        scale: λ, in a shape that broadcasts against activations [N, C, F].
        cap: upper bound of the activation function, in the ANN's units.
        attributes: of the ``IFNeuron``.
    """

    name: str
    op: str
    scale: FloatArray
    cap: float
    attributes: dict[str, Any]

    def squares(
        self, activation: Array, rate: Array, current: Array, timesteps: int
    ) -> npt.NDArray[np.float64]:
        """Sums of squares of what is ``_MEASURED``, in units of λ."""
        most = float(self.attributes["spike_max"])
        if self.attributes["count_max"] >= 0:
            most = min(most, self.attributes["count_max"] / timesteps)
        parts = split(
            activation / self.scale,
            rate,
            current / self.attributes["v_threshold"],
            timesteps=timesteps,
            v_init=self.attributes["v_init"],
            most=most,
            cap=self.cap / self.scale,
        )
        added = parts.clipping + parts.quantisation + parts.unevenness
        # Back in the ANN's units: with a λ for each channel, theirs differ.
        values = (activation / self.scale, parts.inherited + added, added, *parts)
        return np.array([np.square(value * self.scale).sum() for value in values])


class _RateProbe:
    """Runs a converted network and reports each layer's mean spikes and mean current.

    It runs as a stream, some steps at a time, so that memory does not grow with T.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        given = ScheduleRecord.of(model)
        network = unschedule(model, given)
        separate_shortcuts(network)
        network.ramp = 1  # rates and currents are plain means
        _check_neurons(network)
        self.neurons = network.neurons()
        self._default = given.timesteps
        means = _Means(network)
        self._names = [
            (means.of(node.outputs[0]), means.of(node.inputs[0], node.attrs["constant_input"] == 1))
            for node in self.neurons
        ]
        graph = network.graph
        graph.outputs = means.tensors()
        graph.cleanup(remove_unused_graph_inputs=False)
        options = ScheduleOptions(schedule=Schedule.STEP, timesteps=STEPS)
        probe = export(graph, put_on_schedule(network, options), {})
        self._stream = Stream(probe, ["CPUExecutionProvider"], session_options())
        self.record = self._stream.record

    def timesteps(self, batch: Batch, wanted: int | None) -> int:
        """T of a batch: as asked for, or that of its sequences, or the file's own."""
        if not self.record.sequences:
            return wanted or self._default
        length = min(batch.feeds[name].shape[1] for name in self.record.sequences)
        if wanted is not None and length < wanted:
            raise DataError(f"the sequences have {length} steps, but {wanted} are asked for")
        return wanted or length

    def run(self, batch: Batch, timesteps: int) -> list[tuple[Array, Array]]:
        """Of each layer the mean spikes and the mean current, [N, …]."""
        self._stream.reset()
        means: dict[str, Array] = {}
        for feeds, steps in blocks_of_steps(batch, self.record, timesteps):
            means = self._stream.run(feeds, None if self.record.sequences else steps)
        return [(means[rate], means[current]) for rate, current in self._names]


class _Means:
    """Adds means over time to a network, in single precision at least; one for each tensor."""

    def __init__(self, network: SpikingGraph) -> None:
        self._graph = network.graph
        self._means: dict[str, gs.Variable] = {}

    def tensors(self) -> list[gs.Variable]:
        return list(self._means.values())

    def of(self, tensor: gs.Variable, is_constant: bool = False) -> str:
        """Name of the mean of rows [T·N, …], or of what is the same at every step, [N, …]."""
        if tensor.name not in self._means:
            index = len(self._means)
            dtype = np.dtype(np.float64 if tensor.dtype == np.float64 else np.float32)
            wide = self._variable(f"onnx_snn/explain/{index}/wide", dtype, tensor.shape)
            cast = gs.Node("Cast", wide.name, {"to": dtype.type}, inputs=[tensor], outputs=[wide])
            insert_behind(self._graph, tensor, [cast])
            mean = wide
            if not is_constant:
                shape = ["N", *tensor.shape[1:]]
                mean = self._variable(f"onnx_snn/explain/{index}/mean", dtype, shape)
                insert_behind(self._graph, wide, [placeholder(READOUT, [wide], mean)])
            self._means[tensor.name] = mean
        return str(self._means[tensor.name].name)

    def _variable(
        self, name: str, dtype: np.dtype[Any], shape: Sequence[int | str] | None
    ) -> gs.Variable:
        return gs.Variable(unique_name(self._graph, name), dtype, shape and list(shape))


def _check_neurons(network: SpikingGraph) -> None:
    """Let only networks pass in which a neuron's rate is what it says."""
    if network.coding is not Coding.RATE:
        raise UnsupportedModelError(
            f"the errors of a network with coding '{network.coding.value}' cannot be explained; "
            "only those of coding 'rate' can"
        )
    known = {IF_NEURON, SPIKE_MAX_POOL, READOUT, ACCUMULATE, DIFFERENCE}
    for node in network.graph.nodes:
        if node.domain != DOMAIN:
            continue
        if node.op in EVENTS:
            raise UnsupportedModelError(
                "the errors of a network that reads events (target 'cpu') cannot be explained; "
                "explain the same network converted with target 'any'"
            )
        if node.op not in known or (node.op == IF_NEURON and set(node.attrs) - _ATTRIBUTES):
            raise UnsupportedModelError(
                f"the errors of {node.op} node '{node.name}' cannot be explained; only those of "
                "neurons that speak by their firing rate can"
            )
    for node in network.neurons():
        if node.attrs["spike_min"] < 0 and node.attrs["count_min"] < 0:
            raise UnsupportedModelError(
                f"the errors of the neurons '{node.name}' cannot be explained: they stand for "
                "values below 0; only those in the place of Relu and Clip can"
            )


def _match(
    neurons: Sequence[gs.Node],
    ann: gs.Graph,
    thresholds: dict[str, float | list[float]],
) -> list[_Layer]:
    """Find for each layer of neurons the activation it stands for."""
    nodes = {node.name: node for node in spiking_nodes(ann)}
    layers = []
    for neuron in neurons:
        if neuron.name not in thresholds:
            raise ModelError(
                f"the model does not say what a spike of '{neuron.name}' is worth; convert it again"
            )
        node = nodes.get(neuron.name)
        if node is None:
            raise _other_model(f"has no activation '{neuron.name}'")
        scale = np.asarray(thresholds[neuron.name], np.float64)
        if scale.ndim and scale.size != channels_of(node.outputs[0]):
            raise _other_model(f"has channels of another number in '{neuron.name}'")
        cap = float(node.inputs[2].values) if node.op == "Clip" else np.inf
        shaped = scale.reshape(-1, 1) if scale.ndim else scale
        layers.append(_Layer(neuron.name, node.op, shaped, cap, dict(neuron.attrs)))
    return layers


def _other_model(difference: str) -> DataError:
    return DataError(
        f"the reference {difference}, unlike the spiking network; "
        "give the model that it was converted from"
    )


def _results(layers: Sequence[_Layer], squares: npt.NDArray[np.float64]) -> list[LayerError]:
    """Errors from sums of squares, [layers, what is measured]."""
    signal = np.where(squares[:, :1] > 0, squares[:, :1], 1.0)
    relative = np.sqrt(squares / signal)
    added = relative[:, _MEASURED.index("added")]
    shares = added**2 / ((added**2).sum() or 1.0)
    results = []
    for index, layer in enumerate(layers):
        errors = dict(zip(_MEASURED, map(float, relative[index]), strict=True))
        del errors["signal"]
        remedy = ""
        if errors["total"] >= _NEGLIGIBLE:
            worst = max(Parts._fields, key=lambda part: errors[part])
            remedy = _remedy(worst, layer, _most_adding(layers[:index], added[:index]))
        results.append(
            LayerError(layer.name, layer.op, share=float(shares[index]), remedy=remedy, **errors)
        )
    return results


def _most_adding(layers: Sequence[_Layer], added: FloatArray) -> str | None:
    """The layer that adds most, if any adds something."""
    if not layers or added.max() < _NEGLIGIBLE:
        return None
    return layers[int(added.argmax())].name


def _remedy(part: str, layer: _Layer, ahead: str | None) -> str:
    """What to do about the greatest part of an error."""
    attributes = layer.attributes
    if part == "clipping":
        more = " or burst neurons" if attributes["spike_max"] == 1 else ""
        return f"larger thresholds (mode 'max', a higher percentile, 'mse'){more}"
    if part == "quantisation":
        first = "v_init 0.5, which halves the rounding; then " if attributes["v_init"] == 0 else ""
        return f"{first}more steps, or thresholds for so few (mode 'mse')"
    if part == "unevenness" and attributes["reset"] == "zero":
        return "reset 'subtract': a hard reset forgets what is above the threshold"
    if part == "unevenness":
        signed = "signed neurons, " if attributes["spike_min"] == 0 else ""
        return f"{signed}the drain or radix coding, or more steps"
    if ahead is None:
        return "no layer ahead adds to it: check that the reference is the model converted"
    return f"look at '{ahead}', which adds the most ahead of it"
