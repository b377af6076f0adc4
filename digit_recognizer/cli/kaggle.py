"""The commands that talk to Kaggle; `commands` adds them. Results go to stdout, the rest to stderr."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click
from pydantic import Field

from digit_recognizer.cli.options import JSON, OUT, PATH, RUN, bounded, with_options
from digit_recognizer.cli.progress import download_bar, spinner
from digit_recognizer.cli.terminal import done, json_result, notice, result, results
from digit_recognizer.errors import EXIT_CODES, CredentialsError, StoppedError
from digit_recognizer.files import default_folder
from digit_recognizer.leaderboard import COMPETITION

if TYPE_CHECKING:
    from digit_recognizer.leaderboard.client import Kaggle


def _seconds(name: str, default: float, help: str) -> Callable[..., Any]:
    """Return an option of a number of seconds, which an environment variable sets too."""
    kind = bounded(Annotated[float, Field(gt=0, le=86_400)], f"Seconds {help}")
    variable = f"DIGIT_RECOGNIZER_{name.upper().replace('-', '_')}"
    kind |= {"default": default, "show_default": True, "show_envvar": True, "metavar": "SECONDS"}
    return click.option(f"--{name}", envvar=variable, **kind)


# The options of every command that talks to Kaggle, for `_reach`.
REACHING = [
    click.option("--competition", default=COMPETITION, show_default=True, help="Its name in its URL."),
    _seconds("timeout", 60, "that one step may go without an answer."),
    _seconds("retry-delay", 1, "before the first retry, or look for the score; doubles up to 15."),
    click.option("--verbose", is_flag=True, help="Print each call of Kaggle's client and its seconds."),
]


@contextmanager
def _reach(verbose: bool, **fields: Any) -> Iterator["Kaggle"]:
    """Yield Kaggle with those of its fields that a command's options tell."""
    from digit_recognizer.leaderboard import account
    from digit_recognizer.leaderboard.client import Kaggle

    if verbose:
        fields["on_detail"] = notice
    kaggle = Kaggle(account.check(), notice, **fields)
    try:
        yield kaggle
    except KeyboardInterrupt:
        raise StoppedError("Stopped") from None
    finally:
        kaggle.close()


@click.command()
@click.option(
    "--source", type=click.Choice(["kaggle", "openml"]), default="kaggle", show_default=True,
    help="The competition's archive, or MNIST from OpenML: for learning only, never uploaded.",
)  # fmt: skip
@click.option("--data-dir", type=PATH, help="Folder to put it into.  [default: data, or data/openml]")
@click.option("--force", is_flag=True, help="Download the archive again even if it is complete.")
@with_options(REACHING)
def download(source: str, data_dir: Path | None, force: bool, **reaching: Any) -> None:
    """Download the competition's archive and check it.

    It continues what an earlier attempt left. Without a Kaggle account, --source openml fetches MNIST and
    shapes it like the competition's files. The last line on stdout is the path of what was downloaded.
    """
    if source == "openml":
        from digit_recognizer.data import openml

        path = openml.download(data_dir or default_folder("data/openml"), notice, timeout=reaching["timeout"])
    else:
        from digit_recognizer.leaderboard import download

        folder = data_dir or default_folder("data")
        try:
            with _reach(**reaching) as kaggle, download_bar() as on_progress:
                path = download.download(kaggle, folder, force=force, on_progress=on_progress)
        except CredentialsError as error:
            error.add_note("Without a Kaggle account, --source openml fetches MNIST instead.")
            raise
    with done(f"The download is complete: {path}"):
        result(path)


@click.command(
    epilog="Exit codes: " + "; ".join(f"{code}: {meaning}" for code, meaning in EXIT_CODES.items()) + "."
)
@click.argument("target", metavar="[FILE|RUN]", required=False, type=RUN)
@click.option(
    "-m",
    "--message",
    help="Shown in Kaggle's list after a short tag.  [default: run and validation accuracy]",
)
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait for the score.")
@_seconds("max-wait", 600, "to wait for the score.")
@_seconds("list-lag", 45, "to look for an earlier attempt whose answer was lost; Kaggle's list may lag.")
@click.option("--dry-run", is_flag=True, help="Check all that needs no network, and stop.")
@click.option("--force", is_flag=True, help="Submit a file that was, or may have been, submitted before.")
@OUT
@with_options(REACHING)
def submit(
    target: str | None,
    message: str | None,
    wait: bool,
    dry_run: bool,
    force: bool,
    out: Path,
    **reaching: Any,
) -> None:
    """Submit a CSV to Kaggle and wait for its public score.

    A FILE, a RUN's, or else that of the newest run on the competition's digits, unless another is better.
    """
    from digit_recognizer.cli import tables
    from digit_recognizer.leaderboard import account, submit
    from digit_recognizer.leaderboard import candidate as candidates

    candidate = candidates.check(target, out, message=message, force=force, on_notice=notice)
    if dry_run:
        notice(f"{candidate.file}: {len(candidate.content.splitlines()) - 1:,} rows, a valid submission")
        described = f"{candidate.file}: would be submitted as {candidate.sent.message!r}"
        results([f"{described}, with the credentials of {account.check().source}"])
        return
    with spinner() as on_state, _reach(**reaching, on_state=on_state) as kaggle:
        notice(f"Submitting {candidate.file} as {candidate.sent.message!r}")
        outcome = submit.submit(candidate, kaggle, force=force)
        if wait:
            outcome = submit.wait_for_score(candidate, outcome, kaggle)
    accepted = f"Submission {outcome.ref}: accepted; `submissions` shows its score"
    with done(f"Kaggle has submission {outcome.ref}; `submissions` shows its score."):
        results([tables.scored(outcome) if wait else accepted])


@click.command()
@JSON
@OUT
@with_options(REACHING)
def submissions(as_json: bool, out: Path, **reaching: Any) -> None:
    """List submissions at Kaggle, runs, public and expected scores."""
    from digit_recognizer.cli import tables
    from digit_recognizer.leaderboard import ledger

    with spinner() as on_state, _reach(**reaching, on_state=on_state) as kaggle:
        listed = ledger.match(kaggle.submissions(), out, notice)
    if as_json:
        json_result(submissions=list(map(tables.submission, listed)))
    else:
        results(tables.submissions(listed))
        if places := [each.place for each in listed if each.place]:
            inside = f"{places.count('inside')} of {len(places)} public scores are inside"
            notice(f"{inside} their 95% intervals")


COMMANDS = (download, submit, submissions)
