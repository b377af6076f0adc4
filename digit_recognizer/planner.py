"""Which nets to fit in the minutes there are, and how long each, by the speed of this very machine."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import Any

from digit_recognizer.errors import RecipeError
from digit_recognizer.recipes import Recipe
from digit_recognizer.training import Fit, Speed

MOST_ROUNDS = 8  # beyond it more passes help more than more nets
LEAST_PASSES = 5  # with fewer, a smaller net learns more in the time
CAUTION = 1.05  # predictions take that much longer than their first rows did
WRITING = 1.5  # seconds for blend, files and the program's own start and end


@dataclass(frozen=True)
class Plan:
    """What to fit; a resumed run reads it from its draft.

    members: recipes named `<recipe>-1`, `<recipe>-2` ..., with the passes to expect as their epochs.
    rounds: how many fits each worker does, one after the other; slot: seconds of each.
    predicting: by recipe, seconds of the slot for predictions.
    """

    members: list[Recipe]
    rounds: int
    slot: float
    predicting: dict[str, float]

    def lines(self, workers: int, threads: int) -> Iterator[str]:
        """What will be done, in words."""
        cores = f"{threads} core{'s' if threads > 1 else ''}"
        side = f"{workers} at a time on {cores} each" if workers > 1 else f"on {cores}"
        yield f"{self.rounds} round{'s' if self.rounds > 1 else ''} of {self.slot:.0f} s, {side}:"
        for member in self.members:
            yield f"  {member.name}: {member.summary}, about {member.settings.epochs} passes"

    @property
    def passes(self) -> int:
        """Of the member that has the fewest."""
        return min(member.settings.epochs for member in self.members)

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
    def from_json(stored: dict[str, Any], pool: Sequence[Recipe]) -> "Plan":
        """The plan that was stored, made of the same recipes."""
        by_name = {recipe.name: recipe for recipe in pool}
        members = [
            _member(by_name[name.rpartition("-")[0]], name, epochs)
            for name, epochs in stored["members"].items()
        ]
        return Plan(**{**stored, "members": members})


def side_by_side(minutes: float) -> int:
    """How many fits to do at a time where there are cores for them: one more for each minute there is.

    In few minutes many cores help more on few nets.
    """
    return max(2, int(minutes))


def check(pool: Sequence[Recipe]) -> None:
    """Raise RecipeError for what cannot be ended in time."""
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
    parts: int,
    workers: int,
    seconds: float,
    rows: int,
    predicted: int,
    watched: int,
) -> Plan:
    """Members of these recipes in turn, for so many seconds.

    Nets as long as their recipe says are long enough: where there is time for more, more of them are fitted,
    and where there is less, fewer passes. rows: of one pass; predicted: of one fit in the end; watched: after
    each pass, for the learning curves; parts: fits of each member.
    Raises RecipeError where there is not even time for a pass.
    """

    def passes(recipe: Recipe, rounds: int) -> int:
        speed = speeds[recipe.name]
        each = speed.row * rows + speed.glance * watched
        return int((seconds / rounds - speed.start - speed.predict * predicted * CAUTION) / each)

    def rounds_of(members: int) -> int:
        return -(-members * parts // workers)

    more = members = max(1, workers // parts)  # of one round
    while rounds_of(members + more) <= MOST_ROUNDS and all(
        passes(recipe, rounds_of(members + more)) >= recipe.settings.epochs for recipe in pool
    ):
        members += more
    rounds = rounds_of(members)
    named, predicting = [], {}
    for number, recipe in enumerate(islice(cycle(pool), members)):
        epochs = passes(recipe, rounds)
        if epochs < 1:
            raise RecipeError(
                f"--minutes: not one pass of {recipe.name} fits into the {seconds:.0f} s that are left; "
                "give more minutes, or a smaller recipe"
            )
        named.append(_member(recipe, f"{recipe.name}-{number // len(pool) + 1}", epochs))
        predicting[named[-1].name] = speeds[recipe.name].predict * predicted * CAUTION
    return Plan(named, rounds, seconds / rounds, predicting)


def _member(recipe: Recipe, name: str, epochs: int) -> Recipe:
    return replace(recipe, name=name, settings=replace(recipe.settings, epochs=epochs), evidence=None)
