"""Kaggle on loopback, for the real client: it keeps its submissions, and misbehaves as a test orders.

The client comes here by its environment alone. http_proxy makes this server its proxy, so that every host is
this one; https_proxy too, so that an attempt to leave the machine arrives as a CONNECT, and fails the test.
Most tests call the program in their own process, the real client included; a process of its own is started
for what only a process shows: signals, kills, and several submits at once.
"""

import json
import os
import queue
import secrets
import socket
import struct
import sys
import threading
import time
from base64 import b64encode
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import pytest
from conftest import DEADLINE, ROOT, Result, start_program, typed
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from digit_recognizer.leaderboard import account, client, worker

USER, KEY, TOKEN = "ada", "0123456789abcdef0123456789abcdef", "KGAT_fedcba9876543210"
SIGNATURE = "X-Goog-Signature-5ec2e7"
SECRETS = (KEY, TOKEN, SIGNATURE, b64encode(f"{USER}:{KEY}".encode()).decode())
PAGE = "<!DOCTYPE html><html><body>Sign in to the network</body></html>"
STEPS = {
    "IntrospectToken": "log in", "ListSubmissions": "list", "StartSubmissionUpload": "start",
    "CreateSubmission": "create", "DownloadDataFiles": "find archive",
}  # fmt: skip

Answer = Callable[[], Response]
Fault = Callable[["Kaggle", Request, Answer], Response]


@dataclass
class Kaggle:
    """What the server knows, and how it answers next."""

    archive: bytes = b""
    verdict: dict[str, Any] = field(default_factory=lambda: {"status": "COMPLETE", "publicScore": "0.99142"})
    pending: int = 1  # how often a submission is listed before its verdict
    submissions: list[dict[str, Any]] = field(default_factory=list)
    uploads: dict[str, bytes] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    ranges: list[str | None] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)  # of the uploaded files
    faults: dict[str, list[Fault]] = field(default_factory=lambda: defaultdict(list))
    always: dict[str, Fault] = field(default_factory=dict)
    listed_after: float = 0  # a time, until which the list lags behind: it is empty
    reached: threading.Event = field(default_factory=threading.Event)  # set by a hang
    lock: threading.Lock = field(default_factory=threading.Lock)
    over: threading.Event = field(default_factory=threading.Event)

    def answer(self, request: Request) -> Response:
        """The answer to one request, or the next fault that was ordered for its step."""
        host = urlsplit(f"//{request.host}").hostname
        if request.method == "CONNECT" or host not in ("localhost", "storage.test"):
            self.strays.append(f"{request.method} {request.url}")
            return Response(status=502)
        step = STEPS.get(request.path.rsplit("/", 1)[-1]) or {"PUT": "put", "GET": "archive"}[request.method]
        self.seen.append(step)

        def answer() -> Response:
            return getattr(self, "_" + step.replace(" ", "_"))(request)

        queued = self.faults[step]
        fault = queued.pop(0) if queued else self.always.get(step)
        return fault(self, request, answer) if fault else answer()

    def _refused(self, request: Request) -> Response | None:
        basic = request.authorization
        known = (basic and (basic.username, basic.password) == (USER, KEY)) or (
            request.headers.get("Authorization") == f"Bearer {TOKEN}"
        )
        if not known:
            return says(401, "Unauthenticated")
        if request.json["competitionName"] != "digit-recognizer":
            return says(403, "Permission 'competitions.participate' was denied")
        return None

    def _log_in(self, request: Request) -> Response:
        active = request.json["token"] == TOKEN
        return reply({"active": active, "username": USER if active else ""})

    def _list(self, request: Request) -> Response:
        listed = self.submissions if time.time() >= self.listed_after else []
        return self._refused(request) or reply({"submissions": [self._listed(row) for row in listed]})

    def _listed(self, submission: dict[str, Any]) -> dict[str, Any]:
        shown = {name: value for name, value in submission.items() if name != "looks"}
        submission["looks"] = submission.get("looks", 0) + 1
        return shown | (self.verdict if submission["looks"] > self.pending else {})

    def _start(self, request: Request) -> Response:
        token = f"blob-{secrets.token_hex(4)}"
        self.names.append(request.json["fileName"])
        url = f"http://storage.test/{token}?upload_id={SIGNATURE}"
        return self._refused(request) or reply({"token": token, "createUrl": url})

    def _put(self, request: Request) -> Response:
        self.uploads[request.path.strip("/")] = request.get_data()
        return Response(status=201)

    def _create(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        assert request.json["blobFileTokens"] in self.uploads
        with self.lock:
            ref = 4000 + len(self.submissions)
            self.list_submission(ref, request.json["submissionDescription"])
        return reply({"message": "Successfully submitted to Digit Recognizer", "ref": ref})

    def list_submission(self, ref: int, description: str, **fields: Any) -> None:
        """Add a submission to the list, as if it had been made from elsewhere."""
        submission = {
            "ref": ref, "date": "2026-11-21T10:00:00.123Z", "description": description, "status": "PENDING",
            "fileName": self.names[-1] if self.names else "submission.csv",
        }  # fmt: skip
        self.submissions.insert(0, submission | fields)

    def _find_archive(self, request: Request) -> Response:
        location = f"http://storage.test/bundle/archive.zip?{SIGNATURE}"
        return self._refused(request) or Response(status=302, headers={"Location": location})

    def _archive(self, request: Request) -> Response:
        self.ranges.append(request.headers.get("Range"))
        response = Response(self.archive, content_type="application/zip")
        response.set_etag("1")
        return response.make_conditional(request, accept_ranges=True, complete_length=len(self.archive))


def reply(content: object, status: int = 200) -> Response:
    return Response(json.dumps(content), status, content_type="application/json")


def says(status: int, message: str, **headers: str) -> Response:
    response = reply({"error": {"code": status, "message": message, "status": "FAILED"}}, status)
    response.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return response


# What can go wrong with a request, whatever it asks for.


def refusing(status: int, message: str, **headers: str) -> Fault:
    return lambda kaggle, request, answer: says(status, message, **headers)


def page(status: int) -> Fault:
    return lambda kaggle, request, answer: Response(PAGE, status, content_type="text/html")


def reset(kaggle: Kaggle, request: Request, answer: Answer) -> Response:
    connection: socket.socket = request.environ["werkzeug.socket"]
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.close(connection.detach())  # with that linger, a RST
    return Response()


def passing(kaggle: Kaggle, request: Request, answer: Answer) -> Response:
    return answer()


def first(act: Callable[[], object], then: Fault = passing) -> Fault:
    """Do something while the request waits for its answer."""

    def wait(kaggle: Kaggle, request: Request, answer: Answer) -> Response:
        act()
        return then(kaggle, request, answer)

    return wait


def hang(kaggle: Kaggle, request: Request, answer: Answer) -> Response:
    kaggle.reached.set()
    kaggle.over.wait(60)
    return Response(status=504)


def answering(content: object, status: int = 200) -> Fault:
    return lambda kaggle, request, answer: reply(content, status)


def accepting_then(fault: Fault) -> Fault:
    """The request is done, and its answer lost."""

    def accept(kaggle: Kaggle, request: Request, answer: Answer) -> Response:
        answer()
        return fault(kaggle, request, answer)

    return accept


def cut(share: float, fault: Fault) -> Fault:
    """The first part of the body only, and then the fault."""

    def send(kaggle: Kaggle, request: Request, answer: Answer) -> Response:
        whole = answer()
        body = whole.get_data()

        def parts() -> Iterator[bytes]:
            yield body[: int(len(body) * share)]
            time.sleep(0.1)  # to arrive
            fault(kaggle, request, answer)

        return Response(parts(), whole.status, headers=dict(whole.headers), direct_passthrough=True)

    return send


class Server(HTTPServer):
    """The server, for one test after the other: `kaggle` is what it plays at present."""

    def __init__(self) -> None:
        super().__init__(threaded=True)
        self.kaggle = Kaggle()

    def dispatch(self, request: Request) -> Response:
        return self.kaggle.answer(request)

    def environment(self, home: Path) -> dict[str, str]:
        """All that tells the client where to go and who it is; nothing of the tester's own."""
        proxy = f"http://127.0.0.1:{self.port}"
        return {
            "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(home),
            "http_proxy": proxy, "https_proxy": proxy, "no_proxy": "",
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST", "KAGGLE_USERNAME": USER, "KAGGLE_KEY": KEY,
            "DIGIT_RECOGNIZER_TIMEOUT": "20", "DIGIT_RECOGNIZER_RETRY_DELAY": "0.05",
            "DIGIT_RECOGNIZER_MAX_WAIT": "20",
        }  # fmt: skip


class ThisProcess(client.Process):
    """A thread of this process that runs `worker`: most tests need no other."""

    def __init__(self, kaggle: Kaggle, variables: object) -> None:
        self.kaggle, self.killed = kaggle, threading.Event()
        self._lines, self.calls = queue.SimpleQueue(), queue.SimpleQueue()
        here = {name: value for name, value in os.environ.items() if not name.startswith(client.HIDDEN)}
        here["KAGGLE_API_ENVIRONMENT"] = os.environ["KAGGLE_API_ENVIRONMENT"]
        self.environment = mock.patch.dict(os.environ, here, clear=True)
        self.environment.start()
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()
        self.send(variables)

    def send(self, message: object) -> None:
        self.calls.put(json.dumps(message))

    def serve(self) -> None:
        with suppress(SystemExit):
            worker.serve(iter(self.calls.get, None), self.write)
        self._lines.put(None)

    def write(self, line: str) -> None:
        if self.killed.is_set():
            sys.exit()
        self._lines.put(line.encode())

    def kill(self) -> None:
        self.killed.set()
        self.calls.put(None)
        self.kaggle.over.set()  # ends a hang
        self.thread.join()
        self.kaggle.over.clear()
        self.environment.stop()


class User:
    """Someone at a terminal, with a home, a folder to work in, and the program."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.kaggle = server.kaggle
        self.folder = folder
        self.home = folder.parent / "home"
        self.home.mkdir()
        self.environment = server.environment(self.home)

    def run(self, *arguments: object, **environment: str | None) -> Result:
        """Run a command in this process."""
        whole = {name: value for name, value in {**self.environment, **environment}.items() if value}
        with (
            mock.patch.dict(os.environ, whole, clear=True),
            mock.patch.object(client, "Process", partial(ThisProcess, self.kaggle)),
        ):
            ended = typed(*arguments, cwd=self.folder)
        return self._checked(ended)

    def start(self, *arguments: object, command: tuple[str, ...] = (), **environment: str) -> Any:
        """Start a command in a process of its own."""
        command = command or (sys.executable, "-m", "digit_recognizer")
        return start_program(*command, *arguments, cwd=self.folder, env={**self.environment, **environment})

    def run_process(self, *arguments: object, **options: Any) -> Result:
        """Run a command in a process of its own, as `start` does."""
        return self.finish(self.start(*arguments, **options))

    def finish(self, process: Any) -> Result:
        """Wait for a process that `start` started."""
        try:
            out, err = process.communicate(timeout=DEADLINE)
        finally:
            process.kill()
        return self._checked(Result(process.returncode, out, err))

    def _checked(self, result: Result) -> Result:
        """Return the result; whatever it is, it holds no secret, and nothing left the machine."""
        parts = {
            secret[start : start + account.SECRET_PART]
            for secret in SECRETS
            for start in range(len(secret) - account.SECRET_PART + 1)
        }
        assert not [part for part in parts if part in result.out + result.err]
        assert "Traceback" not in result.err, result.err
        assert not self.kaggle.strays
        written = [path for path in self.folder.rglob("*.json") if path.is_file()]
        assert not [path for path in written for secret in SECRETS if secret in path.read_text()]
        return result


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A Kaggle on loopback, for a module's tests."""
    server = Server()
    server.start()
    yield server
    server.kaggle.over.set()
    server.stop()


@pytest.fixture
def user(server: Server, tmp_path: Path) -> Iterator[User]:
    """Someone at a terminal, for whom that Kaggle is new."""
    server.kaggle = Kaggle()
    (tmp_path / "work").mkdir()
    yield User(server, tmp_path / "work")
    server.kaggle.over.set()
