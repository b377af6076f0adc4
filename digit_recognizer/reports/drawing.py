"""How figures are drawn: in the page's colours, as SVG inside it and as PNG for slides."""

import io
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.typing import RcKeyType

WIDTH = 5.0  # inches: half of a wide page, all of a phone's, so that the text stays legible on both
PNG_DPI = 200
CSS = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
# The light page's colours, which matplotlib draws in and the SVG replaces by the page's variables.
LIGHT = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", CSS[: CSS.index("}")]))
VARIABLES = {colour: f"var(--{name})" for name, colour in LIGHT.items()}
SERIES = [colour for name, colour in LIGHT.items() if name.startswith("series")]
STYLE: "dict[RcKeyType, str | float]" = {
    "figure.facecolor": LIGHT["card"],
    "axes.facecolor": "none",
    "axes.edgecolor": LIGHT["line"],
    "axes.labelcolor": LIGHT["muted"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": LIGHT["line"],
    "text.color": LIGHT["ink"],
    "text.parse_math": False,  # a name with dollar signs is not a formula
    "xtick.labelcolor": LIGHT["ink"],
    "ytick.labelcolor": LIGHT["ink"],
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "font.size": 11,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same everywhere
    "lines.linewidth": 2,
    "svg.fonttype": "none",  # text stays text: small, and in the page's font
}


@dataclass(frozen=True)
class Picture:
    """A figure, its name, and what it shows in words; to be used within `own_settings`."""

    name: str
    alt: str
    figure: "Figure"

    def svg(self) -> str:
        """Return an element for a page with `style.css`; the same figure gives the same text."""
        import matplotlib

        file = io.BytesIO()
        with matplotlib.rc_context({"svg.hashsalt": self.name}):  # so that no two figures share an id
            self.figure.savefig(file, format="svg")
        root = ElementTree.fromstring(file.getvalue())
        for element in root.iter():
            for child in list(element):
                if child.tag.endswith(("}metadata", "}style")):  # the date, and rules for the whole page
                    element.remove(child)
            element.tag = element.tag.rpartition("}")[2]  # HTML knows no namespaces
            attributes = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
            if element.tag == "g":
                attributes.pop("id", None)  # figure_1 in each
            element.attrib = {key: _shorten(value) for key, value in attributes.items()}
            element.text, element.tail = (element.text or "").strip(), None
        view = {"viewBox": root.attrib["viewBox"]}
        root.attrib = {"class": "figure", **view, "role": "img", "aria-label": self.alt}
        return ElementTree.tostring(root, encoding="unicode")

    def file(self) -> str:
        """Return the content of an .svg file, in the light or the dark colours as its viewer asks."""
        style = f"<style>{CSS[: CSS.index('* {')]}</style>"
        head = '<svg xmlns="http://www.w3.org/2000/svg" font-family="system-ui, sans-serif" '
        return head + self.svg().removeprefix("<svg ").replace(">", f">{style}", 1)

    def png(self) -> bytes:
        """Return a PNG in the light colours."""
        file = io.BytesIO()
        self.figure.savefig(file, format="png", dpi=PNG_DPI, metadata={"Description": self.alt})
        return file.getvalue()


def _shorten(attribute: str) -> str:
    """Return an attribute with variables for colours, without a font, and to a hundredth of a point."""
    attribute = re.sub(r"#[0-9a-f]{6}\b", lambda colour: VARIABLES[colour[0]], attribute)
    attribute = re.sub(r"font(-size)?: ([\d.]+px)[^;]*(; font-family: [^;]*)?", r"font-size: \2", attribute)
    return " ".join(re.sub(r"(\.\d\d)\d+", r"\1", attribute).split())


def new_figure(height: float, width: float = WIDTH, **rows: Any) -> "tuple[Figure, Any]":
    """Return an empty figure of that many inches and its axes; rows: of `subplots`, for more than one."""
    from matplotlib.figure import Figure  # pyplot's figures would be the whole process's

    figure = Figure((width, height), layout="constrained")
    return figure, figure.subplots(**rows)


@contextmanager
def own_settings() -> Iterator[None]:
    """Draw by matplotlib's defaults and STYLE, whatever the user has set; their settings stand after it."""
    _import_matplotlib()
    import matplotlib

    defaults = dict(matplotlib.rcParamsDefault)
    del defaults["backend"]  # no figure here needs one, and rc_context would not give the user's back
    with matplotlib.rc_context(defaults | STYLE):
        yield


def _import_matplotlib() -> None:
    """Import matplotlib, also where a user's matplotlibrc or MPLBACKEND lets its import fail."""
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)  # what is wrong in a matplotlibrc does not matter here
    try:
        import matplotlib
    except (ValueError, OSError):
        for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
            del sys.modules[name]  # half of it
        backend = os.environ.pop("MPLBACKEND", None)
        # A matplotlibrc of the working folder comes before all others.
        with chdir(str(distribution("matplotlib").locate_file("matplotlib/mpl-data"))):
            import matplotlib  # noqa: F401
        os.environ |= {"MPLBACKEND": backend} if backend else {}
    finally:
        logger.setLevel(level)
