"""Files that the command line works on."""

import numpy as np
import onnx
import pytest

import onnx_snn
from nets import Gaussian, mlp


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with model.onnx, data.npz (x, y) and snn.onnx."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    x = random.normal(0, 1, (60, 7)).astype(np.float32)
    model = mlp(Gaussian(1))
    onnx.save(model, "model.onnx")
    np.savez("data.npz", x=x, y=random.integers(0, 3, 60))
    onnx_snn.convert(model, x, timesteps=20).save("snn.onnx")
    return tmp_path
