"""Measure converted networks on a GPU against the ANN and against SpikingJelly's multi-step mode.

    python tools/bench_cuda.py                       on the GPU
    python tools/bench_cuda.py --device cpu --networks resnet18 --batches 1 --timesteps 2

Networks are torchvision's, with random weights whose BatchNormalization fits random images, as
the time does not depend on what was learnt; ResNet-18 and VGG-16 see 3x32x32, ResNet-50 3x224x224.
First the operators on 1 GB of input, against a copy from device to device. Then the networks, in
one process on the same images, which lie on the device, as do the outputs:

    ann          the trained network in onnxruntime
    ann_graph    replayed as a CUDA graph
    layer        converted, all steps as one batch
    loop         in blocks of `--block` steps, so that memory is bounded
    fp16         as `layer`, in half precision
    graph        as `layer`, replayed as a CUDA graph
    peer         SpikingJelly 2.0, step mode m (it takes its fastest kernels itself), if installed
    peer_fp16    the same in half precision

A form that does not fit the memory is left out, and said so. Of converted networks a profile tells
which part of the device's time its convolutions and matrix products do not take, and what does.
"""

import argparse
import io
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnxruntime as ort
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

import onnx_snn
from gpu_speed import kernel_speed, show_speed
from gpu_target import open_target
from machine import describe_machine, versions

OURS = ("layer", "loop", "fp16", "graph")
OWN_KERNELS = ("onnxruntime::", "onnx_snn::", "Memcpy", "Memset", "pooling")
"""Parts of the names of kernels that are no convolution and no matrix product, which are cuDNN's
and cuBLAS's, with what they do to the layout of their tensors."""
PROFILED_RUNS = 3
SIZES = {"resnet18": 32, "vgg16": 32, "resnet50": 224}
CALIBRATION_IMAGES = 16
ERRORS_ONLY = 3


def build(name: str, device: str) -> nn.Module:
    """Return a network of torchvision, in eval mode, that keeps its activations in scale."""
    try:
        from torchvision import models
    except ImportError:
        sys.exit("error: torchvision is not installed; it has the networks")
    torch.manual_seed(0)
    size = SIZES[name]
    net = getattr(models, "vgg16_bn" if name == "vgg16" else name)(num_classes=100)
    if name == "resnet18":  # as usual for small images: no stride and no pooling at the start
        net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        net.maxpool = nn.Identity()
    if name == "vgg16":  # one pixel is left
        net.avgpool = nn.Identity()
        net.classifier = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 100))
    net.to(device).train()
    with torch.no_grad():
        for _ in range(4):
            net(torch.rand(16, 3, size, size, device=device))
    return net.eval()


def export(net: nn.Module, size: int) -> bytes:
    """Return the network as an ONNX file."""
    content = io.BytesIO()
    torch.onnx.export(
        net.cpu(),
        (torch.zeros(2, 3, size, size),),
        content,
        dynamo=False,
        opset_version=18,
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}},
    )
    return content.getvalue()


def open_session(model: Any, args: argparse.Namespace, **options: str) -> onnx_snn.BoundSession:
    """Open a model on the device, with options of the CUDA provider."""
    settings = ort.SessionOptions()
    settings.log_severity_level = ERRORS_ONLY
    providers: list[Any] = ["CPUExecutionProvider"]
    if args.device == "cuda":
        providers.insert(0, ("CUDAExecutionProvider", options))
    session = onnx_snn.create_session(model, providers, settings)
    return onnx_snn.BoundSession(session)


def convert(ann: bytes, calibration: Tensor, timesteps: int, precision: str) -> Any:
    """Return a converted network; thresholds at the maxima, which random activations need."""
    return onnx_snn.convert(
        ann,
        calibration.cpu().numpy(),
        timesteps=timesteps,
        precision=precision,
        target="cuda",
        mode="max",
        bias_calibration=False,
        holdout=0.0,
    ).model


def forms(
    ann: bytes, calibration: Tensor, timesteps: int, args: argparse.Namespace
) -> Iterator[tuple[str, Callable[[], onnx_snn.BoundSession]]]:
    """Yield the name of each form and what opens it."""
    layer = convert(ann, calibration, timesteps, "model")
    loop = onnx_snn.reschedule(layer, schedule="loop", block=args.block)
    half = convert(ann, calibration, timesteps, "fp16")
    yield "layer", lambda: open_session(layer, args)
    yield "loop", lambda: open_session(loop, args)
    yield "fp16", lambda: open_session(half, args)
    if args.device == "cuda":
        yield "graph", lambda: open_session(layer, args, enable_cuda_graph="1")
        yield "ann_graph", lambda: open_session(ann, args, enable_cuda_graph="1")


def median_ms(run: Callable[[], Any], args: argparse.Namespace) -> float:
    """Return the median time of a run that has ended on the device, after two to warm up."""
    times = []
    for _ in range(2 + args.repeats):
        start = time.perf_counter()
        run()
        if args.device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times[2:])


def measure_form(
    open_form: Callable[[], onnx_snn.BoundSession], x: Tensor, args: argparse.Namespace
) -> tuple[float, dict[str, float]] | None:
    """Return the time of a form in ms, and its kernels; None where it does not fit the memory."""
    try:
        bound = open_form()
        run = partial(bound.run, {"image": x})
        return median_ms(run, args), kernel_times(run, args)
    except onnx_snn.OnnxSnnError as error:
        print(f"    left out: {str(error)[:200]}", flush=True)
        return None


def kernel_times(run: Callable[[], Any], args: argparse.Namespace) -> dict[str, float]:
    """Return the device's time in each kernel in ms, the mean of some runs; on a GPU only."""
    if args.device != "cuda":
        return {}
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(PROFILED_RUNS):
            run()
        torch.cuda.synchronize()
    events = profiler.key_averages()
    return {e.key: e.device_time_total / PROFILED_RUNS / 1e3 for e in events if e.device_time_total}


def outside_layers(kernels: Mapping[str, float]) -> float:
    """Return which part of the time is not in convolutions and matrix products."""
    outside = [ms for name, ms in kernels.items() if any(part in name for part in OWN_KERNELS)]
    return sum(outside) / sum(kernels.values())


def measure_peer(
    net: nn.Module,
    calibration: Tensor,
    x: Tensor,
    timesteps: int,
    args: argparse.Namespace,
    dtype: torch.dtype,
) -> float | None:
    """Return the time in ms, or None without SpikingJelly."""
    try:
        from spikingjelly.activation_based import functional
        from spikingjelly.activation_based.ann2snn import Converter
        from spikingjelly.activation_based.ann2snn.recipes import RateCodingRecipe
    except ImportError:
        return None
    snn = Converter(RateCodingRecipe([calibration], mode="max")).convert(net).eval()
    snn.to(args.device, dtype)
    functional.set_step_mode(snn, "m")
    shown = x.to(dtype).expand(timesteps, *x.shape)

    def run() -> Tensor:
        functional.reset_net(snn)
        logits: Tensor = snn(shown)
        return logits.mean(dim=0)

    return median_ms(run, args)


@torch.no_grad()
def measure(name: str, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure a network for every T and batch."""
    size = SIZES[name]
    net = build(name, args.device)
    calibration = torch.rand(CALIBRATION_IMAGES, 3, size, size)
    ann = export(net, size)
    net.to(args.device)
    for timesteps in args.timesteps:
        opened = dict(forms(ann, calibration, timesteps, args))
        for batch in args.batches:
            x = torch.rand(batch, 3, size, size, device=args.device)
            found = {"ann": measure_form(lambda: open_session(ann, args), x, args)}
            found |= {form: measure_form(each, x, args) for form, each in opened.items()}
            measured = {form: each for form, each in found.items() if each is not None}
            taken = {form: ms for form, (ms, _) in measured.items()}
            for form, dtype in {"peer": torch.float32, "peer_fp16": torch.float16}.items():
                if args.device == "cuda" or dtype == torch.float32:
                    on_device = calibration.to(args.device)
                    ms = measure_peer(net, on_device, x, timesteps, args, dtype)
                    taken |= {} if ms is None else {form: ms}
            yield {
                "network": name,
                "timesteps": timesteps,
                "batch": batch,
                "milliseconds": taken,
                "kernels": {form: kernels for form, (_, kernels) in measured.items() if kernels},
            }


def show(row: dict[str, Any]) -> None:
    """Print the lines of one network, T and batch."""
    taken = row["milliseconds"]
    print(f"\n{row['network']}, T = {row['timesteps']}, batch {row['batch']}")
    for form, ms in taken.items():
        line = f"  {form:9} {ms:10.3f} ms"
        line += f"  {ms / taken['ann']:7.2f} x ANN" if "ann" in taken else ""
        peer = taken.get("peer_fp16" if form == "fp16" else "peer")
        if peer is not None and form in OURS:
            line += f"  {peer / ms:7.2f} x faster than SpikingJelly"
        kernels = row["kernels"].get(form)
        if kernels and form in OURS:
            line += f"  {100 * outside_layers(kernels):5.1f} % outside Conv and Gemm"
        print(line, flush=True)


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Whole networks on a GPU")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--networks", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("-T", "--timesteps", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--block", type=int, default=8, help="steps of a block of `loop`")
    parser.add_argument("--library", type=Path, help="native operators (default: build them)")
    parser.add_argument("--megabytes", type=float, default=1024, help="input of an operator")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--json", type=Path, help="where to write the result")
    return parser.parse_args()


def main() -> None:
    """Measure, print, and write the JSON file."""
    args = parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("error: torch sees no GPU; nothing was measured")
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()
    device = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
    package = "onnxruntime-gpu" if args.device == "cuda" else "onnxruntime"
    numbers = versions("onnx-snn", package, "torch")
    try:
        numbers["spikingjelly"] = version("spikingjelly")
    except ModuleNotFoundError:
        print("SpikingJelly is not installed, and left out")
    print(f"{describe_machine()}; {device}")
    print(", ".join(f"{name} {number}" for name, number in numbers.items()))
    speeds = {}
    if args.device == "cuda":
        speeds = kernel_speed(open_target("cuda", args.library), args.megabytes, args.repeats)
        for kernel, speed in speeds.items():
            print(f"{kernel}: {show_speed(speed)}")
    rows = []
    for name in args.networks:
        for row in measure(name, args):
            rows.append(row)
            show(row)
    if args.json:
        content = {"machine": describe_machine(), "device": device, "versions": numbers}
        args.json.write_text(
            json.dumps({**content, "kernels": speeds, "networks": rows}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
