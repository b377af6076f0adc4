"""The figures of a report: what each shows, and says in words."""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np

from digit_recognizer.data import CLASSES, SIDE
from digit_recognizer.reports.drawing import LIGHT, SERIES, Picture, new_figure
from digit_recognizer.reports.report_data import Curve, shorten
from digit_recognizer.scoring import Accuracy, Calibration

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GRID_COLUMNS = 8  # digits side by side
MAX_CURVES = len(SERIES)  # recipes that have a colour of their own
MAX_INTERVALS = 16  # models in the figure of the scores
METRICS = {"error": "accuracy", "loss": "loss"}
SIDES = {"valid": ("validation", "-"), "train": ("training", ":")}
STEPS = [1, 2, 5, 10]  # of a linear scale
TICKS = [digit * 10.0**power for power in range(-4, 7) for digit in (1, 2, 5)]  # of a log scale


def curves(fits: Mapping[str, Sequence[Curve]], metric: str) -> Picture:
    """Draw 'error' in percent or 'loss' after each epoch; fits: the curves of each recipe's fits.

    A line is the mean over a recipe's fits; its band spans the lowest to the highest.
    """
    recipes = list(fits)[:MAX_CURVES]
    lines = {(recipe, side): _by_epoch(fits[recipe], side, metric) for recipe in recipes for side in SIDES}
    figure, axes = new_figure(3.2 + 0.2 * -(-(len(recipes) + len(SIDES)) // 2))
    values, valid = (
        np.concatenate([line.compressed() for (_, side), line in lines.items() if side in sides])
        for sides in (SIDES, ["valid"])
    )
    # Training errors near 0 would leave the validation curves a strip at the top.
    lowest = _log_scale(axes, values.clip(min(valid[valid > 0], default=0) / 2))
    for (recipe, side), line in lines.items():
        if line.count():
            values, epochs = np.ma.maximum(line, lowest), np.arange(1, line.shape[1] + 1)
            colour, marker = SERIES[recipes.index(recipe)], "o" if len(epochs) == 1 else ""
            axes.plot(epochs, values.mean(axis=0), SIDES[side][1], color=colour, marker=marker)
            band = values.min(axis=0), values.max(axis=0)
            axes.fill_between(epochs, *band, color=colour, alpha=0.15, linewidth=0)
    keys = [axes.plot([], style, color=LIGHT["muted"], label=name) for name, style in SIDES.values()]
    keys += [axes.plot([], "-", color=SERIES[i], label=_label(name)) for i, name in enumerate(recipes)]
    figure.legend(handles=[key for (key,) in keys[::2] + keys[1::2]], loc="outside lower center", ncols=2)
    label = "error, %" if metric == "error" else metric
    axes.set(xlabel="epoch", ylabel=label)
    axes.locator_params(axis="x", integer=True, steps=STEPS)
    last = [
        f"{_label(recipe)} {line.mean(axis=0).compressed()[-1]:.4g} on {SIDES[side][0]} digits"
        for (recipe, side), line in lines.items()
        if line.count()
    ]
    return Picture(metric, f"Line chart, {label} by epoch; after the last epoch: {'; '.join(last)}.", figure)


def _by_epoch(fits: Sequence[Curve], side: str, metric: str) -> np.ma.MaskedArray:
    """Return an array of shape (fits that have the metric, epochs), masked where a fit has no value."""
    key = f"{side}_{METRICS[metric]}"
    lines = [[epoch.get(key, np.nan) for epoch in fit] for fit in fits if any(key in epoch for epoch in fit)]
    values = np.array(list(zip_longest(*lines, fillvalue=np.nan))).T
    if metric == "error":
        values = np.round(100 * (1 - values), 6)  # 1 - 0.9 is a little less than 0.1
    return np.ma.masked_invalid(values.clip(0, TICKS[-1]))


def _log_scale(axes: "Axes", values: np.ndarray, most: int = 10) -> float:
    """Give the y axis a log scale for these values, from a tick to a tick, and return its lower end.

    Of more than `most` ticks, powers of ten alone have a number.
    """
    positive = values[values > 0] if np.any(values > 0) else np.ones(1)
    first = max(bisect_right(TICKS, positive.min()) - 1, 0)
    ticks = TICKS[first : max(bisect_left(TICKS, positive.max()), first + 1) + 1]
    axes.set(yscale="log", ylim=(ticks[0], ticks[-1]))
    shown = ticks if len(ticks) <= most else [tick for tick in ticks if tick in TICKS[::3]]
    axes.set_yticks(shown, [f"{tick:,.10g}" for tick in shown])
    axes.minorticks_off()
    return ticks[0]


def confusion(matrix: np.ndarray) -> Picture:
    """Draw counts of shape (10, 10), label by prediction; errors are coloured by their number."""
    right = np.eye(CLASSES, dtype=bool)
    errors = matrix * ~right
    label, predicted = np.unravel_index(errors.argmax(), errors.shape)
    worst = f"The most frequent error is {label} predicted as {predicted}: {errors.max():,}."
    alt = (
        f"Confusion matrix as a heat map: {matrix.trace():,} of {matrix.sum():,} predictions are right and "
        f"on the diagonal. {worst if errors.any() else 'All other cells are empty.'}"
    )
    figure, axes = new_figure(4.8)
    for (row, column), count in np.ndenumerate(matrix):
        colour = (LIGHT["right"], 0.22) if row == column else (LIGHT["heat"], count / max(1, errors.max()))
        axes.bar(column, 1, 1, row - 0.5, color=colour, edgecolor=LIGHT["line"], linewidth=0.8)
        if count:
            axes.text(column, row, f"{count:,}", ha="center", va="center", fontsize=9.5)
    axes.set(xlabel="predicted", ylabel="label", xticks=range(CLASSES), yticks=range(CLASSES))
    axes.set(aspect="equal", xlim=(-0.5, CLASSES - 0.5), ylim=(CLASSES - 0.5, -0.5))
    axes.grid(visible=False)
    return Picture("confusion", alt, figure)


def reliability(calibration: Calibration) -> Picture:
    """Draw the accuracy by the probability of the likeliest digit, with 95% intervals, and counts."""
    confidence, accuracy, counts = calibration.confidence, calibration.accuracy, calibration.counts
    bins = [
        f"{n:,} given {p:.1%} are right in {a:.1%}"
        for n, p, a in zip(counts, confidence, accuracy, strict=True)
    ]
    alt = (
        f"Reliability diagram, expected calibration error {calibration.error:.4f}. "
        f"Predictions by mean probability: {'; '.join(bins)}."
    )
    figure, (top, bottom) = new_figure(4.8, nrows=2, sharex=True, height_ratios=[3, 1])
    top.plot([0, 1], [0, 1], ":", color=LIGHT["muted"])
    top.text(0.03, 0.09, "perfectly calibrated", color=LIGHT["muted"], rotation=38, fontsize=9.5)
    bounds = [accuracy - calibration.low, calibration.high - accuracy]
    top.errorbar(confidence, accuracy, bounds, fmt="o", color=SERIES[0], capsize=3)
    top.set(ylabel="accuracy", xlim=(0, 1.02), ylim=(-0.02, 1.05))
    _log_scale(bottom, np.array([1, counts.max()]), most=4)
    bottom.bar(confidence, counts, width=0.05, color=SERIES[0])
    bottom.set(xlabel="probability of the likeliest digit", ylabel="predictions")
    bottom.set_ylim(bottom=0.5)
    figure.align_ylabels()
    return Picture("reliability", alt, figure)


def intervals(scores: Mapping[str, Accuracy], main_model: str, title: str = "") -> Picture:
    """Draw the validation accuracy of the first MAX_INTERVALS models with its 95% interval."""
    models = list(scores.items())[:MAX_INTERVALS]
    words = [
        f"{_label(name)} {score.accuracy:.4f} from {score.low:.4f} to {score.high:.4f}"
        for name, score in models
    ]
    figure, axes = new_figure(1.1 + 0.5 * len(models))
    for place, (name, score) in enumerate(models):
        colour = SERIES[0] if name == main_model else LIGHT["muted"]
        axes.plot([score.low, score.high], [place, place], color=colour, linewidth=3, alpha=0.55)
        axes.plot(score.accuracy, place, "o", color=colour, markersize=8, clip_on=False)
        axes.annotate(
            f"{score.accuracy:.4f}", (score.accuracy, place), (0, 8), textcoords="offset points",
            ha="center", color=colour, fontsize=10,
        )  # fmt: skip
    axes.set_title(title, wrap=True)
    axes.set(xlabel="validation accuracy, 95% interval", ylim=(len(models) - 0.4, -0.7))
    axes.set_xlim(max(0, axes.get_xlim()[0]), min(1, axes.get_xlim()[1]))
    axes.set_yticks(range(len(models)), [_label(name) for name, _ in models])
    axes.grid(visible=False, axis="y")
    axes.locator_params(axis="x", nbins=5, steps=STEPS)
    return Picture("scores", f"Validation accuracy with 95% interval: {'; '.join(words)}.", figure)


def class_counts(sets: Mapping[str, np.ndarray]) -> Picture:
    """Draw the share of each digit in sets of labels; sets: each set's counts, of shape (10,)."""
    words = [
        f"{name}: {', '.join(f'{digit} {count:,}' for digit, count in enumerate(counts))}"
        for name, counts in sets.items()
    ]
    figure, axes = new_figure(3.4)
    width = 0.8 / len(sets)
    for i, (name, counts) in enumerate(sets.items()):
        places = np.arange(CLASSES) + (i - (len(sets) - 1) / 2) * width
        axes.bar(places, 100 * counts / counts.sum(), width, color=SERIES[i], label=name)
    axes.axhline(100 / CLASSES, linestyle=":", color=LIGHT["muted"])
    axes.set(xlabel="digit", ylabel="share of the digits, %", xticks=range(CLASSES))
    axes.locator_params(axis="y", steps=STEPS)
    axes.grid(visible=False, axis="x")
    figure.legend(loc="outside lower center", ncols=2)
    return Picture("class-counts", f"Bar chart of the digits' counts. {'. '.join(words)}.", figure)


def digit_grid(name: str, digits: Sequence[tuple[np.ndarray, str, str]]) -> Picture:
    """Draw digits for a slide: of each its pixels, of shape (784,), its title, and the title's colour."""
    rows = -(-len(digits) // GRID_COLUMNS)
    figure, axes = new_figure(1.3 * rows, 1.2 * GRID_COLUMNS)
    for place, (pixels, title, colour) in enumerate(digits):
        top, left = 40 * (place // GRID_COLUMNS), 40 * (place % GRID_COLUMNS)
        extent = (left, left + SIDE, top + SIDE, top)
        axes.imshow(pixels.reshape(SIDE, SIDE), cmap="gray_r", vmin=0, vmax=255, extent=extent)
        axes.text(left + SIDE / 2, top - 2, title, color=colour, fontsize=9, ha="center")
    axes.set(xlim=(-6, 40 * GRID_COLUMNS - 6), ylim=(40 * rows - 6, -12))
    axes.axis("off")
    return Picture(name, "; ".join(title for _, title, _ in digits), figure)


def _label(name: str) -> str:
    """Return a model's name in letters that the font has, short enough for a figure."""
    return shorten(name.encode("ascii", "replace").decode(), 28)
