"""The reference of AddIFNeuron against Mul, Add and IFNeuron, one after the other."""

import numpy as np
import pytest

from onnx_snn.ops.reference import add_if_neuron, if_neuron


@pytest.mark.parametrize("shape", [(12, 3), (12, 3, 5), (12, 3, 4, 2)])
@pytest.mark.parametrize("by_channel", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_is_the_neuron_on_the_sum(shape, by_channel, dtype):
    random = np.random.default_rng(0)
    x, r = random.normal(0.2, 1, (2, *shape)).astype(dtype)
    factors = random.normal(0.5, 0.2, 3 if by_channel else ()).astype(dtype)
    v = random.normal(0, 1, (3, *shape[1:])).astype(dtype)
    scaled = np.stack([factors.reshape(-1)[c % factors.size] * r[:, c] for c in range(3)], axis=1)
    expected = if_neuron(x + scaled, 4, v, spike_max=3)
    actual = add_if_neuron(x, r, np.asarray(factors), 4, v, spike_max=3)
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, e, strict=True)


def test_half_is_summed_in_single():
    x, r = np.full((2, 1, 2), 2048.0, np.float16), np.ones((2, 1, 2), np.float16)
    s, v, _ = add_if_neuron(x, r, np.ones((), np.float16), 2, v_threshold=2049.0, v_init=0.0)
    assert s.dtype == v.dtype == np.float16
    assert (s == 1).all()  # 2048 + 1 is 2048 in float16
    assert (v == 0).all()


@pytest.mark.parametrize(
    ("r", "factors", "match"),
    [
        (np.zeros((2, 4)), np.ones(()), "r has shape"),
        (np.zeros((2, 3)), np.ones(2), "R must be one value, or one for each channel"),
    ],
)
def test_wrong_shapes_are_refused(r, factors, match):
    with pytest.raises(ValueError, match=match):
        add_if_neuron(np.zeros((2, 3)), r, factors, 1)
