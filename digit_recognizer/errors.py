"""What a user can mend. Each message is one line: where, what was found and expected, what to do next."""


def printable(text: object) -> str:
    """Return the text with control, direction and other invisible characters escaped.

    File names, CSV cells and Kaggle's texts may hold sequences that would drive the terminal.
    """
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in str(text))


class DigitRecognizerError(Exception):
    """Base of the errors shown without a traceback; `exit_code` is what the command ends with."""

    exit_code = 1


class DataError(DigitRecognizerError):
    """The input CSVs are missing, unreadable or not Digit Recognizer's."""


class RecipeError(DigitRecognizerError):
    """No recipe has that name, or a setting has no such value."""

    exit_code = 2


class SplitError(DigitRecognizerError):
    """The digits cannot be split as asked."""

    exit_code = 2


class FitError(DigitRecognizerError):
    """A fit diverged or failed; the run goes on without it when other fits stand."""


class SubmissionError(DigitRecognizerError):
    """A submission CSV that Kaggle would reject."""


class RunError(DigitRecognizerError):
    """A run's folder cannot be written or read."""


class RefusedError(DigitRecognizerError):
    """A submission that is not even uploaded."""

    exit_code = 3


class CompetitionError(DigitRecognizerError):
    """Kaggle has no competition of that name."""

    exit_code = 2


class CredentialsError(DigitRecognizerError):
    """Kaggle does not know the account, or the account may not do that yet: rules, phone."""

    exit_code = 4


class QuotaError(DigitRecognizerError):
    """The day's submissions are used up."""

    exit_code = 5


class RejectedError(DigitRecognizerError):
    """Kaggle does not take, or could not score, the submission."""

    exit_code = 6


class NetworkError(DigitRecognizerError):
    """A server cannot be reached, or does not answer as expected.

    again: trying once more may help. lost: what was asked for may have been done all the same.
    """

    exit_code = 7

    def __init__(self, message: str, *, again: bool = False, lost: bool = True, pause: float = 0) -> None:
        super().__init__(message)
        self.again, self.lost, self.pause = again, lost, pause


class StoppedError(DigitRecognizerError):
    """Ctrl-C, and what it left behind."""

    exit_code = 130
