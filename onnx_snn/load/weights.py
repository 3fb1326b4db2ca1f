"""Weights and structure apart: what edits the structure then moves kilobytes, not the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_graphsurgeon as gs
from onnx import TensorProto, helper, numpy_helper

from onnx_snn.errors import UnsupportedModelError

SMALL = 1024
"""Constants of up to so many elements stay in the structure: they may be shapes, axes, sizes."""

LARGEST_DENSE = 1 << 30
"""The most bytes that a sparse constant may take as a dense one."""

_NATIVE = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE})


@dataclass(frozen=True)
class Structure:
    """A model without its larger weights, which stand among its inputs, and these weights."""

    model: onnx.ModelProto
    weights: Mapping[str, TensorProto]


def detach_weights(model: onnx.ModelProto) -> Structure:
    """Copy a model, but for its larger floating-point initializers.

    Initializers come off the list of inputs, where files of IR version 3 must list them; sparse
    ones become dense.

    Raises:
        UnsupportedModelError: a sparse initializer is too large to be made dense.
    """
    source = model.graph
    given = {t.name for t in source.initializer}
    given |= {t.values.name for t in source.sparse_initializer}
    graph = onnx.GraphProto(name=source.name, doc_string=source.doc_string)
    graph.node.extend(source.node)
    graph.input.extend(value for value in source.input if value.name not in given)
    graph.output.extend(source.output)
    weights: dict[str, TensorProto] = {}
    for tensor in source.initializer:
        if tensor.data_type in _NATIVE and np.prod(tensor.dims, dtype=float) > SMALL:
            weights[tensor.name] = tensor
            graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
        else:
            graph.initializer.append(tensor)
    for sparse in source.sparse_initializer:
        graph.initializer.append(_dense(sparse, sparse.values.name))
    copy = onnx.ModelProto(
        ir_version=max(model.ir_version, 8),
        producer_name=model.producer_name,
        producer_version=model.producer_version,
        graph=graph,
    )
    copy.opset_import.extend(model.opset_import)
    copy.functions.extend(model.functions)
    return Structure(copy, weights)


def attach_weights(graph: gs.Graph, weights: Mapping[str, TensorProto]) -> None:
    """Put the weights back in the place of the inputs that stand for them."""
    for tensor in graph.inputs:
        if tensor.name in weights:
            tensor.to_constant(numpy_helper.to_array(weights[tensor.name]))
    graph.inputs = [tensor for tensor in graph.inputs if tensor.name not in weights]


def constants_to_initializers(graph: onnx.GraphProto) -> None:
    """Turn every Constant node, whichever attribute holds its value, into an initializer.

    Those of inner graphs too.
    """
    kept = []
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                constants_to_initializers(attribute.g)
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx") and node.attribute:
            graph.initializer.append(_constant(node.attribute[0], node.output[0]))
        else:
            kept.append(node)
    if len(kept) < len(graph.node):
        del graph.node[:]
        graph.node.extend(kept)


def _constant(attribute: onnx.AttributeProto, name: str) -> TensorProto:
    value: Any = helper.get_attribute_value(attribute)
    if isinstance(value, TensorProto):
        tensor = TensorProto()
        tensor.CopyFrom(value)
        tensor.name = name
        return tensor
    if isinstance(value, onnx.SparseTensorProto):
        return _dense(value, name)
    dtype: npt.DTypeLike = np.object_  # of strings
    if attribute.name in ("value_float", "value_floats"):
        dtype = np.float32
    elif attribute.name in ("value_int", "value_ints"):
        dtype = np.int64
    return numpy_helper.from_array(np.asarray(value, dtype), name)


def _dense(sparse: onnx.SparseTensorProto, name: str) -> TensorProto:
    """The dense form; indices are linear, [k], or coordinates, [k, rank]."""
    values = numpy_helper.to_array(sparse.values)
    if np.prod(sparse.dims, dtype=float) * values.itemsize > LARGEST_DENSE:
        raise UnsupportedModelError(
            f"the sparse constant '{name}' is too large to be made dense (shape "
            f"{list(sparse.dims)}); export the model with a smaller one"
        )
    dense: npt.NDArray[Any] = np.zeros(tuple(sparse.dims), values.dtype)
    indices = numpy_helper.to_array(sparse.indices)
    if indices.ndim == 2:
        dense[tuple(indices.T)] = values
    else:
        dense.reshape(-1)[indices] = values
    return numpy_helper.from_array(dense, name)
