import numpy as np
import pytest

from algebra import assert_wish_holds, channels, rescale
from laws import assert_not_linear, linear_refusal, normalised
from nets import Gaussian, Net
from onnx_snn.scale import ONE, Scale


def _concat(*counts, axis=1, size=3):
    shapes = [["N", count, size] if axis in (1, -2) else ["N", 4, count] for count in counts]
    net = Net({f"x{index}": shape for index, shape in enumerate(shapes)})
    return net.model(net.op("Concat", *(f"x{i}" for i in range(len(counts))), axis=axis))


@pytest.mark.parametrize("axis", [1, -2])
def test_joins_a_scale_per_channel(axis):
    first, second = channels(2, seed=1), channels(3, seed=2)
    out = rescale(_concat(2, 3, axis=axis), [first, second])
    assert out == Scale.of([*first.values, *second.values])


def test_joins_different_scalars_per_channel():
    out = rescale(_concat(2, 3), [Scale.of(2.0), Scale.of(5.0)])
    assert out == Scale.of([2, 2, 5, 5, 5])


def test_equal_scalars_stay_one_number():
    assert rescale(_concat(2, 3), [Scale.of(3.0)] * 2) == Scale.of(3.0)


def test_mixes_scalars_and_vectors():
    vector = channels(3)
    out = rescale(_concat(2, 3, 1), [Scale.of(2.0), vector, Scale.of(4.0)])
    assert out == Scale.of([2, 2, *vector.values, 4])


def test_along_another_axis_all_inputs_share_one_scale():
    model = _concat(2, 3, axis=2)
    assert rescale(model, [channels(4)] * 2) == channels(4)
    assert rescale(model, [channels(4, seed=1), channels(4, seed=2)]) == ONE
    assert rescale(model, [channels(4, seed=1), channels(4, seed=2)], Scale.of(3.0)) == Scale.of(3)


def test_wishes_are_split_where_channels_are_joined():
    assert_wish_holds(_concat(2, 3), channels(5))
    assert_wish_holds(_concat(2, 3), Scale.of(0.4))
    assert_wish_holds(_concat(2, 3, axis=2), channels(4))


def test_refuses_a_constant():
    net = Net({"x": ["N", 2]})
    model = net.model(net.op("Concat", "x", net.constant(np.ones((1, 2), np.float32)), axis=1))
    assert_not_linear(model, "constant")


def test_refuses_the_batch_axis():
    net = Net({"x": ["N", 2]})
    assert_not_linear(net.model(net.op("Concat", "x", "x", axis=0)), "batch axis")
    assert_not_linear(net.model(net.op("Concat", "x", "x", axis=-2)), "batch axis")
    assert linear_refusal(net.model(net.op("Concat", "x", "x", axis=-1))) is None


def test_a_wish_is_parted_where_the_inputs_have_other_axes():
    """λ per place meets λ per channel, and what is wanted of both is one λ per channel."""
    net, weights = Net({"x": ["N", 2, 9]}), Gaussian(3)
    hidden = net.relu(net.conv("x", weights(1, 2, 1), weights(1)))
    places = net.matmul(net.op("Transpose", hidden, perm=[0, 2, 1]), weights(1, 3))
    places = net.op("Transpose", net.relu(places), perm=[0, 2, 1])
    both = net.relu(net.op("Concat", hidden, places, axis=1))
    _, scales = normalised(net.model(net.op("Flatten", both)), per_channel=True)
    assert not any(scale.is_scalar for scale in scales)
