"""Calibrate: run the folded network over data and keep statistics of every activation.

One pass over the data (two, where a quantile needs it; more for ``ltb``), in memory that does not
grow with it. Maxima and quantiles are those of all values, whatever the batch size and the order of
the samples. The thresholds of ``mse`` come from a sample of the values, those of ``ltb`` from a
process that depends on the order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import onnx_graphsurgeon as gs

from onnx_snn.activation_stats import ActivationStats, BatchReduction
from onnx_snn.data import Batch, Dataset
from onnx_snn.errors import CalibrationError, DataError, OptionError
from onnx_snn.exact_statistics import ExactStatistics, exact_statistics
from onnx_snn.holdout import HoldOut
from onnx_snn.local_threshold_balancing import LocalThresholdBalancing
from onnx_snn.moving_average import MovingAverage
from onnx_snn.options import check_positive, parse_choice
from onnx_snn.probe import Observed, Places, Probe, ValueProbe, make_probe, sample
from onnx_snn.quantisation_error import QuantisationError
from onnx_snn.sampled_values import SampledValues
from onnx_snn.spiking_activations import spiking_nodes
from onnx_snn.watched_data import WatchedData, with_balanced

_FIRST_LOOK = 2  # samples that place the first floor
_FIRST_BATCH = 16  # samples after which it is looked at again
_MARGIN = 1.5  # see TailHistogram
_WIDE_MARGIN = 20.0  # where a second pass is impossible


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
    sampled = [SampledValues(node) for node in nodes] if levels else []
    seen = WatchedData(data, balancing)
    if reduction is BatchReduction.EMA:
        averages = [MovingAverage(node, percentiles) for node in nodes]
        samples = _average(ValueProbe(graph, tensors), seen, averages, sampled, progress)
        found = [average.stats() for average in averages]
    else:
        margin = _MARGIN if seen.is_repeatable else _WIDE_MARGIN
        exact = [exact_statistics(node, percentiles, margin) for node in nodes]
        probe = make_probe(graph, tensors, is_sampling=bool(levels))
        samples = _gather(probe, seen, exact, sampled, progress)
        found = [collector.stats() for collector in exact]
    if sampled:
        tables = [QuantisationError(count) for count in sorted(set(levels))]
        found = [part.fit(entry, tables) for part, entry in zip(sampled, found, strict=True)]
    if balancing is not None:
        seen.balance()
        parts = zip(found, nodes, balancing.thresholds, strict=True)
        found = [with_balanced(entry, node, *theta) for entry, node, theta in parts]
    entries = dict(zip((tensor.name for tensor in tensors), found, strict=True))
    return ActivationStats(entries, samples, reduction.value)


def _gather(
    probe: Probe,
    data: WatchedData,
    collectors: Sequence[ExactStatistics],
    sampled: Sequence[SampledValues],
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
    collectors: Sequence[ExactStatistics],
    sampled: Sequence[SampledValues],
    progress: Callable[[int], None] | None,
) -> int:
    def observe(batch: Batch, places: Sequence[Places] = ()) -> list[Observed]:
        return probe.observe(batch.feeds, [collector.floor for collector in collectors], places)

    random = np.random.default_rng(0)
    samples = 0
    rises_at_once = all(collector.rises_at_once for collector in collectors)
    for batch in data if rises_at_once else _growing(data):
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
            part.add(observed.samples, observed.rows // size)
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
    averages: Sequence[MovingAverage],
    sampled: Sequence[SampledValues],
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
            part.add([sample(values, part.places(random))], part.features)
        samples += len(batch)
        if progress is not None:
            progress(len(batch))
    return _some(samples)


def _some(samples: int) -> int:
    if samples == 0:
        raise DataError("the calibration data holds no samples; give at least one")
    return samples
