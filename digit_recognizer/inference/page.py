"""The drawing page of a run: one HTML file that holds its nets, and reads digits without a server."""

import base64
import hashlib
from pathlib import Path

from digit_recognizer import runs
from digit_recognizer.files import check_folder, write_atomically
from digit_recognizer.inference import weights
from digit_recognizer.inference.models import submission_models
from digit_recognizer.predictions import CLASSES

PAGE = "draw.html"
FILES = Path(__file__).parent / "page"
SOURCES = ("net.js", "prepare.js", "draw.js", "draw.css")


def write(run: runs.Run) -> Path:
    """Write the run's page into its folder and return its path.

    Raises RunError if a model cannot be read or, before that, if the page cannot be written.
    """
    path = run.folder / PAGE
    check_folder(run.folder)
    write_atomically(path, render(run, weights.read_net(run)))
    return path


def render(run: runs.Run, net: weights.Net) -> str:
    """Return the page's text; its policy allows the scripts and the style in it by their hashes."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(FILES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    sources = {name: (FILES / name).read_text(encoding="utf-8") for name in SOURCES}
    return environment.get_template(PAGE).render(
        run=run,
        models=submission_models(run)[0],
        sources=sources,
        hashes={name: _hash(text) for name, text in sources.items()},
        net=net.model_dump_json(),
        classes=range(CLASSES),
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
