"""``onnx-snn inspect``: what will become of every node, and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict

import onnx
import typer
from rich.text import Text

from onnx_snn.analyse import Analysis, analyse
from onnx_snn.cli.options import JsonOption, ModelArgument
from onnx_snn.cli.tables import console, percent, print_json, scale_text, table
from onnx_snn.compute import graded_share
from onnx_snn.export import recorded_thresholds
from onnx_snn.load import load_graph
from onnx_snn.model_io import read_model
from onnx_snn.operators import Kind
from onnx_snn.schedule import METADATA_KEY, ScheduleRecord

_STYLES = {
    Kind.SPIKING: "green",
    Kind.REFUSED: "bold red",
    Kind.ANALOG: "yellow",
    Kind.DIFFERENTIAL: "yellow",
}


def inspect(model: ModelArgument, as_json: JsonOption = False) -> None:
    """Tell what will become of every node, and why; no data is needed.

    spiking: becomes integrate-and-fire neurons. linear, pooling: stays, and acts on spikes.
    analog: computed once, before the first or behind the last neuron. differential: between
    neurons, but graded: a function of the mean so far, handed on by difference. refused: cannot
    be converted, with the reason and the remedy; the exit code is then 1.

    Of a network that is converted already it tells the schedule and the thresholds.
    """
    source = read_model(model)
    if any(entry.key == METADATA_KEY for entry in source.metadata_props):
        _show_converted(str(model), source, as_json)
        return
    graph = load_graph(source)
    analysis = analyse(graph)
    share = graded_share(graph, analysis)
    if as_json:
        print_json(
            {
                "model": str(model),
                "convertible": analysis.problem is None,
                "problem": analysis.problem,
                "graded_share": share,
                "nodes": [asdict(verdict) for verdict in analysis.verdicts],
            }
        )
    else:
        _show(str(model), analysis, share)
    if analysis.problem is not None:
        raise typer.Exit(1)


def _show(name: str, analysis: Analysis, share: float) -> None:
    shown = table("node", "operator", "becomes", "why")
    for verdict in analysis.verdicts:
        why = verdict.reason + (f"; {verdict.remedy}" if verdict.remedy else "")
        becomes = Text(verdict.kind.value, style=_STYLES.get(verdict.kind, ""))
        shown.add_row(verdict.node, verdict.op, becomes, why)
    out = console()
    out.print(name, style="bold", soft_wrap=True)
    out.print(shown)
    counts = Counter(verdict.kind.value for verdict in analysis.verdicts)
    out.print(", ".join(f"{count} {kind}" for kind, count in counts.items()))
    if share:
        out.print(f"{percent(share)} of the operations stay graded", style="yellow")
    if analysis.problem is None:
        out.print("can be converted", style="green")
    else:
        out.print(f"cannot be converted: {analysis.problem}", style="bold red", soft_wrap=True)


def _show_converted(name: str, model: onnx.ModelProto, as_json: bool) -> None:
    record = ScheduleRecord.of(model)
    entries = {
        entry.key.removeprefix("onnx_snn."): entry.value
        for entry in model.metadata_props
        if entry.key.startswith("onnx_snn.")
    }
    thresholds = recorded_thresholds(model)
    if as_json:
        print_json({"model": name, "schedule": asdict(record), "thresholds": thresholds})
        return
    out = console()
    out.print(
        f"{name}: a spiking network, mode {entries.get('mode', '?')}, "
        f"T = {record.timesteps}, schedule {record.schedule}, readout {record.readout}, "
        f"input {record.input_coding}"
    )
    shown = table("neurons", "λ (ANN units a spike is worth)")
    for node, scale in thresholds.items():
        shown.add_row(node, scale_text(scale))
    out.print(shown)
