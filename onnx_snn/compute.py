"""How much a node computes: multiplications and additions of one sample, from the shapes."""

from __future__ import annotations

import math

import onnx_graphsurgeon as gs

from onnx_snn.analyse import Analysis
from onnx_snn.operators import Kind


def operations(node: gs.Node) -> int:
    """Multiply-accumulates of a layer with weights or of a product; else one per output value.

    Axes of unknown size count as 1.
    """
    if not node.outputs or not node.inputs:
        return 0
    if node.op == "ConvTranspose":
        return _size(node.inputs[0]) * math.prod(_sizes(node.inputs[1])[1:])
    return _size(node.outputs[0]) * _inner_size(node)


def _inner_size(node: gs.Node) -> int:
    """What one output value is summed from, or else 1."""
    size = 1
    if node.op == "Conv":
        size = math.prod(_sizes(node.inputs[1])[1:])
    elif node.op in ("Gemm", "MatMul"):
        size = (_sizes(node.inputs[0], whole=True) or [1])[-1]
    elif node.op in ("AveragePool", "MaxPool", "LpPool"):
        size = math.prod(int(k) for k in node.attrs.get("kernel_shape", [1]))
    elif node.op.startswith(("Reduce", "Global")):
        size = -(-_size(node.inputs[0]) // max(_size(node.outputs[0]), 1))
    return max(size, 1)


def graded_share(graph: gs.Graph, analysis: Analysis) -> float:
    """The part of all ``operations`` that is neither spiking nor linear, in [0, 1].

    Args:
        graph: in clean form, with shapes.
        analysis: of this graph.
    """
    kinds = {verdict.node: verdict.kind for verdict in analysis.verdicts}
    counted = [
        (kinds[node.name], operations(node))
        for node in graph.nodes
        if kinds[node.name] is not Kind.METADATA
    ]
    total = sum(count for _, count in counted)
    graded = sum(count for kind, count in counted if kind is Kind.DIFFERENTIAL)
    return graded / total if total else 0.0


def _sizes(tensor: gs.Tensor, whole: bool = False) -> list[int]:
    """The sizes of a tensor's axes; of an activation without the batch, unless ``whole``."""
    shape = list(tensor.shape or [])
    if isinstance(tensor, gs.Variable) and not whole:
        shape = shape[1:]
    return [size if isinstance(size, int) else 1 for size in shape]


def _size(tensor: gs.Tensor) -> int:
    return math.prod(_sizes(tensor))
