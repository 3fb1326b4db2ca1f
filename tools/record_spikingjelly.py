"""Record what SpikingJelly's rate-coding conversion does to a small fixed network.

The network, the calibration data and the inputs are dyadic: every value is a small multiple of
a power of two, and every threshold is a power of two. All sums are then exact in float32
whatever their order, no spike hangs on a rounding error, and another implementation can be
compared with the recording bit for bit. Before anything is written, a replay in float64, with
the weights rescaled so that a spike is worth 1, has to agree with every spike and output.

SpikingJelly lives in an environment of its own:

    python -m venv .spikingjelly && . .spikingjelly/bin/activate
    pip install torch==2.13.0 numpy tqdm matplotlib loguru requests onnx
    pip install --no-deps spikingjelly==2.0.0
    python tools/record_spikingjelly.py

It writes tests/data/spikingjelly_parity.onnx and .npz (see tests/data/README.md).
"""

import copy
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import helper, numpy_helper
from spikingjelly.activation_based import functional, neuron
from spikingjelly.activation_based.ann2snn import Converter
from spikingjelly.activation_based.ann2snn.modules import VoltageScaler
from spikingjelly.activation_based.ann2snn.recipes import RateCodingRecipe
from torch import Tensor, nn

OUTPUT = Path(__file__).resolve().parent.parent / "tests" / "data" / "spikingjelly_parity"
TIMESTEPS = 32
SEED = 0

# What each spiking layer reaches on ordinary images, and on the one exceptional image, which
# lies above the 99.9 % quantile because the ordinary ones are repeated so often.
PLATEAUS = (1.0, 2.0, 0.5)
PEAKS = (4.0, 8.0, 2.0)
ORDINARY_IMAGES = 4
ORDINARY_COPIES = 400
MODES: dict[str | float, tuple[float, ...]] = {  # and the thresholds that follow
    "max": PEAKS,
    "99.9%": PLATEAUS,
    0.5: tuple(peak / 2 for peak in PEAKS),
}

Array = npt.NDArray[np.float64]


def dyadic(
    rng: np.random.Generator, shape: tuple[int, ...], low: int, high: int, unit: float
) -> Tensor:
    """Draw integers from [low, high] and multiply them by `unit`."""
    return torch.from_numpy(rng.integers(low, high + 1, shape) * unit).float()


def build_network(rng: np.random.Generator, ordinary: Tensor) -> nn.Sequential:
    """Build the network and set its biases so that the thresholds become powers of two.

    In every layer the last channel is an alarm: it hears nothing but the alarm channel of the
    layer before, is silent on ordinary images and reaches the peak on the exceptional one. Each
    other channel just reaches the plateau on the ordinary images, and the alarm inhibits it.
    """
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.BatchNorm2d(4, eps=2**-10),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(4, 6, 2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(24, 8),
        nn.ReLU(),
        nn.Linear(8, 5),
    ).eval()
    conv1, norm1, _, _, conv2, _, _, linear1, _, linear2 = net
    norm1.weight.copy_(torch.tensor([1.0, -1.0, 0.5, 2.0]))
    norm1.running_mean.copy_(dyadic(rng, (4,), -4, 4, 1 / 4))
    norm1.running_var.copy_(torch.tensor([1.0, 4.0, 0.25, 4.0]) - norm1.eps)
    norm1.bias.zero_()
    for layer, unit in ((conv1, 1 / 8), (conv2, 1 / 2), (linear1, 1 / 16), (linear2, 1 / 8)):
        layer.weight.copy_(dyadic(rng, layer.weight.shape, -4, 4, unit))
        layer.bias.copy_(dyadic(rng, layer.bias.shape, -4, 4, unit))

    for layer, alarm, gain in (
        (conv1, slice(1, 2), PEAKS[0]),
        (conv2, slice(3, 4), PEAKS[1] / PEAKS[0]),
        (linear1, slice(20, 24), PEAKS[2] / PEAKS[1]),
    ):
        layer.weight[:, alarm] = -layer.weight[:, alarm].abs()
        layer.weight[-1] = 0
        layer.weight[-1, alarm].view(-1)[0] = gain
    for end, layer, plateau in zip((2, 5, 8), (norm1, conv2, linear1), PLATEAUS, strict=True):
        target = torch.full_like(layer.bias, plateau)
        target[-1] = 0
        reached = net[:end](ordinary).transpose(0, 1).flatten(1).amax(dim=1)
        layer.bias.add_(target - reached)
    return net


def build_data(rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return the ordinary images, the whole calibration batch and the test inputs."""
    ordinary = dyadic(rng, (ORDINARY_IMAGES, 2, 8, 8), 0, 2, 1 / 2)
    ordinary[:, 1] = 0  # the second channel sets off the alarm
    exceptional = torch.zeros(1, 2, 8, 8)
    exceptional[:, 1] = 1
    calibration = torch.cat([exceptional, ordinary.repeat(ORDINARY_COPIES, 1, 1, 1)])
    inputs = torch.cat([dyadic(rng, (5, 2, 8, 8), -4, 8, 1 / 4), torch.zeros(1, 2, 8, 8)])
    return ordinary, calibration, inputs


def convert(net: nn.Module, mode: str | float, batches: list[Tensor]) -> nn.Module:
    """Convert with SpikingJelly: layer-wise thresholds, V0 = 0."""
    return Converter(RateCodingRecipe(batches, mode=mode)).convert(copy.deepcopy(net)).eval()


def thresholds(snn: nn.Module) -> Array:
    """Return the threshold of every spiking layer, in order."""
    scales = {n: m.scale.item() for n, m in snn.named_modules() if isinstance(m, VoltageScaler)}
    return np.array([scale for name, scale in scales.items() if name.endswith("scaler1")])


def simulate(snn: nn.Module, x: Tensor) -> tuple[list[Array], Array]:
    """Return the spikes of every spiking layer and the outputs, [T, N, ...]."""
    nodes = [module for module in snn.modules() if isinstance(module, neuron.IFNode)]
    trains: list[list[Tensor]] = [[] for _ in nodes]
    hooks = [
        node.register_forward_hook(lambda _, __, spikes, train=train: train.append(spikes))
        for node, train in zip(nodes, trains, strict=True)
    ]
    functional.reset_net(snn)
    outputs = torch.stack([snn(x) for _ in range(TIMESTEPS)])
    for hook in hooks:
        hook.remove()
    return [torch.stack(train).double().numpy() for train in trains], outputs.double().numpy()


def replay(net: nn.Sequential, scales: Array, x: Tensor) -> tuple[list[Array], Array]:
    """Simulate in float64 NumPy with unit spikes, the first layer's current computed once.

    Weights become W * scale_in / scale_out, biases b / scale_out, the readout has scale 1. Every
    current and membrane on the way has to be a float32 number.
    """
    conv1, norm1, _, _, conv2, _, _, linear1, _, linear2 = (copy.deepcopy(m).double() for m in net)
    gain = norm1.weight / (norm1.running_var + norm1.eps).sqrt()
    shift = ((conv1.bias - norm1.running_mean) * gain + norm1.bias).numpy()
    s1, s2, s3 = scales
    w1, b1 = (conv1.weight * gain.view(-1, 1, 1, 1)).numpy() / s1, shift / s1
    w2, b2 = conv2.weight.numpy() * s1 / s2, conv2.bias.numpy() / s2
    w3, b3 = linear1.weight.numpy() * s2 / s3, linear1.bias.numpy() / s3
    w4, b4 = linear2.weight.numpy() * s3, linear2.bias.numpy()

    def convolve(x: Array, weight: Array, bias: Array) -> Array:
        windows = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2:], axis=(2, 3))
        return np.einsum("nchwij,ocij->nohw", windows, weight) + bias[:, None, None]

    def fire(layer: int, current: Array) -> Array:
        membrane = membranes.get(layer, 0) + current
        spikes = (membrane >= 1).astype(np.float64)
        membranes[layer] = membrane - spikes
        assert all((np.float32(value) == value).all() for value in (current, membrane))
        trains[layer].append(spikes)
        return spikes

    membranes: dict[int, Array] = {}
    trains: list[list[Array]] = [[], [], []]
    outputs = []
    first_current = convolve(x.double().numpy(), w1, b1)
    for _ in range(TIMESTEPS):
        spikes = fire(0, first_current)
        pooled = spikes.reshape(len(x), 4, 3, 2, 3, 2).mean(axis=(3, 5))
        spikes = fire(1, convolve(pooled, w2, b2))
        spikes = fire(2, spikes.reshape(len(x), -1) @ w3.T + b3)
        outputs.append(spikes @ w4.T + b4)
    return [np.stack(train) for train in trains], np.stack(outputs)


def export(net: nn.Sequential, path: Path) -> None:
    """Write the network as ONNX, node for node."""
    attributes = {
        "Conv": {},
        "BatchNormalization": {"epsilon": net[1].eps},
        "AveragePool": {"kernel_shape": [2, 2], "strides": [2, 2]},
        "Gemm": {"transB": 1},
    }
    operators = {
        nn.Conv2d: "Conv",
        nn.BatchNorm2d: "BatchNormalization",
        nn.ReLU: "Relu",
        nn.AvgPool2d: "AveragePool",
        nn.Flatten: "Flatten",
        nn.Linear: "Gemm",
    }
    nodes, initializers, value = [], [], "x"
    for index, module in enumerate(net):
        operator = operators[type(module)]
        weights = {f"{index}.{key}": w for key, w in module.state_dict().items() if w.ndim}
        result = "y" if index == len(net) - 1 else f"{operator.lower()}_{index}"
        nodes.append(
            helper.make_node(
                operator,
                [value, *weights],
                [result],
                name=f"{operator}_{index}",
                **attributes.get(operator, {}),
            )
        )
        initializers += [numpy_helper.from_array(w.numpy(), key) for key, w in weights.items()]
        value = result
    graph = helper.make_graph(
        nodes,
        "spikingjelly_parity",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 2, 8, 8])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 5])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


@torch.no_grad()
def main() -> None:
    """Build, record, verify, write."""
    rng = np.random.default_rng(SEED)
    ordinary, calibration, inputs = build_data(rng)
    net = build_network(rng, ordinary)
    record: dict[str, npt.NDArray[np.generic]] = {
        "x": inputs.numpy(),
        "ann_y": net(inputs).numpy(),
        "calibration": calibration.numpy(),
        "modes": np.array([str(mode) for mode in MODES]),
        "timesteps": np.array(TIMESTEPS),
        "versions": np.array([f"{p} {version(p)}" for p in ("spikingjelly", "torch", "numpy")]),
    }
    for mode, expected in MODES.items():
        snn = convert(net, mode, [calibration])
        scales = thresholds(snn)
        assert np.array_equal(scales, expected)
        trains, outputs = simulate(snn, inputs)
        replayed_trains, replayed_outputs = replay(net, scales, inputs)
        for train, replayed in zip(trains, replayed_trains, strict=True):
            assert np.array_equal(train, replayed)
        assert np.array_equal(outputs, replayed_outputs)
        record[f"{mode}/thresholds"] = scales.astype(np.float32)
        for layer, train in enumerate(trains):
            record[f"{mode}/spikes_{layer}"] = train.astype(np.uint8)
        record[f"{mode}/y_steps"] = outputs.astype(np.float32)
        record[f"{mode}/y"] = outputs.mean(axis=0).astype(np.float32)
        rates = " ".join(f"{train.mean():.3f}" for train in trains)
        print(f"{mode:>6}: thresholds {scales}, firing rates {rates}; the replay agrees")

    batches = rng.normal(0.3, 0.6, (4, 16, 2, 8, 8)).astype(np.float32)
    record["ema_calibration"] = batches
    for mode in MODES:
        scales = thresholds(convert(net, mode, list(torch.from_numpy(batches))))
        record[f"{mode}/ema_thresholds"] = scales.astype(np.float32)
        print(f"{mode:>6}: thresholds {scales} as a moving average over {len(batches)} batches")

    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    export(net, OUTPUT.with_suffix(".onnx"))
    np.savez_compressed(OUTPUT.with_suffix(".npz"), **record)


if __name__ == "__main__":
    main()
