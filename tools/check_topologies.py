"""Convert the networks that the onnx package ships, and EfficientNet-Lite0, and check the result.

For each network: how long `inspect` and `convert` take, what stays graded, how many synapses (Mul)
are put in, whether folding and normalising leave the outputs unchanged, and how far the spiking
network's output is from the ANN's at several T: the error should fall about as 1/T. Weights of the
shipped networks are random (see tests/topologies.py).

    python tools/check_topologies.py --networks resnet50 squeezenet --json report.json
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort

import onnx_snn
from machine import describe_machine, versions
from onnx_snn.activation_stats import ActivationStats
from onnx_snn.analyse import analyse
from onnx_snn.load import load_graph
from onnx_snn.model_io import read_model
from onnx_snn.passes.fold_batch_normalization import fold_batch_normalization
from onnx_snn.passes.normalise import normalise
from onnx_snn.passes.rewrite_activations import rewrite_activations
from onnx_snn.thresholds import Granularity, Mode, thresholds

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from topologies import TOPOLOGIES, images, topology, without_softmax  # noqa: E402

EFFICIENTNET = "efficientnet_lite0"
Images = npt.NDArray[np.float32]


def network(name: str, count: int) -> tuple[onnx.ModelProto, Images]:
    """Return a network and images for it, [count, 3, 224, 224]."""
    if name != EFFICIENTNET:
        return topology(name), images(count, seed=1)
    from fetch_efficientnet_lite0 import load_photos

    return read_model(ROOT / ".data" / f"{EFFICIENTNET}.onnx"), load_photos("test")[:count]


def run(model: onnx.ModelProto, x: Images, **more: Any) -> npt.NDArray[Any]:
    """Return the first output, computed image by image."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = onnx_snn.create_session(model, sess_options=options)
    name = session.get_inputs()[0].name
    rows = [session.run(None, {name: x[i : i + 1], **more})[0] for i in range(len(x))]
    return np.concatenate(rows)


def deviation(actual: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    """Return the greatest difference, relative to the greatest expected value."""
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def error(actual: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    """Return the root mean square of the difference, relative to that of what is expected."""
    return float(np.sqrt(np.mean((actual - expected) ** 2) / np.mean(expected**2)))


def same_function(
    model: onnx.ModelProto, stats: ActivationStats, x: Images, grain: str
) -> tuple[dict[str, float], int]:
    """Return the deviation after each pass that must not change the function; and the synapses."""
    expected = run(model, x)
    graph = load_graph(model)
    found = {"load": deviation(run(gs.export_onnx(graph), x), expected)}
    rewrite_activations(graph)
    found["rewrite"] = deviation(run(gs.export_onnx(graph), x), expected)
    fold_batch_normalization(graph)
    found["fold"] = deviation(run(gs.export_onnx(graph), x), expected)
    before = sum(node.op == "Mul" for node in graph.nodes)
    limits = thresholds(stats, Mode.parse("max"), Granularity(grain))
    normalise(graph, analyse(graph), limits)
    found["normalise"] = deviation(run(gs.export_onnx(graph), x), expected)
    return found, sum(node.op == "Mul" for node in graph.nodes) - before


def check(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Measure one network."""
    model, x = network(name, args.images)
    model = without_softmax(model)
    start = time.perf_counter()
    analysis = analyse(load_graph(model))
    inspect_s = time.perf_counter() - start
    start = time.perf_counter()
    run(model, x)
    plain_s = time.perf_counter() - start
    start = time.perf_counter()
    conversion = onnx_snn.convert(model, x, batch_size=8, granularity=args.granularity)
    convert_s = time.perf_counter() - start
    graph_name = load_graph(model).inputs[0].name
    few = x[: args.test]
    deviations, synapses = same_function(model, conversion.stats, few, args.granularity)

    def converted(timesteps: int) -> onnx.ModelProto:
        """Return the spiking network, calibrated on the images it is compared on."""
        return onnx_snn.convert(
            model,
            {graph_name: few},
            mode=args.mode,
            timesteps=timesteps,
            granularity=args.granularity,
            neuron=args.neuron,
            coding=args.coding,
            bias_calibration=False,
            holdout=0.0,
            schedule="loop" if args.coding == "rate" else "layer",
            block=args.block,
        ).model

    expected = run(model, few)
    errors = {t: error(run(converted(t), few), expected) for t in args.timesteps}
    return {
        "inspect_s": inspect_s,
        "plain_s": plain_s,
        "convert_ratio": convert_s / plain_s,
        "spiking": len(conversion.report.layers),
        "graded": sorted({verdict.op for verdict in analysis.graded}),
        "graded_share": conversion.report.graded_share,
        "synapses": synapses,
        "deviation": deviations,
        "errors": errors,
        "schedules": schedules_differ(converted(args.timesteps[0]), few[:1])
        if args.coding == "rate"
        else 0.0,
    }


def schedules_differ(exact: onnx.ModelProto, x: Images) -> float:
    """Return the greatest deviation of the schedules loop and step from layer, in five steps."""
    steps = {"T": np.array(5, np.int64)}
    looped = run(exact, x, **steps)
    layered = run(onnx_snn.reschedule(exact, schedule="layer"), x, **steps)
    stream = onnx_snn.Stream(exact)
    for _ in range(5):
        streamed = next(iter(stream.run(x, timesteps=1).values()))
    return max(deviation(looped, layered), deviation(streamed, layered))


def show(name: str, row: dict[str, Any]) -> None:
    """Print one line."""
    errors = "  ".join(f"{value:8.4f}" for value in row["errors"].values())
    print(
        f"{name:18} {row['inspect_s']:6.2f} s {row['convert_ratio']:6.2f}x "
        f"{row['spiking']:4} {100 * row['graded_share']:6.2f} % {row['synapses']:4} "
        f"{max(row['deviation'].values()):8.1e} {row['schedules']:8.1e}  {errors}",
        flush=True,
    )


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Convert published topologies")
    parser.add_argument("--networks", nargs="+", default=[*TOPOLOGIES, EFFICIENTNET])
    parser.add_argument("--images", type=int, default=64, help="to convert with")
    parser.add_argument("--test", type=int, default=1, help="images to compare on")
    parser.add_argument("--timesteps", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--block", type=int, default=8)
    parser.add_argument("--granularity", default="channel")
    parser.add_argument("--mode", default="mse", help="threshold rule, whose error is shown")
    parser.add_argument("--coding", default="rate", help="of the network whose error is shown")
    parser.add_argument("--neuron", default="signed", help="of the network whose error is shown")
    parser.add_argument("--json", type=Path, help="where to write the result")
    return parser.parse_args()


def main() -> None:
    """Check all networks, print a table, and write the JSON file."""
    args = parse_args()
    print(describe_machine())
    print(versions("onnx-snn", "onnxruntime", "numpy"))
    head = (
        "network            inspect  convert  spiking graded  Mul  function schedule  error at T ="
    )
    print(head, *args.timesteps)
    rows = {}
    for name in args.networks:
        rows[name] = check(name, args)
        show(name, rows[name])
    if args.json:
        report = {"machine": describe_machine(), "images": args.images, "networks": rows}
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
