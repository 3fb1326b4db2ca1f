"""Fixtures from paddle2onnx: the three networks in Paddle."""

import tempfile
from pathlib import Path

import onnx
import paddle
from fixture import EPSILON, Weights, save
from paddle import nn

PACKAGES = ["paddlepaddle", "paddle2onnx"]


def conv(inputs: int, outputs: int, size: int = 3, bias: bool = False, **options) -> nn.Conv2D:
    bias_attr = None if bias else False
    return nn.Conv2D(inputs, outputs, size, padding=size // 2, bias_attr=bias_attr, **options)


def norm(channels: int) -> nn.BatchNorm2D:
    return nn.BatchNorm2D(channels, epsilon=EPSILON)


class Cnn(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv1_bn = conv(2, 8), norm(8)
        self.conv2 = conv(8, 16, bias=True)
        self.linear = nn.Linear(64, 5)

    def forward(self, x):
        x = nn.functional.avg_pool2d(nn.functional.relu(self.conv1_bn(self.conv1(x))), 2)
        x = nn.functional.max_pool2d(nn.functional.relu(self.conv2(x)), 2)
        return self.linear(paddle.flatten(x, 1))


class Residual(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_bn = conv(3, 8), norm(8)
        self.conv1, self.conv1_bn = conv(8, 8), norm(8)
        self.conv2, self.conv2_bn = conv(8, 8), norm(8)
        self.conv3, self.conv3_bn = conv(8, 16, stride=2), norm(16)
        self.conv4, self.conv4_bn = conv(16, 16), norm(16)
        self.shortcut, self.shortcut_bn = conv(8, 16, 1, stride=2), norm(16)
        self.linear = nn.Linear(16, 5)

    def forward(self, x):
        relu = nn.functional.relu
        x = relu(self.stem_bn(self.stem(x)))
        y = relu(self.conv1_bn(self.conv1(x)))
        x = relu(self.conv2_bn(self.conv2(y)) + x)
        y = relu(self.conv3_bn(self.conv3(x)))
        x = relu(self.conv4_bn(self.conv4(y)) + self.shortcut_bn(self.shortcut(x)))
        return self.linear(x.mean((2, 3)))


class Depthwise(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_bn = conv(3, 8), norm(8)
        self.depthwise, self.depthwise_bn = conv(8, 8, groups=8), norm(8)
        self.pointwise, self.pointwise_bn = conv(8, 8, 1), norm(8)
        self.pool = nn.AdaptiveAvgPool2D(1)
        self.linear = nn.Linear(8, 5)

    def forward(self, x):
        relu6 = nn.functional.relu6
        x = relu6(self.stem_bn(self.stem(x)))
        y = relu6(self.depthwise_bn(self.depthwise(x)))
        x = relu6(self.pointwise_bn(self.pointwise(y)) + x)
        return self.linear(paddle.flatten(self.pool(x), 1))


def load(layer: nn.Layer, weights: Weights) -> None:
    """Set the shared weights, under Paddle's names and with linear weights [in, out]."""
    for name, parameter in layer.state_dict().items():
        torch_name = name.replace("_mean", "running_mean").replace("_variance", "running_var")
        array = weights[torch_name]
        parameter.set_value(array.T if torch_name == "linear.weight" else array)


def exported(layer: nn.Layer, shape: list[int | None]) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        specs = [paddle.static.InputSpec(shape, "float32", "x")]
        path = Path(folder, "model")
        paddle.onnx.export(layer, str(path), input_spec=specs, opset_version=16)
        return onnx.load(path.with_suffix(".onnx"))


if __name__ == "__main__":
    for net, build in {"cnn": Cnn, "residual": Residual, "depthwise": Depthwise}.items():
        weights = Weights(net)
        layer = build()
        load(layer, weights)
        layer.eval()
        outputs = layer(paddle.to_tensor(weights.images)).numpy()
        model = exported(layer, [None, *weights.images.shape[1:]])
        save(f"paddle_{net}", model, [weights.images], [outputs], PACKAGES)
