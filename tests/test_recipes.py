import dataclasses

import pytest

from digit_recognizer import recipes
from digit_recognizer.errors import RecipeError


def test_each_recipe_goes_by_its_own_name() -> None:
    assert [recipe.name for recipe in recipes.choose(list(recipes.RECIPES))] == list(recipes.RECIPES)
    assert set(recipes.DEFAULT) <= set(recipes.RECIPES)


def test_an_unknown_recipe_is_told_the_known_ones() -> None:
    with pytest.raises(RecipeError, match=r"no recipe 'resnet'; there are keras-mlp, sklearn-mlp"):
        recipes.choose(["keras-mlp", "resnet"])


def test_recipes_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipes.RECIPES["keras-mlp"].settings.epochs = 1


OTHER = {
    "hidden": (7,), "channels": (3,), "dropout": (0.4,), "activation": "tanh", "output": "sigmoid",
    "optimizer": "sgd", "schedule": "constant", "prepare": "pca", "weight_decay": 0.3,
}  # fmt: skip


@pytest.mark.parametrize("name", ["keras-mlp", "sklearn-mlp"])
def test_every_setting_reaches_the_classifier(name: str) -> None:
    settings = recipes.RECIPES[name].settings
    before = repr(settings.classifier(seed=5))
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if field.name in OTHER:
            other = OTHER[field.name]
        else:
            other = not value if isinstance(value, bool) else value + 1
        assert other != value
        assert repr(dataclasses.replace(settings, **{field.name: other}).classifier(seed=5)) != before
    assert repr(settings.classifier(seed=6)) != before
    assert repr(settings.classifier(seed=5)) == before


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
        ("depth=3", "--set depth=3: no chosen recipe has such a field, only channels, hidden, activation"),
    ],
)
def test_a_wrong_setting_is_told_what_is_allowed(assignment: str, message: str) -> None:
    with pytest.raises(RecipeError) as error:
        recipes.choose(["keras-mlp"], [assignment])
    assert message in str(error.value)


def test_several_may_be_none() -> None:
    (linear,) = recipes.choose(["keras-mlp"], ["hidden=none"])
    assert linear.settings.hidden == ()
