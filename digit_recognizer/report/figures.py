"""The pictures of a report: what each shows, and says in words."""

import io
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from digit_recognizer.data import CLASSES, SIDE
from digit_recognizer.report.themes import Picture, Theme, picture
from digit_recognizer.scoring import Calibration

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHEET_COLUMNS, SHEET_CELL = 8, 1.2  # digits side by side, inches of each


def curves(fits: Mapping[str, Sequence[Sequence[Mapping[str, float]]]], figure: str) -> Picture:
    """`figure`, 'accuracy' or 'loss', after each epoch; fits: of each recipe, the curves of its fits."""
    ends = []
    for recipe, some in fits.items():
        sides = [(side, _by_epoch(some, f"{key}_{figure}")) for key, side in SIDES.items()]
        last = [f"{np.nanmean(values[:, -1]):.4f} on {side} digits" for side, values in sides if len(values)]
        ends.append(f"{recipe} ends at {' and '.join(last)}")

    def draw(canvas: "Figure", theme: Theme) -> None:
        from matplotlib.lines import Line2D
        from matplotlib.ticker import MaxNLocator

        axes = canvas.subplots()
        handles = []
        for colour, (recipe, some) in zip(cycle(theme.series), fits.items(), strict=False):
            handles.append(Line2D([], [], color=colour, label=recipe))
            for key, style in (("valid", "-"), ("train", ":")):
                values = _by_epoch(some, f"{key}_{figure}")
                if len(values):
                    epochs = np.arange(1, values.shape[1] + 1)
                    marker = "o" if len(epochs) == 1 else ""
                    axes.plot(epochs, np.nanmean(values, axis=0), style, color=colour, marker=marker)
                    low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
                    axes.fill_between(epochs, low, high, color=colour, alpha=0.15, linewidth=0)
        for style, side in (("-", SIDES["valid"]), (":", SIDES["train"])):
            handles.append(Line2D([], [], color=theme.muted, ls=style, label=f"{side} digits"))
        axes.set_xlabel("epoch")
        axes.set_ylabel(figure)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        canvas.legend(handles=handles, loc="outside lower center", ncols=2)

    alt = f"Line chart of {figure} by epoch: {'; '.join(ends)}."
    legend = 0.2 * -(-(len(fits) + len(SIDES)) // 2)
    return picture(figure, alt, 3.2 + legend, draw)


SIDES = {"valid": "held-out", "train": "training"}


def _by_epoch(fits: Sequence[Sequence[Mapping[str, float]]], key: str) -> np.ndarray:
    """(fits that have the figure, epochs), NaN after the last epoch of a fit that stopped early."""
    lines = [[epoch[key] for epoch in fit] for fit in fits if fit and key in fit[0]]
    longest = max(map(len, lines), default=0)
    return np.array([line + [np.nan] * (longest - len(line)) for line in lines])


def confusion(matrix: np.ndarray) -> Picture:
    """Counts of shape (10, 10), digit by what it was read as; mistakes are coloured by their number."""
    mistakes = matrix * ~np.eye(CLASSES, dtype=bool)
    digit, guess = np.unravel_index(mistakes.argmax(), mistakes.shape)
    worst = f"The fullest cell beside it is {digit} read as {guess}: {mistakes.max():,}."
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


def reliability(found: Calibration) -> Picture:
    """How often the likeliest digit is right against its probability, with 95% intervals, and counts."""
    # Rounding can put a bound a hair on the wrong side of its point.
    below = np.maximum(0, found.accuracy - found.low)
    above = np.maximum(0, found.high - found.accuracy)
    bins = [
        f"{n:,} given {p:.1%} are right in {a:.1%}"
        for n, p, a in zip(found.counts, found.confidence, found.accuracy, strict=True)
    ]
    alt = (
        f"Reliability diagram, expected calibration error {found.error:.4f}. "
        f"Predictions by mean probability: {'; '.join(bins)}."
    )

    def draw(canvas: "Figure", theme: Theme) -> None:
        top, bottom = canvas.subplots(2, sharex=True, height_ratios=[3, 1])
        top.plot([0, 1], [0, 1], ":", color=theme.muted)
        top.text(0.03, 0.09, "perfectly calibrated", color=theme.muted, rotation=38, fontsize=9)
        top.errorbar(
            found.confidence, found.accuracy, [below, above], fmt="o", color=theme.series[0], capsize=3
        )
        top.set(ylabel="share right", xlim=(0, 1.02), ylim=(-0.02, 1.05))
        bottom.bar(found.confidence, found.counts, width=0.05, color=theme.series[0])
        bottom.set(xlabel="probability of the likeliest digit", ylabel="predictions", yscale="log")
        bottom.set_ylim(bottom=0.8)
        canvas.align_ylabels()

    return picture("reliability", alt, 4.8, draw)


def intervals(scores: Mapping[str, Mapping[str, float]], submitted: str) -> Picture:
    """Each model's held-out accuracy with its 95% interval, the one submitted in another colour."""
    names = list(scores)
    alt = "Held-out accuracy with 95% interval: " + "; ".join(
        f"{name} {one['accuracy']:.4f} from {one['low']:.4f} to {one['high']:.4f}"
        for name, one in scores.items()
    )

    def draw(canvas: "Figure", theme: Theme) -> None:
        axes = canvas.subplots()
        for place, (name, one) in enumerate(scores.items()):
            colour = theme.series[0] if name == submitted else theme.muted
            axes.plot([one["low"], one["high"]], [place, place], color=colour, linewidth=3, alpha=0.55)
            axes.plot(one["accuracy"], place, "o", color=colour, markersize=8)
            axes.annotate(
                f"{one['accuracy']:.4f}", (one["accuracy"], place), (0, 8), textcoords="offset points",
                ha="center", color=colour, fontsize=9.5,
            )  # fmt: skip
        axes.set(xlabel="held-out accuracy, 95% interval", ylim=(len(names) - 0.4, -0.7))
        axes.set_yticks(range(len(names)), names)
        axes.grid(visible=False, axis="y")
        axes.locator_params(axis="x", nbins=5)

    return picture("scores", f"{alt}.", 1.1 + 0.5 * len(names), draw)


def classes(counts: Mapping[str, np.ndarray]) -> Picture:
    """Share of each digit in sets of labels; counts: of each set, int arrays of shape (10,)."""
    words = [
        f"{name}: {', '.join(f'{digit} {count:,}' for digit, count in enumerate(one))}"
        for name, one in counts.items()
    ]

    def draw(canvas: "Figure", theme: Theme) -> None:
        axes = canvas.subplots()
        width = 0.8 / len(counts)
        for i, (name, one) in enumerate(counts.items()):
            places = np.arange(CLASSES) + (i - (len(counts) - 1) / 2) * width
            axes.bar(places, 100 * one / one.sum(), width, color=theme.series[i], label=name)
        axes.axhline(100 / CLASSES, linestyle=":", color=theme.muted)
        axes.set(xlabel="digit", ylabel="share of the digits, %", xticks=range(CLASSES))
        axes.grid(visible=False, axis="x")
        canvas.legend(loc="outside lower center", ncols=2)

    return picture("classes", f"Bar chart of the digits' counts. {'. '.join(words)}.", 3.4, draw)


def sheet(
    name: str, alt: str, pixels: np.ndarray, titles: Sequence[str], right: Sequence[bool | None]
) -> Picture:
    """Digits, pixels of shape (n, 784), in a grid; titles green where right, red where wrong, else plain."""
    rows = -(-len(pixels) // SHEET_COLUMNS)
    cells = np.zeros((rows * SHEET_COLUMNS, SIDE + 16, SIDE + 12), np.uint8)  # with room for the titles
    cells[: len(pixels), 13:-3, 6:-6] = pixels.reshape(-1, SIDE, SIDE)
    height, width = cells.shape[1:]
    # One image: so many axes would take matplotlib many seconds.
    image = cells.reshape(rows, SHEET_COLUMNS, height, width).swapaxes(1, 2).reshape(rows * height, -1)

    def draw(canvas: "Figure", theme: Theme) -> None:
        from matplotlib.colors import LinearSegmentedColormap

        axes = canvas.subplots()
        axes.axis("off")
        axes.imshow(image, cmap=LinearSegmentedColormap.from_list("ink", [theme.card, theme.ink]))
        colours = {True: theme.right, False: theme.wrong, None: theme.ink}
        for i, (title, is_right) in enumerate(zip(titles, right, strict=True)):
            row, column = divmod(i, SHEET_COLUMNS)
            place = ((column + 0.5) * width, row * height + 9)
            axes.text(*place, title, ha="center", color=colours[is_right], fontsize=8)

    return picture(name, alt, SHEET_CELL * rows * height / width, draw, width=SHEET_CELL * SHEET_COLUMNS)


def strip(digits: np.ndarray) -> bytes:
    """Digits, pixels of shape (n, 784), side by side as a PNG of 28 by 28 n pixels, black on white."""
    from matplotlib.image import imsave

    png = io.BytesIO()
    paper = 255 - np.concatenate([digit.reshape(SIDE, SIDE) for digit in digits], axis=1)
    imsave(png, np.stack([paper] * 3, axis=-1), format="png")  # as colours, which imsave leaves as they are
    return png.getvalue()
