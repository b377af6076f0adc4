import itertools
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from digit_recognizer import data, recipes
from digit_recognizer.errors import RecipeError
from digit_recognizer.job import Job
from digit_recognizer.nets import pipelines
from digit_recognizer.settings import KerasSettings, MLPSettings, Settings, describe, format_value, parse

KINDS = {"keras": KerasSettings, "mlp": MLPSettings}


def test_selected_recipes_come_once_in_the_order_asked_for() -> None:
    names = [recipe.name for recipe in recipes.select(["cnn", "softmax", "cnn"])]
    assert names == ["cnn", "softmax"]


def test_default_and_timed_recipes_exist() -> None:
    names = {*recipes.DEFAULT, *itertools.chain(*recipes.for_minutes(15))}
    assert names == {recipe.name for recipe in recipes.select(sorted(names))}
    assert f"[default: {', '.join(recipes.DEFAULT)};" in (Job.model_fields["recipes"].description or "")


def test_the_default_recipes_are_a_keras_and_a_scikit_learn_net() -> None:
    kinds = [recipe.settings.net for recipe in recipes.select(recipes.DEFAULT)]
    assert kinds == ["keras", "mlp"]


def test_an_unknown_recipe_raises_recipe_error_with_the_known_ones() -> None:
    with pytest.raises(RecipeError, match=r"no recipe 'resnet'; there are keras-mlp, sklearn-mlp"):
        recipes.select(["keras-mlp", "resnet"])


def test_a_misspelt_name_gets_a_suggestion() -> None:
    with pytest.raises(RecipeError, match=r"no recipe 'sofmax'; did you mean softmax\? there are"):
        recipes.select(["sofmax"])
    with pytest.raises(RecipeError, match=r"`settings` epoch: .* did you mean epochs\? there are"):
        recipes.select(["keras-mlp"], {"epoch": 3})


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
    kind: str, field: str, predictions: Predict, base_predictions: Predict
) -> None:
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
        recipes.select([recipe], dict(map(parse, assignments)))


def test_set_overrides_the_recipes_that_have_the_field() -> None:
    keras, sklearn = recipes.select(
        ["keras-mlp", "sklearn-mlp"],
        {
            "epochs": 3.0,
            "hidden": [256, 128],
            "dropout": np.array([0.1, 0.2]),
            "weight_decay": 0.5,
            "tta": False,
        },
    )
    assert keras.settings == recipes.RECIPES["keras-mlp"].settings.replace(
        epochs=3, hidden=(256, 128), dropout=(0.1, 0.2), weight_decay=0.5, tta=False
    )
    assert sklearn.settings == recipes.RECIPES["sklearn-mlp"].settings.replace(epochs=3, tta=False)
    assert recipes.RECIPES["keras-mlp"].settings.epochs != 3


def test_a_changed_recipe_has_no_evidence() -> None:
    measured = recipes.RECIPES["keras-mlp"]
    assert recipes.select(["keras-mlp"], {"epochs": measured.settings.epochs}) == [measured]
    assert recipes.select(["keras-mlp"], {"epochs": 1})[0].evidence is None


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("epochs", "epochs: found '', expected an integer from 1 to 10000"),
        *(
            (f"epochs={text}", f"epochs: found {found}, expected an integer from 1 to 10000")
            for text, found in {
                "0": 0,
                "10001": 10001,
                "-3": -3,
                "1.5": "'1.5'",
                "3.0": "'3.0'",
                "1e3": "'1e3'",
                "1_0": "'1_0'",
                " 3": "' 3'",
                "+3": "'+3'",
                "\N{FULLWIDTH DIGIT THREE}": "'\N{FULLWIDTH DIGIT THREE}'",
                "9" * 5000: f"'{'9' * 27}...{'9' * 28}'",
                "yes": "'yes'",
            }.items()
        ),
        *(
            (
                f"learning_rate={text}",
                f"learning_rate: found {found}, expected a number above 0 to 1000000",
            )
            for text, found in {
                "0": 0,
                "nan": "'nan'",
                "inf": "'inf'",
                "1e999": "inf",
                "1_0.5": "'1_0.5'",
                "\N{FULLWIDTH DIGIT ZERO}.1": "'\N{FULLWIDTH DIGIT ZERO}.1'",
                "": "''",
            }.items()
        ),
        ("weight_decay=-1", "weight_decay: found -1, expected a number from 0 to 1000"),
        ("augment_strength=nan", "augment_strength: found 'nan', expected a number from 0 to 10"),
        ("dropout=1.0", "dropout: found 1, expected a list of up to 20, each a number from 0 to below 1"),
        ("hidden=128,", "hidden: found '', expected a list of up to 20, each an integer from 1 to 4096"),
        ("hidden=128,none", "hidden: found 'none', expected a list of up to 20"),
        ("hidden=64,1_28", "hidden: found '1_28', expected a list of up to 20"),
        ("hidden=99999999999", "hidden: found 99999999999, expected a list of up to 20"),
        (
            "hidden=" + ",".join(["8"] * 21),
            "hidden: found (8, 8, 8, 8, 8, 8, ...), expected a list of up to 20",
        ),
        ("optimizer=sgdx", "optimizer: found 'sgdx', expected adam or adamw or sgd or rmsprop"),
        ("batch_norm=maybe", "batch_norm: found 'maybe', expected yes or no"),
        ("batch_norm=1", "batch_norm: found '1', expected yes or no"),
        ("net=mlp", "net: no selected recipe has that field"),
        ("depth=3", "depth: no selected recipe has that field; there are hidden, learning_rate"),
    ],
)
def test_a_wrong_setting_raises_recipe_error_with_the_allowed_values(assignment: str, message: str) -> None:
    with pytest.raises(RecipeError) as error:
        recipes.select(["keras-mlp"], dict([parse(assignment)]))
    assert str(error.value).startswith(f"`settings` {message}")
    assert "\n" not in str(error.value)


def test_none_is_an_empty_list() -> None:
    (linear,) = recipes.select(["keras-mlp"], dict(map(parse, ["hidden=none", "dropout=none"])))
    assert (linear.settings.hidden, linear.settings.dropout) == ((), ())


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_settings_survive_json_and_set(name: str) -> None:
    settings = recipes.RECIPES[name].settings
    adapter = TypeAdapter(Settings)
    assert adapter.validate_json(settings.model_dump_json()) == settings
    fields = describe(type(settings))
    assignments = [f"{field.name}={format_value(getattr(settings, field.name))}" for field in fields]
    assert recipes.select([name], dict(map(parse, assignments))) == [recipes.RECIPES[name]]


@pytest.mark.parametrize(
    "changes", [{"epochs": 0}, {"epochs": "3"}, {"depth": 3}, {"net": "svm"}, {"learning_rate": float("nan")}]
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
