"""Channel shuffles: the same function, one Gather, and channels that can be followed."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from onnx import helper

import onnx_snn
from loading import loaded, model_of, ops, sample, value
from nets import Dyadic, Net
from onnx_snn.analyse import analyse
from onnx_snn.calibrate import calibrate
from onnx_snn.data import Dataset, input_specs
from onnx_snn.load import load_graph
from onnx_snn.passes.fold_batch_normalization import fold_batch_normalization
from onnx_snn.passes.normalise import normalise
from onnx_snn.passes.rewrite_activations import rewrite_activations
from onnx_snn.thresholds import Granularity, Mode, thresholds
from topologies import images, topology, without_softmax


def _shuffle(net, x, split, perm, joined):
    y = net.op("Reshape", x, net.constant(split, np.int64))
    y = net.op("Transpose", y, perm=perm)
    return net.op("Reshape", y, net.constant(joined, np.int64))


@pytest.mark.parametrize(
    ("spatial", "split", "perm", "joined"),
    [
        ((2, 5), [0, 2, 3, 2, 5], [0, 2, 1, 3, 4], [0, 6, 2, 5]),
        ((2, 5), [-1, 3, 2, 2, 5], [0, 2, 1, 3, 4], [-1, 6, 2, 5]),
        ((2, 5), [0, 3, 2, 10], [0, 2, 1, 3], [0, 6, 2, 5]),
        ((7,), [0, 3, 2, 7], [0, 2, 1, 3], [0, 6, 7]),
        ((), [0, 2, 3], [0, 2, 1], [0, 6]),
    ],
    ids=str,
)
def test_becomes_a_gather(spatial, split, perm, joined):
    net = Net({"x": ["N", 6, *spatial]})
    y = _shuffle(net, net.relu("x"), split, perm, joined)
    graph = loaded(net.model(net.relu(y)), x=sample(3, 6, *spatial))
    assert ops(graph) == ["Relu", "Gather", "Relu"]


@pytest.mark.parametrize(
    ("split", "perm", "joined"),
    [
        ([0, 2, 3, 4, 4], [0, 2, 1, 4, 3], [0, 6, 4, 4]),  # pixels change places too
        ([0, 2, 3, 4, 4], [0, 1, 2, 4, 3], [0, 6, 4, 4]),
        ([0, 2, 3, 4, 4], [0, 2, 1, 3, 4], [0, 3, 8, 4]),  # to other channels
        ([0, 4, 6, 2, 2], [0, 2, 1, 3, 4], [0, 6, 4, 4]),  # pixels become channels
        ([0, 6, 2, 8], [0, 2, 1, 3], [0, 6, 4, 4]),
    ],
    ids=str,
)
def test_other_permutations_stay(split, perm, joined):
    net = Net({"x": ["N", 6, 4, 4]})
    y = _shuffle(net, net.relu("x"), split, perm, joined)
    graph = loaded(net.model(net.relu(y)), x=sample(3, 6, 4, 4))
    assert ops(graph) == ["Relu", "Reshape", "Transpose", "Reshape", "Relu"]


def test_of_unknown_sizes_stays():
    net = Net({"x": ["N", 6, "L"]})
    y = _shuffle(net, net.relu("x"), [0, 2, 3, -1], [0, 2, 1, 3], [0, 6, -1])
    graph = loaded(net.model(net.relu(y)), x=sample(3, 6, 5))
    assert ops(graph) == ["Relu", "Reshape", "Transpose", "Reshape", "Relu"]


@pytest.mark.parametrize("between", ["split", "moved"])
@pytest.mark.parametrize("reader", ["output", "node"])
def test_whose_insides_are_read_stays(between, reader):
    node = helper.make_node
    nodes = [
        node("Reshape", ["x", "by_group"], ["split"]),
        node("Transpose", ["split"], ["moved"], perm=[0, 2, 1]),
        node("Reshape", ["moved", "joined"], ["y"]),
        node("Relu", [between], ["z"]),
    ]
    shape = ["N", 2, 3] if between == "split" else ["N", 3, 2]
    outputs = [value("y", "N", 6), value(between if reader == "output" else "z", *shape)]
    constants = {"by_group": np.array([0, 2, 3]), "joined": np.array([0, 6])}
    model = model_of(nodes, [value("x", "N", 6)], outputs, constants)
    assert ops(loaded(model, x=sample(2, 6))).count("Gather") == 0


def test_a_converted_network_follows_its_channels():
    random = Dyadic()
    net = Net({"x": ["N", 3, 6, 6]})
    y = net.relu(net.conv("x", random(6, 3, 3, 3)))
    y = _shuffle(net, y, [0, 2, 3, 4, 4], [0, 2, 1, 3, 4], [0, 6, 4, 4])
    y = net.relu(net.conv(y, random(4, 6, 3, 3)))
    result = onnx_snn.convert(
        net.model(net.conv(y, random(2, 4, 1, 1))), sample(20, 3, 6, 6), granularity="channel"
    )
    assert [layer.scale.values.size for layer in result.report.layers] == [6, 4]


def test_scales_per_channel_survive_shufflenet():
    graph = load_graph(without_softmax(topology("shufflenet")))
    assert "Gather" in ops(graph)
    assert "Transpose" not in ops(graph)
    rewrite_activations(graph)
    fold_batch_normalization(graph)
    specs = input_specs(gs.export_onnx(graph))
    stats = calibrate(graph, Dataset(images(2, seed=5), specs, 1))
    limits = thresholds(stats, Mode.parse("99.9%"), Granularity.CHANNEL)
    scales = normalise(graph, analyse(graph), limits)
    assert scales
    assert all(not scale.is_scalar for scale in scales.values())
