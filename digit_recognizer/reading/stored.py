"""The models that a run's submission is of, as they are stored."""

from collections.abc import Callable
from typing import TypeVar

from digit_recognizer import runs
from digit_recognizer.blending import AnyCombiner
from digit_recognizer.errors import RunError
from digit_recognizer.predictions import BLEND

MAX_BYTES = 2**30  # of a model's file

Fit = TypeVar("Fit")


def submission_models(run: runs.Run) -> tuple[list[str], AnyCombiner | None]:
    """Return the names of the models, and how they are blended; None for a single model.

    Raises RunError if the run does not say how they are blended.
    """
    manifest = run.manifest
    main = manifest.submission_model or manifest.main_model
    if main != BLEND:
        return [main], None
    if manifest.blend is None:
        raise RunError(
            f"{run.folder / runs.MANIFEST}: does not say how its models are blended; train it again"
        )
    return list(manifest.models), manifest.blend


def read_fits(run: runs.Run, model: str, read: Callable[[bytes], Fit]) -> list[Fit]:
    """Return what `read` makes of the file of each fit of a model, whose mean predicts new digits.

    Raises RunError if a file cannot be read, or `read` raises ValueError.
    """
    names = run.manifest.test_fits[model]
    if not names:
        raise RunError(f"{run.folder / runs.MANIFEST}: names no files of {model}; train that run again")
    return [_read(run, name, read) for name in names]


def _read(run: runs.Run, name: str, read: Callable[[bytes], Fit]) -> Fit:
    path = run.folder / runs.MODELS / name
    try:
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            raise RunError(f"{path}: expected a model's file of at most 1 GiB; train that run again")
        return read(path.read_bytes())
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}); train that run again") from None
    except ValueError as error:
        raise RunError(f"{path}: is {error}; train that run again") from None
