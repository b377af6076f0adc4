"""A search for better settings of a recipe; start at `tune`.

Optuna draws the candidates and keeps the journal. All are fitted on the same folds; then the best one and
the recipe as it stands are validated on other folds, which had no part in the choice, as two runs.
"""

import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice, zip_longest
from math import ceil, inf, prod
from pathlib import Path
from typing import Any

from pydantic import Field

from digit_recognizer import data, drafts, environment, manifest, pipeline, runs, signals, training
from digit_recognizer.comparison import LEVEL, Comparison, compare, mid_p
from digit_recognizer.errors import FitError, LibraryError, OptionError, RunError, shown
from digit_recognizer.files import delete, locked, read_plain, write_atomically
from digit_recognizer.job import Job, Tune
from digit_recognizer.recipes import select
from digit_recognizer.records import Record
from digit_recognizer.reports import drawing, figures
from digit_recognizer.settings import Settings, format_value, parse
from digit_recognizer.space import Range, Space
from digit_recognizer.splits import Split, make_splits
from digit_recognizer.training import FitFailure, FitResult, FitTask, Machine, OnNotice, OnProgress, Progress

JOURNAL, PICTURE = "search.jsonl", "search.svg"  # in the end, both are in the best run's folder
MAX_BYTES = 1 << 28  # of a journal
TRIALS, MAX_DRAWS = 20, 10_000  # candidates by default; points to draw before a space counts as exhausted
END_SECONDS = 4.0  # to compare two runs and to draw
Values = dict[str, Any]  # of searched fields: a number of a range, else a text as --set takes it


class Candidate(Record):
    """A candidate and its folds so far; number 0 is the recipe as it stands.

    state: complete, pruned, failed, or cut off. wrong: the misclassified rows of each fold. digits: how many
    rows these folds have. seconds: of its slowest fit.
    """

    number: int
    values: Values
    state: str = "cut off"
    wrong: dict[str, list[int]] = Field(default={})
    digits: int = 0
    seconds: float = 0.0

    @property
    def errors(self) -> int:
        """The number of misclassified rows."""
        return sum(map(len, self.wrong.values()))

    @property
    def accuracy(self) -> float:
        """The out-of-fold accuracy; 0 without a fold."""
        return 1 - self.errors / self.digits if self.digits else 0.0

    def only_wrong(self, other: "Candidate") -> tuple[int, int]:
        """Return how many rows this one alone gets wrong, and the other, on the folds that both have done."""
        names = self.wrong.keys() & other.wrong.keys()
        a, b = ({row for name in names for row in one.wrong[name]} for one in (self, other))
        return len(a - b), len(b - a)


@dataclass(frozen=True)
class Found:
    """What a search found, the best candidate first.

    settings: the best one's, for `train`. verdict: "better" or "worse" than the recipe, or "cannot tell", by
    the folds of run and as_it_stands, which the search has not seen.
    """

    verdict: str
    settings: dict[str, object]
    candidates: list[dict[str, object]]
    run: Path
    as_it_stands: Path
    picture: Path
    comparison: Comparison

    @property
    def options(self) -> str:
        """The settings as they are typed."""
        return " ".join(f"--set {name}={format_value(value)}" for name, value in self.settings.items())


def tune(asked: Tune, *, on_notice: OnNotice, on_progress: OnProgress) -> Found:
    """Try settings of a recipe, and say whether the best of them are better than the recipe as it stands.

    Raises a DigitRecognizerError for what the user can mend; finished candidates stay for `asked.resume`.
    """
    began, name = time.monotonic() - environment.seconds_running(), asked.name or _default_name(asked)
    folder, names = asked.out / f"{name}-search", (name, f"{name}-as-it-stands")
    jobs = [_final_job(asked, each, {}) for each in names]
    if (folder / JOURNAL).exists() != asked.resume:
        how = "holds no search to go on with; leave out" if asked.resume else "is an unfinished search; give"
        raise RunError(f"{folder}: {how} --resume")
    for each in names if not asked.resume else ():
        drafts.check_free(asked.out / each)
    busy = RunError(f"{name} is still running; wait for it, or stop it first")
    with _quiet_optuna() as optuna, locked(folder / runs.LOCK, busy, delete=True):
        try:
            search = _Search(optuna, asked, folder / JOURNAL, began, on_notice, on_progress)
            chosen = search.run()
            jobs[0] = _final_job(asked, name, chosen.values)
            best, as_it_stands = (_validate(job, asked.resume, on_notice, on_progress) for job in jobs)
        except BaseException as error:
            error.add_note(f"{folder} keeps the search; the same command with --resume goes on.")
            raise
        rows, picture = search.rows(), best.folder / PICTURE
        with drawing.own_settings():
            write_atomically(picture, figures.search(rows, list(asked.searched), chosen.number).file())
        compared = compare(best, as_it_stands)
        (folder / JOURNAL).replace(best.folder / JOURNAL)
    delete(folder)
    verdict = "cannot tell" if compared.verdict == "equal" else compared.verdict
    settings = _overrides(asked, chosen.values)
    return Found(verdict, settings, rows, best.folder, as_it_stands.folder, picture, compared)


@contextmanager
def _quiet_optuna() -> Iterator[Any]:
    """Yield the library, which meanwhile tells nothing but warnings."""
    try:
        import optuna
    except ImportError as error:
        raise LibraryError(f"`tune` needs {error.name}, which is not installed: pip install optuna") from None
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield optuna
    finally:
        optuna.logging.set_verbosity(level)


def _default_name(asked: Tune) -> str:
    """Return date and time; to go on with, the name of the newest search."""
    journals = asked.out.glob(f"[!.]*-search/{JOURNAL}") if asked.resume else ()
    newest = max(journals, key=lambda path: path.stat().st_mtime, default=None)
    return newest.parent.name.removesuffix("-search") if newest else f"{datetime.now():%Y%m%d-%H%M%S}"


def _overrides(asked: Tune, values: Values) -> dict[str, object]:
    typed = (parse(f"{name}={format_value(value)}") for name, value in values.items())
    return {**(asked.settings or {}), **dict(typed)}


def _final_job(asked: Tune, name: str, values: Values) -> Job:
    return Job(
        recipes=(asked.recipe,), settings=_overrides(asked, values), folds=asked.folds, jobs=asked.jobs,
        seed=(asked.seed + 1) % 2**32,  # of folds that the search has not seen
        data_dir=asked.data_dir, out=asked.out, name=name, write_submission=False,
    )  # fmt: skip


def _validate(job: Job, resume: bool, on_notice: OnNotice, on_progress: OnProgress) -> runs.Run:
    """Return the job's run; with `resume` the one that is there, or what goes on from its fits."""
    folder = job.out / str(job.name)
    if resume and (stored := runs.read_manifest(folder)) and stored.stopped_early is None:
        return runs.load(folder)
    job = job.model_copy(update={"resume": resume and runs.count_fits(folder) > 0})
    return pipeline.train(job, on_notice=on_notice, on_progress=on_progress)


def _distributions(optuna: Any, space: Space) -> dict[str, Any]:
    kinds, made = optuna.distributions, dict[str, Any]()
    for name, values in space.items():
        if isinstance(values, Range):
            numbers = kinds.IntDistribution if values.whole else kinds.FloatDistribution
            made[name] = numbers(*values, log=values.log)
        else:
            made[name] = kinds.CategoricalDistribution([format_value(value) for value in values])
    return made


def _draw(optuna: Any, space: Space, seed: int) -> Iterator[Values]:
    """Yield candidates, each once.

    They follow from the seed and their number alone, as Optuna's scrambled Sobol points: killed and resumed,
    on more cores, or with more time, a search tries the same ones. TPE and the like heed which fits ended.
    """
    distributions, drawn = _distributions(optuna, space), set[str]()
    study = optuna.create_study(sampler=optuna.samplers.QMCSampler(scramble=True, seed=seed))
    size = prod(each.size if isinstance(each, Range) else len(each) for each in space.values())
    for _ in range(MAX_DRAWS):
        if len(drawn) == size:
            return
        trial = study.ask(distributions)
        study.tell(trial, 0.0)
        values = {name: trial.params[name] for name in space}
        for name, each in space.items():
            if isinstance(each, Range) and not each.whole:  # three digits are easily copied
                values[name] = min(max(float(f"{values[name]:.3g}"), each.low), each.high)
        if str(values) not in drawn:
            drawn.add(str(values))
            yield values


class _Search:
    """The candidates that are ended, as Optuna's trials in a journal, and those that are fitted."""

    def __init__(
        self, optuna: Any, asked: Tune, journal: Path, began: float, say: OnNotice, show: OnProgress
    ) -> None:
        started = time.monotonic()
        self._optuna, self._asked, self._say, self._show = optuna, asked, say, show
        self._data = data.load(data.find(asked.data_dir))
        for line in (*self._data.notices(), f"The search goes to {journal}"):
            say(line)
        train, rows = self._data.train, self._data.first_rows
        self._splits = make_splits(train.labels, rows, holdout=None, folds=asked.folds, seed=asked.seed)
        self._machine = Machine.look([asked.base.settings], asked.jobs)
        self._workers, self._threads = self._machine.split_cores([asked.base.settings], fits=10_000)
        self._study = self._open(journal)
        self._ended = {c.number: c for c in (Candidate(**t.user_attrs) for t in self._study.get_trials())}
        self._running: dict[int, Candidate] = {}
        self._limit = asked.trials or (MAX_DRAWS if asked.minutes else TRIALS)
        self._end_seconds = END_SECONDS + 2 * (time.monotonic() - started)
        self._began, self._until = began, began + 60 * (asked.minutes or inf)

    def _open(self, journal: Path) -> Any:
        """Return the journal's study; raises RunError if it is damaged, or of another search."""
        storages = self._optuna.storages
        delete(journal.with_name(f"{JOURNAL}.lock"))  # of a killed process
        try:
            if journal.exists():  # without a line that was cut off
                write_atomically(journal, b"".join(read_plain(journal, MAX_BYTES).rpartition(b"\n")[:2]))
            lock = storages.journal.JournalFileOpenLock(
                str(journal)
            )  # not a link, which needs rights on Windows
            backend = storages.journal.JournalFileBackend(str(journal), lock_obj=lock)
            study = self._optuna.create_study(
                storage=storages.JournalStorage(backend), study_name="tune", load_if_exists=True
            )
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise RunError(f"{journal}: is damaged ({shown(str(error))}); delete it") from None
        is_of = {
            "data set": self._data.fingerprint["train"],
            "recipe": f"{self._asked.recipe} {self._asked.base.settings}",
            "space": str(self._asked.searched),
            "number of folds": self._asked.folds,
            "seed": self._asked.seed,
            "number of threads": self._threads,
            "library version": {**manifest.current_versions(), "optuna": self._optuna.__version__},
            "version of this package": manifest.source_hash(),
        }
        for name, known in study.user_attrs.get("search", is_of).items():
            if known != is_of.get(name):
                found = f"{shown(known)}, not {shown(is_of.get(name))}"
                raise RunError(
                    f"{journal.parent}: is a search of another {name}: {found}; leave out --resume"
                )
        study.set_user_attr("search", is_of)
        return study

    def run(self) -> Candidate:
        """Fit candidates until all are done or the time is over; return the best beside number 0."""
        new = (Candidate(number=n, values=v) for n, v in enumerate(self._drawn()) if n not in self._ended)
        with signals.Hold() as hold:  # a signal comes through while fits run, never into the journal
            while (fits := self._next_fits(new)) and self._has_time(len(fits)):
                self._fit(fits, hold)
        self._tell(1.0)
        for one in self._ranked():
            if one.number and one.digits and one.state != "failed":
                return one
        raise FitError("no candidate could be fitted; try other values")

    def _drawn(self) -> Iterator[Values]:
        """Yield the recipe as it stands, and what to change; not values that exclude each other."""
        yield {}
        for values in _draw(self._optuna, self._asked.searched, self._asked.seed):
            with suppress(OptionError):
                if self._settings(values) != self._settings({}):
                    yield values

    def _settings(self, values: Values) -> Settings:
        return self._machine.adapt(select([self._asked.recipe], _overrides(self._asked, values))[0].settings)

    def _ranked(self) -> list[Candidate]:
        every = [*self._ended.values(), *self._running.values()]
        return sorted(every, key=lambda one: (one.state != "complete", -one.accuracy, one.number))

    def _next_fits(self, new: Iterator[Candidate]) -> list[tuple[Candidate, Split]]:
        """Return a fit for each worker, of as many candidates; first all of the recipe as it stands."""
        room = min(self._workers, self._limit - len(self._ended)) - len(self._running)
        self._running |= {one.number: one for one in islice(new, max(0, room))}
        left = [[(c, s) for s in self._splits if s.name not in c.wrong] for c in self._running.values()]
        if 0 in self._running:  # the others are judged by it
            return left[0]
        return [fit for depth in zip_longest(*left) for fit in depth if fit][: self._workers]

    def _has_time(self, fits: int) -> bool:
        """Return whether so many fits, each as slow as the slowest so far, leave time for the comparison."""
        if 0 not in self._ended or self._asked.minutes is None:
            return True
        known = [self._ended[0], *(one for one in self._ranked() if one.number and one.digits)]
        slowest, of_both = max(one.seconds for one in known), max(one.seconds for one in known[:2])
        compare = self._end_seconds + 2 * ceil(self._asked.folds / self._workers) * of_both
        self._until = self._began + 60 * self._asked.minutes - compare
        after = time.monotonic() + slowest * ceil(fits / self._workers)
        if after > self._until and len(known) == 1:
            least = f"{(after + compare - self._began) / 60:.1f}"
            raise OptionError(f"--minutes: {least} are needed at least; give more, or fewer --folds")
        return after <= self._until

    def _fit(self, fits: Sequence[tuple[Candidate, Split]], hold: signals.Hold) -> None:
        """Fit candidates on folds, and end those that are complete or clearly worse than the best one."""
        recipe, tasks, of_task = self._asked.recipe, list[FitTask](), dict[str, tuple[int, Split]]()
        for one, split in fits:
            nets = {recipe: self._settings(one.values)}  # by the recipe's name, which decides the seed
            (task,) = training.make_fits(nets, [split], refit=False, seed=self._asked.seed)
            tasks.append(replace(task, model=f"{recipe}-{one.number}", recipe=recipe, threads=self._threads))
            of_task[tasks[-1].name] = one.number, split
        before = len(self._ended) + sum(len(one.wrong) for one in self._running.values()) / self._asked.folds
        shares: dict[str, float] = {}

        def on_progress(progress: Progress) -> None:
            shares[progress.fit] = progress.done
            self._tell((before + sum(shares.values()) / self._asked.folds) / self._limit)

        fitting = training.fit_all(
            tasks, self._data, workers=self._workers, on_progress=on_progress, on_notice=self._say
        )
        with closing(fitting):
            while True:
                with hold.released():
                    outcome = next(fitting, None)
                if outcome is None:
                    break
                self._keep(outcome, *of_task[outcome.task.name])
        self._judge()

    def _keep(self, outcome: FitResult | FitFailure, number: int, split: Split) -> None:
        one = self._running[number]
        if isinstance(outcome, FitFailure):
            if not number:
                raise FitError(f"{outcome.task.name}: {outcome.reason}")
            self._say(f"{outcome.task.name} failed; candidate {number} is left out: {outcome.reason}")
            changes: dict[str, object] = {"state": "failed"}
        else:
            right = outcome.valid.argmax(axis=1) == self._data.train.labels[split.valid]
            changes = {
                "wrong": {**one.wrong, split.name: split.valid[~right].tolist()},
                "digits": one.digits + len(right),
                "seconds": max(one.seconds, outcome.seconds),
            }
        self._running[number] = one.model_copy(update=changes)

    def _judge(self) -> None:
        """End candidates. Of the same digits, one fold can tell; Optuna's pruners see a number for each."""
        best = next((one for one in self._ranked() if one.state == "complete"), None)
        for one in list(self._running.values()):
            state = "complete" if len(one.wrong) == len(self._splits) else one.state
            if best and state == "cut off":
                alone, best_alone = one.only_wrong(best)
                state = "pruned" if alone > best_alone and mid_p(alone, best_alone) < LEVEL else state
            if state == "cut off":
                continue
            self._ended[one.number] = one = self._running.pop(one.number).model_copy(update={"state": state})
            distributions, trial = _distributions(self._optuna, self._asked.searched), self._optuna.trial
            self._study.add_trial(
                trial.create_trial(
                    state=trial.TrialState[{"pruned": "PRUNED", "failed": "FAIL"}.get(state, "COMPLETE")],
                    value=1 - one.accuracy if state == "complete" else None,
                    params=one.values,
                    distributions={name: distributions[name] for name in one.values},
                    user_attrs=one.model_dump(),
                )
            )

    def _tell(self, share: float) -> None:
        if self._asked.minutes and share < 1:
            share = (time.monotonic() - self._began) / (self._until - self._began)
        best = max((one.accuracy for one in self._ended.values() if one.state == "complete"), default=None)
        metrics = {} if best is None else {"valid_accuracy": best}
        total = None if self._asked.minutes else self._limit
        done = share if share == 1 else min(share, 0.99)
        self._show(Progress("search", done, len(self._ended), total, metrics, "candidate"))

    def rows(self) -> list[dict[str, Any]]:
        """Return a row of a table for each candidate, the best first."""
        base, space = self._asked.base.settings, self._asked.searched
        as_it_stands = {name: getattr(base, name) for name in space}
        as_it_stands |= {
            name: format_value(value)
            for name, value in as_it_stands.items()
            if not isinstance(space[name], Range)
        }
        return [
            {
                "candidate": one.number,
                **(one.values or as_it_stands),
                "folds": len(one.wrong),
                "accuracy": one.accuracy,
                "errors": one.errors,
                "p": mid_p(*one.only_wrong(self._ended[0])),
                "state": one.state,
            }
            for one in self._ranked()
        ]
