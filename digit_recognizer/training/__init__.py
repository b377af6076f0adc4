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
    limited_threads,
    make_fits,
    read_log,
    test_fits,
    total_seconds,
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
    "limited_threads",
    "make_fits",
    "read_log",
    "run_on_each",
    "stop_workers",
    "test_fits",
    "total_seconds",
]
