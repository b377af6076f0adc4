"""One fit, and fits side by side in processes; start at `make_fits` and `fit_all`."""

from digit_recognizer.training.fit import (
    CURVE_ROWS,
    FitFailure,
    FitResult,
    FitTask,
    Metrics,
    OnProgress,
    Progress,
    collect_predictions,
    fit,
    inference_fits,
    limited_threads,
    make_fits,
    read_log,
    read_model,
)
from digit_recognizer.training.workers import cpu_count, fit_all, gpu_count, run_on_each, stop_workers

__all__ = [
    "CURVE_ROWS",
    "FitFailure",
    "FitResult",
    "FitTask",
    "Metrics",
    "OnProgress",
    "Progress",
    "collect_predictions",
    "cpu_count",
    "fit",
    "fit_all",
    "gpu_count",
    "inference_fits",
    "limited_threads",
    "make_fits",
    "read_log",
    "read_model",
    "run_on_each",
    "stop_workers",
]
