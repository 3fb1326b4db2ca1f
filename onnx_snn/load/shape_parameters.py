"""Shapes, sizes and ends of slices written so that they hold for a batch of any size.

Each rule looks at one node whose inputs are known (``BatchRuns``) and rewrites its integer
parameter as a constant in which nothing stands for the batch but an entry that follows it.
A parameter that cannot be written so is left as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnx_snn.load.batch_runs import BATCH, VARIES, BatchRuns, Size

_TO_THE_END = int(np.iinfo(np.int64).max)


class Editor:
    """Rewrites nodes of one graph and keeps ``runs`` told of the constants that it adds.

    Args:
        graph: constants are added to it; its list of nodes is not touched.
        runs: what is known of its tensors.
        batch: the size of the batch with which the file was exported, if it had one.
    """

    def __init__(self, graph: onnx.GraphProto, runs: BatchRuns, batch: int | None) -> None:
        self.runs = runs
        self.batch = batch
        self._graph = graph

    def free_batch(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Rewrite the parameters of a node; gives the nodes that must now stand before it."""
        rule = _RULES.get(node.op_type)
        if rule is None or node.domain not in ("", "ai.onnx"):
            return []
        return list(rule(self, node) or ())

    def constant(self, name: str, values: Sequence[int]) -> str:
        tensor = numpy_helper.from_array(np.asarray(values, np.int64), f"onnx_snn/{name}")
        self._graph.initializer.append(tensor)
        self.runs.add_constant(tensor)
        return tensor.name

    def is_batch(self, size: Size, axis: Size) -> bool:
        """Whether ``size``, wanted where the input has ``axis``, stands for the whole batch."""
        return axis == BATCH and size in (BATCH, self.batch)


def _reshape(edit: Editor, node: onnx.NodeProto) -> None:
    """``[2, 512]``, ``[-1, 512]`` or ``[N, 512]`` → ``[0, 512]`` where that keeps samples apart.

    ``Reshape(x, [-1, 512])`` keeps the batch apart only if each sample has 512 values; written
    as ``[0, 512]`` it says so, and shape inference sees it.
    """
    target, shape = edit.runs.vector(node.input[1]), edit.runs.shape(node.input[0])
    if target is None or (0 in target and _attribute(node, "allowzero", 0)):
        return
    entries = [_copied(size, k, shape) for k, size in enumerate(target)]
    if shape is not None and BATCH in shape:
        _keep_batch(entries, shape, edit.batch)
    elif target and target[0] in (BATCH, edit.batch):
        _restore_batch(entries, edit.runs.elements_per_sample(node.input[0]))
    _spell_out(entries, shape, edit.runs.elements_per_sample(node.input[0]))
    if entries != target and entries.count(-1) <= 1:
        _set_constant(edit, node, 1, "target", entries)
        _drop_attribute(node, "allowzero")


def _copied(size: Size, axis: int, shape: list[Size] | None) -> int:
    """A number as it is; 0 for a name that the input has on the same axis; else -1."""
    if isinstance(size, int):
        return size
    same = shape is not None and axis < len(shape) and shape[axis] == size
    return 0 if same and size != VARIES else -1


def _keep_batch(entries: list[int], shape: list[Size], batch: int | None) -> None:
    """Find the entry of a Reshape's target that stands for the batch; it becomes 0 or -1."""
    at = shape.index(BATCH)
    sizes = [shape[k] if entry == 0 else entry for k, entry in enumerate(entries)]
    if BATCH in sizes:
        return
    for k in sorted(range(len(entries)), key=lambda k: k != at):  # its own axis first
        before = _same_count(sizes[:k], shape[:at])
        after = _same_count(sizes[k + 1 :], shape[at + 1 :])
        if entries[k] not in (-1, batch) or False in (before, after) or not (before or after):
            continue
        if k == at:
            entries[k] = 0
        elif -1 not in entries:
            entries[k] = -1
        return


def _restore_batch(entries: list[int], per_sample: int | None) -> None:
    """``[1, -1]`` after samples were merged with another axis → ``[-1, 512]``."""
    if per_sample is None or 0 in entries:
        return
    features = entries[1:]
    rest = math.prod(entry for entry in features if entry != -1)
    if features.count(-1) == 1 and per_sample % rest == 0:
        features[features.index(-1)] = per_sample // rest
    if math.prod(features) == per_sample:
        entries[:] = [-1, *features]


def _spell_out(entries: list[int], shape: list[Size] | None, per_sample: int | None) -> None:
    """``[0, -1]`` → ``[0, 512]``: of a batch of no samples, -1 cannot be worked out."""
    if per_sample is None or not shape or shape[0] != BATCH or entries[:1] != [0]:
        return
    features = [shape[k] if entry == 0 else entry for k, entry in enumerate(entries) if k]
    sizes = [size for size in features if isinstance(size, int)]
    known = math.prod(size for size in sizes if size != -1)
    if len(sizes) == len(features) and sizes.count(-1) == 1 and known and per_sample % known == 0:
        entries[entries.index(-1)] = per_sample // known


def _same_count(these: Sequence[Size], those: Sequence[Size]) -> bool | None:
    """Whether both hold the same number of elements; None if that cannot be said."""
    if list(these) == list(those):
        return True
    sizes = [size for size in (*these, *those) if isinstance(size, int)]
    if -1 in sizes or len(sizes) < len(these) + len(those):
        return None
    return math.prod(sizes[: len(these)]) == math.prod(sizes[len(these) :])


def _expand(edit: Editor, node: onnx.NodeProto) -> None:
    """``Expand(x, [N, C, 4])`` → ``[1, C, 4]``: 1 leaves an axis of ``x`` as it is."""
    target, shape = edit.runs.vector(node.input[1]), edit.runs.shape(node.input[0])
    if target is None or shape is None:
        return
    aligned: list[Size] = [*[1] * (len(target) - len(shape)), *shape[-len(target) or len(shape) :]]
    entries = [
        1 if edit.is_batch(size, axis) or size == axis else size
        for size, axis in zip(target, aligned, strict=True)
    ]
    _set_constant(edit, node, 1, "shape", entries)


def _resize(edit: Editor, node: onnx.NodeProto) -> None:
    """``sizes=[N, C, 8, 8]`` → ``axes=[2, 3], sizes=[8, 8]``: the other axes stay."""
    if len(node.input) < 4 or not node.input[3] or _attribute(node, "axes", None) is not None:
        return
    sizes, shape = edit.runs.vector(node.input[3]), edit.runs.shape(node.input[0])
    cropped = _attribute(node, "coordinate_transformation_mode", b"") == b"tf_crop_and_resize"
    stretched = _attribute(node, "keep_aspect_ratio_policy", b"stretch") == b"stretch"
    if sizes is None or shape is None or len(sizes) != len(shape) or cropped or not stretched:
        return
    axes = [
        k
        for k, (size, axis) in enumerate(zip(sizes, shape, strict=True))
        if size != axis and not edit.is_batch(size, axis)
    ] or [len(sizes) - 1]
    if _set_constant(edit, node, 3, "sizes", [sizes[k] for k in axes]):
        node.input[1] = node.input[2] = ""
        node.attribute.append(helper.make_attribute("axes", axes))


def _slice(edit: Editor, node: onnx.NodeProto) -> None:
    """``x[0:N]`` → ``x[0:]``."""
    shape, ends = edit.runs.shape(node.input[0]), edit.runs.vector(node.input[2])
    starts = edit.runs.vector(node.input[1])
    if shape is None or starts is None or ends is None:
        return
    axes = _optional(edit, node, 3, list(range(len(ends))))
    steps = _optional(edit, node, 4, [1] * len(ends))
    if axes is None or steps is None or not len(starts) == len(ends) == len(axes) == len(steps):
        return
    sizes = dict(enumerate(shape)) | {k - len(shape): size for k, size in enumerate(shape)}
    entries = [
        _TO_THE_END
        if step == 1 and _is_whole(edit, start, end, sizes.get(int(axis), VARIES))
        else end
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True)
        if isinstance(axis, int)
    ]
    if len(entries) == len(ends):
        _set_constant(edit, node, 2, "ends", entries)


def _is_whole(edit: Editor, start: Size, end: Size, axis: Size) -> bool:
    """Whether a slice that starts at ``start`` goes to the end of the axis, however long."""
    if isinstance(end, int):
        fixed = edit.batch is not None and end >= edit.batch
        return axis == BATCH and start == 0 and fixed
    return end == axis and end != VARIES


def _optional(
    edit: Editor, node: onnx.NodeProto, index: int, default: list[Size]
) -> list[Size] | None:
    given = len(node.input) > index and node.input[index]
    return edit.runs.vector(node.input[index]) if given else default


def _squeeze(edit: Editor, node: onnx.NodeProto) -> None:
    """Name the axes that a Squeeze removes, so that it leaves a batch of one sample alone."""
    shape = edit.runs.shape(node.input[0])
    if (len(node.input) > 1 and node.input[1]) or shape is None or VARIES in shape:
        return
    axes = [axis for axis, size in enumerate(shape) if size == 1]
    del node.input[1:]
    node.input.append(edit.constant(f"{node.output[0]}/axes", axes))


def _concat(edit: Editor, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """A constant beside activations (a class token) is repeated for every sample.

    A file that was exported with a batch of 1 has it for one sample only::

        Concat(token [1, 1, D], x [N, L, D])  →  Concat(Expand(token, [N, 1, 1]), x)
    """
    shapes = [edit.runs.shape(name) for name in node.input]
    samples = [name for name, s in zip(node.input, shapes, strict=True) if s and s[0] == BATCH]
    axis = _attribute(node, "axis", 0)
    if edit.batch != 1 or not samples or any(not s or axis in (0, -len(s)) for s in shapes):
        return
    for index, shape in enumerate(shapes):
        if shape and shape[0] == 1:
            base = f"onnx_snn/{node.output[0]}/{index}"
            batch, target, repeated = (f"{base}/{part}" for part in ("batch", "shape", "repeated"))
            ones = edit.constant(f"{node.output[0]}/{index}/ones", [1] * (len(shape) - 1))
            yield helper.make_node("Shape", [samples[0]], [batch], start=0, end=1)
            yield helper.make_node("Concat", [batch, ones], [target], axis=0)
            yield helper.make_node("Expand", [node.input[index], target], [repeated])
            node.input[index] = repeated


_RULES: Mapping[str, Callable[[Editor, onnx.NodeProto], Iterator[onnx.NodeProto] | None]] = (
    MappingProxyType(
        {
            "Concat": _concat,
            "Expand": _expand,
            "Reshape": _reshape,
            "Resize": _resize,
            "Slice": _slice,
            "Squeeze": _squeeze,
        }
    )
)


def _set_constant(
    edit: Editor, node: onnx.NodeProto, index: int, role: str, entries: Sequence[Size]
) -> bool:
    """Let a node read these numbers, for itself alone; not if one of them is no number."""
    numbers = [entry for entry in entries if isinstance(entry, int)]
    if len(numbers) < len(entries):
        return False
    if numbers != edit.runs.vector(node.input[index]):
        node.input[index] = edit.constant(f"{node.output[0]}/{role}", numbers)
    return True


def _attribute(
    node: onnx.NodeProto, name: str, default: int | bytes | None
) -> int | bytes | list[int] | None:
    for attribute in node.attribute:
        if attribute.name == name:
            value: int | bytes | list[int] = helper.get_attribute_value(attribute)
            return value
    return default


def _drop_attribute(node: onnx.NodeProto, name: str) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)
