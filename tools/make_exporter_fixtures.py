"""Make the fixtures of tests/data/exporters: three small networks, written by real exporters.

    python tools/make_exporter_fixtures.py [--environments FOLDER] [EXPORTER ...]

Every exporter gets a virtual environment of its own, in a folder that is thrown away unless it
is named; in a named one, environments that exist are used as they are. All read the same
weights. A file is only written if onnxruntime computes what the framework computes, and in the
end all files of one network have to agree. Needs NumPy and onnx; prints a table for the README.
"""

import argparse
import subprocess
import sys
import tempfile
import venv
from collections import Counter
from pathlib import Path

import numpy as np
import onnx

ROOT = Path(__file__).resolve().parent
SCRIPTS = ROOT / "exporters"
OUTPUT = ROOT.parent / "tests" / "data" / "exporters"
NETS = ("cnn", "residual", "depthwise")

COMMON = ["onnxruntime==1.32.0", "numpy==2.4.6"]
REQUIREMENTS = {
    "torch": ["torch==2.13.0", "onnxscript==0.7.2", "onnx==1.23.2"],
    "sklearn": ["scikit-learn==1.9.1", "skl2onnx==1.20.0", "onnx==1.23.2"],
    "keras": ["tensorflow-cpu==2.21.0", "keras==3.15.1", "tf2onnx==1.17.0", "onnx==1.23.2"],
    "jax": ["jax==0.10.2", "flax==0.12.8", "jax2onnx==0.17.1", "onnx==1.23.2"],
    "paddle": ["paddlepaddle==3.3.1", "paddle2onnx==2.1.0", "onnx==1.17.0"],
}
EXPORTERS = {
    "torch": ["torch_script.py", "torch_dynamo.py"],
    "sklearn": ["sklearn_mlp.py"],
    "keras": ["keras_export.py"],
    "jax": ["flax_nets.py"],
    "paddle": ["paddle_nets.py"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("exporters", nargs="*", metavar="EXPORTER", help=", ".join(EXPORTERS))
    parser.add_argument("--environments", type=Path, metavar="FOLDER", help="keep them here")
    arguments = parser.parse_args()
    unknown = set(arguments.exporters) - EXPORTERS.keys()
    if unknown:
        parser.error(f"unknown exporters: {', '.join(sorted(unknown))}")

    OUTPUT.mkdir(parents=True, exist_ok=True)
    weights = OUTPUT / "weights.npz"
    subprocess.run([sys.executable, SCRIPTS / "weights.py", weights], check=True)
    with tempfile.TemporaryDirectory() as throw_away:
        folder = arguments.environments or Path(throw_away)
        for exporter in arguments.exporters or EXPORTERS:
            python = environment(folder / exporter, [*REQUIREMENTS[exporter], *COMMON])
            for script in EXPORTERS[exporter]:
                subprocess.run([python, SCRIPTS / script, weights, OUTPUT], check=True)
    check_agreement()
    print("\n".join(table()))


def environment(folder: Path, requirements: list[str]) -> Path:
    """The Python of a virtual environment with the packages; makes it if there is none."""
    python = folder.resolve() / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *requirements], check=True)
    return python


def check_agreement() -> None:
    """Raise AssertionError if two exporters' files of one network differ in their outputs."""
    for net in NETS:
        first = None
        for path in sorted(OUTPUT.glob(f"*_{net}*.npz")):
            with np.load(path) as file:
                (output,) = (file[name] for name in file.files if name.startswith("output/"))
            first = output if first is None else first
            np.testing.assert_allclose(output, first, rtol=1e-4, atol=1e-4, err_msg=path.stem)


def table() -> list[str]:
    """One row of Markdown for every model."""
    rows = ["| file | opset | batch | operators |", "|---|---|---|---|"]
    for path in sorted(OUTPUT.glob("*.onnx")):
        model = onnx.load(path)
        opset = next(entry.version for entry in model.opset_import if not entry.domain)
        batch = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value or "any"
        names = (".".join(filter(None, (n.domain, n.op_type))) for n in model.graph.node)
        counts = sorted(Counter(names).items())
        operators = ", ".join(name if count == 1 else f"{count} {name}" for name, count in counts)
        rows.append(f"| `{path.stem}` | {opset} | {batch} | {operators} |")
    return rows


if __name__ == "__main__":
    main()
