import pytest

from onnx_snn.errors import OptionError
from onnx_snn.neuron import Neuron


@pytest.mark.parametrize(
    ("kind", "least", "most", "is_signed"),
    [
        ("if", 0, 1, False),
        ("signed", -1, 1, True),
        ("burst(1)", 0, 1, False),
        ("burst(5)", 0, 5, False),
        ("burst(999)", 0, 999, False),
    ],
)
def test_kinds(kind, least, most, is_signed):
    neuron = Neuron.parse(kind, v_init=0.25)
    assert (neuron.spike_min, neuron.spike_max) == (least, most)
    assert (neuron.v_init, neuron.reset) == (0.25, "subtract")
    assert neuron.is_signed is is_signed


@pytest.mark.parametrize(
    "kind",
    [
        *("burst", "burst()", "burst(0)", "burst(00)", "burst(-1)", "burst(1.5)", "burst(1000)"),
        *("burst(٣)", "burst(3", " if", "IF", "signed ", "lif", "", None, 1, b"if"),
    ],
)
def test_unknown_kinds(kind):
    with pytest.raises(OptionError, match="m >= 1") as error:
        Neuron.parse(kind)
    assert "\n" not in str(error.value)
    assert repr(kind) in str(error.value)


@pytest.mark.parametrize("v_init", [float("nan"), float("inf"), -float("inf"), "0.5", None, 1j])
def test_a_start_that_is_no_number(v_init):
    with pytest.raises(OptionError, match="v_init must be a finite number"):
        Neuron.parse("if", v_init=v_init)


def test_resets():
    assert Neuron.parse("if", reset="zero").reset == "zero"
    assert Neuron.parse("burst(2)", reset="zero").reset == "zero"
    with pytest.raises(OptionError, match="reset must be one of subtract, zero, not 'none'"):
        Neuron.parse("if", reset="none")
    with pytest.raises(OptionError, match="need reset='subtract'"):
        Neuron.parse("signed", reset="zero")
