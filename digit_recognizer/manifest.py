"""What `run.json` says, typed: all that decided a run's numbers, and what came of it."""

import hashlib
import platform
import re
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    Field,
    PlainSerializer,
    StringConstraints,
    model_validator,
)

from digit_recognizer.blending import Combiner
from digit_recognizer.errors import printable
from digit_recognizer.job import Method
from digit_recognizer.predictions import BLEND
from digit_recognizer.records import Record
from digit_recognizer.settings import Settings
from digit_recognizer.version import __version__

FORMAT = 3
# Libraries whose version can change a number.
LIBRARIES = ("numpy", "scikit-learn", "scipy", "tensorflow", "keras", "opencv-python-headless")
# Files of the package that decide numbers besides the settings, which are in the config themselves.
DECIDING = (
    "data/*.py",
    "blending.py",
    "environment.py",
    "nets/*.py",
    "pipeline.py",
    "predictions.py",
    "results.py",
    "schedule.py",
    "scoring.py",
    "settings.py",
    "splits.py",
    "stages.py",
    "training/*.py",
)

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9@._+-]*$", max_length=200)]
Fraction = Annotated[float, Field(ge=0, le=1)]
NonNegativeInt = Annotated[int, Field(ge=0, le=10**9)]
Seconds = Annotated[float, Field(ge=0, le=10**9)]


def _escape(text: str) -> str:
    """Return a path's text with the bytes that are no Unicode as `\\udcff`, which JSON can hold."""
    return text.encode(errors="backslashreplace").decode()


def _unescape(text: str) -> str:
    return re.sub(r"\\udc([89a-f][0-9a-f])", lambda match: chr(0xDC00 + int(match[1], 16)), text)


FolderName = Annotated[str, AfterValidator(_unescape), PlainSerializer(_escape)]


class Rows(Record):
    """Numbers of digits."""

    train: NonNegativeInt = Field(description="in train.csv")
    test: NonNegativeInt = Field(description="in test.csv")


class Fingerprint(Record):
    """SHA-256 of the training labels and pixels, and of the test pixels."""

    train: Sha256 = Field(description="of the labels and pixels of train.csv")
    test: Sha256 = Field(description="of the pixels of test.csv")


class DataConfig(Record):
    """The digits that a run was made from."""

    kind: str = Field(description="competition, sample, openml, contaminated or other")
    source: FolderName = Field(description="the folder they were read from")
    rows: Rows = Field(description="numbers of digits")
    fingerprint: Fingerprint = Field(description="which digits they were")


class SplitConfig(Record):
    """Which rows were held out."""

    holdout: Fraction | None = Field(description="share of the rows, or null with folds")
    folds: NonNegativeInt | None = Field(description="of cross-validation, or null with a holdout")
    repeats: NonNegativeInt = Field(
        default=1, description="of the cross-validation, with other folds each time"
    )


class EnsembleConfig(Record):
    """What `ensemble` blended."""

    runs: tuple[str, ...] = Field(description="names of the blended runs")
    method: Method = Field(description="of --method")


class RunConfig(Record):
    """All that decides a run's numbers on a processor; `--resume` goes on only with a run of an equal one."""

    command: Literal["train", "validate", "ensemble"] = Field(description="that made the run")
    data: DataConfig = Field(description="the digits")
    recipes: dict[str, Settings] = Field(description="settings of each recipe to fit, in order")
    split: SplitConfig = Field(description="which rows were held out")
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(description="of the split and of all fits")
    refit: bool = Field(default=False, description="fitted on all rows as well, to predict the test digits")
    minutes: float | None = Field(default=None, description="of --minutes, or null")
    blend: bool = Field(default=True, description="false with --no-ensemble")
    threads: NonNegativeInt | None = Field(default=None, description="of each fit; null with --minutes")
    cores: NonNegativeInt | None = Field(
        default=None, description="with --minutes, that the fits share, else null"
    )
    gpus: NonNegativeInt = Field(default=0, description="that Keras nets were fitted on")
    bfloat16: bool | None = Field(
        default=None, description="used in convolutional nets; null if no recipe asks, or in older runs"
    )
    ensemble: EnsembleConfig | None = Field(default=None, description="of `ensemble`, else null")
    versions: dict[str, str] = Field(description="of this package, Python and the deciding libraries")
    source_hash: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")] = Field(
        description="start of the SHA-256 of the package's files that decide numbers"
    )

    def difference_from(self, other: "RunConfig") -> str:
        """Return the first field that differs, with both values, in words; "" if both give the same numbers.

        Unlike ==, it heeds the order of the recipes, and not the folder that the data lies in.
        """
        mine, others = (
            config.model_dump(mode="json", exclude={"data": {"source"}}) for config in (self, other)
        )
        if list(mine["recipes"]) != list(others["recipes"]):
            return f"recipes {', '.join(others['recipes'])}, not {', '.join(mine['recipes'])}"
        return _first_difference(mine, others)


def _first_difference(mine: object, others: object, field: str = "") -> str:
    if isinstance(mine, dict) and isinstance(others, dict):
        for name in {**others, **mine}:
            path = f"{field}.{name}" if field else str(name)
            if difference := _first_difference(mine.get(name), others.get(name), path):
                return difference
        return ""
    return "" if mine == others else printable(f"{field} {others}, not {mine}")


class ModelScore(Record):
    """A model's score on held-out rows."""

    accuracy: Fraction = Field(description="share of held-out digits read right")
    low: Fraction = Field(description="of the 95% interval")
    high: Fraction = Field(description="of the 95% interval")
    digits: NonNegativeInt = Field(description="number of different held-out digits")
    seconds: Seconds = Field(description="of all fits of the model, added up")
    folds: tuple[Fraction, ...] | None = Field(default=None, description="accuracy of each fold")
    std: Fraction | None = Field(default=None, description="standard deviation over the folds")
    test_accuracy: Fraction | None = Field(
        default=None, description="on the test digits, if the data includes their labels"
    )


class EpochMetrics(Record):
    """Loss and accuracy after an epoch; training rows are the first 2,048 of the fit's."""

    epoch: Annotated[float, Field(ge=0, le=10**9)] | None = Field(
        default=None, description="epochs so far; null in older runs"
    )
    train_loss: float = Field(description="log loss on training rows")
    train_accuracy: Fraction = Field(description="on training rows")
    valid_loss: float | None = Field(default=None, description="log loss on held-out rows, if there are any")
    valid_accuracy: Fraction | None = Field(default=None, description="on held-out rows, if there are any")


class FitRecord(Record):
    """One fit of a model."""

    model: str = Field(description="the recipe, or a member such as cnn-2")
    recipe: str | None = Field(default=None, description="that the model is of; null in older runs")
    split: str = Field(description="holdout, fold 1 ..., fold 1 repeat 2 ..., or all rows")
    file: FileName = Field(description="in fits/")
    seconds: Seconds = Field(description="of the fit and its predictions")
    curve: tuple[EpochMetrics, ...] = Field(description="metrics after each epoch")


class Manifest(Record):
    """What `run.json` says."""

    format: Literal[3] = Field(default=3, description="of this file")
    name: str = Field(description="of the run")
    created: AwareDatetime = Field(description="when the stage was complete")
    stage: Annotated[int, Field(ge=1, le=10**6)] = Field(
        default=1, description="number of the latest complete stage; probabilities-N.npz is of it"
    )
    config: RunConfig = Field(description="all that decided the numbers")
    scores: Annotated[dict[str, ModelScore], Field(min_length=1)] = Field(
        description="of each model, and of the blend if there is one"
    )
    main_model: str = Field(description="the blend if there is one, else the most accurate model")
    recipes: dict[str, Settings] = Field(
        description="settings of each model; in a run of --minutes, epochs is how many it had, rounded"
    )
    inference_fits: dict[str, tuple[FileName, ...]] = Field(
        description="files in fits/ whose mean prediction is each model's for new digits"
    )
    blend: Combiner | None = Field(description="how the models' probabilities are blended, in their order")
    submission_model: str | None = Field(
        description="the model that submission.csv is of, or null without one"
    )
    submission_sha256: Sha256 | None = Field(default=None, description="of submission.csv")
    replaced_sha256: Sha256 | None = Field(default=None, description="of the earlier stage's submission.csv")
    fits: dict[str, FitRecord] = Field(default={}, description="each fit, by model and split")
    failed_fits: dict[str, str] = Field(default={}, description="why each fit that was dropped failed")
    stopped_early: str | None = Field(
        default=None, description="why not all is fitted, which --resume can go on with; null if it is"
    )
    seconds: dict[str, Seconds] = Field(
        description="of each step, and in total; for a resumed run, counted from its resumption"
    )

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        if self.main_model not in self.scores or self.submission_model not in (None, *self.scores):
            raise ValueError("main_model or submission_model is not among the scores")
        if not self.models:
            raise ValueError("scores name no model besides the blend")
        if set(self.models) != set(self.recipes) or set(self.models) != set(self.inference_fits):
            raise ValueError("scores, recipes and inference_fits name different models")
        if self.blend is not None and len(self.blend.weights) != len(self.models):
            raise ValueError("the blend has another number of weights than there are models")
        return self

    @property
    def models(self) -> list[str]:
        """The models' names without the blend's."""
        return [name for name in self.scores if name != BLEND]


def current_versions() -> dict[str, str]:
    """Return the versions of this package, Python and the libraries that decide numbers."""
    versions = {"digit_recognizer": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # another build of it, such as opencv-python
            versions[name] = "unknown"
    return versions


def source_hash() -> str:
    """Return the start of the SHA-256 of the package's files that decide numbers."""
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for pattern in DECIDING:
        for path in sorted(package.glob(pattern)):
            digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def now() -> datetime:
    """Return this moment with its time zone."""
    return datetime.now().astimezone()
