"""Figures. matplotlib is an extra: [plot]."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from onnx_snn.errors import OutputError, RuntimeUnavailableError
from onnx_snn.model_io import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float = 6.4, height: float = 4.2) -> Figure:
    """An empty figure, in inches; it needs no display and leaves no global state.

    Raises:
        RuntimeUnavailableError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise RuntimeUnavailableError(
            "matplotlib is not installed; install onnx-snn[plot] to draw figures"
        ) from error
    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure to a file whose name ends in .png, .pdf or .svg, whole or not at all.

    Raises:
        OutputError: ``path`` cannot be written, or has another ending.
    """
    with atomic_path(path) as temporary:
        try:
            figure.savefig(temporary)
        except ValueError as error:  # matplotlib: an ending it does not know
            raise OutputError(f"{path}: name a .png, .pdf or .svg file for the figure") from error


def draw_share_against_time(
    axes: Any,
    curves: Mapping[str, Sequence[float]],
    *,
    ylabel: str,
    ann: float | None = None,
) -> None:
    """Draw shares in [0, 1] after each step 1 … T as percentages, and the ANN's as a line.

    Args:
        axes: matplotlib axes.
        curves: values by label.
        ylabel: of the axis, without its unit.
        ann: the ANN's share, if it is known.
    """
    for label, values in curves.items():
        steps = range(1, len(values) + 1)
        axes.plot(steps, [100 * value for value in values], label=label, linewidth=1.5)
    if ann is not None:
        label = f"ANN ({100 * ann:.2f} %)"
        axes.axhline(100 * ann, color="black", linestyle="--", linewidth=1, label=label)
    axes.set_xlabel("time step $T$")
    axes.set_ylabel(f"{ylabel} (%)")
    axes.set_xlim(left=1)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
