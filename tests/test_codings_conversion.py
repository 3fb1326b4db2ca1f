"""What the codings promise: the integers of a quantised ANN that is written anew in the tests."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from hypothesis import HealthCheck, given, settings
from onnx import TensorProto, helper

import onnx_snn
from nets import Dyadic, Gaussian, Net, cnn, mlp, residual, run
from onnx_snn import Stream, convert, create_session, reschedule
from onnx_snn.errors import OptionError
from onnx_snn.load import load_graph
from onnx_snn.passes.rewrite_activations import rewrite_activations
from onnx_snn.schedule import CLOCK, ScheduleRecord
from quantised import (
    MORE_NETS,
    NETS,
    dyadic_stats,
    evaluate_in_numpy,
    exposed,
    in_type,
    quantise,
    thresholds_of,
    weighted_counts,
    with_outputs,
    with_spikes,
)
from random_graphs import networks, samples
from simulator import play

NEURONS = {"rate": "if", "drain": "signed", "two_phase": "if", "radix": "if"}
EXACT = ["drain", "two_phase", "radix"]
EVERY_CODING = pytest.mark.parametrize("coding", EXACT)
EVERY_NET = pytest.mark.parametrize("name", NETS)
NATIVE = pytest.mark.parametrize("use_native", [True, False], ids=["native", "portable"])


def _convert(model, data=None, *, coding, **options):
    """Nothing is left to defaults."""
    given = {"mode": "max", "granularity": "layer", "v_init": 0.5, "reset": "subtract"}
    given |= {"neuron": NEURONS[coding], "coding": coding, "holdout": 0, **options}
    return convert(model, data, **given)


def _levels(coding, timesteps):
    return 2**timesteps - 1 if coding == "radix" else timesteps


def _base(coding):
    return 2 if coding == "radix" else 1


@cache
class Example:
    """A dyadic network with its activations as outputs, samples and statistics."""

    def __init__(self, name, granularity="layer"):
        build, shape = NETS[name]
        self.model = exposed(build(Dyadic(1)))
        self.feeds = {"x": Dyadic(2)(3, *shape, step=1 / 8)}
        probe = {"x": Dyadic(3)(16, *shape, step=1 / 8)}
        self.granularity = granularity
        self.stats = dyadic_stats(self.model, probe, granularity=granularity)

    @cache  # noqa: B019  # the examples live as long as the module
    def convert(self, coding, timesteps, **options):
        given = {"stats": self.stats, "granularity": self.granularity, **options}
        return _convert(self.model, coding=coding, timesteps=timesteps, **given).model

    def expected(self, coding, timesteps, **options):
        limits = thresholds_of(self.convert("rate", 1))
        return quantise(self.model, limits, self.feeds, _levels(coding, timesteps), **options)


def _assert_near(actual, expected):
    """A spike more or less would be an error a thousand times as great."""
    for name, values in expected.items():
        np.testing.assert_allclose(actual[name], values, rtol=2e-6, atol=2e-6, err_msg=name)


def _assert_counts(snn, results, expected, coding, timesteps):
    _, names = with_spikes(snn)
    assert names.keys() == expected.keys()
    for neuron, tensor in names.items():
        counts = weighted_counts(results[tensor], timesteps, _base(coding))
        np.testing.assert_array_equal(counts, expected[neuron], err_msg=neuron)


@EVERY_NET
@pytest.mark.parametrize(
    ("timesteps", "use_native"), [(1, True), (4, True), (7, False), (16, True)]
)
def test_drained_counts_are_the_integers_of_the_quantised_network(name, timesteps, use_native):
    example = Example(name)
    snn = example.convert("drain", timesteps)
    results = play(with_spikes(snn)[0], example.feeds, use_native=use_native)
    expected = example.expected("drain", timesteps)
    assert results["silent"]
    _assert_counts(snn, results, expected.counts, "drain", 5 * timesteps)
    _assert_near(results, expected.outputs)


@NATIVE
@EVERY_NET
@pytest.mark.parametrize("coding", ["two_phase", "radix"])
def test_windows_carry_the_integers_of_the_quantised_network(name, coding, use_native):
    example = Example(name)
    snn = example.convert(coding, 5)
    session = create_session(with_spikes(snn)[0], use_native=use_native)
    names = [output.name for output in session.get_outputs()]
    for timesteps in range(1, 9) if use_native else (1, 5):
        feeds = {**example.feeds, "T": np.array(timesteps)}
        results = dict(zip(names, session.run(None, feeds), strict=True))
        expected = example.expected(coding, timesteps)
        _assert_counts(snn, results, expected.counts, coding, timesteps)
        _assert_near(results, expected.outputs)


def test_the_quantised_networks_are_no_triviality():
    for name in NETS:
        counts = Example(name).expected("drain", 7).counts
        values = np.concatenate([c.ravel() for c in counts.values()])
        assert np.unique(values).size > 4, name
        assert values.min() == 0
        assert values.max() == 7
        # And quantisation is seen in the outputs.
        outputs = Example(name).expected("drain", 7).outputs["y"]
        (exact, *_) = run(Example(name).model, Example(name).feeds)
        assert np.abs(outputs - exact).max() > 1e-3


@EVERY_CODING
@pytest.mark.parametrize("name", ["cnn", "branches"])
def test_one_threshold_for_each_channel(name, coding):
    example = Example(name, "channel")
    snn = example.convert(coding, 5)
    assert any(values.size > 1 for values in thresholds_of(snn).values())
    results = play(with_spikes(snn)[0], example.feeds)
    expected = example.expected(coding, 5)
    _assert_counts(snn, results, expected.counts, coding, 25 if coding == "drain" else 5)
    _assert_near(results, expected.outputs)


@EVERY_CODING
@pytest.mark.parametrize("v_init", [0.0, 0.75])
def test_another_start_rounds_elsewhere(coding, v_init):
    example = Example("cnn")
    snn = example.convert(coding, 4, v_init=v_init)
    results = play(with_spikes(snn)[0], example.feeds)
    expected = example.expected(coding, 4, v_init=v_init)
    usual = example.expected(coding, 4).counts
    assert any(np.any(counts != usual[name]) for name, counts in expected.counts.items())
    _assert_counts(snn, results, expected.counts, coding, 20 if coding == "drain" else 4)


@EVERY_CODING
@pytest.mark.parametrize("name", MORE_NETS)
def test_no_mismatch_in_float64(name, coding):
    """With weights as training leaves them, no sum is exact, but no tie is met either."""
    build, shape = MORE_NETS[name]
    model = build(Gaussian(1))
    x = 4 * Gaussian(2)(24, *shape)
    stats = _convert(model, {"x": x}, coding=coding, timesteps=1).stats
    wide = in_type(model, np.float64)
    snn = _convert(wide, stats=stats, coding=coding, mode="1/2", timesteps=6).model
    feeds = {"x": x[:4].astype(np.float64)}
    results = evaluate_in_numpy(with_spikes(snn)[0], feeds)
    expected = quantise(wide, thresholds_of(snn), feeds, _levels(coding, 6))
    _assert_counts(snn, results, expected.counts, coding, 30 if coding == "drain" else 6)
    np.testing.assert_allclose(results["y"], expected.outputs["y"], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["residual", "max_pools", "capped", "branches"])
def test_drain_on_every_schedule(name):
    example = Example(name)
    expected = example.expected("drain", 7).outputs
    moved = example.convert("drain", 7)
    for schedule, block in [("loop", 1), ("loop", 3), ("step", 4), ("layer", 1)]:
        moved = reschedule(moved, schedule=schedule, block=block)
        onnx.checker.check_model(moved)
        for use_native in (True, False) if block == 3 else (True,):
            results = play(moved, example.feeds, use_native=use_native)
            assert results["silent"]
            _assert_near(results, expected)


@NATIVE
@pytest.mark.parametrize("name", ["max_pools"])
def test_a_stream_may_end_once_it_is_silent(name, use_native):
    example = Example(name)
    stream = Stream(example.convert("drain", 4), use_native=use_native)
    silent = []
    while not (silent and silent[-1]):
        results = stream.run(example.feeds, timesteps=1)
        silent.append(bool(results["silent"]))
    assert len(silent) > 4
    assert len(silent) < 20
    _assert_near(results, example.expected("drain", 4).outputs)


@pytest.mark.parametrize("coding", ["two_phase", "radix"])
@pytest.mark.parametrize("name", ["max_pools", "branches"])
def test_a_stream_runs_one_window_at_a_time(name, coding):
    example = Example(name)
    stream = Stream(example.convert(coding, 5))
    first = stream.run(example.feeds)
    _assert_near(first, example.expected(coding, 5).outputs)
    for timesteps in (3, 5):  # nothing is left of the window before
        results = stream.run(example.feeds, timesteps=timesteps)
        _assert_near(results, example.expected(coding, timesteps).outputs)
    assert stream.timesteps == 13
    assert stream.state == {}


@pytest.mark.parametrize("coding", ["two_phase", "radix"])
def test_a_loop_cannot_cut_windows(coding):
    with pytest.raises(OptionError, match="schedule 'loop' cuts the 5 steps"):
        Example("mlp").convert(coding, 5, schedule="loop")
    with pytest.raises(OptionError, match="schedule 'loop' cuts the 5 steps"):
        reschedule(Example("mlp").convert(coding, 5), schedule="loop")


@pytest.mark.parametrize("name", ["max_pools", "leaky"])
@pytest.mark.parametrize(
    ("coding", "neuron", "alphabet"),
    [
        ("rate", "if", {0, 1}),
        ("two_phase", "if", {0, 1}),
        ("radix", "if", {0, 1}),
        ("rate", "signed", {-1, 0, 1}),
        ("drain", "signed", {-1, 0, 1}),
        ("rate", "burst(3)", {0, 1, 2, 3}),
    ],
)
def test_spikes_stay_in_their_alphabet(name, coding, neuron, alphabet):
    build, shape = NETS[name]
    x = 4 * Gaussian(2)(8, *shape)
    options = {"neuron": neuron, "mode": "1/4" if "burst" in neuron else "max", "timesteps": 8}
    snn = _convert(build(Gaussian(4)), {"x": x}, coding=coding, **options).model
    model, names = with_spikes(snn)
    results = play(model, {"x": x})
    found = {float(value) for tensor in names.values() for value in np.unique(results[tensor])}
    assert found == alphabet


@pytest.mark.parametrize(
    ("coding", "neuron", "alphabet"),
    [
        ("rate", "if", {0, 1}),
        ("two_phase", "if", {0, 1}),
        ("radix", "if", {0, 1}),
        ("drain", "signed", {-1, 0, 1}),
    ],
)
def test_maxima_of_spikes_are_spikes(coding, neuron, alphabet):
    """What a maximum hands on is in the alphabet again: the layer behind gets spikes."""
    weights = Gaussian(7)
    net = Net({"x": ["N", 2, 7, 7]})
    y = net.relu(net.conv("x", weights(4, 2, 3, 3), weights(4)))
    y = net.relu(net.conv(y, weights(4, 4, 1, 1), weights(4)))
    y = net.op("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
    y = net.relu(net.conv(y, weights(6, 4, 1, 1), weights(6)))
    y = net.op("Flatten", net.op("GlobalMaxPool", y))
    model = net.model(net.relu(net.gemm(y, weights(6, 3), weights(3))))
    x = 2 * Gaussian(2)(16, 2, 7, 7)
    snn = _convert(model, {"x": x}, coding=coding, neuron=neuron, timesteps=8).model
    maxima = [c.output for c in ScheduleRecord.of(snn).crossings if c.op == "Difference"]
    assert len(maxima) == 2
    for use_native in (True, False):
        results = play(with_outputs(snn, maxima), {"x": x}, use_native=use_native)
        for name in maxima:
            assert set(np.unique(results[name]).tolist()) == alphabet, name


class TestSilence:
    def test_after_it_nothing_changes(self):
        example = Example("residual")
        stream = Stream(example.convert("drain", 7))
        for _ in range(35):
            results = stream.run(example.feeds, timesteps=1)
            if results["silent"]:
                break
        before = stream.state
        for steps in (1, 30):
            again = stream.run(example.feeds, timesteps=steps)
            assert again["silent"]
            for name, values in results.items():
                np.testing.assert_array_equal(again[name], values)
            for name, values in stream.state.items():
                if name != CLOCK:
                    np.testing.assert_array_equal(values, before[name])

    @pytest.mark.parametrize("schedule", ["layer", "loop", "step"])
    def test_too_short_a_run_says_so(self, schedule):
        example = Example("residual")
        snn = example.convert("drain", 7, drain_steps=1, schedule=schedule)
        assert ScheduleRecord.of(snn).timesteps == 8
        short = play(snn, example.feeds)
        assert not short["silent"]
        expected = example.expected("drain", 7).outputs
        assert any(
            np.abs(values - expected[name]).max() > 1e-2
            for name, values in short.items()
            if name in expected
        )
        enough = play(snn, example.feeds, 40)
        assert enough["silent"]
        _assert_near(enough, expected)

    @pytest.mark.parametrize("schedule", ["layer", "loop", "step"])
    def test_is_not_told_before_the_input_ends(self, schedule):
        """A network may pause while its input is on."""
        weights = np.full((1, 1), 0.25, np.float32)
        net = Net({"x": ["N", 1]})
        model = net.model(net.gemm(net.relu(net.gemm("x", weights)), weights))
        x = np.ones((1, 1), np.float32)
        stats = _convert(model, x * 4, coding="drain", timesteps=1).stats
        options = {"coding": "drain", "timesteps": 8, "schedule": schedule}
        snn = _convert(model, stats=stats, **options).model
        told = [bool(play(snn, {"x": x}, steps)["silent"]) for steps in range(1, 12)]
        assert told == [False] * 8 + [True] * 3

    def test_without_input_nothing_fires(self):
        """No image and no bias: silent as soon as that may be told."""
        net = Net({"x": ["N", 7]})
        weights = Dyadic(1)
        model = net.model(net.gemm(net.relu(net.gemm("x", weights(7, 9))), weights(9, 3)))
        x = np.zeros((2, 7), np.float32)
        stats = _convert(model, x + 1, coding="drain", timesteps=1).stats
        snn = _convert(model, stats=stats, coding="drain", timesteps=3).model
        extended, names = with_spikes(snn)
        results = play(extended, {"x": x}, 4)
        assert results["silent"]
        assert not any(results[name].any() for name in names.values())

    @pytest.mark.parametrize("block", [1, 3])
    def test_a_loop_ends_there(self, block):
        example = Example("residual")
        snn = example.convert("drain", 4, schedule="loop", block=block)
        counted = onnx.ModelProto()
        counted.CopyFrom(snn)
        loop = next(node for node in counted.graph.node if node.op_type == "Loop")
        body = loop.attribute[0].g
        body.node.append(helper.make_node("Identity", [body.input[0].name], ["trip"]))
        body.output.append(helper.make_tensor_value_info("trip", TensorProto.INT64, []))
        loop.output.append("trips")
        trips = helper.make_tensor_value_info("trips", TensorProto.INT64, [None])
        counted.graph.output.append(trips)
        results = play(counted, example.feeds, 1_000_000)
        assert results["silent"]
        assert 4 < block * len(results["trips"]) < 20
        _assert_near(results, example.expected("drain", 4).outputs)

    @pytest.mark.parametrize("block", [1, 3])
    def test_a_loop_does_not_end_where_every_step_is_wanted(self, block):
        example = Example("mlp")
        snn = example.convert("drain", 4, schedule="loop", block=block, readout="running")
        results = play(snn, example.feeds, 25)
        assert results["silent"]
        assert results["y"].shape == (25, 3, 3)
        expected = example.expected("drain", 4).outputs
        _assert_near({name: results[name][-1] for name in expected}, expected)

    def test_silence_is_an_output_beside_one_of_that_name(self):
        net = Net({"x": ["N", 7]})
        weights = Dyadic(1)
        y = net.gemm(net.relu(net.gemm("x", weights(7, 9))), weights(9, 3))
        model = net.model({"silent": y})
        x = Dyadic(2)(4, 7)
        snn = _convert(model, x, coding="drain", timesteps=3).model
        record = ScheduleRecord.of(snn)
        assert record.silent not in ("", "silent")
        results = play(snn, {"x": x})
        assert results["silent"].shape == (4, 3)
        assert results[record.silent].shape == ()
        assert results[record.silent]


def _graded(weights):
    """Functions that no neuron computes, of neurons, with neurons behind them."""
    net = Net({"x": ["N", 2, 5, 5]})
    s = net.relu(net.conv("x", weights(4, 2, 3, 3), weights(4)))
    gate = net.op("Sigmoid", net.op("GlobalAveragePool", s))
    y = net.relu(net.conv(net.op("Mul", s, gate), weights(4, 4, 2, 2), weights(4)))
    y = net.op("Flatten", net.op("Mul", y, net.op("Tanh", y)))
    attention = net.op("Softmax", net.gemm(y, weights(16, 6), weights(6)))
    y = net.relu(net.gemm(attention, weights(6, 5), weights(5)))
    return net.model({"y": net.gemm(y, weights(5, 3), weights(3)), "attention": attention})


class TestGraded:
    @staticmethod
    def _run(coding, timesteps, x, mode="1/2"):
        model = _graded(Gaussian(3))
        stats = _convert(model, {"x": x}, coding=coding, timesteps=1).stats
        wide = in_type(model, np.float64)
        options = {"coding": coding, "mode": mode, "timesteps": timesteps}
        snn = _convert(wide, stats=stats, **options).model
        feeds = {"x": x.astype(np.float64)}
        results = evaluate_in_numpy(with_spikes(snn)[0], feeds)
        return snn, results, quantise(wide, thresholds_of(snn), feeds, _levels(coding, timesteps))

    @EVERY_CODING
    def test_are_of_the_quantised_values(self, coding):
        snn, results, expected = self._run(coding, 6, 2 * Gaussian(5)(12, 2, 5, 5))
        _assert_counts(snn, results, expected.counts, coding, 30 if coding == "drain" else 6)
        for name, values in expected.outputs.items():
            np.testing.assert_allclose(results[name], values, rtol=1e-9, atol=1e-9)

    @EVERY_CODING
    def test_tend_to_the_network(self, coding):
        x = 2 * Gaussian(5)(12, 2, 5, 5)
        expected = run(_graded(Gaussian(3)), {"x": x})[0]
        few, many = (3, 8) if coding == "radix" else (4, 64)
        errors = [
            np.abs(self._run(coding, timesteps, x, "max")[1]["y"] - expected).mean()
            for timesteps in (few, many)
        ]
        assert errors[1] < errors[0] / 5

    @EVERY_CODING
    def test_in_float32_in_onnxruntime(self, coding):
        x = 2 * Gaussian(5)(12, 2, 5, 5)
        snn = _convert(_graded(Gaussian(3)), {"x": x}, coding=coding, timesteps=6).model
        _, expected, _ = self._run(coding, 6, x, "max")
        forms = [("layer", 1, True), ("layer", 1, False), ("step", 30, True)]
        if coding == "drain":
            forms.append(("loop", 4, True))
        for schedule, block, use_native in forms:
            moved = reschedule(snn, schedule=schedule, block=block)
            results = play(moved, {"x": x}, use_native=use_native)
            for name in ("y", "attention"):
                # A tie may be rounded another way, in one of a thousand neurons.
                differing = np.abs(results[name] - expected[name]) > 1e-4
                assert differing.any(axis=1).mean() < 0.2


@pytest.mark.parametrize(
    ("coding", "options"),
    [
        ("drain", {"schedule": "loop", "block": 3}),
        ("drain", {"schedule": "step", "block": 5}),
        ("two_phase", {"schedule": "step", "block": 6}),
        ("radix", {"schedule": "step", "block": 6}),
        ("rate", {"schedule": "loop", "neuron": "signed"}),
        ("rate", {"schedule": "loop", "neuron": "burst(2)"}),
    ],
)
@pytest.mark.parametrize("name", ["max_pools", "branches"])
def test_reschedule_there_and_back(name, coding, options):
    example = Example(name)
    neuron = {key: value for key, value in options.items() if key == "neuron"}
    original = example.convert(coding, 6, **neuron)
    there = reschedule(original, **{k: v for k, v in options.items() if k != "neuron"})
    forward = reschedule(there, readout="running", block=7)
    back = reschedule(forward, schedule="layer", readout="mean", block=1)
    expected = play(original, example.feeds)
    assert _without_order(ScheduleRecord.of(back)) == _without_order(ScheduleRecord.of(original))
    assert len(back.graph.node) == len(original.graph.node)
    for model in (there, back):
        results = play(model, example.feeds)
        for output, values in expected.items():
            np.testing.assert_array_equal(results[output], values, err_msg=output)
    running = play(forward, example.feeds)
    whole = play(reschedule(original, readout="running"), example.feeds)
    for output, values in expected.items():
        np.testing.assert_array_equal(running[output], whole[output], err_msg=output)
        if output != "silent":
            np.testing.assert_array_equal(running[output][-1], values, err_msg=output)


def _without_order(record):
    crossings = sorted(record.crossings, key=lambda crossing: crossing.output)
    return replace(record, readouts=sorted(record.readouts), crossings=crossings)


@EVERY_CODING
@pytest.mark.parametrize("name", ["cnn", "max_pools"])
def test_float16(name, coding):
    """Half the bits: the same integers but where a sum is rounded."""
    example = Example(name)
    model = in_type(example.model, np.float16)
    snn = _convert(model, stats=example.stats, coding=coding, timesteps=4).model
    feeds = {"x": example.feeds["x"].astype(np.float16)}
    expected = example.expected(coding, 4)
    extended, names = with_spikes(snn)
    results = play(extended, feeds)
    for neuron, tensor in names.items():
        assert results[tensor].dtype == np.float16
        steps = 20 if coding == "drain" else 4
        counts = weighted_counts(results[tensor], steps, _base(coding))
        assert (counts == expected.counts[neuron]).mean() > 0.95
    np.testing.assert_allclose(results["y"], expected.outputs["y"], atol=0.05)
    stream = Stream(snn)
    for steps in (1, 19) if coding == "drain" else (4,):
        streamed = stream.run(feeds, timesteps=steps)
    np.testing.assert_allclose(streamed["y"], results["y"], atol=0.05)


class TestEvaluate:
    @staticmethod
    def _example(coding, timesteps=5, **options):
        model = mlp(Gaussian(3))
        x = np.random.default_rng(0).normal(0, 1, (40, 7)).astype(np.float32)
        return model, x, _convert(model, x, coding=coding, timesteps=timesteps, **options).model

    @EVERY_CODING
    def test_ends_with_the_quantised_network(self, coding):
        model, x, snn = self._example(coding)
        result = onnx_snn.evaluate(snn, x, reference=model)
        limits = thresholds_of(snn)
        expected = quantise(model, limits, {"x": x}, _levels(coding, 5)).outputs["y"]
        (exact,) = run(model, {"x": x})
        assert result.timesteps == (25 if coding == "drain" else 5)
        assert len(result.agreement) == result.timesteps
        same = (expected.argmax(axis=1) == exact.argmax(axis=1)).mean()
        assert result.agreement[-1] == pytest.approx(same, abs=1e-9)
        error = np.sqrt(((expected - exact) ** 2).sum() / (exact**2).sum())
        assert result.output_error[-1] == pytest.approx(error, rel=1e-3)
        assert result.silent == (True if coding == "drain" else None)

    def test_tells_where_a_network_was_not_silent(self):
        model, x, snn = self._example("drain")
        assert onnx_snn.evaluate(snn, x, reference=model, timesteps=5).silent is False
        assert onnx_snn.evaluate(snn, x, reference=model, timesteps=40).silent is True

    def test_one_batch_that_is_not_silent_is_enough(self):
        model, x, snn = self._example("drain")
        quiet = np.zeros_like(x)
        for data in (np.concatenate([x, quiet]), np.concatenate([quiet, x])):
            assert onnx_snn.evaluate(snn, data, reference=model, timesteps=6).silent is False

    @pytest.mark.parametrize(
        ("coding", "neuron"),
        [("drain", "signed"), ("rate", "signed"), ("rate", "burst(2)"), ("radix", "if")],
    )
    def test_firing_rates_count_what_is_taken_back(self, coding, neuron):
        model, x, snn = self._example(coding, neuron=neuron, mode="1/2")
        extended, names = with_spikes(snn)
        results = play(extended, {"x": x})
        rates = onnx_snn.evaluate(snn, x, reference=model).firing_rates
        assert rates.keys() == names.keys()
        spikes = np.concatenate([results[tensor].ravel() for tensor in names.values()])
        assert (neuron == "signed") == bool((spikes < 0).any())
        for name, tensor in names.items():
            assert rates[name] == pytest.approx(np.abs(results[tensor]).mean(), rel=1e-5)


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"neuron": "burst(0)"}, "m >= 1"),
            ({"neuron": "signed", "reset": "zero"}, "need reset='subtract'"),
            ({"coding": "radix", "neuron": "signed"}, "spikes 0 and 1 only"),
            ({"coding": "two_phase", "neuron": "burst(2)"}, "spikes 0 and 1 only"),
            ({"coding": "radix", "reset": "zero"}, "needs reset='subtract'"),
            ({"coding": "radix", "schedule": "loop"}, "schedule 'loop' cuts"),
            ({"coding": "drain"}, "needs neuron='signed'"),
            (
                {"coding": "drain", "neuron": "signed", "input_coding": "sequence"},
                "shows a constant image",
            ),
            ({"coding": "radix", "input_coding": "sequence"}, "shows a constant image"),
            ({"drain_steps": 4}, "belongs to coding 'drain'"),
            ({"coding": "drain", "neuron": "signed", "drain_steps": 0}, "drain_steps"),
            ({"coding": "spikes"}, "coding"),
            ({"readout_weights": "late"}, "readout_weights must be one of"),
            ({"readout_weights": "ramp", "coding": "radix"}, "coding 'radix'"),
            (
                {"readout_weights": "ramp", "input_coding": "sequence"},
                "input_coding 'sequence'",
            ),
        ],
    )
    def test_options_that_contradict_each_other(self, options, message):
        options = {"neuron": "if", "coding": "rate", "timesteps": 5, **options}
        with pytest.raises(OptionError, match=message):
            convert(mlp(Dyadic()), Dyadic()(8, 7), mode="max", **options)


def test_sequences_in_two_phases():
    """Frames that differ count by their mean."""
    model = exposed(cnn(Dyadic(1)))
    frames = Dyadic(5)(8, 3, 2, 8, 8, step=1 / 8)
    stats = dyadic_stats(model, {"x": frames.reshape(-1, 2, 8, 8)})
    options = {"coding": "two_phase", "input_coding": "sequence", "timesteps": 8}
    snn = _convert(model, stats=stats, **options).model
    results = play(snn, {"x": frames})
    expected = quantise(model, thresholds_of(snn), {"x": frames.mean(axis=0)}, 8)
    _assert_near(results, expected.outputs)
    _assert_near(Stream(snn).run(frames), expected.outputs)


@given(networks(dyadic=True))
@settings(
    deadline=None, max_examples=6, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
def test_networks_of_any_shape(model):
    """Drained counts are the integers of the quantised network; T = 8 keeps all of it exact."""
    feeds = samples(model, 3, dyadic=True)
    options = {"coding": "drain", "timesteps": 8, "drain_steps": 72}
    snn = _convert(model, stats=dyadic_stats(model, feeds), **options).model
    extended, names = with_spikes(snn)
    results = play(extended, feeds)
    expected = _quantised_in_onnxruntime(model, thresholds_of(snn), feeds, 8)
    assert results["silent"]
    for neuron, tensor in names.items():
        counts = weighted_counts(results[tensor], 80, 1)
        np.testing.assert_array_equal(counts, expected[neuron], err_msg=neuron)
    for output in model.graph.output:
        np.testing.assert_array_equal(results[output.name], expected[output.name])


def _quantised_in_onnxruntime(model, thresholds, feeds, levels):
    """Like ``quantise``, with standard nodes, for operators that onnx's evaluator does not have."""
    graph = load_graph(model)
    rewrite_activations(graph)  # to Relu and Clip; that this changes nothing is tested elsewhere
    rewritten = gs.export_onnx(graph)
    copy = onnx.ModelProto()
    copy.CopyFrom(rewritten)
    del copy.graph.node[:]
    numbers = {"half": 0.5, "zero": 0, "levels": levels}
    for node in rewritten.graph.node:
        if node.op_type not in ("Relu", "Clip"):
            copy.graph.node.append(node)
            continue
        numbers[f"{node.name}/q"] = thresholds[node.name] / levels
        current = node.input[0]
        steps = [("Div", f"{node.name}/q"), ("Add", "half"), ("Floor",), ("Clip", "zero", "levels")]
        for op, *others in steps:
            result = f"{node.name}/quantised/{op}"
            copy.graph.node.append(helper.make_node(op, [current, *others], [result]))
            current = result
        copy.graph.node.append(helper.make_node("Mul", [current, f"{node.name}/q"], node.output))
        copy.graph.output.append(helper.make_tensor_value_info(current, TensorProto.FLOAT, None))
    for name, value in numbers.items():
        copy.graph.initializer.append(
            onnx.numpy_helper.from_array(np.asarray(value, np.float32), name)
        )
    names = [output.name.removesuffix("/quantised/Clip") for output in copy.graph.output]
    return dict(zip(names, run(copy, feeds), strict=True))


def test_the_residual_network_takes_spikes_back():
    """Signed spikes are needed: without them the counts would stay above those expected."""
    model = residual(Gaussian(1))
    x = 4 * Gaussian(2)(8, 3, 6, 6)
    options = {"coding": "drain", "mode": "1/2", "timesteps": 8}
    extended, names = with_spikes(_convert(model, x, **options).model)
    results = play(extended, {"x": x})
    assert sum((results[tensor] < 0).sum() for tensor in names.values()) > 10
