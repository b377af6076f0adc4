"""From Digit Recognizer's CSVs to a checked Kaggle submission, with a local score to believe."""

__version__ = "0.1.0"
