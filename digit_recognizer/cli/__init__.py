"""The command line: options, progress, tables, exit codes. Click and rich appear here alone."""

import gc
import multiprocessing

from digit_recognizer.cli import commands

__all__ = ["main"]


def main() -> None:
    """Run the command that was typed, and exit; this process runs no other."""
    try:
        commands.main()
    finally:
        if multiprocessing.active_children():  # they fitted side by side
            from digit_recognizer import signals, training

            with signals.Hold():  # the command is over: it keeps its exit code
                training.stop_workers()
        gc.freeze()  # else Python looks for garbage among all objects of TensorFlow, and exits a second later
