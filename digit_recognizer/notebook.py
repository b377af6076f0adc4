"""The functions for notebooks and scripts: the commands' options by name, progress in the cell."""

import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digit_recognizer.job import Blend, Job, Method, StoredRun, check_call, in_python
from digit_recognizer.tuning.space import Tune

if TYPE_CHECKING:
    from digit_recognizer.inference import Prediction
    from digit_recognizer.manifest import ExpectedScore, ModelScore
    from digit_recognizer.runs import Run
    from digit_recognizer.training import OnProgress
    from digit_recognizer.tuning.judge import Found

StrPath = str | PathLike[str]


@dataclass(frozen=True)
class FinishedRun(PathLike[str]):
    """A run on the disk, and the path of its folder.

    submission: the CSV's path; None after `validate`. score: validation accuracy, low and high.
    """

    run: "Run"

    @property
    def submission(self) -> Path | None:
        """The CSV's path; None without one."""
        return self.run.submission if self.run.manifest.submission_model else None

    @property
    def score(self) -> "ModelScore":
        """Validation accuracy of the run's main model with its 95% interval."""
        return self.run.main_score

    @property
    def expected_score(self) -> "ExpectedScore | None":
        """What the test digits will say, with a 95% interval; None if training digits are among them."""
        return self.run.manifest.expected_score

    @check_call
    def report(self, data_dir: StrPath | None = None) -> Any:
        """Write the report; return it for a notebook to show, else its path."""
        return report(self, data_dir=data_dir)

    def __fspath__(self) -> str:
        return str(self.run.folder)

    def __repr__(self) -> str:
        from digit_recognizer import expected

        score = self.score
        return (
            f"{self.run.folder}: {score.accuracy:.4f} ({score.low:.4f} to {score.high:.4f}). "
            f"{expected.describe(self.run.manifest)}"
        )


@check_call
def train(
    recipes: str | Iterable[str] | None = None,
    *,
    minutes: float | None = None,
    holdout: float | None = None,
    folds: int | None = None,
    repeats: int = 1,
    refit: bool = False,
    ensemble: bool = True,
    settings: Mapping[str, object] | None = None,
    seed: int = 0,
    jobs: int | None = None,
    cluster: str | None = None,
    data_dir: StrPath | None = None,
    out: StrPath | None = None,
    name: str | None = None,
    resume: bool = False,
) -> FinishedRun:
    """Train, score on held-out rows and write a submission, as the command `train` does.

    recipes: names of recipes; the default ones, or with `minutes` the best that fit.
    minutes: 0.5 to 600, to fill with the best ensemble.
    holdout: share of the rows held out, 0.1 without folds. folds, repeats: of cross-validation instead.
    refit: train again on all rows before predicting. ensemble: blend, or take the best model alone.
    settings: overrides in all recipes that have them, such as {"epochs": 3, "hidden": [64]}.
    seed: the same one gives the same numbers on as many cores. jobs: cores, all by default.
    data_dir: folder of train.csv and test.csv. out: folder of the runs, submissions/ by default.
    name: date and time by default. cluster: a Dask scheduler whose workers fit, "tcp://localhost:8786".
    resume: go on with a run of the same call that was cut off.
    Raises a DigitRecognizerError, in one line, for what the caller can mend.
    """
    return _fit(Job(**locals()))  # the parameters are Job's fields


@check_call
def validate(
    recipes: str | Iterable[str] | None = None,
    *,
    folds: int = 5,
    repeats: int = 1,
    minutes: float | None = None,
    ensemble: bool = True,
    settings: Mapping[str, object] | None = None,
    seed: int = 0,
    jobs: int | None = None,
    cluster: str | None = None,
    data_dir: StrPath | None = None,
    out: StrPath | None = None,
    name: str | None = None,
    resume: bool = False,
) -> FinishedRun:
    """Score recipes by cross-validation without a submission, as `validate` does; see `train`."""
    return _fit(Job(write_submission=False, **locals()))


@check_call
def tune(
    recipes: str,
    space: Mapping[str, Any],
    *,
    settings: Mapping[str, object] | None = None,
    trials: int | None = None,
    minutes: float | None = None,
    folds: int = 5,
    seed: int = 0,
    jobs: int | None = None,
    cluster: str | None = None,
    data_dir: StrPath | None = None,
    out: StrPath | None = None,
    name: str | None = None,
    resume: bool = False,
) -> "Found":
    """Search for settings of a recipe that are better than the recipe as it stands, as `tune` does.

    space: of each field a list of values or a range, such as {"hidden": [[64], [128, 64]], "learning_rate":
    "0.001..0.1"}. trials: number of candidates, 20 by default; or minutes to try as many as fit in them.
    The other options are those of `train`.
    """
    asked = Tune(**locals())
    from digit_recognizer.tuning import judge

    return judge.tune(asked, on_notice=_say, on_progress=_progress())


def _fit(job: Job) -> FinishedRun:
    from digit_recognizer import pipeline

    return FinishedRun(pipeline.train(job, on_notice=_say, on_progress=_progress()))


def _progress() -> "OnProgress":
    from digit_recognizer.cli.progress import lines, notebook_cell

    return notebook_cell() if _in_notebook() else lines(_say)


@check_call
def ensemble(
    *runs: StrPath, method: Method = "weighted", out: StrPath | None = None, name: str | None = None
) -> FinishedRun:
    """Blend runs, or runs of these names or folders, into a new run with a submission, as `ensemble` does."""
    asked = Blend(**locals())
    from digit_recognizer import pipeline
    from digit_recognizer.runs import find

    parents = [find(asked.out, str(run)) for run in asked.runs]
    return FinishedRun(
        pipeline.blend_runs(parents, asked.method, out=asked.out, name=asked.name, on_notice=_say)
    )


@check_call
def predict(digits: Any, *, run: StrPath, out: StrPath | None = None) -> "list[Prediction]":
    """Predict new digits with a run, as the command `predict` does; return a record for each, in their order.

    digits: the path of a picture or CSV, a list of paths, an array or a list of arrays of integers from 0 to
    255 of shape (n, 784) or (n, 28, 28), white on black as in the competition's CSVs, or a DataFrame of their
    pixel columns.
    A file that cannot be read is named in a printed line and has no record; its error is raised if there are
    no records at all.
    """
    asked = StoredRun(**dict[str, Any](run=run, out=out))
    from digit_recognizer import inference, runs

    stored = runs.find(asked.out, str(asked.run))
    records = list(inference.predict(stored, inference.files.paths_or_array(digits)))
    failed = [each for each in records if isinstance(each, inference.Unread)]
    if failed and len(failed) == len(records):
        raise failed[0].error
    for each in failed:
        _say(str(each.error))
    return [each for each in records if isinstance(each, inference.Prediction)]


@check_call
def report(
    run: StrPath, *, out: StrPath | None = None, data_dir: StrPath | None = None, png: bool = False
) -> Any:
    """Write the report of a run, by its name or folder; return it for a notebook to show, else its path.

    png: write its figures as PNGs beside the page, too.
    """
    asked = StoredRun(**locals())
    from digit_recognizer import reports, runs

    page = reports.write(runs.find(asked.out, str(asked.run)), asked.data_dir, png=asked.png)
    if not _in_notebook():
        return page
    import html

    from IPython.display import HTML

    document = html.escape(page.read_text(encoding="utf-8"))
    frame = f'<iframe srcdoc="{document}" style="width: 100%; height: 80vh; border: 0"></iframe>'
    return HTML(f"<div>{frame}</div>")  # a bare frame gives a warning in the cell


def _say(text: str) -> None:
    """Print a notice; one that cannot be printed ends no run."""
    with suppress(OSError, ValueError):  # ValueError: of a stream that was closed
        print(in_python(text), flush=True)


def _in_notebook() -> bool:
    ipython: Any = sys.modules.get("IPython")  # a kernel has imported it
    shell = ipython and ipython.get_ipython()
    return bool(shell) and "IPKernelApp" in shell.config
