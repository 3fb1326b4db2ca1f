"""Train two small CIFAR-10 networks and export them to ``models/``.

- ``resnet20``: the ResNet-20 of He et al. 2016, "Deep residual learning for image recognition",
  section 4.2, with 1x1 convolution shortcuts (option B) where the shape changes, twice as wide.
- ``vgg``: a small VGG, see `vgg`.

Both take an image in [0, 1]; its normalisation is the first step of the network. They are
exported with their BatchNormalization nodes and with the initializers named as in torch's
``state_dict``. Next to them goes a small sample of the data (see models/README.md).

Needs torch, onnx, onnxruntime and the two data files, NumPy archives of JPEG files (see
`load_cifar10`), by default in ``shared/data`` beside this repository:

    python tools/train_cifar10.py resnet20
    python tools/train_cifar10.py vgg
    python tools/train_cifar10.py samples
"""

import argparse
import io
import itertools
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

REPOSITORY = Path(__file__).resolve().parent.parent
MODELS_DIR = REPOSITORY / "models"
DATA_DIR = REPOSITORY.parent / "shared" / "data"
CHECKPOINT_DIR = REPOSITORY / ".data"

# Per-channel mean and standard deviation of the training images, in [0, 1].
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)

CLASSES = 10
CALIBRATION_IMAGES = 256
TEST_IMAGES = 256
BATCH_SIZE = 128
PEAK_LEARNING_RATE = 0.2
WEIGHT_DECAY = 5e-4
LABEL_SMOOTHING = 0.05
CROP_PADDING = 4

Images = npt.NDArray[np.uint8]  # [N, 32, 32, 3]
Labels = npt.NDArray[np.int64]  # [N]


class Normalize(nn.Module):
    """Subtract the channels' mean and divide by their standard deviation: [N, 3, H, W]."""

    mean: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).reshape(1, 3, 1, 1))
        self.register_buffer("scale", 1.0 / torch.tensor(STD).reshape(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) * self.scale


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut around them: relu(F(x) + shortcut(x))."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


def resnet20(width: int = 32) -> nn.Sequential:
    """Build the untrained ResNet-20: three stages of three blocks.

    Args:
        width: channels of the first stage, doubled in each of the next two. He et al. have 16.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(normalize=Normalize())
    layers["conv"] = nn.Conv2d(3, width, 3, padding=1, bias=False)
    layers["norm"] = nn.BatchNorm2d(width)
    layers["relu"] = nn.ReLU()
    channels_in = width
    for stage, channels in enumerate((width, 2 * width, 4 * width), start=1):
        for block in range(1, 4):
            stride = 2 if stage > 1 and block == 1 else 1
            layers[f"stage{stage}_block{block}"] = BasicBlock(channels_in, channels, stride)
            channels_in = channels
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["linear"] = nn.Linear(4 * width, 10)
    return nn.Sequential(layers)


def vgg() -> nn.Sequential:
    """Build the untrained VGG: seven 3x3 convolutions in three stages.

    MaxPool 2x2 follows the first two stages and a global average pool the third.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(normalize=Normalize())
    channels_in = 3
    for stage, (channels, parts) in enumerate(((64, "ab"), (128, "ab"), (192, "abc")), start=1):
        for part in parts:
            layers[f"conv{stage}{part}"] = nn.Conv2d(
                channels_in, channels, 3, padding=1, bias=False
            )
            layers[f"norm{stage}{part}"] = nn.BatchNorm2d(channels)
            layers[f"relu{stage}{part}"] = nn.ReLU()
            channels_in = channels
        layers[f"pool{stage}"] = nn.MaxPool2d(2) if stage < 3 else nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["linear"] = nn.Linear(192, 10)
    return nn.Sequential(layers)


@dataclass(frozen=True)
class Recipe:
    """A network and what differs in its training."""

    build: Callable[[], nn.Sequential]
    epochs: int
    cutout: int  # side of the square set to zero, in pixels


RECIPES = {
    "resnet20": Recipe(resnet20, epochs=30, cutout=8),
    "vgg": Recipe(vgg, epochs=40, cutout=8),
}


def load_cifar10(path: Path) -> tuple[Images, Labels]:
    """Decode a data file; all 50,000 training images take about ten seconds.

    Args:
        path: NumPy archive of `jpeg`, uint8, the bytes of N JPEG files one after the other;
            `offsets` [N + 1], where each begins in them; `labels` [N].

    Returns:
        Images, uint8 [N, 32, 32, 3], and labels, int64 [N].
    """
    with np.load(path) as data:
        jpeg, offsets, labels = data["jpeg"], data["offsets"], data["labels"]
    files = (jpeg[a:b].tobytes() for a, b in itertools.pairwise(offsets))
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(f)).convert("RGB")) for f in files])
    return pixels, labels.astype(np.int64)


def to_input(pixels: Tensor) -> Tensor:
    """Turn uint8 [N, 32, 32, 3] into the networks' input, float32 [N, 3, 32, 32] in [0, 1]."""
    return pixels.permute(0, 3, 1, 2).float() / 255  # a channels_last tensor


def augment(padded: Tensor, flipped: Tensor, cutout: int) -> Tensor:
    """Crop and cut each image of [N, 40, 40, 3] at random, to [N, 32, 32, 3].

    Args:
        padded: the images, uint8 [N, 40, 40, 3].
        flipped: bool [N], which of them to mirror.
        cutout: side of the square to set to grey, in pixels.
    """
    n, side = len(padded), padded.shape[1] - 2 * CROP_PADDING
    positions = torch.arange(side)
    rows = positions + torch.randint(0, 2 * CROP_PADDING + 1, (n, 1))
    columns = positions + torch.randint(0, 2 * CROP_PADDING + 1, (n, 1))
    columns = torch.where(flipped[:, None], columns.flip(1), columns)
    images = padded[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]
    top, left = torch.randint(0, side - cutout + 1, (2, n, 1))
    in_rows = (positions >= top) & (positions < top + cutout)
    in_columns = (positions >= left) & (positions < left + cutout)
    return images.masked_fill_((in_rows[:, :, None] & in_columns[:, None, :])[..., None], 128)


def learning_rate(progress: float) -> float:
    """One cycle: up in a line over the first fifth of the training, down in a cosine to zero."""
    warm_up = 0.2
    if progress < warm_up:
        return PEAK_LEARNING_RATE * progress / warm_up
    return PEAK_LEARNING_RATE / 2 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))


def train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: tuple[Tensor, Tensor],
    cutout: int,
    progress: tuple[float, float],
) -> tuple[float, float]:
    """Train for one epoch, in place, with bfloat16 arithmetic where torch deems it safe.

    Args:
        model: the network, in channels_last format.
        optimizer: its optimizer; its learning rate is set before each step.
        data: padded images, uint8 [N, 40, 40, 3], and their targets, float32 [2, N, 10]: the
            classes' probabilities for each image as it is, and for its mirror image.
        cutout: see `augment`.
        progress: the share of the whole training that is done, before and after this epoch.

    Returns:
        Mean loss, and accuracy on the augmented images in percent.
    """
    model.train()
    padded, targets = data
    batches = torch.randperm(len(padded)).split(BATCH_SIZE)
    loss_sum, correct = 0.0, 0
    for index, share in zip(batches, np.linspace(*progress, len(batches)), strict=True):
        optimizer.param_groups[0]["lr"] = learning_rate(float(share))
        flipped = torch.rand(len(index)) < 0.5
        x = to_input(augment(padded[index], flipped, cutout))
        y = targets[flipped.long(), index]
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(x)
            loss = nn.functional.cross_entropy(logits, y, label_smoothing=LABEL_SMOOTHING)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss_sum += loss.item() * len(index)
        correct += int((logits.argmax(1) == y.argmax(1)).sum())
    return loss_sum / len(padded), 100.0 * correct / len(padded)


def torch_logits(model: nn.Module, x: Images) -> npt.NDArray[np.float32]:
    """Run the torch network over all images, in batches."""
    model.eval()
    with torch.no_grad():
        batches = torch.from_numpy(x).split(250)
        return torch.cat([model(to_input(batch)) for batch in batches]).numpy()


def onnx_logits(path: Path, x: Images) -> npt.NDArray[np.float32]:
    """Run the exported network over all images with onnxruntime, in batches."""
    import onnxruntime as ort

    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    batches = (to_input(batch).contiguous().numpy() for batch in torch.from_numpy(x).split(250))
    return np.concatenate([session.run(None, {"image": batch})[0] for batch in batches])


def accuracy(logits: npt.NDArray[np.float32], y: Labels) -> float:
    """Return the share of correct answers, in percent."""
    return 100.0 * float((logits.argmax(axis=1) == y).mean())


def soft_labels(x: Images, y: Labels, teachers: Sequence[Path]) -> Tensor:
    """Return each image's target, half its label and half what the teachers see in it.

    Hinton et al. 2015, "Distilling the knowledge in a neural network", at temperature 1. A
    teacher sees the whole image, not the crop that is trained on.

    Returns:
        Probabilities of the classes, float32 [2, N, 10], for the images and for their mirror
        images; the labels alone where there is no teacher.
    """
    labels = nn.functional.one_hot(torch.from_numpy(y), CLASSES).float().expand(2, -1, -1)
    if not teachers:
        return labels
    views = x, np.ascontiguousarray(x[:, :, ::-1])
    logits = torch.tensor(np.stack([[onnx_logits(path, v) for v in views] for path in teachers]))
    return (labels + logits.softmax(-1).mean(0)) / 2


def train(name: str, args: argparse.Namespace) -> nn.Sequential:
    """Train a network, or go on from its checkpoint in ``.data/``."""
    recipe = RECIPES[name]
    epochs = args.epochs or recipe.epochs
    model = recipe.build()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(
        model.parameters(), momentum=0.9, nesterov=True, weight_decay=WEIGHT_DECAY
    )
    done = 0
    CHECKPOINT_DIR.mkdir(exist_ok=True)
    checkpoint = CHECKPOINT_DIR / f"cifar10_{name}.pt"
    if args.resume:
        state: dict[str, Any] = torch.load(checkpoint)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        done = state["epochs"]

    x_train, y_train = load_cifar10(args.train)
    border = (CROP_PADDING, CROP_PADDING)
    padded = np.pad(x_train, ((0, 0), border, border, (0, 0)), mode="reflect")
    data = torch.from_numpy(padded), soft_labels(x_train, y_train, args.teachers)
    for epoch in range(done, epochs):
        start = time.perf_counter()
        progress = epoch / epochs, (epoch + 1) / epochs
        loss, correct = train_epoch(model, optimizer, data, recipe.cutout, progress)
        seconds = time.perf_counter() - start
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save(state | {"epochs": epoch + 1}, checkpoint)
        print(
            f"epoch {epoch + 1:2d}/{epochs}: loss {loss:.4f}, train {correct:.2f} %, "
            f"{seconds:.0f} s",
            flush=True,
        )
    return model


def export(model: nn.Module, path: Path) -> None:
    """Export to ONNX as it stands: no node is folded, and the batch axis N is free.

    The TorchScript exporter with ``PRESERVE`` on a network in eval mode is the one that keeps
    BatchNormalization and Flatten as nodes and the names of ``state_dict`` as initializers.
    """
    import onnx

    torch.onnx.export(
        model.eval(),
        (torch.zeros(2, 3, 32, 32),),
        path,
        dynamo=False,
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
        opset_version=18,
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}},
    )
    onnx.checker.check_model(path, full_check=True)


def write_samples(args: argparse.Namespace, path: Path) -> None:
    """Write the first images of the test set, and the first of the training set."""
    x_train, _ = load_cifar10(args.train)
    x_test, y_test = load_cifar10(args.test)
    to_nchw = (0, 3, 1, 2)
    np.savez_compressed(
        path,
        x=x_test[:TEST_IMAGES].transpose(to_nchw),
        y=y_test[:TEST_IMAGES],
        calibration=x_train[:CALIBRATION_IMAGES].transpose(to_nchw),
    )


def main() -> None:
    """Train, export and verify a network, or write the sample of the data."""
    parser = argparse.ArgumentParser(description="train a CIFAR-10 network, export it to models/")
    parser.add_argument("what", choices=[*RECIPES, "samples"])
    parser.add_argument("--train", type=Path, default=DATA_DIR / "cifar10_train.npz")
    parser.add_argument("--test", type=Path, default=DATA_DIR / "cifar10_test.npz")
    parser.add_argument("--epochs", type=int, help="instead of the network's own number")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument(
        "--teachers", type=Path, nargs="+", default=[], help="ONNX files of networks to learn from"
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.what == "samples":
        write_samples(args, MODELS_DIR / "cifar10_samples.npz")
        return

    torch.manual_seed(args.seed)
    model = train(args.what, args)
    path = MODELS_DIR / f"cifar10_{args.what}.onnx"
    export(model, path)

    x_test, y_test = load_cifar10(args.test)
    from_torch = torch_logits(model, x_test)
    from_onnx = onnx_logits(path, x_test)
    np.testing.assert_allclose(from_onnx, from_torch, rtol=1e-3, atol=1e-3)
    print(f"test accuracy, torch:       {accuracy(from_torch, y_test):.2f} %")
    print(f"test accuracy, onnxruntime: {accuracy(from_onnx, y_test):.2f} %")


if __name__ == "__main__":
    main()
