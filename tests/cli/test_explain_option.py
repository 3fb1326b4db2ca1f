import json

import numpy as np

from onnx_snn.cli import main
from onnx_snn.explain import explain

ARGUMENTS = ["evaluate", "snn.onnx", "--data", "data.npz", "--explain"]


def test_a_table_of_the_errors(folder, capsys):
    assert main([*ARGUMENTS, "-r", "model.onnx", "-T", "6", "--limit", "50"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    with np.load("data.npz") as data:
        errors = explain("snn.onnx", data["x"], "model.onnx", timesteps=6, limit=50)
    for error in errors:
        row = next(line for line in out.splitlines() if error.name in line and error.remedy in line)
        assert f"{100 * error.total:.1f} %" in row
        assert f"{100 * error.quantisation:.1f} %" in row
        assert f"{100 * error.share:.1f} %" in row


def test_json_has_the_errors_when_asked(folder, capsys):
    assert main([*ARGUMENTS, "-r", "model.onnx", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    errors = explain("snn.onnx", "data.npz", "model.onnx")
    assert content["errors"] == [error.to_dict() for error in errors]
    assert main([*ARGUMENTS[:-1], "-r", "model.onnx", "--json"]) == 0
    assert "errors" not in json.loads(capsys.readouterr().out)


def test_without_a_reference_it_is_refused(folder, capsys):
    assert main(ARGUMENTS) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "error: --explain compares with the ANN; give it with --reference MODEL\n"
