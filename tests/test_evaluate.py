import numpy as np
import pytest
from onnx import TensorProto, helper

import exporters
import onnx_snn
from nets import Dyadic, Gaussian, Net, mlp, run
from onnx_snn.errors import DataError, ModelError, OptionError

T = 40  # more than one block of steps


def make(model, samples, **options):
    classic = {"preset": "classic", "v_init": 0.5, "batch_reduction": "exact"}
    options = {"timesteps": T, "holdout": 0.0, **classic, **options}
    return onnx_snn.convert(model, samples, **options)


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(1)
    return random.normal(0, 1, (50, 7)).astype(np.float32)  # more than one run's samples


@pytest.fixture(scope="module")
def ann():
    return mlp(Gaussian(3))


@pytest.fixture(scope="module")
def snn(ann, data):
    return make(ann, data).model


def test_curves_equal_those_of_a_running_readout(ann, snn, data):
    labels = np.random.default_rng(2).integers(0, 3, len(data))
    running = onnx_snn.reschedule(snn, readout="running")
    (outputs,) = onnx_snn.create_session(running).run(None, {"x": data})
    (expected,) = run(ann, {"x": data})
    result = onnx_snn.evaluate(snn, (data, labels), reference=ann)

    assert (result.samples, result.timesteps) == (50, T)
    classes = outputs.argmax(axis=2)
    np.testing.assert_allclose(result.accuracy, (classes == labels).mean(axis=1))
    np.testing.assert_allclose(result.agreement, (classes == expected.argmax(axis=1)).mean(axis=1))
    assert result.ann_accuracy == pytest.approx((expected.argmax(axis=1) == labels).mean())
    error = np.sqrt(((outputs - expected) ** 2).mean(axis=(1, 2)) / (expected**2).mean())
    # Readouts are sums in float32 in another order.
    np.testing.assert_allclose(result.output_error, error, rtol=1e-4)


def test_firing_rates_are_means_over_samples_neurons_and_steps(snn, data):
    model = onnx_snn.reschedule(snn)  # a copy
    neurons = [node for node in model.graph.node if node.op_type == "IFNeuron"]
    for node in neurons:
        model.graph.output.add().name = node.output[0]
    spikes = onnx_snn.create_session(model.SerializeToString()).run(
        [node.output[0] for node in neurons], {"x": data}
    )
    labels = np.zeros(len(data), np.int64)
    rates = onnx_snn.evaluate(snn, (data, labels)).firing_rates
    assert list(rates) == [node.name for node in neurons]
    np.testing.assert_allclose(list(rates.values()), [s.mean() for s in spikes], rtol=1e-5)


@pytest.mark.parametrize("schedule", ["layer", "loop", "step"])
def test_every_schedule_evaluates_alike(snn, ann, data, schedule):
    other = onnx_snn.reschedule(snn, schedule=schedule, block=7)
    result = onnx_snn.evaluate(other, data, reference=ann, timesteps=9)
    same = onnx_snn.evaluate(snn, data, reference=ann, timesteps=9)
    assert result == same
    assert len(result.agreement) == 9
    assert result.accuracy is None
    assert result.ann_accuracy is None


def test_labels_alone_are_enough(snn, data):
    result = onnx_snn.evaluate(snn, (data, np.zeros(len(data), np.int64)), limit=33)
    assert result.samples == 33
    assert len(result.accuracy) == T
    assert result.agreement is None
    assert result.output_error is None


def test_sequences_come_sample_first(ann, data):
    snn = make(ann, data, input_coding="sequence").model
    constant = make(ann, data).model
    sequences = np.repeat(data[:, None], T, axis=1)
    shown = onnx_snn.evaluate(snn, sequences, reference=ann)
    held = onnx_snn.evaluate(constant, data, reference=ann)
    np.testing.assert_allclose(shown.output_error, held.output_error, rtol=1e-3)
    with pytest.raises(DataError, match="sequences have 40 steps, but 41"):
        onnx_snn.evaluate(snn, sequences, reference=ann, timesteps=41)


def test_outputs_that_are_classes():
    weights = Gaussian(4)
    net = Net({"x": ["N", 7]})
    y = net.gemm(net.relu(net.gemm("x", weights(7, 9), weights(9))), weights(9, 4), weights(4))
    model = net.model({"y": net.op("ArgMax", y, axis=1, keepdims=0)}, check=False)
    model.graph.output[0].type.tensor_type.elem_type = 7  # int64
    x = np.random.default_rng(0).normal(0, 1, (40, 7)).astype(np.float32)
    result = onnx_snn.evaluate(make(model, x).model, x, reference=model)
    assert result.agreement[-1] > 0.8
    assert result.agreement[-1] > result.agreement[0]


def test_outputs_that_are_no_classes_have_an_error_only():
    weights = Gaussian(4)
    net = Net({"x": ["N", 7]})
    y = net.gemm(net.relu(net.gemm("x", weights(7, 9), weights(9))), weights(9, 1), weights(1))
    model = net.model(y)
    x = np.random.default_rng(0).normal(0, 1, (40, 7)).astype(np.float32)
    result = onnx_snn.evaluate(make(model, x).model, x, reference=model)
    assert result.agreement is None
    assert result.output_error[-1] < result.output_error[3]


@pytest.mark.parametrize("name", ["sklearn_classifier", "sklearn_classifier_zipmap"])
def test_labels_beside_scores(name):
    # The error is that of the probabilities, the classes are those of the labels before them.
    fixture = exporters.load(name)
    expected, probabilities = fixture.outputs.values()
    (x,) = fixture.inputs.values()
    conversion = make(fixture.model, x, mode="max")
    snn = onnx_snn.create_session(onnx_snn.reschedule(conversion.model, readout="running"))
    labels, scores = snn.run(None, {snn.get_inputs()[0].name: x})
    result = onnx_snn.evaluate(conversion.model, (x, expected), reference=fixture.model)
    error = np.sqrt(((scores - probabilities) ** 2).mean(axis=(1, 2)) / (probabilities**2).mean())
    assert error[-1] > 1e-3
    np.testing.assert_allclose(result.output_error, error, rtol=1e-4)
    np.testing.assert_allclose(result.agreement, (labels == expected).mean(axis=1))
    assert result.accuracy == result.agreement
    assert result.ann_accuracy == 1
    assert conversion.report.output_error == pytest.approx(error[-1], rel=1e-4)
    assert conversion.report.agreement == result.agreement[-1]


def _named_classes(with_scores):
    """A classifier that gives the names of classes, as scikit-learn exports them."""
    weights = Gaussian(4)
    net = Net({"x": ["N", 7]})
    y = net.gemm(net.relu(net.gemm("x", weights(7, 9), weights(9))), weights(9, 4), weights(4))
    best = net.op("ArgMax", y, axis=1, keepdims=0)
    model = net.model({"best": best, "scores": y} if with_scores else {"best": best}, check=False)
    names = helper.make_tensor("names", TensorProto.STRING, [4], [b"a", b"b", b"c", b"d"])
    model.graph.initializer.append(names)
    inputs = ["names", "best"]
    model.graph.node.append(
        helper.make_node("ArrayFeatureExtractor", inputs, ["row"], domain="ai.onnx.ml")
    )
    model.graph.initializer.append(helper.make_tensor("flat", TensorProto.INT64, [1], [-1]))
    model.graph.node.append(helper.make_node("Reshape", ["row", "flat"], ["name"]))
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    del model.graph.output[0]
    model.graph.output.insert(0, helper.make_tensor_value_info("name", TensorProto.STRING, None))
    return model


@pytest.mark.parametrize("with_scores", [True, False])
def test_names_of_classes_are_not_compared(with_scores):
    model = _named_classes(with_scores)
    x = np.random.default_rng(0).normal(0, 1, (40, 7)).astype(np.float32)
    names = run(model, {"x": x})[0]
    conversion = make(model, x)
    result = onnx_snn.evaluate(conversion.model, x, reference=model)
    if with_scores:
        assert result.agreement[-1] > 0.8
        assert 0 < result.output_error[-1] < result.output_error[3]
    else:
        assert result.agreement is None
        assert result.output_error is None
    assert conversion.report.agreement == (result.agreement and result.agreement[-1])
    labelled = onnx_snn.evaluate(conversion.model, [(x, names.astype(str))], reference=model)
    assert labelled.accuracy is None
    with pytest.raises(OptionError, match="labels that are numbers"):
        onnx_snn.evaluate(conversion.model, [(x, names.astype(str))])


@pytest.mark.parametrize("schedule", ["layer", "step"])
def test_states_and_outputs_that_do_not_vary_are_not_compared(schedule):
    weights = Gaussian(4)
    net = Net({"x": ["N", 7]})
    y = net.gemm(net.relu(net.gemm("x", weights(7, 9), weights(9))), weights(9, 4), weights(4))
    model = net.model({"static": net.op("Floor", "x"), "y": y})
    x = np.random.default_rng(0).normal(0, 1, (40, 7)).astype(np.float32)
    result = onnx_snn.evaluate(make(model, x, schedule=schedule).model, x, reference=model)
    assert 0 < result.output_error[-1] < result.output_error[3]


def test_nothing_to_compare_with(snn, data):
    with pytest.raises(OptionError, match="labels"):
        onnx_snn.evaluate(snn, data)


@pytest.mark.parametrize("options", [{"timesteps": 0}, {"limit": 0}, {"timesteps": -3}])
def test_counts_must_be_positive(snn, ann, data, options):
    with pytest.raises(OptionError, match="at least 1"):
        onnx_snn.evaluate(snn, data, reference=ann, **options)


def test_a_reference_of_another_shape(snn, data):
    weights = Dyadic()
    net = Net({"x": ["N", 7]})
    other = net.model(net.relu(net.gemm("x", weights(7, 5), weights(5))))
    with pytest.raises(DataError, match="converted from"):
        onnx_snn.evaluate(snn, data, reference=other)


def test_an_unconverted_model(ann, data):
    with pytest.raises(ModelError, match="convert it first"):
        onnx_snn.evaluate(ann, data)
