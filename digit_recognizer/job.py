"""What a run is asked to do, checked once, whether it is typed or called from a notebook."""

import inspect
import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any, Literal, ParamSpec, Self, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from digit_recognizer.environment import own_settings
from digit_recognizer.errors import DigitRecognizerError, OptionError, nearest, own_methods, shown
from digit_recognizer.files import check_folder, default_folder, user_path
from digit_recognizer.recipes import DEFAULT, Recipe, for_minutes, select
from digit_recognizer.records import Options, explain
from digit_recognizer.settings import FIELDS, format_value

HOLDOUT = 0.1
MAX_NAMES = 100  # ends an endless iterator as well
Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")


def to_path(value: object) -> Path:
    """Return the path, `~` expanded; raise ValueError if no file can have it."""
    with own_methods():
        text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(text, str) or not text.strip():
        raise ValueError
    try:
        return user_path(text)
    except OSError as error:
        raise ValueError(error.strerror) from None


def _to_out(value: object) -> Path:
    return default_folder("submissions") if value is None else to_path(value)


@own_methods()
def to_names(value: object) -> object:
    """Return the names; sets and the like have no order to fit and blend in."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, Iterable) and not isinstance(value, bytes | Mapping | set | frozenset):
        return tuple(islice(value, MAX_NAMES + 1))
    return value


def expect(text: str) -> Any:
    """Return what messages and help say that a field takes."""
    return Field(json_schema_extra={"allowed": text})


Method = Literal["weighted", "mean", "stacked"]
Folder = Annotated[Path, BeforeValidator(to_path), expect("a path")]
Name = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,99}$"),
    expect("up to 100 letters, digits and . _ + -, first a letter or digit"),
]
Names = Annotated[
    tuple[str, ...],
    Field(min_length=1, max_length=MAX_NAMES),
    BeforeValidator(to_names),
    expect(f"a recipe's name, or a list of 1 to {MAX_NAMES} names"),
]
Address = Annotated[str, Field(pattern=r"^(tcp|tls)://\S+:[0-9]{1,5}$"), expect("tcp:// or tls://HOST:PORT")]
AsDict = BeforeValidator(own_methods()(lambda value: dict(value) if isinstance(value, Mapping) else value))
Overrides = Annotated[dict[str, object], AsDict, expect("a dictionary of settings, such as {'epochs': 20}")]


# Options whose names are not their fields'.
FLAGS = {"recipes": "--recipe", "settings": "--set", "space": "--set"}


def flag_of(field: str) -> str:
    """Return the option of a field as the command line and all messages name it."""
    return FLAGS.get(field, "--" + field.replace("_", "-"))


def in_python(text: str, parameters: Iterable[str] = ()) -> str:
    """Return a message with the options that it names as a call has them: `data_dir` for --data-dir.

    A command to be typed, `train --resume`, stays.
    """
    names = {flag_of(field): f"`{field}`" for kind in (Job, Blend, StoredRun) for field in kind.model_fields}
    names |= {"--no-ensemble": "`ensemble=False`", "--trials": "`trials`"}
    if "space" in parameters:
        names["--set"] = "`space` or `settings`"
    return re.sub(r"`\w+ [^`]*`|--[a-z-]+", lambda found: names.get(found[0], found[0]), text)


class Asked(Options):
    """Base of what a command or a function is asked to do; a wrong value raises OptionError in one line."""

    model_config = ConfigDict(use_attribute_docstrings=True)  # they are the help of the command line, too

    out: Annotated[Path, BeforeValidator(_to_out), expect("a path")] = Field(None, validate_default=True)
    """Folder of the runs.  [default: submissions/]"""

    def __init__(self, **options: object) -> None:
        try:
            super().__init__(**options)
        except ValidationError as error:
            field, _, found = explain(error, type(self), "{}").partition(":")
            reason = error.errors()[0].get("ctx", {}).get("error")
            raise OptionError(f"{flag_of(field)}:{found}") from getattr(reason, "__cause__", None)


class NewRun(Asked):
    """Base of what makes a run."""

    name: Name | None = None
    """The run's name.  [default: date and time]"""

    @field_validator("out")
    @classmethod
    def _check_out(cls, out: Path) -> Path:
        """Raise WriteError where no folder can be made or written, before the digits are read."""
        check_folder(out, "; choose another --out")
        return out


class Job(NewRun):
    """What to train, on what: the options of `train` and `validate`."""

    recipes: Names | None = None
    """Recipe to train; repeat it for several. `recipes` lists them.
    [default: keras-mlp, sklearn-mlp; with --minutes the best that fit]
    """
    settings: Overrides | None = None
    """Override a setting in the recipes that have it, such as epochs=20; repeat it for several."""
    minutes: float | None = Field(default=None, ge=0.5, le=600)
    """Fill so many minutes with the best ensemble that this machine fits in them."""
    holdout: float | None = Field(default=None, gt=0, lt=1)
    """Share of the training rows held out for validation.  [default: 0.1]"""
    folds: int | None = Field(default=None, ge=2, le=100)
    """Validate by K-fold cross-validation instead; the geometric mean of the K models predicts."""
    repeats: int = Field(default=1, ge=1, le=100)
    """Number of repeats of the cross-validation, each with other folds."""
    refit: bool = False
    """Train again on all rows before predicting."""
    ensemble: bool = True
    """Blend the models' probabilities, or take the best model alone."""
    seed: int = Field(default=0, ge=0, le=2**32 - 1)
    """The same seed gives the same numbers on as many cores, except with --minutes."""
    jobs: int | None = Field(default=None, ge=1, le=1024)
    """Cores to use.  [default: all]"""
    cluster: Address | None = None
    """Fit on the workers of a Dask scheduler instead, such as tcp://localhost:8786."""
    data_dir: Folder | None = None
    """Folder of train.csv and test.csv.  [default: data/]"""
    resume: bool = False
    """Go on with a run of the same command that was cut off."""
    write_submission: bool = True
    """What `validate` does without."""

    @model_validator(mode="after")
    def _check_cores(self) -> Self:
        if self.cluster and self.jobs:
            raise OptionError("--jobs counts cores of this machine; leave it out with --cluster")
        return self

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.folds is not None and self.holdout is not None:
            raise OptionError("--holdout and --folds exclude each other; give one")
        if self.folds is None and not self.write_submission:
            raise OptionError("--folds: found None, expected an integer from 2 to 100")
        if self.folds is None and self.repeats > 1:
            raise OptionError(f"--repeats: found {self.repeats} without --folds; give --folds as well")
        if self.minutes and not self.ensemble:
            raise OptionError("--minutes fits an ensemble; leave out --no-ensemble")
        patient = [recipe.name for recipe in chain(*self.tiers) if recipe.settings.patience]
        if self.minutes and patient:
            raise OptionError(
                f"--minutes sets when to stop, and so does patience of {patient[0]}; "
                "leave out --minutes, or take another recipe"
            )
        return self

    @property
    def typed(self) -> str:
        """The options that differ from their defaults, as they are typed in any folder.

        Without --out, --name and --resume, which follow from the run's folder.
        """
        left_out = ("out", "name", "resume", "write_submission")
        defaults = {n: field.default for n, field in Job.model_fields.items() if n not in left_out}
        words: list[str] = []
        for name in defaults:
            value: Any = getattr(self, name)
            if isinstance(value, Path):
                value = value.absolute()
            if name == "settings" and value:
                value = tuple(f"{field}={format_value(each)}" for field, each in value.items())
            if isinstance(value, bool) and value != defaults[name]:
                words.append(flag_of(name) if value else "--no-ensemble")
            elif value != defaults[name]:
                values = value if isinstance(value, tuple) else (value,)
                words += [word for each in values for word in (flag_of(name), str(each))]
        return shlex.join(words)

    @property
    def tiers(self) -> list[list[Recipe]]:
        """The recipes with their settings, from the quickest tier to the best; only `minutes` has more."""
        timed = for_minutes(self.minutes) if self.minutes else (DEFAULT,)
        tiers = (self.recipes,) if self.recipes else timed
        selected = select(chain.from_iterable(tiers), self.settings)
        return [[recipe for recipe in selected if recipe.name in tier] for tier in tiers]

    @property
    def share(self) -> float | None:
        """The share of the rows held out; None with folds."""
        return None if self.folds else self.holdout or HOLDOUT


class Blend(NewRun):
    """Which runs to blend: the options of `ensemble`."""

    runs: Annotated[
        tuple[Folder, ...],
        Field(min_length=1, max_length=MAX_NAMES),
        expect("one or more runs, their names or folders"),
    ]
    method: Method = "weighted"
    """Weights that minimise log loss, equal weights, or logistic regression on log probabilities."""


class StoredRun(Asked):
    """Which run to read, and where its digits are: the options of `predict` and `report`."""

    run: Annotated[Folder, expect("a run, its name or folder")]
    data_dir: Folder | None = None
    """Folder of the run's digits.  [default: where it read them]"""
    png: bool = False
    """Write the figures as PNGs beside the page, too, for slides."""


def check_call(function: Callable[Parameters, Returned]) -> Callable[Parameters, Returned]:
    """Return the function, which computes by the package's settings of other libraries.

    Called with other options than its own, it raises OptionError, not TypeError. Its errors name options as a
    call has them.
    """
    signature = inspect.signature(function)

    @wraps(function)
    def call(*args: Parameters.args, **options: Parameters.kwargs) -> Returned:
        try:
            signature.bind(*args, **options)
        except TypeError as error:
            unknown = next((name for name in options if name not in signature.parameters), None)
            advice = str(error) if unknown is None else _advice(unknown, options, signature.parameters)
            raise OptionError(f"{function.__name__}: {advice}") from None
        try:
            with own_settings():
                return function(*args, **options)
        except DigitRecognizerError as error:
            error.args = (in_python(str(error), signature.parameters),)
            error.__notes__ = [in_python(note) for note in getattr(error, "__notes__", [])]
            raise

    return call


def _advice(unknown: str, given: Mapping[str, object], options: Iterable[str]) -> str:
    """Return what to give instead of an option that is unknown."""
    close = nearest(unknown, [*options, *(FIELDS if "settings" in options else ())])
    meant = f"did you mean {close}? " if close else ""
    if close in FIELDS:
        meant = f"give the setting as settings={{{close!r}: {shown(given[unknown])}}}; "
    return f"has no option {shown(unknown)}; {meant}it takes {', '.join(options)}"
