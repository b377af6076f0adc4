"""Kaggle's credentials and failures -> what the user can do about them."""

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from digit_recognizer.errors import (
    CompetitionError,
    CredentialsError,
    DigitRecognizerError,
    NetworkError,
    QuotaError,
    RejectedError,
)

COMPETITION = "digit-recognizer"
SETTINGS = "https://www.kaggle.com/settings"
STEPS = {
    "start": "starting Kaggle's client",
    "log_in": "logging in to Kaggle",
    "submissions": "asking Kaggle for the submissions",
    "upload": "uploading the file",
    "create": "submitting the file",
    "download": "downloading the archive",
}
QUOTA = re.compile(
    r"allowance|quota|(submission|daily) limit|limit of .*submissions|too many submissions|"
    r"maximum .*submissions",
    re.IGNORECASE,
)


def credentials() -> str:
    """Where the credentials are that the client will take, in the order in which it looks; asks no network.

    Raises CredentialsError if there are none.
    """
    home = Path.home() / ".kaggle"
    if os.environ.get("KAGGLE_API_TOKEN"):
        return "KAGGLE_API_TOKEN"
    for token in (home / "access_token", home / "access_token.txt"):
        if _read(token):
            return str(token)
    if os.environ.get("KAGGLE_USERNAME") and os.environ.get("KAGGLE_KEY"):
        return "KAGGLE_USERNAME and KAGGLE_KEY"
    key = _key_file()
    try:
        if {"username", "key"} <= set(json.loads(_read(key) or "{}")):
            return str(key)
    except (ValueError, TypeError):
        pass  # said below
    oauth = home / "credentials.json"
    if _read(oauth):
        return str(oauth)
    there = ", which holds no username and key" if key.exists() else ""
    raise CredentialsError(
        "no Kaggle credentials: neither KAGGLE_API_TOKEN, ~/.kaggle/access_token, KAGGLE_USERNAME with "
        f"KAGGLE_KEY, nor {key}{there}; make a token at {SETTINGS}/api"
    )


def _key_file() -> Path:
    home = Path.home() / ".kaggle"
    config = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    usual = home if home.exists() or not sys.platform.startswith("linux") else Path(config) / "kaggle"
    return Path(os.environ.get("KAGGLE_CONFIG_DIR") or usual) / "kaggle.json"


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def translated(
    name: str, error: dict[str, Any], account: str, competition: str, patience: float
) -> DigitRecognizerError:
    """The failure that `kaggle_client` answered to the call `name`, as an error to raise.

    account: where the credentials are. patience: seconds that a server may ask to wait.
    """
    step = STEPS[name]
    match error:
        case {"kind": "http"}:
            return _refusal(name, error, account, competition, patience)
        case {"kind": "login" | "stale token"}:
            return _unknown(account)
        case {"kind": "missing", "name": module}:
            message = (
                f"Kaggle's client cannot start, {module} is not installed; install requirements.txt, "
                "or: pip install kaggle six"
            )
            return NetworkError(message, lost=False)
        case {"kind": "file", "words": words}:
            return NetworkError(f"{step}: {words}", lost=False)
        case {"kind": "page"}:
            return NetworkError(
                f"{step}: a web page came instead of Kaggle's answer; a proxy or the network's login page "
                "stands between: look at http_proxy and https_proxy, or log in to the network"
            )
        case {"kind": "upload refused"}:
            return NetworkError(f"{step}: Kaggle's storage refused it; try again later")
        case {"kind": "upload broken off"}:
            return NetworkError(f"{step}: Kaggle's storage did not take it; try again later", again=True)
        case {"kind": "network", "words": words}:
            return NetworkError(
                f"{step}: {words}; check the network, and the proxy if there is one", again=True
            )
    return NetworkError(f"{step}: Kaggle's answer makes no sense to its client; try again later")


def _refusal(
    name: str, error: dict[str, Any], account: str, competition: str, patience: float
) -> DigitRecognizerError:
    """An answer of Kaggle's with a status of 400 or more."""
    step, status, words = STEPS[name], error["status"], error["words"]
    said = f"Kaggle says: {words}" if words else f"Kaggle answered {status} without a reason"
    site = f"https://www.kaggle.com/competitions/{competition}"
    if status == 401:
        return _unknown(account)
    if status in (400, 403, 429) and QUOTA.search(words):
        known = re.search(r"reset|tomorrow|hour|midnight", words, re.IGNORECASE)
        back = "" if known else "; it comes back at midnight UTC"
        return QuotaError(f"the day's submissions are used up{back}. {said}")
    if status == 403:
        if re.search(r"phone|verif", words, re.IGNORECASE):
            return CredentialsError(f"verify your phone number at {SETTINGS}/phone first. {said}")
        if re.search(r"\brules?\b", words, re.IGNORECASE):
            return CredentialsError(f"accept the competition's rules at {site}/rules first. {said}")
        return CredentialsError(
            f"the account may not do that in {competition}: is the name right, are the rules accepted at "
            f"{site}/rules, is the phone number verified at {SETTINGS}/phone? {said}"
        )
    if status == 404:
        if competition == COMPETITION:
            return NetworkError(f"{step}: Kaggle does not find it. {said}")
        return CompetitionError(f"--competition {competition}: Kaggle finds no such competition. {said}")
    if status == 429:
        seconds = float(error["retry_after"]) if error["retry_after"].isdigit() else 0
        when = f"in {seconds:g} seconds" if seconds else "later"
        return NetworkError(
            f"{step}: too many requests (429); try again {when}",
            again=seconds <= patience,
            lost=False,
            pause=seconds,
        )
    if status == 407:
        return NetworkError(
            f"{step}: the proxy wants a name and a password (407); give them in http_proxy and https_proxy",
            lost=False,
        )
    if status == 408 or status >= 500:
        return NetworkError(f"{step}: Kaggle's server failed ({status}); try again later", again=True)
    if name in ("upload", "create"):
        return RejectedError(f"Kaggle does not take the submission ({status}). {said}")
    return NetworkError(f"{step}: Kaggle refused ({status}). {said}")


def _unknown(account: str) -> CredentialsError:
    first = "; it goes before any key, so unset it or" if account == "KAGGLE_API_TOKEN" else ";"
    return CredentialsError(
        f"Kaggle does not accept the credentials of {account}, they are wrong or have run out{first} "
        f"make new ones at {SETTINGS}/api"
    )
