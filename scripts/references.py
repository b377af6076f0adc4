"""Make the table of reference models' margins, which takes the luck of a holdout out of its score.

    python -m scripts.references --data-dir data

Validates the references on folds that no user's run shares, and writes for each of the competition's training
rows how surely those predict its digit that have not seen it. A quarter of an hour on two cores.
"""

import argparse
from pathlib import Path

import numpy as np

from digit_recognizer import notebook, runs
from digit_recognizer.data.references import STEPS, TABLE, margin
from digit_recognizer.files import write_atomically
from digit_recognizer.nets.arrays import write_arrays

REFERENCES = ("softmax", "keras-mlp-plain", "keras-mlp", "cnn-small")  # from weak to strong
SEED, FOLDS = 2718281828, 5


def margins(run: runs.Run) -> np.ndarray:
    """Return each reference's out-of-fold margins, in the order of the rows, of shape (rows, references)."""
    held_out, models = run.predictions()
    order = held_out.rows.argsort()
    of_model = {model.name: margin(model.out_of_fold, held_out.labels)[order] for model in models}
    return np.stack([of_model[name] for name in REFERENCES], axis=1)


def main() -> None:
    """Validate the references and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="of the competition's files")
    parser.add_argument("--out", type=Path, default=Path("submissions"), help="folder of the run")
    options = parser.parse_args()
    finished = notebook.validate(
        REFERENCES, folds=FOLDS, seed=SEED, ensemble=False, data_dir=options.data_dir, out=options.out,
        name="references",
    )  # fmt: skip
    fingerprint = finished.run.manifest.config.data.fingerprint.train
    table = {
        "fingerprint": np.frombuffer(bytes.fromhex(fingerprint), np.uint8),
        "margins": np.round(margins(finished.run) * STEPS).astype(np.int8),
    }
    write_atomically(TABLE, write_arrays(table))
    print(TABLE)


if __name__ == "__main__":
    main()
