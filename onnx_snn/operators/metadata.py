"""Shapes and what is computed from them: numbers about the graph, not activations."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_graphsurgeon as gs

from onnx_snn.graph import is_constant, is_present, is_standard, rank
from onnx_snn.operators.base import Kind, Operator
from onnx_snn.scale import ONE, Scale


class Metadata(Operator):
    """Shape, Size, and the arithmetic behind them; its values have no λ."""

    kind = Kind.METADATA
    reason = "computes a shape"

    def output(self, node: gs.Node, scales: Sequence[Scale], wish: Scale | None) -> Scale:
        return ONE


def is_metadata(tensor: gs.Tensor) -> bool:
    """Whether a tensor depends on shapes and constants alone, never on the values of an input.

    Only numbers and vectors count: a tensor of more axes that is filled with constants has
    a batch, and is computed like any other.
    """
    pending, seen = [tensor], set()
    while pending:
        current = pending.pop()
        if id(current) in seen or is_constant(current) or not is_present(current):
            continue
        seen.add(id(current))
        axes = rank(current)
        if not current.inputs or axes is None or axes > 1:
            return False
        node = current.inputs[0]
        if not is_standard(node):
            return False
        if node.op not in ("Shape", "Size"):
            pending += node.inputs
    return True
