import pickle
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import numpy as np
import pytest
from conftest import from_bytes, to_bytes
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer
from sklearn.utils.estimator_checks import parametrize_with_checks

from digit_recognizer import data, recipes
from digit_recognizer.errors import FitError
from digit_recognizer.nets import keras_model, keras_net, pipelines, progress, sklearn_net
from digit_recognizer.nets.arrays import read_arrays, write_arrays
from digit_recognizer.nets.keras_net import KerasNet
from digit_recognizer.nets.progress import Budget, Steps, Timer
from digit_recognizer.nets.sklearn_net import EpochwiseMLPClassifier
from digit_recognizer.settings import KerasSettings, MLPSettings, Settings

SMALL: dict[str, Settings] = {
    "keras": KerasSettings(
        hidden=(16,), epochs=8, batch_size=8, learning_rate=0.02, optimizer="adamw", weight_decay=0.05,
        learning_rate_schedule="cosine",
    ),
    "mlp": MLPSettings(hidden=(16,), epochs=8, batch_size=8, learning_rate=0.01, averaged_epochs=2),
}  # fmt: skip
CHECKED = [SMALL["keras"].replace(hidden=(), epochs=20, batch_size=16), SMALL["mlp"]]
NETS = {"keras": KerasNet, "mlp": EpochwiseMLPClassifier}


Rows = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def rows(digits: data.Dataset) -> Rows:
    """Training digits as a net gets them, and their labels."""
    return pipelines.scale(digits.train.pixels), digits.train.labels


def net_of(settings: Settings, seed: int = 0) -> KerasNet | EpochwiseMLPClassifier:
    return NETS[settings.net](settings, seed)


# TensorFlow rounds the last bit of a row's float32 as its place in the batch and threads have it.
BY_CHANCE = {"check_methods_sample_order_invariance": "sums of float32 in several threads"}


@pytest.mark.slow
@parametrize_with_checks(
    [net_of(settings) for settings in CHECKED],
    expected_failed_checks=lambda net: BY_CHANCE if isinstance(net, KerasNet) else {},
)
def test_nets_pass_scikit_learns_estimator_checks(estimator: object, check: object) -> None:
    check(estimator)


def test_scale_is_the_only_float(digits: data.Dataset) -> None:
    scaled = pipelines.scale(digits.train.pixels)
    assert scaled.dtype == np.float32
    assert (scaled.min(), scaled.max()) == (0, 1)
    np.testing.assert_array_equal(np.round(scaled * 255), digits.train.pixels)


def test_the_named_net_has_its_109_386_parameters() -> None:
    shapes = keras_model.kernel_shapes(recipes.RECIPES["keras-mlp"].settings, 784, 10)
    assert shapes == [(784, 128), (128, 64), (64, 10)]
    assert sum((inputs + 1) * units for inputs, units in shapes) == 109_386


@pytest.mark.slow
@pytest.mark.parametrize("kind", SMALL)
def test_a_net_learns_and_calls_back_after_each_epoch(
    kind: str, digits: data.Dataset, test_labels: list[int]
) -> None:
    calls = []
    classifier = pipelines.build(SMALL[kind], seed=0)
    classifier.fit(digits.train.pixels, digits.train.labels, net__on_epoch_end=calls.append)
    probabilities = classifier.predict_proba(digits.test)
    assert calls == [1, 2, 3, 4, 5, 6, 7, 8]
    assert probabilities.shape == (len(digits.test), 10)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert (classifier.predict(digits.test) == test_labels).mean() > 0.75
    assert NETS[kind]()._settings == type(SMALL[kind])()


@pytest.mark.slow
@pytest.mark.parametrize("kind", SMALL)
def test_a_timed_fit_may_end_within_an_epoch(kind: str, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    """The net predicts, even after a single step, and the metrics of its end are measured once."""
    looks = count()
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: 0.01 * next(looks)))
    for seconds in (0.001, 1.0):
        calls = []
        net = net_of(SMALL[kind])
        net.fit(*rows, on_epoch_end=calls.append, timer=Timer(Budget(seconds=seconds, epoch=0.1, predict=0)))
        assert net.predict_proba(rows[0]).shape == (600, 10)
        assert calls[:-1] == list(range(1, len(calls)))
        assert len(calls) - 1 < calls[-1] <= len(calls)
        assert (calls[-1] == pytest.approx(8 / 600)) == (seconds < 1)
    assert calls[-1] > 4
    assert net.score(*rows) > 0.7


@pytest.mark.slow
@pytest.mark.parametrize("kind", SMALL)
def test_the_seed_alone_decides(kind: str, rows: Rows) -> None:
    others = count()

    def predictions(seed: int) -> np.ndarray:
        np.random.seed(next(others))  # the global generator must not matter  # noqa: NPY002
        return net_of(SMALL[kind], seed).fit(*rows).predict_proba(rows[0])

    first = predictions(1)
    np.testing.assert_array_equal(first, predictions(1))
    assert (first != predictions(2)).any()


DIVERGING = {"optimizer": "sgd", "learning_rate": 1e6}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("keras", DIVERGING | {"learning_rate_schedule": "constant"}),
        ("mlp", DIVERGING),
        ("mlp", DIVERGING | {"averaged_epochs": 1, "patience": 3}),
    ],
)
def test_a_diverged_fit_raises_fit_error(
    kind: str, changes: dict[str, object], rows: Rows, capfd: pytest.CaptureFixture[str]
) -> None:
    calls = []
    with pytest.raises(FitError) as error:
        net_of(SMALL[kind].replace(**changes)).fit(*rows, on_epoch_end=calls.append)
    assert str(error.value) == (
        f"the net diverged: its weights are not finite after epoch {len(calls) + 1}; "
        "try a lower learning_rate"
    )
    assert "Warning" not in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("kind", SMALL)
def test_predictions_of_huge_weights_raise_fit_error(kind: str, digits: data.Dataset) -> None:
    classifier = pipelines.build(SMALL[kind].replace(epochs=1), seed=0)
    classifier.fit(digits.train.pixels, digits.train.labels)
    arrays = pipelines.to_arrays(classifier)
    arrays["layer0/kernel"][:] = 3e38
    huge = from_bytes(write_arrays(arrays), classifier[-1].settings)
    with pytest.raises(FitError, match="its predictions are not finite"):
        huge.predict_proba(digits.test)


@pytest.mark.parametrize(("timed", "averaged", "first"), [(None, 3, 1), (5, 4, 1), (5, 2, 3), (5, 1, 4)])
def test_the_last_epochs_are_averaged(rows: Rows, timed: int | None, averaged: int, first: int) -> None:
    """With a timer, those of the same share of the training: of five epochs instead of four."""
    timer = timed and SimpleNamespace(start=lambda steps: Steps(timed, steps))

    def epochs(averaged: int) -> list[list[np.ndarray]]:
        weights = []
        net = net_of(SMALL["mlp"].replace(epochs=4, averaged_epochs=averaged))
        keep = lambda _: weights.append([w.copy() for w in net.mlp_.coefs_])  # noqa: E731
        net.fit(*rows, on_epoch_end=keep, timer=timer)
        return weights

    each, *others, last = epochs(1), *epochs(averaged)
    assert (each[2][0] != each[3][0]).any()
    np.testing.assert_array_equal(others[2][0], each[2][0])
    for layer, weights in enumerate(last):
        np.testing.assert_allclose(weights, np.mean([e[layer] for e in each[first:]], axis=0), rtol=1e-6)


@contextmanager
def interrupted(seconds: float) -> Iterator[None]:
    """Press Ctrl-C after some seconds; the block must end by it."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


no_timer = pytest.mark.skipif(sys.platform == "win32", reason="has no timer that interrupts")


@no_timer
def test_ctrl_c_stops_a_fit(rows: Rows) -> None:
    net = net_of(MLPSettings(hidden=(64,), batch_size=4, epochs=10_000))
    with interrupted(0.5):
        net.fit(*rows)


@no_timer
@pytest.mark.slow
def test_ctrl_c_stops_a_keras_net_within_an_epoch(rows: Rows) -> None:
    pixels, labels = rows
    many = np.resize(np.arange(len(labels)), 100_000)
    net = net_of(KerasSettings(hidden=(16,), batch_size=1, epochs=1))
    net.fit(pixels[:100], labels[:100])  # imports TensorFlow
    began = time.monotonic()
    with interrupted(3):
        net.fit(pixels[many], labels[many])  # 100,000 steps; a step in 0.2 ms would be a quick one
    assert time.monotonic() - began < 3 + 7


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("mixed", "near"), [(False, 1e-3), (True, 0.05)])
def test_images_are_normalised_as_keras_does(training: bool, mixed: bool, near: float, rows: Rows) -> None:
    pixels, labels = rows
    net = net_of(
        KerasSettings(channels=(8,), hidden=(), batch_norm=True, bfloat16=mixed, epochs=3, learning_rate=3e-3)
    )
    model = net.fit(pixels, labels).model_
    before = model.get_weights()
    expected, expected_weights = np.array(model(pixels[:256], training=training)), model.get_weights()
    model.set_weights(before)
    outputs = np.array(keras_model.forward(model, pixels[:256], training=training))
    np.testing.assert_allclose(outputs, expected, atol=near)
    for weights, expected_array in zip(model.get_weights(), expected_weights, strict=True):
        np.testing.assert_allclose(weights, expected_array, atol=1e-5)
    pairs = zip(model.get_weights(), before, strict=True)
    moved = max(np.abs(weights - earlier).max() for weights, earlier in pairs)
    assert (moved > 1e-4) if training else (moved == 0)


@pytest.mark.slow
@pytest.mark.parametrize("mixed", [False, True])
def test_convolutions_use_bfloat16_as_the_settings_say(
    mixed: bool, digits: data.Dataset, test_labels: list[int]
) -> None:
    settings = KerasSettings(
        channels=(8, 16), hidden=(), batch_norm=True, bfloat16=mixed, epochs=12, batch_size=16,
        learning_rate=3e-3, learning_rate_schedule="cosine", optimizer="adamw", weight_decay=0.05,
    )  # fmt: skip
    classifier = pipelines.build(settings, seed=0).fit(digits.train.pixels, digits.train.labels)
    model = classifier[-1].model_
    dtypes = {layer.compute_dtype for layer in model.layers if type(layer).__name__ == "Conv2D"}
    assert dtypes == {"bfloat16" if mixed else "float32"}
    assert {weights.dtype for weights in model.get_weights()} == {np.dtype(np.float32)}
    probabilities = classifier.predict_proba(digits.test)
    assert probabilities.dtype == np.float32
    assert (probabilities.argmax(axis=1) == test_labels).mean() > 0.8
    loaded = from_bytes(to_bytes(classifier), settings.replace(bfloat16=not mixed))
    np.testing.assert_array_equal(loaded.predict_proba(digits.test), probabilities)


def test_bfloat16_needs_the_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu_info = tmp_path / "cpuinfo"
    monkeypatch.setattr(keras_net, "CPU_INFO", cpu_info)
    assert not keras_net.cpu_computes_bfloat16()
    for features, faster in (("fpu avx2 avx512f", False), ("amx_bf16", True), ("avx512f avx512_bf16", True)):
        cpu_info.write_text(f"processor : 0\nflags : {features}\n")
        assert keras_net.cpu_computes_bfloat16() == faster


@pytest.mark.parametrize("kind", [pytest.param("keras", marks=pytest.mark.slow), "mlp"])
def test_patience_goes_back_to_the_best_weights(kind: str, rows: Rows) -> None:
    weights: list[np.ndarray] = []
    settings = {"hidden": (16,), "optimizer": "sgd", "learning_rate": 0.5, "batch_size": 16, "epochs": 40}
    net = net_of(type(SMALL[kind])(**settings, patience=2))

    def keep(_: float) -> None:
        weights.append(np.array(net.to_arrays()["layer0/kernel"]))

    net.fit(*rows, on_epoch_end=keep)
    assert 3 <= len(weights) < 40
    np.testing.assert_array_equal(net.to_arrays()["layer0/kernel"], weights[-3])


@pytest.mark.parametrize("preprocessing", ["standardize", "pca"])
def test_preprocessing_is_fitted_on_training_rows(preprocessing: str, digits: data.Dataset) -> None:
    settings = MLPSettings(preprocessing=preprocessing, epochs=1)
    classifier = pipelines.build(settings, seed=0).fit(digits.train.pixels, digits.train.labels)
    if preprocessing == "pca":
        assert 0.95 <= classifier[1].explained_variance_ratio_.sum() < 0.96
    else:
        mean = pipelines.scale(digits.train.pixels).mean(axis=0)
        np.testing.assert_allclose(classifier[1].mean_, mean, atol=1e-5)


STORED = {
    **{
        name: recipes.RECIPES[name].settings.replace(epochs=1)
        for name in ("softmax", "keras-mlp-bn", "cnn-small", "sklearn-mlp-scaled", "sklearn-mlp-pca")
    },
    "tanh": MLPSettings(epochs=2, activation="tanh", optimizer="sgd"),
    "logistic": MLPSettings(epochs=2, activation="logistic"),
}


@pytest.mark.slow
@pytest.mark.parametrize("settings", STORED.values(), ids=STORED)
def test_a_net_read_back_predicts_bit_identically(settings: Settings, digits: data.Dataset) -> None:
    classifier = pipelines.build(settings, seed=1).fit(digits.train.pixels, digits.train.labels)
    probabilities, content = classifier.predict_proba(digits.test), to_bytes(classifier)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)  # of sigmoids, too
    loaded = from_bytes(content, settings.replace(learning_rate=1e6))  # nothing is trained
    assert loaded.predict_proba(digits.test).tobytes() == probabilities.tobytes()
    assert to_bytes(loaded) == content


@pytest.fixture(scope="module")
def mlp_arrays(digits: data.Dataset) -> dict[str, np.ndarray]:
    classifier = pipelines.build(FILE_SETTINGS, seed=1).fit(digits.train.pixels, digits.train.labels)
    return pipelines.to_arrays(classifier)


FILE_SETTINGS = MLPSettings(hidden=(4,), epochs=1, preprocessing="standardize")


def test_reading_an_mlp_needs_no_tensorflow(
    mlp_arrays: dict[str, np.ndarray], digits: data.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    for library in ("tensorflow", "keras"):
        monkeypatch.setitem(sys.modules, library, None)  # an import raises
    assert from_bytes(write_arrays(mlp_arrays), FILE_SETTINGS).predict_proba(digits.test).any()


def refused(content: bytes, settings: Settings = FILE_SETTINGS) -> str:
    """Return the one line that says why this is not a model of these settings."""
    with pytest.raises(ValueError, match=r"^[^\n]*not a model[^\n]*$") as error:
        from_bytes(content, settings)
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("layer0/kernel", None, "is missing, expected float32 of shape (784, 4)"),
        ("standardize/mean", None, "is missing, expected float64 of shape (784,)"),
        ("layer9/kernel", np.ones(3, np.float32), "is float32 of shape (3,), expected no such array"),
        ("pca/mean", np.ones(784, np.float32), "is float32 of shape (784,), expected no such array"),
        ("layer1/bias", np.ones(9, np.float32), "is float32 of shape (9,), expected float32 of shape (10,)"),
        ("layer1/bias", np.ones(10), "is float64 of shape (10,), expected float32 of shape (10,)"),
        ("layer1/bias", np.ones((10, 0), np.float32), "is float32 of shape (10, 0), expected float32"),
        ("layer1/bias", np.full(10, np.nan, np.float32), "holds numbers that are NaN or infinite"),
        ("layer1/bias", np.array(["x"] * 10), "is no array of float32"),
    ],
)  # fmt: skip
def test_a_file_with_wrong_arrays_raises_value_error(
    name: str, array: np.ndarray | None, message: str, mlp_arrays: dict[str, np.ndarray]
) -> None:
    arrays = {key: value for key, value in mlp_arrays.items() if key != name}
    content = write_arrays(arrays if array is None else {**arrays, name: array})
    assert re.search(rf"{name}(\.npy)? {re.escape(message)}", refused(content))


def test_a_file_of_other_settings_raises_value_error(mlp_arrays: dict[str, np.ndarray]) -> None:
    content = write_arrays(mlp_arrays)
    assert "layer0/kernel" in refused(content, FILE_SETTINGS.replace(hidden=(5,)))
    assert "layer2/kernel" in refused(content, FILE_SETTINGS.replace(hidden=(4, 10)))
    assert "pca/mean is missing" in refused(content, FILE_SETTINGS.replace(preprocessing="pca"))
    assert "standardize/mean" in refused(content, FILE_SETTINGS.replace(preprocessing="scale"))


@pytest.mark.slow
def test_a_keras_file_of_other_settings_raises_value_error(digits: data.Dataset) -> None:
    settings = KerasSettings(channels=(3,), hidden=(4,), batch_norm=True, epochs=1)
    classifier = pipelines.build(settings, seed=1).fit(digits.train.pixels, digits.train.labels)
    content = to_bytes(classifier)
    names = {"kernel", "gamma", "beta", "moving_mean", "moving_variance"}
    assert {name for name in read_arrays(content) if name.startswith("layer1/")} == {
        f"layer1/{name}" for name in names - {"kernel"}
    }
    other = refused(content, settings.replace(kernel_sizes=(5,)))
    assert "kernels [(3, 3, 1, 3), (588, 4), (4, 10)], expected [(5, 5, 1, 3), " in other
    huge = settings.replace(channels=(1024,) * 20, kernel_sizes=(28,) * 20)
    assert "kernels [(3, 3, 1, 3), " in refused(content, huge)  # before their 60 GB are taken
    swapped = read_arrays(content)
    swapped["layer1/gamma"] = np.ones((3, 1), np.float32)
    message = refused(write_arrays(swapped), settings)
    assert "layer1/gamma is float32 of shape (3, 1), expected float32 of shape (3,)" in message
    assert "layer0/kernel is" in refused(content, FILE_SETTINGS.replace(preprocessing="scale"))


def header(shape: str, dtype: str = "<f4") -> bytes:
    return f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()


def npz(header: bytes, numbers: bytes = b"0123", name: str = "a.npy", compression: int = ZIP_STORED) -> bytes:
    file = BytesIO()
    with ZipFile(file, "w", compression) as archive:
        magic = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little")
        archive.writestr(name, magic + header + numbers)
    return file.getvalue()


NO_MODELS = {
    "empty": b"",
    "no zip": b"PK\x05\x06",
    "pickle": b"\x80\x04pickle",
    "huge": npz(header("(1000000, 1000000)")),
    "negative": npz(header("(-1, -1)")),
    "objects": npz(header("(1,)", "|O"), pickle.dumps([print])),
    "compressed": npz(header("(1,)"), compression=ZIP_DEFLATED),
    "name": npz(header("(1,)"), name="a\x1b[2J\n.npy"),
    "flipped": npz(header("(1,)")).replace(b"0123", b"9999"),
    "code": npz(b"__import__('os').abort()\n"),
    "cut": npz(b"{'descr': '<f4'\n"),
    "nested": npz(b"((((" * 2000 + b"\n"),
}


@pytest.mark.parametrize("kind", NO_MODELS)
def test_a_file_that_is_no_model_raises_value_error(kind: str) -> None:
    refused(NO_MODELS[kind])


def test_a_truncated_or_altered_file_raises_value_error(mlp_arrays: dict[str, np.ndarray]) -> None:
    content = write_arrays(mlp_arrays)
    for cut in range(0, len(content), 997):
        refused(content[:cut])
    rng = np.random.default_rng(0)
    for _ in range(200):
        altered = bytearray(content)
        altered[rng.integers(len(content))] ^= 1 << rng.integers(8)
        with suppress(ValueError):  # some bytes, such as dates, mean nothing
            from_bytes(bytes(altered), FILE_SETTINGS)


@pytest.mark.slow
def test_a_fitted_mlp_holds_no_denormal_numbers(digits: data.Dataset) -> None:
    """A strong penalty and many epochs shrink the weights of pixels that are always white."""
    net = net_of(
        MLPSettings(hidden=(16,), batch_size=4, learning_rate=0.01, alpha=30.0, epochs=60, averaged_epochs=3)
    )
    net.fit(pipelines.scale(digits.train.pixels[:200]), digits.train.labels[:200])
    held = [*net.mlp_.coefs_, *net.mlp_.intercepts_, *net.mlp_._optimizer.ms]
    assert sum((values == 0).sum() for values in net.mlp_._optimizer.ms) > 1000
    for values in held:
        assert not ((values != 0) & (np.abs(values) < np.finfo(np.float32).tiny)).any()


def test_adam_in_place_takes_scikit_learns_steps() -> None:
    rng = np.random.default_rng(0)
    ours = [rng.normal(size=shape).astype(np.float32) for shape in ((5, 3), (3,))]
    theirs = [param.copy() for param in ours]
    in_place, adam = sklearn_net.InPlaceAdam(), AdamOptimizer(theirs, 0.01)
    in_place.rates.extend([0.01] * 50)
    for _ in range(50):
        grads = [rng.normal(size=param.shape).astype(np.float32) for param in ours]
        adam.update_params(theirs, [grad.copy() for grad in grads])
        in_place.update_params(ours, grads)
    for param, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(param, expected, atol=1e-6)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_an_mlp_is_fitted_by_adam_in_place(rows: Rows, schedule: str) -> None:
    settings = SMALL["mlp"].replace(learning_rate_schedule=schedule)
    net = net_of(settings).fit(*rows)
    assert isinstance(net.mlp_._optimizer, sklearn_net.InPlaceAdam)
    assert not net.mlp_._optimizer.rates  # one for each step


@pytest.mark.slow
def test_batch_normalisation_predicts_well_after_few_steps(rows: Rows) -> None:
    """With the average over 100 steps that Keras takes, such a net reads 13% of the digits."""
    settings = recipes.RECIPES["cnn-small"].settings.replace(epochs=1, batch_size=16)
    assert net_of(settings).fit(*rows).score(*rows) > 0.7


def test_long_trainings_average_over_as_many_steps_as_keras_does() -> None:
    steps = [keras_model.choose_momentum(steps) for steps in (1, 20, 400, 2000, 100_000)]
    assert steps == pytest.approx([0, 0, 0.95, 0.99, 0.99])
