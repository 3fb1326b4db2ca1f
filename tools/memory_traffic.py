"""Count what crosses memory between convolutions: bytes per image and step, by operator.

    python tools/memory_traffic.py

On a GPU, neurons, pooling and sums take as long as their tensors take to be read and written, so
this tells what a rewriting is worth without one. Sizes are those of a run on the CPU, where the
same nodes are run; Conv and Gemm, and what only gives a tensor another shape, are left out.
"""

import argparse
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

import onnx_snn
from gpu_networks import Network, load_networks
from onnx_snn.schedule import ScheduleRecord

LAYERS = ("Conv", "Gemm", "MatMul")
VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Shape", "Identity")
LEAST = 100  # bytes: smaller ones are about shapes
STEPS = 2
ERRORS_ONLY = 3


def traffic(network: Network, target: str) -> Counter[str]:
    """Return the bytes that each operator reads and writes per image and step."""
    options: dict[str, Any] = {"bias_calibration": False, "holdout": 0.0, "timesteps": STEPS}
    options |= {"preset": network.preset, "target": target}
    if network.preset == "radix":
        del options["timesteps"]
    snn = onnx_snn.convert(network.file, network.calibration, **options)
    image = network.x[:1]
    settings = ort.SessionOptions()
    settings.log_severity_level = ERRORS_ONLY
    # As a GPU runs them: no layout of this processor, and no fusion of its own.
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    settings.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        settings.profile_file_prefix = f"{folder}/profile"
        session = onnx_snn.create_session(snn.model, ["CPUExecutionProvider"], settings)
        session.run(None, {session.get_inputs()[0].name: image})
        events = json.loads(Path(session.end_profiling()).read_text())
    steps = ScheduleRecord.of(snn.model).timesteps
    found: Counter[str] = Counter()
    for event in events:
        if event.get("cat") != "Node" or not event["name"].endswith("kernel_time"):
            continue
        node = event["args"]
        size = int(node["activation_size"]) + int(node["output_size"])
        if node["op_name"] not in (*LAYERS, *VIEWS) and size > LEAST * steps:
            found[node["op_name"]] += int(np.ceil(size / steps))
    return found


def main() -> None:
    """Print the bytes of each network for both targets."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    for name, network in load_networks().items():
        for target in ("any", "cuda"):
            found = traffic(network, target)
            parts = ", ".join(f"{op} {size / 1e3:.0f}" for op, size in found.most_common())
            print(f"{name}, target {target}: {found.total() / 1e3:.0f} kB ({parts})")


if __name__ == "__main__":
    main()
