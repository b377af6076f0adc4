"""Which nets to fit in the minutes there are, and how long each, by the speed of this very machine."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import Any

from digit_recognizer.errors import RecipeError
from digit_recognizer.passes import ROUGHLY
from digit_recognizer.recipes import Recipe, SklearnMLP
from digit_recognizer.training import Fit, Speed

MOST_ROUNDS = 8  # beyond it more passes help more than more nets
ENOUGH = 0.5  # share of its recipe's epochs that a net must have, and each net for each round there is
CAUTION = 1.05  # predictions take that much longer than their first rows did
WRITING = 1.5  # seconds for the program's start and end
WRITING_EACH = 0.2  # seconds for the blend and the files of each member


@dataclass(frozen=True)
class Schedule:
    """What to fit; a resumed run reads it from its draft.

    members: recipes named `<recipe>-1`, `<recipe>-2` ..., with the passes to expect as their epochs.
    rounds: how many fits each worker does, one after the other; slot: seconds of each.
    predicting: by member, seconds of the slot for predictions.
    share: how many of its recipe's passes each member has time for, as a share; the least of them.
    """

    members: list[Recipe]
    rounds: int
    slot: float
    predicting: dict[str, float]
    share: float

    def lines(self, workers: int, threads: int) -> Iterator[str]:
        """What will be done, in words."""
        cores = f"{threads} core{'s' if threads > 1 else ''}"
        side = f"{workers} at a time on {cores} each" if workers > 1 else f"on {cores}"
        yield f"{self.rounds} round{'s' if self.rounds > 1 else ''} of {self.slot:.0f} s, {side}:"
        kinds = [(one.name.rpartition("-")[0], one.summary, one.settings.epochs) for one in self.members]
        for (name, summary, epochs), count in Counter(kinds).items():
            yield f"  {count} {name}, about {epochs} epochs: {summary}"

    def deadlines(self, fits: Sequence[Fit], workers: int, now: float) -> list[Fit]:
        """The fits with the moments to end training by: `workers` at a time, each as long as a slot."""
        return [
            replace(fit, until=now + (i // workers + 1) * self.slot - self.predicting[fit.recipe.name])
            for i, fit in enumerate(fits)
        ]

    def to_json(self) -> dict[str, Any]:
        """What `from_json` needs besides the recipes."""
        members = {member.name: member.settings.epochs for member in self.members}
        return {**vars(self), "members": members}

    @staticmethod
    def from_json(stored: dict[str, Any], pool: Sequence[Recipe]) -> "Schedule":
        """The schedule that was stored, made of the same recipes."""
        by_name = {recipe.name: recipe for recipe in pool}
        members = [
            _member(by_name[name.rpartition("-")[0]], name, epochs)
            for name, epochs in stored["members"].items()
        ]
        return Schedule(**{**stored, "members": members})


def share_cores(jobs: int | None, minutes: float) -> tuple[int, int]:
    """How many fits to do at a time, and the threads of each, on `jobs` cores (None: all there are).

    One fit more for each minute there is, up to one for each core: in few minutes many cores help more on
    few nets.
    """
    import joblib

    cores = jobs or joblib.cpu_count()
    threads = max(1, cores // max(2, int(minutes)))
    return cores // threads, threads


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


def plan(
    pool: Sequence[Recipe],
    speeds: dict[str, Speed],
    *,
    least: int,
    parts: int,
    workers: int,
    seconds: float,
    rows: int,
    predicted: int,
    watched: int,
) -> Schedule:
    """Members of these recipes in turn, for so many seconds.

    More time gives more nets, and longer ones as well. least: members; parts: fits of each; rows: of one
    pass; predicted: of one fit in the end; watched: after each pass, for the learning curves.
    """

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
        if share(members_of(rounds)) >= ENOUGH * rounds:
            members = members_of(rounds)
    slot = slot_of(members)
    named, predicting = [], {}
    for number, recipe in enumerate(islice(cycle(pool), members)):
        name = f"{recipe.name}-{number // len(pool) + 1}"
        named.append(_member(recipe, name, passes(recipe, slot)))
        predicting[named[-1].name] = speeds[recipe.name].predict * predicted * CAUTION
    return Schedule(named, rounds_of(members), slot, predicting, share(members))


def _member(recipe: Recipe, name: str, epochs: int) -> Recipe:
    """The recipe for so many passes; the same share of the last ones is averaged, but not more of them."""
    settings = replace(recipe.settings, epochs=epochs)
    if isinstance(settings, SklearnMLP):
        share = min(1, epochs / recipe.settings.epochs)
        settings = replace(settings, averaged=max(1, round(settings.averaged * share)))
    return replace(recipe, name=name, settings=settings, evidence=None)
