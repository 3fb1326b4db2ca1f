"""Sums that do not depend on the order of their terms, against the plain quantised network."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from onnx import numpy_helper

from nets import Gaussian, Net, cnn, mlp, residual, run
from onnx_snn import convert, create_session, reference, reschedule
from onnx_snn.errors import OptionError
from quantised import in_type, leaky, thirds, weighted_counts, with_outputs, with_spikes
from random_graphs import networks, samples
from simulator import play

CODINGS = {"drain": 32, "two_phase": 16, "radix": 5}
EVERY_CODING = pytest.mark.parametrize("coding", CODINGS)


def _convert(model, x, *, coding="drain", **options):
    given = {"mode": "max", "granularity": "channel", "holdout": 0, "exact_sums": True}
    return convert(model, x, coding=coding, timesteps=CODINGS[coding], **{**given, **options})


def _pooled(weights):
    """Maxima of spikes, of currents, and of all places."""
    net = Net({"x": ["N", 2, 7, 7]})
    y = net.relu(net.conv("x", weights(4, 2, 3, 3), weights(4), pads=[1, 1, 1, 1]))
    y = net.op("MaxPool", y, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    y = net.conv(y, weights(6, 4, 3, 3), weights(6), pads=[1, 1, 1, 1])
    y = net.relu(net.op("MaxPool", y, kernel_shape=[2, 2]))
    y = net.relu(net.conv_transpose(y, weights(6, 4, 2, 2), weights(8), group=2))
    y = net.op("Flatten", net.op("GlobalMaxPool", y))
    return net.model(net.gemm(y, weights(8, 3), weights(3)))


def _static(weights):
    """What is the same at every step meets spikes."""
    net = Net({"x": ["N", 4, 5]})
    y = net.relu(net.conv("x", weights(4, 4, 1), weights(4)))
    y = net.conv(y, weights(4, 1, 3), weights(4), group=4, pads=[1, 1])
    y = net.relu(net.op("Add", y, net.conv("x", weights(4, 4, 1), weights(4))))
    y = net.relu(net.op("Sub", net.conv(y, weights(6, 4, 1)), net.conv("x", weights(6, 4, 1))))
    return net.model(net.gemm(net.op("Flatten", y), weights(30, 3), weights(3)))


def _graded(weights):
    net = Net({"x": ["N", 6]})
    y = net.op("Sigmoid", net.relu(net.gemm("x", weights(6, 8), weights(8))))
    y = net.relu(net.gemm(y, weights(8, 9), weights(9)))
    return net.model(net.gemm(y, weights(9, 3), weights(3)))


def _in_a_row(weights):
    """Two linear layers without a neuron between them."""
    net = Net({"x": ["N", 7]})
    y = net.relu(net.gemm("x", weights(7, 9), weights(9)))
    y = net.relu(net.gemm(net.gemm(y, weights(9, 9)), weights(9, 9), weights(9)))
    return net.model(net.gemm(y, weights(9, 3), weights(3)))


def _averages_in_the_readout(weights):
    """Over nine places, which is exact in no binary type, but no neuron counts it."""
    net = Net({"x": ["N", 2, 5, 5]})
    y = net.relu(net.conv("x", weights(4, 2, 3, 3), weights(4)))
    y = net.relu(net.conv(y, weights(4, 4, 1, 1), weights(4)))
    y = net.op("Flatten", net.op("GlobalAveragePool", y))
    return net.model(net.gemm(y, weights(4, 3), weights(3)))


EXACT = {
    "mlp": (mlp, (7,)),
    "cnn": (cnn, (2, 8, 8)),
    "residual": (residual, (3, 6, 6)),
    "pooled": (_pooled, (2, 7, 7)),
    "static": (_static, (4, 5)),
}
INEXACT = {
    "thirds": (thirds, (2, 8, 8)),
    "leaky": (leaky, (2, 5, 5)),
    "graded": (_graded, (6,)),
    "in a row": (_in_a_row, (7,)),
}


def _gaussian(name):
    build, shape = {**EXACT, **INEXACT}[name]
    return build(Gaussian(1)), 2 * Gaussian(2)(32, *shape)


def _counts(snn, results, coding):
    _, names = with_spikes(snn)
    steps, base = CODINGS[coding], 2 if coding == "radix" else 1
    steps = 5 * steps if coding == "drain" else steps
    return {tensor: weighted_counts(results[tensor], steps, base) for tensor in names.values()}


def _run(model, feeds):
    """With onnxruntime's own optimisations, which change the order of sums."""
    session = create_session(model)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


@EVERY_CODING
@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("use_native", [True, False], ids=["native", "portable"])
def test_equals_the_quantised_network_bit_for_bit(name, coding, use_native):
    model, x = _gaussian(name)
    result = _convert(model, x, coding=coding)
    assert result.report.exact
    quantised = reference(result.model)
    tensors = with_spikes(result.model)[1].values()
    expected = _run(with_outputs(quantised, tensors), {"x": x})
    results = play(with_spikes(result.model)[0], {"x": x}, use_native=use_native)
    for tensor, counts in _counts(result.model, results, coding).items():
        assert np.unique(counts).size > 4
        np.testing.assert_array_equal(counts, expected[tensor], err_msg=tensor)
    if coding != "radix":  # whose two means end in different divisions
        np.testing.assert_array_equal(results["y"], expected["y"])


@pytest.mark.parametrize(
    ("schedule", "target"), [("loop", "any"), ("layer", "cpu"), ("loop", "cpu")]
)
@pytest.mark.parametrize("name", ["cnn", "residual", "pooled"])
def test_equals_it_in_every_form(name, schedule, target):
    model, x = _gaussian(name)
    snn = _convert(model, x).model
    moved = reschedule(snn, schedule=schedule, block=8, target=target)
    np.testing.assert_array_equal(_run(moved, {"x": x})["y"], _run(reference(snn), {"x": x})["y"])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(model=networks())
def test_random_networks_that_say_so_equal_theirs(model):
    feeds = samples(model, 12)
    result = _convert(model, feeds, granularity="auto")
    if not result.report.exact:
        return
    tensors = with_spikes(result.model)[1].values()
    expected = _run(with_outputs(reference(result.model), tensors), feeds)
    results = play(with_spikes(result.model)[0], feeds)
    if results["silent"]:
        for tensor, counts in _counts(result.model, results, "drain").items():
            np.testing.assert_array_equal(counts, expected[tensor], err_msg=tensor)


def _shuffled(snn, order):
    """The same network with the hidden neurons of an ``mlp`` in another order."""
    copy = onnx.ModelProto()
    copy.CopyFrom(snn)
    for tensor in copy.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.shape in ((7, 9), (8, 9)):
            values = values[:, order]
        elif values.shape in ((9,), (1, 9)):
            values = values[..., order]
        else:
            continue
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), tensor.name))
    return copy


def _currents(snn, x):
    """What the second layer's neurons are fed, step by step."""
    node = [node for node in snn.graph.node if node.op_type == "IFNeuron"][1]
    return play(with_outputs(snn, [node.input[0]]), {"x": x})[node.input[0]]


@pytest.mark.parametrize("exact_sums", [True, False])
def test_the_order_of_terms_does_not_matter(exact_sums):
    model, x = mlp(Gaussian(1)), 2 * Gaussian(2)(64, 7)
    snn = _convert(model, x, exact_sums=exact_sums).model
    order = np.random.default_rng(0).permutation(9)
    first, second = _currents(snn, x), _currents(_shuffled(snn, order), x)
    np.testing.assert_allclose(first, second, atol=1e-5)
    assert np.array_equal(first, second) == exact_sums


def test_weights_change_by_less_than_a_level_is_worth():
    model, x = cnn(Gaussian(1)), 2 * Gaussian(2)(64, 2, 8, 8)
    rounded, plain = (
        {
            tensor.name: numpy_helper.to_array(tensor)
            for tensor in _convert(model, x, exact_sums=exact).model.graph.initializer
        }
        for exact in (True, False)
    )
    weights = [name for name, values in plain.items() if values.ndim == 4 and values.size > 4]
    changes = {
        name: np.sqrt(np.mean((rounded[name] - plain[name]) ** 2) / np.mean(plain[name] ** 2))
        for name in weights
    }
    assert sorted(change > 0 for change in changes.values()) == [False, True]  # the image's is left
    assert max(changes.values()) < 1 / 4 / 32


@EVERY_CODING
def test_what_only_readouts_average_keeps_no_neuron_from_it(coding):
    model, x = _averages_in_the_readout(Gaussian(1)), 2 * Gaussian(2)(32, 2, 5, 5)
    result = _convert(model, x, coding=coding)
    assert result.report.exact
    tensors = with_spikes(result.model)[1].values()
    expected = _run(with_outputs(reference(result.model), tensors), {"x": x})
    results = play(with_spikes(result.model)[0], {"x": x})
    for tensor, counts in _counts(result.model, results, coding).items():
        np.testing.assert_array_equal(counts, expected[tensor])
    np.testing.assert_allclose(results["y"], expected["y"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in INEXACT),
        ("cnn", {"timesteps": 4096}),
        ("cnn", {"v_init": 0.3}),
    ],
)
def test_where_it_cannot_be_the_network_is_as_it_was(name, options):
    model, x = _gaussian(name)
    given = {"mode": "max", "holdout": 0, "coding": "drain", "timesteps": 16} | options
    plain, asked = (convert(model, x, exact_sums=exact, **given) for exact in (False, True))
    assert plain.report.exact is None
    assert asked.report.exact is False
    assert asked.model.SerializeToString() == plain.model.SerializeToString()


def test_half_precision_has_too_few_bits():
    model, x = _gaussian("cnn")
    narrow = in_type(model, np.float16)
    assert _convert(narrow, x.astype(np.float16)).report.exact is False


def test_lossless_does_it_by_itself():
    model, x = _gaussian("cnn")
    assert convert(model, x, preset="lossless", timesteps=16).report.exact
    assert convert(model, x, preset="lossless", timesteps=16, exact_sums=False).report.exact is None
    assert convert(model, x, preset="lossless", coding="rate", timesteps=16).report.exact is None


def test_coding_rate_only_tends_to_its_quantised_network():
    model, x = _gaussian("cnn")
    with pytest.raises(OptionError, match=r"exact_sums .* coding 'rate' only tend"):
        convert(model, x, exact_sums=True)


def test_the_network_is_still_near_the_original():
    model, x = _gaussian("residual")
    snn = _convert(model, x).model
    expected = run(model, {"x": x})[0]
    found = play(snn, {"x": x})["y"]
    assert np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2)) < 0.05
