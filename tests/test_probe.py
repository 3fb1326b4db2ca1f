import numpy as np
import onnx_graphsurgeon as gs
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from nets import Dyadic, Gaussian, Net, cnn, run
from onnx_snn import get_library_path
from onnx_snn.calibrate import spiking_nodes
from onnx_snn.errors import RuntimeUnavailableError
from onnx_snn.load import load_graph
from onnx_snn.ops import DOMAIN, LARGE_VALUES, VERSION
from onnx_snn.ops.reference import large_values
from onnx_snn.probe import NativeProbe, ValueProbe, channels_of, make_probe
from simulator import expose, relus


def _library():
    try:
        return get_library_path()
    except RuntimeUnavailableError:
        pytest.skip("built without the native library")


def _native_operator(threads=1):
    node = helper.make_node(LARGE_VALUES, ["x", "floor"], ["above", "count"], domain=DOMAIN)
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in node.input]
    outputs = [helper.make_tensor_value_info(name, TensorProto.INT64, None) for name in node.output]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, VERSION)]
    model = helper.make_model(
        helper.make_graph([node], "g", inputs, outputs), opset_imports=opsets, ir_version=8
    )
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.register_custom_ops_library(_library())
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda x, floor: session.run(None, {"x": x, "floor": floor})


def _brute_force(x, floor):
    """Value by value, in the order of memory."""
    above = []
    for index, value in np.ndenumerate(x):
        if not value <= floor[index[1]]:
            above.append(index[1] * 2**32 + int(np.float32(value).view(np.uint32)))
    return np.array(above, np.int64), x.size // x.shape[1]


def _hard_values(shape):
    random = np.random.default_rng(sum(shape))
    x = random.normal(0, 1, shape).astype(np.float32)
    special = np.array([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 0.5, 1e-45], np.float32)
    return np.where(random.random(shape) < 0.3, random.choice(special, shape), x)


SHAPES = [(3, 2), (1, 1, 1), (2, 3, 15), (2, 3, 16), (2, 3, 17), (4, 2, 5, 13), (1, 2, 3, 3, 3)]


class TestLargeValues:
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("level", [0.0, 0.5, 1e-45, np.inf])
    def test_bodies_agree_with_a_loop(self, shape, level):
        x = _hard_values(shape)
        floor = np.full(shape[1], level, np.float32)
        floor[0] = 0.25
        expected, count = _brute_force(x, floor)
        for body in (large_values, _native_operator()):
            above, rows = body(x, floor)
            np.testing.assert_array_equal(above, expected)
            assert rows == count

    @pytest.mark.parametrize("threads", [1, 3])
    def test_many_samples_keep_their_order(self, threads):
        x = np.random.default_rng(0).exponential(1, (150, 4, 31, 33)).astype(np.float32)
        floor = np.array([0, 3, 1e9, 4], np.float32)
        above, count = _native_operator(threads)(x, floor)
        np.testing.assert_array_equal(above, large_values(x, floor)[0])
        assert count == 150 * 31 * 33

    @pytest.mark.parametrize("shape", [(0, 3, 4), (2, 3, 0)])
    def test_nothing_to_look_at(self, shape):
        x, floor = np.zeros(shape, np.float32), np.zeros(3, np.float32)
        for body in (large_values, _native_operator()):
            above, count = body(x, floor)
            assert above.shape == (0,)
            assert count == 0

    @pytest.mark.parametrize(("shape", "floor"), [((2, 3, 4), 2), ((5,), 5), ((), 1)])
    def test_shapes_that_do_not_fit(self, shape, floor):
        run = _native_operator()
        with pytest.raises(Exception, match=r"onnx_snn.LargeValues: x must be \[N, C, ...\]"):
            run(np.zeros(shape, np.float32), np.zeros(floor, np.float32))

    @pytest.mark.parametrize("dtype", [np.float16, np.float64])
    def test_other_types_are_looked_at_as_float32(self, dtype):
        x = np.random.default_rng(0).normal(0, 1, (5, 2, 9)).astype(dtype)
        floor = np.array([0.5, 0.1], np.float32)
        actual = large_values(x, floor)[0]
        np.testing.assert_array_equal(actual, large_values(x.astype(np.float32), floor)[0])


def _shapes_net():
    """Activations of ranks 1 to 5; the first and the last have no axis 1 of a known size."""
    net = Net({"x": ["N", 4, "L"]})
    rank_3 = net.relu("x")
    swapped = net.op("Transpose", rank_3, perm=[0, 2, 1])
    rank_5 = net.relu(net.op("Unsqueeze", swapped, net.constant([3, 4], "int64")))
    rank_2 = net.relu(net.op("ReduceMean", "x", net.constant([2], "int64"), keepdims=0))
    rank_4 = net.relu(net.op("Unsqueeze", rank_2, net.constant([2, 3], "int64")))
    rank_1 = net.relu(net.op("ReduceMean", rank_2, net.constant([1], "int64"), keepdims=0))
    return net.model({"a": rank_5, "b": rank_4, "c": rank_1})


def _observe(make, model, x, level):
    """What a probe says, by the name of the activation's node."""
    graph = load_graph(model)
    nodes = spiking_nodes(graph)
    tensors = [node.outputs[0] for node in nodes]
    floors = [np.full(channels_of(tensor) or 1, level, np.float32) for tensor in tensors]
    seen = make(graph, tensors).observe({"x": x}, floors)
    return dict(zip((node.name for node in nodes), seen, strict=True))


def _native(graph, tensors):
    return NativeProbe(graph, tensors, _library())


def _activations(model, x):
    names = relus(model)
    values = run(expose(model, names.values()), {"x": x})[-len(names) :]
    return dict(zip(names, values, strict=True))


def test_axis_1_is_the_channels_where_its_size_is_known():
    found = {
        len(node.outputs[0].shape): channels_of(node.outputs[0])
        for node in spiking_nodes(load_graph(_shapes_net()))
    }
    assert found == {1: None, 2: 4, 3: 4, 4: 4, 5: None}


@pytest.mark.parametrize("make", [_native, ValueProbe])
@pytest.mark.parametrize("samples", [1, 16, 37])
def test_probes_see_the_activations_of_the_original_model(make, samples):
    x = Dyadic()(samples, 4, 8)
    model = _shapes_net()
    seen = _observe(make, model, x, 0.0625)
    for name, values in _activations(model, x).items():
        channels = 4 if values.ndim in (2, 3, 4) else 1
        rows = values.reshape(samples, channels, -1)
        above, count = _brute_force(rows, np.full(channels, 0.0625, np.float32))
        assert seen[name].rows == count
        np.testing.assert_array_equal(np.concatenate(seen[name].above), above)


def test_a_run_is_cut_up_without_losing_anything(monkeypatch):
    x = Dyadic()(100, 2, 8, 8)
    model = cnn(Dyadic())
    whole = _observe(ValueProbe, model, x, 0.0)
    monkeypatch.setattr("onnx_snn.probe._LEAST_SAMPLES", 7)
    cut = _observe(_native, model, x, 0.0)
    for name, values in _activations(model, x).items():
        assert cut[name].rows == whole[name].rows == values.size // values.shape[1]
        (expected,) = whole[name].above
        assert expected.size == np.count_nonzero(values)
        assert len(cut[name].above) > 1
        np.testing.assert_array_equal(np.concatenate(cut[name].above), expected)


def test_the_value_probe_takes_over_without_the_library(monkeypatch):
    def missing():
        raise RuntimeUnavailableError("not there")

    graph = load_graph(cnn(Gaussian()))
    tensors = [node.outputs[0] for node in spiking_nodes(graph)]
    monkeypatch.setattr("onnx_snn.probe.get_library_path", missing)
    assert isinstance(make_probe(graph, tensors), ValueProbe)


@pytest.mark.parametrize("make", [_native, ValueProbe])
def test_the_graph_is_not_changed(make):
    graph = load_graph(cnn(Gaussian()))
    before = gs.export_onnx(graph).SerializeToString(deterministic=True)
    make(graph, [node.outputs[0] for node in spiking_nodes(graph)])
    assert gs.export_onnx(graph).SerializeToString(deterministic=True) == before
