"""``onnx-snn evaluate``: what a converted network is worth, after every time step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

import onnx_snn
from onnx_snn.cli.options import (
    DATA_HELP,
    JsonOption,
    MeanOption,
    SizeOption,
    StdOption,
    image_preprocessing,
)
from onnx_snn.cli.tables import console, percent, print_json, table
from onnx_snn.errors import OptionError
from onnx_snn.evaluate import Evaluation
from onnx_snn.explain import LayerError, explain
from onnx_snn.model_io import check_writable
from onnx_snn.plots import draw_share_against_time, new_figure, save_figure


def evaluate(
    snn: Annotated[Path, typer.Argument(metavar="SNN", help="The converted .onnx file.")],
    data: Annotated[Path, typer.Option("--data", "-d", help=f"Test data: {DATA_HELP}.")],
    reference: Annotated[
        Path | None,
        typer.Option("--reference", "-r", metavar="MODEL", help="The ANN it was made from."),
    ] = None,
    timesteps: Annotated[
        int | None,
        typer.Option("--timesteps", "-T", help="Number of time steps (default: the file's own)."),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first so many samples.")] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Draw the curve over time into a file.")
    ] = None,
    explained: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Tell which layers lose accuracy, and why; needs --reference.",
        ),
    ] = False,
    size: SizeOption = None,
    mean: MeanOption = "0",
    std: StdOption = "1",
    as_json: JsonOption = False,
) -> None:
    """Measure accuracy and agreement with the ANN after every time step, from one run.

    With labels in the data it tells the accuracy, with a reference model the agreement with it;
    with both, the accuracy of the two side by side.

        onnx-snn evaluate snn.onnx --data test.npz --reference model.onnx --plot curve.png
    """
    if explained and reference is None:
        raise OptionError("--explain compares with the ANN; give it with --reference MODEL")
    figure = None
    if plot is not None:
        check_writable(plot)
        figure = new_figure()
    result = onnx_snn.evaluate(
        snn,
        data,
        reference=reference,
        timesteps=timesteps,
        limit=limit,
        preprocessing=image_preprocessing(size, mean, std),
    )
    errors = []
    if explained and reference is not None:
        errors = explain(
            snn,
            data,
            reference,
            timesteps=timesteps,
            limit=limit,
            preprocessing=image_preprocessing(size, mean, std),
        )
    if plot is not None and figure is not None:
        _draw(figure.subplots(), snn.name, result)
        save_figure(figure, plot)
    if as_json:
        explanation = {"errors": [error.to_dict() for error in errors]} if explained else {}
        print_json({"model": str(snn), **asdict(result), **explanation})
    else:
        _show(str(snn), result)
        if errors:
            _show_errors(errors)


def _draw(axes: object, name: str, result: Evaluation) -> None:
    curves = {
        label: values
        for label, values in (
            ("SNN accuracy", result.accuracy),
            ("agreement with the ANN", result.agreement),
        )
        if values is not None
    }
    if not curves:
        raise OptionError("the outputs are no classes, so that there is no curve to draw")
    ylabel = "share of samples" if len(curves) > 1 else next(iter(curves))
    draw_share_against_time(axes, curves, ylabel=ylabel, ann=result.ann_accuracy)
    axes.set_title(f"{name}, {result.samples} samples")  # type: ignore[attr-defined]


def _show(name: str, result: Evaluation) -> None:
    columns = {
        "accuracy": result.accuracy,
        "agreement": result.agreement,
        "output error": result.output_error,
    }
    known = {label: values for label, values in columns.items() if values is not None}
    shown = table("T", *known, right=("T", *known))
    for step in _steps(result.timesteps):
        shown.add_row(str(step), *(percent(values[step - 1]) for values in known.values()))
    if result.ann_accuracy is not None:
        shown.add_section()
        shown.add_row("ANN", percent(result.ann_accuracy), *[""] * (len(known) - 1))
    out = console()
    out.print(f"{name}, {result.samples} samples", style="bold", soft_wrap=True)
    out.print(shown)
    if result.silent is False:
        out.print(
            f"not silent after {result.timesteps} steps, so not yet the integers of the quantised "
            "network; give more with --timesteps"
        )
    rates = table("neurons", "firing rate", right=("firing rate",))
    for node, rate in result.firing_rates.items():
        rates.add_row(node, percent(rate))
    out.print(rates)


def _show_errors(errors: Sequence[LayerError]) -> None:
    parts = ("inherited", "clipping", "quantisation", "unevenness")
    columns = ("error", *parts, "added", "share")
    shown = table("neurons", *columns, "remedy", right=columns)
    for error in errors:
        values = (error.total, *(getattr(error, part) for part in parts), error.added, error.share)
        shown.add_row(error.name, *(percent(value, 1) for value in values), error.remedy)
    console().print(shown)


def _steps(timesteps: int) -> list[int]:
    """Powers of two, and the last step; --json and --plot have them all."""
    steps = [2**k for k in range(timesteps.bit_length()) if 2**k < timesteps]
    return [*steps, timesteps]
