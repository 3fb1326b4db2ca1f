"""What README.md shows is run as it stands there."""

import os
import re
import shlex
from pathlib import Path

import pytest

import onnx_snn
from onnx_snn.cli import main

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def beside_models(tmp_path, monkeypatch):
    os.symlink(ROOT / "models", tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_python(beside_models):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["snn"].report.agreement > 0.98
    assert names["probabilities"].shape == names["sooner"].shape == (8, 10)


def test_command_line(beside_models):
    commands = re.findall(r"^    onnx-snn (.*)$", README, re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["inspect", "convert", "evaluate"]
    for command in commands:
        more = ["--limit", "50"] if command.startswith("evaluate") else []
        assert main([*shlex.split(command), *more]) == 0
    assert (beside_models / "snn.onnx").exists()
    assert (beside_models / "curve.png").exists()


def test_public_names_exist():
    for name in onnx_snn.__all__:
        assert getattr(onnx_snn, name).__doc__
    for name in re.findall(r"onnx_snn\.(\w+)\(", README):
        assert name in onnx_snn.__all__
