"""What reaches the terminal, escaped and no wider than it: results on stdout, notices on stderr."""

import io
import json
import os
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from digit_recognizer.errors import WriteError, printable

COLUMNS = 80  # of a terminal that does not tell


def notice(text: object) -> None:
    """Print a line for the user that is no result."""
    print(_wrapped(text, sys.stderr), file=sys.stderr, flush=True)


def result(text: object) -> None:
    """Print a path or JSON, which stays in one line however narrow the terminal is."""
    print(printable(text), flush=True)


def json_result(**fields: object) -> None:
    """Print the command's result as one JSON object; fields: may be, or hold, records and paths."""
    from pydantic_core import to_jsonable_python

    result(json.dumps(to_jsonable_python(fields, fallback=str)))


def path_result(path: object, as_json: bool, **fields: object) -> None:
    """Print a path or, with --json, the fields among which it is."""
    if as_json:
        json_result(**fields)
    else:
        result(path)


def results(lines: Iterable[object]) -> None:
    """Print lines of the command's result."""
    for line in lines:
        print(_wrapped(line, sys.stdout), flush=True)


def columns_of(stream: TextIO) -> int | None:
    """Return how many columns the terminal has that the stream is; None if it is none."""
    if not stream.isatty():
        return None
    try:
        return os.get_terminal_size(stream.fileno()).columns or COLUMNS
    except OSError:  # it is one in name alone
        return COLUMNS


def fitting(widths: Mapping[str, int], room: int, gap: int) -> set[str]:
    """Return which columns fit side by side, of their widths by importance; the first one always does."""
    fit: set[str] = set()
    for name, width in widths.items():
        if not fit or width + gap <= room:
            room -= width + gap if fit else width
            fit.add(name)
    return fit


def _wrapped(line: object, stream: TextIO) -> str:
    """Return the line with breaks between words, where a terminal would break within them."""
    text, columns = printable(line), columns_of(stream)
    if columns is None or len(text) <= columns:
        return text
    indent = " " * (len(text) - len(text.lstrip()))
    return textwrap.fill(
        text, columns, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


@contextmanager
def done(what: str) -> Iterator[None]:
    """Let an error in the block say what is done nevertheless."""
    try:
        yield
    except BaseException as error:
        error.add_note(what)
        raise


def make_streams_safe() -> None:
    """Let no stream end a command, whatever this process was started with.

    A stream that is not there becomes the null device, before another file takes its number. From the moment
    that stderr, or a terminal, cannot be written, it is the null device too: notices and progress get lost.
    stdout that is a file or a pipe raises WriteError first. What a stream's encoding lacks is escaped.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free
    for name, mode in {"stdin": "r", "stdout": "w", "stderr": "w"}.items():
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115
    sys.stdout = _safe(sys.stdout, needed=not sys.stdout.isatty())
    sys.stderr = _safe(sys.stderr, needed=False)


def _safe(stream: TextIO, *, needed: bool) -> TextIO:
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)
    if not isinstance(raw, io.RawIOBase):
        return stream
    writer: Any = _SafeWriter(stream, raw, needed)
    return io.TextIOWrapper(
        io.BufferedWriter(writer), stream.encoding, errors="backslashreplace", line_buffering=True
    )


class _SafeWriter(io.RawIOBase):
    """Writes through `raw` until that fails; from then on, to the null device under its number."""

    def __init__(self, stream: TextIO, raw: io.RawIOBase, needed: bool) -> None:
        self._stream = stream  # it would close `raw` at its end
        self._raw, self._needed = raw, needed

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def isatty(self) -> bool:
        return self._raw.isatty()

    def write(self, data: Any) -> int | None:
        try:
            return self._raw.write(data)
        except OSError as error:
            with suppress(OSError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, self.fileno())  # for child processes and libraries too
                os.close(null)
            if not self._needed:
                return len(data)
            enough = isinstance(error, BrokenPipeError)  # for whoever reads, as `| head`: no more to tell
            raise WriteError("" if enough else f"stdout: cannot be written ({error.strerror})") from error
