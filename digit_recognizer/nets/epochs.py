"""Passes over the training rows: in which order, how much warped, and how many fit into the time there is."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from digit_recognizer.nets import augment

OnEpoch = Callable[[], None]  # called after each pass, when the net is able to predict
ROUGHLY = 0.1  # of a pass: how much over the end the last one may be, and how much is kept aside before it


class Pass(NamedTuple):
    """One pass over the rows.

    start, end: which share of the whole training it is, between 0 and 1; rates and warps change along it.
    order: the rows' numbers, each once; images: the rows in that order, warped.
    """

    start: float
    end: float
    order: np.ndarray
    images: np.ndarray


def passes(
    images: np.ndarray,
    count: int,
    until: float | None,
    warp: float,
    warp_last: float,
    random: np.random.RandomState,
) -> Iterator[Pass]:
    """So many passes, or, with `until`, one and all more that end by about that moment, as of `time.time()`.

    images: float32 of shape (n, side * side); warp, warp_last: strength of `augment.warp` at the training's
    start and end. How many passes are left is counted anew before each, from how long the last ones took: a
    machine that grows slow trains fewer, but the training comes to the same end. The next pass is made in a
    thread while the caller uses this one, so that a second core is used; OpenCV and NumPy let go of Python's
    lock.
    """

    def make(strength: float, order: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = images[order]
        return order, augment.warp(chosen, strength, np.random.default_rng(seed)) if strength else chosen

    def drawn(done: float) -> tuple[float, np.ndarray, int]:
        strength = warp + (warp_last - warp) * done
        return strength, random.permutation(len(images)), random.randint(2**31 - 1)

    start, left = 0.0, count
    took: list[float] = []
    with ThreadPoolExecutor(1) as thread:
        ahead = thread.submit(make, *drawn(start))
        while left > 0:
            began = time.time()
            end = 1.0 if left == 1 else start + (1 - start) / left
            order, chosen = ahead.result()
            if end < 1:
                ahead = thread.submit(make, *drawn(end))
            yield Pass(start, end, order, chosen)
            start, left = end, left - 1
            if until is not None and end < 1:
                ended = time.time()
                took.append(ended - began)
                usual = np.mean(took[1:][-3:] or took)  # the first is slower than others
                fitting = float((until - ended) / usual)
                left = max(int(fitting - ROUGHLY), int(fitting + ROUGHLY > 1))
