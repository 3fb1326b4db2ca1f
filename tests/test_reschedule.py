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


def _net():
    """A static shortcut, neurons as an output and a tail: all that a schedule must move."""
    weights = Dyadic(5)
    net = Net({"x": ["N", 6]})
    static = net.gemm("x", weights(6, 8), weights(8))
    hidden = net.relu(static)
    y = net.relu(net.op("Add", net.gemm(hidden, weights(8, 8)), static))
    logits = net.gemm(y, weights(8, 3), weights(3))
    return net.model({"logits": logits, "hidden": hidden, "positive": net.op("Abs", logits)})


@pytest.fixture(scope="module", params=["constant", "sequence"])
def example(request):
    """The model of every form, converted directly, feeds for it and the running means expected."""
    model = _net()
    random = Dyadic(6)
    frames = random(T, 4, 6, step=1 / 8)
    if request.param == "constant":
        frames = np.repeat(frames[:1], T, axis=0)
    thresholds = dyadic_thresholds(model, {"x": random(32, 6, step=1 / 8)})
    options = {"mode": "max", "timesteps": T, "input_coding": request.param}
    options["stats"] = stats_of(model, thresholds)
    models = {
        form: convert(model, **options, schedule=form[0], block=form[1], readout=form[2]).model
        for form in FORMS
    }
    simulation = simulate(model, thresholds, [{"x": frame} for frame in frames])
    means = simulation.running_means(thresholds)
    expected = {name: means[name] for name in ("logits", "hidden")}
    expected["positive"] = np.abs(expected["logits"])
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
        assert outputs[:3] == ["logits", "hidden", "positive"]


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
    snn = convert(model, stats=stats_of(model, thresholds), mode="max", timesteps=4).model
    expected = simulate(model, thresholds, [{"x": x}] * 13).running_means(thresholds)["y"]
    longer = reschedule(snn, timesteps=13)
    np.testing.assert_array_equal(play(longer, {"x": x})["y"], expected[-1])
    np.testing.assert_array_equal(play(longer, {"x": x}, 4)["y"], expected[3])


@pytest.mark.parametrize("v_init", [0.0, 0.75])
def test_the_first_membrane_stays(v_init):
    model = cnn(Dyadic(3))
    x = Dyadic(2)(3, 2, 8, 8, step=1 / 8)
    thresholds = dyadic_thresholds(model, {"x": x})
    options = {"mode": "max", "timesteps": 6, "v_init": v_init, "schedule": "step"}
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
    options = {"mode": "max", "timesteps": 6, "input_coding": coding}
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
