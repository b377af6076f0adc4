"""What reaches the terminal, escaped: results on stdout, notices on stderr."""

from collections.abc import Iterable

import click

from digit_recognizer.errors import printable


def notice(text: object) -> None:
    """Print a line for the user that is no result."""
    click.echo("\n".join(map(printable, str(text).split("\n"))), err=True)


def result(text: object) -> None:
    """Print a line of the command's result."""
    click.echo(printable(text))


def results(lines: Iterable[object]) -> None:
    """Print lines of the command's result."""
    for line in lines:
        result(line)


def number(value: float | None, style: str) -> str:
    """Return a number in a format of Python's, "-" for None."""
    return "-" if value is None else format(value, style)
