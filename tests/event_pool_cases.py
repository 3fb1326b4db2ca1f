"""One table of cases for all bodies of EventMaxPool and EventSumPool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import strategies as st
from onnx import TensorProto, helper

from event_conv_cases import FEW, Events, any_byte, bursts, signed, spikes
from nets import Array
from onnx_snn.ops import DOMAIN, EVENT_MAX_POOL, EVENT_SUM_POOL, VERSION
from onnx_snn.ops.reference import event_max_pool, event_sum_pool

HALVES = {"kernel_shape": [2, 2], "strides": [2, 2]}
OVERLAPPING = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
SAME = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}


@dataclass(frozen=True)
class Case:
    """A call of EventMaxPool, or of EventSumPool, which has x and attributes only.

    Attributes:
        name: of the test.
        shape: of the counts, [N, H, W, C].
        pool: attributes of the node.
        events: draws x.
        steps: T.
        seed: of all that is drawn.
        c: ``"full"``, ``"scalar"`` or ``"absent"``.
        largest_count: of c.
        c_next: whether it is wanted.
    """

    name: str = ""
    shape: tuple[int, int, int, int] = (2, 6, 8, 5)
    pool: dict[str, Any] = field(default_factory=lambda: HALVES)
    events: Events = FEW
    steps: int = 4
    seed: int = 0
    c: str = "absent"
    largest_count: int = 9
    c_next: bool = True

    @property
    def x(self) -> Array:
        random = np.random.default_rng(self.seed)
        images, *features = self.shape
        return self.events(random, (self.steps * images, *features)).astype(np.int8)

    @property
    def state(self) -> dict[str, Array]:
        """The counts before the first step, if they are given."""
        random = np.random.default_rng(self.seed + 1)
        shapes: dict[str, tuple[int, ...]] = {"full": self.shape, "scalar": ()}
        if self.c not in shapes:
            return {}
        most = self.largest_count
        counts = random.integers(-most, most, shapes[self.c], endpoint=True)
        return {"c": np.asarray(counts, np.float32)}

    def feeds(self, operator: str) -> dict[str, Array]:
        if operator == EVENT_SUM_POOL:
            return {"x": self.x}
        return {"x": self.x, "T": np.array(self.steps), **self.state}

    def expected(self, operator: str) -> list[Array]:
        """The outputs wanted, by the reference."""
        if operator == EVENT_SUM_POOL:
            return [event_sum_pool(self.x, **self.pool)]
        results = event_max_pool(self.x, self.steps, **self.state, **self.pool)
        return list(results[: 1 + self.c_next])

    def model(
        self, operator: str, functions: Sequence[onnx.FunctionProto] = (), opset: int = 18
    ) -> onnx.ModelProto:
        """The call as a model; without functions, only a native kernel can run it."""
        value = helper.make_tensor_value_info
        types = {"T": TensorProto.INT64, "c": TensorProto.FLOAT, "c_next": TensorProto.FLOAT}
        inputs, outputs = ["x"], ["y"]
        if operator == EVENT_MAX_POOL:
            inputs += ["T"] + ["c"] * (self.c != "absent")
            outputs = ["s"] + ["c_next"] * self.c_next
        node = helper.make_node(operator, inputs, outputs, domain=DOMAIN, **self.pool)
        graph = helper.make_graph(
            [node],
            "one_pool",
            [value(name, types.get(name, TensorProto.INT8), None) for name in inputs],
            [value(name, types.get(name, TensorProto.INT8), None) for name in outputs],
        )
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, VERSION)]
        return helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=8)


CASES = [
    Case("halves"),
    Case("halves, odd size", shape=(2, 7, 9, 5)),
    Case("overlapping windows", pool=OVERLAPPING),
    Case("overlapping windows, odd size", shape=(1, 7, 9, 5), pool=OVERLAPPING),
    Case("same size", pool=SAME),
    Case("one place", pool={"kernel_shape": [1, 1]}),
    Case("one place of several", pool={"kernel_shape": [1, 1], "strides": [3, 2]}),
    Case("stride past the kernel", (2, 11, 13, 3), {"kernel_shape": [2, 2], "strides": [4, 5]}),
    Case("one row, as 1-D", (2, 1, 19, 5), {"kernel_shape": [1, 3], "strides": [1, 2]}),
    Case("large kernel", (1, 9, 11, 3), {"kernel_shape": [5, 7], "pads": [2, 6, 4, 3]}),
    Case("the whole image", (2, 7, 7, 70), {"kernel_shape": [7, 7]}),
    Case("image smaller than the kernel", (2, 1, 2, 3), {**SAME, "kernel_shape": [3, 4]}),
    Case("pads asymmetric", pool={"kernel_shape": [3, 2], "strides": [2, 1], "pads": [0, 1, 2, 0]}),
    *(
        Case(f"{channels} channels", (1, 5, 5, channels), OVERLAPPING)
        for channels in (1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 129)
    ),
    Case("an image of several tiles", (1, 40, 46, 64), OVERLAPPING, steps=3, c="full"),
    Case("halves in several tiles", (1, 41, 47, 64), steps=3, c="full"),
    Case(
        "several tiles, stride past the kernel",
        (1, 41, 47, 64),
        {"kernel_shape": [2, 2], "strides": [3, 4], "pads": [1, 1, 0, 0]},
        steps=3,
        c="full",
    ),
    Case("tiles of channels", (1, 10, 14, 330), OVERLAPPING, steps=3, c="full"),
    Case("a row of several tiles", (1, 3, 700, 33), SAME, steps=2, c="full"),
    Case("empty batch", shape=(0, 6, 8, 5), c="full"),
    Case("no channels", shape=(2, 6, 8, 0), c="full"),
    Case("one step", steps=1, c="full"),
    Case("many steps", steps=300, shape=(1, 5, 5, 3), pool=OVERLAPPING),
    Case("silence", events=spikes(0), pool=OVERLAPPING),
    Case("silence, with counts", events=spikes(0), pool=OVERLAPPING, c="full"),
    Case("everything fires", events=spikes(2), pool=OVERLAPPING),
    Case("everything fires, whole image", (1, 12, 13, 3), {"kernel_shape": [12, 13]}, spikes(2)),
    Case("signed events", events=signed, pool=OVERLAPPING, steps=12),
    Case("bursts", events=bursts, pool=SAME),
    Case("any byte", events=any_byte, pool=OVERLAPPING, steps=30),
    Case("any byte, large window", (1, 20, 30, 3), {"kernel_shape": [18, 17]}, any_byte),
    Case("the least byte", events=lambda random, shape: np.full(shape, -128), steps=9),
    Case("the greatest byte", events=lambda random, shape: np.full(shape, 127), pool=SAME),
    Case("counts", c="full", pool=OVERLAPPING),
    Case("counts, scalar", c="scalar", pool=OVERLAPPING),
    Case("large counts", c="full", largest_count=2**24 - 1000, pool=OVERLAPPING),
    Case("large counts, scalar", c="scalar", largest_count=2**24 - 1000, pool=SAME),
    Case("counts around 2^15", c="full", largest_count=40_000, events=signed, pool=SAME),
    Case("nothing handed on", c="full", c_next=False, pool=OVERLAPPING),
    Case("events alone", c_next=False),
]

all_cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
both_operators = pytest.mark.parametrize("operator", [EVENT_MAX_POOL, EVENT_SUM_POOL])


@st.composite
def random_cases(draw: st.DrawFn) -> Case:
    """Calls of any kind with kernels that fit."""
    kernel = [draw(st.integers(1, 5)), draw(st.integers(1, 5))]
    pads = [draw(st.integers(0, size - 1)) for size in (*kernel, *kernel)]
    size = [
        max(1, k - before - after) + draw(st.integers(0, 20))
        for k, before, after in zip(kernel, pads[:2], pads[2:], strict=True)
    ]
    return Case(
        shape=(draw(st.integers(0, 3)), *size, draw(st.sampled_from([1, 2, 7, 16, 40, 65]))),
        pool={
            "kernel_shape": kernel,
            "strides": [draw(st.integers(1, 6)), draw(st.integers(1, 6))],
            "pads": pads,
        },
        events=draw(st.sampled_from([*map(spikes, (0, 0.1, 0.5, 2)), signed, bursts, any_byte])),
        steps=draw(st.integers(1, 6)),
        seed=draw(st.integers(0, 2**16)),
        c=draw(st.sampled_from(["absent", "scalar", "full"])),
        largest_count=draw(st.sampled_from([9, 1000, 33_000, 2**24 - 1000])),
        c_next=draw(st.booleans()),
    )
