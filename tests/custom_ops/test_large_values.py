"""The native LargeValues against the reference."""

import functools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnxruntime.capi.onnxruntime_pybind11_state import (
    Fail,
    InvalidArgument,
    InvalidGraph,
    RuntimeException,
)

from if_neuron_cases import native
from onnx_snn.ops import DOMAIN, LARGE_VALUES, VERSION
from onnx_snn.ops.reference import large_values


def model(
    x: int = TensorProto.FLOAT, floor: int = TensorProto.FLOAT, **attributes: int
) -> onnx.ModelProto:
    value, names = helper.make_tensor_value_info, (["x", "floor"], ["above", "count"])
    graph = helper.make_graph(
        [helper.make_node(LARGE_VALUES, *names, domain=DOMAIN, **attributes)],
        "large_values",
        [value("x", x, None), value("floor", floor, None)],
        [value(name, TensorProto.INT64, None) for name in ("above", "count")],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, VERSION)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


@pytest.fixture(autouse=True, params=["plain", "avx2", "avx512"], scope="module")
def _isa(request):
    """Every instruction set that this machine has."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("ONNX_SNN_ISA", request.param)
        session.cache_clear()
        try:
            session(1)
        except RuntimeException:
            pytest.skip(f"no {request.param} here")
        yield


@functools.cache
def session(threads: int, block: int | None = None) -> ort.InferenceSession:
    return native(model() if block is None else model(block=block), threads)


def assert_as_reference(x: np.ndarray, floor: np.ndarray, threads: int = 1) -> None:
    actual = session(threads).run(None, {"x": x, "floor": floor})
    for a, e in zip(actual, large_values(x, floor), strict=True):
        np.testing.assert_array_equal(a, e, strict=True)


@st.composite
def calls(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    # The kernel compares 16 values at a time; axes may be empty.
    samples, channels = draw(st.integers(0, 4)), draw(st.integers(0, 4))
    features = draw(st.lists(st.integers(0, 19), max_size=2))
    # Few different values, so that many are equal to their floor; NaN and infinities too.
    floats = st.lists(st.floats(width=32), min_size=1, max_size=8)
    pool = np.array([np.nan, -np.inf, np.inf, -0.0, 0.0, *draw(floats)], np.float32)
    random = np.random.default_rng(draw(st.integers(0, 2**16)))
    return random.choice(pool, (samples, channels, *features)), random.choice(pool, channels)


@given(calls())
@settings(deadline=None, max_examples=200)
def test_gives_what_the_reference_gives(call):
    assert_as_reference(*call)


def in_blocks(x: np.ndarray, block: int) -> np.ndarray:
    """[N, C, ...] as [N, C rounded up, ...] in blocks of channels; NaN where there is none."""
    missing = [(0, 0), (0, -x.shape[1] % block), *[(0, 0)] * (x.ndim - 2)]
    filled = np.pad(x, missing, constant_values=np.nan)
    samples, channels, *features = filled.shape
    blocks = filled.reshape(samples, channels // block, block, *features)
    return np.ascontiguousarray(np.moveaxis(blocks, 2, -1)).reshape(filled.shape)


@given(calls(), st.sampled_from([1, 2, 4, 8, 16]))
@settings(deadline=None, max_examples=200)
def test_blocks_of_channels_give_the_same_values(call, block):
    x, floor = call
    above, count = session(1, block).run(None, {"x": in_blocks(x, block), "floor": floor})
    expected, expected_count = large_values(x, floor)
    np.testing.assert_array_equal(np.sort(above), np.sort(expected), strict=True)
    assert count == expected_count


@pytest.mark.parametrize("block", [0, -1, 3, 32])
def test_blocks_that_do_not_exist(block):
    with pytest.raises(RuntimeException, match=f"LargeValues: block must be 1, .*, not {block}"):
        session(1, block)


def test_channels_that_are_no_whole_blocks():
    with pytest.raises(InvalidArgument, match="in blocks of 8 and floor"):
        session(1, 8).run(
            None, {"x": np.zeros((2, 12, 3), np.float32), "floor": np.zeros(12, np.float32)}
        )


@pytest.mark.parametrize("features", [*range(34), 47, 48, 49])
def test_any_number_of_features(features):
    x = np.random.default_rng(features).integers(-3, 4, (3, 2, features)).astype(np.float32)
    assert_as_reference(x, np.array([0, 1], np.float32))


def test_bits_of_a_value_are_kept():
    """Those of any NaN, quiet or signalling, and of numbers too small to be normal."""
    bits = np.array([0x7FC00000, 0xFFC00001, 0x7F800001, 0xFFBFFFFF, 1, 0x7F800000], np.uint32)
    above, count = session(1).run(
        None,
        {
            "x": np.tile(bits.view(np.float32), (1, 2, 3)),
            "floor": np.array([0, np.inf], np.float32),
        },
    )
    nan = bits[:4].astype(np.int64)
    expected = [np.tile(bits.astype(np.int64), 3), np.tile(nan, 3) + 2**32]
    np.testing.assert_array_equal(above, np.concatenate(expected), strict=True)
    assert count == 18


def wide(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Work for many tasks: of some channels everything is above the floor, of others nothing."""
    random = np.random.default_rng(sum(shape))
    x = random.normal(0, 1, shape).astype(np.float32)
    floor = random.choice(np.array([-np.inf, 0, 2, np.inf], np.float32), shape[1])
    return x, floor


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize(
    "shape",
    # Below and above 2^16 values, where the samples are first shared out; many and few a task.
    [(1, 2, 65_537), (31, 3, 701), (33, 3, 701), (17, 5, 30_011), (40_001, 3), (257, 4, 9, 77)],
    ids=str,
)
def test_order_is_that_of_the_samples(shape, threads):
    assert_as_reference(*wide(shape), threads)


def test_runs_of_one_session_at_once_do_not_meet():
    calls = [wide((samples, 4, 1001)) for samples in (20, 33, 50, 81)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda call: assert_as_reference(*call, threads=2), calls * 5))


@pytest.mark.parametrize(
    ("x", "floor"),
    [((2, 3, 4), (2,)), ((2, 3, 4), (3, 1)), ((2, 3, 4), ()), ((5,), (5,)), ((), (1,))],
    ids=str,
)
def test_shapes_that_do_not_fit(x, floor):
    shapes = " and ".join(str([*shape]).replace(" ", "") for shape in (x, floor))
    with pytest.raises(InvalidArgument) as error:
        session(1).run(None, {"x": np.zeros(x, np.float32), "floor": np.zeros(floor, np.float32)})
    assert f"onnx_snn.LargeValues: x must be [N, C, ...] and floor [C], not {shapes}" in str(
        error.value
    )
    assert_as_reference(*wide((2, 3, 4)))  # the session lives on


@pytest.mark.parametrize("types", [{"x": TensorProto.DOUBLE}, {"floor": TensorProto.FLOAT16}])
def test_other_types_have_no_kernel(types):
    with pytest.raises((Fail, InvalidGraph), match=LARGE_VALUES):
        native(model(**types))
