"""Load a model and compare what it computes with the original, for the tests of loading."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_graphsurgeon as gs
from onnx import TensorProto, helper, numpy_helper

from nets import run, session
from onnx_snn.load import load_graph

Array = npt.NDArray[Any]


def value(name: str, *shape: int | str, elem_type: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, elem_type, shape)


def unknown(name: str) -> onnx.ValueInfoProto:
    """An output of a shape that the file does not say."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: dict[str, Any] | None = None,
    *,
    opset: int = 18,
    ir_version: int = 8,
    functions: Sequence[onnx.FunctionProto] = (),
    domains: dict[str, int] | None = None,
) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, tensors)
    opsets = [helper.make_opsetid(d, v) for d, v in {"": opset, **(domains or {})}.items()]
    model = helper.make_model(graph, opset_imports=opsets, functions=list(functions))
    model.ir_version = ir_version
    return model


def sample(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def loaded(model: onnx.ModelProto, **feeds: Array) -> gs.Graph:
    """Load, and check that the clean graph computes exactly the same."""
    graph = load_graph(model)
    clean = gs.export_onnx(graph)
    onnx.checker.check_model(clean)
    for actual, expected in zip(run(clean, feeds), run(model, feeds), strict=True):
        np.testing.assert_array_equal(actual, expected)
    return graph


def loaded_from_one(model: onnx.ModelProto, **feeds: Array) -> gs.Graph:
    """Load a file exported for one sample; it must do to each sample what the original does."""
    graph = load_graph(model)
    original, clean = session(model), session(gs.export_onnx(graph))
    count = len(next(iter(feeds.values())))
    one_by_one = [
        original.run(None, {name: x[k : k + 1] for name, x in feeds.items()}) for k in range(count)
    ]
    for k, actual in enumerate(clean.run(None, feeds)):
        expected = np.concatenate([results[k] for results in one_by_one])
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
    return graph


def ops(graph: gs.Graph) -> list[str]:
    return [node.op for node in graph.nodes]
