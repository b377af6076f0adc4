"""What the commands print: runs and recipes as lines of text, and as the JSON of `--json`."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic_core import to_jsonable_python

from digit_recognizer.cli import terminal
from digit_recognizer.manifest import Interval, ModelScore
from digit_recognizer.predictions import BLEND
from digit_recognizer.recipes import Recipe
from digit_recognizer.runs import Run
from digit_recognizer.settings import format_value
from digit_recognizer.splits import fold_name

if TYPE_CHECKING:
    from digit_recognizer.leaderboard.ledger import KaggleOutcome
    from digit_recognizer.leaderboard.matching import MatchedSubmission

Row = TypeVar("Row")
Outcomes = Mapping[str, "KaggleOutcome"]
Columns = Sequence[tuple[str, Callable[[Row], str]]]
GAP = 2  # between columns


def table(columns: Columns[Row], rows: Iterable[Row], spare: Sequence[str] = ()) -> Iterator[str]:
    """Yield rows of text under a head; columns: (head, cell of a row), the first flush left, others right.

    spare: heads of columns that are left out of a terminal that is too narrow for them, the first one last.
    """
    lines = [[head for head, _ in columns], *([cell(row) for _, cell in columns] for row in rows)]
    room = terminal.columns_of(sys.stdout)
    if room is not None:
        widths = dict(zip(lines[0], _widths(lines), strict=True))
        ranked = sorted(widths, key=lambda head: spare.index(head) if head in spare else -1)
        shown = terminal.fitting({head: widths[head] for head in ranked}, room, GAP)
        kept = [index for index, head in enumerate(lines[0]) if head in shown]
        lines = [[_cut(line[index], room) for index in kept] for line in lines]
    yield from _align(lines)


def _cut(cell: str, room: int) -> str:
    return cell if len(cell) <= room else f"{cell[: room - 3]}..."


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


def summary(run: Run, report: Path | None = None) -> str:
    """Return a run as `--json` prints it."""
    manifest = run.manifest
    models = {
        name: {"recipe": name, **score.model_dump(mode="json", exclude_none=True)}
        for name, score in manifest.scores.items()
    }
    blend = models.pop(BLEND, None)
    return json.dumps(
        {
            "submission": str(run.submission) if manifest.submission_model else None,
            "run": str(run.folder),
            "seconds": manifest.seconds.get("total"),
            "models": list(models.values()),
            "blend": blend,
            "weights": _weights(run),
            "expected_score": to_jsonable_python(manifest.expected_score),
            "data": manifest.config.data.model_dump(mode="json"),
            "stopped_early": manifest.stopped_early,
            **({"report": str(report)} if report else {}),
        }
    )


def run_list(runs: Iterable[Run], outcomes: Outcomes, against_best: Iterable[str]) -> str:
    """Return the runs as `runs --json` prints them: their manifests, and what Kaggle answered."""
    listed = [
        {
            "run": str(run.folder),
            **run.manifest.model_dump(mode="json"),
            "against_best": verdict,
            "kaggle": to_jsonable_python(_outcome(run, outcomes)),
        }
        for run, verdict in zip(runs, against_best, strict=True)
    ]
    return json.dumps({"runs": listed})


def _outcome(run: Run, outcomes: Outcomes) -> "KaggleOutcome | None":
    return outcomes.get(run.manifest.submission_sha256 or "")


SPARE_SCORES = ("95% interval", "test accuracy")


def scores(run: Run) -> Iterator[str]:
    """Yield each model's and the blend's validation accuracy, a line each."""
    on_test = any(score.test_accuracy is not None for score in run.manifest.scores.values())
    columns: Columns[tuple[str, ModelScore]] = [
        ("model", lambda row: row[0]),
        ("validation accuracy", lambda row: f"{row[1].accuracy:.4f}"),
        ("95% interval", lambda row: _interval(row[1])),
        *([("test accuracy", lambda row: _number(row[1].test_accuracy, ".4f"))] if on_test else []),
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
    names = ["accuracy", *scores]
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


RUN_COLUMNS: Columns[tuple[Run, "KaggleOutcome | None", str]] = [
    ("run", lambda row: row[0].folder.name),
    ("created", lambda row: f"{row[0].manifest.created:%Y-%m-%d %H:%M}"),
    ("recipes", lambda row: "+".join(row[0].manifest.models)),
    ("data", lambda row: row[0].manifest.config.data.kind),
    ("validation accuracy", lambda row: f"{row[0].main_score.accuracy:.4f}"),
    ("95% interval", lambda row: _interval(row[0].main_score)),
    ("against the best", lambda row: row[2]),
    ("public score", lambda row: _number(row[1].public_score if row[1] else None, ".5f")),
    ("seconds", lambda row: _number(row[0].manifest.seconds.get("total"), ".0f")),
]
SPARE_RUNS = (
    "public score", "against the best", "recipes", "data", "95% interval", "created", "seconds",
)  # fmt: skip


def runs(listed: Sequence[Run], outcomes: Outcomes, against_best: Iterable[str]) -> Iterator[str]:
    """Yield a line for each run; outcomes: Kaggle's, by the submission's SHA-256."""
    beside = zip(listed, against_best, strict=True)
    rows = [(run, _outcome(run, outcomes), verdict) for run, verdict in beside]
    yield from table(RUN_COLUMNS, rows, SPARE_RUNS)


SUBMISSION_COLUMNS: Columns["MatchedSubmission"] = [
    ("run", lambda match: match.run or match.listed.file_name),
    ("ref", lambda match: str(match.listed.ref)),
    ("date (UTC)", lambda match: f"{match.listed.date:%Y-%m-%d %H:%M}" if match.listed.date else "-"),
    ("status", lambda match: match.listed.status),
    ("public score", lambda match: _number(match.listed.public_score, ".5f")),
    ("errors", lambda match: _number(match.errors, ",")),
    ("expected", lambda match: _interval(match.expected) if match.expected else "-"),
    ("in it", lambda match: match.place or "-"),
    ("validation accuracy", lambda match: f"{match.validation.accuracy:.4f}" if match.validation else "-"),
]
SPARE_SUBMISSIONS = (
    "public score", "errors", "expected", "in it", "status", "validation accuracy", "ref",
    "date (UTC)",
)  # fmt: skip


def submissions(matches: Sequence["MatchedSubmission"]) -> Iterator[str]:
    """Yield a line for each submission, and one more with Kaggle's reason for each that failed."""
    yield from table(SUBMISSION_COLUMNS, matches, SPARE_SUBMISSIONS)
    for match in matches:
        if match.listed.error_description:
            yield f"{match.listed.ref}: {match.listed.error_description}"


def intervals_held(matches: Iterable["MatchedSubmission"]) -> str:
    """Return how many public scores fell into the intervals that were expected; "" without any."""
    places = [match.place for match in matches if match.place]
    if not places:
        return ""
    return f"{places.count('inside')} of {len(places)} public scores are inside their 95% intervals"


def submissions_json(matches: Iterable["MatchedSubmission"]) -> str:
    """Return the submissions as `submissions --json` prints them."""
    return json.dumps(
        {
            "submissions": [
                {
                    "ref": match.listed.ref,
                    "date": match.listed.date.isoformat(timespec="seconds") if match.listed.date else None,
                    "file": match.listed.file_name,
                    "message": match.listed.description,
                    "status": match.listed.status,
                    "error": match.listed.error_description or None,
                    "public_score": match.listed.public_score,
                    "errors": match.errors,
                    "run": match.run,
                    "validation": to_jsonable_python(match.validation),
                    "expected_score": to_jsonable_python(match.expected),
                    "in_interval": match.place,
                    "gap": match.gap,
                }
                for match in matches
            ]
        }
    )


def candidates(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line for each candidate of a search."""
    styles = {"accuracy": ".4f", "errors": ",", "p": ".2g", "seconds": ".1f"}
    lines = [
        {
            key: format(value, styles[key]) if key in styles else format_value(value)
            for key, value in row.items()
        }
        for row in rows
    ]
    columns = [(name, itemgetter(name)) for name in rows[0]]
    yield from table(columns, lines, ("state", "p", "errors", "folds", "seconds", "digits"))


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
