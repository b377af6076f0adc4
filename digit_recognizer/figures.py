"""The pictures of a report as PNGs, each drawn twice: for a light and for a dark page."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from digit_recognizer.data import CLASSES, SIDE
from digit_recognizer.scoring import Calibration

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 200  # twice a screen's, for sharp ones
WIDTH = 5.0  # inches: half of a wide page, all of a phone's, so that the text stays legible on both


@dataclass(frozen=True)
class Theme:
    """Colours; those of `series` are told apart by readers who are colour-blind as well."""

    card: str
    ink: str
    muted: str
    grid: str
    right: str
    wrong: str
    heat: str  # of the fullest cell
    series: tuple[str, ...]


LIGHT = Theme(
    card="#ffffff",
    ink="#1c2530",
    muted="#5d6875",
    grid="#e3e7ec",
    right="#157347",
    wrong="#c02734",
    heat="#f2757e",
    series=("#0067b8", "#c4620a", "#00876c", "#8a4fbf", "#b3345f", "#6b7a00", "#00839b", "#7a5c3e"),
)
DARK = Theme(
    card="#171c24",
    ink="#e8ecf1",
    muted="#9aa5b3",
    grid="#2c3542",
    right="#4cc38a",
    wrong="#ff8086",
    heat="#b3343f",
    series=("#5aa9f5", "#f0a04b", "#3fc7a4", "#b794f4", "#f087ae", "#c2cf4d", "#4fd0e3", "#c9a98a"),
)


@dataclass(frozen=True)
class Picture:
    """A picture and what it shows in words; light, dark: the bytes of PNGs of one size."""

    name: str
    alt: str
    light: bytes
    dark: bytes

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, as the PNG's header has them."""
        return int.from_bytes(self.light[16:20]), int.from_bytes(self.light[20:24])


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
        for colour, (recipe, some) in zip(_cycled(theme.series, len(fits)), fits.items(), strict=True):
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
            handles.append(Line2D([], [], color=theme.muted, linestyle=style, label=f"{side} digits"))
        axes.set_xlabel("epoch")
        axes.set_ylabel(figure)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        canvas.legend(handles=handles, loc="outside lower center", ncols=2)

    alt = f"Line chart of {figure} by epoch: {'; '.join(ends)}."
    return _picture(figure, alt, 3.6, draw)


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

    return _picture("confusion", alt, 4.8, draw)


def reliability(found: Calibration) -> Picture:
    """How often the likeliest digit is right against its probability, with 95% intervals, and counts."""
    from scipy.stats import binomtest

    right = np.rint(found.accuracy * found.counts).astype(int)
    tests = [binomtest(int(k), int(n)) for k, n in zip(right, found.counts, strict=True)]
    intervals = [test.proportion_ci(0.95, method="wilson") for test in tests]
    # Rounding can put a bound a hair on the wrong side of its point.
    below = np.maximum(0, found.accuracy - [interval.low for interval in intervals])
    above = np.maximum(0, [interval.high for interval in intervals] - found.accuracy)
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

    return _picture("reliability", alt, 4.8, draw)


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

    return _picture("scores", f"{alt}.", 1.1 + 0.5 * len(names), draw)


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

    return _picture("classes", f"Bar chart of the digits' counts. {'. '.join(words)}.", 3.4, draw)


def sheet(
    name: str, alt: str, pixels: np.ndarray, titles: Sequence[str], right: Sequence[bool | None], columns: int
) -> Picture:
    """Digits, pixels of shape (n, 784), in a grid; titles green where right, red where wrong, else plain."""
    rows = -(-len(pixels) // columns)

    def draw(canvas: "Figure", theme: Theme) -> None:
        grid: np.ndarray = canvas.subplots(rows, columns, squeeze=False).ravel()
        colours = {True: theme.right, False: theme.wrong, None: theme.ink}
        dark = theme is DARK
        axes: Axes
        for axes in grid:
            axes.axis("off")
        for axes, digit, title, is_right in zip(grid, pixels, titles, right, strict=False):
            axes.imshow(digit.reshape(SIDE, SIDE), cmap="gray" if dark else "gray_r", vmin=0, vmax=255)
            axes.set_title(title, color=colours[is_right], fontsize=8, pad=3)

    return _picture(name, alt, rows * (1.4 * 2 * WIDTH / 8 if columns <= 8 else 1.0), draw, width=2 * WIDTH)


def strip(digits: np.ndarray) -> bytes:
    """Digits, pixels of shape (n, 784), side by side as a PNG of 28 by 28 n pixels, black on white."""
    from matplotlib.image import imsave

    png = io.BytesIO()
    row = np.concatenate([digit.reshape(SIDE, SIDE) for digit in digits], axis=1)
    imsave(png, row, cmap="gray_r", vmin=0, vmax=255, format="png", metadata={"Software": None})
    return png.getvalue()


def _picture(
    name: str, alt: str, height: float, draw: Callable[["Figure", Theme], None], width: float = WIDTH
) -> Picture:
    """Drawn in both themes. Without pyplot, whose figures are the whole process's."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    pngs = []
    for theme in (LIGHT, DARK):
        with rc_context(_style(theme)):
            canvas = Figure((width, height), layout="constrained")
            draw(canvas, theme)
            png = io.BytesIO()
            canvas.savefig(png, dpi=DPI, metadata={"Software": None})
        pngs.append(png.getvalue())
    return Picture(name, alt, *pngs)


def _style(theme: Theme) -> dict[str, Any]:
    return {
        "figure.facecolor": theme.card,
        "axes.facecolor": theme.card,
        "axes.edgecolor": theme.grid,
        "axes.labelcolor": theme.muted,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": theme.grid,
        "text.color": theme.ink,
        "xtick.color": theme.grid,
        "ytick.color": theme.grid,
        "xtick.labelcolor": theme.ink,
        "ytick.labelcolor": theme.ink,
        "legend.frameon": False,
        "font.size": 10.5,
        "font.family": "DejaVu Sans",  # comes with matplotlib: the same everywhere
        "lines.linewidth": 2,
    }


def _cycled(colours: Sequence[str], number: int) -> list[str]:
    return [colours[i % len(colours)] for i in range(number)]
