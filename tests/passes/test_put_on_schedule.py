"""All schedules, native and portable, against a simulation that knows nothing of the package."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nets import Dyadic, Net, cnn, mlp, residual
from onnx_snn import convert, reschedule
from onnx_snn.schedule import ScheduleRecord
from simulator import dyadic_thresholds, expose, play, relus, simulate, stats_of
from strategies import networks

# T is 20 in most tests; 7 does not divide it.
SCHEDULES = [("layer", 1), ("loop", 1), ("loop", 7), ("loop", 20), ("step", 1), ("step", 7)]
EVERY_SCHEDULE = pytest.mark.parametrize(("schedule", "block"), SCHEDULES)
NATIVE = pytest.mark.parametrize("use_native", [True, False], ids=["native", "portable"])


def _shortcut(weights):
    """A static tensor that meets spikes twice, and an input that does."""
    net = Net({"x": ["N", 4, 5]})
    static = net.conv("x", weights(4, 4, 1), weights(4))
    y = net.conv(net.relu(static), weights(4, 4, 1))
    y = net.relu(net.op("Add", y, static))
    y = net.relu(net.op("Add", net.op("Sub", net.conv(y, weights(4, 4, 1)), static), "x"))
    return net.model(net.gemm(net.op("Flatten", y), weights(20, 3), weights(3)))


def _feature(weights):
    """One number per sample, without a feature axis."""
    net = Net({"x": ["N"]})
    y = net.relu(net.op("Mul", "x", net.constant(weights(1)[0])))
    y = net.relu(net.op("Add", y, net.constant(weights(1)[0])))
    return net.model(net.op("Mul", y, net.constant(np.float32(0.5))))


def _features(weights):
    net = Net({"x": ["N", 1]})
    y = net.relu(net.gemm("x", weights(1, 1), weights(1)))
    return net.model(net.gemm(y, weights(1, 1)))


NETS = {
    "mlp": (mlp, (7,)),
    "cnn": (cnn, (2, 8, 8)),
    "residual": (residual, (3, 6, 6)),
    "shortcut": (_shortcut, (4, 5)),
    "one feature": (_features, (1,)),
    "no feature axis": (_feature, ()),
}


@cache
class Case:
    """A dyadic network with its neurons as outputs, and inputs, thresholds and statistics."""

    def __init__(self, name, samples=3, *, per_channel=False, seed=0):
        build, shape = NETS[name]
        plain = build(Dyadic(seed))
        self.model = expose(plain, relus(plain).values())
        self.shape = shape
        self.x = self.inputs(samples, seed)
        probe = {"x": self.inputs(16, seed + 1)}
        self.thresholds = dyadic_thresholds(plain, probe, per_channel=per_channel)
        self.stats = stats_of(self.model, self.thresholds)

    def inputs(self, samples, seed=0):
        return Dyadic(seed + 100)(samples, *self.shape, step=1 / 8)

    def convert(self, **options):
        options = {"neuron": "if", "mode": "max", "timesteps": 20, "readout": "running"} | options
        return convert(self.model, stats=self.stats, **options).model

    @cache  # noqa: B019  # the cases live as long as the module
    def simulate(self, timesteps, **options):
        return simulate(self.model, self.thresholds, [{"x": self.x}] * timesteps, **options)

    def expected(self, timesteps, **options):
        """Running means of all outputs; those of spikes tell every spike."""
        tensors = relus(self.model)
        means = self.simulate(timesteps, **options).running_means(self.thresholds)
        return {tensors.get(name, name): mean for name, mean in means.items()}


def _assert_equal(actual, expected):
    for name, values in expected.items():
        np.testing.assert_array_equal(actual[name], values, err_msg=name)


@NATIVE
@EVERY_SCHEDULE
@pytest.mark.parametrize("name", NETS)
def test_spike_for_spike(name, schedule, block, use_native):
    case = Case(name)
    snn = case.convert(schedule=schedule, block=block)
    _assert_equal(play(snn, {"x": case.x}, use_native=use_native), case.expected(20))


def test_the_simulation_is_no_triviality():
    # Rates between the extremes, and some neurons that saturate.
    for name in ("mlp", "cnn", "residual"):
        spikes = Case(name).simulate(20).spikes.values()
        rates = np.concatenate([s.mean(axis=0).ravel() for s in spikes])
        assert np.unique(rates).size > 5, name
        assert rates.min() == 0
        assert rates.max() == 1


@EVERY_SCHEDULE
@pytest.mark.parametrize(
    "options",
    [
        {"v_init": 0.0},
        {"v_init": 0.75},
        {"reset": "zero"},
        {"neuron": "signed"},
        {"neuron": "signed", "v_init": 0.0},
        {"neuron": "burst(1)"},
        {"neuron": "burst(3)"},
        {"neuron": "burst(2)", "reset": "zero"},
    ],
    ids=str,
)
def test_neuron_options(options, schedule, block):
    case = Case("residual", seed=1)
    snn = case.convert(schedule=schedule, block=block, **options)
    fired = case.simulate(20, **options).spikes.values()
    spikes = np.unique(np.concatenate([s.ravel() for s in fired]))
    alphabets = {"signed": [-1, 0, 1], "burst(3)": [0, 1, 2, 3], "burst(2)": [0, 1, 2]}
    assert spikes.tolist() == alphabets.get(options.get("neuron"), [0, 1])
    for use_native in (True, False):
        actual = play(snn, {"x": case.x}, use_native=use_native)
        _assert_equal(actual, case.expected(20, **options))


@EVERY_SCHEDULE
@pytest.mark.parametrize("name", ["cnn", "residual"])
def test_thresholds_per_channel(name, schedule, block):
    case = Case(name, per_channel=True, seed=2)
    snn = case.convert(schedule=schedule, block=block, granularity="channel")
    _assert_equal(play(snn, {"x": case.x}), case.expected(20))


@NATIVE
@EVERY_SCHEDULE
@pytest.mark.parametrize("timesteps", [1, 257])
@pytest.mark.parametrize("samples", [1, 33])
def test_timesteps_of_one_run(schedule, block, timesteps, samples, use_native):
    case = Case("mlp", samples)
    snn = case.convert(schedule=schedule, block=block, timesteps=4)
    actual = play(snn, {"x": case.x}, timesteps, use_native=use_native)
    _assert_equal(actual, case.expected(timesteps))


@NATIVE
@EVERY_SCHEDULE
@pytest.mark.parametrize(
    ("name", "readout"), [("cnn", "mean"), ("cnn", "running"), ("shortcut", "running")]
)
def test_no_samples_at_all(name, schedule, block, readout, use_native):
    case = Case(name)
    snn = case.convert(schedule=schedule, block=block, readout=readout)
    nobody = play(snn, {"x": case.inputs(0)}, use_native=use_native)
    somebody = play(snn, {"x": case.inputs(2)}, use_native=use_native)
    for name, values in somebody.items():
        if values.ndim:
            shape = [
                0 if size == 2 and axis < 2 else size for axis, size in enumerate(values.shape)
            ]
            assert list(nobody[name].shape) == shape


@EVERY_SCHEDULE
def test_readout_of_the_mean(schedule, block):
    case = Case("residual")
    snn = case.convert(schedule=schedule, block=block, readout="mean")
    expected = {name: means[-1] for name, means in case.expected(20).items()}
    _assert_equal(play(snn, {"x": case.x}), expected)


@NATIVE
@EVERY_SCHEDULE
@pytest.mark.parametrize("readout", ["mean", "running"])
def test_a_readout_that_counts_the_first_steps_less(schedule, block, readout, use_native):
    case = Case("cnn")
    snn = case.convert(schedule=schedule, block=block, readout=readout, readout_weights="ramp")
    currents = case.simulate(20).outputs["y"]
    layers = len(relus(case.model))
    assert 2 <= layers < 4  # so that the weights are ½, 1, 1, …
    weights = np.array([0.5] + [1] * 19, np.float32).reshape(-1, *[1] * (currents.ndim - 1))
    expected = np.cumsum(weights * currents, axis=0) / np.cumsum(weights, axis=0)
    actual = play(snn, {"x": case.x}, use_native=use_native)["y"]
    np.testing.assert_array_equal(actual, expected if readout == "running" else expected[-1])
    assert not np.array_equal(expected, case.expected(20)["y"])


class TestStep:
    @NATIVE
    @pytest.mark.parametrize("block", [1, 7])
    def test_membranes_come_out(self, block, use_native):
        case = Case("cnn")
        snn = case.convert(schedule="step", block=block)
        actual = play(snn, {"x": case.x}, use_native=use_native)
        membranes = case.simulate(20).membranes
        for name, membrane in membranes.items():
            # The network's membranes are in units of the threshold.
            np.testing.assert_array_equal(
                actual[f"{name}/v_next"], membrane / case.thresholds[name]
            )

    def test_fed_by_hand(self):
        # Without the record: names and start values as a user reads them off the file.
        from onnx_snn import create_session

        case = Case("mlp")
        session = create_session(case.convert(schedule="step", timesteps=1, readout="mean"))
        neurons = list(relus(case.model))
        state = {
            f"{name}/v": np.full((3, w), 0.5, np.float32)
            for name, w in zip(neurons, (9, 8), strict=True)
        }
        given = {value.name for value in session.get_inputs()}
        sums = sorted(given - {"x", "T", "onnx_snn/t", *state})
        assert len(sums) == 3  # of both layers of neurons and of y
        shapes = {value.name: value.shape for value in session.get_inputs()}
        state |= {name: np.zeros((3, shapes[name][1]), np.float32) for name in sums}
        state["onnx_snn/t"] = np.array(0)
        names = [value.name for value in session.get_outputs()]
        expected = case.expected(20)
        for step in range(20):
            result = dict(zip(names, session.run(None, {"x": case.x, **state}), strict=True))
            _assert_equal(result, {name: means[step] for name, means in expected.items()})
            state = {name: result[f"{name}_next"] for name in state}

    def test_continues_where_it_stopped(self):
        case = Case("cnn")
        snn = case.convert(schedule="step", readout="mean")
        record = ScheduleRecord.of(snn)
        assert {state.input for state in record.states} >= {f"{n}/v" for n in relus(case.model)}
        assert all(state.output == f"{state.input}_next" for state in record.states)


class TestSequences:
    """Every step has a frame of its own."""

    @NATIVE
    @EVERY_SCHEDULE
    @pytest.mark.parametrize("name", ["cnn", "shortcut"])
    def test_of_frames(self, name, schedule, block, use_native):
        case = Case(name)
        frames = np.stack([case.inputs(3, seed) for seed in range(20)])
        snn = case.convert(schedule=schedule, block=block, input_coding="sequence", timesteps=5)
        simulation = simulate(case.model, case.thresholds, [{"x": frame} for frame in frames])
        tensors = relus(case.model)
        means = simulation.running_means(case.thresholds)
        actual = play(snn, {"x": frames}, use_native=use_native)
        _assert_equal(actual, {tensors.get(name, name): mean for name, mean in means.items()})

    @EVERY_SCHEDULE
    @pytest.mark.parametrize("steps", [1, 9])
    def test_their_length_is_the_number_of_steps(self, schedule, block, steps):
        case = Case("mlp")
        snn = case.convert(schedule=schedule, block=block, input_coding="sequence")
        assert "T" not in [value.name for value in snn.graph.input]
        actual = play(snn, {"x": np.stack([case.x] * steps)})
        _assert_equal(actual, case.expected(steps))

    @pytest.mark.parametrize("schedule", ["layer", "loop", "step"])
    def test_no_samples(self, schedule):
        case = Case("cnn")
        snn = case.convert(schedule=schedule, input_coding="sequence")
        assert play(snn, {"x": np.stack([case.inputs(0)] * 3)})["y"].shape == (3, 0, 5)


GRID = Dyadic(7)(1, 4, 1, 1)


def _grid(net, scores):
    """[1, 4, H, W]: computed from the size of the image, for all samples."""
    sizes = net.op("Slice", net.op("Shape", "x"), net.constant([2]), net.constant([4]))
    shape = net.op("Concat", net.constant([1, 4]), sizes, axis=0)
    return net.op("Add", scores, net.op("Expand", net.constant(GRID), shape))


def _ramp(net, scores):
    """[W], of no sample either."""
    width = net.op("Gather", net.op("Shape", "x"), net.constant(3))
    ramp = net.op("Range", net.constant(0), width, net.constant(1))
    return net.op("Mul", scores, net.op("Cast", ramp, to=1))


def _mask(net, scores):
    """[N, 4, H, W], of truth values."""
    mask = net.op("Greater", "x", net.constant(np.float32(0)))
    return net.op("Where", mask, scores, net.constant(np.float32(-1)))


def _channel(net, scores):
    """[N, 1, H, W], of whole numbers."""
    channel = net.op("ArgMax", "x", axis=1, keepdims=1)
    return net.op("GatherElements", scores, channel, axis=1)


CONSTANT_IN_TIME = {
    "grid": (_grid, lambda scores, x: scores + GRID),
    "ramp": (_ramp, lambda scores, x: scores * np.arange(x.shape[3], dtype=np.float32)),
    "mask": (_mask, lambda scores, x: np.where(x > 0, scores, np.float32(-1))),
    "channel": (
        _channel,
        lambda scores, x: np.take_along_axis(scores, x.argmax(axis=1)[:, None], axis=1),
    ),
}


class TestTail:
    """Functions behind the last neuron see the mean over time."""

    @EVERY_SCHEDULE
    @pytest.mark.parametrize("readout", ["mean", "running"])
    def test_of_the_output(self, schedule, block, readout):
        net = Net({"x": ["N", 7]})
        weights = Dyadic(3)
        logits = net.gemm(net.relu(net.gemm("x", weights(7, 6))), weights(6, 4), weights(4))
        outputs = {"logits": logits, "squares": net.op("Mul", logits, logits)}
        model = net.model({**outputs, "class": net.op("ArgMax", logits, axis=1, keepdims=0)})
        x = Dyadic(4)(5, 7, step=1 / 8)
        thresholds = dyadic_thresholds(model, {"x": x})
        snn = convert(
            model,
            stats=stats_of(model, thresholds),
            mode="max",
            schedule=schedule,
            block=block,
            readout=readout,
            timesteps=20,
        ).model
        actual = play(snn, {"x": x})
        logits = simulate(model, thresholds, [{"x": x}] * 20).running_means(thresholds)["logits"]
        if readout == "mean":
            logits = logits[-1]
        np.testing.assert_array_equal(actual["logits"], logits)
        np.testing.assert_array_equal(actual["squares"], logits * logits)
        np.testing.assert_array_equal(actual["class"], logits.argmax(axis=-1))

    @EVERY_SCHEDULE
    def test_of_neurons_that_are_an_output_and_read_inside(self, schedule, block):
        net = Net({"x": ["N", 4]})
        hidden = net.relu(net.gemm("x", Dyadic(1)(4, 4)))
        outputs = {"hidden": hidden, "max": net.op("ReduceMax", hidden, net.constant([1]))}
        model = net.model({**outputs, "y": net.gemm(hidden, Dyadic(2)(4, 2))})
        x = Dyadic(4)(5, 4, step=1 / 8)
        thresholds = dyadic_thresholds(model, {"x": x})
        stats = stats_of(model, thresholds)
        options = {"mode": "max", "schedule": schedule, "block": block, "timesteps": 20}
        actual = play(convert(model, stats=stats, **options).model, {"x": x})
        simulation = simulate(model, thresholds, [{"x": x}] * 20)
        hidden = simulation.outputs["hidden"].sum(axis=0) / np.float32(20)
        np.testing.assert_array_equal(actual["hidden"], hidden)
        np.testing.assert_array_equal(actual["max"], hidden.max(axis=1, keepdims=True))
        np.testing.assert_array_equal(
            actual["y"], simulation.outputs["y"].sum(axis=0) / np.float32(20)
        )

    @staticmethod
    @cache
    def _gated():
        """A mean over time that meets a gate that no neuron feeds; its logits and feeds."""
        net, weights = Net({"x": ["N", 7]}), Dyadic(5)
        hidden = net.relu(net.gemm("x", weights(7, 6), weights(6)))
        logits = net.gemm(hidden, weights(6, 4), weights(4))
        gate = net.op("Sigmoid", net.gemm("x", weights(7, 4), weights(4)))
        outputs = {"logits": logits, "gate": gate}
        return net.model({**outputs, "y": net.op("Mul", net.op("Softmax", logits), gate)})

    def _gated_snn(self, **options):
        model = self._gated()
        stats = stats_of(model, dyadic_thresholds(model, {"x": Dyadic(4)(5, 7, step=1 / 8)}))
        return convert(model, stats=stats, mode="max", timesteps=20, **options).model

    @NATIVE
    @EVERY_SCHEDULE
    @pytest.mark.parametrize("readout", ["mean", "running"])
    def test_that_also_reads_what_does_not_vary(self, schedule, block, readout, use_native):
        model, x = self._gated(), Dyadic(4)(5, 7, step=1 / 8)
        snn = self._gated_snn(schedule=schedule, block=block, readout=readout)
        actual = play(snn, {"x": x}, use_native=use_native)
        thresholds = dyadic_thresholds(model, {"x": x})
        simulation = simulate(model, thresholds, [{"x": x}] * 20)
        logits, gate = simulation.running_means(thresholds)["logits"], simulation.outputs["gate"][0]
        if readout == "mean":
            logits = logits[-1]
        exponential = np.exp(logits.astype(np.float64))
        softmax = exponential / exponential.sum(axis=-1, keepdims=True)
        np.testing.assert_array_equal(actual["logits"], logits)
        np.testing.assert_allclose(actual["gate"], gate, rtol=1e-6)
        np.testing.assert_allclose(actual["y"], softmax * gate, rtol=1e-5)

    @EVERY_SCHEDULE
    @pytest.mark.parametrize("before", ["layer", "loop", "step"])
    def test_that_also_reads_what_does_not_vary_goes_back(self, before, schedule, block):
        x = Dyadic(4)(5, 7, step=1 / 8)
        for readout, other in (("running", "mean"), ("mean", "running")):
            source = self._gated_snn(schedule=before, readout=readout, block=3)
            snn = reschedule(source, schedule=schedule, block=block, readout=other)
            fresh = self._gated_snn(schedule=schedule, readout=other, block=block)
            _assert_equal(play(snn, {"x": x}), play(fresh, {"x": x}))
            count = {len(model.graph.node) for model in (snn, fresh)}
            assert len(count) == 1, "nodes are left over"

    @pytest.mark.parametrize("schedule", ["layer", "loop"])
    @pytest.mark.parametrize("name", CONSTANT_IN_TIME)
    def test_a_running_mean_meets_what_is_constant_in_time(self, name, schedule):
        build, expected = CONSTANT_IN_TIME[name]
        net, weights = Net({"x": ["N", 4, "H", "W"]}), Dyadic(1)
        hidden = net.relu(net.conv("x", weights(4, 4, 1, 1), weights(4)))
        logits = net.conv(hidden, weights(4, 4, 1, 1))
        outputs = {"logits": logits, "y": build(net, net.op("Softmax", logits, axis=1))}
        model, x = net.model(outputs), Dyadic(4)(3, 4, 3, 5, step=1 / 8)
        stats = stats_of(model, dyadic_thresholds(model, {"x": x}))
        options = {"mode": "max", "schedule": schedule, "timesteps": 6, "block": 4}
        running = convert(model, stats=stats, readout="running", **options).model
        actual = play(running, {"x": x})
        for logits, y in zip(actual["logits"], actual["y"], strict=True):
            scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            np.testing.assert_allclose(y, expected(scores, x), atol=1e-6)
        mean = reschedule(running, readout="mean")
        np.testing.assert_allclose(play(mean, {"x": x})["y"], actual["y"][-1], atol=1e-6)
        _assert_equal(play(reschedule(mean, readout="running"), {"x": x}), actual)

    @pytest.mark.parametrize("schedule", ["layer", "loop", "step"])
    def test_outputs_that_do_not_vary_stay_as_they_are(self, schedule):
        net = Net({"x": ["N", 4]})
        weights = Dyadic(1)
        outputs = {"y": net.gemm(net.relu("x"), weights(4, 2)), "static": net.op("Floor", "x")}
        model = net.model({**outputs, "same": "x"})
        x = Dyadic(4)(5, 4, step=1 / 8)
        stats = stats_of(model, dyadic_thresholds(model, {"x": x}))
        options = {"mode": "max", "schedule": schedule, "readout": "running", "timesteps": 6}
        actual = play(convert(model, stats=stats, **options).model, {"x": x})
        assert actual["y"].shape == (6, 5, 2)
        np.testing.assert_array_equal(actual["static"], np.floor(x))
        np.testing.assert_array_equal(actual["same"], x)


class TestCrossings:
    """A maximum and a product: what one step takes over from those before it."""

    @staticmethod
    @cache
    def _model():
        net, weights = Net({"x": ["N", 3, 5, 5]}), Dyadic(9)
        s = net.relu(net.conv("x", weights(4, 3, 1, 1), weights(4)))
        pooled = net.op("MaxPool", s, kernel_shape=[2, 2])
        product = net.op("Mul", s, net.relu(net.conv("x", weights(4, 3, 1, 1), weights(4))))
        y = net.op("Concat", *(net.op("Flatten", t) for t in (pooled, product)), axis=1)
        y = net.relu(net.gemm(y, weights(164, 5), weights(5)))
        outputs = {"s": s, "pooled": pooled, "product": product}
        return net.model({**outputs, "y": net.gemm(y, weights(5, 3), weights(3))})

    @classmethod
    @cache
    def _snn(cls, **options):
        model = cls._model()
        stats = stats_of(model, dyadic_thresholds(model, {"x": cls._x(16)}))
        options = {"mode": "max", "readout": "running", "timesteps": 20, **options}
        return convert(model, stats=stats, **options).model

    @classmethod
    @cache
    def _whole(cls):
        return play(cls._snn(), {"x": cls._x(3)}, 70)

    @staticmethod
    def _x(samples):
        return Dyadic(10)(samples, 3, 5, 5, step=1 / 8)

    @NATIVE
    @EVERY_SCHEDULE
    @pytest.mark.parametrize("timesteps", [1, 9, 70])
    def test_timesteps_of_one_run(self, schedule, block, timesteps, use_native):
        feeds = {"x": self._x(3)}
        snn = self._snn(schedule=schedule, block=block)
        actual = play(snn, feeds, timesteps, use_native=use_native)
        windows = np.lib.stride_tricks.sliding_window_view(actual["s"], (2, 2), axis=(3, 4))
        np.testing.assert_array_equal(actual["pooled"], windows.max(axis=(-2, -1)))
        for name, means in self._whole().items():
            # A step's values do not depend on those to come, up to the order of float32 sums.
            np.testing.assert_allclose(actual[name], means[:timesteps], rtol=0, atol=2e-6)

    @EVERY_SCHEDULE
    def test_no_samples_at_all(self, schedule, block):
        snn = self._snn(schedule=schedule, block=block)
        actual = play(snn, {"x": self._x(0)})
        assert actual["y"].shape == (20, 0, 3)
        assert actual["pooled"].shape == (20, 0, 4, 4, 4)

    def test_samples_do_not_meet(self):
        snn = self._snn()
        together = play(snn, {"x": self._x(3)})
        for index in range(3):
            alone = play(snn, {"x": self._x(3)[index : index + 1]})
            for name, means in together.items():
                np.testing.assert_array_equal(alone[name][:, 0], means[:, index])

    @pytest.mark.parametrize("block", [1, 7])
    def test_states_of_a_step(self, block):
        snn = self._snn(schedule="step", block=block)
        record = ScheduleRecord.of(snn)
        states = {state.input: state for state in record.states if state.input.endswith("/state")}
        assert len(states) == len(record.crossings)
        assert all(state.init == 0 for state in states.values())
        actual = play(snn, {"x": self._x(3)})
        # The sums of the spikes so far, in units of the threshold: whole numbers.
        sums = next(actual[s.output] for n, s in states.items() if n.startswith("s/"))
        assert sums.shape == (3, 4, 5, 5)
        np.testing.assert_array_equal(sums, np.round(sums))
        assert sums.max() == 20


@settings(max_examples=15, deadline=None)
@given(
    networks(dyadic=True), st.booleans(), st.sampled_from([("loop", 1), ("loop", 3), ("step", 1)])
)
def test_random_networks_agree_on_all_schedules(example, per_channel, other):
    model = expose(example.model, relus(example.model).values())
    feeds = {"x": example.x}
    thresholds = dyadic_thresholds(model, feeds, per_channel=per_channel)
    granularity = "channel" if per_channel else "layer"
    options = {"neuron": "if", "mode": "max", "granularity": granularity, "timesteps": 7}
    options["readout"] = "running"
    layer = convert(model, stats=stats_of(model, thresholds), **options).model
    means = play(layer, feeds)
    simulation = simulate(model, thresholds, [feeds] * 7)
    np.testing.assert_array_equal(means["y"], simulation.running_means(thresholds)["y"])
    for name, tensor in relus(model).items():
        spikes = simulation.spikes[name] * thresholds[name]
        steps = np.arange(1, 8, dtype=np.float32).reshape(-1, *[1] * (spikes.ndim - 1))
        expected = np.cumsum(spikes, axis=0).astype(np.float32) / steps
        np.testing.assert_array_equal(means[tensor], expected)
    schedule, block = other
    moved = play(reschedule(layer, schedule=schedule, block=block), feeds, use_native=False)
    _assert_equal(moved, means)
