"""The stages of a run: what is fitted, in which order, on which cores and until when."""

import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Self

from pydantic import Field, model_validator

from digit_recognizer.manifest import FileName, NonNegativeInt, Seconds
from digit_recognizer.recipes import Recipe
from digit_recognizer.records import Record
from digit_recognizer.settings import Settings
from digit_recognizer.splits import Split
from digit_recognizer.training import FitTask, make_fits

Cores = Annotated[int, Field(ge=1, le=4096)]


class Member(Record):
    """A model to fit: its name, the recipe it is of, and the recipe's settings with the epochs to expect."""

    name: FileName
    recipe: str
    settings: Settings


class Stage(Record):
    """Fits after which the run is complete.

    group: members of a later group replace those of earlier groups, which are quicker and less accurate.
    seconds_per_fit: until each fit's end, predictions included; None without a deadline.
    predict_seconds: by member, the part of it for predictions.
    epoch_fraction: epochs there is time for, divided by the recipe's; the smallest over the members.
    """

    members: tuple[Member, ...] = Field(min_length=1)
    workers: Cores
    threads: Cores
    group: NonNegativeInt = 0
    seconds_per_fit: Seconds | None = None
    predict_seconds: dict[str, Seconds] = Field(default={})
    epoch_fraction: float = Field(default=1.0, ge=0)

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        if self.seconds_per_fit is not None and {m.name for m in self.members} != set(self.predict_seconds):
            raise ValueError("predict_seconds are not of the members")
        return self

    def with_deadlines(self, tasks: Sequence[FitTask], now: float) -> tuple[list[FitTask], float]:
        """Return the tasks with deadlines, and when the last ends; `workers` fit at a time from `now`."""
        if self.seconds_per_fit is None:
            return list(tasks), now
        timed = []
        for number, task in enumerate(tasks):
            now_ends = now + (number // self.workers + 1) * self.seconds_per_fit
            timed.append(replace(task, deadline=now_ends - self.predict_seconds[task.model]))
        return timed, now + -(-len(tasks) // self.workers) * self.seconds_per_fit


class Schedule(Record):
    """The stages, in order; a resumed run reads it from its draft."""

    stages: tuple[Stage, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        names = [member.name for stage in self.stages for member in stage.members]
        if len(names) > len(set(names)):
            raise ValueError("two members of the stages have the same name")
        return self

    def tasks(self, splits: Sequence[Split], *, refit: bool, seed: int) -> list[FitTask]:
        """Return the fits of all stages, without deadlines."""
        models = {member.name: member.settings for stage in self.stages for member in stage.members}
        return make_fits(models, splits, refit=refit, seed=seed)

    def timed(self, tasks: Sequence[FitTask]) -> Iterator[tuple[Stage, list[FitTask]]]:
        """Yield each stage with those of the tasks that are its members'; their deadlines count from now."""
        now = time.time()
        for stage in self.stages:
            members = {member.name for member in stage.members}
            timed, now = stage.with_deadlines([task for task in tasks if task.model in members], now)
            yield stage, timed

    def best_members(self, complete: Collection[str]) -> list[Member]:
        """Return the members that are `complete` (names), of the last group that has any."""
        members = [(stage.group, member) for stage in self.stages for member in stage.members]
        members = [(group, member) for group, member in members if member.name in complete]
        last = max((group for group, _ in members), default=0)
        return [member for group, member in members if group == last]

    def describe(self) -> Iterator[str]:
        """Yield what will be fitted in which time, in words; nothing for a run without deadlines."""
        for stage in self.stages:
            if stage.seconds_per_fit is None:
                continue
            threads = f"{stage.threads} thread{'s' if stage.threads > 1 else ''}"
            side_by_side = (
                f"{stage.workers} at a time in {threads} each" if stage.workers > 1 else f"in {threads}"
            )
            yield f"Fits of {stage.seconds_per_fit:.0f} s, {side_by_side}:"
            counts = Counter((member.recipe, member.settings.epochs) for member in stage.members)
            for (name, epochs), count in counts.items():
                yield f"  {count} {name}, about {epochs} epochs"


def recipe_of(member: str) -> str:
    """Return the recipe's name in the name of a member of `--minutes`: `cnn-2` -> `cnn`."""
    return member.rpartition("-")[0]


def split_cores(recipes: Sequence[Recipe], cores: int, gpus: int, *, fits: int) -> tuple[int, int]:
    """Return how many processes do `fits` fits on `cores` cores, and the threads of each.

    The threads decide a run's numbers: sums in another number of threads are rounded differently. Dense nets
    get one: their steps are so short that two threads take longer.
    """
    processes = 1 if needs_gpu(recipes, gpus) else min(cores, fits)
    convolutional = any(recipe.settings.is_convolutional for recipe in recipes)
    return processes, cores // processes if convolutional else 1


def needs_gpu(recipes: Sequence[Recipe], gpus: int) -> bool:
    """Return whether a fit would take a whole GPU, so that there is room for one at a time."""
    return gpus > 0 and any(recipe.settings.net == "keras" for recipe in recipes)
