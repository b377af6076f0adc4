"""Kaggle's client in a process of its own, where it can be stopped and is not heard.

The client has no time limits, prints on stdout and exits the process. `client` therefore runs this file as a
program: each line on stdin is a call, `{"call": name, **arguments}`, and is answered by a line on stdout,
`{"result": ...}` or `{"error": {"kind": ...}}`. Only public parts of the client are used, of versions 2.0.2
to 2.2.5.
"""

import json
import os
import queue
import re
import sys
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import unquote, urlsplit

PAGES, PAGE_SIZE = 10, 100  # of submissions, newest first: more than a year's at Kaggle's daily limit
# The start of the file's SHA-256, and the attempt, in the message of each submission.
TAG = re.compile(r"\[([0-9a-f]{12})-[0-9a-f]{4}\]")
SECRET_PART = 6  # characters of a secret in a row that are not printed
MAX_BODY, MAX_REASON = 20_000, 300  # characters of an answer that are looked at, and passed on


class ClientFailure(Exception):
    """A failure that the client does not raise; `fields` are those of the error that is answered."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.fields = {"kind": kind}


def start() -> None:
    """Load the libraries that the client is made of: slow on a cold disk, but no network yet."""
    import kagglesdk  # noqa: F401


def log_in() -> None:
    """Import the client. The import logs in, but may hide why it could not: then ask again."""
    from kaggle import api
    from kaggle.api.kaggle_api_extended import AuthMethod
    from kagglesdk import get_access_token_from_env

    def method() -> Any:  # AuthMethod in older versions, its text in newer ones
        return api.config_values.get(api.CONFIG_NAME_AUTH_METHOD)

    if method() is None:
        api.authenticate()
    token, _ = get_access_token_from_env()
    if token and str(method()) != str(AuthMethod.ACCESS_TOKEN):
        # The client falls back to the key here, yet sends the refused token with every call.
        raise ClientFailure("stale token")


def submissions(competition: str, pages: int = PAGES) -> list[dict[str, Any]]:
    """Return the account's submissions."""
    from kaggle import api
    from kagglesdk.competitions.types.competition_api_service import ApiListSubmissionsRequest

    rows: list[dict[str, Any]] = []
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
            rows += [_row(row, secrets) for row in response.submissions or [] if row is not None]
            token = response.next_page_token
            if not token:
                break
    return rows


def _row(submission: Any, secrets: set[str]) -> dict[str, Any]:
    return {
        "ref": submission.ref,
        "date": submission.date.isoformat() if submission.date else None,
        "file": _redact(submission.file_name or "", secrets),
        "description": _redact(submission.description or "", secrets),
        "status": submission.status.name,
        "error": _redact(submission.error_description or "", secrets),
        "public_score": submission.public_score or None,
    }


def upload(competition: str, path: str, file_name: str) -> str:
    """Upload a file, called `file_name` at Kaggle, and return its token; it is no submission yet."""
    from kaggle import api
    from kaggle.models.kaggle_models_extended import ResumableUploadResult
    from kagglesdk.competitions.types.competition_api_service import ApiStartSubmissionUploadRequest

    status = Path(path).stat()
    request = ApiStartSubmissionUploadRequest()
    request.competition_name = competition
    request.file_name = file_name
    request.content_length = status.st_size
    request.last_modified_epoch_seconds = int(status.st_mtime)
    with api.build_kaggle_client() as client:
        response = client.competitions.competition_api_client.start_submission_upload(request)
    if not response.token or not response.create_url:
        raise ClientFailure("reply")
    result = api.upload_complete(path, response.create_url, quiet=True)
    if result != ResumableUploadResult.COMPLETE:
        failed = result == ResumableUploadResult.FAILED
        raise ClientFailure("upload refused" if failed else "upload broken off")
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
        raise ClientFailure("reply")
    return ref


def download(competition: str, path: str, on_size: Callable[[int | None], None]) -> None:
    """Download the competition's archive to `path`, continuing a partial file of the same archive."""
    from kaggle import api
    from kagglesdk.competitions.types.competition_api_service import ApiDownloadDataFilesRequest

    request = ApiDownloadDataFilesRequest()
    request.competition_name = competition
    with api.build_kaggle_client() as client:
        response = client.competitions.competition_api_client.download_data_files(request)
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise ClientFailure("page")
        size = response.headers.get("Content-Length", "")
        on_size(int(size) if size.isascii() and size.isdigit() else None)
        # Its own retries would use a signed address that may have expired; a new call gets a new one.
        # Small chunks, as a slow line's progress is seen only when one is whole.
        api.download_file(
            response, path, client.http_client(), resume=True, chunk_size=1 << 16, max_retries=0
        )


CALLS: dict[str, Callable[..., Any]] = {
    call.__name__: call for call in (start, log_in, submissions, upload, create, download)
}


def describe(error: BaseException) -> dict[str, Any]:
    """Return what failed, without addresses, headers and credentials, which may be secret."""
    if isinstance(error, ClientFailure):
        return error.fields
    if isinstance(error, SystemExit):
        return {"kind": "login"}
    if isinstance(error, ImportError):
        return {"kind": "missing", "reason": error.name or ""}
    if isinstance(error, json.JSONDecodeError):
        return {"kind": "page" if error.doc.lstrip().startswith("<") else "reply"}
    import requests
    import urllib3

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return _http_error(error.response)
    if isinstance(error, (requests.RequestException, urllib3.exceptions.HTTPError, ConnectionError)):
        return {"kind": "network", "reason": _cause(repr(error))}
    if isinstance(error, OSError):
        return {"kind": "file", "reason": _redact(f"{error.filename}: {error.strerror}", set(_secrets()))}
    # The client raises ValueError, TypeError and more if an answer is not what it expects.
    return {"kind": "reply"}


def _http_error(response: Any) -> dict[str, Any]:
    """Return the fields of a refusal. Storage, where signed addresses point, is not Kaggle's own server."""
    status, reason = response.status_code, ""
    try:
        body = response.json()
        inner = body.get("error", body)
        if status < 400:  # the client also raises if the body alone tells of an error
            status = int(body["code"])
        reason = inner.get("message") or "" if isinstance(inner, dict) else inner
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        pass  # no reason that can be read
    return {
        "kind": "http" if "/v1/" in urlsplit(response.url).path else "storage",
        "status": status,
        "reason": _redact(" ".join(str(reason)[:MAX_BODY].split()), set(_secrets()))[:MAX_REASON],
        "retry_after": response.headers.get("Retry-After", ""),
    }


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
    hidden = [False] * len(text)
    for secret in secrets:
        for start in range(len(secret) - SECRET_PART + 1):
            part = secret[start : start + SECRET_PART]
            position = text.find(part)
            while position >= 0:
                hidden[position : position + SECRET_PART] = [True] * SECRET_PART
                position = text.find(part, position + 1)
    for tag in TAG.finditer(text):
        hidden[tag.start() : tag.end()] = [False] * len(tag[0])
    groups = groupby(zip(text, hidden, strict=True), key=lambda pair: pair[1])
    return "".join("***" if secret else "".join(pair[0] for pair in pairs) for secret, pairs in groups)


def _serve(calls: "queue.Queue[str]", answers: TextIO) -> None:
    def answer(content: dict[str, Any]) -> None:
        print(json.dumps(content), file=answers, flush=True)

    while True:
        call = json.loads(calls.get())
        name = call.pop("call")
        extra = {"on_size": lambda size: answer({"size": size})} if name == "download" else {}
        try:
            answer({"result": CALLS[name](**call, **extra)})
        except (Exception, SystemExit) as error:
            answer({"error": describe(error)})


def main() -> None:
    """Answer calls until stdin ends, even while a call hangs."""
    requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):  # the client prints, and before it exits it closes stdin
        os.dup2(nowhere, standard)
    calls: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_serve, args=(calls, answers), daemon=True).start()
    for line in requests:
        calls.put(line)
    os._exit(0)


if __name__ == "__main__":
    main()
