"""``onnx-snn convert``: a trained network in, a spiking one out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

import onnx_snn
from onnx_snn.activation_stats import ActivationStats
from onnx_snn.cli.options import (
    DATA_HELP,
    JsonOption,
    MeanOption,
    ModelArgument,
    SizeOption,
    StdOption,
    TargetOption,
    image_preprocessing,
)
from onnx_snn.cli.tables import console, percent, print_json, scale_text, table
from onnx_snn.errors import OptionError
from onnx_snn.model_io import check_writable
from onnx_snn.report import ConversionReport

_BY_PRESET = "by preset"
_NEURONS = "Thresholds and neurons"
_TIME = "Time"
_CALIBRATION = "Calibration"


def convert(
    model: ModelArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write the network.")],
    calibration: Annotated[
        Path | None,
        typer.Option(
            "--calibration",
            "-c",
            metavar="DATA",
            help=f"A few hundred samples like those of the task: {DATA_HELP}.",
            rich_help_panel=_CALIBRATION,
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            "-p",
            help=(
                "default, binary (spikes 0 and 1), classic (SpikingJelly's recipe), lossless (the "
                "quantised network's integers) or radix (few steps, layer after layer)."
            ),
            show_default="default",
        ),
    ] = None,
    timesteps: Annotated[
        int | None,
        typer.Option(
            "--timesteps",
            "-T",
            help="Default number of time steps; can be changed for each run.",
            show_default="32",
            rich_help_panel=_TIME,
        ),
    ] = None,
    max_loss: Annotated[
        float | None,
        typer.Option(
            help=(
                "Points in percent that may be lost on held-out samples: takes the preset and T "
                "with the fewest spikes within it."
            ),
        ),
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(
            "--mode",
            "-m",
            help=(
                "Threshold rule: mse (least squared error), ltb (local threshold balancing), max, "
                "a percentile of the activations such as 99.9%, or a factor of the maximum such "
                "as 0.5 or 1/3."
            ),
            show_default=_BY_PRESET,
            rich_help_panel=_NEURONS,
        ),
    ] = None,
    neuron: Annotated[
        str | None,
        typer.Option(
            help="if (spikes 0 and 1), signed (also -1) or burst(m) (up to m spikes in a step).",
            show_default=_BY_PRESET,
            rich_help_panel=_NEURONS,
        ),
    ] = None,
    coding: Annotated[
        str | None,
        typer.Option(
            help=(
                "rate; drain: run on without input until silent; two_phase: a layer integrates, "
                "then fires; radix: the same with halving thresholds."
            ),
            show_default=_BY_PRESET,
            rich_help_panel=_TIME,
        ),
    ] = None,
    drain_steps: Annotated[
        int | None,
        typer.Option(
            help="With coding drain, steps that the network may run on.",
            show_default="4 T",
            rich_help_panel=_TIME,
        ),
    ] = None,
    granularity: Annotated[
        str | None,
        typer.Option(
            help="One threshold per layer or per channel, or auto: what held-out samples say.",
            show_default=_BY_PRESET,
            rich_help_panel=_NEURONS,
        ),
    ] = None,
    v_init: Annotated[
        float | None,
        typer.Option(
            help="Membrane before the first step, in units of the threshold.",
            show_default=_BY_PRESET,
            rich_help_panel=_NEURONS,
        ),
    ] = None,
    reset: Annotated[
        str | None,
        typer.Option(
            help="subtract (soft reset, unbiased) or zero (hard reset).",
            show_default=_BY_PRESET,
            rich_help_panel=_NEURONS,
        ),
    ] = None,
    bias_calibration: Annotated[
        bool | None,
        typer.Option(
            "--bias-calibration/--no-bias-calibration",
            help="Correct biases on the calibration data, layer by layer.",
            show_default=_BY_PRESET,
            rich_help_panel=_CALIBRATION,
        ),
    ] = None,
    exact_sums: Annotated[
        bool | None,
        typer.Option(
            "--exact-sums/--no-exact-sums",
            help="Round weights so that counts equal the quantised ANN's bit for bit.",
            show_default=_BY_PRESET,
            rich_help_panel=_NEURONS,
        ),
    ] = None,
    readout_weights: Annotated[
        str | None,
        typer.Option(
            help="What the steps count in a readout: even, or ramp (the first ones less).",
            show_default=_BY_PRESET,
            rich_help_panel=_TIME,
        ),
    ] = None,
    schedule: Annotated[
        str,
        typer.Option(
            help=(
                "layer: all steps at once, the fastest; loop: blocks of steps in one run, memory "
                "bounded; step: one block per run, the caller keeps the membranes."
            ),
            rich_help_panel=_TIME,
        ),
    ] = "layer",
    block: Annotated[
        int, typer.Option(help="Steps evaluated together in loop.", rich_help_panel=_TIME)
    ] = 1,
    readout: Annotated[
        str,
        typer.Option(
            help="mean over T, or running: the mean so far after every step, [T, N, …].",
            rich_help_panel=_TIME,
        ),
    ] = "mean",
    input_coding: Annotated[
        str,
        typer.Option(
            help="constant: the image at every step; sequence: the caller gives [T, N, …].",
            rich_help_panel=_TIME,
        ),
    ] = "constant",
    max_pool: Annotated[
        str,
        typer.Option(
            help="exact maxima of the spikes so far, or average: cheaper, but another function.",
            rich_help_panel=_NEURONS,
        ),
    ] = "exact",
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Refuse a network of which a part would stay graded, not spiking.",
            rich_help_panel=_NEURONS,
        ),
    ] = False,
    target: TargetOption = None,
    weight_bits: Annotated[
        int | None,
        typer.Option(
            help="Round the weights between spikes to 8 or 16 bits; --target cpu is then faster.",
            rich_help_panel=_TIME,
        ),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            help="model: the trained network's type; fp16: half precision, for a GPU.",
            rich_help_panel=_TIME,
        ),
    ] = "model",
    batch_size: Annotated[
        int, typer.Option(help="Samples per run of calibration.", rich_help_panel=_CALIBRATION)
    ] = 64,
    batch_reduction: Annotated[
        str | None,
        typer.Option(
            help="exact: statistics of all values; ema: a moving average over batches.",
            show_default=_BY_PRESET,
            rich_help_panel=_CALIBRATION,
        ),
    ] = None,
    holdout: Annotated[
        float,
        typer.Option(
            help="Fraction of the calibration data to check the result on instead.",
            rich_help_panel=_CALIBRATION,
        ),
    ] = 0.1,
    stats: Annotated[
        Path | None,
        typer.Option(
            metavar="JSON",
            help="Use the statistics of an earlier calibration instead of data.",
            rich_help_panel=_CALIBRATION,
        ),
    ] = None,
    save_stats: Annotated[
        Path | None,
        typer.Option(
            metavar="JSON", help="Keep the statistics for --stats.", rich_help_panel=_CALIBRATION
        ),
    ] = None,
    size: SizeOption = None,
    mean: MeanOption = "0",
    std: StdOption = "1",
    as_json: JsonOption = False,
) -> None:
    """Convert a trained network into a spiking one; no retraining.

    The thresholds come from the activations on the calibration data. A tenth of that data is
    held out, to show how the result fires and how often it agrees with the original.

        onnx-snn convert model.onnx --calibration data.npz -T 32 -o snn.onnx

        onnx-snn convert model.onnx --calibration data.npz --max-loss 0.5 -o snn.onnx
    """
    if (calibration is None) == (stats is None):
        raise OptionError("give either --calibration DATA or --stats JSON")
    for path in (output, save_stats):
        if path is not None:
            check_writable(path)
    result = onnx_snn.convert(
        model,
        calibration,
        preset=preset,
        timesteps=timesteps,
        max_loss=max_loss,
        mode=mode,
        neuron=neuron,
        coding=coding,
        drain_steps=drain_steps,
        v_init=v_init,
        reset=reset,
        granularity=granularity,
        bias_calibration=bias_calibration,
        exact_sums=exact_sums,
        readout_weights=readout_weights,
        schedule=schedule,
        block=block,
        readout=readout,
        input_coding=input_coding,
        batch_reduction=batch_reduction,
        batch_size=batch_size,
        holdout=holdout,
        stats=None if stats is None else ActivationStats.load(stats),
        preprocessing=image_preprocessing(size, mean, std),
        max_pool=max_pool,
        target=target or "any",
        weight_bits=weight_bits,
        precision=precision,
        strict=strict,
    )
    if save_stats is not None:
        result.stats.save(save_stats)
    result.save(output)
    if as_json:
        print_json({"output": str(output), **result.report.to_dict()})
    else:
        _show(f"{model} → {output}", result.report)


def _show(title: str, report: ConversionReport) -> None:
    measured = report.validation_samples > 0
    shown = table("layer", "λ", "firing rate", right=("firing rate",))
    for layer in report.layers:
        scale = scale_text(layer.scale.values.tolist())
        note = " (silent in calibration)" if layer.is_dead else ""
        shown.add_row(layer.name, scale + note, percent(layer.firing_rate))
    out = console()
    out.print(title, style="bold", soft_wrap=True)
    out.print(shown)
    if report.choices:
        out.print(_choices(report))
    out.print(
        f"preset {report.preset}, mode {report.mode}, T = {report.timesteps}, result after "
        f"{report.latency} steps, thresholds from {report.calibration_samples} samples"
        + (f", biases from {report.bias_samples}" if report.bias_samples else "")
        + (f", weights of {report.weight_bits} bits" if report.weight_bits else "")
    )
    if report.exact is not None:
        out.print(
            "all sums are exact: counts equal the quantised network's bit for bit"
            if report.exact
            else "sums are rounded, so that a count may differ from the quantised network's by one"
        )
    if report.graded_share:
        out.print(f"{percent(report.graded_share)} of the operations stay graded, not spiking")
    if not measured:
        out.print("not checked: that would take longer than calibrating; see onnx-snn evaluate")
        return
    if report.silent is False:
        out.print(
            "not silent after its last step, so not yet the quantised network's integers; give "
            "more --drain-steps"
        )
    where = "held-out" if report.held_out else "calibration"
    found = []
    if report.agreement is not None:
        found.append(f"agreement with the ANN {percent(report.agreement)}")
    if report.output_error is not None:
        error = percent(report.output_error)
        found.append(f"output error {error} (root mean square, relative)")
    if found:
        out.print(f"on {report.validation_samples} {where} samples: {', '.join(found)}")


def _choices(report: ConversionReport) -> Table:
    shown = table(
        *("preset", "T", "latency", "spikes per neuron", "loss, points", ""),
        right=("T", "latency", "spikes per neuron", "loss, points"),
    )
    for choice in report.choices:
        shown.add_row(
            choice.preset,
            str(choice.timesteps),
            str(choice.latency),
            f"{choice.spikes_per_neuron:.3g}",
            f"{choice.loss:.2f}",
            "taken" if choice.is_chosen else "",
        )
    return shown
