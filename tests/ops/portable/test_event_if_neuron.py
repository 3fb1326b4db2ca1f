"""The portable body of EventIFNeuron against the reference of IFNeuron."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from onnx.reference import ReferenceEvaluator
from onnx.reference.ops.op_scan import Scan

from event_if_neuron_cases import all_cases, event_model, expected_events
from if_neuron_cases import DEFAULTS, SIGNED, Case, assert_identical, random_cases, signature_of
from nets import session
from onnx_snn.ops.portable import event_if_neuron_function, if_neuron_function


def portable_model(case: Case) -> onnx.ModelProto:
    signature = signature_of(case, "float32")
    functions = [if_neuron_function(signature, 18), event_if_neuron_function(signature, 18)]
    return event_model(case, functions)


@all_cases
def test_onnxruntime_gives_what_the_reference_gives(case):
    runtime = session(portable_model(case), optimise=True)
    assert_identical(runtime.run(None, case.feeds("float32")), expected_events(case))


@given(random_cases())
@settings(deadline=None, max_examples=20)
def test_any_call_gives_what_the_reference_gives(case):
    runtime = session(portable_model(case))
    assert_identical(runtime.run(None, case.feeds("float32")), expected_events(case))


@pytest.mark.skipif(
    "need_context" not in vars(Scan),
    reason="the evaluator of this release of onnx hides outer values from the body of a Scan",
)
@pytest.mark.parametrize("attributes", [{"constant_input": 1}, SIGNED], ids=str)
def test_the_onnx_evaluator_gives_what_the_reference_gives(attributes):
    # It does not know the defaults that a function declares for its attributes.
    case = Case(attributes=DEFAULTS | attributes, v="full", n="full")
    actual = ReferenceEvaluator(portable_model(case)).run(None, case.feeds("float32"))
    assert_identical(actual, expected_events(case))


def test_spikes_of_eight_bits_reach_both_ends():
    attributes = {"spike_min": -128, "spike_max": 127, "count_min": -9999}
    case = Case(shape=(400,), attributes=attributes, values=lambda r, shape: r.normal(0, 99, shape))
    s, *_ = session(portable_model(replace(case, outputs=("s",)))).run(None, case.feeds("float32"))
    assert s.dtype == np.int8
    assert (s.min(), s.max()) == (-128, 127)
