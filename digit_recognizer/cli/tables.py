"""What the commands print: manifests and recipes as lines of text, and as what `--json` says."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from digit_recognizer.ensemble import BLEND
from digit_recognizer.recipes import Evidence, Recipe
from digit_recognizer.runs import Run
from digit_recognizer.splits import fold_name


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Rows of text under a head; the first column to the left, the others to the right."""
    cells = [list(head), *map(list, rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for first, *others in cells:
        right = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        yield "  ".join([first.ljust(widths[0]), *right]).rstrip()


def summary(run: Run) -> dict[str, Any]:
    """A run as `--json` tells it."""
    scores = [{"recipe": name, **score} for name, score in run.manifest["scores"].items()]
    return {
        "submission": str(run.submission) if run.manifest["submitted"] else None,
        "run": str(run.folder),
        "seconds": run.manifest["seconds"]["total"],
        "models": [score for score in scores if score["recipe"] != BLEND],
        "blend": next((score for score in scores if score["recipe"] == BLEND), None),
        "weights": (run.manifest["blend"] or {}).get("weights"),
        "data": run.manifest["data"],
    }


def scores(run: Run) -> Iterator[str]:
    """Each model's and the blend's local score, a line each."""
    listed = run.manifest["scores"]
    on_test = any("test_accuracy" in score for score in listed.values())
    local = "holdout accuracy" if "holdout" in run.manifest["split"] else "out-of-fold accuracy"
    head = ["model", local, "95% interval", *(["test labels' accuracy"] if on_test else []), "seconds"]
    yield from table(
        head,
        (
            [
                name,
                f"{score['accuracy']:.4f}",
                _interval(score),
                *([f"{score['test_accuracy']:.4f}"] if on_test else []),
                f"{score['seconds']:.1f}",
            ]
            for name, score in listed.items()
        ),
    )


def folds(run: Run) -> Iterator[str]:
    """Each fold's accuracy, a column for each model and the blend; then mean, spread and interval."""
    scores = run.manifest["scores"]
    columns = [score["folds"] for score in scores.values()]
    count = run.manifest["split"]["folds"]
    names = [fold_name(k, count) for k in range(len(columns[0]))]
    rows = [[name, *(f"{column[k]:.4f}" for column in columns)] for k, name in enumerate(names)]
    rows.append(["mean", *(f"{score['accuracy']:.4f}" for score in scores.values())])
    rows.append(["spread", *(f"{score['spread']:.4f}" for score in scores.values())])
    rows.append(["95% interval", *(_interval(score) for score in scores.values())])
    yield from table(["accuracy", *scores], rows)


def weights(run: Run) -> Iterator[str]:
    """What each model weighs in the blend."""
    if blend := run.manifest["blend"]:
        yield f"{blend['method']} blend: " + ", ".join(
            f"{name} {w:.3f}" for name, w in blend["weights"].items()
        )


def runs(listed: Iterable[Run]) -> Iterator[str]:
    """A line for each run."""
    head = ["run", "created", "recipes", "data", "local score", "95% interval", "public score", "seconds"]

    def row(run: Run) -> list[str]:
        score = run.manifest["scores"][run.best]
        public = run.manifest.get("kaggle", {}).get("public_score")
        return [
            run.folder.name,
            run.manifest["created"][:16].replace("T", " "),
            "+".join(run.manifest["recipes"]),
            run.manifest["data"]["kind"],
            f"{score['accuracy']:.4f}",
            _interval(score),
            "-" if public is None else f"{public:.5f}",
            f"{run.manifest['seconds']['total']:.0f}",
        ]

    yield from table(head, map(row, listed))


def recipes(listed: Iterable[Recipe]) -> Iterator[str]:
    """Three lines for each recipe: what it is, its settings, its evidence."""
    for recipe in listed:
        yield f"{recipe.name}: {recipe.summary}"
        yield "    " + " ".join(f"{name}={_plain(value)}" for name, value in asdict(recipe.settings).items())
        yield f"    {_evidence(recipe.evidence) if recipe.evidence else 'not measured'}"


def evidence(listed: Iterable[Recipe]) -> Iterator[str]:
    """The recipes' evidence as the README's Markdown table."""
    yield "| recipe | what it is | accuracy | seconds | measured |"
    yield "|---|---|---|---|---|"
    for recipe in listed:
        if found := recipe.evidence:
            score = f"{found.mean:.4f} ± {found.spread:.4f}"
            yield f"| `{recipe.name}` | {recipe.summary} | {score} | {found.seconds:.0f} | {found.date} |"


def _evidence(found: Evidence) -> str:
    score = f"{found.mean:.4f} ± {found.spread:.4f} over 5 folds"
    return f"{score}, {found.seconds:.0f} s a fold, measured {found.date}"


def _interval(score: dict[str, Any]) -> str:
    return f"{score['low']:.4f} to {score['high']:.4f}"


def _plain(value: Any) -> str:
    """A setting as `--set` takes it."""
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
