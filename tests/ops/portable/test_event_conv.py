"""The portable bodies against the reference, in onnxruntime and in ONNX's own evaluator."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from onnx import helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.ops.op_scan import Scan
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

from event_conv_cases import (
    CONV_DEFAULTS,
    COUNTED,
    SAME,
    STATE,
    Case,
    all_cases,
    both_operators,
    random_cases,
)
from if_neuron_cases import DEFAULTS, assert_identical, least_signature
from nets import session
from onnx_snn.ops import DOMAIN, IF_NEURON
from onnx_snn.ops.portable import (
    event_conv_function,
    event_conv_if_neuron_function,
    if_neuron_function,
)
from onnx_snn.ops.reference import event_conv, if_neuron


def portable_model(case: Case, *, fused: bool, opset: int = 18) -> onnx.ModelProto:
    functions = [event_conv_function(opset)]
    if fused:
        signature = least_signature(case, case.neuron)
        functions = [  # the evaluator wants the one that is called first
            if_neuron_function(signature, opset),
            event_conv_if_neuron_function(signature, opset),
        ]
    return case.model(fused=fused, functions=functions, opset=opset)


@all_cases
@both_operators
def test_onnxruntime_gives_what_the_reference_gives(case, fused):
    runtime = session(portable_model(case, fused=fused), optimise=True)
    actual = runtime.run(None, case.feeds(fused=fused))
    assert_identical(actual, case.expected(fused=fused))


@pytest.mark.skipif(
    "need_context" not in vars(Scan),
    reason="the evaluator of this release of onnx hides outer values from the body of a Scan",
)
@pytest.mark.parametrize(
    "case",
    [
        Case("convolution", conv={"strides": [2, 1], "dilations": [1, 2], **SAME}),
        Case("groups", kernel=(3, 3, 9), conv={"group": 3, "pads": [0, 2, 1, 0]}),
        Case("signed", conv=SAME, neuron=COUNTED, v="full", n="full"),
        Case("spikes alone", outputs=()),
    ],
    ids=lambda case: case.name,
)
@both_operators
def test_the_onnx_evaluator_gives_what_the_reference_gives(case, fused):
    # It does not know the defaults that a function declares for its attributes.
    neuron = {k: v for k, v in DEFAULTS.items() if k != "constant_input"} | case.neuron
    case = replace(case, conv=CONV_DEFAULTS | case.conv, neuron=neuron)
    actual = ReferenceEvaluator(portable_model(case, fused=fused)).run(
        None, case.feeds(fused=fused)
    )
    assert_identical(actual, case.expected(fused=fused))


@both_operators
@given(random_cases())
@settings(deadline=None, max_examples=30)
def test_any_call_gives_what_the_reference_gives(fused, case):
    runtime = session(portable_model(case, fused=fused))
    actual = runtime.run(None, case.feeds(fused=fused))
    assert_identical(actual, case.expected(fused=fused))


@pytest.mark.parametrize("opset", [18, 19, 20, 21])
@both_operators
def test_every_opset_will_do(opset, fused):
    case = Case(conv=SAME, v="full", n="full")
    runtime = session(portable_model(case, fused=fused, opset=opset))
    actual = runtime.run(None, case.feeds(fused=fused))
    assert_identical(actual, case.expected(fused=fused))


def test_a_model_may_hold_convolutions_with_and_without_neurons_and_neurons_alone():
    case = Case(conv=SAME, neuron=COUNTED, outputs=STATE)
    signature = least_signature(case, case.neuron)
    model = portable_model(case, fused=True)
    model.functions.append(event_conv_function(18))
    readout = helper.make_node("EventConv", ["s", "W2", "B"], ["y"], domain=DOMAIN, **SAME)
    neuron = helper.make_node(
        IF_NEURON, ["y", "T"], ["s2", "", ""], domain=DOMAIN, **(DEFAULTS | COUNTED)
    )
    assert signature.n_next
    w = np.random.default_rng(9).integers(-8, 9, (3, 3, 10, 10)).astype(np.float32) / 16
    model.graph.initializer.append(onnx.numpy_helper.from_array(w, "W2"))
    model.graph.node.extend([readout, neuron])
    float32 = onnx.TensorProto.FLOAT
    model.graph.output.extend(
        helper.make_tensor_value_info(name, float32, None) for name in ("y", "s2")
    )
    onnx.checker.check_model(_with_shapes(model))
    *first, currents, spikes = session(model).run(None, case.feeds(fused=True))
    assert_identical(first, case.expected(fused=True))
    expected = event_conv(first[0], w, case.weights["B"], **SAME)
    assert_identical([currents], [expected])
    assert_identical([spikes], if_neuron(expected, case.steps, **COUNTED)[:1])


def _with_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The checker insists on a shape."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for value in (*copy.graph.input, *copy.graph.output):
        value.type.tensor_type.shape.SetInParent()
    return copy


@pytest.mark.parametrize(
    "changed",
    [
        {"T": np.array(0)},
        {"T": np.array(3)},
        {"x": np.zeros((8, 5, 7, 5), np.int8)},
        {"v": np.zeros((2, 3, 5, 9), np.float32)},
    ],
    ids=lambda changed: " ".join(f"{k} {v.shape or v}" for k, v in changed.items()),
)
def test_what_makes_no_sense_is_an_error(changed):
    case = Case(v="full", n="full", constant_weights=False)
    runtime = session(portable_model(case, fused=True))
    feeds = case.feeds(fused=True)
    with pytest.raises((Fail, InvalidArgument, RuntimeException)):
        runtime.run(None, feeds | changed)
    assert_identical(runtime.run(None, feeds), case.expected(fused=True))
