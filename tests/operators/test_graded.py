"""Graded functions: of the mean over time they give what the original function gives."""

from functools import cache

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from nets import Dyadic, Gaussian, Net, run
from onnx_snn import Stream, convert, reschedule
from onnx_snn.analyse import analyse
from onnx_snn.errors import UnsupportedModelError
from onnx_snn.load import load_graph
from onnx_snn.operators import Kind
from onnx_snn.operators.graded import GRADED
from simulator import expose, play, stats_of
from two_layers import TwoLayers, running_mean

SCHEDULES = [("layer", 1), ("loop", 1), ("loop", 7), ("step", 1), ("step", 7)]
IMAGE = (4, 6, 6)
T = 20


def _op(op, *constants, scale=1.0, shift=0.0, **attributes):
    """op(scale·s + shift): spikes are at 0 often, where some functions have a pole or a corner."""

    def between(net, s):
        if scale != 1:
            s = net.op("Mul", s, net.constant(np.float32(scale)))
        if shift:
            s = net.op("Add", s, net.constant(np.float32(shift)))
        parameters = [
            "" if values is None else net.constant(np.asarray(values)) for values in constants
        ]
        return net.op(op, s, *parameters, **attributes)

    return between


def _pair(op, shift=0.0, **attributes):
    """op of two layers of neurons."""

    def between(net, s):
        other = net.relu(net.conv("x", Dyadic(13)(4, 4, 1, 1)))
        if shift:
            other = net.op("Add", other, net.constant(np.float32(shift)))
        return net.op(op, s, other, **attributes)

    return between


def _where(net, s):
    chosen = net.constant(np.arange(36).reshape(1, 1, 6, 6) % 3 > 0)
    return net.op("Where", chosen, s, net.relu(net.conv("x", Dyadic(13)(4, 4, 1, 1))))


def _matmul(net, s):
    other = net.relu(net.conv("x", Dyadic(13)(4, 4, 1, 1)))
    return net.op("MatMul", s, net.op("Transpose", other, perm=[0, 1, 3, 2]))


def _floats(*shape):
    return Gaussian(14)(*shape)


_OF_ANY_NUMBER = (
    "Asinh Atan Celu Cos Cosh Elu Erf Exp Gelu HardSwish Mish Selu Sigmoid Sin Sinh Softplus "
    "Softsign Tanh Abs LeakyRelu HardSigmoid"
)

# What stands between the neurons, by the name of its operator.
CASES = {
    **{op: _op(op, shift=-0.5) for op in _OF_ANY_NUMBER.split()},
    **{op: _op(op, scale=0.125, shift=-0.25) for op in ("Acos", "Asin", "Atanh", "Tan")},
    "Acosh": _op("Acosh", shift=1.5),
    "Ceil": _op("Ceil", scale=4.0, shift=0.3137),
    "Clip": _op("Clip", np.float32(0.25), np.float32(1.25)),
    "Div": _pair("Div", shift=1.5),
    "Einsum": _pair("Einsum", equation="nabc,nabc->nabc"),
    "Floor": _op("Floor", scale=4.0, shift=0.3137),
    "GlobalLpPool": _op("GlobalLpPool", p=2),
    "Hardmax": _op("Hardmax"),
    "InstanceNormalization": _op("InstanceNormalization", _floats(4), _floats(4)),
    "LRN": _op("LRN", size=3),
    "LayerNormalization": _op("LayerNormalization", _floats(6), _floats(6), axis=-1),
    "Log": _op("Log", shift=0.5),
    "LogSoftmax": _op("LogSoftmax", axis=1),
    "LpNormalization": _op("LpNormalization", shift=0.5, axis=1, p=2),
    "LpPool": _op("LpPool", kernel_shape=[2, 2], p=2),
    "MatMul": _matmul,
    "Max": _op("Max", _floats(1, 4, 1, 1)),
    "MeanVarianceNormalization": _op("MeanVarianceNormalization", axes=[1, 2, 3]),
    "Min": _op("Min", _floats(6)),
    "Mod": _op("Mod", np.float32(0.7), fmod=1),
    "Mul": _pair("Mul"),
    "PRelu": _op("PRelu", np.float32([[[0.25]]]), shift=-0.5),
    "Pow": _op("Pow", np.float32(2), shift=0.25),
    "RMSNormalization": _op("RMSNormalization", _floats(6), axis=-1),
    "Reciprocal": _op("Reciprocal", shift=0.5),
    "ReduceL1": _op("ReduceL1", [1], shift=-0.5),
    "ReduceL2": _op("ReduceL2", [1, 2]),
    "ReduceLogSum": _op("ReduceLogSum", [-1], shift=0.5),
    "ReduceLogSumExp": _op("ReduceLogSumExp", [1]),
    "ReduceMax": _op("ReduceMax", [1]),
    "ReduceMin": _op("ReduceMin", [1]),
    "ReduceProd": _op("ReduceProd", [1], shift=0.5),
    "ReduceSumSquare": _op("ReduceSumSquare", [1]),
    "Round": _op("Round", scale=4.0, shift=0.3137),
    "Shrink": _op("Shrink", lambd=0.3, bias=0.1, shift=-0.5),
    "Sign": _op("Sign", shift=-0.25),
    "Softmax": _op("Softmax", axis=1),
    "Sqrt": _op("Sqrt", shift=0.25),
    "Swish": _op("Swish", shift=-0.5),
    "ThresholdedRelu": _op("ThresholdedRelu", alpha=0.21),
    "Where": _where,
}
OPSETS = {"Gelu": 20, "RMSNormalization": 23, "Swish": 24}
# Operators that another form takes first, where it can; the tests of that form have them.
ELSEWHERE = {"Abs", "Clip", "HardSigmoid", "LeakyRelu", "PRelu", "ReduceMax", "ReduceMin"}
OF_TWO = {"Div", "Einsum", "MatMul", "Mul", "Where"}


@cache
def _case(name):
    opset = OPSETS.get(name, 18)
    if opset > onnx.defs.onnx_opset_version():
        pytest.skip("newer than this onnx")
    return TwoLayers(CASES[name], IMAGE, opset=opset)


def _kind(case):
    graph = load_graph(case.model)
    (name,) = {node.name for node in case.model.graph.node if case.names["z"] in node.output}
    return next(v for v in analyse(graph).verdicts if v.node == name).kind


@cache
def _graded(name):
    """A case whose operator is graded here, and its running network on the layer schedule."""
    case = _case(name)
    if _kind(case) is not Kind.DIFFERENTIAL:
        assert name in ELSEWHERE | {"Max", "Min"}
        pytest.skip("has a spiking form here")
    return case, play(case.convert(), {"x": case.x})


def test_every_operator_has_a_case():
    assert set(CASES) == set(GRADED) - {"GroupNormalization"}  # no shape inference, and no type


@pytest.mark.parametrize("name", sorted(set(CASES) - OF_TWO))
def test_the_mean_goes_through_the_function(name):
    case, actual = _graded(name)
    np.testing.assert_array_equal(actual["s"], running_mean(case.spikes(T)))
    for mean, given in zip(actual["z"], actual["s"], strict=True):
        wanted = case.apply(given)
        limit = 1e-5 * max(1, np.abs(wanted).max())
        np.testing.assert_allclose(mean, wanted, rtol=0, atol=limit)
    assert np.unique(actual["z"]).size > 1


FUNCTIONS = {
    "Div": np.divide,
    "Einsum": np.multiply,
    "MatMul": np.matmul,
    "Mul": np.multiply,
    "Where": lambda a, b: np.where(np.arange(36).reshape(6, 6) % 3 > 0, a, b),
}


@pytest.mark.parametrize("name", sorted(OF_TWO))
def test_the_means_go_through_a_function_of_two(name):
    case = _case(name)
    assert _kind(case) is Kind.DIFFERENTIAL
    (node,) = (node for node in case.model.graph.node if node.op_type == name)
    model = expose(case.model, node.input[-2:])
    options = {"mode": "max", "timesteps": T, "readout": "running"}
    snn = convert(model, stats=stats_of(model, case.thresholds), **options).model
    actual = play(snn, {"x": case.x})
    wanted = FUNCTIONS[name](*(actual[tensor].astype(np.float64) for tensor in node.input[-2:]))
    np.testing.assert_allclose(actual["z"], wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize(("schedule", "block"), SCHEDULES)
@pytest.mark.parametrize(
    "name", ["Mul", "ReduceSumSquare", "Where", "Sigmoid", "Softmax", "MatMul"]
)
def test_all_schedules_and_readouts_agree(name, schedule, block):
    case, layer = _graded(name)
    for readout, use_native in (("running", True), ("running", False), ("mean", True)):
        snn = case.convert(schedule=schedule, block=block, readout=readout)
        actual = play(snn, {"x": case.x}, use_native=use_native)
        for tensor in "szhy":
            wanted = layer[tensor] if readout == "running" else layer[tensor][-1]
            np.testing.assert_allclose(actual[tensor], wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["Softmax", "Mul", "Tanh"])
def test_a_stream_of_single_steps(name):
    case, layer = _graded(name)
    stream = Stream(case.convert())
    for step in range(T):
        actual = stream.run({"x": case.x}, timesteps=1)
        for tensor in "szhy":
            np.testing.assert_allclose(actual[tensor][-1], layer[tensor][step], atol=1e-5)


@pytest.mark.parametrize(("schedule", "block"), SCHEDULES)
def test_of_a_sequence_of_frames(schedule, block):
    case = _case("Sigmoid")
    frames = np.stack([Dyadic(seed)(3, *IMAGE, step=1 / 8) for seed in range(T)])
    snn = case.convert(input_coding="sequence", schedule=schedule, block=block)
    actual = play(snn, {"x": frames})
    for mean, given in zip(actual["z"], actual["s"], strict=True):
        np.testing.assert_allclose(mean, case.apply(given), rtol=0, atol=1e-5)


def test_values_are_handed_on_as_the_formula_says():
    case, actual = _graded("Sigmoid")
    sums = np.cumsum(case.spikes(T).astype(np.float64), axis=0)
    counts = np.arange(1.0, T + 1).reshape(-1, 1, 1, 1, 1)
    totals = counts / (1 + np.exp(0.5 - sums / counts))  # t·f(X_t/t)
    steps = np.diff(totals, axis=0, prepend=0)
    assert not np.isclose(steps, np.round(steps)).all()  # graded, not spikes
    h = case.behind(steps.astype(np.float32), "h")
    np.testing.assert_allclose(actual["h"], running_mean(h), rtol=0, atol=1e-5)


class TestRefusals:
    """Samples must not meet in a function."""

    @pytest.mark.parametrize(
        ("op", "constants", "attributes"),
        [
            ("Softmax", (), {"axis": 0}),
            ("Softmax", (), {"axis": -2}),
            ("LogSoftmax", (), {"axis": 0}),
            ("Hardmax", (), {"axis": 0}),
            ("LpNormalization", (), {"axis": 0}),
            ("LayerNormalization", (np.ones((4, 4), np.float32),), {"axis": 0}),
            ("ReduceL1", ([0],), {}),
            ("ReduceL2", ([1, -2],), {}),
            ("ReduceLogSumExp", (), {}),
            ("ReduceProd", ([0],), {"keepdims": 0}),
        ],
    )
    def test_over_samples(self, op, constants, attributes):
        net = Net({"x": ["N", 4]})
        y = net.op(op, net.relu("x"), *map(net.constant, constants), **attributes)
        self._assert_refused(net.model(net.relu(y), check=False), op, "batch")

    def test_products_over_samples(self):
        net = Net({"x": ["N", 4]})
        s = net.relu("x")
        y = net.op("MatMul", net.op("Transpose", s), s)
        graph = load_graph(net.model(net.relu(y)))
        verdicts = {v.op: v for v in analyse(graph).refused}
        assert "batch" in verdicts["MatMul"].reason

    @pytest.mark.parametrize("op", ["Mul", "Div", "Pow"])
    def test_activations_of_different_rank(self, op):
        net = Net({"x": ["N", 4], "w": ["N", 3, 4]})
        y = net.op(op, net.relu("w"), net.relu("x"))
        self._assert_refused(net.model(net.relu(y), check=False), op, "rank")

    def test_statistics_that_are_read(self):
        net = Net({"x": ["N", 4]})
        y = net.op(
            "LayerNormalization", net.relu("x"), net.constant(np.ones(4, np.float32)), outputs=2
        )
        # onnx numbers the outputs: 0 is Y, 1 the mean.
        y = net.relu(net.op("Add", y, f"{y}_1"))
        self._assert_refused(net.model(y), "LayerNormalization", "first output")

    @staticmethod
    def _assert_refused(model, op, reason):
        verdict = analyse(load_graph(model)).refused[0]
        assert verdict.op == op
        assert reason in verdict.reason
        assert verdict.remedy


def _squeeze_and_excite():
    """Features gated by a function of their own means."""
    net, weights = Net({"x": ["N", 4, 5, 5]}), Gaussian(4)
    s = net.relu(net.conv("x", weights(6, 4, 1, 1), weights(6)))
    gate = net.op("GlobalAveragePool", s)
    gate = net.relu(net.conv(gate, weights(3, 6, 1, 1), weights(3)))
    gate = net.op("Sigmoid", net.conv(gate, weights(6, 3, 1, 1), weights(6)))
    y = net.relu(net.conv(net.op("Mul", s, gate), weights(5, 6, 3, 3), weights(5)))
    y = net.op("Flatten", net.op("GlobalAveragePool", y))
    return net.model(net.gemm(y, weights(5, 3))), (4, 5, 5)


def _attention():
    """A block of self-attention: normalised, three projections, a softmax, a residual, an MLP."""
    net, weights = Net({"x": ["N", 5, 8]}), Gaussian(6)
    s = net.relu(net.matmul("x", weights(8, 8)))
    ones, zeros = (net.constant(np.full(8, c, np.float32)) for c in (1, 0))
    h = net.op("LayerNormalization", s, ones, zeros, axis=-1, epsilon=0.1)
    query, key, value = (net.matmul(h, weights(8, 8)) for _ in range(3))
    scores = net.op("MatMul", query, net.op("Transpose", key, perm=[0, 2, 1]))
    scores = net.op("Mul", scores, net.constant(np.float32(8**-0.5)))
    mixed = net.op("MatMul", net.op("Softmax", scores, axis=-1), value)
    y = net.op("Add", net.matmul(mixed, weights(8, 8)), s)
    y = net.relu(net.matmul(y, weights(8, 12)))
    y = net.op("ReduceMean", net.matmul(y, weights(12, 8)), net.constant([1]), keepdims=0)
    return net.model(net.gemm(y, weights(8, 3))), (5, 8)


def _product():
    net, weights = Net({"x": ["N", 6]}), Gaussian(7)
    a, b = (net.relu(net.gemm("x", weights(6, 6), weights(6))) for _ in range(2))
    return net.model(net.gemm(net.relu(net.op("Mul", a, b)), weights(6, 3))), (6,)


def _gelu():
    net, weights = Net({"x": ["N", 6]}), Gaussian(8)
    y = net.relu(net.gemm("x", weights(6, 8), weights(8)))
    y = net.gemm(net.op("Gelu", net.gemm(y, weights(8, 8))), weights(8, 8))
    return net.model(net.gemm(net.relu(y), weights(8, 3)), opset=20), (6,)


NETS = {
    "squeeze and excite": _squeeze_and_excite,
    "attention": _attention,
    "product": _product,
    "GELU between linear layers": _gelu,
}


@cache
def _network(name):
    model, shape = NETS[name]()
    x = np.random.default_rng(1).normal(size=(8, *shape)).astype(np.float32)
    options = {"neuron": "if", "mode": "max", "bias_calibration": False, "readout": "running"}
    return model, x, convert(model, x, holdout=0, timesteps=T, **options)


@pytest.mark.parametrize("name", NETS)
class TestNetworks:
    def test_converge(self, name):
        model, x, conversion = _network(name)
        (wanted,) = run(model, {"x": x})
        errors = {}
        for steps in (64, 256, 1024):
            (*_, mean) = play(conversion.model, {"x": x}, steps)["y"]
            errors[steps] = np.sqrt(np.mean((mean - wanted) ** 2))
        assert errors[256] < 0.4 * errors[64]
        assert errors[1024] < 0.4 * errors[256]

    def test_report_what_is_graded(self, name):
        report = _network(name)[2].report
        assert 0 < report.graded_share < 1
        assert Kind.DIFFERENTIAL in {verdict.kind for verdict in report.verdicts}

    def test_are_refused_by_strict(self, name):
        model, x, conversion = _network(name)
        first = next(v for v in conversion.report.verdicts if v.kind is Kind.DIFFERENTIAL)
        with pytest.raises(UnsupportedModelError, match="would stay graded") as caught:
            convert(model, x, strict=True)
        assert str(caught.value).startswith(f"{first.op} node '{first.node}'")
        assert "without strict" in str(caught.value)

    @pytest.mark.parametrize(("schedule", "block"), SCHEDULES[1:])
    def test_agree_on_all_schedules(self, name, schedule, block):
        _, x, conversion = _network(name)
        moved = reschedule(conversion.model, schedule=schedule, block=block)
        actual, expected = (play(model, {"x": x})["y"] for model in (moved, conversion.model))
        # Gaussian weights: sums in another order may, rarely, move a spike by one step.
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("equation", "keeps"),
    [
        ("nhqd,nhkd->nhqk", True), ("nc,nc->nc", True), ("...a,...a->...", True), ("nc->nc", True),
        ("nc,mc->nm", False), ("nc,nc->c", False), ("nc->cn", False), ("nn->n", False),
        ("nc", False),
    ],
)  # fmt: skip
def test_einsum_keeps_the_samples_apart_or_is_refused(equation, keeps):
    terms = equation.split("->")[0].split(",")
    shapes = [["N", *range(2, 1 + len(t.replace("...", "zz")))] for t in terms]
    inputs = [gs.Variable(f"x{i}", np.dtype(np.float32), shape) for i, shape in enumerate(shapes)]
    output = gs.Variable("y", np.dtype(np.float32), ["N", 2])
    node = gs.Node("Einsum", "e", {"equation": equation}, inputs, [output])
    refusal = GRADED["Einsum"].refusal(node)
    assert (refusal is None) == keeps
    assert keeps or refusal.mixes_batch
