"""The command line: options, progress, tables, exit codes. Click and rich appear here alone."""

import sys

from digit_recognizer.cli import commands

__all__ = ["main"]


def main() -> None:
    """Run the command that was typed, and exit; this process runs no other."""
    try:
        commands.main()
    finally:
        if "joblib" in sys.modules:  # else nothing was fitted
            from digit_recognizer import training

            training.stop_workers()
