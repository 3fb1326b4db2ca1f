import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_snn.calibrate import ActivationStats, TensorStats
from onnx_snn.errors import CalibrationError, OptionError
from onnx_snn.scale import Scale
from onnx_snn.thresholds import Granularity, Mode, thresholds


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
            ("99.9%", Mode(percentile=99.9)),
            ("99%", Mode(percentile=99.0)),
            (" 50.25% ", Mode(percentile=50.25)),
            ("100%", Mode(percentile=100.0)),
            ("0.001%", Mode(percentile=0.001)),
            (0.5, Mode(factor=0.5)),
            ("0.5", Mode(factor=0.5)),
            (".5", Mode(factor=0.5)),
            ("1/2", Mode(factor=0.5)),
            ("1/3", Mode(factor=1 / 3)),
            ("2/3", Mode(factor=2 / 3)),
            ("1e-3", Mode(factor=1e-3)),
            (np.float64(0.25), Mode(factor=0.25)),
        ],
    )
    def test_accepted(self, value, mode):
        assert Mode.parse(value) == mode

    @pytest.mark.parametrize(
        "value",
        [
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
            st.floats(0.001, 100).map(lambda percentile: Mode(percentile=percentile)),
        )
    )
    def test_text_reads_back(self, mode):
        assert Mode.parse(str(mode)) == mode

    @pytest.mark.parametrize("text", ["max", "99.9%", "50%", "0.5"])
    def test_text(self, text):
        assert str(Mode.parse(text)) == text

    @pytest.mark.parametrize(("value", "wanted"), [("max", []), (0.5, []), ("99%", [99.0])])
    def test_percentiles_to_find(self, value, wanted):
        assert Mode.parse(value).percentiles == wanted


STATS = TensorStats(
    "relu", 8.0, [8.0, 4.0, 2.0], {"99": 6.0, "50": 0.0}, {"99": [6.0, 3.0, 0.0], "50": [1.0] * 3}
)
NO_CHANNELS = TensorStats("relu", 8.0, [], {"99": 6.0})
DEAD = TensorStats("relu", 0.0, [0.0, 0.0], {"99": 0.0}, {"99": [0.0, 0.0]})


def _threshold(entry, mode, granularity=Granularity.LAYER):
    (threshold,) = thresholds(
        ActivationStats({"t": entry}, 1), Mode.parse(mode), granularity
    ).values()
    return threshold


class TestLayer:
    @pytest.mark.parametrize(("mode", "level"), [("max", 8.0), (0.25, 2.0), ("99%", 6.0)])
    @pytest.mark.parametrize("entry", [STATS, NO_CHANNELS])
    def test_one_number(self, entry, mode, level):
        threshold = _threshold(entry, mode)
        assert threshold.scale == threshold.layer == Scale.of(level)
        assert not threshold.is_dead

    def test_a_quantile_of_0_falls_back_to_the_maximum(self):
        assert _threshold(STATS, "50%").scale == Scale.of(8.0)

    @pytest.mark.parametrize("mode", ["max", 0.5, "99%"])
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
        [("max", [8, 4, 2]), (0.25, [2, 1, 0.5]), ("99%", [6, 3, 6]), ("50%", [1, 1, 1])],
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
