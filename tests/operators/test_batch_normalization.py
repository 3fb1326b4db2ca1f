import numpy as np

from algebra import assert_refused, only_node, refusal_of
from nets import Net, run
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
    np.testing.assert_allclose(default, explicit, rtol=1e-7)


def test_refuses_training_mode():
    net = Net({"x": ["N", 4, 3]})
    ones = net.constant(np.ones(4, np.float32))
    y = net.op("BatchNormalization", "x", *[ones] * 4, outputs=3, training_mode=1)
    assert_refused(net.model(y), "training mode")


def test_refuses_statistics_computed_at_run_time():
    net = Net({"x": ["N", 4, 3], "mean": [4]})
    ones = net.constant(np.ones(4, np.float32))
    y = net.op("BatchNormalization", "x", ones, ones, "mean", ones)
    assert_refused(net.model(y), "run time")
