"""Tidy: remove nodes that change nothing and write others in the form that later rooms know."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs
from onnx import TensorProto, helper

from onnx_snn.graph import bypass, constant, int_list, is_constant, is_standard, own_name, rank
from onnx_snn.load.transposes import join_transposes, sink_transposes


def tidy(graph: gs.Graph) -> None:
    """Remove nodes that change nothing, join and move Transposes, write Split as Slices.

    Identity, Dropout, and a Cast, Expand or Tile to what its input is already go. The function
    stays the same. A node between a graph input and a graph output stays, since both keep their
    names.
    """
    for node in list(graph.nodes):
        if not is_standard(node) or not node.outputs:  # those that became constants have none
            continue
        if _changes_nothing(graph, node):
            bypass(graph, node)
        elif node.op == "Transpose":
            join_transposes(graph, node)
        elif node.op == "Split":
            _split_to_slices(graph, node)
        else:
            sink_transposes(graph, node)
    graph.cleanup().toposort()


def _changes_nothing(graph: gs.Graph, node: gs.Node) -> bool:
    if node.op == "Identity":
        return True
    if node.op == "Dropout":
        mask = node.outputs[1:]
        return not any(t.outputs or any(t is out for out in graph.outputs) for t in mask)
    if node.op == "Cast":
        dtype = node.inputs[0].dtype
        return dtype is not None and _element_type(dtype) == node.attrs["to"]
    if node.op in ("Expand", "Tile") and is_constant(node.inputs[1]):
        repeats, axes = int_list(node.inputs[1]), rank(node.inputs[0])
        return axes is not None and len(repeats) <= axes and set(repeats) <= {1}
    return False


def _element_type(dtype: object) -> int:
    if isinstance(dtype, int):  # of types that NumPy lacks, graphsurgeon keeps ONNX's number
        return dtype
    try:
        return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))  # type: ignore[call-overload]
    except (KeyError, TypeError, ValueError):
        return int(TensorProto.UNDEFINED)


def _split_to_slices(graph: gs.Graph, node: gs.Node) -> None:
    sizes = _split_sizes(node)
    if sizes is None:
        return
    source, axis = node.inputs[0], node.attrs.get("axis", 0)
    starts = [0, *itertools.accumulate(sizes)]
    at = graph.nodes.index(node)
    parts = list(node.outputs)
    node.outputs.clear()
    node.inputs.clear()
    graph.nodes[at : at + 1] = [
        gs.Node(
            "Slice",
            f"{node.name}/{k}" if node.name else "",
            inputs=[
                source,
                constant(own_name(part, "start"), [starts[k]]),
                constant(own_name(part, "end"), [starts[k + 1]]),
                constant(own_name(part, "axis"), [axis]),
            ],
            outputs=[part],
        )
        for k, part in enumerate(parts)
        if not part.is_empty()
    ]


def _split_sizes(node: gs.Node) -> Sequence[int] | None:
    """The sizes of the parts, or None if they are not numbers."""
    if len(node.inputs) > 1 and not node.inputs[1].is_empty():
        return int_list(node.inputs[1]) if is_constant(node.inputs[1]) else None
    shape = node.inputs[0].shape
    size = shape[node.attrs.get("axis", 0)] if shape is not None else None
    if not isinstance(size, int):
        return None
    count = len(node.outputs)
    part = -(-size // count)  # rounded up; the last is smaller
    return [max(0, min(part, size - k * part)) for k in range(count)]
