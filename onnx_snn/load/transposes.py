"""Transposes: join those in a row; move those behind convolutions on, until they meet another.

    Conv → Transpose → Relu → Transpose⁻¹ → Conv   becomes   Conv → Relu → Conv
    Conv → Transpose → ReduceMean (1, 2)           becomes   Conv → ReduceMean (2, 3)

Exporters of frameworks with channels last wrap convolutions in such pairs. Without them neurons
have their channels on axis 1, where calibration looks for them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from onnx_snn.graph import bypass, constant, int_list, is_constant, is_standard, own_name, variables

_ELEMENTWISE = (
    "Abs Add Cast Celu Clip Div Elu Erf Exp Gelu HardSigmoid HardSwish LeakyRelu Log Max Mean Min "
    "Mish Mul Neg PRelu Pow Relu Selu Sigmoid Softplus Softsign Sqrt Sub Sum Swish Tanh "
    "ThresholdedRelu"
)
_REDUCTIONS = (
    "ReduceL1 ReduceL2 ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum "
    "ReduceSumSquare"
)
_CONVOLUTIONAL = (
    "AveragePool BatchNormalization Conv ConvTranspose GlobalAveragePool GlobalMaxPool "
    "GroupNormalization InstanceNormalization LRN LpPool MaxPool"
)
_JOINING = frozenset([*_ELEMENTWISE.split(), "Concat"])
_REDUCING = frozenset(_REDUCTIONS.split())
_CHANNELS_FIRST = frozenset(_CONVOLUTIONAL.split())


def join_transposes(graph: gs.Graph, node: gs.Node) -> None:
    """``Transpose(Transpose(x, p), q)`` → ``Transpose(x, [p[k] for k in q])``, or just ``x``."""
    inner = node.inputs[0].inputs[0] if node.inputs[0].inputs else None
    perm = node.attrs.get("perm")
    if inner is not None and inner.op == "Transpose" and is_standard(inner):
        first = inner.attrs.get("perm")
        if perm and first:
            perm = [first[k] for k in perm]
            node.attrs["perm"] = perm
            node.inputs[0] = inner.inputs[0]
    if perm and list(perm) == sorted(perm):
        bypass(graph, node)


def sink_transposes(graph: gs.Graph, node: gs.Node) -> None:
    """``f(Transpose(x), Transpose(y))`` → ``Transpose(f(x, y))``, if x or y is of a convolution.

    Other Transposes stay: behind a MatMul it is the last axis that holds the channels. So do
    those that move the batch axis.
    """
    perm = _common_permutation(node)
    if perm is None:
        return
    if node.op in _JOINING:
        if node.op == "Concat":
            node.attrs["axis"] = perm[node.attrs["axis"]]
        _read_sources(node, perm)
        _transpose_output(graph, node, perm)
    elif node.op in _REDUCING and is_constant(node.inputs[-1]) and int_list(node.inputs[-1]):
        left = _reduce_source(node, perm)
        if left != sorted(left):
            _transpose_output(graph, node, left)


def _common_permutation(node: gs.Node) -> list[int] | None:
    """The permutation of the Transposes that all inputs come from, if it is to be moved."""
    inputs = variables(node)
    producers = [tensor.inputs[0] for tensor in inputs if tensor.inputs]
    if not inputs or len(producers) < len(inputs):
        return None
    if not all(p.op == "Transpose" and is_standard(p) and p.attrs.get("perm") for p in producers):
        return None
    perm = [int(axis) for axis in producers[0].attrs["perm"]]
    if any(list(p.attrs["perm"]) != perm for p in producers) or perm[0] != 0:
        return None
    if any(len(np.shape(t.values)) > len(perm) for t in node.inputs if is_constant(t)):
        return None
    return perm if any(_is_convolved(p.inputs[0]) for p in producers) else None


def _is_convolved(tensor: gs.Tensor) -> bool:
    """Whether a tensor has its channels on axis 1 because the operator it comes from wants so."""
    while tensor.inputs:
        node = tensor.inputs[0]
        if not is_standard(node) or node.op in _CHANNELS_FIRST:
            return is_standard(node)
        inputs = variables(node)
        if node.op not in _JOINING | _REDUCING or not inputs:
            return False
        tensor = inputs[0]
    return False


def _reduce_source(node: gs.Node, perm: Sequence[int]) -> list[int]:
    """Let a reduction read what its Transpose reads; returns the permutation that is left."""
    reduced = [axis % len(perm) for axis in int_list(node.inputs[1])]
    axes = constant(own_name(node.outputs[0], "axes"), sorted(perm[axis] for axis in reduced))
    node.inputs = [_source(node.inputs[0]), axes]
    if node.attrs.get("keepdims", 1):
        return list(perm)
    kept = [k for axis, k in enumerate(perm) if axis not in reduced]
    return [sorted(kept).index(k) for k in kept]


def _source(transposed: gs.Variable) -> gs.Tensor:
    return transposed.inputs[0].inputs[0]


def _read_sources(node: gs.Node, perm: Sequence[int]) -> None:
    """Let a node read what its Transposes read; its constants are transposed back."""
    inverse = [perm.index(axis) for axis in range(len(perm))]
    for index, tensor in enumerate(node.inputs):
        if not is_constant(tensor):
            node.inputs[index] = tensor if tensor.is_empty() else _source(tensor)
        elif np.size(tensor.values) > 1:
            values = np.asarray(tensor.values)
            values = values.reshape([1] * (len(perm) - values.ndim) + list(values.shape))
            name = own_name(node.outputs[0], f"input_{index}")
            node.inputs[index] = gs.Constant(name, np.ascontiguousarray(values.transpose(inverse)))


def _transpose_output(graph: gs.Graph, node: gs.Node, perm: Sequence[int]) -> None:
    """Behind a node, bring what it gives now into the order that its readers know."""
    result = node.outputs[0]
    inner = gs.Variable(own_name(result, "channels_first"), result.dtype)
    if result.shape is not None:
        inner.shape = [result.shape[perm.index(axis)] for axis in range(len(perm))]
    node.outputs[0] = inner
    transpose = gs.Node("Transpose", attrs={"perm": perm}, inputs=[inner], outputs=[result])
    graph.nodes.insert(graph.nodes.index(node) + 1, transpose)
