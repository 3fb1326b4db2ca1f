"""Take placeholders out of a graph and put nodes in their place."""

from __future__ import annotations

import onnx_graphsurgeon as gs


def take_apart(node: gs.Node) -> tuple[list[gs.Variable], gs.Variable]:
    """Free the tensors of a placeholder: what it reads, and what it gives."""
    sources, result = list(node.inputs), node.outputs[0]
    node.inputs.clear()
    node.outputs.clear()
    return sources, result


def replace(graph: gs.Graph, node: gs.Node, nodes: list[gs.Node]) -> None:
    """Put nodes where a placeholder stands, which keeps the graph's list sorted."""
    at = graph.nodes.index(node)
    graph.nodes[at : at + 1] = nodes
