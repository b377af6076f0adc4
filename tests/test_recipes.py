import dataclasses

import pytest

from digit_recognizer import recipes
from digit_recognizer.errors import RecipeError


def test_each_recipe_goes_by_its_own_name() -> None:
    assert all(recipes.get(name).name == name for name in recipes.RECIPES)
    assert set(recipes.DEFAULT) <= set(recipes.RECIPES)


def test_an_unknown_recipe_is_told_the_known_ones() -> None:
    with pytest.raises(RecipeError, match=r"no recipe 'resnet'; there are keras-mlp, sklearn-mlp"):
        recipes.get("resnet")


def test_recipes_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipes.get("keras-mlp").settings.epochs = 1


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_setting_reaches_the_classifier(name: str) -> None:
    settings = recipes.get(name).settings
    before = settings.classifier(seed=5)[-1].get_params()
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        other = (value[0] + 1,) if isinstance(value, tuple) else value * 2
        after = dataclasses.replace(settings, **{field.name: other}).classifier(seed=5)[-1].get_params()
        assert {k: v for k, v in after.items() if k != "mlp"} != {
            k: v for k, v in before.items() if k != "mlp"
        }
    assert settings.classifier(seed=6)[-1].get_params() != before
