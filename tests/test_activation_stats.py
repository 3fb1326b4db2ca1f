"""The statistics that calibration writes and reads."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nets import Dyadic, Gaussian, cnn, mlp
from onnx_snn import ActivationStats, convert
from onnx_snn.activation_stats import TensorStats, percentile_key
from onnx_snn.calibrate import calibrate
from onnx_snn.data import Batch
from onnx_snn.errors import CalibrationError, OutputError
from onnx_snn.load import load_graph


def _inputs(shape, samples=200):
    return Dyadic(0)(samples, *shape, step=1 / 8)


class TestKeys:
    """The text that a percentile has in the file."""

    @pytest.mark.parametrize(
        ("percentile", "key"), [(99.9, "99.9"), (99, "99"), (100.0, "100"), (np.float64(50), "50")]
    )
    def test_key(self, percentile, key):
        assert percentile_key(percentile) == key

    @given(st.floats(0, 100, exclude_min=True), st.floats(0, 100, exclude_min=True))
    def test_no_two_percentiles_share_a_key(self, a, b):
        assert (percentile_key(a) == percentile_key(b)) == (a == b)


class TestFile:
    @pytest.fixture
    def stats(self):
        graph, batches = load_graph(cnn(Dyadic())), [Batch({"x": _inputs((2, 8, 8))})]
        return calibrate(graph, batches, percentiles=(99, 99.9), levels=(8,), ltb=True)

    def test_files_of_version_0_1_load(self, tmp_path):
        old = {"node": "relu", "max": 2.0, "channel_max": [2.0], "quantiles": {}}
        content = {"tensors": {"t": {**old, "channel_quantiles": {}}}, "samples": 3}
        path = tmp_path / "stats.json"
        path.write_text(json.dumps({"format": 1, **content, "batch_reduction": "exact"}))
        expected = TensorStats("relu", 2.0, [2.0])
        assert ActivationStats.load(path) == ActivationStats({"t": expected}, 3)

    def test_round_trip(self, stats, tmp_path):
        stats.save(tmp_path / "stats.json")
        assert ActivationStats.load(tmp_path / "stats.json") == stats
        assert json.loads((tmp_path / "stats.json").read_text())["samples"] == 200

    @pytest.mark.parametrize("batch_reduction", ["exact", "ema"])
    def test_loaded_they_convert_to_the_same_bytes(self, tmp_path, batch_reduction):
        model, x = cnn(Gaussian()), _inputs((2, 8, 8))
        first = convert(model, x, batch_reduction=batch_reduction, bias_calibration=False)
        first.stats.save(tmp_path / "stats.json")
        second = convert(model, stats=ActivationStats.load(tmp_path / "stats.json"))
        assert first.model.SerializeToString(deterministic=True) == (
            second.model.SerializeToString(deterministic=True)
        )

    def test_names_in_any_script(self, tmp_path):
        stats = ActivationStats({"übung/層": TensorStats("节点", 1.5, [1.5])}, 1)
        stats.save(tmp_path / "stats.json")
        assert ActivationStats.load(tmp_path / "stats.json") == stats

    def test_of_another_model(self, stats):
        with pytest.raises(CalibrationError, match="another model"):
            convert(mlp(Dyadic()), stats=stats)

    @pytest.mark.parametrize("granularity", ["layer", "channel"])
    def test_of_a_model_with_other_channels(self, stats, granularity):
        name, entry = next(iter(stats.tensors.items()))
        fewer = replace(
            entry,
            channel_max=entry.channel_max[1:],
            channel_quantiles={k: v[1:] for k, v in entry.channel_quantiles.items()},
            channel_mse={k: v[1:] for k, v in entry.channel_mse.items()},
            channel_ltb=entry.channel_ltb[1:],
        )
        other = replace(stats, tensors={**stats.tensors, name: fewer})
        with pytest.raises(CalibrationError, match="another model"):
            convert(cnn(Dyadic()), stats=other, granularity=granularity)

    def test_missing_file(self, tmp_path):
        with pytest.raises(CalibrationError, match=r"nothing\.json: cannot be read \(No such file"):
            ActivationStats.load(tmp_path / "nothing.json")
        with pytest.raises(CalibrationError, match="cannot be read"):
            ActivationStats.load(tmp_path)

    def test_unwritable_place(self, stats, tmp_path):
        with pytest.raises(OutputError, match="cannot be written"):
            stats.save(tmp_path / "no" / "stats.json")

    def _load(self, tmp_path, content):
        path = tmp_path / "stats.json"
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        with pytest.raises(CalibrationError) as caught:
            ActivationStats.load(path)
        assert "\n" not in str(caught.value)
        assert "is not a file of calibration statistics" in str(caught.value)

    def test_every_truncation(self, stats, tmp_path):
        stats.save(tmp_path / "whole.json")
        content = (tmp_path / "whole.json").read_bytes()
        for length in range(0, len(content) - 2, 37):
            self._load(tmp_path, content[:length])

    @pytest.mark.parametrize(
        "content",
        [b"", b"\xff\xfe\x00", b"[" * 100_000, b"null", b"[]", b"3", b'"text"', b"{}", b"NaN"],
    )
    def test_not_such_a_file(self, tmp_path, content):
        self._load(tmp_path, content)

    @pytest.mark.parametrize(
        "damage",
        [
            {"format": 2},
            {"format": None},
            {"tensors": []},
            {"tensors": {"t": 3}},
            {"tensors": {"t": {}}},
            {"samples": "many"},
            {"samples": None},
            {"batch_reduction": "sum"},
        ],
    )
    def test_a_wrong_entry(self, stats, tmp_path, damage):
        self._load(tmp_path, {"format": 1, **asdict(stats), **damage})

    @pytest.mark.parametrize(
        "damage",
        [
            {"max": "6"},
            {"max": float("nan")},
            {"max": float("inf")},
            {"max": None},
            {"max": True},
            {"channel_max": 3.0},
            {"channel_max": [1.0]},
            {"channel_max": ["1.0"] * 4},
            {"quantiles": [1.0]},
            {"quantiles": {"99": "1"}},
            {"channel_quantiles": {"99": 1.0}},
            {"channel_quantiles": {"99": [1.0, 2.0]}},
            {"mse": {"8": None}},
            {"mse": 1.0},
            {"channel_mse": {"8": [1.0]}},
            {"held_out_error": {"8": [[1.0]]}},
            {"held_out_error": {"8": [[1.0, "2"]]}},
            {"held_out_error": [1.0]},
            {"ltb": "1"},
            {"ltb": 1},
            {"channel_ltb": [1.0]},
            {"values": "many"},
            {"values": 1.5},
            {"more": 1},
        ],
    )
    def test_a_wrong_number(self, stats, tmp_path, damage):
        content = {"format": 1, **asdict(stats)}
        next(iter(content["tensors"].values())).update(damage)
        self._load(tmp_path, content)
