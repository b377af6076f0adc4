"""The fits of a run in rounds, a single one without --minutes.

A round after which more or better members are complete leaves a stage, which is a whole run.
"""

from collections.abc import Iterator, Sequence

from digit_recognizer import results, runs, signals, training
from digit_recognizer.data import Dataset
from digit_recognizer.drafts import Draft
from digit_recognizer.errors import FitError, RunError
from digit_recognizer.files import delete
from digit_recognizer.job import Method
from digit_recognizer.manifest import RunConfig
from digit_recognizer.predictions import HeldOut
from digit_recognizer.results import Clock
from digit_recognizer.schedule import Schedule, Tier
from digit_recognizer.training import FitFailure, FitResult, FitTask, OnNotice, OnProgress, Outcome, Progress


class Stages:
    """Fits a run's rounds; each stage is the run as it stands after one: the best tier's complete members."""

    def __init__(
        self, draft: Draft, schedule: Schedule, tasks: Sequence[FitTask], notify: OnNotice, show: OnProgress
    ) -> None:
        self._draft, self._schedule, self._tasks = draft, schedule, tasks
        self._notify, self._show = notify, show
        self._outcomes = draft.load_fits(tasks, notify)
        for line in schedule.describe():
            notify(line)
        if self._outcomes:
            notify(f"Fits finished already: {self._count()}")
        for task in self.unfinished:
            self._on_progress(task.progress())

    @property
    def unfinished(self) -> list[FitTask]:
        """The fits to do: not those of members that better ones have replaced."""
        left = {member.name for member in self._schedule.members_left(self._complete())}
        return [task for task in self._tasks if task.name not in self._outcomes and task.model in left]

    def rounds_left(self) -> Iterator[tuple[Tier, list[FitTask]]]:
        """Yield the fits that are still needed, in rounds; a single, empty one if none is."""
        rounds = self._schedule.budgeted_rounds(self.unfinished)
        yield next(rounds, (self._schedule.tiers[-1], []))
        yield from rounds

    def fit(self, tier: Tier, tasks: Sequence[FitTask], dataset: Dataset, hold: signals.Hold) -> str | None:
        """Fit the tasks, while signals come through `hold`; return why it was stopped early, or None.

        A fit that fails is left out with a notice. Ctrl-C, SIGTERM, a killed process, a lost scheduler and a
        full disk stop the fits. Before the first stage is complete, they raise; after it, the run is what is
        finished, and the exit code is 0.
        """
        if not tasks:
            return None
        fitting = training.fit_all(
            tasks, dataset, workers=tier.workers, on_progress=self._on_progress, on_notice=self._notify
        )
        try:
            with hold.released():
                for outcome in fitting:
                    self._keep(outcome)
        except (KeyboardInterrupt, RunError) as stop:
            if self._draft.manifest is None:
                raise
            reason = str(stop) or "interrupted"
            kept = f"{self._count()} fits are finished; the same command with --resume goes on"
            self._notify(f"Stopped early ({reason}): {kept}")
            return reason
        finally:
            fitting.close()  # stops the processes, however impatient the user is
        return None

    def _on_progress(self, progress: Progress) -> None:
        self._draft.log(progress)
        self._show(progress)

    def _keep(self, outcome: Outcome) -> None:
        self._draft.save_outcome(outcome)
        self._outcomes[outcome.task.name] = outcome  # once it is stored: Ctrl-C may come in between
        if isinstance(outcome, FitFailure):
            self._notify(f"{outcome.task.name} failed; {outcome.task.model} is left out: {outcome.reason}")

    def write(self, config: RunConfig, held_out: HeldOut, clock: Clock, stopped: str | None) -> None:
        """Commit the run as it stands, if that is news: the complete members of the best tier.

        Raises FitError if all fits are over and no member is complete.
        """
        members = [member.name for member in self._schedule.best_members(self._complete())]
        failures = [outcome for outcome in self._outcomes.values() if isinstance(outcome, FitFailure)]
        if not members and not self.unfinished:
            hopeless = {failure.task.model for failure in failures if failure.deterministic}
            if hopeless == {task.model for task in self._tasks}:
                delete(self._draft.folder / runs.FITS)  # a resumed run would only fail again
            raise FitError(f"{failures[0].task.name}: {failures[0].reason}")
        if stopped is None and self.unfinished:
            stopped = "cut off"  # true if this process ends before the next stage
        failed = {failure.task.name: failure.reason for failure in failures}
        early = f"{stopped}; {self._count()} fits were finished" if stopped else None
        earlier = self._draft.manifest
        if earlier and list(earlier.settings) == members:
            news = {"stopped_early": early, "failed_fits": failed, "seconds": clock.seconds()}
            runs.write_manifest(self._draft.folder, earlier.model_copy(update=news))
            return
        if not members:
            return
        models = [results.from_fits(name, self._results_of(name)) for name in members]
        method: Method | None = "weighted" if config.blend else None
        evaluation = results.evaluate(models, held_out, config, method, self._notify)
        clock.lap("score")
        self._draft.write_probabilities(held_out, evaluation.predictions)
        clock.lap("write")
        name = self._draft.folder.name
        manifest = results.describe(name, evaluation, clock, failed_fits=failed, stopped_early=early)
        self._draft.commit(manifest, evaluation.labels)

    def _results_of(self, model: str) -> list[FitResult]:
        outcomes = [self._outcomes.get(task.name) for task in self._tasks if task.model == model]
        return [outcome for outcome in outcomes if isinstance(outcome, FitResult)]

    def _count(self) -> str:
        finished = sum(isinstance(outcome, FitResult) for outcome in self._outcomes.values())
        return f"{finished} of {len(self._tasks)}"

    def _complete(self) -> set[str]:
        """Return the models whose fits are all finished."""
        unfinished = {
            task.model for task in self._tasks if not isinstance(self._outcomes.get(task.name), FitResult)
        }
        return {task.model for task in self._tasks} - unfinished
