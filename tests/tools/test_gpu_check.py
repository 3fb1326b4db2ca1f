import json
import subprocess
import sys
from pathlib import Path

import onnxruntime as ort
import pytest

import onnx_snn

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "gpu_check.py"


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    library = ["--library", onnx_snn.get_library_path()]
    command = [sys.executable, SCRIPT, *library, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_its_checks_run_on_the_cpu_too(tmp_path):
    report = tmp_path / "report.json"
    done = call("--provider", "cpu", "--only", "kernels", "--quick", "--json", str(report))
    assert done.returncode == 0, done.stderr
    kernels = json.loads(report.read_text())["checks"]["kernels"]
    assert kernels["ok"]
    assert kernels["runs"] > 1_000


@pytest.mark.skipif(
    "CUDAExecutionProvider" in ort.get_available_providers(), reason="there is a GPU to check"
)
def test_without_a_gpu_it_says_so_and_claims_nothing():
    done = call()
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.cuda
@pytest.mark.skipif(
    "CUDAExecutionProvider" not in ort.get_available_providers(), reason="needs an NVIDIA GPU"
)
def test_on_a_gpu():
    done = call("--quick", "--only", "kernels", "placement", "model", "--json", "-")
    assert done.returncode == 0, done.stdout + done.stderr
