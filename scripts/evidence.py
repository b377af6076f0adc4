"""Measure recipes for `recipes.py`: 5 folds of the competition's rows, on another seed than tuned on.

    python scripts/evidence.py --data-dir data [RECIPE...]

Prints, for each, the `Evidence(...)` to put into its recipe, and that of the blend where several are named.
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
    """What one of our commands prints with --json."""
    command = [sys.executable, "-m", "digit_recognizer", *map(str, arguments), "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1])
    return json.loads(done.stdout)


def main() -> None:
    """Validate the named recipes, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data-dir", type=Path, default=Path("data"), help="where the competition's files are"
    )
    parser.add_argument("recipes", nargs="*", help="which to measure  [default: all, without a blend]")
    options = parser.parse_args()
    together = [options.recipes] if options.recipes else [[one["name"]] for one in run("recipes")["recipes"]]
    for names in together:
        chosen = [word for name in names for word in ("--recipe", name)]
        with tempfile.TemporaryDirectory() as out:
            data = options.data_dir.resolve()
            result = run("validate", *chosen, "--seed", 1, "--data-dir", data, "--out", out)
        for model in [*result["models"], *([result["blend"]] if result["blend"] else [])]:
            mean, spread = statistics.mean(model["folds"]), statistics.stdev(model["folds"])
            seconds = model["seconds"] / len(model["folds"])
            figures = f'{mean:.4f}, {spread:.4f}, {seconds:.0f}, "{time.strftime("%Y-%m-%d")}"'
            print(f"{model['recipe']}: Evidence({figures})", flush=True)


if __name__ == "__main__":
    main()
