"""The benchmark of whole networks counts synaptic operations as they are defined."""

import numpy as np
import pytest
from onnx import helper

import bench_cpu
from onnx_snn.ops.reference import event_conv

LAYERS = [
    {"strides": [1, 1], "pads": [1, 1, 1, 1], "dilations": [1, 1], "group": 1},
    {"strides": [2, 3], "pads": [0, 2, 1, 0], "dilations": [2, 1], "group": 2},
]


@pytest.mark.parametrize("attributes", LAYERS)
def test_synapses_are_the_weights_that_active_inputs_meet(attributes):
    random = np.random.default_rng(0)
    active = random.random((3, 9, 8, 4)) < 0.2
    weight = (3, 2, 4 // attributes["group"], 6)
    node = helper.make_node("EventConv", ["x", "W", "B"], ["y"], **attributes)
    ones = np.ones(weight, np.float32)
    met = event_conv(active.astype(np.int8), ones, np.zeros(6, np.float32), **attributes)
    assert bench_cpu.synapses(node, "", active, weight) == met.sum()


def test_a_shortcut_is_counted_by_its_own_strides():
    active = np.random.default_rng(1).random((2, 7, 7, 4)) < 0.3
    node = helper.make_node(
        "EventConvAddIFNeuron", [], [], shortcut_strides=[2, 2], shortcut_group=4
    )
    expected = active[:, ::2, ::2].sum()
    assert bench_cpu.synapses(node, "shortcut", active, (1, 1, 1, 4)) == expected
