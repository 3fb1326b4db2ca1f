"""The quantised network as a file, against one that is written anew in the tests, and the SNN."""

from functools import cache
from itertools import product

import numpy as np
import onnx
import pytest

from nets import Dyadic, Gaussian, Net, mlp, run
from onnx_snn import convert, reschedule
from onnx_snn.errors import ModelError, OptionError
from onnx_snn.ops import DOMAIN
from onnx_snn.reference import reference
from quantised import (
    NETS,
    dyadic_stats,
    in_type,
    quantise,
    thresholds_of,
    weighted_counts,
    with_outputs,
    with_spikes,
)
from simulator import play

NEURONS = {"rate": "if", "drain": "signed", "two_phase": "if", "radix": "if"}
EVERY_CODING = pytest.mark.parametrize("coding", NEURONS)


def _convert(model, data=None, *, coding, **options):
    given = {"mode": "max", "granularity": "layer", "v_init": 0.5, "reset": "subtract"}
    given |= {"neuron": NEURONS[coding], "coding": coding, "holdout": 0}
    given |= {"bias_calibration": False, **options}
    return convert(model, data, **given)


@cache
def _example(name):
    """A dyadic network, samples, and statistics."""
    build, shape = NETS[name]
    model = build(Dyadic(1))
    stats = dyadic_stats(model, {"x": Dyadic(3)(16, *shape, step=1 / 8)})
    return model, {"x": Dyadic(2)(3, *shape, step=1 / 8)}, stats


def _levels(coding, timesteps):
    return 2**timesteps - 1 if coding == "radix" else timesteps


def _signature(model):
    """Names, types and shapes of inputs and outputs; a batch of any size is N."""
    values = []
    for value in (*model.graph.input, *model.graph.output):
        first, *sizes = (d.dim_value or d.dim_param for d in value.type.tensor_type.shape.dim)
        values.append((value.name, value.type.tensor_type.elem_type, first, sizes))
    return values


def _counts(quantised, snn, feeds):
    """What flows in the quantised network, by the names of the neurons."""
    _, names = with_spikes(snn)
    model = with_outputs(quantised, names.values())
    results = dict(zip([o.name for o in model.graph.output], run(model, feeds), strict=True))
    return {neuron: results[tensor] for neuron, tensor in names.items()}, results


FEW = ["max_pools", "branches"]


@pytest.mark.parametrize(
    ("name", "coding"),
    [*product(NETS, ["drain", "radix"]), *product(FEW, ["rate", "two_phase"])],
)
def test_integers_flow_under_the_names_of_spikes(name, coding):
    model, feeds, stats = _example(name)
    snn = _convert(model, stats=stats, coding=coding, timesteps=7).model
    quantised = reference(snn)
    onnx.checker.check_model(quantised, full_check=True)
    assert not quantised.functions
    assert {node.domain for node in quantised.graph.node} <= {"", "ai.onnx"}
    assert [opset.domain for opset in quantised.opset_import] == [""]
    assert _signature(quantised) == _signature(model)
    expected = quantise(model, thresholds_of(snn), feeds, _levels(coding, 7))
    counts, results = _counts(quantised, snn, feeds)
    assert counts.keys() == expected.counts.keys()
    for neuron, values in counts.items():
        np.testing.assert_array_equal(values, expected.counts[neuron], err_msg=neuron)
    np.testing.assert_allclose(results["y"], expected.outputs["y"], rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("coding", ["drain", "two_phase", "radix"])
@pytest.mark.parametrize("name", FEW)
def test_the_spiking_network_counts_towards_it(name, coding):
    model, feeds, stats = _example(name)
    snn = _convert(model, stats=stats, coding=coding, timesteps=5).model
    counts, results = _counts(reference(snn), snn, feeds)
    extended, names = with_spikes(snn)
    played = play(extended, feeds)
    steps = 25 if coding == "drain" else 5
    for neuron, tensor in names.items():
        weighted = weighted_counts(played[tensor], steps, 2 if coding == "radix" else 1)
        np.testing.assert_array_equal(weighted, counts[neuron], err_msg=neuron)
    np.testing.assert_allclose(played["y"], results["y"], rtol=2e-6, atol=2e-6)


@EVERY_CODING
def test_from_any_schedule(coding):
    model, feeds, stats = _example("branches")
    snn = _convert(model, stats=stats, coding=coding, timesteps=5).model
    (expected,) = run(reference(snn), feeds)
    forms = [("step", "mean"), ("step", "running")]
    if coding in ("rate", "drain"):
        forms.append(("loop", "running"))
    for schedule, readout in forms:
        quantised = reference(reschedule(snn, schedule=schedule, readout=readout, block=2))
        assert _signature(quantised) == _signature(model)
        np.testing.assert_array_equal(run(quantised, feeds)[0], expected)


@pytest.mark.parametrize("coding", ["rate", "two_phase", "radix"])
def test_for_another_number_of_steps(coding):
    model, feeds, stats = _example("branches")
    snn = _convert(model, stats=stats, coding=coding, timesteps=8).model
    for timesteps in (1, 4, 6):
        expected = quantise(model, thresholds_of(snn), feeds, _levels(coding, timesteps))
        (actual,) = run(reference(snn, timesteps), feeds)
        np.testing.assert_allclose(actual, expected.outputs["y"], rtol=2e-6, atol=2e-6)


def test_a_drained_network_is_of_the_steps_of_its_input():
    model, feeds, stats = _example("mlp")
    snn = _convert(model, stats=stats, coding="drain", timesteps=6, drain_steps=50).model
    expected = quantise(model, thresholds_of(snn), feeds, 6).outputs["y"]
    np.testing.assert_allclose(run(reference(snn), feeds)[0], expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("name", ["mlp", "branches"])
@pytest.mark.parametrize("neuron", ["if", "signed", "burst(3)"])
def test_rates_tend_to_it(name, neuron):
    """A neuron tells 3·T levels apart where it fires up to 3 times a step."""
    build, shape = NETS[name]
    model = build(Gaussian(1))
    feeds = {"x": Gaussian(2)(6, *shape)}
    most = int(neuron[6:-1]) if "burst" in neuron else 1
    options = {"coding": "rate", "neuron": neuron, "mode": 1 / 4 if most > 1 else "max"}
    snn = _convert(model, feeds, timesteps=128, **options).model
    limits = {key: most * value for key, value in thresholds_of(snn).items()}
    expected = quantise(model, limits, feeds, 128 * most)
    counts, results = _counts(reference(snn), snn, feeds)
    assert max(values.max() for values in counts.values()) > 100 * most
    for key, values in counts.items():
        # Sums in float32 may meet a half that those in float64 miss.
        assert (values == expected.counts[key]).mean() > 0.99
    np.testing.assert_allclose(results["y"], expected.outputs["y"], atol=1e-2)
    np.testing.assert_allclose(play(snn, feeds)["y"], results["y"], atol=5e-2)


def _graded():
    weights = Gaussian(3)
    net = Net({"x": ["N", 2, 5, 5]})
    s = net.relu(net.conv("x", weights(4, 2, 3, 3), weights(4)))
    gate = net.op("Sigmoid", net.op("GlobalAveragePool", s))
    y = net.relu(net.conv(net.op("Mul", s, gate), weights(4, 4, 2, 2), weights(4)))
    y = net.op("Softmax", net.gemm(net.op("Flatten", y), weights(16, 6), weights(6)))
    y = net.relu(net.gemm(y, weights(6, 5), weights(5)))
    return net.model(net.gemm(y, weights(5, 3), weights(3)))


@EVERY_CODING
def test_functions_are_of_the_quantised_values(coding):
    model = _graded()
    x = 2 * Gaussian(5)(12, 2, 5, 5)
    snn = _convert(model, {"x": x}, coding=coding, timesteps=6).model
    expected = quantise(model, thresholds_of(snn), {"x": x}, _levels(coding, 6))
    counts, results = _counts(reference(snn), snn, {"x": x})
    for neuron, values in counts.items():
        assert (values == expected.counts[neuron]).mean() > 0.99
    differing = np.abs(results["y"] - expected.outputs["y"]) > 1e-4
    assert differing.any(axis=1).mean() < 0.2


@pytest.mark.parametrize("coding", ["rate", "two_phase"])
@pytest.mark.parametrize("name", ["mlp", "branches"])
def test_a_sequence_is_its_mean(name, coding):
    model, _, stats = _example(name)
    frames = Dyadic(4)(8, 3, *NETS[name][1], step=1 / 8)
    options = {"coding": coding, "input_coding": "sequence", "timesteps": 8}
    snn = _convert(model, stats=stats, **options).model
    quantised = reference(snn)
    assert _signature(quantised) == _signature(model)
    feeds = {"x": frames.mean(axis=0)}
    expected = quantise(model, thresholds_of(snn), feeds, 8).outputs["y"]
    np.testing.assert_allclose(run(quantised, feeds)[0], expected, rtol=2e-6, atol=2e-6)
    if coding == "two_phase":
        played = play(snn, {"x": frames})
        np.testing.assert_allclose(played["y"], expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_of_the_type_of_the_network(dtype):
    model, feeds, stats = _example("mlp")
    typed = in_type(model, dtype)
    snn = _convert(typed, stats=stats, coding="drain", timesteps=4).model
    quantised = reference(snn)
    onnx.checker.check_model(quantised, full_check=True)
    (actual,) = run(quantised, {"x": feeds["x"].astype(dtype)})
    assert actual.dtype == dtype
    expected = quantise(model, thresholds_of(snn), feeds, 4).outputs["y"]
    np.testing.assert_allclose(actual, expected, atol=1e-2)


def test_nothing_is_left_of_the_operator_set_nor_of_silence():
    model, _, stats = _example("max_pools")
    snn = _convert(model, stats=stats, coding="drain", timesteps=4, schedule="loop").model
    quantised = reference(snn)
    assert not any(node.domain == DOMAIN for node in quantised.graph.node)
    assert "Loop" not in {node.op_type for node in quantised.graph.node}
    assert [output.name for output in quantised.graph.output] == ["y"]


def test_refusals():
    model, _, stats = _example("mlp")
    with pytest.raises(ModelError, match="convert it first"):
        reference(mlp(Dyadic()))
    snn = _convert(model, stats=stats, coding="rate", timesteps=4).model
    for timesteps in (0, -1, 1.5, True):
        with pytest.raises(OptionError, match="timesteps"):
            reference(snn, timesteps)
