"""The commands `predict` and `draw`: what a run's nets see in pictures, CSVs and drawings."""

import os
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

import click

from digit_recognizer.cli.options import JSON, OUT, PATH, RUN
from digit_recognizer.cli.progress import train_visibly
from digit_recognizer.cli.terminal import done, json_result, notice, path_result, result
from digit_recognizer.errors import RunError
from digit_recognizer.job import Job

if TYPE_CHECKING:
    from digit_recognizer.runs import Run


def _find_newest(out: Path) -> "Run | None":
    """Return the newest run in `out` that nobody is fitting, and say which; None without any."""
    from digit_recognizer import comparison, runs

    if not (found := runs.list_newest(out, notice)):
        return None
    newest, *others = found
    notice(f"{newest.folder.name} is the newest run: validation accuracy {newest.main_score.accuracy:.4f}")
    if better := comparison.better_than(newest, others):
        notice(f"{better[0].folder.name} is better; name it to use it")
    return newest


def chosen(out: Path, name: str | None) -> "Run":
    """Return the run of that name or folder, or the newest in `out`; raise RunError if there is none."""
    from digit_recognizer import runs

    if run := runs.find(out, name) if name else _find_newest(out):
        return run
    raise RunError(f"{out.absolute()}: holds no run; `train` makes one, or name another folder with --out")


@click.command()
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=PATH)
@click.option("--run", "name", type=RUN, metavar="RUN", help="The run that predicts.  [default: the newest]")
@click.option("--csv", "csv_file", type=PATH, metavar="FILE", help="Write ImageId,Label to FILE instead.")
@OUT
@JSON
def predict(
    images: tuple[Path, ...], name: str | None, csv_file: Path | None, out: Path, as_json: bool
) -> None:
    """Predict the digits in pictures or in a CSV like test.csv.

    Pictures are PNG, JPEG, WebP, BMP, TIFF or GIF; a CSV may be gzipped. Prints label, probability and, below
    1, the runner-up. A file that cannot be read is an error on stderr; the others are predicted, and the exit
    code is 1.
    """
    import numpy as np

    from digit_recognizer import files, inference, runs, submission

    run = chosen(out, name)
    if csv_file is not None:
        runs.check_outside(csv_file)
        files.check_output(csv_file, keep=images)
    labels, entries, failed = bytearray(), [], 0
    for each in inference.predict(run, images):
        if isinstance(each, inference.Unread):
            failed += 1
            notice(f"{each.error.heading}{each.error}")
        elif csv_file is not None:
            labels.append(each.label)
        elif not as_json:
            where = each.file if each.row is None else f"{each.file} row {each.row}"
            other = f" (runner-up {each.runner_up})" if each.probability < 0.99995 else ""
            result(f"{where}: {each.label}, {each.probability:.4f}{other}")
        if as_json and csv_file is None:
            entries.append(vars(each))
    if csv_file is not None and not failed:  # else the file would have holes
        files.write_output(csv_file, submission.to_bytes(np.frombuffer(labels, np.uint8)))
        if not files.is_stdout(csv_file):
            with done(f"The file is written: {csv_file}"):
                path_result(csv_file, as_json, run=run.folder, csv=csv_file)
    elif as_json and csv_file is None:
        json_result(run=run.folder, predictions=entries)
    elif csv_file is not None and len(images) > 1:
        notice(f"{csv_file} is not written: {failed} of {len(images)} files could not be read")
    if failed:
        click.get_current_context().exit(1)


@click.command()
@click.argument("name", metavar="[RUN]", required=False, type=RUN)
@OUT
@click.option("--no-open", is_flag=True, help="Do not open the page in the browser.")
@JSON
def draw(name: str | None, out: Path, no_open: bool, as_json: bool) -> None:
    """Write a page to draw digits on, which a run's nets predict.

    Without RUN, the newest's. One HTML file, which works without a server or network, on a phone too. It
    opens in the browser where there is a display. Without any run, the default recipes are trained on the
    sample first. The last line on stdout is the page's path.
    """
    from digit_recognizer import data
    from digit_recognizer.inference import page

    run = chosen(out, name) if name else _find_newest(out)
    if run is None:
        notice(f"{out.absolute()}: holds no run yet; the default recipes are trained on the sample first")
        run = train_visibly(Job(out=out, data_dir=data.sample_folder()))
    path = page.write(run)
    # A browser would have a window; on Linux the environment names a display.
    has_display = sys.platform != "linux" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    with done(f"The page is written: {path}"):
        if has_display and not no_open:
            webbrowser.open(path.resolve().as_uri())
        path_result(path, as_json, run=run.folder, page=path)
