"""The report of a run: one HTML page with all its figures inside.

report_data: all that the page says, read and checked before anything is written
figures: what is drawn     drawing: in which colours, as SVG and PNG
"""

import base64
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from digit_recognizer import scoring
from digit_recognizer.comparison import Comparison
from digit_recognizer.data import SIDE
from digit_recognizer.errors import RunError
from digit_recognizer.files import atomic_folder, check_folder, write_atomically, writing
from digit_recognizer.manifest import Manifest
from digit_recognizer.reports import drawing, figures, report_data
from digit_recognizer.reports.drawing import LIGHT, Picture
from digit_recognizer.reports.report_data import ReportData, percent, shorten
from digit_recognizer.runs import Run
from digit_recognizer.settings import describe, format_value

REPORT = "report"
PAGE = "report.html"
SLIDE = 48  # misclassified digits in the picture for slides
MAX_ROWS = 200  # of a table; what is beyond is in run.json
MAX_GROUPS = 20  # models whose settings differ
MAX_TEXT = 2_000  # characters of a text in run.json

SettingsTable = tuple[list[str], str, list[tuple[str, str, str]]]  # models, net, (name, value, description)


def write(run: Run, data_dir: Path | None = None, *, png: bool = False) -> Path:
    """Write the page into the run's `report/`, replacing an older one, and return its path.

    Of a run that is still being fitted it is deleted when the next stage is complete. data_dir: where the
    run's digits are, if not where it read them. png: write the figures as PNGs beside the page, too. The same
    run gives the same bytes.
    Raises RunError if the run's files cannot be read or do not belong together, or if the folder cannot be
    written; DataError if the digits cannot be read.
    """
    final = run.folder / REPORT
    # A link in a stranger's run could lead to a folder of the user's, which would be replaced.
    if final.is_symlink() or (final.exists() and not final.is_dir()):
        raise RunError(f"{final}: is a link or a file, expected a folder or nothing; move it away")
    check_folder(final.parent)
    report = report_data.read(run, data_dir)
    with drawing.own_settings():
        pictures = [
            figures.intervals(report.scores, run.manifest.main_model),
            figures.confusion(report.confusion),
            figures.reliability(report.calibration),
            figures.class_counts(report.class_counts),
            *(figures.curves(report.curves, metric) for metric in figures.METRICS if report.curves),
        ]
        page = _render(
            "template.html",
            **vars(report),
            confusions=scoring.confusions(report.confusion),
            svg={picture.name: picture.svg() for picture in pictures},
            settings=_settings_tables(report.manifest),
            max_rows=MAX_ROWS,
            max_curves=figures.MAX_CURVES,
            max_intervals=figures.MAX_INTERVALS,
        )
        files = {PAGE: page.encode(errors="backslashreplace")}
        for picture in [*pictures, *_draw_digits(report)] if png else []:
            files[f"{picture.name}.png"] = picture.png()
    with writing(final), atomic_folder(final) as folder:
        for name, content in files.items():
            (folder / name).write_bytes(content)
    return final / PAGE


def _draw_digits(report: ReportData) -> list[Picture]:
    """Draw for slides what the page shows digit by digit: pixels, title and the title's colour of each."""
    grids = {
        name: [(e.pixels, f"{e.title}, is {e.label}", LIGHT["right" if e.right else "wrong"]) for e in digits]
        for name, digits in (("samples", report.samples), ("misclassified", report.misclassified[:SLIDE]))
    }
    grids["training-digits"] = [
        (pixels, str(digit), LIGHT["ink"])
        for digit, rows in enumerate(report.training_digits)
        for pixels in rows
    ]
    return [figures.digit_grid(name, digits) for name, digits in grids.items() if digits]


def write_differences(
    runs: Sequence[Run],
    names: Sequence[str],
    compared: Comparison,
    said: Iterable[str],
    out: Path,
    data_dir: Path | None,
) -> Path:
    """Write the page of two runs into the folder `out` and return its path.

    names: of the runs on the page; said: how they compare, in words. data_dir: where their digits are, if not
    where the first one read them.
    Raises RunError if files do not belong together, DataError if the digits cannot be read, WriteError if the
    page cannot be written.
    """
    check_folder(out, "; choose another --out")
    digits = report_data.digits_of(runs[0], data_dir).train
    sides = [compared.only_first, compared.only_second]
    shown = [rows[: report_data.MAX_MISCLASSIFIED] for rows in sides]
    examples = []
    for run in runs:
        held_out, main = run.main_predictions()
        known, first = np.unique(held_out.rows, return_index=True)  # repeated folds predict a row again
        places = [first[np.searchsorted(known, rows)] for rows in shown]
        examples.append([report_data.examples(digits, held_out, main.out_of_fold, each) for each in places])
    pairs = [list(zip(*side, strict=True)) for side in zip(*examples, strict=True)]
    page = _render(
        "differences.html",
        names=names,
        said=list(said),
        sides=list(zip(names, map(len, sides), pairs, strict=True)),
    )
    path = out / f"{'-vs-'.join(run.folder.resolve().name for run in runs)}.html"
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    write_atomically(path, page)
    return path


def _render(template: str, **values: object) -> str:
    """Return a page of that template in this folder."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "shorten": shorten, "setting": _format, "png": _png_uri}
    return environment.get_template(template).render(values)


def _settings_tables(manifest: Manifest) -> list[SettingsTable]:
    """Return the settings of the models, those together that differ in epochs alone."""
    groups: dict[str, list[str]] = {}
    for model, settings in manifest.settings.items():
        groups.setdefault(settings.model_dump_json(exclude={"epochs"}), []).append(model)
    tables: list[SettingsTable] = []
    for models in list(groups.values())[:MAX_GROUPS]:
        settings = manifest.settings[models[0]]
        epochs = sorted({manifest.settings[model].epochs for model in models})
        values = {name: format_value(value) for name, value in settings}
        values["epochs"] = " to ".join(map(str, dict.fromkeys([epochs[0], epochs[-1]])))
        rows = [(name, values[name], field.description) for name, field in describe(type(settings)).items()]
        tables.append((models, settings.net, rows))
    return tables


def _png_uri(digits: Iterable[np.ndarray]) -> str:
    """Return digits of shape (784,) side by side as the URI of a PNG, black on white."""
    from PIL import Image

    file = io.BytesIO()
    strip = np.concatenate([digit.reshape(SIDE, SIDE) for digit in digits], axis=1)
    Image.fromarray(255 - strip).save(file, "png")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _format(value: object) -> str:
    """Return a value of a manifest as one would write it; a record without its empty fields."""
    if isinstance(value, BaseModel):
        value = {name: field for name, field in value if field is not None}
    if isinstance(value, dict):
        return " · ".join(f"{shorten(name)} {_format(field)}" for name, field in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_format, value)) or "none"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "none" if value is None else shorten(format_value(value), MAX_TEXT)
