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

    Of a run that is still being fitted it is deleted when the next stage is complete. dataset: the run's
    digits. The same run gives the same bytes.
    Raises RunError if the run's files cannot be read or do not belong together, or if the folder cannot be
    written.
    """
    from digit_recognizer.reports import page

    return page.write(run, dataset)


def write_by_name(out: Path, name: str, data_dir: Path | None = None) -> tuple["Run", Path]:
    """Write the report of a run by its name or folder; return the run and the page's path.

    Raises what `digits_of` and `write` raise.
    """
    from digit_recognizer import runs

    run = runs.find(out, name)
    try:
        return run, write(run, digits_of(run, data_dir))
    except RunError:
        newer = runs.find(out, name)
        if newer.manifest == run.manifest:
            raise
    return newer, write(newer, digits_of(newer, data_dir))  # its next stage was complete meanwhile
