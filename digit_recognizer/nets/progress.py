"""How far a training is, from 0 to 1: by its steps or, with a budget of seconds, by the clock."""

import time
from collections import deque

import numpy as np
from pydantic import Field

from digit_recognizer.records import Record
from digit_recognizer.settings import MAX_EPOCHS, NetSettings

STEPS_PER_CALL = 32  # of a net's training, which neither the clock nor Ctrl-C interrupts within a call
PACE_CALLS = 4  # the last ones, whose mean is the pace: enough for one that was held up, few for a quick look
WARMUP_FRACTION = 0.05  # of a training, in which a cosine schedule rises to its learning rate


class Budget(Record):
    """Seconds that a fit may take, from its start to its end.

    epoch, predict: what an epoch, and all that follows the training, took when they were measured.
    """

    seconds: float = Field(gt=0, le=10**9)
    epoch: float = Field(gt=0, le=10**9)
    predict: float = Field(ge=0, le=10**9)

    def times(self, factor: float) -> "Budget":
        """Return a budget of `factor` times the seconds."""
        return self.model_copy(update={"seconds": self.seconds * factor})


class Steps:
    """Progress by steps: of `epochs` epochs, which have `steps` each.

    now: the progress, 0 to 1; epochs: the number of epochs so far.
    """

    def __init__(self, epochs: int, steps: int) -> None:
        self.now, self.epochs, self.max_epochs = 0.0, 0.0, epochs
        self.total, self._steps, self._done = epochs * steps, steps, 0
        self._starts = [0.0]  # of the epochs; the last is the end. k / epochs would change a run's last bits
        for left in range(epochs, 0, -1):
            self._starts.append(self._starts[-1] + (1 - self._starts[-1]) / left)

    def for_augmentation(self, epoch: int) -> float:
        """Return the progress that an epoch's rows are augmented at; the first epoch is 0."""
        return self._starts[epoch]

    def more(self) -> bool:
        """Return whether there are further steps."""
        return self._done < self.total

    def next_call(self) -> np.ndarray:
        """Return the progress at each step of the next call, all of one epoch."""
        epoch, first = divmod(self._done, self._steps)
        start, end = self._starts[epoch : epoch + 2]
        numbers = np.arange(first + 1, min(first + STEPS_PER_CALL, self._steps) + 1)
        return start + (end - start) * numbers / (self._steps + 1)

    def end_call(self, steps: int) -> None:
        """Note that these steps are done."""
        self._done += steps
        self.now, self.epochs = self._done / self.total, self._done / self._steps


class Timer:
    """Progress by a monotonic clock: the share of the seconds for training that have passed.

    The budget's seconds begin with the timer. Progress begins with the first step, as imports and what
    TensorFlow prepares are none; there is one step at least. It ends early enough for the predictions, for
    which more time is kept if steps have become slower than they were when they were measured.
    """

    def __init__(self, budget: Budget) -> None:
        self.now, self.epochs, self.max_epochs = 0.0, 0.0, MAX_EPOCHS
        self._budget, self._end = budget, time.monotonic() + budget.seconds
        self._done, self._zero, self._began = 0, 0.0, 0.0
        self._calls: deque[tuple[int, float]] = deque(maxlen=PACE_CALLS)  # steps and seconds of each

    def start(self, steps: int) -> "Timer":
        """Return this timer, for epochs of so many steps; `total`: how many there will be, as it seems."""
        self._steps, self._measured = steps, self._budget.epoch / steps
        self.total = max(1, min(int(self._left(time.monotonic()) / self._measured), MAX_EPOCHS * steps))
        return self

    def for_augmentation(self, epoch: int) -> float:
        """Return the progress that the next rows are augmented at."""
        return self.now

    def more(self) -> bool:
        """Read the clock; return whether there is time for further steps."""
        moment = time.monotonic()
        left, passed = self._left(moment), moment - self._zero
        if left < self._pace() or self.epochs >= MAX_EPOCHS:
            self.now = 1.0
        else:
            self.now = max(self.now, passed / (passed + left), self.epochs / MAX_EPOCHS)
        return self.now < 1

    def next_call(self) -> np.ndarray:
        """Return the progress at each step of the next call, all of one epoch.

        The first calls are short, as their pace is not known yet. The last ones take half of the time that is
        left, so that they end in time even if the machine becomes half as fast meanwhile.
        """
        self._began, pace = time.monotonic(), self._pace()
        left, passed = self._left(self._began), self._began - self._zero if self._done else 0.0
        in_epoch = self._steps - self._done % self._steps
        steps = max(1, min(STEPS_PER_CALL, in_epoch, self._done, int(left / pace / 2)))
        end = max(self.now, (passed + steps * pace) / (passed + max(left, steps * pace)))
        return self.now + (end - self.now) * (np.arange(steps) + 0.5) / steps

    def end_call(self, steps: int) -> None:
        """Note that these steps are done."""
        moment = time.monotonic()
        if self._done:
            self._calls.append((steps, moment - self._began))
        else:
            self._zero = moment - steps * self._measured
        self._done += steps
        self.epochs = self._done / self._steps

    def _pace(self) -> float:
        """Return the seconds of a step."""
        if not self._calls:
            return self._measured
        steps, seconds = map(sum, zip(*self._calls, strict=True))
        return max(seconds / steps, 1e-9)  # a coarse clock may tell 0

    def _left(self, moment: float) -> float:
        """Return the seconds left for training: half of the budget at least, however slow predictions are."""
        seconds, predict = self._budget.seconds, self._budget.predict
        slower = max(1.0, self._pace() / self._measured)
        return self._end - min(predict * slower, max(predict, seconds / 2)) - moment


def learning_rates(settings: NetSettings, progress: np.ndarray) -> np.ndarray:
    """Return the learning rate at each progress, float32."""
    if settings.learning_rate_schedule == "constant":
        return np.full(len(progress), settings.learning_rate, np.float32)
    cosine = 0.5 + 0.5 * np.cos(np.pi * progress)
    return (settings.learning_rate * np.minimum(progress / WARMUP_FRACTION, cosine)).astype(np.float32)
