"""GroupNormalization: what load makes of it is what the formula says."""

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnx_snn
from loading import ops, sample
from nets import Gaussian, Net, run
from onnx_snn.analyse import analyse
from onnx_snn.errors import ModelError
from onnx_snn.load import load_graph
from onnx_snn.model_io import read_model
from onnx_snn.operators import Kind

CHANNELS, GROUPS = 6, 3


def _parameters(count, dtype=np.float32):
    random = np.random.default_rng(1)
    return [random.normal(1, 0.5, count).astype(dtype), random.normal(0, 0.5, count).astype(dtype)]


def _model(opset, *spatial, elem_type=TensorProto.FLOAT, **attributes):
    dtype = helper.tensor_dtype_to_np_dtype(elem_type)
    parameters = _parameters(CHANNELS if opset >= 21 else GROUPS, dtype)
    shape = ["N", CHANNELS, *spatial]
    node = helper.make_node(
        "GroupNormalization", ["x", "s", "b"], ["y"], "norm", num_groups=GROUPS, **attributes
    )
    graph = helper.make_graph(
        [node],
        "net",
        [helper.make_tensor_value_info("x", elem_type, shape)],
        [helper.make_tensor_value_info("y", elem_type, shape)],
        [numpy_helper.from_array(p, n) for p, n in zip(parameters, "sb", strict=True)],
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def _expected(x, opset, epsilon=1e-5):
    """By the formula of the paper, in float64."""
    scale, bias = _parameters(CHANNELS if opset >= 21 else GROUPS)
    if opset < 21:
        scale, bias = (p.repeat(CHANNELS // GROUPS) for p in (scale, bias))
    groups = x.astype(np.float64).reshape(len(x), GROUPS, -1)
    deviation = groups - groups.mean(axis=2, keepdims=True)
    variance = (deviation**2).mean(axis=2, keepdims=True)
    normal = (deviation / np.sqrt(variance + epsilon)).reshape(x.shape)
    by_channel = (-1, *[1] * (x.ndim - 2))
    return normal * scale.reshape(by_channel) + bias.reshape(by_channel)


@pytest.mark.parametrize("opset", [18, 20, 21])
@pytest.mark.parametrize("spatial", [(4,), (4, 5), (2, 3, 4)], ids=len)
def test_computes_what_the_formula_says(opset, spatial):
    x = 3 + 2 * sample(2, CHANNELS, *spatial)
    clean = gs.export_onnx(load_graph(_model(opset, *spatial)))
    onnx.checker.check_model(clean, full_check=True)
    # Differences of float32 numbers of about 5.
    np.testing.assert_allclose(run(clean, {"x": x})[0], _expected(x, opset), atol=5e-6)


def test_epsilon():
    x = 0.1 * sample(2, CHANNELS, 4)
    clean = gs.export_onnx(load_graph(_model(21, 4, epsilon=0.25)))
    np.testing.assert_allclose(run(clean, {"x": x})[0], _expected(x, 21, 0.25), atol=5e-6)


@pytest.mark.parametrize("opset", [18, 21])
@pytest.mark.parametrize("elem_type", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_keeps_the_type(opset, elem_type):
    clean = load_graph(_model(opset, 4, 5, elem_type=elem_type))
    assert clean.outputs[0].dtype == helper.tensor_dtype_to_np_dtype(elem_type)
    onnx.checker.check_model(gs.export_onnx(clean), full_check=True)


@pytest.mark.parametrize("opset", [18, 21])
def test_sizes_may_be_symbolic(opset):
    x = sample(2, CHANNELS, 3, 7)
    clean = gs.export_onnx(load_graph(_model(opset, "H", "W")))
    np.testing.assert_allclose(run(clean, {"x": x})[0], _expected(x, opset), atol=5e-6)


def test_layers_behind_it_have_shapes_and_nothing_is_refused():
    random = Gaussian()
    net = Net({"x": ["N", 3, 8, 8]})
    y = net.conv("x", random(CHANNELS, 3, 3, 3))
    for _ in range(2):
        parameters = [net.constant(p) for p in _parameters(CHANNELS)]
        y = net.relu(net.op("GroupNormalization", y, *parameters, num_groups=GROUPS))
    y = net.conv(y, random(4, CHANNELS, 3, 3))
    # onnx infers no shapes behind GroupNormalization, so that the output's is written here.
    model = net.model(y, 21, check=False)
    model.graph.output[0].CopyFrom(
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4, 4, 4])
    )
    onnx.checker.check_model(model)
    graph = load_graph(model)
    assert list(graph.outputs[0].shape) == ["N", 4, 4, 4]
    normalisation = ["Reshape", "InstanceNormalization", "Reshape", "Mul", "Add"]
    assert ops(graph) == ["Conv", *[*normalisation, "Relu"] * 2, "Conv"]
    kinds = [verdict.kind for verdict in analyse(graph).verdicts]
    assert Kind.REFUSED not in kinds
    assert kinds.count(Kind.DIFFERENTIAL) == 1  # the other stands before the first neuron


@pytest.mark.parametrize("opset", [18, 19, 20])
def test_the_form_that_onnx_deprecated_is_converted(opset):
    model = _behind_relu(opset)
    x = {"x": np.random.default_rng(2).uniform(0, 1, (8, CHANNELS, 4, 5)).astype(np.float32)}
    snn = onnx_snn.convert(model, x, timesteps=256, holdout=0).model
    (actual,) = onnx_snn.create_session(snn).run(None, x)
    expected = np.maximum(_expected(x["x"], opset), 0)
    assert np.abs(actual - expected).mean() < 0.02 * np.abs(expected).mean()
    assert model.graph.node[0].op_type == "GroupNormalization"  # the user's model is as it was


@pytest.mark.parametrize("groups", [0, -1])
def test_groups_are_counted_from_one(groups):
    model = _behind_relu(18)
    model.graph.node[0].attribute[0].i = groups
    with pytest.raises(ModelError, match=f"num_groups.*'norm' is {groups}"):
        read_model(model)


def test_what_else_the_specification_says_of_it_is_checked():
    model = _behind_relu(18)
    del model.graph.node[0].input[2]
    with pytest.raises(ModelError, match="specification"):
        read_model(model)


def _behind_relu(opset):
    model = _model(opset, 4, 5)
    model.graph.node.append(helper.make_node("Relu", ["y"], ["z"]))
    model.graph.output[0].name = "z"
    return model
