"""What Kaggle can be asked: each question is a process of Kaggle's client, each failure is advice.

Only a process can be stopped whatever it hangs in: importing, logging in, its retries. Nothing here prints.
"""

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError

from digit_recognizer.errors import KaggleError, NetworkError, NotSubmittedError
from digit_recognizer.leaderboard import account, advice, worker
from digit_recognizer.leaderboard.advice import COMPETITION, STEP_WORDS
from digit_recognizer.leaderboard.ledger import KaggleSubmission

ATTEMPTS = 3
STARTUP_SECONDS = 60.0  # for what needs no network, however short the limit of the steps that do
POLL_SECONDS = 0.05  # between looks at a process that says nothing
PAGES = 10  # of a hundred submissions, newest first: more than a year's at Kaggle's daily limit
FREE_TEXTS = ("file_name", "description", "error_description")  # of a submission
MAX_REASON = 300  # characters of Kaggle's reason for a failure
HIDDEN = ("KAGGLE_", "VERBOSE")  # variables that the client takes for credentials, or that make it tell them

Lines = queue.SimpleQueue[bytes | None]
OnText = Callable[[str], None]
OnBytes = Callable[[int, int | None], None]  # bytes so far, and the size if Kaggle tells it


@dataclass(frozen=True)
class Limits:
    """How long to wait, in seconds."""

    step_timeout: float = 60  # of one step: logging in, listing, uploading, submitting; of a new byte
    score_timeout: float = 600
    list_lag: float = 45  # that Kaggle's list may lag behind a submission whose answer was lost
    retry_delay: float = 1  # before the first retry or look; it doubles each time

    def delay(self, attempts: int) -> float:
        """Return the seconds to wait after `attempts` attempts."""
        return min(self.retry_delay * 2 ** min(attempts - 1, 10), worker.MAX_DELAY_SECONDS)


@dataclass(frozen=True)
class Kaggle:
    """Kaggle, under time limits; a question that it does not answer raises a KaggleError.

    on_notice gets what the user should know, on_state what is being done, on_detail each call's seconds.
    """

    account: account.Account
    limits: Limits
    on_notice: OnText
    competition: str = COMPETITION
    on_state: OnText = lambda text: None
    on_detail: OnText = lambda text: None

    def submissions(self) -> list[KaggleSubmission]:
        """Return the account's submissions, newest first."""
        return next(self._looks(PAGES, 0))

    def find(
        self,
        matches: Callable[[KaggleSubmission], bool],
        *,
        seconds: float = 0,
        all_pages: bool = False,
        despite_errors: bool = False,
    ) -> KaggleSubmission | None:
        """Return the newest submission that `matches`, looked for again and again for `seconds`; else None.

        all_pages: look at more than the latest hundred. despite_errors: while there is time, look again.
        """
        deadline = time.monotonic() + seconds
        for attempt in count(1):
            try:
                for listed in self._looks(PAGES if all_pages else 1, max(0, deadline - time.monotonic())):
                    found = next(filter(matches, listed), None)
                    if found or time.monotonic() >= deadline:
                        return found
                return None
            except KaggleError:
                if not despite_errors or time.monotonic() >= deadline:
                    raise
            time.sleep(min(self.limits.delay(attempt), max(0, deadline - time.monotonic())))
        raise AssertionError("unreachable")

    def _looks(self, pages: int, seconds: float) -> Iterator[list[KaggleSubmission]]:
        for rows in self._call("submissions", pages, seconds, self.limits.retry_delay):
            texts = [{name: self.account.redacted(row[name]) for name in FREE_TEXTS} for row in rows]
            try:
                listed = [KaggleSubmission(**row | text) for row, text in zip(rows, texts, strict=True)]
            except ValidationError:
                raise NetworkError(f"{STEP_WORDS['submissions']}: {advice.NO_SENSE}") from None
            yield sorted(listed, key=lambda submission: submission.age_key, reverse=True)

    def upload(self, content: bytes, name: str) -> str:
        """Upload `content` as a file called `name`; only the returned token makes it a submission."""
        try:
            with tempfile.TemporaryDirectory(prefix="digit-recognizer-") as folder:
                path = Path(folder) / "submission.csv"
                path.write_bytes(content)  # what was checked, whatever becomes of the user's file
                return next(self._call("upload", str(path), name))
        except OSError as error:
            problem = f"cannot be written ({error.strerror}); TMPDIR names another folder"
            raise NotSubmittedError(f"{tempfile.gettempdir()}: {problem}") from None

    def create(self, token: str, message: str) -> int:
        """Make the uploaded file a submission and return its number, which proves that Kaggle has it.

        Tries again only if Kaggle certainly did not accept it.
        """
        return next(self._call("create", token, message))

    def download(self, path: Path, on_progress: OnBytes) -> None:
        """Download the archive to `path`, continuing what is in it."""
        next(self._call("download", str(path.resolve()), file=path, on_progress=on_progress))

    def _call(
        self, name: str, *arguments: object, file: Path | None = None, on_progress: OnBytes | None = None
    ) -> Iterator[Any]:
        """Yield what `worker` answers to a call; call again after an error that is retryable.

        file: what the call fills, and on_progress is told of.
        """
        for attempt in count(1):
            try:
                yield from self._call_once(name, arguments, file, on_progress)
                return
            except KaggleError as error:
                unsafe = error.outcome_unknown and name == "create"
                if attempt == ATTEMPTS or not error.retryable or unsafe:
                    raise
                self.on_notice(f"{error}. Trying again")
                delay = max(self.limits.delay(attempt), error.retry_after)
            time.sleep(delay)

    def _call_once(
        self, name: str, arguments: tuple[object, ...], file: Path | None, on_progress: OnBytes | None
    ) -> Iterator[Any]:
        """Yield the answers of one process; each of its steps, and each next byte of `file`, has a limit."""
        step, size, waiting, told = "start", None, True, ""
        began = last = time.monotonic()
        messages: Iterator[dict[str, Any]] = iter(())
        try:
            with _process([self.account.variables, name, self.competition, *arguments]) as lines:
                messages = _messages(lines, file)
                for message in messages:
                    self.on_state(STEP_WORDS[step])
                    last = time.monotonic() if message else last
                    size = message.get("size", size)
                    if on_progress and "received" in message:
                        on_progress(message["received"], size)
                    elif "step" in message:
                        step, waiting = message["step"], True
                    elif "answer" in message:
                        waiting = False
                        yield message["answer"]
                    elif failure := message.get("failure"):
                        failure["reason"] = self.account.redacted(failure["reason"])[:MAX_REASON]
                        told = f", {failure['kinds'][0]} {failure.get('status', '')} {failure['reason']}"
                        raise advice.to_exception(
                            step, failure, self.account, self.competition, self.limits.step_timeout
                        )
                    limit = max(self.limits.step_timeout, STARTUP_SECONDS if step == "start" else 0)
                    if waiting and time.monotonic() - last > limit:
                        problem = f"no answer within {limit:g} seconds (--timeout); try again later"
                        raise NetworkError(f"{STEP_WORDS[step]}: {problem}")
            if waiting:
                problem = "Kaggle's client ended unexpectedly; try again"
                raise NetworkError(f"{STEP_WORDS[step]}: {problem}", retryable=True)
        except KaggleError as error:
            said = [step, *(message.get("step") for message in messages)]  # up to the moment it was killed
            error.outcome_unknown &= name in said  # else it did not even ask
            raise
        finally:
            self.on_detail(f"{STEP_WORDS[step]}: {time.monotonic() - began:.1f} s{told}")


@contextmanager
def _process(call: list[object]) -> Iterator[Lines]:
    """Start `worker` on a call, yield its lines as they come, None as the last, and kill it in the end.

    It also ends when this process does, in whatever way: then its stdin ends.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(HIDDEN)}
    environment["KAGGLE_API_ENVIRONMENT"] = os.environ.get("KAGGLE_API_ENVIRONMENT", "")
    environment["KAGGLE_CONFIG_DIR"] = str(Path(worker.__file__).parent)  # holds no kaggle.json
    process = subprocess.Popen(
        [sys.executable, "-P", worker.__file__],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is ours to handle
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
    )
    assert process.stdin
    assert process.stdout
    lines: Lines = queue.SimpleQueue()
    try:
        threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
        with suppress(BrokenPipeError):  # it has ended: so have its lines
            os.write(process.stdin.fileno(), json.dumps(call).encode() + b"\n")
        yield lines
    finally:
        process.kill()
        process.wait()
        process.stdin.close()


def _read(stream: IO[bytes], lines: Lines) -> None:
    with stream:
        for line in chain(stream, [None]):
            lines.put(line)


def _messages(lines: Lines, file: Path | None) -> Iterator[dict[str, Any]]:
    """Yield the process's messages and, as `file` grows, {"received": bytes}; {} while there is nothing."""
    received = 0
    while True:
        line: bytes | None = b""
        with suppress(queue.Empty):
            line = lines.get(timeout=POLL_SECONDS)
        size = file.stat().st_size if file and file.exists() else 0
        if size != received:
            received = size
            yield {"received": received}
        if line is None:
            return
        yield json.loads(line) if line.startswith(b"{") else {}  # else Python printed it as it started
