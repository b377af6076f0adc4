"""What the commands print: runs and recipes as lines of text, and as the JSON of `--json`."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from operator import itemgetter
from typing import Any, TypeVar

from digit_recognizer.cli import terminal
from digit_recognizer.data import COMPETITION_ROWS
from digit_recognizer.errors import printable
from digit_recognizer.leaderboard.ledger import KaggleOutcome, KaggleSubmission
from digit_recognizer.manifest import ModelScore
from digit_recognizer.predictions import BLEND
from digit_recognizer.recipes import Recipe
from digit_recognizer.runs import Run
from digit_recognizer.scoring import Interval
from digit_recognizer.settings import format_value
from digit_recognizer.splits import fold_name

Row = TypeVar("Row")
Outcomes = Mapping[str, KaggleOutcome]
Columns = Sequence[tuple[str, Callable[[Row], str]]]
GAP = 2  # between columns


def table(columns: Columns[Row], rows: Iterable[Row], spare: Sequence[str] = ()) -> Iterator[str]:
    """Yield rows of text under a head; columns: (head, cell of a row), the first flush left, others right.

    spare: heads of columns that are left out of a terminal that is too narrow for them, the first one last.
    """
    lines = [[head for head, _ in columns], *([printable(cell(row)) for _, cell in columns] for row in rows)]
    room = terminal.columns_of(sys.stdout)
    if room is not None:
        widths = dict(zip(lines[0], _widths(lines), strict=True))
        ranked = sorted(widths, key=lambda head: spare.index(head) if head in spare else -1)
        shown = terminal.fitting({head: widths[head] for head in ranked}, room, GAP)
        kept = [index for index, head in enumerate(lines[0]) if head in shown]
        cut = [[line[index] for index in kept] for line in lines]
        lines = [[cell if len(cell) <= room else f"{cell[: room - 3]}..." for cell in line] for line in cut]
    yield from _align(lines)


def _widths(lines: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*lines, strict=True)]


def _align(lines: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = _widths(lines)
    for first, *others in lines:
        right = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        yield (" " * GAP).join([first.ljust(widths[0]), *right]).rstrip()


def _number(value: float | None, style: str) -> str:
    return "-" if value is None else format(value, style)


def _interval(score: Interval) -> str:
    return f"{score.low:.4f} to {score.high:.4f}"


def summary(run: Run) -> dict[str, object]:
    """Return a run as `--json` prints it."""
    manifest = run.manifest
    scores = {name: score.model_dump(exclude_none=True) for name, score in manifest.scores.items()}
    models = {name: {"recipe": name, **score} for name, score in scores.items()}
    return {
        "submission": run.submission if manifest.submission_model else None,
        "run": run.folder,
        "seconds": manifest.seconds.get("total"),
        "blend": models.pop(BLEND, None),
        "models": list(models.values()),
        "weights": _weights(run),
        "expected_score": manifest.expected_score,
        "data": manifest.config.data,
        "stopped_early": manifest.stopped_early,
    }


def run_list(
    runs: Iterable[Run], outcomes: Outcomes, against_best: Iterable[str]
) -> Iterator[dict[str, object]]:
    """Yield the runs as `runs --json` prints them: their manifests, and what Kaggle answered."""
    for run, verdict in zip(runs, against_best, strict=True):
        answer = outcomes.get(run.manifest.submission_sha256 or "")
        yield {"run": run.folder, **dict(run.manifest), "against_best": verdict, "kaggle": answer}


SPARE_SCORES = ("95% interval", "test accuracy", "epochs")


def scores(run: Run) -> Iterator[str]:
    """Yield each model's and the blend's validation accuracy, a line each."""
    on_test = any(score.test_accuracy is not None for score in run.manifest.scores.values())
    epochs = {name: str(net.epochs) for name, net in run.manifest.settings.items()}
    timed = run.manifest.config.minutes is not None  # which decided how many epochs each net had
    columns: Columns[tuple[str, ModelScore]] = [
        ("model", lambda row: row[0]),
        ("validation accuracy", lambda row: f"{row[1].accuracy:.4f}"),
        ("95% interval", lambda row: _interval(row[1])),
        *([("test accuracy", lambda row: _number(row[1].test_accuracy, ".4f"))] if on_test else []),
        *([("epochs", lambda row: epochs.get(row[0], "-"))] if timed else []),
    ]
    yield from table(columns, run.manifest.scores.items(), SPARE_SCORES)


def folds(run: Run) -> Iterator[str]:
    """Yield each fold's accuracy, a column for each model and the blend; then mean, std and interval.

    On a terminal that is too narrow for that, there is a line for each model, without the folds.
    """
    scores = run.manifest.scores
    count = run.manifest.config.split.folds or 1
    folds = enumerate(zip_longest(*(score.folds or () for score in scores.values())))
    means = [
        ["mean", *(f"{score.accuracy:.4f}" for score in scores.values())],
        ["std", *(_number(score.std, ".4f") for score in scores.values())],
        ["95% interval", *map(_interval, scores.values())],
    ]
    names = ["accuracy", *map(printable, scores)]
    of_folds = [[fold_name(k, count), *(_number(share, ".4f") for share in shares)] for k, shares in folds]
    lines, room = [names, *of_folds, *means], terminal.columns_of(sys.stdout)
    if room is not None and sum(_widths(lines)) + GAP * len(scores) > room:
        lines = [list(line) for line in zip(names, *means, strict=True)]
    yield from _align(lines)


def footer(run: Run) -> Iterator[str]:
    """Yield what stands below the scores: each model's weight in the blend, if any, and the wall time."""
    if blend := run.manifest.blend:
        shares = ", ".join(f"{name} {weight:.3f}" for name, weight in (_weights(run) or {}).items())
        yield f"{blend.method} blend: {shares}"
    yield f"wall time: {_number(run.manifest.seconds.get('total'), '.1f')} s"


def _weights(run: Run) -> dict[str, float] | None:
    blend = run.manifest.blend
    return dict(zip(run.manifest.models, blend.weights, strict=True)) if blend else None


RUN_COLUMNS: Columns[tuple[Run, KaggleOutcome | None, str]] = [
    ("run", lambda row: row[0].folder.name),
    ("created", lambda row: f"{row[0].manifest.created:%Y-%m-%d %H:%M}"),
    ("recipes", lambda row: "+".join(row[0].manifest.models)),
    ("data", lambda row: row[0].manifest.config.data.kind),
    ("validation accuracy", lambda row: f"{row[0].main_score.accuracy:.4f}"),
    ("95% interval", lambda row: _interval(row[0].main_score)),
    ("against best", lambda row: row[2]),
    ("public score", lambda row: _number(row[1].public_score if row[1] else None, ".5f")),
    ("seconds", lambda row: _number(row[0].manifest.seconds.get("total"), ".0f")),
]
SPARE_RUNS = ("public score", "against best", "recipes", "data", "95% interval", "created", "seconds")


def runs(listed: Sequence[Run], outcomes: Outcomes, against_best: Iterable[str]) -> Iterator[str]:
    """Yield a line for each run; outcomes: Kaggle's, by the submission's SHA-256."""
    answers = [outcomes.get(run.manifest.submission_sha256 or "") for run in listed]
    rows = list(zip(listed, answers, against_best, strict=True))
    mixed = len({run.manifest.config.data.kind for run in listed}) > 1
    yield from table(RUN_COLUMNS, rows, [head for head in SPARE_RUNS if not (mixed and head == "data")])


SUBMISSION_COLUMNS: Columns[KaggleSubmission] = [
    ("run", lambda listed: listed.run or listed.file_name),
    ("ref", lambda listed: str(listed.ref)),
    ("date (UTC)", lambda listed: f"{listed.date:%Y-%m-%d %H:%M}" if listed.date else "-"),
    ("status", lambda listed: listed.status),
    ("public score", lambda listed: _number(listed.public_score, ".5f")),
    ("errors", lambda listed: _number(listed.errors, ",")),
    ("expected", lambda listed: _interval(listed.expected) if listed.expected else "-"),
    ("in it", lambda listed: listed.place or "-"),
    ("validation accuracy", lambda listed: f"{listed.validation.accuracy:.4f}" if listed.validation else "-"),
]
SPARE_SUBMISSIONS = (
    "public score", "errors", "expected", "in it", "status", "validation accuracy", "ref",
    "date (UTC)",
)  # fmt: skip


def submissions(listed: Sequence[KaggleSubmission]) -> Iterator[str]:
    """Yield a line for each submission, and one more with Kaggle's reason for each that failed."""
    yield from table(SUBMISSION_COLUMNS, listed, SPARE_SUBMISSIONS)
    for each in listed:
        if each.error_description:
            yield f"{each.ref}: {each.error_description}"


def scored(outcome: KaggleOutcome) -> str:
    """Return the line with the public score, its errors, and what was expected."""
    if outcome.public_score is None:
        return f"Submission {outcome.ref}: complete, but Kaggle shows no public score"
    said, errors = f"Submission {outcome.ref}: public score {outcome.public_score:.5f}", outcome.errors
    if errors is not None:
        said += f", {errors:,} error{'s' if errors != 1 else ''} of {COMPETITION_ROWS['test.csv']:,}"
    if outcome.validation:
        said += f"; validation accuracy {outcome.validation.accuracy:.4f}"
    return said + (f", expected {_interval(outcome.expected)}: {outcome.place}" if outcome.expected else "")


def submission(listed: KaggleSubmission) -> dict[str, object]:
    """Return a submission as `submissions --json` prints it."""
    score, validation = listed.public_score, listed.validation
    return {
        "ref": listed.ref,
        "date": listed.date.isoformat(timespec="seconds") if listed.date else None,
        "file": listed.file_name,
        "message": listed.description,
        "status": listed.status,
        "error": listed.error_description or None,
        "public_score": score,
        "errors": listed.errors,
        "run": listed.run,
        "validation": validation,
        "expected_score": listed.expected,
        "in_interval": listed.place,
        "gap": None if validation is None or score is None else score - validation.accuracy,
    }


def candidates(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line for each candidate of a search."""
    styles = {"accuracy": ".4f", "errors": ",", "digits": ",", "p": ".2g", "seconds": ".1f"}
    lines = [
        {name: format(x, styles[name]) if name in styles else format_value(x) for name, x in row.items()}
        for row in rows
    ]
    columns = [(name, itemgetter(name)) for name in rows[0]]
    yield from table(columns, lines, ("verdict", "state", "p", "folds", "seconds", "digits", "errors"))


def recipes(listed: Iterable[Recipe]) -> Iterator[str]:
    """Yield three lines for each recipe: its summary, its settings, its evidence."""
    for recipe in listed:
        settings = recipe.settings.model_dump(exclude={"net"})
        yield f"{recipe.name}: {recipe.summary}"
        yield "    " + " ".join(f"{name}={format_value(value)}" for name, value in settings.items())
        if evidence := recipe.evidence:
            score = f"{evidence.mean:.4f} ± {evidence.std:.4f} over 5 folds"
            yield f"    {score}, {evidence.seconds:.0f} s a fold, measured {evidence.date}"
        else:
            yield "    not measured"
