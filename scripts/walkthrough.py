"""Run walkthrough.ipynb on the sample and store its outputs: `python -m scripts.walkthrough`."""

import base64
import io
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbclient
import nbformat
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = Path(__file__).with_suffix(".ipynb")
SECONDS = 600  # that a cell may take, at most
COLOURS = 32  # of a picture; all of them would make the file three times as large
NOT_STORED = ("<progress", "<iframe")  # how far fits are, beside notices with paths; a report


def read() -> Any:
    """Return the notebook as it is stored."""
    return nbformat.read(NOTEBOOK, as_version=4)


def execute(notebook: Any, folder: Path, environment: Mapping[str, str]) -> None:
    """Execute a notebook's cells in a kernel of its own in `folder`, with further environment variables."""
    client = nbclient.NotebookClient(
        notebook,
        timeout=SECONDS,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env={**os.environ, "PYTHONPATH": str(ROOT), **environment})


def to_store(outputs: list[Any]) -> list[Any]:
    """Return a cell's outputs as they are stored: none if one of them shows progress or a report."""
    html = "".join(output.get("data", {}).get("text/html", "") for output in outputs)
    return [] if any(part in html for part in NOT_STORED) else outputs


def _smaller(png: str) -> str:
    """Return a picture in base64 as another one with few colours."""
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    written = io.BytesIO()
    picture.quantize(COLOURS).save(written, format="png", optimize=True)
    return base64.b64encode(written.getvalue()).decode()


def outline(outputs: list[Any]) -> list[tuple[str, ...]]:
    """Return what does not depend on digits and machine: kinds of outputs, heads of tables, words printed."""
    outlines = []
    for output in outputs:
        data = output.get("data", {})
        heads = re.findall(r"<th>(.*?)</th>", data.get("text/html", ""))
        words = re.sub(r"\d[\d.,]*(e-\d+)?", "#", output.get("text", ""))
        outlines.append((output["output_type"], *sorted(data), *heads, words))
    return outlines


def main() -> None:
    """Execute the stored notebook and replace its outputs."""
    notebook = read()
    metadata = dict(notebook.metadata)
    with tempfile.TemporaryDirectory() as folder:
        execute(notebook, Path(folder), {})
    notebook.metadata = metadata  # without the Python that executed it
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = to_store(cell.outputs)
            for data in (output.data for output in cell.outputs if "data" in output):
                if "image/png" in data:
                    data["image/png"] = _smaller(data["image/png"])
    nbformat.write(notebook, NOTEBOOK)


if __name__ == "__main__":
    main()
