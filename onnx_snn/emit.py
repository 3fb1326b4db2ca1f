"""Write groups of standard ONNX nodes into a graph: the arithmetic of time.

Numbers of steps decide shapes, so that a runtime with a GPU must compute with them on the host.
onnxruntime does so behind a ``Shape`` only (``GetCpuPreferredNodes``): anything else that reads
an integer input goes to the GPU, and its result is copied back in every run. ``on_host`` gives a
number a Shape to stand behind; ``on_device`` brings it to where the data is, without a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

_END = 2**62


class Emitter:
    """Appends nodes to a list; every tensor it makes is named ``prefix/op_k``.

    Args:
        nodes: where the nodes go.
        prefix: of all names made here; unique in the graph.
    """

    def __init__(self, nodes: list[gs.Node], prefix: str) -> None:
        self._nodes = nodes
        self._prefix = prefix
        self._count = 0

    def const(self, values: npt.ArrayLike, dtype: npt.DTypeLike = np.int64) -> gs.Constant:
        return gs.Constant(self._name("const"), np.asarray(values, dtype=dtype))

    def node(
        self,
        op: str,
        inputs: Sequence[gs.Tensor],
        *,
        dtype: npt.DTypeLike | None = None,
        into: gs.Variable | None = None,
        **attributes: Any,
    ) -> gs.Variable:
        """Append a node and return its output: ``into``, or a new tensor of type ``dtype``."""
        name = self._name(op)
        if into is None:
            into = gs.Variable(name, None if dtype is None else np.dtype(dtype))
        self._nodes.append(gs.Node(op, name, attrs=attributes, inputs=list(inputs), outputs=[into]))
        return into

    def _name(self, op: str) -> str:
        self._count += 1
        return f"{self._prefix}/{op}_{self._count}"

    def on_host(self, count: gs.Tensor, into: gs.Variable | None = None) -> gs.Variable:
        """A number of steps [] as the length of a list of as many."""
        steps = self.node("Range", [self.const(0), count, self.const(1)])
        length = self.node("Shape", [steps])
        return self.node("Gather", [length, self.const(0)], dtype=np.int64, into=into)

    def on_device(self, count: gs.Tensor, like: gs.Tensor) -> gs.Variable:
        """A number of steps [], which is on the host, as [1] of ``like``'s type."""
        one = self.const(1)
        number = self.node("Range", [count, self.node("Add", [count, one]), one])
        return self.node("CastLike", [number, like], dtype=like.dtype)

    def vector(self, scalar: gs.Tensor) -> gs.Variable:
        """A scalar [] as a vector [1]."""
        return self.node("Reshape", [scalar, self.const([1])])

    def shape(self, tensor: gs.Tensor, start: int = 0, end: int = _END) -> gs.Variable:
        """Entries start … end − 1 of a tensor's shape."""
        whole = self.node("Shape", [tensor])
        if start == 0 and end == _END:
            return whole
        return self.node("Slice", [whole, self.const([start]), self.const([end])])

    def split_time(
        self, rows: gs.Tensor, timesteps: gs.Tensor, into: gs.Variable | None = None
    ) -> gs.Variable:
        """Folded rows [T·N, …] as [T, N, …]."""
        steps = self.vector(timesteps)
        samples = self.node("Div", [self.shape(rows, 0, 1), steps])
        target = self.node("Concat", [steps, samples, self.shape(rows, 1)], axis=0)
        return self.node("Reshape", [rows, target], dtype=rows.dtype, into=into, allowzero=1)

    def join_time(self, sequence: gs.Tensor, into: gs.Variable | None = None) -> gs.Variable:
        """[T, N, …] as folded rows [T·N, …]."""
        leading = self.shape(sequence, 0, 2)
        rows = self.node("ReduceProd", [leading, self.const([0])], keepdims=1)
        target = self.node("Concat", [rows, self.shape(sequence, 2)], axis=0)
        return self.node(
            "Reshape", [sequence, target], dtype=sequence.dtype, into=into, allowzero=1
        )

    def repeat(self, sample: gs.Tensor, timesteps: gs.Tensor, into: gs.Variable) -> gs.Variable:
        """What is the same at every step, [N, …], as folded rows [T·N, …]."""
        ones = self.const([1] * (len(sample.shape) - 1))
        repeats = self.node("Concat", [self.vector(timesteps), ones], axis=0)
        return self.node("Tile", [sample, repeats], into=into)

    def step_numbers(self, start: gs.Tensor, count: gs.Tensor, like: gs.Tensor) -> gs.Variable:
        """start + 1 … start + count as [count, 1, …], of the type and rank of ``like``."""
        one = self.const(1)
        first = self.node("Add", [start, one])
        numbers = self.node("Range", [first, self.node("Add", [first, count]), one])
        typed = self.node("CastLike", [numbers, like], dtype=like.dtype)
        sizes = self.shape(like, 1)
        ones = self.node("Add", [self.node("Sub", [sizes, sizes]), one])
        steps = self.node("Concat", [self.vector(count), ones], axis=0)
        return self.node("Reshape", [typed, steps], dtype=like.dtype)
