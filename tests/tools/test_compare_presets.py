"""The comparison of the presets: its table, its verdicts, and what it counts."""

from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

import compare_presets
import onnx_snn
from compare_presets import NETWORKS, ROWS, Row, meets_bar
from onnx_snn.presets import PRESETS

MODELS = Path(__file__).resolve().parents[2] / "models"


def test_the_table_names_what_there_is_once():
    assert {row.network for row in ROWS} == set(NETWORKS)
    assert {row.preset for row in ROWS} <= set(PRESETS)
    assert len({(row.network, row.preset, row.timesteps) for row in ROWS}) == len(ROWS)
    for row in ROWS:
        bars = (row.most_loss, row.least_agreement, row.equals_quantised or None)
        assert sum(bar is not None for bar in bars) <= 1


@pytest.mark.parametrize(
    ("bar", "result", "verdict"),
    [
        ({"most_loss": 0.03}, {"loss": 99.02 - 98.99}, True),
        ({"most_loss": 0.03}, {"loss": 0.04}, False),
        ({"most_loss": 0.03}, {"loss": -0.1}, True),
        ({"least_agreement": 97.0}, {"agreement": 97.0}, True),
        ({"least_agreement": 97.0}, {"agreement": 96.5}, False),
        ({"equals_quantised": True}, {"equal_to_quantised": 100.0}, True),
        ({"equals_quantised": True}, {"equal_to_quantised": 99.98}, False),
        ({}, {"loss": 50.0}, None),
    ],
)
def test_a_bar_is_met_or_missed(bar, result, verdict):
    assert meets_bar(Row("mnist", "default", 8, **bar), result) is verdict


@pytest.mark.parametrize("preset", ["default", "radix"])
def test_the_spikes_are_those_that_the_conversion_reports(preset):
    """Conversion counts them step by step on what calibrated, here the same images."""
    with np.load(MODELS / "mnist_calibration.npz") as data:
        x = data["x"][:16]
    snn = onnx_snn.convert(MODELS / "mnist_cnn.onnx", x, preset=preset, timesteps=4, holdout=0.0)
    counted = compare_presets.count_spikes(snn.model, x, 4, Namespace(threads=1))
    assert counted == pytest.approx(snn.report.spikes_per_neuron, rel=1e-4)
