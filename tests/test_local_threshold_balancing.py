import numpy as np
import pytest
from onnx import TensorProto

from nets import Gaussian, Net, cnn, run
from onnx_snn.calibrate import calibrate
from onnx_snn.data import Batch, Dataset, input_specs
from onnx_snn.load import load_graph
from onnx_snn.local_threshold_balancing import (
    SAMPLES_PER_STEP,
    STEPS,
    LocalThresholdBalancing,
)
from onnx_snn.spiking_activations import spiking_nodes


def _grow(theta, values):
    """The paper's step for θ [C]; the values are [N, C, F]."""
    over = np.maximum(values - theta[:, None], 0)
    return theta + 2 * over.mean((0, 2))


def _images(samples=24, seed=0):
    return np.random.default_rng(seed).normal(0, 1, (samples, 2, 8, 8)).astype(np.float32)


def _balanced(model, batches):
    graph = load_graph(model)
    balancing = LocalThresholdBalancing(graph, [n.outputs[0] for n in spiking_nodes(graph)])
    for x in batches:
        balancing.run(Batch({"x": x}))
    return balancing


def test_two_layers_by_hand_and_the_second_sees_the_first_clipped():
    random = np.random.default_rng(1)
    w1, w2 = (random.normal(0, 1, shape).astype(np.float32) for shape in [(5, 4), (4, 3)])
    net = Net({"x": ["N", 5]})
    model = net.model(net.relu(net.gemm(net.relu(net.gemm("x", w1)), w2)))
    batches = [random.normal(0, 1, (6, 5)).astype(np.float32) for _ in range(20)]
    first, second = np.zeros(4), np.zeros(3)
    layers = np.zeros(1), np.zeros(1)
    for x in batches:
        a = np.maximum(x @ w1, 0).astype(np.float64)
        first = _grow(first, a[:, :, None])
        b = np.maximum(np.minimum(a, first) @ w2, 0)
        second = _grow(second, b[:, :, None])
        layers = tuple(
            _grow(theta, v.reshape(len(x), 1, -1)) for theta, v in zip(layers, (a, b), strict=True)
        )
    found = _balanced(model, batches)
    assert found.steps == 20
    for (layer, channels), expected, one in zip(
        found.thresholds, (first, second), layers, strict=True
    ):
        np.testing.assert_allclose(channels, expected, rtol=1e-4)
        np.testing.assert_allclose(layer, one[0], rtol=1e-4)


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 4), (2, 2, 3, 4), (), ("L", 4)])
def test_any_rank(shape):
    net = Net({"x": ["N", *shape]})
    model = net.model(net.relu("x"))
    x = np.random.default_rng(0).normal(0, 1, (8, *[7 if s == "L" else s for s in shape]))
    x = x.astype(np.float32)
    channels = shape[0] if shape and shape[0] != "L" else 1
    theta = np.zeros(channels)
    for _ in range(3):
        theta = _grow(theta, np.maximum(x, 0).reshape(8, channels, -1))
    ((_, found),) = _balanced(model, [x] * 3).thresholds
    np.testing.assert_allclose(found, theta, rtol=1e-5)


@pytest.mark.parametrize(
    ("elem_type", "dtype"), [(TensorProto.FLOAT16, np.float16), (TensorProto.DOUBLE, np.float64)]
)
def test_half_and_double(elem_type, dtype):
    net = Net({"x": ["N", 3, 5]}, elem_type)
    x = np.random.default_rng(0).normal(0, 1, (8, 3, 5)).astype(dtype)
    theta = np.zeros(3)
    for _ in range(5):
        theta = _grow(theta, np.maximum(x, 0).astype(np.float64))
    ((_, found),) = _balanced(net.model(net.relu(net.relu("x"))), [x] * 5).thresholds[:1]
    np.testing.assert_allclose(found, theta, rtol=1e-5)


def test_a_batch_is_cut_up():
    x = _images(3 * SAMPLES_PER_STEP)
    model = cnn(Gaussian())
    whole = _balanced(model, [x]).thresholds
    parts = _balanced(model, np.split(x, 3)).thresholds
    for (layer, channels), (other, others) in zip(whole, parts, strict=True):
        assert layer == other
        np.testing.assert_array_equal(channels, others)


class TestCalibration:
    """How much data it sees."""

    @pytest.fixture
    def steps(self, monkeypatch):
        seen = []
        step = LocalThresholdBalancing._step

        def counted(self, feeds):
            seen.append(len(feeds["x"]))
            step(self, feeds)

        monkeypatch.setattr(LocalThresholdBalancing, "_step", counted)
        return seen

    @staticmethod
    def _calibrate(source, **options):
        model = cnn(Gaussian())
        return calibrate(
            load_graph(model), Dataset(source, input_specs(model)), ltb=True, **options
        )

    @pytest.mark.parametrize("batch_reduction", ["exact", "ema"])
    def test_few_data_are_gone_through_again(self, steps, batch_reduction):
        self._calibrate(_images(2 * SAMPLES_PER_STEP), batch_reduction=batch_reduction)
        assert len(steps) == STEPS

    def test_until_there_are_enough_steps(self, steps):
        self._calibrate([_images(4)] * (STEPS - 10))
        assert len(steps) == STEPS

    def test_data_for_one_pass(self, steps):
        stats = self._calibrate(iter([_images(4)] * 3))
        assert steps == [4] * 3
        assert all(
            entry.ltb > 0 and min(entry.channel_ltb) >= 0 for entry in stats.tensors.values()
        )

    def test_is_the_same_every_time(self):
        first, second = (self._calibrate(iter([_images()])) for _ in range(2))
        assert first == second


def test_the_graph_is_not_changed():
    model, x = cnn(Gaussian()), _images()
    graph = load_graph(model)
    nodes = [(node.name, [t.name for t in node.inputs]) for node in graph.nodes]
    LocalThresholdBalancing(graph, [n.outputs[0] for n in spiking_nodes(graph)])
    assert [(node.name, [t.name for t in node.inputs]) for node in graph.nodes] == nodes
    assert run(model, {"x": x})
