"""The command line: options, progress, tables, exit codes. Click and rich appear here alone."""

import sys
from contextlib import ExitStack


def main() -> None:
    """Run the command that was typed, and exit; this process runs no other."""
    try:
        with ExitStack() as settings:
            try:  # before anything that takes time is imported: Ctrl-C may come at any moment
                from digit_recognizer import signals

                with signals.as_ctrl_c():
                    from digit_recognizer import environment
                    from digit_recognizer.cli import terminal

                    environment.is_own_process = True
                    settings.enter_context(environment.own_settings())
                    terminal.make_streams_safe()
                    from digit_recognizer.cli import commands
            except KeyboardInterrupt:
                print("Stopped.", file=sys.stderr)
                sys.exit(130)
            commands.main()
    finally:
        _end()


def _end() -> None:
    """End what would keep the command from ending at once, with its exit code."""
    import gc

    multiprocessing = sys.modules.get("multiprocessing")
    if multiprocessing and multiprocessing.active_children():  # they fitted side by side
        from digit_recognizer import signals, training

        with signals.Hold():  # the command is over: it keeps its exit code
            training.stop_workers()
    gc.freeze()  # else Python looks for garbage among all objects of TensorFlow, and exits a second later
    exec("")  # else Python ends by SIGINT, not with 130, if Ctrl-C came while a library called `exec`
