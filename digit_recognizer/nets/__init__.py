"""Networks as scikit-learn classifiers, from pixels to probabilities; how training images are varied."""
