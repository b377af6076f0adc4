"""What a run fits in which order, and how `--minutes` fills its time; start at `fill_minutes`."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Self

from pydantic import Field, model_validator

from digit_recognizer import training
from digit_recognizer.data import Dataset
from digit_recognizer.errors import OptionError
from digit_recognizer.manifest import FileName
from digit_recognizer.nets.progress import Budget
from digit_recognizer.recipes import Recipe
from digit_recognizer.records import Record
from digit_recognizer.settings import Settings
from digit_recognizer.splits import Split
from digit_recognizer.training import Cost, FitTask, Machine, OnNotice

# Each net of one round has time for at least this share of its recipe's epochs; of r rounds, r**2 times that.
# With half of its epochs, a recipe is as accurate as a quicker one that takes the same time.
MIN_EPOCHS_SHARE = 0.5
# Beyond this many times the fewest rounds, more epochs help more than more nets.
MAX_TIMES_ROUNDS = 8
# Of a first, quick tier, so that stopping early leaves a submission: its share of the time, at most so long.
FIRST_TIER_SHARE, FIRST_TIER_SECONDS = 1 / 8, 60
# No further tier is measured if the last one took more than this share of the time that is left.
MEASURE_SHARE = 1 / 4
# If more of the time is gone before the quickest tier is measured, it is fitted at once: the machine is busy.
LATEST_MEASURE_SHARE = 1 / 2
# Seconds for the end of the program, and to blend a held-out row of each member.
END_SECONDS, BLEND_SECONDS = 0.7, 2e-5

Cores = Annotated[int, Field(ge=1, le=4096)]


class Member(Record):
    """A model to fit: its name, its recipe's name and settings, and with a time limit the planned budget."""

    name: FileName
    recipe: str
    settings: Settings
    budget: Budget | None = None


class Tier(Record):
    """Members that are fitted `workers` at a time, in `threads` threads each."""

    members: tuple[Member, ...] = Field(min_length=1)
    workers: Cores
    threads: Cores

    def tasks_by_round(self, tasks: Sequence[FitTask]) -> list[list[FitTask]]:
        """Return the members' tasks in rounds of one for each worker; without a time limit, in one round."""
        names = {member.name for member in self.members}
        fits = [task for task in tasks if task.model in names]
        size = training.workers_now(self.workers) if _seconds(fits) else max(1, len(fits))
        return [fits[first : first + size] for first in range(0, len(fits), size)]


class Schedule(Record):
    """The tiers, in order: members of a later one replace those of earlier ones, which are less accurate."""

    tiers: tuple[Tier, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        names = [member.name for member in self.members]
        if len(names) > len(set(names)):
            raise ValueError("two members have the same name")
        return self

    @property
    def members(self) -> list[Member]:
        """The members of all tiers."""
        return [member for tier in self.tiers for member in tier.members]

    def tasks(self, splits: Sequence[Split], *, refit: bool, seed: int) -> list[FitTask]:
        """Return the fits of all tiers, with their planned budgets."""
        return [
            replace(task, recipe=member.recipe, threads=tier.threads, budget=member.budget)
            for tier in self.tiers
            for member in tier.members
            for task in training.make_fits({member.name: member.settings}, splits, refit=refit, seed=seed)
        ]

    def limited_to(self, cores: int) -> Self:
        """Return the schedule for a machine with so many cores, on which a resumed run goes on."""
        tiers = (tier.model_copy(update={"workers": min(tier.workers, cores)}) for tier in self.tiers)
        return self.model_copy(update={"tiers": tuple(tiers)})

    def budgeted_rounds(self, tasks: Sequence[FitTask]) -> Iterator[tuple[Tier, list[FitTask]]]:
        """Yield the tasks in rounds of those that are fitted side by side, with their tier.

        The planned seconds count from now. Before each round, what is left of them is shared anew among the
        rounds that are left, of which there are fewer if workers have joined a cluster.
        """
        end, left = None, list(tasks)
        while rounds := [(tier, fits) for tier in self.tiers for fits in tier.tasks_by_round(left)]:
            planned, now = sum(_seconds(fits) for _, fits in rounds), time.monotonic()
            end = now + planned if end is None else end
            factor = max(1e-3, end - now) / planned if planned else 1.0
            tier, fits = rounds[0]
            yield tier, [replace(task, budget=task.budget and task.budget.times(factor)) for task in fits]
            left = [task for task in left if not any(task is fit for fit in fits)]

    def members_left(self, complete: Collection[str]) -> list[Member]:
        """Return the members that no complete one (by name) of a later tier replaces."""
        has_any = [any(member.name in complete for member in tier.members) for tier in self.tiers]
        last = max((number for number, found in enumerate(has_any) if found), default=0)
        return [member for tier in self.tiers[last:] for member in tier.members]

    def best_members(self, complete: Collection[str]) -> list[Member]:
        """Return the complete members of the last tier that has any."""
        return [member for member in self.members_left(complete) if member.name in complete]

    def describe(self) -> Iterator[str]:
        """Yield what will be fitted in which time, in words; nothing for a run without a time limit."""
        for tier in self.tiers:
            if budget := tier.members[0].budget:
                counts = Counter(member.recipe for member in tier.members)
                nets = ", ".join(f"{count} {recipe}" for recipe, count in counts.items())
                shared = f", {tier.workers} at a time" if tier.workers > 1 else ""
                yield f"Fits of {budget.seconds:.0f} s{shared}: {nets}"


def _seconds(fits: Sequence[FitTask]) -> float:
    """Return the seconds of fits side by side; 0 without a time limit."""
    return max((task.budget.seconds for task in fits if task.budget), default=0.0)


def fill_minutes(
    tiers: Sequence[Sequence[Recipe]],
    splits: Sequence[Split],
    data: Dataset,
    *,
    refit: bool,
    machine: Machine,
    minutes: float,
    elapsed: Callable[[], float],
    on_notice: OnNotice,
) -> Schedule:
    """Return the schedule that fills the minutes with the best tier that has time for half of its epochs.

    tiers: recipes that are fitted in turn, from the quickest tier to the best. Each is measured only if there
    is time for all epochs of the one before. elapsed: since the start. Raises OptionError without any time.
    """
    fits, held_out = len(splits) + refit, [len(split.valid) for split in splits]
    named = len(tiers[0]) if len(tiers) == 1 else 1  # each recipe that the user named gets a net
    plans: list[_Plan] = []

    def seconds_for(plan: _Plan) -> tuple[float, float]:
        """Return the seconds of a first, quick tier, 0 without one, and of the plan's tier."""
        seconds = minutes * 60 - elapsed() - END_SECONDS
        soon = min(FIRST_TIER_SHARE * seconds, FIRST_TIER_SECONDS)
        if plan is plans[0] or plans[0].epochs_share(soon) <= 0:
            soon = 0.0
        return soon, seconds - soon

    for recipes, (workers, threads) in zip(tiers, _share_cores(tiers, machine, minutes, fits), strict=True):
        nets, began = [recipe.settings for recipe in recipes], elapsed()
        training.import_libraries(nets, workers=workers, threads=threads)
        late = elapsed() > LATEST_MEASURE_SHARE * minutes * 60
        if late and plans:
            break
        plan = _Plan(recipes, [], workers, threads, fits, named, BLEND_SECONDS * sum(held_out))
        if late:
            costs = plan.guess(minutes * 60 - elapsed())
        else:
            costs = training.measure(nets, max(held_out), data, refit=refit, workers=workers, threads=threads)
        plans.append(replace(plan, costs=costs, measured=not late))
        _, seconds = seconds_for(plans[-1])
        if late or plans[-1].epochs_share(seconds) < 1 or elapsed() - began > MEASURE_SHARE * seconds:
            break
    enough = [plan for plan in plans if plan.epochs_share(seconds_for(plan)[1]) >= MIN_EPOCHS_SHARE]
    best = [plans[0], *enough][-1]
    soon, seconds = seconds_for(best)
    best.check(seconds, on_notice)
    return Schedule(tiers=(*([plans[0].tier(soon)] if soon else []), best.tier(seconds)))


def _share_cores(
    tiers: Sequence[Sequence[Recipe]], machine: Machine, minutes: float, fits: int
) -> list[tuple[int, int]]:
    """Return for each tier how many processes fit side by side, and the threads of each."""
    shared = [
        machine.split_cores([r.settings for r in recipes], fits=len(recipes) * fits, minutes=minutes)
        for recipes in tiers
    ]
    # In one process, TensorFlow cannot change its threads: dense nets have as many as convolutional ones.
    most = max((threads for processes, threads in shared if processes == 1), default=1)
    return [(processes, most if processes == 1 else threads) for processes, threads in shared]


@dataclass(frozen=True)
class _Plan:
    """A tier in the making: its recipes in turn, with `fits` fits of each member."""

    recipes: Sequence[Recipe]
    costs: Sequence[Cost]
    workers: int
    threads: int
    fits: int
    min_members: int
    member_seconds: float  # of each in the last blend
    measured: bool = True

    def guess(self, seconds: float) -> list[Cost]:
        """Return costs that nobody has measured, for a plan that fills so many seconds.

        An epoch and the predictions take about as long as each other. If an epoch takes longer than a quarter
        of its fit, the timer keeps more for the predictions.
        """
        quarter = max(1e-3, self.fit_seconds(seconds - END_SECONDS, self.min_members)) / 4
        return [Cost(quarter, quarter)] * len(self.recipes)

    def check(self, seconds: float, on_notice: OnNotice) -> None:
        """Raise OptionError if the seconds are not enough to train; give notice if they are few."""
        share, more = self.epochs_share(seconds), "give more minutes, or fewer or smaller recipes"
        if share <= 0:
            raise OptionError(
                f"--minutes: {self.fit_seconds(seconds):.0f} s are left for each fit, not enough to train "
                f"and to predict; {more}"
            )
        if not self.measured:
            on_notice(f"The machine is so busy that no net could be measured; if it stays so, {more}")
        elif share < MIN_EPOCHS_SHARE:
            on_notice(f"This machine has time for about {share:.0%} of a recipe's epochs now; {more}")

    def fit_seconds(self, seconds: float, count: int | None = None) -> float:
        """Return the seconds of each fit if `count` members fill the time, or as many as fill it best."""
        count = count or self.best_count(seconds)
        return max(0.0, seconds - count * self.member_seconds) / -(-count * self.fits // self.workers)

    def epochs_share(self, seconds: float, count: int | None = None) -> float:
        """Return how many epochs a net then has time for, as a share of its recipe's; the smallest one."""
        each, costs = self.fit_seconds(seconds, count), zip(self.recipes, self.costs, strict=True)
        return min((each - cost.predict) / cost.epoch / recipe.settings.epochs for recipe, cost in costs)

    def best_count(self, seconds: float) -> int:
        """Return how many members fill the time best: more time gives longer trainings first, then more nets.

        In each round every worker does one fit. `times` the fewest rounds must leave each net
        MIN_EPOCHS_SHARE * times**2 of its recipe's epochs.
        """
        fewest = -(-self.min_members * self.fits // self.workers)
        best = 0
        for times in range(1, MAX_TIMES_ROUNDS + 1):
            count = max(self.min_members, times * fewest * self.workers // self.fits)
            if not best or self.epochs_share(seconds, count) >= MIN_EPOCHS_SHARE * times**2:
                best = count
        return best

    def tier(self, seconds: float) -> Tier:
        """Return the tier that fills the time."""
        each, members = self.fit_seconds(seconds), []
        for number in range(self.best_count(seconds)):
            earlier, turn = divmod(number, len(self.recipes))
            recipe, cost = self.recipes[turn], self.costs[turn]
            budget = Budget(seconds=each, epoch=cost.epoch, predict=cost.predict)
            name = f"{recipe.name}-{earlier + 1}"
            members.append(Member(name=name, recipe=recipe.name, settings=recipe.settings, budget=budget))
        return Tier(members=tuple(members), workers=self.workers, threads=self.threads)
