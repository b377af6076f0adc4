"""The commands, but for Kaggle's: each parses its options, calls the package and prints what comes back.

Nothing here imports what takes seconds.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click
from pydantic import Field

from digit_recognizer import signals
from digit_recognizer.cli import kaggle, options
from digit_recognizer.cli.compare import compare
from digit_recognizer.cli.options import JSON, NAME, OUT, RUN, ask, bounded, option
from digit_recognizer.cli.predict import chosen, draw, predict
from digit_recognizer.cli.progress import train_visibly
from digit_recognizer.cli.terminal import done, json_result, notice, path_result, result, results
from digit_recognizer.cli.tune import tune
from digit_recognizer.environment import own_settings
from digit_recognizer.errors import DigitRecognizerError, RowCountError, RunError, machine_fault
from digit_recognizer.job import Blend, Job, StoredRun
from digit_recognizer.version import __version__

if TYPE_CHECKING:
    from digit_recognizer.runs import Run

IN_ONE_THREAD = own_settings(OPENBLAS_NUM_THREADS="1")  # NumPy starts others, which takes as long as all else


def main() -> None:
    """Run a command and exit; a user's mistake is one line and a non-zero code, a bug keeps its traceback."""
    try:
        with signals.as_ctrl_c():
            code = cli.main(prog_name="digit-recognizer", standalone_mode=False)
    except click.exceptions.Abort as stop:
        code = _end(130, "Stopped.", stop.__cause__)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = error.exit_code
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        see = f" See: {context.command_path} --help" if context else ""
        code = _end(error.exit_code, f"Error: {error.format_message()}{see}", error)
    except DigitRecognizerError as error:
        code = _end(error.exit_code, f"{error.heading}{error}" if str(error) else "", error)
    except (OSError, ImportError, MemoryError, RuntimeError) as error:
        reason = machine_fault(error)
        if reason is None:
            raise
        code = _end(1, f"Error: {reason}", error)
    sys.exit(code)


def _end(code: int, text: str, error: BaseException | None) -> int:
    """Print in a line what ended the command, and what it leaves; return the exit code."""
    if notes := getattr(error, "__notes__", []):
        text = " ".join([f"{text.rstrip('.')}." if text else "", *notes]).strip()
    if code == 130 and sys.stderr.isatty():
        print(end="\r", file=sys.stderr)  # over the terminal's ^C
    if text:
        notice(text)
    return code


class Commands(click.Group):
    """The commands; Ctrl-C ends one without an empty line, which click prints."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            raise click.Abort from stop


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="digit-recognizer")
def cli() -> None:
    """From Digit Recognizer's CSVs to a checked Kaggle submission and its validation accuracy."""


for command in (*kaggle.COMMANDS, compare, draw, predict, tune):
    cli.add_command(command)


def _show(run: "Run", as_json: bool, with_report: bool = False) -> None:
    """Print a new run's tables, and last the path of its submission, or of its folder without one."""
    from digit_recognizer import expected, reports
    from digit_recognizer.cli import tables

    path = run.submission if run.manifest.submission_model else run.folder
    with done(f"The run is complete: {path}"):
        report = reports.write(run) if with_report else None
        if report:
            notice(f"Report: {report}")
        if as_json:
            json_result(**tables.summary(run), **({"report": report} if report else {}))
        else:
            results(tables.folds(run) if run.manifest.config.command == "validate" else tables.scores(run))
            results(tables.footer(run))
            result(path)
        notice(expected.describe(run.manifest))


@cli.command(cls=options.TrainingCommand)
@option(Job, "holdout")
@option(Job, "folds")
@option(Job, "refit")
@click.option("--report", "with_report", is_flag=True, help="Write the run's report as well.")
@options.with_options(options.TRAINING)
def train(with_report: bool, as_json: bool, **options: Any) -> None:
    """Train, score on held-out rows, and write a submission.

    The last line on stdout is the path of the CSV.
    """
    _show(train_visibly(ask(Job, **options)), as_json, with_report)


@cli.command(cls=options.TrainingCommand)
@option(Job, "folds", default=5, help="Number of folds.")
@options.with_options(options.TRAINING)
def validate(as_json: bool, **options: Any) -> None:
    """Score recipes by cross-validation, without a submission.

    Prints each stratified fold, mean, standard deviation over the folds, and a 95% interval for the accuracy
    on unseen digits. The run is stored, so that `ensemble` can blend it.
    """
    _show(train_visibly(ask(Job, write_submission=False, **options)), as_json)


@cli.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=RUN)
@option(Blend, "method")
@OUT
@NAME
@JSON
def ensemble(as_json: bool, **options: Any) -> None:
    """Blend stored runs into a new run with a submission.

    By out-of-fold probabilities; RUN is a name or a folder. The last line on stdout is the path of the CSV.
    """
    asked = ask(Blend, **options)
    from digit_recognizer import pipeline, runs

    parents = [runs.find(asked.out, str(name)) for name in asked.runs]
    run = pipeline.blend_runs(parents, asked.method, out=asked.out, name=asked.name, on_notice=notice)
    _show(run, as_json)


@cli.command("runs")
@click.option(
    "--sort",
    type=click.Choice(["created", "score"]),
    default="created",
    show_default=True,
    help="Newest first, or highest validation accuracy first.",
)
@OUT
@JSON
@IN_ONE_THREAD
def list_runs(sort: str, out: Path, as_json: bool) -> None:
    """List the runs with validation accuracy and public score.

    Against the best run on the same digits, each is worse, or the digits that they held out cannot tell. The
    best is that whose 95% interval begins highest: one of few digits can be more accurate by luck.
    """
    from digit_recognizer import comparison, runs
    from digit_recognizer.cli import tables
    from digit_recognizer.leaderboard import ledger

    problems: list[str] = []
    listed, outcomes = runs.list_all(out, problems.append), {}
    try:
        outcomes = ledger.read(out)
    except DigitRecognizerError as error:
        problems.append(str(error))
    if sort == "score":
        listed.sort(key=lambda run: run.main_score.accuracy, reverse=True)
    for line in [*problems, *runs.list_unfinished(out)]:
        notice(line)
    against_best = comparison.against_best(listed)
    if as_json:
        json_result(runs=list(tables.run_list(listed, outcomes, against_best)))
    elif listed:
        results(tables.runs(listed, outcomes, against_best))
        if sort == "score" and against_best[0] != "best":
            notice("The best run's 95% interval begins highest; one of few digits can be accurate by luck")
    elif not problems:
        notice(f"{out.absolute()}: holds no runs yet; `train` makes one")


@cli.command()
@click.argument("name", metavar="[RUN]", required=False, type=RUN)
@OUT
@option(StoredRun, "data_dir")
@option(StoredRun, "png")
@JSON
def report(name: str | None, out: Path, data_dir: Path | None, png: bool, as_json: bool) -> None:
    """Write the report of a run; without RUN, of the newest.

    One HTML page with all inside it. RUN is a name or a folder. The last line on stdout is the page's path.
    """
    from digit_recognizer import reports

    run = chosen(out, name)
    page = reports.write(run, data_dir, png=png)
    with done(f"The report is written: {page}"):
        path_result(page, as_json, run=run.folder, report=page)


@cli.command("recipes")
@JSON
@IN_ONE_THREAD
def list_recipes(as_json: bool) -> None:
    """List the recipes with their settings and evidence."""
    from digit_recognizer.cli import tables
    from digit_recognizer.recipes import RECIPES

    if as_json:
        json_result(recipes=list(RECIPES.values()))
    else:
        results(tables.recipes(RECIPES.values()))


@cli.command()
@click.argument("target", metavar="FILE|RUN", type=RUN)
@click.option(
    "--rows",
    **bounded(
        Annotated[int, Field(ge=1, le=10_000_000)],
        "Number of test digits.  [default: its run's, else 28,000]",
    ),
)
@OUT
@JSON
@IN_ONE_THREAD
def check(target: str, rows: int | None, out: Path, as_json: bool) -> None:
    """Check a submission CSV, or a run's, and count its labels.

    RUN is a name or a folder. The exit code tells the format alone. `competition` in --json is false if the
    file cannot be of the competition's digits: by its rows, or by the run.json beside it.
    """
    from digit_recognizer import runs, submission
    from digit_recognizer.data import COMPETITION_ROWS

    file = Path(target)
    if (out / target / runs.MANIFEST).exists() or not (file.exists() or file.suffix == ".csv"):
        file = runs.find(out, target).folder
    file = file / runs.SUBMISSION if file.is_dir() else file
    manifest = runs.read_manifest(file.parent)
    if manifest and manifest.submission_model is None and file.name == runs.SUBMISSION and not file.exists():
        raise RunError(f"{file.parent}: {runs.WITHOUT_SUBMISSION}")
    expected = rows or (manifest.config.data.rows.test if manifest else COMPETITION_ROWS["test.csv"])
    try:
        counts = {str(digit): count for digit, count in enumerate(submission.check(file, expected).counts)}
    except RowCountError as error:
        if not (rows or manifest):
            error.add_note("If it is not the competition's, give its number of test digits: --rows.")
        raise
    competition = expected == COMPETITION_ROWS["test.csv"]  # as far as can be told of a file alone
    if manifest:
        competition &= manifest.config.data.kind == "competition"
    if as_json:
        json_result(file=file, rows=expected, counts=counts, competition=competition)
        return
    results(f"{digit:>5}  {count:>5}" for digit, count in {"digit": "count", **counts}.items())
    other = "in the right format, but not of the competition's digits"
    results([f"{file}: {expected:,} rows{', a valid submission' if competition else f' {other}'}"])
