"""Kaggle's CSVs, or MNIST from OpenML, as checked digits; start at `load` and `find`."""

from digit_recognizer.data.dataset import (
    COMPETITION_ROWS,
    KNOWN_FINGERPRINTS,
    OPENML_MARKER,
    Dataset,
    Digits,
    find,
    load,
    read_file,
    read_test,
    read_train,
    sample_folder,
)
from digit_recognizer.data.parsing import ARCHIVE, PIXEL_COLUMNS, PIXELS, SIDE
from digit_recognizer.predictions import CLASSES
