"""Kaggle's failures -> what the user can do about them."""

import re
from collections.abc import Mapping
from typing import Any

from digit_recognizer import errors
from digit_recognizer.errors import CredentialsError, KaggleError, NetworkError
from digit_recognizer.leaderboard import COMPETITION
from digit_recognizer.leaderboard.account import SETTINGS, Account

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
    "": BROKEN_OFF,
}
QUOTA = re.compile(
    r"allowance|quota|(submission|daily) limit|limit of .*submissions|too many submissions|"
    r"maximum .*submissions",
    re.IGNORECASE,
)


def to_exception(step: str, failure: Mapping[str, Any], account: Account, competition: str) -> KaggleError:
    """Return the error to raise for what `worker` says of a failure."""
    kinds, words, reason = failure["kinds"], STEP_WORDS[step], failure["reason"]
    if "HTTPError" in kinds and "status" in failure:
        return _refused(step, failure, account, competition)
    if "SystemExit" in kinds:
        return _bad_credentials(account)
    if "ImportError" in kinds:
        return NetworkError(
            f"Kaggle's client cannot start, {reason} is not installed; install requirements.txt, "
            "or: pip install kaggle six",  # which kaggle needs and does not declare
            outcome_unknown=False,
        )
    for kind, trouble in TROUBLES.items():
        if kind in kinds:
            return NetworkError(f"{words}: {trouble}", retryable=kind == "upload broken off")
    if "JSONDecodeError" not in kinds and {"RequestException", "HTTPError", "ConnectionError"} & set(kinds):
        cause = next(cause for mark, cause in CAUSES.items() if mark in failure["text"])
        advice = "check the network, and the proxy if there is one"
        return NetworkError(f"{words}: {cause}; {advice}", retryable=True)
    if "OSError" in kinds and reason:
        return NetworkError(f"{words}: {reason}", outcome_unknown=False)
    # The client raises ValueError and more if an answer is not as expected.
    return NetworkError(f"{words}: {NO_SENSE}")


def _refused(step: str, failure: Mapping[str, Any], account: Account, competition: str) -> KaggleError:
    """Return the error for an answer with a status of 400 or more."""
    words, status, reason = STEP_WORDS[step], failure["status"], failure["reason"]
    quote = f"Kaggle says: {reason}" if reason else f"Kaggle answered {status} without a reason"
    if failure["storage"]:  # the next try gets another signed address; this one may have expired
        no = " does not find it in its storage" if status == 404 else f"'s storage refused it ({status})"
        return NetworkError(f"{words}: Kaggle{no}; try again later", retryable=status != 404)
    if status == 401:
        return _bad_credentials(account)
    if status in (400, 403, 429) and QUOTA.search(reason):
        tells_when = re.search(r"reset|tomorrow|hour|midnight", reason, re.IGNORECASE)
        reset = "" if tells_when else "; the limit resets at midnight UTC"
        return errors.QuotaError(f"the day's submissions are used up{reset}. {quote}")
    if status == 403:
        return _forbidden(reason, quote, competition)
    if status == 404:
        if competition != COMPETITION:
            return errors.CompetitionError(
                f"--competition {competition}: Kaggle finds no such competition. {quote}"
            )
        return NetworkError(f"{words}: Kaggle does not find it. {quote}")
    if status == 429:
        seconds = float(failure["retry_after"]) if re.fullmatch("[0-9]{1,7}", failure["retry_after"]) else 0
        problem = f"too many requests (429); try again {f'in {seconds:g} seconds' if seconds else 'later'}"
        return NetworkError(f"{words}: {problem}", retryable=True, outcome_unknown=False, retry_after=seconds)
    if status == 407:
        problem = "the proxy wants a name and a password (407); give them in http_proxy and https_proxy"
        return NetworkError(f"{words}: {problem}", outcome_unknown=False)
    if status == 408 or status >= 500:
        return NetworkError(f"{words}: Kaggle's server failed ({status}); try again later", retryable=True)
    if step in ("upload", "create"):
        return errors.RejectedError(f"Kaggle does not take the submission ({status}). {quote}")
    return NetworkError(f"{words}: Kaggle refused ({status}). {quote}")


def _forbidden(reason: str, quote: str, competition: str) -> CredentialsError:
    rules = f"https://www.kaggle.com/competitions/{competition}/rules"
    first = (
        f"the account may not do that in {competition}: is the name right, are the rules accepted at "
        f"{rules}, is the phone number verified at {SETTINGS}/phone?"
    )
    if re.search(r"phone|verif", reason, re.IGNORECASE):
        first = f"verify your phone number at {SETTINGS}/phone first."
    elif re.search(r"\brules?\b", reason, re.IGNORECASE):
        first = f"accept the competition's rules at {rules} first."
    return CredentialsError(f"{first} {quote}")


def _bad_credentials(account: Account) -> CredentialsError:
    token = account.source == "KAGGLE_API_TOKEN"
    unset = " it takes precedence over any key, so unset it or" if token else ""
    return CredentialsError(
        f"Kaggle does not accept the credentials of {account.source}, they are wrong or expired;{unset} "
        f"make new ones at {SETTINGS}/api"
    )
