"""What commands print, as wide as the terminal: a real pseudo-terminal, and none."""

import os
import re
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any, TextIO
from unittest import mock

import pytest
from conftest import Result, changed, typed

from digit_recognizer import runs
from digit_recognizer.cli import progress, tables, terminal
from digit_recognizer.leaderboard.ledger import KaggleSubmission
from digit_recognizer.training import Progress

fcntl, termios = map(pytest.importorskip, ("fcntl", "termios"))  # not on Windows
NARROW = pytest.mark.parametrize("columns", [80, 60])
SENT = "2026-11-30T03:00:00+00:00"
REJECTED = "Evaluation failed: the submission has rows that were not expected, and lacks others"


@contextmanager
def pseudo_terminal(columns: int) -> Iterator[tuple[TextIO, list[bytes]]]:
    """Yield a terminal of so many columns to write to, and what it got, complete after the block."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    got: list[bytes] = []

    def read() -> None:
        try:
            while content := os.read(master, 1 << 16):
                got.append(content)
        except OSError:  # Linux's word for the end
            pass

    reader = threading.Thread(target=read)
    reader.start()
    try:
        with os.fdopen(slave, "w", encoding="utf-8") as stream:
            yield stream, got
    finally:
        reader.join()
        os.close(master)


def shown(columns: int, write: Callable[[], object]) -> list[str]:
    """Return the lines that a terminal gets; the cursor's movements begin lines, too."""
    with pseudo_terminal(columns) as (stream, got), redirect_stdout(stream), redirect_stderr(stream):
        write()
    return lines_of(got)


def lines_of(got: list[bytes]) -> list[str]:
    text = b"".join(got).decode().replace("\r\n", "\n").replace("\r", "\n")
    return [line.rstrip() for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).split("\n") if line]


def listed_submissions() -> list[KaggleSubmission]:
    listed = KaggleSubmission(
        ref=40_000_000, date=SENT, file_name="20261130-033700.csv", description="m", status="ERROR",
        public_score=None, error_description=REJECTED,
    )  # fmt: skip
    news = {"status": "COMPLETE", "public_score": 0.99321, "error_description": "", "file_name": "r" * 70}
    return [listed, changed(listed, **news)]


@NARROW
@pytest.mark.parametrize("kind", ["runs", "scores", "folds", "submissions"])
def test_a_table_fits_the_terminal_with_whole_columns(tiny_run: runs.Run, kind: str, columns: int) -> None:
    lines = {
        "runs": lambda: tables.runs([tiny_run], {}, ["best"]),
        "scores": lambda: tables.scores(tiny_run),
        "folds": lambda: tables.folds(tiny_run),
        "submissions": lambda: list(tables.submissions(listed_submissions()))[:3],  # without the reason
    }[kind]
    everywhere = list(lines())  # where stdout is no terminal
    fitted = shown(columns, lambda: terminal.results(lines()))
    assert max(map(len, fitted)) <= columns
    heads, kept = ([re.split(r" {2,}", line)[0] for line in each] for each in (everywhere, fitted))
    if kind == "folds" and columns == 60:
        assert re.split(r" {2,}", fitted[0]) == ["accuracy", "mean", "std", "95% interval"]
        assert kept[1:] == list(tiny_run.manifest.scores)
        return
    assert [head.removesuffix("...") for head in kept] == [
        head[: columns - 3] if len(head) > columns else head for head in heads
    ]
    assert set(re.split(r" {2,}", fitted[0])) <= set(re.split(r" {2,}", everywhere[0]))
    assert (fitted == everywhere) == (max(map(len, everywhere)) <= columns)


def test_the_most_important_columns_stay(tiny_run: runs.Run) -> None:
    def heads(columns: int, *others: runs.Run) -> list[str]:
        listed = [tiny_run, *others]
        verdicts = ["best"] + ["cannot tell"] * len(others)
        lines = shown(columns, lambda: terminal.results(tables.runs(listed, {}, verdicts)))
        return re.split(r" {2,}", lines[0])

    manifest = changed(tiny_run.manifest, **{"config.data.kind": "competition"})
    other = runs.Run(Path("20261130-063157"), manifest)
    everything = [head for head, _ in tables.RUN_COLUMNS]
    assert set(tables.SPARE_RUNS) == set(everything) - {"run", "validation accuracy"}, "tables.SPARE_RUNS"
    assert heads(200) == everything
    most = ["run", "validation accuracy", "against best", "public score"]
    assert heads(80) == ["run", "data", most[1], "95% interval", *most[2:]]
    assert heads(59) == most
    assert heads(10) == ["run"]
    assert heads(80, other) == ["run", "data", *most[1:]]
    assert heads(60, other)[:3] == ["run", "data", "validation accuracy"]
    submissions = {head for head, _ in tables.SUBMISSION_COLUMNS}
    assert set(tables.SPARE_SUBMISSIONS) == submissions - {"run"}, "tables.SPARE_SUBMISSIONS"


@NARROW
def test_notices_and_prose_break_between_words(tmp_path: Path, columns: int) -> None:
    path = f"/home/{'a-long-name/' * 8}train.csv"
    text = f"{path}: row 3 below the header is cut short: found 1 of 785 values; download the file again"
    lines = shown(columns, lambda: terminal.notice(text))
    assert " ".join(lines) == text
    assert [line for line in lines if len(line) > columns] == [f"{path}:"]
    with pseudo_terminal(columns) as (stream, got):
        typed("recipes", cwd=tmp_path, stdout=stream)
    listed = b"".join(got).decode().splitlines()
    assert max(map(len, listed)) <= columns
    assert " ".join(" ".join(listed).split()) == " ".join(typed("recipes", cwd=tmp_path).out.split())


def test_json_stays_in_one_line(tmp_path: Path) -> None:
    with pseudo_terminal(60) as (stream, got):
        typed("recipes", "--json", cwd=tmp_path, stdout=stream)
    assert b"".join(got).count(b"\n") == 1


@NARROW
@pytest.mark.parametrize(
    "names", [("keras-mlp", "sklearn-mlp"), ("keras-mlp", "sklearn-mlp-scaled"), ("sklearn-mlp", "x" * 70)]
)
def test_bars_fit_and_estimate_after_a_whole_epoch(
    monkeypatch: pytest.MonkeyPatch, names: tuple[str, str], columns: int
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))  # rich asks the process's own streams first

    def train(epochs: int) -> None:
        with progress.show_progress() as on_progress:
            for name in names:
                on_progress(Progress(f"{name} holdout", 0.0, 0, 60, {}))
            for epoch in range(1, epochs + 1):
                for name in names:  # side by side
                    metrics = {"valid_accuracy": 0.9 + epoch / 1000}
                    on_progress(Progress(f"{name} holdout", epoch / 60, epoch, 60, metrics))

    for epochs in (1, 60):
        lines = shown(columns, lambda epochs=epochs: train(epochs))
        assert max(map(len, lines)) <= columns - len("^C")  # which would begin a line, and move the bars
        whole, *each = lines[-3:]
        assert whole.startswith("all fits")
        if columns == 80 and "x" * 70 not in names:
            assert "━" in whole
        if columns == 80 and names[1] == "sklearn-mlp":
            assert f"epoch {epochs} of 60 left" in each[0]
        if "x" * 70 not in names:
            assert all(line.endswith(f"validation accuracy {0.9 + epochs / 1000:.4f}") for line in each)
            waiting = [line for line in lines if "-:--:--" in line]
            assert "left" not in whole or (waiting[-3:] == lines[-3:]) == (epochs == 1)


@pytest.mark.parametrize("columns", [80, 60, 40])
def test_a_downloads_bar_fits_in_one_line(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    text = "downloading the archive: the connection broke off; check the network. Trying again"

    def download() -> None:
        with progress.download_bar() as on_progress:
            on_progress(1_000_000, 76_900_000)
            terminal.notice(text)
            on_progress(76_900_000, 76_900_000)

    lines = shown(columns, download)
    bars = [line for line in lines if line.startswith("Downloading ━")]
    assert " ".join(line for line in lines if line not in bars) == text
    assert max(map(len, lines)) <= columns - len("^C")
    assert bars[-1].endswith("━ 76.9/76.9 MB 0:00:00")


@pytest.mark.slow
def test_commands_that_talk_to_kaggle_fit_the_terminal(user: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import stub_kaggle

    user.kaggle.archive = bytes(3_000_000)
    user.kaggle.faults["archive"] = [stub_kaggle.cut(0.5, stub_kaggle.reset)]
    for command, seen in {"download": "Downloading ━", "submissions": "asking Kaggle for the sub"}.items():
        with pseudo_terminal(60) as (stream, got):
            monkeypatch.setattr(stub_kaggle, "typed", partial(typed, stderr=stream))
            user.run(command, TERM="xterm", COLUMNS="60")
        lines = lines_of(got)
        assert [line for line in lines if seen in line]
        assert max(map(len, lines)) <= 60, lines


def test_a_stopped_command_leaves_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    error = KeyboardInterrupt()
    error.add_note("submissions/a keeps 2 finished fits.")
    monkeypatch.setattr(runs, "list_all", mock.Mock(side_effect=error))
    stopped = Result(130, "", "Stopped. submissions/a keeps 2 finished fits.\n")
    assert typed("runs", cwd=tmp_path) == stopped


def test_where_time_decides_the_table_tells_each_nets_epochs(tiny_run: runs.Run) -> None:
    timed = runs.Run(tiny_run.folder, changed(tiny_run.manifest, **{"config.minutes": 0.5}))
    head, *lines = tables.scores(timed)
    assert head.endswith("  epochs")
    epochs = [str(net.epochs) for net in tiny_run.manifest.settings.values()]
    assert [line.split()[-1] for line in lines[: len(epochs)]] == epochs
    assert not next(tables.scores(tiny_run)).endswith("epochs")
