import json
import subprocess
import sys

import numpy as np
import onnx

import onnx_snn
from nets import Gaussian, Net
from onnx_snn.cli import main


def call(capsys, *arguments: str) -> str:
    capsys.readouterr()
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_inspect_has_a_row_for_every_node(folder, capsys):
    out = call(capsys, "inspect", "model.onnx")
    for op in ("MatMul", "Add", "Relu", "Gemm"):
        assert op in out
    assert out.count("spiking") == 2 + 1  # two rows, and their count
    content = json.loads(call(capsys, "inspect", "model.onnx", "--json"))
    assert content["convertible"]
    assert [n["kind"] for n in content["nodes"]].count("spiking") == 2


def test_inspect_tells_what_cannot_be_converted(folder, capsys):
    net = Net({"x": ["N", 3, 6, 6]})
    weight = Gaussian()
    y = net.op("Softmax", net.relu(net.conv("x", weight(4, 3, 3, 3))), axis=0)
    onnx.save(net.model(net.relu(net.conv(y, weight(4, 4, 1, 1)))), "mixed.onnx")
    assert main(["inspect", "mixed.onnx"]) == 1
    out = capsys.readouterr().out
    assert "refused" in out
    assert "cannot be converted: Softmax" in out
    assert main(["inspect", "mixed.onnx", "--json"]) == 1
    content = json.loads(capsys.readouterr().out)
    assert not content["convertible"]
    assert "Softmax" in content["problem"]


def test_inspect_tells_what_stays_graded(folder, capsys):
    net = Net({"x": ["N", 3, 6, 6]})
    weight = Gaussian()
    y = net.op("Sigmoid", net.relu(net.conv("x", weight(4, 3, 3, 3))))
    onnx.save(net.model(net.relu(net.conv(y, weight(4, 4, 1, 1)))), "graded.onnx")
    out = call(capsys, "inspect", "graded.onnx")
    assert "differential" in out
    assert "of the operations stay graded" in out
    content = json.loads(call(capsys, "inspect", "graded.onnx", "--json"))
    # Of 3·9 + 1 (Relu) + 1 (Sigmoid) + 4 + 1 operations for each of the 16·4 places.
    assert content["graded_share"] == 1 / 34


def test_inspect_knows_converted_files(folder, capsys):
    out = call(capsys, "inspect", "snn.onnx")
    assert "T = 20" in out
    assert "mode mse" in out
    content = json.loads(call(capsys, "inspect", "snn.onnx", "--json"))
    assert content["schedule"]["timesteps"] == 20
    assert all(value > 0 for value in content["thresholds"].values())


def test_names_with_brackets_are_shown_as_they_are(folder, capsys):
    model = onnx.load("model.onnx")
    for node in model.graph.node:
        node.name = f"[bold]{node.op_type}[{node.output[0]}]"
    onnx.save(model, "brackets.onnx")
    assert "[bold]MatMul[matmul0]" in call(capsys, "inspect", "brackets.onnx")


def test_convert_equals_the_library(folder, capsys):
    options = ["--calibration", "data.npz", "-T", "16", "--mode", "1/2", "--granularity", "channel"]
    out = call(capsys, "convert", "model.onnx", *options, "-o", "out.onnx")
    with np.load("data.npz") as data:
        expected = onnx_snn.convert(
            "model.onnx", data["x"], timesteps=16, mode=0.5, granularity="channel"
        )
    assert onnx.load("out.onnx") == expected.model
    for layer in expected.report.layers:
        assert layer.name in out
    assert "held-out" in out
    assert "agreement with the ANN" in out


def test_convert_keeps_and_reuses_statistics(folder, capsys):
    data = ["--calibration", "data.npz"]
    options = [*data, "--no-bias-calibration", "--save-stats", "stats.json"]
    call(capsys, "convert", "model.onnx", *options, "-o", "a.onnx")
    call(capsys, "convert", "model.onnx", "--stats", "stats.json", "-o", "b.onnx")
    assert (folder / "a.onnx").read_bytes() == (folder / "b.onnx").read_bytes()


def test_convert_as_json(folder, capsys):
    arguments = ["-c", "data.npz", "-o", "out.onnx", "--json"]
    content = json.loads(call(capsys, "convert", "model.onnx", *arguments))
    assert content["output"] == "out.onnx"
    assert 0 < content["agreement"] <= 1
    assert [set(layer) for layer in content["layers"]] == [
        {"name", "op", "scale", "is_dead", "firing_rate", "size"}
    ] * 2


def test_evaluate_shows_the_library_figures(folder, capsys):
    arguments = ["--data", "data.npz", "--reference", "model.onnx"]
    content = json.loads(call(capsys, "evaluate", "snn.onnx", *arguments, "--json"))
    with np.load("data.npz") as data:
        expected = onnx_snn.evaluate("snn.onnx", (data["x"], data["y"]), reference="model.onnx")
    assert content["accuracy"] == expected.accuracy
    assert content["agreement"] == expected.agreement
    assert content["ann_accuracy"] == expected.ann_accuracy
    out = call(capsys, "evaluate", "snn.onnx", *arguments, "--plot", "curve.png")
    assert f"{100 * expected.accuracy[-1]:.2f} %" in out
    assert f"{100 * expected.ann_accuracy:.2f} %" in out
    assert (folder / "curve.png").stat().st_size > 10_000


def test_help_teaches(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert "onnx-snn inspect" in out
    assert "Exit codes" in out
    for command in ("inspect", "convert", "evaluate"):
        assert main([command, "--help"]) == 0
        assert "Exit codes" in capsys.readouterr().out


def test_a_pipe_sees_no_progress_bar_and_no_colours(folder):
    command = [sys.executable, "-m", "onnx_snn", "convert", "model.onnx"]
    done = subprocess.run(
        [*command, "-c", "data.npz", "-o", "out.onnx"], capture_output=True, check=True
    )
    assert done.stderr == b""
    assert b"\x1b" not in done.stdout
    assert b"calibrating" not in done.stdout


def test_reschedule_writes_the_same_network_for_another_schedule_and_target(folder, capsys):
    options = ["--schedule", "loop", "--target", "cpu"]
    call(capsys, "reschedule", "snn.onnx", *options, "-o", "new.onnx")
    x = np.load("data.npz")["x"]
    expected, actual = (
        onnx_snn.create_session(name).run(None, {"x": x})[0] for name in ("snn.onnx", "new.onnx")
    )
    np.testing.assert_allclose(actual, expected, rtol=0, atol=0.2)
    assert np.mean(np.abs(actual - expected) > 1e-4) < 0.05
    ops = {node.op_type for node in onnx.load("new.onnx").graph.node}
    assert "Loop" in ops
    assert main(["reschedule", "new.onnx", "--target", "any", "-o", "any.onnx"]) == 2
    assert "cannot be put back to target 'any'; convert it again" in capsys.readouterr().err
    assert not (folder / "any.onnx").exists()
