"""What Kaggle can be asked, each step under a time limit and each failure as advice.

The client runs in a process of its own (`worker`), because only a process can be stopped whatever it hangs
in: importing, logging in, its own retries. Nothing here prints.
"""

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from digit_recognizer.errors import DigitRecognizerError, NetworkError
from digit_recognizer.leaderboard import advice, worker
from digit_recognizer.leaderboard.advice import COMPETITION, STEPS, Failure
from digit_recognizer.records import Record

ATTEMPTS = 3
MAX_PAUSE_SECONDS = 15.0
STARTUP_SECONDS = 60.0  # for what needs no network, however short the limit of the steps that do
POLL_SECONDS = 0.05  # between looks at a step that has not answered


@dataclass(frozen=True)
class Limits:
    """How long to wait, in seconds."""

    step_timeout: float = 60  # of one step: logging in, listing, uploading, submitting; of a new byte
    score_timeout: float = 600
    list_lag: float = 45  # that Kaggle's list may lag behind a submission whose answer was lost
    pause: float = 1  # before the first retry or look; it doubles each time

    def backoff(self, attempts: int) -> float:
        """Return the pause after `attempts` attempts."""
        return min(self.pause * 2 ** min(attempts - 1, 10), MAX_PAUSE_SECONDS)


def _utc(value: Any) -> Any:
    """Return a moment in UTC, which Kaggle's are without saying so."""
    if not isinstance(value, str):
        return value
    moment = datetime.fromisoformat(value)
    return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)


def _score(value: Any) -> Any:
    """Return a score, None if the text is no finite number."""
    try:
        score = float(value or "")
    except (TypeError, ValueError):
        return None
    return score if abs(score) < float("inf") else None


class KaggleSubmission(Record):
    """One of the account's submissions, as Kaggle lists it."""

    ref: Annotated[int, Field(gt=0)]
    date: Annotated[datetime | None, BeforeValidator(_utc)]
    file: str
    description: str
    status: Literal["PENDING", "COMPLETE", "ERROR"]
    error: str = Field(description="Kaggle's reason for ERROR")
    public_score: Annotated[float | None, BeforeValidator(_score)]


_SUBMISSIONS = TypeAdapter(list[KaggleSubmission])


class Kaggle:
    """Kaggle; the first question logs in, and the end of a `with` block stops the client's process.

    Every method raises NetworkError, CredentialsError, CompetitionError, QuotaError or RejectedError.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        competition: str = COMPETITION,
        on_notice: Callable[[str], None],
        on_detail: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.limits = limits
        self.competition = competition
        self._on_notice, self._on_detail = on_notice, on_detail
        self._account = advice.credentials()
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.Queue[dict[str, Any] | None] = queue.Queue()

    def __enter__(self) -> "Kaggle":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def submissions(self, *, all_pages: bool = True) -> list[KaggleSubmission]:
        """Return the account's submissions, newest first; without `all_pages` only the latest hundred."""
        rows = self._call_with_retries("submissions", pages=worker.PAGES if all_pages else 1)
        try:
            listed = _SUBMISSIONS.validate_python(rows)
        except ValidationError:
            raise self._to_exception("submissions", Failure(kind="reply")) from None
        oldest = datetime.min.replace(tzinfo=UTC)
        return sorted(
            listed, key=lambda submission: (submission.date or oldest, submission.ref), reverse=True
        )

    def upload(self, content: bytes, name: str) -> str:
        """Upload `content` as a file called `name`; only the returned token makes it a submission."""
        with tempfile.TemporaryDirectory(prefix="digit-recognizer-") as folder:
            path = Path(folder) / "submission.csv"  # what was checked, whatever becomes of the user's file
            path.write_bytes(content)
            return self._call_with_retries("upload", path=str(path), file_name=name)

    def create(self, token: str, message: str) -> int:
        """Make the uploaded file a submission and return its number, which proves that Kaggle has it.

        Tries again only if Kaggle certainly did not accept it.
        """
        return self._call_with_retries(
            "create", lambda error: not error.outcome_unknown, token=token, message=message
        )

    def download(self, path: Path, on_progress: Callable[[int, int | None], None]) -> None:
        """Download the archive to `path`, continuing what is in it.

        on_progress: gets the bytes so far, and the size if Kaggle tells it.
        """
        path = path.resolve()
        self._call_with_retries("download", path=str(path), download_path=path, on_progress=on_progress)

    def _call_with_retries(
        self,
        name: str,
        is_safe: Callable[[DigitRecognizerError], bool] = lambda error: True,
        **arguments: Any,
    ) -> Any:
        """Call a step again after an error that is retryable, if `is_safe` says so too."""

        def error_of(state: RetryCallState) -> DigitRecognizerError:
            error = state.outcome.exception() if state.outcome else None
            assert isinstance(error, DigitRecognizerError)
            return error

        retrying = Retrying(
            retry=retry_if_exception(
                lambda error: isinstance(error, DigitRecognizerError) and error.retryable and is_safe(error)
            ),
            stop=stop_after_attempt(ATTEMPTS),
            wait=lambda state: max(self.limits.backoff(state.attempt_number), error_of(state).retry_after),
            before_sleep=lambda state: self._on_notice(f"{error_of(state)}. Trying again"),
            reraise=True,
        )
        return retrying(self._call, name, **arguments)

    def _call(self, name: str, **arguments: Any) -> Any:
        if self._process is None:
            self._start()
            self._call_step("start", timeout=max(STARTUP_SECONDS, self.limits.step_timeout))
            self._call_step("log_in")
        return self._call_step(name, competition=self.competition, **arguments)

    def _call_step(
        self,
        name: str,
        *,
        timeout: float | None = None,
        download_path: Path | None = None,
        on_progress: Callable[[int, int | None], None] = lambda received, size: None,
        **arguments: Any,
    ) -> Any:
        """Return the answer of the client's process, which is stopped if it hangs or we are interrupted."""
        assert self._process is not None
        assert self._process.stdin is not None
        started = time.monotonic()
        try:
            self._process.stdin.write(json.dumps({"call": name, **arguments}) + "\n")
            self._process.stdin.flush()
            answer = self._wait(name, timeout or self.limits.step_timeout, download_path, on_progress)
        except BrokenPipeError:
            answer = None
        except BaseException:
            self._stop()
            raise
        took = f"{STEPS[name]}: {time.monotonic() - started:.1f} s"
        if answer is None:
            self._stop()
            raise NetworkError(
                f"{STEPS[name]}: Kaggle's client ended unexpectedly; try again", retryable=True
            )
        if "error" in answer:
            failure = Failure.model_validate(answer["error"])
            self._on_detail(f"{took}, {failure.model_dump_json(exclude_defaults=True)}")
            if name in ("start", "log_in"):
                self._stop()
            raise self._to_exception(name, failure)
        self._on_detail(took)
        return answer["result"]

    def _wait(
        self,
        name: str,
        timeout: float,
        download_path: Path | None,
        on_progress: Callable[[int, int | None], None],
    ) -> dict[str, Any] | None:
        """Return the process's next answer, None if it ended.

        Raises NetworkError after `timeout` seconds; a download has them anew each time its file grows.
        """
        last, received, size = time.monotonic(), 0, None
        while True:
            try:
                answer = self._answers.get(timeout=POLL_SECONDS)
            except queue.Empty:
                bytes_now = download_path.stat().st_size if download_path and download_path.exists() else 0
                if bytes_now != received:
                    received, last = bytes_now, time.monotonic()
                    on_progress(received, size)
                if time.monotonic() - last > timeout:
                    raise NetworkError(
                        f"{STEPS[name]}: no answer within {timeout:g} seconds (--timeout); try again later"
                    ) from None
                continue
            if answer is None or "size" not in answer:
                return answer
            size = answer["size"]

    def _to_exception(self, name: str, failure: Failure) -> DigitRecognizerError:
        return advice.to_exception(name, failure, self._account, self.competition, self.limits.step_timeout)

    def _start(self) -> None:
        # VERBOSE makes the client print its headers, and with them the credentials.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("VERBOSE")}
        process = subprocess.Popen(
            [sys.executable, "-P", worker.__file__],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # Ctrl-C is ours to handle
        )
        self._answers = queue.Queue()
        self._reading = threading.Thread(target=_read, args=(process, self._answers), daemon=True)
        self._reading.start()
        self._process = process

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            self._reading.join()
            with suppress(BrokenPipeError), process:  # closes the pipes
                pass


def _read(process: "subprocess.Popen[str]", answers: "queue.Queue[dict[str, Any] | None]") -> None:
    assert process.stdout is not None
    for line in process.stdout:
        answers.put(json.loads(line))
    answers.put(None)
