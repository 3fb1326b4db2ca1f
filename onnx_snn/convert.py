"""Convert: all passes in order, from a trained network to a spiking one."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import version
from typing import Any

import onnx
import onnx_graphsurgeon as gs

from onnx_snn.analyse import Analysis, analyse
from onnx_snn.calibrate import ActivationStats, calibrate, spiking_nodes
from onnx_snn.compute import graded_share, operations
from onnx_snn.data import Dataset, ImagePreprocessing, first_samples, input_specs
from onnx_snn.errors import CalibrationError, OptionError
from onnx_snn.evaluate import Evaluation, measure, repeated
from onnx_snn.export import THRESHOLDS_KEY, export
from onnx_snn.holdout import HoldOut
from onnx_snn.load import load_graph
from onnx_snn.model_io import ModelSource, model_hash, read_model, write_model
from onnx_snn.neuron import Neuron
from onnx_snn.options import parse_choice
from onnx_snn.passes.average_max_pools import average_max_pools
from onnx_snn.passes.fold_batch_normalization import fold_batch_normalization
from onnx_snn.passes.normalise import normalise
from onnx_snn.passes.put_on_schedule import put_on_schedule
from onnx_snn.passes.rewrite_activations import rewrite_activations
from onnx_snn.passes.spike import spike
from onnx_snn.probe import channels_of
from onnx_snn.progress import progress_bar
from onnx_snn.report import ConversionReport, LayerReport
from onnx_snn.scale import Scale
from onnx_snn.schedule import Readout, Schedule, ScheduleOptions
from onnx_snn.spiking_graph import InputCoding
from onnx_snn.thresholds import Granularity, Mode, Threshold, thresholds

_CHECK = 3 * 10**10
"""Operations that checking the result may take, if a quarter of those of calibration are fewer."""


class MaxPool(StrEnum):
    """What becomes of maximum pooling."""

    EXACT = "exact"
    AVERAGE = "average"


@dataclass(frozen=True)
class Conversion:
    """A converted network.

    Attributes:
        model: the spiking network, self-contained.
        report: what was done, and how the result fires.
        stats: the calibration statistics, for another conversion without data.
    """

    model: onnx.ModelProto
    report: ConversionReport
    stats: ActivationStats

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a file, whole or not at all.

        Raises:
            OutputError: ``path`` cannot be written.
        """
        write_model(self.model, path)


def convert(
    model: ModelSource,
    calibration_data: Any = None,
    *,
    mode: str | float = "99.9%",
    timesteps: int = 32,
    neuron: str = "if",
    v_init: float = 0.5,
    reset: str = "subtract",
    granularity: str = "layer",
    schedule: str = "layer",
    block: int = 1,
    readout: str = "mean",
    input_coding: str = "constant",
    batch_reduction: str = "exact",
    batch_size: int = 64,
    holdout: float = 0.1,
    stats: ActivationStats | None = None,
    preprocessing: ImagePreprocessing | None = None,
    max_pool: str = "exact",
    strict: bool = False,
) -> Conversion:
    """Rewrite a trained network into a spiking one. No retraining; the weights are rescaled.

    Args:
        model: path, bytes or ``ModelProto`` of the trained network.
        calibration_data: a few hundred samples like those of the task; see ``Dataset``.
        mode: threshold rule: ``"max"``, a percentile such as ``"99.9%"``, or a factor of the
            maximum in (0, 1].
        timesteps: default number of time steps T; can be changed for each run.
        neuron: ``"if"`` (spikes 0 and 1), ``"signed"`` (−1 too, which takes a spike back) or
            ``"burst(m)"`` (up to m spikes in a step); see ``onnx_snn.neuron``.
        v_init: membrane before the first step, in units of the threshold. 0.5 halves the
            rounding error of the rate; 0 is the classic choice.
        reset: ``"subtract"`` (soft reset: unbiased) or ``"zero"`` (hard reset).
        granularity: one threshold per ``"layer"`` or per ``"channel"``.
        schedule: ``"layer"``, ``"loop"`` or ``"step"``; see ``onnx_snn.schedule``.
        block: steps evaluated together in ``"loop"``.
        readout: ``"mean"`` over T, or the ``"running"`` mean at every step, [T, N, …].
        input_coding: ``"constant"`` images [N, …], or a ``"sequence"`` [T, N, …].
        batch_reduction: ``"exact"``, or SpikingJelly's moving average ``"ema"``.
        batch_size: samples per run of calibration, where the data does not come in batches.
        holdout: fraction of the calibration samples (of up to 256 samples) that take no part
            in it and on which the result is checked; 0: all calibrate. A large network
            is checked on fewer, or not at all where the check would take as long as calibration;
            ``evaluate`` does it then.
        stats: statistics of an earlier calibration of this model, instead of data.
        preprocessing: for a folder of images.
        max_pool: ``"exact"`` maxima of the spikes so far, or ``"average"``: pooled by averages
            instead, which is cheaper but another function.
        strict: refuse a network of which a part would stay graded, not spiking.

    Returns:
        The spiking network and a report.

    Raises:
        OnnxSnnError: see ``onnx_snn.errors``; nothing is converted halfway.
    """
    rule = Mode.parse(mode)
    options = ScheduleOptions(
        schedule=parse_choice(Schedule, schedule, "schedule"),
        readout=parse_choice(Readout, readout, "readout"),
        timesteps=timesteps,
        block=block,
    )
    coding: InputCoding = parse_choice(InputCoding, input_coding, "input_coding")
    grain: Granularity = parse_choice(Granularity, granularity, "granularity")
    pooling: MaxPool = parse_choice(MaxPool, max_pool, "max_pool")
    kind = Neuron.parse(neuron, v_init, reset)
    source = read_model(model)

    graph = load_graph(source)
    analysis = analyse(graph)
    analysis.raise_if_refused(strict)
    share = graded_share(graph, analysis)
    work = sum(operations(node) for node in graph.nodes)
    ann = gs.export_onnx(graph)
    if pooling is MaxPool.AVERAGE:
        average_max_pools(graph)
    rewrite_activations(graph)
    fold_batch_normalization(graph)

    aside: HoldOut | None = None
    if stats is None:
        data = Dataset(
            _given(calibration_data), input_specs(ann), batch_size, preprocessing=preprocessing
        )
        aside = HoldOut(data, holdout)
        with progress_bar("calibrating", data.size) as advance:
            stats = calibrate(
                graph,
                aside,
                percentiles=rule.percentiles,
                batch_reduction=batch_reduction,
                progress=advance,
            )
    _check_stats(graph, stats)

    names = {node.outputs[0].name: node.name for node in spiking_nodes(graph)}
    ops = {node.name: node.op for node in spiking_nodes(graph)}
    limits = thresholds(stats, rule, grain)
    scales = normalise(graph, analyse(graph), limits)
    network = spike(graph, analyse(graph), kind, coding)
    record = put_on_schedule(network, options)
    lambdas = {names[tensor]: scale for tensor, scale in scales.items()}
    snn = export(network.graph, record, _metadata(source, rule, grain, lambdas))

    validation = None
    if aside is not None:
        allowed = max(_CHECK, work * stats.samples // 4)
        affordable = first_samples(aside.validation, allowed // (work * timesteps + 1))
        samples = [repeated(batch, record) for batch in affordable if len(batch)]
        validation = measure(snn, samples, ann=ann) if samples else None
    report = _report(
        analysis,
        share,
        ops,
        names,
        scales,
        limits,
        stats,
        options,
        validation,
        bool(aside and aside.held_out),
    )
    return Conversion(snn, report, stats)


def _given(data: Any) -> Any:
    if data is None:
        raise OptionError(
            "calibration data is missing; give a few hundred samples, or the statistics of an "
            "earlier calibration"
        )
    return data


def _check_stats(graph: gs.Graph, stats: ActivationStats) -> None:
    tensors = {node.outputs[0].name: node.outputs[0] for node in spiking_nodes(graph)}
    differing = tensors.keys() ^ stats.tensors.keys() or {
        name
        for name, tensor in tensors.items()
        if len(stats.tensors[name].channel_max) not in (0, channels_of(tensor))
    }
    if differing:
        raise CalibrationError(
            f"the calibration statistics are of another model ('{min(differing)}' differs); "
            "calibrate this one"
        )


def _metadata(
    source: onnx.ModelProto, mode: Mode, granularity: Granularity, lambdas: Mapping[str, Scale]
) -> dict[str, str]:
    """What a converted file says about itself; the source's own entries are kept."""
    return {
        **{entry.key: entry.value for entry in source.metadata_props},
        "onnx_snn.version": version("onnx-snn"),
        "onnx_snn.versions": json.dumps(
            {name: version(name) for name in ("numpy", "onnx", "onnx-graphsurgeon")}
        ),
        "onnx_snn.source_sha256": model_hash(source),
        "onnx_snn.mode": str(mode),
        "onnx_snn.granularity": granularity.value,
        THRESHOLDS_KEY: json.dumps(
            {name: scale.values.tolist() for name, scale in lambdas.items()}
        ),
    }


def _report(
    analysis: Analysis,
    share: float,
    ops: Mapping[str, str],
    names: Mapping[str, str],
    scales: Mapping[str, Scale],
    limits: Mapping[str, Threshold],
    stats: ActivationStats,
    options: ScheduleOptions,
    validation: Evaluation | None,
    held_out: bool,
) -> ConversionReport:
    rates = validation.firing_rates if validation else {}
    layers = [
        LayerReport(name, ops[name], scales[tensor], limits[tensor].is_dead, rates.get(name))
        for tensor, name in names.items()
    ]
    return ConversionReport(
        verdicts=analysis.verdicts,
        layers=layers,
        graded_share=share,
        calibration_samples=stats.samples,
        timesteps=options.timesteps,
        validation_samples=validation.samples if validation else 0,
        held_out=held_out,
        agreement=_last(validation.agreement) if validation else None,
        output_error=_last(validation.output_error) if validation else None,
    )


def _last(values: Sequence[float] | None) -> float | None:
    return None if values is None else values[-1]
