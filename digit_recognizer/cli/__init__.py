"""The command line: options, progress, tables, exit codes. Click and rich appear here alone."""

import gc
import multiprocessing
import sys

from digit_recognizer import signals
from digit_recognizer.cli import terminal

__all__ = ["main"]


def main() -> None:
    """Run the command that was typed, and exit; this process runs no other."""
    terminal.make_streams_safe()
    try:
        with signals.as_ctrl_c():
            from digit_recognizer.cli import commands  # takes tenths of a second
    except KeyboardInterrupt:
        terminal.notice("Stopped.")
        sys.exit(130)
    try:
        commands.main()
    finally:
        if multiprocessing.active_children():  # they fitted side by side
            from digit_recognizer import training

            with signals.Hold():  # the command is over: it keeps its exit code
                training.stop_workers()
        gc.freeze()  # else Python looks for garbage among all objects of TensorFlow, and exits a second later
