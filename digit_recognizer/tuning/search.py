"""The search of `tune`: candidates that Optuna draws, all fitted on the same folds, in Optuna's journal."""

import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from itertools import islice, zip_longest
from math import ceil
from pathlib import Path
from typing import Any

from digit_recognizer import data, manifest, training
from digit_recognizer.comparison import LEVEL, mid_p
from digit_recognizer.errors import FitError, OptionError, RunError, shown
from digit_recognizer.files import read_plain, write_atomically, writing
from digit_recognizer.recipes import select
from digit_recognizer.settings import Settings, format_value, parse
from digit_recognizer.splits import Split, make_splits
from digit_recognizer.training import FitFailure, FitResult, Machine, OnNotice, OnProgress, Progress
from digit_recognizer.tuning.space import Range, Tune

MAX_BYTES, MAX_OBJECTS = 1 << 28, 1 << 20  # of a journal; four objects for each fold of each candidate
TRIALS, MAX_TRIALS = 20, 1000  # candidates, without and with a time limit
MAX_MISSES = 500  # points in a row without a new candidate, after which there is none
END_SECONDS = 4.0  # to compare two runs and to draw
STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "cut off"}  # by Optuna's

Values = dict[str, Any]  # of the searched fields: a number of a range, or a text as --set takes it
Row = dict[str, Any]  # of a candidate: its number, its values, and what came of it


def overrides(asked: Tune, values: Values) -> dict[str, object]:
    """Return a candidate's settings, where they differ from the recipe's."""
    typed = (parse(f"{name}={format_value(value)}") for name, value in values.items())
    return {**(asked.settings or {}), **dict(typed)}


class Search:
    """Candidates as Optuna's trials, with what came of each fold; number 0 is the recipe as it stands.

    began: when the command did, on the monotonic clock.
    """

    def __init__(self, optuna: Any, asked: Tune, began: float, say: OnNotice, show: OnProgress) -> None:
        started, self._began = time.monotonic(), began
        self._optuna, self._asked, self._say, self._show = optuna, asked, say, show
        self._space, (self._recipe,) = asked.searched, asked.tiers[-1]
        self._distributions = {name: self._distribution(each) for name, each in self._space.items()}
        self._limit = asked.trials or (MAX_TRIALS if asked.minutes else TRIALS)
        self._data, nets = data.load(data.find(asked.data_dir)), [self._recipe.settings]
        for line in self._data.notices():
            say(line)
        labels, rows = self._data.train.labels, self._data.first_rows
        self._splits = make_splits(labels, rows, holdout=None, folds=asked.folds, seed=asked.seed)
        self._machine = Machine.look(nets, asked.jobs)
        self._workers, self._threads = self._machine.split_cores(nets, fits=MAX_TRIALS)
        self._end_seconds = END_SECONDS + 2 * (time.monotonic() - started)
        training.import_libraries(nets, workers=self._workers, threads=self._threads)

    def _distribution(self, values: Range | tuple[object, ...]) -> Any:
        """Return Optuna's; numbers that span a power of ten are searched evenly by their logarithm."""
        kinds = self._optuna.distributions
        if not isinstance(values, Range):
            return kinds.CategoricalDistribution([format_value(value) for value in values])
        kind = kinds.IntDistribution if isinstance(values.low, int) else kinds.FloatDistribution
        return kind(*values, log=values.low > 0 and values.high / values.low >= 10)

    def open(self, journal: Path) -> None:
        """Go on with a journal, or begin it; raises RunError if it is damaged, or of another search."""
        versions = {**manifest.current_versions(), "optuna": self._optuna.__version__}
        search = {
            "data set": self._data.fingerprint["train"],
            "recipe": f"{self._recipe.name} {self._recipe.settings}",
            "space": str(self._space),
            "seed": self._asked.seed,
            "number of folds or threads": [len(self._splits), self._threads],
            **{f"version of {name}": version for name, version in versions.items()},
            "version of these files": manifest.source_hash(),
        }
        try:
            if journal.exists():
                content = read_plain(journal, MAX_BYTES)
                if content.count(b"[") + content.count(b"{") > MAX_OBJECTS:
                    raise ValueError(f"more than {MAX_OBJECTS:,} objects")
                write_atomically(journal, b"".join(content.rpartition(b"\n")[:2]))  # no line that was cut off
            lock = threading.Lock()  # against other processes, the folder has one
            backend = self._optuna.storages.journal.JournalFileBackend(str(journal), lock)
            backend.append_logs = writing(journal)(backend.append_logs)  # whenever the disk gets full
            self._storage = storage = self._optuna.storages.JournalStorage(backend)
            self._study = self._optuna.create_study(storage=storage, study_name="tune", load_if_exists=True)
            self._rows()
            stored = dict(self._study.user_attrs.get("search", search))
        except OSError as error:
            raise RunError(f"{journal}: cannot be read or written ({error.strerror or error})") from None
        except (ValueError, LookupError, TypeError, AttributeError, AssertionError, RecursionError) as error:
            raise RunError(f"{journal}: is damaged ({shown(str(error))}); delete it") from None
        if changed := [name for name in search if stored.get(name) != search[name]]:
            raise RunError(f"{journal.parent}: is a search of another {changed[0]}; take another --name")
        self._study.set_user_attr("search", search)
        self._new = islice(self._candidates(), len(self._trials()), self._limit)
        self._say(f"Until it ends, the search is in {journal.parent}")

    def _trials(self) -> list[Any]:
        return self._study.get_trials(deepcopy=False)

    def _running(self) -> list[Any]:
        return [trial for trial in self._trials() if not trial.state.is_finished()]

    def _settings(self, values: Values) -> Settings:
        (recipe,) = select([self._recipe.name], overrides(self._asked, values))
        return self._machine.adapt(recipe.settings)

    def _candidates(self) -> Iterator[Values]:
        """Yield the recipe as it stands and then candidates, each once.

        They follow from the seed and their number alone, as Optuna's scrambled Sobol points: killed and
        resumed, on more cores, or with more time, a search tries the same ones. TPE and the like heed which
        fits ended before.
        """
        yield {}
        with warnings.catch_warnings(action="ignore"):  # it is called experimental
            sampler = self._optuna.samplers.QMCSampler(scramble=True, seed=self._asked.seed)
        study, seen, misses = self._optuna.create_study(sampler=sampler), [self._settings({})], 0
        while misses < MAX_MISSES:
            trial, misses = study.ask(self._distributions), misses + 1
            study.tell(trial, 0.0)
            values = {name: _short(trial.params[name], each) for name, each in self._space.items()}
            with suppress(OptionError):  # of values that exclude each other
                if (settings := self._settings(values)) not in seen:
                    seen.append(settings)
                    misses = 0
                    yield values

    def run(self) -> tuple[list[Row], Row]:
        """Fit candidates until all are done or the time is over; return all, and the best beside number 0."""
        self._judge()
        # A search that is gone on with keeps its end: the best may be validated already.
        while "best" not in self._study.user_attrs and self._has_time(fits := self._next_fits()):
            self._fit(fits)
            self._judge()
        self._show(replace(self._progress(), done=1.0))
        rows = [row for row in self._rows() if row["folds"] or row["state"] == "failed"]
        found = [row for row in rows if row["candidate"] and row["state"] != "failed"]
        if not found:
            raise FitError("no candidate could be fitted; try other values")
        known = self._study.user_attrs.get("best")
        best = next((row for row in found if row["candidate"] == known), found[0])
        self._study.set_user_attr("best", best["candidate"])
        return rows, best

    def _next_fits(self) -> list[tuple[Any, Split]]:
        """Return a fit for each worker, of as many candidates; first all of the recipe as it stands."""
        trials, self._workers = self._optuna.trial, training.workers_now(self._workers)
        for values in islice(self._new, max(0, self._workers - len(self._running()))):
            kinds, state = {name: self._distributions[name] for name in values}, trials.TrialState.RUNNING
            self._study.add_trial(trials.create_trial(state=state, params=values, distributions=kinds))
        running, splits = self._running(), self._splits
        if len(running) < self._workers and self._limit > (count := len(self._trials())):
            self._limit = count  # there are no more
            self._say(f"There are {count} different candidates in all, the recipe as it stands among them")
        left = [[(trial, s) for s in splits if s.name not in trial.user_attrs] for trial in running]
        if left and not running[0].number:  # by which the others are judged
            return left[0]
        return [fit for depth in zip_longest(*left) for fit in depth if fit][: self._workers]

    def _has_time(self, fits: Sequence[object]) -> bool:
        """Return whether there are fits, and time for them and the comparison, as slow as the slowest."""
        done = [row for row in self._rows() if row["folds"]]
        if not (fits and done and self._asked.minutes):
            return bool(fits)
        slowest = max(row["seconds"] for row in done)
        comparison = self._end_seconds + 2 * ceil(len(self._splits) / self._workers) * slowest
        end = time.monotonic() + ceil(len(fits) / self._workers) * slowest + comparison
        least = (end - self._began) / 60
        if least > self._asked.minutes and len(done) == 1:
            raise OptionError(f"--minutes: at least {least:.1f} are needed; give more, or fewer --folds")
        return least <= self._asked.minutes

    def _fit(self, fits: Sequence[tuple[Any, Split]]) -> None:
        """Fit candidates on folds; what is finished is in the journal at once."""
        name, numbers, tasks = self._recipe.name, {}, []
        for trial, split in fits:
            nets = {name: self._settings(trial.params)}  # by the recipe's name, which decides the seed
            (task,) = training.make_fits(nets, [split], refit=False, seed=self._asked.seed)
            tasks.append(replace(task, model=f"{name}-{trial.number}", recipe=name, threads=self._threads))
            numbers[tasks[-1].model] = trial.number
        before, shares = self._progress(), dict[str, float]()

        def on_progress(progress: Progress) -> None:
            shares[progress.fit] = progress.done
            share = before.done + sum(shares.values()) / len(self._splits) / self._limit
            if self._asked.minutes:
                share = (time.monotonic() - self._began) / 60 / self._asked.minutes
            self._show(replace(before, done=min(0.99, share)))

        fitting = training.fit_all(
            tasks, self._data, workers=self._workers, on_progress=on_progress, on_notice=self._say
        )
        with closing(fitting):
            for outcome in fitting:
                self._keep(outcome, numbers[outcome.task.model])

    def _keep(self, outcome: FitResult | FitFailure, number: int) -> None:
        trial, split = self._trials()[number], outcome.task.split
        if trial.state.is_finished():  # another fold failed
            return
        if isinstance(outcome, FitResult):
            right = outcome.valid.argmax(axis=1) == self._data.train.labels[split.valid]
            fold = {"wrong": split.valid[~right].tolist(), "digits": len(right), "seconds": outcome.seconds}
            self._storage.set_trial_user_attr(trial._trial_id, split.name, fold)
        elif not number:
            raise FitError(f"{outcome.task.name}: {outcome.reason}")
        else:
            self._say(f"{outcome.task.name} failed; candidate {number} is left out: {outcome.reason}")
            self._study.tell(number, state=self._optuna.trial.TrialState.FAIL)

    def _judge(self) -> None:
        """End the candidates that have all folds, and those that are worse than the best of these.

        The digits are the same, so that one fold can tell; Optuna's pruners see a single number for each.
        """
        rows = {row["candidate"]: row for row in self._rows()}
        best = next((number for number, row in rows.items() if row["state"] == "complete"), 0)
        for trial in self._running():
            alone, best_alone = _only_wrong(trial, self._trials()[best])
            if len(trial.user_attrs) == len(self._splits):
                self._study.tell(trial.number, 1 - rows[trial.number]["accuracy"])
            elif alone > best_alone and mid_p(alone, best_alone) < LEVEL:
                self._study.tell(trial.number, state=self._optuna.trial.TrialState.PRUNED)

    def _rows(self) -> list[Row]:
        """Return what came of the candidates so far, the best first."""
        rows, trials = list[Row](), self._trials()
        for trial in trials:
            folds, settings = list(trial.user_attrs.values()), self._settings(trial.params)
            errors, digits = sum(len(fold["wrong"]) for fold in folds), sum(fold["digits"] for fold in folds)
            rows.append({
                "candidate": trial.number, **{name: getattr(settings, name) for name in self._space},
                "folds": len(folds), "accuracy": 1 - errors / digits if digits else 0.0, "errors": errors,
                "digits": digits, **_against(trial, trials[0]),
                "seconds": max((fold["seconds"] for fold in folds), default=0.0),
                "state": STATES[trial.state.name],
            })  # fmt: skip
        return sorted(rows, key=lambda row: (row["state"] != "complete", -row["accuracy"], row["candidate"]))

    def _progress(self) -> Progress:
        """Return how far the search is, with the accuracy of the best candidate that is complete."""
        rows, limit = self._rows(), None if self._asked.minutes else self._limit
        folds = [row["folds"] if row["state"] == "cut off" else len(self._splits) for row in rows]
        done, ended = sum(folds) / len(self._splits) / self._limit, len(rows) - len(self._running())
        complete = [{"valid_accuracy": row["accuracy"]} for row in rows if row["state"] == "complete"]
        return Progress("search", done, ended, limit, next(iter(complete), {}), "candidate")


def _short(value: Any, searched: Any) -> Any:
    """Return a number with three digits, which is easily copied, in its range."""
    if not isinstance(value, float):
        return value
    return min(max(float(f"{value:.3g}"), searched.low), searched.high)


def _against(trial: Any, base: Any) -> dict[str, object]:
    """Return the verdict on a candidate against number 0, on the folds that both have done, and its p."""
    alone, base_alone = _only_wrong(trial, base)
    p = mid_p(alone, base_alone)
    verdict = "cannot tell" if p >= LEVEL else "better" if alone < base_alone else "worse"
    return {"verdict": verdict if trial.number and trial.user_attrs else "-", "p": p}


def _only_wrong(first: Any, second: Any) -> tuple[int, int]:
    """Return how many digits each of two trials alone gets wrong, on the folds that both have done."""
    names = first.user_attrs.keys() & second.user_attrs.keys()
    a, b = ({row for name in names for row in trial.user_attrs[name]["wrong"]} for trial in (first, second))
    return len(a - b), len(b - a)
