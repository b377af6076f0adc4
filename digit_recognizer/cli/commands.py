"""The command line: options, progress and exit codes. Click and rich appear here and in `cli_kaggle` alone.

Results go to stdout, notices and progress to stderr. Nothing here imports what takes seconds.
"""

import json
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from digit_recognizer import __version__, data, submission
from digit_recognizer.cli import kaggle
from digit_recognizer.errors import DigitRecognizerError, RunError, StoppedError
from digit_recognizer.recipes import DEFAULT, RECIPES

FOLDER = click.Path(path_type=Path)
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout instead.")
OUT = click.option("--out", type=FOLDER, default="submissions", show_default=True, help="Folder of the runs.")
NAME = click.option("--name", help="The run's name.  [default: date and time]")
TRAINING = [
    click.option(
        "--recipe",
        "recipes",
        multiple=True,
        metavar="NAME",
        help="What to train; repeat it for several. `recipes` lists them.  "
        f"[default: {', '.join(DEFAULT)}; with --minutes as it finds best]",
    ),
    click.option(
        "--set",
        multiple=True,
        metavar="FIELD=VALUE",
        help="Override a setting in the recipes that have it, such as epochs=20; repeat it for several.",
    ),
    click.option(
        "--minutes",
        type=click.FloatRange(1, 600),
        metavar="M",
        help="Fill so many minutes, 1 to 600, with the best ensemble that this machine fits in them.",
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
        help="The same seed gives the same numbers, except with --minutes.",
    ),
    click.option("--jobs", type=click.IntRange(min=1), help="Cores to use.  [default: all]"),
    click.option("--data-dir", type=FOLDER, help="Folder of train.csv and test.csv.  [default: data/]"),
    OUT,
    NAME,
    click.option("--resume", is_flag=True, help="Go on with a run of the same command that was cut off."),
    JSON,
]


def main() -> None:
    """Run a command and exit; a user's mistake is one line and a non-zero code, a bug keeps its traceback."""
    try:
        code = cli.main(prog_name="digit-recognizer", standalone_mode=False)
    except click.exceptions.Abort as stop:
        click.echo(" ".join(["Stopped.", *getattr(stop.__cause__, "__notes__", [])]), err=True)
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
        click.echo(" ".join([f"Error: {error}", *getattr(error, "__notes__", [])]), err=True)
        code = error.exit_code
    sys.exit(code)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="digit-recognizer")
def cli() -> None:
    """From Digit Recognizer's CSVs to a checked Kaggle submission, with a local score to believe."""


for kaggle_command in kaggle.COMMANDS:
    cli.add_command(kaggle_command)


def with_options(options: Iterable[Callable[..., Any]]) -> Callable[..., Any]:
    """Several options at once, in this order."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(list(options)):
            command = option(command)
        return command

    return decorate


@cli.command()
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
@click.option("--report", "with_report", is_flag=True, help="Write the run's report as well.")
@with_options(TRAINING)
def train(with_report: bool, as_json: bool, **options: Any) -> None:
    """Train on the digits, score on rows held out, and write a submission.

    The last line on stdout is the path of the CSV.
    """
    given = click.get_current_context().get_parameter_source("holdout")
    if options["folds"] is not None and given is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError("--holdout and --folds exclude each other; give one.")
    from digit_recognizer import pipeline
    from digit_recognizer.cli import tables

    with _progress() as on_progress:
        run = pipeline.train(pipeline.Job(**options), on_notice=notice, on_progress=on_progress)
    summary = tables.summary(run)
    if not as_json:
        _print(tables.scores(run))
        _print(tables.weights(run))
    if with_report:
        try:
            summary["report"] = str(_write_report(run, None))
        except BaseException as error:
            error.add_note(f"The run is complete: {run.submission}")
            raise
        notice(f"Report: {summary['report']}")
    click.echo(json.dumps(summary) if as_json else run.submission)


@cli.command()
@click.option("--folds", type=int, default=5, show_default=True, metavar="K", help="How many folds.")
@click.option(
    "--repeats",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="R",
    help="How often to do it all, each time with other folds.",
)
@with_options(TRAINING)
def validate(as_json: bool, **options: Any) -> None:
    """Score recipes by stratified K-fold cross-validation, without a submission.

    Prints each fold, mean, spread (standard deviation over the folds), and a 95% interval for the accuracy on
    unseen digits. The run is stored, so that `ensemble` can blend it.
    """
    from digit_recognizer import pipeline
    from digit_recognizer.cli import tables

    with _progress() as on_progress:
        job = pipeline.Job(submit=False, **options)
        run = pipeline.train(job, on_notice=notice, on_progress=on_progress)
    if as_json:
        click.echo(json.dumps(tables.summary(run)))
        return
    _print(tables.folds(run))
    _print(tables.weights(run))
    click.echo(run.folder)


@cli.command()
@click.argument("names", metavar="RUN RUN...", nargs=-1, required=True)
@click.option(
    "--method",
    type=click.Choice(["weighted", "mean", "stacked"]),
    default="weighted",
    show_default=True,
    help="Weights of about least log loss, equal weights, or logistic regression on log probabilities.",
)
@OUT
@NAME
@JSON
def ensemble(names: tuple[str, ...], method: str, out: Path, name: str | None, as_json: bool) -> None:
    """Blend stored runs by their out-of-fold probabilities into a new run with a submission.

    A RUN is a run's name, or its folder. The last line on stdout is the path of the CSV.
    """
    from digit_recognizer import pipeline, runs
    from digit_recognizer.cli import tables

    parents = [runs.find(out, parent) for parent in dict.fromkeys(names)]
    run = pipeline.blend_runs(parents, method, out=out, name=name)
    if as_json:
        click.echo(json.dumps(tables.summary(run)))
        return
    _print(tables.scores(run))
    _print(tables.weights(run))
    click.echo(run.submission)


@cli.command("runs")
@click.option(
    "--sort",
    type=click.Choice(["created", "score"]),
    default="created",
    show_default=True,
    help="Newest first, or best local score first.",
)
@OUT
@JSON
def list_runs(sort: str, out: Path, as_json: bool) -> None:
    """List the runs with their local and public scores."""
    from digit_recognizer import drafts, runs
    from digit_recognizer.cli import tables

    listed = runs.every(out)
    if sort == "score":
        listed.sort(key=lambda run: run.manifest["scores"][run.best]["accuracy"], reverse=True)
    for draft in drafts.every(out):
        cut = f"was cut off; its command with --resume goes on, or delete {draft.folder}"
        notice(f"{draft.final.name} {'is still running' if draft.running else cut}")
    if as_json:
        click.echo(json.dumps({"runs": [{"run": str(run.folder), **run.manifest} for run in listed]}))
    elif listed:
        _print(tables.runs(listed))
    else:
        notice(f"{out}: holds no runs yet; `train` makes one")


@cli.command()
@click.argument("name", metavar="[RUN]", required=False)
@OUT
@click.option("--data-dir", type=FOLDER, help="Folder of the run's digits.  [default: where it read them]")
@JSON
def report(name: str | None, out: Path, data_dir: Path | None, as_json: bool) -> None:
    """Write the report of a run, by its name or folder; without RUN, of the newest.

    One HTML page with everything inside it, and its pictures as PNGs beside it. The last line on stdout is
    the page's path.
    """
    from digit_recognizer import runs

    run = runs.find(out, name, unfinished=True) if name else next(iter(runs.every(out)), None)
    if run is None:
        raise RunError(f"{out}: holds no run; `train` makes one, or name another folder with --out")
    page = _write_report(run, data_dir)
    click.echo(json.dumps({"run": str(run.folder), "report": str(page)}) if as_json else page)


@cli.command("recipes")
@JSON
def list_recipes(as_json: bool) -> None:
    """List the recipes with their settings and evidence."""
    from digit_recognizer.cli import tables

    if as_json:
        click.echo(json.dumps({"recipes": [asdict(recipe) for recipe in RECIPES.values()]}))
        return
    _print(tables.recipes(RECIPES.values()))


@cli.command()
@click.argument("file", type=FOLDER)
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    help="Test digits there are.  [default: as run.json beside FILE says, else 28000]",
)
@JSON
def check(file: Path, rows: int | None, as_json: bool) -> None:
    """Check a submission CSV, or a run's folder, line by line, and count its labels."""
    from digit_recognizer import runs

    file = file / runs.SUBMISSION if file.is_dir() else file
    manifest = runs.read_manifest(file.parent)
    if rows is None:
        rows = manifest["data"]["rows"]["test"] if manifest else data.COMPETITION_ROWS["test.csv"]
    checked = submission.check(file, rows)
    if as_json:
        counts = {str(digit): count for digit, count in enumerate(checked.counts)}
        click.echo(json.dumps({"file": str(file), "rows": rows, "counts": counts}))
        return
    click.echo("digit  count")
    for digit, count in enumerate(checked.counts):
        click.echo(f"{digit:>5}  {count:>5}")
    competition_rows = rows == data.COMPETITION_ROWS["test.csv"]
    if competition_rows and (not manifest or manifest["data"]["kind"] == "competition"):
        click.echo(f"{file}: {rows} rows, a valid submission")
    else:
        click.echo(f"{file}: {rows} rows in the right format, but not of the competition's digits")


def notice(text: str) -> None:
    """A line for the user that is no result."""
    click.echo(text, err=True)


def _write_report(run: Any, data_dir: Path | None) -> Path:
    from digit_recognizer.report import page

    return page.write(run, page.digits_of(run, data_dir))


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)


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
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a batch system's stop is as good as Ctrl-C
    tasks: dict[str, Any] = {}
    everything = bars.add_task("all fits", accuracy="", visible=False)
    try:

        def on_progress(progress: Any) -> None:
            bars.start()
            accuracy = progress.figures.get("valid_accuracy")
            shown = "" if accuracy is None else f"held-out accuracy {accuracy:.4f}"
            if progress.fit not in tasks:
                tasks[progress.fit] = bars.add_task(progress.fit, total=progress.epochs, accuracy="")
                epochs = sum(task.total or 0 for task in bars.tasks if task.id != everything)
                bars.update(everything, total=epochs, visible=len(tasks) > 1)
            task = bars.tasks[tasks[progress.fit]]
            bars.advance(everything, progress.epoch - task.completed)
            bars.update(task.id, completed=progress.epoch, accuracy=shown)

        yield on_progress
    finally:
        if bars.live.is_started:  # else it would print an empty line
            bars.stop()
