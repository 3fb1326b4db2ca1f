"""Write docs/operator_table.md: operator by operator, what becomes of it; from the code's tables.

Run it as python tools/operator_table.py.
"""

from __future__ import annotations

from pathlib import Path

from onnx_snn.analyse import CONTROL_FLOW, REASONS
from onnx_snn.operators import EXTREMA, GRADED, OPERATORS, Kind, Operator

PATH = Path(__file__).resolve().parent.parent / "docs" / "operator_table.md"

REMOVED = {
    "Cast": "removed where the type stays the same",
    "Constant": "an initializer",
    "Dropout": "removed",
    "Identity": "removed",
    "Split": "one Slice for each part",
}
"""What load does before any verdict."""

HEAD = """# What becomes of every operator

Made by `python tools/operator_table.py` from the tables in `onnx_snn/operators/`; a test compares.
Where an operator has several rows, the first that fits a node holds: whether its inputs are
constants decides. `onnx-snn inspect` tells it of every node of a model, with the reason and the
remedy where a node is refused.

Before the first neuron and behind the last one, any operator may stand that keeps the samples of
a batch apart: it is computed once from the input, or from the mean over time ("analog").

| operator | becomes | how |
|---|---|---|
"""

FOOT = """
All other operators are refused where they stand between neurons, and so are all operators of
other domains.
"""


def rows() -> list[tuple[str, str, str]]:
    """Return operator, kind and reason, in the order of the operators' names."""
    found: list[tuple[str, str, str]] = []
    names = sorted({*OPERATORS, *EXTREMA, *GRADED, *REMOVED, *CONTROL_FLOW})
    for name in names:
        if name in REMOVED:
            found.append((name, "cleaned", REMOVED[name]))
        if name in CONTROL_FLOW:
            found.append((name, Kind.REFUSED.value, "control flow has no spiking form"))
        for table in (OPERATORS, EXTREMA, GRADED):
            if name in table:
                found.append((name, *_verdict(table[name])))
    return found


def _verdict(operator: Operator) -> tuple[str, str]:
    return operator.kind.value, operator.reason or REASONS[operator.kind]


def render() -> str:
    """Return the whole page."""
    lines = [f"| {name} | {kind} | {reason} |" for name, kind, reason in rows()]
    return HEAD + "\n".join(lines) + "\n" + FOOT


def main() -> None:
    """Write the page."""
    PATH.write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
