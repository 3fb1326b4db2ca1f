import numpy as np
import pytest

from onnx_snn.data import Dataset, InputSpec
from onnx_snn.errors import DataError, OptionError
from onnx_snn.holdout import MAX_SAMPLES, HoldOut

SPECS = [InputSpec("x", (None, 1), np.dtype(np.float32))]


def _samples(count):
    """Samples that tell their own position, and labels that do too."""
    x = np.arange(count, dtype=np.float32)[:, None]
    return x, np.arange(count)


def _positions(batches):
    found = [batch.feeds["x"].ravel().astype(int) for batch in batches]
    for batch, positions in zip(batches, found, strict=True):
        np.testing.assert_array_equal(batch.labels, positions)  # labels stay with their samples
        assert positions.size
    return np.concatenate([np.zeros(0, int), *found])


def _split(count, fraction, batch_size=64):
    holdout = HoldOut(Dataset(_samples(count), SPECS, batch_size), fraction)
    kept = _positions(list(holdout))
    return kept, _positions(holdout.validation), holdout


@pytest.mark.parametrize(("fraction", "every"), [(0.5, 2), (0.25, 4), (0.1, 10), (0.3, 3)])
@pytest.mark.parametrize("count", [1, 2, 9, 10, 200, 1000])
def test_every_kth_sample_is_set_aside(fraction, every, count):
    kept, aside, holdout = _split(count, fraction)
    expected = np.arange(every - 1, count, every)[:MAX_SAMPLES]
    np.testing.assert_array_equal(kept, np.setdiff1d(np.arange(count), expected))
    if expected.size:
        np.testing.assert_array_equal(aside, expected)
        assert holdout.held_out
    else:
        np.testing.assert_array_equal(aside, np.arange(count))
        assert not holdout.held_out


@pytest.mark.parametrize("batch_size", [1, 2, 7, 63, 1000])
def test_the_batch_size_does_not_matter(batch_size):
    for fraction in (0, 0.1, 0.5):
        expected, aside, _ = _split(900, fraction)
        kept, other, _ = _split(900, fraction, batch_size)
        np.testing.assert_array_equal(kept, expected)
        np.testing.assert_array_equal(other, aside)


@pytest.mark.parametrize("batch_size", [1, 100, 5000])
def test_no_more_than_so_many(batch_size):
    kept, aside, _ = _split(5000, 0.5, batch_size)
    assert aside.size == MAX_SAMPLES
    assert kept.size == 5000 - MAX_SAMPLES
    assert _split(5000, 0, batch_size)[1].size == MAX_SAMPLES


def test_nothing_set_aside_validates_on_the_first_samples():
    kept, first, holdout = _split(100, 0)
    np.testing.assert_array_equal(kept, np.arange(100))
    np.testing.assert_array_equal(first, np.arange(100))
    assert not holdout.held_out


def test_a_second_pass_sets_the_same_aside():
    holdout = HoldOut(Dataset(_samples(50), SPECS), 0.2)
    passes = [(_positions(list(holdout)), _positions(holdout.validation)) for _ in range(2)]
    for first, second in zip(*passes, strict=True):
        np.testing.assert_array_equal(first, second)
    assert holdout.is_repeatable


def test_a_stream_cannot_be_repeated():
    x, _ = _samples(30)
    holdout = HoldOut(Dataset((batch for batch in (x[:11], x[11:])), SPECS), 0.2)
    assert not holdout.is_repeatable
    assert sum(map(len, holdout)) == 24


def test_errors_of_the_data_pass_through():
    with pytest.raises(DataError, match="holds no samples"):
        list(HoldOut(Dataset([], SPECS), 0.1))


@pytest.mark.parametrize("fraction", [-0.1, 0.51, 1, float("nan"), float("inf")])
def test_fraction_out_of_range(fraction):
    with pytest.raises(OptionError, match=r"holdout must be in \[0, 0.5\], not"):
        HoldOut(Dataset(_samples(3), SPECS), fraction)


def test_a_look_at_the_first_samples_again_forgets_nothing():
    kept, aside, holdout = _split(200, 0.1)
    next(iter(holdout))
    np.testing.assert_array_equal(_positions(holdout.validation), aside)
    np.testing.assert_array_equal(_positions(list(holdout)), kept)
