"""onnx's own node tests, for every linear operator: each is rescaled rightly, or refused.

Each case's node is put behind a Relu. What is right onnxruntime alone says: a batch of two batches
must give what the original gives for one, and then what it gives for the other.
"""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from collections.abc import Iterator

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.case import node as node_cases

from algebra import assert_close
from laws import powers_of_two
from nets import Array, session
from onnx_snn import convert, create_session
from onnx_snn.analyse import analyse
from onnx_snn.errors import DataError, UnsupportedModelError
from onnx_snn.load import load_graph
from onnx_snn.operators import EXTREMA, OPERATORS, Domain, Kind
from onnx_snn.passes.fold_batch_normalization import fold_batch_normalization
from onnx_snn.passes.normalise import normalise

pytestmark = pytest.mark.heavy

LINEAR = {
    name
    for name, operator in OPERATORS.items()
    if operator.kind in (Kind.LINEAR, Kind.POOLING) and operator.domain is Domain.STEP
}
MAXIMA = {
    name
    for table in (OPERATORS, EXTREMA)
    for name, operator in table.items()
    if operator.domain is Domain.SUM
}
JOINS = {"Add", "Concat", "Max", "Mean", "Min", "Sub", "Sum"}
"""Operators all of whose inputs are activations; of the others only the first is."""

REFUSED_ALL_THE_SAME = {
    "test_constant_pad": "pads with 1.2",
    "test_constant_pad_axes": "pads with 1.2",
    "test_constant_pad_negative_axes": "pads with 1.2",
    "test_einsum_batch_diagonal": "a diagonal",
    "test_einsum_sum": "a sum by Einsum",
    "test_matmul_4d_1d": "the weights are a vector",
}
"""Cases that keep samples apart and yet have no form in which λ could be absorbed or carried."""
FIXED_BATCH = {"test_resize_tf_crop_and_resize_extrapolation_value": "'Linear' mode only supports"}
"""A case that onnxruntime cannot run where the batch may have any size."""
FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16}


def _cases() -> Iterator[tuple[str, onnx.ModelProto, list[Array]]]:
    """Name, model of one node and inputs, of each case in floating point."""
    with warnings.catch_warnings():  # about the overflows that some of the cases are about
        warnings.simplefilter("ignore")
        for module in pkgutil.iter_modules(node_cases.__path__):
            if module.name.replace("_", "") in {name.lower() for name in LINEAR | MAXIMA}:
                importlib.import_module(f"{node_cases.__name__}.{module.name}")
    for case in node_cases._NodeTestCases:  # those of the modules above: all take 15 s
        (node, *more), graph = case.model.graph.node, case.model.graph
        types = {value.type.tensor_type.elem_type for value in (graph.input[0], *graph.output)}
        if node.op_type in LINEAR | MAXIMA and not more and types <= FLOATS:
            yield case.name, case.model, [_array(x) for x in case.data_sets[0][0]]


def _operator(case: tuple[onnx.ModelProto, list[Array]]) -> str:
    return case[0].graph.node[0].op_type


def _array(values: Array | onnx.TensorProto) -> Array:
    return numpy_helper.to_array(values) if isinstance(values, onnx.TensorProto) else values


ALL_CASES = {name: (model, inputs) for name, model, inputs in _cases()}
CASES = {name: case for name, case in ALL_CASES.items() if _operator(case) in LINEAR}


def _behind_relu(model: onnx.ModelProto, inputs: list[Array]) -> tuple[onnx.ModelProto, list[str]]:
    """Data → Relu → the node; what is not data becomes constant. Also the names of the data."""
    (node,) = model.graph.node
    count = len(inputs) if node.op_type in JOINS else 1
    names = [value.name for value in model.graph.input]
    data = names[:count]
    relus = [helper.make_node("Relu", [name], [f"{name}/relu"]) for name in data]
    inner = onnx.NodeProto()
    inner.CopyFrom(node)
    inner.input[:] = [f"{name}/relu" if name in data else name for name in node.input]
    constants = [
        numpy_helper.from_array(np.asarray(values), name)
        for name, values in zip(names[count:], inputs[count:], strict=True)
    ]
    graph = helper.make_graph(
        [*relus, inner], "case", model.graph.input[:count], model.graph.output, constants
    )
    wrapped = helper.make_model(graph, opset_imports=model.opset_import)
    wrapped.ir_version = 8
    return wrapped, data


def _with_any_shape(model: onnx.ModelProto) -> onnx.ModelProto:
    free = onnx.ModelProto()
    free.CopyFrom(model)
    for value in (*free.graph.input, *free.graph.output):
        value.type.tensor_type.ClearField("shape")
    return free


def _rows(model: onnx.ModelProto, feeds: list[dict[str, Array]]) -> list[Array] | None:
    """The output for two batches in one, cut in two again; None if there is none."""
    both = {name: np.concatenate([f[name] for f in feeds]) for name in feeds[0]}
    try:
        (output,) = session(_with_any_shape(model)).run(None, both)
    except Exception:  # onnxruntime's own types
        return None
    return np.split(output, 2) if output.ndim and len(output) % 2 == 0 else None


def _is_close(rows: list[Array] | None, expected: list[Array]) -> bool:
    return rows is not None and all(
        a.shape == e.shape and np.allclose(a, e, atol=1e-5)
        for a, e in zip(rows, expected, strict=True)
    )


def _normalised(model: onnx.ModelProto, per_channel: bool) -> onnx.ModelProto | None:
    """None where the network is refused."""
    try:
        graph = load_graph(model)
    except UnsupportedModelError:
        return None
    analysis = analyse(graph)
    refused = [n for n in graph.nodes if n.op in LINEAR and OPERATORS[n.op].refusal(n) is not None]
    if refused:
        return None
    fold_batch_normalization(graph)
    normalise(graph, analyse(graph), powers_of_two(graph, per_channel))
    assert not analysis.refused
    return gs.export_onnx(graph)


@pytest.mark.parametrize("name", CASES)
def test_case(name):
    model, data = _behind_relu(*CASES[name])
    examples = dict(zip(data, CASES[name][1], strict=False))
    if any(np.ndim(values) == 0 for values in examples.values()):
        pytest.skip("no axes, so no batch")
    random = np.random.default_rng(1)
    feeds = [
        {n: random.normal(size=x.shape).astype(x.dtype) for n, x in examples.items()}
        for _ in range(2)
    ]
    try:
        original = session(model)
    except Exception as error:
        pytest.skip(f"onnxruntime cannot run it: {error}")
    expected = [original.run(None, feed)[0] for feed in feeds]
    for per_channel in (False, True):
        after = _normalised(model, per_channel)
        if after is None:
            keeps_samples_apart = _is_close(_rows(model, feeds), expected)
            keeps_samples_apart &= expected[0].shape[:1] == examples[data[0]].shape[:1]
            assert keeps_samples_apart == (name in REFUSED_ALL_THE_SAME)
            break
        outputs = _rows(after, feeds)
        assert outputs is not None
        for actual, wanted in zip(outputs, expected, strict=True):
            assert_close(actual, wanted, 1e-5)


@pytest.mark.parametrize("name", ALL_CASES)
def test_converted(name):
    """Rates in sixteenths are exact after 16 steps, and so is what is computed from them."""
    model, data = _behind_relu(*ALL_CASES[name])
    examples = dict(zip(data, ALL_CASES[name][1], strict=False))
    random = np.random.default_rng(1)
    feeds = {}
    for input_name, example in examples.items():
        values = random.integers(-8, 17, example.shape) / 16
        feeds[input_name] = np.where(random.random(example.shape) < 0.1, 1, values)
        feeds[input_name].flat[:1] = 1  # the maximum, and so the threshold
        feeds[input_name] = feeds[input_name].astype(example.dtype)
    if len({x.shape[:1] for x in feeds.values()}) > 1 or any(x.size == 0 for x in feeds.values()):
        pytest.skip("no batch that its inputs share")
    try:
        (expected,) = session(model).run(None, feeds)
    except Exception as error:  # onnxruntime's own types
        pytest.skip(f"onnxruntime cannot run it: {error}")
    if name in FIXED_BATCH:
        with pytest.raises(DataError, match=FIXED_BATCH[name]):
            convert(model, feeds, mode="max", timesteps=16, holdout=0)
        return
    try:
        snn = convert(model, feeds, mode="max", timesteps=16, holdout=0).model
    except UnsupportedModelError:
        pytest.skip("refused")
    (actual,) = create_session(snn).run(None, feeds)
    assert actual.dtype == expected.dtype
    np.testing.assert_allclose(
        actual, expected, rtol=1e-5, atol=1e-5 * (1 + abs(expected).max(initial=0))
    )


def test_every_operator_has_cases():
    found = {_operator(case) for case in ALL_CASES.values()}
    # Old releases of onnx have another name for the module of this one.
    assert found | {"BatchNormalization"} == LINEAR | MAXIMA | {"BatchNormalization"}
