"""Weights as integers of a few bits, against rounding written anew."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper

from nets import Gaussian, Net, cnn, mlp, residual, run
from onnx_snn import convert
from onnx_snn.errors import OptionError
from simulator import play

GREATEST = {8: 127, 16: 32639}
BITS = pytest.mark.parametrize("bits", GREATEST)


def _layers(weights):
    """Every kind of layer, each behind a neuron, and the axes that each sums over."""
    net = Net({"x": ["N", 4, 6, 6]})
    y = net.relu(net.conv("x", weights(4, 4, 1, 1), weights(4)))
    y = net.relu(net.conv(y, weights(6, 2, 3, 3), weights(6), group=2))
    y = net.relu(net.conv_transpose(y, weights(6, 5, 2, 2), weights(5)))
    y = net.relu(net.op("MatMul", y, net.constant(weights(5, 7))))
    y = net.relu(net.op("MatMul", net.constant(weights(3, 5)), y))
    y = net.relu(net.op("Einsum", y, net.constant(weights(7, 2)), equation="nchw,wk->nchk"))
    y = net.relu(net.gemm(net.op("Flatten", y), weights(30, 8), weights(8)))
    return net.model(net.gemm(y, weights(3, 8), weights(3), transB=1))


SUMMED = {
    (4, 4, 1, 1): None,  # the image's own: it is multiplied once
    (6, 2, 3, 3): (1, 2, 3),
    (6, 5, 2, 2): (0, 2, 3),
    (5, 7): (0,),
    (3, 5): (1,),
    (7, 2): (0,),
    (30, 8): (0,),
    (3, 8): (1,),
}


def _weights(model, x, **options):
    given = {"mode": "max", "granularity": "layer", "holdout": 0, "bias_calibration": False}
    snn = convert(model, x, timesteps=4, **{**given, **options}).model
    found = [numpy_helper.to_array(tensor) for tensor in snn.graph.initializer]
    return {values.shape: values for values in found if values.shape in SUMMED}


@BITS
def test_every_weight_is_the_nearest_integer(bits):
    model, x = _layers(Gaussian(1)), Gaussian(2)(16, 4, 6, 6)
    plain, rounded = _weights(model, x), _weights(model, x, weight_bits=bits)
    assert plain.keys() == rounded.keys() == SUMMED.keys()
    for shape, axes in SUMMED.items():
        if axes is None:
            np.testing.assert_array_equal(rounded[shape], plain[shape])
            continue
        greatest = np.abs(plain[shape]).max(axis=axes, keepdims=True).astype(np.float64)
        step = 2.0 ** np.ceil(np.log2(greatest / GREATEST[bits]))
        integers = rounded[shape] / step
        np.testing.assert_array_equal(integers, np.rint(plain[shape] / step))
        assert np.abs(integers).max() <= GREATEST[bits]
        assert np.abs(integers).max(axis=axes).min() > GREATEST[bits] // 2 - 1  # none is wasted


@BITS
def test_an_output_without_weights_stays_without(bits):
    weights = Gaussian(1)
    net = Net({"x": ["N", 7]})
    silent = weights(9, 5)
    silent[:, 2] = 0
    model = net.model(net.gemm(net.relu(net.gemm("x", weights(7, 9), weights(9))), silent))
    snn = convert(model, Gaussian(2)(16, 7), timesteps=4, weight_bits=bits, holdout=0).model
    assert np.isfinite(play(snn, {"x": Gaussian(3)(4, 7)})["y"]).all()
    (found,) = (
        values
        for values in map(numpy_helper.to_array, snn.graph.initializer)
        if values.shape == (9, 5)
    )
    assert not found[:, 2].any()
    assert found.any()


@pytest.mark.parametrize(("bits", "most"), [(16, 2e-3), (8, 0.1)])
@pytest.mark.parametrize(
    ("build", "shape"),
    [(cnn, (2, 8, 8)), (mlp, (7,)), (residual, (3, 6, 6))],
    ids=["cnn", "mlp", "residual"],
)
def test_the_network_hardly_changes(build, shape, bits, most):
    """Where spikes add up to what they stand for, only the rounding of weights is left."""
    model, x = build(Gaussian(1)), 2 * Gaussian(2)(32, *shape)
    options = {"coding": "drain", "mode": "max", "timesteps": 256, "holdout": 0}
    plain, rounded = (
        play(convert(model, x, weight_bits=b, **options).model, {"x": x})["y"] for b in (None, bits)
    )
    size = np.sqrt(np.mean(run(model, {"x": x})[0] ** 2))
    change = np.sqrt(np.mean((rounded - plain) ** 2)) / size
    assert 0 < change < most


def test_other_numbers_of_bits_are_refused():
    model, x = mlp(Gaussian(1)), Gaussian(2)(8, 7)
    for bits in (0, 4, 32, True, "16"):
        with pytest.raises(OptionError, match="weight_bits must be 8 or 16"):
            convert(model, x, weight_bits=bits)


def test_the_report_tells():
    model, x = mlp(Gaussian(1)), Gaussian(2)(8, 7)
    assert convert(model, x, weight_bits=8).report.weight_bits == 8
    assert convert(model, x).report.to_dict()["weight_bits"] is None
