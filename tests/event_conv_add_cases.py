"""One table of cases for all bodies of EventConvAddIFNeuron."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import strategies as st
from onnx import TensorProto, helper

from event_conv_cases import (
    COUNTED,
    FEW,
    SAME,
    Case,
    Events,
    any_byte,
    bursts,
    random_cases,
    signed,
    spikes,
)
from nets import Array
from onnx_snn.ops import EVENT_CONV_ADD_IF_NEURON
from onnx_snn.ops.reference import event_conv, event_conv_add_if_neuron


@dataclass(frozen=True)
class AddCase:
    """A call of EventConvAddIFNeuron.

    Attributes:
        main: all but the shortcut.
        shortcut: shape of r without its rows, (H', W', C').
        strides: of the shortcut.
        group: of the shortcut.
        events: draws r.
    """

    main: Case
    shortcut: tuple[int, int, int]
    strides: Sequence[int] = (1, 1)
    group: int = 1
    events: Events = FEW

    @property
    def attributes(self) -> dict[str, Any]:
        """Those of the shortcut that are not the defaults."""
        strides = {"shortcut_strides": list(self.strides)} if tuple(self.strides) != (1, 1) else {}
        return strides | ({"shortcut_group": self.group} if self.group != 1 else {})

    @property
    def r(self) -> Array:
        random = np.random.default_rng(self.main.seed + 3)
        shape = (self.main.steps * self.main.shape[0], *self.shortcut)
        return self.events(random, shape).astype(np.int8)

    @property
    def weights(self) -> dict[str, Array]:
        """W, B and R; dyadic, so that all sums are exact."""
        random = np.random.default_rng(self.main.seed + 4)
        shape = (1, 1, self.shortcut[2] // self.group, self.main.kernel[2])
        r = (random.integers(-16, 21, shape) / 32).astype(np.float32)
        return {**self.main.weights, "R": r}

    def feeds(self) -> dict[str, Array]:
        weights = {} if self.main.constant_weights else self.weights
        return self.main.feeds(fused=True) | {"r": self.r} | weights

    def expected(self) -> list[Array]:
        """The outputs wanted, by the reference."""
        w, b, r = self.weights.values()
        s, v_next, n_next = event_conv_add_if_neuron(
            self.main.x,
            w,
            b,
            self.r,
            r,
            self.main.steps,
            **self.main.state,
            **self.main.conv,
            **self.attributes,
            **self.main.neuron,
        )
        state = {"v_next": v_next, "n_next": n_next}
        return [s, *(state[name] for name in self.main.outputs)]

    def model(
        self, functions: Sequence[onnx.FunctionProto] = (), opset: int = 18
    ) -> onnx.ModelProto:
        """The call as a model; without functions, only a native kernel can run it."""
        model = self.main.model(fused=True, functions=functions, opset=opset)
        (node,) = model.graph.node
        node.op_type = EVENT_CONV_ADD_IF_NEURON
        node.input[:] = [*node.input[:3], "r", "R", *node.input[3:]]
        node.attribute.extend(helper.make_attribute(*item) for item in self.attributes.items())
        value = helper.make_tensor_value_info
        model.graph.input.append(value("r", TensorProto.INT8, None))
        if self.main.constant_weights:
            r = onnx.numpy_helper.from_array(self.weights["R"], "R")
            model.graph.initializer.append(r)
        else:
            model.graph.input.append(value("R", TensorProto.FLOAT, None))
        return model


IDENTITY = AddCase(Case("identity", conv=SAME), (5, 7, 10), group=10)
HALVED = {"strides": [2, 2], **SAME}

CASES = [
    IDENTITY,
    AddCase(Case("identity of 83", (2, 5, 4, 6), (3, 3, 83), SAME), (5, 4, 83), group=83),
    AddCase(Case("identity of 128", (1, 3, 4, 9), (3, 3, 128), SAME), (3, 4, 128), group=128),
    AddCase(Case("projection", conv=SAME), (5, 7, 4)),
    AddCase(Case("downsampling", (2, 6, 8, 6), conv=HALVED), (6, 8, 5), (2, 2)),
    AddCase(Case("downsampling, odd", conv=HALVED), (5, 7, 3), (2, 2)),
    AddCase(Case("identity, strided", conv=HALVED), (5, 8, 10), (2, 2), group=10),
    AddCase(Case("strides of 3 and 2", kernel=(1, 1, 4)), (14, 13, 9), (3, 2)),
    AddCase(
        Case("one pixel, as Gemm", shape=(3, 1, 1, 37), kernel=(1, 1, 21)), (1, 1, 21), group=21
    ),
    AddCase(Case("more than a tile", (1, 2, 67, 3), (3, 3, 5), SAME), (2, 67, 5), group=5),
    AddCase(Case("more than a tile, projected", (1, 2, 67, 3), (3, 3, 5), SAME), (2, 67, 2)),
    AddCase(Case("groups, projection", kernel=(3, 3, 9), conv={"group": 3, **SAME}), (5, 7, 4)),
    AddCase(Case("groups of 6 and of 4", kernel=(3, 3, 12), conv={"group": 2}), (3, 5, 6), group=3),
    AddCase(Case("wide groups", (1, 3, 3, 5), (3, 3, 140), SAME), (3, 3, 8), group=2),
    AddCase(Case("depthwise", kernel=(3, 3, 6), conv={"group": 6, **SAME}), (5, 7, 6), group=6),
    AddCase(Case("depthwise, projected", kernel=(3, 3, 6), conv={"group": 6, **SAME}), (5, 7, 70)),
    AddCase(Case("two outputs of a channel", conv=SAME), (5, 7, 5), group=5),
    AddCase(Case("output groups of one", conv=SAME), (5, 7, 20), group=10),
    AddCase(Case("silent shortcut", conv=SAME), (5, 7, 10), group=10, events=spikes(0)),
    AddCase(Case("silent projection", conv=SAME), (5, 7, 3), events=spikes(0)),
    AddCase(Case("silent convolution", conv=SAME, events=spikes(0)), (5, 7, 10), group=10),
    AddCase(Case("dense shortcut", conv=SAME), (5, 7, 6), events=spikes(2)),
    AddCase(Case("dense shortcut of groups", conv=SAME), (5, 7, 6), group=2, events=spikes(2)),
    AddCase(Case("dense convolution", conv=SAME, events=spikes(2)), (5, 7, 6)),
    AddCase(Case("dense convolution, identity", conv=SAME, events=spikes(2)), (5, 7, 10), group=10),
    AddCase(Case("both dense", conv=HALVED, events=spikes(2)), (5, 7, 6), (2, 2), events=spikes(2)),
    AddCase(Case("signed", conv=SAME, events=signed), (5, 7, 10), group=10, events=signed),
    AddCase(Case("ones and values", conv=SAME), (5, 7, 4), events=any_byte),
    AddCase(Case("values and ones", conv=SAME, events=bursts), (5, 7, 4)),
    AddCase(Case("values of an identity", conv=SAME), (5, 7, 10), group=10, events=any_byte),
    AddCase(Case("empty batch", (0, 5, 7, 6), conv=SAME, v="full", n="full"), (5, 7, 10), group=10),
    AddCase(Case("one step", conv=SAME, steps=1, v="full"), (5, 7, 4)),
    AddCase(
        Case("kernel of many rows", (1, 19, 2, 3), (17, 2, 5), {"pads": [3, 0, 3, 0]}), (9, 1, 3)
    ),
    AddCase(
        Case("all attributes", conv=SAME, steps=12, v="full", n="full", neuron={
            "v_threshold": 0.75, "spike_min": -2, "spike_max": 3, "count_min": -3, "count_max": 6,
        }),
        (5, 7, 10),
        group=10,
        events=signed,
    ),
    AddCase(Case("v and n scalar", conv=SAME, v="scalar", n="scalar", neuron=COUNTED), (5, 7, 4)),
    AddCase(Case("spikes alone", conv=SAME, outputs=()), (5, 7, 4)),
    AddCase(Case("weights are inputs", conv=SAME, constant_weights=False), (5, 7, 10), group=10),
]  # fmt: skip

all_cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.main.name)


@st.composite
def random_add_cases(draw: st.DrawFn) -> AddCase:
    """Calls of any kind with shortcuts that fit."""
    main = draw(random_cases())
    _, *size, outputs = event_conv(main.x[:0], *main.weights.values(), **main.conv).shape
    strides = [draw(st.integers(1, 3)) for _ in size]
    group = draw(st.sampled_from([g for g in (1, 2, 3, outputs) if outputs % g == 0]))
    channels = group * draw(st.integers(1, 40 if group < 4 else 2))
    rows, columns = (
        (s - 1) * stride + draw(st.integers(1, stride))
        for s, stride in zip(size, strides, strict=True)
    )
    rates = (0, 0.02, 0.1, 0.5, 2)
    events = draw(st.sampled_from([*map(spikes, rates), signed, any_byte]))
    return AddCase(main, (rows, columns, channels), strides, group, events)
