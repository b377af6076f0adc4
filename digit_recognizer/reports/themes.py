"""Pictures as PNGs, each drawn twice: for a light and for a dark page."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 200  # twice a screen's, for sharp ones
WIDTH = 5.0  # inches: half of a wide page, all of a phone's, so that the text stays legible on both


@dataclass(frozen=True)
class Theme:
    """Colours of a page; colour-blind readers can tell those of `series` apart, too."""

    card: str
    ink: str
    muted: str
    grid: str
    right: str
    wrong: str
    heat: str  # of the most frequent mistake
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
        """Return width and height in pixels, from the PNG's header."""
        return int.from_bytes(self.light[16:20]), int.from_bytes(self.light[20:24])


def picture(
    name: str, alt: str, height: float, draw: Callable[["Figure", Theme], None], width: float = WIDTH
) -> Picture:
    """Draw a picture of `height` by `width` inches in both themes."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure  # pyplot's figures would be the whole process's

    pngs = []
    for theme in (LIGHT, DARK):
        with rc_context(_style(theme)):
            canvas = Figure((width, height), layout="constrained")
            draw(canvas, theme)
            png = io.BytesIO()
            canvas.savefig(png, dpi=DPI, metadata={"Description": alt})
        pngs.append(png.getvalue())
    return Picture(name, alt, *pngs)


def _style(theme: Theme) -> dict[Any, Any]:
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
        "text.parse_math": False,  # a name with dollar signs is not a formula
        "xtick.color": theme.grid,
        "ytick.color": theme.grid,
        "xtick.labelcolor": theme.ink,
        "ytick.labelcolor": theme.ink,
        "legend.frameon": False,
        "font.size": 10.5,
        "font.family": "DejaVu Sans",  # comes with matplotlib: the same everywhere
        "lines.linewidth": 2,
    }
