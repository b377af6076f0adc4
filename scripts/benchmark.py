"""Time and score of the plain notebooks and of `train`, side by side on the competition's files.

    python scripts/benchmark.py --data-dir data --runs 3

Each contestant is a process of its own, timed from its start to its end: imports and CSV reading count. All
are scored on the same held-out rows, those of `train`'s holdout for that seed, which none of them trains on.
A run takes each contestant in turn, so that a slow minute of the machine hits all alike; the ratios are
taken within each run. Prints a Markdown table on stdout.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

HOLDOUT = 0.1
HERE = Path(__file__).resolve()
CONTESTANTS = {
    "keras": "plain Keras 128-64 notebook",
    "sklearn": "plain MLPClassifier((128, 64))",
    "train": "`train`, both recipes and their blend",
}


def read(folder: Path, seed: int):
    """The digits as a notebook reads them, split as `train` does with that seed."""
    import numpy as np
    import pandas as pd
    from sklearn.model_selection import train_test_split

    frame = pd.read_csv(folder / "train.csv")
    labels = frame.pop("label").to_numpy()
    rows = np.arange(len(labels))
    train, valid = train_test_split(rows, test_size=HOLDOUT, stratify=labels, random_state=seed)
    pixels = frame.to_numpy() / 255
    test = pd.read_csv(folder / "test.csv").to_numpy() / 255
    return pixels[train], labels[train], pixels[valid], labels[valid], test


def keras_notebook(folder: Path, seed: int) -> float:
    """Keras 128-64 as the notebooks fit it: batches of 32, 10 epochs, 10% validation."""
    import keras

    keras.utils.set_random_seed(seed)
    pixels, labels, held_out, truth, test = read(folder, seed)
    layers = [
        keras.layers.Dense(128, "relu"),
        keras.layers.Dense(64, "relu"),
        keras.layers.Dense(10, "softmax"),
    ]
    model = keras.Sequential([keras.layers.Input((784,)), *layers])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(pixels, labels, batch_size=32, epochs=10, validation_split=0.1, verbose=0)
    model.predict(test, verbose=0)
    return float((model.predict(held_out, verbose=0).argmax(axis=1) == truth).mean())


def sklearn_notebook(folder: Path, seed: int) -> float:
    """MLPClassifier((128, 64)) with at most 50 passes, everything else as scikit-learn has it."""
    from sklearn.neural_network import MLPClassifier

    pixels, labels, held_out, truth, test = read(folder, seed)
    model = MLPClassifier((128, 64), max_iter=50, random_state=seed).fit(pixels, labels)
    model.predict(test)
    return float(model.score(held_out, truth))


def ours(folder: Path, seed: int) -> float:
    """`train` with its defaults."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "digit_recognizer", "train", "--json", "--seed", str(seed)]
        done = subprocess.run(
            [*command, "--holdout", str(HOLDOUT), "--data-dir", str(folder), "--out", out],
            check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=HERE.parent.parent,
        )  # fmt: skip
    return json.loads(done.stdout)["blend"]["accuracy"]


def timed(contestant: str, folder: Path, seed: int) -> tuple[float, float]:
    """Wall seconds and holdout accuracy of one contestant in a fresh process."""
    command = [
        sys.executable,
        str(HERE),
        "--only",
        contestant,
        "--data-dir",
        str(folder),
        "--seed",
        str(seed),
    ]
    started = time.perf_counter()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started, float(done.stdout.split()[-1])


def mean(values: list[float], form: str) -> str:
    """Mean and, of more than one, the standard deviation."""
    spread = f" ± {statistics.stdev(values):{form}}" if len(values) > 1 else ""
    return f"{statistics.mean(values):{form}}{spread}"


def table(results: dict[str, list[tuple[float, float]]]) -> str:
    """The results as Markdown; time ratios are to the first contestant in the same run."""
    lines = ["| contestant | wall time, s | time ratio | holdout accuracy |", "|---|---|---|---|"]
    first = [seconds for seconds, _ in results["keras"]]
    for name, runs in results.items():
        seconds = [run[0] for run in runs]
        ratios = [mine / base for mine, base in zip(seconds, first, strict=True)]
        accuracy = mean([run[1] for run in runs], ".4f")
        lines.append(f"| {CONTESTANTS[name]} | {mean(seconds, '.1f')} | {mean(ratios, '.2f')} | {accuracy} |")
    return "\n".join(lines)


def main() -> None:
    """Run all contestants in turn, or with --only one of them in this process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data-dir", type=Path, default=Path("data"), help="where the competition's files are"
    )
    parser.add_argument("--runs", type=int, default=3, help="runs of each, with seeds 0, 1, ...")
    parser.add_argument("--only", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        contest = {"keras": keras_notebook, "sklearn": sklearn_notebook, "train": ours}[options.only]
        print(contest(options.data_dir, options.seed))
        return
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in CONTESTANTS}
    with tempfile.TemporaryDirectory() as unpacked:
        folder = options.data_dir
        if not (folder / "train.csv").exists():
            with zipfile.ZipFile(folder / "digit-recognizer.zip") as archive:
                archive.extractall(unpacked)
            folder = Path(unpacked)
        for seed in range(options.runs):
            for name, runs in results.items():
                runs.append(timed(name, folder.resolve(), seed))
                print(f"seed {seed}, {name}: {runs[-1][0]:.1f} s, {runs[-1][1]:.4f}", file=sys.stderr)
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    print(f"{options.runs} runs on {time.strftime('%Y-%m-%d')}, {machine}\n")
    print(table(results))


if __name__ == "__main__":
    main()
