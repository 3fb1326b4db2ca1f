"""Checks of the scale algebra: a rescaled node computes what it did, in other units."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from nets import Array, run
from onnx_snn.load import load_graph
from onnx_snn.operators import Refusal, operator_of
from onnx_snn.scale import Scale


def assert_close(
    actual: Array, expected: Array, relative: float = 1e-5, magnitude: float = 0.0
) -> None:
    """Equal up to ``relative`` times the greatest expected value, or times ``magnitude``.

    An output near zero is a difference of large numbers, so that its own size says nothing about
    the rounding errors in it. ``magnitude`` is that of the numbers, where all outputs may be small.
    """
    assert actual.shape == expected.shape
    limit = relative * np.abs(expected).max(initial=magnitude)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=limit)


def only_node(model: onnx.ModelProto) -> gs.Node:
    (node,) = load_graph(model).nodes
    return node


def refusal_of(model: onnx.ModelProto) -> Refusal | None:
    return operator_of(only_node(model)).refusal(only_node(model))


def assert_refused(model: onnx.ModelProto, reason: str) -> None:
    refusal = refusal_of(model)
    assert refusal is not None
    assert reason in refusal.reason
    assert refusal.remedy


def channels(count: int, axis: int = 1, seed: int = 0) -> Scale:
    """A λ per channel, not of powers of two."""
    return Scale.of(np.random.default_rng(seed).uniform(0.2, 5.0, count), axis)


def rescale(model: onnx.ModelProto, scales: Sequence[Scale], wish: Scale | None = None) -> Scale:
    """Rescale a model of one node, check that its function stays, and return λ of its output.

    Args:
        model: one node; its inputs are the activations, in order.
        scales: λ of the inputs; the operator may demand others.
        wish: λ that the readers would like.
    """
    graph = load_graph(model)
    (node,) = graph.nodes
    operator = operator_of(node)
    demands = operator.demand(node, scales, wish)
    given = [s if d is None else d for s, d in zip(scales, demands, strict=True)]
    out = operator.output(node, given, wish)
    operator.apply(node, given, out)

    random = np.random.default_rng(1)
    feeds = {}
    for tensor in graph.inputs:
        shape = [size if isinstance(size, int) else 3 for size in tensor.shape]
        feeds[tensor.name] = random.normal(size=shape).astype(np.float32)
    (expected,) = run(model, feeds)
    scaled = {
        name: (values / scale.shaped(values.ndim)).astype(np.float32)
        for (name, values), scale in zip(feeds.items(), given, strict=True)
    }
    (actual,) = run(gs.export_onnx(graph), scaled)
    # Weights and inputs are rounded once more, to float32: a few units in the last place.
    assert_close(actual * out.shaped(actual.ndim), expected, 2e-6)
    return out


def assert_wish_holds(model: onnx.ModelProto, out: Scale) -> None:
    """If the inputs have the λ that the operator wishes for, the output has the λ wanted."""
    node = only_node(model)
    operator = operator_of(node)
    wishes = operator.wish(node, out)
    assert all(wish is not None for wish in wishes)
    assert operator.output(node, wishes, out) == out
    assert list(operator.demand(node, wishes, out)) in ([None] * len(wishes), list(wishes))
    assert rescale(model, wishes, out) == out
