import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_snn.activation_histogram import ActivationHistogram
from onnx_snn.quantisation_error import QuantisationError

BINNING = 1.1  # bins are 2 to 3 % wide, and over few values the error is a rough function of θ


def _histogram(values):
    histogram = ActivationHistogram(values.shape[1])
    histogram.add([values[..., None]], values.shape[2])
    return histogram


def _error(a, theta, levels):
    q = theta / levels
    return np.mean((a - q * np.clip(np.floor(a / q + 0.5), 0, levels)) ** 2)


def _brute_force(a, levels):
    """The least error on a grid of θ from 0.05 to 1 times the greatest value."""
    return min(_error(a, theta, levels) for theta in a.max() * np.linspace(0.05, 1, 60))


def _activations(samples=40, features=100, seed=0):
    """[N, 3, F]: normal, heavy-tailed, and nearly uniform; of different ranges."""
    random = np.random.default_rng(seed)
    values = np.stack(
        [
            random.normal(0, 1, (samples, features)),
            0.1 * random.standard_exponential((samples, features)) ** 2,
            30 * random.uniform(0, 1, (samples, features)),
        ],
        1,
    )
    return np.maximum(values, 0).astype(np.float32)


@settings(deadline=None, max_examples=10)
@given(st.sampled_from([1, 4, 15, 32, 256]), st.integers(0, 2**16))
def test_no_theta_on_a_grid_does_better(levels, seed):
    all_values = _activations(seed=seed)
    best = QuantisationError(levels).fit(_histogram(all_values))
    channels = zip(all_values.swapaxes(0, 1), best.channels, strict=True)
    found = [(all_values, best.layer), *channels]
    for values, theta in found:
        a = values.astype(np.float64)
        assert 0.05 * a.max() * 0.99 <= theta <= a.max()
        assert _error(a, theta, levels) <= BINNING * _brute_force(a, levels)
        assert _error(a, theta, levels) <= BINNING * _error(a, a.max(), levels)


@pytest.mark.parametrize("factor", [1e-20, 0.3, 1e20])
def test_theta_has_the_unit_of_the_activations(factor):
    values = _activations(200)
    table = QuantisationError(8)
    one, scaled = (table.fit(_histogram(v)) for v in (values, (values * factor).astype("f4")))
    # Up to the bins, which are finer at the end of an octave.
    np.testing.assert_allclose(scaled.layer, factor * one.layer, rtol=0.1)
    np.testing.assert_allclose(scaled.channels, factor * one.channels, rtol=0.1)


def test_more_levels_clip_less():
    histogram = _histogram(_activations(400))
    found = [QuantisationError(levels).fit(histogram).layer for levels in (2, 8, 32, 128)]
    assert found == sorted(found)
    assert found[0] < 0.9 * found[-1]


def test_held_out_errors_are_those_of_the_other_halfs_thresholds():
    values = _activations(30)
    levels, table = 16, QuantisationError(16)
    found = table.fit(_histogram(values)).held_out
    assert len(found) == 2
    for half, (layer, channels) in enumerate(found):
        own, other = (values[h::2].astype(np.float64) for h in (half, 1 - half))
        fitted = table.fit(_histogram(other.astype(np.float32)))
        each = [_error(own[:, c], fitted.channels[c], levels) for c in range(3)]
        assert layer == pytest.approx(_error(own, fitted.layer, levels), rel=0.02)
        assert channels == pytest.approx(np.mean(each), rel=0.02)


def test_a_channel_silent_in_one_half_is_judged_by_the_layers_theta():
    values = np.ones((4, 2, 3), np.float32)
    values[::2, 1] = 0
    found = QuantisationError(4).fit(_histogram(values)).held_out
    np.testing.assert_allclose(found[1], [found[1][0]] * 2)


@pytest.mark.parametrize("samples", [0, 1])
def test_one_half_alone_is_not_judged(samples):
    values = _activations(samples) if samples else np.zeros((5, 3, 2), np.float32)
    assert QuantisationError(4).fit(_histogram(values)).held_out == []


def test_silent_channels_and_layers_have_none():
    values = _activations()
    values[:, 1] = 0
    best = QuantisationError(4).fit(_histogram(values))
    assert best.channels[1] == 0
    assert best.channels[[0, 2]].min() > 0
    silent = QuantisationError(4).fit(_histogram(np.zeros_like(values)))
    assert (silent.layer, silent.channels.tolist()) == (0, [0, 0, 0])
