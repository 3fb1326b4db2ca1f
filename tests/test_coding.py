from itertools import product

import pytest

from onnx_snn.coding import Coding, InputCoding
from onnx_snn.errors import OptionError
from onnx_snn.neuron import Neuron

CONSTANT, SEQUENCE = InputCoding.CONSTANT, InputCoding.SEQUENCE
KINDS = ["if", "signed", "burst(1)", "burst(2)"]


@pytest.mark.parametrize("timesteps", [1, 2, 7])
def test_levels_are_the_sums_of_spikes(timesteps):
    """Counted by trying all trains of spikes 0 and 1."""
    for coding in Coding:
        weights = [coding.base ** (timesteps - 1 - t) for t in range(timesteps)]
        trains = product((0, 1), repeat=timesteps)
        sums = {sum(w * s for w, s in zip(weights, train, strict=True)) for train in trains}
        assert sums == set(range(coding.levels(timesteps) + 1))


def test_levels_of_bursts():
    assert Coding.RATE.levels(8, 3) == 24
    assert Coding.RADIX.levels(3) == 7


@pytest.mark.parametrize(
    ("coding", "is_phased", "base", "latency"),
    [
        ("rate", False, 1, 5),
        ("drain", False, 1, 5),
        ("two_phase", True, 1, 20),
        ("radix", True, 2, 20),
    ],
)
def test_what_a_coding_is(coding, is_phased, base, latency):
    coding = Coding(coding)
    assert coding.is_phased is is_phased
    assert coding.base == base
    # The first layer reads the image in a window of its own, so that there is one more than layers.
    assert coding.latency(5, layers=3) == latency


ALLOWED = {
    *(("rate", kind, shown) for kind in KINDS for shown in InputCoding),
    ("drain", "signed", CONSTANT),
    *(("two_phase", kind, shown) for kind in ("if", "burst(1)") for shown in InputCoding),
    *(("radix", kind, CONSTANT) for kind in ("if", "burst(1)")),
}


@pytest.mark.parametrize(("coding", "kind", "shown"), [*product(Coding, KINDS, InputCoding)])
def test_what_goes_together(coding, kind, shown):
    neuron = Neuron.parse(kind)
    if (coding, kind, shown) in ALLOWED:
        coding.check(neuron, shown)
        return
    with pytest.raises(OptionError, match=f"coding '{coding.value}'") as error:
        coding.check(neuron, shown)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("coding", ["two_phase", "radix"])
def test_windows_need_a_soft_reset(coding):
    with pytest.raises(OptionError, match="needs reset='subtract'"):
        Coding(coding).check(Neuron.parse("if", reset="zero"), CONSTANT)


def test_the_remedies_help():
    """What a message advises is accepted."""
    Coding.RATE.check(Neuron.parse("signed"), SEQUENCE)
    Coding.TWO_PHASE.check(Neuron.parse("if"), SEQUENCE)
    Coding.RADIX.check(Neuron.parse("if"), CONSTANT)
    Coding.DRAIN.check(Neuron.parse("signed"), CONSTANT)
