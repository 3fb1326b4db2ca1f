import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from nets import Dyadic, Gaussian, Net, cnn, mlp, residual, run
from onnx_snn import convert
from onnx_snn.activation_stats import percentile_key
from onnx_snn.calibrate import calibrate
from onnx_snn.data import Batch, Dataset, input_specs
from onnx_snn.errors import (
    CalibrationError,
    DataError,
    OptionError,
    RuntimeUnavailableError,
)
from onnx_snn.holdout import HoldOut
from onnx_snn.load import load_graph
from onnx_snn.model_io import read_model
from onnx_snn.passes.fold_batch_normalization import fold_batch_normalization
from onnx_snn.spiking_activations import activation_bound, spiking_nodes
from onnx_snn.thresholds import Granularity, Mode, gains_by_channels, thresholds
from simulator import expose, relus

# The histogram rounds values to 12 significant bits; the promise to users is 0.1 %.
ROUNDING = 2.0**-12 * (1 + 1e-6)
PERCENTILES = (50, 90, 99, 99.9, 99.99, 100)
NETS = [(mlp, (7,)), (cnn, (2, 8, 8)), (residual, (3, 6, 6))]


@pytest.fixture(params=["native", "numpy"])
def probe(request, monkeypatch):
    """Both ways to look at activations."""

    def missing():
        raise RuntimeUnavailableError("not there")

    if request.param == "numpy":
        monkeypatch.setattr("onnx_snn.probe.get_library_path", missing)
    return request.param


def _inputs(shape, samples=200, seed=0):
    return Dyadic(seed)(samples, *shape, step=1 / 8)


def _calibrate(model, source, batch_size=64, **options):
    graph = load_graph(model)
    fold_batch_normalization(graph)
    return calibrate(graph, Dataset(source, input_specs(model), batch_size), **options)


def _activations(model, feeds):
    """Of the original model in onnxruntime without optimisations, by the Relu's name."""
    names = relus(model)
    values = run(expose(model, names.values()), feeds)[-len(names) :]
    return dict(zip(names, values, strict=True))


def _by_node(stats):
    return {entry.node: entry for entry in stats.tensors.values()}


def _channel_axes(values):
    return tuple(axis for axis in range(values.ndim) if axis != 1)


def _assert_statistics(stats, activations, percentiles, exact=True):
    entries = _by_node(stats)
    assert entries.keys() == activations.keys()
    for name, values in activations.items():
        entry, axes = entries[name], _channel_axes(values)
        sums = 0 if exact else 1e-6  # where onnxruntime may add up in another order
        np.testing.assert_allclose(entry.max, values.max(), rtol=sums)
        np.testing.assert_allclose(entry.channel_max, values.max(axes), rtol=sums)
        precise = values.astype(np.float64)
        for percentile in percentiles:
            key, q = percentile_key(percentile), percentile / 100
            found = [*entry.channel_quantiles[key], entry.quantiles[key]]
            expected = [*np.quantile(precise, q, axis=axes), np.quantile(precise, q)]
            np.testing.assert_allclose(found, expected, rtol=ROUNDING + sums, atol=0)


@pytest.mark.parametrize(("build", "shape"), NETS)
def test_statistics_are_numpys_of_the_original_activations(build, shape, probe):
    model, x = build(Dyadic(1)), _inputs(shape)
    stats = _calibrate(model, x, percentiles=PERCENTILES)
    assert stats.samples == 200
    # The sums in the residual net have more digits than a float32.
    _assert_statistics(
        stats, _activations(model, {"x": x}), PERCENTILES, exact=build is not residual
    )


def test_statistics_of_real_data(mnist_model, mnist_calibration, probe):
    model = read_model(mnist_model)
    with np.load(mnist_calibration) as data:
        x = data["x"][:300]
    stats = _calibrate(model, x, percentiles=PERCENTILES)
    names = relus(model)
    values = run(expose(model, names.values()), {"image": x})[-len(names) :]
    for entry, activations in zip(stats.tensors.values(), values, strict=True):
        # Folding and onnxruntime's optimisations add up in another order.
        assert entry.max == pytest.approx(activations.max(), rel=1e-5)
        for percentile in PERCENTILES:
            key, q = percentile_key(percentile), percentile / 100
            assert entry.quantiles[key] == pytest.approx(np.quantile(activations, q), rel=1e-3)
            expected = np.quantile(activations, q, axis=(0, 2, 3))
            np.testing.assert_allclose(entry.channel_quantiles[key], expected, rtol=1e-3, atol=1e-5)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**16), st.integers(1, 200), st.sampled_from(PERCENTILES))
def test_neither_batch_size_nor_order_matter(seed, batch_size, percentile):
    model, x = cnn(Dyadic(2)), _inputs((2, 8, 8))
    order = np.random.default_rng(seed).permutation(len(x))
    first = _calibrate(model, x, percentiles=(percentile,))
    assert _calibrate(model, x[order], batch_size, percentiles=(percentile,)) == first


def test_without_percentiles_the_maximum_alone(probe):
    model, x = cnn(Dyadic()), _inputs((2, 8, 8))
    stats = _calibrate(model, x, 13, percentiles=())
    _assert_statistics(stats, _activations(model, {"x": x}), ())
    assert all(not entry.quantiles for entry in stats.tensors.values())


def test_the_graph_is_not_changed():
    graph = load_graph(cnn(Dyadic()))
    nodes, outputs = len(graph.nodes), list(graph.outputs)
    model = cnn(Dyadic())
    calibrate(graph, Dataset(_inputs((2, 8, 8)), input_specs(model)))
    assert (len(graph.nodes), graph.outputs) == (nodes, outputs)


class TestShapes:
    """Axis 1 is the channels, whatever the rank; without it there is the layer alone."""

    @pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 4), (2, 2, 3, 4)])
    def test_any_rank(self, shape, probe):
        net = Net({"x": ["N", *shape]})
        model, x = net.model(net.relu("x")), _inputs(shape, 50)
        stats = _calibrate(model, x, 7, percentiles=(90, 99))
        _assert_statistics(stats, {"Relu_0": np.maximum(x, 0)}, (90, 99))

    @pytest.mark.parametrize("shape", [(), (9, 4)])
    def test_no_channels(self, shape, probe):
        net = Net({"x": ["N", *["L"] * len(shape[:1]), *shape[1:]]})
        model, x = net.model(net.relu("x")), _inputs(shape, 50)
        (entry,) = _calibrate(model, x, 7, percentiles=(90,)).tensors.values()
        values = np.maximum(x, 0)
        assert entry.max == values.max()
        assert entry.quantiles["90"] == pytest.approx(np.quantile(values, 0.9), rel=ROUNDING)
        assert entry.channel_max == []
        assert entry.channel_quantiles == {}

    def test_an_axis_that_differs_from_batch_to_batch(self, probe):
        net = Net({"x": ["N", 3, "L"]})
        model = net.model(net.relu("x"))
        batches = [_inputs((3, length), 4, length) for length in (2, 9, 5)]
        (entry,) = _calibrate(model, batches, percentiles=(80,)).tensors.values()
        values = np.maximum(
            np.concatenate([np.moveaxis(b, 1, 2).reshape(-1, 3) for b in batches]), 0
        )
        np.testing.assert_array_equal(entry.channel_max, values.max(0))
        np.testing.assert_allclose(
            entry.channel_quantiles["80"], np.quantile(values, 0.8, axis=0), rtol=ROUNDING
        )


class TestTypes:
    @pytest.mark.parametrize(
        ("elem_type", "dtype"),
        [(TensorProto.FLOAT16, np.float16), (TensorProto.DOUBLE, np.float64)],
    )
    @pytest.mark.parametrize("batch_reduction", ["exact", "ema"])
    def test_half_and_double(self, elem_type, dtype, batch_reduction):
        net = Net({"x": ["N", 3, 5]}, elem_type)
        model = net.model(net.relu("x"))
        x = np.random.default_rng(0).normal(0, 1, (40, 3, 5)).astype(dtype)
        # One batch: the moving average is its first value.
        options = {"percentiles": (90,), "batch_reduction": batch_reduction}
        (entry,) = _calibrate(model, x, **options).tensors.values()
        values = np.maximum(x, 0)
        exact = batch_reduction == "exact"
        assert entry.max == (values.max() if exact else np.float32(values.max()))
        np.testing.assert_array_equal(entry.channel_max, values.max((0, 2)))
        expected = np.quantile(values.astype(np.float64), 0.9)
        assert entry.quantiles["90"] == pytest.approx(expected, rel=ROUNDING)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_float32_data_for_a_float32_model(self, dtype):
        model, x = mlp(Dyadic()), _inputs((7,))
        assert _calibrate(model, x.astype(dtype)) == _calibrate(model, x)


def _shifting(samples):
    """[N, 1]: the values of the first samples are far above those of the rest."""
    random = np.random.default_rng(5)
    x = random.uniform(0, 1, (samples, 1, 20)).astype(np.float32)
    x[:16] *= 1000
    return x


class TestSecondPass:
    """The floor that the first samples suggest hides the quantile of all."""

    @pytest.fixture
    def model(self):
        net = Net({"x": ["N", 1, 20]})
        return net.model(net.relu("x"))

    def test_quantiles_are_right_nevertheless(self, model, probe):
        x = _shifting(4000)
        passes = []
        dataset = Dataset(x, input_specs(model), 16)

        class Counted(HoldOut):
            def __iter__(self):
                passes.append(1)
                return super().__iter__()

        stats = calibrate(load_graph(model), Counted(dataset, 0), percentiles=(99,))
        assert len(passes) == 2
        _assert_statistics(stats, {"Relu_0": x}, (99,))
        assert stats.samples == 4000

    def test_the_order_does_not_matter(self, model):
        x = _shifting(4000)
        assert _calibrate(model, x, percentiles=(99,)) == _calibrate(
            model, x[::-1], percentiles=(99,)
        )

    @pytest.mark.parametrize("wrap", [list, iter, lambda batches: (b for b in batches)])
    def test_only_data_that_can_be_iterated_again(self, model, wrap):
        x = _shifting(40_000)
        source = wrap(np.split(x, 2500))
        if isinstance(source, list):
            _assert_statistics(_calibrate(model, source, percentiles=(99,)), {"Relu_0": x}, (99,))
            return
        with pytest.raises(CalibrationError, match=r"only once; shuffle it, or give a list"):
            _calibrate(model, source, percentiles=(99,))

    def test_one_shot_data_held_out_from_says_the_same(self, model):
        with pytest.raises(CalibrationError, match="iterated only once"):
            convert(model, iter(np.split(_shifting(40_000), 2500)), mode="99%")

    def test_one_shot_data_gets_a_wider_margin(self, model):
        random = np.random.default_rng(5)
        x = random.uniform(0, 1, (4000, 1, 20)).astype(np.float32)
        x[:16:4] *= 1000  # a quarter of the first batch
        stats = _calibrate(model, iter(np.split(x, 250)), percentiles=(99,))
        _assert_statistics(stats, {"Relu_0": x}, (99,))

    def test_the_progress_counts_every_sample_once(self, model):
        seen = []
        _calibrate(model, _shifting(4000), 16, percentiles=(99,), progress=seen.append)
        assert sum(seen) == 4000


class TestSources:
    def test_a_stream_of_batches_of_any_size(self, probe):
        model, x = cnn(Dyadic()), _inputs((2, 8, 8))
        whole = _calibrate(model, x)
        assert _calibrate(model, (x[a:b] for a, b in [(0, 1), (1, 120), (120, 200)])) == whole

    def test_plain_batches(self):
        model, x = cnn(Dyadic()), _inputs((2, 8, 8))
        batches = [Batch({"x": x[:70]}), Batch({"x": x[70:]})]
        assert calibrate(load_graph(model), batches) == _calibrate(model, x)

    def test_a_torch_dataloader(self):
        torch = pytest.importorskip("torch")
        model, x = cnn(Dyadic()), _inputs((2, 8, 8))
        labelled = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.zeros(len(x)))
        loader = torch.utils.data.DataLoader(labelled, batch_size=32, shuffle=True)
        assert _calibrate(model, loader) == _calibrate(model, x)

    def test_several_inputs(self, probe):
        net = Net({"a": ["N", 2], "b": ["N", 2]})
        model = net.model(net.relu(net.op("Sub", "a", "b")))
        a, b = _inputs((2,), 50, 1), _inputs((2,), 50, 2)
        stats = _calibrate(model, {"a": a, "b": b}, 9, percentiles=(90,))
        _assert_statistics(stats, {"Relu_1": np.maximum(a - b, 0)}, (90,))

    def test_no_batches_at_all(self):
        with pytest.raises(DataError, match="holds no samples"):
            calibrate(load_graph(mlp(Dyadic())), [])

    @pytest.mark.parametrize("percentiles", [(99.9,), ()])
    def test_memory_does_not_grow_with_the_data(self, percentiles, probe, monkeypatch):
        monkeypatch.setattr("onnx_snn.tail_histogram._PENDING", 1 << 12)
        model = cnn(Dyadic())
        x = _inputs((2, 8, 8), 500)

        def peak(batches):
            tracemalloc.start()
            _calibrate(model, (x for _ in range(batches)), percentiles=percentiles)
            _, most = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            return most

        peak(1)
        # All activations of a batch together are 560 kB; a generator keeps none of them.
        assert peak(60) < peak(6) + 200_000


class TestNotFinite:
    """Weights and data are finite, and still the activations are not."""

    @pytest.fixture(params=["exact", "ema"])
    def reduction(self, request):
        return request.param

    @staticmethod
    def _model(last):
        net = Net({"x": ["N", 1]})
        y = net.relu(net.gemm("x", np.float32([[1e30, 1]])))
        return net.model(last(net, net.gemm(y, np.float32([[1e30], [0]]))))

    def test_infinite(self, reduction, probe):
        model = self._model(lambda net, y: net.relu(y))
        with pytest.raises(CalibrationError, match=r"Relu node 'Relu_3' are infinite on the calib"):
            _calibrate(model, np.ones((9, 1), np.float32), batch_reduction=reduction)

    @pytest.mark.parametrize("percentiles", [(99.9,), ()])
    def test_nan(self, percentiles, reduction, probe):
        # Infinity minus infinity, in rows that come after many that are in order.
        model = self._model(lambda net, y: net.relu(net.op("Sub", y, y)))
        x = np.zeros((200, 1), np.float32)
        x[150:] = 1
        with pytest.raises(CalibrationError, match=r"Relu node 'Relu_4' are NaN on the calib"):
            _calibrate(model, x, 10, batch_reduction=reduction, percentiles=percentiles)

    def test_a_model_that_overflows_is_not_converted(self):
        model = self._model(lambda net, y: net.relu(y))
        with pytest.raises(CalibrationError, match="infinite"):
            convert(model, np.ones((9, 1), np.float32))


class TestMovingAverage:
    def test_is_computed_batch_by_batch(self):
        model, x = cnn(Gaussian(3)), np.random.default_rng(0).normal(size=(90, 2, 8, 8))
        batches = np.split(x.astype(np.float32), 9)
        stats = _calibrate(model, batches, percentiles=(90,), batch_reduction="ema")
        assert stats.batch_reduction == "ema"
        found = _by_node(stats)
        for name in relus(model):
            each = [_activations(model, {"x": batch})[name] for batch in batches]
            entry = found[name]

            def average(statistic, each=each):
                result = statistic(each[0])
                for values in each[1:]:
                    result = 0.9 * result + 0.1 * statistic(values)
                return result

            # In float32, and of sums in another order.
            assert entry.max == pytest.approx(average(np.max), rel=1e-5)
            quantile = average(lambda values: np.quantile(values, 0.9))
            assert entry.quantiles["90"] == pytest.approx(quantile, rel=1e-4)
            axes = _channel_axes(each[0])
            np.testing.assert_allclose(
                entry.channel_max, average(lambda v, axes=axes: v.max(axes)), rtol=1e-5
            )
            np.testing.assert_allclose(
                entry.channel_quantiles["90"],
                average(lambda v, axes=axes: np.quantile(v, 0.9, axis=axes)),
                rtol=1e-4,
            )

    def test_depends_on_the_order(self):
        model, x = cnn(Dyadic()), _inputs((2, 8, 8))
        x[:100] *= 4
        first = _calibrate(model, x, batch_reduction="ema")
        assert _calibrate(model, x[::-1], batch_reduction="ema") != first

    def test_counts_samples(self):
        seen = []
        stats = _calibrate(
            mlp(Dyadic()), _inputs((7,)), batch_reduction="ema", progress=seen.append
        )
        assert stats.samples == sum(seen) == 200

    def test_of_nothing(self):
        with pytest.raises(DataError, match="no samples"):
            calibrate(load_graph(mlp(Dyadic())), [], batch_reduction="ema")


def _error(a, theta, levels):
    q = theta / levels
    return np.mean((a - q * np.clip(np.floor(a / q + 0.5), 0, levels)) ** 2)


class TestLeastError:
    """Thresholds for the modes mse and auto."""

    @pytest.mark.parametrize("batch_reduction", ["exact", "ema"])
    def test_they_lose_least_of_the_original_activations(self, probe, batch_reduction):
        model, x = cnn(Gaussian(1)), np.random.default_rng(0).normal(size=(200, 2, 8, 8))
        x = x.astype(np.float32)
        stats = _calibrate(model, x, levels=(4, 32), batch_reduction=batch_reduction)
        for name, values in _activations(model, {"x": x}).items():
            entry, channels = _by_node(stats)[name], np.moveaxis(values, 1, 0)
            for levels in (4, 32):
                layer, each = entry.mse[str(levels)], entry.channel_mse[str(levels)]
                for seen, theta in [(values, layer), *zip(channels, each, strict=True)]:
                    a = seen.astype(np.float64)
                    if not a.any():
                        assert theta == 0
                        continue
                    grid = a.max() * np.linspace(0.05, 1, 60)
                    least = min(_error(a, candidate, levels) for candidate in grid)
                    assert _error(a, theta, levels) <= 1.1 * least
                assert layer <= values.max()
                assert np.all(np.array(each) <= values.max(_channel_axes(values)))
            assert entry.values == values.size // values.shape[1]

    def test_without_channels(self, probe):
        net = Net({"x": ["N", "L", 4]})
        model, x = net.model(net.relu("x")), _inputs((9, 4), 50)
        (entry,) = _calibrate(model, x, 7, levels=(8,)).tensors.values()
        assert entry.mse["8"] > 0
        assert (entry.channel_mse, entry.held_out_error) == ({}, {})

    @pytest.mark.parametrize(
        ("elem_type", "dtype"),
        [(TensorProto.FLOAT16, np.float16), (TensorProto.DOUBLE, np.float64)],
    )
    def test_half_and_double(self, elem_type, dtype):
        net = Net({"x": ["N", 3, 5]}, elem_type)
        single = Net({"x": ["N", 3, 5]})
        x = np.random.default_rng(0).normal(0, 1, (40, 3, 5)).astype(dtype)
        (entry,) = _calibrate(net.model(net.relu("x")), x, levels=(8,)).tensors.values()
        (expected,) = _calibrate(
            single.model(single.relu("x")), x.astype(np.float32), levels=(8,)
        ).tensors.values()
        np.testing.assert_allclose(entry.channel_mse["8"], expected.channel_mse["8"], rtol=1e-6)

    def test_an_axis_that_differs_from_batch_to_batch(self, probe):
        net = Net({"x": ["N", 3, "L"]})
        batches = [_inputs((3, length), 4, length) for length in (700, 9, 900)]
        (entry,) = _calibrate(net.model(net.relu("x")), batches, levels=(8,)).tensors.values()
        assert all(0.2 < theta <= 1 for theta in entry.channel_mse["8"])

    def test_dead_channels_have_none(self):
        net = Net({"x": ["N", 2]})
        x = np.float32([[1, -1], [2, -2], [3, 0]])
        (entry,) = _calibrate(net.model(net.relu("x")), x, levels=(4,)).tensors.values()
        assert entry.channel_mse["4"][1] == 0 < entry.channel_mse["4"][0]

    def test_are_the_same_every_time(self, probe):
        model, x = cnn(Gaussian()), _inputs((2, 8, 8))
        first = _calibrate(model, x, levels=(4, 8, 4), ltb=True)
        assert _calibrate(model, x, levels=(8, 4), ltb=True) == first

    def test_the_other_statistics_stay_the_same(self, probe):
        model, x = cnn(Dyadic()), _inputs((2, 8, 8))
        stats, plain = _calibrate(model, x, levels=(4,), ltb=True), _calibrate(model, x)
        for entry, expected in zip(stats.tensors.values(), plain.tensors.values(), strict=True):
            stripped = replace(
                entry, mse={}, channel_mse={}, held_out_error={}, ltb=None, channel_ltb=[]
            )
            assert stripped == expected

    @pytest.mark.parametrize("levels", [0, -1, 1.5, True])
    def test_levels_out_of_range(self, levels):
        with pytest.raises(OptionError, match="levels must be a whole number of at least 1"):
            _calibrate(mlp(Dyadic()), _inputs((7,)), levels=(levels,))


class TestAuto:
    """One λ for each channel where held-out samples show that it is better."""

    @staticmethod
    def _entry(x, levels):
        net = Net({"x": ["N", *x.shape[1:]]})
        (entry,) = _calibrate(net.model(net.relu("x")), x, levels=(levels,)).tensors.values()
        return entry

    @staticmethod
    def _heavy(samples):
        """Channels of the same heavy-tailed distribution, with few values of each."""
        random = np.random.default_rng(0)
        return (random.standard_normal((samples, 64, 1)) ** 3).astype(np.float32)

    def test_the_layer_with_scarce_data(self):
        assert not gains_by_channels(self._entry(self._heavy(8), 32), 32)

    def test_channels_of_very_different_range_with_plenty(self):
        random = np.random.default_rng(0)
        x = random.normal(0, 1, (200, 8, 50)) * 2.0 ** -np.arange(8)[:, None]
        assert gains_by_channels(self._entry(x.astype(np.float32), 4), 4)

    def test_the_layer_where_channels_are_alike(self):
        x = np.random.default_rng(0).normal(0, 1, (200, 8, 50)).astype(np.float32)
        assert not gains_by_channels(self._entry(x, 8), 8)


class TestBound:
    """The λ of Clip(x, 0, b) is at most b, whatever the rule."""

    @staticmethod
    def _clip(bound):
        net = Net({"x": ["N", 3, 5]})
        return net.model(net.op("Clip", "x", net.constant(0.0, "f4"), net.constant(bound, "f4")))

    @pytest.mark.parametrize("batch_reduction", ["exact", "ema"])
    @pytest.mark.parametrize("mode", ["max", "99.9%", "mse", "ltb"])
    @pytest.mark.parametrize("granularity", ["layer", "channel", "auto"])
    def test_no_rule_exceeds_it(self, batch_reduction, mode, granularity):
        model = self._clip(0.7)
        x = np.full((160, 3, 5), 5, np.float32)  # a mean of the bound itself, which ltb doubles
        x[0, 0] = 0.1
        options = {"levels": (4,), "ltb": True, "batch_reduction": batch_reduction}
        stats = _calibrate(model, x, 20, **options)
        (node,) = spiking_nodes(load_graph(model))
        bounds = {node.outputs[0].name: activation_bound(node)}
        (found,) = thresholds(stats, Mode.parse(mode), Granularity(granularity), 4, bounds).values()
        assert np.all(found.scale.values <= np.float32(0.7))
        assert np.all(found.scale.values > 0.6)

    def test_of_an_activation(self):
        (clip,) = spiking_nodes(load_graph(self._clip(6.0)))
        assert activation_bound(clip) == 6
        (*_, relu) = spiking_nodes(load_graph(mlp(Dyadic())))
        assert activation_bound(relu) == np.inf


class TestOptions:
    @pytest.mark.parametrize("percentile", [0, -1, 100.1, np.nan, np.inf])
    def test_percentile_out_of_range(self, percentile):
        with pytest.raises(OptionError, match=r"percentile must be in \(0, 100\]"):
            _calibrate(mlp(Dyadic()), _inputs((7,)), percentiles=(percentile,))

    def test_unknown_reduction(self):
        with pytest.raises(OptionError, match="batch_reduction must be one of exact, ema,"):
            _calibrate(mlp(Dyadic()), _inputs((7,)), batch_reduction="sum")


def test_every_spiking_node_has_an_entry_in_order():
    model = residual(Dyadic())
    stats = _calibrate(model, _inputs((3, 6, 6)))
    nodes = spiking_nodes(load_graph(model))
    assert [entry.node for entry in stats.tensors.values()] == [node.name for node in nodes]
