from dataclasses import replace
from itertools import pairwise

import numpy as np
import onnxruntime as ort
import pytest

import onnx_snn
from nets import Dyadic, Net, cnn, mlp
from onnx_snn import BoundSession, Stream
from onnx_snn.activation_stats import ActivationStats
from onnx_snn.errors import DataError, ModelError, OptionError
from onnx_snn.schedule import CLOCK

T = 12


def dyadic(*shape: int) -> np.ndarray:
    return Dyadic(5)(*shape, step=1 / 8)


def converted(**options) -> onnx_snn.Conversion:
    options = {"mode": "max", "timesteps": T, "holdout": 0.0, **options}
    model = cnn(Dyadic())
    stats = onnx_snn.convert(model, dyadic(8, 2, 8, 8), **options).stats
    # Thresholds are powers of two, so that every sum is exact.
    tensors = {name: replace(entry, max=2.0) for name, entry in stats.tensors.items()}
    return onnx_snn.convert(model, stats=ActivationStats(tensors, stats.samples), **options)


@pytest.fixture(scope="module")
def snn() -> onnx_snn.Conversion:
    return converted()


@pytest.mark.parametrize("use_native", [True, False])
@pytest.mark.parametrize("blocks", [[T], [1] * T, [5, 1, 6]])
def test_blocks_of_any_size_add_up_to_one_run(snn, blocks, use_native):
    x = dyadic(3, 2, 8, 8)
    (expected,) = onnx_snn.create_session(snn.model).run(None, {"x": x})
    stream = Stream(snn.model, use_native=use_native)
    for steps in blocks:
        outputs = stream.run(x, timesteps=steps)
    np.testing.assert_array_equal(outputs["y"], expected)
    assert stream.timesteps == T


def test_running_readout_gives_the_mean_after_each_step():
    running = converted(readout="running")
    x = dyadic(2, 2, 8, 8)
    (expected,) = onnx_snn.create_session(running.model).run(None, {"x": x})
    stream = Stream(running.model)
    parts = [stream.run({"x": x}, timesteps=steps)["y"] for steps in (4, 3, 5)]
    np.testing.assert_array_equal(np.concatenate(parts), expected)


def test_sequences_come_in_pieces():
    snn = converted(input_coding="sequence")
    frames = dyadic(T, 2, 2, 8, 8)
    (expected,) = onnx_snn.create_session(snn.model).run(None, {"x": frames})
    stream = Stream(snn.model)
    stream.run(frames[:7])
    np.testing.assert_array_equal(stream.run(frames[7:])["y"], expected)
    with pytest.raises(OptionError, match="sequences"):
        stream.run(frames, timesteps=3)


def test_state_goes_over_to_another_stream(snn):
    x = dyadic(2, 2, 8, 8)
    first, second = Stream(snn.model), Stream(snn.model)
    first.run(x, timesteps=5)
    second.state = first.state
    assert second.timesteps == 5
    np.testing.assert_array_equal(second.run(x, timesteps=4)["y"], first.run(x, timesteps=4)["y"])
    with pytest.raises(DataError, match="not one of this network"):
        first.state = {"v": np.zeros(1)}


def test_state_is_handed_on_without_numpy(snn, monkeypatch):
    """On a GPU what one run gives the next one reads, in the same memory; here in the host's."""
    x = dyadic(3, 2, 8, 8)
    (expected,) = onnx_snn.create_session(snn.model).run(None, {"x": x})
    runs = []
    init, run = BoundSession.__init__, BoundSession.run

    def elsewhere(bound, *args, **options):
        init(bound, *args, **options)
        bound.device = "cuda"

    def recorded(bound, feeds):
        results = run(bound, feeds)
        runs.append((feeds, results))
        return results

    def refuse(*_):
        raise AssertionError("a value was copied to NumPy")

    monkeypatch.setattr(BoundSession, "__init__", elsewhere)
    monkeypatch.setattr(BoundSession, "run", recorded)
    monkeypatch.setattr(ort.OrtValue, "numpy", refuse)
    stream = Stream(snn.model, ["CPUExecutionProvider"])
    for _ in range(T):
        outputs = stream.run_on_device(x, timesteps=1)
    monkeypatch.undo()
    assert len(runs) == T
    for (_, given), (taken, _) in pairwise(runs):
        for state in stream.record.states:
            if state.input != CLOCK:  # a number that the host reads
                assert taken[state.input] is given[state.output]
    np.testing.assert_array_equal(outputs["y"].numpy(), expected)


def test_outputs_may_be_left_on_the_device(snn):
    x = dyadic(3, 2, 8, 8)
    first, second = Stream(snn.model), Stream(snn.model)
    for steps in (2, 3):
        found = first.run_on_device({"x": x}, timesteps=steps)
        expected = second.run({"x": x}, timesteps=steps)
        assert set(found) == set(expected) == {"y"}
        assert isinstance(found["y"], ort.OrtValue)
        assert isinstance(expected["y"], np.ndarray)
        np.testing.assert_array_equal(found["y"].numpy(), expected["y"])


@pytest.mark.parametrize("kind", ["torch", "turned", "OrtValue", "list"])
def test_inputs_of_any_library(snn, kind):
    x = dyadic(3, 2, 8, 8)
    if kind == "torch":
        given = pytest.importorskip("torch").from_numpy(x)
    elif kind == "turned":
        given = pytest.importorskip("torch").from_numpy(x.transpose(3, 2, 1, 0).copy())
        given = given.permute(3, 2, 1, 0)
    else:
        given = ort.OrtValue.ortvalue_from_numpy(x) if kind == "OrtValue" else list(x)
    expected = Stream(snn.model).run(x, timesteps=3)["y"]
    np.testing.assert_array_equal(Stream(snn.model).run(given, timesteps=3)["y"], expected)


def test_what_cannot_be_read_on_the_cpu_is_told(snn):
    class Elsewhere:
        def __array__(self, *_, **__):
            raise TypeError("it is on a GPU")

    with pytest.raises(DataError, match="input 'x' cannot be read on the CPU: it is on a GPU"):
        Stream(snn.model, ["CPUExecutionProvider"]).run(Elsewhere(), timesteps=1)


def test_state_that_was_read_does_not_change(snn):
    stream = Stream(snn.model)
    x = dyadic(2, 2, 8, 8)
    stream.run(x, timesteps=1)
    before = stream.state
    copies = {name: values.copy() for name, values in before.items()}
    stream.run(x, timesteps=4)
    for name, values in copies.items():
        assert isinstance(before[name], np.ndarray)
        np.testing.assert_array_equal(before[name], values)
    assert any(not np.array_equal(stream.state[name], before[name]) for name in before)


def test_a_run_that_failed_leaves_the_stream_as_it_was(snn):
    stream = Stream(snn.model)
    with pytest.raises(DataError):
        stream.run(np.zeros((1, 3, 8, 8), np.float32), timesteps=1)
    assert stream.state == {}
    assert stream.timesteps == 0


def test_reset_starts_again_with_a_batch_of_any_size(snn):
    stream = Stream(snn.model)
    x = dyadic(3, 2, 8, 8)
    before = stream.run(x, timesteps=3)["y"]
    stream.run(x, timesteps=2)
    stream.reset()
    assert stream.timesteps == 0
    np.testing.assert_array_equal(stream.run(x[:1], timesteps=3)["y"], before[:1])


def test_a_batch_of_another_size_without_reset_is_an_error(snn):
    stream = Stream(snn.model)
    stream.run(dyadic(3, 2, 8, 8), timesteps=1)
    with pytest.raises(DataError, match="onnxruntime refuses"):
        stream.run(dyadic(2, 2, 8, 8), timesteps=1)


@pytest.mark.parametrize(
    ("feeds", "timesteps", "error"),
    [
        ({"z": np.zeros((1, 2, 8, 8), np.float32)}, 1, DataError),
        ({}, 1, DataError),
        (np.float32(0), 1, DataError),
        (np.zeros((1, 3, 8, 8), np.float32), 1, DataError),
        (np.zeros((1, 2, 8, 8), np.float32), 0, OptionError),
        (np.zeros((1, 2, 8, 8), np.float32), 1.5, OptionError),
        (np.zeros((1, 2, 8, 8), np.float32), True, OptionError),
    ],
)
def test_bad_input(snn, feeds, timesteps, error):
    with pytest.raises(error):
        Stream(snn.model).run(feeds, timesteps=timesteps)


def test_only_converted_models_stream():
    with pytest.raises(ModelError, match="convert it first"):
        Stream(mlp(Dyadic()))


@pytest.mark.parametrize("readout", ["mean", "running"])
@pytest.mark.parametrize("coding", ["constant", "sequence"])
def test_images_of_any_size(coding, readout):
    """Every kind of state: membranes, sums so far, means so far and sums of outputs."""
    weights = Dyadic(1)
    net = Net({"x": ["N", 2, "H", "W"]})
    y = net.relu(net.conv("x", weights(3, 2, 3, 3), weights(3)))
    y = net.op("MaxPool", y, kernel_shape=[2, 2])
    y = net.op("Mul", y, net.op("Sigmoid", y))
    model = net.model(net.relu(net.conv(y, weights(2, 3, 1, 1), weights(2))))
    options = {"mode": "max", "timesteps": T, "input_coding": coding, "readout": readout}
    snn = onnx_snn.convert(model, dyadic(4, 2, 8, 8), **options)
    assert snn.report.output_error is not None  # checked on samples set aside
    stream = Stream(snn.model)
    for size in ((8, 8), (5, 9)):
        x = dyadic(*([T] if coding == "sequence" else []), 2, 2, *size)
        (expected,) = onnx_snn.create_session(snn.model).run(None, {"x": x})
        stream.reset()
        parts = []
        for start, end in ((0, 1), (1, 7), (7, T)):
            shown = (x[start:end], None) if coding == "sequence" else (x, end - start)
            parts.append(stream.run(*shown)["y"])
        actual = np.concatenate(parts) if readout == "running" else parts[-1]
        # The sigmoid of means is a sum in another order.
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)
