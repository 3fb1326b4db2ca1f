import numpy as np
import pytest

from onnx_snn.activation_histogram import BINS, ActivationHistogram, bin_edges


def _values(samples, channels=3, features=40, seed=0):
    values = np.random.default_rng(seed).normal(0, 1, (samples, channels, features))
    values *= 2.0 ** np.arange(channels)[:, None]
    return np.maximum(values, 0).astype(np.float32)


def _plain(values):
    """Values [N, C, P] in blocks of one channel."""
    return values[..., None]


def _expected(values, top):
    """Of each half and channel the counts, by NumPy's own histogram; zeros first."""
    edges = top * bin_edges()
    counts = np.zeros((2, values.shape[1], 1 + BINS))
    for half in range(2):
        for channel in range(values.shape[1]):
            own = values[half::2, channel].astype(np.float64)
            counts[half, channel, 1:], _ = np.histogram(own[own < top], edges)
            counts[half, channel, 0] = np.count_nonzero(own < edges[0])
    return counts


def test_counts_are_numpys_in_batches_of_any_size():
    values = _values(37)
    for cuts in ([], [1], [2, 3, 20], list(range(1, 37))):
        histogram = ActivationHistogram(3)
        for part in np.split(values, cuts):
            histogram.add([_plain(part)], 40)
        assert histogram.samples == 37
        np.testing.assert_array_equal(histogram.greatest, values.max((0, 2)))
        assert histogram.top / 2 <= values.max() < histogram.top
        np.testing.assert_array_equal(histogram.counts, _expected(values, histogram.top))


def test_parts_count_as_one_batch():
    values = _values(37)
    histogram, expected = ActivationHistogram(3), ActivationHistogram(3)
    histogram.add([_plain(part) for part in np.split(values, [0, 1, 20])], 40)
    expected.add([_plain(values)], 40)
    assert histogram.samples == 37
    np.testing.assert_array_equal(histogram.greatest, expected.greatest)
    np.testing.assert_array_equal(histogram.counts, expected.counts)


@pytest.mark.parametrize("block", [2, 4, 8])
def test_blocks_of_channels_count_as_their_channels(block):
    values = _values(10, channels=7)
    filled = np.pad(values, [(0, 0), (0, 1), (0, 0)], constant_values=1e9)
    blocks = filled.reshape(10, 8 // block, block, 40).swapaxes(2, 3)
    histogram = ActivationHistogram(7)
    histogram.add([blocks], 40)
    np.testing.assert_array_equal(histogram.greatest, values.max((0, 2)))
    np.testing.assert_array_equal(histogram.counts, _expected(values, histogram.top))


def test_values_that_grow_move_the_bins():
    values = _values(24)
    values[:] *= (2.0 ** np.repeat(np.arange(-6, 6), 2))[:, None, None]
    histogram = ActivationHistogram(3)
    for part in np.split(values, 12):
        histogram.add([_plain(part)], 40)
    np.testing.assert_array_equal(histogram.counts, _expected(values, histogram.top))


def test_a_leap_leaves_nothing_but_zeros_behind():
    histogram = ActivationHistogram(1)
    histogram.add([_plain(np.ones((2, 1, 5), np.float32))], 5)
    histogram.add([_plain(np.full((2, 1, 5), 1e9, np.float32))], 5)
    assert histogram.counts[:, 0, 0].tolist() == [5, 5]
    assert histogram.counts[:, 0, 1:].sum() == 10


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_types_count_as_float32(dtype):
    values = _values(8).astype(dtype)
    histogram, expected = ActivationHistogram(3), ActivationHistogram(3)
    histogram.add([_plain(values)], 40)
    expected.add([_plain(values.astype(np.float32))], 40)
    np.testing.assert_array_equal(histogram.counts, expected.counts)
    assert histogram.top == expected.top


def test_what_is_no_activation_counts_as_0():
    histogram = ActivationHistogram(1)
    values = np.array([-0.0, -3, np.nan, np.inf, -np.inf, 0, 1e300, 1.0])
    histogram.add([_plain(values[-1:].reshape(1, 1, 1))], 1)
    histogram.add([_plain(values[:-1].reshape(1, 1, -1))], 7)
    assert histogram.top == 2
    assert histogram.greatest == [1]
    assert histogram.counts[1, 0, 0] == 7
    assert histogram.counts[0, 0, 1:].sum() == 1


def test_without_activations():
    histogram = ActivationHistogram(2)
    histogram.add([_plain(np.zeros((3, 2, 4), np.float32))], 4)
    assert histogram.top == 0
    assert histogram.counts[..., 0].tolist() == [[8, 8], [4, 4]]
    assert histogram.counts[..., 1:].sum() == 0


class TestPlaces:
    def test_all_of_few_and_fewer_of_many(self):
        histogram = ActivationHistogram(1)
        assert histogram.places(40) == 40
        assert histogram.places(10_000) == 256
        histogram.samples = 1024
        assert histogram.places(10_000) == 16
        histogram.samples = 10**9
        assert histogram.places(10_000) == 1

    def test_a_layer_of_many_channels(self):
        assert ActivationHistogram(2048).places(10_000) == 32

    def test_every_sample_weighs_the_same(self):
        histogram = ActivationHistogram(1)
        values = np.full((1, 1, 64), 1.0, np.float32)
        histogram.add([_plain(values)], 64)
        histogram.add([_plain(2 * values[..., :4])], 64)
        assert histogram.counts.sum((1, 2)).tolist() == [64, 64]
