import dataclasses

import numpy as np
import pytest

from digit_recognizer import data, recipes
from digit_recognizer.errors import RecipeError
from digit_recognizer.nets import keras_net


def test_each_recipe_goes_by_its_own_name() -> None:
    assert [recipe.name for recipe in recipes.choose(list(recipes.RECIPES))] == list(recipes.RECIPES)
    assert set(recipes.DEFAULT) <= set(recipes.RECIPES)


def test_an_unknown_recipe_is_told_the_known_ones() -> None:
    with pytest.raises(RecipeError, match=r"no recipe 'resnet'; there are keras-mlp, sklearn-mlp"):
        recipes.choose(["keras-mlp", "resnet"])


def test_a_slip_is_told_what_was_meant() -> None:
    with pytest.raises(RecipeError, match=r"no recipe 'sofmax'; did you mean softmax\? there are"):
        recipes.choose(["sofmax"])
    with pytest.raises(RecipeError, match=r"--set epoch=3: .* did you mean epochs\? there are"):
        recipes.choose(["keras-mlp"], ["epoch=3"])


def test_recipes_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipes.RECIPES["keras-mlp"].settings.epochs = 1


SMALL = {
    "keras": recipes.KerasNet(hidden=(8,), epochs=2, batch_size=16),
    "sklearn": recipes.SklearnMLP(hidden=(8,), epochs=3, batch_size=16),
}
OTHER = {
    "hidden": (7,), "channels": (3,), "dropout": (0.4,), "activation": "tanh", "output": "sigmoid",
    "optimizer": "sgd", "schedule": "cosine", "prepare": "pca", "weight_decay": 30.0, "learning_rate": 0.01,
    "early_stopping": 1, "alpha": 100.0, "kernels": (5,), "strides": (1,), "label_smoothing": 0.1,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "field"),
    [(kind, field.name) for kind, settings in SMALL.items() for field in dataclasses.fields(settings)],
)
def test_every_setting_changes_what_is_learned(
    kind: str, field: str, digits: data.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keras_net, "has_bfloat16", lambda: True)
    base = SMALL[kind]
    if field in ("kernels", "strides", "pool", "bfloat16"):
        base = dataclasses.replace(base, channels=(3,))
    value = getattr(base, field)
    other = OTHER.get(field, True if value is False else None) or value + 1
    changed = dataclasses.replace(base, **{field: other})
    few = digits.train.pixels[:100], digits.train.labels[:100]

    def learned(settings: recipes.KerasNet | recipes.SklearnMLP) -> np.ndarray:
        return settings.classifier(seed=5).fit(*few).predict_proba(digits.test)

    before = learned(base)
    np.testing.assert_array_equal(learned(base), before)
    assert (learned(changed) != before).any()


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop"])
def test_every_optimizer_does_without_weight_decay(optimizer: str, digits: data.Dataset) -> None:
    settings = dataclasses.replace(SMALL["keras"], optimizer=optimizer)
    settings.classifier(seed=0).fit(digits.train.pixels[:100], digits.train.labels[:100])


@pytest.mark.parametrize(
    ("recipe", "assignments", "message"),
    [
        ("keras-mlp", ["hidden=64", "dropout=0.1,0.2"], "dropout has 2 shares for 1 hidden layers"),
        ("keras-mlp", ["channels=8", "kernels=5,3"], "kernels has 2 numbers for 1 convolutions"),
        ("keras-mlp", ["channels=8", "strides=2,2,1"], "strides has 3 numbers for 1 convolutions"),
        ("keras-mlp", ["pool=yes"], "pool needs convolutions; give channels"),
        ("sklearn-mlp-pca", ["tta=yes"], "tta needs images, which prepare=pca leaves none of"),
        ("sklearn-mlp-scaled", ["warp=1"], "warp needs images, which prepare=standardize leaves none of"),
        ("sklearn-mlp-pca", ["warp=1", "prepare=scale"], "early_stopping fits in one go, without warp"),
        ("sklearn-mlp", ["early_stopping=3"], "early_stopping fits in one go, without warp and averaged"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    recipe: str, assignments: list[str], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        recipes.choose([recipe], assignments)


def test_set_overrides_the_recipes_that_have_the_field() -> None:
    keras, sklearn = recipes.choose(
        ["keras-mlp", "sklearn-mlp"],
        ["epochs=3", "hidden=256,128", "dropout=0.1,0.2", "weight_decay=0.5"],
    )
    assert (keras.settings.epochs, keras.settings.hidden, keras.settings.dropout) == (
        3,
        (256, 128),
        (0.1, 0.2),
    )
    assert keras.settings.weight_decay == 0.5
    assert (sklearn.settings.epochs, sklearn.settings.hidden) == (3, (256, 128))
    assert recipes.RECIPES["keras-mlp"].settings.epochs != 3


def test_a_changed_recipe_has_no_evidence() -> None:
    measured = recipes.RECIPES["keras-mlp"]
    same = f"epochs={measured.settings.epochs}"
    assert recipes.choose(["keras-mlp"], [same]) == [measured]
    assert recipes.choose(["keras-mlp"], ["epochs=1"])[0].evidence is None


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("epochs", "--set epochs: expected FIELD=VALUE, such as epochs=20"),
        ("epochs=0", "--set epochs=0: epochs is an integer of at least 1"),
        ("epochs=1.5", "epochs is an integer of at least 1"),
        ("learning_rate=0", "learning_rate is a number above 0"),
        ("learning_rate=nan", "learning_rate is a number above 0"),
        ("learning_rate=inf", "learning_rate is a number above 0"),
        ("dropout=1.0", "dropout is a number from 0 to below 1; several separated by commas; or none"),
        ("hidden=128,", "hidden is an integer of at least 1; several separated by commas; or none"),
        ("optimizer=sgdx", "optimizer is adam or adamw or sgd or rmsprop"),
        ("batch_norm=maybe", "batch_norm is yes or no"),
        (
            "depth=3",
            "--set depth=3: no chosen recipe has such a field; there are channels, kernels, strides, pool",
        ),
    ],
)
def test_a_wrong_setting_is_told_what_is_allowed(assignment: str, message: str) -> None:
    with pytest.raises(RecipeError) as error:
        recipes.choose(["keras-mlp"], [assignment])
    assert message in str(error.value)


def test_several_may_be_none() -> None:
    (linear,) = recipes.choose(["keras-mlp"], ["hidden=none"])
    assert linear.settings.hidden == ()
