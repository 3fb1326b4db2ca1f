"""The CIFAR-10 networks: their builders, their training data, and the committed files."""

import io
import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from PIL import Image

MODELS = Path(__file__).resolve().parents[2] / "models"


@pytest.fixture
def tool():
    """The script, which needs torch."""
    pytest.importorskip("torch")
    import train_cifar10

    return train_cifar10


def convolution(channels_in: int, channels: int, side: int) -> int:
    """Count the parameters of a convolution without bias and of its BatchNorm."""
    return channels_in * channels * side**2 + 2 * channels


@pytest.mark.parametrize("width", [16, 32])
def test_resnet20_is_the_network_of_the_paper_and_a_wider_one(tool, width):
    stages = [convolution(3, width, 3), 6 * convolution(width, width, 3)]
    for channels_in, channels in ((width, 2 * width), (2 * width, 4 * width)):
        stages += [convolution(channels_in, channels, 3), 5 * convolution(channels, channels, 3)]
        stages += [convolution(channels_in, channels, 1)]
    model = tool.resnet20(width)
    assert sum(p.numel() for p in model.parameters()) == sum(stages) + 4 * width * 10 + 10
    shapes = {}
    for name, module in model.named_children():
        module.register_forward_hook(lambda _m, _x, y, name=name: shapes.update({name: y.shape}))
    assert model(tool.torch.rand(2, 3, 32, 32)).shape == (2, 10)
    assert shapes["stage1_block3"] == (2, width, 32, 32)
    assert shapes["stage2_block3"] == (2, 2 * width, 16, 16)
    assert shapes["stage3_block3"] == (2, 4 * width, 8, 8)


def test_a_basic_block_adds_its_shortcut(tool):
    block = tool.BasicBlock(4, 4, 1).eval()
    tool.torch.nn.init.zeros_(block.conv2.weight)
    x = tool.torch.randn(1, 4, 5, 5)
    np.testing.assert_array_equal(block(x).detach().numpy(), np.maximum(x.numpy(), 0))


def test_vgg_has_seven_convolutions_and_at_most_1_2_million_parameters(tool):
    widths = [3, 64, 64, 128, 128, 192, 192, 192]
    layers = [convolution(a, b, 3) for a, b in itertools.pairwise(widths)]
    model = tool.vgg()
    parameters = sum(p.numel() for p in model.parameters())
    assert parameters == sum(layers) + 192 * 10 + 10
    assert parameters <= 1_200_000
    assert model(tool.torch.rand(2, 3, 32, 32)).shape == (2, 10)


def test_the_networks_normalise_their_input_themselves(tool):
    x = tool.torch.rand(2, 3, 4, 4)
    for build in (tool.resnet20, tool.vgg):
        expected = (x.numpy() - np.reshape(tool.MEAN, (3, 1, 1))) / np.reshape(tool.STD, (3, 1, 1))
        np.testing.assert_allclose(build().normalize(x).numpy(), expected, rtol=1e-5, atol=1e-5)


def write_data(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Write images, uint8 [N, 32, 32, 3], as a data file of JPEG files."""
    files = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=95)
        files.append(np.frombuffer(file.getvalue(), np.uint8))
    offsets = np.cumsum([0, *map(len, files)]).astype(np.uint32)
    np.savez(path, jpeg=np.concatenate(files), offsets=offsets, labels=labels.astype(np.uint8))


def test_a_data_file_is_decoded_as_it_is_defined(tool, tmp_path):
    colours = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255)], np.uint8)
    images = np.broadcast_to(colours[:, None, None], (3, 32, 32, 3))
    write_data(tmp_path / "data.npz", images, np.array([3, 0, 9]))
    x, y = tool.load_cifar10(tmp_path / "data.npz")
    assert x.dtype == np.uint8
    np.testing.assert_allclose(x.astype(int), images.astype(int), atol=3)  # JPEG is lossy
    assert y.tolist() == [3, 0, 9]


@pytest.mark.filterwarnings("ignore")  # torch's about its older exporter
def test_a_training_is_resumed_and_its_network_exported(tool, tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    data = tmp_path / "data.npz"
    write_data(data, rng.integers(0, 256, (40, 32, 32, 3), np.uint8), rng.integers(0, 10, 40))
    monkeypatch.setattr(tool, "CHECKPOINT_DIR", tmp_path)
    monkeypatch.setattr(tool, "MODELS_DIR", tmp_path)

    def run(*options: str) -> None:
        command = ["train_cifar10.py", "resnet20", "--train", str(data), "--test", str(data)]
        monkeypatch.setattr("sys.argv", [*command, *options])
        tool.main()

    run("--epochs", "1")
    assert "epoch  1/1" in capsys.readouterr().out
    run("--epochs", "2", "--resume")
    output = capsys.readouterr().out
    assert "epoch  1/" not in output
    assert "epoch  2/2" in output

    trained = tool.torch.load(tmp_path / "cifar10_resnet20.pt")["model"]
    exported = {t.name: t for t in onnx.load(tmp_path / "cifar10_resnet20.onnx").graph.initializer}
    for key in ("conv.weight", "stage2_block1.norm2.running_var", "linear.bias"):
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(exported[key]), trained[key])


def test_augmentation_crops_flips_and_cuts(tool):
    images, cutout, grey = 200, 6, 128
    tool.torch.manual_seed(0)
    # A pixel's channels are its row, its column and its image.
    row, column, image = np.mgrid[:40, :40, :images].transpose(0, 3, 1, 2)
    padded = np.stack([row, column, image], axis=-1).astype(np.uint8)
    mirrored = np.arange(images) % 2 == 1
    given = tool.torch.from_numpy(padded), tool.torch.from_numpy(mirrored)
    out = tool.augment(*given, cutout).numpy().astype(int)
    seen = {True: set(), False: set()}
    for n, pixels in enumerate(out):
        cut = (pixels[..., :2] == grey).all(axis=-1)
        rows, columns = np.nonzero(cut)
        assert len(rows) == cutout**2
        assert np.ptp(rows) == np.ptp(columns) == cutout - 1
        assert (pixels[~cut, 2] == n).all()
        tops = (pixels[..., 0] - np.arange(32)[:, None])[~cut]
        assert len(set(tops.tolist())) == 1
        flipped = bool(pixels[-1, 0, 1] > pixels[-1, -1, 1]) if not cut[-1, [0, -1]].any() else None
        if flipped is None:
            continue
        assert flipped == mirrored[n]
        columns = np.arange(32)[::-1] if flipped else np.arange(32)
        lefts = (pixels[..., 1] - columns)[~cut]
        assert len(set(lefts.tolist())) == 1
        seen[flipped].add((tops[0], lefts[0]))
    for flipped, offsets in seen.items():
        assert len(offsets) > images / 8, flipped
        assert {top for top, _ in offsets} == set(range(9))
        assert {left for _, left in offsets} == set(range(9))


def test_soft_labels_are_half_the_label_and_half_the_mean_of_the_teachers(tool, tmp_path):
    sure, unsure = np.eye(10)[3] * 40, np.zeros(10)
    for name, logits in (("sure", sure), ("unsure", unsure)):
        helper, bias = onnx.helper, onnx.numpy_helper.from_array(logits.astype(np.float32), "b")
        nodes = [
            helper.make_node("ReduceMean", ["image"], ["m"], axes=[1, 2, 3], keepdims=0),
            helper.make_node("Unsqueeze", ["m", "one"], ["column"]),
            helper.make_node("Mul", ["column", "zero"], ["zeros"]),
            helper.make_node("Add", ["zeros", "b"], ["logits"]),
        ]
        floats = onnx.TensorProto.FLOAT
        graph = helper.make_graph(
            nodes,
            "teacher",
            [helper.make_tensor_value_info("image", floats, ["N", 3, 32, 32])],
            [helper.make_tensor_value_info("logits", floats, ["N", 10])],
            [
                bias,
                onnx.numpy_helper.from_array(np.array([1]), "one"),
                onnx.numpy_helper.from_array(np.zeros(1, np.float32), "zero"),
            ],
        )
        opset = [helper.make_opsetid("", 13)]
        onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / name)
    x, y = np.zeros((2, 32, 32, 3), np.uint8), np.array([3, 5])
    alone = tool.soft_labels(x, y, []).numpy()
    np.testing.assert_array_equal(alone, [np.eye(10)[y]] * 2)
    taught = tool.soft_labels(x, y, [tmp_path / "sure", tmp_path / "unsure"]).numpy()
    seen = np.eye(10)[3] / 2 + np.full(10, 0.1) / 2
    np.testing.assert_allclose(taught, [(np.eye(10)[y] + seen) / 2] * 2, atol=1e-6)


def test_the_learning_rate_goes_up_and_down_once(tool):
    rates = np.array([tool.learning_rate(p) for p in np.linspace(0, 1, 101)])
    assert rates[0] == 0
    assert rates[-1] == pytest.approx(0, abs=1e-12)
    assert rates.max() == pytest.approx(tool.PEAK_LEARNING_RATE)
    peak = rates.argmax()
    assert (np.diff(rates[: peak + 1]) > 0).all()
    assert (np.diff(rates[peak:]) < 0).all()


@pytest.mark.parametrize(
    ("name", "operators"),
    [
        # The exporter stores equal initializers once: a shortcut's BatchNorm has the bias of the
        # BatchNorm that it is added to, as the two start equal and have the same gradient.
        (
            "resnet20",
            {"Conv": 21, "BatchNormalization": 21, "Relu": 19, "Add": 9, "Identity": 2},
        ),
        ("vgg", {"Conv": 7, "BatchNormalization": 7, "Relu": 7, "MaxPool": 2}),
    ],
)
def test_the_committed_network_is_whole_and_accurate(name, operators):
    path = MODELS / f"cifar10_{name}.onnx"
    graph = onnx.load(path).graph
    rest = {"Sub": 1, "Mul": 1, "GlobalAveragePool": 1, "Flatten": 1, "Gemm": 1}
    assert Counter(node.op_type for node in graph.node) == operators | rest

    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    (image,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (image.name, image.shape) == ("image", ["N", 3, 32, 32])
    assert (logits.name, logits.shape) == ("logits", ["N", 10])
    with np.load(MODELS / "cifar10_samples.npz") as data:
        x, y = data["x"].astype(np.float32) / 255, data["y"]
    (answers,) = session.run(None, {"image": x})
    assert (answers.argmax(axis=1) == y).mean() >= 0.86


def test_the_samples_are_as_documented():
    with np.load(MODELS / "cifar10_samples.npz") as data:
        assert set(data) == {"x", "y", "calibration"}
        for key in ("x", "calibration"):
            assert (data[key].shape, data[key].dtype) == ((256, 3, 32, 32), np.uint8)
        assert (data["y"].shape, data["y"].dtype) == ((256,), np.int64)
        assert set(data["y"].tolist()) == set(range(10))
        same = (data["x"][:, None, :, 0, :] == data["calibration"][None, :, :, 0, :]).all((2, 3))
        assert not same.any()
