"""The command `tune`: a search for better settings of a recipe."""

import json
from typing import Any

import click
from pydantic_core import to_jsonable_python

from digit_recognizer.cli import compare, tables
from digit_recognizer.cli.options import JSON, TrainingCommand, ask, option, with_options
from digit_recognizer.cli.progress import show_progress
from digit_recognizer.cli.terminal import done, notice, result, results
from digit_recognizer.job import Tune


@click.command(cls=TrainingCommand)
@with_options([*(option(Tune, name) for name in ("recipe", "space", "trials", "minutes", "folds", "seed"))])
@with_options([*(option(Tune, name) for name in ("jobs", "data_dir", "out", "name", "resume")), JSON])
def tune(space: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Search for settings of a recipe that are better than the recipe as it stands.

    All candidates are fitted on the same folds; clearly worse ones end early. The best one and the recipe are
    then judged on other folds of the same digits: better, or the digits cannot tell. Both are stored as runs.
    The last line on stdout is the path of a picture.
    """
    from digit_recognizer.space import split

    settings, searched = split(space)
    asked = ask(Tune, **options, settings=settings, space=searched)
    from digit_recognizer import tuning

    with show_progress() as on_progress:
        found = tuning.tune(asked, on_notice=notice, on_progress=on_progress)
    with done(f"The search is complete: {found.run}"):
        if as_json:
            to_json = {**vars(found), "options": found.options, "comparison": found.comparison.to_json()}
            result(json.dumps(to_jsonable_python(to_json)))
            return
        results(tables.candidates(found.candidates))
        results([f"best of them: --recipe {asked.recipe} {found.options}"])
        results(
            compare.lines(
                [found.run.name, found.as_it_stands.name], found.comparison.common, found.comparison
            )
        )
        result(found.picture)
