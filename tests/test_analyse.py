import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from onnx import helper

import onnx_snn
from nets import Gaussian, Net, cnn, residual
from onnx_snn.analyse import analyse
from onnx_snn.errors import UnsupportedModelError
from onnx_snn.load import load_graph
from onnx_snn.operators import Kind
from strategies import networks

W = Gaussian(9)


def _kinds(model):
    return {verdict.node: verdict.kind for verdict in analyse(load_graph(model)).verdicts}


def _between_neurons(op, *constants, inputs=1, outputs=1, **attributes):
    """x → Relu → op → Gemm → Relu → y, on [N, 4, 6, 6]."""
    net = Net({"x": ["N", 4, 6, 6]})
    y = net.op(op, *[net.relu("x")] * inputs, *constants, outputs=outputs, **attributes)
    return net.model(net.relu(net.conv(y, W(2, 4, 1, 1))))


def test_every_node_of_a_network_has_a_verdict():
    net = Net({"x": ["N", 2, 8, 8]})
    y = net.batch_normalization(net.conv("x", W(4, 2, 3, 3)), 4)
    y = net.op("AveragePool", net.relu(y), kernel_shape=[2, 2], strides=[2, 2])
    y = net.gemm(net.op("Flatten", y), W(36, 5))
    y = net.op("ArgMax", net.op("Softmax", y), axis=1)
    assert _kinds(net.model(y)) == {
        "Conv_0": Kind.LINEAR,
        "BatchNormalization_1": Kind.LINEAR,
        "Relu_2": Kind.SPIKING,
        "AveragePool_3": Kind.POOLING,
        "Flatten_4": Kind.LINEAR,
        "Gemm_5": Kind.LINEAR,
        "Softmax_6": Kind.ANALOG,
        "ArgMax_7": Kind.ANALOG,
    }


@settings(max_examples=20, deadline=None)
@given(networks())
def test_verdicts_of_random_networks(example):
    graph = load_graph(example.model)
    before = [node.name for node in graph.nodes]
    analysis = analyse(graph)
    assert [verdict.node for verdict in analysis.verdicts] == before
    assert [node.name for node in graph.nodes] == before
    assert all(verdict.reason for verdict in analysis.verdicts)
    assert not analysis.refused
    analysis.raise_if_refused()


class TestRegions:
    def test_what_comes_before_the_neurons_may_be_anything(self):
        net = Net({"x": ["N", 4, 6, 6]})
        y = net.op("MaxPool", net.op("Sigmoid", "x"), kernel_shape=[2, 2])
        analysis = analyse(load_graph(net.model(net.relu(net.conv(y, W(2, 4, 1, 1))))))
        assert analysis.static == {"Sigmoid_0", "MaxPool_1", "Conv_2"}
        assert not analysis.tail
        assert not analysis.refused

    def test_a_static_branch_may_join_later(self):
        net = Net({"x": ["N", 4]})
        y = net.op("Add", net.relu("x"), net.op("Tanh", "x"))
        analysis = analyse(load_graph(net.model(net.relu(y))))
        assert analysis.static == {"Tanh_1"}
        assert not analysis.refused

    def test_products_of_inputs_are_static(self):
        net = Net({"x": ["N", 4]})
        kinds = _kinds(net.model(net.relu(net.op("Mul", "x", "x"))))
        assert kinds == {"Mul_0": Kind.ANALOG, "Relu_1": Kind.SPIKING}

    def test_the_tail_starts_at_the_first_function_that_is_not_linear(self):
        net = Net({"x": ["N", 4]})
        y = net.gemm(net.relu("x"), W(4, 3))
        y = net.op("Mul", net.op("Softmax", y), net.constant(np.float32(2)))
        analysis = analyse(load_graph(net.model(y)))
        assert analysis.tail == {"Softmax_2", "Mul_3"}
        assert [v.kind for v in analysis.verdicts if v.node in analysis.tail] == [Kind.ANALOG] * 2

    def test_samples_must_not_meet_in_the_tail_either(self):
        net = Net({"x": ["N", 4]})
        analysis = analyse(load_graph(net.model(net.op("Transpose", net.relu("x")))))
        assert analysis.tail == {"Transpose_1"}
        assert [verdict.node for verdict in analysis.refused] == ["Transpose_1"]

    @pytest.mark.parametrize("op", ["GlobalMaxPool", "Softmax"])
    def test_the_tail_takes_maxima_and_functions_of_the_mean(self, op):
        net = Net({"x": ["N", 4, 6, 6]})
        y = net.op("Flatten", net.op(op, net.relu("x")))
        analysis = analyse(load_graph(net.model(y)))
        assert analysis.tail == {f"{op}_1", "Flatten_2"}
        assert not analysis.graded

    def test_networks_without_a_tail(self):
        for build in (cnn, residual):
            assert not analyse(load_graph(build(W))).tail

    def test_metadata_is_not_temporal(self):
        net = Net({"x": ["N", 4]})
        samples = net.op("Gather", net.op("Shape", "x"), net.constant(np.int64(0)))
        model = net.model({"y": net.relu("x"), "samples": net.op("Cast", samples, to=1)})
        kinds = _kinds(model)
        assert kinds.pop("Relu_2") is Kind.SPIKING
        assert len(kinds) == 3
        assert set(kinds.values()) == {Kind.METADATA}


def _custom():
    model = _between_neurons("Identity")
    node = helper.make_node("Swish", ["relu0"], ["swish"], name="swish", domain="com.example")
    model.graph.node.insert(1, node)
    model.graph.node[2].input[0] = "swish"
    model.graph.node[3].input[0] = "swish"
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    return model


def _training():
    net = Net({"x": ["N", 4, 6, 6]})
    ones = [net.constant(np.ones(4, np.float32))] * 4
    y = net.op("BatchNormalization", net.relu("x"), *ones, outputs=3, training_mode=1)
    return net.model(net.relu(y))


def _lstm():
    net = Net({"x": ["N", 3, 4]})
    parameters = [net.constant(W(1, 8, 4)), net.constant(W(1, 8, 2))]
    y = net.op("LSTM", net.relu("x"), *parameters, hidden_size=2)
    return net.model(y)


def _unpooling():
    net = Net({"x": ["N", 4, 6, 6]})
    y = net.op("MaxPool", net.relu("x"), kernel_shape=[2, 2], outputs=2)
    return net.model(net.relu(net.op("Add", y, net.op("Cast", f"{y}_1", to=1))))


def _cumulative():
    net = Net({"x": ["N", 4, 6, 6]})
    y = net.op("CumSum", net.relu("x"), net.constant(np.int64(1)))
    return net.model(net.relu(net.conv(y, W(2, 4, 1, 1))))


# model, node, part of the reason, part of the remedy
REFUSED = {
    "maxima with places": (_unpooling(), ("MaxPool_1", "indices", "max-unpooling")),
    "softmax over samples": (
        _between_neurons("Softmax", axis=0),
        ("Softmax_1", "mixes the batch", "axis 0"),
    ),
    "unknown function": (
        _cumulative(),
        ("CumSum_1", "not known as a function of each sample", "replace it by"),
    ),
    "mixing samples": (
        _between_neurons("Transpose", perm=[1, 0, 2, 3]),
        ("Transpose_1", "mixes the batch", "axis 0"),
    ),
    "LSTM": (_lstm(), ("LSTM_1", "recurrent", "feed-forward")),
    "custom operator": (_custom(), ("swish", "'com.example' are unknown", "standard ONNX")),
    "training mode": (_training(), ("BatchNormalization_1", "training mode", "model.eval()")),
}


class TestRefusals:
    @pytest.mark.parametrize("name", REFUSED)
    def test_names_the_node_the_reason_and_the_remedy(self, name):
        model, (node, reason, remedy) = REFUSED[name]
        # Behind a custom operator no shape is known, so that more is refused there.
        verdict = analyse(load_graph(model)).refused[0]
        assert verdict.node == node
        assert verdict.kind is Kind.REFUSED
        assert reason in verdict.reason
        assert remedy in verdict.remedy

    @pytest.mark.parametrize("name", REFUSED)
    def test_stops_a_conversion_with_one_line(self, name):
        model, (node, reason, remedy) = REFUSED[name]
        with pytest.raises(UnsupportedModelError) as caught:
            onnx_snn.convert(model, np.ones((4, 4, 6, 6), np.float32))
        message = str(caught.value)
        assert f"'{node}' cannot be converted: " in message
        assert reason in message
        assert remedy in message
        assert "\n" not in message

    def test_says_how_many_more_there_are(self):
        net = Net({"x": ["N", 4]})
        y = net.relu("x")
        for _ in range(3):
            y = net.op("CumSum", y, net.constant(np.int64(1)))
        with pytest.raises(UnsupportedModelError, match=r"^CumSum node .* \(and 2 more refused"):
            analyse(load_graph(net.model(net.relu(y)))).raise_if_refused()

    def test_a_custom_operator_is_refused_in_the_tail_too(self):
        model = _custom()
        del model.graph.node[2:-1]
        model.graph.node[-1].input[0] = "swish"
        onnx.checker.check_model(model)
        assert [v.node for v in analyse(load_graph(model)).refused] == ["swish"]

    @pytest.mark.parametrize("op", ["Sigmoid", "Neg"])
    def test_nothing_to_convert(self, op):
        net = Net({"x": ["N", 4]})
        model = net.model(net.gemm(net.op(op, "x"), W(4, 3)))
        with pytest.raises(UnsupportedModelError, match=r"^nothing to convert: .*Relu"):
            onnx_snn.convert(model, np.ones((4, 4), np.float32))


def _layer_normalization():
    net = Net({"x": ["N", 4]})
    y = net.op("LayerNormalization", net.relu("x"), net.constant(np.ones(4, np.float32)))
    return net.model(net.relu(y))


GRADED = {
    "Sigmoid": _between_neurons("Sigmoid"),
    "Softmax": _between_neurons("Softmax", axis=1),
    "Mul": _between_neurons("Mul", inputs=2),
    "MatMul": _between_neurons("MatMul", inputs=2),
    "LayerNormalization": _layer_normalization(),
}


class TestGraded:
    @pytest.mark.parametrize("name", GRADED)
    def test_is_differential_and_says_so(self, name):
        analysis = analyse(load_graph(GRADED[name]))
        assert not analysis.refused
        (verdict,) = analysis.graded
        assert verdict.op == name
        assert verdict.kind is Kind.DIFFERENTIAL
        assert "graded, not spiking" in verdict.reason

    @pytest.mark.parametrize("name", GRADED)
    def test_is_refused_by_strict(self, name):
        with pytest.raises(UnsupportedModelError) as caught:
            analyse(load_graph(GRADED[name])).raise_if_refused(strict=True)
        assert str(caught.value).startswith(f"{name} node '{name}_")
        assert "would stay graded" in str(caught.value)
        assert "without strict" in str(caught.value)

    def test_strict_says_how_many_more_there_are(self):
        net = Net({"x": ["N", 4]})
        y = net.op("Softplus", net.op("Tanh", net.op("Sigmoid", net.relu("x"))))
        analysis = analyse(load_graph(net.model(net.relu(y))))
        analysis.raise_if_refused()
        with pytest.raises(UnsupportedModelError, match=r"^Sigmoid node 'Sigmoid_1' .*and 2 more"):
            analysis.raise_if_refused(strict=True)

    def test_strict_takes_spiking_networks(self):
        net = Net({"x": ["N", 2, 8, 8]})
        y = net.op("MaxPool", net.relu(net.conv("x", W(4, 2, 3, 3))), kernel_shape=[2, 2])
        y = net.relu(net.conv(y, W(4, 4, 3, 3)))
        y = net.op("Softmax", net.gemm(net.op("Flatten", y), W(36, 3)))  # in the tail
        x = np.random.default_rng(1).normal(size=(4, 2, 8, 8)).astype(np.float32)
        for model in (net.model(y), cnn(W)):
            report = onnx_snn.convert(model, x, strict=True).report
            assert report.graded_share == 0
            assert Kind.DIFFERENTIAL not in {verdict.kind for verdict in report.verdicts}

    def test_where_spikes_cannot_reach_it_nothing_is_graded(self):
        net = Net({"x": ["N", 4]})
        y = net.op("Softmax", net.gemm(net.relu(net.op("Sigmoid", "x")), W(4, 3)))
        assert not analyse(load_graph(net.model(y))).graded


def test_what_is_computed_once_for_all_samples_may_stand_before_the_neurons():
    net = Net({"x": ["N", 3]})
    y = net.op("Sub", "x", net.op("ReduceMin", "x", net.constant([0], np.int64)))
    assert not analyse(load_graph(net.model(net.relu(y)))).refused
