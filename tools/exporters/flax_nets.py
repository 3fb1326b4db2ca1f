"""Fixtures from jax2onnx: the three networks in Flax, channels last."""

import jax
import jax.numpy as jnp
from fixture import EPSILON, Array, Weights, save
from flax import nnx
from jax2onnx import to_onnx

PACKAGES = ["jax", "flax", "jax2onnx"]


def conv(weights: Weights, name: str, stride: int = 1, groups: int = 1) -> nnx.Sequential:
    """A convolution, and its batch normalization if it has no bias of its own."""
    weight = weights[f"{name}.weight"].transpose(2, 3, 1, 0)  # to [H, W, I, O]
    size, _, inputs, outputs = weight.shape
    biased = f"{name}.bias" in weights.arrays
    layer = nnx.Conv(
        inputs * groups,
        outputs,
        (size, size),
        strides=stride,
        padding=size // 2,
        feature_group_count=groups,
        use_bias=biased,
        rngs=nnx.Rngs(0),
    )
    layer.kernel.value = jnp.asarray(weight)
    if biased:
        layer.bias.value = jnp.asarray(weights[f"{name}.bias"])
        return nnx.Sequential(layer)
    norm = nnx.BatchNorm(outputs, epsilon=EPSILON, use_running_average=True, rngs=nnx.Rngs(0))
    values = weights.batch_normalization(name)
    for variable, value in zip((norm.scale, norm.bias, norm.mean, norm.var), values, strict=True):
        variable.value = jnp.asarray(value)
    return nnx.Sequential(layer, norm)


def linear(weights: Weights, name: str, weight: Array | None = None) -> nnx.Linear:
    weight = weights[f"{name}.weight"].T if weight is None else weight
    layer = nnx.Linear(*weight.shape, rngs=nnx.Rngs(0))
    layer.kernel.value = jnp.asarray(weight)
    layer.bias.value = jnp.asarray(weights[f"{name}.bias"])
    return layer


class Cnn(nnx.Module):
    def __init__(self, weights: Weights) -> None:
        self.conv1, self.conv2 = conv(weights, "conv1"), conv(weights, "conv2")
        self.linear = linear(weights, "linear", weights.channels_last_linear("linear", 2, 2))

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.avg_pool(nnx.relu(self.conv1(x)), window_shape=(2, 2), strides=(2, 2))
        x = nnx.max_pool(nnx.relu(self.conv2(x)), window_shape=(2, 2), strides=(2, 2))
        return self.linear(x.reshape(x.shape[0], -1))


class Residual(nnx.Module):
    def __init__(self, weights: Weights) -> None:
        self.stem = conv(weights, "stem")
        self.conv1, self.conv2 = conv(weights, "conv1"), conv(weights, "conv2")
        self.conv3, self.conv4 = conv(weights, "conv3", stride=2), conv(weights, "conv4")
        self.shortcut = conv(weights, "shortcut", stride=2)
        self.linear = linear(weights, "linear")

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.relu(self.stem(x))
        x = nnx.relu(self.conv2(nnx.relu(self.conv1(x))) + x)
        x = nnx.relu(self.conv4(nnx.relu(self.conv3(x))) + self.shortcut(x))
        return self.linear(x.mean((1, 2)))


class Depthwise(nnx.Module):
    def __init__(self, weights: Weights) -> None:
        self.stem, self.pointwise = conv(weights, "stem"), conv(weights, "pointwise")
        self.depthwise = conv(weights, "depthwise", groups=8)
        self.linear = linear(weights, "linear")

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.relu6(self.stem(x))
        x = nnx.relu6(self.pointwise(nnx.relu6(self.depthwise(x))) + x)
        return self.linear(x.mean((1, 2)))


if __name__ == "__main__":
    for net, build in {"cnn": Cnn, "residual": Residual, "depthwise": Depthwise}.items():
        weights = Weights(net)
        module = build(weights)
        module.eval()
        images = weights.images.transpose(0, 2, 3, 1)
        model = to_onnx(module, [("B", *images.shape[1:])], opset=21)
        save(f"flax_{net}", model, [images], [module(jnp.asarray(images))], PACKAGES)
