"""The cases of IFNeuron whose spikes are of 8 bits, as calls of EventIFNeuron."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from if_neuron_cases import CASES, Case
from nets import Array
from onnx_snn.ops import EVENT_IF_NEURON

all_cases = pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.attributes.get("spike_max", 1) <= 127],
    ids=lambda case: case.name,
)


def event_model(
    case: Case, functions: Sequence[onnx.FunctionProto] = (), opset: int = 18
) -> onnx.ModelProto:
    """The call as a model; without functions, only a native kernel can run it."""
    model = case.model("float32", functions, opset)
    model.graph.node[0].op_type = EVENT_IF_NEURON
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT8
    return model


def expected_events(case: Case) -> list[Array]:
    """What IFNeuron gives, by its reference, with spikes of 8 bits."""
    s, *state = case.expected("float32")
    return [s.astype(np.int8), *state]
