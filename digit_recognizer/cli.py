"""The command line: options, progress and exit codes. Click and rich appear nowhere else.

Results go to stdout, notices and progress to stderr. Nothing here imports what takes seconds.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from digit_recognizer import __version__, cli_kaggle, recipes, runs, submission
from digit_recognizer.errors import DigitRecognizerError, StoppedError

JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout instead.")
FOLDER = click.Path(path_type=Path)


def main() -> None:
    """Run a command and exit; a user's mistake is one line and a non-zero code, a bug keeps its traceback."""
    try:
        code = cli.main(prog_name="digit-recognizer", standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("Stopped; no run was written.", err=True)
        code = 130
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = error.exit_code
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        see = f" See: {context.command_path} --help" if context else ""
        click.echo(f"Error: {error.format_message()}{see}", err=True)
        code = error.exit_code
    except StoppedError as error:
        click.echo(str(error), err=True)
        code = error.exit_code
    except DigitRecognizerError as error:
        click.echo(f"Error: {error}", err=True)
        code = error.exit_code
    sys.exit(code)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="digit-recognizer")
def cli() -> None:
    """From Digit Recognizer's CSVs to a checked Kaggle submission, with a local score to believe."""


for kaggle_command in cli_kaggle.COMMANDS:
    cli.add_command(kaggle_command)


@cli.command()
@click.option(
    "--recipe",
    "names",
    multiple=True,
    metavar="NAME",
    default=recipes.DEFAULT,
    show_default=True,
    help="What to train; repeat it for several. `recipes` lists them.",
)
@click.option(
    "--ensemble/--no-ensemble",
    default=True,
    show_default=True,
    help="Blend the models' probabilities, or submit the best model alone.",
)
@click.option(
    "--holdout",
    type=float,
    default=0.1,
    show_default=True,
    metavar="SHARE",
    help="Share of the training rows held out to score on.",
)
@click.option(
    "--folds",
    type=int,
    metavar="K",
    help="Score by K-fold cross-validation instead; the K models are averaged.",
)
@click.option("--refit", is_flag=True, help="Train again on all rows before predicting.")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="The same seed gives the same submission.",
)
@click.option("--jobs", type=click.IntRange(min=1), help="Cores to use.  [default: all]")
@click.option("--data-dir", type=FOLDER, help="Folder of train.csv and test.csv.  [default: data/]")
@click.option("--out", type=FOLDER, default="submissions", show_default=True, help="Folder of the runs.")
@click.option("--name", help="The run's name.  [default: date and time]")
@JSON
def train(names: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Train on the digits, score on rows held out, and write a submission.

    The last line on stdout is the path of the CSV.
    """
    from digit_recognizer import pipeline

    job = pipeline.Job(recipes=names, **options)
    with _progress() as on_progress:
        run = pipeline.train(job, on_notice=_notice, on_progress=on_progress)
    summary = _summary(run.manifest, run.folder, run.submission)
    if as_json:
        click.echo(json.dumps(summary))
        return
    for line in _table(summary, run.manifest):
        click.echo(line)
    click.echo(run.submission)


@cli.command("recipes")
@JSON
def list_recipes(as_json: bool) -> None:
    """List the recipes with their evidence."""
    if as_json:
        click.echo(json.dumps({"recipes": [asdict(recipe) for recipe in recipes.RECIPES.values()]}))
        return
    for recipe in recipes.RECIPES.values():
        click.echo(f"{recipe.name}: {recipe.summary}")
        click.echo("    " + ", ".join(f"{name}={value}" for name, value in asdict(recipe.settings).items()))
        click.echo(f"    {recipe.evidence or 'not measured'}")


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    help="Test digits there are.  [default: as run.json beside FILE says, else 28000]",
)
@JSON
def check(file: Path, rows: int | None, as_json: bool) -> None:
    """Check a submission CSV as Kaggle would, and count its labels."""
    if rows is None:
        manifest = runs.read_manifest(file.parent)
        rows = manifest["data"]["rows"]["test"] if manifest else submission.COMPETITION_ROWS
    checked = submission.check(file, rows)
    if as_json:
        counts = {str(digit): count for digit, count in enumerate(checked.counts)}
        click.echo(json.dumps({"file": str(file), "rows": rows, "counts": counts}))
        return
    click.echo("digit  count")
    for digit, count in enumerate(checked.counts):
        click.echo(f"{digit:>5}  {count:>5}")
    click.echo(f"{file}: {rows} rows, a valid submission")


def _summary(manifest: dict[str, Any], folder: Path, csv: Path) -> dict[str, Any]:
    """What `train --json` prints."""

    def entry(name: str) -> dict[str, Any]:
        score = manifest["scores"][name]
        return {"recipe": name, **score}

    members = [name for name in manifest["scores"] if name in manifest["recipes"]]
    return {
        "submission": str(csv),
        "run": str(folder),
        "seconds": manifest["seconds"]["total"],
        "models": [entry(name) for name in members],
        "blend": entry("blend") if "blend" in manifest["scores"] else None,
        "data": manifest["data"],
    }


def _table(summary: dict[str, Any], manifest: dict[str, Any]) -> Iterator[str]:
    """The scores, a line each, for `train`'s stdout."""
    scores = [*summary["models"], *([summary["blend"]] if summary["blend"] else [])]
    on_test = "test_accuracy" in scores[0]
    local = "holdout" if "holdout" in manifest["split"] else "out-of-fold"
    extra = "  sample's test labels" if on_test else ""
    yield f"{'model':<18}  {local + ' accuracy':>20}  {'95% interval':>18}{extra}  {'seconds':>8}"
    for one in scores:
        interval = f"{one['low']:.4f} to {one['high']:.4f}"
        test = f"  {one['test_accuracy']:>20.4f}" if on_test else ""
        yield f"{one['recipe']:<18}  {one['accuracy']:>20.4f}  {interval:>18}{test}  {one['seconds']:>8.1f}"


def _notice(text: str) -> None:
    click.echo(text, err=True)


@contextmanager
def _progress() -> Iterator[Callable[[Any], None]]:
    """A bar for each fit on stderr: epochs done, time left, accuracy so far."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("epochs, left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[accuracy]}"),
        console=Console(stderr=True),
    )
    tasks: dict[str, Any] = {}
    try:

        def on_progress(progress: Any) -> None:
            bars.start()
            accuracy = progress.figures.get("valid_accuracy")
            shown = "" if accuracy is None else f"held-out accuracy {accuracy:.4f}"
            if progress.fit not in tasks:
                tasks[progress.fit] = bars.add_task(progress.fit, total=progress.epochs, accuracy="")
            bars.update(tasks[progress.fit], completed=progress.epoch, accuracy=shown)

        yield on_progress
    finally:
        if bars.live.is_started:  # else it would print an empty line
            bars.stop()
