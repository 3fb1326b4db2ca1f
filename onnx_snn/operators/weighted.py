"""Operators that own weights and so absorb any scale: W' = W·λ_in/λ_out, b' = b/λ_out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from onnx_snn.graph import activations, is_constant, is_present, rank, set_constant
from onnx_snn.operators.base import MIXES_BATCH, UNKNOWN_SHAPE, CannotCarryError, Operator, Refusal
from onnx_snn.scale import ONE, FloatArray, Scale


class Weighted(Operator):
    """Absorbs the wish of its readers, whatever λ its input has."""

    def channel_axis(self, node: gs.Node) -> int:
        """The axis, of the input and of the output, along which a vector λ can be absorbed."""
        return 1

    def weight_index(self, node: gs.Node) -> int:
        """Which input is the weights."""
        return 1

    @abstractmethod
    def input_axes(self, node: gs.Node) -> tuple[int, ...]:
        """The axes of the weights that an output sums over; over more than it does, if need be."""

    def output(self, node: gs.Node, scales: Sequence[Scale], wish: Scale | None) -> Scale:
        axis = self.channel_axis(node)
        if not scales[0].is_scalar and scales[0].axis != axis:
            raise CannotCarryError(node, activations(node)[0])
        if wish is None or not (wish.is_scalar or wish.axis == axis):
            return ONE
        return wish

    def apply(self, node: gs.Node, scales: Sequence[Scale], out: Scale) -> None:
        if scales[0] == out == ONE:
            return
        index = self.weight_index(node)
        weight = np.asarray(node.inputs[index].values, dtype=np.float64)
        set_constant(node, index, self.rescaled_weight(node, weight, scales[0], out), "weight")
        if len(node.inputs) > 2 and is_present(node.inputs[2]):
            bias = np.asarray(node.inputs[2].values, dtype=np.float64)
            set_constant(node, 2, bias / out.values, "bias")

    @abstractmethod
    def rescaled_weight(
        self, node: gs.Node, weight: FloatArray, scale: Scale, out: Scale
    ) -> FloatArray:
        """W·λ_in/λ_out in the node's own layout of weights."""

    def refusal(self, node: gs.Node) -> Refusal | None:
        if is_constant(node.inputs[0]) or not all(
            is_constant(tensor) for tensor in node.inputs[1:] if is_present(tensor)
        ):
            return Refusal(
                "its weights are computed at run time, not constant",
                "export the model with its weights as initializers (constant folding on)",
            )
        return None


class Conv(Weighted):
    """Convolution of any rank and any number of groups; W is [O, I/groups, *kernel]."""

    def input_axes(self, node: gs.Node) -> tuple[int, ...]:
        return tuple(range(1, node.inputs[1].values.ndim))

    def rescaled_weight(
        self, node: gs.Node, weight: FloatArray, scale: Scale, out: Scale
    ) -> FloatArray:
        groups = int(node.attrs.get("group", 1))
        outputs, inputs = weight.shape[0], weight.shape[1]
        scale_in = scale.along(groups * inputs).reshape(groups, 1, inputs)
        scale_out = out.along(outputs).reshape(groups, outputs // groups, 1)
        factor = (scale_in / scale_out).reshape(outputs, inputs)
        return weight * factor.reshape(factor.shape + (1,) * (weight.ndim - 2))


class ConvTranspose(Weighted):
    """Transposed convolution; W is [I, O/groups, *kernel]."""

    def input_axes(self, node: gs.Node) -> tuple[int, ...]:
        return (0, *range(2, node.inputs[1].values.ndim))  # of all groups

    def rescaled_weight(
        self, node: gs.Node, weight: FloatArray, scale: Scale, out: Scale
    ) -> FloatArray:
        groups = int(node.attrs.get("group", 1))
        inputs, outputs = weight.shape[0], weight.shape[1]
        scale_in = scale.along(inputs).reshape(groups, inputs // groups, 1)
        scale_out = out.along(groups * outputs).reshape(groups, 1, outputs)
        factor = (scale_in / scale_out).reshape(inputs, outputs)
        return weight * factor.reshape(factor.shape + (1,) * (weight.ndim - 2))


class Gemm(Weighted):
    """alpha·x·B + beta·C with B [I, O], or [O, I] where transB."""

    def input_axes(self, node: gs.Node) -> tuple[int, ...]:
        return (1,) if node.attrs.get("transB", 0) else (0,)

    def refusal(self, node: gs.Node) -> Refusal | None:
        if node.attrs.get("transA", 0):
            remedy = "export the layer as a plain Linear or Dense layer"
            return Refusal("transA moves the batch axis", remedy, mixes_batch=True)
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        if bias is not None and is_constant(bias) and bias.values.ndim == 2 and bias.shape[0] != 1:
            return Refusal(
                "its bias differs from sample to sample of the batch",
                "export the model with a batch of any size",
                mixes_batch=True,
            )
        return super().refusal(node)

    def rescaled_weight(
        self, node: gs.Node, weight: FloatArray, scale: Scale, out: Scale
    ) -> FloatArray:
        if node.attrs.get("transB", 0):
            return weight * scale.values / _column(out)
        return weight * _column(scale) / out.values


class MatMul(Weighted):
    """x·B with x [N, …, I], or A·x with x [N, …, I, P]; leading axes of A or B are a stack."""

    def input_axes(self, node: gs.Node) -> tuple[int, ...]:
        return (-1,) if self.weight_index(node) == 0 else (-2,)

    def weight_index(self, node: gs.Node) -> int:
        return 0 if is_constant(node.inputs[0]) else 1

    def channel_axis(self, node: gs.Node) -> int:
        """The last axis of x·B, and the last but one of A·x."""
        return len(activations(node)[0].shape) - (2 if self.weight_index(node) == 0 else 1)

    def refusal(self, node: gs.Node) -> Refusal | None:
        if len(activations(node)) != 1:
            return Refusal(
                "a product of two activations is not linear",
                "replace the attention by a layer with constant weights",
            )
        axes = rank(activations(node)[0])
        if axes is None:
            return UNKNOWN_SHAPE
        if axes < 2:
            return Refusal("its input has no batch axis", "give the model's input a batch axis")
        return self._weight_refusal(node, axes)

    def _weight_refusal(self, node: gs.Node, axes: int) -> Refusal | None:
        index = self.weight_index(node)
        if index == 0 and axes == 2:
            return MIXES_BATCH
        shape = np.shape(node.inputs[index].values)
        if len(shape) < 2:
            return Refusal(
                "its weights are not a matrix", "export the layer as a plain Linear or Dense layer"
            )
        if len(shape) > axes or (len(shape) == axes > 2 and shape[0] != 1):
            return Refusal(
                "its weights have a batch axis of their own",
                "export the model with a batch of any size",
            )
        return None

    def rescaled_weight(
        self, node: gs.Node, weight: FloatArray, scale: Scale, out: Scale
    ) -> FloatArray:
        if self.weight_index(node) == 0:
            return weight * scale.values / _column(out)
        return weight * _column(scale) / out.values


def _column(scale: Scale) -> FloatArray:
    return scale.values if scale.is_scalar else scale.values[:, None]
