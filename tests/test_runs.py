"""A finished run's folder: written, read, found, listed; and damaged."""

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from conftest import TEST, TRAIN, changed, memory_below, raises_line, typed

from digit_recognizer import runs
from digit_recognizer.cli import tables
from digit_recognizer.errors import RunError
from digit_recognizer.leaderboard.ledger import KaggleOutcome


@pytest.fixture
def copied(tmp_path: Path, tiny_run: runs.Run) -> runs.Run:
    """A run that the test may spoil."""
    shutil.copytree(tiny_run.folder, tmp_path / "runs/tiny")
    return runs.load(tmp_path / "runs/tiny")


def test_what_a_run_stored_is_what_is_loaded(copied: runs.Run, tiny_run: runs.Run) -> None:
    held_out, members = tiny_run.predictions()
    labels = np.arange(TEST) % 10
    runs.write_probabilities(
        copied.folder / "probabilities-1.npz", replace(held_out, test_labels=labels), members
    )
    runs.write_manifest(copied.folder, tiny_run.manifest)
    run = runs.load(copied.folder)
    assert run.manifest == tiny_run.manifest
    assert run.submission == copied.folder / "submission.csv"
    loaded_held_out, loaded = run.predictions()
    assert sorted(held_out.rows) == list(range(TRAIN))
    for name in ("rows", "folds", "labels"):
        np.testing.assert_array_equal(getattr(loaded_held_out, name), getattr(held_out, name))
    np.testing.assert_array_equal(loaded_held_out.test_labels, labels)
    assert tiny_run.predictions()[0].test_labels is None
    assert [member.name for member in loaded] == list(run.manifest.scores)
    for before, after in zip(members, loaded, strict=True):
        np.testing.assert_array_equal(after.out_of_fold, before.out_of_fold, strict=True)
        np.testing.assert_array_equal(after.test, before.test, strict=True)


def test_runs_are_found_by_name_or_folder(tmp_path: Path, copied: runs.Run) -> None:
    assert runs.find(copied.folder.parent, "tiny").folder == copied.folder
    assert runs.find(Path("elsewhere"), str(copied.folder)).folder == copied.folder
    with pytest.raises(RunError, match=r"nosuch: no such run"):
        runs.find(tmp_path, "nosuch")
    with pytest.raises(RunError, match=r"tinny: no such run; did you mean tiny\? `runs` lists the runs"):
        runs.find(copied.folder.parent, "tinny")


@pytest.mark.parametrize("inside", ["", "fits", "fits/new"])
def test_no_run_is_made_and_no_page_written_in_another(copied: runs.Run, tmp_path: Path, inside: str) -> None:
    out = f"runs/tiny/{inside}".rstrip("/")
    before = sorted(copied.folder.rglob("*"))
    for words in (["train"], ["ensemble", copied.folder], ["compare", *[copied.folder] * 2, "--report"]):
        reason = "cannot be written (it belongs to the run tiny); name a place outside"
        assert typed(*words, "--out", out, cwd=tmp_path).refusal() == f"Error: {out}: {reason}"
    assert sorted(copied.folder.rglob("*")) == before


def test_a_command_without_a_name_says_which_run_it_takes(copied: runs.Run) -> None:
    result = typed("predict", "nothing.png", "--out", copied.folder.parent, cwd=copied.folder)
    score = copied.main_score.accuracy
    assert result.err.splitlines()[0] == f"tiny is the newest run: validation accuracy {score:.4f}"


def test_runs_of_two_time_zones_are_listed_by_the_moment(tmp_path: Path, tiny_run: runs.Run) -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    east, west = timezone(timedelta(hours=9)), timezone(timedelta(hours=-8))
    moments = {
        "old": noon.astimezone(east),  # 21:00
        "middle": (noon + timedelta(hours=1)).astimezone(west),  # 05:00
        "new": (noon + timedelta(hours=2)).astimezone(UTC),
        ".unfinished": noon + timedelta(days=1),
    }
    for name, created in moments.items():
        (tmp_path / name).mkdir()
        runs.write_manifest(tmp_path / name, changed(tiny_run.manifest, created=created, name=name))
    (tmp_path / "no run").mkdir()
    problems: list[str] = []
    listed = runs.list_all(tmp_path, problems.append)
    assert [run.folder.name for run in listed] == ["new", "middle", "old"]
    assert problems == []


def test_each_column_of_runs_says_what_its_head_says(tiny_run: runs.Run) -> None:
    outcome = KaggleOutcome(
        ref=7, status="COMPLETE", public_score=0.5, message="m", submitted_at=None, file_sha256="0" * 64
    )
    manifest, score = tiny_run.manifest, tiny_run.main_score
    assert {head: cell((tiny_run, outcome, "cannot tell")) for head, cell in tables.RUN_COLUMNS} == {
        "run": "tiny",
        "created": f"{manifest.created:%Y-%m-%d %H:%M}",
        "recipes": "sklearn-mlp+sklearn-mlp-plain",
        "data": "other",
        "validation accuracy": f"{score.accuracy:.4f}",
        "95% interval": f"{score.low:.4f} to {score.high:.4f}",
        "against best": "cannot tell",
        "public score": "0.50000",
        "seconds": f"{manifest.seconds['total']:.0f}",
    }
    assert dict(tables.RUN_COLUMNS)["public score"]((tiny_run, None, "best")) == "-"


def test_a_damaged_manifest_is_told_and_hides_no_other_run(tmp_path: Path, copied: runs.Run) -> None:
    damaged = copied.folder.with_name("damaged")
    damaged.mkdir()
    (damaged / "run.json").write_text('{"format": 4}')
    advice = "train that run again, or use the version that wrote it"
    reason = f"runs/damaged/run.json: name: field required; {advice}"
    assert typed("report", "damaged", "--out", "runs", cwd=tmp_path).refusal() == f"Error: {reason}"
    listed = typed("runs", "--out", "runs", cwd=tmp_path)
    assert (listed.code, listed.err) == (0, f"{reason}; it is left out\n")
    assert [line.split()[0] for line in listed.out.splitlines()] == ["run", "tiny"]


BAD: dict[str, Callable[[Path], object]] = {
    "endless": lambda path: path.symlink_to("/dev/zero"),
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
    "errors": lambda path: path.write_text(
        '{"scores": {' + ",".join(f'"{n}":{{}}' for n in range(2000)) + "}}"
    ),
    "values": lambda path: path.write_text('{"scores": [' + "0," * 600_000 + "0]}"),
}


@pytest.mark.parametrize("kind", BAD)
def test_one_bad_folder_hides_no_other_run(tmp_path: Path, copied: runs.Run, kind: str) -> None:
    bad = copied.folder.with_name("bad")
    bad.mkdir()
    path = bad / "run.json"
    BAD[kind](path)
    problems: list[str] = []
    listed = runs.list_all(copied.folder.parent, problems.append)
    assert [run.folder for run in listed] == [copied.folder]
    assert len(problems) == 1
    assert problems[0].startswith(f"{path}: ")
    assert len(problems[0]) < 300


def test_what_is_no_readable_folder_is_not_called_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    for command in ("runs", "report", "submit"):
        refused = typed(command, "--out", "file", cwd=tmp_path)
        reason = "Error: file: cannot be read (Not a directory); name another folder with --out\n"
        assert (refused.code, refused.out, refused.err) == (1, "", reason)

    def refuse(_: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(RunError, match=r"cannot be read \(Permission denied\)"):
        runs.list_all(tmp_path, pytest.fail)


def test_damaged_probabilities_raise_run_error_in_one_line(copied: runs.Run) -> None:
    path = copied.folder / "probabilities-1.npz"
    content = path.read_bytes()
    cut = [content[:length] for length in (0, 2, 100, len(content) // 2, len(content) - 1)]
    step = len(content) // 100
    places = range(0, len(content), step)
    flipped = [content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :] for at in places]
    messages = []
    for spoilt in [*cut, *flipped]:
        path.write_bytes(spoilt)
        try:
            copied.predictions()
        except RunError as error:
            messages.append(str(error))
    assert len(messages) >= 0.9 * (len(cut) + len(flipped))  # a date or the like may be damaged unnoticed
    assert all(message.startswith(f"{path}: is damaged (") for message in messages)
    assert not any("\n" in message for message in messages)
    path.unlink()
    with pytest.raises(RunError, match=r"probabilities-1\.npz: cannot be read \(No such file"):
        copied.predictions()


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("rows", np.zeros(TRAIN)),
        ("folds", np.zeros(TRAIN - 1, int)),
        ("labels", np.full(TRAIN, 10)),
        ("test_labels", np.zeros(TEST + 1, int)),
        ("sklearn-mlp/out_of_fold", np.zeros((TRAIN, 9))),
        ("sklearn-mlp/test", np.zeros((TEST - 1, 10))),
        ("blend/test", np.full((TEST, 10), np.nan)),
        ("blend/out_of_fold", np.full((TRAIN, 10), "x")),
        ("blend/out_of_fold", np.full((TRAIN, 10), -0.1)),
        ("blend/test", np.full((TEST, 10), 1e30, np.float32)),
        ("rows", np.full(TRAIN, TRAIN)),
        ("rows", np.full(TRAIN, -1)),
        ("rows", np.array(0)),
        ("folds", np.full(TRAIN, 2**62)),
    ],
)
def test_probabilities_of_another_shape_raise_run_error(
    copied: runs.Run, name: str, array: np.ndarray
) -> None:
    path = copied.folder / "probabilities-1.npz"
    with np.load(path) as stored:
        arrays = dict(stored)
    np.savez(path, **{**arrays, name: array})
    with raises_line(RunError, rf"probabilities-1\.npz: is damaged \(.*{name}[ .]"):
        copied.predictions()


@pytest.mark.parametrize("compressed", [True, False])
def test_probabilities_that_unpack_to_gigabytes_are_refused_unread(
    copied: runs.Run, compressed: bool
) -> None:
    path = copied.folder / "probabilities-1.npz"
    if compressed:
        np.savez_compressed(path, rows=np.zeros(5_000_000))
    else:
        os.truncate(path, 2**31)
    reason = "its arrays are larger than the file" if compressed else "is larger tha"
    with memory_below(2**22), pytest.raises(RunError, match=reason):
        copied.predictions()
