"""Whatever is in a file: it is converted rightly, or refused with an error of ours."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import onnx
import pytest

from corrupted_files import BYTES, STRUCTURE, networks, write_corrupted_files

pytestmark = pytest.mark.heavy

pytest.importorskip("resource", reason="limits of memory are POSIX's")

FILES = 500
SECONDS = 10
MEMORY = 2**30
WORKER = Path(__file__).with_name("convert_files.py")


def _convert(paths, folder):
    """A line ``name, outcome, detail`` for each file; one that ends the process is ``died``."""
    lines = []
    while len(lines) < len(paths):
        process = subprocess.run(
            [sys.executable, str(WORKER), str(folder), str(SECONDS), str(MEMORY)],
            input="".join(f"{path}\n" for path in paths[len(lines) :]),
            capture_output=True,
            text=True,
            check=False,
        )
        lines += [line.split("\t", 2) for line in process.stdout.splitlines()]
        if len(lines) < len(paths):
            lines.append([paths[len(lines)].name, "died", process.stderr[-2000:]])
    return lines


def test_every_file_is_converted_or_refused(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    paths = write_corrupted_files(source, FILES)
    with ThreadPoolExecutor(2) as pool:
        halves = pool.map(lambda half: _convert(half, target), (paths[::2], paths[1::2]))
    outcomes = {name: (kind, detail) for half in halves for name, kind, detail in half}

    assert outcomes.keys() == {path.name for path in paths}
    wrong = [(n, *o) for n, o in outcomes.items() if o[0] not in ("converted", "refused")]
    assert not wrong, "\n".join(": ".join(each) for each in wrong)
    converted = {name for name, (kind, _) in outcomes.items() if kind == "converted"}
    assert {path.name for path in target.iterdir()} == converted
    # Damages that leave a network valid must not be refused.
    harmless = ("all_zero", "external", "function", "name_nul", "name_long", "nested_5")
    for kind in (*harmless, "overlong_chain", "unused_foreign_domain", "opset_seven"):
        assert any(f"-{kind}-" in name for name in converted), kind
    assert not any("-huge_" in name for name in converted)


def test_the_same_seed_gives_the_same_files(tmp_path):
    folders = [tmp_path / name for name in "abc"]
    for folder, seed in zip(folders, (0, 0, 1), strict=True):
        folder.mkdir()
        write_corrupted_files(folder, len(STRUCTURE) + 60, seed)
    first, again, other = (
        {path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders
    )
    assert first == again
    assert first != other


def test_every_file_is_damaged(tmp_path):
    originals = {m.SerializeToString(deterministic=True) for m in networks().values()}
    paths = write_corrupted_files(tmp_path, FILES)
    assert not any(path.read_bytes() in originals for path in paths)
    kinds = {path.name.split("-")[1] for path in paths}
    assert kinds == {*STRUCTURE, *BYTES}
    for model in networks().values():
        onnx.checker.check_model(model)
