import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from algebra import assert_refused, only_node, refusal_of
from nets import Net, run
from onnx_snn.errors import UnsupportedModelError
from onnx_snn.load import load_graph
from onnx_snn.operators import operator_of
from onnx_snn.operators.batch_normalization import BatchNormalization


def _model(**attributes):
    net = Net({"x": ["N", 4, 3]})
    return net.model(net.batch_normalization("x", 4, seed=5, **attributes))


def test_affine_is_what_onnxruntime_computes():
    model = _model(epsilon=0.01)
    x = np.random.default_rng(0).normal(size=(6, 4, 3)).astype(np.float32)
    factor, shift = BatchNormalization.affine(only_node(model))
    expected = x * factor[:, None] + shift[:, None]
    # float32 rounding of values below 10.
    np.testing.assert_allclose(run(model, {"x": x})[0], expected, atol=5e-6)


def test_epsilon_has_a_default():
    assert refusal_of(_model()) is None
    explicit = BatchNormalization.affine(only_node(_model(epsilon=1e-5)))
    default = BatchNormalization.affine(only_node(_model()))
    np.testing.assert_array_equal(default, explicit)


def test_refuses_training_mode():
    net = Net({"x": ["N", 4, 3]})
    ones = net.constant(np.ones(4, np.float32))
    y = net.op("BatchNormalization", "x", *[ones] * 4, outputs=3, training_mode=1)
    assert_refused(net.model(y), "training mode")


def test_refuses_statistics_computed_at_run_time():
    net = Net({"x": ["N", 4, 3]})
    ones = net.constant(np.ones(4, np.float32))
    mean = net.op("ReduceMean", "x", net.constant([0, 2], "int64"), keepdims=0)
    y = net.op("BatchNormalization", "x", ones, ones, mean, ones)
    node = load_graph(net.model(y)).nodes[-1]
    assert "run time" in operator_of(node).refusal(node).reason


def _with_parameters(gamma=1.0, beta=0.0, mean=0.0, variance=1.0, dtype=np.float32, **attributes):
    net = Net({"x": ["N", 2, 3]}, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
    parameters = [net.constant([1, value], dtype) for value in (gamma, beta, mean, variance)]
    return net.model(net.op("BatchNormalization", "x", *parameters, **attributes))


@pytest.mark.parametrize("name", ["gamma", "beta", "mean", "variance"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_refuses_parameters_that_are_not_finite(name, value):
    assert_refused(_with_parameters(**{name: value}), "finite")


@pytest.mark.parametrize(("variance", "epsilon"), [(-1.0, 1e-5), (0.0, 0.0), (-1e-3, 1e-3)])
def test_refuses_a_variance_that_has_no_root(variance, epsilon):
    assert_refused(_with_parameters(variance=variance, epsilon=epsilon), "not positive")


@pytest.mark.parametrize("variance", [0.0, -5e-6])
def test_accepts_a_variance_that_epsilon_makes_positive(variance):
    model = _with_parameters(variance=variance)
    assert refusal_of(model) is None
    factor, _ = BatchNormalization.affine(only_node(model))
    np.testing.assert_allclose(factor[1], (np.float32(variance) + 1e-5) ** -0.5, rtol=1e-6)


def test_refuses_what_its_type_cannot_hold():
    assert_refused(_with_parameters(gamma=1e38, variance=0.0), "too large for float32")
    assert_refused(_with_parameters(gamma=300, variance=0.0, dtype=np.float16), "float16")
    assert refusal_of(_with_parameters(gamma=300, variance=0.0)) is None


def _old(opset, **attributes):
    """A model of an opset that the builder does not know; momentum is of no use at inference."""
    parameters = [numpy_helper.from_array(np.full(4, 0.5, np.float32), n) for n in "gbmv"]
    node = helper.make_node("BatchNormalization", ["x", *"gbmv"], ["y"], "bn", **attributes)
    values = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["N", 4, 3]) for n in "xy"]
    graph = helper.make_graph([node], "net", values[:1], values[1:], parameters)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8
    return model


@pytest.mark.parametrize(
    ("opset", "attributes"),
    [
        (7, {"momentum": 0.8}),
        (7, {"spatial": 1}),
        (8, {"spatial": 1, "momentum": 0.8, "epsilon": 0.1}),
        (9, {"momentum": 0.8, "epsilon": 0.1}),
        (14, {"training_mode": 0}),
    ],
    ids=str,
)
def test_older_opsets(opset, attributes):
    model = _old(opset, **attributes)
    assert refusal_of(model) is None
    x = np.random.default_rng(0).normal(size=(6, 4, 3)).astype(np.float32)
    factor, shift = BatchNormalization.affine(only_node(model))
    expected = x * factor[:, None] + shift[:, None]
    np.testing.assert_allclose(run(model, {"x": x})[0], expected, atol=5e-6)


@pytest.mark.parametrize("opset", [7, 8])
def test_one_number_per_pixel_is_refused_by_load(opset):
    with pytest.raises(UnsupportedModelError, match="spatial"):
        load_graph(_old(opset, spatial=0))


@pytest.mark.parametrize("attributes", [{}, {"is_test": 0}], ids=str)
def test_opset_6_is_in_training_mode_unless_it_says_otherwise(attributes):
    with pytest.raises(UnsupportedModelError, match=r"'bn' is in training mode .*model\.eval\(\)"):
        load_graph(_old(6, **attributes))


def test_opset_6_in_test_mode():
    model = _old(6, is_test=1, epsilon=0.1)
    factor, shift = BatchNormalization.affine(only_node(model))
    # y = γ·(x − μ)/√(σ² + ε) + β, of which all parameters are 0.5.
    np.testing.assert_allclose(factor, 0.5 / np.sqrt(0.6), rtol=1e-6)
    np.testing.assert_allclose(shift, 0.5 - 0.25 / np.sqrt(0.6), rtol=1e-6)
