"""The recipes: named settings, each with its evidence.

To try another value, use `--set`; to add a recipe, see CONTRIBUTING.md; what was tried and left out stands in
docs/experiments.md.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from digit_recognizer.errors import OptionError, nearest, shown
from digit_recognizer.settings import KerasSettings, MLPSettings, Settings, override


@dataclass(frozen=True)
class Evidence:
    """Hold the accuracy of `validate --recipe NAME --folds 5 --seed 1` on the competition's files.

    The settings were chosen on the folds of seed 0.
    """

    mean: float  # over the folds
    std: float  # over the folds
    seconds: float  # of one fold's fit and prediction, on one core
    date: str


@dataclass(frozen=True)
class Recipe:
    """Hold all settings of a net under the name that `--recipe` takes; fits' seeds depend on the name."""

    name: str
    summary: str
    settings: Settings
    evidence: Evidence | None = None


COSINE: dict[str, Any] = {"learning_rate_schedule": "cosine"}
ADAMW: dict[str, Any] = {**COSINE, "optimizer": "adamw", "weight_decay": 0.05}
DENSE: dict[str, Any] = {"deskew": True, "augment_strength_end": 0.6, "batch_size": 256, "tta": True}
CNN = KerasSettings(
    **ADAMW,
    channels=(32, 64, 64, 128, 128),
    kernel_sizes=(5,),
    strides=(2, 1, 2, 1, 2),
    hidden=(),
    batch_norm=True,
    bfloat16=True,
    learning_rate=3e-3,
    label_smoothing=0.03,
    augment_strength=1.6,
    augment_strength_end=0.6,
    epochs=20,
    batch_size=128,
    tta=True,
)
RECIPES = {
    recipe.name: recipe
    for recipe in [
        Recipe(
            "keras-mlp",
            "Keras 784-128-64-10 (109,386 parameters), deskewed digits augmented anew each epoch",
            KerasSettings(
                **ADAMW, **DENSE, learning_rate=7e-3, label_smoothing=0.03, augment_strength=1.5, epochs=90
            ),
            Evidence(0.9929, 0.0013, 82, "2026-11-28"),
        ),
        Recipe(
            "sklearn-mlp",
            "scikit-learn MLPClassifier 784-256-128-10, deskewed digits augmented anew each epoch",
            MLPSettings(
                **COSINE,
                **DENSE,
                hidden=(256, 128),
                learning_rate=3e-3,
                alpha=1e-3,
                augment_strength=1.4,
                epochs=60,
            ),
            Evidence(0.9926, 0.0011, 179, "2026-11-28"),
        ),
        Recipe(
            "softmax",
            "notebook: Keras 784-10, not softmax but ten sigmoids, normalised; Adam, 5 epochs; here with a "
            "falling learning rate",
            KerasSettings(**COSINE, hidden=(), output="sigmoid", learning_rate=1e-2, epochs=5, batch_size=64),
            Evidence(0.9247, 0.0014, 4, "2026-11-21"),
        ),
        Recipe(
            "keras-mlp-100",
            "notebook: Keras 784-100-10, Adam, 5 epochs; here 20, with weight decay",
            KerasSettings(
                **ADAMW, hidden=(100,), output="sigmoid", learning_rate=3e-3, epochs=20, batch_size=128
            ),
            Evidence(0.9746, 0.0020, 8, "2026-11-21"),
        ),
        Recipe(
            "keras-mlp-plain",
            "notebook: Keras 784-128-64-10, Adam",
            KerasSettings(hidden=(128, 64), epochs=10),
            Evidence(0.9711, 0.0016, 9, "2026-11-21"),
        ),
        Recipe(
            "keras-mlp-bn",
            "notebook: Keras 784-512-256-128-64-10, batch norm, dropout, falling learning rate",
            KerasSettings(
                **COSINE,
                hidden=(512, 256, 128, 64),
                batch_norm=True,
                dropout=(0.3, 0.3, 0.2, 0.2),
                epochs=20,
                batch_size=128,
            ),
            Evidence(0.9817, 0.0022, 50, "2026-11-21"),
        ),
        Recipe(
            "sklearn-mlp-plain",
            "notebook: MLPClassifier on pixels / 255",
            MLPSettings(),
            Evidence(0.9727, 0.0026, 32, "2026-11-21"),
        ),
        Recipe(
            "sklearn-mlp-scaled",
            "notebook: StandardScaler and MLPClassifier; here 256-128, weights averaged",
            MLPSettings(preprocessing="standardize", hidden=(256, 128), alpha=0.01, averaged_epochs=8),
            Evidence(0.9745, 0.0014, 18, "2026-11-21"),
        ),
        Recipe(
            "sklearn-mlp-pca",
            "notebook's proposal: PCA (95% of variance), MLPClassifier (alpha 0.1) that stops early",
            MLPSettings(preprocessing="pca", alpha=0.1, epochs=100, patience=10),
            Evidence(0.9742, 0.0022, 23, "2026-11-21"),
        ),
        Recipe(
            "cnn",
            "Keras convolutions 32-64-64-128-128, batch norm, digits augmented anew each epoch",
            CNN,
            Evidence(0.9961, 0.0008, 434, "2026-11-21"),
        ),
        Recipe("cnn-deskewed", "cnn on deskewed digits, to be blended with it", CNN.replace(deskew=True)),
        Recipe(
            "cnn-small",
            "Keras convolutions 32-64-64-128 for fewer minutes, else as cnn",
            CNN.replace(channels=(32, 64, 64, 128), strides=(2, 2, 1, 2), epochs=8),
            Evidence(0.9945, 0.0010, 79, "2026-11-21"),
        ),
        Recipe(
            "cnn-plain",
            "notebook's proposal: Keras convolutions 32-64-64, stride 2",
            KerasSettings(
                **ADAMW, channels=(32, 64, 64), hidden=(), learning_rate=3e-3, epochs=12, batch_size=128
            ),
            Evidence(0.9870, 0.0013, 63, "2026-11-21"),
        ),
    ]
}
DEFAULT = ("keras-mlp", "sklearn-mlp")
# What `--minutes` chooses from: tiers of recipes that are fitted in turn, from the quickest to the best.
FOR_MINUTES = (("keras-mlp",), ("cnn-small",), ("cnn",))
# With less time there is only a dense net. In one thread it has twice as many epochs, but then TensorFlow can
# give convolutions no more threads in the same process.
CONVOLUTIONS_FROM_MINUTES = 2
# From so many minutes on, half of the best tier's nets see deskewed digits: such a pair had a lower log loss
# out of fold than two nets that see the same, see docs/experiments.md.
DESKEWED_FROM_MINUTES = 15


def for_minutes(minutes: float) -> tuple[tuple[str, ...], ...]:
    """Return the names of the recipes that `--minutes` chooses from, from the quickest to the best."""
    if minutes < CONVOLUTIONS_FROM_MINUTES:
        return FOR_MINUTES[:1]
    if minutes < DESKEWED_FROM_MINUTES:
        return FOR_MINUTES
    return (*FOR_MINUTES[:-1], (*FOR_MINUTES[-1], "cnn-deskewed"))


def select(names: Iterable[str], overrides: Mapping[str, object] | None = None) -> list[Recipe]:
    """Return the recipes of these names, each once, with the overrides put in whose fields they have.

    Raises OptionError if there is no such recipe, field or value. A recipe that changes has no evidence.
    """
    names, overrides = list(dict.fromkeys(names)), overrides or {}
    for name in names:
        if name not in RECIPES:
            raise OptionError(f"no recipe {shown(name)}; {_known(name, RECIPES)}")
    selected = [RECIPES[name] for name in names]
    fields = dict.fromkeys(name for recipe in selected for name in type(recipe.settings).model_fields)
    del fields["net"]
    for name in overrides:
        if name not in fields:
            found = shown(name).strip("'")
            raise OptionError(f"--set {found}: no selected recipe has that field; {_known(found, fields)}")
    changed = [override(recipe.settings, overrides) for recipe in selected]
    return [
        recipe if settings == recipe.settings else replace(recipe, settings=settings, evidence=None)
        for recipe, settings in zip(selected, changed, strict=True)
    ]


def _known(name: str, names: Iterable[str]) -> str:
    """Return the names that there are, and first the one that was meant, if one is close."""
    close = nearest(name, names)
    meant = f"did you mean {close}? " if close else ""
    return f"{meant}there are {', '.join(names)}"
