"""The form of tiles: integers added up without rounding, where a processor has them (AMX)."""

from dataclasses import replace

import numpy as np
import pytest

from event_conv_cases import SAME, Case, any_byte, signed, spikes
from if_neuron_cases import assert_identical, native
from instruction_sets import skip_without

BITS = 22
"""Of a weight, beside its sign, where the greatest weight of an output has them all."""


@pytest.fixture(autouse=True)
def has_tiles():
    skip_without("amx")


def currents(case, weights, isa, monkeypatch, threads=2):
    monkeypatch.setenv("ONNX_SNN_ISA", isa)
    case = replace(case, constant_weights=False)
    return native(case.model(fused=False), threads).run(None, {"x": case.x, **weights})[0]


def wide_weights(case, seed=0):
    """Weights of very different sizes, so that the least bits of small ones are rounded off."""
    random = np.random.default_rng(seed)
    shape = case.weights["W"].shape
    w = random.normal(0, 1, shape) * 2.0 ** random.integers(-12, 1, shape)
    return {"W": w.astype(np.float32), "B": random.normal(0, 1, shape[-1]).astype(np.float32)}


# Tiles are used from 8 columns on.
CASES = [
    Case("narrow images", (3, 9, 8, 16), (3, 3, 24), SAME, spikes(0.2), 9),
    Case("wide images", (2, 3, 45, 7), (3, 3, 65), SAME, signed, 3),
    Case("one row", (7, 1, 10, 200), (1, 1, 33), {}, any_byte, 1),
    Case("strides", (2, 11, 25, 5), (3, 2, 10), {"strides": [2, 3], "pads": [2, 1, 0, 3]}, signed),
    Case("dilations", (2, 11, 13, 5), (3, 2, 10), {"dilations": [2, 3]}, any_byte),
    Case("groups", (2, 6, 9, 12), (3, 3, 40), {"group": 4, **SAME}, signed),
    Case("a kernel wider than the image", (1, 4, 8, 8), (1, 11, 4), {"pads": [0, 5, 0, 5]}),
    Case("all ones", (2, 5, 8, 70), (3, 3, 16), SAME, spikes(1.0), 2),
    Case("wide rows, done a few at a time", (1, 5, 200, 64), (3, 3, 17), SAME, signed, 16),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_weights_and_the_sum_are_rounded_once(case, monkeypatch):
    weights = wide_weights(case)
    w, b = weights.values()
    greatest = np.abs(w).reshape(-1, w.shape[-1]).max(axis=0)
    scale = 2.0 ** (np.frexp(greatest)[1] - BITS)
    whole = np.rint(w / scale)
    assert np.abs(w - whole * scale).max() > 0
    # float64 holds these sums, which need less than 53 bits.
    exact = replace(case, constant_weights=False)
    total = _convolve(exact.x, whole, exact.conv)
    assert np.abs(total).max() < 2**40
    expected = total.astype(np.float32).astype(np.float64) * scale + b
    actual = currents(case, weights, "amx", monkeypatch)
    assert_identical([actual], [expected.astype(np.float32)])


def _convolve(x, w, conv):
    """In float64, by the definition."""
    (top, left, bottom, right) = conv.get("pads", [0, 0, 0, 0])
    (sy, sx), (dy, dx) = conv.get("strides", [1, 1]), conv.get("dilations", [1, 1])
    groups = conv.get("group", 1)
    x = np.pad(x.astype(np.float64), ((0, 0), (top, bottom), (left, right), (0, 0)))
    height, width, per_group, outputs = w.shape
    rows = (x.shape[1] - dy * (height - 1) - 1) // sy + 1
    columns = (x.shape[2] - dx * (width - 1) - 1) // sx + 1
    y = np.zeros((len(x), rows, columns, outputs))
    for i, j in np.ndindex(height, width):
        seen = x[:, i * dy : i * dy + sy * rows : sy, j * dx : j * dx + sx * columns : sx]
        seen = seen[:, :rows, :columns]
        for group in range(groups):
            part = slice(group * outputs // groups, (group + 1) * outputs // groups)
            channels = slice(group * per_group, (group + 1) * per_group)
            y[..., part] += seen[..., channels] @ w[i, j, :, part]
    return y


@pytest.mark.parametrize("greatest", [1, 127, 128, 32639, 32640, 2**21])
@pytest.mark.parametrize("case", CASES[1:6], ids=lambda case: case.name)
def test_weights_of_few_bits_lose_none(case, greatest, monkeypatch):
    """They take one, two or three limbs, and a product as many times as long."""
    random = np.random.default_rng(greatest)
    shape = case.weights["W"].shape
    whole = random.integers(-greatest, greatest + 1, shape)
    whole[0, 0, 0] = greatest * random.choice([-1, 1], shape[-1])
    scale = 2.0 ** random.integers(-9, 3, shape[-1])
    bias = random.integers(-8, 9, shape[-1]) * scale
    weights = {"W": (whole * scale).astype(np.float32), "B": bias.astype(np.float32)}
    assert np.array_equal(weights["W"], whole * scale)
    expected = _convolve(case.x, whole, case.conv).astype(np.float32) * scale + bias
    actual = currents(case, weights, "amx", monkeypatch)
    assert_identical([actual], [expected.astype(np.float32)])


@pytest.mark.parametrize("threads", [1, 3])
def test_number_of_threads_changes_no_bit(threads, monkeypatch):
    case = Case(shape=(3, 12, 13, 20), kernel=(3, 3, 70), conv=SAME, events=signed, steps=9)
    weights = wide_weights(case)
    expected = currents(case, weights, "amx", monkeypatch, threads=2)
    assert_identical([currents(case, weights, "amx", monkeypatch, threads=threads)], [expected])
    # It is not the form of vectors, which rounds every sum.
    assert not np.array_equal(currents(case, weights, "avx512", monkeypatch), expected)


@pytest.mark.parametrize("value", [np.inf, np.nan, 1e30, 1e-30])
def test_weights_that_tiles_cannot_hold_are_added_up_as_floats(value, monkeypatch):
    case = Case(conv=SAME, events=signed)
    weights = wide_weights(case)
    weights["W"][..., 3] *= 0
    weights["W"][1, 1, 2, 3] = value
    with np.errstate(invalid="ignore"):
        expected = currents(case, weights, "avx512", monkeypatch)
        assert_identical([currents(case, weights, "amx", monkeypatch)], [expected])


def test_more_inputs_than_fit_the_integers_are_added_up_as_floats(monkeypatch):
    case = Case(shape=(2, 1, 9, 9000), kernel=(1, 1, 5), events=any_byte, steps=1)
    weights = wide_weights(case)
    expected = currents(case, weights, "avx512", monkeypatch)
    assert_identical([currents(case, weights, "amx", monkeypatch)], [expected])


def test_the_greatest_sums_do_not_overflow(monkeypatch):
    # 8192 times the least event times the greatest weight.
    case = Case(shape=(1, 1, 9, 8192), kernel=(1, 1, 3), steps=1)
    case = replace(case, events=lambda random, shape: np.full(shape, -128))
    w = np.full((1, 1, 8192, 3), 1 - 2.0**-BITS, np.float32)
    b = np.zeros(3, np.float32)
    actual = currents(case, {"W": w, "B": b}, "amx", monkeypatch)
    np.testing.assert_allclose(actual, -128 * 8192 * (1 - 2.0**-BITS), rtol=2**-23)
