"""Train the classic MNIST CNN and export it to ``models/``.

The network: three times [Conv 3x3, 32 channels, no padding -> BatchNorm, eps 1e-3 -> ReLU ->
AvgPool 2], Flatten, Linear(32, 10), Softmax. It is exported with its BatchNormalization nodes
and with the initializers named as in torch's ``state_dict``, so that `load_onnx_weights` reads
them back. Next to it go a small calibration set and a small test set (see models/README.md).

Needs torch, onnx, onnxruntime and, the first time, npm:

    python tools/train_mnist_cnn.py
"""

import argparse
from collections import OrderedDict
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from fetch_mnist import Images, Labels, load_mnist

MODELS_DIR = Path(__file__).resolve().parent.parent / "models"
CALIBRATION_IMAGES = 1_000
TEST_IMAGES = 2_000
BATCH_SIZE = 100


def mnist_cnn() -> nn.Sequential:
    """Build the untrained network."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for block, channels in enumerate((1, 32, 32), start=1):
        layers[f"conv{block}"] = nn.Conv2d(channels, 32, kernel_size=3)
        layers[f"norm{block}"] = nn.BatchNorm2d(32, eps=1e-3)
        layers[f"relu{block}"] = nn.ReLU()
        layers[f"pool{block}"] = nn.AvgPool2d(2)
    layers["flatten"] = nn.Flatten()
    layers["linear"] = nn.Linear(32, 10)
    layers["softmax"] = nn.Softmax(dim=1)
    return nn.Sequential(layers)


def train(model: nn.Sequential, x: Tensor, y: Tensor, epochs: int) -> None:
    """Train in place: Adam with the tutorial's settings and a cosine schedule."""
    logits = model[:-1]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=5e-4)
    steps = epochs * (len(x) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for epoch in range(1, epochs + 1):
        model.train()
        total = 0.0
        for index in torch.randperm(len(x)).split(BATCH_SIZE):
            loss = nn.functional.cross_entropy(logits(x[index]), y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(index)
        print(f"epoch {epoch:2d}: loss {total / len(x):.4f}", flush=True)
    model.eval()


def export(model: nn.Sequential, path: Path) -> None:
    """Export to ONNX as it stands: no node is folded, and the batch axis N is free.

    The TorchScript exporter with ``PRESERVE`` on a network in eval mode is the one that keeps
    BatchNormalization and Flatten as nodes and the names of ``state_dict`` as initializers.
    """
    torch.onnx.export(
        model.eval(),
        (torch.zeros(2, 1, 28, 28),),
        path,
        dynamo=False,
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
        opset_version=18,
        input_names=["image"],
        output_names=["probabilities"],
        dynamic_axes={"image": {0: "N"}, "probabilities": {0: "N"}},
    )
    onnx.checker.check_model(path, full_check=True)


def load_onnx_weights(model: nn.Module, path: Path) -> None:
    """Load the initializers of an ONNX file that are named as the entries of ``state_dict``."""
    initializers = onnx.load(path).graph.initializer
    weights = {t.name: torch.from_numpy(onnx.numpy_helper.to_array(t).copy()) for t in initializers}
    state = model.state_dict()
    missing = [k for k in state if k not in weights and not k.endswith("num_batches_tracked")]
    if missing:
        raise ValueError(f"{path} has no initializer {missing[0]!r}")
    model.load_state_dict({key: weights.get(key, value) for key, value in state.items()})
    model.eval()


def torch_predictions(model: nn.Module, x: Images) -> Images:
    """Run the torch network over all images, in batches."""
    with torch.no_grad():
        return torch.cat([model(batch) for batch in torch.from_numpy(x).split(500)]).numpy()


def onnx_predictions(path: Path, x: Images) -> Images:
    """Run the exported network over all images with onnxruntime, in batches."""
    import onnxruntime as ort

    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    batches = (x[i : i + 500] for i in range(0, len(x), 500))
    return np.concatenate([session.run(None, {"image": batch})[0] for batch in batches])


def accuracy(probabilities: Images, y: Labels) -> float:
    """Return the share of correct answers, in percent."""
    return 100.0 * float((probabilities.argmax(axis=1) == y).mean())


def main() -> None:
    """Train, export, verify, and write the small data sets."""
    parser = argparse.ArgumentParser(description="train the MNIST CNN and export it to models/")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=MODELS_DIR / "mnist_cnn.onnx")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    torch.use_deterministic_algorithms(True)
    x_train, y_train = load_mnist("train")
    x_test, y_test = load_mnist("test")

    np.savez_compressed(
        MODELS_DIR / "mnist_calibration.npz",
        x=x_train[:CALIBRATION_IMAGES],
        y=y_train[:CALIBRATION_IMAGES],
    )
    np.savez_compressed(
        MODELS_DIR / "mnist_test.npz", x=x_test[:TEST_IMAGES], y=y_test[:TEST_IMAGES]
    )

    model = mnist_cnn()
    train(model, torch.from_numpy(x_train), torch.from_numpy(y_train), args.epochs)
    export(model, args.output)

    from_torch = torch_predictions(model, x_test)
    from_onnx = onnx_predictions(args.output, x_test)
    np.testing.assert_allclose(from_onnx, from_torch, rtol=1e-3, atol=1e-5)
    print(f"test accuracy, torch:       {accuracy(from_torch, y_test):.2f} %")
    print(f"test accuracy, onnxruntime: {accuracy(from_onnx, y_test):.2f} %")


if __name__ == "__main__":
    main()
