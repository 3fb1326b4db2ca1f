"""Load: any valid ONNX model to one clean form that every later room can rely on.

The clean form: opset >= 18 without model-local functions; weights are constants, and so are
shapes, axes and ends of slices wherever they follow from known sizes; no Constant, Identity,
Dropout, Split or idle Cast nodes; every node has a unique name; axis 0 of every activation is the
batch, of any size, and is called ``N``; shapes are inferred. What is still computed from Shape
nodes alone follows the size of an input at run time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import inliner
from onnx_graphsurgeon.logger import G_LOGGER

from onnx_snn.errors import ModelError, UnsupportedModelError, one_line
from onnx_snn.graph import data_variables, is_constant, is_standard
from onnx_snn.load.batch_runs import BATCH, is_random
from onnx_snn.load.channel_shuffle import gather_shuffled_channels
from onnx_snn.load.group_normalization import expand_group_normalization
from onnx_snn.load.ml_operators import replace_ml_operators
from onnx_snn.load.opset import MIN_OPSET, raise_opset
from onnx_snn.load.settle_shapes import settle_shapes
from onnx_snn.load.tidy import tidy
from onnx_snn.load.unread_outputs import drop_unread_outputs
from onnx_snn.load.weights import attach_weights, constants_to_initializers, detach_weights
from onnx_snn.ops import is_spiking

__all__ = ["BATCH", "MIN_OPSET", "load_graph"]

LARGEST_FOLDED = 64 << 20
"""The most bytes that a folded constant may have, if that is more than it is computed from."""


def load_graph(model: onnx.ModelProto) -> gs.Graph:
    """Import a model and clean it, weights untouched.

    Args:
        model: a valid model (see ``read_model``); it is not changed.

    Returns:
        The graph in clean form, topologically sorted. It computes what ``model`` computes.

    Raises:
        UnsupportedModelError: the model is a spiking network already, its opset cannot be
            raised to 18, or it works for one batch size only.
        ModelError: its shapes contradict each other.
    """
    if is_spiking(model):
        raise UnsupportedModelError(
            "the model is a spiking network already; convert the original network instead"
        )
    structure = detach_weights(model)
    clean = _inline_functions(structure.model)
    drop_unread_outputs(clean)
    clean = raise_opset(clean)
    replace_ml_operators(clean)
    expand_group_normalization(clean)
    constants_to_initializers(clean.graph)
    batch = _free_batch(v for v in clean.graph.input if v.name not in structure.weights)
    clean = _infer_shapes(clean)
    settle_shapes(clean, batch)
    _declare_outputs(clean.graph, model.graph)
    with G_LOGGER.suppress(G_LOGGER.ERROR):  # it prints its advice on stdout
        graph = gs.import_onnx(clean)
        attach_weights(graph, structure.weights)
        graph.toposort()
        graph.fold_constants(fold_shapes=False, should_exclude_node=_must_stay)
    tidy(graph)
    gather_shuffled_channels(graph)
    _name_nodes(graph)
    return graph


def _inline_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    if not model.functions:
        return model
    model = inliner.inline_local_functions(model)
    if model.functions:
        function = model.functions[0]
        raise UnsupportedModelError(
            f"the model's function '{function.domain}.{function.name}' cannot be inlined (its "
            "opset is not the model's); export the model again with one opset"
        )
    return model


def _free_batch(inputs: Iterable[onnx.ValueInfoProto]) -> int | None:
    """Give axis 0 of every input the size ``N``; returns the size that all had, if they had one."""
    fixed = set()
    for value in inputs:
        shape = value.type.tensor_type.shape
        for dim in shape.dim[1:]:
            if dim.dim_param == BATCH:
                dim.dim_param = f"{BATCH}_"  # another axis, whatever the file calls it
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
        raise ModelError(f"the model's shapes contradict each other: {one_line(error)}") from error


def _declare_outputs(graph: onnx.GraphProto, source: onnx.GraphProto) -> None:
    """Believe the file on the shapes of outputs that nobody can infer (of unknown operators)."""
    for value, declared in zip(graph.output, source.output, strict=True):
        kind = value.type.tensor_type
        if declared.type.HasField("tensor_type") and not kind.HasField("shape"):
            kind.CopyFrom(declared.type.tensor_type)
            _free_batch([value])


def _must_stay(node: gs.Node) -> bool:
    """Whether a node must not be evaluated: it draws numbers, or its result is large."""
    if is_standard(node) and is_random(node.op):
        return True
    known = sum(tensor.values.nbytes for tensor in node.inputs if is_constant(tensor))
    return any(_bytes(tensor) > max(LARGEST_FOLDED, known) for tensor in node.outputs)


def _bytes(tensor: gs.Tensor) -> int:
    if tensor.shape is None or tensor.dtype is None:
        return 0
    sizes = [size for size in tensor.shape if isinstance(size, int)]
    if len(sizes) < len(tensor.shape):
        return 0
    return math.prod(sizes) * int(np.dtype(tensor.dtype).itemsize)


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
