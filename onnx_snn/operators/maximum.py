"""Maxima: not linear, but f(c·x) = c·f(x) for c > 0, so they can be taken of sums over time.

The maximum of the sums so far, and of that what one step adds (Y_t − Y_{t−1}), adds up to the
maximum of the rates exactly, where the maximum of each step's spikes would not; from spikes in
{0, 1} or {−1, 0, 1} it gives such spikes again.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from onnx_snn.graph import is_constant, is_present
from onnx_snn.operators.base import Domain, Kind, Refusal
from onnx_snn.operators.carriers import Pooling, Reduction
from onnx_snn.operators.elementwise import Addition

_REASON = "maximum: of the spikes so far, by cumulative difference; exact"


class MaxPooling(Pooling):
    """MaxPool and GlobalMaxPool over the axes behind the channels."""

    domain = Domain.SUM
    reason = _REASON

    def refusal(self, node: gs.Node) -> Refusal | None:
        if any(is_present(tensor) for tensor in node.outputs[1:]):
            return Refusal(
                "somebody reads the indices of its maxima",
                "export a network without max-unpooling",
            )
        return super().refusal(node)


class ReduceExtremum(Reduction):
    """ReduceMax and ReduceMin over feature axes."""

    domain = Domain.SUM
    reason = _REASON.replace("maximum", "maximum or minimum")


class Extremum(Addition):
    """Max and Min of activations, which must share one λ."""

    kind = Kind.POOLING
    domain = Domain.SUM
    reason = _REASON.replace("maximum", "maximum or minimum")

    def refusal(self, node: gs.Node) -> Refusal | None:
        if any(is_constant(tensor) for tensor in node.inputs):
            return Refusal(
                "one of its inputs is a constant for each place",
                "replace it by Relu or by Clip with one bound for all places",
            )
        return super().refusal(node)
