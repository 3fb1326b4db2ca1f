"""Sessions bound to tensors of a device, as far as a CPU shows it."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest

from nets import Gaussian, Net, cnn
from onnx_snn import BoundSession, Stream, convert, create_session
from onnx_snn.errors import DataError, OptionError, RuntimeUnavailableError

try:
    import torch
except ImportError:
    torch = None

TORCH = pytest.mark.skipif(torch is None, reason="torch is not installed")
HAS_DLPACK = hasattr(ort.OrtValue, "from_dlpack")
DLPACK = pytest.mark.skipif(
    torch is None or not HAS_DLPACK,
    reason="no torch, or an onnxruntime that takes no DLPack tensors",
)


@pytest.fixture(scope="module")
def snn():
    x = 2 * Gaussian(2)(16, 2, 8, 8)
    return convert(cnn(Gaussian(1)), x, timesteps=8, holdout=0, bias_calibration=False).model


@pytest.fixture(scope="module")
def session(snn):
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


@pytest.mark.parametrize("timesteps", [3, np.array(3), np.int64(3)], ids=["int", "array", "scalar"])
def test_the_number_of_steps_may_be_given(session, x, timesteps):
    bound = BoundSession(session)
    found = bound.run({"x": x, "T": timesteps})["y"].numpy()
    (expected,) = session.run(None, {"x": x, "T": np.array(3)})
    np.testing.assert_array_equal(found, expected)
    (own,) = session.run(None, {"x": x})
    np.testing.assert_array_equal(bound.run({"x": x})["y"].numpy(), own)
    assert not np.array_equal(own, expected)


def test_an_output_kept_keeps_no_other_alive():
    """Or a loop that collects scores would fill the memory with membranes."""
    net = Net({"x": ["N", 4]})
    model = net.model({"large": net.relu("x"), "small": net.op("ReduceSum", "x")})
    bound = BoundSession(create_session(model, ["CPUExecutionProvider"]))
    x = np.ones((1 << 16, 4), np.float32)
    kept, addresses = [], set()
    for _ in range(20):
        results = bound.run({"x": x})
        addresses.add(results["large"].data_ptr())
        kept.append(results["small"])
        del results
    assert len(addresses) < 5  # memory of those before is used again
    assert [float(value.numpy().sum()) for value in kept] == [x.size] * 20


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


@TORCH
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


@DLPACK
@pytest.mark.parametrize("first", ["tensor", "array"])
def test_a_fixed_session_refuses_other_memory(session, x, first):
    bound = BoundSession(session, is_fixed=True)
    tensor = torch.from_numpy(x.copy())
    bound.run({"x": tensor if first == "tensor" else x})
    for other in (tensor.clone(), x) if first == "tensor" else (tensor,):
        with pytest.raises(DataError, match=r"'x' is not in the memory that .* is fixed to; copy"):
            bound.run({"x": other})


def test_a_fixed_session_keeps_the_number_of_steps_of_its_first_run(session, x):
    bound = BoundSession(session, is_fixed=True)
    expected = session.run(None, {"x": x, "T": np.array(3)})[0]
    np.testing.assert_array_equal(bound.run({"x": x, "T": 3})["y"].numpy(), expected)
    for feeds, given in (({"x": x, "T": 4}, "4"), ({"x": x}, "not given")):
        with pytest.raises(
            DataError, match=rf"'T' is {given}, but .* where it was 3; open another"
        ):
            bound.run(feeds)
    np.testing.assert_array_equal(bound.run({"x": x, "T": 3})["y"].numpy(), expected)
    unset = BoundSession(session, is_fixed=True)
    unset.run({"x": x})
    with pytest.raises(DataError, match=r"'T' is 3, but .* where it was not given"):
        unset.run({"x": x, "T": 3})


def test_a_run_that_failed_fixes_nothing(session, x):
    bound = BoundSession(session, is_fixed=True)
    with pytest.raises(DataError, match="onnxruntime refuses"):
        bound.run({"x": x[:, :1], "T": 3})
    found = bound.run({"x": x})["y"].numpy()
    np.testing.assert_array_equal(found, session.run(None, {"x": x})[0])


class OnCuda:
    """A session that says it is on a GPU."""

    def __init__(self, session, **options):
        self._session, self._options = session, options

    def __getattr__(self, name):
        return getattr(self._session, name)

    def get_providers(self):
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def get_provider_options(self):
        return {"CUDAExecutionProvider": self._options, "CPUExecutionProvider": {}}


def test_a_session_that_replays_a_cuda_graph_is_fixed(session, snn, monkeypatch):
    assert BoundSession(OnCuda(session, enable_cuda_graph="1", device_id="0")).is_fixed
    free = BoundSession(OnCuda(session, enable_cuda_graph="0", device_id="0"))
    assert free.device == "cuda"
    assert not free.is_fixed

    def open_with_graph(*_, **__):
        return OnCuda(session, enable_cuda_graph="1")

    monkeypatch.setattr("onnx_snn.stream.create_session", open_with_graph)
    with pytest.raises(OptionError, match="leave the provider option enable_cuda_graph out"):
        Stream(snn)
