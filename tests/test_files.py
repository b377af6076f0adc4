import os
import stat
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from conftest import DEADLINE, ROOT, full_disk

from digit_recognizer import files
from digit_recognizer.errors import WriteError, machine_fault


@pytest.mark.parametrize(("inside", "expected"), [("", "runs"), ("docs", "../runs"), (None, "runs")])
def test_the_default_folder_is_the_clones_own_only_in_the_clone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: str | None, expected: str
) -> None:
    monkeypatch.chdir(tmp_path if inside is None else ROOT / inside)
    assert files.default_folder("runs").as_posix() == expected
    if inside is None:
        tmp_path.rmdir()
        assert files.default_folder("runs").as_posix() == expected
        with pytest.raises(FileNotFoundError) as gone:
            Path("runs").absolute()
        assert machine_fault(gone.value) == "the current folder was deleted; change to another"


def fill(final: Path, name: str) -> None:
    with files.atomic_folder(final) as folder:
        (folder / name).write_text(name)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def raise_at_line(count: int, error: BaseException, action: Callable[[], object]) -> bool:
    """Run `action`, raising `error` before the count-th line of files.py; return whether it got there."""
    left = count

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename != files.__file__:
            return None
        if event == "line":
            left -= 1
            if left == 0:
                raise error
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    except (type(error), WriteError):
        return True
    finally:
        sys.settrace(before)
    return False


ERRORS = [KeyboardInterrupt(), SystemExit(1), OSError(28, "No space left on device")]


def test_a_folder_replaces_an_older_one_only_when_complete(tmp_path: Path) -> None:
    final = tmp_path / "final"
    fill(final, "older")
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), files.atomic_folder(final) as folder:
            (folder / "newer").write_text("newer")
            assert names(final) == ["older"]
            raise error
        assert [path.name for path in tmp_path.rglob("*")] == ["final", "older"]
    fill(final, "newer")
    (tmp_path / "plain").mkdir()
    assert [path.name for path in tmp_path.rglob("*")] == ["final", "plain", "newer"]
    assert final.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_an_exception_at_any_line_leaves_the_old_folder_or_the_new_one(
    tmp_path: Path, error: BaseException
) -> None:
    seen, raised = [], True
    while raised:
        final = tmp_path / str(len(seen)) / "final"
        final.parent.mkdir()
        fill(final, "older")
        raised = raise_at_line(len(seen) + 1, error, lambda final=final: fill(final, "newer"))
        (content,) = names(final)
        assert (final / content).read_text() == content
        seen.append(content)
    assert len(seen) > 10
    assert set(seen) == {"older", "newer"}


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "final").symlink_to(tmp_path / "disk" / "digits")
    for name in ("older", "newer"):
        fill(tmp_path / "final", name)
        assert names(tmp_path / "disk" / "digits") == [name]
    assert names(tmp_path / "disk") == ["digits"]
    assert (tmp_path / "final").is_symlink()


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    files.write_atomically(path, b"\r\nbytes\xff")
    assert path.read_bytes() == b"\r\nbytes\xff"
    files.write_atomically(path, "zwölf\n")
    assert path.read_bytes() == "zwölf\n".encode()
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert names(tmp_path) == ["file.csv", "plain"]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_an_exception_at_any_line_leaves_the_old_file_or_the_new_one(
    tmp_path: Path, error: BaseException
) -> None:
    path, seen, raised = tmp_path / "file.csv", [], True
    while raised:
        path.write_text("older")
        raised = raise_at_line(len(seen) + 1, error, lambda: files.write_atomically(path, "newer"))
        seen.append(path.read_text())
    assert len(seen) > 5
    assert set(seen) == {"older", "newer"}


def test_a_write_that_fails_leaves_no_partial_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    with pytest.raises(WriteError, match=r"folder: cannot be written \(Is a directory\)"):
        files.write_atomically(tmp_path / "folder", "text")
    assert names(tmp_path) == ["folder"]
    with pytest.raises(WriteError, match=r"nowhere/file: cannot be written \(No such file"):
        files.write_atomically(tmp_path / "nowhere" / "file", "text")


def test_only_plain_files_are_read(tmp_path: Path) -> None:
    plain, pipe, link = tmp_path / "plain", tmp_path / "pipe", tmp_path / "link"
    plain.write_bytes(b"digits")
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    assert files.read_plain(plain, limit=6) == b"digits"
    for path, reason in {
        plain: "is larger than 5 bytes",
        pipe: "is no plain file",  # which nobody writes to: to wait for it would hang
        link: "is no plain file",
        tmp_path: "Is a directory",
        tmp_path / ("a" * 300): "File name too long",
        tmp_path / "nosuch": "No such file or directory",
    }.items():
        with pytest.raises(OSError, match=reason):
            files.read_plain(path, limit=5)


def make_device(path: Path, number: int) -> Path:
    """Make a device, 3 as /dev/null or 7 as /dev/full; the real ones could be replaced."""
    try:
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, number))
        os.close(os.open(path, os.O_WRONLY))
    except PermissionError:
        pytest.skip("only root makes devices, and not everywhere")
    return path


@pytest.mark.skipif(not Path("/dev/fd").is_dir(), reason="the system has no such names")
def test_an_output_to_a_file_that_is_open_is_written_through(tmp_path: Path) -> None:
    with (tmp_path / "open.csv").open("a+b") as file:
        file.write(b"kept ")
        file.flush()
        link = tmp_path / "link"
        link.symlink_to(f"/dev/fd/{file.fileno()}")
        for path in (Path(f"/dev/fd/{file.fileno()}"), link):
            files.check_output(path)
            files.write_output(path, b"new ")
        assert (tmp_path / "open.csv").read_bytes() == b"kept new new "
        (tmp_path / "open.csv").unlink()  # from here on it has no name
        files.write_output(link, b"more")
        file.seek(0)
        assert file.read() == b"kept new new more"
    assert names(tmp_path) == ["link"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_an_older_files_permissions_stay(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.touch(mode=0o600)
    files.write_output(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    files.write_output(tmp_path / "other.csv", b"new")
    assert stat.S_IMODE((tmp_path / "other.csv").stat().st_mode) & 0o600 == 0o600


def test_an_output_goes_where_its_path_leads(tmp_path: Path) -> None:
    plain, link, pipe = tmp_path / "plain.csv", tmp_path / "link.csv", tmp_path / "pipe"
    os.mkfifo(pipe)
    link.symlink_to(plain)
    for content in (b"new", b"replaced"):  # the link leads nowhere at first
        files.check_output(link)
        files.write_output(link, content)
        assert plain.read_bytes() == content
    with ThreadPoolExecutor(1) as thread:
        read = thread.submit(pipe.read_bytes)
        files.check_output(pipe)
        files.write_output(pipe, b"through")
        assert read.result(DEADLINE) == b"through"
    assert link.is_symlink()
    assert pipe.is_fifo()
    assert names(tmp_path) == ["link.csv", "pipe", "plain.csv"]


def test_an_output_to_a_device_is_written_through(tmp_path: Path) -> None:
    null, full = make_device(tmp_path / "null", 3), make_device(tmp_path / "full", 7)
    files.check_output(null)
    files.write_output(null, b"gone")
    with pytest.raises(WriteError, match=r"full: cannot be written \(No space left on device\)"):
        files.write_output(full, b"too much")
    assert null.is_char_device()
    assert full.is_char_device()


def test_an_output_that_will_be_refused_is_refused_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, soft, hard = tmp_path / "plain.csv", tmp_path / "soft.csv", tmp_path / "hard.csv"
    plain.write_text("digits")
    soft.symlink_to(plain)
    os.link(plain, hard)
    long = tmp_path / ("x" * 245)  # its partial file's name, too, has to be short enough
    files.check_output(long, keep=[plain, tmp_path / "nosuch"])
    for path, reason in {
        plain: "it is an input",
        soft: "it is an input",
        hard: "it is an input",
        tmp_path: "it is no file",
        tmp_path / "nosuch" / "x.csv": "No such file or directory",
        plain / "x.csv": "Not a directory",
    }.items():
        with pytest.raises(WriteError, match=rf"{path}: cannot be written \({reason}"):
            files.check_output(path, keep=[plain])
    dangling = tmp_path / "dangling"
    dangling.symlink_to("nowhere")
    for path, reason in {
        dangling: "it is a link to what is not there",
        dangling / "runs": "No such file or directory",
        plain / "runs": "Not a directory",
        plain: "Not a directory",
    }.items():
        with pytest.raises(WriteError, match=rf"{path}: cannot be written \({reason}"):
            files.check_folder(path)
    dangling.unlink()
    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full_disk)
        for check in (files.check_output, files.check_folder):
            with pytest.raises(WriteError, match=r"new: cannot be written \(No space left on device"):
                check(tmp_path / "new")
        patched.setattr("os.access", lambda *_: False)
        with pytest.raises(WriteError, match=r"plain.csv: cannot be written \(Permission denied"):
            files.check_output(plain)
    assert names(tmp_path) == ["hard.csv", "plain.csv", "soft.csv"]
    assert plain.read_text() == "digits"


def test_a_path_that_a_user_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~file").touch()
    (tmp_path / "loop").symlink_to("loop")
    assert files.user_path("~/runs") == tmp_path / "runs"
    for name in ("nosuch/x", "~file", "~file/x"):
        assert files.user_path(name) == Path(name)
    for name, reason in {
        "": "the path is empty",
        "x" * 300: "File name too long",
        "loop": "Too many levels of symbolic links",
        "a\0b": "no path can hold a NUL or a lone surrogate",
        "a\ud800b": "no path can hold a NUL or a lone surrogate",
        "~nobody-of-this-name/x": "there is no such user",
    }.items():
        with pytest.raises(OSError, match=reason) as error:
            files.user_path(name)
        assert error.value.strerror == reason
