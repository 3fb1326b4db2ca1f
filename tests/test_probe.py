import numpy as np
import onnx_graphsurgeon as gs
import pytest

from nets import Dyadic, Gaussian, Net, cnn, run
from onnx_snn import get_library_path
from onnx_snn.errors import RuntimeUnavailableError
from onnx_snn.load import load_graph
from onnx_snn.ops.reference import large_values
from onnx_snn.probe import NativeProbe, ValueProbe, channels_of, make_probe
from onnx_snn.spiking_activations import spiking_nodes
from simulator import expose, relus


def _library():
    try:
        return get_library_path()
    except RuntimeUnavailableError:
        pytest.skip("built without the native library")


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


def _observe(make, model, x, level, places=()):
    """What a probe says, by the name of the activation's node."""
    graph = load_graph(model)
    nodes = spiking_nodes(graph)
    tensors = [node.outputs[0] for node in nodes]
    floors = [np.full(channels_of(tensor) or 1, level, np.float32) for tensor in tensors]
    seen = make(graph, tensors).observe(
        {"x": x}, floors, [places] * len(nodes) if len(places) else ()
    )
    return dict(zip((node.name for node in nodes), seen, strict=True))


def _assert_same_values(seen, expected):
    """In any order."""
    np.testing.assert_array_equal(np.sort(np.concatenate(seen.above)), np.sort(expected))


def _sample(observed, channels):
    """The sample as [N, C, P]."""
    found = [
        part.swapaxes(2, 3).reshape(len(part), -1, part.shape[2])[:, :channels]
        for part in observed.samples
    ]
    return np.concatenate(found)


def _native(graph, tensors):
    return NativeProbe(graph, tensors, _library())


def _sampling(graph, tensors):
    return NativeProbe(graph, tensors, _library(), is_sampling=True)


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
        above, count = large_values(rows, np.full(channels, 0.0625, np.float32))
        assert seen[name].rows == count
        _assert_same_values(seen[name], above)


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
        _assert_same_values(cut[name], expected)


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


@pytest.mark.parametrize("make", [_sampling, ValueProbe])
@pytest.mark.parametrize("samples", [1, 37])
def test_samples_are_the_values_at_the_places(make, samples):
    x = Dyadic()(samples, 4, 9)
    model = _shapes_net()
    places = np.array([0.0, 0.34, 0.999, 0.34, np.nextafter(1, 0)])
    seen = _observe(make, model, x, 0.0625, places)
    for name, values in _activations(model, x).items():
        rows = values.reshape(samples, 4 if values.ndim in (2, 3, 4) else 1, -1)
        features = rows.shape[2]
        at = np.minimum(np.floor(places * features), features - 1).astype(int)
        np.testing.assert_array_equal(_sample(seen[name], rows.shape[1]), rows[:, :, at])
        assert seen[name].rows == samples * features


@pytest.mark.parametrize("channels", [1, 7, 16, 40])
def test_samples_of_convolutions(channels):
    random = Dyadic()
    net = Net({"x": ["N", 3, 8, 8]})
    hidden = net.relu(net.conv("x", random(32, 3, 3, 3), random(32)))
    model = net.model(net.relu(net.conv(hidden, random(channels, 32, 3, 3), random(channels))))
    x, places = Dyadic(1)(37, 3, 8, 8), np.array([0.9, 0.1, 0.5])
    seen = _observe(_sampling, model, x, 0.0625, places)
    for name, values in _activations(model, x).items():
        rows = values.reshape(*values.shape[:2], -1)
        at = np.floor(places * rows.shape[2]).astype(int)
        expected = rows[:, :, at]
        assert expected.any()
        np.testing.assert_array_equal(_sample(seen[name], rows.shape[1]), expected)


@pytest.mark.parametrize("make", [_sampling, _native, ValueProbe])
def test_no_places_no_samples(make):
    seen = _observe(make, cnn(Dyadic()), Dyadic()(20, 2, 8, 8), 0.0)
    assert len(seen) == 2
    assert all(not observed.samples for observed in seen.values())
