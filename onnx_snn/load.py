"""Load: any valid ONNX model to one clean form that every later room can rely on.

The clean form: opset >= 18 without model-local functions; weights are constants; no Constant,
Identity or Dropout nodes; every node has a unique name; axis 0 of every activation is the batch,
of any size, and is called ``N``; shapes are inferred.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import inliner, version_converter
from onnx_graphsurgeon.logger import G_LOGGER

from onnx_snn.errors import ModelError, UnsupportedModelError
from onnx_snn.graph import (
    bypass,
    constant,
    data_variables,
    int_list,
    is_constant,
    own_name,
)
from onnx_snn.ops import DOMAIN

MIN_OPSET = 18
"""The oldest default-domain opset of a converted file (reductions with axes as an input)."""

BATCH = "N"
"""Name of the batch axis in a clean graph."""


def load_graph(model: onnx.ModelProto) -> gs.Graph:
    """Import a model and clean it, weights untouched.

    Args:
        model: a valid model (see ``read_model``); it is not changed.

    Returns:
        The graph in clean form, topologically sorted. It computes what ``model`` computes.

    Raises:
        UnsupportedModelError: the model is a spiking network already, or its opset cannot be
            raised to 18.
        ModelError: its shapes contradict each other.
    """
    if any(node.domain == DOMAIN for node in model.graph.node):
        raise UnsupportedModelError(
            "the model is a spiking network already; convert the original network instead"
        )
    model = _copy(model)
    if model.functions:
        model = _inline_functions(model)
    model = _raise_opset(model)
    _hide_weights(model)
    batch = _free_batch(model)
    graph = _import(_infer_shapes(model))
    if _copy_batch_in_reshapes(graph, batch):
        graph = _import(_infer_shapes(gs.export_onnx(graph)))
    _name_nodes(graph)
    return graph


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _inline_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    model = inliner.inline_local_functions(model)
    if model.functions:
        function = model.functions[0]
        raise UnsupportedModelError(
            f"the model's function '{function.domain}.{function.name}' cannot be inlined (its "
            "opset is not the model's); export the model again with one opset"
        )
    return model


def _opset(model: onnx.ModelProto) -> int:
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx"):
            return int(entry.version)
    return MIN_OPSET


def _raise_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    version = _opset(model)
    if version >= MIN_OPSET:
        return model
    try:
        return version_converter.convert_version(model, MIN_OPSET)
    except Exception as error:  # the converter raises RuntimeError and its own types alike
        reason = str(error).strip().splitlines()[-1]
        raise UnsupportedModelError(
            f"opset {version} cannot be raised to {MIN_OPSET} ({reason}); "
            f"export the model again with opset {MIN_OPSET} or newer"
        ) from error


def _hide_weights(model: onnx.ModelProto) -> None:
    """Take initializers off the list of inputs, where files of IR version 3 must list them."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, 8)


def _free_batch(model: onnx.ModelProto) -> int | None:
    """Give axis 0 of every input the size ``N``; returns the size that all had, if they had one."""
    fixed = set()
    for value in model.graph.input:
        shape = value.type.tensor_type.shape
        if shape.dim:
            if shape.dim[0].dim_value > 0:
                fixed.add(shape.dim[0].dim_value)
            shape.dim[0].Clear()
            shape.dim[0].dim_param = BATCH
    return fixed.pop() if len(fixed) == 1 else None


def _infer_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Infer all shapes from those of the inputs; what the file says of others is forgotten."""
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"the model's shapes contradict each other: {reason}") from error


def _import(model: onnx.ModelProto) -> gs.Graph:
    with G_LOGGER.suppress(G_LOGGER.ERROR):  # it prints its advice on stdout
        graph = gs.import_onnx(model)
        graph.toposort()
        graph.fold_constants(fold_shapes=False)
    for node in list(graph.nodes):
        if node.op in ("Identity", "Dropout") and node.domain in (None, "", "ai.onnx"):
            bypass(graph, node)
    graph.cleanup().toposort()
    return graph


def _copy_batch_in_reshapes(graph: gs.Graph, batch: int | None) -> bool:
    """Write 0 (copy the axis) for the batch in a Reshape that says -1, or its fixed size, for it.

    ``Reshape(x, [-1, 512])`` keeps the batch apart only if each sample has 512 values; written
    as ``[0, 512]`` it says so, and shape inference sees it.
    """
    changed = False
    for node in graph.nodes:
        if node.op == "Reshape" and is_constant(node.inputs[1]) and _keeps_batch(node, batch):
            values = np.asarray([0, *int_list(node.inputs[1])[1:]], dtype=np.int64)
            node.inputs[1] = constant(own_name(node.outputs[0], "target"), values)
            node.attrs.pop("allowzero", None)
            changed = True
    return changed


def _keeps_batch(node: gs.Node, batch: int | None) -> bool:
    """Whether the first entry of a Reshape's target, not yet 0, stands for the batch."""
    target, shape = int_list(node.inputs[1]), node.inputs[0].shape
    if not target or (node.attrs.get("allowzero", 0) and 0 in target):
        return False
    if target[0] == batch:
        return True
    features = shape[1:] if shape else []
    fixed = features and all(isinstance(size, int) for size in features)
    return bool(fixed and target[0] == -1 and math.prod(features) == math.prod(target[1:]))


def _name_nodes(graph: gs.Graph) -> None:
    taken: set[str] = set()
    for node in graph.nodes:
        base = node.name or f"{node.op}_{node.outputs[0].name}"
        name, count = base, 1
        while name in taken:
            name, count = f"{base}_{count}", count + 1
        node.name = name
        taken.add(name)
    for variable in data_variables(graph):
        if variable.shape is not None:
            variable.shape = list(variable.shape)
