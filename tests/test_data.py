import io
import pickle

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from nets import Net
from onnx_snn.data import Batch, Dataset, ImagePreprocessing, InputSpec, input_specs
from onnx_snn.errors import DataError, OptionError

IMAGE = InputSpec("image", (None, 1, 4, 6), np.dtype(np.float32))
COLOUR = InputSpec("image", (None, 3, 4, 6), np.dtype(np.float32))
TWO = [
    InputSpec("a", (None, 2), np.dtype(np.float32)),
    InputSpec("b", (None, 3), np.dtype(np.int64)),
]


def _images(samples=10, spec=IMAGE, seed=0):
    shape = (samples, *spec.shape[1:])
    return np.random.default_rng(seed).uniform(0, 1, shape).astype(np.float32)


def _collect(source, specs=(IMAGE,), batch_size=4, **options):
    """All of a data set: feeds by input, and labels; and the size of every batch."""
    batches = list(Dataset(source, specs, batch_size, **options))
    feeds = {
        name: np.concatenate([batch.feeds[name] for batch in batches]) for name in batches[0].feeds
    }
    has_labels = batches[0].labels is not None
    labels = np.concatenate([batch.labels for batch in batches]) if has_labels else None
    return feeds, labels, [len(batch) for batch in batches]


def _assert_refused(source, *parts, specs=(IMAGE,), **options):
    """A DataError of one line with these words, on opening or on reading."""
    with pytest.raises(DataError) as caught:
        list(Dataset(source, specs, **options))
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_input_specs_leave_out_what_has_a_default():
    model = Net({"x": ["N", 3, 8]}).model("x")
    model.graph.input.append(helper.make_tensor_value_info("t", TensorProto.INT64, [2]))
    model.graph.input.append(helper.make_tensor_value_info("T", TensorProto.INT64, []))
    model.graph.initializer.append(numpy_helper.from_array(np.int64(4), "T"))
    assert input_specs(model) == [
        InputSpec("x", (None, 3, 8), np.dtype(np.float32)),
        InputSpec("t", (2,), np.dtype(np.int64)),
    ]


class TestArrays:
    x, y = _images(), np.arange(10) % 3

    @pytest.mark.parametrize("source", [x, {"image": x}, {"x": x}, {"data": x}])
    def test_unlabelled(self, source):
        feeds, labels, sizes = _collect(source)
        np.testing.assert_array_equal(feeds["image"], self.x)
        assert labels is None
        assert sizes == [4, 4, 2]

    @pytest.mark.parametrize("name", ["y", "label", "labels", "target", "targets"])
    def test_labelled(self, name):
        for source in (
            (self.x, self.y),
            {"image": self.x, name: self.y},
            {"x": self.x, name: self.y},
        ):
            feeds, labels, sizes = _collect(source)
            np.testing.assert_array_equal(feeds["image"], self.x)
            np.testing.assert_array_equal(labels, self.y)
            assert sizes == [4, 4, 2]

    def test_an_input_may_be_called_y(self):
        spec = InputSpec("y", (None, 2), np.dtype(np.float32))
        y = np.ones((3, 2), np.float32)
        feeds, labels, _ = _collect({"y": y}, [spec])
        np.testing.assert_array_equal(feeds["y"], y)
        assert labels is None

    def test_labels_of_shape_n_1(self):
        labels = _collect({"image": self.x, "y": self.y[:, None]})[1]
        np.testing.assert_array_equal(labels, self.y)

    def test_several_inputs(self):
        a, b = np.ones((5, 2), np.float32), np.arange(15).reshape(5, 3)
        feeds, _, sizes = _collect({"a": a, "b": b, "more": a}, TWO, 3)
        np.testing.assert_array_equal(feeds["a"], a)
        np.testing.assert_array_equal(feeds["b"], b)
        assert sizes == [3, 2]

    @pytest.mark.parametrize("dtype", [np.float64, np.float16])
    def test_floating_point_numbers_are_cast(self, dtype):
        feeds = _collect(self.x.astype(dtype))[0]
        assert feeds["image"].dtype == np.float32
        np.testing.assert_array_equal(feeds["image"], self.x.astype(dtype).astype(np.float32))

    @pytest.mark.parametrize("dtype", [np.int8, np.int32, np.uint8])
    def test_integers_are_cast(self, dtype):
        b = np.arange(15).reshape(5, 3).astype(dtype)
        feeds = _collect({"a": np.ones((5, 2), np.float32), "b": b}, TWO)[0]
        assert feeds["b"].dtype == np.int64
        np.testing.assert_array_equal(feeds["b"], b)

    def test_batch_take(self):
        batch = Batch({"x": self.x}, self.y)
        for chosen in (np.array([1, 5]), np.arange(10) % 4 == 1):
            part = batch.take(chosen)
            np.testing.assert_array_equal(part.feeds["x"], self.x[chosen])
            np.testing.assert_array_equal(part.labels, self.y[chosen])
        assert Batch({"x": self.x}).take(np.array([2])).labels is None


class TestIterables:
    x, y = _images(), np.arange(10)

    def test_batches_stay_as_they_are(self):
        for items in (
            [self.x[:3], self.x[3:]],
            [{"image": self.x[:3]}, {"x": self.x[3:]}],
            [(self.x[:3], self.y[:3]), [self.x[3:], self.y[3:]]],
        ):
            feeds, labels, sizes = _collect(items, batch_size=1)
            np.testing.assert_array_equal(feeds["image"], self.x)
            assert sizes == [3, 7]
            assert (labels is None) == (not isinstance(items[0], tuple))

    def test_empty_batches_are_skipped(self):
        assert _collect([self.x[:0], self.x, self.x[:0]])[2] == [10]

    def test_what_can_be_repeated(self):
        batches = [self.x[:3], self.x[3:]]
        for source, repeatable, size in (
            (self.x, True, 10),
            (batches, True, None),
            (iter(batches), False, None),
            ((batch for batch in batches), False, None),
        ):
            dataset = Dataset(source, [IMAGE])
            assert dataset.is_repeatable is repeatable
            assert dataset.size == size
            assert sum(map(len, dataset)) == 10
            if repeatable:
                assert sum(map(len, dataset)) == 10

    @pytest.mark.parametrize("labelled", [False, True])
    def test_a_torch_dataloader(self, labelled):
        torch = pytest.importorskip("torch")
        tensors = [torch.from_numpy(self.x), *([torch.from_numpy(self.y)] if labelled else [])]
        data = torch.utils.data.TensorDataset(*tensors) if labelled else tensors[0]
        feeds, labels, sizes = _collect(torch.utils.data.DataLoader(data, batch_size=6))
        np.testing.assert_array_equal(feeds["image"], self.x)
        assert sizes == [6, 4]
        if labelled:
            np.testing.assert_array_equal(labels, self.y)

    def test_torch_tensors(self):
        torch = pytest.importorskip("torch")
        x = torch.from_numpy(self.x).requires_grad_()
        feeds, labels, _ = _collect((x, torch.from_numpy(self.y)))
        np.testing.assert_array_equal(feeds["image"], self.x)
        np.testing.assert_array_equal(labels, self.y)


class TestFiles:
    x, y = _images(), np.arange(10) % 3

    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    @pytest.mark.parametrize("name", ["x", "image"])
    def test_npz(self, tmp_path, save, name):
        save(tmp_path / "data.npz", **{name: self.x, "y": self.y})
        for path in (tmp_path / "data.npz", str(tmp_path / "data.npz")):
            feeds, labels, sizes = _collect(path)
            np.testing.assert_array_equal(feeds["image"], self.x)
            np.testing.assert_array_equal(labels, self.y)
            assert sizes == [4, 4, 2]
        assert Dataset(tmp_path / "data.npz", [IMAGE]).size == 10

    def test_npz_without_names(self, tmp_path):
        np.savez(tmp_path / "data.npz", self.x)
        np.testing.assert_array_equal(_collect(tmp_path / "data.npz")[0]["image"], self.x)

    def test_npz_for_several_inputs(self, tmp_path):
        a, b = np.ones((5, 2), np.float32), np.arange(15).reshape(5, 3)
        np.savez(tmp_path / "data.npz", a=a, b=b, y=self.y[:5])
        feeds, labels, _ = _collect(tmp_path / "data.npz", TWO)
        np.testing.assert_array_equal(feeds["b"], b)
        np.testing.assert_array_equal(labels, self.y[:5])

    def test_npy(self, tmp_path):
        np.save(tmp_path / "data.npy", self.x)
        feeds, labels, _ = _collect(tmp_path / "data.npy")
        np.testing.assert_array_equal(feeds["image"], self.x)
        assert labels is None

    @pytest.mark.parametrize("name", ["no.npz", "no/folder", "a" * 5000, "nul\0byte"])
    def test_no_such_file(self, tmp_path, name):
        _assert_refused(f"{tmp_path}/{name}", "no such file or folder; give .npz, .npy or a folder")

    @pytest.mark.parametrize(
        "content",
        [b"", b"text", b"PK\x03\x04", b"\x93NUMPY", b"\x80\x04K\x01.", pickle.dumps({"x": 1})],
    )
    def test_not_such_a_file(self, tmp_path, content):
        for name in ("data.npz", "data.npy"):
            (tmp_path / name).write_bytes(content)
            _assert_refused(tmp_path / name, name, "is not a readable .npz or .npy file")

    def test_objects_are_not_unpickled(self, tmp_path):
        class Trap:
            def __reduce__(self):
                return pytest.fail, ("unpickled",)

        array = np.array([Trap()], object)
        np.save(tmp_path / "data.npy", array, allow_pickle=True)
        np.savez(tmp_path / "data.npz", x=array)
        for name in ("data.npy", "data.npz"):
            _assert_refused(tmp_path / name, "is not a readable")

    def test_a_header_that_claims_too_much(self, tmp_path):
        header = io.BytesIO()
        claim = {"descr": "<f4", "fortran_order": False, "shape": (2**55, 1, 4, 6)}
        np.lib.format.write_array_header_1_0(header, claim)
        (tmp_path / "data.npy").write_bytes(header.getvalue())
        _assert_refused(tmp_path / "data.npy", "is not a readable")

    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    def test_any_damage(self, tmp_path, save):
        """Cut off or overwritten anywhere: the same data or an error of ours, never a traceback."""
        path = tmp_path / "data.npz"
        save(path, x=self.x, y=self.y)
        whole = path.read_bytes()
        random = np.random.default_rng(0)
        refused = 0
        for position in np.linspace(0, len(whole) - 1, 60).astype(int):
            wrong = whole[:position] + random.bytes(3) + whole[position + 3 :]
            for damaged in (whole[:position], wrong):
                path.write_bytes(damaged)
                try:
                    feeds = _collect(path)[0]
                except DataError:
                    refused += 1
                else:
                    assert feeds["image"].shape == self.x.shape
        assert refused > 90


class TestRefusals:
    x = _images()

    @pytest.mark.parametrize(
        "shape", [(10, 4, 6), (10, 3, 4, 6), (10, 1, 6, 4), (10, 24), (10,), ()]
    )
    def test_wrong_shape(self, shape):
        wanted = f"has the shape {list(shape)}, but the model takes ['any', 1, 4, 6]"
        _assert_refused(np.zeros(shape, np.float32), "array for input 'image'", wanted)

    @pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.bool_, np.complex64, "U3", "M8[s]"])
    def test_wrong_type(self, dtype):
        array = np.zeros((2, 1, 4, 6), dtype)
        _assert_refused(
            array, f"has the type {array.dtype}, but the model takes float32", "x / 255"
        )

    def test_integers_that_the_model_does_not_know(self):
        spec = InputSpec("x", (None, 1), np.dtype(np.uint8))
        _assert_refused(np.array([[300]]), "input 'x' holds numbers that uint8", specs=[spec])
        _assert_refused(np.array([[-1]]), "input 'x' holds numbers that uint8", specs=[spec])

    def test_wrong_name(self):
        _assert_refused(
            {"picture": self.x, "other": self.x},
            "has no array for the model's input 'image' (found: other, picture)",
        )
        _assert_refused({}, "(found: none)")

    def test_an_array_for_a_model_of_several_inputs(self):
        _assert_refused(self.x, "the model has 2 inputs (a, b); give a mapping", specs=TWO)
        _assert_refused({"x": self.x}, "no array for the model's input 'a'", specs=TWO)

    @pytest.mark.parametrize(
        "source", [x[:0], {"image": x[:0]}, (x[:0], np.zeros(0, int)), [], iter([]), [x[:0]]]
    )
    def test_empty(self, source):
        _assert_refused(source, "holds no samples; give at least one")

    @pytest.mark.parametrize(
        ("value", "kind"), [(np.nan, "NaN"), (np.inf, "inf"), (-np.inf, "inf")]
    )
    def test_not_finite(self, value, kind):
        x = self.x.copy()
        x[7, 0, 2, 2] = value
        for source in (x, [self.x, x], {"image": x}):
            _assert_refused(source, f"input 'image' holds {kind}", "remove or repair these samples")

    def test_numbers_beyond_the_type_of_the_model(self):
        _assert_refused(np.full((1, 1, 4, 6), 1e300), "holds infinity")

    def test_labels_of_another_length(self):
        _assert_refused((self.x, np.zeros(9, int)), "differ in the number of samples (9, 10)")
        _assert_refused([(self.x, np.zeros(9, int))], "differ in the number of samples (9, 10)")
        _assert_refused({"x": self.x, "y": np.zeros((10, 3))}, "(10, 30); give one label for each")

    def test_inputs_of_different_lengths(self):
        source = {"a": np.ones((5, 2), np.float32), "b": np.ones((4, 3), int)}
        _assert_refused(source, "differ in the number of samples (4, 5)", specs=TWO)

    @pytest.mark.parametrize("source", [None, 3, 1.5, object()])
    def test_not_data(self, source):
        _assert_refused(source, f"data of type {type(source).__name__} cannot be read; give a path")

    @pytest.mark.parametrize(
        "item", [None, object(), "text", [1, [2, 3]], (x, x, x[:3]), {"image": [[1], [2, 3]]}]
    )
    def test_not_a_batch(self, item):
        _assert_refused([item])

    def test_an_exception_of_the_users_own_passes(self):
        def batches():
            yield self.x
            raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            list(Dataset(batches(), [IMAGE]))

    @pytest.mark.parametrize("batch_size", [0, -3, 1.5, "4", None])
    def test_batch_size(self, batch_size):
        with pytest.raises(OptionError, match="batch size must be a whole number of at least 1"):
            Dataset(self.x, [IMAGE], batch_size)


def _save(path, pixels, **options):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return pixels


def _pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


class TestImageFolder:
    def test_grey(self, tmp_path):
        pixels = [_save(tmp_path / f"{i}.png", _pixels(4, 6, seed=i)) for i in range(3)]
        feeds, labels, sizes = _collect(tmp_path, batch_size=2)
        expected = np.stack(pixels)[:, None].astype(np.float32) / np.float32(255)
        np.testing.assert_allclose(feeds["image"], expected, rtol=1e-7)
        assert feeds["image"].dtype == np.float32
        assert labels is None
        assert sizes == [2, 1]
        assert Dataset(tmp_path, [IMAGE]).size == 3

    def test_colour_with_mean_and_std(self, tmp_path):
        pixels = _save(tmp_path / "a.png", _pixels(4, 6, 3))
        mean, std = (0.5, 0.4, 0.3), (0.25, 0.2, 0.1)
        preprocessing = ImagePreprocessing(mean=mean, std=std)
        feeds = _collect(tmp_path, [COLOUR], preprocessing=preprocessing)[0]
        expected = ((pixels / 255 - mean) / std).transpose(2, 0, 1)[None]
        np.testing.assert_allclose(feeds["image"], expected, rtol=1e-5, atol=1e-6)

    def test_one_mean_for_all_channels(self, tmp_path):
        pixels = _save(tmp_path / "a.png", _pixels(4, 6, 3))
        preprocessing = ImagePreprocessing(mean=(0.5,), std=(0.5,))
        feeds = _collect(tmp_path, [COLOUR], preprocessing=preprocessing)[0]
        expected = (pixels.transpose(2, 0, 1)[None] / 255 - 0.5) / 0.5
        np.testing.assert_allclose(feeds["image"], expected, rtol=1e-5, atol=1e-6)

    def test_grey_and_colour_become_what_the_model_takes(self, tmp_path):
        grey = _save(tmp_path / "a.png", _pixels(4, 6))
        colour = Image.fromarray(_pixels(4, 6, 3, seed=1))
        colour.save(tmp_path / "b.png")
        as_colour = _collect(tmp_path, [COLOUR])[0]["image"]
        np.testing.assert_allclose(as_colour[0], np.stack([grey] * 3) / 255, rtol=1e-6)
        as_grey = _collect(tmp_path)[0]["image"]
        np.testing.assert_allclose(as_grey[1, 0], np.asarray(colour.convert("L")) / 255, rtol=1e-6)

    def test_class_folders(self, tmp_path):
        for name in ("dog", "ant", "cat"):
            for index in range(2):
                level = ord(name[0]) + index
                _save(tmp_path / name / f"{index}.png", np.full((4, 6), level, np.uint8))
        (tmp_path / "cat" / "notes.txt").write_text("not an image")
        feeds, labels, _ = _collect(tmp_path, batch_size=4)
        levels = np.round(feeds["image"][:, 0, 0, 0] * 255)
        np.testing.assert_array_equal(levels, [97, 98, 99, 100, 100, 101])  # a, c, d
        np.testing.assert_array_equal(labels, [0, 0, 1, 1, 2, 2])

    @pytest.mark.parametrize("suffix", ["png", "PNG", "bmp", "jpg", "jpeg", "gif", "webp", "tif"])
    def test_formats(self, tmp_path, suffix):
        _save(tmp_path / f"a.{suffix}", np.full((4, 6), 51, np.uint8))
        image = _collect(tmp_path)[0]["image"]
        np.testing.assert_allclose(image, 0.2, atol=0.01)  # some compress with loss

    def test_resized_to_the_models_size(self, tmp_path):
        pixels = _pixels(9, 11)
        _save(tmp_path / "a.png", pixels)
        resized = Image.fromarray(pixels).resize((6, 4), Image.Resampling.BILINEAR)
        image = _collect(tmp_path)[0]["image"]
        np.testing.assert_allclose(image[0, 0], np.asarray(resized) / 255, rtol=1e-6)

    def test_a_size_for_a_model_of_any(self, tmp_path):
        _save(tmp_path / "a.png", _pixels(9, 11))
        spec = InputSpec("image", (None, 1, None, None), np.dtype(np.float32))
        preprocessing = ImagePreprocessing(size=(5, 7))
        assert _collect(tmp_path, [spec], preprocessing=preprocessing)[0]["image"].shape == (
            1,
            1,
            5,
            7,
        )
        _assert_refused(tmp_path, "which size to resize to (--size H,W)", specs=[spec])
        _assert_refused(tmp_path, "has the shape [1, 1, 5, 7]", preprocessing=preprocessing)

    @pytest.mark.parametrize("names", [[], ["notes.txt"], ["class/notes.txt"]])
    def test_without_images(self, tmp_path, names):
        for name in names:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text("not an image")
        _assert_refused(tmp_path, str(tmp_path), "holds no images (", ".png")

    @pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "webp", "tif"])
    def test_any_damage(self, tmp_path, suffix):
        path = tmp_path / f"a.{suffix}"
        _save(path, _pixels(40, 60, 3))
        whole = path.read_bytes()
        for length in np.linspace(0, len(whole) * 0.7, 20).astype(int):
            path.write_bytes(whole[:length])
            _assert_refused(tmp_path, f"a.{suffix}: is not a readable image", specs=[COLOUR])

    @pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
    def test_more_than_8_bits(self, tmp_path, dtype):
        _save(tmp_path / "a.tif", np.full((4, 6), 1000, dtype))
        _assert_refused(tmp_path, "a.tif: has more than 8 bits per channel")

    @pytest.mark.parametrize("shape", [(None, 24), (None, 2, 4, 6), (None, 4, 6, 3), (None,)])
    def test_a_model_that_takes_no_images(self, tmp_path, shape):
        _save(tmp_path / "a.png", _pixels(4, 6))
        spec = InputSpec("x", shape, np.dtype(np.float32))
        _assert_refused(
            tmp_path, "a folder of images needs a model input [N, 1 or 3, H, W]", specs=[spec]
        )

    def test_a_model_that_takes_integers(self, tmp_path):
        _save(tmp_path / "a.png", _pixels(4, 6))
        spec = InputSpec("x", (None, 1, 4, 6), np.dtype(np.uint8))
        _assert_refused(tmp_path, "but the model takes uint8; give an .npz", specs=[spec])

    def test_a_model_of_several_inputs(self, tmp_path):
        _save(tmp_path / "a.png", _pixels(4, 6))
        _assert_refused(tmp_path, "the model has 2 inputs (a, b)", specs=TWO)

    @pytest.mark.parametrize("options", [{"std": (0.0,)}, {"std": (1.0, 0.0, 1.0)}])
    def test_std_of_zero(self, options):
        with pytest.raises(OptionError, match="std must not be 0"):
            ImagePreprocessing(**options)

    @pytest.mark.parametrize("size", [(0, 5), (5, -1), (5,), (1, 2, 3)])
    def test_size(self, size):
        with pytest.raises(OptionError, match="size must be a height and a width"):
            ImagePreprocessing(size=size)

    @pytest.mark.parametrize("options", [{"mean": (0.1, 0.2)}, {"std": (1.0,) * 4}])
    def test_as_many_means_as_channels(self, tmp_path, options):
        _save(tmp_path / "a.png", _pixels(4, 6, 3))
        with pytest.raises(OptionError, match="mean and std need 1 or 3 numbers"):
            _collect(tmp_path, [COLOUR], preprocessing=ImagePreprocessing(**options))
