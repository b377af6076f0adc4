import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.neural_network import MLPClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

from digit_recognizer import data, recipes
from digit_recognizer.nets import keras_net, pipelines, sklearn_net

SMALL = {
    "keras": keras_net.KerasNet(hidden=(16,), epochs=8, batch_size=8, learning_rate=0.02, random_state=0),
    "sklearn": sklearn_net.PassByPassMLP(
        MLPClassifier((16,), batch_size=8, learning_rate_init=0.01, random_state=0), passes=8, averaged=2
    ),
}


@pytest.mark.slow
@parametrize_with_checks(list(SMALL.values()))
def test_scikit_learns_own_checks(estimator: object, check: object) -> None:
    check(estimator)


def test_scale_is_the_only_float(digits: data.Dataset) -> None:
    scaled = pipelines.scale(digits.train.pixels)
    assert scaled.dtype == np.float32
    assert (scaled.min(), scaled.max()) == (0, 1)
    np.testing.assert_array_equal(np.round(scaled * 255), digits.train.pixels)


@pytest.mark.slow
def test_the_named_net_has_its_109_386_parameters(digits: data.Dataset) -> None:
    settings = recipes.RECIPES["keras-mlp"].settings
    net = clone(settings.classifier(seed=0)[-1]).set_params(epochs=1)
    net.fit(pipelines.scale(digits.train.pixels), digits.train.labels)
    shapes = [weights.shape for weights in net.model_.get_weights() if weights.ndim == 2]
    assert net.model_.count_params() == 109_386
    assert [tuple(shape) for shape in shapes] == [(784, 128), (128, 64), (64, 10)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", SMALL)
def test_a_net_learns_and_comes_back_from_its_file(
    kind: str, digits: data.Dataset, test_labels: list[int], tmp_path: object
) -> None:
    passes = []
    classifier = pipelines.on_pixels(clone(SMALL[kind]))
    classifier.fit(digits.train.pixels, digits.train.labels, net__on_epoch=lambda: passes.append(len(passes)))
    probabilities = classifier.predict_proba(digits.test)
    assert passes == list(range(8))
    assert probabilities.shape == (len(digits.test), 10)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert (classifier.predict(digits.test) == test_labels).mean() > 0.75

    ending, content = pipelines.to_bytes(classifier)
    path = tmp_path / f"net{ending}"
    path.write_bytes(content)
    loaded = pipelines.load(path, pipelines.on_pixels(clone(SMALL[kind])))
    np.testing.assert_array_equal(loaded.predict_proba(digits.test), probabilities)


@pytest.mark.slow
@pytest.mark.parametrize("kind", SMALL)
def test_the_seed_alone_decides(kind: str, digits: data.Dataset) -> None:
    pixels, labels = pipelines.scale(digits.train.pixels), digits.train.labels
    others = count()

    def fit(seed: int) -> np.ndarray:
        net = clone(SMALL[kind])
        net.set_params(**{"random_state" if kind == "keras" else "mlp__random_state": seed})
        np.random.seed(next(others))  # the global generator must not matter  # noqa: NPY002
        return net.fit(pixels, labels).predict_proba(pixels)

    first = fit(1)
    np.testing.assert_array_equal(first, fit(1))
    assert (first != fit(2)).any()


def test_the_last_passes_are_averaged(digits: data.Dataset) -> None:
    pixels, labels = pipelines.scale(digits.train.pixels), digits.train.labels

    def passes(averaged: int) -> list[list[np.ndarray]]:
        seen = []
        net = clone(SMALL["sklearn"]).set_params(passes=4, averaged=averaged)
        net.fit(pixels, labels, on_epoch=lambda: seen.append([w.copy() for w in net.mlp_.coefs_]))
        return seen

    each, *others, ended = passes(1), *passes(3)
    assert (each[2][0] != each[3][0]).any()
    np.testing.assert_array_equal(others[2][0], each[2][0])
    for layer, weights in enumerate(ended):
        np.testing.assert_allclose(weights, np.mean([one[layer] for one in each[1:]], axis=0), rtol=1e-6)


def test_each_pass_takes_the_rows_in_another_order(digits: data.Dataset) -> None:
    pixels, labels = pipelines.scale(digits.train.pixels[:32]), digits.train.labels[:32]
    orders = []

    class Spy(MLPClassifier):
        def _backprop(self, X, y, *rest):
            orders[-1].append(X.sum())
            return super()._backprop(X, y, *rest)

    orders.append([])
    net = sklearn_net.PassByPassMLP(Spy((4,), batch_size=8, random_state=0), passes=2, averaged=1)
    net.fit(pixels, labels, on_epoch=lambda: orders.append([]))
    assert orders[0] != orders[1]
    assert sum(orders[0]) == pytest.approx(sum(orders[1]), rel=1e-5)


@contextmanager
def interrupted(seconds: float) -> Iterator[None]:
    """What is done comes to Ctrl-C after so many seconds, and ends by it."""
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
@pytest.mark.parametrize("early_stopping", [False, True])
def test_ctrl_c_stops_a_fit(digits: data.Dataset, early_stopping: bool) -> None:
    mlp = MLPClassifier(
        (64,), batch_size=4, max_iter=100_000, n_iter_no_change=100_000, early_stopping=early_stopping
    )
    net = sklearn_net.PassByPassMLP(mlp, passes=100_000)
    with interrupted(0.5):
        net.fit(pipelines.scale(digits.train.pixels), digits.train.labels)


@no_timer
@pytest.mark.slow
def test_ctrl_c_stops_a_keras_net_within_a_pass(digits: data.Dataset) -> None:
    pixels, labels = pipelines.scale(digits.train.pixels), digits.train.labels
    rows = np.resize(np.arange(len(labels)), 100_000)
    net = keras_net.KerasNet(hidden=(16,), batch_size=1, epochs=1, random_state=0)
    net.fit(pixels[:100], labels[:100])  # imports TensorFlow
    began = time.monotonic()
    with interrupted(3):
        net.fit(pixels[rows], labels[rows])  # 100,000 steps; a step in 0.2 ms would be a quick one
    assert time.monotonic() - began < 3 + 7


def test_a_file_of_foreign_types_is_refused(tmp_path: object) -> None:
    import skops.io
    from sklearn.preprocessing import FunctionTransformer

    path = tmp_path / "bad.skops"
    skops.io.dump(FunctionTransformer(np.fromfile), path)
    with pytest.raises(Exception, match=r"Untrusted types|untrusted"):
        pipelines.load(path, pipelines.on_pixels(SMALL["sklearn"]))


@pytest.mark.slow
def test_a_convolutional_net_with_all_the_trimmings_learns(
    digits: data.Dataset, test_labels: list[int]
) -> None:
    net = keras_net.KerasNet(
        channels=(8, 16), kernels=(5,), strides=(1,), tta=True, label_smoothing=0.05,
        hidden=(32,), batch_norm=True, dropout=(0.1,), optimizer="rmsprop",
        learning_rate=0.003, activation="gelu", epochs=12, batch_size=16, random_state=0,
    )  # fmt: skip
    classifier = pipelines.on_pixels(net).fit(digits.train.pixels, digits.train.labels)
    kinds = [type(layer).__name__ for layer in net.model_.layers]
    assert kinds == [
        "Reshape", *["Conv2D", "BatchNormalization", "Activation"] * 2, "Flatten",
        "Dense", "BatchNormalization", "Activation", "Dropout", "Dense",
    ]  # fmt: skip
    assert (classifier.predict(digits.test) == test_labels).mean() > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("mixed", "near"), [(False, 1e-3), (True, 0.05)])
def test_images_are_normalised_as_keras_does(
    training: bool, mixed: bool, near: float, digits: data.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keras_net, "has_bfloat16", lambda: True)
    pixels, labels = pipelines.scale(digits.train.pixels), digits.train.labels
    net = keras_net.KerasNet(
        channels=(8,), hidden=(), batch_norm=True, bfloat16=mixed, epochs=3, random_state=0
    )
    model = net.fit(pixels, labels).model_
    before = model.get_weights()
    theirs, then = np.array(model(pixels[:256], training=training)), model.get_weights()
    model.set_weights(before)
    mine, now = np.array(keras_net._outputs(model, pixels[:256], training=training)), model.get_weights()
    np.testing.assert_allclose(mine, theirs, atol=near)
    for one, keras_own in zip(now, then, strict=True):
        np.testing.assert_allclose(one, keras_own, atol=1e-5)
    moved = max(np.abs(one - two).max() for one, two in zip(now, before, strict=True))
    assert (moved > 1e-4) if training else (moved == 0)


@pytest.mark.slow
@pytest.mark.parametrize("quick", [False, True])
def test_convolutions_in_16_bits_where_the_processor_is_quick_at_them(
    quick: bool,
    digits: data.Dataset,
    test_labels: list[int],
    tmp_path: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keras_net, "has_bfloat16", lambda: quick)
    net = keras_net.KerasNet(
        channels=(8, 16), hidden=(), batch_norm=True, bfloat16=True, epochs=12, batch_size=16, random_state=0
    )
    classifier = pipelines.on_pixels(net).fit(digits.train.pixels, digits.train.labels)
    bits = {layer.compute_dtype for layer in net.model_.layers if type(layer).__name__ == "Conv2D"}
    assert bits == {"bfloat16" if quick else "float32"}
    assert {weights.dtype for weights in net.model_.get_weights()} == {np.dtype(np.float32)}
    probabilities = classifier.predict_proba(digits.test)
    assert probabilities.dtype == np.float32
    assert (probabilities.argmax(axis=1) == test_labels).mean() > 0.8
    ending, content = pipelines.to_bytes(classifier)
    (tmp_path / f"net{ending}").write_bytes(content)
    loaded = pipelines.load(tmp_path / f"net{ending}", pipelines.on_pixels(clone(net)))
    np.testing.assert_array_equal(loaded.predict_proba(digits.test), probabilities)


@pytest.mark.slow
def test_a_processor_says_what_it_is_quick_at(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    told, gpus = tmp_path / "cpuinfo", []
    monkeypatch.setattr(keras_net, "CPU", told)
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda _: gpus)
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    assert not keras_net.has_bfloat16()
    for features, quick in (("fpu avx2 avx512f", False), ("amx_bf16", True), ("avx512f avx512_bf16", True)):
        told.write_text(f"processor : 0\nflags : {features}\n")
        assert keras_net.has_bfloat16() == quick
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    assert not keras_net.has_bfloat16()
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    assert keras_net.has_bfloat16()
    gpus.append("GPU:0")
    assert not keras_net.has_bfloat16()


@pytest.mark.slow
def test_ten_sigmoids_are_scaled_to_probabilities(digits: data.Dataset) -> None:
    net = keras_net.KerasNet(hidden=(), output="sigmoid", epochs=3, batch_size=16, random_state=0)
    probabilities = (
        pipelines.on_pixels(net).fit(digits.train.pixels, digits.train.labels).predict_proba(digits.test)
    )
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert [layer.activation.__name__ for layer in net.model_.layers] == ["sigmoid"]


@pytest.mark.slow
def test_early_stopping_goes_back_to_the_best_weights(digits: data.Dataset) -> None:
    pixels, labels = pipelines.scale(digits.train.pixels), digits.train.labels
    passes = []
    net = keras_net.KerasNet(
        hidden=(16,), schedule="constant", optimizer="sgd", learning_rate=0.5, epochs=40, batch_size=16,
        early_stopping=2, random_state=0,
    )  # fmt: skip
    net.fit(pixels, labels, on_epoch=lambda: passes.append(net.model_.get_weights()[0]))
    assert len(passes) < 40
    np.testing.assert_array_equal(net.model_.get_weights()[0], passes[-3])


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("prepare", ["standardize", "pca"])
def test_what_is_done_before_the_net_is_fitted_on_training_rows_and_stored(
    prepare: str, optimizer: str, digits: data.Dataset, tmp_path: object
) -> None:
    (recipe,) = recipes.choose(
        ["sklearn-mlp-plain"], [f"prepare={prepare}", f"optimizer={optimizer}", "epochs=3"]
    )
    classifier = recipe.settings.classifier(0).fit(digits.train.pixels, digits.train.labels)
    scaled = pipelines.scale(digits.train.pixels)
    if prepare == "pca":
        assert 0.95 <= classifier[1].explained_variance_ratio_.sum() < 0.96
    else:
        np.testing.assert_allclose(classifier[1].mean_, scaled.mean(axis=0), atol=1e-5)
    ending, content = pipelines.to_bytes(classifier)
    (tmp_path / f"net{ending}").write_bytes(content)
    loaded = pipelines.load(tmp_path / f"net{ending}", recipe.settings.classifier(0))
    np.testing.assert_array_equal(loaded.predict_proba(digits.test), classifier.predict_proba(digits.test))


def test_scikit_learns_own_early_stopping_is_used(digits: data.Dataset) -> None:
    (recipe,) = recipes.choose(["sklearn-mlp-pca"], ["epochs=60", "learning_rate=0.01"])
    calls = []
    net = recipe.settings.classifier(0)
    net.fit(digits.train.pixels, digits.train.labels, net__on_epoch=lambda: calls.append(1))
    assert net[-1].mlp_.n_iter_ < 60
    assert max(net[-1].mlp_.validation_scores_) == net[-1].mlp_.best_validation_score_
    assert calls == [1]


@pytest.mark.slow
def test_a_fitted_mlp_holds_no_denormal_numbers(digits: data.Dataset) -> None:
    """A strong penalty and many epochs shrink the weights of pixels that are always white."""
    mlp = MLPClassifier((16,), batch_size=4, learning_rate_init=0.01, alpha=30.0, random_state=0)
    net = sklearn_net.PassByPassMLP(mlp, passes=60, averaged=3)
    net.fit(pipelines.scale(digits.train.pixels[:200]), digits.train.labels[:200])
    held = [*net.mlp_.coefs_, *net.mlp_.intercepts_, *net.mlp_._optimizer.ms]
    assert sum((values == 0).sum() for values in net.mlp_._optimizer.ms) > 1000
    for values in held:
        assert not ((values != 0) & (np.abs(values) < np.finfo(np.float32).tiny)).any()
