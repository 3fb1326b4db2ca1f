"""Write a channel shuffle, which exporters spell with reshapes, as what it is: a permutation.

    [N, C, …] → Reshape [N, g, C/g, …] → Transpose (0, 2, 1, …) → Reshape [N, C, …]

becomes ``Gather(axis=1)`` by constant indices, so that a channel can be followed through it
(ShuffleNet: Zhang et al. 2017, arXiv 1707.01083, section 3.1).
"""

from __future__ import annotations

import math

import numpy as np
import onnx_graphsurgeon as gs

from onnx_snn.graph import constant, is_standard, own_name


def gather_shuffled_channels(graph: gs.Graph) -> None:
    """Edit the graph in place where all sizes are known and nobody reads what lies between."""
    for last in list(graph.nodes):
        transpose = _source(graph, last, "Reshape", "Transpose")
        first = transpose and _source(graph, transpose, "Transpose", "Reshape")
        if first is None or transpose is None:
            continue
        x, y = first.inputs[0], last.outputs[0]
        order = _order(x, transpose, y)
        if order is not None:
            last.inputs = [x, constant(own_name(y, "channels"), order)]
            last.op, last.attrs = "Gather", {"axis": 1}
    graph.cleanup().toposort()


def _source(graph: gs.Graph, node: gs.Node, op: str, source_op: str) -> gs.Node | None:
    """The node before a node, if these are the operators and only the one reads the other."""
    if node.op != op or not is_standard(node) or not node.inputs[0].inputs:
        return None
    tensor = node.inputs[0]
    source = tensor.inputs[0]
    if source.op != source_op or not is_standard(source) or len(tensor.outputs) > 1:
        return None
    return None if any(tensor is output for output in graph.outputs) else source


def _order(x: gs.Tensor, transpose: gs.Node, y: gs.Variable) -> list[int] | None:
    """For each channel of the result the one of ``x`` that it is; None if it is no shuffle."""
    shape, split = x.shape, transpose.inputs[0].shape
    if not shape or not split or len(shape) < 2 or len(split) < 3:
        return None
    perm = transpose.attrs.get("perm")
    if perm is None or list(perm) != [0, 2, 1, *range(3, len(split))]:
        return None
    if not all(isinstance(size, int) for size in (*shape[1:], *split[1:])):
        return None
    channels, groups, of_group = shape[1], split[1], split[2]
    if list(y.shape or ()) != list(shape) or split[0] != shape[0]:
        return None
    if groups * of_group != channels or math.prod(split[3:]) != math.prod(shape[2:]):
        return None
    order: list[int] = np.arange(channels).reshape(groups, of_group).T.ravel().tolist()
    return order
