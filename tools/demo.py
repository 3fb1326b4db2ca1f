"""The main job on real input: the MNIST CNN, converted with the classic tutorial's six settings.

Prints one table of accuracies at T = 50 against the ANN, and writes three figures: spikes and
firing rates of one neuron, firing rate against ReLU, and accuracy against T.

    python tools/demo.py --output demo
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

import onnx_snn
from onnx_snn.ops.reference import if_neuron
from onnx_snn.plots import draw_share_against_time, new_figure, save_figure

MODELS = Path(__file__).resolve().parent.parent / "models"
SETTINGS: dict[str, str | float] = {
    "max": "max",
    "99.9%": "99.9%",
    "1/2 max": 1 / 2,
    "1/3 max": 1 / 3,
    "1/4 max": 1 / 4,
    "1/5 max": 1 / 5,
}
TIMESTEPS = 50
NEURON_STEPS = 128


def convert_all(folder: Path) -> dict[str, onnx_snn.Evaluation]:
    """Convert with every setting, keep the files, and evaluate each on the test images."""
    results = {}
    for name, mode in SETTINGS.items():
        snn = onnx_snn.convert(
            MODELS / "mnist_cnn.onnx",
            MODELS / "mnist_calibration.npz",
            preset="classic",
            batch_reduction="exact",
            mode=mode,
            timesteps=TIMESTEPS,
        )
        path = folder / f"mnist_{name.replace('/', '_').replace(' ', '_').replace('%', '')}.onnx"
        snn.save(path)
        results[name] = onnx_snn.evaluate(
            path, MODELS / "mnist_test.npz", reference=MODELS / "mnist_cnn.onnx"
        )
        print(f"{path}: converted and evaluated", flush=True)
    return results


def show(results: dict[str, onnx_snn.Evaluation]) -> None:
    """Print the table of accuracies."""
    table = Table(header_style="bold")
    table.add_column("mode")
    for column in ("accuracy", "loss, points", "agreement", "T for loss < 0.5", "firing rate"):
        table.add_column(column, justify="right")
    for name, result in results.items():
        accuracy, agreement, ann = result.accuracy, result.agreement, result.ann_accuracy
        assert accuracy is not None
        assert agreement is not None
        assert ann is not None
        rate = float(np.mean(list(result.firing_rates.values())))
        table.add_row(
            name,
            f"{100 * accuracy[-1]:.2f} %",
            f"{100 * (ann - accuracy[-1]):+.2f}",
            f"{100 * agreement[-1]:.2f} %",
            str(steps_within(accuracy, ann - 0.005) or "–"),  # noqa: RUF001
            f"{100 * rate:.2f} %",
        )
    first = next(iter(results.values()))
    assert first.ann_accuracy is not None
    console = Console(highlight=False)
    console.print(f"\nMNIST CNN, {first.samples} test images, T = {first.timesteps}, V0 = 0")
    console.print(f"ANN: {100 * first.ann_accuracy:.2f} %")
    console.print(table)


def steps_within(accuracy: Sequence[float], least: float) -> int | None:
    """Return the first T from which on the accuracy stays at or above a bound."""
    below = [step for step, value in enumerate(accuracy, start=1) if value < least]
    first = (below[-1] if below else 0) + 1
    return first if first <= len(accuracy) else None


def simulate_neurons(currents: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Spikes [T, neurons] of neurons with constant input currents, from V0 = 0."""
    spikes, _, _ = if_neuron(currents[None], NEURON_STEPS, constant_input=True, v_init=0.0)
    return spikes.astype(np.float32)


def plot_neurons(path: Path) -> None:
    """Draw input currents, the spikes they cause, and the firing rates."""
    currents = np.arange(-0.2, 1.2, 0.04, dtype=np.float32)
    spikes = simulate_neurons(currents)
    steps, neurons = np.nonzero(spikes)
    figure = new_figure(10, 4.2)
    left, middle, right = figure.subplots(1, 3, sharey=True, width_ratios=[1, 3, 1])
    index = np.arange(len(currents))
    left.plot(currents, index, ".", color="tab:blue")
    left.set_xlabel("input current $x_i$")
    left.set_ylabel("neuron $i$")
    left.set_title("Input")
    middle.plot(steps + 1, neurons, "|", markersize=4, color="black")
    middle.set_xlabel("time step $t$")
    middle.set_title(f"Spikes of an IF neuron (soft reset), T = {NEURON_STEPS}")
    right.barh(index, spikes.mean(axis=0), color="tab:orange")
    right.set_xlabel("spikes per time step")
    right.set_title("Firing rate")
    for axes in (left, middle, right):
        axes.grid(alpha=0.3)
    save_figure(figure, path)


def plot_rate_against_relu(path: Path) -> None:
    """Draw the firing rate over the input beside ReLU: equal but for values above 1."""
    currents = np.linspace(-0.2, 1.2, 141, dtype=np.float32)
    rates = simulate_neurons(currents).mean(axis=0)
    figure = new_figure()
    axes = figure.subplots()
    axes.plot(currents, rates, label=f"firing rate, T = {NEURON_STEPS}", linewidth=3, alpha=0.6)
    axes.plot(currents, np.maximum(currents, 0), "k--", linewidth=1, label="ReLU$(x)$")
    axes.set_xlabel("input current $x$ ($v_{threshold}$ = 1)")
    axes.set_ylabel("spikes per time step")
    axes.set_title("The firing rate of an IF neuron is a ReLU clipped at 1")
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, path)


def plot_accuracy(results: dict[str, onnx_snn.Evaluation], path: Path) -> None:
    """Draw accuracy against T for all settings."""
    figure = new_figure(7, 4.6)
    axes = figure.subplots()
    curves = {f"mode: {name}": result.accuracy or [] for name, result in results.items()}
    first = next(iter(results.values()))
    draw_share_against_time(axes, curves, ylabel="accuracy", ann=first.ann_accuracy)
    axes.set_ylim(0, 102)
    axes.set_title(f"MNIST CNN as an SNN, {first.samples} test images, $V_0$ = 0")
    save_figure(figure, path)


def main() -> None:
    """Convert, evaluate, print the table, write the figures."""
    parser = argparse.ArgumentParser(description="the classic MNIST conversion, end to end")
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder for results")
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    results = convert_all(folder)
    show(results)
    plot_neurons(folder / "if_neuron.png")
    plot_rate_against_relu(folder / "rate_against_relu.png")
    plot_accuracy(results, folder / "accuracy_against_time.png")
    print(f"figures and converted models are in {folder}/")


if __name__ == "__main__":
    main()
