"""What Kaggle can be asked: a process of Kaggle's client answers each question, each failure is advice.

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
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from digit_recognizer.errors import KaggleError, NetworkError, NotSubmittedError
from digit_recognizer.leaderboard import COMPETITION, advice, worker
from digit_recognizer.leaderboard.account import Account
from digit_recognizer.leaderboard.advice import STEP_WORDS
from digit_recognizer.leaderboard.ledger import KaggleSubmission

ATTEMPTS = 3
STARTUP_SECONDS = 60.0  # for what needs no network, however short the limit of the steps that do
POLL_SECONDS = 0.05  # between looks at a process that says nothing
PAGES = 10  # of a hundred submissions, newest first: more than a year's at Kaggle's daily limit
FREE_TEXTS = ("file_name", "description", "error_description")  # of a submission
MAX_DELAY_SECONDS = 15.0
MAX_REASON = 300  # characters of Kaggle's reason for a failure
HIDDEN = ("KAGGLE_", "VERBOSE")  # variables that the client takes for credentials, or to print them

OnText = Callable[[str], None]
OnBytes = Callable[[int, int | None], None]  # bytes so far, and the size if Kaggle tells it
Matches = Callable[[KaggleSubmission], bool]


@dataclass
class Kaggle:
    """Kaggle, under time limits in seconds; a question that it does not answer raises a KaggleError.

    on_notice gets what the user should know, on_state what is being done, on_detail each call's seconds.
    One process of its client answers all questions, and the next after one that had to be killed.
    """

    account: Account
    on_notice: OnText
    competition: str = COMPETITION
    timeout: float = 60  # of one step: logging in, listing, uploading, submitting; of a new byte
    retry_delay: float = 1  # before the first retry or look; it doubles each time
    max_wait: float = 600  # for the score
    list_lag: float = 45  # that Kaggle's list may lag behind a submission whose answer was lost
    on_state: OnText = lambda text: None
    on_detail: OnText = lambda text: None
    _process: "Process | None" = field(default=None, init=False)

    def delays(self) -> Iterator[float]:
        """Return the seconds to wait after each attempt."""
        return (min(self.retry_delay * 2 ** min(n, 10), MAX_DELAY_SECONDS) for n in count())

    def close(self) -> None:
        """Kill the process, whatever it does."""
        if self._process:
            self._process.kill()
            self._process = None

    def submissions(self, pages: int = PAGES) -> list[KaggleSubmission]:
        """Return the account's submissions, newest first."""
        rows = self._call("submissions", pages)
        for row in rows:
            row |= {name: self.account.redacted(row.get(name, "")) for name in FREE_TEXTS}
        try:
            listed = [KaggleSubmission(**row) for row in rows]
        except ValidationError:
            raise NetworkError(f"{STEP_WORDS['submissions']}: {advice.NO_SENSE}") from None
        never = datetime.min.replace(tzinfo=UTC)
        return sorted(listed, key=lambda submission: (submission.date or never, submission.ref), reverse=True)

    def find(self, matches: Matches, *, seconds: float = 0, pages: int = 1) -> KaggleSubmission | None:
        """Return the newest submission that `matches`, looked for again and again for `seconds`; else None.

        pages: of the list, of a hundred each. Raises the error of a look only if that was the last.
        """
        deadline, delays = time.monotonic() + seconds, self.delays()
        while True:
            left = deadline - time.monotonic()
            try:
                found = next(filter(matches, self.submissions(pages)), None)
            except KaggleError:
                if left <= 0:
                    raise
            else:
                if found or left <= 0:
                    return found
            time.sleep(min(next(delays), max(left, 0)))

    def upload(self, content: bytes, name: str) -> str:
        """Upload `content` as a file called `name`; only the returned token makes it a submission."""
        try:
            with tempfile.TemporaryDirectory(prefix="digit-recognizer-") as folder:
                path = Path(folder) / "submission.csv"
                path.write_bytes(content)  # what was checked, whatever becomes of the user's file
                return self._call("upload", str(path), name)
        except OSError as error:
            problem = f"cannot be written ({error.strerror}); TMPDIR names another folder"
            raise NotSubmittedError(f"{tempfile.gettempdir()}: {problem}") from None

    def create(self, token: str, message: str) -> int:
        """Make the uploaded file a submission and return its number, which proves that Kaggle has it.

        Tries again only if Kaggle certainly did not accept it.
        """
        return self._call("create", token, message)

    def download(self, path: Path, on_progress: OnBytes) -> None:
        """Download the archive to `path`, continuing what is in it."""
        self._call("download", str(path.resolve()), on_progress=on_progress)

    def _call(self, name: str, *arguments: Any, on_progress: OnBytes | None = None) -> Any:
        """Return what `worker` answers to a call; call again after an error that is retryable."""
        for delay in islice(self.delays(), ATTEMPTS - 1):
            try:
                return self._call_once(name, arguments, on_progress)
            except KaggleError as error:
                unsafe = name == "create" and error.outcome_unknown
                if unsafe or not error.retryable or error.retry_after > self.timeout:
                    raise
                self.on_notice(f"{error}. Trying again")
                wait = max(delay, error.retry_after)
            time.sleep(wait)
        return self._call_once(name, arguments, on_progress)

    def _call_once(self, name: str, arguments: tuple[Any, ...], on_progress: OnBytes | None) -> Any:
        """Return the answer to one call; each of its steps, and each next byte of a download, has a limit."""
        step, size, answered, told = name, None, False, ""
        if self._process is None:
            self._process, step = Process(self.account.variables), "start"
        began = last = time.monotonic()
        try:
            self._process.send([name, self.competition, *arguments])
            for message in self._process.messages(Path(arguments[0]) if on_progress else None):
                self.on_state(STEP_WORDS[step])
                last = time.monotonic() if message else last
                step, size = message.get("step", step), message.get("size", size)
                answered = "answer" in message or "failure" in message
                if "answer" in message:
                    return message["answer"]
                if failure := message.get("failure"):
                    failure["reason"] = self.account.redacted(failure["reason"])[:MAX_REASON]
                    told = f", {failure['kinds'][0]} {failure.get('status', '')} {failure['reason']}"
                    raise advice.to_exception(step, failure, self.account, self.competition)
                if on_progress and "received" in message:
                    on_progress(message["received"], size)
                limit = max(self.timeout, STARTUP_SECONDS if step == "start" else 0)
                if time.monotonic() - last > limit:
                    problem = f"no answer within {limit:g} seconds (--timeout); try again later"
                    raise NetworkError(f"{STEP_WORDS[step]}: {problem}")
            problem = "Kaggle's client ended unexpectedly; try again"
            raise NetworkError(f"{STEP_WORDS[step]}: {problem}", retryable=True)
        finally:
            if not answered:
                self.close()
            self.on_detail(f"{STEP_WORDS[step]}: {time.monotonic() - began:.1f} s{told}")


class Process:
    """A process that runs `worker`. It ends with this one, in whatever way: then its stdin ends."""

    def __init__(self, variables: object) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(HIDDEN)}
        environment["KAGGLE_API_ENVIRONMENT"] = os.environ.get("KAGGLE_API_ENVIRONMENT", "")
        environment["KAGGLE_CONFIG_DIR"] = str(Path(worker.__file__).parent)  # holds no kaggle.json
        self._process = subprocess.Popen(
            [sys.executable, "-P", worker.__file__],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is ours to handle
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        self.send(variables)

    def send(self, message: object) -> None:
        """Send a line of JSON."""
        assert self._process.stdin
        with suppress(OSError):  # it has ended: so have its lines
            os.write(self._process.stdin.fileno(), json.dumps(message).encode() + b"\n")

    def _read(self) -> None:
        assert self._process.stdout
        with self._process.stdout as lines:
            for line in chain(lines, [None]):
                self._lines.put(line)

    def messages(self, file: Path | None) -> Iterator[dict[str, Any]]:
        """Yield its messages and, as `file` grows, {"received": bytes}; {} while there is nothing."""
        received = 0
        while True:
            line: bytes | None = b""
            with suppress(queue.Empty):
                line = self._lines.get(timeout=POLL_SECONDS)
            size = file.stat().st_size if file and file.exists() else 0
            if size != received:
                received = size
                yield {"received": received}
            if line is None:
                return
            yield json.loads(line) if line.startswith(b"{") else {}  # else Python printed it as it started

    def kill(self) -> None:
        """End it at once, whatever it does."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdin
        self._process.stdin.close()
