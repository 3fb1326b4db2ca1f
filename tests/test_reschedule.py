import json
from collections import Counter
from itertools import product

import numpy as np
import onnx
import pytest

from nets import Dyadic, Net, cnn, mlp
from onnx_snn import convert, reschedule
from onnx_snn.errors import ModelError, OptionError
from onnx_snn.schedule import METADATA_KEY, ScheduleRecord
from simulator import dyadic_thresholds, expose, play, simulate, stats_of

T = 10
RUNS = [("layer", 1), ("loop", 1), ("loop", 4), ("step", 1), ("step", 5)]
FORMS = [(*run, readout) for run, readout in product(RUNS, ["mean", "running"])]


def _plain():
    """A static shortcut, neurons as an output and a tail."""
    weights = Dyadic(5)
    net = Net({"x": ["N", 6]})
    static = net.gemm("x", weights(6, 8), weights(8))
    hidden = net.relu(static)
    y = net.relu(net.op("Add", net.gemm(hidden, weights(8, 8)), static))
    logits = net.gemm(y, weights(8, 3), weights(3))
    return net.model({"logits": logits, "hidden": hidden, "squares": net.op("Mul", logits, logits)})


class TestCrossings:
    """Maxima and graded functions: sums and means so far, that one step takes over."""

    @staticmethod
    def _net(crosses):
        weights = Dyadic(7)
        net = Net({"x": ["N", 3, 6, 6]})
        s = net.relu(net.conv("x", weights(4, 3, 3, 3), weights(4), pads=[1] * 4))
        if "maximum" in crosses:
            s = net.op("MaxPool", s, kernel_shape=[2, 2], strides=[2, 2])
        if "graded" in crosses:
            s = net.op("Mul", s, net.op("GlobalAveragePool", s))
        z = s
        y = net.relu(net.conv(z, weights(5, 4, 3, 3), weights(5)))
        y = net.op(
            "Softmax", net.gemm(net.op("Flatten", net.op("GlobalMaxPool", y)), weights(5, 3))
        )
        return net.model({"z": z, "y": y})

    @staticmethod
    def _examples(model, coding):
        x = Dyadic(8)(T, 4, 3, 6, 6, step=1 / 8)
        options = {"neuron": "if", "mode": "max", "holdout": 0, "timesteps": T}
        options["input_coding"] = coding
        snn = convert(model, x[0], readout="running", **options).model
        return snn, {"x": x[0] if coding == "constant" else x}

    @pytest.mark.parametrize("coding", ["constant", "sequence"])
    @pytest.mark.parametrize(
        "crosses", [["maximum"], ["graded"], ["maximum", "graded"]], ids="+".join
    )
    def test_layer_loop_step_layer(self, crosses, coding):
        layer, feeds = self._examples(self._net(crosses), coding)
        expected = play(layer, feeds)
        assert np.unique(expected["z"]).size > 3
        moved = layer
        for schedule, block in [("loop", 4), ("step", 3), ("loop", 1), ("step", 1), ("layer", 1)]:
            moved = reschedule(moved, schedule=schedule, block=block)
            onnx.checker.check_model(moved)
            assert ScheduleRecord.of(moved).crossings == ScheduleRecord.of(layer).crossings
            for use_native in (True, False):
                actual = play(moved, feeds, use_native=use_native)
                for name, means in expected.items():
                    # A mean of the image and its mean over time are rounded in another order.
                    np.testing.assert_allclose(actual[name], means, rtol=0, atol=1e-5)
        assert len(moved.graph.node) == len(layer.graph.node)
        assert len(moved.graph.initializer) == len(layer.graph.initializer)

    @pytest.mark.parametrize("schedule", ["layer", "loop", "step"])
    def test_are_recorded(self, schedule):
        model = self._net(["maximum", "graded"])
        x = Dyadic(8)(4, 3, 6, 6, step=1 / 8)
        record = ScheduleRecord.of(convert(model, x, schedule=schedule, holdout=0).model)
        # Of the pooled spikes, of their spatial mean, of the product, and of z as an output.
        assert Counter((crossing.op, crossing.averages) for crossing in record.crossings) == {
            ("Accumulate", False): 1,
            ("Difference", False): 1,
            ("Accumulate", True): 2,
            ("Difference", True): 2,
        }
        states = [state.input for state in record.states if state.input.endswith("/state")]
        assert len(states) == (6 if schedule == "step" else 0)

    def test_files_from_before_they_were_recorded(self):
        snn = _converted()
        for entry in snn.metadata_props:
            if entry.key == METADATA_KEY:
                record = json.loads(entry.value)
                assert record.pop("crossings") == []
                entry.value = json.dumps(record)
        assert ScheduleRecord.of(snn).crossings == []
        x = Dyadic(2)(8, 7, step=1 / 8)
        actual, expected = (
            play(reschedule(model, schedule="loop"), {"x": x})["y"] for model in (snn, _converted())
        )
        np.testing.assert_array_equal(actual, expected)


@pytest.fixture(scope="module", params=["constant", "sequence"])
def example(request):
    """The model of every form, converted directly, feeds for it and the running means expected."""
    model = _plain()
    random = Dyadic(6)
    frames = random(T, 4, 6, step=1 / 8)
    if request.param == "constant":
        frames = np.repeat(frames[:1], T, axis=0)
    thresholds = dyadic_thresholds(model, {"x": random(32, 6, step=1 / 8)})
    options = {"neuron": "if", "mode": "max", "timesteps": T, "input_coding": request.param}
    options["stats"] = stats_of(model, thresholds)
    models = {
        form: convert(model, **options, schedule=form[0], block=form[1], readout=form[2]).model
        for form in FORMS
    }
    simulation = simulate(model, thresholds, [{"x": frame} for frame in frames])
    means = simulation.running_means(thresholds)
    expected = {name: means[name] for name in ("logits", "hidden")}
    expected["squares"] = expected["logits"] ** 2
    return models, {"x": frames[0] if request.param == "constant" else frames}, expected


@pytest.mark.parametrize("old", FORMS, ids=str)
def test_from_any_form_to_any_other(example, old):
    models, feeds, expected = example
    for new in FORMS:
        schedule, block, readout = new
        moved = reschedule(models[old], schedule=schedule, block=block, readout=readout)
        onnx.checker.check_model(moved)
        record = ScheduleRecord.of(moved)
        assert (record.schedule, record.block, record.readout) == new
        actual = play(moved, feeds)
        for name, means in expected.items():
            wanted = means if readout == "running" else means[-1]
            np.testing.assert_array_equal(actual[name], wanted, err_msg=f"{new} {name}")
        outputs = [value.name for value in moved.graph.output]
        assert outputs[:3] == ["logits", "hidden", "squares"]


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_round_trips_do_not_grow(example, form):
    models = example[0]
    schedule, block, readout = form
    back = models[form]
    for _ in range(2):
        there = reschedule(back, schedule="loop", block=3, readout="running")
        there = reschedule(there, schedule="step", readout="mean")
        back = reschedule(there, schedule=schedule, block=block, readout=readout)
    assert len(back.graph.node) == len(models[form].graph.node)
    assert len(back.graph.initializer) == len(models[form].graph.initializer)
    entries = {entry.key: entry.value for entry in models[form].metadata_props}
    kept = {entry.key: entry.value for entry in back.metadata_props}
    assert entries.keys() == kept.keys()
    entries.pop(METADATA_KEY), kept.pop(METADATA_KEY)
    assert kept == entries


def _converted(**options):
    model = mlp(Dyadic(1))
    x = Dyadic(2)(8, 7, step=1 / 8)
    stats = stats_of(model, dyadic_thresholds(model, {"x": x}))
    return convert(model, stats=stats, mode="max", **options).model


def test_what_is_not_given_stays():
    snn = _converted(schedule="loop", block=3, readout="running", timesteps=9, v_init=0.25)
    record = ScheduleRecord.of(snn)
    assert ScheduleRecord.of(reschedule(snn)) == record
    other = ScheduleRecord.of(reschedule(snn, timesteps=11))
    assert (other.timesteps, other.block, other.schedule) == (11, 3, "loop")
    assert ScheduleRecord.of(reschedule(snn, block=2)).block == 2


def test_timesteps_become_the_default():
    model = mlp(Dyadic(1))
    x = Dyadic(2)(8, 7, step=1 / 8)
    thresholds = dyadic_thresholds(model, {"x": x})
    options = {"neuron": "if", "mode": "max", "timesteps": 4}
    snn = convert(model, stats=stats_of(model, thresholds), **options).model
    expected = simulate(model, thresholds, [{"x": x}] * 13).running_means(thresholds)["y"]
    longer = reschedule(snn, timesteps=13)
    np.testing.assert_array_equal(play(longer, {"x": x})["y"], expected[-1])
    np.testing.assert_array_equal(play(longer, {"x": x}, 4)["y"], expected[3])


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_the_weights_of_the_first_steps_stay(form):
    x = Dyadic(2)(8, 7, step=1 / 8)
    schedule, block, readout = form
    options = {"neuron": "if", "timesteps": T, "readout_weights": "ramp"}
    direct = _converted(**options, schedule=schedule, block=block, readout=readout)
    moved = reschedule(_converted(**options), schedule=schedule, block=block, readout=readout)
    there_and_back = reschedule(reschedule(direct, schedule="loop"), schedule=schedule, block=block)
    expected = play(direct, {"x": x})["y"]
    for model in (moved, there_and_back):
        assert ScheduleRecord.of(model).ramp == 2
        np.testing.assert_array_equal(play(model, {"x": x})["y"], expected)


@pytest.mark.parametrize("v_init", [0.0, 0.75])
def test_the_first_membrane_stays(v_init):
    model = cnn(Dyadic(3))
    x = Dyadic(2)(3, 2, 8, 8, step=1 / 8)
    thresholds = dyadic_thresholds(model, {"x": x})
    options = {"neuron": "if", "mode": "max", "timesteps": 6, "v_init": v_init}
    options["schedule"] = "step"
    snn = convert(model, stats=stats_of(model, thresholds), **options).model
    simulation = simulate(model, thresholds, [{"x": x}] * 6, v_init=v_init)
    expected = simulation.running_means(thresholds)["y"][-1]
    moved = reschedule(reschedule(snn, schedule="loop"), schedule="layer")
    np.testing.assert_array_equal(play(moved, {"x": x})["y"], expected)


@pytest.mark.parametrize("coding", ["constant", "sequence"])
def test_a_model_whose_input_is_called_t(coding):
    net = Net({"T": ["N", 4]})
    weights = Dyadic(1)
    y = net.gemm(net.relu(net.gemm("T", weights(4, 5))), weights(5, 3))
    model = expose(net.model(y), [])
    x = weights(3, 4, step=1 / 8)
    thresholds = dyadic_thresholds(model, {"T": x})
    expected = simulate(model, thresholds, [{"T": x}] * 6).running_means(thresholds)["y"][-1]
    options = {"neuron": "if", "mode": "max", "timesteps": 6, "input_coding": coding}
    snn = convert(model, stats=stats_of(model, thresholds), **options).model
    feeds = {"T": x if coding == "constant" else np.stack([x] * 6)}
    for schedule in ("layer", "loop", "step", "layer"):
        snn = reschedule(snn, schedule=schedule)
        np.testing.assert_array_equal(play(snn, feeds)["y"], expected)


def test_the_given_model_is_not_changed():
    snn = _converted()
    before = snn.SerializeToString(deterministic=True)
    reschedule(snn, schedule="step", readout="running", timesteps=3)
    assert snn.SerializeToString(deterministic=True) == before


def test_the_same_request_gives_the_same_bytes():
    snn = _converted()
    first, second = (
        reschedule(snn, schedule="loop", block=2).SerializeToString(deterministic=True)
        for _ in range(2)
    )
    assert first == second


def test_reads_files_and_bytes(tmp_path):
    snn = _converted()
    onnx.save(snn, tmp_path / "snn.onnx")
    for source in (tmp_path / "snn.onnx", snn.SerializeToString()):
        assert ScheduleRecord.of(reschedule(source, schedule="loop")).schedule == "loop"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "spiral"}, "schedule must be one of layer, loop, step, not 'spiral'"),
        ({"readout": "last"}, "readout must be one of mean, running, not 'last'"),
        ({"timesteps": 0}, "timesteps must be a whole number of at least 1, not 0"),
        ({"timesteps": 2.5}, "timesteps must be a whole number of at least 1, not 2.5"),
        ({"block": -1}, "block must be a whole number of at least 1, not -1"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(OptionError, match=message):
        reschedule(_converted(), **options)


def test_an_ordinary_model():
    with pytest.raises(ModelError, match="not a spiking network made by onnx_snn; convert it"):
        reschedule(mlp(Dyadic()))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schedule": "spiral"}'])
def test_a_damaged_record(text):
    snn = _converted()
    for entry in snn.metadata_props:
        if entry.key == METADATA_KEY:
            entry.value = text
    with pytest.raises(ModelError, match=r"'onnx_snn\.schedule' is damaged; convert it again"):
        reschedule(snn)


def test_names_of_the_network_may_be_those_of_t():
    model, x = _plain(), Dyadic(6)(4, 6, step=1 / 8)
    named = onnx.ModelProto()
    named.CopyFrom(model)
    outputs = [node.output[0] for node in named.graph.node[:3]]
    new = dict(zip(outputs, ["onnx_snn/T", "T/on_host", "T"], strict=True))
    for node in named.graph.node:
        node.output[:] = [new.get(name, name) for name in node.output]
        node.input[:] = [new.get(name, name) for name in node.input]
    for value in named.graph.output:
        value.name = new.get(value.name, value.name)
    thresholds = dyadic_thresholds(named, {"x": x})
    snn = convert(named, stats=stats_of(named, thresholds), mode="max", timesteps=T, holdout=0)
    expected = play(snn.model, {"x": x}, T - 1)
    for schedule in ("loop", "step", "layer"):
        moved = reschedule(snn.model, schedule=schedule, block=4, timesteps=T - 1)
        actual = play(moved, {"x": x}, T - 1)
        for name, values in expected.items():
            np.testing.assert_allclose(actual[name], values, rtol=0, atol=1e-6)
