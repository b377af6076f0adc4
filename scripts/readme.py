"""Put the recipes' evidence into the README's table: `make readme`."""

import re
from pathlib import Path

from digit_recognizer import tables
from digit_recognizer.recipes import RECIPES

README = Path(__file__).parents[1] / "README.md"
MARKED = re.compile(r"(<!-- recipes -->\n).*?(<!-- /recipes -->)", re.DOTALL)


def renewed(text: str) -> str:
    """The README's text with the table as the recipes say it now."""
    table = "\n".join(tables.evidence(RECIPES.values()))
    return MARKED.sub(lambda marks: f"{marks[1]}{table}\n{marks[2]}", text)


if __name__ == "__main__":
    README.write_text(renewed(README.read_text(encoding="utf-8")), encoding="utf-8")
