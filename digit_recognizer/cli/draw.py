"""The command `draw`: a page to draw digits on, which a run's nets predict in the browser."""

import os
import sys
import webbrowser
from pathlib import Path

import click

from digit_recognizer.cli.options import JSON, OUT, RUN
from digit_recognizer.cli.predict import chosen, find_newest
from digit_recognizer.cli.progress import train_visibly
from digit_recognizer.cli.terminal import done, notice, path_result
from digit_recognizer.job import Job


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

    run = chosen(out, name) if name else find_newest(out)
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
