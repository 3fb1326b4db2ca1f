"""One table of cases for all bodies of IFNeuron: the reference, the portable and the native one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import strategies as st
from onnx import helper

from nets import Array
from onnx_snn import get_library_path
from onnx_snn.ops import DOMAIN, IF_NEURON, VERSION
from onnx_snn.ops.portable import Signature
from onnx_snn.ops.reference import if_neuron

DTYPES = ("float32", "float16", "float64")
OUTPUTS = ("s", "v_next", "n_next")
DEFAULTS = {
    "constant_input": 0,
    "v_threshold": 1.0,
    "v_init": 0.5,
    "reset": "subtract",
    "spike_min": 0,
    "spike_max": 1,
    "count_min": 0,
    "count_max": -1,
}

Values = Callable[[np.random.Generator, Sequence[int]], Array]


def dyadic(random: np.random.Generator, shape: Sequence[int]) -> Array:
    """Currents whose sums are exact in float32."""
    return random.integers(-20, 29, shape) / 16


def gaussian(random: np.random.Generator, shape: Sequence[int]) -> Array:
    """Currents whose sums are rounded, so that the order of operations shows."""
    return random.normal(0.2, 1.0, shape)


def not_finite(random: np.random.Generator, shape: Sequence[int]) -> Array:
    special = random.choice([np.nan, np.inf, -np.inf], shape)
    return np.where(random.random(shape) < 0.1, special, dyadic(random, shape))


def near_the_greatest_half(random: np.random.Generator, shape: Sequence[int]) -> Array:
    """Currents of which two do not fit into float16."""
    return random.choice([-65504.0, 65504.0], shape)


def great(random: np.random.Generator, shape: Sequence[int]) -> Array:
    """Currents around 2^23, from where on float32 holds integers only."""
    return random.normal(0, 2.0**24, shape)


@dataclass(frozen=True)
class Case:
    """A call of IFNeuron.

    Attributes:
        name: of the test.
        shape: of the membrane, [N, ...].
        steps: T.
        attributes: of the node; the others have their defaults.
        v: ``"full"``, ``"scalar"`` or ``"absent"``.
        n: likewise.
        outputs: those wanted.
        values: draws the currents and the membrane.
        seed: of the currents, the membrane and the count.
    """

    name: str = ""
    shape: tuple[int, ...] = (3, 5)
    steps: int = 6
    attributes: dict[str, Any] = field(default_factory=dict)
    v: str = "absent"
    n: str = "absent"
    outputs: tuple[str, ...] = OUTPUTS
    values: Values = dyadic
    seed: int = 0

    @np.errstate(over="ignore")  # of great currents in float16
    def feeds(self, dtype: str) -> dict[str, Array]:
        random = np.random.default_rng(self.seed)
        rows, *features = self.shape
        rows *= 1 if self.attributes.get("constant_input") else self.steps
        feeds = {
            "x": self.values(random, (rows, *features)).astype(dtype),
            "T": np.array(self.steps, np.int64),
        }
        shapes = {"full": self.shape, "scalar": ()}
        if self.v in shapes:
            feeds["v"] = np.asarray(self.values(random, shapes[self.v]), dtype)
        if self.n in shapes:
            feeds["n"] = np.asarray(random.integers(-2, 4, shapes[self.n]), dtype)
        return feeds

    def expected(self, dtype: str) -> list[Array]:
        """The outputs wanted, by the reference."""
        feeds = self.feeds(dtype)
        timesteps = int(feeds.pop("T"))
        results = dict(
            zip(OUTPUTS, if_neuron(timesteps=timesteps, **feeds, **self.attributes), strict=True)
        )
        return [results[name] for name in self.outputs]

    def model(
        self, dtype: str, functions: Sequence[onnx.FunctionProto] = (), opset: int = 18
    ) -> onnx.ModelProto:
        """The call as a model; without functions, only a native kernel can run it."""
        inputs = ["x", "T", *(name for name in "vn" if getattr(self, name) != "absent")]
        return if_neuron_model(inputs, self.outputs, dtype, self.attributes, functions, opset)


def signature_of(case: Case, dtype: str) -> Signature:
    """The least that the case needs of a portable body."""
    return least_signature(case, case.attributes, dtype)


def least_signature(case: Any, attributes: Mapping[str, Any], dtype: str = "float32") -> Signature:
    """The same of a case of any operator with neurons of these attributes."""
    a = DEFAULTS | attributes
    return Signature(
        binary=(a["spike_min"], a["spike_max"], a["count_max"]) == (0, 1, -1),
        v=case.v != "absent",
        n=case.n != "absent",
        v_next="v_next" in case.outputs,
        n_next="n_next" in case.outputs,
        reset=a["reset"],
        elem_type=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)),
    )


def if_neuron_model(
    inputs: Sequence[str],
    outputs: Sequence[str],
    dtype: str,
    attributes: Mapping[str, Any],
    functions: Sequence[onnx.FunctionProto] = (),
    opset: int = 18,
) -> onnx.ModelProto:
    """A model of one IFNeuron that has the inputs and outputs named, of any shape."""
    elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    node = helper.make_node(
        IF_NEURON,
        _positions(("x", "T", "v", "n"), inputs),
        _positions(OUTPUTS, outputs),
        domain=DOMAIN,
        **attributes,
    )
    graph = helper.make_graph(
        [node],
        "one_neuron",
        [
            helper.make_tensor_value_info(
                name, onnx.TensorProto.INT64 if name == "T" else elem_type, None
            )
            for name in inputs
        ],
        [helper.make_tensor_value_info(name, elem_type, None) for name in outputs],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, VERSION)]
    model = helper.make_model(graph, opset_imports=opsets, functions=functions)
    model.ir_version = 8
    return model


def _positions(names: Sequence[str], present: Sequence[str]) -> list[str]:
    """An absent one has an empty name, and those at the end none."""
    used = max(names.index(name) for name in present) + 1
    return [name if name in present else "" for name in names[:used]]


def native(model: onnx.ModelProto, threads: int = 1) -> ort.InferenceSession:
    """A CPU session with the library registered."""
    options = ort.SessionOptions()
    options.log_severity_level = 4  # errors come as exceptions
    options.intra_op_num_threads = threads
    options.enable_cpu_mem_arena = False  # so that make sanitize sees the ends of tensors
    options.register_custom_ops_library(get_library_path())
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def assert_identical(actual: Sequence[Array], expected: Sequence[Array]) -> None:
    """The same bits, but for those of a NaN."""
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, e, strict=True)
        np.testing.assert_array_equal(np.signbit(a)[a == 0], np.signbit(e)[e == 0])


SIGNED = {"spike_min": -1, "count_min": 0}
BURST = {"spike_max": 4}

CASES = [
    Case("defaults"),
    Case("constant input", attributes={"constant_input": 1}),
    Case("threshold 1/2", attributes={"v_threshold": 0.5}),
    Case("threshold 3/4", attributes={"v_threshold": 0.75}),
    Case("empty start", attributes={"v_init": 0.0}),
    Case("start in units of the threshold", attributes={"v_init": -1.5, "v_threshold": 0.75}),
    Case("reset to zero", attributes={"reset": "zero"}),
    Case("reset to zero, signed", attributes={"reset": "zero", "spike_min": -1, "count_min": -3}),
    Case("reset to zero, burst 3/4", attributes={"reset": "zero", "v_threshold": 0.75, **BURST}),
    Case("signed", steps=20, attributes=SIGNED),
    Case("signed 3/4", steps=20, attributes={"v_threshold": 0.75, **SIGNED}),
    Case("signed, count below zero", steps=20, attributes={"spike_min": -1, "count_min": -4}),
    Case("burst", attributes=BURST),
    Case("burst 3/4", attributes={"v_threshold": 0.75, **BURST}),
    Case(
        "signed burst",
        steps=20,
        attributes={"v_threshold": 0.5, "spike_min": -2, "spike_max": 3, "count_min": -5},
    ),
    Case("count limit", steps=20, attributes={"count_max": 3}),
    Case("no spikes at all", attributes={"count_max": 0}),
    Case("count_min without negative spikes", n="full", attributes={"count_min": -1}),
    Case(
        "everything at once",
        steps=20,
        attributes={
            "constant_input": 1,
            "v_threshold": 0.75,
            "v_init": 0.25,
            "spike_min": -2,
            "spike_max": 3,
            "count_min": -3,
            "count_max": 6,
        },
        v="full",
        n="full",
    ),
    Case("v full", v="full"),
    Case("v scalar", v="scalar", attributes={"v_threshold": 0.5}),
    Case("n full", n="full"),
    Case("n scalar", n="scalar", attributes=SIGNED, steps=20),
    Case("v and n full", v="full", n="full", attributes={"count_max": 2, **SIGNED}, steps=20),
    Case("v scalar, n full", v="scalar", n="full", attributes={"count_max": 2}),
    Case("s alone", outputs=("s",), v="full"),
    Case("s alone, signed", outputs=("s",), attributes=SIGNED, steps=20),
    Case("s and v_next", outputs=("s", "v_next"), v="full", attributes=BURST),
    Case("s and n_next", outputs=("s", "n_next"), v="full"),
    Case("one step", steps=1, attributes=SIGNED),
    Case("257 steps", steps=257),
    Case("257 steps, signed", steps=257, attributes=SIGNED),
    Case("one sample", shape=(1, 7), v="full"),
    Case("33 samples", shape=(33, 3), v="full", n="full"),
    Case("image", shape=(2, 3, 5, 7), v="full"),
    Case("no features axis", shape=(11,), v="full", n="full", attributes=SIGNED),
    Case("one neuron", shape=(1,)),
    Case("empty batch", shape=(0, 4), v="full", n="full"),
    Case("empty batch, constant input", shape=(0, 4), attributes={"constant_input": 1}),
    Case("no features", shape=(3, 0), v="scalar"),
    *(Case(f"{size} neurons", shape=(size,), v="full") for size in (8, 15, 16, 17, 31, 63, 65)),
    # The native kernel works on blocks of 256, chunks of 2048 and, in one step, tasks of 32832.
    Case("more than a block", shape=(257,), attributes=SIGNED, v="full", n="full"),
    Case("more than a chunk", shape=(3, 683), attributes=SIGNED, v="full", n="full"),
    Case("more than a task", shape=(7, 10_001), steps=1, v="full", n="full"),
    Case("many tasks", shape=(5, 211), steps=257, attributes={"v_threshold": 0.75, **BURST}),
    Case("many tasks, constant input", shape=(1061,), steps=257, attributes={"constant_input": 1}),
    Case("rounded sums", shape=(7, 11), steps=32, values=gaussian, attributes={"v_threshold": 0.3}),
    Case(
        "rounded sums, signed",
        shape=(7, 11),
        steps=32,
        values=gaussian,
        attributes={"v_threshold": 0.3, "v_init": 0.7, **SIGNED},
        v="full",
    ),
    Case(
        "rounded sums, burst",
        shape=(7, 11),
        steps=32,
        values=gaussian,
        attributes={"v_threshold": 0.1, "v_init": 0.7, "spike_max": 15, "spike_min": -9},
    ),
    *(
        Case(
            f"spikes of many digits, {threshold}",
            shape=(40, 8),
            values=great,
            attributes={
                "v_threshold": threshold,
                "spike_min": -(2**30),
                "spike_max": 2**30,
                "count_min": -(2**40),
            },
        )
        for threshold in (1.0, 0.75)
    ),
    Case("not finite", shape=(9, 7), values=not_finite),
    Case("not finite, signed", shape=(9, 7), values=not_finite, attributes=SIGNED, n="full"),
    Case("not finite, burst 3/4", shape=(70,), values=not_finite, attributes={"v_threshold": 0.75}),
    Case(
        "not finite, to zero",
        shape=(9, 7),
        values=not_finite,
        attributes={"reset": "zero", "spike_min": -1, "count_min": -2, "count_max": 2},
        v="full",
    ),
    Case(
        "beyond float16 within the call",
        shape=(40,),
        steps=9,
        values=near_the_greatest_half,
        attributes={"v_threshold": 2.0**18, "v_init": 0.0},
    ),
]

all_cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
all_dtypes = pytest.mark.parametrize("dtype", DTYPES)


@st.composite
def random_cases(draw: st.DrawFn, values: Sequence[Values] = (dyadic, gaussian)) -> Case:
    """Calls of any kind; with dyadic currents alone all sums are exact."""
    attributes = st.fixed_dictionaries(
        {},
        optional={
            "constant_input": st.integers(0, 1),
            "v_threshold": st.sampled_from([0.25, 0.5, 0.75, 1.0, 2.0]),
            "v_init": st.integers(-8, 8).map(lambda k: k / 4),
            "reset": st.sampled_from(["subtract", "zero"]),
            "spike_min": st.integers(-3, 0),
            "spike_max": st.integers(1, 5),
            "count_min": st.integers(-4, 0),
            "count_max": st.integers(-1, 6),
        },
    )
    presence = st.sampled_from(["absent", "scalar", "full"])
    rest = draw(st.sampled_from([(), ("v_next",), ("n_next",), ("v_next", "n_next")]))
    return Case(
        shape=tuple(draw(st.lists(st.integers(0, 40), min_size=1, max_size=3))),
        steps=draw(st.integers(1, 12)),
        attributes=draw(attributes),
        v=draw(presence),
        n=draw(presence),
        outputs=("s", *rest),
        values=draw(st.sampled_from(values)),
        seed=draw(st.integers(0, 2**16)),
    )
