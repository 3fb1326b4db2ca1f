"""Raise a model's opset; what onnx's own converter gets wrong is put right here."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import helper, numpy_helper, version_converter

from onnx_snn.errors import UnsupportedModelError

MIN_OPSET = 18
"""The oldest default-domain opset of a converted file (reductions with axes as an input)."""


def opset_of(model: onnx.ModelProto) -> int:
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx"):
            return int(entry.version)
    return MIN_OPSET


def raise_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with opset 18, or as it is if its opset is newer.

    Raises:
        UnsupportedModelError: it uses an operator that has no counterpart in opset 18, or it is in
            training mode.
    """
    version = opset_of(model)
    if version >= MIN_OPSET:
        return model
    if version < 7:
        _refuse_training(model.graph)
    if version < 13:
        _flatten_hardmax(model.graph)
    try:
        model = version_converter.convert_version(model, MIN_OPSET)
    except Exception as error:  # the converter raises RuntimeError and its own types alike
        reason = str(error).strip().splitlines()[-1]
        raise UnsupportedModelError(
            f"opset {version} cannot be raised to {MIN_OPSET} ({reason}); "
            f"export the model again with opset {MIN_OPSET} or newer"
        ) from error
    if version < 11:
        _resize_as_before(model.graph)
    return model


def _refuse_training(graph: onnx.GraphProto) -> None:
    """BatchNormalization before opset 7 is in training mode unless ``is_test`` says otherwise."""
    for node in graph.node:
        is_test = any(a.name == "is_test" and a.i for a in node.attribute)
        if node.op_type == "BatchNormalization" and not is_test:
            raise UnsupportedModelError(
                f"BatchNormalization node '{node.name or node.output[0]}' is in training mode "
                "(is_test is 0), so that its output depends on the batch; export the model in "
                "evaluation mode (model.eval())"
            )


def _flatten_hardmax(graph: onnx.GraphProto) -> None:
    """Write out that Hardmax before opset 13 sees its input as a matrix, split at ``axis``."""
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        graph.node.extend(_hardmax(node) if node.op_type == "Hardmax" else [node])


def _hardmax(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    x, y = node.input[0], node.output[0]
    matrix, largest, shape = (f"onnx_snn/{y}/{part}" for part in ("matrix", "largest", "shape"))
    axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
    yield helper.make_node("Flatten", [x], [matrix], axis=axis)
    yield helper.make_node("Hardmax", [matrix], [largest], name=node.name, axis=1)
    yield helper.make_node("Shape", [x], [shape])
    yield helper.make_node("Reshape", [largest, shape], [y])


def _resize_as_before(graph: onnx.GraphProto) -> None:
    """Say how Upsample and Resize placed their samples before opset 11 let a model choose.

    They were asymmetric (x_in = x_out / scale); onnx's converter leaves the later default,
    half_pixel. Rounding follows onnxruntime: down, but up where the image shrinks.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Resize":
            scales = constants.get(node.input[2]) if len(node.input) > 2 else None
            shrinks = scales is not None and bool((numpy_helper.to_array(scales) <= 1).all())
            _set(node, "coordinate_transformation_mode", "asymmetric")
            _set(node, "nearest_mode", "ceil" if shrinks else "floor")


def _set(node: onnx.NodeProto, name: str, value: str) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])
