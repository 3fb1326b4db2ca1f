"""The portable body against the reference, in onnxruntime and in ONNX's own evaluator."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.ops.op_scan import Scan
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

from if_neuron_cases import (
    CASES,
    DEFAULTS,
    SIGNED,
    Case,
    all_cases,
    all_dtypes,
    assert_identical,
    random_cases,
    signature_of,
)
from nets import session
from onnx_snn.ops.portable import if_neuron_function
from onnx_snn.ops.reference import if_neuron


def portable_model(case: Case, dtype: str, opset: int = 18) -> onnx.ModelProto:
    return case.model(dtype, [if_neuron_function(signature_of(case, dtype), opset)], opset)


@all_cases
@all_dtypes
def test_onnxruntime_gives_what_the_reference_gives(case, dtype):
    runtime = session(portable_model(case, dtype), optimise=True)
    assert_identical(runtime.run(None, case.feeds(dtype)), case.expected(dtype))


@pytest.mark.skipif(
    "need_context" not in vars(Scan),
    reason="the evaluator of this release of onnx hides outer values from the body of a Scan",
)
@all_cases
@all_dtypes
def test_the_onnx_evaluator_gives_what_the_reference_gives(case, dtype):
    # It does not know the defaults that a function declares for its attributes.
    case = replace(case, attributes=DEFAULTS | case.attributes)
    evaluator = ReferenceEvaluator(portable_model(case, dtype))
    with np.errstate(all="ignore"):
        actual = evaluator.run(None, case.feeds(dtype))
    assert_identical(actual, case.expected(dtype))


@given(random_cases())
@settings(deadline=None, max_examples=50)
def test_any_call_gives_what_the_reference_gives(case):
    # Here and below, onnxruntime runs the body as it is.
    runtime = session(portable_model(case, "float32"))
    assert_identical(runtime.run(None, case.feeds("float32")), case.expected("float32"))


@pytest.mark.parametrize("opset", [18, 19, 20, 21])
@pytest.mark.parametrize("attributes", [{}, SIGNED], ids=["binary", "signed"])
def test_every_opset_will_do(opset, attributes):
    case = Case(attributes=attributes, v="full", n="full")
    model = portable_model(case, "float32", opset)
    expected = case.expected("float32")
    assert_identical(session(model).run(None, case.feeds("float32")), expected)


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if signature_of(case, "float32").binary],
    ids=lambda case: case.name,
)
def test_body_of_a_mixed_model_runs_its_binary_neurons(case):
    signature = replace(signature_of(case, "float32"), binary=False)
    model = case.model("float32", [if_neuron_function(signature, 18)])
    assert_identical(session(model).run(None, case.feeds("float32")), case.expected("float32"))


def test_neurons_of_one_model_have_attributes_of_their_own():
    first = Case(attributes={"constant_input": 1, "spike_max": 2, "v_threshold": 0.5})
    second = Case(attributes={"v_init": 0.0, "count_max": 3, **SIGNED})
    model = portable_model(first, "float32")
    node = model.graph.node.add()
    node.CopyFrom(second.model("float32").graph.node[0])
    node.input[0], node.output[:] = "s", ["s2", "v2", "n2"]
    model.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in node.output
    )
    feeds = first.feeds("float32")
    expected = first.expected("float32")
    expected += if_neuron(expected[0], second.steps, **second.attributes)
    assert_identical(session(model).run(None, feeds), expected)


@pytest.mark.parametrize("opset", [18, 21])
def test_function_has_the_signature_asked_for_and_is_valid(opset):
    case = Case(n="full", outputs=("s", "n_next"))
    model = portable_model(case, "float32", opset)
    (function,) = model.functions
    assert (function.domain, function.name) == ("onnx_snn", "IFNeuron")
    assert list(function.input) == ["x", "T", "v", "n"]
    assert list(function.output) == ["s", "v_next", "n_next"]
    assert [(entry.domain, entry.version) for entry in function.opset_import] == [("", opset)]
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.SetInParent()  # the checker insists on one
    onnx.checker.check_model(model)


@pytest.mark.parametrize("timesteps", [0, -1, -2, -6])
@pytest.mark.parametrize("shape", [(6, 2), (0, 2)])
@pytest.mark.parametrize("constant_input", [0, 1])
def test_fewer_than_one_step_is_an_error(constant_input, shape, timesteps):
    # And not a division by zero, which ends the process in onnxruntime 1.20.
    case = Case(attributes={"constant_input": constant_input})
    runtime = session(portable_model(case, "float32"))
    with pytest.raises((Fail, InvalidArgument, RuntimeException)):
        runtime.run(None, {"x": np.zeros(shape, np.float32), "T": np.array(timesteps)})


@pytest.mark.parametrize(
    "changed",
    [
        {"T": np.array(0)},
        {"T": np.array(-3)},
        {"T": np.array(4)},
        {"T": np.array([3, 2])},
        {"v": np.zeros((3, 3), np.float32)},
        {"n": np.zeros((6, 3), np.float32)},
    ],
    ids=lambda changed: " ".join(f"{k} {v.shape or v}" for k, v in changed.items()),
)
def test_what_makes_no_sense_is_an_error(changed):
    case = Case(shape=(2, 3), steps=3, v="full", n="full")
    runtime = session(portable_model(case, "float32"))
    with pytest.raises((Fail, InvalidArgument, RuntimeException)):
        runtime.run(None, case.feeds("float32") | changed)
    assert_identical(runtime.run(None, case.feeds("float32")), case.expected("float32"))
