import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

from algebra import assert_close
from nets import Dyadic, Gaussian, Net, run
from onnx_snn.load import load_graph
from onnx_snn.passes.rewrite_activations import rewrite_activations
from onnx_snn.spiking_activations import spiking_nodes

FLOAT_MAX = np.finfo(np.float32).max
SHAPE = [3, 4, 5]
X = np.concatenate([Dyadic(5)(2, 4, 5, step=1 / 4, most=40), np.zeros((1, 4, 5), np.float32)])
"""From minus 10 to 10, in steps of 1/4."""


def _net():
    return Net({"x": ["N", *SHAPE[1:]]})


def _ops(graph):
    return [node.op for node in graph.nodes]


def _rewrite(model, x=X, relative=0.0):
    """Rewrite, check that the outputs stay and what is left, and return the graph."""
    graph = load_graph(model)
    names = [tensor.name for tensor in graph.outputs]
    changed = rewrite_activations(graph)
    assert [tensor.name for tensor in graph.outputs] == names
    rewritten = gs.export_onnx(graph)
    onnx.checker.check_model(rewritten, full_check=True)
    for actual, expected in zip(run(rewritten, {"x": x}), run(model, {"x": x}), strict=True):
        assert_close(actual, expected, relative)
    _assert_plain(graph)
    assert len({node.name for node in graph.nodes}) == len(graph.nodes)
    before = rewritten.SerializeToString(deterministic=True)
    assert not rewrite_activations(graph)
    assert gs.export_onnx(graph).SerializeToString(deterministic=True) == before
    return graph, changed


def _assert_plain(graph):
    for node in spiking_nodes(graph):
        assert node.op in ("Relu", "Clip")
        if node.op == "Clip":
            low, high = (tensor.values for tensor in node.inputs[1:])
            assert low.shape == high.shape == ()
            assert low == 0 < high < FLOAT_MAX


def _clip(net, x, low, high):
    bounds = ["" if b is None else net.constant(b, np.float32) for b in (low, high)]
    return net.op("Clip", x, *bounds)


CLIPS = [
    (0, 6, ["Clip"]),
    (0, None, ["Relu"]),
    (0, np.inf, ["Relu"]),
    (0, FLOAT_MAX, ["Relu"]),
    (None, 6, ["Sub", "Relu", "Sub"]),
    (-np.inf, 6, ["Sub", "Relu", "Sub"]),
    (-FLOAT_MAX, -6, ["Sub", "Relu", "Sub"]),
    (-2, None, ["Sub", "Relu", "Add"]),
    (2, None, ["Sub", "Relu", "Add"]),
    (-1, 1, ["Clip", "Mul", "Clip", "Sub"]),
    (-2, 3.5, ["Clip", "Mul", "Clip", "Sub"]),
    (1, 3, ["Sub", "Clip", "Add"]),
    (-3, -1, ["Sub", "Clip", "Sub"]),
    (-3, 0, ["Sub", "Clip", "Sub"]),
]


@pytest.mark.parametrize(("low", "high", "ops"), CLIPS)
def test_clip(low, high, ops):
    net = _net()
    graph, changed = _rewrite(net.model(_clip(net, "x", low, high)))
    assert sorted(_ops(graph)) == sorted(ops)
    assert changed == (ops != ["Clip"])


@settings(deadline=None, max_examples=60)
@given(low=st.integers(-64, 63), width=st.integers(1, 64))
def test_clip_of_any_bounds(low, width):
    net = _net()
    _rewrite(net.model(_clip(net, "x", low / 8, (low + width) / 8)))


@settings(deadline=None, max_examples=60)
@given(
    low=st.one_of(st.none(), st.floats(-20, 20, width=32)),
    width=st.one_of(st.none(), st.floats(0.125, 20, width=32)),
    seed=st.integers(0, 2**16),
)
def test_clip_of_any_bounds_and_inputs(low, width, seed):
    if low is None and width is None:
        return
    high = None if width is None else np.float32((low or 0) + width)
    net = _net()
    x = np.random.default_rng(seed).normal(0, 10, (2, *SHAPE[1:])).astype(np.float32)
    graph = load_graph(net.model(_clip(net, "x", low, high)))
    rewrite_activations(graph)
    _assert_plain(graph)
    expected = np.clip(x, -np.inf if low is None else low, np.inf if high is None else high)
    (actual,) = run(gs.export_onnx(graph), {"x": x})
    # x − a + a: rounding of numbers up to 60 in magnitude, three times.
    assert_close(actual, expected, 1e-6, magnitude=60)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize(
    ("op", "bound", "ops"),
    [
        ("Max", 0, ["Relu"]),
        ("Max", 2, ["Sub", "Relu", "Add"]),
        ("Max", -2, ["Sub", "Relu", "Add"]),
        ("Min", 6, ["Sub", "Relu", "Sub"]),
        ("Min", [-6], ["Sub", "Relu", "Sub"]),
        ("Max", np.zeros((1, 4, 1)), ["Relu"]),
        ("Max", Dyadic(1)(4, 1), ["Sub", "Relu", "Add"]),
        ("Min", Dyadic(2)(1, 4, 1), ["Sub", "Relu", "Sub"]),
    ],
    ids=str,
)
def test_max_and_min_with_a_constant(op, bound, ops, first):
    net = _net()
    pair = [net.constant(bound, np.float32), "x"]
    graph, _ = _rewrite(net.model(net.op(op, *(pair if first else pair[::-1]))))
    assert _ops(graph) == ops


def test_max_with_several_constants():
    net = _net()
    constants = [net.constant(value, np.float32) for value in (-1, 0, -2)]
    graph, _ = _rewrite(net.model(net.op("Max", constants[0], "x", *constants[1:])))
    assert _ops(graph) == ["Relu"]


def _max(net, x, bound):
    return net.op("Max", x, net.constant(bound, np.float32))


def _min(net, x, bound):
    return net.op("Min", x, net.constant(bound, np.float32))


POWERS = np.float32([[[1], [2], [4], [8]]])

CHAINS = {
    "min of max": (lambda n, x: _min(n, _max(n, x, 0), 6), ["Clip"]),
    "max of min": (lambda n, x: _max(n, _min(n, x, 6), 0), ["Clip"]),
    "relu and clip": (lambda n, x: _clip(n, n.relu(x), 0, 6), ["Clip"]),
    "relu and wide clip": (lambda n, x: _clip(n, n.relu(x), -3, 6), ["Clip"]),
    "clip and relu": (lambda n, x: n.relu(_clip(n, x, -1, 6)), ["Clip"]),
    "relu and min": (lambda n, x: _min(n, n.relu(x), 6), ["Clip"]),
    "relu and relu": (lambda n, x: n.relu(n.relu(x)), ["Relu"]),
    "relu and leaky relu of slope 0": (
        lambda n, x: n.op("LeakyRelu", n.relu(x), alpha=0.0),
        ["Relu"],
    ),
    "three": (lambda n, x: _clip(n, n.relu(_max(n, x, -2)), -1, 3), ["Clip"]),
    "bounds for each channel": (
        lambda n, x: _min(n, n.relu(x), POWERS),
        ["Mul", "Clip", "Mul"],
    ),
    "bounds on both sides": (
        lambda n, x: _min(n, _max(n, x, -POWERS[:, ::-1]), POWERS),
        ["Mul", "Clip", "Mul", "Mul", "Mul", "Clip", "Mul", "Sub"],
    ),
    "bounds on either side": (
        lambda n, x: _min(n, _max(n, x, POWERS / 2 - 1), POWERS),
        ["Sub", "Mul", "Clip", "Mul", "Add"],
    ),
    "bounds one width apart": (
        lambda n, x: _min(n, _max(n, x, POWERS - 5), POWERS),
        ["Sub", "Clip", "Add"],
    ),
    "hard sigmoid and clip": (
        lambda n, x: _clip(n, n.op("HardSigmoid", x, alpha=0.25, beta=0.5), 0, 2),
        ["Mul", "Add", "Clip"],
    ),
}


@pytest.mark.parametrize("chain", CHAINS)
def test_in_a_row(chain):
    build, ops = CHAINS[chain]
    net = _net()
    # There some widths are no powers of two, so that dividing by them rounds.
    graph, _ = _rewrite(net.model(build(net, "x")), relative=1e-6 if "either" in chain else 0)
    assert sorted(_ops(graph)) == sorted(ops)


def test_in_a_row_but_constant():
    net = _net()
    graph, _ = _rewrite(net.model(_max(net, _min(net, "x", 1), 2)))
    assert _ops(graph) == ["Sub", "Relu", "Sub", "Sub", "Relu", "Add"]


@pytest.mark.parametrize("reader", ["node", "output"])
def test_in_a_row_but_read_by_others(reader):
    net = _net()
    inner = _max(net, "x", 0)
    outer = _min(net, inner, 6)
    other = net.op("Flatten", inner) if reader == "node" else inner
    graph, _ = _rewrite(net.model({"a": outer, "b": other}))
    assert [node.op for node in spiking_nodes(graph)] == ["Relu", "Relu"]


@pytest.mark.parametrize("alpha", [0.0, 0.125, 1.0, 2.0, -0.5, -1.0])
def test_leaky_relu(alpha):
    net = _net()
    graph, _ = _rewrite(net.model(net.op("LeakyRelu", "x", alpha=alpha)))
    neurons = [node.op for node in spiking_nodes(graph)]
    assert neurons == (["Relu", "Relu"] if alpha else ["Relu"])


def test_leaky_relu_of_the_default_slope():
    net = _net()
    _rewrite(net.model(net.op("LeakyRelu", "x")), relative=1e-7)


@pytest.mark.parametrize(
    "slope",
    [Dyadic(3)(1), Dyadic(3)(), Dyadic(3)(4, 1), Dyadic(3)(1, 4, 1), Dyadic(3)(5), Dyadic(3)(4, 5),
     np.float32([0]), np.full((4, 1), -1, np.float32)],
    ids=lambda slope: str(slope.shape),
)  # fmt: skip
def test_prelu(slope):
    net = _net()
    graph, _ = _rewrite(net.model(net.op("PRelu", "x", net.constant(slope))))
    assert len(spiking_nodes(graph)) == (2 if slope.any() else 1)


def test_abs():
    net = _net()
    graph, _ = _rewrite(net.model(net.op("Abs", "x")))
    assert sorted(_ops(graph)) == ["Add", "Mul", "Relu", "Relu"]


@pytest.mark.parametrize("attributes", [{}, {"alpha": 1 / 6, "beta": 0.5}], ids=str)
def test_hard_sigmoid(attributes):
    net = _net()
    graph, _ = _rewrite(net.model(net.op("HardSigmoid", "x", **attributes)), relative=1e-6)
    assert _ops(graph) == ["Mul", "Add", "Clip"]


def test_dyadic_hard_sigmoid():
    net = _net()
    _rewrite(net.model(net.op("HardSigmoid", "x", alpha=0.25, beta=0.5)))


def test_relu_stays():
    net = _net()
    graph, changed = _rewrite(net.model(net.relu("x")))
    assert _ops(graph) == ["Relu"]
    assert not changed


@pytest.mark.parametrize("shape", [["N"], ["N", 3], ["N", 2, 3, 4], ["N", 2, 2, 3, 3]], ids=len)
def test_of_any_rank(shape):
    net = Net({"x": shape})
    y = net.op("LeakyRelu", _clip(net, "x", -1, 2), alpha=0.5)
    _rewrite(net.model(y), x=Dyadic(7)(4, *shape[1:], step=1 / 2))


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize("name", ["Clip", "LeakyRelu", "PRelu", "Abs", "HardSigmoid", "Min"])
def test_other_types(name, dtype):
    elem_type = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    net = Net({"x": ["N", *SHAPE[1:]]}, elem_type)
    constants = {"Clip": [-1, 2], "PRelu": [0.5], "Min": [3]}.get(name, [])
    attributes = {"LeakyRelu": {"alpha": 0.5}, "HardSigmoid": {"alpha": 0.25}}.get(name, {})
    y = net.op(name, "x", *(net.constant(c, dtype) for c in constants), **attributes)
    model = net.model(y)
    graph = load_graph(model)
    assert rewrite_activations(graph)
    rewritten = gs.export_onnx(graph)
    onnx.checker.check_model(rewritten, full_check=True)
    x = X.astype(dtype)
    (actual,) = ReferenceEvaluator(rewritten).run(None, {"x": x})
    (expected,) = ReferenceEvaluator(model).run(None, {"x": x})
    np.testing.assert_array_equal(actual, expected)
    assert actual.dtype == dtype


def test_the_greatest_number_of_float16_is_no_bound():
    net = Net({"x": ["N", 4]}, TensorProto.FLOAT16)
    bounds = [net.constant(value, np.float16) for value in (0, np.finfo(np.float16).max)]
    graph = load_graph(net.model(net.op("Clip", "x", *bounds)))
    assert rewrite_activations(graph)
    assert _ops(graph) == ["Relu"]


@pytest.mark.parametrize("opset", [6, 10])
def test_bounds_as_attributes(opset):
    node = onnx.helper.make_node("Clip", ["x"], ["y"], "clip", min=0.0, max=6.0)
    values = [
        onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *SHAPE[1:]])
        for name in ("x", "y")
    ]
    graph = onnx.helper.make_graph([node], "net", values[:1], values[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    model.ir_version = 4
    graph, _ = _rewrite(model)
    assert _ops(graph) == ["Clip"]


def test_inside_a_network():
    weights = Gaussian(4)
    net = Net({"x": ["N", 2, 8, 8]})
    y = net.conv("x", weights(4, 2, 3, 3), weights(4))
    y = net.op("LeakyRelu", y, alpha=0.1)
    y = _clip(net, net.conv(y, weights(4, 4, 3, 3), weights(4)), -0.3, 0.4)
    y = net.op("Add", y, _min(net, net.relu(net.conv(y, weights(4, 4, 1, 1))), 0.5))
    y = net.op("HardSigmoid", net.op("Abs", y))
    model = net.model(net.gemm(net.op("Flatten", y), weights(64, 3), weights(3)))
    x = np.random.default_rng(0).normal(size=(5, 2, 8, 8)).astype(np.float32)
    graph, _ = _rewrite(model, x, relative=1e-6)
    assert len(spiking_nodes(graph)) == 2 + 2 + 1 + 2 + 1


def test_names():
    net = _net()
    leaky = net.op("LeakyRelu", "x", alpha=0.5)
    model = net.model({"a": leaky, "b": _clip(net, net.op("Flatten", leaky), 1, 2)})
    graph, _ = _rewrite(model)
    assert [node.name for node in spiking_nodes(graph)] == [
        "LeakyRelu_0/positive",
        "LeakyRelu_0/negative",
        "Clip_2",
    ]


def test_names_that_are_taken():
    net = _net()
    y = net.op("Abs", "x")
    model = net.model(net.op("Flatten", net.op("Abs", net.relu(y))))
    for index, name in enumerate(("abs", "abs/negative", "abs/positive")):
        model.graph.node[index].name = name
    _rewrite(model)


@pytest.mark.parametrize("name", ["positive", "negated", "sum"])
def test_tensors_whose_names_are_taken(name):
    net = _net()
    model = net.model({f"Abs_0/{name}": net.op("Abs", "x"), "b": net.relu("x")})
    _rewrite(model)


def test_what_neurons_cannot_do_stays():
    net = _net()
    other = net.op("Flatten", net.op("ThresholdedRelu", "x"))
    outputs = {
        "a": other,
        "b": net.op("Max", "x", net.op("Sigmoid", "x")),
        "c": net.op("Sigmoid", net.relu("x")),
        "d": _clip(net, "x", 2, 1),
    }
    graph, changed = _rewrite(net.model(outputs))
    assert not changed
    assert {"ThresholdedRelu", "Max", "Sigmoid", "Clip"} <= set(_ops(graph))
