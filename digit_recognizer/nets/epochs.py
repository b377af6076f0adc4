"""The epochs of a training: calls of a few steps on augmented rows; early stopping, divergence."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count, cycle
from typing import NamedTuple

import numpy as np
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from digit_recognizer.errors import FitError
from digit_recognizer.nets.augment import CHUNK, augment
from digit_recognizer.nets.progress import STEPS_PER_CALL, Steps, Timer, learning_rates
from digit_recognizer.settings import NetSettings
from digit_recognizer.splits import first_rows

OnEpochEnd = Callable[[float], None]  # called with the epochs so far, when the net is able to predict


class Call(NamedTuple):
    """Hold what a net is trained on in one call.

    order: row numbers; images: these rows, augmented; two epochs later this memory holds others. rates: the
    learning rate of each step, float32.
    """

    order: np.ndarray
    images: np.ndarray
    rates: np.ndarray


def iter_epochs(
    images: np.ndarray, settings: NetSettings, progress: Steps | Timer, rng: np.random.RandomState
) -> Iterator[Iterator[Call]]:
    """Yield the calls of each epoch; the last epoch is cut short if the time is over.

    images: float32 of shape (n, n_features). A thread augments the rows that come next while the caller uses
    the last ones, so that a second core is used: OpenCV and NumPy release Python's lock.
    """
    rows, size = len(images), settings.batch_size
    # By the clock, rows must not be augmented long before they are used, or with too little progress.
    ahead = 2 * rows if isinstance(progress, Steps) else 2 * STEPS_PER_CALL * size
    # With two fits side by side, an epoch takes a seventh longer or more in new memory each time.
    buffers = cycle([np.empty_like(images), np.empty_like(images)])
    thread = ThreadPoolExecutor(1)

    def draw(epoch: int) -> "_AugmentedRows":
        order, generator = rng.permutation(rows), np.random.default_rng(rng.randint(2**31 - 1))
        memory = next(buffers)

        def fill(part: slice) -> None:
            chunk = memory[part]
            np.take(images, order[part], axis=0, out=chunk, mode="clip")  # the usual mode takes a copy first
            augment(chunk, settings, progress.for_augmentation(epoch), generator)

        return _AugmentedRows(order, memory, lambda part: thread.submit(fill, part))

    def calls(current: "_AugmentedRows", following: "_AugmentedRows | None") -> Iterator[Call]:
        first = 0
        while first < rows and (not first or progress.more()):
            steps = progress.next_call()
            part = slice(first, min(first + len(steps) * size, rows))
            current.prepare(first + ahead)
            if following is not None:
                following.prepare(first + ahead - rows)
            yield Call(current.order[part], current.wait_for(part), learning_rates(settings, steps))
            progress.end_call(len(steps))
            first = part.stop

    try:
        current = draw(0)
        for epoch in count(1):
            following = draw(epoch) if epoch < progress.max_epochs else None
            yield calls(current, following)
            if following is None or not progress.more():
                return
            current = following
    finally:
        thread.shutdown(cancel_futures=True)


class _AugmentedRows:
    """The rows of an epoch in their order, which `fill` fills in a thread, chunk after chunk."""

    def __init__(self, order: np.ndarray, images: np.ndarray, fill: Callable[[slice], Future[None]]) -> None:
        self.order, self._images, self._fill = order, images, fill
        self._chunks: list[Future[None]] = []

    def prepare(self, stop: int) -> None:
        """Let the thread go on to this row, if it is not there yet."""
        for first in range(len(self._chunks) * CHUNK, min(stop, len(self.order)), CHUNK):
            self._chunks.append(self._fill(slice(first, first + CHUNK)))

    def wait_for(self, part: slice) -> np.ndarray:
        """Return these rows once they are augmented."""
        for chunk in self._chunks[part.start // CHUNK : -(-part.stop // CHUNK)]:
            chunk.result()
        return self._images[part]


class EarlyStopping:
    """Tell when a training should stop, by the log loss of rows that are held back from it.

    best_weights: those with the lowest loss so far.
    """

    def __init__(self, patience: int, class_indices: np.ndarray) -> None:
        self._patience, self._class_indices = patience, class_indices
        self._lowest, self._since = np.inf, 0
        self.best_weights: list[np.ndarray] = []

    def is_over(self, probabilities: np.ndarray, weights: Iterable[np.ndarray]) -> bool:
        """Return whether `patience` epochs brought no progress; probabilities: of the rows held back."""
        loss = log_loss(self._class_indices, probabilities, labels=range(probabilities.shape[1]))
        self._since += 1
        if loss < self._lowest:
            self.best_weights = [array.copy() for array in weights]
            self._lowest, self._since = loss, 0
        return self._since >= self._patience


def hold_back(
    rows: np.ndarray, class_indices: np.ndarray, rng: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return nine tenths of the rows to train on and one to watch, with their class indices; stratified.

    Of few rows, where not every class can be on both sides, they are drawn regardless of class. Rows that
    equal a watched one are not trained on.
    """
    counts = np.bincount(class_indices)
    stratify = class_indices if counts.min() > 1 and len(rows) >= 10 * len(counts) else None
    numbers, first = np.arange(len(rows)), first_rows(rows)
    train, valid = train_test_split(numbers, test_size=0.1, stratify=stratify, random_state=rng)
    different = train[~np.isin(first[train], first[valid])]
    train = different if len(different) else train
    return rows[train], class_indices[train], rows[valid], class_indices[valid]


def check_finite(arrays: Iterable[np.ndarray], epoch: int) -> None:
    """Raise FitError if any weight is NaN or infinite after this epoch, the first being 1."""
    if not all(np.isfinite(array).all() for array in arrays):
        raise FitError(
            f"the net diverged: its weights are not finite after epoch {epoch}; try a lower learning_rate"
        )


def check_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Return the probabilities; raise FitError if any is not finite, as huge weights make them."""
    if not np.isfinite(probabilities).all():
        raise FitError("the net diverged: its predictions are not finite; try a lower learning_rate")
    return probabilities
