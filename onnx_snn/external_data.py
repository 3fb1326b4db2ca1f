"""Weights beside a model instead of in it: protobuf ends at 2 GiB, networks do not.

An ONNX tensor may name a place in another file for its bytes ("external data" in ONNX's
specification of the format). Here models are taken apart for that without copying a weight.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import Message
from onnx import TensorProto, helper

LARGEST_MESSAGE = int(onnx.checker.MAXIMUM_PROTOBUF)
"""The most bytes that protobuf serialises."""

_SMALLEST = 1024  # bytes; smaller tensors stay in the model
_PAGE = 4096  # tensors start on a page of memory, so that they can be mapped
_OVERHEAD = 16  # bytes, at most, by which protobuf tells what a tensor is and where it ends
_HOLDERS = (
    onnx.ModelProto,
    onnx.GraphProto,
    onnx.FunctionProto,
    onnx.NodeProto,
    onnx.AttributeProto,
)


@dataclass(frozen=True)
class Detached:
    """A model and its larger tensors apart.

    Attributes:
        outline: a copy of the model in which these tensors lack their bytes.
        tensors: pairs of such a tensor in the outline and the one of the model that has the bytes,
            those of subgraphs too.
    """

    outline: onnx.ModelProto = field(default_factory=onnx.ModelProto)
    tensors: list[tuple[TensorProto, TensorProto]] = field(default_factory=list)

    def chunks(self) -> Iterator[tuple[TensorProto, bytes]]:
        """The tensors of the outline and their bytes, one after the other."""
        for stub, tensor in self.tensors:
            yield stub, tensor.raw_data

    @property
    def size(self) -> int:
        """Bytes of the whole model, serialised, or a few more."""
        weights = sum(_bytes(tensor) + _OVERHEAD for _, tensor in self.tensors)
        return int(self.outline.ByteSize()) + weights

    @property
    def fits_message(self) -> bool:
        """Whether protobuf can serialise the model."""
        return self.size <= LARGEST_MESSAGE


def detach(model: onnx.ModelProto) -> Detached:
    """Take a model apart; it is not changed."""
    detached = Detached()
    _copy(model, detached.outline, detached.tensors)
    return detached


def save_with_external_data(detached: Detached, path: Path, data: Path, location: str) -> None:
    """Write a model and a file of its larger tensors.

    Args:
        detached: the outline is left pointing to the data.
        path: of the model.
        data: of the tensors.
        location: the name of ``data`` that the model is to know, relative to its folder.
    """
    with data.open("wb") as file:
        for stub, content in detached.chunks():
            offset = -(-file.tell() // _PAGE) * _PAGE
            file.seek(offset)
            file.write(content)
            stub.data_location = TensorProto.EXTERNAL
            place = {"location": location, "offset": offset, "length": len(content)}
            for key, value in place.items():
                stub.external_data.add(key=key, value=str(value))
    path.write_bytes(detached.outline.SerializeToString(deterministic=True))


def _copy(source: Any, target: Any, tensors: list[tuple[TensorProto, TensorProto]]) -> None:
    if isinstance(source, TensorProto) and source.HasField("raw_data"):
        _copy_header(source, target)
        if _bytes(source) < _SMALLEST:
            target.raw_data = source.raw_data
        else:
            tensors.append((target, source))
        return
    if not isinstance(source, _HOLDERS):
        target.CopyFrom(source)
        return
    for descriptor, value in source.ListFields():
        name = descriptor.name
        if isinstance(value, Message):
            _copy(value, getattr(target, name), tensors)
        elif descriptor.type != descriptor.TYPE_MESSAGE:
            _set(target, name, value)
        else:
            for item in value:
                _copy(item, getattr(target, name).add(), tensors)


def _set(target: Any, name: str, value: Any) -> None:
    if isinstance(value, str | bytes | int | float):
        setattr(target, name, value)
    else:
        getattr(target, name).extend(value)


def _copy_header(source: TensorProto, target: TensorProto) -> None:
    target.dims.extend(source.dims)
    target.data_type = source.data_type
    target.name = source.name
    if source.HasField("doc_string"):
        target.doc_string = source.doc_string
    target.metadata_props.extend(source.metadata_props)


def _bytes(tensor: TensorProto) -> int:
    try:
        item = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize
    except KeyError:
        return 0
    return math.prod(tensor.dims) * item
