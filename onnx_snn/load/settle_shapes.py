"""Settle shapes: what exporters compute from shapes becomes constant; every batch size works."""

from __future__ import annotations

import math
from collections import deque
from itertools import count

import onnx
from onnx import helper, numpy_helper

from onnx_snn.errors import UnsupportedModelError
from onnx_snn.load.batch_runs import BATCH, VARIES, BatchRuns, Size, is_random
from onnx_snn.load.shape_parameters import Editor
from onnx_snn.load.take_branch import take_branch


def settle_shapes(model: onnx.ModelProto, batch: int | None) -> None:
    """Make shape computations constant and free the batch, in place.

    ``Shape → Gather → Concat → Reshape`` becomes ``Reshape(x, [0, 512])``, and likewise the
    parameters of Expand, Resize, Slice …, where nothing but the batch is unknown; a value that
    follows the batch or another symbolic axis and has no such form stays computed. The shapes
    found are written into the model.

    Args:
        model: its inputs have the batch called ``N`` on axis 0; nodes are sorted.
        batch: the batch size that the model was exported with, if that was a number.

    Raises:
        UnsupportedModelError: a node works for that batch size only.
    """
    runs = BatchRuns(model)
    edit = Editor(model.graph, runs, batch)
    kept: list[onnx.NodeProto] = []
    pending = deque(model.graph.node)
    branches = count()
    while pending:
        node = pending.popleft()
        condition = runs.constant(node.input[0]) if node.op_type == "If" else None
        if condition is not None:
            nodes, constants = take_branch(node, bool(condition.any()), next(branches))
            pending.extendleft(reversed(nodes))
            for tensor in constants:
                model.graph.initializer.append(tensor)
                runs.add_constant(tensor)
            continue
        for before in edit.free_batch(node):
            runs.infer(before)
            kept.append(before)
        error = runs.infer(node) or _count_error(node, runs)
        if error and batch is not None and not runs.symbols:
            raise UnsupportedModelError(
                f"{node.op_type} node '{node.name or node.output[0]}' works for the batch size "
                f"{batch} only, with which the model was exported ({error}); export it with a "
                "batch axis of any size"
            )
        if not _add_constants(model.graph, node, runs):
            kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    _write_shapes(model.graph, runs)


def _count_error(node: onnx.NodeProto, runs: BatchRuns) -> str | None:
    """A Reshape to another number of elements, which onnx's shape inference lets pass."""
    if node.op_type != "Reshape":
        return None
    before, after = runs.shape(node.input[0]), runs.shape(node.output[0])
    if before is None or after is None or VARIES in (*before, *after):
        return None
    same = before.count(BATCH) == after.count(BATCH) and _count(before) == _count(after)
    return None if same else f"it makes {after} of {before}"


def _count(shape: list[Size]) -> int:
    return math.prod(size for size in shape if isinstance(size, int))


def _add_constants(graph: onnx.GraphProto, node: onnx.NodeProto, runs: BatchRuns) -> bool:
    """Whether all outputs of a node are known numbers; they are made initializers."""
    values = {name: runs.constant(name) for name in node.output if name}
    found = {name: value for name, value in values.items() if value is not None}
    if not found or len(found) < len(values) or is_random(node.op_type):
        return False
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in found.items())
    return True


def _write_shapes(graph: onnx.GraphProto, runs: BatchRuns) -> None:
    """Note the shapes of all tensors; sizes that are not known get names of their own."""
    outputs = {value.name: value for value in graph.output}
    infos = {value.name: value for value in graph.value_info}
    for name in (name for node in graph.node for name in node.output if name):
        kind, shape = runs.type_of(name), runs.shape(name)
        if kind is None or shape is None or not kind.tensor_type.elem_type:
            continue
        old = outputs.get(name) or infos.get(name)
        dims = [_dim(old, k, size) for k, size in enumerate(shape)]
        info = helper.make_tensor_value_info(name, kind.tensor_type.elem_type, dims)
        if old is None:
            graph.value_info.append(info)
        else:
            old.CopyFrom(info)


def _dim(old: onnx.ValueInfoProto | None, axis: int, size: Size) -> int | str | None:
    """A size found here, or else the name that symbolic shape inference gave it."""
    if size != VARIES:
        return size
    dims = old.type.tensor_type.shape.dim if old is not None else ()
    return (dims[axis].dim_param or None) if axis < len(dims) else None
