"""``onnx-snn reschedule``: run a converted network in another way, without converting it again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import onnx_snn
from onnx_snn.cli.options import TargetOption
from onnx_snn.model_io import check_writable, write_model

_AS_IT_IS = "as it is"


def reschedule(
    snn: Annotated[Path, typer.Argument(metavar="SNN", help="A converted network.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write the new one.")],
    schedule: Annotated[
        str | None,
        typer.Option(
            help=(
                "layer: all steps in one batch; loop: memory for one block of steps; step: a block "
                "for each run."
            ),
            show_default=_AS_IT_IS,
        ),
    ] = None,
    readout: Annotated[
        str | None,
        typer.Option(
            help="mean over T, or running: the mean so far after every step, [T, N, …].",
            show_default=_AS_IT_IS,
        ),
    ] = None,
    timesteps: Annotated[
        int | None,
        typer.Option(
            "--timesteps", "-T", help="Default number of time steps.", show_default=_AS_IT_IS
        ),
    ] = None,
    block: Annotated[
        int | None,
        typer.Option(help="Steps evaluated together in a loop.", show_default=_AS_IT_IS),
    ] = None,
    target: TargetOption = None,
) -> None:
    """Put a converted network on another schedule, or let its layers read events on a CPU.

    onnx-snn reschedule snn.onnx --target cpu -o fast.onnx

    onnx-snn reschedule snn.onnx --schedule step -T 1 -o stream.onnx
    """
    check_writable(output)
    new = onnx_snn.reschedule(
        snn, schedule=schedule, readout=readout, timesteps=timesteps, block=block, target=target
    )
    write_model(new, output)
    print(f"{snn} → {output}")
