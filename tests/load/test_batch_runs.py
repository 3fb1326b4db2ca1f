import numpy as np
import pytest
from onnx import helper

from loading import model_of, value
from onnx_snn.load.batch_runs import BATCH, VARIES, BatchRuns, is_random

N = helper.make_node


def _runs(*nodes, shape=(BATCH, 3, "H", 4), **constants):
    model = model_of(nodes, [value("x", *shape)], [value("y")], constants)
    runs = BatchRuns(model)
    errors = [runs.infer(node) for node in nodes]
    return runs, errors


def test_sizes_have_names():
    runs, _ = _runs(
        N("Shape", ["x"], ["s"]),
        N("Mul", ["s", "two"], ["twice"]),
        N("Flatten", ["x"], ["f"], axis=2),
        two=np.int64(2),
    )
    assert runs.shape("x") == [BATCH, 3, "H", 4]
    assert runs.vector("s") == [BATCH, 3, "H", 4]
    assert runs.vector("twice") == [VARIES, 6, VARIES, 8]
    assert runs.shape("f") == [VARIES, VARIES]
    assert runs.symbols == ["H"]


def test_a_value_that_follows_a_size_is_no_constant():
    runs, _ = _runs(
        N("Shape", ["x"], ["batch"], end=1),
        N("Shape", ["x"], ["channels"], start=1, end=2),
    )
    assert runs.constant("batch") is None
    np.testing.assert_array_equal(runs.constant("channels"), [3])


def test_nothing_is_said_of_what_is_unknown():
    runs, errors = _runs(N("Strange", ["x"], ["s"], domain="d"), N("Relu", ["s"], ["r"]))
    assert errors == [None, None]
    assert runs.shape("r") is runs.vector("r") is runs.constant("r") is runs.type_of("r") is None


def test_why_a_node_cannot_run():
    runs, errors = _runs(
        N("Concat", ["x", "token"], ["y"], axis=1),
        shape=(BATCH, 3),
        token=np.zeros((1, 3), np.float32),
    )
    assert "differ" in errors[0]
    assert runs.shape("y") is None


def test_large_values_are_not_computed():
    runs, _ = _runs(N("ConstantOfShape", ["s"], ["k"]), s=np.array([1 << 30, 1 << 30]))
    assert runs.shape("k") == [1 << 30, 1 << 30]
    assert runs.constant("k") is None


@pytest.mark.parametrize(
    ("shape", "expected"), [((BATCH, 3, 4), 12), ((3, 4), None), ((BATCH, "H"), None)]
)
def test_elements_per_sample(shape, expected):
    runs, _ = _runs(shape=shape)
    assert runs.elements_per_sample("x") == expected


def test_random_operators():
    assert is_random("RandomNormal")
    assert is_random("Bernoulli")
    assert not is_random("Range")
