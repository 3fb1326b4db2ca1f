"""Replace an If whose condition is known by the nodes of the branch that it takes."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import helper


def take_branch(
    node: onnx.NodeProto, condition: bool, number: int
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """The nodes and initializers of one branch, ready to stand in place of the If.

    Names of the branch get the number before them, another one for each call, since two branches
    may use the same ones.
    """
    wanted = "then_branch" if condition else "else_branch"
    branch = onnx.GraphProto()
    branch.CopyFrom(next(a.g for a in node.attribute if a.name == wanted))
    names = {name: f"onnx_snn/{number}/{name}" for name in _own(branch)}
    _rename(branch, names)
    ends = [
        helper.make_node("Identity", [names.get(inner.name, inner.name)], [outer])
        for inner, outer in zip(branch.output, node.output, strict=True)
        if outer
    ]
    return [*branch.node, *ends], list(branch.initializer)


def _own(graph: onnx.GraphProto) -> set[str]:
    """Names of the tensors that a graph makes itself."""
    own = {name for node in graph.node for name in node.output if name}
    return own | {tensor.name for tensor in graph.initializer} | {v.name for v in graph.input}


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Rename tensors; what inner graphs read from this one is renamed too."""
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                inner = attribute.g
                foreign = {name: new for name, new in names.items() if name not in _own(inner)}
                _rename(inner, foreign)
                for value in inner.output:
                    value.name = foreign.get(value.name, value.name)
