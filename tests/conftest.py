"""Fixtures that several tests share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

MODELS = Path(__file__).resolve().parent.parent / "models"


@pytest.fixture(scope="session")
def mnist_model() -> Path:
    """The trained MNIST CNN."""
    return MODELS / "mnist_cnn.onnx"


@pytest.fixture(scope="session")
def mnist_calibration() -> Path:
    """1,000 training images with labels."""
    return MODELS / "mnist_calibration.npz"


@pytest.fixture(scope="session")
def mnist_test() -> tuple[np.ndarray, np.ndarray]:
    """2,000 test images and their labels."""
    with np.load(MODELS / "mnist_test.npz") as data:
        return data["x"], data["y"]
