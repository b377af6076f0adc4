"""Named settings, each with its evidence: the only place where a number of a model is written down.

To try another value, use `--set`; to add a recipe, see CONTRIBUTING.md.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated

from digit_recognizer.errors import RecipeError
from digit_recognizer.settings import (
    Count,
    CountFrom0,
    Flag,
    Penalty,
    Rate,
    Share,
    Shares,
    Widths,
    choice,
    kinds,
    override,
)

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline


@dataclass(frozen=True)
class KerasNet:
    """A Keras net: convolutions if there are `channels`, then dense layers; see `keras_net.KerasNet`."""

    channels: Widths = ()  # of each convolution
    kernels: Widths = ()  # pixels across of each; 3 where not said
    strides: Widths = ()  # of each; 2 where not said
    pool: Flag = False  # average each channel over the image, instead of keeping each pixel
    hidden: Widths = (128, 64)  # units of each hidden dense layer
    activation: Annotated[str, choice("relu", "gelu", "elu", "tanh")] = "relu"
    output: Annotated[str, choice("softmax", "sigmoid")] = "softmax"
    batch_norm: Flag = False
    bfloat16: Flag = False  # mixed precision in convolutional nets, where the processor is quicker at it
    dropout: Shares = ()  # after each hidden layer
    optimizer: Annotated[str, choice("adam", "adamw", "sgd", "rmsprop")] = "adam"
    learning_rate: Rate = 1e-3  # at its highest
    schedule: Annotated[str, choice("constant", "cosine")] = "constant"
    weight_decay: Penalty = 0.0
    label_smoothing: Share = 0.0  # of each label, spread over all digits
    upright: Flag = False  # set images upright, in training and prediction alike; see `augment`
    warp: Penalty = 0.0  # strength of the warps at the start
    warp_last: Penalty = 0.0  # and, changing evenly, at the end
    epochs: Count = 10  # passes over the training rows, at most
    batch_size: Count = 32  # rows a step
    tta: Flag = False  # test-time augmentation: the mean over the image and its shifts by a pixel
    early_stopping: CountFrom0 = 0  # passes without progress on a tenth kept aside; 0: never

    def __post_init__(self) -> None:
        """Raise RecipeError where fields do not go together."""
        if len(self.dropout) > len(self.hidden):
            raise RecipeError(f"dropout has {len(self.dropout)} shares for {len(self.hidden)} hidden layers")
        for name, given in (("kernels", self.kernels), ("strides", self.strides)):
            if len(given) > len(self.channels):
                raise RecipeError(f"{name} has {len(given)} numbers for {len(self.channels)} convolutions")
        if self.pool and not self.channels:
            raise RecipeError("pool needs convolutions; give channels, such as channels=32,64")

    def classifier(self, seed: int) -> "Pipeline":
        """The model, not fitted, as a scikit-learn classifier of uint8 pixels of shape (n, 784)."""
        from digit_recognizer.nets import keras_net, pipelines

        settings = asdict(self)
        upright = settings.pop("upright")
        return pipelines.on_pixels(keras_net.KerasNet(**settings, random_state=seed), upright=upright)


@dataclass(frozen=True)
class SklearnMLP:
    """scikit-learn's MLPClassifier, fitted pass by pass; see `sklearn_net.PassByPassMLP`."""

    prepare: Annotated[str, choice("scale", "standardize", "pca")] = "scale"  # /255, and then perhaps more
    hidden: Widths = (128, 64)  # units of each hidden layer
    activation: Annotated[str, choice("relu", "tanh", "logistic")] = "relu"
    optimizer: Annotated[str, choice("adam", "sgd")] = "adam"
    learning_rate: Rate = 1e-3
    alpha: Penalty = 1e-4  # L2 penalty
    upright: Flag = False  # set images upright, in training and prediction alike; see `augment`
    warp: Penalty = 0.0  # strength of the warps at the start
    warp_last: Penalty = 0.0  # and, changing evenly, at the end
    epochs: Count = 20  # passes over the training rows, at most
    averaged: Count = 1  # how many of the last passes' weights are averaged
    batch_size: Count = 200  # rows a step
    tta: Flag = False  # test-time augmentation: the mean over the image and its shifts by a pixel
    early_stopping: CountFrom0 = 0  # passes without progress on a tenth kept aside; 0: never

    def __post_init__(self) -> None:
        """Raise RecipeError where fields do not go together."""
        warped = self.warp or self.warp_last
        if warped and self.prepare != "scale":
            raise RecipeError(
                f"warp needs images, which prepare={self.prepare} leaves none of; use prepare=scale"
            )
        if self.tta and self.prepare != "scale":
            raise RecipeError(
                f"tta needs images, which prepare={self.prepare} leaves none of; use prepare=scale"
            )
        if self.early_stopping and (warped or self.averaged > 1):
            raise RecipeError(
                "early_stopping fits in one go, without warp and averaged; leave out one of them"
            )

    def classifier(self, seed: int) -> "Pipeline":
        """The model, not fitted, as a scikit-learn classifier of uint8 pixels of shape (n, 784)."""
        from sklearn.decomposition import PCA
        from sklearn.neural_network import MLPClassifier
        from sklearn.preprocessing import StandardScaler

        from digit_recognizer.nets import pipelines, sklearn_net

        mlp = MLPClassifier(
            self.hidden,
            activation=self.activation,
            solver=self.optimizer,
            learning_rate_init=self.learning_rate,
            alpha=self.alpha,
            max_iter=self.epochs,
            batch_size=self.batch_size,
            early_stopping=self.early_stopping > 0,
            n_iter_no_change=self.early_stopping or 10,
            random_state=seed,
        )
        before = {
            "scale": [],
            "standardize": [StandardScaler()],
            "pca": [
                PCA(0.95, svd_solver="covariance_eigh")
            ],  # as many components as hold 95% of the variance
        }[self.prepare]
        net = sklearn_net.PassByPassMLP(mlp, self.epochs, self.averaged, self.warp, self.warp_last, self.tta)
        return pipelines.on_pixels(net, *before, upright=self.upright)


@dataclass(frozen=True)
class Evidence:
    """Accuracy on rows the model never saw: `validate --recipe NAME --folds 5 --seed 1`, competition's files.

    The settings were chosen on the folds of seed 0.
    """

    mean: float  # over the folds
    spread: float  # standard deviation over the folds
    seconds: float  # of one fold's fit and prediction, on one core
    date: str


@dataclass(frozen=True)
class Recipe:
    """A model's whole setting under the name that `--recipe` takes."""

    name: str
    summary: str
    settings: KerasNet | SklearnMLP
    evidence: Evidence | None = None


# Tried, each on a fold of seed 0, and left out, as no clear gain for the time: channels times 1.5, 5x5
# kernels throughout, pool, upright, a dense layer of 128, batches of 64, weight_decay=0.25,
# label_smoothing=0.1, warps from 2.2 to 0.8, 38 epochs. So were, in code that is gone: dropout between
# convolutions, seven of them from the full size down with dropout (C. Deotte's), pseudo-labels of test
# digits. Blends of two to eight such nets read hardly better than the best of them: half of what each
# misreads is misread by all.
CNN = KerasNet(
    channels=(32, 64, 64, 128, 128),
    kernels=(5,),
    strides=(2, 1, 2, 1, 2),
    hidden=(),
    batch_norm=True,
    bfloat16=True,
    optimizer="adamw",
    learning_rate=3e-3,
    schedule="cosine",
    weight_decay=0.05,
    label_smoothing=0.03,
    warp=1.6,
    warp_last=0.6,
    epochs=20,
    batch_size=128,
    tta=True,
)
# For dense nets, views warped at random or moved by half a pixel gain less than tta's five; nine, no more.
RECIPES = {
    recipe.name: recipe
    for recipe in [
        Recipe(
            name="keras-mlp",
            summary="Keras 784-128-64-10 (109,386 parameters), upright digits warped afresh each pass",
            settings=KerasNet(
                hidden=(128, 64),
                optimizer="adamw",
                learning_rate=5e-3,
                schedule="cosine",
                weight_decay=0.05,
                label_smoothing=0.03,
                upright=True,
                warp=1.5,
                warp_last=0.6,
                epochs=120,
                batch_size=256,
                tta=True,
            ),
            evidence=Evidence(0.9928, 0.0012, 127, "2026-11-22"),
        ),
        Recipe(
            name="sklearn-mlp",
            summary="scikit-learn MLPClassifier 784-256-128-10, upright and warped digits, averaged weights",
            settings=SklearnMLP(
                hidden=(256, 128),
                learning_rate=2e-3,
                alpha=1e-3,
                upright=True,
                warp=1.4,
                warp_last=0.6,
                epochs=75,
                averaged=18,
                batch_size=128,
                tta=True,
            ),
            evidence=Evidence(0.9928, 0.0017, 150, "2026-11-22"),
        ),
        Recipe(
            name="softmax",
            summary="notebook: Keras 784-10 sigmoid, Adam, 5 epochs; here with a falling learning rate",
            settings=KerasNet(
                hidden=(), output="sigmoid", learning_rate=1e-2, schedule="cosine", epochs=5, batch_size=64
            ),
            evidence=Evidence(0.9247, 0.0014, 4, "2026-11-21"),
        ),
        Recipe(
            name="keras-mlp-100",
            summary="notebook: Keras 784-100-10, Adam, 5 epochs; here 20, with weight decay",
            settings=KerasNet(
                hidden=(100,),
                output="sigmoid",
                optimizer="adamw",
                learning_rate=3e-3,
                schedule="cosine",
                weight_decay=0.05,
                epochs=20,
                batch_size=128,
            ),
            evidence=Evidence(0.9746, 0.0020, 8, "2026-11-21"),
        ),
        Recipe(
            name="keras-mlp-plain",
            summary="notebook: Keras 784-128-64-10, Adam",
            settings=KerasNet(hidden=(128, 64), epochs=10),
            evidence=Evidence(0.9711, 0.0016, 9, "2026-11-21"),
        ),
        Recipe(
            name="keras-mlp-bn",
            summary="notebook: Keras 784-512-256-128-64-10, batch norm, dropout, falling learning rate",
            settings=KerasNet(
                hidden=(512, 256, 128, 64),
                batch_norm=True,
                dropout=(0.3, 0.3, 0.2, 0.2),
                schedule="cosine",
                epochs=20,
                batch_size=128,
            ),
            evidence=Evidence(0.9817, 0.0022, 50, "2026-11-21"),
        ),
        Recipe(
            name="sklearn-mlp-plain",
            summary="notebook: MLPClassifier on pixels / 255",
            settings=SklearnMLP(),
            evidence=Evidence(0.9727, 0.0026, 32, "2026-11-21"),
        ),
        Recipe(
            name="sklearn-mlp-scaled",
            summary="notebook: StandardScaler and MLPClassifier; here 256-128, weights averaged",
            settings=SklearnMLP(prepare="standardize", hidden=(256, 128), alpha=0.01, averaged=8),
            evidence=Evidence(0.9745, 0.0014, 18, "2026-11-21"),
        ),
        Recipe(
            name="sklearn-mlp-pca",
            summary="notebook's proposal: PCA (95% of variance), MLPClassifier (alpha 0.1) that stops early",
            settings=SklearnMLP(prepare="pca", alpha=0.1, epochs=100, early_stopping=10),
            evidence=Evidence(0.9742, 0.0022, 23, "2026-11-21"),
        ),
        Recipe(
            name="cnn",
            summary="Keras convolutions 32-64-64-128-128, batch norm, digits warped afresh each pass",
            settings=CNN,
            evidence=Evidence(0.9961, 0.0008, 434, "2026-11-21"),
        ),
        Recipe(
            name="cnn-small",
            summary="Keras convolutions 32-64-64-128 for fewer minutes, else as cnn",
            settings=replace(CNN, channels=(32, 64, 64, 128), strides=(2, 2, 1, 2), epochs=8),
            evidence=Evidence(0.9945, 0.0010, 79, "2026-11-21"),
        ),
        Recipe(
            name="cnn-plain",
            summary="notebook's proposal: Keras convolutions 32-64-64, stride 2",
            settings=KerasNet(
                channels=(32, 64, 64),
                hidden=(),
                optimizer="adamw",
                learning_rate=3e-3,
                schedule="cosine",
                weight_decay=0.05,
                epochs=12,
                batch_size=128,
            ),
            evidence=Evidence(0.9870, 0.0013, 63, "2026-11-21"),
        ),
    ]
}
DEFAULT = ("keras-mlp", "sklearn-mlp")
# What `--minutes` fits, from the quickest to the best: one group's recipes in turn, those of the last group
# that this machine has the time for.
FOR_MINUTES = (("keras-mlp",), ("cnn-small",), ("cnn",))


def choose(names: Sequence[str], assignments: Sequence[str] = ()) -> list[Recipe]:
    """The recipes of these names, each once, with `field=value` put into the settings of those that have it.

    Raises RecipeError where there is no such recipe, field or value.
    """
    chosen, used = [], set()
    for name in dict.fromkeys(names):
        if name not in RECIPES:
            raise RecipeError(f"no recipe {name!r}; {_close(name, RECIPES)}there are {', '.join(RECIPES)}")
        settings, fitting = override(RECIPES[name].settings, assignments)
        changed = replace(RECIPES[name], settings=settings)
        chosen.append(changed if settings == RECIPES[name].settings else replace(changed, evidence=None))
        used |= fitting
    for assignment in assignments:
        if assignment not in used:
            fields = dict.fromkeys(field for recipe in chosen for field in kinds(recipe.settings))
            near = _close(assignment.partition("=")[0], fields)
            raise RecipeError(
                f"--set {assignment}: no chosen recipe has such a field; {near}there are {', '.join(fields)}"
            )
    return chosen


def _close(name: str, names: Iterable[str]) -> str:
    """The name that was meant, perhaps."""
    found = get_close_matches(name, list(names), n=1)
    return f"did you mean {found[0]}? " if found else ""
