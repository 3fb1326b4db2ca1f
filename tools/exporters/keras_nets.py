"""The three networks in Keras, channels last."""

import keras
from fixture import EPSILON, Array, Weights
from keras import layers


class Builder:
    """Adds layers with the shared weights to a functional model."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._arrays: dict[str, list[Array]] = {}

    def conv(self, x, name: str, **options):
        """A convolution, and its batch normalization if it has no bias of its own."""
        weight = self._weights[f"{name}.weight"].transpose(2, 3, 1, 0)  # to [H, W, I, O]
        biased = f"{name}.bias" in self._weights.arrays
        size = weight.shape[0]
        if options.get("strides") and size > 1:  # "same" would pad on one side only
            x = layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
            options["padding"] = "valid"
        options = {"padding": "same", "use_bias": biased, "name": name, **options}
        x = layers.Conv2D(weight.shape[3], size, **options)(x)
        self._arrays[name] = [weight, *([self._weights[f"{name}.bias"]] if biased else [])]
        return x if biased else self._normalise(x, name)

    def depthwise(self, x, name: str):
        weight = self._weights[f"{name}.weight"].transpose(2, 3, 0, 1)  # to [H, W, O, 1]
        options = {"padding": "same", "use_bias": False, "name": name}
        x = layers.DepthwiseConv2D(weight.shape[0], **options)(x)
        self._arrays[name] = [weight]
        return self._normalise(x, name)

    def linear(self, x, name: str, weight: Array | None = None):
        weight = self._weights[f"{name}.weight"].T if weight is None else weight
        self._arrays[name] = [weight, self._weights[f"{name}.bias"]]
        return layers.Dense(weight.shape[1], name=name)(x)

    def model(self, x, y) -> keras.Model:
        model = keras.Model(x, y)
        for name, arrays in self._arrays.items():
            model.get_layer(name).set_weights(arrays)
        return model

    def _normalise(self, x, name: str):
        self._arrays[f"{name}_bn"] = self._weights.batch_normalization(name)
        return layers.BatchNormalization(epsilon=EPSILON, name=f"{name}_bn")(x)


def cnn(weights: Weights) -> keras.Model:
    build = Builder(weights)
    x = keras.Input((8, 8, 2))
    y = layers.AveragePooling2D(2)(layers.ReLU()(build.conv(x, "conv1")))
    y = layers.MaxPooling2D(2)(build.conv(y, "conv2", activation="relu"))
    weight = weights.channels_last_linear("linear", 2, 2)
    return build.model(x, build.linear(layers.Flatten()(y), "linear", weight))


def residual(weights: Weights) -> keras.Model:
    build = Builder(weights)
    x = keras.Input((8, 8, 3))
    stem = layers.ReLU()(build.conv(x, "stem"))
    y = layers.ReLU()(build.conv(stem, "conv1"))
    first = layers.ReLU()(layers.Add()([build.conv(y, "conv2"), stem]))
    y = layers.ReLU()(build.conv(first, "conv3", strides=2))
    shortcut = build.conv(first, "shortcut", strides=2)
    second = layers.ReLU()(layers.Add()([build.conv(y, "conv4"), shortcut]))
    return build.model(x, build.linear(layers.GlobalAveragePooling2D()(second), "linear"))


def depthwise(weights: Weights) -> keras.Model:
    build = Builder(weights)
    x = keras.Input((8, 8, 3))
    stem = layers.ReLU(6)(build.conv(x, "stem"))
    y = layers.ReLU(6)(build.depthwise(stem, "depthwise"))
    y = layers.ReLU(6)(layers.Add()([build.conv(y, "pointwise"), stem]))
    return build.model(x, build.linear(layers.GlobalAveragePooling2D()(y), "linear"))


NETS = {"cnn": cnn, "residual": residual, "depthwise": depthwise}
