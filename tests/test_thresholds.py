import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_snn.activation_stats import ActivationStats, TensorStats
from onnx_snn.errors import CalibrationError, OptionError
from onnx_snn.scale import Scale
from onnx_snn.thresholds import (
    Granularity,
    Mode,
    Rule,
    gains_by_channels,
    scarce,
    thresholds,
)


class TestMode:
    @pytest.mark.parametrize(
        ("value", "mode"),
        [
            ("max", Mode()),
            (" MAX ", Mode()),
            (1, Mode()),
            (1.0, Mode()),
            ("1", Mode()),
            ("1/1", Mode()),
            ("99.9%", Mode(Rule.PERCENTILE, 99.9)),
            ("99%", Mode(Rule.PERCENTILE, 99.0)),
            (" 50.25% ", Mode(Rule.PERCENTILE, 50.25)),
            ("100%", Mode(Rule.PERCENTILE, 100.0)),
            ("0.001%", Mode(Rule.PERCENTILE, 0.001)),
            (0.5, Mode(factor=0.5)),
            ("0.5", Mode(factor=0.5)),
            (".5", Mode(factor=0.5)),
            ("1/2", Mode(factor=0.5)),
            ("1/3", Mode(factor=1 / 3)),
            ("2/3", Mode(factor=2 / 3)),
            ("1e-3", Mode(factor=1e-3)),
            ("mse", Mode(Rule.MSE)),
            (" MSE", Mode(Rule.MSE)),
            ("ltb", Mode(Rule.LTB)),
            (np.float64(0.25), Mode(factor=0.25)),
        ],
    )
    def test_accepted(self, value, mode):
        assert Mode.parse(value) == mode

    @pytest.mark.parametrize(
        "value",
        [
            *("percentile", "mse%", "ltb 2", "Rule.MSE"),
            *("", "maximum", "min", "%", "max%", "99.9", "99.9 %", "-1%", "0%", "100.1%", "1e2%"),
            *("0", "0.0", "-0.5", "1.5", "2", "3/2", "1/0", "0/1", "1/2/3", "1/", "/2", "0.5/2"),
            *("nan", "inf", "nan%", "1e-400", "½", "٣/٤", "0x1", "1_0%", "1/" + "9" * 5000),
            *(
                0,
                0.0,
                -0.5,
                1.0001,
                2,
                float("nan"),
                float("inf"),
                True,
                False,
                None,
                [0.5],
                b"max",
            ),
        ],
    )
    def test_refused(self, value):
        with pytest.raises(OptionError) as caught:
            Mode.parse(value)
        message = str(caught.value)
        assert message.startswith("mode must be 'max', a percentile such as '99.9%' in (0%, 100%]")
        assert message.endswith(f"not {value!r}")

    @given(
        st.one_of(
            st.floats(0, 1, exclude_min=True).map(lambda factor: Mode(factor=factor)),
            st.floats(0.001, 100).map(lambda percentile: Mode(Rule.PERCENTILE, percentile)),
            st.sampled_from([Mode(Rule.MSE), Mode(Rule.LTB)]),
        )
    )
    def test_text_reads_back(self, mode):
        assert Mode.parse(str(mode)) == mode

    @pytest.mark.parametrize("text", ["max", "99.9%", "50%", "0.5", "mse", "ltb"])
    def test_text(self, text):
        assert str(Mode.parse(text)) == text

    @pytest.mark.parametrize(
        ("value", "wanted"), [("max", []), (0.5, []), ("99%", [99.0]), ("mse", []), ("ltb", [])]
    )
    def test_percentiles_to_find(self, value, wanted):
        assert Mode.parse(value).percentiles == wanted


STATS = TensorStats(
    "relu",
    8.0,
    [8.0, 4.0, 2.0],
    {"99": 6.0, "50": 0.0},
    {"99": [6.0, 3.0, 0.0], "50": [1.0] * 3},
    mse={"16": 5.0, "32": 7.0},
    channel_mse={"16": [4.0, 3.0, 0.0], "32": [7.0, 3.5, 0.0]},
    held_out_error={"16": [[1.0, 0.5], [1.0, 0.6]], "32": [[1.0, 0.5], [1.0, 0.99]]},
    ltb=9.0,
    channel_ltb=[10.0, 3.0, 0.0],
)
NO_CHANNELS = TensorStats("relu", 8.0, [], {"99": 6.0}, mse={"16": 5.0}, ltb=9.0)
DEAD = TensorStats(
    "relu",
    0.0,
    [0.0, 0.0],
    {"99": 0.0},
    {"99": [0.0, 0.0]},
    mse={"16": 0.0},
    channel_mse={"16": [0.0, 0.0]},
    held_out_error={"16": []},
    ltb=0.0,
    channel_ltb=[0.0, 0.0],
)


def _threshold(entry, mode, granularity=Granularity.LAYER, levels=16, bounds=None):
    stats = ActivationStats({"t": entry}, 1)
    (threshold,) = thresholds(stats, Mode.parse(mode), granularity, levels, bounds).values()
    return threshold


class TestLayer:
    @pytest.mark.parametrize(
        ("mode", "level"), [("max", 8.0), (0.25, 2.0), ("99%", 6.0), ("mse", 5.0), ("ltb", 9.0)]
    )
    @pytest.mark.parametrize("entry", [STATS, NO_CHANNELS])
    def test_one_number(self, entry, mode, level):
        threshold = _threshold(entry, mode)
        assert threshold.scale == threshold.layer == Scale.of(level)
        assert not threshold.is_dead

    def test_a_quantile_of_0_falls_back_to_the_maximum(self):
        assert _threshold(STATS, "50%").scale == Scale.of(8.0)

    @pytest.mark.parametrize("mode", ["max", 0.5, "99%", "mse", "ltb"])
    @pytest.mark.parametrize("granularity", list(Granularity))
    def test_a_dead_layer_gets_1(self, mode, granularity):
        threshold = _threshold(DEAD, mode, granularity)
        assert threshold.is_dead
        assert threshold.layer == Scale.of(1.0)
        np.testing.assert_array_equal(threshold.scale.values, np.ones_like(threshold.scale.values))

    def test_each_layer_its_own(self):
        stats = ActivationStats({"a": STATS, "b": NO_CHANNELS, "c": DEAD}, 1)
        found = thresholds(stats, Mode.parse("99%"))
        assert {name: entry.is_dead for name, entry in found.items()} == {
            "a": False,
            "b": False,
            "c": True,
        }


class TestChannels:
    @pytest.mark.parametrize(
        ("mode", "levels"),
        [
            ("max", [8, 4, 2]),
            (0.25, [2, 1, 0.5]),
            ("99%", [6, 3, 6]),
            ("50%", [1, 1, 1]),
            ("mse", [4, 3, 5]),
            ("ltb", [10, 3, 9]),
        ],
    )
    def test_each_its_own_and_a_silent_one_the_layers(self, mode, levels):
        threshold = _threshold(STATS, mode, Granularity.CHANNEL)
        assert threshold.scale == Scale.of(levels)
        assert threshold.layer == _threshold(STATS, mode).layer

    def test_without_channels_the_layers(self):
        threshold = _threshold(NO_CHANNELS, "99%", Granularity.CHANNEL)
        assert threshold.scale == threshold.layer == Scale.of(6.0)


@pytest.mark.parametrize("granularity", list(Granularity))
def test_a_quantile_that_was_not_gathered(granularity):
    with pytest.raises(CalibrationError, match=r"'relu' lack the 99.9% quantile .*99%, 50%"):
        _threshold(STATS, "99.9%", granularity)
    with pytest.raises(CalibrationError, match="they have: only the maximum"):
        _threshold(TensorStats("relu", 1.0, [1.0]), "99.9%", granularity)


MODES = ["max", 0.5, "99%", "mse", "ltb"]


class TestAuto:
    @pytest.mark.parametrize("mode", MODES)
    def test_channels_where_both_halves_say_so(self, mode):
        auto = _threshold(STATS, mode, Granularity.AUTO, 16)
        assert auto == _threshold(STATS, mode, Granularity.CHANNEL, 16)
        auto = _threshold(STATS, mode, Granularity.AUTO, 32)
        assert auto == _threshold(STATS, mode, Granularity.LAYER, 32)

    @pytest.mark.parametrize("entry", [NO_CHANNELS, DEAD])
    @pytest.mark.parametrize("mode", MODES)
    def test_else_the_layer(self, entry, mode):
        assert _threshold(entry, mode, Granularity.AUTO) == _threshold(entry, mode)

    @pytest.mark.parametrize("levels", [None, 8])
    def test_without_held_out_errors_the_layer(self, levels):
        assert _threshold(STATS, "99%", Granularity.AUTO, levels).scale == Scale.of(6.0)

    @pytest.mark.parametrize(
        ("errors", "gains"),
        [
            ([], False),
            ([[1.0, 0.1]], False),
            ([[1.0, 0.97], [1.0, 0.97]], True),
            ([[1.0, 0.97], [1.0, 0.99]], False),
            ([[0.0, 0.0], [0.0, 0.0]], False),
        ],
    )
    def test_the_gain_must_be_clear(self, errors, gains):
        entry = TensorStats("relu", 1.0, [1.0], held_out_error={"4": errors})
        assert gains_by_channels(entry, 4) is gains
        assert not gains_by_channels(entry, 8)
        assert not gains_by_channels(entry)


class TestBounds:
    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("granularity", list(Granularity))
    @pytest.mark.parametrize("bound", [2.5, np.array([2.5, 1.0, 2.0])])
    @pytest.mark.parametrize("entry", [STATS, NO_CHANNELS])
    def test_no_threshold_exceeds_them(self, mode, granularity, bound, entry):
        free = _threshold(entry, mode, granularity)
        found = _threshold(entry, mode, granularity, bounds={"t": bound})
        assert found.layer == Scale.of(min(free.layer.values, np.max(bound)))
        limit = np.max(bound) if found.scale.is_scalar else bound
        np.testing.assert_array_equal(found.scale.values, np.minimum(free.scale.values, limit))

    def test_of_other_tensors(self):
        found = _threshold(STATS, "max", bounds={"u": 1.0})
        assert found == _threshold(STATS, "max")

    def test_a_dead_layer(self):
        assert _threshold(DEAD, "max", bounds={"t": 0.25}).scale == Scale.of(0.25)


class TestScarce:
    @staticmethod
    def _names(samples, values, channel_max=(1.0,)):
        entry = TensorStats("relu", 1.0, list(channel_max), values=values)
        return scarce(ActivationStats({"t": entry}, samples))

    def test_few_samples_or_few_values(self):
        assert self._names(99, 10**6) == ["t"]
        assert self._names(500, 500) == ["t"]
        assert self._names(100, 1000) == []

    def test_not_known_or_without_channels(self):
        assert self._names(5, 0) == []
        assert self._names(5, 5, ()) == []


@pytest.mark.parametrize("granularity", list(Granularity))
class TestMissing:
    def test_levels(self, granularity):
        with pytest.raises(CalibrationError, match=r"'relu' lack the 'mse' .* 8 time.*16, 32\)"):
            _threshold(STATS, "mse", granularity, 8)
        with pytest.raises(CalibrationError, match="they have: none"):
            _threshold(TensorStats("relu", 1.0, [1.0]), "mse", granularity)
        with pytest.raises(OptionError, match="needs the number of time steps"):
            _threshold(STATS, "mse", granularity, None)

    def test_local_threshold_balancing(self, granularity):
        with pytest.raises(CalibrationError, match="'relu' lack the 'ltb' threshold; calibrate"):
            _threshold(TensorStats("relu", 1.0, [1.0]), "ltb", granularity)
