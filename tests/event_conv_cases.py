"""One table of cases for all bodies of EventConv and EventConvIFNeuron."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import strategies as st
from onnx import TensorProto, helper

from nets import Array
from onnx_snn.ops import DOMAIN, EVENT_CONV, EVENT_CONV_IF_NEURON, VERSION
from onnx_snn.ops.reference import event_conv, event_conv_if_neuron

CONV_DEFAULTS = {"strides": [1, 1], "pads": [0, 0, 0, 0], "dilations": [1, 1], "group": 1}
STATE = ("v_next", "n_next")

Events = Callable[[np.random.Generator, Sequence[int]], Array]


def spikes(rate: float) -> Events:
    """Zeros, and ones at the rate given."""
    return lambda random, shape: random.random(shape) < rate


def signed(random: np.random.Generator, shape: Sequence[int]) -> Array:
    return random.choice([-1, 0, 0, 0, 0, 1], shape)


def bursts(random: np.random.Generator, shape: Sequence[int]) -> Array:
    return random.choice([0, 0, 0, 0, 0, 1, 2, 5], shape)


def any_byte(random: np.random.Generator, shape: Sequence[int]) -> Array:
    return np.where(random.random(shape) < 0.2, random.integers(-128, 128, shape), 0)


def rare_others(random: np.random.Generator, shape: Sequence[int]) -> Array:
    """Rows of ones, and now and then one with another value."""
    return np.where(random.random(shape) < 0.005, -3, random.random(shape) < 0.1)


FEW = spikes(0.15)


@dataclass(frozen=True)
class Case:
    """A call of EventConvIFNeuron, or of EventConv, which reads the first lines only.

    Attributes:
        name: of the test.
        shape: of x, [N, H, W, C].
        kernel: (kH, kW, M).
        conv: attributes of the convolution; the others have their defaults.
        events: draws x.
        steps: T.
        seed: of all that is drawn.
        neuron: attributes of the neuron; likewise.
        v: ``"full"``, ``"scalar"`` or ``"absent"``.
        n: likewise.
        outputs: those wanted beside the spikes.
        constant_weights: whether W and B are initializers, or else inputs.
    """

    name: str = ""
    shape: tuple[int, int, int, int] = (2, 5, 7, 6)
    kernel: tuple[int, int, int] = (3, 3, 10)
    conv: dict[str, Any] = field(default_factory=dict)
    events: Events = FEW
    steps: int = 4
    seed: int = 0
    neuron: dict[str, Any] = field(default_factory=dict)
    v: str = "absent"
    n: str = "absent"
    outputs: tuple[str, ...] = STATE
    constant_weights: bool = True

    @property
    def weights(self) -> dict[str, Array]:
        """Dyadic, so that all sums are exact."""
        random = np.random.default_rng(self.seed)
        *kernel, outputs = self.kernel
        shape = (*kernel, self.shape[3] // self.conv.get("group", 1), outputs)
        w, b = random.integers(-16, 21, shape) / 32, random.integers(-8, 16, outputs) / 32
        return {"W": w.astype(np.float32), "B": b.astype(np.float32)}

    @property
    def x(self) -> Array:
        random = np.random.default_rng(self.seed + 1)
        images, *features = self.shape
        return self.events(random, (self.steps * images, *features)).astype(np.int8)

    def feeds(self, *, fused: bool) -> dict[str, Array]:
        feeds = {"x": self.x}
        if not self.constant_weights:
            feeds |= self.weights
        if fused:
            feeds |= {"T": np.array(self.steps), **self.state}
        return feeds

    @property
    def state(self) -> dict[str, Array]:
        """v and n before the first step, as far as they are given."""
        random = np.random.default_rng(self.seed + 2)
        size = event_conv(self.x[:0], *self.weights.values(), **self.conv).shape[1:]
        shapes: dict[str, tuple[int, ...]] = {"full": (self.shape[0], *size), "scalar": ()}
        state = {}
        if self.v in shapes:
            state["v"] = np.asarray(random.integers(-20, 29, shapes[self.v]) / 16, np.float32)
        if self.n in shapes:
            state["n"] = np.asarray(random.integers(-2, 4, shapes[self.n]), np.float32)
        return state

    def expected(self, *, fused: bool) -> list[Array]:
        """The outputs wanted, by the reference."""
        weights = self.weights.values()
        if not fused:
            return [event_conv(self.x, *weights, **self.conv)]
        s, v_next, n_next = event_conv_if_neuron(
            self.x, *weights, self.steps, **self.state, **self.conv, **self.neuron
        )
        state = {"v_next": v_next, "n_next": n_next}
        return [s, *(state[name] for name in self.outputs)]

    def model(
        self, *, fused: bool, functions: Sequence[onnx.FunctionProto] = (), opset: int = 18
    ) -> onnx.ModelProto:
        """The call as a model; without functions, only a native kernel can run it."""
        value = helper.make_tensor_value_info
        types = {"x": TensorProto.INT8, "T": TensorProto.INT64, "s": TensorProto.INT8}
        inputs, outputs = ["x", "W", "B"], ["y"]
        if fused:
            inputs += ["T", *self._names("v", "n", (self.v != "absent", self.n != "absent"))]
            wanted = [name in self.outputs for name in STATE]
            outputs = ["s", *self._names(*STATE, wanted)]
        node = helper.make_node(
            EVENT_CONV_IF_NEURON if fused else EVENT_CONV,
            inputs,
            outputs,
            domain=DOMAIN,
            **self.conv,
            **(self.neuron if fused else {}),
        )
        constants = self.weights if self.constant_weights else {}
        graph = helper.make_graph(
            [node],
            "one_convolution",
            [
                value(name, types.get(name, TensorProto.FLOAT), None)
                for name in inputs
                if name and name not in constants
            ],
            [value(name, types.get(name, TensorProto.FLOAT), None) for name in outputs if name],
            [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
        )
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, VERSION)]
        return helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=8)

    @staticmethod
    def _names(first: str, second: str, present: Sequence[bool]) -> list[str]:
        """An absent one has an empty name, and those at the end none."""
        if present[1]:
            return [first if present[0] else "", second]
        return [first] if present[0] else []


SAME = {"pads": [1, 1, 1, 1]}
COUNTED = {"spike_min": -1, "count_min": 0}

CASES = [
    Case("defaults"),
    Case("3x3, same size", conv=SAME),
    Case("1x1", kernel=(1, 1, 10)),
    Case("one pixel, as Gemm", shape=(3, 1, 1, 37), kernel=(1, 1, 21)),
    Case("one row, as 1-D", shape=(3, 1, 19, 5), kernel=(1, 5, 9), conv={"pads": [0, 2, 0, 2]}),
    Case("stride 2", conv={"strides": [2, 2], **SAME}),
    Case("stride 3 and 2", shape=(2, 9, 11, 3), conv={"strides": [3, 2]}),
    Case("stride past the kernel", kernel=(1, 1, 4), conv={"strides": [2, 3]}),
    Case("dilation 2", conv={"dilations": [2, 2], "pads": [2, 2, 2, 2]}),
    Case(
        "dilation and stride", conv={"dilations": [1, 3], "strides": [2, 2], "pads": [1, 3, 0, 2]}
    ),
    Case("dilation along H", conv={"dilations": [2, 1]}),
    Case("asymmetric pads", conv={"pads": [0, 2, 1, 0]}),
    Case("pads wider than the image", shape=(1, 2, 2, 3), conv={"pads": [4, 5, 3, 6]}),
    Case(
        "kernel of many rows", shape=(1, 19, 2, 3), kernel=(17, 2, 5), conv={"pads": [3, 0, 3, 0]}
    ),
    Case("groups", shape=(2, 5, 7, 6), kernel=(3, 3, 9), conv={"group": 3, **SAME}),
    Case("groups, wide", shape=(1, 3, 3, 70), kernel=(3, 3, 140), conv={"group": 2, **SAME}),
    # Blocks of 16 channels of which 8 are there: as wide as the output, but not the output.
    Case("groups of half a block", kernel=(3, 3, 16), conv={"group": 2, **SAME}),
    Case("groups, dilated", kernel=(2, 3, 4), conv={"group": 2, "dilations": [1, 2]}),
    Case("depthwise", shape=(2, 5, 7, 6), kernel=(3, 3, 6), conv={"group": 6, **SAME}),
    Case("depthwise, wide", shape=(2, 5, 4, 83), kernel=(3, 3, 83), conv={"group": 83, **SAME}),
    Case(
        "depthwise, stride and dilation",
        shape=(2, 7, 9, 64),
        kernel=(3, 2, 64),
        conv={"group": 64, "strides": [2, 1], "dilations": [2, 3], "pads": [0, 3, 1, 0]},
    ),
    Case("depthwise, two outputs each", kernel=(3, 3, 12), conv={"group": 6, **SAME}),
    *(
        Case(f"{channels} to {outputs} channels", (1, 3, 4, channels), (2, 2, outputs))
        for channels, outputs in [(1, 1), (15, 16), (16, 17), (63, 31), (64, 64), (65, 33)]
    ),
    Case("129 to 145 channels", (1, 3, 4, 129), (3, 3, 145), SAME),
    Case("32 to 48 channels", (1, 3, 4, 32), (3, 3, 48), SAME, steps=2),
    Case("a row of more than a tile", (1, 2, 67, 3), (3, 3, 5), SAME),
    Case("wide row, stride 2", (1, 2, 67, 3), (3, 3, 5), {"strides": [1, 2], **SAME}),
    Case("empty batch", shape=(0, 5, 7, 6), v="full", n="full"),
    Case("one step", steps=1, v="full", conv=SAME),
    Case("many steps", steps=65, conv=SAME),
    Case("40 steps of several pixels", (2, 3, 7, 8), (3, 3, 20), SAME, steps=40, neuron=COUNTED),
    Case("150 steps", (2, 3, 3, 8), (3, 3, 20), SAME, steps=150, neuron=COUNTED, v="full"),
    # More of them than fit beside each other in the form of tiles.
    Case("150 steps of a wide row", (1, 1, 60, 64), (1, 1, 8), steps=150, neuron=COUNTED),
    Case("silence", events=spikes(0), conv=SAME),
    Case("everything fires", events=spikes(2), conv=SAME),
    Case("half fires", events=spikes(0.5), conv=SAME),
    Case("half fires, 64 to 96", (2, 8, 8, 64), (3, 3, 96), SAME, events=spikes(0.5), steps=2),
    Case("all fire, groups", kernel=(3, 3, 9), conv={"group": 3, **SAME}, events=spikes(2)),
    Case(
        "all fire, stride and dilation",
        shape=(1, 9, 17, 6),
        kernel=(3, 2, 50),
        conv={"dilations": [2, 3], "strides": [2, 2], "pads": [1, 4, 2, 0]},
        events=spikes(2),
    ),
    Case("signed events", events=signed, conv=SAME),
    Case("bursts", events=bursts, conv=SAME),
    Case("any byte", events=any_byte, conv=SAME),
    Case("any byte, groups", events=any_byte, kernel=(3, 3, 9), conv={"group": 3, **SAME}),
    Case("any byte, depthwise", events=any_byte, kernel=(3, 3, 6), conv={"group": 6, **SAME}),
    Case("rare values", (2, 9, 9, 20), events=rare_others, conv=SAME),
    Case("threshold 3/4", neuron={"v_threshold": 0.75}),
    Case("empty start", neuron={"v_init": 0.0}),
    Case("reset to zero", neuron={"reset": "zero"}),
    Case("signed neurons", steps=12, neuron=COUNTED),
    Case("burst neurons", neuron={"spike_max": 4}),
    Case("widest spikes", neuron={"spike_max": 127, "spike_min": -128, "count_min": -9999}),
    Case(
        "all attributes",
        steps=12,
        neuron={
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
    Case("count limit, reset to zero", steps=12, neuron={"count_max": 2, "reset": "zero"}),
    Case("v full", v="full"),
    Case("v scalar", v="scalar"),
    Case("n full", n="full", neuron=COUNTED),
    Case("n scalar", n="scalar", neuron=COUNTED),
    Case("v and n full", v="full", n="full", neuron={"count_max": 2, **COUNTED}),
    Case("spikes alone", outputs=(), v="full"),
    Case("spikes alone, signed", outputs=(), neuron=COUNTED),
    Case("spikes and v_next", outputs=("v_next",)),
    Case("spikes and n_next", outputs=("n_next",), v="full"),
    Case("weights are inputs", constant_weights=False, conv=SAME),
]

all_cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
both_operators = pytest.mark.parametrize("fused", [False, True], ids=["EventConv", "fused"])


@st.composite
def random_cases(draw: st.DrawFn) -> Case:
    """Calls of any kind with kernels that fit."""
    small = st.integers(1, 3)
    kernel_size = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    dilations = [draw(small), draw(small)]
    pads = draw(st.lists(st.integers(0, 3), min_size=4, max_size=4))
    size = [
        max(1, (k - 1) * d + 1 - before - after) + draw(st.integers(0, 8))
        for k, d, before, after in zip(kernel_size, dilations, pads[:2], pads[2:], strict=True)
    ]
    group = draw(st.sampled_from([1, 1, 1, 2, 5]))
    channels, outputs = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    if draw(st.booleans()):
        outputs *= 3
    if group == 5 and draw(st.booleans()):
        channels = outputs = 1  # depthwise
    neuron = st.fixed_dictionaries(
        {},
        optional={
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
    return Case(
        shape=(draw(st.integers(0, 2)), *size, channels * group),
        kernel=(*kernel_size, outputs * group),
        conv={
            "strides": [draw(small), draw(small)],
            "pads": pads,
            "dilations": dilations,
            "group": group,
        },
        events=draw(st.sampled_from([*map(spikes, (0, 0.02, 0.1, 0.5, 2)), signed, any_byte])),
        steps=draw(st.integers(1, 5) | st.sampled_from([16, 37])),
        seed=draw(st.integers(0, 2**16)),
        neuron=draw(neuron),
        v=draw(presence),
        n=draw(presence),
        outputs=draw(st.sampled_from([(), ("v_next",), ("n_next",), STATE])),
        constant_weights=draw(st.booleans()),
    )
