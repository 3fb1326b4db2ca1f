import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from algebra import assert_close
from nets import Dyadic, Gaussian, Net, cnn, mlp, residual, run
from onnx_snn import convert, reschedule
from onnx_snn.errors import CalibrationError, OptionError, OutputError
from onnx_snn.operators import Kind
from onnx_snn.schedule import ScheduleRecord
from simulator import dyadic_thresholds, expose, play, relus, stats_of

NETS = [(mlp, (7,)), (cnn, (2, 8, 8)), (residual, (3, 6, 6))]


def _data(*shape, samples=64, seed=0):
    return np.random.default_rng(seed).normal(size=(samples, *shape)).astype(np.float32)


def _clipped(model, lambdas):
    """The ANN that a spiking network tends to: min(Relu(x), λ)."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        if node.op_type == "Relu":
            node.op_type = "Clip"
            for bound in (0.0, lambdas[node.name]):
                name = f"bound{len(copy.graph.initializer)}"
                copy.graph.initializer.append(numpy_helper.from_array(np.float32(bound), name))
                node.input.append(name)
    return copy


@pytest.mark.parametrize(("build", "shape"), NETS)
@pytest.mark.parametrize("mode", ["max", 0.5])
def test_tends_to_the_clipped_network_as_one_over_t(build, shape, mode):
    model, x = build(Gaussian(2)), _data(*shape)
    options = {"mode": mode, "granularity": "layer", "bias_calibration": False}
    conversion = convert(model, x, holdout=0, **options)
    lambdas = {layer.name: layer.scale.values for layer in conversion.report.layers}
    (expected,) = run(_clipped(model, lambdas), {"x": x})

    def scaled_error(timesteps):
        actual = play(conversion.model, {"x": x}, timesteps)["y"]
        return timesteps * np.abs(actual - expected).max() / np.abs(expected).max()

    first = scaled_error(16)
    for timesteps in (64, 256):
        # Error times T is constant but for chance; it would grow by 4 or 16 otherwise.
        assert first / 2 < scaled_error(timesteps) < first * 2


@pytest.mark.parametrize(("build", "shape"), NETS)
def test_thresholds_are_the_greatest_activations(build, shape):
    model, x = build(Gaussian(2)), _data(*shape)
    names = relus(model)
    activations = run(expose(model, names.values()), {"x": x})[1:]
    report = convert(model, x, mode="max", holdout=0, granularity="layer").report
    assert [layer.name for layer in report.layers] == list(names)
    for layer, values in zip(report.layers, activations, strict=True):
        # Calibration runs an optimised network, whose sums are in another order.
        assert_close(layer.scale.values, values.max(), 2e-6)
    channels = convert(model, x, mode="max", holdout=0, granularity="channel").report.layers
    for layer, values in zip(channels, activations, strict=True):
        greatest = values.max(axis=tuple(axis for axis in range(values.ndim) if axis != 1))
        # A channel that is silent on all data has the layer's.
        expected = np.where(greatest > 0, greatest, greatest.max())
        assert_close(layer.scale.values, expected, 2e-6)


class TestDeterminism:
    @pytest.mark.parametrize("schedule", ["layer", "loop", "step"])
    def test_same_inputs_same_bytes(self, schedule):
        model, x = residual(Gaussian(1)), _data(3, 6, 6)
        options = {"schedule": schedule, "granularity": "channel"}
        first, second = (convert(model, x, **options).model for _ in range(2))
        assert _bytes(first) == _bytes(second)

    def test_in_another_process_too(self, tmp_path):
        # The order of Python's sets of strings differs from process to process.
        script = tmp_path / "script.py"
        script.write_text(
            "import sys, hashlib, numpy as np, onnx_snn\n"
            "x = np.load(sys.argv[2])\n"
            "options = {'granularity': 'channel', 'schedule': 'loop'}\n"
            "model = onnx_snn.convert(sys.argv[1], x, **options).model\n"
            "print(hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest())\n"
        )
        onnx.save(residual(Gaussian(1)), tmp_path / "model.onnx")
        np.save(tmp_path / "x.npy", _data(3, 6, 6))
        command = [
            sys.executable,
            str(script),
            str(tmp_path / "model.onnx"),
            str(tmp_path / "x.npy"),
        ]
        digests = {
            subprocess.run(
                command,
                env={**os.environ, "PYTHONHASHSEED": seed},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for seed in ("1", "2")
        }
        assert len(digests) == 1
        assert len(digests.pop()) == 65

    def test_the_given_model_is_not_changed(self):
        model = cnn(Gaussian(1), normalised=True)
        before = _bytes(model)
        convert(model, _data(2, 8, 8))
        assert _bytes(model) == before

    def test_another_schedule_is_a_reschedule_away(self):
        model, x = residual(Gaussian(1)), _data(3, 6, 6)
        layer = convert(model, x, timesteps=8, bias_calibration=False)
        for schedule, block in (("loop", 3), ("step", 1)):
            options = {"timesteps": 8, "schedule": schedule, "block": block}
            direct = convert(model, stats=layer.stats, **options).model
            moved = reschedule(layer.model, schedule=schedule, block=block)
            expected = play(direct, {"x": x})
            actual = play(moved, {"x": x})
            assert expected.keys() == actual.keys()
            for name, values in expected.items():
                np.testing.assert_array_equal(actual[name], values)


def _bytes(model):
    return model.SerializeToString(deterministic=True)


class TestFile:
    def test_says_what_it_is(self):
        model = cnn(Gaussian(1))
        model.metadata_props.add(key="author", value="someone")
        x = _data(2, 8, 8)
        conversion = convert(model, x, mode="99.9%", granularity="channel", timesteps=9)
        entries = {entry.key: entry.value for entry in conversion.model.metadata_props}
        assert entries["author"] == "someone"
        assert entries["onnx_snn.source_sha256"] == hashlib.sha256(_bytes(model)).hexdigest()
        assert entries["onnx_snn.mode"] == "99.9%"
        assert entries["onnx_snn.granularity"] == "channel"
        lambdas = json.loads(entries["onnx_snn.thresholds"])
        assert list(lambdas) == list(relus(model))
        for layer in conversion.report.layers:
            assert lambdas[layer.name] == layer.scale.values.tolist()
        assert ScheduleRecord.of(conversion.model).timesteps == 9

    @pytest.mark.parametrize("schedule", ["layer", "loop", "step"])
    def test_is_valid_and_runs_in_a_stock_onnxruntime(self, schedule, tmp_path):
        conversion = convert(cnn(Gaussian(1)), _data(2, 8, 8), schedule=schedule)
        onnx.checker.check_model(conversion.model)
        conversion.save(tmp_path / "snn.onnx")
        assert onnx.load(tmp_path / "snn.onnx") == conversion.model
        feeds = {"x": _data(2, 8, 8, samples=3)}
        portable = play(conversion.model, feeds, use_native=False)
        assert portable["y"].shape == (3, 5)

    def test_that_cannot_be_written(self, tmp_path):
        conversion = convert(mlp(Gaussian(1)), _data(7))
        with pytest.raises(OutputError, match="cannot be written"):
            conversion.save(tmp_path / "missing" / "snn.onnx")
        assert not list(tmp_path.iterdir())


class TestReport:
    def test_of_a_network_too_large_to_be_checked(self, monkeypatch):
        x = Gaussian()(40, 2, 8, 8)
        monkeypatch.setattr(sys.modules["onnx_snn.convert"], "_CHECK", 0)
        checked = convert(cnn(Gaussian()), x, timesteps=4).report
        # A quarter of what 36 samples cost is enough for 2 at T = 4, and for none at T = 32.
        assert checked.validation_samples == 2
        report = convert(cnn(Gaussian()), x, timesteps=32).report
        assert report.validation_samples == 0
        assert report.agreement is None
        assert [layer.firing_rate for layer in report.layers] == [None, None]

    def test_of_a_conversion(self):
        model, x = cnn(Gaussian(1), normalised=True), _data(2, 8, 8, samples=200)
        report = convert(model, x, timesteps=64).report
        assert (report.calibration_samples, report.validation_samples) == (180, 20)
        assert report.held_out
        assert report.timesteps == 64
        assert report.agreement is not None
        assert report.agreement > 0.8
        assert 0 < report.output_error < 0.2
        assert [layer.op for layer in report.layers] == ["Relu", "Relu"]
        # The network that the verdicts are of is the original, BatchNormalization included.
        assert [v.node for v in report.verdicts if v.kind is Kind.SPIKING] == ["Relu_2", "Relu_5"]
        assert any(verdict.op == "BatchNormalization" for verdict in report.verdicts)

    def test_firing_rates_are_those_of_the_spikes(self):
        model = expose(cnn(Dyadic(1)), relus(cnn(Dyadic(1))).values())
        x = Dyadic(2)(30, 2, 8, 8, step=1 / 8)
        options = {"neuron": "if", "mode": "max", "granularity": "layer"}
        conversion = convert(model, x, timesteps=16, **options)
        validation = x[9::10]  # every tenth sample is set aside
        rates = play(conversion.model, {"x": validation})
        for layer, tensor in zip(conversion.report.layers, relus(model).values(), strict=True):
            expected = (rates[tensor] / layer.scale.values).mean()
            np.testing.assert_allclose(layer.firing_rate, expected, rtol=1e-5)

    def test_without_data_there_is_nothing_to_check_on(self):
        first = convert(mlp(Gaussian(1)), _data(7), bias_calibration=False)
        second = convert(mlp(Gaussian(1)), stats=first.stats)
        assert _bytes(second.model) == _bytes(first.model)
        assert second.report.agreement is None
        assert second.report.output_error is None
        assert second.report.validation_samples == 0
        assert all(layer.firing_rate is None for layer in second.report.layers)

    def test_without_a_holdout_it_is_checked_on_the_first_samples(self):
        report = convert(mlp(Gaussian(1)), _data(7), holdout=0).report
        assert (report.calibration_samples, report.validation_samples) == (64, 64)
        assert not report.held_out

    def test_layers_that_never_fire(self):
        net = Net({"x": ["N", 4]})
        dead = net.relu(net.gemm("x", np.zeros((4, 3), np.float32), -np.ones(3, np.float32)))
        model = net.model(net.gemm(dead, Gaussian()(3, 2)))
        conversion = convert(model, _data(4))
        (layer,) = conversion.report.layers
        assert layer.is_dead
        assert layer.scale.values == 1
        assert layer.firing_rate == 0
        x = _data(4, samples=3)
        np.testing.assert_array_equal(
            play(conversion.model, {"x": x})["y"], run(model, {"x": x})[0]
        )


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"mode": "median"}, "mode must be 'max'"),
            ({"mode": 1.5}, "mode must be"),
            ({"timesteps": 0}, "timesteps must be a whole number of at least 1, not 0"),
            ({"timesteps": -3}, "timesteps must be"),
            ({"timesteps": 2.0}, "timesteps must be"),
            ({"timesteps": "many"}, "timesteps must be"),
            ({"block": 0}, "block must be"),
            ({"schedule": "spiral"}, "schedule must be one of layer, loop, step"),
            ({"readout": "last"}, "readout must be one of mean, running"),
            ({"granularity": "pixel"}, "granularity must be one of layer, channel"),
            ({"input_coding": "poisson"}, "input_coding must be one of constant, sequence"),
            ({"reset": "hard"}, "reset must be one of subtract, zero, not 'hard'"),
            ({"v_init": float("nan")}, "v_init must be a finite number, not nan"),
            ({"v_init": float("inf")}, "v_init must be"),
            ({"v_init": "half"}, "v_init must be"),
            ({"batch_reduction": "median"}, "batch_reduction must be one of exact, ema"),
            ({"batch_size": 0}, "batch size must be a whole number of at least 1"),
            ({"holdout": 0.9}, "holdout must be"),
        ],
        ids=str,
    )
    def test_out_of_range(self, options, message):
        with pytest.raises(OptionError, match=message) as caught:
            convert(mlp(Gaussian()), _data(7), **options)
        assert "\n" not in str(caught.value)

    def test_neither_data_nor_statistics(self):
        with pytest.raises(OptionError, match="calibration data is missing"):
            convert(mlp(Gaussian()))

    def test_statistics_of_another_model(self):
        stats = convert(mlp(Gaussian()), _data(7)).stats
        with pytest.raises(CalibrationError, match=r"of another model .*calibrate this one"):
            convert(cnn(Gaussian()), stats=stats)

    def test_statistics_without_the_quantile(self):
        stats = convert(mlp(Gaussian()), _data(7), mode="max").stats
        with pytest.raises(CalibrationError, match=r"lack the 99.9% quantile .*calibrate again"):
            convert(mlp(Gaussian()), stats=stats, mode="99.9%")


def test_statistics_serve_every_mode_and_schedule():
    model = mlp(Dyadic(1))
    x = Dyadic(2)(8, 7, step=1 / 8)
    thresholds = dyadic_thresholds(model, {"x": x})
    stats = stats_of(model, thresholds)
    for mode, factor in (("max", 1), (0.5, 0.5), ("1/4", 0.25)):
        report = convert(model, stats=stats, mode=mode).report
        for layer in report.layers:
            assert layer.scale.values == factor * thresholds[layer.name]


def test_sources_of_all_kinds(tmp_path):
    model, x = mlp(Gaussian(1)), _data(7)
    path = tmp_path / "model.onnx"
    path.write_bytes(_bytes(model))
    expected = _bytes(convert(model, x).model)
    for source in (path, str(path), _bytes(model)):
        assert _bytes(convert(source, x).model) == expected


def test_the_report_tells_on_how_many_samples_biases_were_calibrated():
    x = np.random.default_rng(0).normal(0, 1, (50, 7)).astype(np.float32)
    report = convert(mlp(Gaussian(1)), x, timesteps=4, holdout=0.2, bias_calibration=True).report
    assert report.bias_samples == report.calibration_samples == 40
