"""The reference against a loop over single neurons, and the laws that neurons obey."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from if_neuron_cases import CASES, DEFAULTS, Case, all_dtypes, dyadic, gaussian, great, random_cases
from onnx_snn.ops.reference import if_neuron, large_values

EXACT_CASES = [case for case in CASES if case.values not in (gaussian, great)]


def one_neuron(currents, v, n, a):
    """A neuron told as a choice among the spikes it may emit: the highest that V pays for."""
    spikes = []
    for current in currents:
        v += current
        allowed = [
            s
            for s in range(a["spike_min"], a["spike_max"] + 1)
            if s == 0
            or (s > 0 and (a["count_max"] < 0 or n + s <= a["count_max"]))
            or (s < 0 and n + s >= a["count_min"])
        ]
        paid_for = [s for s in allowed if s * a["v_threshold"] <= v]
        s = max(paid_for, default=min(allowed))
        if a["reset"] == "subtract":
            v -= s * a["v_threshold"]
        elif s:
            v = 0.0
        n += s
        spikes.append(s)
    return spikes, v, n


def assert_follows_the_loop(case: Case, dtype: str) -> None:
    a = DEFAULTS | case.attributes
    feeds = case.feeds(dtype)
    rows = case.shape[0]
    steps = (1 if a["constant_input"] else case.steps, *case.shape)
    x = np.broadcast_to(feeds["x"].reshape(steps), (case.steps, *case.shape))
    v = np.broadcast_to(feeds.get("v", a["v_init"] * a["v_threshold"]), case.shape)
    n = np.broadcast_to(feeds.get("n", 0), case.shape)

    s, v_next, n_next = replace(case, outputs=("s", "v_next", "n_next")).expected(dtype)
    assert s.dtype == v_next.dtype == n_next.dtype == dtype
    assert s.shape == (case.steps * rows, *case.shape[1:])
    assert v_next.shape == n_next.shape == case.shape
    s = s.reshape(case.steps, *case.shape)
    for flat in sampled(v_next.size):
        i = np.unravel_index(flat, case.shape)
        with np.errstate(over="ignore"):
            spikes, *state = one_neuron(x[:, *i].tolist(), float(v[i]), int(n[i]), a)
            v_exact, n_exact = np.array(state).astype(dtype)
        np.testing.assert_array_equal(s[:, *i], spikes)
        np.testing.assert_array_equal(v_next[i], v_exact)
        np.testing.assert_array_equal(n_next[i], n_exact)


def sampled(neurons: int) -> np.ndarray:
    """All of a few neurons; of many, some and the outermost."""
    return np.unique(np.linspace(0, neurons - 1, min(neurons, 120)).astype(int))


@pytest.mark.parametrize("case", EXACT_CASES, ids=lambda case: case.name)
@all_dtypes
def test_each_neuron_follows_the_loop(case, dtype):
    assert_follows_the_loop(case, dtype)


@pytest.mark.parametrize(
    ("name", "alphabet"),
    [("defaults", {0, 1}), ("signed", {-1, 0, 1}), ("signed burst", {-2, -1, 0, 1, 2, 3})],
)
def test_currents_of_the_table_call_for_every_spike(name, alphabet):
    case = next(case for case in CASES if case.name == name)
    assert set(case.expected("float32")[0].ravel()) == alphabet


@given(random_cases([dyadic]))
@settings(deadline=None, max_examples=100)
def test_any_neuron_follows_the_loop(case):
    assert_follows_the_loop(case, "float32")


@given(random_cases([dyadic]))
@settings(deadline=None, max_examples=100)
def test_soft_reset_conserves_charge(case):
    attributes = {**case.attributes, "reset": "subtract"}
    feeds = case.feeds("float64")
    x, v = feeds["x"], feeds.get("v")
    s, v_next, n_next = if_neuron(x, case.steps, v, feeds.get("n"), **attributes)
    threshold = attributes.get("v_threshold", 1.0)
    start = attributes.get("v_init", 0.5) * threshold if v is None else v
    given_steps = 1 if attributes.get("constant_input") else case.steps
    charge = x.reshape(given_steps, *case.shape).sum(0) * (case.steps // given_steps)
    spent = threshold * s.reshape(case.steps, *case.shape).sum(0)
    np.testing.assert_array_equal(v_next, start + charge - spent)
    counted = s.reshape(case.steps, *case.shape).sum(0)
    np.testing.assert_array_equal(n_next, feeds.get("n", 0) + counted)


@given(random_cases())
@settings(deadline=None, max_examples=100)
def test_spikes_keep_to_the_alphabet_and_the_limits(case):
    a = DEFAULTS | case.attributes
    feeds = case.feeds("float32")
    s, _, _ = if_neuron(feeds["x"], case.steps, feeds.get("v"), feeds.get("n"), **case.attributes)
    assert np.isin(s, np.arange(a["spike_min"], a["spike_max"] + 1)).all()
    steps = s.reshape(case.steps, *case.shape)
    count = feeds.get("n", np.zeros(case.shape)) + np.cumsum(steps, axis=0)
    assert (count[steps < 0] >= a["count_min"]).all()
    if a["count_max"] >= 0:
        assert (count[steps > 0] <= a["count_max"]).all()


@given(random_cases())
@settings(deadline=None, max_examples=100)
def test_two_calls_with_the_state_carried_over_are_one(case):
    case = replace(case, attributes={**case.attributes, "constant_input": 0}, steps=case.steps + 1)
    feeds = case.feeds("float64")
    x, state = feeds["x"], (feeds.get("v"), feeds.get("n"))
    first = case.steps // 2
    cut = first * case.shape[0]
    s, *end = if_neuron(x, case.steps, *state, **case.attributes)
    s1, *between = if_neuron(x[:cut], first, *state, **case.attributes)
    s2, *after = if_neuron(x[cut:], case.steps - first, *between, **case.attributes)
    np.testing.assert_array_equal(np.concatenate([s1, s2]), s)
    np.testing.assert_array_equal(after, end)


def test_inputs_are_left_as_they_are():
    feeds = Case(v="full", n="full").feeds("float32")
    before = {name: values.copy() for name, values in feeds.items()}
    if_neuron(feeds["x"], 6, feeds["v"], feeds["n"])
    for name, values in feeds.items():
        np.testing.assert_array_equal(values, before[name])


def test_nan_and_infinity():
    x = np.array([np.nan, np.inf, -np.inf, 1e38], np.float32)
    s, v_next, n_next = if_neuron(x, 2, constant_input=True, spike_min=-1, count_min=-1)
    np.testing.assert_array_equal(s.reshape(2, 4), [[-1, 1, -1, 1], [0, 1, 0, 1]])
    np.testing.assert_array_equal(v_next, np.array([np.nan, np.inf, -np.inf, 2e38], np.float32))
    np.testing.assert_array_equal(n_next, [-1, 2, -1, 2])


def test_float16_state_is_rounded_once_a_call():
    # In float16, 1/2 plus 1/4096 is 1/2 again, and no number of them would fire.
    x = np.full(1, 2.0**-12, np.float16)
    s, v_next, _ = if_neuron(x, 2049, constant_input=True)
    assert s.nonzero()[0].tolist() == [2047]
    assert v_next.tolist() == [2.0**-12]


def test_threshold_is_rounded_to_float32_for_float64_currents():
    threshold = float(np.float32(0.1))
    x = np.array([threshold, 0.1], np.float64)
    s, v_next, _ = if_neuron(x, 1, v_threshold=0.1, v_init=0.0)
    np.testing.assert_array_equal(s, [1, 0])  # 0.1 as float32 is above 0.1
    np.testing.assert_array_equal(v_next, [0.0, 0.1])


@pytest.mark.parametrize(
    ("attributes", "match"),
    [
        ({"v_threshold": 0.0}, "v_threshold"),
        ({"v_threshold": -1.0}, "v_threshold"),
        ({"v_threshold": np.inf}, "v_threshold"),
        ({"v_threshold": np.nan}, "v_threshold"),
        ({"v_init": np.inf}, "v_init"),
        ({"v_init": np.nan}, "v_init"),
        ({"reset": "soft"}, "soft"),
        ({"spike_min": 1}, "spike_min"),
        ({"spike_max": 0}, "spike_max"),
        ({"count_min": 1}, "count_min"),
        ({"count_max": -2}, "count_max"),
        ({"timesteps": 0}, "not 0"),
        ({"timesteps": -2}, "not -2"),
        ({"timesteps": 4}, "6 rows, which is not a multiple of T = 4"),
        ({"x": np.float32(1)}, "scalar"),
        ({"v": np.zeros((3, 2), np.float32)}, r"v has shape \(3, 2\), but \(2, 3\)"),
        ({"n": np.zeros((6, 3), np.float32)}, r"n has shape \(6, 3\), but \(2, 3\)"),
        ({"v": np.zeros(1, np.float32)}, r"v has shape \(1,\)"),
        ({"n": np.zeros(3, np.float32)}, r"n has shape \(3,\)"),
    ],
)
def test_what_makes_no_sense_is_refused(attributes, match):
    call = {"x": np.zeros((6, 3), np.float32), "timesteps": 3, **attributes}
    with pytest.raises(ValueError, match="IFNeuron: .*" + match):
        if_neuron(**call)


def every_large_value(x, floor):
    """Value by value, in the order of memory."""
    above = []
    for index, value in np.ndenumerate(x):
        if not value <= floor[index[1]]:
            above.append(index[1] * 2**32 + int(np.float32(value).view(np.uint32)))
    return np.array(above, np.int64)


@pytest.mark.parametrize("shape", [(3, 2), (1, 1, 1), (2, 3, 17), (4, 2, 5, 13), (1, 2, 3, 3, 3)])
@pytest.mark.parametrize("level", [0.0, 0.5, 1e-45, np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_large_values_are_those_that_a_loop_finds(shape, level, dtype):
    random = np.random.default_rng(sum(shape))
    x = random.normal(0, 1, shape).astype(np.float32)
    special = np.array([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 0.5, 1e-45], np.float32)
    x = np.where(random.random(shape) < 0.3, random.choice(special, shape), x).astype(dtype)
    floor = np.full(shape[1], level, np.float32)
    floor[0] = 0.25
    above, count = large_values(x, floor)
    np.testing.assert_array_equal(above, every_large_value(x, floor))
    assert count == x.size // shape[1]


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 3, 0)])
def test_no_values_are_large_where_there_are_none(shape):
    above, count = large_values(np.zeros(shape, np.float32), np.zeros(3, np.float32))
    assert above.shape == (0,)
    assert count == 0
