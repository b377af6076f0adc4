"""Errors that a user can mend. A message is one line: where, what was found and expected, what to do next."""

EXIT_PENDING = 8
# Every exit code, in the words of `submit --help`; a test compares it with the classes below and the docs.
EXIT_CODES = {
    0: "scored, or accepted with --no-wait",
    1: "a folder or run.json cannot be read or written",
    2: "wrong usage",
    3: "refused before the upload",
    4: "credentials, rules or phone",
    5: "daily limit",
    6: "Kaggle rejected the file",
    7: "network or server",
    EXIT_PENDING: "accepted, its score still to come",
    130: "Ctrl-C",
}


def printable(text: object) -> str:
    """Return the text with control, direction and other invisible characters escaped.

    File names, CSV cells and Kaggle's texts may hold sequences that would drive the terminal.
    """
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in str(text))


class DigitRecognizerError(Exception):
    """Base of the errors shown without a traceback, as one line whose control characters are escaped.

    exit_code: what the command ends with. retryable: the same call may succeed. outcome_unknown: what was
    asked for may have been done nevertheless. retry_after: seconds that the server asked to wait.
    score_may_come: of a submission that is in, although this look for it failed.
    """

    exit_code = 1
    retryable = False
    outcome_unknown = False
    retry_after = 0.0
    score_may_come = False

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class DataError(DigitRecognizerError):
    """The input CSVs are missing, unreadable or not Digit Recognizer's."""


class PictureError(DigitRecognizerError):
    """A picture cannot be read as one digit."""


class RecipeError(DigitRecognizerError):
    """No recipe has that name, or a setting has no such value."""

    exit_code = 2


class SplitError(DigitRecognizerError):
    """The digits cannot be split as asked."""

    exit_code = 2


class SubmissionError(DigitRecognizerError):
    """Kaggle would reject the submission CSV."""


class RunError(DigitRecognizerError):
    """A run's folder cannot be written or read."""


class FitError(DigitRecognizerError):
    """A fit diverged or failed; the run goes on without it when other fits stand."""


class NotSubmittedError(DigitRecognizerError):
    """A submission is refused here, before the upload."""

    exit_code = 3


class CompetitionError(DigitRecognizerError):
    """Kaggle has no competition of that name."""

    exit_code = 2


class CredentialsError(DigitRecognizerError):
    """Kaggle does not know the account, or the account may not do that yet: rules, phone."""

    exit_code = 4
    score_may_come = True


class QuotaError(DigitRecognizerError):
    """The day's submissions are used up."""

    exit_code = 5


class RejectedError(DigitRecognizerError):
    """Kaggle does not accept, or could not score, the submission."""

    exit_code = 6


class NetworkError(DigitRecognizerError):
    """A server cannot be reached, or does not answer as expected."""

    exit_code = 7
    score_may_come = True

    def __init__(
        self, message: str, *, retryable: bool = False, outcome_unknown: bool = True, retry_after: float = 0
    ) -> None:
        super().__init__(message)
        self.retryable, self.outcome_unknown, self.retry_after = retryable, outcome_unknown, retry_after


class StoppedError(DigitRecognizerError):
    """Ctrl-C or SIGTERM stopped the command; the message says what it left behind."""

    exit_code = 130
