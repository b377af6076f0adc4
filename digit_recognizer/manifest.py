"""What `run.json` says, typed: all that decided a run's numbers, and what came of it."""

import hashlib
import platform
import re
import shlex
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, AliasChoices, AwareDatetime, Field, PlainSerializer, model_validator

from digit_recognizer.blending import Combiner
from digit_recognizer.errors import printable
from digit_recognizer.files import default_folder
from digit_recognizer.job import Method
from digit_recognizer.predictions import BLEND
from digit_recognizer.records import Record
from digit_recognizer.scoring import Accuracy, Fraction, Interval
from digit_recognizer.settings import Settings
from digit_recognizer.version import __version__

# Libraries whose version can change a number.
LIBRARIES = ("numpy", "scikit-learn", "scipy", "tensorflow", "keras", "opencv-python-headless")
BESIDE = ("cli", "inference", "leaderboard", "reports")  # what stands in these folders decides no number

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9@._+-]*$", max_length=200)]
NonNegativeInt = Annotated[int, Field(ge=0, le=10**9)]
NonNegative = Annotated[float, Field(ge=0, le=10**9)]

# JSON can hold no bytes that are no Unicode: they stand there as \udcff.
PathText = Annotated[
    str,
    AfterValidator(lambda raw: re.sub(r"\\udc[89a-f][0-9a-f]", lambda byte: chr(int(byte[0][2:], 16)), raw)),
    PlainSerializer(lambda text: text.encode(errors="backslashreplace").decode()),
]


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

    kind: str = Field(description="competition, sample, openml, train_test_overlap or other")
    source: PathText = Field(description="the folder they were read from")
    rows: Rows = Field(description="numbers of digits")
    fingerprint: Fingerprint = Field(description="which digits they were")


class SplitConfig(Record):
    """Which rows were held out."""

    holdout: Fraction | None = Field(description="share of the rows, or null with folds")
    folds: NonNegativeInt | None = Field(description="of cross-validation, or null with a holdout")
    repeats: NonNegativeInt = Field(default=1, description="of the cross-validation, each with other folds")

    def __str__(self) -> str:
        repeats = f", {self.repeats} repeats" if self.repeats > 1 else ""
        return f"{self.folds} folds{repeats}" if self.folds else f"holdout {self.holdout:g}"


class EnsembleConfig(Record):
    """What `ensemble` blended."""

    runs: tuple[str, ...] = Field(description="names of the blended runs")
    method: Method = Field(description="of --method")


class RunConfig(Record):
    """All that decides a run's numbers on a processor, but for the clock of --minutes; and how it was typed.

    `--resume` goes on only with an equal one, however its `options` were typed.
    """

    command: Literal["train", "validate", "ensemble"] = Field(description="that made the run")
    data: DataConfig = Field(description="the digits")
    recipes: dict[str, Settings] = Field(description="settings of each recipe to fit, in order")
    split: SplitConfig = Field(description="which rows were held out")
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(description="of the split and of all fits")
    refit: bool = Field(default=False, description="fitted on all rows as well, to predict the test digits")
    minutes: float | None = Field(default=None, description="of --minutes, or null")
    blend: bool = Field(default=True, description="false with --no-ensemble")
    threads: NonNegativeInt | None = Field(default=None, description="of each fit; null with --minutes")
    cores: NonNegativeInt | None = Field(default=None, description="with --minutes on this machine, or null")
    gpus: NonNegativeInt = Field(default=0, description="that Keras nets were fitted on")
    bfloat16: bool | None = Field(default=None, description="in convolutional nets; null if no recipe asks")
    ensemble: EnsembleConfig | None = Field(default=None, description="of `ensemble`, else null")
    versions: dict[str, str] = Field(description="of this package, Python and the deciding libraries")
    source_hash: str = Field(
        pattern=r"^[0-9a-f]{16}$", description="SHA-256 of the files that decide numbers, its start"
    )
    options: PathText = Field(default="", description="of `train` or `validate`, but for defaults")

    def resuming(self, folder: Path) -> str:
        """Return the command that goes on with the run in `folder`, quoted: a stranger may have made it."""
        options: list[str] = []
        with suppress(ValueError):  # of a quote that does not end
            options = shlex.split(self.options)
        if folder.parent.resolve() != default_folder("submissions").resolve():
            options += ["--out", str(folder.parent.absolute())]
        program = ("python", "-m", "digit_recognizer", self.command)
        return shlex.join([*program, *options, "--name", folder.name, "--resume"])

    def difference_from(self, other: "RunConfig") -> str:
        """Return the first field that differs, with both values, in words; "" if both give the same numbers.

        The order of the recipes counts; the data's folder, how options were typed, and cores against a
        cluster's null, do not.
        """
        mine, others = (
            {"recipes": ", ".join(config.recipes)}
            | _flat(config.model_dump(exclude={"data": {"source"}, "options": True}))
            for config in (self, other)
        )
        for field in {**others, **mine}:
            somewhere = field == "cores" and None in (mine.get(field), others.get(field))
            if mine.get(field) != others.get(field) and not somewhere:
                return printable(f"{field} {others.get(field)}, not {mine.get(field)}")
        return ""


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested dictionaries as one, whose keys are the paths."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


class ExpectedScore(Interval):
    """What the test digits will say of a submission."""

    value: Fraction = Field(description="the expected accuracy on the test digits")
    rows: Annotated[int, Field(ge=1, le=10**9)] = Field(description="number of test digits")

    def place(self, score: float) -> Literal["inside", "below", "above"]:
        """Return where a public score, which Kaggle cuts to five decimals, is by the interval."""
        if score > self.high:
            return "above"
        return "inside" if score >= self.low - 1e-5 else "below"


class ModelScore(Accuracy):
    """A model's validation accuracy, adjusted if it is known how hard the held-out rows are."""

    raw: Accuracy | None = Field(default=None, description="without the adjustment; null if there is none")
    digits: NonNegativeInt = Field(description="number of different held-out digits")
    fit_seconds: NonNegative = Field(
        description="of all fits of the model, added up",
        validation_alias=AliasChoices("fit_seconds", "seconds"),  # as earlier versions wrote it
    )
    folds: tuple[Fraction, ...] | None = Field(default=None, description="accuracy of each fold")
    std: Fraction | None = Field(default=None, description="standard deviation over the folds")
    test_accuracy: Fraction | None = Field(default=None, description="on the test digits, if labelled")


class EpochMetrics(Record):
    """Loss and accuracy after an epoch; training rows are the first 2,048 of the fit's."""

    epoch: NonNegative | None = Field(default=None, description="epochs so far; null in older runs")
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
    seconds: NonNegative = Field(description="of the fit and its predictions")
    curve: tuple[EpochMetrics, ...] = Field(description="metrics after each epoch")


class Manifest(Record, extra="ignore"):  # earlier versions of the package wrote further fields
    """What `run.json` says."""

    format: Literal[4] = Field(default=4, description="of this file")
    name: str = Field(description="of the run")
    created: AwareDatetime = Field(description="when the stage was complete")
    stage: NonNegativeInt = Field(default=1, description="the latest complete one; N of probabilities-N.npz")
    config: RunConfig = Field(description="all that decided the numbers")
    scores: dict[str, ModelScore] = Field(min_length=1, description="of each model, and of the blend if any")
    main_model: str = Field(description="the blend if there is one, else the most accurate model")
    expected_score: ExpectedScore | None = Field(
        default=None, description="of the main model on the test digits; null if training rows are among them"
    )
    settings: dict[str, Settings] = Field(
        description="of each model; with --minutes, with the epochs it had",
        validation_alias=AliasChoices("settings", "recipes"),  # as earlier versions wrote it
    )
    inference_fits: dict[str, tuple[FileName, ...]] = Field(
        description="files in fits/ that predict new digits"
    )
    blend: Combiner | None = Field(description="how the models' probabilities are blended, in their order")
    submission_model: str | None = Field(description="that submission.csv is of; null without one")
    submission_sha256: Sha256 | None = Field(default=None, description="of submission.csv")
    fits: dict[str, FitRecord] = Field(default={}, description="each fit, by model and split")
    failed_fits: dict[str, str] = Field(default={}, description="why each fit that was dropped failed")
    stopped_early: str | None = Field(default=None, description="why --resume can go on; null if it cannot")
    seconds: dict[str, NonNegative] = Field(description="of each step and in total, since a resumption")

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        if self.main_model not in self.scores or self.submission_model not in (None, *self.scores):
            raise ValueError("main_model or submission_model is not among the scores")
        if not self.models:
            raise ValueError("scores name no model besides the blend")
        if set(self.models) != set(self.settings) or set(self.models) != set(self.inference_fits):
            raise ValueError("scores, settings and inference_fits name different models")
        if any(len(set(files)) < len(files) for files in self.inference_fits.values()):
            raise ValueError("inference_fits names a file twice")
        if self.blend is not None and len(self.blend.weights) != len(self.models):
            raise ValueError("the blend has another number of weights than there are models")
        return self

    @property
    def models(self) -> list[str]:
        """The models' names without the blend's."""
        return [name for name in self.scores if name != BLEND]


def current_versions() -> dict[str, str]:
    """Return the versions of this package, Python and the libraries that decide numbers."""
    from importlib.metadata import PackageNotFoundError, version

    versions = {"digit_recognizer": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # another build of it, such as opencv-python
            versions[name] = "unknown"
    return versions


def source_hash() -> str:
    """Return the start of the SHA-256 of the package's files that can decide numbers."""
    package, digest = Path(__file__).parent, hashlib.sha256()
    for path in sorted([*package.rglob("*.py"), *package.rglob("*.npz")]):
        name = path.relative_to(package)
        if name.parts[0] not in BESIDE:
            digest.update(name.as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
