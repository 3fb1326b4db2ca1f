import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_snn.scale import ONE, Scale, concatenate


def test_a_scalar_has_no_axis():
    assert Scale.of(2.0, axis=1) == Scale.of(2.0, axis=3)
    assert Scale.of(1.0) == ONE
    assert ONE.is_scalar


def test_vectors_are_equal_along_the_same_axis_only():
    assert Scale.of([1, 2]) == Scale.of([1, 2])
    assert Scale.of([1, 2], axis=1) != Scale.of([1, 2], axis=2)
    assert Scale.of([1, 2]) != Scale.of([1, 3])
    assert Scale.of([2, 2]) != Scale.of(2)
    assert Scale.of(2) != 2


def test_a_scale_cannot_be_hashed():
    with pytest.raises(TypeError):
        hash(ONE)


@given(st.integers(1, 4), st.data())
def test_shaped_broadcasts_along_its_axis(rank, data):
    axis = data.draw(st.integers(0, rank - 1))
    x = np.ones([axis + 2 for axis in range(rank)])
    scale = Scale.of(np.arange(1.0, x.shape[axis] + 1), axis)
    scaled = x * scale.shaped(rank)
    assert scaled.shape == x.shape
    for index in range(x.shape[axis]):
        assert np.all(np.take(scaled, index, axis) == index + 1)
    assert Scale.of(3.0).shaped(rank) == 3.0


def test_along_repeats_a_scalar():
    np.testing.assert_array_equal(Scale.of(3.0).along(4), [3, 3, 3, 3])
    np.testing.assert_array_equal(Scale.of([1, 2]).along(2), [1, 2])


def test_concatenate():
    mixed = concatenate([Scale.of(2), Scale.of([3, 4]), Scale.of(5)], [1, 2, 3], axis=2)
    assert mixed == Scale.of([2, 3, 4, 5, 5, 5], axis=2)
    assert concatenate([Scale.of(2), Scale.of(2)], [1, 2], axis=1) == Scale.of(2)
    assert concatenate([Scale.of([2]), Scale.of([2])], [1, 1], axis=1) == Scale.of([2, 2])
