import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_snn.ops.reference import large_values
from onnx_snn.tail_histogram import FloorTooHighError, NotFiniteError, TailHistogram

# Every value is rounded to the nearest of 12 significant bits; a quantile lies between two values.
ROUNDING = 2.0**-12 * (1 + 1e-6)
PERCENTILES = (0.0, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999, 1.0)


def count(batches, channels, least=0.0, margin=np.inf, first=2):
    """A histogram of batches [N, C, F], the first samples of which place the floor."""
    histogram = TailHistogram(channels, least, margin)
    few = batches[0][:first]
    above, rows = large_values(few, histogram.floor)
    histogram.place_floor([above], int(rows), samples=len(few))
    for values in batches:
        above, rows = large_values(values, histogram.floor)
        histogram.add(np.array_split(above, 3), int(rows), samples=len(values))
    return histogram


def quantiles(histogram, q):
    return np.append(histogram.channel_quantiles(q), histogram.quantile(q))


def expected(batches, q):
    values = np.concatenate(batches).astype(np.float64)
    return np.append(np.quantile(values, q, axis=(0, 2)), np.quantile(values, q))


def _heavy(random, shape):
    return random.pareto(1.0, shape)


def _mostly_zero(random, shape):
    return np.maximum(random.normal(-2.5, 1, shape), 0)


def _constant(random, shape):
    return np.full(shape, random.uniform(0.1, 3))


def _plateau(random, shape):
    return np.minimum(np.maximum(random.normal(0, 6, shape), 0), 6)


def _tiny(random, shape):
    return random.exponential(1e-30, shape)


def _channels_apart(random, shape):
    return random.exponential(1, shape) * 10.0 ** np.arange(shape[1])[:, None]


def _dead(random, shape):
    return np.zeros(shape)


DISTRIBUTIONS = (_heavy, _mostly_zero, _constant, _plateau, _tiny, _channels_apart, _dead)


@st.composite
def _batches(draw):
    random = np.random.default_rng(draw(st.integers(0, 2**16)))
    channels, features = draw(st.integers(1, 4)), draw(st.sampled_from([1, 3, 40]))
    distribution = draw(st.sampled_from(DISTRIBUTIONS))
    sizes = draw(st.lists(st.integers(1, 30), min_size=1, max_size=5))
    return [distribution(random, (n, channels, features)).astype(np.float32) for n in sizes]


@settings(deadline=None, max_examples=150)
@given(_batches(), st.sampled_from(PERCENTILES))
def test_quantiles_are_numpys(batches, q):
    histogram = count(batches, batches[0].shape[1])
    actual = quantiles(histogram, q)
    np.testing.assert_allclose(actual, expected(batches, q), rtol=ROUNDING, atol=1e-40)
    np.testing.assert_array_equal(histogram.greatest, np.concatenate(batches).max(axis=(0, 2)))


@settings(deadline=None, max_examples=150)
@given(_batches(), st.sampled_from(PERCENTILES), st.sampled_from([1.0, 1.5, 20.0]))
def test_with_a_floor_they_are_the_same_or_it_says_so(batches, q, margin):
    channels = batches[0].shape[1]
    whole = count(batches, channels)
    floored = count(batches, channels, q, margin)
    try:
        actual = quantiles(floored, q)
    except FloorTooHighError:
        return
    np.testing.assert_array_equal(actual, quantiles(whole, q))
    np.testing.assert_array_equal(floored.greatest, whole.greatest)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_a_floor_is_low_enough_for_samples_of_one_kind(distribution):
    random = np.random.default_rng(3)
    batches = [distribution(random, (20, 3, 100)).astype(np.float32) for _ in range(25)]
    floored = count(batches, 3, 0.99, margin=1.5)
    np.testing.assert_allclose(
        quantiles(floored, 0.99), expected(batches, 0.99), rtol=ROUNDING, atol=1e-40
    )


def test_a_floor_leaves_out_most_values():
    random = np.random.default_rng(0)
    batches = [random.exponential(1, (50, 2, 400)).astype(np.float32) for _ in range(20)]
    histogram = count(batches, 2, 0.999, margin=1.5)
    above = large_values(batches[0], histogram.floor)[0]
    needed = 0.001 * batches[0].size
    assert needed < above.size < 4 * needed


def test_neither_order_nor_batches_matter():
    random = np.random.default_rng(1)
    values = np.maximum(random.normal(0, 1, (240, 3, 50)), 0).astype(np.float32)
    shuffled = values[random.permutation(len(values))]
    results = [
        quantiles(count(np.array_split(data, parts), 3, 0.99, margin), q)
        for data, parts, margin, q in itertools.product(
            (values, values[::-1], shuffled), (1, 7, 240), (1.5, np.inf), (0.99,)
        )
    ]
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_first_samples_unlike_the_rest_raise_the_floor_too_high():
    random = np.random.default_rng(2)
    large = random.uniform(100, 200, (20, 1, 100)).astype(np.float32)
    small = [random.uniform(0, 1, (20, 1, 100)).astype(np.float32) for _ in range(400)]
    histogram = count([large, *small], 1, 0.99, margin=1.5)
    for find in (histogram.quantile, histogram.channel_quantiles):
        with pytest.raises(FloorTooHighError):
            find(0.99)
    assert histogram.quantile(0.9999) > 100  # what is above the floor, it knows


@pytest.mark.parametrize("value", [0.0, 0.75, 6.0, 1000.0, 2.0**-20])
@pytest.mark.parametrize("q", PERCENTILES)
def test_a_value_of_few_digits_is_not_rounded(value, q):
    values = np.full((5, 2, 9), value, np.float32)
    np.testing.assert_array_equal(quantiles(count([values], 2), q), [value] * 3)


def test_the_gap_above_many_zeros_is_interpolated():
    values = np.zeros((1, 1, 101), np.float32)
    values[..., -1] = 8.0
    histogram = count([values], 1)
    assert histogram.quantile(0.99) == 0.0
    # 0.995 · 100 = 99.5: half-way from the last 0 to the 8.
    assert histogram.quantile(0.995) == pytest.approx(4.0, rel=1e-12)


@pytest.mark.parametrize(("value", "kind"), [(np.nan, "NaN"), (-np.nan, "NaN"), (np.inf, "inf")])
def test_what_is_not_finite(value, kind):
    histogram = TailHistogram(2, 0.9)
    values = np.ones((3, 2, 4), np.float32)
    values[1, 1, 2] = value
    above, rows = large_values(values, histogram.floor)
    with pytest.raises(NotFiniteError, match=kind):
        histogram.add([above], int(rows), samples=3)


@pytest.mark.parametrize("margin", [1.5, np.inf])
def test_memory_does_not_grow_with_the_number_of_samples(margin):
    random = np.random.default_rng(4)
    # Few values are distinct, so that an infinite margin is bounded by the bins too.
    pool = np.maximum(random.normal(0, 1, (64, 2, 500)), 0).astype(np.float32)
    histogram = TailHistogram(2, 0.9, margin)

    def memory_after(batches):
        for _ in range(batches):
            above, rows = large_values(pool, histogram.floor)
            histogram.add([above], int(rows), samples=len(pool))
        assert histogram.quantile(0.95) > 0  # counts all that is pending
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    first, last = memory_after(20), memory_after(100)
    tracemalloc.stop()
    assert last < first + 100_000  # all values together are 30 MB
