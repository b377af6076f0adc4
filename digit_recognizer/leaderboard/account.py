"""Who the user is at Kaggle, and the way there: all of it checked before Kaggle's client starts."""

import os
import re
import ssl
import sys
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from pydantic import TypeAdapter, ValidationError

from digit_recognizer.errors import CredentialsError, NetworkError
from digit_recognizer.files import open_plain, read_plain
from digit_recognizer.leaderboard.ledger import TAG

SETTINGS = "https://www.kaggle.com/settings"
ENDPOINTS = {"PROD": "https://api.kaggle.com", "LOCALHOST": "http://localhost"}  # of Kaggle's client
PAIR = {"KAGGLE_USERNAME": "username", "KAGGLE_KEY": "key"}  # variables, and their fields in kaggle.json
ODD = re.compile(r"[^A-Za-z0-9._~+/=-]")  # no token holds it (RFC 6750), no key and no user name either
MAX_CHARACTERS = 255  # of each; the client looks for a file of the token's name, and fails if it is longer
MAX_BYTES = 1 << 16  # of a file of credentials
SECRET_PART = 6  # characters of a secret in a row that are not told
JSON_OBJECT = TypeAdapter(dict[str, Any])


@dataclass(frozen=True)
class Account:
    """Credentials of Kaggle's: where they are, and the variables that hand them to the client."""

    source: str
    variables: Mapping[str, str]  # none for a login with Kaggle's own client, which reads and renews its file

    def redacted(self, text: str) -> str:
        """Return `text` without any part of a secret, should Kaggle or a proxy have echoed one; tags stay."""
        n = SECRET_PART
        parts = {secret[i : i + n] for secret in self._secrets() for i in range(len(secret) - n + 1)}
        starts = [i for i in range(len(text)) if text[i : i + n] in parts]
        hidden = {i + j for i in starts for j in range(n)}
        hidden -= {i for tag in TAG.finditer(text) for i in range(*tag.span())}
        return re.sub("\0+", "***", "".join("\0" if i in hidden else char for i, char in enumerate(text)))

    def _secrets(self) -> Iterator[str]:
        """Yield tokens, keys and passwords, and pairs as a header encodes them."""
        known = self.variables or _read_json(Path(self.source))
        yield from (str(value) for name, value in known.items() if "token" in name.lower())
        pairs = [(known.get("KAGGLE_USERNAME", ""), known.get("KAGGLE_KEY", ""))]
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            value = os.environ.get(name) or os.environ.get(name.upper()) or ""
            pairs += re.findall(r"^(?:\w*://)?([^:]*):(.*)@", unquote(value))
        for user, key in pairs:
            if key:
                yield from (key, b64encode(f"{user}:{key}".encode()).decode())


def check() -> Account:
    """Return the credentials that Kaggle's client would take; asks no network.

    Raises CredentialsError if there are none, or if the first that it would take cannot be any; NetworkError
    if a variable of the environment keeps the client from reaching Kaggle.
    """
    account = _find()
    environment = os.environ.get("KAGGLE_API_ENVIRONMENT") or "PROD"
    if environment not in ENDPOINTS:
        raise _unusable("KAGGLE_API_ENVIRONMENT", f"found {environment!r}, expected {' or '.join(ENDPOINTS)}")
    _check_certificates("REQUESTS_CA_BUNDLE" if os.environ.get("REQUESTS_CA_BUNDLE") else "CURL_CA_BUNDLE")
    _check_certificates("SSL_CERT_FILE")
    _check_proxy(ENDPOINTS[environment])
    return account


def _find() -> Account:
    """Return the credentials, looked for in the client's order."""
    home = Path(os.path.expanduser("~/.kaggle"))  # noqa: PTH111 (there is not always a home)
    for source, text in _tokens(home):
        if token := _checked(source, text):
            return Account(source, {"KAGGLE_API_TOKEN": token})
    pair = {name: _checked(name, os.environ.get(name, "")) for name in PAIR}
    file, stored, sources = _key_file(home), {}, [*filter(pair.get, pair)]
    if len(sources) < len(pair):
        stored, sources = _read_json(file), [*sources, str(file)]
    pair = {n: pair[n] or _checked(f"{file}: {field}", stored.get(field) or "") for n, field in PAIR.items()}
    if all(pair.values()):
        return Account(" and ".join(sources), pair)
    login = home / "credentials.json"
    if _read_json(login).get("refresh_token"):
        return Account(str(login), {})
    incomplete = ", which holds no username and key" if file.exists() else ""
    raise CredentialsError(
        "no Kaggle credentials: neither KAGGLE_API_TOKEN, ~/.kaggle/access_token, KAGGLE_USERNAME with "
        f"KAGGLE_KEY, nor {file}{incomplete}; make a token at {SETTINGS}/api"
    )


def _tokens(home: Path) -> Iterator[tuple[str, str]]:
    given = os.environ.get("KAGGLE_API_TOKEN", "")
    named = os.path.exists(given.strip())  # noqa: PTH110 (a token may be too long for a path)
    yield "KAGGLE_API_TOKEN", _read(Path(given.strip())) if named else given
    for path in (home / "access_token", home / "access_token.txt"):
        yield str(path), _read(path)


def _key_file(home: Path) -> Path:
    config = os.environ.get("XDG_CONFIG_HOME") or home.parent / ".config"
    usual = home if home.exists() or not sys.platform.startswith("linux") else Path(config) / "kaggle"
    return Path(os.environ.get("KAGGLE_CONFIG_DIR") or usual) / "kaggle.json"


def _read(path: Path) -> str:
    """Return the text of a file, "" if it is not there; raises CredentialsError if it cannot be read."""
    try:
        return read_plain(path, MAX_BYTES).decode("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
    except UnicodeDecodeError as error:
        byte = f"byte {error.start + 1} is {error.object[error.start]:#04x}"
        problem = f"{byte}, expected text in UTF-8 (PowerShell's > writes UTF-16)"
    raise _damaged(path, problem)


def _read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file, {} if it is not there; raises CredentialsError if it is damaged."""
    try:
        return JSON_OBJECT.validate_json(_read(path).strip() or "{}")
    except ValidationError as error:
        raise _damaged(
            path, f'{error.errors()[0]["msg"]}, expected {{"username": ..., "key": ...}}'
        ) from None


def _checked(where: object, value: object) -> str:
    """Return a token, key or user name without white space, line ends and byte order mark around it.

    Raises CredentialsError, which never tells the value, if it can be none of Kaggle's.
    """
    if not isinstance(value, str):
        raise _damaged(where, f"is a JSON {type(value).__name__}, expected text")
    text = value.strip().strip("\ufeff").strip()
    if len(text) > MAX_CHARACTERS:
        raise _damaged(where, f"found {len(text):,} characters, expected at most {MAX_CHARACTERS}")
    if odd := ODD.search(text):
        character = f"character {value.index(text) + odd.start() + 1} is {odd[0]!a}"
        raise _damaged(where, f"{character}, which none of Kaggle's tokens, keys and user names holds")
    return text


def _damaged(where: object, problem: str) -> CredentialsError:
    return CredentialsError(f"{where}: {problem}; make new credentials at {SETTINGS}/api")


def _check_certificates(variable: str) -> None:
    path = Path(os.environ.get(variable) or ".")
    try:
        if not path.is_dir():
            with open_plain(path):  # a FIFO would wait for a writer
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except OSError as error:
        damaged = isinstance(error, ssl.SSLError)
        problem = "holds no certificates in PEM format" if damaged else f"cannot be read ({error.strerror})"
        raise _unusable(variable, f"{path} {problem}") from None


def _check_proxy(url: str) -> None:
    """Let the libraries that the client sends with say whether they can use the proxy for `url`."""
    import requests
    import urllib3

    if not (value := requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))):
        return
    with suppress(ValueError):  # of any kind
        proxy = requests.utils.prepend_scheme_if_needed(value, "http")
        requests.adapters.HTTPAdapter().proxy_manager_for(proxy)
        address = urllib3.util.parse_url(proxy)
        rest = (address.path or "").strip("/") or address.query or address.fragment  # part of a password
        if address.host and not rest:
            return
    problem = (
        "is no address of a proxy, expected http://HOST:PORT or http://USER:PASSWORD@HOST:PORT, with %23 for "
        "#, %2F for /, %3F for ? and %40 for @ in the password; socks5:// needs PySocks (pip install PySocks)"
    )
    scheme = url.partition(":")[0]
    names = (f"{scheme}_proxy", f"{scheme}_proxy".upper(), "all_proxy", "ALL_PROXY")
    raise _unusable(next((n for n in names if os.environ.get(n) == value), "the system's proxy"), problem)


def _unusable(variable: str, problem: str) -> NetworkError:
    return NetworkError(f"{variable}: {problem}; correct or unset it", outcome_unknown=False)
