"""Frozen, validated records, and the one place where JSON becomes a record."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from digit_recognizer.errors import RunError
from digit_recognizer.files import write_atomically

MAX_BYTES = 1 << 26  # a JSON file of ours has at most some MB; more is refused unread


class Record(BaseModel):
    """Base of all records: frozen, no unknown fields, no NaN, no silent conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


AnyRecord = TypeVar("AnyRecord", bound=Record)


def read(path: Path, kind: type[AnyRecord]) -> AnyRecord:
    """Return the record in a JSON file.

    Raises RunError, in one line that names the file and the field, if it cannot be read or is not valid.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise RunError(
                f"{path}: is larger than {MAX_BYTES >> 20} MB, so it is not a file of this package"
            )
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror})") from None
    except ValidationError as error:
        raise RunError(f"{path}: {first_error(error)}") from None


def write(path: Path, record: Record) -> None:
    """Write a record as a JSON file, whole or not at all; raises RunError if it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, record.model_dump_json(indent=2) + "\n")
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror})") from None


def first_error(error: ValidationError) -> str:
    """Return the first failure of a validation as a phrase: the field, what was found, what is wrong."""
    failure = error.errors(include_url=False, include_context=False)[0]
    field = ".".join(map(str, failure["loc"]))
    message = failure["msg"][0].lower() + failure["msg"][1:]
    if not field:
        return message
    if failure["type"] in ("missing", "extra_forbidden"):
        return f"{field}: {message}"
    value = failure["input"]
    shown = "a huge integer" if isinstance(value, int) and abs(value) > 10**99 else repr(value)[:60]
    return f"{field}: found {shown}; {message}"
