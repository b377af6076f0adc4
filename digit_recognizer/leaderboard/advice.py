"""Kaggle's failures -> what the user can do about them."""

import re
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from digit_recognizer.errors import (
    CompetitionError,
    CredentialsError,
    KaggleError,
    NetworkError,
    QuotaError,
    RejectedError,
)
from digit_recognizer.leaderboard.account import SETTINGS, Account

CLIENT = ("kaggle", "six")  # kaggle needs six and does not declare it
COMPETITION = "digit-recognizer"
STEP_WORDS = {  # the steps of `worker`, in words
    "start": "starting Kaggle's client",
    "log_in": "logging in to Kaggle",
    "submissions": "asking Kaggle for the submissions",
    "upload": "uploading the file",
    "create": "submitting the file",
    "download": "downloading the archive",
}
BROKEN_OFF = "the connection broke off"
NO_SENSE = "Kaggle's answer makes no sense to its client; try again later"
TROUBLES = {  # by `worker`'s word
    "page": "a web page came instead of Kaggle's answer; a proxy or the network's login page stands between: "
    "look at http_proxy and https_proxy, or log in to the network",
    "upload refused": "Kaggle's storage refused it; try again later",
    "upload broken off": "Kaggle's storage did not take it; try again later",
}
CAUSES = {  # by what the error's text holds
    "RemoteDisconnected": BROKEN_OFF,  # before ProxyError: a proxy that is there broke it off
    "ConnectionReset": BROKEN_OFF,
    "NameResolution": "the name of the server cannot be resolved",
    "ProxyError": "the proxy cannot be reached",
    "SSLError": "the server's certificate is not accepted",
    "refused": "the connection was refused",
    "timed out": "the server does not answer",
}
QUOTA = re.compile(
    r"allowance|quota|(submission|daily) limit|limit of .*submissions|too many submissions|"
    r"maximum .*submissions",
    re.IGNORECASE,
)


def require_client() -> None:
    """Raise NetworkError if a library that Kaggle's client needs is not installed."""
    for module in CLIENT:
        if find_spec(module) is None:
            raise _missing(module)


def _missing(module: str) -> NetworkError:
    return NetworkError(
        f"Kaggle's client cannot start, {module} is not installed; install requirements.txt, "
        f"or: pip install {' '.join(CLIENT)}",
        outcome_unknown=False,
    )


def to_exception(
    step: str, failure: Mapping[str, Any], account: Account, competition: str, max_retry_after: float
) -> KaggleError:
    """Return the error to raise for what `worker` says of a failure.

    max_retry_after: seconds that a server may ask to wait.
    """
    kinds, words, reason = set(failure["kinds"]), STEP_WORDS[step], failure["reason"]
    if "HTTPError" in kinds and "status" in failure:
        if failure["storage"]:
            return _refused_by_storage(words, failure["status"])
        return _refused(step, failure, account, competition, max_retry_after)
    if "SystemExit" in kinds:
        return _bad_credentials(account)
    if "ImportError" in kinds:
        return _missing(reason)
    if kind := next(filter(TROUBLES.get, failure["kinds"]), None):
        return NetworkError(f"{words}: {TROUBLES[kind]}", retryable=kind == "upload broken off")
    if "JSONDecodeError" not in kinds and kinds & {"RequestException", "HTTPError", "ConnectionError"}:
        cause = next((cause for mark, cause in CAUSES.items() if mark in failure["text"]), BROKEN_OFF)
        advice = "check the network, and the proxy if there is one"
        return NetworkError(f"{words}: {cause}; {advice}", retryable=True)
    if "OSError" in kinds and reason:
        return NetworkError(f"{words}: {reason}", outcome_unknown=False)
    # The client raises ValueError and more if an answer is not as expected.
    return NetworkError(f"{words}: {NO_SENSE}")


def _refused_by_storage(words: str, status: int) -> KaggleError:
    if status == 404:
        return NetworkError(f"{words}: Kaggle does not find it in its storage")
    refused = f"refused it ({status})" if status < 500 else f"failed ({status})"
    # The next try gets another signed address; this one may have expired.
    return NetworkError(f"{words}: Kaggle's storage {refused}; try again later", retryable=True)


def _refused(
    step: str, failure: Mapping[str, Any], account: Account, competition: str, max_retry_after: float
) -> KaggleError:
    """Return the error for an answer of Kaggle's with a status of 400 or more."""
    words, status, reason = STEP_WORDS[step], failure["status"], failure["reason"]
    quote = f"Kaggle says: {reason}" if reason else f"Kaggle answered {status} without a reason"
    if status == 401:
        return _bad_credentials(account)
    if status in (400, 403, 429) and QUOTA.search(reason):
        tells_when = re.search(r"reset|tomorrow|hour|midnight", reason, re.IGNORECASE)
        reset = "" if tells_when else "; the limit resets at midnight UTC"
        return QuotaError(f"the day's submissions are used up{reset}. {quote}")
    if status == 403:
        return _forbidden(reason, quote, competition)
    if status == 404:
        if competition == COMPETITION:
            return NetworkError(f"{words}: Kaggle does not find it. {quote}")
        return CompetitionError(f"--competition {competition}: Kaggle finds no such competition. {quote}")
    if status == 429:
        seconds = float(failure["retry_after"]) if re.fullmatch("[0-9]{1,7}", failure["retry_after"]) else 0
        when = f"in {seconds:g} seconds" if seconds else "later"
        return NetworkError(
            f"{words}: too many requests (429); try again {when}",
            retryable=seconds <= max_retry_after,
            outcome_unknown=False,
            retry_after=seconds,
        )
    if status == 407:
        return NetworkError(
            f"{words}: the proxy wants a name and a password (407); give them in http_proxy and https_proxy",
            outcome_unknown=False,
        )
    if status == 408 or status >= 500:
        return NetworkError(f"{words}: Kaggle's server failed ({status}); try again later", retryable=True)
    if step in ("upload", "create"):
        return RejectedError(f"Kaggle does not take the submission ({status}). {quote}")
    return NetworkError(f"{words}: Kaggle refused ({status}). {quote}")


def _forbidden(reason: str, quote: str, competition: str) -> CredentialsError:
    rules = f"https://www.kaggle.com/competitions/{competition}/rules"
    if re.search(r"phone|verif", reason, re.IGNORECASE):
        return CredentialsError(f"verify your phone number at {SETTINGS}/phone first. {quote}")
    if re.search(r"\brules?\b", reason, re.IGNORECASE):
        return CredentialsError(f"accept the competition's rules at {rules} first. {quote}")
    return CredentialsError(
        f"the account may not do that in {competition}: is the name right, are the rules accepted at "
        f"{rules}, is the phone number verified at {SETTINGS}/phone? {quote}"
    )


def _bad_credentials(account: Account) -> CredentialsError:
    unset = (
        "; it takes precedence over any key, so unset it or" if account.source == "KAGGLE_API_TOKEN" else ";"
    )
    return CredentialsError(
        f"Kaggle does not accept the credentials of {account.source}, they are wrong or expired{unset} "
        f"make new ones at {SETTINGS}/api"
    )
