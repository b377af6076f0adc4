"""Errors that a user can mend. A message is one line: where, what was found and expected, what to do next."""

import errno
import re
import reprlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from itertools import takewhile
from pathlib import Path
from traceback import walk_tb

# What the machine is to blame for, not the code: no room, no permission, no such path.
REFUSALS = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE,
    errno.ENFILE, errno.ENAMETOOLONG, errno.ELOOP,
}  # fmt: skip
# Every exit code, in the words of `submit --help` and the docs; the classes below say what ends with which.
EXIT_CODES = {
    0: "done: scored, or accepted with --no-wait; a run was written, even if it was stopped early",
    1: "a file or folder cannot be read or written, or holds something else; or no fit succeeded",
    2: "wrong usage",
    3: "refused before the upload",
    4: "credentials, rules or phone",
    5: "daily limit",
    6: "Kaggle rejected the file",
    7: "network or server",
    8: "accepted, its score still to come",
    130: "stopped by Ctrl-C or SIGTERM before it was done",
}


def printable(text: object) -> str:
    """Return the text with control, direction and other invisible characters escaped.

    File names, CSV cells and Kaggle's texts may hold sequences that would drive the terminal.
    """
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in str(text))


_BEGINNING = reprlib.Repr()  # of any type, nested in itself, or with a `repr` that raises
_BEGINNING.maxlevel, _BEGINNING.maxstring, _BEGINNING.maxother = 2, 60, 60


def shown(value: object) -> str:
    """Return what was found, for a message: the beginning of its `repr`, in one line."""
    try:
        text = _BEGINNING.repr(value)
    except ValueError:  # it has more digits than Python writes
        text = "a huge integer"
    return printable(" ".join(text.split())[:100])


@contextmanager
def own_methods() -> Iterator[None]:
    """Turn what a value's own methods raise into a ValueError that tells it, caused by it."""
    try:
        yield
    except Exception as error:
        raise ValueError(shown(error)) from error


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the name that was meant, if one has these initials, is close, or begins like it."""
    typed, names = name.lower(), list(names)
    short = [each for each in names if typed == "".join(word[:1] for word in each.split("_"))]  # lr
    begun = [n for n in names if min(len(n), len(typed)) > 2 and (n.startswith(typed) or typed.startswith(n))]
    return next(iter([*short, *get_close_matches(typed, names, n=1, cutoff=0.65), *begun]), None)


class DigitRecognizerError(Exception):
    """Base of the errors shown without a traceback, as one line whose control characters are escaped.

    Each class says what follows from its errors, where it differs from here: `exit_code`, one of EXIT_CODES,
    which the command ends with, and `heading`, which the line begins with.
    """

    exit_code = 1
    heading = "Error: "

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class DataError(DigitRecognizerError):
    """The input CSVs are missing, unreadable or not Digit Recognizer's."""


class PictureError(DigitRecognizerError):
    """A picture cannot be read as one digit."""


class OptionError(DigitRecognizerError):
    """An option or a setting has no such value, or several do not go together.

    A message, of any class, names options as they are typed; `job.in_python` turns them into keywords.
    """

    exit_code = 2


class SubmissionError(DigitRecognizerError):
    """Kaggle would reject the submission CSV."""


class RowCountError(SubmissionError):
    """The submission CSV is not of as many test digits as were expected."""


class RunError(DigitRecognizerError):
    """A run cannot be read, written or gone on with: its folder is damaged, or what fits it is lost."""


class WriteError(RunError):
    """A file, a folder or stdout cannot be written."""


class FitError(DigitRecognizerError):
    """A fit diverged or failed; the run goes on without it when other fits stand."""


class LibraryError(DigitRecognizerError):
    """A library that is needed cannot be imported or used; a run goes on without the nets that need it."""

    @classmethod
    def of_import(cls, error: Exception, advice: str = "") -> "LibraryError":
        """Return what an import raised, as one line; raise what it is if no installation is at fault."""
        asked = (error.name or "") if isinstance(error, ImportError) else ""
        if asked.startswith(__package__) or isinstance(error, MemoryError):
            raise error
        if re.search("(?i)failed to map segment|cannot allocate memory", str(error)):  # the system's loader
            raise MemoryError from error
        frames = [frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__)]
        beyond = takewhile(lambda name: not name.startswith(__package__), reversed(frames))
        library = (asked or ["a library", *beyond][-1]).partition(".")[0]
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return cls(
            f"{library} cannot be imported ({reason}); install the packages of requirements.txt anew{advice}"
        )


def machine_fault(error: Exception) -> str | None:
    """Return in one line what the machine or the installation is to blame for; None for a bug."""
    try:
        if isinstance(error, ImportError):
            return str(LibraryError.of_import(error))
    except MemoryError as memory:  # the system's loader had too little
        error = memory
    if isinstance(error, MemoryError):
        return "out of memory; close other programs, or raise its limit (ulimit -v)"
    if isinstance(error, FileNotFoundError) and error.filename is None:
        try:
            Path.cwd()
        except FileNotFoundError:
            return "the current folder was deleted; change to another"
    if isinstance(error, OSError) and error.errno in REFUSALS:
        return ": ".join(str(part) for part in (error.filename, error.strerror) if part is not None)
    if str(error) == "can't start new thread":
        return "no thread can be started; close other programs, or raise their limit (ulimit -u)"
    return None


class NotSubmittedError(DigitRecognizerError):
    """A submission is refused here, before the upload."""

    exit_code = 3


class KaggleError(DigitRecognizerError):
    """Base of what a call to Kaggle, or another server, raises. Each class says, and an error may differ:

    retryable: the same call may succeed. outcome_unknown: what was asked for may have been done nevertheless.
    retry_after: seconds that the server asked to wait.
    """

    retryable: bool
    outcome_unknown: bool

    def __init__(
        self,
        message: str,
        *,
        retryable: bool | None = None,
        outcome_unknown: bool | None = None,
        retry_after: float = 0.0,
    ) -> None:
        super().__init__(message)
        self.retryable = self.retryable if retryable is None else retryable
        self.outcome_unknown = self.outcome_unknown if outcome_unknown is None else outcome_unknown
        self.retry_after = retry_after


class CompetitionError(KaggleError):
    """Kaggle has no competition of that name."""

    exit_code, retryable, outcome_unknown = 2, False, False


class CredentialsError(KaggleError):
    """Kaggle does not know the account, or the account may not do that yet: rules, phone."""

    exit_code, retryable, outcome_unknown = 4, False, False


class QuotaError(KaggleError):
    """The day's submissions are used up."""

    exit_code, retryable, outcome_unknown = 5, False, False


class RejectedError(KaggleError):
    """Kaggle does not accept, or could not score, the submission."""

    exit_code, retryable, outcome_unknown = 6, False, False


class NetworkError(KaggleError):
    """A server cannot be reached, or does not answer as expected."""

    exit_code, retryable, outcome_unknown = 7, False, True


class ScorePendingError(DigitRecognizerError):
    """Kaggle has the submission, but has not scored it in time."""

    exit_code = 8
    heading = ""


class StoppedError(DigitRecognizerError):
    """Ctrl-C or SIGTERM stopped the command; the message says what it left behind."""

    exit_code = 130
    heading = ""
