import numpy as np
import pytest

from algebra import channels, only_node
from laws import (
    assert_carried,
    assert_not_linear,
    before_neurons,
    behind_neurons,
    linear_refusal,
    normalised,
    run_time_integers,
)
from nets import Gaussian, Net
from onnx_snn.operators import CannotCarryError, operator_of

W = Gaussian(2)
SCALES = np.asarray([1, 1, 2, 1.5], np.float32)
NONE = np.zeros(0, np.float32)
ROI = np.asarray([0, 0, 0.25, 0.25, 1, 1, 0.75, 0.75], np.float32)

# name: (constants, attributes)
RESIZES = {
    "nearest": ([None, SCALES], {"mode": "nearest"}),
    "nearest, as Upsample was": (
        [NONE, SCALES],
        {
            "mode": "nearest",
            "coordinate_transformation_mode": "asymmetric",
            "nearest_mode": "floor",
        },
    ),
    "linear": ([None, SCALES], {"mode": "linear"}),
    "linear, corners aligned": (
        [None, SCALES],
        {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
    ),
    "cubic": ([None, SCALES], {"mode": "cubic"}),
    "sizes": ([None, None, np.asarray([9, 4], np.int64)], {"mode": "linear", "axes": [2, 3]}),
    "region": (
        [ROI, SCALES],
        {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize"},
    ),
}


def _image(*constants, shape=("N", 4, 6, 6), **attributes):
    net = Net({"x": shape})
    inputs = ["" if values is None else net.constant(values) for values in constants]
    return net.model(net.op("Resize", "x", *inputs, **attributes))


@pytest.mark.parametrize("build", [behind_neurons, before_neurons])
@pytest.mark.parametrize("name", RESIZES)
def test_channels_are_carried(name, build):
    constants, attributes = RESIZES[name]
    assert_carried(build("Resize", *constants, **attributes))


@pytest.mark.parametrize("name", RESIZES)
def test_a_scale_per_layer_is_carried(name):
    constants, attributes = RESIZES[name]
    graph, _ = normalised(behind_neurons("Resize", *constants, **attributes), per_channel=False)
    assert "Mul" not in [node.op for node in graph.nodes]


def test_mixed_channels_need_one_scale():
    scales = np.asarray([1, 2, 1, 1], np.float32)
    node = only_node(_image(None, scales, mode="linear"))
    operator = operator_of(node)
    assert operator.refusal(node) is None
    with pytest.raises(CannotCarryError):
        operator.output(node, [channels(4)], None)
    assert operator.wish(node, channels(8)) == [None]


def test_a_factor_too_small_to_add_a_channel_mixes_them_all_the_same():
    # 1.2 · 4 channels are 4 again, at other places.
    node = only_node(_image(None, np.asarray([1, 1.2, 1, 1], np.float32), mode="linear"))
    with pytest.raises(CannotCarryError):
        operator_of(node).output(node, [channels(4)], None)


def test_refuses_to_fill_with_a_value():
    crop = {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize"}
    assert_not_linear(_image(ROI, SCALES, extrapolation_value=1.0, **crop), "other than 0")
    assert linear_refusal(_image(None, SCALES, mode="linear", extrapolation_value=1.0)) is None


def test_refuses_to_crop_the_batch():
    roi = np.asarray([0, 0, 0, 0, 0.5, 1, 1, 1], np.float32)
    crop = {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize"}
    assert_not_linear(_image(roi, SCALES, **crop), "batch axis")


def test_refuses_the_batch_axis():
    sizes = np.asarray([1, 4, 12, 12], np.int64)
    assert_not_linear(_image(None, None, sizes, mode="nearest"), "batch axis")
    scales = np.asarray([2, 1, 1, 1], np.float32)
    assert_not_linear(_image(None, scales, mode="nearest"), "batch axis")


def test_refuses_sizes_computed_at_run_time():
    net = Net({"x": ["N", 4], "p": ["N", 2]})
    y = net.op("Resize", "x", "", "", run_time_integers(net, "p"))
    assert_not_linear(net.model(y), "run time")
