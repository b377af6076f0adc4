"""The whole job in order: Kaggle's CSVs -> digits -> splits -> schedule -> fits -> blend -> submission."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from digit_recognizer import data, drafts, manifest, recipes, results, runs, signals, training
from digit_recognizer.errors import FitError, RunError
from digit_recognizer.files import write_atomically
from digit_recognizer.job import Job, Method
from digit_recognizer.manifest import RunConfig
from digit_recognizer.predictions import HeldOut
from digit_recognizer.results import Clock
from digit_recognizer.schedule import Member, Schedule, Tier, fill_minutes
from digit_recognizer.splits import held_out, make_splits
from digit_recognizer.training import FitFailure, FitResult, FitTask, Machine, OnProgress, Progress

OnNotice = Callable[[str], None]
KIND_NOTICES = {
    "sample": "This is the embedded sample, one seventh of the competition's size, and no submission for "
    f"Kaggle. {data.DOWNLOAD_HINT}",
    "openml": "These are MNIST's digits from OpenML, for learning, and no submission for Kaggle",
}


def train(job: Job, *, on_notice: OnNotice, on_progress: OnProgress) -> runs.Run:
    """Go from the CSVs to a run's folder, with a checked submission in it if `job.write_submission`.

    Raises a DigitRecognizerError for what the user can mend; no run is written then.
    """
    clock = Clock()
    dataset = data.load(data.find(job.data_dir))
    splits = make_splits(
        dataset.train.labels, dataset.first_rows,
        holdout=job.share, folds=job.folds, repeats=job.repeats, seed=job.seed,
    )  # fmt: skip
    machine = Machine.look([recipe.settings for tier in job.tiers for recipe in tier], job.jobs)
    tiers = [[replace(r, settings=machine.adapt(r.settings)) for r in tier] for tier in job.tiers]
    plain = None if job.minutes else _schedule_all(tiers[-1], machine, fits=len(splits) + job.refit)
    config = _config(job, tiers, dataset, machine, plain)
    clock.lap("read")
    with drafts.start(job.out, job.name, config, resume=job.resume) as draft:
        _describe_data(dataset, on_notice)
        if machine.why_alone and job.jobs != 1:
            on_notice(f"One fit is done after the other, as no process can be started: {machine.why_alone}")
        schedule = draft.load_schedule() or draft.save_schedule(
            plain
            or fill_minutes(
                tiers, splits, dataset, refit=job.refit, machine=machine, minutes=job.minutes or 0,
                elapsed=clock.elapsed,
            )
        )  # fmt: skip
        clock.lap("schedule")
        tasks = schedule.tasks(splits, refit=job.refit, seed=job.seed)
        fits = _Fits(draft, schedule, tasks, on_notice, on_progress)
        fits.announce()
        if job.recipes:  # else the nets whose libraries cannot be imported are left out
            fits.import_libraries()
        rows = held_out(splits, dataset.train.labels, dataset.test_labels, dataset.first_rows)
        with signals.Hold() as hold:  # a signal ends a stage only while its fits run
            for tier, round_tasks in fits.rounds_left():
                stopped = fits.fit_round(tier, round_tasks, dataset, hold)
                clock.lap("fit")
                fits.write_stage(config, rows, clock, stopped)
                if stopped:
                    break
    return _copy_for_kaggle_notebook(runs.load(draft.folder))


def blend_runs(
    parents: Sequence[runs.Run], method: Method, *, out: Path, name: str | None = None, on_notice: OnNotice
) -> runs.Run:
    """Write a new run whose submission blends the models of others by their out-of-fold probabilities.

    Raises RunError, with what differs, if the runs are not of the same data and split.
    """
    clock = Clock()
    parents = list({run.folder.resolve(): run for run in parents}.values())
    rows, models = results.distinct_models(parents)
    config = parents[0].manifest.config.model_copy(
        update={
            "command": "ensemble",
            "recipes": {model.predictions.name: model.settings for model in models},
            "minutes": None,
            "refit": False,
            "blend": True,
            "bfloat16": None,
            "versions": manifest.current_versions(),
            "source_hash": manifest.source_hash(),
            "ensemble": manifest.EnsembleConfig(
                runs=tuple(results.different_names(parents).values()), method=method
            ),
        }
    )
    clock.lap("read")
    with drafts.start(out, name, config) as draft:
        evaluation = _evaluate(models, rows, method, clock, on_notice)
        draft.copy_fits({name: path for model in models for name, path in model.sources.items()})
        draft.write_probabilities(rows, evaluation.predictions)
        clock.lap("write")
        draft.commit(
            results.describe(draft.folder.name, config, models, evaluation, clock), evaluation.labels
        )
    return _copy_for_kaggle_notebook(runs.load(draft.folder))


def _evaluate(
    models: Sequence[results.Model],
    rows: HeldOut,
    method: Method | None,
    clock: Clock,
    on_notice: OnNotice,
) -> results.Evaluation:
    evaluation = results.evaluate(models, rows, method)
    if evaluation.blend and not evaluation.blend.converged:
        on_notice("The weights of the blend could not be found; its models are weighted equally")
    clock.lap("score")
    return evaluation


def _copy_for_kaggle_notebook(run: runs.Run) -> runs.Run:
    """In a Kaggle notebook, copy the submission to where Kaggle's Submit button looks for it."""
    working = Path(os.environ.get("KAGGLE_WORKING", "/kaggle/working")).resolve()
    inside = working.is_dir() and run.folder.resolve().is_relative_to(working)
    if inside and run.manifest.submission_model:
        write_atomically(working / runs.SUBMISSION, run.submission.read_bytes())
    return run


def _schedule_all(chosen: Sequence[recipes.Recipe], machine: Machine, *, fits: int) -> Schedule:
    """Return the schedule without a time limit: a single tier of all recipes, with `fits` fits of each."""
    workers, threads = machine.split_cores([r.settings for r in chosen], fits=len(chosen) * fits)
    members = tuple(Member(name=r.name, recipe=r.name, settings=r.settings) for r in chosen)
    return Schedule(tiers=(Tier(members=members, workers=workers, threads=threads),))


def _config(
    job: Job,
    tiers: Sequence[Sequence[recipes.Recipe]],
    dataset: data.Dataset,
    machine: Machine,
    plain: Schedule | None,
) -> RunConfig:
    """Return all that decides the run's numbers."""
    return RunConfig(
        command="train" if job.write_submission else "validate",
        data=manifest.DataConfig(
            kind=dataset.kind,
            source=str(dataset.source),
            rows=manifest.Rows(train=len(dataset.train), test=len(dataset.test)),
            fingerprint=manifest.Fingerprint(**dataset.fingerprint),
        ),
        recipes={recipe.name: recipe.settings for tier in tiers for recipe in tier},
        split=manifest.SplitConfig(holdout=job.share, folds=job.folds, repeats=job.repeats),
        seed=job.seed,
        refit=job.refit,
        minutes=job.minutes,
        blend=job.ensemble,
        threads=plain.tiers[0].threads if plain else None,
        cores=None if plain else machine.cores,
        gpus=machine.gpus,
        bfloat16=machine.bfloat16,
        versions=manifest.current_versions(),
        source_hash=manifest.source_hash(),
    )


def _describe_data(dataset: data.Dataset, on_notice: OnNotice) -> None:
    on_notice(f"Read {len(dataset.train):,} + {len(dataset.test):,} digits from {dataset.source}")
    if repeats := data.repeats_notice(dataset):
        on_notice(repeats)
    if dataset.kind == "contaminated":
        on_notice(data.contamination_notice(dataset))
    if notice := KIND_NOTICES.get(dataset.kind):
        on_notice(notice)


class _Fits:
    """The fits of a run: those that the draft keeps are finished, and each stage adds its own to them."""

    def __init__(
        self,
        draft: drafts.Draft,
        schedule: Schedule,
        tasks: Sequence[FitTask],
        on_notice: OnNotice,
        on_progress: OnProgress,
    ) -> None:
        self._draft, self._schedule, self._tasks = draft, schedule, tasks
        self._on_notice = on_notice

        def log_and_show(progress: Progress) -> None:
            training.write_log(draft.logs, progress)
            on_progress(progress)

        self._on_progress = log_and_show
        self._outcomes = draft.load_fits(tasks, on_notice)

    def announce(self) -> None:
        """Tell what will be fitted, and what is finished already."""
        for line in self._schedule.describe():
            self._on_notice(line)
        if self._outcomes:
            self._on_notice(f"{self._finished()} fits are finished already")
        for task in self._unfinished():
            self._on_progress(task.progress())

    def import_libraries(self) -> None:
        """Raise LibraryError, before any fit, if one of the nets needs what cannot be imported."""
        if unfinished := self._unfinished():
            tier = self._schedule.tiers[0]
            nets = [task.settings for task in unfinished]
            training.import_libraries(nets, workers=tier.workers, threads=tier.threads)

    def rounds_left(self) -> Iterator[tuple[Tier, list[FitTask]]]:
        """Yield the fits that are still needed, in rounds; a single, empty one if none is."""
        rounds = self._schedule.rounds(self._unfinished())
        yield next(rounds, (self._schedule.tiers[-1], []))
        yield from rounds

    def _unfinished(self) -> list[FitTask]:
        """Return the fits to do: not those of members that better ones have replaced."""
        left = {member.name for member in self._schedule.members_left(self._complete())}
        return [task for task in self._tasks if task.name not in self._outcomes and task.model in left]

    def fit_round(
        self, tier: Tier, tasks: Sequence[FitTask], dataset: data.Dataset, hold: signals.Hold
    ) -> str | None:
        """Fit the tasks, while signals come through `hold`; return why it was stopped early, or None.

        A fit that fails is left out with a notice. Once a stage is complete, Ctrl-C, SIGTERM or a killed
        process end the run with what is finished, and the command with 0; before, they raise.
        """
        if not tasks:
            return None
        fitting = training.fit_all(
            tasks, dataset, workers=tier.workers, on_progress=self._on_progress, on_notice=self._on_notice,
        )  # fmt: skip
        try:
            with hold.released():
                for outcome in fitting:
                    self._keep(outcome)
        except (KeyboardInterrupt, RunError) as stop:
            if self._draft.manifest is None:
                raise
            reason = str(stop) or "interrupted"
            self._on_notice(f"Stopped early ({reason}): {self._finished()} fits are finished")
            return reason
        finally:
            fitting.close()  # stops the processes, however impatient the user is
        return None

    def _keep(self, outcome: FitResult | FitFailure) -> None:
        self._outcomes[outcome.task.name] = outcome
        if isinstance(outcome, FitResult):
            self._draft.save_fit(outcome)
            return
        if outcome.deterministic:
            self._draft.save_failure(outcome)
        self._on_notice(f"{outcome.task.name} failed; {outcome.task.model} is left out: {outcome.reason}")

    def write_stage(self, config: RunConfig, rows: HeldOut, clock: Clock, stopped: str | None) -> None:
        """Commit the run as it stands, if that is news: the complete members of the best tier.

        Raises FitError if all fits are over and no member is complete.
        """
        members = [member.name for member in self._schedule.best_members(self._complete())]
        failures = [outcome for outcome in self._outcomes.values() if isinstance(outcome, FitFailure)]
        if not members and not self._unfinished():
            hopeless = {failure.task.model for failure in failures if failure.deterministic}
            if hopeless == {task.model for task in self._tasks}:
                self._draft.delete_fits()
            raise FitError(f"{failures[0].task.name}: {failures[0].reason}")
        if stopped is None and self._unfinished():
            stopped = "cut off"  # unless a later stage says otherwise
        early = f"{stopped}; {self._finished()} fits were finished" if stopped else None
        earlier = self._draft.manifest
        if earlier and list(earlier.recipes) == members:
            self._draft.write_manifest(earlier.model_copy(update={"stopped_early": early}))
            return
        if not members:
            return
        models = [
            results.from_fits(name, self._results_of(name), use_actual_epochs=config.minutes is not None)
            for name in members
        ]
        evaluation = _evaluate(models, rows, "weighted" if config.blend else None, clock, self._on_notice)
        self._draft.write_probabilities(rows, evaluation.predictions)
        clock.lap("write")
        manifest = results.describe(
            self._draft.folder.name, config, models, evaluation, clock, failures=failures, stopped_early=early
        )
        self._draft.commit(manifest, evaluation.labels if manifest.submission_model else None)

    def _results_of(self, model: str) -> list[FitResult]:
        outcomes = [self._outcomes.get(task.name) for task in self._tasks if task.model == model]
        return [outcome for outcome in outcomes if isinstance(outcome, FitResult)]

    def _finished(self) -> str:
        finished = sum(isinstance(outcome, FitResult) for outcome in self._outcomes.values())
        return f"{finished} of {len(self._tasks)}"

    def _complete(self) -> set[str]:
        """Return the models whose fits are all finished."""
        models = {task.model for task in self._tasks}
        finished = {name for name, outcome in self._outcomes.items() if isinstance(outcome, FitResult)}
        return models - {task.model for task in self._tasks if task.name not in finished}
