"""Data in: files, folders of images, arrays and iterables become batches for one model."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from onnx_snn.errors import DataError, OnnxSnnError, OptionError
from onnx_snn.options import check_positive

Array = npt.NDArray[Any]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff"})
LABEL_NAMES = ("y", "label", "labels", "target", "targets")


@dataclass(frozen=True)
class InputSpec:
    """What a model takes at one input: name, shape (None: any size) and type."""

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class Batch:
    """Samples for one run: an array [N, …] for each input, and labels [N] where known."""

    feeds: dict[str, Array]
    labels: Array | None = None

    def __len__(self) -> int:
        return len(next(iter(self.feeds.values())))

    def take(self, chosen: Array | slice) -> Batch:
        """The samples at the given indices (or where a mask is true)."""
        feeds = {name: values[chosen] for name, values in self.feeds.items()}
        return Batch(feeds, None if self.labels is None else self.labels[chosen])


def first_samples(batches: Iterable[Batch], limit: int | None) -> Iterator[Batch]:
    """The first ``limit`` samples, or all of them."""
    taken = 0
    for batch in batches:
        if limit is not None and taken + len(batch) >= limit:
            yield batch.take(np.arange(limit - taken))
            return
        taken += len(batch)
        yield batch


@dataclass(frozen=True)
class ImagePreprocessing:
    """How an image file becomes a model input: resize, scale to [0, 1], subtract mean, divide.

    Attributes:
        size: (height, width) in pixels; None takes it from the model's input shape.
        mean: subtracted per channel, after scaling to [0, 1].
        std: divided by per channel, after ``mean``.
    """

    size: tuple[int, int] | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if any(value == 0 for value in self.std):
            raise OptionError("std must not be 0; give the standard deviation per channel")
        if self.size is not None and (len(self.size) != 2 or min(self.size) < 1):
            raise OptionError(f"size must be a height and a width in pixels, not {self.size}")


def input_specs(model: onnx.ModelProto) -> list[InputSpec]:
    """The inputs of a model that data must be given for (not those with a default)."""
    defaults = {tensor.name for tensor in model.graph.initializer}
    specs = []
    for value in model.graph.input:
        if value.name in defaults:
            continue
        tensor = value.type.tensor_type
        dims = tensor.shape.dim
        shape = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in dims)
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
        specs.append(InputSpec(value.name, shape, dtype))
    return specs


class Dataset:
    """Batches of one source of data, checked against the inputs of a model.

    Args:
        source: one of

            - the path of an ``.npz`` (arrays named as the inputs, or ``x``, and ``y``) or
              ``.npy`` file, or of a folder of images (class folders in it give the labels);
            - an array [S, …] or a mapping from input names to arrays, of all S samples;
            - a pair ``(x, y)`` of arrays, of all S samples and their labels [S];
            - an iterable of batches: arrays, mappings or pairs ``(x, y)``; a torch DataLoader too.
        specs: the inputs to feed, see ``input_specs``.
        batch_size: samples per batch; batches of an iterable stay as they are.
        preprocessing: for a folder of images.

    Raises:
        DataError: on construction or iteration: no such file, a wrong name, shape or type, NaN
            or infinity, or no data at all.
    """

    def __init__(
        self,
        source: Any,
        specs: Sequence[InputSpec],
        batch_size: int = 64,
        *,
        preprocessing: ImagePreprocessing | None = None,
    ) -> None:
        check_positive(batch_size, "batch size")
        self._specs = list(specs)
        self._batch_size = batch_size
        self._preprocessing = preprocessing or ImagePreprocessing()
        self._origin = str(source) if isinstance(source, str | os.PathLike) else "the data"
        self._source = self._open(source)

    @property
    def size(self) -> int | None:
        """Number of samples, or None where only iterating would tell."""
        if isinstance(self._source, Batch):
            return len(self._source)
        if isinstance(self._source, _ImageFolder):
            return len(self._source.files)
        return None

    @property
    def is_repeatable(self) -> bool:
        """Whether it can be iterated more than once."""
        return not isinstance(self._source, Iterator)

    def __iter__(self) -> Iterator[Batch]:
        count = 0
        for batch in self._batches():
            if len(batch):
                count += len(batch)
                yield batch
        if count == 0:
            raise DataError(f"{self._origin}: holds no samples; give at least one")

    def _open(self, source: Any) -> Batch | _ImageFolder | Iterable[Any]:
        if isinstance(source, str | os.PathLike):
            return self._open_path(Path(source))
        if isinstance(source, Mapping) or _is_array(source) or _is_labelled_pair(source):
            return self._batch(source)
        if isinstance(source, Iterable):
            return source
        raise DataError(
            f"data of type {type(source).__name__} cannot be read; give a path, an array, "
            "a mapping from input names to arrays, or an iterable of batches"
        )

    def _open_path(self, path: Path) -> Batch | _ImageFolder:
        if not os.path.exists(path):  # unlike Path.exists, without errors for odd names
            raise DataError(
                f"{path}: no such file or folder; give .npz, .npy or a folder of images"
            )
        if path.is_dir():
            return _ImageFolder(path, self._single_spec(), self._preprocessing)
        try:
            # NumPy leaves a file open that it opened itself and could not read.
            with path.open("rb") as file:
                content = np.load(file, allow_pickle=False)
                if isinstance(content, np.ndarray):
                    return self._batch(content)
                return self._batch({name: content[name] for name in content.files})
        except OnnxSnnError:
            raise
        except Exception as error:  # numpy, zipfile and zlib: a type for each kind of damage
            raise DataError(
                f"{path}: is not a readable .npz or .npy file; write it with numpy.savez"
            ) from error

    def _single_spec(self) -> InputSpec:
        if len(self._specs) != 1:
            names = ", ".join(spec.name for spec in self._specs)
            raise DataError(
                f"the model has {len(self._specs)} inputs ({names}); "
                "give a mapping (or an .npz) with an array for each"
            )
        return self._specs[0]

    def _batches(self) -> Iterator[Batch]:
        if isinstance(self._source, Batch):
            whole = self._source
            for start in range(0, len(whole), self._batch_size):
                rows = slice(start, start + self._batch_size)
                feeds = {name: values[rows] for name, values in whole.feeds.items()}
                yield Batch(feeds, None if whole.labels is None else whole.labels[rows])
        elif isinstance(self._source, _ImageFolder):
            for images, labels in self._source.batches(self._batch_size):
                batch = self._batch({self._specs[0].name: images})
                yield Batch(batch.feeds, labels)
        else:
            for item in self._source:
                yield self._batch(item)

    def _batch(self, item: Any) -> Batch:
        labels = None
        if not isinstance(item, Mapping) and _is_pair(item):
            item, labels = item
        if not isinstance(item, Mapping):
            item = {self._single_spec().name: item}
        arrays = {str(name): _to_numpy(values) for name, values in item.items()}
        if labels is None:
            names = {spec.name for spec in self._specs}
            found = next((n for n in LABEL_NAMES if n in arrays and n not in names), None)
            labels = arrays.pop(found) if found else None
        if len(arrays) == 1 and len(self._specs) == 1 and set(arrays) <= {"x", "arr_0", "data"}:
            arrays = {self._specs[0].name: next(iter(arrays.values()))}
        feeds = {spec.name: self._feed(spec, arrays) for spec in self._specs}
        labels = None if labels is None else _to_numpy(labels).ravel()
        sizes = {len(values) for values in (*feeds.values(), labels) if values is not None}
        if len(sizes) > 1:
            raise DataError(
                f"{self._origin}: inputs and labels differ in the number of samples "
                f"({', '.join(map(str, sorted(sizes)))}); give one label for each sample"
            )
        return Batch(feeds, labels)

    def _feed(self, spec: InputSpec, arrays: Mapping[str, Array]) -> Array:
        if spec.name not in arrays:
            names = ", ".join(sorted(arrays)) or "none"
            raise DataError(
                f"{self._origin}: has no array for the model's input '{spec.name}' "
                f"(found: {names}); name one '{spec.name}' or 'x'"
            )
        values = arrays[spec.name]
        where = f"{self._origin}: array for input '{spec.name}'"
        values = _cast(values, spec, where)
        wanted = ["any" if size is None else size for size in spec.shape]
        fits = values.ndim == len(spec.shape) and all(
            size is None or size == actual
            for size, actual in zip(spec.shape, values.shape, strict=True)
        )
        if not fits:
            raise DataError(
                f"{where} has the shape {list(values.shape)}, but the model takes {wanted}"
            )
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            kind = "NaN" if np.isnan(values).any() else "infinity"
            raise DataError(f"{where} holds {kind}; remove or repair these samples")
        return values


def _cast(values: Array, spec: InputSpec, where: str) -> Array:
    if values.dtype == spec.dtype:
        return values
    if values.dtype.kind == "f" and spec.dtype.kind == "f":
        with np.errstate(over="ignore"):  # the caller looks for infinity
            return values.astype(spec.dtype)
    if values.dtype.kind in "iu" and spec.dtype.kind in "iu":
        cast = values.astype(spec.dtype)
        if np.array_equal(cast, values):
            return cast
        raise DataError(f"{where} holds numbers that {spec.dtype}, which the model takes, has not")
    raise DataError(
        f"{where} has the type {values.dtype}, but the model takes {spec.dtype}; "
        "convert it as in training (for images often x / 255)"
    )


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or _is_torch(value)


def _is_torch(value: Any) -> bool:
    return type(value).__module__.split(".")[0] == "torch" and hasattr(value, "detach")


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2 and all(map(_is_array, value))


def _is_labelled_pair(value: Any) -> bool:
    """A tuple (x, y) of a whole data set: y is one-dimensional and holds integers."""
    if not isinstance(value, tuple) or not _is_pair(value):
        return False
    labels = _to_numpy(value[1])
    return labels.ndim == 1 and labels.dtype.kind in "iu"


def _to_numpy(value: Any) -> Array:
    if _is_torch(value):
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise DataError(
            f"data of type {type(value).__name__} is not an array of numbers"
        ) from error
    if array.dtype == object:
        raise DataError("data must be numeric arrays, not Python objects")
    return array


class _ImageFolder:
    """Images in a folder, or in one folder per class, in alphabetic order."""

    def __init__(self, path: Path, spec: InputSpec, preprocessing: ImagePreprocessing) -> None:
        self._spec = spec
        self._preprocessing = preprocessing
        classes = sorted(entry for entry in path.iterdir() if entry.is_dir())
        self.files: list[tuple[Path, int | None]] = [
            (file, index) for index, folder in enumerate(classes) for file in _images(folder)
        ]
        if not self.files:
            self.files = [(file, None) for file in _images(path)]
        if not self.files:
            raise DataError(f"{path}: holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
        if len(spec.shape) != 4 or spec.shape[1] not in (1, 3):
            raise DataError(
                f"{path}: a folder of images needs a model input [N, 1 or 3, H, W], "
                f"not {list(spec.shape)}; give an .npz instead"
            )
        if spec.dtype.kind != "f":
            raise DataError(
                f"{path}: images become floating-point numbers, but the model takes {spec.dtype}; "
                "give an .npz instead"
            )

    def batches(self, size: int) -> Iterator[tuple[Array, Array | None]]:
        for start in range(0, len(self.files), size):
            chunk = self.files[start : start + size]
            images = np.stack([self._read(file) for file, _ in chunk])
            labels = [label for _, label in chunk if label is not None]
            yield images, np.asarray(labels, dtype=np.int64) if labels else None

    def _read(self, file: Path) -> Array:
        from PIL import Image

        height, width = self._preprocessing.size or self._spec.shape[2:4]
        if height is None or width is None:
            raise DataError(
                "the model takes images of any size; say which size to resize to (--size H,W)"
            )
        channels = self._spec.shape[1]
        try:
            with Image.open(file) as opened:
                if opened.mode[0] in "IF":
                    raise DataError(
                        f"{file}: has more than 8 bits per channel; convert it, or give an .npz"
                    )
                image = opened.convert("L" if channels == 1 else "RGB")
                if image.size != (width, height):
                    image = image.resize((width, height), Image.Resampling.BILINEAR)
                pixels = np.asarray(image, dtype=np.float64) / 255.0
        except OnnxSnnError:
            raise
        except Exception as error:  # each decoder of Pillow's has its own types
            raise DataError(f"{file}: is not a readable image") from error
        pixels = pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
        mean, std = (
            np.asarray(values).reshape(-1, 1, 1)
            for values in (self._preprocessing.mean, self._preprocessing.std)
        )
        if mean.size not in (1, channels) or std.size not in (1, channels):
            raise OptionError(f"mean and std need 1 or {channels} numbers")
        image_values: Array = ((pixels - mean) / std).astype(self._spec.dtype)
        return image_values


def _images(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES)
