"""`submit` and `submissions`, by the real client, against a Kaggle on loopback."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stub_kaggle
from conftest import ROOT, Ended
from stub_kaggle import SECRETS, TOKEN, Fault, Server, User, accepting_then, hang, page, refusing, reset

from digit_recognizer import data

pytestmark = pytest.mark.slow
COMPETITION = next(rows for rows, kind in data.KNOWN_FINGERPRINTS.items() if kind == "competition")
SAMPLE = next(rows for rows, kind in data.KNOWN_FINGERPRINTS.items() if kind == "sample")
QUOTA = "Your team has used its daily Submission allowance (5) today, please try again in 9.3 hours."
RULES = "You cannot submit until you accept the competition rules"
PHONE = "You must verify your phone number to submit"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with stub_kaggle.serving() as server:
        yield server


@pytest.fixture
def user(server: Server, tmp_path: Path) -> Iterator[User]:
    """Someone with a valid file.csv that no run wrote."""
    server.kaggle = stub_kaggle.Kaggle()
    folder = tmp_path / "work"
    folder.mkdir()
    write_csv(folder / "file.csv")
    yield User(server, folder)
    server.kaggle.over.set()


def write_csv(path: Path, rows: int = 28_000, label: int = 3) -> None:
    path.write_text("ImageId,Label\n" + "".join(f"{i},{label}\n" for i in range(1, rows + 1)))


def write_run(
    user: User, name: str = "mine", rows: str = COMPETITION, created: str = "2026", label: int = 4
) -> Path:
    """A run as `train` leaves it, as far as Kaggle is concerned."""
    folder = user.folder / "submissions" / name
    folder.mkdir(parents=True)
    write_csv(folder / "submission.csv", label=label)
    manifest = {
        "name": name,
        "created": created,
        "data": {"kind": "competition", "rows": {"test": 28_000}, "fingerprint": {"test": rows}},
        "scores": {"a": {"accuracy": 0.9}, "blend": {"accuracy": 0.9938, "low": 0.9913, "high": 0.9956}},
        "submitted": "blend",
        "submission_sha256": hashlib.sha256((folder / "submission.csv").read_bytes()).hexdigest(),
    }
    (folder / "run.json").write_text(json.dumps(manifest))
    return folder


def stored(run: Path) -> dict[str, Any]:
    return json.loads((run / "run.json").read_text()).get("kaggle")


def last_line(text: str) -> str:
    return text.splitlines()[-1]


def test_the_newest_run_is_submitted_and_its_score_stored(user: User) -> None:
    write_run(user, "older", created="2025")
    run = write_run(user, "newer", created="2026")
    write_run(user, "sample", rows=SAMPLE, created="2027")
    (write_run(user, "validated", created="2028") / "submission.csv").unlink()
    user.kaggle.pending = 2
    ended = user.types("submit")
    assert ended.code == 0, ended.err
    assert ended.out == (
        "Submission 4000: public score 0.99142; local 0.9938 (0.9913 to 0.9956), gap -0.0024\n"
    )
    assert list(user.kaggle.uploads.values()) == [(run / "submission.csv").read_bytes()]
    outcome = stored(run)
    assert outcome["message"].startswith("newer local 0.9938 [")
    assert outcome["message"] == user.kaggle.submissions[0]["description"]
    assert (outcome["ref"], outcome["status"], outcome["public_score"]) == (4000, "COMPLETE", 0.99142)
    assert stored(run.parent / "older") is None


def test_a_file_of_no_run_needs_only_the_format(user: User) -> None:
    ended = user.types("submit", "file.csv", "-m", "by hand")
    assert (ended.code, ended.out) == (0, "Submission 4000: public score 0.99142\n")
    assert user.kaggle.submissions[0]["description"].startswith("by hand [")


def test_no_wait_ends_when_kaggle_has_it(user: User) -> None:
    ended = user.types("submit", "file.csv", "--no-wait")
    assert (ended.code, len(user.kaggle.submissions)) == (0, 1)
    assert ended.out == "Submission 4000: accepted; `submissions` shows its score\n"


def test_a_dry_run_asks_no_network(user: User) -> None:
    write_run(user)
    ended = user.types("submit", "--dry-run")
    assert ended.code == 0
    assert ended.out.startswith("submissions/mine/submission.csv: would be submitted as 'mine local 0.9938 [")
    assert ended.out.endswith("with the credentials of KAGGLE_USERNAME and KAGGLE_KEY\n")
    assert user.kaggle.seen == []


# Refused before the upload.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.csv"], "nowhere.csv: cannot be read (No such file or directory)"),
        (["short.csv"], "short.csv: found 27999 rows, expected 28000"),
        (["of-sample"], "submissions/of-sample/submission.csv: labels the embedded sample's digits"),
        (
            ["submissions/of-sample/submission.csv"],
            "submissions/of-sample/submission.csv: labels the embedded",
        ),
        (["of-others"], "submissions/of-others/submission.csv: labels digits that are not the competition's"),
        ([], "submissions: holds no run on the competition's digits; `download` them and `train` first"),
        (["validated"], "submissions/validated: has no submission.csv; `train` and `ensemble` write one"),
        (["broken"], "submissions/broken/run.json: is not the manifest of a run"),
    ],
)
def test_what_kaggle_would_not_score_is_not_uploaded(user: User, arguments: list[str], message: str) -> None:
    write_csv(user.folder / "short.csv", rows=27_999)
    write_run(user, "of-sample", rows=SAMPLE)
    (write_run(user, "validated") / "submission.csv").unlink()
    write_run(user, "of-others", rows="0" * 64)  # its "kind" says competition; its rows decide
    if arguments == ["broken"]:
        (write_run(user, "broken") / "run.json").write_text("{}")
    ended = user.types("submit", *arguments)
    assert (ended.code, ended.out) == (3, "")
    assert ended.err.startswith(f"Error: {message}")
    assert ended.err.count("\n") == 1
    assert user.kaggle.seen == []


def test_a_file_changed_since_its_run_wrote_it_is_not_the_runs(user: User) -> None:
    run = write_run(user)
    write_csv(run / "submission.csv", label=5)
    ended = user.types("submit")
    assert (ended.code, ended.out) == (3, "")
    assert "was changed after its run wrote it, so the run's local score is not its own" in ended.err
    assert user.kaggle.seen == []
    (user.folder / "mine.csv").write_bytes((run / "submission.csv").read_bytes())
    assert user.types("submit", "mine.csv").code == 0


def test_the_same_file_is_submitted_once_unless_forced(user: User) -> None:
    run = write_run(user)
    assert user.types("submit").code == 0
    (user.folder / "copy.csv").write_bytes((run / "submission.csv").read_bytes())
    before = len(user.kaggle.seen)
    for target in ([], ["mine"], ["copy.csv"], [run / "submission.csv"]):
        ended = user.types("submit", *target)
        assert ended.code == 3
        assert "this very file is at Kaggle already (submission 4000, public score 0.99142)" in ended.err
    assert len(user.kaggle.seen) == before
    ended = user.types("submit", "--force")
    assert (ended.code, len(user.kaggle.submissions)) == (0, 2)
    assert stored(run)["ref"] == 4001


def test_kaggles_list_knows_a_file_submitted_from_another_folder(user: User) -> None:
    assert user.types("submit", "file.csv").code == 0
    (user.folder / "submissions/.submitted.json").unlink()
    ended = user.types("submit", "file.csv")
    assert (ended.code, len(user.kaggle.submissions)) == (3, 1)
    assert ended.err.endswith(
        "Error: file.csv: this very file is at Kaggle already (submission 4000, public score 0.99142); "
        "--force submits it again\n"
    )


def test_a_spoilt_ledger_is_one_line(user: User) -> None:
    (user.folder / "submissions").mkdir()
    (user.folder / "submissions/.submitted.json").write_text("[]")
    ended = user.types("submit", "file.csv")
    assert ended.code == 3
    assert ended.err.startswith("Error: submissions/.submitted.json: cannot be read")


# What Kaggle, or the way there, answers: exit code, the one line, and how many submissions were accepted.

Case = tuple[str, list[Fault] | Fault, int, str, int]
STAYS_AWAY = "Kaggle's list does not have the file yet; the same command looks for it first"
CASES: dict[str, Case] = {
    "daily limit": ("create", refusing(400, QUOTA), 5, f"submissions are used up. Kaggle says: {QUOTA}", 0),
    "daily limit at the start": (
        "start",
        refusing(400, "Daily limit of 5 submissions reached."),
        5,
        "comes back at midnight UTC. Kaggle says: Daily limit of 5 submissions reached.",
        0,
    ),
    "rules": (
        "start",
        refusing(403, RULES),
        4,
        "accept the competition's rules at https://www.kaggle.com/competitions/digit-recognizer/rules first. "
        f"Kaggle says: {RULES}",
        0,
    ),
    "phone": (
        "create",
        refusing(403, PHONE),
        4,
        "verify your phone number at https://www.kaggle.com/settings",
        0,
    ),
    "closed": ("create", refusing(400, "Deadline passed."), 6, "(400). Kaggle says: Deadline passed.", 0),
    "404": ("list", refusing(404, "Not found"), 7, "Kaggle does not find it. Kaggle says: Not found", 0),
    "429": ("list", refusing(429, "", Retry_After="0"), 7, "too many requests (429); try again later", 0),
    "429 for an hour": (
        "create",
        refusing(429, "", Retry_After="3600"),
        7,
        "try again in 3600 seconds. Nothing was submitted",
        0,
    ),
    "429 once": ("create", [refusing(429, "", Retry_After="0")], 0, "", 1),
    "500 once, listing": ("list", [refusing(500, "oops")], 0, "", 1),
    "500 once, starting": ("start", [refusing(500, "oops")], 0, "", 1),
    "500 once, submitting": ("create", [refusing(500, "oops")], 7, STAYS_AWAY, 0),
    "500 always, listing": ("list", refusing(500, ""), 7, "Kaggle's server failed (500); try again later", 0),
    "500 always, submitting": ("create", refusing(500, ""), 7, STAYS_AWAY, 0),
    "407 of the proxy": ("create", refusing(407, ""), 7, "(407); give them in http_proxy and https_proxy", 0),
    "502 with a page": ("start", page(502), 7, "Kaggle's server failed (502); try again later", 0),
    "200 with a page, listing": ("list", page(200), 7, "a web page came instead of Kaggle's answer", 0),
    "200 with a page, submitting": ("create", page(200), 7, STAYS_AWAY, 0),
    "200 with nonsense": (
        "list",
        lambda kaggle, request, answer: stub_kaggle.json({"submissions": [{"ref": 1, "status": "ODD"}]}),
        7,
        "Kaggle's answer makes no sense to its client",
        0,
    ),
    "reset, listing": (
        "list",
        reset,
        7,
        "the connection broke off; check the network, and the proxy if there is one",
        0,
    ),
    "reset, starting": (
        "start",
        reset,
        7,
        "the connection broke off; check the network, and the proxy if there is one",
        0,
    ),
    "reset once, uploading": ("put", [reset], 0, "", 1),
    "reset once, submitting": ("create", [reset], 7, STAYS_AWAY, 0),
    "reset, submitting": ("create", reset, 7, STAYS_AWAY, 0),
    "lost reply": ("create", [accepting_then(reset)], 0, "", 1),
    "lost reply to a page": ("create", [accepting_then(page(502))], 0, "", 1),
    "upload refused": ("put", refusing(403, "no"), 7, "Kaggle's storage refused it; try again later", 0),
    "upload 503": ("put", refusing(503, "busy"), 7, "Kaggle's storage did not take it; try again later", 0),
    "upload 503 once": ("put", [refusing(503, "busy")], 0, "", 1),
}


@pytest.mark.parametrize("case", CASES)
def test_what_kaggle_answers_is_what_the_user_is_told(user: User, case: str) -> None:
    step, fault, code, message, accepted = CASES[case]
    told(user, step, fault, code, message, accepted)


HANGS: dict[str, Case] = {
    "listing": ("list", hang, 7, "asking Kaggle for the submissions: no answer within 1 seconds", 0),
    "starting": ("start", hang, 7, "uploading the file: no answer within 1 seconds (--timeout)", 0),
    "uploading": ("put", hang, 7, "uploading the file: no answer within 1 seconds (--timeout)", 0),
    "uploading, broken off again and again": ("put", reset, 7, "uploading the file: no answer within 1 s", 0),
    "submitting": ("create", hang, 7, STAYS_AWAY, 0),
    "submitting, though it is in": ("create", accepting_then(hang), 0, "", 1),
}


@pytest.mark.parametrize("case", HANGS)
def test_no_hang_outlasts_the_limit(user: User, case: str) -> None:
    user.environment["DIGIT_RECOGNIZER_TIMEOUT"] = "1"
    step, fault, code, message, accepted = HANGS[case]
    told(user, step, fault, code, message, accepted)


def told(user: User, step: str, fault: list[Fault] | Fault, code: int, message: str, accepted: int) -> None:
    if isinstance(fault, list):
        user.kaggle.faults[step] = fault
    else:
        user.kaggle.always[step] = fault
    ended = user.types("submit", "file.csv", "--verbose")
    assert ended.code == code, ended.err
    assert len(user.kaggle.submissions) == accepted
    assert (ended.out == "Submission 4000: public score 0.99142\n") == (code == 0)
    if code:
        assert last_line(ended.err).startswith("Error: ")
        assert message in last_line(ended.err)
        assert ended.err.count("Error: ") == 1
    if code in (4, 5, 6):  # Kaggle's clear no leaves no attempt behind
        ledger = user.folder / "submissions/.submitted.json"
        assert not ledger.exists() or json.loads(ledger.read_text()) == {}


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (hang, "no answer within 2 seconds (--timeout); try again later"),
        (reset, "the connection broke off; check the network, and the proxy if there is one"),
        (page(200), "a web page came instead of Kaggle's answer"),
        (refusing(500, ""), "Kaggle's server failed (500); try again later"),
    ],
)
def test_trouble_while_logging_in(user: User, fault: Fault, message: str) -> None:
    user.kaggle.always["log in"] = fault
    ended = user.types("submit", "file.csv", "--timeout", 2, KAGGLE_API_TOKEN=TOKEN)
    assert ended.code == 7
    assert last_line(ended.err).startswith(f"Error: logging in to Kaggle: {message}")
    assert set(user.kaggle.seen) == {"log in"}


def test_a_server_that_is_not_there(user: User) -> None:
    ended = user.types("submit", "file.csv", http_proxy="http://127.0.0.1:9")
    assert ended.code == 7
    assert last_line(ended.err).startswith(
        "Error: asking Kaggle for the submissions: the proxy cannot be reached"
    )


def test_a_file_that_kaggle_cannot_score_is_told_with_its_reason(user: User) -> None:
    reason = "ERROR: Unable to find 28000 required key values in the 'ImageId' column"
    user.kaggle.verdict = {"status": "ERROR", "errorDescription": reason}
    run = write_run(user)
    ended = user.types("submit")
    assert (ended.code, ended.out) == (6, "")
    assert last_line(ended.err) == (
        "Error: submissions/mine/submission.csv: Kaggle could not score submission 4000. "
        f"Kaggle says: {reason}"
    )
    assert (stored(run)["status"], stored(run)["public_score"]) == ("ERROR", None)
    assert user.types("submit").code == 3
    assert len(user.kaggle.submissions) == 1


@pytest.mark.parametrize("trouble", [None, hang, refusing(500, "oops")])
def test_a_score_that_does_not_come_in_time(user: User, trouble: Fault | None) -> None:
    user.kaggle.pending = 1_000_000
    if trouble:
        user.kaggle.faults["list"] = [lambda kaggle, request, answer: answer()]
        user.kaggle.always["list"] = trouble
    run = write_run(user)
    ended = user.types("submit", "--max-wait", 1, "--timeout", 1)
    assert (ended.code, ended.out) == (8, "")
    assert last_line(ended.err) == (
        "Submission 4000 is in, but has no score after 1 seconds (--max-wait); `submissions` shows it later"
    )
    assert len(user.kaggle.submissions) == 1
    assert stored(run)["status"] == "PENDING"
    user.kaggle.pending = 0
    user.kaggle.always.clear()
    assert user.types("submissions").code == 0
    assert (stored(run)["status"], stored(run)["public_score"]) == ("COMPLETE", 0.99142)


def test_an_attempt_whose_end_is_unknown_is_looked_for_by_the_next(user: User) -> None:
    def go_dark(kaggle: Any, request: Any, answer: Any) -> Any:
        kaggle.always["list"] = reset
        return accepting_then(reset)(kaggle, request, answer)

    user.kaggle.faults["create"] = [go_dark]
    run = write_run(user)
    ended = user.types("submit")
    assert ended.code == 7
    assert "It is not known whether Kaggle has the file" in last_line(ended.err)
    assert "the same command looks for it first, and does not submit it twice" in last_line(ended.err)
    user.kaggle.always.clear()
    ended = user.types("submit")
    assert ended.code == 0
    assert "The attempt before this one had come through: submission 4000\n" in ended.err
    assert "public score 0.99142" in ended.out
    assert len(user.kaggle.submissions) == 1
    assert stored(run)["ref"] == 4000


def test_a_list_that_lags_behind_does_not_make_it_a_second_submission(user: User) -> None:
    """The reply is lost, and the submission is not listed until long after."""

    def lose(kaggle: Any, request: Any, answer: Any) -> Any:
        kaggle.always["list"] = lambda kaggle, request, answer: stub_kaggle.json({"submissions": []})
        return accepting_then(reset)(kaggle, request, answer)

    user.kaggle.faults["create"] = [lose]
    run = write_run(user)
    ended = user.types("submit")
    assert ended.code == 7
    assert STAYS_AWAY in last_line(ended.err)
    assert user.kaggle.seen.count("create") == 1
    user.kaggle.always.clear()
    ended = user.types("submit")
    assert ended.code == 0
    assert len(user.kaggle.submissions) == 1
    assert stored(run)["public_score"] == 0.99142


# Who the user is.


def test_no_credentials(user: User) -> None:
    ended = user.types("submit", "file.csv", KAGGLE_KEY=None)
    assert (ended.code, ended.out) == (4, "")
    assert ended.err == (
        "Error: no Kaggle credentials: neither KAGGLE_API_TOKEN, ~/.kaggle/access_token, KAGGLE_USERNAME "
        f"with KAGGLE_KEY, nor {user.home}/.config/kaggle/kaggle.json; make a token at "
        "https://www.kaggle.com/settings/api\n"
    )
    assert user.kaggle.seen == []


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        (
            {"KAGGLE_KEY": "fedcba98-not-the-key"},
            "KAGGLE_USERNAME and KAGGLE_KEY, they are wrong or have run out;",
        ),
        (
            {"KAGGLE_API_TOKEN": "KGAT_stale-token"},  # with the good key beside it
            "KAGGLE_API_TOKEN, they are wrong or have run out; it goes before any key, so unset it or",
        ),
        (
            {"KAGGLE_API_TOKEN": "KGAT_stale-token", "KAGGLE_KEY": None},  # here the client ends its process
            "KAGGLE_API_TOKEN, they are wrong or have run out; it goes before any key, so unset it or",
        ),
    ],
)
def test_wrong_credentials(user: User, variables: dict[str, str | None], named: str) -> None:
    ended = user.types("submit", "file.csv", "--verbose", **variables)
    assert ended.code == 4
    assert last_line(ended.err) == (
        f"Error: Kaggle does not accept the credentials of {named} "
        "make new ones at https://www.kaggle.com/settings/api"
    )
    assert not [value for value in variables.values() if value and value in ended.err]
    assert set(user.kaggle.seen) == ({"log in"} if "KAGGLE_API_TOKEN" in variables else {"list"})


@pytest.mark.parametrize("place", ["KAGGLE_API_TOKEN", "access_token", "kaggle.json", "KAGGLE_CONFIG_DIR"])
def test_credentials_are_found_where_the_client_finds_them(user: User, place: str) -> None:
    variables: dict[str, str | None] = {"KAGGLE_USERNAME": None, "KAGGLE_KEY": None}
    key = json.dumps({"username": stub_kaggle.USER, "key": stub_kaggle.KEY})
    (user.home / ".kaggle").mkdir()
    if place == "KAGGLE_API_TOKEN":
        variables[place] = TOKEN
    elif place == "access_token":
        (user.home / ".kaggle/access_token").write_text(TOKEN)
    elif place == "kaggle.json":
        (user.home / ".kaggle/kaggle.json").write_text(key)  # which others may read: the client prints that
    else:
        (user.home / "elsewhere").mkdir()
        (user.home / "elsewhere/kaggle.json").write_text(key)
        variables[place] = str(user.home / "elsewhere")
    ended = user.types("submit", "file.csv", VERBOSE="1", PYTHONUNBUFFERED="1", **variables)
    assert (ended.code, ended.out) == (0, "Submission 4000: public score 0.99142\n"), ended.err


def test_a_key_file_that_holds_none(user: User) -> None:
    (user.home / ".kaggle").mkdir()
    (user.home / ".kaggle/kaggle.json").write_text("{")
    ended = user.types("submit", "file.csv", KAGGLE_USERNAME=None, KAGGLE_KEY=None)
    assert ended.code == 4
    assert f"nor {user.home}/.kaggle/kaggle.json, which holds no username and key; make" in ended.err


def test_a_secret_that_kaggle_repeats_is_not_passed_on(user: User) -> None:
    user.kaggle.always["list"] = refusing(403, f"bad key {SECRETS[0]}")
    ended = user.types("submit", "file.csv", "--verbose")  # which looks for the secrets in what is printed
    assert ended.code == 4
    assert "Kaggle says: bad key ***" in last_line(ended.err)


@pytest.mark.parametrize(
    ("status", "words", "code", "message"),
    [
        (
            404,
            "Competition not found",
            2,
            "--competition digit-recogniser: Kaggle finds no such competition.",
        ),
        (
            403,
            "Permission 'competitions.participate' was denied",
            4,
            "in digit-recogniser: is the name right,",
        ),
    ],
)
def test_a_competition_that_is_not_there(
    user: User, status: int, words: str, code: int, message: str
) -> None:
    if status == 404:
        user.kaggle.always["list"] = refusing(404, words)
    ended = user.types("submit", "file.csv", "--competition", "digit-recogniser")
    assert ended.code == code
    assert message in last_line(ended.err)
    assert last_line(ended.err).endswith(f"Kaggle says: {words}")
    assert user.kaggle.submissions == []


# The client's own needs.


def test_the_client_needs_six_and_requirements_txt_says_so(user: User) -> None:
    """It does not declare it: without that line a requirements-only install could not import it."""
    required = (ROOT / "requirements.txt").read_text().splitlines()
    assert {line.split("==")[0] for line in required} >= {"kaggle", "six"}
    hidden = user.folder / "hidden"
    hidden.mkdir()
    (hidden / "six.py").write_text("raise ModuleNotFoundError(name='six')")
    ended = user.types("submit", "file.csv", PYTHONPATH=f"{hidden}:{ROOT}")
    assert ended.code == 7
    assert last_line(ended.err) == (
        "Error: Kaggle's client cannot start, six is not installed; install requirements.txt, "
        "or: pip install kaggle six"
    )
    assert user.types(command=(sys.executable, "-c", "import kaggle")) == Ended(0, "", "")


# Ctrl-C.


@pytest.mark.parametrize(
    ("step", "fault", "message", "accepted"),
    [
        ("put", hang, "Stopped; nothing was submitted", 0),
        (
            "create",
            accepting_then(hang),
            "Stopped; the file is in, submission 4000; `submissions` shows its",
            1,
        ),
        ("create", hang, "Stopped while submitting; Kaggle's list does not have the file yet.", 0),
        ("second list", hang, "Stopped; the file is in, submission 4000; `submissions` shows its score", 1),
    ],
)
def test_ctrl_c_says_whether_the_file_is_in(
    user: User, step: str, fault: Fault, message: str, accepted: int
) -> None:
    if step == "second list":
        user.kaggle.faults["list"] = [lambda kaggle, request, answer: answer(), fault]
    else:
        user.kaggle.faults[step] = [fault]
    process = user.start("submit", "file.csv")
    assert user.kaggle.reached.wait(30)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it
    ended = user.ended(process)
    assert ended.code == 130
    assert last_line(ended.err).startswith(message)
    assert len(user.kaggle.submissions) == accepted
    again = user.types("submit", "file.csv")
    assert again.code == (0 if not accepted else 3), again.err
    assert len(user.kaggle.submissions) == 1


# The list.


def test_submissions_are_matched_to_runs(user: User) -> None:
    write_run(user)
    assert user.types("submit").code == 0
    assert user.types("submit", "file.csv", "-m", "by hand").code == 0
    (user.folder / "submissions/.submitted.json").unlink()
    listed = json.loads(user.types("submissions", "--json").out)["submissions"]
    assert [(one["ref"], one["run"], one["status"]) for one in listed] == [
        (4001, None, "COMPLETE"),
        (4000, "mine", "COMPLETE"),
    ]
    assert listed[0]["local"] is listed[0]["gap"] is None
    assert listed[1]["local"] == {"accuracy": 0.9938, "low": 0.9913, "high": 0.9956}
    assert listed[1]["gap"] == pytest.approx(0.99142 - 0.9938)
    assert user.types("submissions").out == (
        "       ref  date (UTC)        status     public   local      gap  run\n"
        "      4001  2026-11-21 10:00  COMPLETE  0.99142       -        -  submission.csv\n"
        "      4000  2026-11-21 10:00  COMPLETE  0.99142  0.9938  -0.0024  mine\n"
    )


# The script.


def test_shellcheck_finds_nothing_in_the_scripts() -> None:
    shellcheck = Path(sys.executable).parent / "shellcheck"
    found = subprocess.run([shellcheck, *(ROOT / "scripts").glob("*.sh")], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, "")


def test_the_script_behaves_the_same_from_everywhere(user: User) -> None:
    write_csv(user.folder / "my file.csv")
    write_csv(user.folder / "other file.csv", label=5)
    home = user.folder / "a clone"
    (home / "scripts").mkdir(parents=True)
    (home / ".venv/bin").mkdir(parents=True)
    script = home / "scripts/submit.sh"
    script.write_bytes((ROOT / "scripts/submit.sh").read_bytes())
    script.chmod(0o755)
    python = home / ".venv/bin/python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    ended = user.types("my file.csv", "my message", command=(str(script),))
    assert (ended.code, ended.out) == (0, "Submission 4000: public score 0.99142\n"), ended.err
    assert user.kaggle.submissions[0]["description"].startswith("my message [")
    user.folder = home / "scripts"
    ended = user.types("../../other file.csv", command=("./submit.sh",))
    assert (ended.code, ended.out) == (0, "Submission 4001: public score 0.99142\n"), ended.err
    assert user.types("nowhere.csv", command=("./submit.sh",)).code == 3
    assert user.types("a", "b", "c", command=("./submit.sh",)).code == 2
    empty = user.types("", command=("./submit.sh",))
    assert (empty.code, empty.out) == (2, "")
    assert "FILE is empty; did train fail?" in empty.err


def test_the_script_without_the_environment_says_how_to_make_it(user: User) -> None:
    (user.folder / "scripts").mkdir()
    script = user.folder / "scripts/submit.sh"
    script.write_bytes((ROOT / "scripts/submit.sh").read_bytes())
    script.chmod(0o755)
    ended = user.types(command=(str(script),))
    assert ended.code == 2
    assert ended.err.startswith(f"Error: {user.folder}/.venv is not there; run: make install")
