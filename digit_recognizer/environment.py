"""Other libraries compute by the package's settings while it works, whatever the user set for other programs.

An environment variable, a notebook's earlier cells or Python's options would change a run's numbers, or end
it. A library that is imported meanwhile finds no variables and has its defaults; one that was imported before
is set to them, and set back in the end. Keras's own settings are in nets/keras_model.py.
"""

import os
import re
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

# Variables that change what libraries compute. The others say where, how much and how loud: folders, GPUs,
# memory, logs, threads, of which each fit sets its own number, and which processor it is (OPENBLAS_CORETYPE).
FOREIGN = re.compile(
    r"(KERAS_(?!HOME$)|TF_(?!CPP_|GPU_|FORCE_GPU_ALLOW_GROWTH$)|TF2_|XLA_|MLIR_|NVIDIA_TF32_|ONEDNN_|DNNL_|NPY_"
    r"|MKL_CBWR$|OPENCV_|SCIPY_|SKLEARN_)"
)
is_own_process = False  # nothing but the package works in this process: the command line's
STARTED = time.monotonic()


def seconds_running() -> float:
    """Return how long this command has run; 0 in a notebook, where other things came before."""
    return time.monotonic() - STARTED if is_own_process else 0.0


@contextmanager
def own_settings(**variables: str) -> Iterator[None]:
    """Compute by the package's settings, and these variables, in a `with` block or in what this decorates."""
    foreign = {name: os.environ[name] for name in os.environ if name in variables or FOREIGN.match(name)}
    with ExitStack() as stack:
        stack.callback(_replace, variables, foreign)
        _replace(foreign, variables)
        stack.enter_context(warnings.catch_warnings())
        # A library's warning is no error, though it is one for the user's own program.
        warnings.filters = [entry for entry in warnings.filters if entry[0] != "error"]
        warnings.filterwarnings("ignore", ".* joblib will operate in serial mode")  # is told in a line
        warnings.filterwarnings("ignore", "A worker stopped while some jobs")  # it grew, and is replaced
        warnings.filterwarnings("ignore", r"\d+ tasks (which|have) |resource_tracker")  # if it is stopped
        if numpy := sys.modules.get("numpy"):
            stack.enter_context(numpy.errstate(divide="warn", over="warn", under="ignore", invalid="warn"))
        if sklearn := sys.modules.get("sklearn"):
            stack.enter_context(
                sklearn.config_context(
                    transform_output="default", enable_metadata_routing=False, array_api_dispatch=False
                )
            )
        if cv2 := sys.modules.get("cv2"):
            stack.callback(cv2.setUseOptimized, cv2.useOptimized())
            cv2.setUseOptimized(True)
        yield


def _replace(old: dict[str, str], new: dict[str, str]) -> None:
    """Take the old variables out of the environment, and put the new ones in."""
    for name in old:
        os.environ.pop(name, None)
    os.environ.update(new)
