"""Fixtures from torch's TorchScript exporter."""

import io
from typing import Any

import onnx
import torch
import torch_nets
from fixture import save


def export(name: str, net: str, *, batch: int | None = None, **options: Any) -> None:
    """Export one network, for batches of any size or of the size ``batch``."""
    module, images, outputs = torch_nets.load(net)
    file = io.BytesIO()
    torch.onnx.export(
        module,
        (images[: batch or 2],),
        file,
        dynamo=False,
        input_names=["x"],
        output_names=["y"],
        dynamic_axes=None if batch else {"x": {0: "batch"}, "y": {0: "batch"}},
        **options,
    )
    model = onnx.load_from_string(file.getvalue())
    save(name, model, [images.numpy()], [outputs.numpy()], ["torch"])


if __name__ == "__main__":
    keep_bn = torch.onnx.TrainingMode.PRESERVE  # the default folds them into the convolutions
    for net in torch_nets.NETS:
        export(f"torch_script_{net}", net, opset_version=17)
    export("torch_script_residual_bn", "residual", opset_version=20, training=keep_bn)
    export("torch_script_cnn_batch1_opset11", "cnn", batch=1, opset_version=11, training=keep_bn)
    export("torch_script_depthwise_opset9", "depthwise", opset_version=9, training=keep_bn)
