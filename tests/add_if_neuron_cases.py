"""The cases of IFNeuron without constant input, as calls of AddIFNeuron."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import helper

from if_neuron_cases import CASES, OUTPUTS, Case
from nets import Array
from onnx_snn.ops import ADD_IF_NEURON
from onnx_snn.ops.reference import add_if_neuron

all_cases = pytest.mark.parametrize(
    "case",
    [case for case in CASES if not case.attributes.get("constant_input")],
    ids=lambda case: case.name,
)


def for_each_step(case: Case) -> Case:
    """The case without constant input."""
    case.attributes.pop("constant_input", None)
    return case


@np.errstate(over="ignore")  # of great currents in float16
def add_feeds(case: Case, dtype: str) -> dict[str, Array]:
    """Those of the case, and a shortcut: factors for each channel where there are channels."""
    feeds = case.feeds(dtype)
    random = np.random.default_rng(case.seed + 1)
    channels = feeds["x"].shape[1:2]
    r = np.asarray(case.values(random, feeds["x"].shape))
    factors = np.asarray(random.integers(-8, 9, channels) / 8)
    return {**feeds, "r": r.astype(dtype), "R": factors.astype(dtype)}


def add_model(
    case: Case, dtype: str, functions: Sequence[onnx.FunctionProto] = (), opset: int = 18
) -> onnx.ModelProto:
    """The call as a model; without functions, only a native kernel can run it."""
    model = case.model(dtype, functions, opset)
    elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    node = model.graph.node[0]
    node.op_type = ADD_IF_NEURON
    x, *others = node.input
    node.input[:] = [x, "r", "R", *others]
    for name in ("r", "R"):
        model.graph.input.append(helper.make_tensor_value_info(name, elem_type, None))
    return model


def expected_of_sum(case: Case, dtype: str) -> list[Array]:
    """The outputs wanted, by the reference."""
    feeds = add_feeds(case, dtype)
    x, r, factors, timesteps = (feeds.pop(name) for name in ("x", "r", "R", "T"))
    results = add_if_neuron(x, r, factors, int(timesteps), **feeds, **case.attributes)
    named = dict(zip(OUTPUTS, results, strict=True))
    return [named[name] for name in case.outputs]
