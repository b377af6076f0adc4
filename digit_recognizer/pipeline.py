"""The whole job in order: Kaggle's CSVs -> digits -> splits -> schedule -> fits -> blend -> submission."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from digit_recognizer import data, drafts, environment, manifest, results, runs, signals, training
from digit_recognizer.data import references
from digit_recognizer.files import write_atomically
from digit_recognizer.job import Job, Method
from digit_recognizer.manifest import RunConfig
from digit_recognizer.recipes import Recipe
from digit_recognizer.results import Clock
from digit_recognizer.schedule import Member, Schedule, Tier, fill_minutes
from digit_recognizer.settings import Settings
from digit_recognizer.splits import held_out_rows, make_splits
from digit_recognizer.stages import Stages
from digit_recognizer.training import Machine, OnNotice, OnProgress


def train(job: Job, *, on_notice: OnNotice, on_progress: OnProgress) -> runs.Run:
    """Go from the CSVs to a run's folder, with a checked submission in it if `job.write_submission`.

    Raises a DigitRecognizerError for what the user can mend; what is complete or finished by then stays.
    """
    clock, before = Clock(), environment.seconds_running()
    runs.check_outside(job.out)
    if job.name and not job.resume:
        drafts.check_free(job.out / job.name)  # before long work
    with training.on_cluster(job.cluster):
        return _train(job, clock, before, on_notice, on_progress)


def _train(job: Job, clock: Clock, before: float, on_notice: OnNotice, on_progress: OnProgress) -> runs.Run:
    dataset = data.load(data.find(job.data_dir))
    # Raises, before long work, if the table is damaged.
    references.margins(dataset.fingerprint["train"], len(dataset.train))
    splits = make_splits(
        dataset.train.labels, dataset.first_rows,
        holdout=job.share, folds=job.folds, repeats=job.repeats, seed=job.seed,
    )  # fmt: skip
    machine = Machine.look([recipe.settings for tier in job.tiers for recipe in tier], job.jobs)
    tiers = [[replace(r, settings=machine.adapt(r.settings)) for r in tier] for tier in job.tiers]
    plain = None if job.minutes else _schedule_all(tiers[-1], machine, fits=len(splits) + job.refit)
    settings = {recipe.name: recipe.settings for tier in tiers for recipe in tier}
    config = _config(job, settings, dataset, machine, plain)
    clock.lap("read")
    with drafts.start(job.out, job.name, config, resume=job.resume) as draft:
        read, *notices = dataset.notices()
        for line in (f"{read}; the run goes to {draft.folder}", *notices):
            on_notice(line)
        if job.cluster:
            on_notice(f"Workers of {job.cluster} that fit: {machine.cores}")
        if machine.why_alone and job.jobs != 1:
            on_notice(f"One fit is done after the other, as no process can be started: {machine.why_alone}")
        schedule = draft.save_schedule(
            plain
            or ((stored := draft.load_schedule()) and stored.limited_to(machine.cores))
            or fill_minutes(
                tiers, splits, dataset, refit=job.refit, machine=machine, minutes=job.minutes or 0,
                elapsed=lambda: before + clock.elapsed(), on_notice=on_notice,
            )
        )  # fmt: skip
        clock.lap("schedule")
        tasks = schedule.tasks(splits, refit=job.refit, seed=job.seed)
        stages = Stages(draft, schedule, tasks, on_notice, on_progress)
        # Named nets must be importable; of the default ones, those that are not are left out.
        if job.recipes and stages.unfinished:
            first, nets = schedule.tiers[0], [task.settings for task in stages.unfinished]
            training.import_libraries(nets, workers=first.workers, threads=first.threads)
        held_out = held_out_rows(splits, dataset.train.labels, dataset.test_labels, dataset.first_rows)
        with signals.Hold() as hold:  # a signal ends a stage only while its fits run
            for tier, round_tasks in stages.rounds_left():
                stopped = stages.fit(tier, round_tasks, dataset, hold)
                clock.lap("fit")
                stages.write(config, held_out, clock, stopped)
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
    runs.check_outside(out)
    parents = list({run.folder.resolve(): run for run in parents}.values())
    held_out, models = results.distinct_models(parents)
    used = {path.parent.parent for model in models for path in model.sources.values()}
    for run in parents:
        if run.folder not in used:
            on_notice(f"{run.folder.name} adds nothing: the runs named before it hold its models")
    config = parents[0].manifest.config.model_copy(
        update={
            "command": "ensemble",
            "recipes": {model.predictions.name: model.settings for model in models},
            "minutes": None,
            "refit": all(run.manifest.config.refit for run in parents),
            "blend": True,
            "bfloat16": None,
            "options": "",
            "versions": manifest.current_versions(),
            "source_hash": manifest.source_hash(),
            "ensemble": manifest.EnsembleConfig(runs=results.different_names(parents), method=method),
        }
    )
    clock.lap("read")
    with drafts.start(out, name, config) as draft:
        evaluation = results.evaluate(models, held_out, config, method, on_notice)
        clock.lap("score")
        draft.copy_fits({name: path for model in models for name, path in model.sources.items()})
        draft.write_probabilities(held_out, evaluation.predictions)
        clock.lap("write")
        name = draft.folder.name
        described = results.describe(name, evaluation, clock, failed_fits={}, stopped_early=None)
        draft.commit(described, evaluation.labels)
    return _copy_for_kaggle_notebook(runs.load(draft.folder))


def _copy_for_kaggle_notebook(run: runs.Run) -> runs.Run:
    """In a Kaggle notebook, copy the submission to where Kaggle's Submit button looks for it."""
    working = Path(os.environ.get("KAGGLE_WORKING", "/kaggle/working")).resolve()
    inside = working.is_dir() and run.folder.resolve().is_relative_to(working)
    if inside and run.manifest.submission_model:
        write_atomically(working / runs.SUBMISSION, run.submission.read_bytes())
    return run


def _schedule_all(chosen: Sequence[Recipe], machine: Machine, *, fits: int) -> Schedule:
    """Return the schedule without a time limit: a single tier of all recipes, with `fits` fits of each."""
    workers, threads = machine.split_cores([r.settings for r in chosen], fits=len(chosen) * fits)
    members = tuple(Member(name=r.name, recipe=r.name, settings=r.settings) for r in chosen)
    return Schedule(tiers=(Tier(members=members, workers=workers, threads=threads),))


def _config(
    job: Job, recipes: dict[str, Settings], dataset: data.Dataset, machine: Machine, plain: Schedule | None
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
        recipes=recipes,
        split=manifest.SplitConfig(holdout=job.share, folds=job.folds, repeats=job.repeats),
        seed=job.seed,
        refit=job.refit,
        minutes=job.minutes,
        blend=job.ensemble,
        threads=plain.tiers[0].threads if plain else None,
        cores=None if plain or machine.cluster else machine.cores,
        gpus=machine.gpus,
        bfloat16=machine.bfloat16,
        versions=manifest.current_versions(),
        source_hash=manifest.source_hash(),
        options=job.model_copy(update={"data_dir": dataset.source}).typed,
    )
