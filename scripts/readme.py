"""Put the recipes' evidence and the benchmark's results into the README's tables: `make readme`."""

import json
import re
from pathlib import Path

from digit_recognizer.cli import tables
from digit_recognizer.recipes import RECIPES
from scripts import benchmark

README = Path(__file__).parents[1] / "README.md"


def renewed(text: str) -> str:
    """The README's text with the tables as the recipes and `benchmark.json` say them now."""
    results = json.loads(benchmark.RESULTS.read_text(encoding="utf-8"))
    for name, table in (
        ("recipes", "\n".join(tables.evidence(RECIPES.values()))),
        ("benchmark", benchmark.table(results)),
    ):
        marked = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text = marked.sub(lambda marks, table=table: f"{marks[1]}{table}\n{marks[2]}", text)
    return text


if __name__ == "__main__":
    README.write_text(renewed(README.read_text(encoding="utf-8")), encoding="utf-8")
