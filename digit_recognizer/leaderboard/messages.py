"""What Kaggle lists of a submission, and the tag that tells which file it is of."""

import math
import re
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from digit_recognizer.manifest import UtcDatetime
from digit_recognizer.records import Record

HASH_DIGITS = 12  # of the file's SHA-256, in a tag
# In the message of each submission: the start of the file's SHA-256, and the attempt.
TAG = re.compile(rf"\[([0-9a-f]{{{HASH_DIGITS}}})-[0-9a-f]{{4}}\]")


def tag_of(message: str) -> str:
    """Return a submission's own tag: the last, as messages may quote others before it; "" without one."""
    return max(TAG.finditer(message), key=re.Match.start)[0] if TAG.search(message) else ""


def _score(value: object) -> float | None:
    try:
        score = float(str(value))
    except ValueError:
        return None
    return score if math.isfinite(score) else None


class KaggleSubmission(Record):
    """One of the account's submissions, as Kaggle lists it."""

    ref: Annotated[int, Field(gt=0)]
    date: UtcDatetime
    file_name: str
    description: str
    status: Literal["PENDING", "COMPLETE", "ERROR"]
    error_description: str
    public_score: Annotated[float | None, BeforeValidator(_score)]

    @property
    def tag(self) -> str:
        """Return the submission's own tag, "" without one."""
        return tag_of(self.description)

    @property
    def age_key(self) -> tuple[datetime, int]:
        """Return what sorts submissions by their age, the oldest first."""
        return self.date or datetime.min.replace(tzinfo=UTC), self.ref

    def is_of_file(self, sha256: str) -> bool:
        """Return whether its tag says that it is of the file with that SHA-256."""
        return self.tag.startswith(f"[{sha256[:HASH_DIGITS]}-")
