"""Frozen, validated records; the one place where JSON, typed text or a call's values become a record."""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from decimal import Decimal
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from digit_recognizer.errors import RunError, printable, shown
from digit_recognizer.files import read_plain, write_atomically

MAX_BYTES = 1 << 26  # a JSON file of ours has at most some MB; more is refused unread
MAX_OBJECTS, MAX_VALUES = 100_000, 500_000  # of 100,000 epochs; pydantic takes a KB for each wrong value
MAX_ERRORS = 1000


class Record(BaseModel):
    """Base of all records: frozen, no unknown fields, no NaN, no silent conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


AnyRecord = TypeVar("AnyRecord", bound=BaseModel)


class Options(Record):
    """Base of records of what a user asks for: numbers may be of any type, and lists stand for tuples."""

    @model_validator(mode="before")
    @classmethod
    def _to_plain(cls, values: object) -> object:
        return {name: _plain(value) for name, value in values.items()} if isinstance(values, dict) else values


def _plain(value: Any) -> object:
    """Return NumPy's and pandas' values as Python's, and lists as tuples; what is neither, as it is."""
    with suppress(Exception):  # of a huge fraction, a signalling NaN, or a method of the value's own
        if kind := getattr(getattr(value, "dtype", None), "kind", ""):
            # Else refused, as NumPy would make a number of a span of time.
            value = value.tolist() if kind in "biufcUO" else (value,)
        return tuple(map(_plain_number, value)) if isinstance(value, list | tuple) else _plain_number(value)
    return value


def _plain_number(value: object) -> object:
    """Return a real number as an int if it is whole, else as a float; and anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, Real | Decimal):
        return value
    number = value if isinstance(value, Integral) else float(value)
    return int(number) if number == number // 1 else number


# How the kinds of JSON values are typed. An integer is digits alone, so that 1_0 is a mistake, not ten.
TYPED: dict[str, tuple[str, Callable[[str], object]]] = {
    "integer": (r"-?[0-9]{1,18}", int),
    "number": (r"-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", float),
    "boolean": ("yes|no|true|false", {"yes": True, "true": True, "no": False, "false": False}.get),
}


class FieldSchema(BaseModel):
    """What a field's JSON schema says of its values; null, if it is allowed, goes without saying."""

    description: str = ""
    default: Any = None
    type: str = "string"
    enum: tuple[str, ...] = ()
    items: "FieldSchema | None" = None
    max_items: int = Field(default=0, alias="maxItems")
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = Field(default=None, alias="exclusiveMinimum")
    below: float | None = Field(default=None, alias="exclusiveMaximum")
    words: str = Field(default="", alias="allowed")

    @property
    def allowed(self) -> str:
        """What is allowed, in words."""
        if self.words:
            return self.words
        if self.type == "boolean":
            return "yes or no (True or False)"
        if self.type == "string":
            return " or ".join(self.enum)
        if self.items:
            return f"a list of up to {self.max_items}, each {self.items.allowed}"
        number = "an integer" if self.type == "integer" else "a number"
        low = f"from {self.minimum:g}" if self.above is None else f"above {self.above:g}"
        high = f"{self.maximum:.0f}" if self.below is None else f"below {self.below:g}"
        return f"{number} {low} to {high}"

    def read(self, text: str) -> object:
        """Return the value that was typed; what reads as no such value stays text."""
        if self.items:
            parts = re.split(r",|(?<=\d)-", text)  # 128-64 where commas part values to try
            return [] if text == "none" else [self.items.read(part) for part in parts]
        pattern, value = TYPED.get(self.type, ("", str))
        return value(text) if re.fullmatch(pattern, text) else text


def field_schema(schema: Mapping[str, Any]) -> FieldSchema:
    """Return what pydantic's JSON schema of a field says; that it may be null goes without saying."""
    return FieldSchema(**schema.get("anyOf", [schema])[0])


def explain(error: ValidationError, kind: type[Options], label: str) -> str:
    """Return the first failure of a validation in one line; `label` names the field, with {} for its name."""
    failure = error.errors(include_url=False)[0]
    if not failure["loc"]:  # of fields that do not go together
        return str(failure["ctx"]["error"])
    field = failure["loc"][0]
    expected = field_schema(kind.model_json_schema()["properties"][field]).allowed
    reason = str(failure.get("ctx", {}).get("error", ""))
    found = shown(failure["input"]) + (f" ({reason})" if reason else "")
    return f"{label.format(field)}: found {found}, expected {expected}"


def read(path: Path, kind: type[AnyRecord]) -> AnyRecord:
    """Return the record in a JSON file; raise RunError, which names file and field, if it is not valid."""
    try:
        content = read_plain(path, MAX_BYTES)
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror})") from None
    if content.count(b",") > MAX_VALUES or content.count(b"{") > MAX_OBJECTS:
        raise RunError(f"{path}: holds more than {MAX_VALUES:,} values, so it is not a file of this package")
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        raise RunError(f"{path}: {first_error(error)}") from None


def write(path: Path, record: BaseModel) -> None:
    """Write a record as a JSON file, whole or not at all; raises WriteError if it cannot be written."""
    write_atomically(path, record.model_dump_json(indent=2) + "\n")


def first_error(error: ValidationError) -> str:
    """Return the first failure of a validation as a phrase: the field, what was found, what is wrong."""
    if error.error_count() > MAX_ERRORS:
        return f"{error.error_count():,} of its values are missing or wrong"
    failure = error.errors(include_url=False, include_context=False)[0]
    field = printable(".".join(map(str, failure["loc"])))
    message = printable(failure["msg"][0].lower() + failure["msg"][1:])
    if field and failure["type"] not in ("missing", "extra_forbidden"):
        message = f"found {shown(failure['input'])}; {message}"
    return f"{field}: {message}" if field else message
