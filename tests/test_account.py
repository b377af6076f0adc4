"""Who the user is at Kaggle and the way there, by the real client, against a Kaggle on loopback."""

import json
import os
from pathlib import Path

import certifi
import pytest
from stub_kaggle import KEY, TOKEN, USER, Fault, User, hang, page, refusing, reset

NO_PAIR = {"KAGGLE_USERNAME": None, "KAGGLE_KEY": None}
PAIR = {"username": USER, "key": KEY}
NEW = "; make new credentials at https://www.kaggle.com/settings/api"


def put(user: User, name: str, content: str | bytes | dict[str, object]) -> Path:
    """Write a file into the user's home."""
    path = user.home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(content, bytes):
        content = (content if isinstance(content, str) else json.dumps(content)).encode()
    path.write_bytes(content)
    return path


def refused(user: User, code: int, message: str, **environment: str | None) -> str:
    """Let a command be refused, in one line and before anything is sent; return the line."""
    line = user.run("submissions", **environment).refusal(code)
    assert line.startswith(f"Error: {message}")
    assert user.kaggle.seen == []
    return line


@pytest.mark.parametrize(
    ("place", "content", "variable"),
    [
        *(("", value, "") for value in (f"{TOKEN}\r\n", f"\ufeff{TOKEN}\n\n", f" {TOKEN}\xa0")),
        ("token file", f"\ufeff{TOKEN}\r\n", "KAGGLE_API_TOKEN"),
        (".kaggle/access_token", f"\ufeff{TOKEN}\r\n", ""),
        (".kaggle/access_token.txt", f"{TOKEN} \n", ""),
        (".kaggle/kaggle.json", "\ufeff" + json.dumps(PAIR), ""),
        (".kaggle/kaggle.json", {"username": f"{USER}\n", "key": f" {KEY}\r\n", "proxy": 1}, ""),
        (".config/kaggle/kaggle.json", PAIR, ""),
        ("xdg/kaggle/kaggle.json", PAIR, "XDG_CONFIG_HOME"),
        ("xdg/kaggle.json", PAIR, "KAGGLE_CONFIG_DIR"),
    ],
)
def test_credentials_are_found_in_each_place_and_what_stands_around_them_is_left_out(
    user: User, place: str, content: str | dict[str, object], variable: str
) -> None:
    """Without a place, in the environment; `variable` names a folder, or the file."""
    environment = {"KAGGLE_API_TOKEN": content}
    if place:
        path = put(user, place, content)
        environment = {variable: str(user.home / "xdg" if "xdg" in place else path)} if variable else {}
    result = user.run("submissions", **NO_PAIR, **environment)
    assert result.code == 0, result.err
    assert user.kaggle.seen == (["list"] if place.endswith("json") else ["log in", "list"])


def test_a_variable_replaces_the_field_of_kaggle_json(user: User) -> None:
    """As in Kaggle's client."""
    put(user, ".kaggle/kaggle.json", PAIR | {"username": "somebody-else"})
    assert user.run("submissions", KAGGLE_USERNAME=USER, KAGGLE_KEY=None).code == 0
    result = user.run("submissions", KAGGLE_USERNAME="nobody", KAGGLE_KEY=None)
    assert result.code == 4
    assert f"the credentials of KAGGLE_USERNAME and {user.home}/.kaggle/kaggle.json, they are" in result.err


ODD = {
    "a line end": (f"{TOKEN[:9]}\r\n{TOKEN[9:]}", r"character 10 is '\r', which none of Kaggle's"),
    "a zero-width space": (f"{TOKEN}\u200b", rf"character {len(TOKEN) + 1} is '\u200b', which none of"),
    "quotes": (f'"{TOKEN}"', "character 1 is '\"', which none of Kaggle's"),
    "Bearer": (f"Bearer {TOKEN}", "character 7 is ' ', which none of Kaggle's"),
    "no ASCII": (f" {TOKEN[:4]}é", r"character 6 is '\xe9', which none of Kaggle's"),
    "no UTF-8": (TOKEN + "\udcff", rf"character {len(TOKEN) + 1} is '\udcff', which none of Kaggle's"),
    "kaggle.json": (json.dumps(PAIR), "character 1 is '{', which none of Kaggle's"),
    "300 characters": (TOKEN * 15, "found 315 characters, expected at most 255; "),
}


@pytest.mark.parametrize("case", ODD)
@pytest.mark.parametrize("place", ["KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY"])
def test_credentials_that_can_be_none_of_kaggles_are_refused_with_the_character(
    user: User, place: str, case: str
) -> None:
    value, message = ODD[case]
    assert refused(user, 4, f"{place}: {message}", **{place: value}).endswith(NEW)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"{TOKEN}\n".encode("utf-16"), "byte 1 is 0xff, expected text in UTF-8 (PowerShell's > writes UTF-"),
        (f"{TOKEN}\n".encode("utf-16-le"), r"character 2 is '\x00', which none of"),
        (f"{TOKEN}\xff".encode("latin-1"), f"byte {len(TOKEN) + 1} is 0xff, expected text in UTF-8"),
        (b"x" * 70_000, "cannot be read (is larger than 65,536 bytes)"),
        (os.mkfifo, "cannot be read (is no plain file)"),
    ],
    ids=["UTF-16", "UTF-16 without a mark", "no UTF-8", "huge", "a FIFO"],
)
@pytest.mark.parametrize("name", ["access_token", "kaggle.json", "credentials.json"])
def test_a_file_that_cannot_be_read_is_named(user: User, name: str, content: object, message: str) -> None:
    path = put(user, f".kaggle/{name}", content if isinstance(content, bytes) else b"")
    if content is os.mkfifo:
        path.unlink()
        os.mkfifo(path)
    if name != "access_token" and "character" in message:
        message = "Invalid JSON: expected value at line 1 column "
    refused(user, 4, f"{path}: {message}", **NO_PAIR)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"username": "ada", "key"', "Invalid JSON: EOF while parsing an object at line 1 column 25, ex"),
        ("[" * 10_000, "Invalid JSON: recursion limit exceeded at line 1 column 202, expected {"),
        (json.dumps([PAIR]), 'Input should be an object, expected {"username": ..., "key": ...}; make new'),
        (json.dumps(TOKEN), "Input should be an object, expected {"),
        (PAIR | {"key": 123}, "key: is a JSON int, expected text"),
        (PAIR | {"username": ["ada"]}, "username: is a JSON list, expected text"),
        (PAIR | {"username": "ada\u0142"}, r"username: character 4 is '\u0142', which none of"),
    ],
)
def test_a_damaged_kaggle_json_is_named_with_the_field(
    user: User, content: str | dict[str, object], message: str
) -> None:
    path = put(user, ".kaggle/kaggle.json", content)
    refused(user, 4, f"{path}: {message}", **NO_PAIR)
    assert user.run("submissions").code == 0  # nobody looks into it when the variables tell both


@pytest.mark.parametrize("incomplete", [None, "", "{}", '{"username": "ada", "key": null}'])
def test_no_credentials(user: User, incomplete: str | None) -> None:
    place = f"{user.home}/.config/kaggle/kaggle.json"
    if incomplete is not None:
        put(user, place, incomplete)
        place += ", which holds no username and key"
    places = "neither KAGGLE_API_TOKEN, ~/.kaggle/access_token, KAGGLE_USERNAME with KAGGLE_KEY, nor"
    message = f"no Kaggle credentials: {places} {place}; make a token at https://www.kaggle.com/settings/api"
    refused(user, 4, message, KAGGLE_API_TOKEN=" \n", KAGGLE_KEY=None)
    ended = user.run("download", KAGGLE_API_TOKEN=None, **NO_PAIR)
    said = f"Error: {message.rstrip()}. Without a Kaggle account, --source openml fetches MNIST instead.\n"
    assert (ended.code, ended.err) == (4, said)


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        (
            {"KAGGLE_KEY": "fedcba98-not-the-key"},
            "KAGGLE_USERNAME and KAGGLE_KEY, they are wrong or expired;",
        ),
        (
            {"KAGGLE_API_TOKEN": "KGAT_stale-token"},  # though there is a good key beside it
            "KAGGLE_API_TOKEN, they are wrong or expired; it takes precedence over any key, so unset it or",
        ),
    ],
)
def test_wrong_credentials(user: User, variables: dict[str, str], named: str) -> None:
    result = user.run("submissions", "--verbose", **variables)
    told = f"the credentials of {named} make new ones at https://www.kaggle.com/settings/api"
    assert (result.code, result.last_line) == (4, f"Error: Kaggle does not accept {told}")
    assert not [value for value in variables.values() if value in result.err]
    assert set(user.kaggle.seen) == ({"log in"} if "KAGGLE_API_TOKEN" in variables else {"list"})


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (reset, "the connection broke off; check the network, and the proxy if there is one"),
        (page(200), "a web page came instead of Kaggle's answer"),
        (refusing(500, ""), "Kaggle's server failed (500); try again later"),
        (hang, "no answer within 0.5 seconds (--timeout); try again later"),
    ],
)
def test_trouble_while_logging_in(user: User, fault: Fault, message: str) -> None:
    user.kaggle.always["log in"] = fault
    result = user.run("submissions", "--timeout", 0.5, KAGGLE_API_TOKEN=TOKEN)
    assert result.code == 7
    assert result.last_line.startswith(f"Error: logging in to Kaggle: {message}")
    assert set(user.kaggle.seen) == {"log in"}


# The way there.


def test_a_proxy_that_is_not_there(user: User) -> None:
    refused(user, 7, "", http_proxy="socks5://127.0.0.1:9")
    result = user.run("submissions", http_proxy="http://127.0.0.1:9")
    assert result.code == 7
    told = "Error: asking Kaggle for the submissions: the proxy cannot be reached"
    assert result.last_line.startswith(told)


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "cannot be read (No such file or directory)"),
        (os.mkfifo, "cannot be read (is no plain file)"),
        (lambda path: path.write_text("-----BEGIN CERT"), "holds no certificates in PEM format"),
    ],
)
def test_certificates_that_cannot_be_used_are_named(
    user: User, variable: str, make: object, message: str
) -> None:
    path = user.home / "ca.pem"
    make(path)
    refused(user, 7, f"{variable}: {path} {message}; correct or unset it", **{variable: str(path)})


def test_certificates_that_can_be_used(user: User) -> None:
    bundle, nowhere = certifi.where(), str(user.home / "nowhere")
    assert user.run("submissions", REQUESTS_CA_BUNDLE=bundle, CURL_CA_BUNDLE=nowhere).code == 0
    assert user.run("submissions", CURL_CA_BUNDLE=str(user.home), SSL_CERT_FILE=bundle).code == 0


NO_PROXY = [
    "socks5://localhost:1080",
    "ftp://localhost:3128",
    "http://me:hunt#er22@localhost:3128",
    "http://me:22#hunter@localhost:3128",  # which is port 22 of the host "me" for the library
    "http://me:hunt/er22@localhost:3128",
    "http://me:22?hunter@localhost:3128",
    "http://me:hunter\u20ac@localhost:3128",
    "me:hunter22@localhost:3128",
    "localhost:3128",  # the library takes this for a scheme
    "http://localhost:port",
    "http://localhost:99999",
    "http://:3128",
    "http://local host:3128",
    "http://localhost:3128\r",
    "http//localhost:3128",
]


@pytest.mark.parametrize("value", NO_PROXY)
def test_a_proxy_that_cannot_be_used_is_named_and_not_told(user: User, value: str) -> None:
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        environment = {"http_proxy": None, "https_proxy": None, variable: value}
        message = f"{variable}: is no address of a proxy, expected http://HOST:PORT or http://USER:PASSWORD@"
        line = refused(user, 7, message, **environment)
        assert line.endswith("; socks5:// needs PySocks (pip install PySocks); correct or unset it")
        assert "hunt" not in line


def test_the_proxy_is_the_one_that_the_client_uses(user: User) -> None:
    """Kaggle is https but for tests; a proxy for all is for what has none of its own."""
    socks, here = "socks5://localhost:1080", user.environment["http_proxy"]
    refused(user, 7, "https_proxy: ", KAGGLE_API_ENVIRONMENT=None, http_proxy=None, https_proxy=socks)
    assert user.run("submissions", all_proxy=socks, https_proxy=socks).code == 0
    assert user.run("submissions", http_proxy=here.removeprefix("http://") + "/").code == 0


@pytest.mark.parametrize("value", ["localhost", "STAGING", "https://www.kaggle.com"])
def test_an_odd_environment_of_kaggles_is_named(user: User, value: str) -> None:
    """The client would take it for production."""
    message = f"KAGGLE_API_ENVIRONMENT: found {value!r}, expected PROD or LOCALHOST; correct or unset it"
    refused(user, 7, message, KAGGLE_API_ENVIRONMENT=value)
