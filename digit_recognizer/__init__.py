"""From Digit Recognizer's CSVs to a checked Kaggle submission, with a validation accuracy you can trust.

In a notebook: `from digit_recognizer import train, validate, tune, ensemble, predict, report`. The functions
take the commands' options by name, show progress in the cell, and raise the package's errors.
"""

from digit_recognizer.version import __version__

TYPE_CHECKING = False  # as typing's, which takes a while to import
if TYPE_CHECKING:
    from digit_recognizer.notebook import FinishedRun, ensemble, predict, report, train, tune, validate

__all__ = ["FinishedRun", "__version__", "ensemble", "predict", "report", "train", "tune", "validate"]


def __getattr__(name: str) -> object:
    """Import what a notebook asks for; a command is then ready for Ctrl-C as soon as Python has started."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from digit_recognizer import notebook

    return getattr(notebook, name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]  # for a notebook's completion
