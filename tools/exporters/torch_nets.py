"""The three networks in torch; the other scripts build the same functions."""

import torch
from fixture import EPSILON, Weights
from torch import Tensor, nn


def conv(inputs: int, outputs: int, size: int = 3, bias: bool = False, **options: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=bias, **options)


def norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=EPSILON)


class Cnn(nn.Module):
    """Conv BN ReLU AvgPool, Conv ReLU MaxPool, Flatten, Linear: [N, 2, 8, 8] to [N, 5]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv1_bn = conv(2, 8), norm(8)
        self.conv2 = conv(8, 16, bias=True)
        self.linear = nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.avg_pool2d(self.conv1_bn(self.conv1(x)).relu(), 2)
        x = nn.functional.max_pool2d(self.conv2(x).relu(), 2)
        return self.linear(x.view(x.size(0), -1))  # a chain of Shape operators in TorchScript


class Residual(nn.Module):
    """A stem and two residual blocks, the second strided: [N, 3, 8, 8] to [N, 5]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_bn = conv(3, 8), norm(8)
        self.conv1, self.conv1_bn = conv(8, 8), norm(8)
        self.conv2, self.conv2_bn = conv(8, 8), norm(8)
        self.conv3, self.conv3_bn = conv(8, 16, stride=2), norm(16)
        self.conv4, self.conv4_bn = conv(16, 16), norm(16)
        self.shortcut, self.shortcut_bn = conv(8, 16, 1, stride=2), norm(16)
        self.linear = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem_bn(self.stem(x)).relu()
        y = self.conv1_bn(self.conv1(x)).relu()
        x = (self.conv2_bn(self.conv2(y)) + x).relu()
        y = self.conv3_bn(self.conv3(x)).relu()
        x = (self.conv4_bn(self.conv4(y)) + self.shortcut_bn(self.shortcut(x))).relu()
        return self.linear(x.mean((2, 3)))


class Depthwise(nn.Module):
    """A depthwise separable block with a linear bottleneck: [N, 3, 8, 8] to [N, 5]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_bn = conv(3, 8), norm(8)
        self.depthwise, self.depthwise_bn = conv(8, 8, groups=8), norm(8)
        self.pointwise, self.pointwise_bn = conv(8, 8, 1), norm(8)
        self.relu6 = nn.ReLU6()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu6(self.stem_bn(self.stem(x)))
        y = self.relu6(self.depthwise_bn(self.depthwise(x)))
        x = self.relu6(self.pointwise_bn(self.pointwise(y)) + x)
        return self.linear(self.pool(x).flatten(1))


NETS = {"cnn": Cnn, "residual": Residual, "depthwise": Depthwise}


def load(net: str) -> tuple[nn.Module, Tensor, Tensor]:
    """A network with the shared weights, its images and its outputs for them."""
    weights = Weights(net)
    module = NETS[net]().eval()
    state = {name: torch.from_numpy(array) for name, array in weights.arrays.items()}
    missing, unexpected = module.load_state_dict(state, strict=False)
    assert not unexpected
    assert all("num_batches_tracked" in name for name in missing)
    images = torch.from_numpy(weights.images)
    with torch.no_grad():
        return module, images, module(images)
