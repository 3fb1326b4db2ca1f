"""The portable body of AddIFNeuron against the reference."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from onnx.reference import ReferenceEvaluator
from onnx.reference.ops.op_scan import Scan
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

from add_if_neuron_cases import add_feeds, add_model, all_cases, expected_of_sum, for_each_step
from if_neuron_cases import (
    DEFAULTS,
    SIGNED,
    Case,
    all_dtypes,
    assert_identical,
    native,
    random_cases,
    signature_of,
)
from nets import session
from onnx_snn.ops.portable import add_if_neuron_function, if_neuron_function


def portable_model(case: Case, dtype: str) -> onnx.ModelProto:
    signature = signature_of(case, dtype)
    functions = [if_neuron_function(signature, 18), add_if_neuron_function(signature, 18)]
    return add_model(case, dtype, functions)


@all_cases
@all_dtypes
def test_onnxruntime_gives_what_the_reference_gives(case, dtype):
    runtime = session(portable_model(case, dtype), optimise=True)
    assert_identical(runtime.run(None, add_feeds(case, dtype)), expected_of_sum(case, dtype))


@given(random_cases().map(for_each_step))
@settings(deadline=None, max_examples=20)
def test_any_call_gives_what_the_reference_gives(case):
    runtime = session(portable_model(case, "float32"))
    actual = runtime.run(None, add_feeds(case, "float32"))
    assert_identical(actual, expected_of_sum(case, "float32"))


@all_dtypes
def test_the_native_kernel_is_taken_where_it_is_there(dtype):
    case = Case(shape=(2, 3, 5), v="full", outputs=("s", "v_next"))
    runtime = native(portable_model(case, dtype))
    assert_identical(runtime.run(None, add_feeds(case, dtype)), expected_of_sum(case, dtype))


@pytest.mark.skipif(
    "need_context" not in vars(Scan),
    reason="the evaluator of this release of onnx hides outer values from the body of a Scan",
)
@pytest.mark.parametrize("attributes", [{}, SIGNED], ids=str)
def test_the_onnx_evaluator_gives_what_the_reference_gives(attributes):
    # It does not know the defaults that a function declares for its attributes.
    attributes = {k: v for k, v in DEFAULTS.items() if k != "constant_input"} | attributes
    case = Case(attributes=attributes, v="full", n="full")
    actual = ReferenceEvaluator(portable_model(case, "float32")).run(
        None, add_feeds(case, "float32")
    )
    assert_identical(actual, expected_of_sum(case, "float32"))


def test_a_shortcut_of_another_shape_is_refused():
    case = Case(shape=(2, 3), steps=3)
    runtime = session(portable_model(case, "float32"))
    feeds = add_feeds(case, "float32") | {"r": np.zeros((1, 3), np.float32)}
    with pytest.raises((Fail, InvalidArgument, RuntimeException)):
        runtime.run(None, feeds)
