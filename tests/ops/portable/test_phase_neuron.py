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

from if_neuron_cases import all_dtypes, assert_identical
from nets import session
from onnx_snn.ops.portable import phase_neuron_function
from onnx_snn.ops.reference import phase_neuron
from phase_neuron_cases import BASES, DEFAULTS, Case, all_cases, random_cases

ERRORS = (Fail, InvalidArgument, RuntimeException)

all_bases = pytest.mark.parametrize("base", BASES.values(), ids=BASES)


def portable_model(case: Case, dtype: str = "float32", opset: int = 18) -> onnx.ModelProto:
    elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return case.model(dtype, [phase_neuron_function(elem_type, opset)], opset)


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
    runtime = session(portable_model(case))
    assert_identical(runtime.run(None, case.feeds("float32")), case.expected("float32"))


@pytest.mark.parametrize("opset", [18, 19, 20, 21])
@all_bases
def test_every_opset_will_do(opset, base):
    case = Case(attributes=base)
    model = portable_model(case, opset=opset)
    assert_identical(session(model).run(None, case.feeds("float32")), case.expected("float32"))


def test_neurons_of_one_model_have_attributes_of_their_own():
    first = Case(attributes={"constant_input": 1, "v_threshold": 0.5})
    second = {"base": 1, "v_init": 0.25, "v_threshold": 0.75}
    model = portable_model(first)
    node = helper.make_node("PhaseNeuron", ["s", "T"], ["s2"], domain="onnx_snn", **second)
    model.graph.node.append(node)
    model.graph.output.append(helper.make_tensor_value_info("s2", TensorProto.FLOAT, None))
    (s,) = first.expected("float32")
    expected = [s, phase_neuron(s, first.steps, **second)]
    assert_identical(session(model).run(None, first.feeds("float32")), expected)


@pytest.mark.parametrize("opset", [18, 21])
def test_function_is_valid(opset):
    model = portable_model(Case(), opset=opset)
    (function,) = model.functions
    assert (function.domain, function.name) == ("onnx_snn", "PhaseNeuron")
    assert (list(function.input), list(function.output)) == (["x", "T"], ["s"])
    assert [(entry.domain, entry.version) for entry in function.opset_import] == [("", opset)]
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.SetInParent()  # the checker insists on one
    onnx.checker.check_model(model)


@pytest.mark.parametrize("timesteps", [0, -1, -2, -6])
@pytest.mark.parametrize("shape", [(6, 2), (0, 2)])
@pytest.mark.parametrize("constant_input", [0, 1])
@all_bases
def test_fewer_than_one_step_is_an_error(base, constant_input, shape, timesteps):
    # And not a division by zero, which ends the process in onnxruntime 1.20.
    runtime = session(portable_model(Case(attributes={"constant_input": constant_input, **base})))
    with pytest.raises(ERRORS):
        runtime.run(None, {"x": np.zeros(shape, np.float32), "T": np.array(timesteps)})


@pytest.mark.parametrize(
    ("attributes", "timesteps"),
    [
        ({}, 65),
        ({}, 2**40),
        ({"base": 0}, 2),
        ({"base": 3}, 2),
        ({"base": -1}, 2),
        ({}, [3, 2]),
    ],
    ids=str,
)
@pytest.mark.parametrize("constant_input", [0, 1])
def test_what_makes_no_sense_is_an_error(attributes, constant_input, timesteps):
    case = Case(attributes={"constant_input": constant_input, **attributes})
    runtime = session(portable_model(case))
    rows = 2 if constant_input else 130
    with pytest.raises(ERRORS):
        runtime.run(None, {"x": np.zeros((rows, 2), np.float32), "T": np.array(timesteps)})


@all_bases
def test_rows_that_are_no_multiple_of_the_steps_are_an_error(base):
    case = Case(shape=(2, 3), steps=3, attributes=base)
    runtime = session(portable_model(case))
    with pytest.raises(ERRORS):
        runtime.run(None, case.feeds("float32") | {"T": np.array(4)})
    assert_identical(runtime.run(None, case.feeds("float32")), case.expected("float32"))
