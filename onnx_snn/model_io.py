"""Read and write ONNX models: validated on the way in, written whole or not at all."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from onnx_snn.check_model import check_model
from onnx_snn.errors import ModelError, OutputError
from onnx_snn.external_data import LARGEST_MESSAGE, Detached, detach, save_with_external_data

ModelSource = str | os.PathLike[str] | bytes | onnx.ModelProto


def read_model(source: ModelSource) -> onnx.ModelProto:
    """Read a model and check it.

    Args:
        source: a path, the bytes of a file, or a ``ModelProto`` (returned as it is).

    Returns:
        The model, with external data loaded.

    Raises:
        ModelError: no such file, not ONNX, truncated, or refused by ``check_model``.
    """
    if isinstance(source, onnx.ModelProto):
        model, origin = source, "the given model"
    elif isinstance(source, bytes):
        model, origin = _parse(source, "the given bytes"), "the given bytes"
    else:
        path = Path(source)
        origin = str(path)
        model = _read_file(path)
    check_model(model, origin)
    return model


def _read_file(path: Path) -> onnx.ModelProto:
    if not os.path.exists(path):  # unlike Path.exists, without errors for odd names
        raise ModelError(f"{path}: no such file; give the path of an .onnx file")
    if os.path.isdir(path):
        raise ModelError(f"{path}: is a folder; give the path of an .onnx file in it")
    try:
        if path.stat().st_size > LARGEST_MESSAGE:
            raise ModelError(
                f"{path}: is larger than the 2 GiB that protobuf reads; export the model with its "
                "weights in a file of their own (external data)"
            )
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    model = _parse(data, str(path))
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except Exception as error:  # onnx raises a different type for each kind of damage
        raise ModelError(
            f"{path}: its external data cannot be loaded ({_first_line(error)}); "
            "keep the data file beside the model"
        ) from error
    return model


def _parse(data: bytes, origin: str) -> onnx.ModelProto:
    if not data:
        raise ModelError(f"{origin}: is empty (0 bytes); export the model again")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise ModelError(
            f"{origin}: is not an ONNX model, or is truncated; export or copy it again"
        ) from error
    if not model.HasField("graph") or not model.opset_import:
        raise ModelError(
            f"{origin}: is not an ONNX model (no graph or no opset); export or copy it again"
        )
    return model


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def model_hash(model: onnx.ModelProto) -> str:
    """SHA-256 of a model of any size, as hexadecimal text; not that of its file.

    It is taken of the deterministic serialisation without the bytes of larger tensors, and then of
    these bytes, in the order of the model. So it is the same wherever a file keeps its weights.
    Earlier versions serialised the whole, and so recorded other hashes.
    """
    detached = detach(model)
    digest = hashlib.sha256(detached.outline.SerializeToString(deterministic=True))
    for _, content in detached.chunks():
        digest.update(content)
    return digest.hexdigest()


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside ``path``, renamed to it if the block ends well.

    Whatever happens in the block, ``path`` is either the whole new file or what it was before.

    Raises:
        OutputError: the folder does not exist or cannot be written to.
    """
    target = Path(path)
    if os.path.isdir(target):
        raise OutputError(f"{target}: is a folder; name a file in it")
    try:
        handle, name = tempfile.mkstemp(
            prefix=f".{target.name}.", suffix=target.suffix, dir=target.parent
        )
        os.close(handle)
    except OSError as error:
        raise OutputError(
            f"{target}: cannot be written ({error.strerror}); choose a folder that exists "
            "and that you may write to"
        ) from error
    temporary = Path(name)
    try:
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(target)
    except OSError as error:
        raise OutputError(f"{target}: cannot be written ({error.strerror})") from error
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Find out before long work that ``path`` could not be written after it.

    Raises:
        OutputError: the folder does not exist or cannot be written to.
    """
    with suppress(_NotWrittenError), atomic_path(path):
        raise _NotWrittenError


class _NotWrittenError(Exception):
    """Leaves a block of ``atomic_path`` without a file."""


def write_model(model: onnx.ModelProto, path: str | os.PathLike[str]) -> None:
    """Write a model to ``path``: the same model gives the same bytes, whole or not at all.

    The weights of a model that is too large for one file, more than 2 GiB, are written beside it,
    to ``path`` with ``.data`` behind it.

    Raises:
        OutputError: ``path`` cannot be written.
    """
    detached = detach(model)
    if detached.fits_message:
        with atomic_path(path) as temporary:
            temporary.write_bytes(model.SerializeToString(deterministic=True))
        return
    _write_pair(detached, Path(path), Path(path).with_name(f"{Path(path).name}.data"))


def _write_pair(detached: Detached, path: Path, data: Path) -> None:
    """Write a model and its data, both or none; an older pair stays until both are complete."""
    old = data.with_name(f".{data.name}.old")
    existed, is_aside = data.exists(), False
    try:
        with atomic_path(path) as new, atomic_path(data) as new_data:
            save_with_external_data(detached, new, new_data, data.name)
            if existed:
                data.replace(old)
                is_aside = True
    except BaseException:
        if is_aside:
            old.replace(data)
        elif not existed:
            data.unlink(missing_ok=True)
        raise
    old.unlink(missing_ok=True)
