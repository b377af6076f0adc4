"""Streams that are gone, full or of another encoding; signals before the commands are there."""

import io
import os
import signal
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TextIO

import pytest
from conftest import DEADLINE, Result, environment, run_program, set_options, start_program, typed

import digit_recognizer
from digit_recognizer import data, runs
from digit_recognizer.cli import progress, terminal
from digit_recognizer.training import Progress

SMALL = ("--jobs", "1", "--recipe", "sklearn-mlp-plain", *set_options(("hidden=16", "epochs=2")))


class Full(io.FileIO):
    """A file on a full disk."""

    def write(self, _: object) -> int:
        raise OSError(28, "No space left on device")


def safe(raw: io.FileIO, encoding: str = "utf-8", *, needed: bool = True) -> TextIO:
    """Return a stream as `make_streams_safe` leaves one that writes to `raw`."""
    return terminal._safe(io.TextIOWrapper(io.BufferedWriter(raw), encoding=encoding), needed=needed)


@pytest.mark.parametrize(
    ("arguments", "note"),
    [
        (["--help"], ""),
        (["--version"], ""),
        (["recipes"], ""),
        (["runs", "--out", "."], ""),
        (["check", "tiny"], ""),
        (["predict", "test.csv", "--run", "tiny"], ""),
        (["predict", "test.csv", "--run", "tiny", "--csv", "labels.csv"], "The file is written: labels.csv"),
        (["draw", "tiny", "--no-open"], "The page is written: "),
        (["train", "--data-dir", "digits", *SMALL, "--name", "a"], "The run is complete: submissions/a/subm"),
        (["validate", "--data-dir", "digits", *SMALL, "--folds", "2"], "The run is complete: submissions/2"),
        (["ensemble", "tiny", "--name", "b"], "The run is complete: submissions/b/submission.csv"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_results_that_cannot_be_written_end_each_command_in_one_line(
    tmp_path: Path, folder: Path, tiny_run: runs.Run, test_csv: str, arguments: list[str], note: str
) -> None:
    (tmp_path / "test.csv").write_text(test_csv)
    (tmp_path / "tiny").symlink_to(tiny_run.folder)
    result = typed(*arguments, cwd=tmp_path, stdout=safe(Full(tmp_path / "full", "w")))
    assert result.code == 1
    assert result.last_line.startswith("Error: stdout: cannot be written (No space left on device)")
    assert note in result.last_line
    assert "Traceback" not in result.err


def test_who_reads_the_head_of_a_result_is_told_no_more(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stdout = safe(io.FileIO(writer, "w"))
    result = typed("recipes", cwd=tmp_path, stdout=stdout)
    stdout.flush()  # as Python does at its end, which would else be 120
    assert (result.code, result.err) == (1, "")


def test_stderr_without_a_reader_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    reader, writer = os.pipe()
    os.close(reader)
    stderr = safe(io.FileIO(writer, "w"), "ascii", needed=False)
    stderr.isatty = lambda: True
    with redirect_stderr(stderr):
        terminal.notice("ł\udcff")
        with progress.show_progress() as on_progress:
            on_progress(Progress("net holdout", 0.5, 1, 2, {}))
            terminal.notice("while bars are shown")
    assert os.write(stderr.fileno(), b"from a library") == 14


def test_a_terminal_without_a_cursor_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    stderr = io.StringIO()
    stderr.isatty = lambda: True
    with redirect_stderr(stderr) as shown, progress.show_progress() as on_progress:
        on_progress(Progress("net holdout", 0.5, 1, 2, {}))
        on_progress(Progress("net holdout", 1.0, 2, 2, {}))
        assert shown.getvalue() == "net holdout: epoch 2 of 2\n"


def test_a_notice_that_a_script_cannot_print_ends_no_run(tmp_path: Path, folder: Path) -> None:
    with redirect_stdout(io.TextIOWrapper(io.BufferedWriter(Full(tmp_path / "full", "w")))):
        run = digit_recognizer.train(
            "sklearn-mlp-plain", settings={"hidden": [16], "epochs": 2}, jobs=1, data_dir=folder, out=tmp_path
        )
    assert run.submission.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no names of such bytes")
def test_names_beyond_the_encoding_are_escaped(tmp_path: Path, folder: Path, test_csv: str) -> None:
    digits = folder.rename(tmp_path / "dat\udcff")
    out, run = tmp_path / "łódź", tmp_path / "łódź" / "a"
    (tmp_path / "\udcff.csv").write_text(test_csv)
    for arguments, last in (
        (["train", "--data-dir", digits, *SMALL, "--name", "a"], r"\u0142\xf3d\u017a/a/submission.csv"),
        (["runs"], "0."),
        (["check", run], r"\u0142\xf3d\u017a/a/submission.csv: 150 rows"),
        (["predict", "\udcff.csv", "--run", run], r"\udcff.csv row 150: "),
        (["predict", "\udcff.csv", "--run", run, "--csv", "\udcfe"], r"\udcfe"),
        (["draw", "a", "--no-open"], r"\u0142\xf3d\u017a/a/draw.html"),
    ):
        if arguments[0] in ("train", "runs", "draw"):
            arguments += ["--out", out]
        with safe(io.FileIO(tmp_path / "shown", "w"), "ascii") as stdout:
            result = typed(*arguments, cwd=tmp_path, stdout=stdout)
        assert result.code == 0, result.err
        assert last in (tmp_path / "shown").read_text(encoding="ascii").splitlines()[-1]
    source = runs.load(run).manifest.config.data.source
    assert data.load(Path(source)).kind == "other"  # the report finds the digits again
    assert r"dat\\udcff" in (run / "run.json").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no such shell")
def test_without_any_stream_it_trains(folder: Path, tmp_path: Path) -> None:
    words = ["train", "--data-dir", "digits", *SMALL, "--folds", "2", "--jobs", "2", "--name", "a"]
    command = f"exec {sys.executable} -m digit_recognizer {' '.join(words)} <&- >&- 2>&-"
    assert run_program("sh", "-c", command, cwd=tmp_path).code == 0
    assert runs.load(tmp_path / "submissions/a").submission.exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="closes a terminal as Linux does")
def test_a_closed_terminal_ends_a_run_as_sigterm_does(folder: Path, tmp_path: Path) -> None:
    import fcntl
    import termios

    master, slave = os.openpty()
    process = start_program(
        sys.executable, "-m", "digit_recognizer", "train", "--data-dir", folder, *SMALL, "--minutes", "0.5",
        "--jobs", "2", "--name", "a", cwd=tmp_path, env=environment() | {"TERM": "xterm"},
        stdin=slave, stdout=slave, stderr=slave, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(slave)
    try:
        while not list((tmp_path / "submissions").rglob("run.json")):
            os.read(master, 1 << 16)  # else the terminal would be full
        os.close(master)
        assert process.wait(DEADLINE) == 0
    finally:
        process.kill()
    assert runs.load(tmp_path / "submissions/a").manifest.stopped_early


INTERRUPTED = """
import os, runpy, signal, sys
class Interrupts:
    def find_spec(self, name, *_):
        if name == "pydantic":
            os.kill(os.getpid(), int(sys.argv[1]))
sys.meta_path.insert(0, Interrupts())
runpy.run_module("digit_recognizer", run_name="__main__")
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_the_commands_are_imported_is_one_line(number: int) -> None:
    ended = run_program(sys.executable, "-c", INTERRUPTED, int(number))
    assert ended == Result(130, "", "Stopped.\n")
