"""The version of this package, in a file of its own, so that nothing imports upwards."""

__version__ = "0.1.0"
