"""Kaggle: download the data, submit a file once, know the outcome."""

COMPETITION = "digit-recognizer"
