"""The search of `tune`: candidates that Optuna draws, all fitted on the same folds, in Optuna's journal."""

import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from itertools import islice, zip_longest
from math import ceil, inf
from pathlib import Path
from typing import Any

from digit_recognizer import data, manifest, signals, training
from digit_recognizer.comparison import LEVEL, mid_p
from digit_recognizer.errors import FitError, OptionError, RunError, shown
from digit_recognizer.files import delete, read_plain, write_atomically
from digit_recognizer.recipes import select
from digit_recognizer.settings import Settings, format_value, parse
from digit_recognizer.splits import Split, make_splits
from digit_recognizer.training import FitFailure, FitResult, Machine, OnNotice, OnProgress, Progress
from digit_recognizer.tuning.space import Range, Tune

MAX_BYTES = 1 << 28  # of a journal
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


def _only_wrong(first: Any, second: Any) -> tuple[int, int]:
    """Return how many digits each of two trials alone gets wrong, on the folds that both have done."""
    names = first.user_attrs.keys() & second.user_attrs.keys()
    a, b = ({row for name in names for row in trial.user_attrs[name]["wrong"]} for trial in (first, second))
    return len(a - b), len(b - a)


class Search:
    """Candidates as Optuna's trials, with what came of each fold; number 0 is the recipe as it stands.

    began: when the command did, on the monotonic clock.
    """

    def __init__(self, optuna: Any, asked: Tune, began: float, say: OnNotice, show: OnProgress) -> None:
        started = time.monotonic()
        self._optuna, self._asked, self._say, self._show = optuna, asked, say, show
        self._space, (self._recipe,) = asked.searched, asked.tiers[-1]
        self._data = data.load(data.find(asked.data_dir))
        for line in self._data.notices():
            say(line)
        labels, rows = self._data.train.labels, self._data.first_rows
        self._splits = make_splits(labels, rows, holdout=None, folds=asked.folds, seed=asked.seed)
        self._machine = Machine.look([self._recipe.settings], asked.jobs)
        self._workers, self._threads = self._machine.split_cores([self._recipe.settings], fits=MAX_TRIALS)
        self._limit = asked.trials or (MAX_TRIALS if asked.minutes else TRIALS)
        self._distributions = {name: self._distribution(each) for name, each in self._space.items()}
        self._end_seconds = END_SECONDS + 2 * (time.monotonic() - started)
        training.import_libraries([self._recipe.settings], workers=self._workers, threads=self._threads)
        self._began, self._until = began, inf

    def _distribution(self, values: Range | tuple[object, ...]) -> Any:
        """Return Optuna's; numbers that span a power of ten are searched evenly by their logarithm."""
        kinds = self._optuna.distributions
        if not isinstance(values, Range):
            return kinds.CategoricalDistribution([format_value(value) for value in values])
        kind = kinds.IntDistribution if isinstance(values.low, int) else kinds.FloatDistribution
        return kind(*values, log=values.low > 0 and values.high / values.low >= 10)

    def open(self, journal: Path) -> None:
        """Go on with a journal, or begin it; raises RunError if it is damaged, or of another search."""
        storages = self._optuna.storages
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
        delete(journal.with_name(f"{journal.name}.lock"))  # of a killed process
        try:
            if journal.exists():  # but for a line that was cut off
                write_atomically(journal, b"".join(read_plain(journal, MAX_BYTES).rpartition(b"\n")[:2]))
            lock = storages.journal.JournalFileOpenLock(str(journal))  # a link needs rights on Windows
            storage = storages.JournalStorage(storages.journal.JournalFileBackend(str(journal), lock))
            sampler = self._optuna.samplers.RandomSampler()  # not asked: `_candidates` is
            self._study = self._optuna.create_study(
                storage=storage, sampler=sampler, study_name="tune", load_if_exists=True
            )
            self._rows()
        except OSError as error:
            raise RunError(f"{journal}: cannot be read or written ({error.strerror or error})") from None
        except (ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:  # Optuna's
            raise RunError(f"{journal}: is damaged ({shown(str(error))}); delete it") from None
        stored = self._study.user_attrs.get("search", search)
        if changed := [name for name in search if stored.get(name) != search[name]]:
            raise RunError(f"{journal.parent}: is a search of another {changed[0]}; take another --name")
        self._study.set_user_attr("search", search)
        self._say(f"Until it ends, the search is in {journal.parent}")

    def _trials(self) -> list[Any]:
        return self._study.get_trials(deepcopy=False)

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
            sampler = self._optuna.samplers.QMCSampler(
                scramble=True, seed=self._asked.seed, warn_independent_sampling=False
            )
        study, seen, misses = self._optuna.create_study(sampler=sampler), [self._settings({})], 0
        while misses < MAX_MISSES:
            trial, misses = study.ask(self._distributions), misses + 1
            study.tell(trial, 0.0)
            values = {name: trial.params[name] for name in self._space}
            for name, each in self._space.items():
                if isinstance(each, Range) and isinstance(values[name], float):
                    rounded = float(f"{values[name]:.3g}")  # is easily copied
                    values[name] = min(max(rounded, each.low), each.high)
            with suppress(OptionError):  # of values that exclude each other
                if (settings := self._settings(values)) not in seen:
                    seen.append(settings)
                    misses = 0
                    yield values

    def run(self) -> tuple[list[Row], Row]:
        """Fit candidates until all are done or the time is over; return all, and the best beside number 0."""
        new = islice(self._candidates(), len(self._trials()), self._limit)
        with signals.Hold() as hold:  # a signal comes through while fits run, never into the journal
            self._judge()
            while "best" not in self._study.user_attrs and (fits := self._next_fits(new)):
                if not self._has_time(len(fits)):
                    break
                self._fit(fits, hold)
                self._judge()
            with hold.released():  # one that came meanwhile
                self._tell(1.0)
            rows = [row for row in self._rows() if row["folds"] or row["state"] == "failed"]
            found = [row for row in rows if row["candidate"] and row["folds"] and row["state"] != "failed"]
            if not found:
                raise FitError("no candidate could be fitted; try other values")
            # A search that is gone on with keeps its end: the best may be validated already.
            best = self._study.user_attrs.get("best", found[0]["candidate"])
            self._study.set_user_attr("best", best)
        return rows, next(row for row in rows if row["candidate"] == best)

    def _running(self) -> list[Any]:
        return [trial for trial in self._trials() if not trial.state.is_finished()]

    def _next_fits(self, new: Iterator[Values]) -> list[tuple[Any, Split]]:
        """Return a fit for each worker, of as many candidates; first all of the recipe as it stands."""
        trials, self._workers = self._optuna.trial, training.workers_now(self._workers)
        for values in islice(new, max(0, self._workers - len(self._running()))):
            kinds, state = {name: self._distributions[name] for name in values}, trials.TrialState.RUNNING
            self._study.add_trial(trials.create_trial(state=state, params=values, distributions=kinds))
        running, splits = self._running(), self._splits
        if len(running) < self._workers:  # there are no more
            self._limit = len(self._trials())
        left = [[(trial, s) for s in splits if s.name not in trial.user_attrs] for trial in running]
        if left and not running[0].number:  # by which the others are judged
            return left[0]
        return [fit for depth in zip_longest(*left) for fit in depth if fit][: self._workers]

    def _has_time(self, fits: int) -> bool:
        """Return whether so many fits, each as slow as the slowest so far, leave time for the comparison."""
        rows = [row for row in self._rows() if row["folds"]]
        if not rows or self._asked.minutes is None:
            return True
        slowest = max(row["seconds"] for row in rows)
        comparison = self._end_seconds + 2 * ceil(len(self._splits) / self._workers) * slowest
        self._until = self._began + 60 * self._asked.minutes - comparison
        after = time.monotonic() + ceil(fits / self._workers) * slowest
        if after > self._until and len(rows) == 1:
            least = (after + comparison - self._began) / 60
            raise OptionError(f"--minutes: at least {least:.1f} are needed; give more, or fewer --folds")
        return after <= self._until

    def _fit(self, fits: Sequence[tuple[Any, Split]], hold: signals.Hold) -> None:
        """Fit candidates on folds; what is finished is in the journal at once."""
        name, folds, numbers, tasks = self._recipe.name, len(self._splits), {}, []
        for trial, split in fits:
            nets = {name: self._settings(trial.params)}  # by the recipe's name, which decides the seed
            (task,) = training.make_fits(nets, [split], refit=False, seed=self._asked.seed)
            tasks.append(replace(task, model=f"{name}-{trial.number}", recipe=name, threads=self._threads))
            numbers[tasks[-1].model] = trial.number
        done = sum(1 if t.state.is_finished() else len(t.user_attrs) / folds for t in self._trials())
        shares: dict[str, float] = {}

        def on_progress(progress: Progress) -> None:
            shares[progress.fit] = progress.done
            share = (done + sum(shares.values()) / folds) / self._limit
            if self._asked.minutes:
                share = (time.monotonic() - self._began) / (self._until - self._began)
            self._tell(min(0.99, share))

        fitting = training.fit_all(
            tasks, self._data, workers=self._workers, on_progress=on_progress, on_notice=self._say
        )
        with closing(fitting):
            while True:
                with hold.released():
                    outcome = next(fitting, None)
                if outcome is None:
                    return
                self._keep(outcome, numbers[outcome.task.model])

    def _keep(self, outcome: FitResult | FitFailure, number: int) -> None:
        trial, split = self._trials()[number], outcome.task.split
        if trial.state.is_finished():  # another fold failed
            return
        if isinstance(outcome, FitResult):
            right = outcome.valid.argmax(axis=1) == self._data.train.labels[split.valid]
            fold = {"wrong": split.valid[~right].tolist(), "digits": len(right), "seconds": outcome.seconds}
            self._optuna.trial.Trial(self._study, trial._trial_id).set_user_attr(split.name, fold)
        elif not number:
            raise FitError(f"{outcome.task.name}: {outcome.reason}")
        else:
            self._say(f"{outcome.task.name} failed; candidate {number} is left out: {outcome.reason}")
            self._study.tell(number, state=self._optuna.trial.TrialState.FAIL)

    def _judge(self) -> None:
        """End the candidates that have all folds, and those that are worse than the best of these.

        The digits are the same, so that one fold can tell; Optuna's pruners see a single number for each.
        """
        best = next((row["candidate"] for row in self._rows() if row["state"] == "complete"), None)
        for trial in self._running():
            alone, best_alone = (0, 0) if best is None else _only_wrong(trial, self._trials()[best])
            if len(trial.user_attrs) == len(self._splits):
                wrong = sum(len(fold["wrong"]) for fold in trial.user_attrs.values())
                self._study.tell(trial.number, wrong / len(self._data.train))
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
                "digits": digits, "p": mid_p(*_only_wrong(trial, trials[0])),
                "seconds": max((fold["seconds"] for fold in folds), default=0.0),
                "state": STATES[trial.state.name],
            })  # fmt: skip
        return sorted(rows, key=lambda row: (row["state"] != "complete", -row["accuracy"], row["candidate"]))

    def _tell(self, share: float) -> None:
        ended = [trial for trial in self._trials() if trial.state.is_finished()]
        errors = [trial.value for trial in ended if trial.state.name == "COMPLETE"]
        metrics = {"valid_accuracy": 1 - min(errors)} if errors else {}
        limit = None if self._asked.minutes else self._limit
        self._show(Progress("search", share, len(ended), limit, metrics, "candidate"))
