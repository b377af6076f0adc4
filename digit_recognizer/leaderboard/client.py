"""What Kaggle can be asked, each step under a time limit and each failure as advice.

The client runs in a process of its own (`worker`), because only a process can be stopped whatever it hangs
in: importing, logging in, its own retries. Nothing here prints.
"""

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from digit_recognizer import signals
from digit_recognizer.errors import DigitRecognizerError, NetworkError
from digit_recognizer.leaderboard import account, advice, worker
from digit_recognizer.leaderboard.advice import COMPETITION, STEP_WORDS
from digit_recognizer.leaderboard.messages import ArchiveSize, Failure, KaggleSubmission

ATTEMPTS = 3
MAX_DELAY_SECONDS = 15.0
STARTUP_SECONDS = 60.0  # for what needs no network, however short the limit of the steps that do
HIDDEN = (
    "KAGGLE_",
    "VERBOSE",
)  # variables: credentials and settings, and what makes the client print headers
POLL_SECONDS = 0.05  # between looks at a step that has not answered

Answer = TypeVar("Answer")
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
        return min(self.retry_delay * 2 ** min(attempts - 1, 10), MAX_DELAY_SECONDS)


class Kaggle:
    """Kaggle; the first question logs in, and the end of a `with` block stops the client's process.

    on_notice gets what the user should know, on_state what is being done, on_detail each step's seconds.
    Every question raises NetworkError, CredentialsError, CompetitionError, QuotaError or RejectedError.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        competition: str = COMPETITION,
        on_notice: OnText,
        on_state: OnText = lambda text: None,
        on_detail: OnText = lambda text: None,
    ) -> None:
        self.limits = limits
        self.on_notice, self.on_state, self._on_detail = on_notice, on_state, on_detail
        self._competition = competition
        self._account = account.check()
        self._process: multiprocessing.process.BaseProcess | None = None

    def __enter__(self) -> "Kaggle":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def submissions(self, *, all_pages: bool = True) -> list[KaggleSubmission]:
        """Return the account's submissions, newest first; without `all_pages` only the latest hundred."""
        pages = worker.PAGES if all_pages else 1
        listed = self._call(worker.submissions, self._competition, pages)
        return sorted(listed, key=lambda submission: submission.age_key, reverse=True)

    def find(
        self,
        matches: Callable[[KaggleSubmission], bool],
        *,
        seconds: float = 0,
        all_pages: bool = False,
        despite_errors: bool = False,
    ) -> KaggleSubmission | None:
        """Return the newest submission that `matches`, looked for again and again for `seconds`; else None.

        despite_errors: while there is time, look again also after an error that lets a score come later.
        """
        deadline = time.monotonic() + seconds
        for attempt in count(1):
            try:
                listed = self.submissions(all_pages=all_pages)
            except DigitRecognizerError as error:
                if not (despite_errors and error.score_may_come and time.monotonic() < deadline):
                    raise
                listed = []
            submission = next(filter(matches, listed), None)
            left = deadline - time.monotonic()
            if submission or left <= 0:
                return submission
            time.sleep(min(self.limits.delay(attempt), left))
        raise AssertionError("unreachable")

    def upload(self, content: bytes, name: str) -> str:
        """Upload `content` as a file called `name`; only the returned token makes it a submission."""
        with tempfile.TemporaryDirectory(prefix="digit-recognizer-") as folder:
            path = Path(folder) / "submission.csv"  # what was checked, whatever becomes of the user's file
            path.write_bytes(content)
            return self._call(worker.upload, self._competition, path, name)

    def create(self, token: str, message: str) -> int:
        """Make the uploaded file a submission and return its number, which proves that Kaggle has it.

        Tries again only if Kaggle certainly did not accept it.
        """
        return self._call(worker.create, self._competition, token, message, harmless=False)

    def download(self, path: Path, on_progress: OnBytes) -> None:
        """Download the archive to `path`, continuing what is in it."""
        self._call(
            worker.download, self._competition, path.resolve(), download_path=path, on_progress=on_progress
        )

    def _call(
        self,
        step: Callable[..., Answer],
        *arguments: object,
        harmless: bool = True,
        download_path: Path | None = None,
        on_progress: OnBytes = lambda received, size: None,
    ) -> Answer:
        """Return a step's answer; call it again after an error that is retryable.

        harmless: to repeat the step does no harm, even if it was done. download_path: the file that it fills.
        """
        for attempt in count(1):
            try:
                if self._process is None:
                    self._start()
                    self._call_step(worker.start, timeout=max(STARTUP_SECONDS, self.limits.step_timeout))
                    self._call_step(worker.log_in)
                return self._call_step(step, *arguments, download_path=download_path, on_progress=on_progress)
            except DigitRecognizerError as error:
                if attempt == ATTEMPTS or not error.retryable or (error.outcome_unknown and not harmless):
                    raise
                self.on_notice(f"{error}. Trying again")
                delay = max(self.limits.delay(attempt), error.retry_after)
            time.sleep(delay)
        raise AssertionError("unreachable")

    def _call_step(
        self,
        step: Callable[..., Answer],
        *arguments: object,
        timeout: float | None = None,
        download_path: Path | None = None,
        on_progress: OnBytes = lambda received, size: None,
    ) -> Answer:
        """Return the answer of the client's process, which is stopped if it hangs or we are interrupted."""
        words = STEP_WORDS[step.__name__]
        self.on_state(f"{words[0].upper()}{words[1:]}")
        started = time.monotonic()
        try:
            self._connection.send((step, arguments))
            answer = self._receive(words, timeout or self.limits.step_timeout, download_path, on_progress)
        except (EOFError, ConnectionError):
            self._stop()
            raise NetworkError(
                f"{words}: Kaggle's client ended unexpectedly; try again", retryable=True
            ) from None
        except BaseException:
            self._stop()
            raise
        took = f"{words}: {time.monotonic() - started:.1f} s"
        if not isinstance(answer, Failure):
            self._on_detail(took)
            return answer
        self._on_detail(f"{took}, {answer.model_dump_json(exclude_defaults=True)}")
        if step in (worker.start, worker.log_in):
            self._stop()
        raise advice.to_exception(
            step.__name__, answer, self._account, self._competition, self.limits.step_timeout
        )

    def _receive(self, words: str, timeout: float, download_path: Path | None, on_progress: OnBytes) -> Any:
        """Return the process's answer.

        Raises NetworkError after `timeout` seconds; a download has them anew each time its file grows.
        """
        last, received, size = time.monotonic(), 0, None
        while True:
            if self._connection.poll(POLL_SECONDS):
                answer = self._connection.recv()
                if not isinstance(answer, ArchiveSize):
                    return answer
                size = answer.size
            bytes_now = download_path.stat().st_size if download_path and download_path.exists() else 0
            if bytes_now != received:
                received, last = bytes_now, time.monotonic()
                on_progress(received, size)
            if time.monotonic() - last > timeout:
                raise NetworkError(
                    f"{words}: no answer within {timeout:g} seconds (--timeout); try again later"
                )

    def _environment(self) -> dict[str, str]:
        """Return the environment of the client's process; its credentials are those that were checked."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(HIDDEN)}
        folder = str(Path(worker.__file__).parent)  # holds no kaggle.json
        kaggle = {
            "KAGGLE_API_ENVIRONMENT": os.environ.get("KAGGLE_API_ENVIRONMENT", ""),
            "KAGGLE_CONFIG_DIR": folder,
        }
        return kept | kaggle | dict(self._account.variables)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would share this process's locks and memory
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=worker.main, args=(theirs, self._environment()), daemon=True)
        with signals.blocked():  # Ctrl-C is ours to handle
            self._process.start()
        theirs.close()

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.join()
            self._connection.close()
