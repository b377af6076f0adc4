import itertools
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from pydantic import TypeAdapter

from digit_recognizer import data, recipes
from digit_recognizer.errors import OptionError
from digit_recognizer.job import Job
from digit_recognizer.nets import pipelines
from digit_recognizer.settings import KerasSettings, MLPSettings, Settings, describe, format_value, parse

KINDS = {"keras": KerasSettings, "mlp": MLPSettings}


def test_recipes_are_selected_once_in_the_order_asked_for() -> None:
    assert [recipe.name for recipe in recipes.select(["cnn", "softmax", "cnn"])] == ["cnn", "softmax"]
    recipes.select(itertools.chain(*recipes.for_minutes(15)))
    assert [recipe.settings.net for recipe in recipes.select(recipes.DEFAULT)] == ["keras", "mlp"]
    assert f"[default: {', '.join(recipes.DEFAULT)};" in (Job.model_fields["recipes"].description or "")


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
    """The same, of settings that many tests share: two fits of a kind have equal probabilities."""
    for settings in SMALL.values():
        np.testing.assert_array_equal(predictions(settings), predictions(settings))
    return cache(predictions)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "field"), [(kind, field) for kind in KINDS for field in describe(KINDS[kind])]
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


CONTRADICTIONS = [
    ("keras-mlp", "hidden=64 dropout=0.1,0.2", "dropout has 2 rates for 1 hidden layers"),
    ("keras-mlp", "channels=8 kernel_sizes=5,3", "kernel_sizes has 2 numbers for 1 convolutions"),
    ("keras-mlp", "channels=8 strides=2,2,1", "strides has 3 numbers for 1 convolutions"),
    ("keras-mlp", "global_pool=yes", "global_pool needs convolutions; give channels"),
    ("sklearn-mlp-pca", "tta=yes", "tta works on images: use preprocessing=scale, not preprocessing=pca"),
    ("sklearn-mlp-scaled", "augment_strength=1", "augment_strength works on images"),
    ("sklearn-mlp-scaled", "augment_strength_end=1", "augment_strength_end works on images"),
    ("sklearn-mlp-pca", "augment_strength=1 preprocessing=scale", "patience cannot be combined"),
    ("sklearn-mlp-pca", "averaged_epochs=2", "patience cannot be combined with averaged_epochs"),
    ("sklearn-mlp", "optimizer=sgd", "give learning_rate_schedule=constant as well"),
    ("sklearn-mlp-pca", "learning_rate_schedule=cosine", "needs optimizer=adam and no patience"),
    ("sklearn-mlp", "patience=3", "combined with augment_strength or augment_strength_end"),
]


@pytest.mark.parametrize(("recipe", "assignments", "message"), CONTRADICTIONS)
def test_settings_that_contradict_each_other_raise_option_error(
    recipe: str, assignments: str, message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        recipes.select([recipe], dict(map(parse, assignments.split())))


def test_set_overrides_the_recipes_that_have_the_field() -> None:
    both = {"epochs": 3, "tta": False}
    dense = {"hidden": (256, 128), "dropout": (0.1, 0.2), "weight_decay": 0.5}
    given = {**both, **dense, "epochs": 3.0, "hidden": [256, 128], "dropout": np.array([0.1, 0.2])}
    names = ["keras-mlp", "sklearn-mlp"]
    keras, sklearn = [recipe.settings for recipe in recipes.select(names, given)]
    before = [recipes.RECIPES[name].settings for name in names]
    assert keras == before[0].replace(**both, **dense)
    assert sklearn == before[1].replace(**both)
    assert before[0].epochs == 90


def test_a_changed_recipe_has_no_evidence() -> None:
    measured = recipes.RECIPES["keras-mlp"]
    assert recipes.select(["keras-mlp"], {"epochs": measured.settings.epochs}) == [measured]
    assert recipes.select(["keras-mlp"], {"epochs": 1})[0].evidence is None


LISTED = "expected a list of up to 20, each"
WRONG = {
    "expected an integer from 1 to 10000": {
        f"epochs={text}": found
        for text, found in {
            "": "''", "0": 0, "10001": 10001, "-3": -3, "1.5": "'1.5'", "3.0": "'3.0'", "1e3": "'1e3'",
            "1_0": "'1_0'", " 3": "' 3'", "+3": "'+3'", "yes": "'yes'",
            "\N{FULLWIDTH DIGIT THREE}": "'\N{FULLWIDTH DIGIT THREE}'",
            "9" * 5000: f"'{'9' * 27}...{'9' * 28}'",
        }.items()
    },
    "expected a number above 0 to 1000000": {
        f"learning_rate={text}": found
        for text, found in {
            "0": 0, "nan": "'nan'", "inf": "'inf'", "1e999": "inf", "1_0.5": "'1_0.5'", "": "''",
            "\N{FULLWIDTH DIGIT ZERO}.1": "'\N{FULLWIDTH DIGIT ZERO}.1'",
        }.items()
    },
    "expected a number from 0 to 1000": {"weight_decay=-1": -1},
    "expected a number from 0 to 10": {"augment_strength=nan": "'nan'"},
    f"{LISTED} a number from 0 to below 1": {"dropout=1.0": 1},
    f"{LISTED} an integer from 1 to 4096": {
        "hidden=128,": "''", "hidden=128,none": "'none'", "hidden=64,1_28": "'1_28'",
        "hidden=99999999999": 99999999999, "hidden=" + ",".join(["8"] * 21): "(8, 8, 8, 8, 8, 8, ...)",
    },
    "expected adam or adamw or sgd or rmsprop": {"optimizer=sgdx": "'sgdx'"},
    "expected yes or no (True or False)": {"batch_norm=maybe": "'maybe'", "batch_norm=1": "'1'"},
}  # fmt: skip


@pytest.mark.parametrize("expected", WRONG)
def test_a_wrong_setting_raises_option_error_with_the_allowed_values(expected: str) -> None:
    for assignment, found in WRONG[expected].items():
        with pytest.raises(OptionError) as error:
            recipes.select(["keras-mlp"], dict([parse(assignment)]))
        field = assignment.partition("=")[0]
        assert str(error.value) == f"--set {field}: found {found}, {expected}"


@pytest.mark.parametrize("name", ["net", "depth"])
def test_a_setting_that_no_recipe_has_raises_option_error(name: str) -> None:
    with pytest.raises(OptionError, match=f"^--set {name}: no selected recipe has that field; .*there "):
        recipes.select(["keras-mlp"], dict([parse(f"{name}=mlp")]))


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_settings_survive_json_and_set(name: str) -> None:
    settings = recipes.RECIPES[name].settings
    adapter = TypeAdapter(Settings)
    assert adapter.validate_json(settings.model_dump_json()) == settings
    assignments = [f"{name}={format_value(getattr(settings, name))}" for name in describe(type(settings))]
    assert recipes.select([name], dict(map(parse, assignments))) == [recipes.RECIPES[name]]


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_described_with_bounds(kind: str) -> None:
    fields = describe(KINDS[kind])
    assert set(fields) == set(KINDS[kind].model_fields) - {"net"}
    for field in fields.values():
        assert field.description, field.name
        assert " to " in field.allowed or " or " in field.allowed, field.name
    assert fields["epochs"].default == {"keras": 10, "mlp": 20}[kind]
    assert fields["epochs"].allowed == "an integer from 1 to 10000"
