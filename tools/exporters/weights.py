"""The weights and images that all exporters share, drawn with NumPy in torch's layout.

    python tools/exporters/weights.py OUTPUT.npz

Arrays are named NET/PARAMETER as in torch's ``state_dict`` (convolutions [O, I, H, W], linear
layers [out, in], images [N, C, H, W]). See ``torch_nets.py`` for the networks.
"""

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

SEED = 281  # one for which the images of every network clearly fall into two classes
SAMPLES = 8
CLASSES = 5
IMAGES = {"cnn": (2, 8, 8), "residual": (3, 8, 8), "depthwise": (3, 8, 8)}

# [out, in / groups, kernel, kernel] or [out, in]
SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "cnn": {
        "conv1": (8, 2, 3, 3),
        "conv2": (16, 8, 3, 3),
        "linear": (CLASSES, 16 * 2 * 2),
    },
    "residual": {
        "stem": (8, 3, 3, 3),
        "conv1": (8, 8, 3, 3),
        "conv2": (8, 8, 3, 3),
        "conv3": (16, 8, 3, 3),
        "conv4": (16, 16, 3, 3),
        "shortcut": (16, 8, 1, 1),
        "linear": (CLASSES, 16),
    },
    "depthwise": {
        "stem": (8, 3, 3, 3),
        "depthwise": (8, 1, 3, 3),
        "pointwise": (8, 8, 1, 1),
        "linear": (CLASSES, 8),
    },
}
# A convolution with batch normalization after it has no bias.
NORMALISED = {
    "cnn": ("conv1",),
    "residual": ("stem", "conv1", "conv2", "conv3", "conv4", "shortcut"),
    "depthwise": ("stem", "depthwise", "pointwise"),
}
GAIN = {"cnn": 1.0, "residual": 1.0, "depthwise": 3.0}  # 3: some activations exceed ReLU6's bound


def draw(seed: int = SEED) -> dict[str, Array]:
    """Draw every array, the same for the same seed."""
    random = np.random.default_rng(seed)
    arrays: dict[str, npt.NDArray[np.float64]] = {}
    for net, shapes in SHAPES.items():
        tint = random.normal(0, 1, (SAMPLES, IMAGES[net][0], 1, 1))  # so that images differ
        arrays[f"{net}/images"] = tint + random.normal(0, 1, (SAMPLES, *IMAGES[net]))
        for layer, shape in shapes.items():
            fan_in = np.prod(shape[1:])
            arrays[f"{net}/{layer}.weight"] = random.normal(0, np.sqrt(2 / fan_in), shape)
            channels = shape[0]
            if layer in NORMALISED[net]:
                prefix = f"{net}/{layer}_bn"
                arrays[f"{prefix}.weight"] = GAIN[net] * random.uniform(0.5, 1.5, channels)
                arrays[f"{prefix}.bias"] = random.normal(0.2, 0.3, channels)
                arrays[f"{prefix}.running_mean"] = random.normal(0, 0.3, channels)
                arrays[f"{prefix}.running_var"] = random.uniform(0.5, 2, channels)
            else:
                arrays[f"{net}/{layer}.bias"] = random.normal(0, 0.1, channels)
    return {name: array.astype(np.float32) for name, array in arrays.items()}


if __name__ == "__main__":
    np.savez_compressed(Path(sys.argv[1]), **draw())
