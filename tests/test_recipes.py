import itertools
import subprocess
import sys
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from conftest import DEADLINE, ROOT
from pydantic import TypeAdapter, ValidationError

from digit_recognizer import data, recipes
from digit_recognizer.errors import RecipeError
from digit_recognizer.nets import keras_net, pipelines
from digit_recognizer.settings import KerasSettings, MLPSettings, Settings, describe, format_value

KINDS = {"keras": KerasSettings, "mlp": MLPSettings}


def test_selected_recipes_come_once_in_the_order_asked_for() -> None:
    names = [recipe.name for recipe in recipes.select(["cnn", "softmax", "cnn"])]
    assert names == ["cnn", "softmax"]


def test_default_and_timed_recipes_exist() -> None:
    names = {*recipes.DEFAULT, *itertools.chain(*recipes.for_minutes(15))}
    assert names == {recipe.name for recipe in recipes.select(sorted(names))}


def test_the_default_recipes_are_a_keras_and_a_scikit_learn_net() -> None:
    kinds = [recipe.settings.net for recipe in recipes.select(recipes.DEFAULT)]
    assert kinds == ["keras", "mlp"]


def test_an_unknown_recipe_raises_recipe_error_with_the_known_ones() -> None:
    with pytest.raises(RecipeError, match=r"no recipe 'resnet'; there are keras-mlp, sklearn-mlp"):
        recipes.select(["keras-mlp", "resnet"])


def test_a_misspelt_name_gets_a_suggestion() -> None:
    with pytest.raises(RecipeError, match=r"no recipe 'sofmax'; did you mean softmax\? there are"):
        recipes.select(["sofmax"])
    with pytest.raises(RecipeError, match=r"--set epoch=3: .* did you mean epochs\? there are"):
        recipes.select(["keras-mlp"], ["epoch=3"])


def test_one_recipes_settings_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        recipes.RECIPES["keras-mlp"].settings.epochs = 1
    assert recipes.select(["keras-mlp"])[0].settings.epochs == 90


SMALL = {
    "keras": KerasSettings(hidden=(8,), epochs=2, batch_size=16),
    "mlp": MLPSettings(hidden=(8,), epochs=3, batch_size=16),
}
OTHER = {
    "hidden": (7,), "channels": (3,), "dropout": (0.4,), "activation": "tanh", "output": "sigmoid",
    "optimizer": "sgd", "learning_rate_schedule": "cosine", "preprocessing": "pca", "weight_decay": 30.0,
    "learning_rate": 0.01, "patience": 1, "alpha": 100.0, "kernel_sizes": (5,), "strides": (1,),
    "label_smoothing": 0.1,
}  # fmt: skip

Predict = Callable[[Settings], np.ndarray]


@pytest.fixture(scope="module")
def predictions(digits: data.Dataset) -> Predict:
    """A function that fits a net and returns its probabilities of the test digits."""
    rows = digits.train.pixels[:100], digits.train.labels[:100]
    return lambda settings: pipelines.build(settings, seed=5).fit(*rows).predict_proba(digits.test)


@pytest.fixture(scope="module")
def base_predictions(predictions: Predict) -> Predict:
    """The same, of settings that many tests share: fitted twice, with equal probabilities, and remembered."""

    @cache
    def twice(settings: Settings) -> np.ndarray:
        first = predictions(settings)
        np.testing.assert_array_equal(predictions(settings), first)
        return first

    return twice


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "field"), [(kind, field.name) for kind in KINDS for field in describe(KINDS[kind])]
)
def test_every_setting_changes_the_predictions(
    kind: str, field: str, predictions: Predict, base_predictions: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keras_net, "bfloat16_is_faster", lambda: True)
    base = SMALL[kind]
    if field in ("kernel_sizes", "strides", "global_pool", "bfloat16"):
        base = base.replace(channels=(3,))
    value = getattr(base, field)
    other = OTHER.get(field, True if value is False else None) or value + 1
    assert (predictions(base.replace(**{field: other})) != base_predictions(base)).any()


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop"])
def test_every_optimizer_works_without_weight_decay(optimizer: str, digits: data.Dataset) -> None:
    settings = SMALL["keras"].replace(optimizer=optimizer, epochs=8)
    classifier = pipelines.build(settings, seed=0).fit(digits.train.pixels, digits.train.labels)
    assert classifier.score(digits.train.pixels, digits.train.labels) > 0.3


@pytest.mark.parametrize(
    ("recipe", "assignments", "message"),
    [
        ("keras-mlp", ["hidden=64", "dropout=0.1,0.2"], "dropout has 2 shares for 1 hidden layers"),
        ("keras-mlp", ["channels=8", "kernel_sizes=5,3"], "kernel_sizes has 2 numbers for 1 convolutions"),
        ("keras-mlp", ["channels=8", "strides=2,2,1"], "strides has 3 numbers for 1 convolutions"),
        ("keras-mlp", ["global_pool=yes"], "global_pool needs convolutions; give channels"),
        (
            "sklearn-mlp-pca",
            ["tta=yes"],
            "tta works on images: use preprocessing=scale, not preprocessing=pca",
        ),
        ("sklearn-mlp-scaled", ["augment_strength=1"], "augment_strength works on images"),
        ("sklearn-mlp-scaled", ["augment_strength_end=1"], "augment_strength_end works on images"),
        ("sklearn-mlp-pca", ["augment_strength=1", "preprocessing=scale"], "patience cannot be combined"),
        ("sklearn-mlp-pca", ["averaged_epochs=2"], "patience cannot be combined with averaged_epochs"),
        ("sklearn-mlp", ["optimizer=sgd"], "give learning_rate_schedule=constant as well"),
        ("sklearn-mlp-pca", ["learning_rate_schedule=cosine"], "needs optimizer=adam and no patience"),
        (
            "sklearn-mlp",
            ["patience=3"],
            "patience cannot be combined with augment_strength or augment_strength_end",
        ),
    ],
)
def test_settings_that_contradict_each_other_raise_recipe_error(
    recipe: str, assignments: list[str], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        recipes.select([recipe], assignments)


def test_set_overrides_the_recipes_that_have_the_field() -> None:
    keras, sklearn = recipes.select(
        ["keras-mlp", "sklearn-mlp"],
        ["epochs=3", "hidden=256,128", "dropout=0.1,0.2", "weight_decay=0.5", "tta=no"],
    )
    assert keras.settings == recipes.RECIPES["keras-mlp"].settings.replace(
        epochs=3, hidden=(256, 128), dropout=(0.1, 0.2), weight_decay=0.5, tta=False
    )
    assert sklearn.settings == recipes.RECIPES["sklearn-mlp"].settings.replace(epochs=3, tta=False)
    assert recipes.RECIPES["keras-mlp"].settings.epochs != 3


def test_a_changed_recipe_has_no_evidence() -> None:
    measured = recipes.RECIPES["keras-mlp"]
    same = f"epochs={measured.settings.epochs}"
    assert recipes.select(["keras-mlp"], [same]) == [measured]
    assert recipes.select(["keras-mlp"], ["epochs=1"])[0].evidence is None


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("epochs", "--set epochs: expected FIELD=VALUE, such as epochs=20"),
        ("epochs=0", "--set epochs=0: epochs is an integer from 1 to 10000"),
        ("epochs=10001", "epochs is an integer from 1 to 10000"),
        ("epochs=1.5", "epochs is an integer from 1 to 10000"),
        ("learning_rate=0", "learning_rate is a number above 0, up to 1000000"),
        ("learning_rate=nan", "learning_rate is a number above 0, up to 1000000"),
        ("learning_rate=inf", "learning_rate is a number above 0, up to 1000000"),
        ("weight_decay=-1", "weight_decay is a number from 0 to 1000"),
        ("augment_strength=nan", "augment_strength is a number from 0 to 10"),
        ("dropout=1.0", "dropout is a number from 0 to below 1; up to 20 separated by commas; or none"),
        ("hidden=128,", "hidden is an integer from 1 to 4096; up to 20 separated by commas; or none"),
        ("hidden=128,none", "hidden is an integer from 1 to 4096; up to 20 separated by commas; or none"),
        ("hidden=99999999999", "hidden is an integer from 1 to 4096"),
        ("hidden=" + ",".join(["8"] * 21), "hidden is an integer from 1 to 4096; up to 20 separated"),
        ("optimizer=sgdx", "optimizer is adam or adamw or sgd or rmsprop"),
        ("batch_norm=maybe", "batch_norm is yes or no"),
        ("net=mlp", "--set net=mlp: no selected recipe has that field"),
        ("depth=3", "--set depth=3: no selected recipe has that field; there are hidden, learning_rate"),
    ],
)
def test_a_wrong_setting_raises_recipe_error_with_the_allowed_values(assignment: str, message: str) -> None:
    with pytest.raises(RecipeError) as error:
        recipes.select(["keras-mlp"], [assignment])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_none_is_an_empty_list() -> None:
    (linear,) = recipes.select(["keras-mlp"], ["hidden=none", "dropout=none"])
    assert (linear.settings.hidden, linear.settings.dropout) == ((), ())


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_settings_survive_json_and_set(name: str) -> None:
    settings = recipes.RECIPES[name].settings
    adapter = TypeAdapter(Settings)
    assert adapter.validate_json(settings.model_dump_json()) == settings
    fields = describe(type(settings))
    assignments = [f"{field.name}={format_value(getattr(settings, field.name))}" for field in fields]
    assert recipes.select([name], assignments) == [recipes.RECIPES[name]]


@pytest.mark.parametrize(
    "changes", [{"epochs": 0}, {"depth": 3}, {"net": "svm"}, {"learning_rate": float("nan")}]
)
def test_stored_settings_are_held_to_the_same_bounds(changes: dict[str, object]) -> None:
    stored = recipes.RECIPES["keras-mlp"].settings.model_dump() | changes
    with pytest.raises(ValidationError):
        TypeAdapter(Settings).validate_python(stored)


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_described_with_bounds(kind: str) -> None:
    fields = {field.name: field for field in describe(KINDS[kind])}
    assert set(fields) == set(KINDS[kind].model_fields) - {"net"}
    for field in fields.values():
        assert field.description, field.name
        assert " to " in field.allowed or " or " in field.allowed, field.name
    assert fields["epochs"].default == {"keras": "10", "mlp": "20"}[kind]
    assert fields["epochs"].allowed == "an integer from 1 to 10000"


def test_importing_recipes_is_quick() -> None:
    code = "import sys; import digit_recognizer.recipes; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=DEADLINE,
    )
    modules = {name.split(".")[0] for name in loaded.stdout.split()}
    assert "pydantic" in modules
    assert not modules & {"numpy", "sklearn", "scipy", "keras", "tensorflow", "cv2", "pandas"}
