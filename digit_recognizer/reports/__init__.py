"""The report of a run: one HTML page with all its pictures inside, and the same pictures as PNGs beside it.

facts: all that the page says, read and checked before anything is written
figures: its pictures     themes: their colours, light and dark
page: template.html and style.css filled in, and the folder written
"""

from pathlib import Path
from typing import TYPE_CHECKING

from digit_recognizer.errors import RunError

if TYPE_CHECKING:
    from digit_recognizer.data import Dataset
    from digit_recognizer.runs import Run


def digits_of(run: "Run", data_dir: Path | None = None) -> "Dataset":
    """Return the digits that the run was made from, read where it read them or in `data_dir`.

    Raises RunError if the folder is gone or holds other digits, DataError if they cannot be read.
    """
    from digit_recognizer.reports import facts

    return facts.digits_of(run, data_dir)


def write(run: "Run", dataset: "Dataset") -> Path:
    """Write the page and its pictures into the run's `report/`, replacing an older one, and return its path.

    The report of a run that is still being fitted is written beside its stages' folder, so that it does not
    become part of the finished run. dataset: the run's digits. The same run gives the same bytes.
    Raises RunError if the run's files cannot be read, do not belong together or have just been moved (as a
    run that is finished meanwhile: read it again), or if the folder cannot be written.
    """
    from digit_recognizer.reports import page

    return page.write(run, dataset)


def write_by_name(out: Path, name: str, data_dir: Path | None = None) -> tuple["Run", Path]:
    """Write the report of a run, finished or not, by its name or folder; return the run and the page's path.

    Raises what `digits_of` and `write` raise.
    """
    from digit_recognizer import drafts

    run = drafts.find_run(out, name)
    try:
        return run, write(run, digits_of(run, data_dir))
    except RunError:
        if not run.unfinished:
            raise
    run = drafts.find_run(out, name)  # it was finished while its stage was read
    return run, write(run, digits_of(run, data_dir))
