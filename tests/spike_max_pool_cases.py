"""One table of cases for all bodies of SpikeMaxPool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import strategies as st
from onnx import TensorProto, helper

from if_neuron_cases import Values, dyadic, gaussian
from nets import Array
from onnx_snn.ops import DOMAIN, SPIKE_MAX_POOL, VERSION
from onnx_snn.ops.reference import spike_max_pool

DTYPES = ("float32", "float16", "float64")
HALVES = {"kernel_shape": [2, 2], "strides": [2, 2]}
OVERLAPPING = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
SAME = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}


def spikes(random: np.random.Generator, shape: Sequence[int]) -> Array:
    """Signed ones, most of them positive."""
    return random.choice([-1, 0, 0, 0, 0, 1, 1], shape)


@dataclass(frozen=True)
class Case:
    """A call of SpikeMaxPool.

    Attributes:
        name: of the test.
        shape: of the counts, [N, C, H, W] or [N, C, W].
        pool: attributes of the node.
        spikes: draws x and the counts.
        steps: T.
        seed: of all that is drawn.
        c: ``"full"``, ``"scalar"`` or ``"absent"``.
        c_next: whether it is wanted.
    """

    name: str = ""
    shape: tuple[int, ...] = (2, 3, 6, 8)
    pool: dict[str, Any] = field(default_factory=lambda: HALVES)
    spikes: Values = gaussian
    steps: int = 4
    seed: int = 0
    c: str = "absent"
    c_next: bool = True

    def x(self, dtype: str) -> Array:
        random = np.random.default_rng(self.seed)
        samples, *features = self.shape
        return self.spikes(random, (self.steps * samples, *features)).astype(dtype)

    def state(self, dtype: str) -> dict[str, Array]:
        """The counts before the first step, if they are given."""
        shapes: dict[str, tuple[int, ...]] = {"full": self.shape, "scalar": ()}
        if self.c not in shapes:
            return {}
        random = np.random.default_rng(self.seed + 1)
        counts = 9 * self.spikes(random, shapes[self.c])
        return {"c": np.asarray(counts, sum_dtype(dtype))}

    def feeds(self, dtype: str) -> dict[str, Array]:
        return {"x": self.x(dtype), "T": np.array(self.steps), **self.state(dtype)}

    def expected(self, dtype: str) -> list[Array]:
        """The outputs wanted, by the reference."""
        results = spike_max_pool(self.x(dtype), self.steps, **self.state(dtype), **self.pool)
        return list(results[: 1 + self.c_next])

    def model(
        self, dtype: str, functions: Sequence[onnx.FunctionProto] = (), opset: int = 18
    ) -> onnx.ModelProto:
        """The call as a model; without functions, only a native kernel can run it."""
        inputs = ["x", "T"] + ["c"] * (self.c != "absent")
        outputs = ["s"] + ["c_next"] * self.c_next
        counts = helper.np_dtype_to_tensor_dtype(np.dtype(sum_dtype(dtype)))
        types = {"T": TensorProto.INT64, "c": counts, "c_next": counts}
        elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        ins, outs = (
            [helper.make_tensor_value_info(n, types.get(n, elem_type), None) for n in names]
            for names in (inputs, outputs)
        )
        node = helper.make_node(SPIKE_MAX_POOL, inputs, outputs, domain=DOMAIN, **self.pool)
        graph = helper.make_graph([node], "one_pool", ins, outs)
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, VERSION)]
        return helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=8)


def sum_dtype(dtype: str) -> str:
    """The type of the counts."""
    return "float64" if dtype == "float64" else "float32"


CASES = [
    Case("halves"),
    Case("halves, odd size", shape=(2, 3, 7, 9)),
    Case("overlapping windows", pool=OVERLAPPING),
    Case("overlapping windows, odd size", (1, 5, 7, 9), OVERLAPPING),
    Case("same size", pool=SAME),
    Case("one place", pool={"kernel_shape": [1, 1]}),
    Case("one place, dilated", pool={"kernel_shape": [1, 1], "dilations": [9, 2**31 - 1]}),
    Case("one place of several", pool={"kernel_shape": [1, 1], "strides": [3, 2]}),
    Case("stride past the kernel", (2, 3, 11, 13), {"kernel_shape": [2, 2], "strides": [4, 5]}),
    Case("one output", (2, 3, 5, 5), {"kernel_shape": [5, 5], "strides": [2**31 - 1, 7]}),
    Case("1-D", (2, 5, 19), {"kernel_shape": [3], "strides": [2], "pads": [1, 1]}),
    Case("1-D, asymmetric", (2, 5, 19), {"kernel_shape": [4], "pads": [3, 0]}, c="full"),
    Case("1-D, dilated", (2, 5, 19), {"kernel_shape": [3], "dilations": [4], "pads": [2, 1]}),
    Case("1-D, 25 places", (2, 5, 40), {"kernel_shape": [25], "pads": [24, 7]}),
    Case("a column", pool={"kernel_shape": [3, 1], "strides": [2, 1]}),
    Case("10 places", pool={"kernel_shape": [2, 5], "pads": [1, 4, 0, 2]}, c="full"),
    Case("16 places", (1, 3, 9, 11), {"kernel_shape": [4, 4], "strides": [2, 2], "pads": [1] * 4}),
    Case("25 places", (1, 3, 9, 11), {"kernel_shape": [5, 5], "pads": [2] * 4}, c="full"),
    Case("image smaller than the kernel", (2, 3, 1, 2), {**SAME, "kernel_shape": [3, 4]}),
    Case("pads asymmetric", pool={"kernel_shape": [3, 2], "strides": [2, 1], "pads": [0, 1, 2, 0]}),
    Case("dilated", (1, 3, 9, 11), {"kernel_shape": [3, 3], "dilations": [2, 3]}, c="full"),
    Case("dilated, padded", (2, 3, 9, 11), {**SAME, "dilations": [3, 4], "pads": [2, 2, 1, 2]}),
    Case(
        "windows outside", (2, 3, 2, 2), {**HALVES, "dilations": [3, 3], "pads": [1] * 4}, c="full"
    ),
    Case(
        "one dimension of a window outside",
        (1, 2, 6, 2),
        {"kernel_shape": [2, 2], "pads": [0, 1, 0, 1], "dilations": [1, 3]},
    ),
    Case("many channels", (2, 300, 5, 7), OVERLAPPING, steps=2),
    Case("a large image", (1, 2, 130, 150), OVERLAPPING, steps=3, c="full"),
    Case("empty batch", shape=(0, 3, 6, 8), c="full"),
    Case("no channels", shape=(2, 0, 6, 8), c="full"),
    Case("one step", steps=1, c="full"),
    Case("steps in fours and more", steps=7, c="full"),
    Case("many steps", (1, 3, 5, 5), OVERLAPPING, steps=300),
    Case("signed spikes", pool=OVERLAPPING, spikes=spikes, steps=12),
    Case("sums that are exact", pool=SAME, spikes=dyadic, c="full"),
    Case("counts, scalar", pool=OVERLAPPING, c="scalar"),
    Case("nothing handed on", pool=OVERLAPPING, c="full", c_next=False),
    Case("spikes alone", c_next=False),
]

all_cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
all_dtypes = pytest.mark.parametrize("dtype", DTYPES)


@st.composite
def random_cases(draw: st.DrawFn, most_dilation: int = 3) -> Case:
    """Calls of any kind with windows that fit."""
    axes = draw(st.sampled_from([1, 2, 2]))
    kernel = [draw(st.integers(1, 5)) for _ in range(axes)]
    dilations = [draw(st.integers(1, most_dilation)) for _ in range(axes)]
    pads = [draw(st.integers(0, size - 1)) for size in (*kernel, *kernel)]
    size = [
        max(1, (k - 1) * step + 1 - before - after) + draw(st.integers(0, 15))
        for k, step, before, after in zip(kernel, dilations, pads[:axes], pads[axes:], strict=True)
    ]
    return Case(
        shape=(draw(st.integers(0, 3)), draw(st.integers(1, 5)), *size),
        pool={
            "kernel_shape": kernel,
            "strides": [draw(st.integers(1, 6)) for _ in range(axes)],
            "pads": pads,
            "dilations": dilations,
        },
        spikes=draw(st.sampled_from([gaussian, dyadic, spikes])),
        steps=draw(st.integers(1, 9)),
        seed=draw(st.integers(0, 2**16)),
        c=draw(st.sampled_from(["absent", "scalar", "full"])),
        c_next=draw(st.booleans()),
    )
