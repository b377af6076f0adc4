"""The pictures of a report: what each shows, and says in words."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from digit_recognizer.data import CLASSES, SIDE
from digit_recognizer.manifest import ModelScore
from digit_recognizer.reports.themes import LIGHT, Picture, Theme, picture
from digit_recognizer.reports.tiles import shorten
from digit_recognizer.scoring import Calibration

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GRID_COLUMNS, GRID_CELL = 8, 1.2  # digits side by side, inches of each
MAX_CURVES = len(LIGHT.series)  # recipes that have a colour of their own
MAX_INTERVALS = 16  # models in the picture of the scores
CURVE_LABELS = {"valid": "held-out", "train": "training"}
LINE_STYLES = {"valid": "-", "train": ":"}
MAX_LOSS = 1e6  # a loss beyond it is drawn there

Curve = Sequence[Mapping[str, float]]  # of each epoch: train_loss, train_accuracy, valid_loss, valid_accuracy


def curves(fits: Mapping[str, Sequence[Curve]], metric: str) -> Picture:
    """Draw `metric`, 'accuracy' or 'loss', after each epoch; fits: the curves of each recipe's fits."""
    recipes = [
        (_label(recipe), {side: _by_epoch(fits[recipe], f"{side}_{metric}") for side in CURVE_LABELS})
        for recipe in list(fits)[:MAX_CURVES]
    ]
    alt = f"Line chart of {metric} by epoch: {'; '.join(_last_epoch(*recipe) for recipe in recipes)}."

    def draw(canvas: "Figure", theme: Theme) -> None:
        from matplotlib.lines import Line2D
        from matplotlib.ticker import MaxNLocator

        axes = canvas.subplots()
        handles = []
        for colour, (label, sides) in zip(theme.series, recipes, strict=False):
            handles.append(Line2D([], [], color=colour, label=label))
            for side, values in sides.items():
                _draw_curve(axes, values, colour, LINE_STYLES[side])
        for side, style in LINE_STYLES.items():
            handles.append(Line2D([], [], color=theme.muted, ls=style, label=f"{CURVE_LABELS[side]} digits"))
        axes.set_xlabel("epoch")
        axes.set_ylabel(metric)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        canvas.legend(handles=handles, loc="outside lower center", ncols=2)

    legend = 0.2 * -(-(len(recipes) + len(CURVE_LABELS)) // 2)
    return picture(metric, alt, 3.2 + legend, draw)


def _by_epoch(fits: Sequence[Curve], key: str) -> np.ma.MaskedArray:
    """Return an array of shape (fits that have the metric, epochs), masked where a fit has no value."""
    lines = [[epoch.get(key, np.nan) for epoch in fit] for fit in fits if any(key in epoch for epoch in fit)]
    longest = max(map(len, lines), default=0)
    padded = np.array([line + [np.nan] * (longest - len(line)) for line in lines])
    return np.ma.masked_invalid(padded.clip(-MAX_LOSS, MAX_LOSS))


def _last_epoch(label: str, sides: Mapping[str, np.ma.MaskedArray]) -> str:
    last = [
        f"{values[:, -1].mean():.4f} on {CURVE_LABELS[side]} digits"
        for side, values in sides.items()
        if values.size
    ]
    return f"{label} ends at {' and '.join(last)}"


def _draw_curve(axes: "Axes", values: np.ma.MaskedArray, colour: str, style: str) -> None:
    """Draw the mean of the fits as a line, and a band from the lowest to the highest."""
    if not values.size:
        return
    epochs = np.arange(1, values.shape[1] + 1)
    axes.plot(epochs, values.mean(axis=0), style, color=colour, marker="o" if len(epochs) == 1 else "")
    axes.fill_between(epochs, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.15, linewidth=0)


def confusion(matrix: np.ndarray) -> Picture:
    """Draw counts of shape (10, 10), digit by what it was read as; mistakes are coloured by their number."""
    mistakes = matrix * ~np.eye(CLASSES, dtype=bool)
    digit, predicted = np.unravel_index(mistakes.argmax(), mistakes.shape)
    worst = f"The most frequent mistake is {digit} read as {predicted}: {mistakes.max():,}."
    alt = (
        f"Confusion matrix as a heatmap: {matrix.trace():,} of {matrix.sum():,} predictions are right and "
        f"on the diagonal. {worst if mistakes.any() else 'All other cells are empty.'}"
    )

    def draw(canvas: "Figure", theme: Theme) -> None:
        from matplotlib.colors import LinearSegmentedColormap, to_rgba

        heat = LinearSegmentedColormap.from_list("heat", [theme.card, theme.heat])
        colours = heat(mistakes / max(1, mistakes.max()))
        colours[np.eye(CLASSES, dtype=bool)] = to_rgba(theme.right, 0.22)
        axes = canvas.subplots()
        axes.imshow(colours)
        for (row, column), count in np.ndenumerate(matrix):
            if count:
                axes.text(column, row, f"{count:,}", ha="center", va="center", fontsize=8.5)
        axes.set(xlabel="read as", ylabel="is", xticks=range(CLASSES), yticks=range(CLASSES))
        axes.set_xticks(np.arange(CLASSES + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(CLASSES + 1) - 0.5, minor=True)
        axes.grid(visible=False)
        axes.grid(visible=True, which="minor", color=theme.grid)
        axes.tick_params(which="both", length=0)

    return picture("confusion", alt, 4.8, draw)


def reliability(calibration: Calibration) -> Picture:
    """Draw how often the likeliest digit is right by its probability, with 95% intervals, and counts."""
    # Rounding can put a bound a hair on the wrong side of its point.
    below = np.maximum(0, calibration.accuracy - calibration.low)
    above = np.maximum(0, calibration.high - calibration.accuracy)
    bins = [
        f"{n:,} given {p:.1%} are right in {a:.1%}"
        for n, p, a in zip(calibration.counts, calibration.confidence, calibration.accuracy, strict=True)
    ]
    alt = (
        f"Reliability diagram, expected calibration error {calibration.error:.4f}. "
        f"Predictions by mean probability: {'; '.join(bins)}."
    )

    def draw(canvas: "Figure", theme: Theme) -> None:
        from matplotlib.ticker import NullFormatter

        top, bottom = canvas.subplots(2, sharex=True, height_ratios=[3, 1])
        top.plot([0, 1], [0, 1], ":", color=theme.muted)
        top.text(0.03, 0.09, "perfectly calibrated", color=theme.muted, rotation=38, fontsize=9)
        top.errorbar(
            calibration.confidence, calibration.accuracy, [below, above],
            fmt="o", color=theme.series[0], capsize=3,
        )  # fmt: skip
        top.set(ylabel="share right", xlim=(0, 1.02), ylim=(-0.02, 1.05))
        bottom.bar(calibration.confidence, calibration.counts, width=0.05, color=theme.series[0])
        bottom.set(xlabel="probability of the likeliest digit", ylabel="predictions", yscale="log")
        bottom.set_ylim(bottom=0.8)
        bottom.yaxis.set_major_formatter("{x:,.0f}")  # matplotlib's own is a formula
        bottom.yaxis.set_minor_formatter(NullFormatter())
        canvas.align_ylabels()

    return picture("reliability", alt, 4.8, draw)


def intervals(scores: Mapping[str, ModelScore], main_model: str) -> Picture:
    """Draw the held-out accuracy of the first MAX_INTERVALS models with its 95% interval."""
    models = list(scores.items())[:MAX_INTERVALS]
    alt = "Held-out accuracy with 95% interval: " + "; ".join(
        f"{_label(name)} {score.accuracy:.4f} from {score.low:.4f} to {score.high:.4f}"
        for name, score in models
    )

    def draw(canvas: "Figure", theme: Theme) -> None:
        axes = canvas.subplots()
        for place, (name, score) in enumerate(models):
            colour = theme.series[0] if name == main_model else theme.muted
            axes.plot([score.low, score.high], [place, place], color=colour, linewidth=3, alpha=0.55)
            axes.plot(score.accuracy, place, "o", color=colour, markersize=8)
            axes.annotate(
                f"{score.accuracy:.4f}", (score.accuracy, place), (0, 8), textcoords="offset points",
                ha="center", color=colour, fontsize=9.5,
            )  # fmt: skip
        axes.set(xlabel="held-out accuracy, 95% interval", ylim=(len(models) - 0.4, -0.7))
        axes.set_yticks(range(len(models)), [_label(name) for name, _ in models])
        axes.grid(visible=False, axis="y")
        axes.locator_params(axis="x", nbins=5)

    return picture("scores", f"{alt}.", 1.1 + 0.5 * len(models), draw)


def class_counts(sets: Mapping[str, np.ndarray]) -> Picture:
    """Draw the share of each digit in sets of labels; sets: each set's counts, of shape (10,)."""
    words = [
        f"{name}: {', '.join(f'{digit} {count:,}' for digit, count in enumerate(counts))}"
        for name, counts in sets.items()
    ]

    def draw(canvas: "Figure", theme: Theme) -> None:
        axes = canvas.subplots()
        width = 0.8 / len(sets)
        for i, (name, counts) in enumerate(sets.items()):
            places = np.arange(CLASSES) + (i - (len(sets) - 1) / 2) * width
            axes.bar(places, 100 * counts / counts.sum(), width, color=theme.series[i], label=name)
        axes.axhline(100 / CLASSES, linestyle=":", color=theme.muted)
        axes.set(xlabel="digit", ylabel="share of the digits, %", xticks=range(CLASSES))
        axes.grid(visible=False, axis="x")
        canvas.legend(loc="outside lower center", ncols=2)

    return picture("class-counts", f"Bar chart of the digits' counts. {'. '.join(words)}.", 3.4, draw)


def digit_grid(
    name: str, alt: str, pixels: np.ndarray, titles: Sequence[str], right: Sequence[bool | None]
) -> Picture:
    """Draw digits, pixels of shape (n, 784), in a grid with titles: green if right, red if wrong."""
    rows = -(-len(pixels) // GRID_COLUMNS)
    cells = np.zeros((rows * GRID_COLUMNS, SIDE + 16, SIDE + 12), np.uint8)  # with room for the titles
    cells[: len(pixels), 13:-3, 6:-6] = pixels.reshape(-1, SIDE, SIDE)
    height, width = cells.shape[1:]
    # One image: so many axes would take matplotlib many seconds.
    image = cells.reshape(rows, GRID_COLUMNS, height, width).swapaxes(1, 2).reshape(rows * height, -1)

    def draw(canvas: "Figure", theme: Theme) -> None:
        from matplotlib.colors import LinearSegmentedColormap

        axes = canvas.subplots()
        axes.axis("off")
        axes.imshow(image, cmap=LinearSegmentedColormap.from_list("ink", [theme.card, theme.ink]))
        colours = {True: theme.right, False: theme.wrong, None: theme.ink}
        for i, (title, is_right) in enumerate(zip(titles, right, strict=True)):
            row, column = divmod(i, GRID_COLUMNS)
            place = ((column + 0.5) * width, row * height + 9)
            axes.text(*place, title, ha="center", color=colours[is_right], fontsize=8)

    return picture(name, alt, GRID_CELL * rows * height / width, draw, width=GRID_CELL * GRID_COLUMNS)


def to_png(digits: np.ndarray) -> bytes:
    """Return digits, pixels of shape (n, 784), side by side as a PNG of 28 by 28 n pixels, black on white."""
    from matplotlib.image import imsave

    png = io.BytesIO()
    inverted = 255 - np.concatenate([digit.reshape(SIDE, SIDE) for digit in digits], axis=1)
    imsave(
        png, np.stack([inverted] * 3, axis=-1), format="png"
    )  # as colours, which imsave leaves as they are
    return png.getvalue()


def _label(name: str) -> str:
    """Return a model's name in letters that the font has, short enough for a picture."""
    return shorten(name.encode("ascii", "replace").decode(), 28)
