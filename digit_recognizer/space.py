"""What `tune` tries of a recipe's settings: of each field several values, or a range of numbers."""

import re
from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import NamedTuple

from digit_recognizer.errors import OptionError, shown
from digit_recognizer.recipes import select
from digit_recognizer.settings import FIELDS


class Range(NamedTuple):
    """Numbers from low to high, both included: whole ones if both are of type int."""

    low: float
    high: float

    @property
    def log(self) -> bool:
        """Whether the numbers' logarithms are searched evenly, as they span a power of ten."""
        return self.low > 0 and self.high / self.low >= 10

    @property
    def whole(self) -> bool:
        """Whether the numbers are whole."""
        return isinstance(self.low, int)

    @property
    def size(self) -> float:
        """How many numbers there are."""
        return self.high - self.low + 1 if self.whole else inf

    def rounded(self, value: float) -> float:
        """Return a number of the range to three digits, which are easily copied."""
        return value if self.whole else min(max(float(f"{value:.3g}"), self.low), self.high)


Space = dict[str, Range | tuple[object, ...]]


def split(assignments: Iterable[str]) -> tuple[dict[str, object], dict[str, str]]:
    """Return what was typed as FIELD=...: the single values, and the lists and ranges."""
    fixed: dict[str, object] = {}
    searched: dict[str, str] = {}
    for name, _, text in (assignment.partition("=") for assignment in assignments):
        if re.search(r",|\.\.", text):
            searched[name] = text
        else:
            fixed[name] = _read(name, text)
    return fixed, searched


def _read(name: str, text: object) -> object:
    """Return the value that was typed; a list of numbers is typed as 128-64, as commas part the values."""
    if not isinstance(text, str) or name not in FIELDS:
        return text
    field = FIELDS[name]
    return field.read(text.replace("-", ",") if field.items else text)


def check_space(recipe: str, fixed: Mapping[str, object], given: Mapping[str, Sequence[object]]) -> Space:
    """Return the values of each field as the recipe's settings hold them; texts are read as typed.

    Raises OptionError, which names the field, if one is not allowed.
    """
    space: Space = {}
    for name, items in given.items():
        parts = [part for item in items for part in _parts(item)]
        checked = [
            getattr(select([recipe], {**fixed, name: _read(name, part)})[0].settings, name) for part in parts
        ]
        if not any(isinstance(item, str) and ".." in item for item in items):
            space[name] = tuple(dict.fromkeys(checked))
            continue
        if len(checked) != 2 or {*map(type, checked)} - {int, float} or checked[0] >= checked[1]:
            found = shown(items[0]).strip("'")
            raise OptionError(f"--set {name}: found {found}, expected two numbers LOW..HIGH, the lower first")
        space[name] = Range(*checked)
    return space


def _parts(item: object) -> Sequence[object]:
    return re.split(r",|\.\.", item) if isinstance(item, str) else [item]
