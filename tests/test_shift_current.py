"""Shifted currents against the ANN with these biases, simulated."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from nets import Gaussian, Net, cnn, mlp, residual
from onnx_snn import create_session
from onnx_snn.analyse import analyse
from onnx_snn.export import export
from onnx_snn.load import load_graph
from onnx_snn.neuron import Neuron
from onnx_snn.passes.normalise import normalise
from onnx_snn.passes.put_on_schedule import put_on_schedule
from onnx_snn.passes.spike import spike
from onnx_snn.schedule import ScheduleOptions
from onnx_snn.shift_current import shift_current
from onnx_snn.thresholds import Granularity, Mode, thresholds
from simulator import dyadic_thresholds, relus, simulate, stats_of


def _two_currents(weights):
    """Currents that two neurons read, and that another addition reads."""
    net = Net({"x": ["N", 4, 5], "z": ["N", 4, 5]})
    spikes = net.relu(net.conv("x", weights(4, 4, 1), weights(4)))
    shared = net.conv(spikes, weights(4, 4, 1), weights(4))
    first = net.relu(shared)
    second = net.relu(net.op("Sub", shared, net.constant(weights(4, 1))))
    third = net.relu(net.op("Sub", net.constant(weights(4, 1)), net.op("Neg", second)))
    z = net.op("Add", net.op("Add", first, third), net.conv("z", weights(4, 4, 1)))
    last = net.relu(net.op("Add", z, net.conv(third, weights(4, 4, 1))))
    return net.model(net.gemm(net.op("Flatten", last), weights(20, 3), weights(3)))


NETS = {
    "mlp": (mlp, {"x": (7,)}),
    "cnn": (cnn, {"x": (2, 8, 8)}),
    "residual": (residual, {"x": (3, 6, 6)}),
    "two currents": (_two_currents, {"x": (4, 5), "z": (4, 5)}),
}


def _spiking(model, levels, neuron):
    """The spiking network; ``levels``: λ by the name of the Relu."""
    graph = load_graph(model)
    grain = Granularity.CHANNEL if any(v.ndim for v in levels.values()) else Granularity.LAYER
    normalise(graph, analyse(graph), thresholds(stats_of(model, levels), Mode.parse("max"), grain))
    return spike(graph, analyse(graph), Neuron.parse(neuron))


def _run(network, feeds, timesteps):
    record = put_on_schedule(network, ScheduleOptions(timesteps=timesteps))
    model = export(network.graph, record, {})
    return create_session(model, ["CPUExecutionProvider"]).run(None, dict(feeds))[0]


def _with_biases(model, corrections, levels):
    """The ANN with an Add ahead of each Relu, in its own units."""
    shifted = onnx.ModelProto()
    shifted.CopyFrom(model)
    nodes = list(shifted.graph.node)
    ranks = {
        v.name: len(v.type.tensor_type.shape.dim)
        for v in onnx.shape_inference.infer_shapes(model).graph.value_info
    }
    del shifted.graph.node[:]
    for node in nodes:
        if node.op_type == "Relu":
            rank = ranks[node.output[0]]
            bias = corrections[node.name].reshape(-1, *[1] * (rank - 2)) * levels[node.name]
            name = f"{node.name}/bias"
            tensor = numpy_helper.from_array(np.atleast_1d(bias).astype(np.float32), name)
            shifted.graph.initializer.append(tensor)
            add = helper.make_node("Add", [node.input[0], name], [f"{name}ed"], name=f"{name}/add")
            shifted.graph.node.append(add)
            node.input[0] = f"{name}ed"
        shifted.graph.node.append(node)
    return shifted


@pytest.mark.parametrize("neuron", ["if", "signed"])
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("per_channel", [False, True], ids=["layer", "channel"])
def test_a_shift_is_added_to_its_current_and_nowhere_else(name, neuron, per_channel):
    build, shapes = NETS[name]
    model, timesteps = build(Gaussian(3)), 6
    random = np.random.default_rng(4)
    feeds = {n: random.normal(size=(10, *s)).astype(np.float32) for n, s in shapes.items()}
    levels = dyadic_thresholds(model, feeds, per_channel=per_channel)
    network = _spiking(model, levels, neuron)
    shifts = {}
    for node in network.neurons():
        shifts[node.name] = random.normal(size=node.inputs[0].shape[1]) / 4
        shift_current(network, node, shifts[node.name])

    # In the ANN's own units a shift counts λ times.
    units = {n: level[0] if level.ndim else level for n, level in levels.items()}
    biased = _with_biases(model, shifts, units)
    simulation = simulate(biased, levels, [feeds] * timesteps, neuron=neuron)
    expected = next(iter(simulation.outputs.values())).mean(axis=0)
    np.testing.assert_allclose(_run(network, feeds, timesteps), expected, atol=1e-4)


def test_a_bias_takes_the_shift_where_there_is_one():
    network = _spiking(mlp(Gaussian(3)), {n: np.ones(()) for n in relus(mlp(Gaussian(3)))}, "if")
    before = [node.op for node in network.graph.nodes]
    for node in network.neurons():
        shift_current(network, node, np.full(node.inputs[0].shape[1], 0.5))
    assert [node.op for node in network.graph.nodes] == before


def test_one_shift_for_neurons_without_channels():
    net = Net({"x": ["N"]})
    model = net.model(net.relu(net.op("Mul", "x", net.constant(np.float32(0.5)))))
    network = _spiking(model, {n: np.ones(()) for n in relus(model)}, "if")
    (node,) = network.neurons()
    shift_current(network, node, np.array([0.25]))
    x = np.array([-1, 0, 0.5, 1], np.float32)
    # The counts of 4 steps with a membrane of ½ at first.
    expected = np.clip(np.floor(4 * (0.5 * x + 0.25) + 0.5), 0, 4) / 4
    np.testing.assert_array_equal(_run(network, {"x": x}, 4), expected)
