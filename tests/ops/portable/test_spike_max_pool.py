"""The portable body against the reference, in onnxruntime and in ONNX's own evaluator."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from onnx import helper
from onnx.reference import ReferenceEvaluator
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

from if_neuron_cases import assert_identical
from nets import session
from onnx_snn.ops.portable import spike_max_pool_function
from spike_max_pool_cases import OVERLAPPING, Case, all_cases, all_dtypes, random_cases


def portable_model(case: Case, dtype: str, opset: int = 18) -> onnx.ModelProto:
    elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    function = spike_max_pool_function(elem_type, case.c != "absent", case.c_next, opset)
    return case.model(dtype, [function], opset)


def is_possible(case: Case) -> bool:
    """Whether onnxruntime's MaxPool takes it."""
    return 0 not in case.shape[1:] and max(case.pool.get("dilations", [1])) < 2**31 - 1


@all_dtypes
@all_cases
def test_onnxruntime_gives_what_the_reference_gives(case, dtype):
    if not is_possible(case):
        pytest.skip("onnxruntime's MaxPool wants channels, and dilations that mean something")
    runtime = session(portable_model(case, dtype), optimise=True)
    assert_identical(runtime.run(None, case.feeds(dtype)), case.expected(dtype))


@all_dtypes
@given(random_cases())
@settings(deadline=None, max_examples=25)
def test_any_call_gives_what_the_reference_gives(dtype, case):
    runtime = session(portable_model(case, dtype))
    assert_identical(runtime.run(None, case.feeds(dtype)), case.expected(dtype))


@all_dtypes
@pytest.mark.parametrize("c", ["absent", "scalar", "full"])
def test_the_onnx_evaluator_gives_what_the_reference_gives(c, dtype):
    pool = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 2, 1], "dilations": [1, 1]}
    case = Case(pool=pool, c=c)
    actual = ReferenceEvaluator(portable_model(case, dtype)).run(None, case.feeds(dtype))
    assert_identical(actual, case.expected(dtype))


@pytest.mark.parametrize("opset", [18, 19, 20, 21])
def test_every_opset_will_do(opset):
    case = Case(pool=OVERLAPPING, c="full")
    runtime = session(portable_model(case, "float16", opset))
    assert_identical(runtime.run(None, case.feeds("float16")), case.expected("float16"))


def test_the_checker_finds_no_fault():
    model = portable_model(Case(pool=OVERLAPPING, c="full"), "float16")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.SetInParent()  # it insists on one
    onnx.checker.check_model(model)


@pytest.mark.parametrize(
    "changed",
    [
        {"T": np.array(0)},
        {"T": np.array(3)},
        {"x": np.zeros((8, 3, 1, 7), np.float32)},
        {"c": np.zeros((2, 3, 6, 7), np.float32)},
    ],
    ids=lambda changed: " ".join(f"{k} {v.shape or v}" for k, v in changed.items()),
)
def test_what_makes_no_sense_is_an_error(changed):
    case = Case(c="full")
    runtime = session(portable_model(case, "float32"))
    feeds = case.feeds("float32")
    with pytest.raises((Fail, InvalidArgument, RuntimeException)):
        runtime.run(None, feeds | changed)
    assert_identical(runtime.run(None, feeds), case.expected("float32"))
