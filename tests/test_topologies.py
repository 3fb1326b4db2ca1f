"""The builder of the shipped topologies: its networks behave like trained ones."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from nets import run, session
from topologies import FULLY_CONVOLUTIONAL, TOPOLOGIES, images, topology

pytestmark = pytest.mark.heavy

# Not activations: constants in another shape.
CONSTANT_OPS = ("Unsqueeze", "Reshape")


# Scope session: next to the other tests of the same network, which is built once for all of them.
@pytest.mark.parametrize("name", TOPOLOGIES, scope="session")
def test_every_layer_has_a_sane_magnitude_and_the_classes_tell_images_apart(name):
    model = topology(name)
    onnx.checker.check_model(model)
    one, other = _activations(model, images(2, seed=99))
    for activation in one:
        assert np.isfinite(one[activation]).all()
        assert 1e-2 < np.std([one[activation], other[activation]]) < 1e3, activation
    logits = [values[_logits(model.graph)].ravel() for values in (one, other)]
    assert np.argmax(logits[0]) != np.argmax(logits[1])
    assert np.corrcoef(logits)[0, 1] < 0.5
    assert min(np.std(logits, axis=1)) > 0.5


def test_no_stand_in_is_left():
    graph = topology("resnet50").graph
    assert all(node.op_type != "ConstantOfShape" for node in graph.node)
    inputs = [value.name for value in graph.input]
    assert len(inputs) == len(set(inputs)) == 1 + len(graph.initializer)


def test_batch_normalisation_finds_the_statistics_that_it_holds():
    model = topology("resnet50")
    node = next(node for node in model.graph.node if node.op_type == "BatchNormalization")
    held = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    activations = _activations(model, images(4, seed=1), [node.input[0]])
    x = np.concatenate([each[node.input[0]] for each in activations])
    np.testing.assert_allclose(held[node.input[3]], x.mean(axis=(0, 2, 3)), atol=1e-3)
    # The builder varies the variance by up to 10 %.
    np.testing.assert_allclose(held[node.input[4]], x.var(axis=(0, 2, 3)), rtol=0.11)


def test_a_seed_gives_the_same_weights_and_another_seed_others():
    build = topology.__wrapped__
    first, again, other = (build("squeezenet", seed, image=64) for seed in (5, 5, 6))
    assert first.SerializeToString() == again.SerializeToString()
    x = images(1, size=64)
    (y,), (z,) = (run(model, {"data_0": x}) for model in (first, other))
    assert np.abs(y - z).max() > 1e-3


@pytest.mark.parametrize("name", FULLY_CONVOLUTIONAL)
def test_fully_convolutional_networks_take_smaller_images(name):
    (y,) = run(topology(name, image=64), {"data_0": images(1, size=64)})
    assert y.shape == (1, 1000, 1, 1)
    assert np.isfinite(y).all()


def test_other_networks_take_images_of_one_size():
    with pytest.raises(ValueError, match="224"):
        topology("vgg19", image=64)


def _activations(
    model: onnx.ModelProto, x: np.ndarray, names: list[str] | None = None
) -> list[dict[str, np.ndarray]]:
    """What these nodes, or all, yield for each image: first outputs only, no masks of Dropout."""
    graph = model.graph
    constant = {tensor.name for tensor in graph.initializer}
    (data,) = (value.name for value in graph.input if value.name not in constant)
    declared = list(graph.output)
    names = names or [
        node.output[0]
        for node in graph.node
        if not (node.op_type in CONSTANT_OPS and node.input[0] in constant)
        and node.op_type != "Softmax"
    ]
    del graph.output[:]  # and back below: a copy of the largest models would cost 0.6 GB
    graph.output.extend(
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names
    )
    try:
        reader = session(model)
    finally:
        del graph.output[:]
        graph.output.extend(declared)
    outputs = (reader.run(None, {data: image[None]}) for image in x)
    return [dict(zip(names, values, strict=True)) for values in outputs]


def _logits(graph: onnx.GraphProto) -> str:
    last = graph.node[-1]
    return last.input[0] if last.op_type == "Softmax" else last.output[0]
