"""Operators of scikit-learn's exporter, against onnxruntime on the original model."""

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import TensorProto, helper

from loading import loaded, model_of, ops, sample, value
from nets import run
from onnx_snn.load import load_graph
from onnx_snn.load.ml_operators import ML_DOMAIN, replace_ml_operators

N = helper.make_node
DOMAINS = {ML_DOMAIN: 3}


def _model(nodes, inputs, outputs, constants=None):
    model = model_of(nodes, inputs, outputs, constants, domains=DOMAINS)
    onnx.checker.check_model(model)
    return model


class TestScaler:
    @pytest.mark.parametrize(
        ("offset", "scale"),
        [([0.3], [1.3]), ([0.3, -1.7, 2.1], [0.7, 3.1, -0.2])],
        ids=["scalar", "vector"],
    )
    def test_becomes_arithmetic(self, offset, scale):
        scaler = N("Scaler", ["x"], ["s"], "scaler", domain=ML_DOMAIN, offset=offset, scale=scale)
        model = _model([scaler, N("Relu", ["s"], ["y"])], [value("x", "N", 3)], [_y(3)])
        assert ops(loaded(model, x=sample(4, 3))) == ["Sub", "Mul", "Relu"]

    @pytest.mark.parametrize(
        ("given", "missing"), [("offset", {"scale": [1.0]}), ("scale", {"offset": [0.0]})]
    )
    def test_what_is_left_out_changes_nothing(self, given, missing):
        """The specification allows it; onnxruntime wants both."""
        x = sample(4, 3)
        results = []
        for attributes in ({given: [2.5]}, {given: [2.5], **missing}):
            scaler = N("Scaler", ["x"], ["y"], domain=ML_DOMAIN, **attributes)
            results.append(_model([scaler], [value("x", "N", 3)], [_y(3)]))
        clean = gs.export_onnx(load_graph(results[0]))
        np.testing.assert_array_equal(run(clean, {"x": x})[0], run(results[1], {"x": x})[0])


def _y(*shape):
    return value("y", "N", *shape)


def _map_output(name, key_type):
    kind = helper.make_map_type_proto(
        key_type, helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    )
    return helper.make_value_info(name, helper.make_sequence_type_proto(kind))


class TestZipMap:
    @pytest.mark.parametrize(
        ("labels", "key_type"),
        [
            ({"classlabels_int64s": [7, 3, 5]}, TensorProto.INT64),
            ({"classlabels_strings": ["cat", "ant", "bee"]}, TensorProto.STRING),
        ],
        ids=["numbers", "text"],
    )
    def test_at_an_output_leaves_the_probabilities(self, labels, key_type):
        nodes = [
            N("Softmax", ["x"], ["p"], axis=1),
            N("ZipMap", ["p"], ["z"], "zip", domain=ML_DOMAIN, **labels),
        ]
        model = _model(nodes, [value("x", "N", 3)], [_map_output("z", key_type)])
        x = sample(4, 3)
        graph = load_graph(model)
        (actual,) = run(gs.export_onnx(graph), {"x": x})
        (maps,) = run(model, {"x": x})
        names = next(iter(labels.values()))
        expected = np.array([[row[name] for name in names] for row in maps], np.float32)
        np.testing.assert_array_equal(actual, expected)
        assert [tensor.name for tensor in graph.outputs] == ["z"]
        assert list(graph.outputs[0].shape) == ["N", 3]


def test_other_operators_of_the_domain_stay():
    nodes = [
        N("Relu", ["x"], ["r"]),
        N("Normalizer", ["r"], ["y"], domain=ML_DOMAIN, norm="MAX"),
    ]
    graph = loaded(_model(nodes, [value("x", "N", 3)], [_y(3)]), x=sample(4, 3))
    assert ops(graph) == ["Relu", "Normalizer"]


def test_operators_of_the_same_name_in_other_domains_stay():
    node = N("Scaler", ["x"], ["y"], domain="com.example", scale=[2.0])
    model = model_of([node], [value("x", "N", 3)], [_y(3)], domains={"com.example": 1})
    before = model.SerializeToString(deterministic=True)
    replace_ml_operators(model)
    assert model.SerializeToString(deterministic=True) == before
