"""From Digit Recognizer's CSVs to a checked Kaggle submission, with a local score you can trust.

In a notebook: `from digit_recognizer import train, validate, ensemble, predict, report`. The functions take
the commands' options by name, show progress in the cell, and raise the package's errors.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from digit_recognizer.cli.progress import OnProgress
    from digit_recognizer.manifest import ModelScore
    from digit_recognizer.reading import Reading
    from digit_recognizer.runs import Run

__version__ = "0.1.0"
__all__ = ["FinishedRun", "ensemble", "predict", "report", "train", "validate"]


@dataclass(frozen=True)
class FinishedRun:
    """A run on the disk.

    submission: the CSV's path; None after `validate`. score: accuracy, low and high on held-out rows.
    """

    run: "Run"

    @property
    def submission(self) -> Path | None:
        """The CSV's path; None without one."""
        return self.run.submission if self.run.manifest.submission_model else None

    @property
    def score(self) -> "ModelScore":
        """Accuracy on held-out rows with its 95% interval, of the run's main model."""
        return self.run.main_score

    def report(self, data_dir: str | Path | None = None) -> Any:
        """Write the report; return it for a notebook to show, else its path."""
        return report(self.run.folder, data_dir=data_dir)

    def __repr__(self) -> str:
        score = self.score
        return f"{self.run.folder}: {score.accuracy:.4f} ({score.low:.4f} to {score.high:.4f})"


def train(**options: Any) -> FinishedRun:
    """Train and write a submission, as the command `train` does.

    options: the fields of `pipeline.Job`, such as recipes=["cnn"], minutes=15, folds=5, seed=1, data_dir=...,
    and `settings`, a dictionary such as {"epochs": 3}, for --set.
    """
    return _fit(write_submission=True, **options)


def validate(folds: int = 5, **options: Any) -> FinishedRun:
    """Score recipes by cross-validation without a submission, as the command `validate` does."""
    return _fit(write_submission=False, folds=folds, **options)


def _fit(*, settings: Mapping[str, object] | None = None, **options: Any) -> FinishedRun:
    from digit_recognizer import pipeline
    from digit_recognizer.settings import format_value

    overrides = tuple(f"{name}={format_value(value)}" for name, value in (settings or {}).items())
    for name in ("data_dir", "out"):
        if options.get(name) is not None:
            options[name] = Path(options[name])
    names = options.get("recipes", ())
    options["recipes"] = (names,) if isinstance(names, str) else tuple(names)
    job = pipeline.Job(overrides=overrides, **options)
    return FinishedRun(pipeline.train(job, on_notice=print, on_progress=_progress()))


def ensemble(*parents: "FinishedRun | str", method: Any = "weighted", **options: Any) -> FinishedRun:
    """Blend runs, or runs of these names, into a new run with a submission, as `ensemble` does.

    options: out, the folder of the runs, and name.
    """
    from digit_recognizer import pipeline, runs

    out = Path(options.pop("out", "submissions"))
    blended = [
        parent.run if isinstance(parent, FinishedRun) else runs.find(out, parent) for parent in parents
    ]
    return FinishedRun(pipeline.blend_runs(blended, method, out=out, on_notice=print, **options))


def predict(
    digits: Any, *, run: "FinishedRun | str | Path", out: str | Path = "submissions"
) -> "list[Reading]":
    """Read new digits with a run, as `predict` does; return a record for each, in their order.

    digits: the path of a picture or CSV, a list of paths, or an array of integers from 0 to 255 of shape
    (n, 784) or (n, 28, 28), white on black as in the competition's CSVs.
    A file that cannot be read is named in a printed line and has no record; its error is raised if there are
    no records at all.
    """
    from digit_recognizer import reading

    stored = _stored(run, out)
    if isinstance(digits, str | Path):
        digits = [digits]
    if hasattr(digits, "dtype"):
        return reading.read_pixels(stored, digits)
    records = list(reading.read(stored, map(Path, digits)))
    failed = [each for each in records if isinstance(each, reading.Unread)]
    if failed and len(failed) == len(records):
        raise failed[0].error
    for each in failed:
        print(each.error)
    return [each for each in records if isinstance(each, reading.Reading)]


def report(
    run: "FinishedRun | str | Path", *, out: str | Path = "submissions", data_dir: str | Path | None = None
) -> Any:
    """Write the report of a run, by its name or folder; return it for a notebook to show, else its path."""
    from digit_recognizer import reports

    name = run.run.folder if isinstance(run, FinishedRun) else run
    _, page = reports.write_by_name(Path(out), str(name), Path(data_dir) if data_dir else None)
    if not _in_notebook():
        return page
    import html

    from IPython.display import HTML

    document = html.escape(page.read_text(encoding="utf-8"))
    frame = f'<iframe srcdoc="{document}" style="width: 100%; height: 80vh; border: 0"></iframe>'
    return HTML(f"<div>{frame}</div>")  # a bare frame gives a warning in the cell


def _stored(run: "FinishedRun | str | Path", out: str | Path) -> "Run":
    from digit_recognizer import drafts

    return run.run if isinstance(run, FinishedRun) else drafts.find_run(Path(out), str(run))


def _progress() -> "OnProgress":
    from digit_recognizer.cli.progress import lines, notebook_cell

    return notebook_cell() if _in_notebook() else lines(print)


def _in_notebook() -> bool:
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    shell = get_ipython()
    return shell is not None and "IPKernelApp" in shell.config
