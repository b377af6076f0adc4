"""The commands that talk to Kaggle; `cli` adds them to its own. Results on stdout, the rest on stderr."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from digit_recognizer.leaderboard import candidate
from digit_recognizer.leaderboard.advice import COMPETITION, credentials
from digit_recognizer.leaderboard.candidate import Candidate, Outcome

FOLDER = click.Path(path_type=Path)
SECONDS = click.FloatRange(min=0, min_open=True)
OUT = click.option("--out", type=FOLDER, default="submissions", show_default=True, help="Folder of the runs.")
PENDING = 8  # the exit code of a submission that is in, but has no score yet


def reaching_kaggle(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that talks to Kaggle."""
    options = [
        click.option(
            "--competition", default=COMPETITION, show_default=True, metavar="NAME", help="As in its address."
        ),
        click.option(
            "--timeout",
            "step",
            type=SECONDS,
            default=60,
            show_default=True,
            envvar="DIGIT_RECOGNIZER_TIMEOUT",
            show_envvar=True,
            metavar="SECONDS",
            help="How long one step may go without an answer.",
        ),
        click.option(
            "--pause", type=SECONDS, default=1, envvar="DIGIT_RECOGNIZER_PAUSE", show_envvar=True, hidden=True
        ),
        click.option("--verbose", is_flag=True, help="Tell each step and how long it took."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@click.option(
    "--source",
    type=click.Choice(["kaggle", "openml"]),
    default="kaggle",
    show_default=True,
    help="The competition's archive, or MNIST from OpenML: for learning only, never uploaded.",
)
@click.option("--data-dir", type=FOLDER, help="Folder to put it into.  [default: data, or data/openml]")
@click.option("--force", is_flag=True, help="Download the archive again where it is there and good.")
@reaching_kaggle
def download(source: str, data_dir: Path | None, force: bool, **reaching: Any) -> None:
    """Download the competition's archive, check it, and go on where an earlier attempt stopped.

    Without a Kaggle account, --source openml fetches MNIST and shapes it like the competition's files.
    The last line on stdout is the path of what was downloaded.
    """
    if source == "openml":
        from digit_recognizer.data import openml

        click.echo(openml.download(data_dir or Path("data/openml"), _notice, timeout=reaching["step"]))
        return
    from digit_recognizer.leaderboard import download

    with _kaggle(**reaching) as kaggle, _bytes() as on_progress:
        path = download.download(
            kaggle, data_dir or Path("data"), force=force, on_notice=_notice, on_progress=on_progress
        )
    click.echo(path)


@click.command()
@click.argument("target", metavar="[FILE|RUN]", required=False)
@click.option(
    "-m", "--message", help="Shown in Kaggle's list; a short tag is added.  [default: run and local score]"
)
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait for the score.")
@click.option(
    "--max-wait",
    type=SECONDS,
    default=600,
    show_default=True,
    envvar="DIGIT_RECOGNIZER_MAX_WAIT",
    show_envvar=True,
    metavar="SECONDS",
    help="For how long.",
)
@click.option("--dry-run", is_flag=True, help="Check all that needs no network, and stop.")
@click.option("--force", is_flag=True, help="Submit a file that was submitted before.")
@OUT
@reaching_kaggle
def submit(
    target: str | None,
    message: str | None,
    wait: bool,
    max_wait: float,
    dry_run: bool,
    force: bool,
    out: Path,
    **reaching: Any,
) -> None:
    """Submit a run's CSV, or any CSV, to Kaggle and wait for its score.

    Without FILE or RUN it is the newest run on the competition's digits.

    Ends with 0: scored, or accepted with --no-wait; 2: wrong usage; 3: refused before the upload;
    4: credentials, rules or phone; 5: daily limit; 6: Kaggle rejected the file; 7: network or server;
    8: accepted, its score still to come; 130: Ctrl-C.
    """
    one = candidate.prepare(target, out, message=message, force=force)
    if dry_run:
        account = credentials()
        click.echo(f"{one.file}: would be submitted as {one.message!r}, with the credentials of {account}")
        return
    from digit_recognizer.leaderboard import submit

    with _kaggle(max_wait, **reaching) as kaggle, _spinner() as on_state:
        _notice(f"Submitting {one.file} as {one.message!r}")
        outcome = submit.submit(one, kaggle, force=force, on_notice=_notice, on_state=on_state)
        if wait:
            outcome = submit.wait(one, outcome, kaggle, on_state=on_state)
    if not wait:
        click.echo(f"Submission {outcome.ref}: accepted; `submissions` shows its score")
    elif outcome.status == "PENDING":
        _notice(
            f"Submission {outcome.ref} is in, but has no score after {max_wait:g} seconds (--max-wait); "
            "`submissions` shows it later"
        )
        click.get_current_context().exit(PENDING)
    else:
        click.echo(_scored(one, outcome))


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout instead.")
@OUT
@reaching_kaggle
def submissions(as_json: bool, out: Path, **reaching: Any) -> None:
    """List the submissions at Kaggle, their runs, and the gap between local and public score."""
    from digit_recognizer.leaderboard import submit

    with _kaggle(**reaching) as kaggle, _spinner() as on_state:
        on_state("Asking Kaggle for the submissions")
        rows = [_entry(one) for one in submit.matched(kaggle.submissions(), out)]
    if as_json:
        click.echo(json.dumps({"submissions": rows}))
        return
    click.echo(
        f"{'ref':>10}  {'date (UTC)':<16}  {'status':<8}  {'public':>7}  {'local':>6}  {'gap':>7}  run"
    )
    for row in rows:
        local = row["local"]
        click.echo(
            f"{row['ref']:>10}  {(row['date'] or '')[:16].replace('T', ' '):<16}  {row['status']:<8}  "
            f"{_figure(row['public_score'], '.5f'):>7}  {_figure(local and local['accuracy'], '.4f'):>6}  "
            f"{_figure(row['gap'], '+.4f'):>7}  {row['run'] or row['file']}"
            + (f"  {row['error']}" if row["error"] else "")
        )


COMMANDS = (download, submit, submissions)


def _entry(one: Any) -> dict[str, Any]:
    """What `submissions --json` prints of one."""
    return {
        "ref": one.listed.ref,
        "date": one.listed.date,
        "file": one.listed.file,
        "message": one.listed.description,
        "status": one.listed.status,
        "error": one.listed.error or None,
        "public_score": one.listed.public_score,
        "run": one.run.folder.name if one.run else None,
        "local": {name: one.local[name] for name in ("accuracy", "low", "high")} if one.local else None,
        "gap": one.gap,
    }


def _scored(one: Candidate, outcome: Outcome) -> str:
    """The public score beside the local one."""
    if outcome.public_score is None:
        return f"Submission {outcome.ref}: complete, but Kaggle shows no public score"
    scored = f"Submission {outcome.ref}: public score {outcome.public_score:.5f}"
    local = candidate.local_score(one.run)
    if local is None:
        return scored
    gap = outcome.public_score - local["accuracy"]
    return (
        f"{scored}; local {local['accuracy']:.4f} ({local['low']:.4f} to {local['high']:.4f}), gap {gap:+.4f}"
    )


def _figure(value: float | None, style: str) -> str:
    return "-" if value is None else format(value, style)


def _notice(text: str) -> None:
    click.echo(text, err=True)


@contextmanager
def _kaggle(
    max_wait: float = 0, *, competition: str, step: float, pause: float, verbose: bool
) -> Iterator[Any]:
    """Kaggle under the time limits of the options."""
    from digit_recognizer.errors import StoppedError
    from digit_recognizer.leaderboard.client import Kaggle, Limits

    limits = Limits(step=step, wait=max_wait, pause=pause)
    on_detail = _notice if verbose else lambda text: None
    try:
        with Kaggle(limits, competition=competition, on_notice=_notice, on_detail=on_detail) as kaggle:
            yield kaggle
    except KeyboardInterrupt:
        raise StoppedError("Stopped") from None


@contextmanager
def _spinner() -> Iterator[Callable[[str], None]]:
    """A spinner on stderr beside what is being done; nothing where stderr is no terminal."""
    from rich.console import Console

    with Console(stderr=True).status("") as status:
        yield lambda text: status.update(text)


@contextmanager
def _bytes() -> Iterator[Callable[[int, int | None], None]]:
    """A bar on stderr: bytes so far, in all, and time left."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    bars = Progress(
        TextColumn("Downloading"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    task = bars.add_task("", total=None)
    try:

        def on_progress(done: int, size: int | None) -> None:
            bars.start()
            bars.update(task, completed=done, total=size)

        yield on_progress
    finally:
        if bars.live.is_started:  # else it would print an empty line
            bars.stop()
