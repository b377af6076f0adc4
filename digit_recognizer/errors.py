"""What a user can mend. Each message is one line: where, what was found and expected, what to do next."""


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


class SubmissionError(DigitRecognizerError):
    """A submission CSV that Kaggle would reject."""


class NetworkError(DigitRecognizerError):
    """A server cannot be reached, or does not answer as expected."""

    exit_code = 7


class RunError(DigitRecognizerError):
    """A run's folder cannot be written or read."""
