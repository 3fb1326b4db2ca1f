"""Small helpers over onnx-graphsurgeon graphs that several passes need."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

STANDARD_DOMAINS = (None, "", "ai.onnx")


def is_standard(node: gs.Node) -> bool:
    """Whether the node is of ONNX's own operator set."""
    return node.domain in STANDARD_DOMAINS


def is_constant(tensor: gs.Tensor) -> bool:
    return isinstance(tensor, gs.Constant)


def is_present(tensor: gs.Tensor) -> bool:
    """Whether an input or output slot is used: an optional one left out has an empty name."""
    return not tensor.is_empty()


def variables(node: gs.Node) -> list[gs.Variable]:
    """The inputs of a node that are computed, not constant and not left out."""
    return [t for t in node.inputs if not is_constant(t) and is_present(t)]


def activations(node: gs.Node) -> list[gs.Variable]:
    """Those of a node's ``variables`` that are numbers of the network, not shapes or indices."""
    return [tensor for tensor in variables(node) if is_float(tensor)]


def is_float(tensor: gs.Tensor) -> bool:
    """Whether a tensor holds floating-point numbers, or nobody knows."""
    return tensor.dtype is None or np.issubdtype(tensor.dtype, np.floating)


def data_variables(graph: gs.Graph) -> Iterator[gs.Variable]:
    """Every variable of the graph, inputs first, each once."""
    seen: set[int] = set()
    produced = (tensor for node in graph.nodes for tensor in node.outputs)
    for tensor in (*graph.inputs, *produced):
        if is_present(tensor) and id(tensor) not in seen:
            seen.add(id(tensor))
            yield tensor


def rank(tensor: gs.Tensor) -> int | None:
    """Number of axes, or None where shape inference found none."""
    return None if tensor.shape is None else len(tensor.shape)


def int_list(tensor: gs.Constant) -> list[int]:
    """The values of an integer constant, flat."""
    return [int(value) for value in np.asarray(tensor.values).ravel()]


def own_name(owner: gs.Node | gs.Tensor, role: str) -> str:
    """A name for a new constant; exporters use the form ``node/role`` themselves."""
    return f"onnx_snn/{owner.name}/{role}"


def constant(name: str, values: npt.ArrayLike, dtype: npt.DTypeLike = np.int64) -> gs.Constant:
    return gs.Constant(name, np.asarray(values, dtype=dtype))


def set_constant(node: gs.Node, index: int, values: npt.NDArray[np.generic], role: str) -> None:
    """Replace input ``index`` of a node by other values, for this node alone.

    An initializer that nobody else reads keeps its name; a shared one is left to the others.
    """
    old = node.inputs[index]
    alone = isinstance(old, gs.Constant) and len(old.outputs) == 1
    name = old.name if alone else own_name(node, role)
    dtype = old.dtype if isinstance(old, gs.Constant) else values.dtype
    node.inputs[index] = gs.Constant(name, np.ascontiguousarray(values, dtype=dtype))


def replace_uses(graph: gs.Graph, old: gs.Variable, new: gs.Tensor) -> None:
    """Let every reader of ``old`` (nodes and graph outputs) read ``new``."""
    for node in list(old.outputs):
        node.inputs = [new if tensor is old else tensor for tensor in node.inputs]
    graph.outputs[:] = [new if tensor is old else tensor for tensor in graph.outputs]


def bypass(graph: gs.Graph, node: gs.Node) -> None:
    """Remove a node that passes its first input on unchanged.

    Graph inputs and outputs keep their names; a node between the two must stay.
    """
    source, result = node.inputs[0], node.outputs[0]
    if any(output is result for output in graph.outputs):
        if is_constant(source) or any(source is tensor for tensor in graph.inputs):
            return
        if any(output is source for output in graph.outputs):
            return
        producer = source.inputs[0]
        producer.outputs = [result if t is source else t for t in producer.outputs]
        node.outputs.clear()
        replace_uses(graph, source, result)
    else:
        node.outputs.clear()
        replace_uses(graph, result, source)
    node.inputs.clear()  # or the tensor would still count it as a reader
    graph.nodes.remove(node)


def insert_before(graph: gs.Graph, consumer: gs.Node, nodes: Iterable[gs.Node]) -> None:
    """Put nodes into the graph's list just before ``consumer``, which keeps it sorted."""
    at = graph.nodes.index(consumer)
    graph.nodes[at:at] = list(nodes)


def insert_behind(graph: gs.Graph, tensor: gs.Variable, nodes: Iterable[gs.Node]) -> None:
    """Put nodes into the graph's list just behind what computes ``tensor``."""
    producer = tensor.inputs[0] if tensor.inputs else None
    at = next((i for i, node in enumerate(graph.nodes) if node is producer), -1) + 1
    graph.nodes[at:at] = list(nodes)


def unique_name(graph: gs.Graph, base: str) -> str:
    """``base``, or ``base_1``, ``base_2`` … if the graph has a tensor of that name."""
    return new_name(set(graph.tensors()), base)


def new_name(taken: set[str], base: str) -> str:
    """``base``, or ``base_1``, ``base_2`` …, whichever is free first; it is then taken."""
    name, count = base, 1
    while name in taken:
        name, count = f"{base}_{count}", count + 1
    taken.add(name)
    return name
