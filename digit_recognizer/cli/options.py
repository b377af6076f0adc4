"""Options that several commands share."""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from digit_recognizer.recipes import DEFAULT

PATH = click.Path(path_type=Path)


class FiniteFloat(click.FloatRange):
    """A number in a range; `nan` and `inf` are usage errors."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout instead.")
OUT = click.option("--out", type=PATH, default="submissions", show_default=True, help="Folder of the runs.")
NAME = click.option("--name", help="The run's name.  [default: date and time]")
TRAINING = [
    click.option(
        "--recipe",
        "recipes",
        multiple=True,
        metavar="NAME",
        help="What to train; repeat it for several. `recipes` lists them.  "
        f"[default: {', '.join(DEFAULT)}; with --minutes the best that fit]",
    ),
    click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="FIELD=VALUE",
        help="Override a setting in the recipes that have it, such as epochs=20; repeat it for several.",
    ),
    click.option(
        "--minutes",
        type=FiniteFloat(0.5, 600),
        metavar="M",
        help="Fill M minutes, 0.5 to 600, with the best ensemble that this machine fits in them.",
    ),
    click.option(
        "--ensemble/--no-ensemble",
        default=True,
        show_default=True,
        help="Blend the models' probabilities, or take the best model alone.",
    ),
    click.option(
        "--seed",
        type=click.IntRange(0, 2**32 - 1),
        default=0,
        show_default=True,
        help="The same seed gives the same numbers on as many cores, except with --minutes.",
    ),
    click.option("--jobs", type=click.IntRange(min=1), help="Cores to use.  [default: all]"),
    click.option("--data-dir", type=PATH, help="Folder of train.csv and test.csv.  [default: data/]"),
    OUT,
    NAME,
    click.option("--resume", is_flag=True, help="Go on with a run of the same command that was cut off."),
    JSON,
]


def with_options(options: Iterable[Callable[..., Any]]) -> Callable[..., Any]:
    """Return a decorator that adds several options at once, in this order."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(list(options)):
            command = option(command)
        return command

    return decorate
