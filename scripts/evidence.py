"""Measure recipes for `recipes.py`, on 5 folds of the competition's rows: those of seed 1.

Recipes are tuned on the folds of seed 0.

    python scripts/evidence.py --data-dir data [RECIPE...]

Prints the `Evidence(...)` of each recipe, to put into `recipes.py`; with several named, also their blend's.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def run(*arguments: object) -> dict:
    """Return what a command of the package prints with --json."""
    command = [sys.executable, "-m", "digit_recognizer", *map(str, arguments), "--json"]
    completed = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1])
    return json.loads(completed.stdout)


def main() -> None:
    """Validate the named recipes, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data-dir", type=Path, default=Path("data"), help="where the competition's files are"
    )
    parser.add_argument("recipes", nargs="*", help="which to measure  [default: all, without a blend]")
    options = parser.parse_args()
    groups = (
        [options.recipes] if options.recipes else [[recipe["name"]] for recipe in run("recipes")["recipes"]]
    )
    for names in groups:
        selected = [word for name in names for word in ("--recipe", name)]
        with tempfile.TemporaryDirectory() as out:
            data = options.data_dir.resolve()
            result = run("validate", *selected, "--seed", 1, "--data-dir", data, "--out", out)
        for model in [*result["models"], *([result["blend"]] if result["blend"] else [])]:
            mean, std = statistics.mean(model["folds"]), statistics.stdev(model["folds"])
            seconds = model["seconds"] / len(model["folds"])
            evidence = f'{mean:.4f}, {std:.4f}, {seconds:.0f}, "{time.strftime("%Y-%m-%d")}"'
            print(f"{model['recipe']}: Evidence({evidence})", flush=True)


if __name__ == "__main__":
    main()
