import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

import onnx_snn
from algebra import assert_close
from nets import Dyadic, Gaussian, Net, run
from onnx_snn.analyse import analyse
from onnx_snn.errors import OptionError, UnsupportedModelError
from onnx_snn.load import load_graph
from onnx_snn.passes.average_max_pools import average_max_pools

W = Gaussian(3)


def _model(op, opset=18, **attributes):
    net = Net({"x": ["N", 3, 6, 6]})
    return net.model(net.op(op, "x", **attributes), opset)


def _averaged(model):
    graph = load_graph(model)
    assert average_max_pools(graph)
    after = gs.export_onnx(graph)
    onnx.checker.check_model(after)
    return after


def _windows(x, kernel, strides, pads):
    """Means of the values in each window, padding left out."""
    padded = np.pad(
        x, [(0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])], constant_values=np.nan
    )
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(2, 3))
    return np.nanmean(windows[:, :, :: strides[0], :: strides[1]], axis=(-2, -1))


@pytest.mark.parametrize(
    ("kernel", "strides", "pads"),
    [
        ([2, 2], [2, 2], [0, 0, 0, 0]),
        ([3, 2], [1, 2], [0, 0, 0, 0]),
        ([3, 3], [2, 2], [1, 1, 1, 1]),
        ([3, 3], [1, 3], [0, 1, 2, 0]),
    ],
)
def test_windows_are_averaged_without_padding(kernel, strides, pads):
    model = _model(
        "MaxPool",
        kernel_shape=kernel,
        strides=strides,
        pads=pads,
        storage_order=0,
        dilations=[1, 1],
    )
    x = np.random.default_rng(1).normal(size=(2, 3, 6, 6)).astype(np.float32)
    (actual,) = run(_averaged(model), {"x": x})
    assert_close(actual, _windows(x.astype(np.float64), kernel, strides, pads), 1e-6)


@pytest.mark.parametrize(
    "attributes",
    [
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "SAME_LOWER"},
        {"auto_pad": "VALID"},
        {"ceil_mode": 1, "strides": [2, 2]},
    ],
)
def test_other_attributes_stay(attributes):
    model = _model("MaxPool", kernel_shape=[3, 3], **attributes)
    x = np.ones((2, 3, 6, 6), np.float32)
    # Of constants the average is the maximum, wherever a window lies.
    (actual,), (expected,) = (run(m, {"x": x}) for m in (_averaged(model), model))
    np.testing.assert_array_equal(actual, expected)


def test_global_pooling():
    x = np.random.default_rng(1).normal(size=(2, 3, 6, 6)).astype(np.float32)
    (actual,) = run(_averaged(_model("GlobalMaxPool")), {"x": x})
    assert_close(actual, x.astype(np.float64).mean(axis=(2, 3), keepdims=True), 1e-6)


def test_nothing_else_changes():
    net = Net({"x": ["N", 3, 6, 6]})
    y = net.relu(net.op("AveragePool", net.conv("x", W(4, 3, 1, 1)), kernel_shape=[2, 2]))
    graph = load_graph(net.model(net.op("ReduceMax", y)))
    before = [(node.op, dict(node.attrs)) for node in graph.nodes]
    assert not average_max_pools(graph)
    assert [(node.op, node.attrs) for node in graph.nodes] == before


def test_windows_with_gaps():
    net = Net({"x": ["N", 3, 6, 6]})
    y = net.op("MaxPool", "x", kernel_shape=[2, 2])
    y = net.op("MaxPool", y, kernel_shape=[2, 2], dilations=[1, 2])
    graph = load_graph(net.model(y))
    with pytest.raises(UnsupportedModelError, match=r"^MaxPool node 'MaxPool_1' has dilations"):
        average_max_pools(graph)
    assert [node.op for node in graph.nodes] == ["MaxPool", "MaxPool"]


class TestOption:
    @staticmethod
    def _network(pooling, **attributes):
        net, weights = Net({"x": ["N", 2, 8, 8]}), Dyadic(4)
        y = net.relu(net.conv("x", weights(4, 2, 3, 3), weights(4)))
        y = net.op(pooling, y, kernel_shape=[2, 2], strides=[2, 2], **attributes)
        y = net.relu(net.conv(y, weights(5, 4, 3, 3), weights(5)))
        return net.model(net.gemm(net.op("Flatten", y), weights(5, 3)))

    def test_average_is_the_network_with_average_pooling(self):
        x = Dyadic(5)(6, 2, 8, 8, step=1 / 8)
        options = {"mode": "max", "holdout": 0, "timesteps": 16}
        averaged = onnx_snn.convert(self._network("MaxPool"), x, max_pool="average", **options)
        plain = onnx_snn.convert(self._network("AveragePool"), x, **options)
        actual, expected = (
            onnx_snn.create_session(c.model).run(None, {"x": x})[0] for c in (averaged, plain)
        )
        np.testing.assert_array_equal(actual, expected)
        assert "CumSum" not in [node.op_type for node in averaged.model.graph.node]

    def test_exact_is_the_default(self):
        x = Dyadic(5)(6, 2, 8, 8, step=1 / 8)
        snn = onnx_snn.convert(self._network("MaxPool"), x).model
        assert "MaxPool" in [node.op_type for node in snn.graph.node]

    def test_other_values(self):
        with pytest.raises(OptionError, match="max_pool must be one of exact, average"):
            onnx_snn.convert(self._network("MaxPool"), np.ones((1, 2, 8, 8), "f"), max_pool="min")

    def test_the_result_is_fit_for_the_passes_behind(self):
        graph = load_graph(self._network("MaxPool"))
        average_max_pools(graph)
        analysis = analyse(graph)
        assert not analysis.refused
        assert not analysis.tail
