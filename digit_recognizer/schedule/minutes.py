"""What `--minutes` fits: stages that fill the time, by the speed of this very machine.

A plain run has one stage without a deadline. `--minutes` has a quick stage and then rounds of better nets.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from math import gcd, prod

from digit_recognizer.data import Dataset, Digits
from digit_recognizer.errors import RecipeError
from digit_recognizer.recipes import Recipe
from digit_recognizer.schedule.speed import Speed, measure_speeds
from digit_recognizer.schedule.stages import Member, Schedule, Stage, needs_gpu, split_cores
from digit_recognizer.settings import MAX_EPOCHS
from digit_recognizer.splits import Split
from digit_recognizer.training import CURVE_ROWS

# Beyond this many times the fewest rounds, more epochs help more than more nets.
MAX_ROUNDS = 8
# Least share of its recipe's epochs that a net is fitted for; r times the rounds need r**2 times that share.
# With half of its epochs, a recipe reads as many digits right as a quicker one does in the same time.
MIN_EPOCH_FRACTION = 0.5
# Share of the time for the first, quick stage, so that stopping early leaves a submission.
FIRST_STAGE_FRACTION = 1 / 8
FIRST_STAGE_MAX_SECONDS = 60
# A net gets several threads only while threads * minutes <= MAX_THREAD_MINUTES.
MAX_THREAD_MINUTES = 16
MAX_THREADS = 4
# A dense net keeps this many cores busy: one trains, one augments the next epoch.
CORES_PER_DENSE_FIT = 2
# Predictions may take this many times as long as their first rows did: the machine may have slowed down.
PREDICT_MARGIN = 1.15
# Seconds for the program's start and end.
OVERHEAD_SECONDS = 2.5
# Seconds for the blend and the files of each member.
MEMBER_SECONDS = 0.2


@dataclass(frozen=True)
class Work:
    """The work that stages are made for.

    min_members: least number of models; fits: per model; train_rows: per epoch; predict_rows: predicted
    after a fit; curve_rows: scored after each epoch.
    """

    min_members: int
    fits: int
    train_rows: int
    predict_rows: int
    curve_rows: int


def make_schedule(
    groups: Sequence[Sequence[Recipe]],
    splits: Sequence[Split],
    dataset: Dataset,
    *,
    refit: bool,
    cores: int,
    gpus: int,
    minutes: float | None,
    elapsed: Callable[[], float],
) -> Schedule:
    """Return the stages for the last group's recipes or, with `minutes`, for the best that are quick enough.

    groups: recipes that are fitted in turn, from the quickest to the best. elapsed: seconds since the start.
    Raises RecipeError if there is no time for a single epoch.
    """
    fits = len(splits) + refit
    if minutes is None:
        count, threads = split_cores(groups[-1], cores, gpus, fits=len(groups[-1]) * fits)
        members = tuple(Member(name=r.name, recipe=r.name, settings=r.settings) for r in groups[-1])
        return Schedule(stages=(Stage(members=members, workers=count, threads=threads),))
    held_out = max(len(split.valid) for split in splits)
    work = Work(
        min_members=len(groups[0]) if len(groups) == 1 else 1,  # each recipe that the user named
        fits=fits,
        train_rows=len(dataset.train) - (0 if refit else held_out),
        predict_rows=held_out + len(dataset.test),
        curve_rows=held_out + CURVE_ROWS,
    )
    shared = [
        split_cores_for_minutes(recipes, cores, gpus, minutes, fits=len(recipes) * fits) for recipes in groups
    ]
    # In one process, TensorFlow cannot change its threads: dense nets have as many as convolutional ones.
    most = max((threads for processes, threads in shared if processes == 1), default=1)
    shared = [(processes, most if processes == 1 else threads) for processes, threads in shared]
    return _measure_and_schedule(
        groups, dataset.train, work, shared, lambda: minutes * 60 - elapsed() - OVERHEAD_SECONDS
    )


def _measure_and_schedule(
    groups: Sequence[Sequence[Recipe]],
    digits: Digits,
    work: Work,
    cores: Sequence[tuple[int, int]],
    seconds_left: Callable[[], float],
) -> Schedule:
    """Measure group after group while there is time for all epochs of each, and schedule the best."""
    measured: list[_MeasuredGroup] = []
    for recipes, shared in zip(groups, cores, strict=True):
        measured.append(_MeasuredGroup(recipes, measure_speeds(recipes, digits, *shared), *shared))
        fraction = _stages(measured, work, seconds_left())[-1].epoch_fraction
        if fraction < 1:  # no time for better ones
            if fraction < MIN_EPOCH_FRACTION and len(measured) > 1:
                measured.pop()
            break
    stages = _stages(measured, work, seconds_left())
    if not stages[-1].epoch_fraction:
        raise RecipeError(
            f"--minutes: {stages[-1].seconds_per_fit:.0f} s are left for each fit, not enough for one epoch; "
            "give more minutes, or fewer or smaller recipes"
        )
    return Schedule(stages=tuple(stages))


def split_cores_for_minutes(
    recipes: Sequence[Recipe], cores: int, gpus: int, minutes: float, *, fits: int
) -> tuple[int, int]:
    """Return how many fits of a group to do at a time on `cores` cores, and the threads of each.

    fits: number of fits there will be at least. In up to 8 minutes several cores help more on one long
    convolutional net than on several short ones. The steps of a dense net are too short to be shared; beside
    them its next epoch is augmented, on a second core.
    """
    convolutional = any(recipe.settings.is_convolutional for recipe in recipes)
    if needs_gpu(recipes, gpus):
        return 1, cores if convolutional else 1
    if not convolutional:
        return max(1, cores // CORES_PER_DENSE_FIT), 1
    threads = max(1, min(cores // fits, MAX_THREADS, int(MAX_THREAD_MINUTES / minutes)))
    few, many = cores // threads, -(-cores // threads)
    shared = [(few, threads), (many, cores // many)]
    return max(shared, key=prod)  # fewer cores are idle


@dataclass(frozen=True)
class _MeasuredGroup:
    """Recipes that are fitted in turn, their speeds by name, and the cores they have."""

    recipes: Sequence[Recipe]
    speeds: dict[str, Speed]
    workers: int
    threads: int


def _stages(groups: Sequence[_MeasuredGroup], work: Work, seconds: float) -> list[Stage]:
    """Return the stages that fill `seconds`: rounds of the last group, after a short stage of the first.

    The short stage is left out if it has no time for an epoch.
    """
    first: list[Stage] = []
    if len(groups) > 1:
        soon = min(FIRST_STAGE_FRACTION * seconds, FIRST_STAGE_MAX_SECONDS)
        quick = _best_plan(groups[0], work, soon)
        if quick.epoch_fraction:
            first, seconds = quick.stages(group=0), seconds - soon
    return [*first, *_best_plan(groups[-1], work, seconds).stages(group=1)]


@dataclass(frozen=True)
class _Plan:
    """`count` members of a group in `seconds`: each fit has an equal part of them."""

    group: _MeasuredGroup
    work: Work
    seconds: float
    count: int

    @property
    def seconds_per_fit(self) -> float:
        rounds = -(-self.count * self.work.fits // self.group.workers)
        return max(0.0, self.seconds - self.count * MEMBER_SECONDS) / rounds

    @property
    def epoch_fraction(self) -> float:
        return min(self._epochs(recipe) / recipe.settings.epochs for recipe in self.group.recipes)

    def _epochs(self, recipe: Recipe) -> int:
        from digit_recognizer.nets.epochs import EPOCH_TOLERANCE  # imports OpenCV, which `runs` does not need

        speed, work = self.group.speeds[recipe.name], self.work
        once = speed.startup + speed.preprocess_row * work.train_rows + self._predict_seconds(recipe.name)
        epoch = speed.train_row * work.train_rows + speed.predict_row_without_tta * work.curve_rows
        return min(max(0, int((self.seconds_per_fit - once) / epoch - EPOCH_TOLERANCE)), MAX_EPOCHS)

    def _predict_seconds(self, recipe: str) -> float:
        return self.group.speeds[recipe].predict_row * self.work.predict_rows * PREDICT_MARGIN

    def stages(self, group: int) -> list[Stage]:
        """Return the stages; each ends when its members' fits fill whole rounds of the workers."""
        workers, recipes = self.group.workers, islice(cycle(self.group.recipes), self.count)
        members = [
            _member(recipe, number // len(self.group.recipes) + 1, self._epochs(recipe))
            for number, recipe in enumerate(recipes)
        ]
        size = workers // gcd(workers, self.work.fits)
        return [
            Stage(
                members=tuple(members[i : i + size]),
                workers=workers,
                threads=self.group.threads,
                group=group,
                seconds_per_fit=self.seconds_per_fit,
                predict_seconds={m.name: self._predict_seconds(m.recipe) for m in members[i : i + size]},
                epoch_fraction=self.epoch_fraction,
            )
            for i in range(0, self.count, size)
        ]


def _best_plan(group: _MeasuredGroup, work: Work, seconds: float) -> _Plan:
    """Return the plan that fills `seconds` best: more time gives longer nets first, and then more of them.

    In each round every worker does one fit. The fewest rounds are as many as the smallest number of members
    takes; `times` as many must leave each net MIN_EPOCH_FRACTION * times**2 of its recipe's epochs.
    """

    def plan_of(rounds: int) -> _Plan:
        return _Plan(group, work, seconds, max(work.min_members, rounds * group.workers // work.fits))

    fewest = -(-work.min_members * work.fits // group.workers)
    best_plan = plan_of(fewest)
    for times in range(2, MAX_ROUNDS + 1):
        if plan_of(times * fewest).epoch_fraction >= MIN_EPOCH_FRACTION * times**2:
            best_plan = plan_of(times * fewest)
    return best_plan


def _member(recipe: Recipe, number: int, epochs: int) -> Member:
    """Return a member for about `epochs` epochs, of which the recipe's share is averaged, but not more."""
    update = {"epochs": max(1, epochs)}
    averaged_epochs = getattr(recipe.settings, "averaged_epochs", None)
    if averaged_epochs is not None:
        fraction = min(1, epochs / recipe.settings.epochs)
        update["averaged_epochs"] = max(1, round(averaged_epochs * fraction))
    return Member(
        name=f"{recipe.name}-{number}", recipe=recipe.name, settings=recipe.settings.model_copy(update=update)
    )
