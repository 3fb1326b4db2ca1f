"""A layer with constant weights, seen as W and b: it takes in what is done next to it.

factor·(W·x + b) + shift = W'·x + b'      W' = factor·W,  b' = factor·b + shift
W·(factor·x + shift) + b = W'·x + b'      W' = W·factor,  b' = b + W·shift
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from onnx_snn.affine import Affine, affine_of, all_finite
from onnx_snn.graph import (
    constant,
    is_constant,
    is_present,
    is_standard,
    own_name,
    rank,
    set_constant,
    unique_name,
)
from onnx_snn.operators import operator_of
from onnx_snn.scale import FloatArray

_MOST_CANCELLED = 1e-4
"""Largest |shift|·ε that may move into a bias: x + shift is rounded once, W·x + W·shift more."""


@dataclass(frozen=True, eq=False)
class LinearLayer:
    """Conv, ConvTranspose, Gemm or MatMul with constant weights; a bias for MatMul is an Add.

    Attributes:
        node: the layer.
        add: for MatMul, the Add of its bias if it has one.
    """

    node: gs.Node
    add: gs.Node | None = None

    @staticmethod
    def of(graph: gs.Graph, node: gs.Node) -> LinearLayer | None:
        """The layer that a node is; an Add behind a MatMul stands for the two of them."""
        if _is_linear(node):
            return LinearLayer(node, _bias_add(graph, node))
        data = [tensor for tensor in node.inputs if not is_constant(tensor)]
        producer = sole_producer(graph, data[0]) if node.op == "Add" and len(data) == 1 else None
        if producer is not None and producer.op == "MatMul" and _is_linear(producer):
            add = _bias_add(graph, producer)
            return LinearLayer(producer, add) if add is node else None
        return None

    @property
    def axis(self) -> int:
        """The channel axis of input and output."""
        return len(self.node.inputs[0].shape) - 1 if self.node.op == "MatMul" else 1

    @property
    def weight(self) -> FloatArray:
        return np.asarray(self.node.inputs[1].values, dtype=np.float64)

    @property
    def bias(self) -> FloatArray:
        """b [O], or one number; for Gemm times beta."""
        if self.add is not None:
            affine = affine_of(self.add)
            return np.zeros(()) if affine is None else affine.shift
        if len(self.node.inputs) < 3 or not is_present(self.node.inputs[2]):
            return np.zeros(())
        values = np.asarray(self.node.inputs[2].values, dtype=np.float64)
        beta = float(self.node.attrs.get("beta", 1.0)) if self.node.op == "Gemm" else 1.0
        return beta * (values.ravel() if values.size > 1 else values.reshape(()))

    def absorbed_behind(self, affine: Affine) -> tuple[FloatArray, FloatArray] | None:
        """W' and b' of the layer with ``affine`` behind it, or None if it cannot take it in."""
        if not (affine.is_scalar or affine.axis == self.axis):
            return None
        factor, shift = affine.along(self._outputs)
        weight = self.weight * self._for_outputs(factor)
        return self._finite(weight, self.bias * factor + shift)

    def absorbed_ahead(self, affine: Affine) -> tuple[FloatArray, FloatArray] | None:
        """W' and b' of the layer with ``affine`` before it, or None if it cannot take it in."""
        if not (affine.is_scalar or affine.axis == self.axis):
            return None
        if affine.shifts and not self._shift_passes(affine.shift):
            return None
        factor, shift = affine.along(self._inputs)
        weight = self.weight
        bias = np.broadcast_to(self.bias, self._outputs)
        if affine.shifts:
            alpha = float(self.node.attrs.get("alpha", 1.0)) if self.node.op == "Gemm" else 1.0
            bias = bias + alpha * self._sum_over_inputs(weight * self._for_inputs(shift))
        return self._finite(weight * self._for_inputs(factor), bias)

    def replace(self, graph: gs.Graph, weight: FloatArray, bias: FloatArray) -> None:
        """Give the layer other weights, and a bias where it had none."""
        set_constant(self.node, 1, weight, "weight")
        dtype = self.node.inputs[1].dtype
        if self.node.op == "MatMul":
            self._replace_add(graph, bias)
        elif len(self.node.inputs) > 2 and is_present(self.node.inputs[2]):
            set_constant(self.node, 2, bias, "bias")
        elif np.any(bias):
            added = constant(own_name(self.node, "bias"), bias, dtype)
            self.node.inputs = [*self.node.inputs[:2], added]
        if self.node.op == "Gemm":
            self.node.attrs["beta"] = 1.0

    def _replace_add(self, graph: gs.Graph, bias: FloatArray) -> None:
        if self.add is not None:
            index = next(i for i, tensor in enumerate(self.add.inputs) if is_constant(tensor))
            set_constant(self.add, index, bias, "bias")
        elif np.any(bias):
            result = self.node.outputs[0]
            name = unique_name(graph, own_name(self.node, "product"))
            product = gs.Variable(name, result.dtype, list(result.shape))
            self.node.outputs = [product]
            added = constant(own_name(self.node, "bias"), bias, self.node.inputs[1].dtype)
            name = own_name(self.node, "add")
            add = gs.Node("Add", name, inputs=[product, added], outputs=[result])
            graph.nodes.insert(graph.nodes.index(self.node) + 1, add)

    @property
    def _groups(self) -> int:
        return int(self.node.attrs.get("group", 1))

    @property
    def _outputs(self) -> int:
        shape = self.node.inputs[1].shape
        if self.node.op == "ConvTranspose":
            return self._groups * int(shape[1])
        return int(shape[0] if self.node.op == "Conv" or self._is_transposed else shape[1])

    @property
    def _inputs(self) -> int:
        shape = self.node.inputs[1].shape
        if self.node.op == "Conv":
            return self._groups * int(shape[1])
        return int(shape[1] if self._is_transposed else shape[0])

    @property
    def _is_transposed(self) -> bool:
        return bool(self.node.op == "Gemm" and self.node.attrs.get("transB", 0))

    def _for_outputs(self, values: FloatArray) -> FloatArray:
        """One number per output channel, in a shape that broadcasts against W."""
        kernel = [1] * (len(self.node.inputs[1].shape) - 2)
        if self.node.op == "ConvTranspose":
            # W is [I, O/groups, *kernel]: rows of group g produce the channels of group g.
            rows = np.repeat(values.reshape(self._groups, -1), self._inputs // self._groups, axis=0)
            return rows.reshape(*rows.shape, *kernel)
        if self.node.op == "Conv" or self._is_transposed:
            return values.reshape(-1, 1, *kernel)
        return values

    def _for_inputs(self, values: FloatArray) -> FloatArray:
        """One number per input channel, in a shape that broadcasts against W."""
        kernel = [1] * (len(self.node.inputs[1].shape) - 2)
        if self.node.op == "Conv":
            # W is [O, I/groups, *kernel]: rows of group g read the channels of group g.
            rows = np.repeat(
                values.reshape(self._groups, -1), self._outputs // self._groups, axis=0
            )
            return rows.reshape(*rows.shape, *kernel)
        return values if self._is_transposed else values.reshape(-1, 1, *kernel)

    def _sum_over_inputs(self, products: FloatArray) -> FloatArray:
        output = 0 if self.node.op == "Conv" or self._is_transposed else 1
        total: FloatArray = products.sum(axis=tuple(set(range(products.ndim)) - {output}))
        return total

    def _shift_passes(self, shift: FloatArray) -> bool:
        """Whether each output sums the whole kernel, and without much cancellation."""
        epsilon = float(np.finfo(self.node.inputs[1].dtype).eps)
        if np.abs(shift).max() * epsilon > _MOST_CANCELLED:
            return False
        if self.node.op == "ConvTranspose":
            return False
        if self.node.op == "Conv":
            auto_pad = self.node.attrs.get("auto_pad", "NOTSET")
            padded = auto_pad == "NOTSET" and any(self.node.attrs.get("pads", []))
            return auto_pad in ("NOTSET", "VALID") and not padded
        return True

    def _finite(self, weight: FloatArray, bias: FloatArray) -> tuple[FloatArray, FloatArray] | None:
        dtype = self.node.inputs[1].dtype
        if all_finite(weight, dtype) and all_finite(bias, dtype):
            return weight, bias
        return None


def _is_linear(node: gs.Node) -> bool:
    if not is_standard(node) or node.op not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        return False
    if operator_of(node).refusal(node) is not None or rank(node.inputs[0]) is None:
        return False
    return is_constant(node.inputs[1]) and (node.op != "MatMul" or node.inputs[1].values.ndim == 2)


def _bias_add(graph: gs.Graph, matmul: gs.Node) -> gs.Node | None:
    """The Add that gives a MatMul its bias, one number per channel."""
    reader = sole_reader(graph, matmul.outputs[0]) if matmul.op == "MatMul" else None
    if reader is None or reader.op != "Add":
        return None
    affine = affine_of(reader)
    last = len(matmul.outputs[0].shape) - 1
    return reader if affine and (affine.is_scalar or affine.axis == last) else None


def sole_reader(graph: gs.Graph, tensor: gs.Tensor) -> gs.Node | None:
    """The node that alone reads a tensor; None where it is also an output of the graph."""
    if len(tensor.outputs) != 1 or any(output is tensor for output in graph.outputs):
        return None
    return tensor.outputs[0]


def sole_producer(graph: gs.Graph, tensor: gs.Tensor) -> gs.Node | None:
    """The node whose output a tensor is, if one node alone reads it."""
    if len(tensor.inputs) != 1 or sole_reader(graph, tensor) is None:
        return None
    return tensor.inputs[0]
