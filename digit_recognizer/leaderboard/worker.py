"""Kaggle's client, as a script that reads calls and answers each: both in lines of JSON.

The client has no time limits, prints on stdout and exits the process. Here it can be killed and is not heard.
`client` runs this file by its path, so it imports nothing of the package. The first line that it reads holds
the variables of the credentials, each other one a call: [name, competition, argument ...]. It writes
{"step": ...} as each begins, {"size": ...} of an archive, and then {"answer": ...} or {"failure": ...}.
Only public parts of the client are used, of versions 2.0.2 to 2.2.5.
"""

import json
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

PAGE_SIZE = 100  # of submissions
FIELDS = ("ref", "date", "file_name", "description", "status", "error_description", "public_score")
MAX_TEXT = 20_000  # characters of an error that are passed on
NOBODY = {"KAGGLE_API_TOKEN": os.devnull, "KAGGLE_USERNAME": "-", "KAGGLE_KEY": "-"}


class Trouble(Exception):
    """What the client does not raise; its text is the kind of failure."""


@dataclass(frozen=True)
class Competition:
    """A competition at Kaggle, for one call: each public method but `ask` is one."""

    api: Any
    client: Any
    send: Callable[..., None]
    name: str

    def ask(self, request: str, **fields: object) -> Any:
        """Return Kaggle's answer to a request, such as "list_submissions"."""
        from kagglesdk.competitions.types import competition_api_service as types

        kind = getattr(types, f"Api{request.title().replace('_', '')}Request")
        asked = kind.from_dict({"competitionName": self.name, **fields})
        return getattr(self.client.competitions.competition_api_client, request)(asked)

    def submissions(self, pages: int) -> list[dict[str, object]]:
        """Return the account's submissions, of so many pages; what Kaggle does not tell is left out."""
        listed: list[dict[str, object]] = []
        page: dict[str, object] = {"page": 1}
        for _ in range(pages):
            response = self.ask("list_submissions", pageSize=PAGE_SIZE, **page)
            for row in filter(None, response.submissions or []):
                values = {field: getattr(row, field) for field in FIELDS}
                listed.append({field: value for field, value in values.items() if value is not None})
            if not response.next_page_token:
                break
            page = {"pageToken": response.next_page_token}
        return listed

    def upload(self, path: str, file_name: str) -> str:
        """Upload a file, called `file_name` at Kaggle, and return its token; it is no submission yet."""
        from kaggle.models.kaggle_models_extended import ResumableUploadResult

        status = Path(path).stat()
        size, modified = status.st_size, int(status.st_mtime)
        response = self.ask(
            "start_submission_upload",
            fileName=file_name,
            contentLength=size,
            lastModifiedEpochSeconds=modified,
        )
        if not response.token or not response.create_url:
            raise ValueError("no address to upload to")
        result = self.api.upload_complete(path, response.create_url, quiet=True)
        if result != ResumableUploadResult.COMPLETE:
            refused = result == ResumableUploadResult.FAILED
            raise Trouble("upload refused" if refused else "upload broken off")
        return response.token

    def create(self, token: str, message: str) -> int:
        """Make an uploaded file a submission; return its number, which alone proves that Kaggle has it."""
        ref = self.ask("create_submission", blobFileTokens=token, submissionDescription=message).ref
        if type(ref) is not int or ref <= 0:
            raise ValueError("no number")
        return ref

    def download(self, path: str) -> None:
        """Send the archive's size, then download it, continuing a partial file of the same archive."""
        response = self.ask("download_data_files")
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise Trouble("page")
        size = response.headers.get("Content-Length", "")
        self.send(size=int(size) if size.isascii() and size.isdigit() else None)
        # Its own retries would use a signed address that may have expired; a new call gets a new one.
        # Small chunks, as a slow line's progress is seen only when one is whole.
        http = self.client.http_client()
        self.api.download_file(response, path, http, resume=True, chunk_size=1 << 16, max_retries=0)


def serve(lines: Iterator[str | bytes], write: Callable[[str], None]) -> None:
    """Answer each call in `lines`, or say why it failed; log in before the first."""

    def send(**message: object) -> None:
        write(json.dumps(message, default=lambda value: getattr(value, "name", None) or value.isoformat()))

    variables, api = json.loads(next(lines)), None
    for name, competition, *arguments in map(json.loads, lines):
        try:
            api = api or _log_in(variables, send)
            send(step=name)
            with api.build_kaggle_client() as client:
                send(answer=getattr(Competition(api, client, send, competition), name)(*arguments))
        except (Exception, SystemExit) as error:  # the client raises anything; `advice` says what it means
            send(failure=_describe(error))


def _log_in(variables: dict[str, str], send: Callable[..., None]) -> Any:
    os.environ.update(NOBODY)  # the import logs in, without a limit; like this it asks no network
    from kaggle import api

    for variable in NOBODY:
        del os.environ[variable]
    os.environ.update(variables)
    send(step="log_in")
    api.authenticate()
    return api


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
    """Answer the calls on stdin; end at once when it ends, as it does with the calling process."""
    calls, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):  # the client prints, and before it exits it closes stdin
        os.dup2(nowhere, standard)
    # A kaggle.py in the user's folder, which an empty entry of PYTHONPATH names too, is not Kaggle's client.
    sys.path[:] = [path for path in sys.path if path not in ("", str(Path.cwd()))]
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(calls, lines), daemon=True).start()
    serve(iter(lines.get, b""), lambda line: print(line, file=answers, flush=True))


def _read(calls: BinaryIO, lines: "queue.SimpleQueue[bytes]") -> None:
    for line in calls:
        lines.put(line)
    os._exit(0)


if __name__ == "__main__":
    main()
