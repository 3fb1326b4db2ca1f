import numpy as np
import pytest

from fetch_mnist import FetchError, parse_idx


def test_idx_files_are_read_as_they_are_defined():
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    header = b"\0\0\x08\x03" + np.array([2, 3, 4], ">u4").tobytes()
    np.testing.assert_array_equal(parse_idx(header + values.tobytes()), values)


def test_other_files_are_refused():
    with pytest.raises(FetchError):
        parse_idx(b"\0\0\x0d\x01\0\0\0\0")
