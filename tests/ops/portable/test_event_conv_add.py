"""The portable body of EventConvAddIFNeuron against the reference."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from onnx.reference import ReferenceEvaluator
from onnx.reference.ops.op_scan import Scan
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

from event_conv_add_cases import IDENTITY, AddCase, all_cases, random_add_cases
from event_conv_cases import CONV_DEFAULTS, COUNTED, SAME, Case
from if_neuron_cases import DEFAULTS, assert_identical, least_signature
from nets import session
from onnx_snn.ops.portable import (
    event_conv_add_if_neuron_function,
    event_conv_if_neuron_function,
    if_neuron_function,
)


def portable_model(case: AddCase, opset: int = 18) -> onnx.ModelProto:
    signature = least_signature(case.main, case.main.neuron)
    functions = [
        if_neuron_function(signature, opset),
        event_conv_if_neuron_function(signature, opset),  # of other nodes of the model
        event_conv_add_if_neuron_function(signature, opset),
    ]
    return case.model(functions, opset)


@all_cases
def test_onnxruntime_gives_what_the_reference_gives(case):
    runtime = session(portable_model(case), optimise=True)
    assert_identical(runtime.run(None, case.feeds()), case.expected())


@given(random_add_cases())
@settings(deadline=None, max_examples=20)
def test_any_call_gives_what_the_reference_gives(case):
    runtime = session(portable_model(case))
    assert_identical(runtime.run(None, case.feeds()), case.expected())


@pytest.mark.skipif(
    "need_context" not in vars(Scan),
    reason="the evaluator of this release of onnx hides outer values from the body of a Scan",
)
def test_the_onnx_evaluator_gives_what_the_reference_gives():
    # It does not know the defaults that a function declares for its attributes.
    neuron = {k: v for k, v in DEFAULTS.items() if k != "constant_input"} | COUNTED
    conv = CONV_DEFAULTS | {"strides": [1, 2], **SAME}
    case = AddCase(Case(conv=conv, neuron=neuron, v="full"), (10, 8, 10), (2, 2), 10)
    actual = ReferenceEvaluator(portable_model(case)).run(None, case.feeds())
    assert_identical(actual, case.expected())


@pytest.mark.parametrize("opset", [18, 19, 20, 21])
def test_every_opset_will_do(opset):
    runtime = session(portable_model(IDENTITY, opset))
    assert_identical(runtime.run(None, IDENTITY.feeds()), IDENTITY.expected())


@pytest.mark.parametrize(
    "changed",
    [
        {"r": np.zeros((8, 1, 1, 10), np.int8)},  # Add would broadcast these
        {"r": np.zeros((8, 5, 1, 10), np.int8)},
        {"r": np.zeros((1, 5, 7, 10), np.int8)},
        {"r": np.zeros((8, 7, 5, 10), np.int8)},
        {"r": np.zeros((8, 5, 7, 9), np.int8)},
        {"R": np.zeros((1, 2, 1, 10), np.float32)},
        {"T": np.array(3)},
    ],
    ids=lambda changed: " ".join(f"{k} {v.shape or v}" for k, v in changed.items()),
)
def test_what_makes_no_sense_is_an_error(changed):
    case = replace(IDENTITY, main=replace(IDENTITY.main, constant_weights=False))
    runtime = session(portable_model(case))
    feeds = case.feeds()
    with pytest.raises((Fail, InvalidArgument, RuntimeException)):
        runtime.run(None, feeds | changed)
    assert_identical(runtime.run(None, feeds), case.expected())
