"""Which nets to fit in the minutes there are, and how long each, by the speed of this very machine."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import Any

from digit_recognizer.errors import RecipeError
from digit_recognizer.nets.epochs import ROUGHLY
from digit_recognizer.recipes import Recipe, SklearnMLP
from digit_recognizer.training import Fit, Speed

MOST_ROUNDS = 8  # beyond it more epochs help more than more nets
# With half its epochs `cnn` reads as well as `cnn-small` does in the same time, with 3/8 of them `cnn-small`
# as well as `keras-mlp` (holdouts of seeds 10 to 12).
ENOUGH = 0.5  # share of its recipe's epochs that a net must have; for r rounds of them, r * r times as much
SOON = 1 / 8  # share of the time after which the first nets are finished, for who stops early,
SOON_SECONDS = 60  # and that at most
CORE_MINUTES = 16  # threads times minutes of a net, at most, where it has more than one,
MOST_THREADS = 4  # and so many at most, where there are more cores
CAUTION = 1.05  # predictions take that much longer than their first rows did
WRITING = 1.5  # seconds for the program's start and end
WRITING_EACH = 0.2  # seconds for the blend and the files of each member


Timed = tuple[Sequence[Recipe], dict[str, Speed]]  # recipes to fit in turn, and the speed of each by its name


@dataclass(frozen=True)
class Stage:
    """Rounds of fits that take the same time.

    members: recipes named `<recipe>-1`, `<recipe>-2` ..., with the epochs to expect.
    rounds: how many fits each worker does, one after the other; slot: seconds of each.
    predicting: by member, seconds of the slot for predictions.
    share: how many of its recipe's epochs each member has time for, as a share; the least of them.
    """

    members: list[Recipe]
    rounds: int
    slot: float
    predicting: dict[str, float]
    share: float


@dataclass(frozen=True)
class Schedule:
    """What to fit, stage after stage; a resumed run reads it from its draft."""

    stages: list[Stage]

    @property
    def members(self) -> list[Recipe]:
        """Those of all stages."""
        return [member for stage in self.stages for member in stage.members]

    def best(self, members: Sequence[Recipe]) -> list[Recipe]:
        """Those of the last stage that any of them is of: the nets of an earlier one are worse, and quick."""
        stages = [[one for one in members if one in stage.members] for stage in self.stages]
        return next((some for some in reversed(stages) if some), [])

    def lines(self, workers: int, threads: int) -> Iterator[str]:
        """What will be done, in words."""
        cores = f"{threads} core{'s' if threads > 1 else ''}"
        side = f"{workers} at a time on {cores} each" if workers > 1 else f"on {cores}"
        for stage in self.stages:
            yield f"{stage.rounds} round{'s' if stage.rounds > 1 else ''} of {stage.slot:.0f} s, {side}:"
            kinds = [(recipe_of(one.name), one.summary, one.settings.epochs) for one in stage.members]
            for (name, summary, epochs), count in Counter(kinds).items():
                yield f"  {count} {name}, about {epochs} epochs: {summary}"

    def deadlines(self, fits: Sequence[Fit], workers: int, now: float) -> list[Fit]:
        """The fits with the moments to end training by: `workers` at a time, each as long as its slot."""
        timed = []
        for stage in self.stages:
            own = [fit for fit in fits if fit.recipe in stage.members]
            for number, fit in enumerate(own):
                end = now + (number // workers + 1) * stage.slot
                timed.append(replace(fit, until=end - stage.predicting[fit.recipe.name]))
            now += -(-len(own) // workers) * stage.slot
        return timed

    def to_json(self) -> dict[str, Any]:
        """What `from_json` needs besides the recipes."""
        return {
            "stages": [
                {**vars(stage), "members": {one.name: one.settings.epochs for one in stage.members}}
                for stage in self.stages
            ]
        }

    @staticmethod
    def from_json(stored: dict[str, Any], pool: Sequence[Recipe]) -> "Schedule":
        """The schedule that was stored, made of the same recipes."""
        by_name = {recipe.name: recipe for recipe in pool}
        return Schedule(
            [
                Stage(
                    **{
                        **stage,
                        "members": [
                            _member(by_name[recipe_of(name)], name, epochs)
                            for name, epochs in stage["members"].items()
                        ],
                    }
                )
                for stage in stored["stages"]
            ]
        )


def recipe_of(member: str) -> str:
    """The recipe's name in a member's: `cnn-2` -> `cnn`."""
    return member.rpartition("-")[0]


def share_cores(jobs: int | None, minutes: float, pool: Sequence[Recipe], fits: int) -> tuple[int, int]:
    """How many fits to do at a time, and the threads of each, on `jobs` cores (None: all there are).

    fits: how many there will be at least. In up to 8 minutes several cores help more on one long
    convolutional net than on several short ones; the steps of a dense net are too short to be shared.
    """
    import joblib

    cores = jobs or joblib.cpu_count()
    convolutional = any(getattr(recipe.settings, "channels", ()) for recipe in pool)
    threads = min(cores // fits, MOST_THREADS, int(CORE_MINUTES / minutes)) if convolutional else 1
    workers = cores // max(1, threads)
    return workers, cores // workers


def check(pool: Sequence[Recipe], *, blended: bool) -> None:
    """Raise RecipeError for what cannot be ended in time, or blended."""
    if not blended:
        raise RecipeError("--minutes fits an ensemble; leave out --no-ensemble")
    for recipe in pool:
        if recipe.settings.early_stopping:
            raise RecipeError(
                f"--minutes says when to stop, and so does early_stopping of {recipe.name}; "
                "leave out --minutes, or take another recipe"
            )


def plan(timed: Sequence[Timed], *, seconds: float, **job: int) -> Schedule:
    """The last group's recipes for so many seconds; before them a round or more of the first, quick group's.

    job: what `_stage` needs to know besides.
    """
    before = []
    if len(timed) > 1:
        soon = min(SOON * seconds, SOON_SECONDS)
        quick = _stage(timed[0], seconds=soon, **job)
        if quick.share:  # else there is no time for one epoch
            before, seconds = [quick], seconds - soon
    return Schedule([*before, _stage(timed[-1], seconds=seconds, **job)])


def _stage(
    timed: Timed,
    *,
    seconds: float,
    least: int,
    parts: int,
    workers: int,
    rows: int,
    predicted: int,
    watched: int,
) -> Stage:
    """Members of these recipes in turn, for so many seconds.

    More time gives longer nets, and more of them. least: members; parts: fits of each; rows: of one epoch;
    predicted: of one fit in the end; watched: after each epoch, for the learning curves.
    """
    pool, speeds = timed

    def rounds_of(members: int) -> int:
        return -(-members * parts // workers)

    def slot_of(members: int) -> float:
        return (seconds - members * WRITING_EACH) / rounds_of(members)

    def passes(recipe: Recipe, slot: float) -> int:
        speed = speeds[recipe.name]
        once = speed.start + speed.prepare * rows + speed.predict * predicted * CAUTION
        return max(0, int((slot - once) / (speed.row * rows + speed.glance * watched) - ROUGHLY))

    def share(members: int) -> float:
        return min(passes(recipe, slot_of(members)) / recipe.settings.epochs for recipe in pool)

    def members_of(rounds: int) -> int:
        return max(least, rounds * workers // parts)

    members = members_of(rounds_of(least))
    for rounds in range(rounds_of(least) + 1, MOST_ROUNDS + 1):
        if share(members_of(rounds)) >= ENOUGH * rounds**2:
            members = members_of(rounds)
    slot = slot_of(members)
    named, predicting = [], {}
    for number, recipe in enumerate(islice(cycle(pool), members)):
        name = f"{recipe.name}-{number // len(pool) + 1}"  # as `recipe_of` reads it
        named.append(_member(recipe, name, passes(recipe, slot)))
        predicting[named[-1].name] = speeds[recipe.name].predict * predicted * CAUTION
    return Stage(named, rounds_of(members), slot, predicting, share(members))


def _member(recipe: Recipe, name: str, epochs: int) -> Recipe:
    """The recipe for so many passes; the same share of the last ones is averaged, but not more of them."""
    settings = replace(recipe.settings, epochs=epochs)
    if isinstance(settings, SklearnMLP):
        share = min(1, epochs / recipe.settings.epochs)
        settings = replace(settings, averaged=max(1, round(settings.averaged * share)))
    return replace(recipe, name=name, settings=settings, evidence=None)
