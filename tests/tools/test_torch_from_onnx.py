"""The torch modules that SpikingJelly is given are the networks of the ONNX files."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

MODELS = Path(__file__).resolve().parents[2] / "models"
SHAPES = {"mnist_cnn": (1, 28, 28), "cifar10_resnet20": (3, 32, 32), "cifar10_vgg": (3, 32, 32)}


@pytest.fixture
def tool():
    """The script, which needs torch."""
    pytest.importorskip("torch")
    import torch_from_onnx

    return torch_from_onnx


def test_every_network_of_the_comparison_can_be_built(tool):
    from compare_presets import NETWORKS

    assert {network.peer for network in NETWORKS.values() if network.peer} <= set(tool.BUILDERS)
    assert set(tool.BUILDERS) == set(SHAPES)


@pytest.mark.parametrize("name", SHAPES)
def test_weights_and_relus_are_those_of_the_file(tool, name):
    path = MODELS / f"{name}.onnx"
    net = tool.load_net(name, path)
    x = np.random.default_rng(0).random((4, *SHAPES[name]), np.float32)
    with tool.torch.no_grad():
        logits = net(tool.torch.from_numpy(x)).numpy()
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"image": x})
    if name == "mnist_cnn":  # its file ends with a Softmax
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        logits = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4)

    relus = sum(node.op_type == "Relu" for node in onnx.load(path).graph.node)
    called = [node for node in net.graph.nodes if node.op == "call_module"]
    assert sum(type(net.get_submodule(node.target)) is tool.nn.ReLU for node in called) == relus
    assert not any(node.target is tool.torch.relu for node in net.graph.nodes)
