"""The reference of PhaseNeuron against quantisation, in exact arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings

from if_neuron_cases import DTYPES, dyadic, gaussian
from onnx_snn.ops.reference import phase_neuron
from phase_neuron_cases import BASES, DEFAULTS, Case, random_cases

all_bases = pytest.mark.parametrize("base", BASES.values(), ids=BASES)


def spikes_of(level: int, base: int, steps: int) -> list[int]:
    """The bits of a number, the highest first; or as many ones, and zeros behind."""
    if base == 2:
        return [level >> (steps - 1 - t) & 1 for t in range(steps)]
    return [int(t < level) for t in range(steps)]


def quantised(potential: Fraction, base: int, steps: int, threshold: float) -> list[int]:
    level = potential // Fraction(threshold)
    return spikes_of(min(max(level, 0), 2**steps - 1 if base == 2 else steps), base, steps)


def currents_per_neuron(case: Case, x: np.ndarray) -> list[np.ndarray]:
    """The T currents of each neuron."""
    given_steps = 1 if case.attributes.get("constant_input") else case.steps
    folded = x.reshape(given_steps, int(np.prod(case.shape)))
    return list(np.broadcast_to(folded, (case.steps, folded.shape[1])).T)


@pytest.mark.parametrize("dtype", DTYPES)
@given(random_cases([dyadic]))
@settings(deadline=None, max_examples=30)
def test_spikes_tell_the_clipped_floor_of_the_potential(dtype, case):
    a = DEFAULTS | case.attributes
    x = case.feeds(dtype)["x"]
    (s,) = case.expected(dtype)
    assert s.dtype == dtype
    assert s.shape == (case.steps * case.shape[0], *case.shape[1:])
    actual = s.reshape(case.steps, int(np.prod(case.shape))).T
    neurons = list(zip(actual, currents_per_neuron(case, x), strict=True))
    start = Fraction(a["v_init"]) * Fraction(a["v_threshold"])
    for spikes, currents in neurons[:: len(neurons) // 30 + 1]:
        weighted = sum(
            Fraction(float(current)) * a["base"] ** (case.steps - 1 - t)
            for t, current in enumerate(currents)
        )
        expected = quantised(weighted + start, a["base"], case.steps, a["v_threshold"])
        assert spikes.tolist() == expected


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("steps", [1, 5, 24, 40, 64])
def test_radix_spikes_tell_a_rounded_potential_exactly(dtype, steps):
    # One current at the last step is a potential as it stands, which no sum has rounded.
    random = np.random.default_rng(steps)
    x = np.zeros((steps, 400), dtype)
    x[-1] = random.choice([-1, 1, 1, 1], 400) * 2.0 ** random.uniform(-3, steps + 1, 400)
    threshold = float(np.float32(0.3))
    s = phase_neuron(x, steps, v_threshold=threshold, v_init=0.0)
    for potential, spikes in zip(x[-1], s.T, strict=True):
        assert spikes.tolist() == quantised(Fraction(float(potential)), 2, steps, threshold)


@given(random_cases([gaussian]))
@settings(deadline=None, max_examples=30)
def test_spikes_are_zeros_and_ones(case):
    (s,) = case.expected("float32")
    assert np.isin(s, [0, 1]).all()


def test_radix_spikes_through_a_layer_are_those_of_the_quantised_network():
    # What the next layer integrates is the level that the spikes tell.
    random = np.random.default_rng(0)
    steps, weight = 4, random.integers(-3, 4, (6, 5)) / 16.0
    s = phase_neuron(random.integers(-4, 20, (7, 6)) / 16, steps, constant_input=True)
    levels = 2.0 ** np.arange(steps - 1, -1, -1) @ s.reshape(steps, -1)
    ann = np.clip(np.floor(levels.reshape(7, 6) @ weight + 0.5), 0, 15)
    s = phase_neuron(s @ weight, steps)
    levels = 2.0 ** np.arange(steps - 1, -1, -1) @ s.reshape(steps, -1)
    np.testing.assert_array_equal(levels.reshape(7, 5), ann)
    assert len(np.unique(ann)) > 3


def test_inputs_are_left_as_they_are():
    for attributes in ({}, {"constant_input": 1}):
        x = Case(attributes=attributes).feeds("float32")["x"]
        before = x.copy()
        phase_neuron(x, 4, **attributes)
        np.testing.assert_array_equal(x, before)


@all_bases
def test_nan_and_infinity(base):
    x = np.array([np.nan, np.inf, -np.inf, 3e38], np.float32)
    s = phase_neuron(x, 3, constant_input=True, **base).reshape(3, 4)
    np.testing.assert_array_equal(s, [[0, 1, 0, 1]] * 3)


def test_a_weight_that_is_infinite_leaves_the_other_spikes_alone():
    # The first weight is 2^128, beyond float32; the others are not.
    x = np.array([0, 0, 2.0**127], np.float32)
    s = phase_neuron(x, 3, v_threshold=2.0**126, v_init=0.0)
    np.testing.assert_array_equal(s, [0, 1, 0])


def test_float16_is_integrated_in_float32():
    # 2^11 + 1 has a bit too many for float16.
    x = np.zeros(12, np.float16)
    x[[0, -1]] = 1
    assert phase_neuron(x, 12, v_init=0.0).nonzero()[0].tolist() == [0, 11]


def test_threshold_is_rounded_to_float32_for_float64_currents():
    x = np.array([np.float32(0.1), 0.1], np.float64)
    s = phase_neuron(x, 1, v_threshold=0.1, v_init=0.0)
    np.testing.assert_array_equal(s, [1, 0])  # 0.1 as float32 is above 0.1


@pytest.mark.parametrize(
    ("attributes", "match"),
    [
        ({"v_threshold": 0.0}, "v_threshold"),
        ({"v_threshold": -1.0}, "v_threshold"),
        ({"v_threshold": np.inf}, "v_threshold"),
        ({"v_threshold": np.nan}, "v_threshold"),
        ({"v_init": np.inf}, "v_init"),
        ({"v_init": np.nan}, "v_init"),
        ({"base": 0}, "base must be 1 or 2, not 0"),
        ({"base": 3}, "base must be 1 or 2, not 3"),
        ({"timesteps": 0}, "not 0"),
        ({"timesteps": -2}, "not -2"),
        ({"timesteps": 4}, "6 rows, which is not a multiple of T = 4"),
        ({"timesteps": 65, "constant_input": True}, "64 or less with base 2, not 65"),
        ({"x": np.float32(1)}, "scalar"),
    ],
)
def test_what_makes_no_sense_is_refused(attributes, match):
    call = {"x": np.zeros((6, 3), np.float32), "timesteps": 3, **attributes}
    with pytest.raises(ValueError, match="PhaseNeuron: .*" + match):
        phase_neuron(**call)
