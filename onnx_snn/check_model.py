"""Check: is a model whole, valid, and harmless to look at? Before anything is computed with it."""

from __future__ import annotations

import math
from collections.abc import Iterator, MutableSequence

import numpy as np
import onnx
from google.protobuf.message import Message
from onnx import TensorProto, numpy_helper

from onnx_snn.check_sizes import check_sizes
from onnx_snn.errors import ModelError, UnsupportedModelError
from onnx_snn.external_data import detach
from onnx_snn.ops import is_spiking

_DEFAULT_DOMAINS = ("", "ai.onnx")
_DEEPEST = 100  # messages in each other, as many as protobuf reads from a file
_DEEPEST_CALL = 50  # functions that call each other
_MOST_NODES = 1_000_000  # of a model with its functions written out
_FLOAT_TYPES = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE})
_WINDOWED = frozenset({"Conv", "ConvTranspose", "AveragePool", "MaxPool", "LpPool"})
_LEAST = {"kernel_shape": 1, "strides": 1, "dilations": 1, "pads": 0, "group": 1}
_FACTORS = frozenset({"alpha", "beta", "epsilon"})  # attributes that results are multiplied with


def check_model(model: onnx.ModelProto, origin: str) -> None:
    """Check a model that the user gave; what is cheap and what protects other checks first.

    Args:
        model: with external data loaded.
        origin: how messages call it.

    Raises:
        ModelError: it is damaged or against the ONNX specification, has NaN or infinity in its
            weights, or asks for tensors of absurd size.
        UnsupportedModelError: its opset is newer than the installed onnx.
    """
    _check_text(model, origin)
    _check_opsets(model, origin)
    _check_functions(model, origin)
    for tensor in model.graph.initializer:
        _check_initializer(tensor, origin)
    _check_specification(model, origin)
    _check_graph(model.graph, origin)
    _check_windows(model.graph, origin)
    if not is_spiking(model):  # or nobody computes its constants but onnxruntime
        check_sizes(model, origin)


def _check_text(model: onnx.ModelProto, origin: str) -> None:
    if not _is_text_intact(model, origin):
        raise ModelError(
            f"{origin}: is damaged (a name in it is not UTF-8); export or copy the model again"
        )


def _is_text_intact(message: Message, origin: str, depth: int = 0) -> bool:
    """Whether every text is UTF-8, which protobuf does not check; weights are passed over."""
    if depth > _DEEPEST:
        raise ModelError(
            f"{origin}: its subgraphs are nested too deeply; export the model as a flat graph"
        )
    if isinstance(message, TensorProto):
        return isinstance(message.name, str)
    for field, value in message.ListFields():
        for item in value if isinstance(value, MutableSequence) else [value]:
            if isinstance(item, Message):
                if not _is_text_intact(item, origin, depth + 1):
                    return False
            elif field.type == field.TYPE_STRING and not isinstance(item, str):
                return False  # protobuf gives bytes where it cannot decode
    return True


def _check_opsets(model: onnx.ModelProto, origin: str) -> None:
    domains = [entry.domain or "ai.onnx" for entry in model.opset_import]
    twice = _first_twice(domains)
    if twice is not None:
        raise ModelError(
            f"{origin}: imports two opsets of the domain '{twice}'; export the model again"
        )
    newest = onnx.defs.onnx_opset_version()
    for entry in model.opset_import:
        if entry.domain in _DEFAULT_DOMAINS and entry.version > newest:
            raise UnsupportedModelError(
                f"{origin}: has opset {entry.version}, the installed onnx knows up to {newest}; "
                f"update onnx, or export the model with opset {newest} or older"
            )


def _check_functions(model: onnx.ModelProto, origin: str) -> None:
    """Functions that call themselves never end, and a few that call others twice are millions."""
    bodies = {(f.domain, f.name): list(nodes_of(f.node)) for f in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(nodes: list[onnx.NodeProto], depth: int) -> int:
        if depth > _DEEPEST_CALL:
            raise ModelError(
                f"{origin}: its functions call themselves, or each other too deeply; "
                "export the model without functions"
            )
        total = len(nodes)
        for key in ((node.domain, node.op_type) for node in nodes):
            if key in bodies:
                if key not in sizes:
                    sizes[key] = size(bodies[key], depth + 1)
                total += sizes[key]
        return total

    if size(list(nodes_of(model.graph.node)), 0) > _MOST_NODES:
        raise ModelError(
            f"{origin}: has more than {_MOST_NODES:,} nodes with its functions written out; "
            "export the model without functions"
        )


def _check_initializer(tensor: TensorProto, origin: str) -> None:
    try:
        if any(size < 0 for size in tensor.dims):
            raise ValueError("a negative dimension")
        values = numpy_helper.to_array(tensor)
    except Exception as error:  # onnx and numpy: a type for each kind of damage
        raise ModelError(
            f"{origin}: initializer '{tensor.name}' is damaged ({_first_line(error)}); "
            "export or copy the model again"
        ) from error
    if tensor.data_type in _FLOAT_TYPES and not np.isfinite(values).all():
        kind = "NaN" if np.isnan(values).any() else "infinity"
        raise ModelError(
            f"{origin}: initializer '{tensor.name}' holds {kind}; "
            "repair or retrain the model before converting it"
        )


def _check_specification(model: onnx.ModelProto, origin: str) -> None:
    if not detach(model).fits_message:
        return  # the checker cannot take it from memory
    try:
        model = _with_deprecated_replaced(model)
        # The checker insists on the shapes of outputs, which nobody else needs.
        complete = all(value.type.tensor_type.HasField("shape") for value in model.graph.output)
        onnx.checker.check_model(model if complete else onnx.shape_inference.infer_shapes(model))
    except Exception as error:  # ValidationError, or UnicodeDecodeError for the text of one
        raise ModelError(
            f"{origin}: breaks the ONNX specification: {_first_line(error)}"
        ) from error


def _with_deprecated_replaced(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model that the checker takes: it refuses GroupNormalization of opsets 18 to 20.

    onnx deprecated that form, but files have it and ``load`` reads it. InstanceNormalization has
    the same inputs and outputs.
    """
    deprecated = _deprecated_group_normalizations(model)
    if next(deprecated, None) is None:
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in _deprecated_group_normalizations(copy):
        groups = next((a.i for a in node.attribute if a.name == "num_groups"), 0)
        if groups < 1:
            raise ValueError(
                f"num_groups of GroupNormalization node '{node.name}' is {groups}, not 1 or more"
            )
        node.op_type = "InstanceNormalization"
        kept = [a for a in node.attribute if a.name != "num_groups"]
        del node.attribute[:]
        node.attribute.extend(kept)
    return copy


def _deprecated_group_normalizations(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    opsets = {e.version for e in model.opset_import if e.domain in _DEFAULT_DOMAINS}
    if not opsets & {18, 19, 20}:
        return
    for node in nodes_of(model.graph.node):
        if node.op_type == "GroupNormalization" and node.domain in _DEFAULT_DOMAINS:
            yield node


def _check_graph(graph: onnx.GraphProto, origin: str) -> None:
    """What onnx's checker lets pass."""
    if not graph.output:
        raise ModelError(f"{origin}: has no outputs; export or copy the model again")
    twice = _first_twice([value.name for value in graph.output])
    if twice is not None:
        raise ModelError(f"{origin}: names the output '{twice}' twice; export the model again")
    for node in nodes_of(graph.node):
        for attribute in node.attribute:
            if attribute.name in _FACTORS and not math.isfinite(attribute.f):
                raise ModelError(
                    f"{origin}: {attribute.name} of {node.op_type} node '{node.name}' is "
                    f"{attribute.f}; repair or retrain the model before converting it"
                )


def _check_windows(graph: onnx.GraphProto, origin: str) -> None:
    """Sizes that onnxruntime divides by, or that overflow: some versions crash."""
    dims = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for node in nodes_of(graph.node):
        if node.op_type not in _WINDOWED:
            continue
        where = f"{origin}: {node.op_type} node '{node.name}'"
        group = 1
        for attribute in node.attribute:
            least = _LEAST.get(attribute.name)
            values = [attribute.i] if attribute.name == "group" else list(attribute.ints)
            if least is not None and not all(least <= value < 2**31 for value in values):
                raise ModelError(
                    f"{where} has {attribute.name} {values}, not sizes from {least} on; "
                    "export the model again"
                )
            group = attribute.i if attribute.name == "group" else group
        weight = dims.get(node.input[1]) if len(node.input) > 1 else None
        if weight is not None and (len(weight) < 3 or weight[0] % group):
            raise ModelError(
                f"{where} has weights {weight}, which do not fit {group} groups; "
                "export the model again"
            )


def nodes_of(nodes: MutableSequence[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """These nodes and those of all their subgraphs."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from nodes_of(graph.node)


def _first_twice(names: list[str]) -> str | None:
    return next((name for index, name in enumerate(names) if name in names[:index]), None)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
