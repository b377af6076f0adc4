"""`submit` and `submissions`, by the real client, against a Kaggle on loopback."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest
import stub_kaggle
from conftest import DEADLINE, ROOT, make_config, wait_until
from stub_kaggle import (
    KEY,
    SECRETS,
    TOKEN,
    Fault,
    User,
    accepting_then,
    answering,
    first,
    hang,
    page,
    passing,
    refusing,
    reset,
)  # fmt: skip
from werkzeug import Response

from digit_recognizer import data, errors
from digit_recognizer.cli import kaggle as cli_kaggle
from digit_recognizer.files import locked
from digit_recognizer.leaderboard import account, candidate, ledger
from digit_recognizer.leaderboard.ledger import KaggleOutcome
from digit_recognizer.manifest import Manifest
from digit_recognizer.recipes import RECIPES

COMPETITION = next(rows for rows, kind in data.KNOWN_FINGERPRINTS.items() if kind == "competition")
SAMPLE = next(rows for rows, kind in data.KNOWN_FINGERPRINTS.items() if kind == "sample")
QUOTA = "Your team has used its daily Submission allowance (5) today, please try again in 9.3 hours."
DAILY = "Daily limit of 5 submissions reached."
RULES = "You cannot submit until you accept the competition rules"
PHONE = "You must verify your phone number to submit"
SOFTMAX = RECIPES["softmax"].settings.model_dump(mode="json")
SCORED = "Submission 4000: public score 0.99142, 1 error of 100\n"
SCORED_WHOLE = SCORED.replace("1 error of 100", "240 errors of 28,000")  # in a process of its own
IS_THERE = (
    "this very file is at Kaggle already (submission 4000, public score 0.99142); --force submits it again"
)
EXPECTED = {"value": 0.9938, "low": 0.9911, "high": 0.9957, "rows": 28_000}
EVIL = "\x1b[31m\x9b2J\u202ex\u2066\x07"  # what drives a terminal: C0, C1, direction


@pytest.fixture
def user(request: pytest.FixtureRequest, user: User, monkeypatch: pytest.MonkeyPatch) -> User:
    """Someone with a valid file.csv that no run wrote; of few rows, unless the program is to run whole."""
    if not request.node.get_closest_marker("slow"):
        monkeypatch.setitem(data.COMPETITION_ROWS, "test.csv", 100)
    write_csv(user.folder / "file.csv")
    return user


def write_csv(path: Path, missing: int = 0, label: int = 3) -> str:
    rows = data.COMPETITION_ROWS["test.csv"] - missing
    path.write_text("ImageId,Label\n" + "".join(f"{i},{label}\n" for i in range(1, rows + 1)))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_run(
    user: User, name: str = "mine", rows: str = COMPETITION, created: str = "2026-01-01T00:00:00Z",
    label: int = 4, kind: str = "competition", submission_model: str | None = "softmax",
    accuracy: float = 0.9938, low: float = 0.9913, high: float = 0.9956,
) -> Path:  # fmt: skip
    """Write a run as `train` leaves it, as far as Kaggle is concerned."""
    folder = user.folder / "submissions" / name
    folder.mkdir(parents=True)
    score = {"accuracy": accuracy, "low": low, "high": high, "digits": 4200, "fit_seconds": 1}
    config = make_config(recipes={}).model_dump(mode="json")
    config["data"] |= {"kind": kind, "fingerprint": {"train": "0" * 64, "test": rows}}
    manifest = {
        "name": name, "created": created, "config": config, "scores": {"softmax": score},
        "main_model": "softmax", "settings": {"softmax": SOFTMAX}, "inference_fits": {"softmax": []},
        "blend": None, "submission_model": submission_model, "expected_score": EXPECTED,
        "submission_sha256": write_csv(folder / "submission.csv", label=label), "seconds": {"total": 1},
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(manifest))
    Manifest.model_validate_json(json.dumps(manifest))
    return folder


def hash_of(run: Path) -> str:
    return json.loads((run / "run.json").read_text())["submission_sha256"]


def ledger_of(user: User) -> dict[str, Any]:
    path = user.folder / "submissions/.submitted.json"
    return json.loads(path.read_text()) if path.exists() else {}


def stored(user: User, run: Path) -> dict[str, Any] | None:
    """What the ledger says of a run's submission."""
    return ledger_of(user).get(hash_of(run))


def damage(user: User, content: str) -> None:
    """Write something into the ledger's place."""
    (user.folder / "submissions").mkdir(exist_ok=True)
    (user.folder / "submissions/.submitted.json").write_text(content)


def listed(user: User) -> list[dict[str, Any]]:
    result = user.run("submissions", "--json")
    assert result.code == 0, result.err
    return json.loads(result.out)["submissions"]


def clients(parent: int | None = None) -> set[int]:
    """The processes that run, or those of them that a process started."""
    shown = subprocess.run(["ps", "-eo", "pid=,ppid=,stat="], capture_output=True, text=True, check=True)
    fields = [line.split() for line in shown.stdout.splitlines()]
    alive = [(int(pid), int(of)) for pid, of, state in fields if not state.startswith("Z")]
    return {pid for pid, of in alive if parent in (None, of)}


# Whole: in processes of their own.


@pytest.mark.slow
def test_the_newest_run_is_submitted_and_its_score_stored(user: User) -> None:
    write_run(user, "older", created="2025-01-01T00:00:00Z")
    run = write_run(user, "newer", label=5)
    write_run(user, "sample", rows=SAMPLE, kind="sample", created="2027-01-01T00:00:00Z")
    (write_run(user, "validated", created="2028-01-01T00:00:00Z") / "submission.csv").unlink()
    (user.folder / "kaggle.py").write_text("raise ImportError('this is not the client')")
    noise = user.folder / "noise/sitecustomize.py"
    noise.parent.mkdir()
    noise.write_text("import sys; 'worker.py' in sys.orig_argv[-1] and print('Python starts', flush=True)")
    user.kaggle.pending = 2
    before = (run / "run.json").read_bytes()
    token = {"KAGGLE_API_TOKEN": f"{TOKEN}\n", "VERBOSE": "1"}
    result = user.run_process("submit", PYTHONPATH=f":{noise.parent}:{ROOT}", **token)
    assert result.code == 0, result.err
    assert result.out == (
        "Submission 4000: public score 0.99142, 240 errors of 28,000; validation accuracy 0.9938, expected "
        "0.9911 to 0.9957: inside\n"
    )
    assert user.kaggle.seen == ["log in", "list", "start", "put", "create", "list", "list", "list"]
    assert list(user.kaggle.uploads.values()) == [(run / "submission.csv").read_bytes()]
    outcome = stored(user, run)
    assert outcome["message"].endswith("] newer validation accuracy 0.9938")
    assert outcome["message"] == user.kaggle.submissions[0]["description"]
    assert (outcome["ref"], outcome["status"], outcome["public_score"]) == (4000, "COMPLETE", 0.99142)
    score = {"accuracy": 0.9938, "low": 0.9913, "high": 0.9956}
    assert (outcome["run"], outcome["validation"]) == ("newer", score)
    assert (run / "run.json").read_bytes() == before
    assert stored(user, run.parent / "older") is None
    assert user.kaggle.names == ["submission.csv"]


@pytest.mark.slow
def test_what_the_client_does_not_end_is_killed(user: User) -> None:
    """Its own retries of an upload take some six minutes."""
    user.kaggle.always["put"] = reset
    process = user.start("submit", "file.csv", "--timeout", 1)
    wait_until(lambda: "put" in user.kaggle.seen)
    started = clients(process.pid)
    result = user.finish(process)
    assert result.code == 7
    problem = "uploading the file: no answer within 1 seconds (--timeout); try again later"
    assert result.last_line == f"Error: {problem}"
    assert started
    assert not started & clients()
    assert ledger_of(user) == {}


@pytest.mark.slow
def test_a_client_that_ends_by_itself_is_followed_by_another(user: User) -> None:
    """As where the system runs out of memory."""
    end = first(lambda: [os.kill(pid, signal.SIGKILL) for pid in clients(process.pid)])
    user.kaggle.faults |= {"start": [end], "create": [end]}
    process = user.start("submit", "file.csv")
    result = user.finish(process)
    assert (result.code, result.out) == (0, SCORED_WHOLE), result.err
    assert "uploading the file: Kaggle's client ended unexpectedly; try again. Trying again\n" in result.err
    assert "submitting the file: Kaggle's client ended unexpectedly; try again. Looking whe" in result.err
    assert len(user.kaggle.submissions) == 1


STOPS = {
    "uploading": (signal.SIGINT, "put", [hang], "Stopped; nothing was submitted", 0),
    "submitting": (signal.SIGTERM, "create", [hang], "Stopped while submitting; Kaggle's list does not", 0),
    "submitting, and it is in": (
        signal.SIGTERM, "create", [accepting_then(hang)],
        "Stopped; the file is in, submission 4000; `submissions` shows its score", 1,
    ),
    "waiting for the score": (signal.SIGINT, "list", [passing, hang], "Stopped; the file is in, subm", 1),
}  # fmt: skip


@pytest.mark.parametrize("case", STOPS)
def test_a_stopped_submit_says_whether_the_file_is_in(user: User, case: str) -> None:
    number, step, (*before, fault), message, accepted = STOPS[case]
    user.kaggle.faults[step] = [*before, first(lambda: os.kill(os.getpid(), number), fault)]
    result = user.run("submit", "file.csv")
    assert (result.code, len(user.kaggle.submissions)) == (130, accepted)
    assert result.last_line.startswith(message)
    again = user.run("submit", "file.csv", "--list-lag", 0.5)
    assert again.code == (0 if not accepted else 3), again.err
    assert len(user.kaggle.submissions) == 1


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_leaves_the_client_to_the_command(user: User) -> None:
    user.kaggle.faults["create"] = [accepting_then(hang)]
    process = user.start("submit", "file.csv")
    assert user.kaggle.reached.wait(DEADLINE)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it
    result = user.finish(process)
    told = "Stopped; the file is in, submission 4000; `submissions` shows its score"
    assert (result.code, result.last_line) == (130, told)


KILLS = {
    "uploading": ("put", passing, 0),
    "submitting": ("create", hang, 0),
    "submitting, though it is in": ("create", accepting_then(hang), 1),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", KILLS)
def test_a_killed_submit_takes_its_client_with_it_and_the_next_sends_the_file_once(
    user: User, case: str
) -> None:
    step, fault, accepted = KILLS[case]
    client_ended = threading.Event()

    def kill() -> None:
        started = clients(process.pid)
        process.kill()
        wait_until(lambda: started and not started & clients())  # though it waits for an answer
        client_ended.set()
        user.kaggle.over.set()

    user.kaggle.faults[step] = [first(kill, fault)]
    process = user.start("submit", "file.csv")
    user.finish(process)
    assert client_ended.wait(DEADLINE)
    wait_until(lambda: len(user.kaggle.submissions) == accepted)
    user.kaggle.over.clear()
    user.kaggle.listed_after = time.time() + accepted  # the list lags
    result = user.run("submit", "file.csv", "--list-lag", 30 if accepted else 0.5)
    assert (result.code, result.out) == (0, SCORED_WHOLE), result.err
    assert len(user.kaggle.submissions) == 1


@pytest.mark.slow
def test_submits_of_one_file_at_once_make_one_submission(user: User) -> None:
    processes = [user.start("submit", "file.csv", "--no-wait") for _ in range(3)]
    results = [user.finish(process) for process in processes]
    assert sorted(result.code for result in results) == [0, 3, 3], results
    assert len(user.kaggle.submissions) == 1
    for result in results:
        if result.code == 3:
            assert result.err.count("Error: file.csv: ") == 1
            assert "submitting this very file now" in result.err or "is at Kaggle already" in result.err


# The rest in this process.


@pytest.mark.parametrize("command", [["submit", "file.csv"], ["submissions"], ["download"]])
def test_a_missing_client_is_named(user: User, monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    monkeypatch.setitem(sys.modules, "kaggle", None)
    result = user.run(*command)
    assert (result.code, result.out) == (7, "")
    problem = "kaggle is not installed; install requirements.txt, or: pip install kaggle six"
    assert result.last_line == f"Error: Kaggle's client cannot start, {problem}"
    assert ledger_of(user) == {}
    required = (ROOT / "requirements.txt").read_text().splitlines()
    assert {line.split("==")[0] for line in required} >= {"kaggle", "six"}  # which it does not declare


def test_a_file_of_no_run_needs_only_the_format(user: User) -> None:
    result = user.run("submit", "file.csv", "-m", "by hand", "--no-wait")
    assert result.out == "Submission 4000: accepted; `submissions` shows its score\n"
    assert user.kaggle.submissions[0]["description"].endswith("] by hand")
    assert user.kaggle.names == ["file.csv"]
    assert user.kaggle.seen == ["list", "start", "put", "create"]


def test_a_dry_run_asks_no_network(user: User) -> None:
    write_run(user)
    result = user.run("submit", "--dry-run")
    assert result.code == 0
    assert "submissions/mine/submission.csv: 100 rows, a valid submission\n" in result.err
    assert result.out.startswith("submissions/mine/submission.csv: would be submitted as '[")
    credentials = "with the credentials of KAGGLE_USERNAME and KAGGLE_KEY"
    assert result.out.endswith(f"] mine validation accuracy 0.9938', {credentials}\n")
    result = user.run("submit", "--dry-run", KAGGLE_USERNAME=None, KAGGLE_KEY=None)
    checked, refused = result.err.splitlines()[-2:]
    assert (result.code, checked) == (4, "submissions/mine/submission.csv: 100 rows, a valid submission")
    assert refused.startswith("Error: ")
    assert user.kaggle.seen == []


# Refused before the upload.


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nowhere.csv", "nowhere.csv: cannot be read (No such file or directory)"),
        ("short.csv", "short.csv: found 99 rows, expected 100"),
        ("of-sampel", "{folder}/submissions/of-sampel: no such run; did you mean of-sample? `runs` lists"),
        ("of-sample", "submissions/of-sample/submission.csv: labels the embedded sample's digits"),
        ("submissions/of-sample/submission.csv", "submissions/of-sample/submission.csv: labels the embedded"),
        ("of-others", "submissions/of-others/submission.csv: labels digits that are not the competition's"),
        ("openml", "submissions/openml/submission.csv: comes from MNIST of OpenML, which holds the comp"),
        ("train_test_overlap", "submissions/train_test_overlap/submission.csv: comes from training digits"),
        (None, "{folder}/submissions: holds no run on the competition's digits; `download` them and"),
        ("validated", "submissions/validated: has no submission of its own; `train` and `ensemble` write"),
        ("deleted", "submissions/deleted/submission.csv: cannot be read (No such file or directory)"),
        ("changed", "submissions/changed/submission.csv: was changed after its run wrote it, so the run's"),
        ("broken", "submissions/broken/run.json: "),
        ("submissions/broken/submission.csv", "submissions/broken/run.json: "),
    ],
)
def test_a_file_that_kaggle_would_not_score_is_not_uploaded(
    user: User, target: str | None, message: str
) -> None:
    write_csv(user.folder / "short.csv", missing=1)
    write_run(user, "of-sample", rows=SAMPLE)
    write_run(user, "of-others", rows="0" * 64)  # its "kind" says competition; its rows decide
    for kind in ("openml", "train_test_overlap"):  # here the rows are the competition's, and the kind decides
        write_run(user, kind, kind=kind)
    write_run(user, "validated", rows=SAMPLE, submission_model=None)
    if target == "deleted":
        (write_run(user, "deleted") / "submission.csv").unlink()
    if target == "changed":
        write_csv(write_run(user, "changed") / "submission.csv", label=5)
    if "broken" in str(target):
        (write_run(user, "broken") / "run.json").write_text("{}")
    line = user.run("submit", *([target] if target else [])).refusal(3)
    assert line.startswith(f"Error: {message.format(folder=user.folder)}")
    assert user.kaggle.seen == []


def test_a_copy_of_a_changed_file_can_be_submitted(user: User) -> None:
    run = write_run(user)
    write_csv(run / "submission.csv", label=5)
    assert user.run("submit").code == 3
    (user.folder / "mine.csv").write_bytes((run / "submission.csv").read_bytes())
    result = user.run("submit", "mine.csv")
    assert (result.code, result.out) == (0, SCORED)
    assert stored(user, run) is None


def test_one_damaged_manifest_does_not_stop_the_others(user: User) -> None:
    run = write_run(user)
    (write_run(user, "broken") / "run.json").write_text('{"name": 1}')
    result = user.run("submit")
    assert result.code == 0, result.err
    assert stored(user, run)["public_score"] == 0.99142
    assert result.err.startswith("submissions/broken/run.json: ")
    result = user.run("submissions")
    assert re.search("^mine .* 0.9938$", result.out, re.MULTILINE)
    assert result.err.startswith("submissions/broken/run.json: ")


def test_the_newest_run_is_submitted_unless_another_is_better(user: User) -> None:
    write_run(user, "quick", created="2026-01-02T00:00:00Z", label=1, accuracy=0.95, low=0.943, high=0.956)
    write_run(user, "long")
    result = user.run("submit")
    assert (result.code, result.out, user.kaggle.seen) == (3, "", [])
    assert re.search(
        r"the newest run is quick \(validation accuracy 0.9500, of 2026-01-0.*, but long "
        r"\(validation accuracy 0.9938, of .* is better; name the one to submit$",
        result.last_line,
    )
    assert user.run("submit", "quick").code == 0
    write_run(user, "near", created="2026-01-03T00:00:00Z", label=2, accuracy=0.9933)
    result = user.run("submit", "--no-wait")
    assert result.code == 0, result.err
    assert "The newest run is near (validation accuracy 0.9933, of 2026-01-0" in result.err
    assert "Expect 0.9911 to 0.9957 on Kaggle, 120 to 249 errors of 28,000" in result.err


def test_neither_a_lucky_run_of_few_digits_nor_one_on_other_digits_is_better(user: User) -> None:
    """The newest is held against each run on its training digits, not against the highest score alone."""
    write_run(user, "quick", created="2026-01-04T00:00:00Z", label=1, accuracy=0.95, low=0.943, high=0.956)
    write_run(user, "lucky", created="2026-01-03T00:00:00Z", label=2, accuracy=1.0, low=0.912, high=1.0)
    other = write_run(user, "other", created="2026-01-02T00:00:00Z", label=3)
    (other / "run.json").write_text((other / "run.json").read_text().replace("0" * 64, "7" * 64))
    assert user.run("submit", "--dry-run").code == 0
    write_run(user, "long")
    result = user.run("submit", "--dry-run")
    assert result.code == 3
    assert "but long (validation accuracy 0.9938" in result.last_line
    told = "The best run's 95% interval begins highest; one of few digits can be accurate by luck\n"
    assert (user.run("runs", "--sort", "score").err, user.run("runs").err) == (told, "")


def test_a_manifest_beside_another_csv_is_only_a_notice(user: User) -> None:
    (user.folder / "run.json").write_text("[]")
    result = user.run("submit", "file.csv")
    assert (result.code, result.out) == (0, SCORED)
    assert result.err.startswith("run.json: ")


def test_the_same_file_is_submitted_once_unless_forced(user: User) -> None:
    run = write_run(user)
    assert user.run("submit").code == 0
    (user.folder / "copy.csv").write_bytes((run / "submission.csv").read_bytes())
    before = len(user.kaggle.seen)
    for target in ([], ["mine"], ["copy.csv"], [run / "submission.csv"]):
        result = user.run("submit", *target)
        assert result.code == 3
        assert IS_THERE in result.err
    assert len(user.kaggle.seen) == before
    assert user.run("submit", "--force").code == 0
    assert (len(user.kaggle.submissions), stored(user, run)["ref"]) == (2, 4001)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", ": input should be an object; mend it"),
        ('{"' + "0" * 64 + '": {"ref": "x"}}', ": " + "0" * 64 + ".ref: found 'x'; input should be"),
        ('{"' + "0" * 64 + '": {"ref": 1, "status": "SENT", "public_score": null, "message": "", '
         '"submitted_at": "today"}}', ".submitted_at: found 'today'; value error, expected a date"),
        ("{", ": invalid JSON"),
    ],
)  # fmt: skip
def test_a_damaged_ledger_is_named_with_the_field(user: User, content: str, message: str) -> None:
    damage(user, content)
    line = user.run("submit", "file.csv").refusal(3)
    assert line.startswith("Error: submissions/.submitted.json: ")
    assert message in line


# Once, whatever happens.


def test_a_file_that_another_process_is_submitting_is_refused(user: User) -> None:
    sha256 = write_csv(user.folder / "file.csv")
    with locked(user.folder / f"submissions/.submitting-{sha256[:12]}.lock", TimeoutError(), delete=True):
        result = user.run("submit", "file.csv")
        write_csv(user.folder / "other.csv", label=5)
        assert user.run("submit", "other.csv").code == 0
    assert (result.code, result.out) == (3, "")
    now = "another command is submitting this very file now; `submissions` shows what becomes of it"
    assert result.last_line == f"Error: file.csv: {now}"
    assert len(user.kaggle.submissions) == 1
    assert user.run("submit", "file.csv").code == 0
    assert not list((user.folder / "submissions").glob(".submitting*"))


def store(out: Path, sha256: str, ref: int) -> None:
    """Store that a file is at Kaggle."""
    ledger.update(out, {sha256: KaggleOutcome(ref=ref, status="PENDING", message="", file_sha256=sha256)})


def test_the_ledger_is_read_again_once_the_other_process_is_through(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one submits between this one's first look at the ledger and its upload."""
    check = candidate.check

    def check_and_lose(*arguments: Any, **options: Any) -> Any:
        prepared = check(*arguments, **options)
        store(prepared.out, prepared.sent.file_sha256, 1)
        return prepared

    monkeypatch.setattr(candidate, "check", check_and_lose)
    result = user.run("submit", "file.csv")
    assert (result.code, user.kaggle.seen) == (3, [])
    assert "this very file is at Kaggle already (submission 1)" in result.last_line


def test_those_who_write_the_ledger_at_once_lose_no_entry(tmp_path: Path) -> None:
    numbers = range(60)
    with ThreadPoolExecutor(4) as pool:  # a lock is an open file's, not a process's
        list(pool.map(lambda number: store(tmp_path, f"{number:064x}", number), numbers))
    assert [entry.ref for _, entry in sorted(ledger.read(tmp_path).items())] == [*numbers]


def test_what_is_uploaded_are_the_bytes_that_were_checked(user: User) -> None:
    checked = (user.folder / "file.csv").read_bytes()
    user.kaggle.faults["start"] = [first(lambda: write_csv(user.folder / "file.csv", missing=97))]
    assert user.run("submit", "file.csv").code == 0
    assert list(user.kaggle.uploads.values()) == [checked]
    assert list(ledger_of(user)) == [hashlib.sha256(checked).hexdigest()]


def test_the_ledger_says_sent_before_it_is(user: User) -> None:
    def look(kaggle: Any, request: Any, answer: Any) -> Response:
        (sent,) = ledger_of(user).values()
        assert (sent["status"], sent["ref"]) == ("SENT", None)
        assert sent["message"] == request.json["submissionDescription"]
        return answer()

    user.kaggle.faults["create"] = [look]
    assert user.run("submit", "file.csv").code == 0


def test_a_folder_for_temporary_files_that_cannot_be_written_is_named(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(user.folder / "gone"))
    result = user.run("submit", "file.csv")
    assert (result.code, user.kaggle.seen) == (3, ["list"])
    problem = "cannot be written (No such file or directory); TMPDIR names another folder"
    assert result.last_line == f"Error: {user.folder}/gone: {problem}"


# What Kaggle, or the way there, answers: exit code, the one line, and how many submissions were accepted.


class Case(NamedTuple):
    """A fault of a step, always or in turn, and what `submit` makes of it."""

    step: str
    fault: list[Fault] | Fault
    code: int = 0
    message: str = ""
    options: tuple[object, ...] = ()


STAYS_AWAY = (
    "Kaggle's list does not have the file yet; the same command looks for it first, and submits it again "
    "only if the list still does not have it 45 seconds from now (--list-lag)"
)


def moved(kaggle: Any, request: Any, answer: Any) -> Response:
    return Response(status=301, headers={"Location": "http://localhost/x"})


def listing(row: dict[str, object]) -> Fault:
    return answering({"submissions": [row]})


BROKE_OFF = "the connection broke off; check the network, and the proxy if there is one"
TAKEN = {"message": "Successfully submitted"}
ELSEWHERE = ("--competition", "mnist")
SHORT = ("--timeout", 0.5)
CASES = {
    "daily limit": Case("create", refusing(400, QUOTA), 5, f"submissions are used up. Kaggle says: {QUOTA}"),
    "daily limit at the start": Case("start", refusing(400, DAILY), 5, f"UTC. Kaggle says: {DAILY}"),
    "rules": Case("start", refusing(403, RULES), 4, f"digit-recognizer/rules first. Kaggle says: {RULES}"),
    "phone": Case("create", refusing(403, PHONE), 4, "verify your phone number at https://www.kaggle.c"),
    "closed": Case("create", refusing(400, "Deadline passed."), 6, "(400). Kaggle says: Deadline passed."),
    "404": Case("list", refusing(404, "Not found"), 7, "Kaggle does not find it. Kaggle says: Not found"),
    "404 elsewhere": Case(
        "list", refusing(404, "No such"), 2, "--competition mnist: Kaggle finds no such comp", ELSEWHERE
    ),
    "403 elsewhere": Case("list", [], 4, "in mnist: is the name right, are the rules accepted", ELSEWHERE),
    "429": Case("list", refusing(429, "", Retry_After="0"), 7, "too many requests (429); try again later"),
    "429 for an hour": Case(
        "create", refusing(429, "", Retry_After="3600"), 7, "try again in 3600 seconds. Nothing was submitted"
    ),
    "429 once": Case("create", [refusing(429, "", Retry_After="0")]),
    "a strange Retry-After": Case("list", refusing(429, "", Retry_After="²"), 7, "try again later"),
    "500 once, listing": Case("list", [refusing(500, "oops")]),
    "500 once, submitting": Case("create", [refusing(500, "oops")], 7, STAYS_AWAY),
    "500 always, listing": Case("list", refusing(500, ""), 7, "Kaggle's server failed (500); try again"),
    "407 of the proxy": Case("create", refusing(407, ""), 7, "(407); give them in http_proxy and https"),
    "502 with a page": Case("start", page(502), 7, "Kaggle's server failed (502); try again later"),
    "200 with a page, listing": Case("list", page(200), 7, "a web page came instead of Kaggle's answer"),
    "200 with a page, submitting": Case("create", page(200), 7, STAYS_AWAY),
    "a list with no number": Case("list", listing({"ref": 0}), 7, "makes no sense"),
    "a list with a strange date": Case("list", listing({"ref": 1, "date": "soon"}), 7, "makes no sense"),
    "reset, listing": Case("list", reset, 7, BROKE_OFF),
    "reset once, uploading": Case("put", [reset]),
    "reset once, submitting": Case("create", [reset], 7, STAYS_AWAY),
    "no number": Case("create", answering(TAKEN | {"ref": 0}), 7, STAYS_AWAY),
    "another type": Case("create", answering({"ref": "4000"}), 7, STAYS_AWAY),
    "another shape": Case("create", answering(["ok"]), 7, STAYS_AWAY),
    "moved": Case("create", moved, 7, STAYS_AWAY),
    "moved to nowhere": Case("create", lambda kaggle, request, answer: Response(status=301), 7, STAYS_AWAY),
    "an error with status 200": Case(
        "create", answering({"code": 400, "message": "Closed."}), 6, "does not take the submission (400)"
    ),
    "no number, though it is in": Case("create", [accepting_then(answering({"ref": 0}))]),
    "lost reply": Case("create", [accepting_then(reset)]),
    "upload refused": Case("put", refusing(403, "no"), 7, "Kaggle's storage refused it; try again later"),
    "upload 503": Case("put", refusing(503, "busy"), 7, "Kaggle's storage did not take it; try again later"),
    "upload 503 once": Case("put", [refusing(503, "busy")]),
    "a hang, listing": Case("list", hang, 7, "asking Kaggle for the submissions: no answer within 0", SHORT),
    "a hang, submitting": Case("create", [hang], 7, STAYS_AWAY, SHORT),
    "a hang, though it is in": Case("create", [accepting_then(hang)], options=SHORT),
}


@pytest.mark.parametrize("name", CASES)
def test_an_answer_of_kaggles_becomes_an_exit_code_and_one_line(user: User, name: str) -> None:
    step, fault, code, message, options = CASES[name]
    if isinstance(fault, list):
        user.kaggle.faults[step] = list(fault)
    else:
        user.kaggle.always[step] = fault
    result = user.run("submit", "file.csv", "--verbose", *options)
    assert result.code == code, result.err
    assert len(user.kaggle.submissions) == result.err.count("Kaggle has the file: submission") == (code == 0)
    assert (result.out == SCORED) == (code == 0)
    assert result.err.count("Error: ") == (code != 0)
    assert not code or message in result.last_line
    if code in (4, 5, 6):  # a clear no, which is not asked for again
        assert user.kaggle.seen.count(step) == 1, "retryable"
    known = {outcome["status"] for outcome in ledger_of(user).values()}
    if message == STAYS_AWAY:
        assert known == {"SENT"}
    else:  # Kaggle's clear no leaves no attempt behind
        assert known == ({"COMPLETE"} if code == 0 else set())


def test_a_file_that_kaggle_cannot_score_is_reported_with_its_reason(user: User) -> None:
    reason = "ERROR: Unable to find 28000 required key values in the 'ImageId' column"
    user.kaggle.verdict = {"status": "ERROR", "errorDescription": reason}
    run = write_run(user)
    result = user.run("submit")
    assert (result.code, result.out) == (6, "")
    problem = f"Kaggle could not score submission 4000. Kaggle says: {reason}"
    assert result.last_line == f"Error: submissions/mine/submission.csv: {problem}"
    assert (stored(user, run)["status"], stored(user, run)["public_score"]) == ("ERROR", None)
    assert user.run("submit").code == 3
    assert len(user.kaggle.submissions) == 1


TROUBLES = {
    "": passing,
    "the connection broke off": reset,
    "Kaggle's server failed (500)": refusing(500, "oops"),
    "Kaggle does not accept the credentials": refusing(401, "no"),
    f"the day's submissions are used up. Kaggle says: {QUOTA[:-1]}": refusing(400, QUOTA),
}


@pytest.mark.parametrize("last_look", TROUBLES)
def test_a_score_that_does_not_come_in_time(user: User, last_look: str) -> None:
    user.kaggle.pending = 1_000_000
    user.kaggle.faults["list"] = [passing]
    user.kaggle.always["list"] = TROUBLES[last_look]
    run = write_run(user)
    result = user.run("submit", "--max-wait", 0.2)
    assert (result.code, result.out) == (8, "")
    seen = "Submission 4000 is in, but no score was seen in 0.2 seconds (--max-wait)"
    failed = f"; the last look failed: .*{re.escape(last_look)}.*" if last_look else ""
    assert re.fullmatch(f"{re.escape(seen)}{failed}; `submissions` shows it later", result.last_line)
    assert len(user.kaggle.submissions) == 1
    assert stored(user, run)["status"] == "PENDING"
    user.kaggle.pending = 0
    user.kaggle.always.clear()
    assert user.run("submissions").code == 0
    assert (stored(user, run)["status"], stored(user, run)["public_score"]) == ("COMPLETE", 0.99142)
    assert len(ledger_of(user)) == 1


@pytest.mark.parametrize("score", ["NaN", "Infinity", "n/a", "1.5"])
def test_a_score_that_is_no_share_is_no_accuracy(user: User, score: str) -> None:
    user.kaggle.verdict = {"status": "COMPLETE", "publicScore": score}
    result = user.run("submit", "file.csv")
    said = "public score 1.50000" if score == "1.5" else "complete, but Kaggle shows no public score"
    assert result.out == f"Submission 4000: {said}\n"
    (row,) = listed(user)
    assert (row["public_score"], row["errors"]) == (1.5 if score == "1.5" else None, None)


def test_an_attempt_whose_end_is_unknown_is_looked_for_by_the_next(user: User) -> None:
    go_dark = first(lambda: user.kaggle.always.update({"list": reset}), accepting_then(reset))
    user.kaggle.faults["create"] = [go_dark]
    run = write_run(user)
    result = user.run("submit")
    assert result.code == 7
    assert "It is not known whether Kaggle has the file" in result.last_line
    assert "the same command looks for it first, and submits it again only if" in result.last_line
    user.kaggle.always.clear()
    result = user.run("submit")
    assert result.code == 0
    assert "The attempt before this one had come through: submission 4000\n" in result.err
    assert "public score 0.99142" in result.out
    assert len(user.kaggle.submissions) == 1
    assert stored(user, run)["ref"] == 4000


def lose_the_reply(user: User) -> None:
    """Submit a run whose answer is lost, and which Kaggle's list lacks."""
    write_run(user)
    user.kaggle.faults["create"] = [accepting_then(reset)]
    user.kaggle.listed_after = time.time() + 1000
    result = user.run("submit")
    assert result.code == 7
    assert STAYS_AWAY in result.last_line


@pytest.mark.parametrize(("option", "waits"), [(["--list-lag", 2], True), (["--force"], False)])
def test_a_submission_that_the_list_never_shows_is_submitted_again_when_promised(
    user: User, option: list[object], waits: bool
) -> None:
    lose_the_reply(user)
    started = time.monotonic()
    result = user.run("submit", "--no-wait", *option)
    assert result.code == 0, result.err
    assert not waits or time.monotonic() - started > 0.5  # the ledger counts whole seconds
    gone = "Kaggle's list does not have the file 2 seconds after the attempt before this one; "
    looked = re.search(r"looking for it in Kaggle's list for [12] more seconds? \(--force sub", result.err)
    assert (gone in result.err) == bool(looked) == waits
    assert len(user.kaggle.submissions) == 2


def test_the_wait_counts_from_the_moment_it_was_sent(user: User) -> None:
    lose_the_reply(user)
    (entry,) = ledger_of(user).values()
    sent = str(datetime.now(UTC) - timedelta(seconds=90))
    damage(user, json.dumps({entry["file_sha256"]: entry | {"submitted_at": sent}}))
    result = user.run("submit", "--no-wait")  # 90 seconds are more than 45: no wait
    assert result.code == 0
    assert "looking for it" not in result.err


def test_a_submission_that_is_in_but_cannot_be_stored_is_not_lost(user: User) -> None:
    user.kaggle.faults["create"] = [first(lambda: damage(user, "[]"))]
    result = user.run("submit", "file.csv")
    assert result.code == 1
    assert result.last_line.startswith("Error: the file is in, submission 4000, but this cannot be stored: ")


# What must not be printed.


@pytest.mark.parametrize("status", [401, 403, 500])
@pytest.mark.parametrize(
    "echo",
    [
        f"bad key {KEY}",
        "x" * 280 + KEY,  # where the text is cut, a part of the secret must not stay
        f"Authorization: Basic {SECRETS[-1]}",
        f"key ends in {KEY[-7:]}",
        f"Proxy-Authorization of {'hunter22'}",
    ],
)
def test_a_secret_that_kaggle_repeats_is_not_printed(user: User, status: int, echo: str) -> None:
    user.kaggle.always["list"] = refusing(status, echo)
    proxy = user.environment["http_proxy"].replace("//", "//me:hunter22@")
    result = user.run("submit", "file.csv", "--verbose", http_proxy=proxy)  # which looks for SECRETS
    assert result.code == {401: 4, 403: 4, 500: 7}[status]
    assert "***" in result.err
    assert "hunter22" not in result.err


def test_a_secret_in_kaggles_list_is_not_printed(user: User) -> None:
    user.kaggle.list_submission(1, f"[aaaaaaaaaaaa-0000] {KEY}", fileName=f"{SECRETS[-1]}.csv")
    (row,) = listed(user)
    assert row["file"] == "***.csv"
    assert row["message"] == "[aaaaaaaaaaaa-0000] ***"


def test_a_tag_that_shares_digits_with_a_key_stays() -> None:
    ada = account.Account("", {"KAGGLE_USERNAME": stub_kaggle.USER, "KAGGLE_KEY": KEY})
    assert ada.redacted(f"[{KEY[:12]}-{KEY[:4]}] {KEY}") == f"[{KEY[:12]}-{KEY[:4]}] ***"


def test_control_sequences_do_not_reach_the_terminal(user: User) -> None:
    name = f"a{EVIL}\n.csv"
    write_csv(user.folder / name)
    user.kaggle.verdict = {"status": "ERROR", "errorDescription": EVIL}
    commands = (["submit", "--dry-run", name], ["submit", name, "-m", f"m{EVIL}"], ["submissions"])
    results = [user.run(*arguments) for arguments in commands]
    assert results[-1].out.count("\n") == 3
    assert "\\x1b[31m\\x9b2J\\u202ex\\u2066\\x07" in results[-1].out
    user.kaggle.always["list"] = refusing(403, EVIL)
    results.append(user.run("submissions", "--verbose"))
    assert "Kaggle says: \\x1b[31m\\x9b2J\\u202ex" in results[-1].last_line
    for result in results:
        assert (result.out + result.err).replace("\n", "").isprintable()


# Options, messages and exit codes.


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999", "0", "-1"])
@pytest.mark.parametrize("option", ["--timeout", "--max-wait", "--list-lag", "--retry-delay"])
def test_seconds_that_are_no_positive_number_are_a_usage_error(user: User, option: str, value: str) -> None:
    variable = f"DIGIT_RECOGNIZER_{option[2:].upper().replace('-', '_')}"
    for result in (
        user.run("submit", "file.csv", option, value),
        user.run("submit", "file.csv", **{variable: value}),
    ):
        assert result.refusal(2)
    assert user.kaggle.seen == []


def test_a_long_message_is_refused_before_any_work(user: User) -> None:
    limit = candidate.MESSAGE_LIMIT
    line = f"Error: --message: found {limit + 1} characters, expected at most {limit}"
    assert user.run("submit", "nowhere.csv", "-m", "m" * (limit + 1)).refusal(2) == line
    assert user.run("submit", "file.csv", "-m", "m" * limit).code == 0
    description = user.kaggle.submissions[0]["description"]
    assert ledger.TAG.match(description)  # first, lest a cut take it
    assert description.endswith(" " + "m" * limit)
    write_csv(user.folder / ("n" * 251 + ".csv"), label=5)
    assert user.run("submit", "n" * 251 + ".csv").code == 0
    assert user.kaggle.submissions[0]["description"].endswith("] " + "n" * limit)  # is cut


def test_a_message_that_quotes_another_files_tag_leaves_that_run_alone(user: User) -> None:
    run = write_run(user)
    assert user.run("submit").code == 0
    tag = ledger.TAG.match(stored(user, run)["message"])[0]
    user.kaggle.verdict = {"status": "COMPLETE", "publicScore": "0.1"}
    result = user.run("submit", "file.csv", "-m", f"better than {tag} [of today]")
    assert (result.code, result.out) == (0, "Submission 4001: public score 0.10000, 90 errors of 100\n")
    assert user.kaggle.submissions[0]["description"].endswith(f"better than ({tag[1:-1]}) [of today]")
    assert [(row["ref"], row["run"]) for row in listed(user)] == [(4001, None), (4000, "mine")]
    assert stored(user, run)["ref"] == 4000
    (user.folder / "submissions/.submitted.json").unlink()
    assert "(submission 4001, " in user.run("submit", "file.csv").last_line


def test_the_last_tag_of_a_message_says_which_file_it_is_of(user: User) -> None:
    """As versions before this one wrote it, and by hand; a number stored for the wrong file counts less."""
    run, other, third = (write_run(user, str(label), label=label) for label in (4, 5, 6))
    user.kaggle.list_submission(7, f"like [{hash_of(run)[:12]}-0000] but [{hash_of(other)[:12]}-0000]")
    user.kaggle.list_submission(8, "[ffffffffffff-0000] another file", status="COMPLETE", publicScore="0.1")
    store(run.parent, hash_of(third), 8)
    assert [(row["ref"], row["run"]) for row in listed(user)] == [(8, None), (7, "5")]
    assert stored(user, run) is None
    assert stored(user, other)["ref"] == 7
    assert stored(user, third)["status"] == "PENDING"


def test_every_exit_code_of_the_errors_is_in_the_table_and_the_help(user: User) -> None:
    classes = [errors.DigitRecognizerError]
    for error in classes:
        classes += error.__subclasses__()
    for error in errors.KaggleError.__subclasses__():
        says = vars(error).keys()
        assert {"exit_code", "retryable", "outcome_unknown"} <= says, f"say so of {error.__name__}"
    raised = {0, *(error.exit_code for error in classes)}
    assert raised == set(errors.EXIT_CODES), "of classes in errors.py, and in EXIT_CODES"
    without_answer = {1, 3, 8, 130}  # the user's files, a score that does not come, Ctrl-C
    missing = raised - {case.code for case in CASES.values()} - without_answer
    assert not missing, "recognise it in leaderboard/advice.py, and add a case to CASES"
    context = click.Context(cli_kaggle.submit, info_name="submit")
    shown = " ".join(cli_kaggle.submit.get_help(context).split())
    for code, meaning in errors.EXIT_CODES.items():
        assert f"{code}: {meaning}" in shown


# The list.


def test_submissions_are_matched_to_runs(user: User) -> None:
    write_run(user)
    assert user.run("submit").code == 0
    assert user.run("submit", "file.csv", "-m", "by hand").code == 0
    (user.folder / "submissions/.submitted.json").unlink()
    rows = listed(user)
    assert [(row["ref"], row["run"]) for row in rows] == [(4001, None), (4000, "mine")]
    assert {row["status"] for row in rows} == {"COMPLETE"}
    assert {rows[0][name] for name in ("validation", "gap", "expected_score", "in_interval")} == {None}
    assert (rows[1]["expected_score"], rows[1]["in_interval"]) == (EXPECTED, "inside")
    assert rows[0]["errors"] == rows[1]["errors"] == 1
    assert rows[1]["validation"] == {"accuracy": 0.9938, "low": 0.9913, "high": 0.9956}
    assert rows[1]["gap"] == pytest.approx(0.99142 - 0.9938)
    assert rows[1]["date"] == "2026-11-21T10:00:00+00:00"
    result = user.run("submissions")
    assert result.err == "1 of 1 public scores are inside their 95% intervals\n"
    head, by_hand, mine = (re.split("  +", line) for line in result.out.splitlines())
    assert head[:4] == ["run", "ref", "date (UTC)", "status"]
    assert head[4:] == ["public score", "errors", "expected", "in it", "validation accuracy"]
    assert by_hand[5:] == ["1", "-", "-", "-"]
    assert mine[:4] == ["mine", "4000", "2026-11-21 10:00", "COMPLETE"]
    assert mine[4:] == ["0.99142", "1", "0.9911 to 0.9957", "inside", "0.9938"]


@pytest.mark.parametrize(
    ("score", "place"),
    [("0.99108", "below"), ("0.99109", "inside"), ("0.9957", "inside"), ("0.99571", "above")],
)
def test_a_score_is_inside_or_outside_what_was_expected(user: User, score: str, place: str) -> None:
    """Kaggle cuts a score to five decimals: 0.99109 may have been 0.9911 less a hair."""
    write_run(user)
    user.kaggle.verdict["publicScore"] = score
    assert user.run("submit").out.endswith(f"expected 0.9911 to 0.9957: {place}\n")
    assert [row["in_interval"] for row in listed(user)] == [place]
    held = int(place == "inside")
    assert user.run("submissions").err == f"{held} of 1 public scores are inside their 95% intervals\n"


def test_a_ledger_of_an_earlier_version_is_read(user: User) -> None:
    run = write_run(user)
    assert user.run("submit").code == 0
    entries = ledger_of(user)
    entry = entries[hash_of(run)]
    entry["local"] = entry.pop("validation")
    del entry["expected"]
    damage(user, json.dumps(entries))
    (row,) = listed(user)
    assert (row["validation"]["accuracy"], row["expected_score"]) == (0.9938, None)


def test_a_list_of_several_pages_is_read_to_its_end(user: User) -> None:
    def rest(kaggle: Any, request: Any, answer: Any) -> Response:
        assert (request.json["pageToken"], request.json.get("page")) == ("more", None)
        return answer()

    sha256 = write_csv(user.folder / "file.csv")
    user.kaggle.list_submission(4000, f"[{sha256[:12]}-0000] long ago", looks=1, **user.kaggle.verdict)
    first = {"ref": 1, "status": "PENDING"}
    user.kaggle.faults["list"] = [answering({"submissions": [first], "nextPageToken": "more"}), rest]
    assert user.run("submit", "file.csv").last_line == f"Error: file.csv: {IS_THERE}"
    assert user.kaggle.seen == ["list", "list"]


def test_the_ledger_keeps_what_a_run_scored_before_it_was_resumed(user: User) -> None:
    run = write_run(user)
    assert user.run("submit").code == 0
    outcome = json.loads(user.run("runs", "--json").out)["runs"][0]["kaggle"]
    assert (outcome["ref"], outcome["run"], outcome["public_score"]) == (4000, "mine", 0.99142)
    shutil.rmtree(run)
    write_run(user, label=6, accuracy=0.995)
    assert json.loads(user.run("runs", "--json").out)["runs"][0]["kaggle"] is None
    (row,) = listed(user)
    assert (row["run"], row["validation"]["accuracy"]) == ("mine", 0.9938)
    assert row["gap"] == pytest.approx(0.99142 - 0.9938)
    damage(user, "[]")
    result = user.run("runs")
    assert result.out.startswith("run ")
    assert result.err.startswith("submissions/.submitted.json: input should be an object; mend it")


def test_submissions_are_sorted_by_moment_not_text(user: User) -> None:
    for ref, date in ((1, "2026-11-21T09:00:00Z"), (2, "2026-11-21T10:00:00+09:00"), (3, None)):
        user.kaggle.list_submission(ref, "", date=date)
    user.kaggle.list_submission(4, "", date="2026-11-21T08:00:00")  # without a time zone it is UTC
    rows = listed(user)
    assert [row["ref"] for row in rows] == [1, 4, 2, 3]
    assert rows[1]["date"] == "2026-11-21T08:00:00+00:00"
    assert rows[2]["date"] == "2026-11-21T01:00:00+00:00"


# The script.


@pytest.mark.slow
def test_the_script_behaves_the_same_from_everywhere(user: User) -> None:
    write_csv(user.folder / "my file.csv")
    home = user.folder / "a clone"
    script, python = home / "scripts/submit.sh", home / ".venv/bin/python"
    program = f'#!/bin/sh\nexec {sys.executable} "$@"\n'
    for file, content in {script: (ROOT / "scripts/submit.sh").read_text(), python: program}.items():
        file.parent.mkdir(parents=True)
        file.write_text(content)
        file.chmod(0o755)
    result = user.run_process("my file.csv", "my message", command=(str(script),))
    assert (result.code, result.out) == (0, SCORED_WHOLE), result.err
    assert user.kaggle.submissions[0]["description"].endswith("] my message")
    user.folder = home / "scripts"
    result = user.run_process("../../my file.csv", command=("./submit.sh",))
    assert result.code == 3  # its own ledger knows it, wherever it is called from
    assert user.run_process("a", "b", "c", command=("./submit.sh",)).code == 2
    empty = user.run_process("", command=("./submit.sh",))
    assert (empty.code, empty.out) == (2, "")
    assert "FILE is empty; did train fail?" in empty.err
    python.unlink()
    result = user.run_process(command=("./submit.sh",))
    assert result.code == 2
    assert result.err.startswith(f"Error: {home}/.venv is not there; run: make install")
