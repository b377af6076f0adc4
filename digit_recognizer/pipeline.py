"""The whole job in order: Kaggle's CSVs -> digits -> split -> fit -> probabilities -> blend -> submission."""

import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from digit_recognizer import (
    __version__,
    data,
    drafts,
    ensemble,
    recipes,
    runs,
    scoring,
    splits,
    submission,
    training,
)
from digit_recognizer import schedule as planner
from digit_recognizer.ensemble import BLEND, Predictions, Truth
from digit_recognizer.errors import RecipeError, RunError

NOT_FOR_KAGGLE = {
    "sample": "This is the embedded sample, one seventh of the competition's size, and no submission for "
    f"Kaggle. {data.DOWNLOAD_HINT}",
    "openml": "These are MNIST's digits from OpenML, for learning, and no submission for Kaggle",
}
LIBRARIES = ("numpy", "pandas", "scikit-learn", "tensorflow", "keras")


@dataclass(frozen=True)
class Job:
    """What to train, on what; the fields are the options of `train` and `validate`."""

    recipes: tuple[str, ...] = ()
    set: tuple[str, ...] = ()
    minutes: float | None = None
    ensemble: bool = True
    holdout: float = 0.1
    folds: int | None = None
    repeats: int = 1
    refit: bool = False
    seed: int = 0
    jobs: int | None = None
    data_dir: Path | None = None
    out: Path = Path("submissions")
    name: str | None = None
    resume: bool = False
    submit: bool = True

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The recipes to fit; of several groups the last that this machine is quick enough for."""
        if self.recipes:
            return (tuple(dict.fromkeys(self.recipes)),)
        return recipes.FOR_MINUTES if self.minutes else (recipes.DEFAULT,)


def train(job: Job, *, on_notice: Callable[[str], None], on_progress: training.OnProgress) -> runs.Run:
    """From the CSVs to a run's folder, with a checked submission in it if `job.submit`.

    Raises a DigitRecognizerError for what the user can mend; no run is written then.
    """
    clock = Clock()
    pool = recipes.choose([name for group in job.groups for name in group], job.set)
    if job.minutes:
        planner.check(pool, blended=job.ensemble)
    digits = data.load(data.find(job.data_dir))
    parts = splits.split(
        digits.train.labels, holdout=job.holdout, folds=job.folds, repeats=job.repeats, seed=job.seed
    )
    fits_at_least = len(job.groups[-1]) * (len(parts) + job.refit)
    if job.minutes:
        workers, threads = planner.share_cores(job.jobs, job.minutes, pool, fits_at_least)
    else:
        workers, threads = training.share_cores(job.jobs, fits_at_least)
    plan = _plan(job, pool, digits, workers, threads)
    clock.lap("read")

    with drafts.start(job.out, job.name, plan, resume=job.resume) as draft:
        on_notice(f"Read {len(digits.train):,} + {len(digits.test):,} digits from {digits.source}")
        if digits.kind in NOT_FOR_KAGGLE:
            on_notice(NOT_FOR_KAGGLE[digits.kind])
        if digits.kind == "contaminated":
            on_notice(data.contamination_notice(digits))
        schedule = None
        if job.minutes:
            schedule = _schedule(job, draft, pool, digits, parts, (workers, threads), clock)
            for line in schedule.lines(workers, threads):
                on_notice(line)
            clock.lap("plan")
        chosen = schedule.members if schedule else pool
        fits = training.plan(chosen, parts, refit=job.refit, seed=job.seed)
        done = draft.kept(fits)
        if done:
            on_notice(f"{len(done)} of {len(fits)} fits are done already")
        todo = [fit for fit in fits if fit.name not in done]
        if schedule:
            todo = schedule.deadlines(todo, workers, time.time())

        def finished() -> list[recipes.Recipe]:
            """The recipes all of whose fits are there; the quick nets' while there are no better ones."""
            there = [one for one in chosen if all(fit.name in done for fit in fits if fit.recipe == one)]
            return schedule.best(there) if schedule else there

        def conclude() -> runs.Run:
            """Write all that the finished recipes give."""
            clock.lap("fit")
            fitted = [done[fit.name] for fit in fits if fit.recipe in finished()]
            return _conclude(job, draft, plan, finished(), fitted, splits.truth(parts, digits), clock)

        try:
            fitting = training.fit_all(
                todo, digits, workers=workers, threads=threads, logs=draft.logs, on_progress=on_progress
            )
            for one in fitting:
                done[one.fit.name] = one
                draft.keep(one)
                if schedule and finished() and len(done) % workers == 0 and len(done) < len(fits):
                    conclude()  # after each round, for who looks at it before all is done
        except (KeyboardInterrupt, RunError) as stop:
            if not (schedule and finished()):
                raise
            why = f" ({stop})" if isinstance(stop, RunError) else ""
            on_notice(f"Stopped early{why}: {len(done)} of {len(fits)} fits are finished")
        with _undisturbed():
            fitting.close()
            return conclude()


def blend_runs(parents: Sequence[runs.Run], method: str, *, out: Path, name: str | None = None) -> runs.Run:
    """A new run whose submission blends the models of others by their out-of-fold probabilities.

    Raises RunError where the runs are not of the same data and split, with what differs.
    """
    clock = Clock()
    parents = list({run.folder.resolve(): run for run in parents}.values())
    truth, origins = _origins(parents)
    members = [Predictions(name, one.out_of_fold, one.test) for name, (_, one) in origins.items()]
    first = parents[0].manifest
    plan = {name: first[name] for name in ("data", "split", "seed", "versions")}
    plan["recipes"] = {name: run.manifest["recipes"][one.name] for name, (run, one) in origins.items()}
    plan["ensemble"] = {"runs": [run.folder.name for run in parents], "method": method}
    with drafts.start(out, name, plan) as draft:
        blend = ensemble.blend(members, truth, method)
        seconds = {name: run.manifest["scores"][one.name]["seconds"] for name, (run, one) in origins.items()}
        manifest = {**plan, **_results(members, blend, truth, seconds, submit=True), "fits": {}}
        clock.lap("score")
        return _finish(draft, manifest, members, blend, truth, clock)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Neither Ctrl-C nor SIGTERM stops what takes a second or two and is all that is left to do."""
    if threading.current_thread() is not threading.main_thread():  # which alone gets signals
        yield
        return
    before = {stop: signal.signal(stop, signal.SIG_IGN) for stop in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for stop, handler in before.items():
            signal.signal(stop, handler)


class Clock:
    """Seconds of each stage."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.laps: dict[str, float] = {}

    @property
    def elapsed(self) -> float:
        """Since the start."""
        return time.perf_counter() - self.started

    def lap(self, stage: str) -> None:
        """End a stage; one that comes again goes on where it ended."""
        since = max(0, self.elapsed - sum(self.laps.values()))
        self.laps[stage] = round(self.laps.get(stage, 0) + since, 2)


def _schedule(
    job: Job,
    draft: drafts.Draft,
    pool: list[recipes.Recipe],
    digits: data.Dataset,
    parts: Sequence[splits.Part],
    cores: tuple[int, int],
    clock: "Clock",
) -> planner.Schedule:
    """What to fit in the job's minutes: as the draft says, or by what the first steps take."""
    workers, threads = cores
    stored = draft.kept_schedule()
    if stored:
        return planner.Schedule.from_json(stored, pool)
    held_out = max(len(part.valid) for part in parts)

    def planned() -> planner.Schedule:
        return planner.plan(
            timed,
            least=len(job.groups[-1]),
            parts=len(parts) + job.refit,
            workers=workers,
            seconds=(job.minutes or 0) * 60 - clock.elapsed - planner.WRITING,
            rows=len(digits.train) - (0 if job.refit else held_out),
            predicted=held_out + len(digits.test),
            watched=held_out + training.CURVE_ROWS,
        )

    timed: list[planner.Timed] = []
    for names in job.groups:
        group = [recipe for recipe in pool if recipe.name in names]
        timed.append((group, training.first_steps(group, digits, workers=workers, threads=threads)))
        share = planned().stages[-1].share
        if len(timed) > 1 and share < 1:  # there is no time for better ones
            if share < planner.ENOUGH:
                timed.pop()
            break
    schedule = planned()
    last = schedule.stages[-1]
    if not last.share:
        raise RecipeError(
            f"--minutes {job.minutes:g}: {last.slot:.0f} s are left for each fit, not enough for one "
            "epoch; give more minutes, or fewer or smaller recipes"
        )
    draft.keep_schedule(schedule.to_json())
    return schedule


def _conclude(
    job: Job,
    draft: drafts.Draft,
    plan: dict[str, Any],
    chosen: list[recipes.Recipe],
    fitted: list[training.Fitted],
    truth: Truth,
    clock: "Clock",
) -> runs.Run:
    """Write models, scores and submission of these recipes, all of whose fits are there."""
    runs.write_models(draft.folder, fitted)
    members = [training.gather(recipe.name, fitted) for recipe in chosen]
    blend = ensemble.blend(members, truth, "weighted") if job.ensemble and len(members) > 1 else None
    seconds = {one.name: training.seconds(one.name, fitted) for one in members}
    manifest = {**plan, **_results(members, blend, truth, seconds, submit=job.submit)}
    manifest["recipes"] = {recipe.name: asdict(recipe.settings) for recipe in chosen}
    if job.minutes:  # as many as there were, not as were expected
        for recipe in chosen:
            own = [len(one.history) for one in fitted if one.fit.recipe == recipe]
            manifest["recipes"][recipe.name]["epochs"] = max(own)
    manifest["fits"] = {
        one.fit.name: {"seconds": round(one.seconds, 2), "curve": one.history} for one in fitted
    }
    clock.lap("score")
    return _finish(draft, manifest, members, blend, truth, clock)


def _plan(
    job: Job, chosen: list[recipes.Recipe], digits: data.Dataset, workers: int, threads: int
) -> dict[str, Any]:
    """All that decides a run's numbers, for its manifest."""
    split = {"holdout": job.holdout} if job.folds is None else {"folds": job.folds, "repeats": job.repeats}
    return {
        "data": {
            "kind": digits.kind,
            "source": str(digits.source),
            "rows": {"train": len(digits.train), "test": len(digits.test)},
            "fingerprint": digits.fingerprint,
        },
        "recipes": {recipe.name: asdict(recipe.settings) for recipe in chosen},
        "minutes": job.minutes,
        "seed": job.seed,
        "split": split,
        "refit": job.refit,
        "threads": threads,
        **({"workers": workers} if job.minutes else {}),  # they decide how many members there are
        "versions": {
            "digit_recognizer": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in LIBRARIES},
        },
    }


def _origins(parents: Sequence[runs.Run]) -> tuple[Truth, dict[str, tuple[runs.Run, Predictions]]]:
    """All models of the runs, each once, by name; where two runs have one of a name, the run's is added."""
    stored = [run.predictions() for run in parents]
    first, (truth, _) = parents[0], stored[0]
    for run, (other, _) in zip(parents[1:], stored[1:], strict=True):
        if run.manifest["data"]["fingerprint"] != first.manifest["data"]["fingerprint"]:
            sources = [f"{one.folder.name} ({one.manifest['data']['source']})" for one in (first, run)]
            raise RunError(f"{' and '.join(sources)} are runs on different data; only runs on the same blend")
        if not (np.array_equal(truth.rows, other.rows) and np.array_equal(truth.folds, other.folds)):
            splits = [
                f"{one.folder.name} ({one.manifest['split']}, seed {one.manifest['seed']})"
                for one in (first, run)
            ]
            raise RunError(
                f"{' and '.join(splits)} held out different rows; "
                "train one of them again with the other's --folds or --holdout and --seed"
            )
    owned: list[tuple[runs.Run, Predictions]] = []
    for run, (_, own) in zip(parents, stored, strict=True):
        for one in own:
            again = any(np.array_equal(one.out_of_fold, other.out_of_fold) for _, other in owned)
            if one.name != BLEND and not again:  # an ensemble holds its parents' models
                owned.append((run, one))
    if len(owned) < 2:
        raise RunError("a blend takes at least two different models; name runs that hold more")
    names = [one.name for _, one in owned]
    return truth, {
        f"{one.name}@{run.folder.name}" if names.count(one.name) > 1 else one.name: (run, one)
        for run, one in owned
    }


def _results(
    members: list[Predictions],
    blend: ensemble.Blend | None,
    truth: Truth,
    seconds: dict[str, float],
    *,
    submit: bool,
) -> dict[str, Any]:
    """The scores of each model and the blend, and what is submitted, for the manifest.

    seconds: of each model's fits; the blend's are those of all.
    """
    scores = {one.name: {**_scores(one, truth), "seconds": round(seconds[one.name], 2)} for one in members}
    if blend:
        scores[BLEND] = {**_scores(blend.predictions, truth), "seconds": round(sum(seconds.values()), 2)}
    best = BLEND if blend else max(scores, key=lambda name: scores[name]["accuracy"])
    return {
        "scores": scores,
        "blend": {"method": blend.method, "weights": blend.weights} if blend else None,
        "submitted": best if submit else None,
    }


def _scores(one: Predictions, truth: Truth) -> dict[str, Any]:
    folds = scoring.by_fold(truth.labels, one.out_of_fold, truth.folds)
    scores = asdict(scoring.score(truth.labels, one.out_of_fold, truth.rows))
    if len(folds) > 1:
        scores |= {"folds": folds, "spread": float(np.std(folds, ddof=1))}
    if truth.test_labels is not None:
        scores["test_accuracy"] = scoring.score(truth.test_labels, one.test).accuracy
    return scores


def _finish(
    draft: drafts.Draft,
    manifest: dict[str, Any],
    members: list[Predictions],
    blend: ensemble.Blend | None,
    truth: Truth,
    clock: Clock,
) -> runs.Run:
    """Write the draft's submission, if there is to be one, its probabilities and its manifest."""
    every = [*members, *([blend.predictions] if blend else [])]
    for one in every:
        if one.name == manifest["submitted"]:
            submission.write(one.test.argmax(axis=1), draft.folder / runs.SUBMISSION)
            submission.check(draft.folder / runs.SUBMISSION, rows=len(one.test))
            manifest = {**manifest, "submission_sha256": submission.sha256(draft.folder / runs.SUBMISSION)}
    runs.write_probabilities(draft.folder, truth, every)
    clock.lap("write")
    manifest = {
        "name": draft.final.name,
        "created": datetime.now().astimezone().isoformat(timespec="seconds"),
        **manifest,
        "seconds": {**clock.laps, "total": round(clock.elapsed, 2)},
    }
    runs.write_manifest(draft.folder, manifest)
    return runs.Run(draft.final, manifest)
