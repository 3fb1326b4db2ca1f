import os
import stat
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from nets import Dyadic, Gaussian, Net, cnn
from onnx_snn.errors import ModelError, OutputError
from onnx_snn.model_io import atomic_path, check_writable, model_hash, read_model, write_model
from wide_net import LIMIT, wide_net

WHOLE = cnn(Gaussian()).SerializeToString()


def _bytes(model):
    return model.SerializeToString(deterministic=True)


def _assert_refused(source, *parts):
    with pytest.raises(ModelError) as caught:
        read_model(source)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


class TestRead:
    def test_every_kind_of_source(self, tmp_path):
        model = cnn(Gaussian())
        path = tmp_path / "model.onnx"
        path.write_bytes(WHOLE)
        for source in (path, str(path), WHOLE):
            assert _bytes(read_model(source)) == _bytes(model)
        assert read_model(model) is model

    def test_external_data(self, tmp_path, monkeypatch):
        model = cnn(Gaussian())
        for folder, here in ((tmp_path / "a", tmp_path), (tmp_path / "b", tmp_path / "b")):
            folder.mkdir()
            copy = onnx.ModelProto.FromString(WHOLE)
            onnx.save(
                copy,
                folder / "model.onnx",
                save_as_external_data=True,
                location="weights.bin",
                size_threshold=0,
            )
            assert (folder / "model.onnx").stat().st_size < len(WHOLE) / 2
            monkeypatch.chdir(here)
            read = read_model(os.path.relpath(folder / "model.onnx"))
            for ours, theirs in zip(read.graph.initializer, model.graph.initializer, strict=True):
                np.testing.assert_array_equal(
                    numpy_helper.to_array(ours), numpy_helper.to_array(theirs)
                )


class TestNotAModel:
    @pytest.mark.parametrize("name", ["no.onnx", "no/folder.onnx", "a" * 5000, "nul\0byte"])
    def test_no_such_file(self, tmp_path, name):
        _assert_refused(f"{tmp_path}/{name}", "no such file; give the path of an .onnx file")

    def test_a_folder(self, tmp_path):
        _assert_refused(tmp_path, f"{tmp_path}: is a folder")

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "is empty (0 bytes)"),
            (b"hello, world\n", "is not an ONNX model"),
            (b"\x00" * 100, "is not an ONNX model"),
            (b"\x80\x04K\x01.", "is not an ONNX model"),
            (b"PK\x03\x04" + b"\x00" * 60, "is not an ONNX model"),
            (b"ir_version: 8", "is not an ONNX model"),
            (onnx.ModelProto(ir_version=8).SerializeToString(), "no graph or no opset"),
        ],
    )
    def test_another_file(self, tmp_path, content, reason):
        path = tmp_path / "model.onnx"
        path.write_bytes(content)
        _assert_refused(path, str(path), reason)
        _assert_refused(content, "the given bytes", reason)

    def test_cut_off_anywhere(self):
        """A file cut off is refused, if anything is missing that the format notices."""
        for length in np.linspace(0, len(WHOLE) - 1, 150).astype(int):
            _assert_refused(WHOLE[:length])

    @settings(deadline=None, max_examples=150)
    @given(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=8))
    def test_overwritten_anywhere(self, position, garbage):
        """What can still be read is valid; all else is refused in one line."""
        damaged = WHOLE[:position] + garbage + WHOLE[position + len(garbage) :]
        try:
            model = read_model(damaged)
        except ModelError as error:
            message = str(error)
        else:
            message = ""
            onnx.checker.check_model(model)
        assert "\n" not in message


class TestInvalid:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
    @pytest.mark.parametrize(
        ("value", "kind"), [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")]
    )
    def test_weights_that_are_not_finite(self, dtype, value, kind):
        net = Net({"x": ["N", 3]}, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
        weight = np.ones((3, 4), dtype)
        weight[2, 1] = value
        model = net.model(net.matmul("x", weight))
        _assert_refused(model, "the given model: initializer 'c0' holds", kind, "repair or retrain")

    def test_integers_are_let_alone(self):
        net = Net({"x": ["N", 6]})
        model = net.model(net.op("Reshape", "x", net.constant([0, 2, 3], "int64")))
        assert read_model(model) is model

    @pytest.mark.parametrize("raw", [b"", b"\x00" * 7, b"\x00" * 400])
    def test_weights_of_another_size_than_they_claim(self, raw):
        model = cnn(Gaussian())
        model.graph.initializer[0].raw_data = raw
        _assert_refused(model, "initializer 'c0' is damaged", "export or copy the model again")

    @pytest.mark.parametrize("kind", [0, 53, TensorProto.DOUBLE, TensorProto.INT64])
    def test_weights_of_another_type_than_they_claim(self, kind):
        model = cnn(Gaussian())
        model.graph.initializer[0].data_type = kind
        _assert_refused(model, "initializer 'c0' is damaged")

    @pytest.mark.parametrize("name", [b"picture", b"MatMul_0", b"matmul0", b"c0", b"score"])
    def test_names_that_are_not_text(self, name):
        net = Net({"picture": ["N", 3]})
        content = net.model({"score": net.matmul("picture", np.ones((3, 4), np.float32))})
        damaged = content.SerializeToString().replace(name, b"\xff" * len(name))
        _assert_refused(damaged, "is damaged (a name in it is not UTF-8)")

    def test_against_the_specification(self):
        model = cnn(Gaussian())
        model.graph.node[0].input[0] = "nobody"
        _assert_refused(model, "breaks the ONNX specification", "nobody")
        model = cnn(Gaussian())
        model.graph.node[0].op_type = "Nonesuch"
        _assert_refused(model, "breaks the ONNX specification", "Nonesuch")

    def test_external_data_that_is_gone(self, tmp_path):
        model = onnx.ModelProto.FromString(WHOLE)
        onnx.save(
            model,
            tmp_path / "model.onnx",
            save_as_external_data=True,
            location="weights.bin",
            size_threshold=0,
        )
        content = (tmp_path / "model.onnx").read_bytes()
        _assert_refused(content, "the given bytes: initializer 'c0'")
        whole = (tmp_path / "weights.bin").read_bytes()
        (tmp_path / "weights.bin").write_bytes(whole[: len(whole) // 2])
        _assert_refused(tmp_path / "model.onnx", "model.onnx")
        (tmp_path / "weights.bin").unlink()
        _assert_refused(tmp_path / "model.onnx", "data cannot be loaded", "beside the model")

    def test_external_data_outside_of_the_folder(self, tmp_path):
        (tmp_path / "secret.bin").write_bytes(b"\x00" * 288)
        model = onnx.ModelProto.FromString(WHOLE)
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="../secret.bin")
        (tmp_path / "models").mkdir()
        (tmp_path / "models" / "model.onnx").write_bytes(model.SerializeToString())
        _assert_refused(tmp_path / "models" / "model.onnx", "external data cannot be loaded")


class TestAtomicPath:
    def test_all_at_once(self, tmp_path):
        target = tmp_path / "out.bin"
        with atomic_path(target) as temporary:
            temporary.write_bytes(b"half")
            assert not target.exists()
            assert temporary.parent == tmp_path  # a rename across file systems would copy
            assert temporary.suffix == ".bin"  # libraries tell the format by it
        assert target.read_bytes() == b"half"
        assert list(tmp_path.iterdir()) == [target]

    @pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt])
    def test_a_failure_leaves_what_was_there(self, tmp_path, error):
        target = tmp_path / "out.bin"
        target.write_bytes(b"old")
        with pytest.raises((error, OutputError)):
            _fail_in(target, error)
        assert target.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [target]

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
    def test_a_failure_leaves_nothing(self, tmp_path, error):
        with pytest.raises(error):
            _fail_in(tmp_path / "out.bin", error)
        assert not list(tmp_path.iterdir())

    def test_a_full_disk_is_an_output_error(self, tmp_path):
        with (
            pytest.raises(OutputError, match=r"out\.bin: cannot be written \(No space left"),
            atomic_path(tmp_path / "out.bin"),
        ):
            raise OSError(28, "No space left on device")
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("write", [atomic_path, check_writable])
    @pytest.mark.parametrize("name", ["no/out.bin", "file/out.bin", "file/no/out.bin", "a" * 300])
    def test_a_place_that_cannot_be_written_to(self, tmp_path, name, write):
        (tmp_path / "file").write_bytes(b"a file")
        with pytest.raises(OutputError, match="cannot be written") as caught:
            _enter(write, tmp_path / name)
        assert "\n" not in str(caught.value)
        assert [path.name for path in tmp_path.iterdir()] == ["file"]

    @pytest.mark.parametrize("write", [atomic_path, check_writable])
    def test_a_folder(self, tmp_path, write):
        with pytest.raises(OutputError, match="is a folder; name a file in it"):
            _enter(write, tmp_path)
        assert tmp_path.is_dir()

    def test_checking_changes_nothing(self, tmp_path):
        (tmp_path / "old.bin").write_bytes(b"old")
        check_writable(tmp_path / "old.bin")
        check_writable(tmp_path / "new.bin")
        assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]

    @pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
    @pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
    def test_permissions_follow_the_umask(self, tmp_path, mask):
        before = os.umask(mask)
        try:
            with atomic_path(tmp_path / "out.bin") as temporary:
                assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
        finally:
            after = os.umask(before)
        assert after == mask
        assert stat.S_IMODE((tmp_path / "out.bin").stat().st_mode) == 0o666 & ~mask

    def test_relative_paths(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with atomic_path("out.bin") as temporary:
            temporary.write_bytes(b"new")
        assert (tmp_path / "out.bin").read_bytes() == b"new"


def _fail_in(path, error):
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        raise error


def _enter(write, path):
    context = write(path)
    if context is not None:
        with context:
            pytest.fail("the block is not entered")


class TestWrite:
    def test_reads_back(self, tmp_path):
        model = cnn(Gaussian())
        write_model(model, tmp_path / "model.onnx")
        assert _bytes(onnx.load(tmp_path / "model.onnx")) == _bytes(model)

    def test_same_model_same_bytes(self, tmp_path):
        for index in range(2):
            write_model(cnn(Dyadic()), tmp_path / f"{index}.onnx")
        assert (tmp_path / "0.onnx").read_bytes() == (tmp_path / "1.onnx").read_bytes()

    def test_hash(self):
        model = cnn(Gaussian(0))
        assert model_hash(model) == model_hash(onnx.ModelProto.FromString(WHOLE))
        assert model_hash(model) != model_hash(cnn(Gaussian(1)))
        assert len(bytes.fromhex(model_hash(model))) == 32

    def test_the_hash_does_not_depend_on_where_weights_are_kept(self, tmp_path):
        model = wide_net()
        onnx.save(
            wide_net(),
            tmp_path / "model.onnx",
            save_as_external_data=True,
            size_threshold=0,
        )
        assert model_hash(read_model(tmp_path / "model.onnx")) == model_hash(model)

    @pytest.mark.parametrize("part", ["weight", "name", "attribute"])
    def test_the_hash_tells_every_change(self, part):
        model = wide_net()
        tensor = max(model.graph.initializer, key=lambda t: len(t.raw_data))
        if part == "weight":
            tensor.raw_data = tensor.raw_data[:-1] + bytes([tensor.raw_data[-1] ^ 1])
        elif part == "name":
            model.graph.name += "_"
        else:
            next(n for n in model.graph.node if n.op_type == "Gemm").attribute.add(name="new")
        assert model_hash(model) != model_hash(wide_net())


class TestWriteLarge:
    """What protobuf cannot serialise; its limit is lowered to a few kilobytes."""

    @pytest.fixture(autouse=True)
    def _limit(self, monkeypatch):
        monkeypatch.setattr("onnx_snn.external_data.LARGEST_MESSAGE", LIMIT)

    def test_reads_back(self, tmp_path):
        model = wide_net()
        write_model(model, tmp_path / "model.onnx")
        assert (tmp_path / "model.onnx").stat().st_size < LIMIT < wide_net().ByteSize()
        assert model_hash(read_model(tmp_path / "model.onnx")) == model_hash(model)
        assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "model.onnx.data"}

    def test_same_model_same_bytes(self, tmp_path):
        for folder in ("a", "b"):
            (tmp_path / folder).mkdir()
            write_model(wide_net(), tmp_path / folder / "model.onnx")
        for name in ("model.onnx", "model.onnx.data"):
            assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()

    def test_the_pair_may_be_moved_together(self, tmp_path):
        (tmp_path / "a").mkdir()
        write_model(wide_net(), tmp_path / "a" / "model.onnx")
        (tmp_path / "a").rename(tmp_path / "b")
        read_model(tmp_path / "b" / "model.onnx")

    def test_an_older_pair_is_replaced(self, tmp_path):
        for seed in range(2):
            write_model(wide_net(seed), tmp_path / "model.onnx")
        assert model_hash(read_model(tmp_path / "model.onnx")) == model_hash(wide_net(1))
        assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "model.onnx.data"}

    @pytest.mark.parametrize("older", [True, False])
    @pytest.mark.parametrize("failing", ["the data", "renaming the data", "renaming the model"])
    def test_a_failure_leaves_what_was_there(self, tmp_path, monkeypatch, older, failing):
        if older:
            write_model(wide_net(0), tmp_path / "model.onnx")
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        rename, write = Path.replace, Path.write_bytes

        def replace(self, target):
            name = {"renaming the data": "model.onnx.data", "renaming the model": "model.onnx"}
            if Path(target).name == name.get(failing) and ".old" not in self.name:
                raise OSError(13, "Permission denied")
            return rename(self, target)

        def write_bytes(self, content):
            if failing == "the data":
                raise OSError(28, "No space left on device")
            return write(self, content)

        monkeypatch.setattr(Path, "replace", replace)
        monkeypatch.setattr(Path, "write_bytes", write_bytes)
        with pytest.raises(OutputError, match="cannot be written"):
            write_model(wide_net(1), tmp_path / "model.onnx")
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    def test_a_folder_in_the_place_of_the_data(self, tmp_path):
        (tmp_path / "model.onnx.data").mkdir()
        with pytest.raises(OutputError, match=r"model\.onnx\.data: is a folder"):
            write_model(wide_net(), tmp_path / "model.onnx")
        assert [path.name for path in tmp_path.iterdir()] == ["model.onnx.data"]


@pytest.mark.skipif(os.name == "nt", reason="files with holes")
def test_a_file_that_protobuf_cannot_read(tmp_path):
    (tmp_path / "model.onnx").touch()
    os.truncate(tmp_path / "model.onnx", 2**31)
    _assert_refused(tmp_path / "model.onnx", "larger than the 2 GiB", "external data")
