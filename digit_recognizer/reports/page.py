"""The page of a report: the template filled in with the facts and the pictures, and the folder written."""

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from digit_recognizer.data import Dataset
from digit_recognizer.errors import RunError
from digit_recognizer.files import atomic_folder, check_folder
from digit_recognizer.manifest import Manifest
from digit_recognizer.reports import facts, figures
from digit_recognizer.reports.facts import Facts
from digit_recognizer.reports.themes import Picture
from digit_recognizer.reports.tiles import Tile, percent, shorten
from digit_recognizer.runs import Run
from digit_recognizer.settings import describe, format_value

REPORT = "report"
PAGE = "report.html"
TEMPLATE = "template.html"
GRID_MISTAKES = 48  # in the picture for slides
MAX_ROWS = 200  # of a table; what is beyond is in run.json
MAX_GROUPS = 20  # models whose settings differ
MAX_TEXT = 2_000  # characters of a text in run.json


@dataclass(frozen=True)
class SettingsTable:
    """Settings that models share, except for epochs; rows: name, value and description."""

    models: list[str]
    net: str
    rows: list[tuple[str, str, str]]


def write(run: Run, dataset: Dataset) -> Path:
    """Write the report; see `reports.write`."""
    final = run.folder / REPORT
    # A link in a stranger's run could lead to a folder of the user's, which would be replaced.
    if final.is_symlink() or (final.exists() and not final.is_dir()):
        raise RunError(f"{final}: is a link or a file, expected a folder or nothing; move it away")
    check_folder(final.parent)
    content = facts.read(run, dataset)
    pictures = _draw(content)
    page = _render(content, pictures)
    try:
        with atomic_folder(final) as folder:
            for picture in pictures:
                (folder / f"{picture.name}.png").write_bytes(picture.light)
                (folder / f"{picture.name}-dark.png").write_bytes(picture.dark)
            (folder / PAGE).write_bytes(page.encode(errors="backslashreplace"))
    except OSError as error:
        raise RunError(f"{final}: cannot be written ({error.strerror})") from None
    return final / PAGE


def _draw(content: Facts) -> list[Picture]:
    pictures = [
        figures.intervals(content.scores, content.manifest.main_model),
        figures.confusion(content.confusion),
        figures.reliability(content.calibration),
        figures.class_counts(content.class_counts),
    ]
    if content.curves:
        pictures += [figures.curves(content.curves, metric) for metric in ("accuracy", "loss")]
    # For slides: the page has each digit by itself, which suits a narrow screen.
    pictures += _draw_tiles("samples", content.samples)
    pictures += _draw_tiles("mistakes", content.mistakes[:GRID_MISTAKES])
    titles = [str(digit) for digit, examples in enumerate(content.examples) for _ in examples]
    alt = f"The first training digits of each class, {facts.EXAMPLES_PER_CLASS} at most."
    pixels = np.concatenate(content.examples)
    return [*pictures, figures.digit_grid("training-digits", alt, pixels, titles, [None] * len(titles))]


def _draw_tiles(name: str, tiles: list[Tile]) -> list[Picture]:
    if not tiles:
        return []
    pixels, captions = np.stack([tile.pixels for tile in tiles]), [tile.caption for tile in tiles]
    alt = "; ".join(tile.alt for tile in tiles)
    return [figures.digit_grid(name, alt, pixels, captions, [tile.right for tile in tiles])]


def _render(content: Facts, pictures: Iterable[Picture]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "uri": _uri,
        "percent": percent,
        "shorten": shorten,
        "setting": _format_setting,
        "to_png": figures.to_png,
    }
    manifest = content.manifest
    return environment.get_template(TEMPLATE).render(
        facts=content,
        manifest=manifest,
        config=manifest.config,
        version=shorten(manifest.config.versions.get("digit_recognizer", "of an unknown version")),
        pictures={picture.name: picture for picture in pictures},
        settings=_settings_tables(manifest),
        max_rows=MAX_ROWS,
        max_curves=figures.MAX_CURVES,
        max_intervals=figures.MAX_INTERVALS,
    )


def _settings_tables(manifest: Manifest) -> list[SettingsTable]:
    groups: dict[str, list[str]] = {}
    for model, settings in manifest.recipes.items():
        groups.setdefault(settings.model_dump_json(exclude={"epochs"}), []).append(model)
    return [_settings_table(manifest, models) for models in list(groups.values())[:MAX_GROUPS]]


def _settings_table(manifest: Manifest, models: list[str]) -> SettingsTable:
    settings = manifest.recipes[models[0]]
    values = {name: format_value(value) for name, value in settings}
    epochs = sorted({manifest.recipes[model].epochs for model in models})
    values["epochs"] = f"{epochs[0]} to {epochs[-1]}" if len(epochs) > 1 else str(epochs[0])
    fields = describe(type(settings))
    return SettingsTable(
        models, settings.net, [(field.name, values[field.name], field.description) for field in fields]
    )


def _uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _format_setting(value: object) -> str:
    """Return a value of a manifest as one would write it; a record without its empty fields."""
    if isinstance(value, BaseModel):
        value = {name: field for name, field in value if field is not None}
    if isinstance(value, dict):
        return " · ".join(f"{shorten(name)} {_format_setting(field)}" for name, field in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_format_setting, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "none" if value is None else shorten(str(value), MAX_TEXT)
