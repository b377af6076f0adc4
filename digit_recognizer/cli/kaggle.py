"""The commands that talk to Kaggle; `commands` adds them. Results go to stdout, the rest to stderr."""

import functools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from digit_recognizer.cli import terminal
from digit_recognizer.cli.options import OUT, PATH, FiniteFloat, with_options
from digit_recognizer.cli.progress import download_bar, spinner
from digit_recognizer.cli.terminal import number, result, signals_as_ctrl_c
from digit_recognizer.errors import EXIT_CODES, EXIT_PENDING, StoppedError, printable
from digit_recognizer.leaderboard.advice import COMPETITION, credentials, require_client

if TYPE_CHECKING:
    from digit_recognizer.leaderboard.candidate import Candidate
    from digit_recognizer.leaderboard.client import Kaggle
    from digit_recognizer.leaderboard.matching import MatchedSubmission
    from digit_recognizer.manifest import KaggleOutcome


def _seconds(name: str, default: float, help: str) -> Callable[..., Any]:
    """Return an option of a number of seconds, which an environment variable sets too."""
    variable = f"DIGIT_RECOGNIZER_{name.upper().replace('-', '_')}"
    return click.option(
        f"--{name}",
        type=FiniteFloat(min=0, min_open=True),
        default=default,
        show_default=True,
        envvar=variable,
        show_envvar=True,
        metavar="SECONDS",
        help=f"Seconds {help}",
    )


REACHING = [
    click.option(
        "--competition",
        default=COMPETITION,
        show_default=True,
        metavar="NAME",
        help="The competition's name in its URL.",
    ),
    _seconds("timeout", 60, "that one step may go without an answer."),
    _seconds("pause", 1, "before the first retry, or look for the score; doubles up to 15."),
    click.option("--verbose", is_flag=True, help="Print each step and its seconds."),
]


@dataclass(frozen=True)
class Reaching:
    """How to reach Kaggle: the options of every command that talks to it."""

    competition: str
    timeout: float
    pause: float
    verbose: bool

    @contextmanager
    def kaggle(self, **seconds: float) -> Iterator["Kaggle"]:
        """Yield Kaggle under the options' time limits; `seconds` are further ones."""
        from digit_recognizer.leaderboard.client import Kaggle, Limits

        limits = Limits(step_timeout=self.timeout, pause=self.pause, **seconds)
        on_detail = _notice if self.verbose else lambda text: None
        try:
            with Kaggle(
                limits, competition=self.competition, on_notice=_notice, on_detail=on_detail
            ) as kaggle:
                yield kaggle
        except KeyboardInterrupt:
            raise StoppedError("Stopped") from None


def reaching_kaggle(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `Reaching`, and let SIGTERM stop it as Ctrl-C does."""

    @functools.wraps(command)
    def with_reaching(competition: str, timeout: float, pause: float, verbose: bool, **options: Any) -> None:
        with signals_as_ctrl_c():
            command(reaching=Reaching(competition, timeout, pause, verbose), **options)

    return with_options(REACHING)(with_reaching)


@click.command()
@click.option(
    "--source",
    type=click.Choice(["kaggle", "openml"]),
    default="kaggle",
    show_default=True,
    help="The competition's archive, or MNIST from OpenML: for learning only, never uploaded.",
)
@click.option("--data-dir", type=PATH, help="Folder to put it into.  [default: data, or data/openml]")
@click.option("--force", is_flag=True, help="Download the archive again even if it is complete.")
@reaching_kaggle
def download(source: str, data_dir: Path | None, force: bool, reaching: Reaching) -> None:
    """Download the competition's archive, check it, and continue what an earlier attempt left.

    Without a Kaggle account, --source openml fetches MNIST and shapes it like the competition's files.
    The last line on stdout is the path of what was downloaded.
    """
    if source == "openml":
        from digit_recognizer.data import openml

        result(openml.download(data_dir or Path("data/openml"), _notice, timeout=reaching.timeout))
        return
    require_client()
    from digit_recognizer.leaderboard import download

    with reaching.kaggle() as kaggle, download_bar() as on_progress:
        path = download.download(
            kaggle, data_dir or Path("data"), force=force, on_notice=_notice, on_progress=on_progress
        )
    result(path)


def _check_message(context: click.Context, parameter: click.Parameter, message: str | None) -> str | None:
    """Return the message; raise a usage error if it is too long."""
    from digit_recognizer.leaderboard.candidate import MESSAGE_LIMIT

    if message and len(message) > MESSAGE_LIMIT:
        raise click.BadParameter(f"found {len(message)} characters, expected at most {MESSAGE_LIMIT}.")
    return message


@click.command(
    epilog="Exit codes: " + "; ".join(f"{code}: {meaning}" for code, meaning in EXIT_CODES.items()) + "."
)
@click.argument("target", metavar="[FILE|RUN]", required=False)
@click.option(
    "-m",
    "--message",
    callback=_check_message,
    help="Shown in Kaggle's list after a short tag.  [default: run and local score]",
)
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait for the score.")
@_seconds("max-wait", 600, "to wait for the score.")
@_seconds("list-lag", 45, "to look for an earlier attempt whose answer was lost; Kaggle's list may lag.")
@click.option("--dry-run", is_flag=True, help="Check all that needs no network, and stop.")
@click.option("--force", is_flag=True, help="Submit a file that was, or may have been, submitted before.")
@OUT
@reaching_kaggle
def submit(
    target: str | None,
    message: str | None,
    wait: bool,
    max_wait: float,
    list_lag: float,
    dry_run: bool,
    force: bool,
    out: Path,
    reaching: Reaching,
) -> None:
    """Submit a run's CSV, or any CSV, to Kaggle and wait for its score.

    Without FILE or RUN it is the newest run on the competition's digits.
    """
    require_client()
    from digit_recognizer.leaderboard import candidate as candidates
    from digit_recognizer.leaderboard import submit

    candidate = candidates.prepare(target, out, message=message, force=force, on_notice=_notice)
    if dry_run:
        account = credentials()
        result(
            f"{printable(candidate.file)}: would be submitted as {candidate.message!r}, with the credentials "
            f"of {printable(account)}"
        )
        return
    with reaching.kaggle(score_timeout=max_wait, list_lag=list_lag) as kaggle, spinner() as on_state:
        _notice(f"Submitting {candidate.file} as {candidate.message!r}")
        outcome = submit.submit(candidate, kaggle, force=force, on_notice=_notice, on_state=on_state)
        if wait:
            outcome = submit.wait_for_score(candidate, outcome, kaggle, on_state=on_state)
    if not wait:
        result(f"Submission {outcome.ref}: accepted; `submissions` shows its score")
    elif outcome.status == "PENDING":
        _notice(
            f"Submission {outcome.ref} is in, but has no score after {max_wait:g} seconds (--max-wait); "
            "`submissions` shows it later"
        )
        click.get_current_context().exit(EXIT_PENDING)
    else:
        result(_scored(candidate, outcome))


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout instead.")
@OUT
@reaching_kaggle
def submissions(as_json: bool, out: Path, reaching: Reaching) -> None:
    """List the submissions at Kaggle, their runs, and the gap between local and public score."""
    require_client()
    from digit_recognizer.leaderboard import matching

    with reaching.kaggle() as kaggle, spinner() as on_state:
        on_state("Asking Kaggle for the submissions")
        matches = matching.match_submissions(kaggle.submissions(), out, _notice)
    if as_json:
        result(json.dumps({"submissions": [_entry(match) for match in matches]}))
        return
    result(f"{'ref':>10}  {'date (UTC)':<16}  {'status':<8}  {'public':>7}  {'local':>6}  {'gap':>7}  run")
    for match in matches:
        result(_line(match))


COMMANDS = (download, submit, submissions)


def _entry(match: "MatchedSubmission") -> dict[str, Any]:
    """Return what `submissions --json` prints of a submission."""
    listed = match.listed
    return {
        "ref": listed.ref,
        "date": listed.date.isoformat(timespec="seconds") if listed.date else None,
        "file": listed.file,
        "message": listed.description,
        "status": listed.status,
        "error": listed.error or None,
        "public_score": listed.public_score,
        "run": match.run.folder.name if match.run else None,
        "local": match.local.model_dump(include={"accuracy", "low", "high"}) if match.local else None,
        "gap": match.gap,
    }


def _line(match: "MatchedSubmission") -> str:
    """Return what `submissions` prints of a submission."""
    listed = match.listed
    cells = [
        f"{listed.ref:>10}",
        f"{listed.date:%Y-%m-%d %H:%M}" if listed.date else " " * 16,
        f"{listed.status:<8}",
        f"{number(listed.public_score, '.5f'):>7}",
        f"{number(match.local.accuracy if match.local else None, '.4f'):>6}",
        f"{number(match.gap, '+.4f'):>7}",
        match.run.folder.name if match.run else listed.file,
        *([listed.error] if listed.error else []),
    ]
    return printable("  ".join(cells))


def _scored(candidate: "Candidate", outcome: "KaggleOutcome") -> str:
    """Return the line with the public score beside the local one."""
    if outcome.public_score is None:
        return f"Submission {outcome.ref}: complete, but Kaggle shows no public score"
    scored = f"Submission {outcome.ref}: public score {outcome.public_score:.5f}"
    local = candidate.run.local_score if candidate.run else None
    if local is None:
        return scored
    gap = outcome.public_score - local.accuracy
    return f"{scored}; local {local.accuracy:.4f} ({local.low:.4f} to {local.high:.4f}), gap {gap:+.4f}"


def _notice(text: str) -> None:
    terminal.notice(printable(text))  # in one line, whatever file names and Kaggle's texts hold
