"""Drop optional outputs that nobody reads, since some keep a model's opset from being raised."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import defs

from onnx_snn.load.opset import opset_of

_OPTIONAL = defs.OpSchema.FormalParameterOption.Optional
_STATISTICS = 3  # outputs of a BatchNormalization in training mode, from opset 14 on


def drop_unread_outputs(model: onnx.ModelProto) -> None:
    """Edit the model and its subgraphs in place: masks, indices, batch statistics … go.

    A BatchNormalization in training mode gets all its outputs instead, without which shape
    inference knows nothing about it: it has to come as far as to be refused by name.
    """
    opset = opset_of(model)
    graphs = list(_graphs(model.graph))
    read = {value.name for graph in graphs for value in graph.output}
    read |= {name for graph in graphs for node in graph.node for name in node.input}
    for node in (node for graph in graphs for node in graph.node):
        if node.domain not in ("", "ai.onnx"):
            continue
        if _is_training(node):
            _name_statistics(node)
        else:
            _drop(node, opset, read)


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for attribute in (attribute for node in graph.node for attribute in node.attribute):
        for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
            yield from _graphs(inner)


def _is_training(node: onnx.NodeProto) -> bool:
    is_set = any(a.name == "training_mode" and a.i != 0 for a in node.attribute)
    return is_set and node.op_type == "BatchNormalization"


def _name_statistics(node: onnx.NodeProto) -> None:
    names = [*node.output, *[""] * (_STATISTICS - len(node.output))]
    node.output[:] = [name or f"onnx_snn/{names[0]}/{k}" for k, name in enumerate(names)]


def _drop(node: onnx.NodeProto, opset: int, read: set[str]) -> None:
    try:
        formal = defs.get_schema(node.op_type, opset, "").outputs
    except defs.SchemaError:
        return
    optional = {k for k, output in enumerate(formal) if output.option == _OPTIONAL}
    names = [
        "" if k in optional and name not in read else name for k, name in enumerate(node.output)
    ]
    while names and not names[-1]:
        names.pop()
    if names:
        node.output[:] = names
