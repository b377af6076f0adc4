"""One call of Kaggle's client: a script that reads a line of JSON, answers in lines of JSON, and ends.

The client has no time limits, prints on stdout and exits the process. Here it can be killed and is not heard.
`client` runs this file by its path, so it imports nothing of the package. Its input is [variables of the
credentials, name of the call, arguments ...]. Its lines are {"step": ...} as each begins, {"size": ...} of an
archive, {"answer": ...} and {"failure": ...}. Only public parts of the client are used, of versions 2.0.2
to 2.2.5.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

PAGE_SIZE = 100  # of submissions
FIELDS = ("ref", "date", "file_name", "description", "status", "error_description", "public_score")
MAX_DELAY_SECONDS = 15.0
MAX_TEXT = 20_000  # characters of an error that are passed on
NOBODY = {"KAGGLE_API_TOKEN": os.devnull, "KAGGLE_USERNAME": "-", "KAGGLE_KEY": "-"}

Send = Callable[..., None]


class Trouble(Exception):
    """What the client does not raise; its text is the kind of failure."""


def submissions(
    api: Any, client: Any, send: Send, competition: str, pages: int, seconds: float, delay: float
) -> None:
    """Answer with the account's submissions, again and again for `seconds`; the delay between doubles."""
    from kagglesdk.competitions.types.competition_api_service import ApiListSubmissionsRequest

    deadline = time.monotonic() + seconds
    while True:
        listed: list[dict[str, object]] = []
        fields: dict[str, object] = {"competitionName": competition, "pageSize": PAGE_SIZE, "page": 1}
        for _ in range(pages):
            request = ApiListSubmissionsRequest.from_dict(fields)
            response = client.competitions.competition_api_client.list_submissions(request)
            rows = [row for row in response.submissions or [] if row is not None]
            listed += [{field: _plain(getattr(row, field)) for field in FIELDS} for row in rows]
            if not response.next_page_token:
                break
            fields = fields | {"page": None, "pageToken": response.next_page_token}
        send(answer=listed)
        if (left := deadline - time.monotonic()) <= 0:
            return
        time.sleep(min(delay, left))
        delay = min(2 * delay, MAX_DELAY_SECONDS)
        send(step="submissions")


def _plain(value: Any) -> object:
    """Return a number or text for a date, a status, or what is not there."""
    return value.isoformat() if hasattr(value, "isoformat") else getattr(value, "name", value) or ""


def upload(api: Any, client: Any, send: Send, competition: str, path: str, file_name: str) -> None:
    """Upload a file, called `file_name` at Kaggle, and answer with its token; it is no submission yet."""
    from kaggle.models.kaggle_models_extended import ResumableUploadResult
    from kagglesdk.competitions.types.competition_api_service import ApiStartSubmissionUploadRequest

    status = Path(path).stat()
    fields = {
        "competitionName": competition, "fileName": file_name,
        "contentLength": status.st_size, "lastModifiedEpochSeconds": int(status.st_mtime),
    }  # fmt: skip
    request = ApiStartSubmissionUploadRequest.from_dict(fields)
    response = client.competitions.competition_api_client.start_submission_upload(request)
    if not response.token or not response.create_url:
        raise ValueError("no address to upload to")
    result = api.upload_complete(path, response.create_url, quiet=True)
    if result != ResumableUploadResult.COMPLETE:
        raise Trouble("upload refused" if result == ResumableUploadResult.FAILED else "upload broken off")
    send(answer=response.token)


def create(api: Any, client: Any, send: Send, competition: str, token: str, message: str) -> None:
    """Make an uploaded file a submission; answer with its number, which alone proves that Kaggle has it."""
    from kagglesdk.competitions.types.competition_api_service import ApiCreateSubmissionRequest

    fields = {"competitionName": competition, "blobFileTokens": token, "submissionDescription": message}
    request = ApiCreateSubmissionRequest.from_dict(fields)
    ref = client.competitions.competition_api_client.create_submission(request).ref
    if type(ref) is not int or ref <= 0:
        raise ValueError("no number")
    send(answer=ref)


def download(api: Any, client: Any, send: Send, competition: str, path: str) -> None:
    """Send the archive's size, then download it to `path`, continuing a partial file of the same archive."""
    from kagglesdk.competitions.types.competition_api_service import ApiDownloadDataFilesRequest

    request = ApiDownloadDataFilesRequest.from_dict({"competitionName": competition})
    response = client.competitions.competition_api_client.download_data_files(request)
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise Trouble("page")
    size = response.headers.get("Content-Length", "")
    send(size=int(size) if size.isascii() and size.isdigit() else None)
    # Its own retries would use a signed address that may have expired; a new call gets a new one.
    # Small chunks, as a slow line's progress is seen only when one is whole.
    api.download_file(response, path, client.http_client(), resume=True, chunk_size=1 << 16, max_retries=0)
    send(answer=None)


CALLS = {call.__name__: call for call in (submissions, upload, create, download)}


def answer(send: Send, variables: dict[str, str], name: str, *arguments: Any) -> None:
    """Log in and do a call; send what comes of it, or why it failed."""
    try:
        os.environ.update(NOBODY)  # the import logs in, without a limit; like this it asks no network
        from kaggle import api

        for variable in NOBODY:
            del os.environ[variable]
        os.environ.update(variables)
        send(step="log_in")
        api.authenticate()
        send(step=name)
        with api.build_kaggle_client() as client:
            CALLS[name](api, client, send, *arguments)
    except (Exception, SystemExit) as error:  # the client raises anything; `advice` says what it means
        send(failure=_describe(error))


def _describe(error: BaseException) -> dict[str, object]:
    """Return the kinds of an error, its text, which may hold secrets, and the reason that a server tells."""
    kinds, reason = [kind.__name__ for kind in type(error).__mro__], ""
    failure: dict[str, object] = {"kinds": kinds, "text": repr(error)[:MAX_TEXT]}
    response = getattr(error, "response", None)
    if response is not None:
        status = response.status_code
        with suppress(OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
            body = response.json()
            inner = body.get("error", body)
            if status < 400:  # the client also raises if the body alone tells of an error
                status = int(body["code"])
            reason = str(inner.get("message") or "" if isinstance(inner, dict) else inner)
        failure |= {"status": status, "storage": "/v1/" not in urlsplit(response.url).path}
        failure["retry_after"] = response.headers.get("Retry-After", "")
    elif isinstance(error, Trouble):
        kinds.append(str(error))
    elif isinstance(error, json.JSONDecodeError) and error.doc.lstrip().startswith("<"):
        kinds.append("page")
    elif isinstance(error, ImportError):
        reason = error.name or ""
    elif isinstance(error, OSError) and error.strerror:
        reason = f"{error.filename}: {error.strerror}"
    return failure | {"reason": " ".join(reason[:MAX_TEXT].split())}


def main() -> None:
    """Answer the call on stdin and end; end at once when stdin does, as it does with the calling process."""
    call, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):  # the client prints, and before it exits it closes stdin
        os.dup2(nowhere, standard)
    # A kaggle.py in the user's folder is not Kaggle's client.
    sys.path[:] = [path for path in sys.path if path not in ("", str(Path.cwd()))]
    arguments = json.loads(call.readline())
    threading.Thread(target=_end_with, args=(call,), daemon=True).start()
    answer(lambda **message: print(json.dumps(message), file=answers, flush=True), *arguments)
    os._exit(0)


def _end_with(call: BinaryIO) -> None:
    call.read()
    os._exit(0)


if __name__ == "__main__":
    main()
