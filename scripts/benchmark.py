"""Time and score public notebooks and `train` on the competition's files.

    python -m scripts.benchmark --data-dir data --runs 3
    python -m scripts.benchmark --data-dir data --runs 1 minutes-60      # only these contestants
    python -m scripts.benchmark --data-dir data --before ../old train    # against another checkout, in turn
    python -m scripts.benchmark --data-dir data --epochs                 # the seconds of a fit's epochs

Each contestant is a process, timed from its start to its end: imports and CSV reading count. All contestants
are scored on the same held-out rows, those of `train`'s holdout for that seed; none of them trains on these.
A run takes each contestant in turn, so that a slow minute of the machine hits all alike. The ratios are
within a run, so they need `keras` among the contestants. The measurements go into `benchmark.json` beside
this file, where they replace earlier ones of the same contestant and seed. A Markdown table of the file goes
to stdout, the picture to `benchmark.png`. `make docs` puts the table into docs/benchmark.md.
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
from collections.abc import Iterator
from pathlib import Path

HOLDOUT = 0.1
HERE = Path(__file__).resolve()
RESULTS = HERE.with_suffix(".json")
OURS = {  # arguments of `train`
    "one-epoch": ["--set", "epochs=1"],  # hardly more than start and exit
    **{f"keras-mlp-{epochs}": ["--recipe", "keras-mlp", "--set", f"epochs={epochs}"] for epochs in (5, 15)},
    "keras-mlp": ["--recipe", "keras-mlp"],
    "sklearn-mlp": ["--recipe", "sklearn-mlp"],
    "train": [],
    "cnn": ["--recipe", "cnn"],
    **{
        f"cnn-small-{epochs}": ["--recipe", "cnn-small", "--set", f"epochs={epochs}"]
        for epochs in (1, 2, 3, 8)
    },
    "minutes-0.5": ["--minutes", "0.5"],
    "minutes-1": ["--minutes", "1"],
    "minutes-5": ["--minutes", "5"],
    "minutes-15": ["--minutes", "15"],
    "minutes-60": ["--minutes", "60"],
}
NOTEBOOKS = ("keras", "keras-deep", "keras-cnn", "sklearn")
GOALS = (0.97, 0.98, 0.99, 0.995)  # accuracies whose time is told
LABEL_BELOW, LABEL_LEFT = ("train", "cnn"), ("keras-mlp", "minutes-1", "minutes-60")  # so none overlap
CONTESTANTS = {
    "keras": "notebook: Keras 128-64",
    "keras-deep": "notebook: Keras 512-256-128-64",
    "keras-cnn": "notebook: Keras CNN",
    "sklearn": "notebook: MLPClassifier((128, 64))",
    **{name: " ".join(["`train", *arguments]) + "`" for name, arguments in OURS.items()},
}


def read(folder: Path, seed: int):
    """Return the digits as a notebook reads them, split as `train` splits them with that seed."""
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
    """Fit Keras 128-64 as the notebooks do: batches of 32, 10 epochs, 10% validation."""
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


def deep_notebook(folder: Path, seed: int) -> float:
    """Fit Keras 512-256-128-64 with batch norm, dropout and a falling rate: batches of 64, 30 epochs."""
    import keras

    keras.utils.set_random_seed(seed)
    pixels, labels, held_out, truth, test = read(folder, seed)
    model = keras.Sequential([keras.layers.Input((784,))])
    for units, dropout in ((512, 0.3), (256, 0.3), (128, 0.2), (64, 0.2)):
        model.add(keras.layers.Dense(units, "relu"))
        model.add(keras.layers.BatchNormalization())
        model.add(keras.layers.Dropout(dropout))
    model.add(keras.layers.Dense(10, "softmax"))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    falling = keras.callbacks.ReduceLROnPlateau(factor=0.5, patience=2)
    model.fit(pixels, labels, batch_size=64, epochs=30, validation_split=0.1, callbacks=[falling], verbose=0)
    model.predict(test, verbose=0)
    return float((model.predict(held_out, verbose=0).argmax(axis=1) == truth).mean())


def cnn_notebook(folder: Path, seed: int) -> float:
    """Fit the CNN that public notebooks claim 0.996 to 0.997 with: 887,530 weights, 30 epochs, batches of 86.

    After Yassine Ghouzam's "Introduction to CNN Keras", in his order of layers and with his augmentation; the
    learning rate is halved after three epochs without a better accuracy, measured on a tenth of the rows.
    """
    import keras
    from sklearn.model_selection import train_test_split
    from tensorflow.keras.preprocessing.image import ImageDataGenerator

    keras.utils.set_random_seed(seed)
    pixels, labels, held_out, truth, test = (
        array.reshape(-1, 28, 28, 1).astype("float32") if array.ndim == 2 else array
        for array in read(folder, seed)
    )
    model = keras.Sequential([keras.layers.Input((28, 28, 1))])
    for channels, size in ((32, 5), (64, 3)):
        for _ in range(2):
            model.add(keras.layers.Conv2D(channels, size, padding="same", activation="relu"))
        model.add(keras.layers.MaxPooling2D())
        model.add(keras.layers.Dropout(0.25))
    model.add(keras.layers.Flatten())
    model.add(keras.layers.Dense(256, "relu"))
    model.add(keras.layers.Dropout(0.5))
    model.add(keras.layers.Dense(10, "softmax"))
    model.compile(keras.optimizers.RMSprop(), "sparse_categorical_crossentropy", metrics=["accuracy"])
    falling = keras.callbacks.ReduceLROnPlateau("val_accuracy", factor=0.5, patience=3, min_lr=1e-5)
    train, valid, train_labels, valid_labels = train_test_split(
        pixels, labels, test_size=0.1, random_state=seed
    )
    augmented = ImageDataGenerator(
        rotation_range=10, zoom_range=0.1, width_shift_range=0.1, height_shift_range=0.1
    )
    batches = augmented.flow(train, train_labels, batch_size=86, seed=seed)
    model.fit(batches, epochs=30, validation_data=(valid, valid_labels), callbacks=[falling], verbose=0)
    model.predict(test, verbose=0)
    return float((model.predict(held_out, verbose=0).argmax(axis=1) == truth).mean())


def sklearn_notebook(folder: Path, seed: int) -> float:
    """Fit MLPClassifier((128, 64)) with at most 50 epochs and scikit-learn's defaults."""
    from sklearn.neural_network import MLPClassifier

    pixels, labels, held_out, truth, test = read(folder, seed)
    model = MLPClassifier((128, 64), max_iter=50, random_state=seed).fit(pixels, labels)
    model.predict(test)
    return float(model.score(held_out, truth))


def ours(contestant: str, folder: Path, seed: int, checkout: Path) -> float:
    """Run `train` with the contestant's arguments, from this checkout or another; return its accuracy."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "digit_recognizer", "train", *OURS[contestant], "--json"]
        fixed = f"--seed {seed} --holdout {HOLDOUT}".split()
        completed = subprocess.run(
            [*command, *fixed, "--data-dir", folder, "--out", out],
            check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=checkout,
        )  # fmt: skip
    summary = json.loads(completed.stdout)
    scored = summary["blend"] or summary["models"][0]
    return (scored.get("raw") or scored)["accuracy"]  # as the notebooks' is: with the luck of the holdout


def ratios(before: list[dict], now: list[dict]) -> Iterator[str]:
    """Yield seconds and accuracy in another checkout and in this one, as Markdown; rows of one run each."""
    yield "| contestant | before, s | now, s | ratio | accuracy before | accuracy now |"
    yield "|---|---|---|---|---|---|"
    for name in dict.fromkeys(row["contestant"] for row in before):
        both = [[row for row in rows if row["contestant"] == name] for rows in (before, now)]
        seconds, accuracies = (
            [[row[field] for row in rows] for rows in both] for field in ("seconds", "accuracy")
        )
        ratio = mean([after / earlier for earlier, after in zip(*seconds, strict=True)], ".2f")
        columns = [
            *(mean(each, ".1f") for each in seconds),
            ratio,
            *(mean(each, ".4f") for each in accuracies),
        ]
        yield f"| {' | '.join([CONTESTANTS[name], *columns])} |"


def epoch_seconds(folder: Path, seed: int) -> Iterator[str]:
    """Fit each net of the default pair alone, on one thread; yield its epochs' processor time as Markdown.

    Weights that have become denormal numbers would make the last epochs slower than the first.
    """
    import numpy as np

    from digit_recognizer import data, recipes, training
    from digit_recognizer.nets import pipelines
    from digit_recognizer.nets.augment import distort

    digits = data.load(folder).train
    images = digits.pixels.astype(np.float32) / 255
    passes = []
    for repeat in range(5):
        started = time.perf_counter()
        distort(images, 1.0, np.random.default_rng(repeat))
        passes.append(time.perf_counter() - started)
    yield f"Distorting all {len(images):,} training digits once: {mean(passes[1:], '.2f')} s."
    yield ""
    yield "| recipe | epochs | first quarter, CPU s each | last quarter, CPU s each | ratio |"
    yield "|---|---|---|---|---|"
    for name in recipes.DEFAULT:
        settings = recipes.RECIPES[name].settings
        moments: list[float] = []
        with training.limited_threads(settings, 1):
            classifier = pipelines.build(settings, seed)
            classifier.fit(
                digits.pixels,
                digits.labels,
                net__on_epoch_end=lambda _, m=moments: m.append(time.process_time()),
            )
        epochs = np.diff(moments)  # without the first, which holds the start
        quarters = np.array_split(epochs, 4)
        first, last = quarters[0].mean(), quarters[-1].mean()
        yield f"| {name} | {settings.epochs} | {first:.2f} | {last:.2f} | {last / first:.2f} |"


def timed(contestant: str, folder: Path, seed: int, checkout: Path) -> dict:
    """Return wall seconds and validation accuracy of a contestant in a process of its own, as a row.

    checkout: where the package is that ours are run with.
    """
    command = [sys.executable, HERE, "--checkout", checkout.resolve(), "--only", contestant]
    command += ["--data-dir", folder, "--seed", str(seed)]
    started = time.perf_counter()
    completed = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    row = {
        "contestant": contestant,
        "seed": seed,
        "seconds": round(time.perf_counter() - started, 2),
        "accuracy": float(completed.stdout.split()[-1]),
    }
    print(f"{checkout.resolve().name}: {row}", file=sys.stderr)
    return row


def mean(values: list[float], form: str) -> str:
    """Return the mean and, if there are several values, the standard deviation."""
    std = f" ± {statistics.stdev(values):{form}}" if len(values) > 1 else ""
    return f"{statistics.mean(values):{form}}{std}"


def table(results: list[dict]) -> str:
    """Return the results as Markdown; time ratios are to the 128-64 notebook in the same run."""
    head = "contestant | wall time, s | time ratio | accuracy, mean | on seed 0's holdout | runs"
    lines = [f"| {head} |", "|---|---|---|---|---|---|"]
    base = {(row["seed"], row["run"]): row["seconds"] for row in results if row["contestant"] == "keras"}
    for name, title in CONTESTANTS.items():
        rows = [row for row in results if row["contestant"] == name]
        if not rows:
            continue
        paired = [(row, base[row["seed"], row["run"]]) for row in rows if (row["seed"], row["run"]) in base]
        ratio = mean([row["seconds"] / seconds for row, seconds in paired], ".2f") if paired else "-"
        seconds, accuracy = ([row[field] for row in rows] for field in ("seconds", "accuracy"))
        runs = f"{len(rows)}, {' and '.join(sorted({row['run'][:10] for row in rows}))}"
        on_seed_0 = next((f"{row['accuracy']:.4f}" for row in rows if row["seed"] == 0), "-")
        on_all = mean(accuracy, ".4f") if len(rows) > 1 else "-"
        lines.append(f"| {title} | {mean(seconds, '.1f')} | {ratio} | {on_all} | {on_seed_0} | {runs} |")
        if name == "keras-cnn":  # public notebooks blend fifteen, with a fitted model's time for each
            times = mean([15 * each for each in seconds], ".0f")
            lines.append(f"| fifteen such CNNs, on paper | {times} | - | - | - | - |")
    return "\n".join(lines)


def time_to_accuracy(results: list[dict]) -> str:
    """Return, as Markdown, the quickest of ours that reaches each accuracy, beside the notebooks.

    Only runs of the deep notebook's days count, so that all are of the same machine. The mean over them
    counts.
    """
    days = {row["run"][:10] for row in results if row["contestant"] == "keras-deep"}
    means = {}
    for name in CONTESTANTS:
        rows = [row for row in results if row["contestant"] == name and row["run"][:10] in days]
        if rows:
            means[name] = [statistics.mean(row[field] for row in rows) for field in ("seconds", "accuracy")]
    lines = ["| accuracy | seconds | contestant | its accuracy |", "|---|---|---|---|"]
    for goal in GOALS:
        reached = [name for name, (_, accuracy) in means.items() if name in OURS and accuracy >= goal]
        if reached:
            best = min(reached, key=lambda name: means[name][0])
            lines.append(f"| {goal} | {means[best][0]:.0f} | {CONTESTANTS[best]} | {means[best][1]:.4f} |")
    for name in NOTEBOOKS:
        if name in means:
            lines.append(f"| | {means[name][0]:.0f} | {CONTESTANTS[name]} | {means[name][1]:.4f} |")
    return "\n".join(lines)


def draw(results: list[dict], path: Path) -> None:
    """Draw error against seconds: a point for a contestant's mean, a line from its lowest to its highest."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.5), layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    for name, title in CONTESTANTS.items():
        rows = [row for row in results if row["contestant"] == name]
        if not rows:
            continue
        errors = [100 * (1 - row["accuracy"]) for row in rows]
        x, y = statistics.mean(row["seconds"] for row in rows), statistics.mean(errors)
        colour = "#1f5fa8" if name in OURS else "#b3541e"
        axes.plot([x, x], [min(errors), max(errors)], color=colour, linewidth=1)
        axes.plot(x, y, "o" if name in OURS else "s", color=colour)
        label = title.replace("`", "").replace("train --recipe ", "").replace(" --set", ",")
        offset = (-7, -4) if name in LABEL_LEFT else (5, -11 if name in LABEL_BELOW else 3)
        side = "right" if name in LABEL_LEFT else "left"
        axes.annotate(label, (x, y), offset, textcoords="offset points", fontsize=9, ha=side)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="wall time of the whole process",
        ylabel="validation error, %",
    )
    axes.set_xlim(right=axes.get_xlim()[1] * 2)
    ticks = [tick for tick in (0.2, 0.3, 0.5, 1, 2, 3, 5) if axes.get_ylim()[0] <= tick <= axes.get_ylim()[1]]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    ticks = [
        tick for tick in (10, 30, 60, 300, 900, 3600) if axes.get_xlim()[0] <= tick <= axes.get_xlim()[1]
    ]
    axes.set_xticks(ticks, [f"{tick} s" if tick < 60 else f"{tick // 60} min" for tick in ticks])
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Run the contestants in turn or, with --only, a single one in this process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data-dir", type=Path, default=Path("data"), help="where the competition's files are"
    )
    parser.add_argument("--runs", type=int, default=3, help="runs of each, with seeds from --seed on")
    parser.add_argument("--seed", type=int, default=0, help="the first run's seed")
    parser.add_argument("--only", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--checkout", type=Path, default=HERE.parent.parent, help=argparse.SUPPRESS)
    parser.add_argument("--before", type=Path, help="another checkout: run ours there too, and print ratios")
    parser.add_argument("--epochs", action="store_true", help="time the epochs of the default nets instead")
    usual = [name for name in CONTESTANTS if name != "minutes-60"]
    parser.add_argument(
        "contestants", nargs="*", help=f"which of {', '.join(CONTESTANTS)}  [default: all but minutes-60]"
    )
    options = parser.parse_args()
    if options.only in OURS:
        print(ours(options.only, options.data_dir, options.seed, options.checkout))
        return
    if options.only:
        contest = (keras_notebook, deep_notebook, cnn_notebook, sklearn_notebook)
        print(dict(zip(NOTEBOOKS, contest, strict=True))[options.only](options.data_dir, options.seed))
        return
    contestants = options.contestants or usual
    if unknown := set(contestants) - set(CONTESTANTS):
        parser.error(f"no contestant {', '.join(sorted(unknown))}; there are {', '.join(CONTESTANTS)}")
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []
    this_run = time.strftime("%Y-%m-%d %H:%M")
    with tempfile.TemporaryDirectory() as unpacked:
        folder = options.data_dir
        if not (folder / "train.csv").exists():
            with zipfile.ZipFile(folder / "digit-recognizer.zip") as archive:
                archive.extractall(unpacked)
            folder = Path(unpacked)
        if options.epochs:
            for line in epoch_seconds(folder, options.seed):
                print(line, flush=True)
            return
        before, now = [], []
        for seed in range(options.seed, options.seed + options.runs):
            for name in contestants:
                if options.before and name in OURS:
                    before.append(timed(name, folder.resolve(), seed, options.before))
                row = timed(name, folder.resolve(), seed, options.checkout)
                now.append(row)
                results = [old for old in results if (old["contestant"], old["seed"]) != (name, seed)]
                results.append({"run": this_run, **row})
                RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}\n")
    print(table(results))
    if before:
        print("", *ratios(before, now), sep="\n")
    draw(results, RESULTS.with_suffix(".png"))


if __name__ == "__main__":
    main()
