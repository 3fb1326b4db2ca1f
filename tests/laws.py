"""The law of normalise, for networks around one operator: thresholds go in, the function stays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from nets import Array, Gaussian, Net, run
from onnx_snn.analyse import analyse
from onnx_snn.load import load_graph
from onnx_snn.operators import OPERATORS, Refusal
from onnx_snn.passes.fold_batch_normalization import fold_batch_normalization
from onnx_snn.passes.normalise import normalise
from onnx_snn.scale import Scale
from onnx_snn.spiking_activations import spiking_nodes
from onnx_snn.thresholds import Threshold

Model = onnx.ModelProto


def powers_of_two(graph: gs.Graph, per_channel: bool) -> dict[str, Threshold]:
    """Thresholds that rescale float32 without any rounding; no two neighbours are equal."""
    random = np.random.default_rng(5)
    limits = {}
    for node in spiking_nodes(graph):
        (tensor,) = node.outputs
        layer = Scale.of(2.0 ** random.integers(1, 4))
        scale = layer
        if per_channel and len(tensor.shape) > 1 and isinstance(tensor.shape[1], int):
            scale = Scale.of(2.0 ** (random.permutation(tensor.shape[1]) % 7 - 3.0))
        limits[tensor.name] = Threshold(scale, layer)
    return limits


def normalised(
    model: onnx.ModelProto,
    per_channel: bool,
    feeds: Mapping[str, Array] | None = None,
    relative: float = 0.0,
) -> tuple[gs.Graph, list[Scale]]:
    """Fold and normalise a network, and check that its outputs stay.

    Args:
        model: any network that can be converted.
        per_channel: thresholds per channel, or per layer.
        feeds: of the run that checks; random numbers by default.
        relative: tolerance, of the greatest output. None is needed as a rule: powers of two
            commute with rounding.

    Returns:
        The graph, and λ of each neuron in order.
    """
    graph = load_graph(model)
    analysis = analyse(graph)
    assert not analysis.refused, analysis.refused
    fold_batch_normalization(graph)
    scales = normalise(graph, analyse(graph), powers_of_two(graph, per_channel))
    after = gs.export_onnx(graph)
    onnx.checker.check_model(after)
    feeds = feeds or random_feeds(model)
    for actual, expected in zip(run(after, feeds), run(model, feeds), strict=True):
        limit = relative * np.abs(expected).max(initial=0.0)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=limit)
    return graph, list(scales.values())


def linear_refusal(model: onnx.ModelProto) -> Refusal | None:
    """Why the last node of a network is not linear, whatever else may become of it."""
    node = load_graph(model).nodes[-1]
    return OPERATORS[node.op].refusal(node)


def assert_not_linear(model: onnx.ModelProto, reason: str) -> None:
    refusal = linear_refusal(model)
    assert refusal is not None
    assert reason in refusal.reason
    assert refusal.remedy


def random_feeds(model: onnx.ModelProto, batch: int = 3) -> dict[str, Array]:
    random = np.random.default_rng(3)
    return {
        value.name: random.normal(
            size=[dim.dim_value or batch for dim in value.type.tensor_type.shape.dim]
        ).astype(np.float32)
        for value in model.graph.input
    }


def assert_carried(model: onnx.ModelProto) -> None:
    """Every neuron keeps its λ per channel, and no synapse is needed."""
    graph, scales = normalised(model, per_channel=True)
    assert scales
    assert not any(scale.is_scalar for scale in scales)
    before = [node.op for node in load_graph(model).nodes]
    assert [node.op for node in graph.nodes] == before


def run_time_integers(net: Net, tensor: str) -> str:
    """Integers [F] that depend on the values of a tensor [N, F]."""
    axes = net.constant(np.asarray([0], np.int64))
    total = net.op("ReduceSum", tensor, axes, keepdims=0)
    return net.op("Cast", total, to=onnx.TensorProto.INT64)


def behind_neurons(op: str, *constants: Any, channels: int = 4, **attributes: Any) -> Model:
    """[N, 3, 6, 6] → Conv Relu → op → Flatten → Gemm: λ must be carried forward."""
    net, weights = Net({"x": ["N", 3, 6, 6]}), Gaussian(8)
    y = net.relu(net.conv("x", weights(channels, 3, 1, 1), weights(channels)))
    y = net.op("Flatten", net.op(op, y, *_parameters(net, constants), **attributes))
    features = net.model(y).graph.output[0].type.tensor_type.shape.dim[1].dim_value
    return net.model(net.gemm(y, weights(features, 3), weights(3)))


def before_neurons(op: str, *constants: Any, channels: int = 4, **attributes: Any) -> Model:
    """[N, 3, 6, 6] → Conv → op → Relu → Flatten → Gemm: λ is wanted backward."""
    net, weights = Net({"x": ["N", 3, 6, 6]}), Gaussian(8)
    y = net.conv("x", weights(channels, 3, 1, 1), weights(channels))
    y = net.relu(net.op(op, y, *_parameters(net, constants), **attributes))
    y = net.op("Flatten", y)
    features = net.model(y).graph.output[0].type.tensor_type.shape.dim[1].dim_value
    return net.model(net.gemm(y, weights(features, 3), weights(3)))


def _parameters(net: Net, constants: tuple[Any, ...]) -> list[str]:
    return ["" if values is None else net.constant(values) for values in constants]
