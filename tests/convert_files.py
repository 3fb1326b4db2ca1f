"""Convert the files named on standard input, and print a line ``outcome<tab>detail`` for each.

Outcomes: ``converted``, ``refused`` (an ``OnnxSnnError``), ``failed`` (anything else). A file that
takes too long, or a crash, ends the process: the file without a line is the culprit. Arguments: a
folder to save to, seconds for each file, and bytes that may be allocated.
"""

from __future__ import annotations

import faulthandler
import resource
import sys
import traceback
from pathlib import Path

import numpy as np

from corrupted_files import SHAPES, networks
from nets import session
from onnx_snn import convert, create_session
from onnx_snn.errors import OnnxSnnError
from onnx_snn.model_io import read_model

TIMESTEPS = 64


def samples(name: str) -> np.ndarray:
    random = np.random.default_rng(5)
    return random.normal(0.3, 1, (16, *SHAPES[name])).astype(np.float32)


def outcome(path: Path, target: Path) -> tuple[str, str]:
    data = samples(path.name.split("-")[0])
    try:
        convert(str(path), data, mode="max", timesteps=TIMESTEPS).save(target)
    except OnnxSnnError as error:
        message = str(error)
        if "\n" in message:
            return "failed", f"more than one line: {message!r}"
        if "alloc" in message.lower():
            return "failed", f"ran out of memory: {message}"
        if target.exists():
            return "failed", "left a file"
        return "refused", f"{type(error).__name__}: {message}"
    except BaseException:
        return "failed", repr(traceback.format_exc(limit=-3))
    return judge(path, target, data)


def judge(path: Path, target: Path, data: np.ndarray) -> tuple[str, str]:
    """Whether the result computes what onnxruntime makes of the damaged file."""
    snn = create_session(target, ["CPUExecutionProvider"])
    ours = snn.run(None, {snn.get_inputs()[0].name: data})
    if not all(np.isfinite(values).all() for values in ours):
        return "failed", "not finite"
    try:
        ann = session(read_model(path))
        theirs = ann.run(None, {ann.get_inputs()[0].name: data})
    except Exception as error:  # what onnxruntime says
        return "converted", f"onnxruntime refuses the original: {error!r}"
    shapes = [values.shape for values in ours], [values.shape for values in theirs]
    if shapes[0] != shapes[1]:
        return "failed", f"shapes {shapes[0]} instead of {shapes[1]}"
    errors = []
    for a, b in zip(ours, theirs, strict=True):
        errors.append(float(np.linalg.norm(a - b) / (np.linalg.norm(b) or 1)))
    if max(errors, default=0.0) > 0.25:
        return "failed", f"off by {errors}"
    return "converted", f"off by {errors}"


def main() -> None:
    folder, seconds, memory = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    for name, model in networks().items():  # whatever is loaded lazily is loaded now
        convert(model, samples(name))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + memory, used + memory))
    for line in sys.stdin:
        path = Path(line.rstrip("\n"))
        faulthandler.dump_traceback_later(seconds, exit=True)
        kind, detail = outcome(path, folder / path.name)
        faulthandler.cancel_dump_traceback_later()
        print(path.name, kind, detail, sep="\t", flush=True)


if __name__ == "__main__":
    main()
