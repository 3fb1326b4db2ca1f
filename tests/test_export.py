"""Which portable bodies an exported file has."""

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from if_neuron_cases import dyadic
from nets import session
from onnx_snn.coding import InputCoding
from onnx_snn.export import export
from onnx_snn.ops import DOMAIN, IF_NEURON, PHASE_NEURON
from onnx_snn.ops.reference import if_neuron, phase_neuron
from onnx_snn.schedule import Readout, Schedule, ScheduleRecord

STEPS = 4
RECORD = ScheduleRecord(Schedule.LAYER, Readout.MEAN, InputCoding.CONSTANT, STEPS, 1, "T")
RADIX = {"constant_input": 1, "base": 2, "v_threshold": 0.5, "v_init": 0.5}
TWO_PHASE = {"constant_input": 0, "base": 1, "v_threshold": 0.75, "v_init": 0.25}
SIGNED = {
    "constant_input": 0,
    "v_threshold": 1.0,
    "v_init": 0.5,
    "reset": "subtract",
    "spike_min": -1,
    "spike_max": 1,
    "count_min": 0,
    "count_max": -1,
}


def exported(dtype, *neurons):
    """A file of neurons in a row; each is an operator and its attributes."""
    x, timesteps = gs.Variable("x", dtype, ["N", 5]), gs.Variable("T", np.dtype(np.int64), [])
    start = gs.Constant("start", np.array(0.5, dtype))
    nodes, current = [], x
    for index, (op, attributes) in enumerate(neurons):
        inputs = [current, timesteps, *([start] if op == IF_NEURON else [])]
        current = gs.Variable(f"s{index}", dtype)
        outputs = [current, *([gs.Variable.empty()] if op == IF_NEURON else [])]
        nodes.append(gs.Node(op, f"n{index}", attributes, inputs, outputs, domain=DOMAIN))
    return export(gs.Graph(nodes, [x, timesteps], [current], opset=18), RECORD, {})


def names(model: onnx.ModelProto) -> list[str]:
    return sorted(function.name for function in model.functions)


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_two_phase_neurons_share_a_body(dtype):
    x = dyadic(np.random.default_rng(0), (3, 5)).astype(dtype)
    model = exported(np.dtype(dtype), (PHASE_NEURON, RADIX), (PHASE_NEURON, TWO_PHASE))
    assert names(model) == [PHASE_NEURON]
    expected = phase_neuron(phase_neuron(x, STEPS, **RADIX), STEPS, **TWO_PHASE)
    (actual,) = session(model).run(None, {"x": x})
    np.testing.assert_array_equal(actual, expected, strict=True)


def test_each_kind_of_neuron_has_a_body():
    x = dyadic(np.random.default_rng(0), (3, 5)).astype(np.float32)
    model = exported(np.dtype(np.float32), (PHASE_NEURON, RADIX), (IF_NEURON, SIGNED))
    assert names(model) == [IF_NEURON, PHASE_NEURON]
    expected, *_ = if_neuron(phase_neuron(x, STEPS, **RADIX), STEPS, **SIGNED)
    (actual,) = session(model).run(None, {"x": x})
    np.testing.assert_array_equal(actual, expected, strict=True)


def test_a_body_nobody_calls_is_left_out():
    assert names(exported(np.dtype(np.float32), (IF_NEURON, SIGNED | {"constant_input": 1}))) == [
        IF_NEURON
    ]
