"""Which nodes of a graph depend on given tensors."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_graphsurgeon as gs

from onnx_snn.graph import variables


def nodes_behind(graph: gs.Graph, roots: Iterable[gs.Variable]) -> list[gs.Node]:
    """The nodes that depend on the given tensors, in the order of the graph's list."""
    known = {tensor.name for tensor in roots}
    nodes = []
    for node in graph.nodes:
        if any(tensor.name in known for tensor in variables(node)):
            known |= {tensor.name for tensor in node.outputs}
            nodes.append(node)
    return nodes
