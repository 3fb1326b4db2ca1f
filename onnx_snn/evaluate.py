"""Evaluate: accuracy, agreement with the ANN and firing rates after every time step, in one run.

The network runs as a stream, some samples and some steps at a time, so that memory grows neither
with the number of samples nor with T.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_graphsurgeon as gs
from onnx import TensorProto, helper

from onnx_snn.data import (
    Batch,
    Dataset,
    ImagePreprocessing,
    InputSpec,
    first_samples,
    input_specs,
)
from onnx_snn.errors import DataError, OptionError
from onnx_snn.load import load_graph
from onnx_snn.model_io import ModelSource, read_model
from onnx_snn.onnxruntime_api import onnxruntime
from onnx_snn.open_session import open_session
from onnx_snn.ops import DOMAIN, FIRING
from onnx_snn.options import check_positive
from onnx_snn.progress import progress_bar
from onnx_snn.reschedule import reschedule
from onnx_snn.schedule import ScheduleRecord
from onnx_snn.stream import Stream

Array = npt.NDArray[Any]

# Samples and steps of one run: rows enough for all threads, few for the cache. Most test sets are a
# multiple of so many samples: an odd last batch would need memory of its own.
_SAMPLES = 25
STEPS = 32


@dataclass(frozen=True)
class Evaluation:
    """How a spiking network does on some data. Lists have an entry for each step 1 … T.

    Attributes:
        samples: number of samples.
        timesteps: T.
        firing_rates: mean spikes per neuron and step, by the name of the neurons' node; negative
            spikes count as well.
        accuracy: share of samples classified as labelled; None without labels.
        agreement: share of samples classified as by the ANN; None without the ANN. The classes
            are those of the first output that has some: the greatest entry of each row of
            floating-point scores [N, classes], or integer labels [N] as they are; where no
            output has any (strings are none), both are None.
        output_error: root mean square of SNN − ANN, divided by that of the ANN, of the first
            floating-point output; None without the ANN or such an output.
        ann_accuracy: share of samples that the ANN classifies as labelled.
        silent: with coding drain, whether all neurons had fallen silent within T; else None. Only
            then the outputs are those of the quantised network.
    """

    samples: int
    timesteps: int
    firing_rates: dict[str, float]
    accuracy: list[float] | None = None
    agreement: list[float] | None = None
    output_error: list[float] | None = None
    ann_accuracy: float | None = None
    silent: bool | None = None


def evaluate(
    snn: ModelSource,
    data: Any,
    *,
    reference: ModelSource | None = None,
    timesteps: int | None = None,
    limit: int | None = None,
    preprocessing: ImagePreprocessing | None = None,
) -> Evaluation:
    """Run a converted network on data, and the ANN beside it.

    Args:
        snn: a converted model, of any schedule.
        data: samples [S, …] and their labels; see ``onnx_snn.data.Dataset``. A network that
            takes sequences wants [S, T, …].
        reference: the ANN it was made from, to compare with.
        timesteps: number of steps T; None: the file's own, or that of the sequences.
        limit: only the first so many samples.
        preprocessing: for a folder of images.

    Raises:
        OptionError: neither labels nor a reference, so that there is nothing to compare with,
            or T or the limit is not a positive whole number.
        OnnxSnnError: see ``onnx_snn.errors``.
    """
    model = read_model(snn)
    record = ScheduleRecord.of(model)
    for value, option in ((timesteps, "timesteps"), (limit, "limit")):
        if value is not None:
            check_positive(value, option)
    ann = None if reference is None else gs.export_onnx(load_graph(read_model(reference)))
    specs = [sample_first(spec, record) for spec in data_specs(model, record)]
    dataset = Dataset(data, specs, _SAMPLES, preprocessing=preprocessing)
    total = dataset.size if limit is None or dataset.size is None else min(limit, dataset.size)
    with progress_bar("evaluating", total) as advance:
        return measure(
            model, first_samples(dataset, limit), ann=ann, timesteps=timesteps, progress=advance
        )


def measure(
    snn: onnx.ModelProto,
    batches: Iterable[Batch],
    *,
    ann: onnx.ModelProto | None = None,
    timesteps: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Like ``evaluate``, for batches that are checked already and an ANN with a free batch axis.

    Sequences come sample first, [N, T, …]; the ANN then sees their mean over time.
    """
    meter = _Meter(snn, ann, timesteps)
    for batch in batches:
        for start in range(0, len(batch), _SAMPLES):
            part = batch.take(np.arange(start, min(start + _SAMPLES, len(batch))))
            meter.add(part)
            if progress is not None:
                progress(len(part))
    return meter.result()


def data_specs(model: onnx.ModelProto, record: ScheduleRecord) -> list[InputSpec]:
    """The inputs of a converted model that data must be given for: not T, no states."""
    carried = {state.input for state in record.states}
    return [spec for spec in input_specs(model) if spec.name not in carried]


def repeated(batch: Batch, record: ScheduleRecord) -> Batch:
    """Images as the network takes them: as they are, or T times where it takes sequences."""
    feeds = {
        name: np.broadcast_to(values[:, None], (len(values), record.timesteps, *values.shape[1:]))
        if name in record.sequences
        else values
        for name, values in batch.feeds.items()
    }
    return Batch(feeds, batch.labels)


def sample_first(spec: InputSpec, record: ScheduleRecord) -> InputSpec:
    """How data for an input is laid out: sequences come as [N, T, …]."""
    if spec.name not in record.sequences:
        return spec
    return InputSpec(spec.name, (spec.shape[1], spec.shape[0], *spec.shape[2:]), spec.dtype)


def blocks_of_steps(
    batch: Batch, record: ScheduleRecord, timesteps: int
) -> Iterator[tuple[dict[str, Array], int]]:
    """What a stream is shown, some steps at a time, and how many steps that are."""
    block = timesteps if record.coding.is_phased else STEPS
    for start in range(0, timesteps, block):
        steps = min(block, timesteps - start)
        feeds = {
            name: np.moveaxis(values[:, start : start + steps], 1, 0)
            if name in record.sequences
            else values
            for name, values in batch.feeds.items()
        }
        yield feeds, steps


def shown_to_ann(batch: Batch, record: ScheduleRecord) -> dict[str, Array]:
    """What the ANN is shown: images as they are, of sequences the mean over time."""
    return {
        name: values.mean(axis=1, dtype=values.dtype) if name in record.sequences else values
        for name, values in batch.feeds.items()
    }


class _Meter:
    """Sums up right answers, errors and spikes, batch by batch."""

    def __init__(
        self, snn: onnx.ModelProto, ann: onnx.ModelProto | None, timesteps: int | None
    ) -> None:
        probe = reschedule(snn, schedule="step", readout="running", timesteps=STEPS)
        self._names = _add_firing_rates(probe)
        self._stream = Stream(probe, ["CPUExecutionProvider"], session_options())
        self._record = self._stream.record
        self._outputs = [v.name for v in snn.graph.output if v.name in self._record.outputs]
        self._measured: str | None = None  # the output whose error is measured
        self._classified: str | None = None  # the output that tells the classes
        self._silent: bool | None = None
        self._timesteps = timesteps
        if timesteps is None and not self._record.sequences:
            self._timesteps = ScheduleRecord.of(snn).timesteps
        self._ann = None if ann is None else _ann_session(ann)
        self._samples = 0
        self._rates = np.zeros(len(self._names))
        self._correct: Array | int = 0
        self._same: Array | int = 0
        self._ann_correct = 0
        self._squares: Array | float = 0.0
        self._reference_squares = 0.0
        self._has_labels = True

    def add(self, batch: Batch) -> None:
        self._samples += len(batch)
        outputs = self._run(batch)
        labels = _numbers(batch.labels)
        if labels is None:
            self._has_labels = False
            if self._ann is None:
                raise OptionError(
                    "there is nothing to compare with: the data has no labels that are numbers; "
                    "add them (y), or give the original model as the reference"
                )
        classes = None if self._classified is None else _classes(outputs[self._classified])
        if labels is not None and classes is not None:
            self._correct = self._correct + (classes == labels).sum(axis=1)
        if self._ann is not None and outputs:
            self._compare(self._run_ann(batch, outputs), outputs, labels)

    def _compare(
        self, expected: Mapping[str, Array], outputs: Mapping[str, Array], labels: Array | None
    ) -> None:
        if self._classified is not None:
            classes = _classes(outputs[self._classified])
            theirs = _classes(expected[self._classified][None])
            if classes is not None and theirs is not None:
                self._same = self._same + (classes == theirs).sum(axis=1)
                if labels is not None:
                    self._ann_correct += int((theirs[0] == labels).sum())
        if self._measured is not None:
            exact = expected[self._measured].astype(np.float64)
            difference = (outputs[self._measured] - exact).reshape(len(outputs[self._measured]), -1)
            self._squares = self._squares + np.einsum("ti,ti->t", difference, difference)
            self._reference_squares += float((exact**2).sum())

    def _run_ann(self, batch: Batch, outputs: Mapping[str, Array]) -> dict[str, Array]:
        """The same outputs of the ANN, [N, …]."""
        assert self._ann is not None
        try:
            results = self._ann.run(list(outputs), shown_to_ann(batch, self._record))
        except Exception as error:  # onnxruntime's exceptions have no common base
            raise DataError(
                f"the reference cannot be run on the data ({' '.join(str(error).split())}); "
                "give the model that the spiking network was converted from"
            ) from error
        expected = dict(zip(outputs, results, strict=True))
        for name, values in expected.items():
            if values.shape != outputs[name].shape[1:]:
                raise DataError(
                    f"the reference's output '{name}' has the shape {list(values.shape)}, the "
                    f"spiking network's {list(outputs[name].shape[1:])}; give the model it was "
                    "converted from"
                )
        return expected

    def _run(self, batch: Batch) -> dict[str, Array]:
        """The outputs to be compared after each step, [T, N, …]."""
        sequences = self._record.sequences
        timesteps = self._length(batch.feeds)
        self._stream.reset()
        parts: list[dict[str, Array]] = []
        for feeds, steps in blocks_of_steps(batch, self._record, timesteps):
            results = self._stream.run(feeds, None if sequences else steps)
            parts.append({name: results[name] for name in self._compared(results)})
            rates = np.array([float(results[name]) for name in self._names])
            self._rates += rates * len(batch) * steps / timesteps
        if self._record.silent:
            self._silent = self._silent is not False and bool(results[self._record.silent])
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _compared(self, results: Mapping[str, Array]) -> set[str]:
        """Names of the outputs to be compared, one or two; the same in every run."""
        outputs = [(name, results[name]) for name in self._outputs]
        self._measured = next((n for n, values in outputs if values.dtype.kind == "f"), None)
        self._classified = next((n for n, v in outputs if _classes(v) is not None), None)
        return {name for name in (self._measured, self._classified) if name is not None}

    def _length(self, feeds: Mapping[str, Array]) -> int:
        lengths = {feeds[name].shape[1] for name in self._record.sequences}
        if self._timesteps is None:
            self._timesteps = next(iter(lengths))
        if any(length < self._timesteps for length in lengths):
            raise DataError(
                f"the sequences have {min(lengths)} steps, but {self._timesteps} are asked for"
            )
        return self._timesteps

    def result(self) -> Evaluation:
        assert self._timesteps is not None, "a data set yields at least one batch"

        def shares(counts: Array | int) -> list[float] | None:
            if isinstance(counts, int):
                return None
            return [float(share) for share in counts / self._samples]

        error = None
        if not isinstance(self._squares, float):
            ratio = self._squares / (self._reference_squares or 1.0)
            error = [float(value) for value in np.sqrt(ratio)]
        accuracy = shares(self._correct) if self._has_labels else None
        agreement = shares(self._same)
        has_both = accuracy is not None and agreement is not None
        return Evaluation(
            samples=self._samples,
            timesteps=self._timesteps,
            firing_rates=dict(
                zip(self._names.values(), (self._rates / self._samples).tolist(), strict=True)
            ),
            accuracy=accuracy,
            agreement=agreement,
            output_error=error,
            ann_accuracy=self._ann_correct / self._samples if has_both else None,
            silent=self._silent,
        )


def _numbers(labels: Array | None) -> Array | None:
    """Labels that can be compared with classes; names and others cannot."""
    return labels if labels is not None and labels.dtype.kind in "biuf" else None


def _classes(outputs: Array) -> Array | None:
    """The class of each sample, from scores [T, N, classes] or integer labels [T, N]."""
    if outputs.ndim == 2 and outputs.dtype.kind in "iu":
        return outputs
    if outputs.ndim == 3 and outputs.shape[2] > 1 and outputs.dtype.kind == "f":
        classes: Array = outputs.argmax(axis=2)
        return classes
    return None


def _ann_session(ann: onnx.ModelProto) -> Any:
    return open_session(ann, session_options(), ["CPUExecutionProvider"])


def session_options() -> Any:
    """Of sessions that see batches of different sizes."""
    options = onnxruntime().SessionOptions()
    options.log_severity_level = 3
    options.enable_mem_pattern = False  # a pattern takes a block of its own for every shape of run
    return options


def _add_firing_rates(model: onnx.ModelProto) -> dict[str, str]:
    """Add the mean of every neuron's spikes as an output: output name → node name."""
    neurons = [n for n in model.graph.node if n.domain == DOMAIN and n.op_type in FIRING]
    names = {}
    for index, node in enumerate(neurons):
        name = f"onnx_snn/firing_rate/{index}"
        size = helper.make_node("Abs", [node.output[0]], [f"{name}/size"])
        cast = helper.make_node("Cast", [f"{name}/size"], [f"{name}/float"], to=TensorProto.FLOAT)
        mean = helper.make_node("ReduceMean", [f"{name}/float"], [name], keepdims=0)
        model.graph.node.extend([size, cast, mean])
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, []))
        names[name] = node.name
    return names
