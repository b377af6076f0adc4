"""What Kaggle can be asked, each step under a time limit and each failure as advice.

The client runs in a process of its own (`kaggle_client`), because only a process can be stopped whatever it
hangs in: importing, logging in, its own retries. Nothing here prints.
"""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from digit_recognizer.errors import NetworkError
from digit_recognizer.leaderboard import advice, worker
from digit_recognizer.leaderboard.advice import COMPETITION, STEPS

ATTEMPTS = 3
LONGEST_PAUSE = 15.0
STARTING = 60.0  # seconds for what needs no network, however short the limit of the steps that do
TICK = 0.05  # seconds between looks at a hanging step


@dataclass(frozen=True)
class Limits:
    """How long to wait, in seconds."""

    step: float = 60  # one step: logging in, listing, uploading, submitting; a download without a new byte
    wait: float = 600  # for the score
    pause: float = 1  # before the first retry or look; it doubles each time

    def backoff(self, number: int) -> float:
        """The pause after so many tries."""
        return min(self.pause * 2 ** (number - 1), LONGEST_PAUSE)


@dataclass(frozen=True)
class Listed:
    """One of the account's submissions, as Kaggle lists it."""

    ref: int
    date: str | None  # ISO 8601, UTC
    file: str
    description: str
    status: str  # PENDING, COMPLETE or ERROR
    error: str  # Kaggle's reason for ERROR
    public_score: float | None


class Kaggle:
    """Kaggle, logged in to when it is first asked; a `with` block stops the client's process in the end.

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

    def submissions(self, *, all_pages: bool = True) -> list[Listed]:
        """The account's submissions, newest first; the latest hundred alone without `all_pages`."""
        pages = worker.PAGES if all_pages else 1
        found = self._patiently("submissions", pages=pages)
        return [Listed(**one | {"public_score": _number(one["public_score"])}) for one in found]

    def upload(self, file: Path) -> str:
        """Upload a file; the token that is returned makes it a submission, and nothing else does."""
        return self._patiently("upload", path=str(file.resolve()))

    def create(self, token: str, message: str) -> int:
        """Make the uploaded file a submission and return its number, 0 if Kaggle tells none. Tries once."""
        return self._call("create", token=token, message=message)

    def download(self, path: Path, on_progress: Callable[[int, int | None], None]) -> None:
        """Download the archive to `path`, going on with what is there.

        on_progress: gets the bytes so far, and in all where that is known.
        """
        self._patiently("download", path=str(path.resolve()), growing=path, on_progress=on_progress)

    def _patiently(self, name: str, **arguments: Any) -> Any:
        """Call what may safely be called again, a few times. A hang was waited for long enough already."""

        def pause(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            asked = error.pause if isinstance(error, NetworkError) else 0
            return max(self.limits.backoff(state.attempt_number), asked)

        def tell(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            self._on_notice(f"{error}. Trying again")

        retrying = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, NetworkError) and error.again),
            stop=stop_after_attempt(ATTEMPTS),
            wait=pause,
            before_sleep=tell,
            reraise=True,
        )
        return retrying(self._call, name, **arguments)

    def _call(self, name: str, **arguments: Any) -> Any:
        if self._process is None:
            self._start()
            self._ask("start", limit=max(STARTING, self.limits.step))
            self._ask("log_in")
        return self._ask(name, competition=self.competition, **arguments)

    def _ask(
        self,
        name: str,
        *,
        limit: float | None = None,
        growing: Path | None = None,
        on_progress: Callable[[int, int | None], None] = lambda done, size: None,
        **arguments: Any,
    ) -> Any:
        """One call to the client's process, which is stopped if it hangs.

        A download hangs only once its file, `growing`, grows no more.
        """
        assert self._process is not None
        assert self._process.stdin is not None
        limit = limit or self.limits.step
        started = last = time.monotonic()
        done, size = 0, None
        try:
            self._process.stdin.write(json.dumps({"call": name, **arguments}) + "\n")
            self._process.stdin.flush()
            while True:
                try:
                    answer = self._answers.get(timeout=TICK)
                except queue.Empty:
                    now = growing.stat().st_size if growing and growing.exists() else 0
                    if now != done:
                        done, last = now, time.monotonic()
                        on_progress(done, size)
                    if time.monotonic() - last > limit:
                        raise NetworkError(
                            f"{STEPS[name]}: no answer within {limit:g} seconds (--timeout); try again later"
                        ) from None
                    continue
                if answer is None or "size" not in answer:
                    break
                size = answer["size"]
        except BrokenPipeError:
            answer = None
        except BaseException:
            self._stop()
            raise
        took = f"{STEPS[name]}: {time.monotonic() - started:.1f} s"
        if answer is None:
            self._stop()
            raise NetworkError(f"{STEPS[name]}: Kaggle's client ended unexpectedly; try again", again=True)
        if "error" in answer:
            self._on_detail(f"{took}, {json.dumps(answer['error'])}")
            if name in ("start", "log_in"):
                self._stop()
            raise advice.translated(name, answer["error"], self._account, self.competition, self.limits.step)
        self._on_detail(f"{took}")
        return answer["result"]

    def _start(self) -> None:
        # VERBOSE makes the client print its headers, and with them the credentials.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("VERBOSE")}
        self._process = subprocess.Popen(
            [sys.executable, "-P", worker.__file__],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # Ctrl-C is ours to handle
        )
        self._answers = queue.Queue()
        self._reading = threading.Thread(target=_read, args=(self._process, self._answers), daemon=True)
        self._reading.start()

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


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None
