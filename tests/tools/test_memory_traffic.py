import onnx
import pytest

from gpu_networks import Network
from memory_traffic import traffic
from nets import Dyadic, Net

C, SIDE = 4, 9


def _network(folder):
    """Two layers, of which the second has a shortcut, and a maximum."""
    weights = Dyadic(3)
    net = Net({"x": ["N", 3, SIDE, SIDE]})
    s = net.relu(net.conv("x", weights(C, 3, 3, 3), weights(C), pads=[1] * 4))
    y = net.op(
        "Add", net.conv(s, weights(C, C, 1, 1), weights(C)), net.conv(s, weights(C, C, 1, 1))
    )
    s = net.op("MaxPool", net.relu(y), kernel_shape=[3, 3], strides=[3, 3])
    s = net.relu(net.conv(s, weights(3, C, 3, 3), weights(3)))  # too few to count
    model = net.model({"y": net.gemm(net.op("Flatten", s), weights(3, 2), weights(2))})
    onnx.save(model, folder / "net.onnx")
    images = Dyadic(9)(8, 3, SIDE, SIDE, step=1 / 8)
    return Network(folder / "net.onnx", images, images, None, 2)


def test_bytes_are_those_of_the_tensors(tmp_path):
    network = _network(tmp_path)
    tensor = 4 * C * SIDE * SIDE  # of one image and step
    unfused = traffic(network, "any")
    # The first layer's currents are computed once for both steps.
    assert unfused["IFNeuron"] == pytest.approx(tensor / 2 + tensor + 2 * tensor, rel=0.05)
    assert unfused["Add"] == pytest.approx(3 * tensor, rel=0.05)
    assert unfused["CumSum"] == pytest.approx(2 * tensor, rel=0.05)
    fused = traffic(network, "cuda")
    assert fused["AddIFNeuron"] == pytest.approx(3 * tensor, rel=0.05)
    assert fused["SpikeMaxPool"] == pytest.approx(tensor + tensor / 9, rel=0.05)
    assert fused.keys().isdisjoint({"CumSum", "Sub", "Where", "MaxPool"})
