"""A search for better settings of a recipe, and whether they are better on folds that it has not seen."""

import time
import warnings
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path

from digit_recognizer import drafts, environment, pipeline, runs, training
from digit_recognizer.comparison import Comparison, compare
from digit_recognizer.errors import LibraryError, RunError
from digit_recognizer.files import delete, locked, write_atomically
from digit_recognizer.reports import drawing, figures
from digit_recognizer.scoring import wilson
from digit_recognizer.settings import format_value
from digit_recognizer.training import OnNotice, OnProgress
from digit_recognizer.tuning.search import Row, Search, overrides
from digit_recognizer.tuning.space import Tune

JOURNAL, PICTURE = runs.JOURNAL, "search.svg"  # in the end, both are in the best run's folder
FINAL = 2**31  # is added to the seed; nobody tunes on those folds, nor measures a recipe's evidence on them


@dataclass(frozen=True)
class Found:
    """What a search found: all candidates, the best first, and the settings of the best, for `train`.

    verdict: "better" or "worse" than the recipe as it stands, or "cannot tell", by two runs on new folds.
    """

    verdict: str
    settings: dict[str, object]
    candidates: list[Row] = field(repr=False)
    run: Path
    as_it_stands: Path
    picture: Path
    comparison: Comparison = field(repr=False)


def tune(asked: Tune, *, on_notice: OnNotice, on_progress: OnProgress) -> Found:
    """Try settings of a recipe, and say whether the best of them are better than the recipe as it stands.

    Raises a DigitRecognizerError for what the user can mend; finished fits stay for `asked.resume`.
    """
    began = time.monotonic() - environment.seconds_running()
    try:
        with warnings.catch_warnings(action="ignore"):  # tqdm's, of a notebook without widgets
            import optuna
    except ImportError as error:
        raise LibraryError(f"`tune` needs {error.name}, which is not installed: pip install optuna") from None
    runs.check_outside(asked.out)
    name = asked.name or f"{datetime.now():%Y%m%d-%H%M%S}"
    journal, base_name = asked.out / f"{name}-search" / JOURNAL, f"{name[:80]}-as-it-stands"
    if runs.is_search(journal.parent) != asked.resume:
        how = "holds no search to go on with; leave out" if asked.resume else "is an unfinished search; give"
        raise RunError(f"{journal.parent}: {how} --resume")
    if asked.resume:
        for new in (name, base_name):
            _stored(asked, new)  # raises for a run that took the name meanwhile
    else:
        for new in (name, base_name, journal.parent.name):
            drafts.check_free(asked.out / new)
    say = cache(on_notice)  # each line once: search and runs read the same digits
    busy = RunError(f"{name} is still running; wait for it, or stop it first")
    with ExitStack() as stack:
        stack.callback(optuna.logging.set_verbosity, optuna.logging.get_verbosity())
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        stack.enter_context(training.on_cluster(asked.cluster))
        search = Search(optuna, asked, began, say, on_progress)
        stack.enter_context(locked(journal.with_name(runs.LOCK), busy, delete=True))
        search.open(journal)
        try:
            rows, best = search.run()
            settings = overrides(asked, {name: best[name] for name in asked.space})
            base_run = _validate(asked, base_name, asked.settings, say, on_progress)
            run = _validate(asked, name, settings, say, on_progress)  # the newest run
            write_atomically(run.folder / PICTURE, _picture(rows, list(asked.space)))
        except BaseException as error:
            how = f"the same command with --resume and --name {name} goes on"
            error.add_note(f"{journal.parent} keeps the search; {how}.")
            raise
        journal.replace(run.folder / JOURNAL)
    delete(journal.parent)
    compared, paths = compare(run, base_run), (run.folder, base_run.folder, run.folder / PICTURE)
    return Found(compared.verdict.replace("equal", "cannot tell"), settings, rows, *paths, compared)


def _validate(
    asked: Tune, name: str, settings: dict[str, object] | None, say: OnNotice, show: OnProgress
) -> runs.Run:
    """Return a run of these settings on folds that the search has not seen: a new one, if there is none."""
    if stored := _stored(asked, name):
        return stored
    update: dict[str, object] = {"settings": settings, "seed": _seed(asked), "name": name}
    update |= {"minutes": None, "write_submission": False, "resume": runs.count_fits(asked.out / name) > 0}
    return pipeline.train(asked.model_copy(update=update), on_notice=say, on_progress=show)


def _stored(asked: Tune, name: str) -> runs.Run | None:
    """Return a complete run of a comparison that was cut off, None without one; raise RunError for others."""
    stored = runs.read_manifest(asked.out / name)
    if stored is None or stored.stopped_early is not None:
        return None
    config, expected = stored.config, (_seed(asked), asked.folds, asked.recipes)
    if (config.seed, config.split.folds, tuple(config.recipes)) != expected:
        raise RunError(f"{asked.out / name}: is not of this search, which needs the name; rename that run")
    return runs.load(asked.out / name)


def _seed(asked: Tune) -> int:
    return (asked.seed + FINAL) % 2**32


def _picture(rows: list[Row], fields: list[str]) -> str:
    """Return the picture of the out-of-fold accuracies: the recipe as it stands, then the best candidates."""
    scores, labels = {}, {0: "as it stands"}
    for row in sorted((row for row in rows if row["folds"]), key=lambda row: row["candidate"] > 0):
        values = " ".join(format_value(row[field]) for field in fields)
        label = labels.setdefault(row["candidate"], f"{row['candidate']}: {values}")
        scores[label] = wilson(row["accuracy"], row["digits"])
    with drawing.own_settings():
        title = f"candidates: {' '.join(fields)}"
        return figures.intervals(scores, labels[rows[0]["candidate"]], title).file()
