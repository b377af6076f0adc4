"""A recipe on a split -> out-of-fold and test probabilities; independent fits run side by side."""

import json
import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

from digit_recognizer.data import CLASSES, Dataset, Digits
from digit_recognizer.ensemble import Predictions
from digit_recognizer.errors import RunError
from digit_recognizer.recipes import KerasNet, Recipe
from digit_recognizer.splits import ALL_ROWS, Part

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

FIRST_ROWS = 1024  # training digits on which a net's first steps are timed
CURVE_ROWS = 2048  # training digits on which the learning curve's training side is measured


@dataclass(frozen=True)
class Fit:
    """One model to be fitted."""

    recipe: Recipe
    part: Part
    seed: int
    until: float | None = None  # a moment, as of `time.time()`, to end training by, instead of after `epochs`

    @property
    def name(self) -> str:
        """What to call it on the screen."""
        return f"{self.recipe.name} {self.part.name}"

    @property
    def file_name(self) -> str:
        """The same as a file is called."""
        return self.name.replace(" ", "-")


@dataclass(frozen=True)
class Fitted:
    """What came of a fit.

    valid, test: float32 of shape (rows, 10), probabilities of the part's held-out and of the test digits.
    model: the ending and content of the model's file.
    history: for each epoch the loss and accuracy on training and held-out digits.
    """

    fit: Fit
    valid: np.ndarray
    test: np.ndarray
    model: tuple[str, bytes]
    history: list[dict[str, float]]
    seconds: float


@dataclass(frozen=True)
class Progress:
    """A fit after one of its epochs."""

    fit: str
    epoch: int
    epochs: int
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Speed:
    """What a net takes on this machine, in seconds.

    start: until its first step, and prepare: for each row besides; row: of a pass; predict: to predict a row;
    glance: the same without `tta` and without what comes before the net.
    """

    start: float
    prepare: float
    row: float
    predict: float
    glance: float


OnProgress = Callable[[Progress], None]


def plan(recipes: Sequence[Recipe], parts: Sequence[Part], *, refit: bool, seed: int) -> list[Fit]:
    """The fits to do: each recipe on each part, and with `refit` on all the rows as well.

    Each fit's seed depends on `seed`, its recipe and its part alone: the same whatever is fitted beside it.
    """
    if refit:
        every = np.union1d(parts[0].train, parts[0].valid)
        parts = [*parts, Part(ALL_ROWS, every, every[:0])]
    return [
        Fit(recipe, part, int(np.random.SeedSequence(entropy).generate_state(1)[0]))
        for recipe in recipes
        for part in parts
        for entropy in [[seed, crc32(recipe.name.encode()), crc32(part.name.encode())]]
    ]


def gather(recipe: str, fitted: Sequence[Fitted]) -> Predictions:
    """One recipe's predictions, out of all its fits.

    Out-of-fold are the parts' held-out rows, part by part as in `fitted`; test is the average over the
    parts' models, or, where there is one fitted on all rows, what that one says.
    """
    own = [one for one in fitted if one.fit.recipe.name == recipe]
    final = [one for one in own if one.fit.part.name == ALL_ROWS] or own
    return Predictions(
        recipe,
        out_of_fold=np.concatenate([one.valid for one in own]),
        test=np.mean([one.test for one in final], axis=0),
    )


def seconds(recipe: str, fitted: Iterable[Fitted]) -> float:
    """Of all fits of one recipe, added up."""
    return sum(one.seconds for one in fitted if one.fit.recipe.name == recipe)


def fit_all(
    fits: Sequence[Fit], data: Dataset, *, workers: int, threads: int, logs: Path, on_progress: OnProgress
) -> Generator[Fitted, None, None]:
    """Fit all in `workers` processes of `threads` threads each; yields each as it is done.

    A single worker is this very process.

    logs: a folder for their curves so far, `<fit.file_name>.jsonl`, which `read_log` reads.
    Raises RunError where a process is killed.
    """
    import joblib

    files = [logs / f"{fit.file_name}.jsonl" for fit in fits]
    for file in files:
        file.unlink(missing_ok=True)  # of a fit that was cut off
    with _following(fits, files, on_progress):
        calls = [
            joblib.delayed(fit_one)(fit, data.train, data.test, threads=threads, log=file)
            for fit, file in zip(fits, files, strict=True)
        ]
        with _side_by_side(workers, threads):
            for one in joblib.Parallel(return_as="generator_unordered")(calls):
                epochs = one.fit.recipe.settings.epochs  # all of them, though it may have stopped early
                on_progress(Progress(one.fit.name, epochs, epochs, one.history[-1]))
                yield one


def first_steps(recipes: Sequence[Recipe], data: Dataset, *, workers: int, threads: int) -> dict[str, Speed]:
    """The speed of each recipe, by name, when `workers` processes of `threads` threads fit it side by side.

    The slowest of them counts. The processes stay for `fit_all`; a single worker is this very process.
    Raises RunError where one is killed.
    """
    import joblib

    rows = np.linspace(0, len(data.train) - 1, min(FIRST_ROWS, len(data.train))).astype(int)
    few = Digits(data.train.pixels[rows], data.train.labels[rows])
    calls = [joblib.delayed(_time)(recipe, few, threads) for recipe in recipes for _ in range(workers)]
    with _side_by_side(workers, threads):
        timed = joblib.Parallel(batch_size=1)(calls)
    return {
        recipe.name: Speed(*np.max(timed[i * workers : (i + 1) * workers], axis=0))
        for i, recipe in enumerate(recipes)
    }


@contextmanager
def _side_by_side(workers: int, threads: int) -> Iterator[None]:
    """What joblib does here, it does in so many processes; RunError where one of them is killed."""
    import joblib
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    with joblib.parallel_config(
        "loky", n_jobs=workers, inner_max_num_threads=threads,
        initializer=_end_with, initargs=(os.getpid(),),
    ):  # fmt: skip
        try:
            yield
        except TerminatedWorkerError:
            raise RunError(
                "a process that fits was killed, perhaps for lack of memory; try fewer --jobs"
            ) from None


def _end_with(parent: int) -> None:
    """Let this process, which fits, end soon after that one, even if that was killed and could not say so.

    Windows does not tell; there a fit goes on to its end.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _time(recipe: Recipe, few: Digits, threads: int) -> tuple[float, ...]:
    """The fields of Speed, from four short passes."""
    from digit_recognizer.nets import augment

    with _threads(recipe, threads):
        moments: list[float] = []

        def lap() -> None:
            moments.append(time.perf_counter())

        lap()
        classifier = replace(recipe.settings, epochs=4).classifier(0)
        classifier.fit(few.pixels, few.labels, net__on_epoch=lap)
        lap()
        classifier.predict_proba(few.pixels)
        lap()
        ready = classifier[:-1].transform(few.pixels)
        if recipe.settings.warp:
            augment.warp(ready, recipe.settings.warp, np.random.default_rng(0))
        lap()
        classifier[-1].glance(ready)
        lap()
    # The first pass holds the start; beside the last no other is made ahead. Of the two between them the
    # quicker counts, as other work may have slowed the other.
    first, second, third, _, _, predict, prepare, glance = np.diff(moments)
    row = min(second, third)
    return (max(0.0, first - row - prepare), *(np.array([prepare, row, predict, glance]) / len(few)))


def share_cores(jobs: int | None, fits: int) -> tuple[int, int]:
    """How many processes, and threads of each, do so many fits on `jobs` cores (None: all there are).

    Part of what decides a run's numbers: sums in another number of threads round otherwise.
    """
    import joblib

    cores = jobs or joblib.cpu_count()
    workers = min(cores, fits)
    return workers, cores // workers


def fit_one(
    fit: Fit, train: Digits, test: np.ndarray, *, threads: int = 1, log: Path | None = None
) -> Fitted:
    """Fit one model afresh on its part's training rows; the held-out rows are only predicted.

    log: a file that gets a line of JSON after each epoch, for whoever watches from another process.
    """
    from sklearn.metrics import accuracy_score, log_loss

    from digit_recognizer.nets import pipelines

    started = time.perf_counter()
    history: list[dict[str, float]] = []
    rows, aside = fit.part.train, fit.part.valid
    sides = {side: some for side, some in (("train", rows[:CURVE_ROWS]), ("valid", aside)) if len(some)}
    ready: dict[str, np.ndarray] = {}

    def on_epoch() -> None:
        figures: dict[str, float] = {}
        for side, some in sides.items():
            if side not in ready:  # all that comes before the net, which alone changes from pass to pass
                ready[side] = classifier[:-1].transform(train.pixels[some])
            labels, probabilities = train.labels[some], classifier[-1].glance(ready[side])
            figures[f"{side}_loss"] = float(log_loss(labels, probabilities, labels=range(CLASSES)))
            figures[f"{side}_accuracy"] = float(accuracy_score(labels, probabilities.argmax(axis=1)))
        history.append(figures)
        if log is not None:
            with log.open("a") as file:
                file.write(json.dumps(figures) + "\n")

    with _threads(fit.recipe, threads):
        classifier = fit.recipe.settings.classifier(fit.seed)
        classifier.fit(train.pixels[rows], train.labels[rows], net__on_epoch=on_epoch, net__until=fit.until)
        return Fitted(
            fit,
            valid=_probabilities(classifier, train.pixels[aside]),
            test=_probabilities(classifier, test),
            model=pipelines.to_bytes(classifier),
            history=history,
            seconds=time.perf_counter() - started,
        )


@contextmanager
def _threads(recipe: Recipe, threads: int) -> Iterator[None]:
    """So many threads; TensorFlow, which takes seconds to import, only where the recipe needs it."""
    from threadpoolctl import threadpool_limits

    from digit_recognizer.nets import keras_net

    with threadpool_limits(threads):
        if isinstance(recipe.settings, KerasNet):
            keras_net.limit_threads(threads)
        yield


def _probabilities(classifier: "Pipeline", pixels: np.ndarray) -> np.ndarray:
    if not len(pixels):
        return np.zeros((0, CLASSES), np.float32)
    return classifier.predict_proba(pixels).astype(np.float32)


def read_log(file: Path) -> list[dict[str, float]]:
    """What a fit's log says so far: for each epoch the figures of `Fitted.history`."""
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


@contextmanager
def _following(fits: Sequence[Fit], files: Sequence[Path], on_progress: OnProgress) -> Iterator[None]:
    """What is new in the fits' logs is passed on to `on_progress` as it comes."""
    seen = [0] * len(fits)
    stop = threading.Event()

    def look() -> None:
        for i, (fit, file) in enumerate(zip(fits, files, strict=True)):
            curve = read_log(file)
            if len(curve) > seen[i]:
                seen[i] = len(curve)
                on_progress(Progress(fit.name, len(curve), fit.recipe.settings.epochs, curve[-1]))

    for fit in fits:
        on_progress(Progress(fit.name, 0, fit.recipe.settings.epochs))

    def follow() -> None:
        while not stop.wait(0.2):
            look()

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    try:
        yield
    finally:
        stop.set()
        follower.join()
    look()
