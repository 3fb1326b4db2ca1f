"""Networks in half precision against the same in float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from nets import Gaussian, Net, cnn, mlp, residual
from onnx_snn import Stream, convert, create_session
from onnx_snn.errors import OptionError
from onnx_snn.ops import DOMAIN
from quantised import branches, in_type, leaky, max_pools, thirds
from simulator import play

MODELS = Path(__file__).resolve().parents[2] / "models"
NETS = {
    "mlp": (mlp, (7,)),
    "cnn": (cnn, (2, 8, 8)),
    "residual": (residual, (3, 6, 6)),
    "max_pools": (max_pools, (2, 7, 7)),
    "branches": (branches, (4, 5)),
    "leaky": (leaky, (2, 5, 5)),
    "thirds": (thirds, (2, 8, 8)),
}
EVERY_NET = pytest.mark.parametrize("name", NETS)


def _convert(model, x, **options):
    given = {"timesteps": 16, "holdout": 0, "bias_calibration": False, "mode": "max"}
    return convert(model, x, **{**given, **options}).model


def _example(name):
    build, shape = NETS[name]
    return build(Gaussian(1)), 2 * Gaussian(2)(32, *shape)


def _distance(found, expected):
    return np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2))


@EVERY_NET
@pytest.mark.parametrize(
    ("schedule", "readout"), [("layer", "mean"), ("layer", "running"), ("loop", "mean")]
)
def test_computes_nearly_the_same(name, schedule, readout):
    """Some spikes come a step sooner or later; far more would differ if a type were wrong."""
    model, x = _example(name)
    options = {"schedule": schedule, "readout": readout, "block": 4}
    expected = play(_convert(model, x, **options), {"x": x})["y"]
    half = _convert(model, x, precision="fp16", **options)
    onnx.checker.check_model(half, full_check=True)
    found = play(half, {"x": x})["y"]
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    assert 0 < _distance(found, expected) < 0.02


@pytest.mark.parametrize("name", ["mlp", "residual"])
def test_a_stream_carries_membranes_in_half_precision(name):
    model, x = _example(name)
    stream = Stream(_convert(model, x, precision="fp16", schedule="step"))
    for _ in range(16):
        found = stream.run({"x": x}, timesteps=1)["y"]
    assert {values.dtype for key, values in stream.state.items() if "/v" in key} <= {
        np.dtype(np.float16)
    }
    expected = play(_convert(model, x), {"x": x})["y"]
    assert _distance(found, expected) < 0.05


@EVERY_NET
@pytest.mark.parametrize("coding", ["rate", "drain", "radix"])
def test_no_current_and_no_spike_is_in_float32(name, coding):
    model, x = _example(name)
    options = {"neuron": "if" if coding == "radix" else "signed", "coding": coding}
    snn = _convert(model, x, timesteps=4, precision="fp16", **options)
    inferred = onnx.shape_inference.infer_shapes(snn, strict_mode=True)
    types = {v.name: v.type.tensor_type.elem_type for v in inferred.graph.value_info}
    weights = {tensor.name: tensor.data_type for tensor in snn.graph.initializer}
    kinds = {**types, **weights}
    layers = [node for node in snn.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    neurons = [node for node in snn.graph.node if node.domain == DOMAIN]
    read = {name for node in (*layers, *neurons) for name in node.input if name in kinds}
    floats = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
    assert {kinds[name] for name in read if kinds[name] in floats} == {TensorProto.FLOAT16}
    assert len(layers) > 2


def test_inputs_that_are_always_float32_stay_so():
    net = Net({"x": ["N", 2, 4, 4]})
    weights = Gaussian(1)
    y = net.relu(net.conv("x", weights(3, 2, 1, 1), weights(3)))
    scales = net.constant(np.array([1, 1, 2, 2], np.float32))
    y = net.op("Resize", y, "", scales, mode="nearest")
    y = net.relu(net.conv(y, weights(3, 3, 3, 3), weights(3)))
    model, x = net.model(net.op("Flatten", y)), Gaussian(2)(16, 2, 4, 4)
    half = _convert(model, x, precision="fp16")
    assert _distance(play(half, {"x": x})["y"], play(_convert(model, x), {"x": x})["y"]) < 0.02


def test_an_input_that_is_an_output_too():
    net = Net({"x": ["N", 7]})
    weights = Gaussian(1)
    y = net.gemm(net.relu(net.gemm("x", weights(7, 5), weights(5))), weights(5, 3))
    model, x = net.model({"y": y, "same": "x"}), Gaussian(2)(8, 7)
    found = play(_convert(model, x, precision="fp16"), {"x": x})
    np.testing.assert_allclose(found["same"], x, rtol=1e-3)


def test_a_file_is_half_as_large_and_as_good():
    with np.load(MODELS / "mnist_calibration.npz") as data:
        calibration = data["x"][:256]
    with np.load(MODELS / "mnist_test.npz") as data:
        x, y = data["x"][:200], data["y"][:200]
    options = {"timesteps": 8, "holdout": 0, "bias_calibration": False}
    snns = [
        convert(MODELS / "mnist_cnn.onnx", calibration, precision=precision, **options).model
        for precision in ("model", "fp16")
    ]
    sizes = [len(snn.SerializeToString()) for snn in snns]
    assert sizes[1] < 0.7 * sizes[0]
    full, half = (create_session(snn).run(None, {"image": x})[0].argmax(axis=1) for snn in snns)
    assert (full == half).mean() > 0.98
    assert (half == y).mean() > 0.95


def test_what_half_precision_cannot_be_is_refused():
    model, x = _example("mlp")
    with pytest.raises(OptionError, match="precision must be one of model, fp16"):
        convert(model, x, precision="int4")
    with pytest.raises(OptionError, match="target 'cpu' reads events of float32"):
        convert(model, x, precision="fp16", target="cpu")
    wide = in_type(model, np.float64)
    with pytest.raises(OptionError, match="precision 'fp16' is for networks in float32"):
        _convert(wide, x.astype(np.float64), precision="fp16")
    net = Net({"x": ["N", 1]})
    large = np.full((1, 1), 1e6, np.float32)
    y = net.gemm(net.relu("x"), large)
    with pytest.raises(OptionError, match="above 65504, which is too much for precision 'fp16'"):
        _convert(net.model(y), np.ones((4, 1), np.float32), precision="fp16")
