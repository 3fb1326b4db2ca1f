"""Calibrate: run the folded network over data and keep statistics of every activation.

One pass over the data (two, where a quantile needs it; more for ``ltb``), in memory that does not
grow with it. Maxima and quantiles are those of all values, whatever the batch size and the order of
the samples. The thresholds of ``mse`` come from a sample of the values, those of ``ltb`` from a
process that depends on the order.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from math import isfinite
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from onnx_snn.activation_histogram import ActivationHistogram
from onnx_snn.data import Batch, Dataset
from onnx_snn.errors import CalibrationError, DataError, OptionError
from onnx_snn.holdout import HoldOut
from onnx_snn.local_threshold_balancing import STEPS, LocalThresholdBalancing
from onnx_snn.model_io import atomic_path
from onnx_snn.operators import Kind, operator_of
from onnx_snn.operators.neurons import Bounded
from onnx_snn.options import check_positive, parse_choice
from onnx_snn.probe import Observed, Places, Probe, ValueProbe, channels_of, make_probe, sample
from onnx_snn.quantisation_error import QuantisationError
from onnx_snn.tail_histogram import FloorTooHighError, NotFiniteError, TailHistogram


class BatchReduction(StrEnum):
    """How batches are put together: all their values, or SpikingJelly's moving average."""

    EXACT = "exact"
    EMA = "ema"


FORMAT = 1
"""Version of the JSON written by ``ActivationStats.save``."""

EMA_MOMENTUM = 0.9
_EMA_SAMPLE = 1 << 20  # SpikingJelly strides a batch down to this many values
_FIRST_LOOK = 2  # samples that place the first floor
_FIRST_BATCH = 16  # samples after which it is looked at again
_MARGIN = 1.5  # see TailHistogram
_WIDE_MARGIN = 20.0  # where a second pass is impossible

_P = ParamSpec("_P")
_R = TypeVar("_R")


@dataclass(frozen=True)
class TensorStats:
    """Statistics of one activation tensor over all samples.

    Attributes:
        node: the node that computes it.
        max: greatest value.
        channel_max: greatest value per channel, [C]; empty for a tensor without channels.
        quantiles: for each percentile (as text, ``"99.9"``) the quantile of all values.
        channel_quantiles: the same per channel, [C].
        mse: for each number of levels (as text, ``"32"``) the threshold of least mean squared
            error; 0 where no activation was seen. See ``quantisation_error``.
        channel_mse: the same per channel, [C].
        held_out_error: for each number of levels, and for each half of the samples, the mean
            squared error on that half of thresholds fitted to the other: [of one threshold for
            the layer, of one for each channel].
        ltb: the threshold of local threshold balancing; None where it was not asked for.
        channel_ltb: the same per channel, [C].
        values: number of values of each channel; 0 where it was not counted.
    """

    node: str
    max: float
    channel_max: list[float]
    quantiles: dict[str, float] = field(default_factory=dict)
    channel_quantiles: dict[str, list[float]] = field(default_factory=dict)
    mse: dict[str, float] = field(default_factory=dict)
    channel_mse: dict[str, list[float]] = field(default_factory=dict)
    held_out_error: dict[str, list[list[float]]] = field(default_factory=dict)
    ltb: float | None = None
    channel_ltb: list[float] = field(default_factory=list)
    values: int = 0


@dataclass(frozen=True)
class ActivationStats:
    """What calibration found out: statistics by tensor name, and what they were made from.

    Attributes:
        tensors: statistics of each spiking activation, by the name of its tensor.
        samples: number of samples seen.
        batch_reduction: ``"exact"``, or ``"ema"`` for SpikingJelly's moving average.
    """

    tensors: dict[str, TensorStats]
    samples: int
    batch_reduction: str = BatchReduction.EXACT

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write as JSON.

        Raises:
            OutputError: ``path`` cannot be written.
        """
        content = {"format": FORMAT, **asdict(self)}
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    @staticmethod
    def load(path: str | os.PathLike[str]) -> ActivationStats:
        """Read what ``save`` wrote.

        Raises:
            CalibrationError: no such file, or not such a file.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise ValueError("unknown format")
            return ActivationStats(
                {name: _tensor_stats(entry) for name, entry in content["tensors"].items()},
                int(content["samples"]),
                BatchReduction(content["batch_reduction"]).value,
            )
        except OSError as error:
            raise CalibrationError(f"{path}: cannot be read ({error.strerror})") from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise CalibrationError(
                f"{path}: is not a file of calibration statistics; "
                "write one with ActivationStats.save or --save-stats"
            ) from error


def _tensor_stats(entry: Mapping[str, Any]) -> TensorStats:
    """An entry of the JSON file; any damage raises one of Python's own errors."""
    stats = TensorStats(**entry)
    channels = [
        stats.channel_max,
        *stats.channel_quantiles.values(),
        *stats.channel_mse.values(),
        *([] if stats.ltb is None else [stats.channel_ltb]),
    ]
    layer = [stats.max, *stats.quantiles.values(), *stats.mse.values()]
    errors = [pair for pairs in stats.held_out_error.values() for pair in pairs]
    numbers = [layer, [0.0 if stats.ltb is None else stats.ltb], *channels, *errors]
    if not all(isinstance(value, float) and isfinite(value) for few in numbers for value in few):
        raise ValueError("not a number")
    if any(len(pair) != 2 for pair in errors) or type(stats.values) is not int:
        raise ValueError("not all errors are there")
    if len({len(values) for values in channels}) > 1:
        raise ValueError("not all channels are there")
    return stats


def spiking_nodes(graph: gs.Graph) -> list[gs.Node]:
    """The nodes whose activations need statistics, in the order of evaluation."""
    return [node for node in graph.nodes if operator_of(node).kind is Kind.SPIKING]


def activation_bound(node: gs.Node) -> float:
    """What the activations of a spiking node never exceed: b for Clip(x, 0, b), else infinity."""
    operator = operator_of(node)
    return float(np.max(operator.interval(node).high)) if isinstance(operator, Bounded) else np.inf


def percentile_key(percentile: float) -> str:
    """``"99.9"`` for 99.9: short, and no two percentiles alike."""
    return repr(float(percentile)).removesuffix(".0")


def calibrate(
    graph: gs.Graph,
    data: Dataset | HoldOut | Iterable[Batch],
    *,
    percentiles: Sequence[float] = (99.9,),
    batch_reduction: str = BatchReduction.EXACT,
    progress: Callable[[int], None] | None = None,
    levels: Sequence[int] = (),
    ltb: bool = False,
) -> ActivationStats:
    """Gather the statistics of every spiking activation.

    Args:
        graph: a clean, folded graph; not changed.
        data: batches for its inputs; iterated once. It is iterated once more in the rare case
            that the first samples misled the search for a quantile.
        percentiles: quantiles to find besides the maximum, in percent, each in (0, 100].
        batch_reduction: ``"exact"``: statistics of all values. ``"ema"``: the first batch's
            value, then 0.9·old + 0.1·new with each batch, as SpikingJelly does (it depends on
            batch size and order, and is there for comparison).
        progress: called with the number of samples after each batch.
        levels: numbers L of levels, that is of time steps, to find the thresholds of least mean
            squared error for, and what the granularity ``auto`` is decided by.
        ltb: whether to find the thresholds of local threshold balancing. Data that can be
            iterated again are, until it has made ``STEPS`` steps.

    Raises:
        CalibrationError: an activation is NaN or infinite (the node is named), or a second
            pass is needed over data that can be iterated only once.
        DataError: see ``Dataset``.
        OptionError: a percentile outside (0, 100], a number of levels below 1, or an unknown
            reduction.
    """
    for percentile in percentiles:
        if not 0 < percentile <= 100:
            raise OptionError(f"percentile must be in (0, 100], not {percentile:g}")
    for count in levels:
        check_positive(count, "levels")
    reduction: BatchReduction = parse_choice(BatchReduction, batch_reduction, "batch_reduction")
    nodes = spiking_nodes(graph)
    tensors = [node.outputs[0] for node in nodes]
    balancing = LocalThresholdBalancing(graph, tensors) if ltb else None
    sampled = [_Sampled(node) for node in nodes] if levels else []
    seen = _Watched(data, balancing)
    if reduction is BatchReduction.EMA:
        averages = [_MovingAverage(node, percentiles) for node in nodes]
        samples = _average(ValueProbe(graph, tensors), seen, averages, sampled, progress)
        found = [average.stats() for average in averages]
    else:
        margin = _MARGIN if _is_repeatable(data) else _WIDE_MARGIN
        exact = [_Exact(node, percentiles, margin) for node in nodes]
        probe = make_probe(graph, tensors, is_sampling=bool(levels))
        samples = _gather(probe, seen, exact, sampled, progress)
        found = [collector.stats() for collector in exact]
    if sampled:
        tables = [QuantisationError(count) for count in sorted(set(levels))]
        found = [part.fit(entry, tables) for part, entry in zip(sampled, found, strict=True)]
    if balancing is not None:
        _balance(balancing, data)
        pairs = zip(nodes, found, balancing.thresholds, strict=True)
        found = [_balanced(node, entry, *theta) for node, entry, theta in pairs]
    entries = dict(zip((tensor.name for tensor in tensors), found, strict=True))
    return ActivationStats(entries, samples, reduction.value)


class _Watched:
    """The data, which local threshold balancing sees once on their first way through."""

    def __init__(
        self,
        data: Dataset | HoldOut | Iterable[Batch],
        balancing: LocalThresholdBalancing | None,
    ) -> None:
        self._data = data
        self._balancing = balancing
        self.is_repeatable = _is_repeatable(data)

    def __iter__(self) -> Iterator[Batch]:
        balancing, self._balancing = self._balancing, None
        for batch in self._data:
            if balancing is not None:
                balancing.run(batch)
            yield batch


def _balance(balancing: LocalThresholdBalancing, data: Dataset | HoldOut | Iterable[Batch]) -> None:
    """Go through few data again, after the first time."""
    if not _is_repeatable(data):
        return
    while balancing.steps < STEPS:
        before = balancing.steps
        for batch in data:
            if balancing.steps >= STEPS:
                return
            balancing.run(batch)
        if balancing.steps == before:
            return  # data that do not come again after all


def _balanced(
    node: gs.Node, entry: TensorStats, layer: float, channels: npt.NDArray[np.float64]
) -> TensorStats:
    """With thresholds that may have grown past the greatest value, but not past a bound."""
    if not (isfinite(layer) and np.all(np.isfinite(channels))):
        is_nan = np.isnan(layer) or np.any(np.isnan(channels))
        raise _not_finite(node, "NaN" if is_nan else "infinite")
    bound = activation_bound(node)
    listed = [float(value) for value in np.minimum(channels, bound)]
    return replace(entry, ltb=min(layer, bound), channel_ltb=listed if entry.channel_max else [])


def _is_repeatable(data: Dataset | HoldOut | Iterable[Batch]) -> bool:
    if isinstance(data, Dataset | HoldOut):
        return data.is_repeatable
    return not isinstance(data, Iterator)


def _gather(
    probe: Probe,
    data: _Watched,
    collectors: Sequence[_Exact],
    sampled: Sequence[_Sampled],
    progress: Callable[[int], None] | None,
) -> int:
    """Let the collectors see all data, again if one of them missed what it needs."""
    samples = _pass(probe, data, collectors, sampled, progress)
    missed = [collector for collector in collectors if not collector.find_quantiles()]
    if not missed:
        return samples
    if not data.is_repeatable:
        raise CalibrationError(
            "the first batch of the calibration data is very unlike the rest, so that a second "
            "pass is needed, but the data can be iterated only once; shuffle it, or give a list"
        )
    for collector in missed:
        collector.start_again()
    samples = _pass(probe, data, collectors, (), None)
    for collector in missed:
        collector.find_quantiles()
    return samples


def _pass(
    probe: Probe,
    data: Iterable[Batch],
    collectors: Sequence[_Exact],
    sampled: Sequence[_Sampled],
    progress: Callable[[int], None] | None,
) -> int:
    def observe(batch: Batch, places: Sequence[Places] = ()) -> list[Observed]:
        return probe.observe(batch.feeds, [collector.floor for collector in collectors], places)

    random = np.random.default_rng(0)
    samples = 0
    for batch in _growing(data):
        if samples == 0:
            few = batch.take(slice(_FIRST_LOOK))
            first = observe(few)
            for collector, observed in zip(collectors, first, strict=True):
                collector.place_floor(observed, len(few))
            for part, observed in zip(sampled, first, strict=False):
                part.features = observed.rows // len(few)
        size = len(batch)
        seen = observe(batch, [part.places(random) for part in sampled])
        for collector, observed in zip(collectors, seen, strict=True):
            collector.add(observed, size)
        for part, observed in zip(sampled, seen, strict=False):
            part.add(observed.sample, observed.rows // size)
        samples += size
        if progress is not None:
            progress(size)
    return _some(samples)


def _growing(data: Iterable[Batch]) -> Iterator[Batch]:
    """Cut up the first batches, so that the floors rise before they let too much through."""
    samples = 0
    for batch in data:
        size, start = len(batch), 0
        while start < size:
            step = min(max(_FIRST_BATCH, samples), size - start)
            yield batch if step == size else batch.take(slice(start, start + step))
            samples += step
            start += step


def _average(
    probe: ValueProbe,
    data: Iterable[Batch],
    averages: Sequence[_MovingAverage],
    sampled: Sequence[_Sampled],
    progress: Callable[[int], None] | None,
) -> int:
    random = np.random.default_rng(0)
    samples = 0
    for batch in data:
        activations = probe.values(batch.feeds)
        for average, values in zip(averages, activations, strict=True):
            average.add(values)
        for part, values in zip(sampled, activations, strict=False):
            part.features = values.shape[2]
            part.add(sample(values, part.places(random)), part.features)
        samples += len(batch)
        if progress is not None:
            progress(len(batch))
    return _some(samples)


def _some(samples: int) -> int:
    if samples == 0:
        raise DataError("the calibration data holds no samples; give at least one")
    return samples


def _not_finite(node: gs.Node, kind: str) -> CalibrationError:
    return CalibrationError(
        f"the activations of {node.op} node '{node.name}' are {kind} on the calibration data; "
        "check the data's preprocessing and the model's weights"
    )


def _build(
    node: gs.Node,
    greatest: tuple[float, npt.NDArray[Any]],
    quantiles: Mapping[str, tuple[float, npt.NDArray[Any]]],
    values: int,
) -> TensorStats:
    """From statistics of the layer and of its channels."""
    has_channels = channels_of(node.outputs[0]) is not None

    def listed(values: npt.NDArray[Any]) -> list[float]:
        return [float(value) for value in values] if has_channels else []

    return TensorStats(
        node.name,
        float(greatest[0]),
        listed(greatest[1]),
        {key: float(layer) for key, (layer, _) in quantiles.items()},
        {key: listed(channel) for key, (_, channel) in quantiles.items()} if has_channels else {},
        values=values,
    )


def _naming_node(
    method: Callable[Concatenate[_Exact, _P], _R],
) -> Callable[Concatenate[_Exact, _P], _R]:
    """Let a method say whose activations they are that are not finite."""

    def call(self: _Exact, /, *args: _P.args, **options: _P.kwargs) -> _R:
        try:
            return method(self, *args, **options)
        except NotFiniteError as error:
            raise _not_finite(self.node, str(error)) from error

    return call


class _Exact:
    """Statistics of all values of one activation together."""

    def __init__(self, node: gs.Node, percentiles: Sequence[float], margin: float) -> None:
        self.node = node
        self._percentiles = percentiles
        self._histogram = self._new_histogram(margin)
        self._rows = 0
        self._greatest: npt.NDArray[Any] | None = None
        self._quantiles: dict[str, tuple[float, npt.NDArray[Any]]] | None = None

    def _new_histogram(self, margin: float) -> TailHistogram:
        channels = channels_of(self.node.outputs[0]) or 1
        return TailHistogram(channels, min(self._percentiles, default=100) / 100, margin)

    @property
    def floor(self) -> npt.NDArray[np.float32]:
        """Of each channel the number that greater values are needed of."""
        return self._histogram.floor if self._quantiles is None else self._histogram.greatest

    @_naming_node
    def place_floor(self, observed: Observed, samples: int) -> None:
        """Place the floor by a few samples, which are not counted."""
        if self._quantiles is None:
            self._histogram.place_floor(observed.above, observed.rows, samples)

    @_naming_node
    def add(self, observed: Observed, samples: int) -> None:
        if self._quantiles is not None:
            return
        if observed.greatest is not None:
            before = 0 if self._greatest is None else self._greatest
            self._greatest = np.maximum(before, observed.greatest)
        self._rows += observed.rows
        self._histogram.add(observed.above, observed.rows, samples)

    @_naming_node
    def find_quantiles(self) -> bool:
        """Whether the values kept are enough to tell all quantiles."""
        greatest = self.greatest
        found: dict[str, tuple[float, npt.NDArray[Any]]] = {}
        for percentile in self._percentiles:
            q = percentile / 100
            try:
                layer, channel = self._histogram.quantile(q), self._histogram.channel_quantiles(q)
            except FloorTooHighError:
                return False
            # The histogram rounds; the maximum is known exactly.
            if percentile == 100:
                layer, channel = greatest.max(), greatest
            found[percentile_key(percentile)] = (
                min(layer, greatest.max()),
                np.minimum(channel, greatest),
            )
        self._quantiles = found
        return True

    def start_again(self) -> None:
        self._histogram = self._new_histogram(np.inf)
        self._rows = 0

    @property
    def greatest(self) -> npt.NDArray[Any]:
        return self._histogram.greatest if self._greatest is None else self._greatest

    def stats(self) -> TensorStats:
        assert self._quantiles is not None, "the quantiles are found"
        greatest = self.greatest
        return _build(self.node, (greatest.max(), greatest), self._quantiles, self._rows)


class _MovingAverage:
    """Each statistic of the first batch, then 0.9·old + 0.1·new (SpikingJelly 2.0.0, ann2snn)."""

    def __init__(self, node: gs.Node, percentiles: Sequence[float]) -> None:
        self._node = node
        self._percentiles = percentiles
        self._rows = 0
        self._layer: dict[str, np.float32] = {}
        self._channel: dict[str, npt.NDArray[np.float64]] = {}

    def add(self, values: npt.NDArray[Any]) -> None:
        """Average over one more batch, of values [N, C, F]."""
        channels = values.max(axis=(0, 2), initial=0)
        if not np.all(np.isfinite(channels)):
            raise _not_finite(self._node, "NaN" if np.any(np.isnan(channels)) else "infinite")
        self._rows += values.shape[0] * values.shape[2]
        layer = {_MAX: channels.max()}
        channel = {_MAX: channels.astype(np.float64)}
        values = values.astype(np.float32, copy=False)
        by_channel = np.moveaxis(values, 1, 0).reshape(values.shape[1], -1)
        flat = values.reshape(-1)
        flat = flat[:: -(-flat.size // _EMA_SAMPLE)]
        for percentile in self._percentiles:
            key = percentile_key(percentile)
            layer[key] = _quantile(flat, percentile / 100.0)
            channel[key] = _quantile(by_channel, percentile / 100.0).astype(np.float64)
        for key, new in layer.items():
            self._layer[key] = _averaged(self._layer.get(key), np.float32(new))
        for key, after in channel.items():
            before = self._channel.get(key)
            self._channel[key] = (
                after if before is None else EMA_MOMENTUM * before + (1 - EMA_MOMENTUM) * after
            )

    def stats(self) -> TensorStats:
        both = {key: (float(layer), self._channel[key]) for key, layer in self._layer.items()}
        return _build(self._node, both.pop(_MAX), both, self._rows)


_MAX = "max"


class _Sampled:
    """A sample of the values of one activation.

    Attributes:
        features: how many values each channel of a sample has.
    """

    def __init__(self, node: gs.Node) -> None:
        self._histogram = ActivationHistogram(channels_of(node.outputs[0]) or 1)
        self.features = 1

    def places(self, random: np.random.Generator) -> Places:
        """Where to look in the next batch: anywhere in each of P parts of the same size."""
        count = self._histogram.places(self.features)
        places = (np.arange(count) + random.random(count)) / count
        return np.minimum(places, np.nextafter(1.0, 0.0))

    def add(self, values: npt.NDArray[Any] | None, features: int) -> None:
        if values is None:
            raise AssertionError("the probe took no sample")
        self.features = features
        self._histogram.add(values, features)

    def fit(self, entry: TensorStats, tables: Sequence[QuantisationError]) -> TensorStats:
        """The statistics with the thresholds of least error."""
        layer: dict[str, float] = {}
        channels: dict[str, list[float]] = {}
        held_out: dict[str, list[list[float]]] = {}
        for table in tables:
            best, key = table.fit(self._histogram), str(table.levels)
            layer[key] = best.layer
            if entry.channel_max:
                channels[key] = [float(value) for value in best.channels]
                held_out[key] = [list(pair) for pair in best.held_out]
        return replace(entry, mse=layer, channel_mse=channels, held_out_error=held_out)


def _quantile(values: npt.NDArray[np.float32], q: float) -> Any:
    """The quantile along the last axis, its rank rounded to float32 as torch.quantile does."""
    last = values.shape[-1] - 1
    rank = np.float32(q) * np.float32(last)
    low = int(rank)
    high = min(low + 1, last)
    ordered = np.partition(values, (low, high), axis=-1)
    below, above = ordered[..., low], ordered[..., high]
    weight = rank - np.float32(low)
    if weight < 0.5:
        return below + weight * (above - below)
    return above - (above - below) * (1 - weight)


def _averaged(old: np.float32 | None, new: np.float32) -> np.float32:
    """In float32, as the peer keeps it."""
    if old is None:
        return new
    momentum = np.float32(EMA_MOMENTUM)
    return np.float32(momentum * old + np.float32(1 - EMA_MOMENTUM) * new)
