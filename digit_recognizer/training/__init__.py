"""One fit, and fits side by side, in processes or on a cluster; start at `make_fits` and `fit_all`."""

from digit_recognizer.training.cluster import on_cluster, workers_now
from digit_recognizer.training.fit import (
    CURVE_ROWS,
    FitFailure,
    FitResult,
    FitTask,
    Metrics,
    OnProgress,
    Outcome,
    Progress,
    collect_predictions,
    file_name,
    fit,
    inference_fits,
    limited_threads,
    make_fits,
    read_model,
)
from digit_recognizer.training.machine import Cost, Machine, cpu_count, measure
from digit_recognizer.training.workers import (
    OnNotice,
    fit_all,
    gpu_count,
    import_libraries,
    map_on_workers,
    stop_workers,
)
