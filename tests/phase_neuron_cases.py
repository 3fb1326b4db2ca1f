"""One table of cases for all bodies of PhaseNeuron: reference, portable and native."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import strategies as st
from onnx import TensorProto, helper

from if_neuron_cases import Values, dyadic, gaussian, great, not_finite
from nets import Array
from onnx_snn.ops import DOMAIN, PHASE_NEURON, VERSION
from onnx_snn.ops.reference import phase_neuron

DEFAULTS = {"constant_input": 0, "base": 2, "v_threshold": 1.0, "v_init": 0.5}


def near_zero(random: np.random.Generator, shape: Sequence[int]) -> Array:
    """Currents that are subnormal in float32."""
    return random.integers(-2, 30, shape) * 2.0**-147


@dataclass(frozen=True)
class Case:
    """A call of PhaseNeuron.

    Attributes:
        name: of the test.
        shape: of the membrane, [N, ...].
        steps: T.
        attributes: of the node; the others have their defaults.
        values: draws the currents.
        seed: of the currents.
    """

    name: str = ""
    shape: tuple[int, ...] = (3, 5)
    steps: int = 4
    attributes: dict[str, Any] = field(default_factory=dict)
    values: Values = dyadic
    seed: int = 0

    @np.errstate(over="ignore")  # of great currents in float16
    def feeds(self, dtype: str) -> dict[str, Array]:
        random = np.random.default_rng(self.seed)
        rows, *features = self.shape
        rows *= 1 if self.attributes.get("constant_input") else self.steps
        x = self.values(random, (rows, *features)).astype(dtype)
        return {"x": x, "T": np.array(self.steps, np.int64)}

    def expected(self, dtype: str) -> list[Array]:
        """The spikes, by the reference."""
        return [phase_neuron(self.feeds(dtype)["x"], self.steps, **self.attributes)]

    def model(
        self, dtype: str, functions: Sequence[onnx.FunctionProto] = (), opset: int = 18
    ) -> onnx.ModelProto:
        """The call as a model; without functions, only a native kernel can run it."""
        elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        node = helper.make_node(PHASE_NEURON, ["x", "T"], ["s"], domain=DOMAIN, **self.attributes)
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            [node],
            "one_neuron",
            [value("x", elem_type, None), value("T", TensorProto.INT64, None)],
            [value("s", elem_type, None)],
        )
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, VERSION)]
        return helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=8)


BASES = {"radix": {}, "two-phase": {"base": 1}}

CASES = [
    case
    for name, base in BASES.items()
    for case in (
        Case(name, attributes=base),
        Case(f"{name}, constant input", attributes={"constant_input": 1, **base}),
        Case(f"{name}, empty start", attributes={"v_init": 0.0, **base}),
        Case(
            f"{name}, start in units of the threshold",
            attributes={"v_init": -1.5, "v_threshold": 0.75, **base},
        ),
        Case(f"{name}, one step", steps=1, attributes=base),
        Case(f"{name}, 64 steps", steps=64, attributes={"v_threshold": 2.0**-12, **base}),
        Case(
            f"{name}, many tasks",
            shape=(5, 811),
            steps=60,
            attributes={"v_threshold": 0.75, **base},
        ),
        Case(
            f"{name}, rounded sums",
            shape=(7, 41),
            steps=12,
            values=gaussian,
            attributes={"v_threshold": 0.3, "v_init": 0.7, **base},
        ),
        Case(f"{name}, great currents", shape=(40, 8), values=great, attributes=base),
        Case(f"{name}, not finite", shape=(9, 7), values=not_finite, attributes=base),
        Case(
            f"{name}, weights beyond float32",
            shape=(9, 7),
            steps=9,
            values=not_finite,
            attributes={"v_threshold": 2.0**121, "v_init": 3.5, **base},
        ),
        Case(
            f"{name}, weights near zero",
            shape=(9, 7),
            steps=5,
            values=near_zero,
            attributes={"v_threshold": 2.0**-146, **base},
        ),
    )
]
CASES += [
    Case("two-phase, 257 steps", steps=257, attributes={"base": 1}),
    Case("no features axis", shape=(11,)),
    Case("image", shape=(2, 3, 5, 7)),
    Case("one neuron", shape=(1,)),
    Case("empty batch", shape=(0, 4)),
    Case("empty batch, constant input", shape=(0, 4), attributes={"constant_input": 1}),
    Case("no features", shape=(3, 0)),
    *(Case(f"{size} neurons", shape=(size,)) for size in (8, 17, 63)),
    # The native kernel works on blocks of 256, chunks of 2048 and, in one step, tasks of 32832.
    Case("more than a block", shape=(257,)),
    Case("more than a chunk", shape=(3, 683)),
    Case("more than a task", shape=(7, 10_001), steps=1),
    Case("many tasks, constant input", (4061,), 60, {"constant_input": 1}),
]

all_cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@st.composite
def random_cases(draw: st.DrawFn, values: Sequence[Values] = (dyadic, gaussian)) -> Case:
    """Calls of any kind; with dyadic currents alone all sums are exact."""
    attributes = st.fixed_dictionaries(
        {},
        optional={
            "constant_input": st.integers(0, 1),
            "base": st.integers(1, 2),
            "v_threshold": st.sampled_from([0.25, 0.5, 0.75, 1.0, 2.0]),
            "v_init": st.integers(-8, 8).map(lambda k: k / 4),
        },
    )
    return Case(
        shape=tuple(draw(st.lists(st.integers(0, 40), min_size=1, max_size=3))),
        steps=draw(st.integers(1, 12)),
        attributes=draw(attributes),
        values=draw(st.sampled_from(values)),
        seed=draw(st.integers(0, 2**16)),
    )
