"""The kinds of a recipe's settings, and `--set field=value`: text -> a checked value of the field's kind."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar, get_type_hints

from digit_recognizer.errors import RecipeError


@dataclasses.dataclass(frozen=True)
class Kind:
    """What a setting may be: in words, and from text; `parse` raises ValueError for anything else."""

    allowed: str
    parse: Callable[[str], Any]


def _number(convert: Callable[[str], Any], allowed: str, good: Callable[[Any], bool]) -> Kind:
    def parse(text: str) -> Any:
        value = convert(text)
        if not good(value):
            raise ValueError(text)
        return value

    return Kind(allowed, parse)


def _several(one: Kind) -> Kind:
    def parse(text: str) -> tuple[Any, ...]:
        return () if text == "none" else tuple(one.parse(part) for part in text.split(","))

    return Kind(f"{one.allowed}; several separated by commas; or none", parse)


def choice(*names: str) -> Kind:
    """One of these names."""
    return Kind(" or ".join(names), lambda text: names[names.index(text)])


_COUNT = _number(int, "an integer of at least 1", lambda value: value >= 1)
_SHARE = _number(float, "a number from 0 to below 1", lambda value: 0 <= value < 1)
_FLAGS = {"yes": True, "no": False}

Count = Annotated[int, _COUNT]
CountFrom0 = Annotated[int, _number(int, "an integer of at least 0", lambda value: value >= 0)]
Rate = Annotated[float, _number(float, "a number above 0", lambda value: 0 < value < float("inf"))]
Penalty = Annotated[float, _number(float, "a number of at least 0", lambda value: 0 <= value < float("inf"))]
Flag = Annotated[bool, Kind("yes or no", lambda text: _FLAGS[text])]
Share = Annotated[float, _SHARE]
Widths = Annotated[tuple[int, ...], _several(_COUNT)]
Shares = Annotated[tuple[float, ...], _several(_SHARE)]

Settings = TypeVar("Settings")


def kinds(settings: Any) -> dict[str, Kind]:
    """Each field's kind."""
    hints = get_type_hints(type(settings), include_extras=True)
    return {field.name: hints[field.name].__metadata__[0] for field in dataclasses.fields(settings)}


def override(settings: Settings, assignments: Sequence[str]) -> tuple[Settings, set[str]]:
    """The settings with `field=value` put in, and which of the assignments named a field of theirs.

    Raises RecipeError with what is allowed where a value is not.
    """
    known = kinds(settings)
    used, values = set(), {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise RecipeError(f"--set {assignment}: expected FIELD=VALUE, such as epochs=20")
        if name not in known:
            continue
        used.add(assignment)
        try:
            values[name] = known[name].parse(text)
        except (ValueError, KeyError):
            raise RecipeError(f"--set {assignment}: {name} is {known[name].allowed}") from None
    return dataclasses.replace(settings, **values), used  # type: ignore[type-var]
