"""Fixtures from Keras 3 (``Model.export``) and from tf2onnx (images turned to NCHW)."""

import tempfile
from pathlib import Path

import keras
import onnx
import tensorflow as tf
import tf2onnx
from fixture import save
from keras_nets import NETS, Weights

PACKAGES = ["keras", "tensorflow-cpu", "tf2onnx"]


def exported_by_keras(model: keras.Model) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        model.export(path, format="onnx", verbose=False)
        return onnx.load(path)


def exported_by_tf2onnx(model: keras.Model) -> onnx.ModelProto:
    """The function as a TensorFlow user exports it, with an input in NCHW."""

    @tf.function(input_signature=[tf.TensorSpec(model.inputs[0].shape, tf.float32, name="x")])
    def function(x: tf.Tensor) -> tf.Tensor:
        return model(x, training=False)

    proto, _ = tf2onnx.convert.from_function(
        function, function.input_signature, opset=15, inputs_as_nchw=["x:0"]
    )
    return proto


if __name__ == "__main__":
    for net, build in NETS.items():
        weights = Weights(net)
        images = weights.images.transpose(0, 2, 3, 1)
        model = build(weights)
        outputs = model.predict(images, verbose=0)
        save(f"keras_{net}", exported_by_keras(model), [images], [outputs], PACKAGES)
        proto = exported_by_tf2onnx(model)
        save(f"tf2onnx_{net}_nchw", proto, [weights.images], [outputs], PACKAGES)
