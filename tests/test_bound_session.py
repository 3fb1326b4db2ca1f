"""Sessions bound to tensors of a device, as far as a CPU shows it."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest

from nets import Gaussian, cnn
from onnx_snn import BoundSession, convert, create_session
from onnx_snn.errors import DataError, RuntimeUnavailableError

torch = pytest.importorskip("torch")

HAS_DLPACK = hasattr(ort.OrtValue, "from_dlpack")
DLPACK = pytest.mark.skipif(not HAS_DLPACK, reason="this onnxruntime takes no DLPack tensors")


@pytest.fixture(scope="module")
def session():
    x = 2 * Gaussian(2)(16, 2, 8, 8)
    snn = convert(cnn(Gaussian(1)), x, timesteps=8, holdout=0, bias_calibration=False).model
    return create_session(snn, ["CPUExecutionProvider"])


@pytest.fixture
def x():
    return 2 * Gaussian(3)(4, 2, 8, 8)


def test_gives_what_the_session_gives(session, x):
    bound = BoundSession(session)
    assert bound.device == "cpu"
    (expected,) = session.run(None, {"x": x})
    found = bound.run({"x": x})
    assert list(found) == ["y"]
    assert isinstance(found["y"], ort.OrtValue)
    np.testing.assert_array_equal(found["y"].numpy(), expected)


def test_the_number_of_steps_is_that_of_the_file(session, x):
    with pytest.raises(DataError, match=r"such as 'T'; .* timesteps=3"):
        BoundSession(session).run({"x": x, "T": np.array(3)})


@DLPACK
def test_tensors_of_other_libraries_are_read_where_they_are(session, x):
    bound = BoundSession(session)
    tensor = torch.from_numpy(x.copy())
    first = bound.run({"x": tensor})["y"]
    np.testing.assert_array_equal(first.numpy(), session.run(None, {"x": x})[0])
    tensor.mul_(0.5)
    second = bound.run({"x": tensor})["y"]
    np.testing.assert_array_equal(second.numpy(), session.run(None, {"x": x / 2})[0])
    assert not np.array_equal(first.numpy(), second.numpy())  # and an output is not written again


@DLPACK
def test_outputs_are_taken_over_without_a_copy(session, x):
    value = BoundSession(session).run({"x": x})["y"]
    tensor = torch.from_dlpack(value)
    assert tensor.data_ptr() == value.data_ptr()
    np.testing.assert_array_equal(tensor.numpy(), session.run(None, {"x": x})[0])


def test_an_output_may_be_the_next_input(session, x):
    bound = BoundSession(session)
    value = ort.OrtValue.ortvalue_from_numpy(x)
    np.testing.assert_array_equal(
        bound.run({"x": value})["y"].numpy(), session.run(None, {"x": x})[0]
    )


def test_arrays_need_not_be_contiguous(session, x):
    turned = np.ascontiguousarray(x.transpose(3, 2, 1, 0)).transpose(3, 2, 1, 0)
    assert not turned.flags.c_contiguous
    found = BoundSession(session).run({"x": turned})["y"].numpy()
    np.testing.assert_array_equal(found, session.run(None, {"x": x})[0])


@pytest.mark.parametrize(
    "feeds",
    [{}, {"other": np.zeros((1, 2, 8, 8), np.float32)}, {"x": np.zeros((1, 3, 8, 8), np.float32)}],
    ids=["none", "unknown", "another shape"],
)
def test_what_onnxruntime_refuses_is_told_in_one_line(session, feeds):
    with pytest.raises(DataError, match="onnxruntime refuses the data: ") as error:
        BoundSession(session).run(feeds)
    assert "\n" not in str(error.value)


def test_without_dlpack_it_says_so(session, x, monkeypatch):
    monkeypatch.delattr(ort.OrtValue, "from_dlpack", raising=False)
    with pytest.raises(RuntimeUnavailableError, match="takes no DLPack tensors"):
        BoundSession(session).run({"x": torch.from_numpy(x)})


def test_a_fixed_session_reads_and_writes_the_same_memory(session, x):
    bound = BoundSession(session, is_fixed=True)
    first = bound.run({"x": x})["y"]
    expected = session.run(None, {"x": x})[0]
    np.testing.assert_array_equal(first.numpy(), expected)
    second = bound.run({"x": x / 2})["y"]
    assert second.data_ptr() == first.data_ptr()
    np.testing.assert_array_equal(first.numpy(), session.run(None, {"x": x / 2})[0])
    assert not np.array_equal(first.numpy(), expected)


def test_a_fixed_session_refuses_another_shape(session, x):
    bound = BoundSession(session, is_fixed=True)
    bound.run({"x": x})
    with pytest.raises(DataError, match=r"'x' has the shape \[2, 2, 8, 8\], but .* fixed to \[4"):
        bound.run({"x": x[:2]})


@DLPACK
def test_a_fixed_session_reads_the_tensors_of_others(session, x):
    bound = BoundSession(session, is_fixed=True)
    tensor = torch.from_numpy(x.copy())
    bound.run({"x": tensor})
    tensor.mul_(0.5)
    found = bound.run({"x": tensor})["y"].numpy()
    np.testing.assert_array_equal(found, session.run(None, {"x": x / 2})[0])
