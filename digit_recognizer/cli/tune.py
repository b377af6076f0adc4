"""The command `tune`: a search for better settings of a recipe."""

import re
from collections.abc import Mapping
from typing import Any

import click

from digit_recognizer.cli import compare
from digit_recognizer.cli.options import JSON, TrainingCommand, ask, option, with_options
from digit_recognizer.cli.progress import show_progress
from digit_recognizer.cli.terminal import done, json_result, notice, result, results
from digit_recognizer.settings import format_value, parse
from digit_recognizer.tuning.space import SEVERAL, Tune


@click.command(cls=TrainingCommand)
@option(Tune, "recipes", required=True, help="Recipe whose settings are searched. `recipes` lists them.")
@with_options([option(Tune, name) for name in ("space", "trials")])
@option(Tune, "minutes", help="Try candidates for so long instead, the comparison at the end included.")
@with_options([option(Tune, name) for name in ("folds", "seed", "jobs", "cluster")])
@with_options([option(Tune, name) for name in ("data_dir", "out", "name", "resume")])
@JSON
def tune(space: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Search for better settings of a recipe than it has.

    All candidates are fitted on the same folds; those that are worse than the best so far are pruned. The
    best one and the recipe are then judged on other folds of the same digits: better, or the digits cannot
    tell. Both are stored as runs. The last line on stdout is the path of a picture. It needs Optuna: pip
    install optuna.
    """
    several = [text for text in space if re.search(SEVERAL, text)]
    options["settings"] = dict(parse(text) for text in space if text not in several)
    parts = [text.partition("=")[::2] for text in several]
    searched = {name: [values for each, values in parts if each == name] for name, _ in parts}
    options["space"] = searched or " ".join(space)  # which is refused
    asked = ask(Tune, **options)
    from digit_recognizer.cli import tables
    from digit_recognizer.tuning import judge

    with show_progress() as on_progress:
        found = judge.tune(asked, on_notice=notice, on_progress=on_progress)
    with done(f"The search is complete: {found.run}"):
        if as_json:
            json_result(**{**vars(found), "comparison": found.comparison.to_json()})
            return
        results(tables.candidates(found.candidates))
        names = [found.run.name, found.as_it_stands.name]
        on_others = compare.lines(names, found.comparison.common, found.comparison)
        results(["On folds that the search has not seen:", *on_others])
        fixed = _typed(options["settings"])
        base = f"the recipe with {fixed}" if fixed else "the recipe as it stands"
        better = found.verdict == "better"
        said = f"better settings than {base}" if better else f"Keep {base}. The best other candidate was"
        result(f"{said}: {_typed(found.settings)}")  # to be copied: in one line
        result(found.picture)


def _typed(settings: Mapping[str, object]) -> str:
    return " ".join(f"--set {name}={format_value(value)}" for name, value in settings.items())
