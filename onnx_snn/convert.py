"""Convert: all passes in order, from a trained network to a spiking one."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from importlib.metadata import version
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from onnx_snn.activation_stats import ActivationStats
from onnx_snn.analyse import analyse
from onnx_snn.calibrate import calibrate
from onnx_snn.calibrate_biases import calibrate_biases
from onnx_snn.choose import Choice, candidates, cheapest
from onnx_snn.coding import Coding, InputCoding
from onnx_snn.compute import graded_share, operations
from onnx_snn.data import Batch, Dataset, ImagePreprocessing, first_samples, input_specs
from onnx_snn.errors import CalibrationError, OptionError
from onnx_snn.evaluate import Evaluation, measure, repeated
from onnx_snn.explain import LayerError, layer_errors
from onnx_snn.export import THRESHOLDS_KEY, export
from onnx_snn.holdout import HoldOut
from onnx_snn.load import load_graph
from onnx_snn.model_io import ModelSource, model_hash, read_model, write_model
from onnx_snn.options import parse_choice
from onnx_snn.passes.average_max_pools import average_max_pools
from onnx_snn.passes.fold_batch_normalization import fold_batch_normalization
from onnx_snn.passes.normalise import normalise
from onnx_snn.passes.put_on_schedule import put_on_schedule
from onnx_snn.passes.rewrite_activations import rewrite_activations
from onnx_snn.passes.round_to_grid import round_to_grid
from onnx_snn.passes.round_weights import round_weights
from onnx_snn.passes.spike import spike
from onnx_snn.passes.to_half import to_half
from onnx_snn.plan import Plan, all_steps
from onnx_snn.precision import Precision
from onnx_snn.presets import settings
from onnx_snn.probe import channels_of
from onnx_snn.progress import progress_bar
from onnx_snn.report import ConversionReport, LayerReport
from onnx_snn.reschedule import reschedule
from onnx_snn.schedule import Readout, Schedule, ScheduleOptions, ScheduleRecord
from onnx_snn.spiking_activations import activation_bound, spiking_nodes
from onnx_snn.target import Target
from onnx_snn.thresholds import Rule, thresholds

_CHECK = 3 * 10**10
"""Operations that checking the result may take, if a quarter of those of calibration are fewer."""

_BIAS_WORK = 10**12
"""Operations of the spiking network that calibrating biases may take without being asked for."""
_BIAS_SAMPLES = 1024
_FEW_SAMPLES = 32
"""Biases are calibrated on at most, and without being asked for at least, so many samples."""

_EXPLAINED, _FEW_EXPLAINED = 32, 8
"""The errors of each layer are told by their causes on at most and at least so many samples."""


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
    preset: str | None = None,
    timesteps: int | None = None,
    max_loss: float | None = None,
    mode: str | float | None = None,
    neuron: str | None = None,
    coding: str | None = None,
    drain_steps: int | None = None,
    v_init: float | None = None,
    reset: str | None = None,
    granularity: str | None = None,
    bias_calibration: bool | None = None,
    exact_sums: bool | None = None,
    readout_weights: str | None = None,
    schedule: str = "layer",
    block: int = 1,
    readout: str = "mean",
    input_coding: str = "constant",
    batch_reduction: str | None = None,
    batch_size: int = 64,
    holdout: float = 0.1,
    stats: ActivationStats | None = None,
    preprocessing: ImagePreprocessing | None = None,
    max_pool: str = "exact",
    strict: bool = False,
    target: str = "any",
    weight_bits: int | None = None,
    precision: str = "model",
) -> Conversion:
    """Rewrite a trained network into a spiking one. No retraining; the weights are rescaled.

    Args:
        model: path, bytes or ``ModelProto`` of the trained network.
        calibration_data: a few hundred samples like those of the task; see ``Dataset``.
        preset: ``"default"``, ``"binary"``, ``"classic"``, ``"lossless"`` or ``"radix"``; see
            ``onnx_snn.presets``. The settings that are None below are the preset's.
        timesteps: default number of time steps T; can be changed for each run. None: 32, or
            what ``max_loss`` asks for.
        max_loss: points in percent that may be lost against the ANN on the samples held out: of
            accuracy where the data has labels, else of agreement. The preset (if none is given)
            and T (if none is given) with the fewest spikes within this bound are taken.
        mode: threshold rule: ``"max"``, a percentile such as ``"99.9%"``, a factor of the
            maximum in (0, 1], ``"mse"`` (least squared error at T) or ``"ltb"``.
        neuron: ``"if"`` (spikes 0 and 1), ``"signed"`` (−1 too, which takes a spike back) or
            ``"burst(m)"`` (up to m spikes in a step); see ``onnx_snn.neuron``.
        coding: how T steps carry a number: ``"rate"``, ``"drain"``, ``"two_phase"`` or
            ``"radix"``; see ``onnx_snn.coding``.
        drain_steps: for drain, how many steps the network may run on after the T steps of the
            input until it is silent; None: 4·T.
        v_init: membrane before the first step, in units of the threshold. 0.5 halves the
            rounding error of the rate; 0 is the classic choice.
        reset: ``"subtract"`` (soft reset: unbiased) or ``"zero"`` (hard reset).
        granularity: one threshold per ``"layer"`` or per ``"channel"``, or ``"auto"``: for each
            layer what did better on samples held out.
        bias_calibration: correct biases layer by layer until the mean rate of each channel is
            the ANN's mean activation. Where it is the preset's, large networks (whose spiking
            runs over a few samples take longer than a minute or so) are left as they are.
        exact_sums: round weights to multiples of a power of two, so that no sum depends on the
            order of its terms and counts are the quantised ANN's bit for bit, where that costs
            next to no accuracy; ``report.exact`` tells whether. Not for coding rate.
        readout_weights: what the steps count in a readout: ``"even"``, or ``"ramp"``: the first
            ones less; see ``onnx_snn.time_weights``. For coding rate and constant images.
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
        target: ``"any"``, ``"cpu"``: layers that only touch active inputs, so that time falls
            with the firing rate, or ``"cuda"``: fewer passes over memory; see
            ``onnx_snn.target``.
        weight_bits: round the weights between spikes to integers of so many bits (8 or 16) times a
            power of two for each output, which ``target="cpu"`` runs faster; None: leave them.
        precision: ``"model"``: the type of the trained network, or ``"fp16"``: weights, currents
            and spikes in half precision, for a GPU; inputs and outputs keep their type.

    Returns:
        The spiking network and a report.

    Raises:
        OnnxSnnError: see ``onnx_snn.errors``; nothing is converted halfway.
    """
    shown: InputCoding = parse_choice(InputCoding, input_coding, "input_coding")
    pooling: MaxPool = parse_choice(MaxPool, max_pool, "max_pool")
    aim: Target = parse_choice(Target, target, "target")
    numbers: Precision = parse_choice(Precision, precision, "precision")
    if aim is Target.CPU and numbers is Precision.FP16:
        raise OptionError("target 'cpu' reads events of float32 networks; leave precision out")
    plans = []
    for name, steps in candidates(preset, timesteps, coding, searches=max_loss is not None):
        chosen = settings(
            name,
            shown,
            mode=mode,
            neuron=neuron,
            coding=coding,
            v_init=v_init,
            reset=reset,
            granularity=granularity,
            batch_reduction=batch_reduction,
            bias_calibration=bias_calibration,
            exact_sums=exact_sums,
            readout_weights=readout_weights,
        )
        options = ScheduleOptions(
            schedule=parse_choice(Schedule, schedule, "schedule"),
            readout=parse_choice(Readout, readout, "readout"),
            timesteps=all_steps(chosen.coding, steps, drain_steps),
            block=block,
        )
        plans.append(Plan(name, chosen, steps, shown, options, weight_bits, numbers))
    if max_loss is not None and stats is not None:
        raise OptionError("max_loss is judged on calibration data; give them instead of stats")

    network = _Network(read_model(model), pooling, strict)
    samples: HoldOut | None = None
    if stats is None:
        given, specs = _given(calibration_data), input_specs(network.ann)
        data = Dataset(given, specs, batch_size, preprocessing=preprocessing)
        samples = HoldOut(data, holdout)
        stats = network.calibrate(samples, plans)
    if max_loss is None:
        result = network.convert(plans[0], stats, samples)
    else:
        result = _choose(network, plans, stats, samples, max_loss)
    if aim is not Target.ANY:
        result = replace(result, model=reschedule(result.model, target=aim))
    return result


def _choose(
    network: _Network,
    plans: Sequence[Plan],
    stats: ActivationStats,
    samples: HoldOut | None,
    max_loss: float,
) -> Conversion:
    """Convert in all ways, and take the cheapest within the bound."""
    choices, results = [], []
    with progress_bar("choosing T", len(plans)) as advance:
        for plan in plans:
            results.append(network.convert(plan, stats, samples, is_checked=True))
            choices.append(_choice(plan, results[-1].report))
            advance(1)
    best = cheapest(choices, max_loss)
    choices[best] = replace(choices[best], is_chosen=True)
    report = replace(results[best].report, choices=choices)
    return replace(results[best], report=report)


def _choice(plan: Plan, report: ConversionReport) -> Choice:
    if report.loss is None or report.spikes_per_neuron is None:
        raise OptionError("max_loss needs a network that tells classes; choose T by evaluate")
    return Choice(
        plan.preset, plan.timesteps, report.latency, report.spikes_per_neuron, report.loss
    )


class _Network:
    """A trained network, ready to be converted in one or more ways.

    Args:
        source: the model.
        pooling: what becomes of maximum pooling.
        strict: whether to refuse what would stay graded.
    """

    def __init__(self, source: onnx.ModelProto, pooling: MaxPool, strict: bool) -> None:
        self.source = source
        graph = load_graph(source)
        self._analysis = analyse(graph)
        self._analysis.raise_if_refused(strict)
        self._graded_share = graded_share(graph, self._analysis)
        self._work = sum(operations(node) for node in graph.nodes)
        self.ann = gs.export_onnx(graph)
        if pooling is MaxPool.AVERAGE:
            average_max_pools(graph)
        rewrite_activations(graph)
        fold_batch_normalization(graph)
        self._graph = graph
        self._neurons = {node.outputs[0].name: node for node in spiking_nodes(graph)}

    def calibrate(self, samples: HoldOut, plans: Sequence[Plan]) -> ActivationStats:
        """What all plans need to know about the activations."""
        modes = [plan.settings.mode for plan in plans]
        levels = {n for plan in plans for n in plan.settings.fitted_levels(plan.timesteps)}
        with progress_bar("calibrating", samples.size) as advance:
            return calibrate(
                self._graph,
                samples,
                percentiles=sorted({p for mode in modes for p in mode.percentiles}),
                batch_reduction=plans[0].settings.batch_reduction,
                levels=sorted(levels),
                ltb=any(mode.rule is Rule.LTB for mode in modes),
                progress=advance,
            )

    def convert(
        self,
        plan: Plan,
        stats: ActivationStats,
        samples: HoldOut | None,
        *,
        is_checked: bool = False,
    ) -> Conversion:
        """From the folded graph to the spiking network, and a report.

        Args:
            plan: how.
            stats: of this network's activations.
            samples: to check the result on, as far as that does not take too long.
            is_checked: whether to check it however long it takes.
        """
        self._check(stats)
        chosen, graph = plan.settings, self._graph.copy()
        levels = chosen.levels(plan.timesteps)
        bounds = {tensor: activation_bound(node) for tensor, node in self._neurons.items()}
        limits = thresholds(stats, chosen.mode, chosen.granularity, levels, bounds)
        scales = normalise(graph, analyse(graph), limits)
        ann = graph.copy()
        network = spike(
            graph,
            analyse(graph),
            chosen.neuron,
            plan.input_coding,
            chosen.coding,
            plan.window,
        )
        network.ramp = plan.ramp(len(scales))
        if plan.weight_bits is not None:  # ahead of biases, which make up for some of it
            round_weights(network, plan.weight_bits)
        count = min(self._calibrating_samples(plan, samples), stats.samples)
        if count:
            with progress_bar("calibrating biases", len(self._neurons)) as advance:
                steps = plan.schedule.timesteps
                calibrate_biases(
                    network, ann, samples or [], steps, samples=count, progress=advance
                )
        if plan.precision is Precision.FP16:
            to_half(network)
        exact = None
        if chosen.exact_sums:
            most = chosen.coding.levels(plan.timesteps, chosen.neuron.spike_max)
            exact = round_to_grid(network, most, chosen.coding.levels(plan.timesteps))
        record = put_on_schedule(network, plan.schedule)
        names = {tensor: node.name for tensor, node in self._neurons.items()}
        lambdas = {names[tensor]: scale.values.tolist() for tensor, scale in scales.items()}
        snn = export(network.graph, record, self._metadata(plan, lambdas))
        shown = self._shown(record, stats, samples, is_checked)
        found = measure(snn, shown, ann=self.ann) if shown else Evaluation(0, record.timesteps, {})
        is_rate = chosen.coding is Coding.RATE and not is_checked
        layers = [
            LayerReport(
                names[tensor],
                self._neurons[tensor].op,
                scale,
                limits[tensor].is_dead,
                found.firing_rates.get(names[tensor]),
                _size(self._neurons[tensor].outputs[0]),
            )
            for tensor, scale in scales.items()
        ]
        report = ConversionReport(
            verdicts=self._analysis.verdicts,
            layers=layers,
            graded_share=self._graded_share,
            calibration_samples=stats.samples,
            preset=plan.preset,
            mode=str(chosen.mode),
            bias_samples=count,
            timesteps=plan.schedule.timesteps,
            latency=plan.latency(len(layers)),
            validation_samples=found.samples,
            held_out=bool(samples and samples.held_out),
            agreement=_last(found.agreement),
            accuracy=_last(found.accuracy),
            ann_accuracy=found.ann_accuracy,
            output_error=_last(found.output_error),
            silent=found.silent,
            exact=exact,
            weight_bits=plan.weight_bits,
            errors=self._explained(snn, shown) if shown and is_rate else [],
        )
        return Conversion(snn, report, stats)

    def _calibrating_samples(self, plan: Plan, samples: HoldOut | None) -> int:
        """On how many samples to calibrate biases; 0: not at all."""
        asked = plan.settings.bias_calibration
        is_possible = samples is not None and samples.is_repeatable
        if asked and not is_possible:
            raise OptionError(
                "bias calibration needs calibration data that can be iterated once more; give an "
                "array or a list, and not only statistics"
            )
        if asked is not None:
            return _BIAS_SAMPLES if asked else 0
        if not is_possible or plan.input_coding is InputCoding.SEQUENCE:
            return 0
        affordable = _BIAS_WORK // (self._work * plan.schedule.timesteps + 1)
        return min(_BIAS_SAMPLES, affordable) if affordable >= _FEW_SAMPLES else 0

    def _check(self, stats: ActivationStats) -> None:
        differing = self._neurons.keys() ^ stats.tensors.keys() or {
            name
            for name, node in self._neurons.items()
            if len(stats.tensors[name].channel_max) not in (0, channels_of(node.outputs[0]))
        }
        if differing:
            raise CalibrationError(
                f"the calibration statistics are of another model ('{min(differing)}' differs); "
                "calibrate this one"
            )

    def _shown(
        self,
        record: ScheduleRecord,
        stats: ActivationStats,
        samples: HoldOut | None,
        is_checked: bool,
    ) -> list[Batch]:
        """The samples that the result is checked on, as the network takes them."""
        aside = samples.validation if samples else []
        if not is_checked:
            allowed = max(_CHECK, self._work * stats.samples // 4)
            aside = list(first_samples(aside, allowed // (self._work * record.timesteps + 1)))
        return [repeated(batch, record) for batch in aside if len(batch)]

    def _explained(self, snn: onnx.ModelProto, shown: Sequence[Batch]) -> list[LayerError]:
        """Where each layer's rates go wrong, on a few samples."""
        few = list(first_samples(shown, _EXPLAINED))
        return layer_errors(snn, self._graph, few) if sum(map(len, few)) >= _FEW_EXPLAINED else []

    def _metadata(self, plan: Plan, lambdas: Mapping[str, Any]) -> dict[str, str]:
        """What a converted file says about itself; the source's own entries are kept."""
        return {
            **{entry.key: entry.value for entry in self.source.metadata_props},
            "onnx_snn.version": version("onnx-snn"),
            "onnx_snn.versions": json.dumps(
                {name: version(name) for name in ("numpy", "onnx", "onnx-graphsurgeon")}
            ),
            "onnx_snn.source_sha256": model_hash(self.source),
            "onnx_snn.preset": plan.preset,
            "onnx_snn.mode": str(plan.settings.mode),
            "onnx_snn.granularity": plan.settings.granularity.value,
            THRESHOLDS_KEY: json.dumps(lambdas),
        }


def _given(data: Any) -> Any:
    if data is None:
        raise OptionError(
            "calibration data is missing; give a few hundred samples, or the statistics of an "
            "earlier calibration"
        )
    return data


def _size(tensor: gs.Variable) -> int | None:
    """Number of neurons, where it does not depend on the input's."""
    sizes = tensor.shape[1:]
    if not all(isinstance(size, int) for size in sizes):
        return None
    return int(np.prod(sizes, dtype=np.int64))


def _last(values: Sequence[float] | None) -> float | None:
    return None if values is None else values[-1]
