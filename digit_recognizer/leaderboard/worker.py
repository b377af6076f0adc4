"""Kaggle's client in a process of its own, where it can be stopped and is not heard.

The client has no time limits, prints on stdout and exits the process. `client` therefore starts `main` in
another process and sends it the functions of this file that are to be called, the steps. Only public parts of
the client are used, of versions 2.0.2 to 2.2.5.
"""

import json
import multiprocessing
import os
import re
import sys
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from digit_recognizer.leaderboard.messages import TAG, ArchiveSize, Failure, KaggleSubmission

if TYPE_CHECKING:
    from requests import Response

PAGES, PAGE_SIZE = 10, 100  # of submissions, newest first: more than a year's at Kaggle's daily limit
SECRET_PART = 6  # characters of a secret in a row that are not printed
MAX_BODY, MAX_REASON = 20_000, 300  # characters of an answer that are looked at, and passed on


class ClientFailure(Exception):
    """A failure that the client does not raise."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.kind)
        self.failure = failure


def start() -> None:
    """Load the libraries that the client is made of: slow on a cold disk, but no network yet."""
    import kagglesdk  # noqa: F401
    from tqdm import tqdm

    # The lock of the client's progress bars; tqdm's own is a semaphore, which a killed process leaves behind.
    tqdm.set_lock(threading.RLock())


def log_in() -> None:
    """Import the client. The import logs in, but may hide why it could not: then ask again."""
    from kaggle import api

    if api.config_values.get(api.CONFIG_NAME_AUTH_METHOD) is None:
        api.authenticate()


def submissions(competition: str, pages: int) -> list[KaggleSubmission]:
    """Return the account's submissions."""
    from kaggle import api
    from kagglesdk.competitions.types.competition_api_service import ApiListSubmissionsRequest

    listed: list[KaggleSubmission] = []
    token, secrets = "", set(_secrets())
    with api.build_kaggle_client() as client:
        for page in range(1, pages + 1):
            request = ApiListSubmissionsRequest()
            request.competition_name = competition
            request.page_size = PAGE_SIZE
            request.page_token = token
            if page == 1:
                request.page = 1
            response = client.competitions.competition_api_client.list_submissions(request)
            listed += [
                KaggleSubmission(
                    ref=row.ref,
                    date=row.date,
                    file=_redact(row.file_name or "", secrets),
                    description=_redact(row.description or "", secrets),
                    status=row.status.name,
                    error=_redact(row.error_description or "", secrets),
                    public_score=row.public_score,
                )
                for row in response.submissions or []
                if row is not None
            ]
            token = response.next_page_token
            if not token:
                break
    return listed


def upload(competition: str, path: Path, file_name: str) -> str:
    """Upload a file, called `file_name` at Kaggle, and return its token; it is no submission yet."""
    from kaggle import api
    from kaggle.models.kaggle_models_extended import ResumableUploadResult
    from kagglesdk.competitions.types.competition_api_service import ApiStartSubmissionUploadRequest

    status = path.stat()
    request = ApiStartSubmissionUploadRequest()
    request.competition_name = competition
    request.file_name = file_name
    request.content_length = status.st_size
    request.last_modified_epoch_seconds = int(status.st_mtime)
    with api.build_kaggle_client() as client:
        response = client.competitions.competition_api_client.start_submission_upload(request)
    if not response.token or not response.create_url:
        raise ClientFailure(Failure(kind="reply"))
    result = api.upload_complete(str(path), response.create_url, quiet=True)
    if result != ResumableUploadResult.COMPLETE:
        failed = result == ResumableUploadResult.FAILED
        raise ClientFailure(Failure(kind="upload refused" if failed else "upload broken off"))
    return response.token


def create(competition: str, token: str, message: str) -> int:
    """Make an uploaded file a submission and return its number, which alone proves that Kaggle has it."""
    from kaggle import api
    from kagglesdk.competitions.types.competition_api_service import ApiCreateSubmissionRequest

    request = ApiCreateSubmissionRequest()
    request.competition_name = competition
    request.blob_file_tokens = token
    request.submission_description = message
    with api.build_kaggle_client() as client:
        ref = client.competitions.competition_api_client.create_submission(request).ref
    if type(ref) is not int or ref <= 0:
        raise ClientFailure(Failure(kind="reply"))
    return ref


def download(competition: str, path: Path, send: Callable[[ArchiveSize], None]) -> None:
    """Send the archive's size, then download it to `path`, continuing a partial file of the same archive."""
    from kaggle import api
    from kagglesdk.competitions.types.competition_api_service import ApiDownloadDataFilesRequest

    request = ApiDownloadDataFilesRequest()
    request.competition_name = competition
    with api.build_kaggle_client() as client:
        response = client.competitions.competition_api_client.download_data_files(request)
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise ClientFailure(Failure(kind="page"))
        size = response.headers.get("Content-Length", "")
        send(ArchiveSize(size=int(size) if size.isascii() and size.isdigit() else None))
        # Its own retries would use a signed address that may have expired; a new call gets a new one.
        # Small chunks, as a slow line's progress is seen only when one is whole.
        api.download_file(
            response, str(path), client.http_client(), resume=True, chunk_size=1 << 16, max_retries=0
        )


def describe(error: BaseException) -> Failure:
    """Return what failed, without addresses, headers and credentials, which may be secret."""
    if isinstance(error, ClientFailure):
        return error.failure
    if isinstance(error, SystemExit):
        return Failure(kind="login")
    if isinstance(error, ImportError):
        return Failure(kind="missing", reason=error.name or "")
    if isinstance(error, json.JSONDecodeError):
        return Failure(kind="page" if error.doc.lstrip().startswith("<") else "reply")
    import requests
    import urllib3

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return _describe_refusal(error.response)
    if isinstance(error, (requests.RequestException, urllib3.exceptions.HTTPError, ConnectionError)):
        return Failure(kind="network", reason=_cause(repr(error)))
    if isinstance(error, OSError):
        return Failure(kind="file", reason=_redact(f"{error.filename}: {error.strerror}", set(_secrets())))
    # The client, and our record of a submission, raise ValueError and more if an answer is not as expected.
    return Failure(kind="reply")


def _describe_refusal(response: "Response") -> Failure:
    """Return why a server refused. Storage, where signed addresses point, is not Kaggle's own server."""
    status, reason = response.status_code, ""
    with suppress(ValueError, TypeError, LookupError, AttributeError, RecursionError):  # no readable reason
        body = response.json()
        inner = body.get("error", body)
        if status < 400:  # the client also raises if the body alone tells of an error
            status = int(body["code"])
        reason = str(inner.get("message") or "" if isinstance(inner, dict) else inner)
    return Failure(
        kind="http" if "/v1/" in urlsplit(response.url).path else "storage",
        status=status,
        reason=_redact(" ".join(reason[:MAX_BODY].split()), set(_secrets()))[:MAX_REASON],
        retry_after=response.headers.get("Retry-After", ""),
    )


def _cause(error: str) -> str:
    broken = "the connection broke off"
    causes = {
        "RemoteDisconnected": broken,  # before ProxyError: a proxy that is there broke it off
        "ConnectionReset": broken,
        "NameResolution": "the name of the server cannot be resolved",
        "ProxyError": "the proxy cannot be reached",
        "SSLError": "the server's certificate is not accepted",
        "refused": "the connection was refused",
        "timed out": "the server does not answer",
    }
    return next((cause for mark, cause in causes.items() if mark in error), broken)


def _secrets() -> Iterator[str]:
    """Yield what must not be printed: tokens, keys, passwords, and the pairs as a header encodes them."""
    from kagglesdk import get_access_token_from_env

    config = getattr(getattr(sys.modules.get("kaggle"), "api", None), "config_values", {})
    yield from (get_access_token_from_env()[0] or "", config.get("token") or "")
    oauth = Path.home() / ".kaggle" / "credentials.json"
    with suppress(OSError, ValueError, AttributeError):  # not logged in that way
        stored = json.loads(oauth.read_text())
        yield from (str(stored.get(name) or "") for name in ("access_token", "refresh_token"))
    pairs = {
        (os.environ.get("KAGGLE_USERNAME"), os.environ.get("KAGGLE_KEY")),
        (config.get("username"), config.get("key")),
    }
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        with suppress(ValueError):  # no address at all
            proxy = urlsplit(os.environ.get(name) or os.environ.get(name.upper()) or "")
            pairs.add((unquote(proxy.username or ""), unquote(proxy.password or "")))
    for user, key in pairs:
        if key:
            yield from (key, b64encode(f"{user or ''}:{key}".encode()).decode())


def _redact(text: str, secrets: set[str]) -> str:
    """Return `text` without any part of a secret, should Kaggle or a proxy have echoed one; tags stay."""
    parts = {secret[i : i + SECRET_PART] for secret in secrets for i in range(len(secret) - SECRET_PART + 1)}
    starts = [i for i in range(len(text)) if text[i : i + SECRET_PART] in parts]
    hidden = {i + j for i in starts for j in range(SECRET_PART)}
    hidden -= {i for tag in TAG.finditer(text) for i in range(*tag.span())}
    return re.sub("\0+", "***", "".join("\0" if i in hidden else char for i, char in enumerate(text)))


def answer(
    step: Callable[..., object], arguments: tuple[object, ...], send: Callable[[object], None]
) -> None:
    """Call a step and send what it returns, or why it failed."""
    try:
        more = (send,) if step is download else ()
        send(step(*arguments, *more))
    except (Exception, SystemExit) as error:
        send(describe(error))


def main(connection: Connection, environment: dict[str, str]) -> None:
    """Answer calls until the other process ends, even while a call hangs."""
    os.environ.clear()
    os.environ.update(environment)
    # A kaggle.py in the user's folder is not Kaggle's client.
    sys.path[:] = [path for path in sys.path if path not in ("", str(Path.cwd()))]
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):  # the client prints, and before it exits it closes stdin
        os.dup2(nowhere, standard)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    while True:
        step, arguments = connection.recv()
        answer(step, arguments, connection.send)


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(0)
