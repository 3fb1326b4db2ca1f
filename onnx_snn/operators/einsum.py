"""Einsum of activations with constant weights."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import NamedTuple

import onnx_graphsurgeon as gs

from onnx_snn.graph import activations, is_constant, rank
from onnx_snn.operators.base import MIXES_BATCH, UNKNOWN_SHAPE, CannotCarryError, Refusal
from onnx_snn.operators.weighted import Weighted
from onnx_snn.scale import ONE, FloatArray, Scale


class _Labels(NamedTuple):
    """The letters of an equation, one for each axis."""

    activation: str
    weight: str
    output: str


class Einsum(Weighted):
    """A λ along any axis that the weights have too is absorbed there."""

    def refusal(self, node: gs.Node) -> Refusal | None:
        if len(node.inputs) != 2 or len(activations(node)) != 1:
            return Refusal(
                "it is not a product of activations with constant weights",
                "replace it by a layer with constant weights",
            )
        if rank(activations(node)[0]) is None:
            return UNKNOWN_SHAPE
        labels = self._labels(node)
        if any(len(set(term)) != len(term) for term in labels):
            return Refusal(
                "its equation is more than a product summed over axes",
                "replace it by MatMul or Gemm",
            )
        batch = labels.activation[:1]
        if not batch or labels.output[:1] != batch or batch in labels.weight:
            return MIXES_BATCH
        return None

    def weight_index(self, node: gs.Node) -> int:
        return 0 if is_constant(node.inputs[0]) else 1

    def input_axes(self, node: gs.Node) -> tuple[int, ...]:
        labels = self._labels(node)
        return tuple(i for i, label in enumerate(labels.weight) if label not in labels.output)

    def _labels(self, node: gs.Node) -> _Labels:
        """With letters of their own for the axes that an ellipsis stands for.

        That of an ellipsis of the weights is left as it is, and so are three equal letters.
        """
        equation = str(node.attrs["equation"]).replace(" ", "")
        operands, _, output = equation.partition("->")
        terms = operands.split(",")
        index = self.weight_index(node)
        weight, activation = terms[index], terms[1 - index]
        axes = len(node.inputs[1 - index].shape) - len(activation.replace("...", ""))
        free = "".join(c for c in string.ascii_letters if c not in equation)[:axes]
        return _Labels(activation.replace("...", free), weight, output.replace("...", free))

    def output(self, node: gs.Node, scales: Sequence[Scale], wish: Scale | None) -> Scale:
        labels = self._labels(node)
        if not _absorbs(labels, scales[0], labels.activation):
            raise CannotCarryError(node, activations(node)[0])
        return wish if wish is not None and _absorbs(labels, wish, labels.output) else ONE

    def rescaled_weight(
        self, node: gs.Node, weight: FloatArray, scale: Scale, out: Scale
    ) -> FloatArray:
        labels = self._labels(node)
        factor = _shaped(labels, scale, labels.activation) / _shaped(labels, out, labels.output)
        return weight * factor


def _absorbs(labels: _Labels, scale: Scale, term: str) -> bool:
    return scale.is_scalar or term[scale.axis] in labels.weight


def _shaped(labels: _Labels, scale: Scale, term: str) -> FloatArray:
    """λ of an operand in a shape that broadcasts against the weights."""
    if scale.is_scalar:
        return scale.values
    return scale.values.reshape([-1 if c == term[scale.axis] else 1 for c in labels.weight])
