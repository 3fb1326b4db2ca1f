"""Tables on the terminal: colours and borders there, plain text in a pipe."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

_PIPE_WIDTH = 160  # a pipe has no width of its own; names of nodes are long


def console() -> Console:
    """The console on standard output."""
    # No markup: names of nodes and files may hold brackets.
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    return Console(width=width, highlight=False, markup=False)


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """An empty table; the columns named in ``right`` hold numbers."""
    made = Table(header_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def print_json(content: dict[str, Any]) -> None:
    """Print an object as JSON, for another program."""
    print(json.dumps(content, indent=1))


def percent(share: float | None, digits: int = 2) -> str:
    """A share in [0, 1] as text."""
    return "" if share is None else f"{100 * share:.{digits}f} %"


def scale_text(values: list[float] | float) -> str:
    """λ: one number, or the least and the greatest of one per channel."""
    if isinstance(values, float):
        return f"{values:.4g}"
    return f"{min(values):.4g} … {max(values):.4g} ({len(values)} channels)"
