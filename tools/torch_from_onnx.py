"""The networks of ``models/`` as torch modules, with the weights of their ONNX files.

SpikingJelly takes torch modules and replaces only what is an ``nn.ReLU``, so that calls of
``torch.relu`` become such modules here. Softmax is left out: the answer is the same.
"""

from pathlib import Path

import onnx
import torch
from torch import Tensor, fx, nn

from train_cifar10 import resnet20, vgg
from train_mnist_cnn import mnist_cnn

BUILDERS = {
    "mnist_cnn": mnist_cnn,
    "cifar10_resnet20": resnet20,
    "cifar10_vgg": vgg,
}


def load_net(name: str, path: Path) -> nn.Module:
    """Build a network, from images to logits, in eval mode.

    Args:
        name: One of `BUILDERS`.
        path: ONNX file whose initializers are named as the entries of ``state_dict``.

    Returns:
        The network, all of whose ReLUs are modules.

    Raises:
        ValueError: The file lacks a weight of the network.
    """
    net = BUILDERS[name]()
    missing, _ = net.load_state_dict(read_weights(path), strict=False)
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    if missing:
        raise ValueError(f"{path} has no initializer {missing[0]!r}")
    if isinstance(net[-1], nn.Softmax):
        net = net[:-1]
    return relu_modules(net)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the initializers of an ONNX file by name.

    The exporter stores equal tensors once, and the others as Identity nodes that read it.
    """
    graph = onnx.load(path).graph
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    weights = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
    for node in graph.node:
        if node.op_type == "Identity" and node.input[0] in weights:
            weights[node.output[0]] = weights[node.input[0]]
    return weights


def relu_modules(net: nn.Module) -> fx.GraphModule:
    """Return the same network with a module ``nn.ReLU`` for every call of ``torch.relu``."""
    traced = fx.symbolic_trace(net)
    calls = [n for n in traced.graph.nodes if n.op == "call_function" and n.target is torch.relu]
    for call in calls:
        name = f"{call.name}_module"
        traced.add_submodule(name, nn.ReLU())
        with traced.graph.inserting_after(call):
            module = traced.graph.call_module(name, call.args)
        call.replace_all_uses_with(module)
        traced.graph.erase_node(call)
    traced.recompile()
    return traced.eval()
