"""Kaggle's client in a process of its own, where it can be stopped and is not heard.

The client has no time limits, prints on stdout and exits the process. `kaggle_api` therefore runs this file
as a program: each line on stdin is a call, `{"call": name, **arguments}`, and is answered by a line on
stdout, `{"result": ...}` or `{"error": {"kind": ...}}`. Only public parts of the client are used.
"""

import json
import os
import queue
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

PAGES, PAGE_SIZE = 10, 100  # of submissions, newest first: more than a year's at Kaggle's daily limit


class Failed(Exception):
    """A failure that the client does not raise, as the fields of the error that is answered."""

    def __init__(self, kind: str, **fields: Any) -> None:
        super().__init__(kind)
        self.fields = {"kind": kind, **fields}


def start() -> None:
    """Load the libraries that the client is made of: slow on a cold disk, but no network yet."""
    import kagglesdk  # noqa: F401


def log_in() -> None:
    """Import the client. The import logs in, but hides why it could not: then ask again."""
    from kaggle import api
    from kaggle.api.kaggle_api_extended import AuthMethod
    from kagglesdk import get_access_token_from_env

    def method() -> str | None:
        return api.config_values.get(api.CONFIG_NAME_AUTH_METHOD)

    if method() is None:
        api.authenticate()
    token, _ = get_access_token_from_env()
    if token and method() != str(AuthMethod.ACCESS_TOKEN):
        # The client falls back to the key here, yet sends the refused token with every call.
        raise Failed("stale token")


def submissions(competition: str, pages: int = PAGES) -> list[dict[str, Any]]:
    """The account's submissions, newest first."""
    from kaggle import api
    from kagglesdk.competitions.types.competition_api_service import ApiListSubmissionsRequest

    found: list[dict[str, Any]] = []
    token = ""
    with api.build_kaggle_client() as client:
        for page in range(1, pages + 1):
            request = ApiListSubmissionsRequest()
            request.competition_name = competition
            request.page_size = PAGE_SIZE
            request.page_token = token
            if page == 1:
                request.page = 1
            response = client.competitions.competition_api_client.list_submissions(request)
            found += [
                {
                    "ref": one.ref,
                    "date": f"{one.date.isoformat(timespec='seconds')}+00:00" if one.date else None,
                    "file": one.file_name or "",
                    "description": one.description or "",
                    "status": one.status.name,
                    "error": one.error_description or "",
                    "public_score": one.public_score or None,
                }
                for one in response.submissions or []
                if one is not None
            ]
            token = response.next_page_token
            if not token:
                break
    return found


def upload(competition: str, path: str) -> str:
    """Upload a file and return the token that stands for it; it is no submission yet."""
    from kaggle import api
    from kaggle.models.kaggle_models_extended import ResumableUploadResult
    from kagglesdk.competitions.types.competition_api_service import ApiStartSubmissionUploadRequest

    file = Path(path)
    request = ApiStartSubmissionUploadRequest()
    request.competition_name = competition
    request.file_name = file.name
    request.content_length = file.stat().st_size
    request.last_modified_epoch_seconds = int(file.stat().st_mtime)
    with api.build_kaggle_client() as client:
        response = client.competitions.competition_api_client.start_submission_upload(request)
    result = api.upload_complete(path, response.create_url, quiet=True)
    if result != ResumableUploadResult.COMPLETE:
        raise Failed("upload refused" if result == ResumableUploadResult.FAILED else "upload broken off")
    return response.token


def create(competition: str, token: str, message: str) -> int:
    """Make an uploaded file a submission and return its number."""
    from kaggle import api
    from kagglesdk.competitions.types.competition_api_service import ApiCreateSubmissionRequest

    request = ApiCreateSubmissionRequest()
    request.competition_name = competition
    request.blob_file_tokens = token
    request.submission_description = message
    with api.build_kaggle_client() as client:
        return client.competitions.competition_api_client.create_submission(request).ref


def download(competition: str, path: str, on_size: Callable[[int | None], None]) -> None:
    """Download the competition's archive to `path`, going on with what is there of the same archive."""
    from kaggle import api
    from kagglesdk.competitions.types.competition_api_service import ApiDownloadDataFilesRequest

    request = ApiDownloadDataFilesRequest()
    request.competition_name = competition
    with api.build_kaggle_client() as client:
        response = client.competitions.competition_api_client.download_data_files(request)
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise Failed("page")
        size = response.headers.get("Content-Length", "")
        on_size(int(size) if size.isdigit() else None)
        # Its own retries would go on with a signed address that may have run out; a new call gets a new one.
        # Small chunks, as a slow line's progress is seen only when one is whole.
        api.download_file(
            response, path, client.http_client(), resume=True, chunk_size=1 << 16, max_retries=0
        )


CALLS: dict[str, Callable[..., Any]] = {
    one.__name__: one for one in (start, log_in, submissions, upload, create, download)
}


def describe(error: BaseException) -> dict[str, Any]:
    """What went wrong, without addresses, headers and credentials: those may be secret."""
    if isinstance(error, Failed):
        return error.fields
    if isinstance(error, SystemExit):
        return {"kind": "login"}
    if isinstance(error, ImportError):
        return {"kind": "missing", "name": error.name or ""}
    if isinstance(error, json.JSONDecodeError):
        return {"kind": "page" if error.doc.lstrip().startswith("<") else "reply"}
    import requests
    import urllib3

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return {
            "kind": "http",
            "status": error.response.status_code,
            "words": _words(error.response),
            "retry_after": error.response.headers.get("Retry-After", ""),
        }
    if isinstance(error, (requests.RequestException, urllib3.exceptions.HTTPError, ConnectionError)):
        return {"kind": "network", "words": _cause(repr(error))}
    if isinstance(error, OSError):
        return {"kind": "file", "words": f"{error.filename}: {error.strerror}"}
    # The client raises ValueError, TypeError and more where an answer is not what it expects.
    return {"kind": "reply"}


def _words(response: Any) -> str:
    """The reason in the body of Kaggle's refusal, on one line; empty if it has none."""
    try:
        body = response.json()
        inner = body.get("error", body)
        words = inner.get("message", "") if isinstance(inner, dict) else inner
    except (ValueError, AttributeError):
        return ""
    return " ".join(str(words or "").split())[:300]


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
    return next((words for mark, words in causes.items() if mark in error), broken)


def _redacted(text: str) -> str:
    """`text` without the account's secrets, should Kaggle or a proxy have echoed one."""
    values = [os.environ.get("KAGGLE_API_TOKEN"), os.environ.get("KAGGLE_KEY")]
    if "kaggle" in sys.modules:
        config = getattr(getattr(sys.modules["kaggle"], "api", None), "config_values", {})
        values += [config.get("key"), config.get("token")]
    for value in values:
        if value and len(value) >= 6:
            text = text.replace(json.dumps(value)[1:-1], "***")
    return text


def _serve(calls: "queue.Queue[str]", answers: TextIO) -> None:
    def answer(content: dict[str, Any]) -> None:
        text = json.dumps(content)
        print(_redacted(text) if "error" in content else text, file=answers, flush=True)

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
    asked, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):  # the client prints, and where it exits it closes stdin first
        os.dup2(nowhere, standard)
    calls: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_serve, args=(calls, answers), daemon=True).start()
    for line in asked:
        calls.put(line)
    os._exit(0)


if __name__ == "__main__":
    main()
