"""The shapes and small values of a network at several batch sizes, computed in lockstep.

A shape computation (``Shape → Gather → Concat → Reshape``) gives plain numbers once the sizes of
the inputs are numbers. What is the same at several sizes does not depend on them; what equals
the batch each time is the batch. No weight and no activation is touched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, TypeProto, defs, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.shape_inference import infer_node_outputs

from onnx_snn.errors import one_line
from onnx_snn.load.weights import SMALL

BATCH = "N"
"""Name of the batch axis in a clean graph."""

VARIES = "?"
"""Stands for a number that depends on the sizes of the inputs, but is none of them."""

Array = npt.NDArray[Any]
Size = int | str
"""A number, the name of a symbolic axis (``BATCH`` is one), or ``VARIES``."""

_BATCHES = (1, 2, 4099)
_SIDES = (160, 672, 41056)  # multiples of 32, apart far enough to name many axes
_COMPARING = frozenset(
    {"Clip", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min"}
)
_RANDOM = frozenset({"Bernoulli", "Dropout", "Multinomial"})


def is_random(op: str) -> bool:
    """Whether an operator draws numbers, so that it must not be evaluated ahead of a run."""
    return op in _RANDOM or op.startswith("Random")


class BatchRuns:
    """What is known of every tensor at every one of several batch sizes.

    Args:
        model: its inputs must have the batch called ``BATCH``. Initializers added to it later
            are made known with ``add_constant``.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        symbols = _symbols(model.graph)
        self._sizes: dict[str, tuple[int, ...]] = {BATCH: _BATCHES} | {
            name: tuple(side + 32 * k for side in _SIDES) for k, name in enumerate(symbols)
        }
        self._runs = [
            _Run(model, {name: sizes[k] for name, sizes in self._sizes.items()})
            for k in range(len(_BATCHES))
        ]

    @property
    def symbols(self) -> list[str]:
        """Names of the symbolic axes other than the batch."""
        return [name for name in self._sizes if name != BATCH]

    def add_constant(self, tensor: TensorProto) -> None:
        for run in self._runs:
            run.add_constant(tensor)

    def infer(self, node: onnx.NodeProto) -> str | None:
        """Work out the outputs of a node whose inputs are known; why it cannot run, if so."""
        first, *others = self._runs
        error = first.infer(node)
        same = all(first.sees_the_same(run, node) for run in others)
        for run in others:
            if same:
                run.copy(first, node.output)
            else:
                error = run.infer(node) or error
        if node.op_type in _COMPARING and self._is_in_doubt(node):
            for run in self._runs:
                run.forget(node.output)
        return error

    def _is_in_doubt(self, node: onnx.NodeProto) -> bool:
        """Whether a comparison of sizes may turn out otherwise for other sizes than these.

        That a size is not -1 is sure: torch's exporter writes ``Where(shape == -1, …)``.
        """
        names = [name for name in node.input if name]
        known = [self.constant(name) for name in names]
        varying = sum(value is None for value in known)
        return varying > 1 or (
            varying == 1 and not all(np.all(value < 0) for value in known if value is not None)
        )

    def type_of(self, name: str) -> TypeProto | None:
        return self._runs[0].types.get(name)

    def shape(self, name: str) -> list[Size] | None:
        """The shape of a tensor, or None if its rank is unknown; unknown sizes are ``VARIES``."""
        shapes = [run.shape(name) for run in self._runs]
        if any(shape is None or len(shape) != len(shapes[0] or ()) for shape in shapes):
            return None
        return [self._name(sizes) for sizes in zip(*(s or [] for s in shapes), strict=True)]

    def elements_per_sample(self, name: str) -> int | None:
        """The number of elements divided by the batch, if that is one number for all batches."""
        shapes = [run.shape(name) for run in self._runs]
        counts = {
            math.prod(size or 0 for size in shape) / batch if shape and None not in shape else 0.5
            for shape, batch in zip(shapes, _BATCHES, strict=True)
        }
        count = counts.pop()
        return int(count) if not counts and count.is_integer() else None

    def vector(self, name: str) -> list[Size] | None:
        """The entries of a small integer tensor, flat, or None if they are unknown."""
        values = [run.values.get(name) for run in self._runs]
        if any(v is None or v.dtype.kind not in "iu" for v in values):
            return None
        flat = [[int(x) for x in v.ravel()] for v in values if v is not None]
        if any(len(entries) != len(flat[0]) for entries in flat):
            return None
        return [self._name(entries) for entries in zip(*flat, strict=True)]

    def constant(self, name: str) -> Array | None:
        """The value of a tensor, if it is known and does not depend on any size."""
        first, *others = (run.values.get(name) for run in self._runs)
        if first is None or not all(_same_array(first, other) for other in others):
            return None
        return first

    def _name(self, numbers: Sequence[int | None]) -> Size:
        first = numbers[0]
        if first is not None and all(number == first for number in numbers):
            return first
        found = (name for name, sizes in self._sizes.items() if tuple(numbers) == sizes)
        return next(found, VARIES)


class _Run:
    """All tensors at one choice of sizes."""

    def __init__(self, model: onnx.ModelProto, sizes: Mapping[str, int]) -> None:
        self.types: dict[str, TypeProto] = {}
        self.values: dict[str, Array] = {}
        self._opsets = {entry.domain: entry.version for entry in model.opset_import}
        for value in model.graph.input:
            self.types[value.name] = _sized(value.type, sizes)
        for tensor in model.graph.initializer:
            self.add_constant(tensor)

    def add_constant(self, tensor: TensorProto) -> None:
        self.types[tensor.name] = helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
        if np.prod(tensor.dims, dtype=float) <= SMALL and tensor.data_type != TensorProto.STRING:
            self.values[tensor.name] = numpy_helper.to_array(tensor)

    def forget(self, names: Sequence[str]) -> None:
        for name in names:
            self.values.pop(name, None)

    def shape(self, name: str) -> list[int | None] | None:
        kind = self.types.get(name)
        if kind is None or not kind.HasField("tensor_type"):
            return None
        if not kind.tensor_type.HasField("shape"):
            return None
        dims = kind.tensor_type.shape.dim
        return [dim.dim_value if dim.HasField("dim_value") else None for dim in dims]

    def sees_the_same(self, other: _Run, node: onnx.NodeProto) -> bool:
        return not any(a.type in (a.GRAPH, a.GRAPHS) for a in node.attribute) and all(
            self.types.get(name) == other.types.get(name)
            and _same_array(self.values.get(name), other.values.get(name))
            for name in node.input
        )

    def copy(self, other: _Run, names: Sequence[str]) -> None:
        for name in names:
            if name in other.types:
                self.types[name] = other.types[name]
            if name in other.values:
                self.values[name] = other.values[name]

    def infer(self, node: onnx.NodeProto) -> str | None:
        if node.domain not in ("", "ai.onnx"):
            return None
        names = [name for name in node.input if name]
        if not all(name in self.types for name in names):
            return None
        try:
            self.types.update(self._inferred(node, names))
        except (
            onnx.shape_inference.InferenceError,
            onnx.checker.ValidationError,
            defs.SchemaError,
        ) as error:
            return one_line(error)
        self._evaluate(node, names)
        return None

    def _inferred(self, node: onnx.NodeProto, names: Sequence[str]) -> dict[str, TypeProto]:
        schema = defs.get_schema(node.op_type, self._opsets.get("", 1), "")
        known = {n: numpy_helper.from_array(self.values[n]) for n in names if n in self.values}
        opsets = [helper.make_opsetid(domain, version) for domain, version in self._opsets.items()]
        return infer_node_outputs(
            schema, node, {n: self.types[n] for n in names}, known, opset_imports=opsets
        )

    def _evaluate(self, node: onnx.NodeProto, names: Sequence[str]) -> None:
        if node.op_type in ("Shape", "Size"):
            shape = self.shape(node.input[0])
            if shape is None or None in shape:
                return
            feeds = {node.input[0]: np.broadcast_to(np.float32(0), tuple(s or 0 for s in shape))}
        elif names and all(name in self.values for name in names) and self._is_small(node):
            feeds = {name: self.values[name] for name in names}
        else:
            return
        try:
            results = ReferenceEvaluator(node).run(None, feeds)
        except Exception:  # an operator it lacks, or that fails: its value stays unknown
            return
        for name, result in zip(node.output, results, strict=False):
            if name and isinstance(result, np.ndarray | np.generic):
                value = np.asarray(result)
                self.values[name] = value
                self.types[name] = helper.make_tensor_type_proto(
                    helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
                )

    def _is_small(self, node: onnx.NodeProto) -> bool:
        shapes = [self.shape(name) for name in node.output if name]
        return not is_random(node.op_type) and all(
            shape is not None and math.prod(SMALL + 1 if s is None else s for s in shape) <= SMALL
            for shape in shapes
        )


def _symbols(graph: onnx.GraphProto) -> list[str]:
    dims = (dim for value in graph.input for dim in value.type.tensor_type.shape.dim)
    return list(dict.fromkeys(d.dim_param for d in dims if d.dim_param not in ("", BATCH)))


def _sized(kind: TypeProto, sizes: Mapping[str, int]) -> TypeProto:
    result = TypeProto()
    result.CopyFrom(kind)
    for dim in result.tensor_type.shape.dim:
        if dim.dim_param in sizes:
            dim.dim_value = sizes[dim.dim_param]
    return result


def _same_array(a: Array | None, b: Array | None) -> bool:
    if a is None or b is None:
        return a is b
    return a is b or (a.dtype == b.dtype and np.array_equal(a, b))
