"""The portable bodies against the reference, in onnxruntime and in ONNX's own evaluator."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from onnx.reference import ReferenceEvaluator
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

from event_conv_cases import any_byte
from event_pool_cases import OVERLAPPING, Case, all_cases, both_operators, random_cases
from if_neuron_cases import assert_identical
from nets import session
from onnx_snn.ops import EVENT_MAX_POOL
from onnx_snn.ops.portable import event_max_pool_function, event_sum_pool_function


def portable_model(case: Case, operator: str, opset: int = 18) -> onnx.ModelProto:
    function = event_sum_pool_function(opset)
    if operator == EVENT_MAX_POOL:
        function = event_max_pool_function(case.c != "absent", case.c_next, opset)
    return case.model(operator, [function], opset)


@all_cases
@both_operators
def test_onnxruntime_gives_what_the_reference_gives(case, operator):
    if 0 in case.shape[1:]:
        pytest.skip("onnxruntime's pools want channels")
    runtime = session(portable_model(case, operator), optimise=True)
    assert_identical(runtime.run(None, case.feeds(operator)), case.expected(operator))


@both_operators
@given(random_cases())
@settings(deadline=None, max_examples=25)
def test_any_call_gives_what_the_reference_gives(operator, case):
    runtime = session(portable_model(case, operator))
    assert_identical(runtime.run(None, case.feeds(operator)), case.expected(operator))


@pytest.mark.parametrize("c", ["absent", "scalar", "full"])
@both_operators
def test_the_onnx_evaluator_gives_what_the_reference_gives(operator, c):
    pool = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 2, 1]}
    case = Case(pool=pool, events=any_byte, c=c)
    actual = ReferenceEvaluator(portable_model(case, operator)).run(None, case.feeds(operator))
    assert_identical(actual, case.expected(operator))


@pytest.mark.parametrize("opset", [18, 19, 20, 21])
@both_operators
def test_every_opset_will_do(opset, operator):
    case = Case(pool=OVERLAPPING, c="full")
    runtime = session(portable_model(case, operator, opset))
    assert_identical(runtime.run(None, case.feeds(operator)), case.expected(operator))


@both_operators
def test_the_checker_finds_no_fault(operator):
    model = portable_model(Case(pool=OVERLAPPING, c="full"), operator)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.SetInParent()  # it insists on one
    onnx.checker.check_model(model)


@pytest.mark.parametrize(
    "changed",
    [
        {"T": np.array(0)},
        {"T": np.array(3)},
        {"x": np.zeros((8, 1, 7, 5), np.int8)},
        {"c": np.zeros((2, 6, 8, 4), np.float32)},
    ],
    ids=lambda changed: " ".join(f"{k} {v.shape or v}" for k, v in changed.items()),
)
def test_what_makes_no_sense_is_an_error(changed):
    case = Case(c="full")
    runtime = session(portable_model(case, EVENT_MAX_POOL))
    feeds = case.feeds(EVENT_MAX_POOL)
    with pytest.raises((Fail, InvalidArgument, RuntimeException)):
        runtime.run(None, feeds | changed)
    assert_identical(runtime.run(None, feeds), case.expected(EVENT_MAX_POOL))


def test_two_calls_with_the_state_carried_over_are_one():
    case = Case(pool=OVERLAPPING, steps=7, c="full")
    runtime = session(portable_model(case, EVENT_MAX_POOL))
    first, second = case.x[:6], case.x[6:]
    s, c = runtime.run(None, {"x": first, "T": np.array(3), **case.state})
    rest, c = runtime.run(None, {"x": second, "T": np.array(4), "c": c})
    expected = replace(case, c_next=True).expected(EVENT_MAX_POOL)
    assert_identical([np.concatenate([s, rest]), c], expected)
