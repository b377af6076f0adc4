"""Held-out digits as the page shows them: read right, or wrong."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from digit_recognizer.data import Digits
from digit_recognizer.errors import printable
from digit_recognizer.predictions import HeldOut

NEARLY_1 = float(np.nextafter(np.float32(1), np.float32(0)))  # what float32 rounds to 1 is not certain


@dataclass(frozen=True)
class Tile:
    """A held-out digit and what it was read as; row: in train.csv, counted from 1 below the header."""

    row: int
    label: int
    predicted: int
    probability: float
    label_probability: float
    pixels: np.ndarray

    @property
    def right(self) -> bool:
        """Return whether it was read right."""
        return self.predicted == self.label

    @property
    def title(self) -> str:
        """Return a sign for readers who see no colours, what the digit was read as and the probability."""
        return f"{'✓' if self.right else '✗'} {self.predicted} {percent(self.probability)}"

    @property
    def caption(self) -> str:
        """Return the title and, of a digit read wrong, its label."""
        return self.title if self.right else f"{self.title}, is {self.label}"

    @property
    def alt(self) -> str:
        """Return the picture in words."""
        return (
            f"Row {self.row}: a handwritten {self.label}, read as {self.predicted} "
            f"with probability {percent(self.probability)}"
        )


def make_tiles(
    train: Digits, held_out: HeldOut, probabilities: np.ndarray, positions: Iterable[int]
) -> list[Tile]:
    """Return the tiles of the predictions at these positions; probabilities: of shape (predictions, 10)."""
    return [
        Tile(
            row=int(held_out.rows[position]) + 1,
            label=int(held_out.labels[position]),
            predicted=int(probabilities[position].argmax()),
            probability=min(float(probabilities[position].max()), NEARLY_1),
            label_probability=float(probabilities[position, held_out.labels[position]]),
            pixels=train.pixels[held_out.rows[position]],
        )
        for position in positions
    ]


def shuffle(held_out: HeldOut) -> np.ndarray:
    """Return positions of predictions in random order, each row's once: repeated folds predict it again."""
    _, first = np.unique(held_out.rows, return_index=True)
    return np.random.default_rng(0).permutation(first)


def find_mistakes(held_out: HeldOut, probabilities: np.ndarray) -> np.ndarray:
    """Return positions of wrong predictions, the most confident first, each row's once."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != held_out.labels)
    wrong = wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")]
    _, first = np.unique(held_out.rows[wrong], return_index=True)
    return wrong[np.sort(first)]


def percent(share: float) -> str:
    """Return a share with one decimal, and neither 0% nor 100% if it is only close."""
    if 0 < share < 0.0005:
        return "<0.1%"
    return ">99.9%" if 0.9995 <= share < 1 else f"{share:.1%}"


def shorten(text: str, length: int = 60) -> str:
    """Return text of a stranger's file on one line, without control characters, of at most `length`."""
    text = printable(text[: length + 1])
    return text if len(text) <= length else f"{text[: length - 3]}..."
