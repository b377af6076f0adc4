"""Signals that are held back, and let through again."""

import os
import signal

import pytest

from digit_recognizer.signals import Hold


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_a_held_signal_waits_until_signals_are_let_through() -> None:
    with Hold() as hold:
        interrupt()
        with pytest.raises(KeyboardInterrupt), hold.released():
            pytest.fail("the signal was lost")
        interrupt()


def test_signals_come_through_while_they_are_let_through_and_after_the_hold() -> None:
    with Hold() as hold:
        with pytest.raises(KeyboardInterrupt), hold.released():
            interrupt()
        interrupt()  # held back again, and dropped at the end
    with pytest.raises(KeyboardInterrupt):
        interrupt()
