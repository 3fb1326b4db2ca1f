"""Our classic mode against a recording of SpikingJelly 2.0.0, bit for bit (see data/README.md)."""

from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from onnx_snn import convert
from onnx_snn.load import load_graph
from onnx_snn.passes.fold_batch_normalization import fold_batch_normalization
from onnx_snn.schedule import ScheduleRecord
from simulator import expose, play, relus, simulate

DATA = Path(__file__).parent / "data"
MODES = ["max", "99.9%", "0.5"]
MODE = pytest.mark.parametrize("mode", MODES)
SCHEDULES = [("layer", 1), ("loop", 1), ("loop", 7), ("loop", 32), ("step", 1), ("step", 7)]


@pytest.fixture(scope="module")
def recorded():
    with np.load(DATA / "spikingjelly_parity.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def model():
    return onnx.load(DATA / "spikingjelly_parity.onnx")


@pytest.fixture(scope="module")
def conversions(model, recorded):
    return {mode: _classic(model, recorded["calibration"], mode) for mode in MODES}


def _classic(model, calibration, mode, **options):
    options = {"timesteps": 32, "batch_size": len(calibration), **options}
    options = {"batch_reduction": "exact", **options}
    return convert(model, calibration, preset="classic", mode=mode, holdout=0.0, **options)


def _thresholds(conversion):
    return [float(layer.scale.values) for layer in conversion.report.layers]


def test_the_recording_is_what_this_test_is_for(recorded):
    assert list(recorded["modes"]) == MODES
    assert recorded["timesteps"] == 32
    # Many membranes hit the threshold exactly: there are ties to get wrong.
    assert len({tuple(recorded[f"{mode}/thresholds"]) for mode in MODES}) == 3


@MODE
def test_thresholds(conversions, recorded, mode):
    np.testing.assert_array_equal(_thresholds(conversions[mode]), recorded[f"{mode}/thresholds"])


@MODE
@pytest.mark.parametrize("use_native", [True, False], ids=["native", "portable"])
def test_every_spike_and_the_output_at_every_step(conversions, recorded, mode, use_native):
    snn = conversions[mode].model
    rows, _ = ScheduleRecord.of(snn).readouts[0]
    neurons = [node.output[0] for node in snn.graph.node if node.op_type == "IFNeuron"]
    ranks = dict(zip([*neurons, rows], ([None] * rank for rank in (4, 4, 2, 2)), strict=True))
    probe = onnx.ModelProto()
    probe.CopyFrom(snn)
    for name in (*neurons, rows):
        value = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ranks[name])
        probe.graph.output.append(value)
    names = [output.name for output in probe.graph.output]
    results = play(probe, {"x": recorded["x"]}, use_native=use_native)
    assert names[0] == "y"
    for index, name in enumerate(neurons):
        spikes = recorded[f"{mode}/spikes_{index}"]
        np.testing.assert_array_equal(results[name].reshape(spikes.shape), spikes)
    y_steps = recorded[f"{mode}/y_steps"]
    np.testing.assert_array_equal(results[rows].reshape(y_steps.shape), y_steps)
    np.testing.assert_array_equal(results["y"], recorded[f"{mode}/y"])


@MODE
@pytest.mark.parametrize(("schedule", "block"), SCHEDULES)
def test_on_every_schedule(model, recorded, mode, schedule, block):
    # With the neurons as outputs: their running mean at every step tells every spike.
    probe = expose(model, relus(model).values())
    options = {"schedule": schedule, "block": block, "readout": "running"}
    snn = _classic(probe, recorded["calibration"], mode, **options).model
    actual = play(snn, {"x": recorded["x"]})
    steps = np.arange(1, 33, dtype=np.float32)
    for index, tensor in enumerate(relus(model).values()):
        counts = np.cumsum(recorded[f"{mode}/spikes_{index}"], axis=0, dtype=np.float32)
        rates = counts * recorded[f"{mode}/thresholds"][index]
        rates /= steps.reshape(-1, *[1] * (counts.ndim - 1))
        np.testing.assert_array_equal(actual[tensor], rates)
    sums = np.cumsum(recorded[f"{mode}/y_steps"], axis=0)
    np.testing.assert_array_equal(actual["y"], sums / steps[:, None, None])


@MODE
def test_thresholds_as_a_moving_average(model, recorded, mode):
    batches = list(recorded["ema_calibration"])
    conversion = _classic(model, batches, mode, batch_reduction="ema")
    # These data are not dyadic: onnxruntime and torch add up a layer's products in different
    # orders, so that a few activations, and with them the maximum, differ in the last place.
    actual = np.array(_thresholds(conversion), np.float32)
    np.testing.assert_array_max_ulp(actual, recorded[f"{mode}/ema_thresholds"], maxulp=2)


@MODE
def test_the_simulator_of_these_tests_agrees_with_it_too(recorded, mode):
    # All other tests of spikes rest on it. It cannot fold, so that it gets the folded network.
    graph = load_graph(onnx.load(DATA / "spikingjelly_parity.onnx"))
    fold_batch_normalization(graph)
    folded = gs.export_onnx(graph)
    names = list(relus(folded))
    limits = dict(zip(names, recorded[f"{mode}/thresholds"], strict=True))
    simulation = simulate(folded, limits, [{"x": recorded["x"]}] * 32, v_init=0.0)
    for index, name in enumerate(names):
        np.testing.assert_array_equal(simulation.spikes[name], recorded[f"{mode}/spikes_{index}"])
    np.testing.assert_array_equal(simulation.outputs["y"], recorded[f"{mode}/y_steps"])
