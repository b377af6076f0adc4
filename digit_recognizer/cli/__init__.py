"""The command line: options, progress, tables, exit codes. Click and rich appear here alone."""

from digit_recognizer.cli.commands import main

__all__ = ["main"]
