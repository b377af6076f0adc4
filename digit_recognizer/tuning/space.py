"""What `tune` tries of a recipe's settings, checked once."""

import re
from itertools import chain
from typing import Annotated, NamedTuple, Self

from pydantic import BeforeValidator, Field, model_validator

from digit_recognizer.errors import OptionError, shown
from digit_recognizer.job import MAX_NAMES, AsDict, Job, expect, to_names
from digit_recognizer.recipes import select
from digit_recognizer.settings import parse

SEVERAL = r",|\.\."  # parts the values to try of a setting, or the ends of their range
Several = Annotated[tuple[object, ...], Field(min_length=1, max_length=MAX_NAMES), BeforeValidator(to_names)]


class Range(NamedTuple):
    """Numbers from low to high, both included; whole ones if both are of type int."""

    low: float
    high: float


class Tune(Job):
    """Which settings of a recipe to try: the options of `tune`."""

    space: Annotated[
        dict[str, Several],
        Field(min_length=1, max_length=20),
        AsDict,
        expect("values or a range to try, such as epochs=5,10 or learning_rate=0.001..0.1"),
    ]
    """Values of a setting to try, or a range; a single value changes the recipe. Repeat it for several."""
    trials: int | None = Field(default=None, ge=2, le=1000)
    """Number of candidates; the recipe as it stands is the first.  [default: 20]"""
    folds: int = Field(default=5, ge=2, le=100)
    """Number of folds."""

    @model_validator(mode="after")
    def _check_together(self) -> Self:  # in the place of `Job`'s
        if len(self.recipes or ()) != 1:
            raise OptionError("--recipe: give one, whose settings are searched")
        if self.trials and self.minutes:
            raise OptionError("--trials and --minutes exclude each other; give one")
        if self.resume and not self.name:
            raise OptionError("--resume: give the --name of the search as well")
        _ = self.searched  # raises
        return self

    @property
    def searched(self) -> dict[str, Range | tuple[object, ...]]:
        """The values of each field to try; raises OptionError, which names it, if one is not allowed."""
        searched: dict[str, Range | tuple[object, ...]] = {}
        for name, items in self.space.items():
            parts = [re.split(SEVERAL, item) if isinstance(item, str) else [item] for item in items]
            read = [parse(f"{name}={part}")[1] if isinstance(part, str) else part for part in chain(*parts)]
            changed = [select(self.recipes or (), {**(self.settings or {}), name: value}) for value in read]
            values = [getattr(recipe.settings, name) for (recipe,) in changed]
            searched[name] = tuple(dict.fromkeys(values))
            if any(isinstance(item, str) and ".." in item for item in items):
                if len(values) != 2 or {*map(type, values)} - {int, float} or values[0] >= values[1]:
                    found = shown(items[0]).strip("'")
                    raise OptionError(
                        f"--set {name}: found {found}, expected LOW..HIGH, two numbers in this order, "
                        "of a setting that is a number"
                    )
                searched[name] = Range(*values)
        return searched
