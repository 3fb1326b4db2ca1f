"""Check the CUDA kernels on a machine with a GPU: right, clean, and how fast.

    python tools/gpu_check.py                        build the library and check everything
    python tools/gpu_check.py --library PATH         check a library that is built
    python tools/gpu_check.py --provider cpu         the same comparisons on the CPU, no figures
    make stand-in                                    without a GPU: kernels and placement

- kernels: IFNeuron, AddIFNeuron, PhaseNeuron and SpikeMaxPool with every attribute, type, optional
  input and output, odd shapes and unaligned memory, in onnxruntime, against the NumPy reference,
  bit for bit. Inputs are drawn afresh (the seed is printed); outputs lie between margins and are
  filled with NaN before.
- sanitizer: compute-sanitizer's memcheck and racecheck over some of these, where it is installed.
- placement: converted networks on all schedules and in half precision, placed on the provider: no
  copies between host and device, and CUDA graphs where no Loop is in the way.
- model: the same networks on the GPU against float32 on the CPU; where their nodes ran.
- speed: the neurons' bytes per second against a copy from device to device; whole networks.

The result goes to tools/results/gpu_DATE.json. Exit code: 0 where all is well, else 1.
"""

import argparse
import datetime
import json
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from gpu_kernels import check_kernels
from gpu_networks import MODELS, check_model, check_placement, convert_networks
from gpu_speed import check_speed, show_speed
from gpu_target import ROOT, Target, open_target
from machine import describe_machine, versions

RESULTS = ROOT / "tools" / "results"
CHECKS = ("kernels", "sanitizer", "placement", "model", "speed")


def check_sanitizer(target: Target, args: argparse.Namespace) -> dict[str, Any]:
    """Run the quick kernel checks under compute-sanitizer."""
    program = shutil.which("compute-sanitizer")
    if program is None or target.device != "cuda":
        why = "no GPU in use" if target.device != "cuda" else "compute-sanitizer is not installed"
        return {"skipped": why, "ok": True}
    result: dict[str, Any] = {"ok": True}
    for tool in ("memcheck", "racecheck"):
        command = [program, "--tool", tool, "--error-exitcode", "9", sys.executable, __file__]
        command += ["--only", "kernels", "--quick", "--library", str(target.library)]
        command += ["--seed", str(args.seed), "--json", "-"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = [line for line in (done.stdout + done.stderr).splitlines() if "=====" in line]
        clean = done.returncode == 0
        result[tool] = "clean" if clean else f"exit code {done.returncode}: " + " ".join(lines[-3:])
        result["ok"] = result["ok"] and clean
    return result


def check(target: Target, args: argparse.Namespace) -> dict[str, Any]:
    """Run the checks asked for."""
    networks = convert_networks(args) if {"placement", "model", "speed"} & set(args.only) else {}
    functions = {
        "kernels": partial(check_kernels, target, args),
        "sanitizer": partial(check_sanitizer, target, args),
        "placement": partial(check_placement, target, networks),
        "model": partial(check_model, target, networks, args.batch_size),
        "speed": partial(check_speed, target, networks, args),
    }
    results = {name: functions[name]() for name in CHECKS if name in args.only}
    device = "CPU" if target.driver is None else target.driver.device_name()
    cuda = {} if target.driver is None else {"CUDA driver": target.driver.driver_version()}
    package = "onnxruntime" if target.driver is None else "onnxruntime-gpu"
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": describe_machine(),
        "device": device,
        "versions": versions("onnx-snn", package, "numpy") | cuda,
        "timesteps": args.timesteps,
        "batch_size": args.batch_size,
        "checks": results,
        "ok": all(result["ok"] for result in results.values()),
    }


def show(report: dict[str, Any]) -> None:
    """Print the report as one table."""
    print(f"{report['machine']}; {report['device']}")
    print(", ".join(f"{name} {number}" for name, number in report["versions"].items()) + "\n")
    for name, result in report["checks"].items():
        verdict = "skipped" if "skipped" in result else "ok" if result["ok"] else "FAILED"
        print(f"{name:10} {verdict:8} {describe(name, result)}")


def describe(name: str, result: dict[str, Any]) -> str:
    """Return the findings of one check, the lines after the first one indented."""
    if "skipped" in result:
        return str(result["skipped"])
    lines = []
    if name == "kernels":
        failures = result["failures"]
        lines = [f"{result['runs']} runs, seed {result['seed']}, {len(failures)} wrong"]
        lines += failures[:10]
    elif name == "sanitizer":
        lines = [f"{tool}: {result[tool]}" for tool in ("memcheck", "racecheck")]
    elif name == "placement":
        for network, row in result["rows"].items():
            graph = "a CUDA graph" if row["cuda_graph"] else "no CUDA graph"
            line = f"{network}: {row['copies']} copies, {graph}"
            lines.append(line if row["ok"] else f"{line}  WRONG")
    elif name == "model":
        lines = [describe_model(name, row) for name, row in result["rows"].items()]
    else:
        lines = [f"{kernel}: {show_speed(row)}" for kernel, row in result["kernels"].items()]
        lines += [f"{network}: {ms:.2f} ms a batch" for network, ms in result["network_ms"].items()]
    return f"\n{'':20}".join(lines)


def describe_model(name: str, row: dict[str, Any]) -> str:
    """Return one line about a network."""
    on_cpu = ", ".join(f"{count} {op}" for op, count in row["on_cpu"].items()) or "none"
    line = f"{name}: "
    if "accuracy" in row:
        line += f"accuracy {row['accuracy']:.2f} % (CPU {row['cpu_accuracy']:.2f}), "
    return (
        f"{line}agreement {row['agreement']:.2f} %, difference {row['difference']:.1e}, "
        f"{row['copies']} copies; on the CPU: {on_cpu}" + ("" if row["ok"] else "  WRONG")
    )


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="The CUDA kernels: right, clean, and how fast")
    parser.add_argument("--library", type=Path, help="native library (default: build it)")
    parser.add_argument("--provider", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--only", nargs="+", choices=CHECKS, default=list(CHECKS))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--photos", type=int, default=50, help="of EfficientNet-Lite0")
    parser.add_argument("--quick", action="store_true", help="a few shapes of every kernel")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    parser.add_argument("-T", "--timesteps", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--megabytes", type=float, default=1024, help="currents for the speed")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--json", help="where to write the result; - for nowhere")
    return parser.parse_args(arguments)


def main() -> None:
    """Check, print, write the JSON file, and say by the exit code whether all is well."""
    args = parse_args()
    target = open_target(args.provider, args.library)
    report = check(target, args)
    show(report)
    path = args.json
    if path is None and target.driver is not None:
        path = RESULTS / f"gpu_{report['date']}.json"
    if path is not None and path != "-":
        Path(path).write_text(json.dumps(report, indent=2) + "\n")
    sys.exit(0 if report["ok"] else 1)


if __name__ == "__main__":
    main()
