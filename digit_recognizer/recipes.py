"""Named settings, each with its evidence: the only place where a number of a model is written down.

To try another value, replace a field; to add a recipe, see CONTRIBUTING.md.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from digit_recognizer.errors import RecipeError

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline


@dataclass(frozen=True)
class KerasMLP:
    """A Keras net of dense layers: ReLU inside, ten logits out."""

    hidden: tuple[int, ...]  # units of each hidden layer
    epochs: int  # passes over the training rows
    batch_size: int  # rows a step
    learning_rate: float  # AdamW's, at the first step; it falls to 0 along a half cosine
    weight_decay: float  # AdamW's

    def classifier(self, seed: int) -> "Pipeline":
        """The model, not fitted, as a scikit-learn classifier of uint8 pixels of shape (n, 784)."""
        from digit_recognizer import models

        return models.on_pixels(
            models.KerasMLPClassifier(
                hidden=self.hidden,
                epochs=self.epochs,
                batch_size=self.batch_size,
                learning_rate=self.learning_rate,
                weight_decay=self.weight_decay,
                random_state=seed,
            )
        )


@dataclass(frozen=True)
class SklearnMLP:
    """scikit-learn's MLPClassifier, fitted pass by pass; the last passes' weights are averaged."""

    hidden: tuple[int, ...]  # units of each hidden layer
    epochs: int  # passes over the training rows
    averaged: int  # how many of the last passes' weights are averaged
    batch_size: int  # rows a step
    learning_rate: float  # Adam's, constant: the averaging stands in for a falling one
    alpha: float  # L2 penalty

    def classifier(self, seed: int) -> "Pipeline":
        """The model, not fitted, as a scikit-learn classifier of uint8 pixels of shape (n, 784)."""
        from sklearn.neural_network import MLPClassifier

        from digit_recognizer import models

        mlp = MLPClassifier(
            self.hidden,
            batch_size=self.batch_size,
            learning_rate_init=self.learning_rate,
            alpha=self.alpha,
            random_state=seed,
        )
        return models.on_pixels(models.PassByPassMLP(mlp, passes=self.epochs, averaged=self.averaged))


@dataclass(frozen=True)
class Evidence:
    """Accuracy on rows the model never saw, as `train --folds` measured it on the competition's files."""

    mean: float  # over the folds
    spread: float  # standard deviation over the folds
    folds: int
    seconds: float  # of one fold's fit
    date: str
    machine: str


@dataclass(frozen=True)
class Recipe:
    """A model's whole setting under the name that `--recipe` takes."""

    name: str
    summary: str
    settings: KerasMLP | SklearnMLP
    evidence: Evidence | None = None


RECIPES = {
    recipe.name: recipe
    for recipe in [
        Recipe(
            name="keras-mlp",
            summary="Keras 784-128-64-10 (109,386 parameters), AdamW with cosine decay",
            settings=KerasMLP(
                hidden=(128, 64),
                epochs=20,
                batch_size=128,
                learning_rate=3e-3,
                weight_decay=0.05,
            ),
        ),
        Recipe(
            name="sklearn-mlp",
            summary="scikit-learn MLPClassifier 784-256-128-10, weights of the last passes averaged",
            settings=SklearnMLP(
                hidden=(256, 128),
                epochs=14,
                averaged=8,
                batch_size=128,
                learning_rate=2e-3,
                alpha=1e-4,
            ),
        ),
    ]
}
DEFAULT = ("keras-mlp", "sklearn-mlp")


def get(name: str) -> Recipe:
    """The recipe of that name; raises RecipeError with the names there are."""
    if name not in RECIPES:
        raise RecipeError(f"no recipe {name!r}; there are {', '.join(RECIPES)}")
    return RECIPES[name]
