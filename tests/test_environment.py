"""The same numbers whatever the machine's user has set for other programs; what is missing is one line."""

import json
import multiprocessing
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import joblib
import numpy as np
import pytest
import sklearn
from conftest import TINY, run_program, set_options, tiny_job, train, typed

import digit_recognizer
from digit_recognizer import data, recipes, runs, training
from digit_recognizer.environment import own_settings
from digit_recognizer.errors import LibraryError, machine_fault
from digit_recognizer.nets import keras_model
from digit_recognizer.splits import make_splits
from digit_recognizer.training import FitTask, Machine

# Convolutions, batch normalisation and sigmoids; principal components, some of which are next to nothing.
RECIPES = ("cnn-small", "sklearn-mlp-pca")
SETTINGS = {"channels": [4, 4], "strides": [2, 2], "hidden": [8], "output": "sigmoid", "epochs": 1}
# Half of these, each alone, gave other numbers or ended the command.
VARIABLES = {
    "KERAS_BACKEND": "jax",
    "KERAS_MAX_EPOCHS": "x",
    "KERAS_NNX_ENABLED": "1",
    "NPY_DISABLE_CPU_FEATURES": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "OMP_NUM_THREADS": "3",
    "OPENCV_CPU_DISABLE": "AVX2",
    "OPENCV_IPP": "disabled",
    "PYTHONHASHSEED": "7",
    "PYTHONWARNINGS": "error",
    "SCIPY_ARRAY_API": "1",
    "SKLEARN_ASSUME_FINITE": "1",
    "TF2_BEHAVIOR": "0",
    "TF_DETERMINISTIC_OPS": "1",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_USE_LEGACY_KERAS": "1",
    "TF_XLA_FLAGS": "--no_such_flag",
    "TZ": "XXX+99",
    "XLA_FLAGS": "--no_such_flag",
}
ALONE = "One fit is done after the other, as no process can be started: {}"
FOREIGN_JSON = {"image_data_format": "channels_first", "floatx": "float64", "epsilon": 0.1, "backend": "jax"}


Fitted = dict[str, bytes]  # of fits: all arrays, by name


def fit_here(task: FitTask, digits: data.Dataset) -> Fitted:
    """Return the bytes of all arrays of a fit in this very process, by name."""
    result = training.fit(task, digits.train, digits.test)
    arrays = {"valid": result.valid, "test": result.test}
    arrays |= {f"model/{name}": array for name, array in result.model.items()}
    return {f"{training.file_name(task.name)} {name}": array.tobytes() for name, array in arrays.items()}


def fitted(run: runs.Run) -> Fitted:
    """Return the same of a run's fits."""
    found = {}
    for file in run.folder.glob("fits/*.npz"):
        with np.load(file) as arrays:
            names = [name for name in arrays if name in ("valid", "test") or name.startswith("model/")]
            found |= {f"{file.stem} {name}": arrays[name].tobytes() for name in names}
    return found


def blended(run: runs.Run) -> list[bytes]:
    """Return the bytes of what comes after the fits."""
    with np.load(next(run.folder.glob("probabilities-*.npz"))) as arrays:
        return [run.submission.read_bytes(), *(arrays[name].tobytes() for name in arrays)]


def fit_twice(_: object, digits: data.Dataset) -> tuple[Fitted, Fitted]:
    """Return the bytes of all fits as `train` does them, clean, and then with a notebook's settings."""
    nets = {recipe.name: recipe.settings for recipe in recipes.select(RECIPES, SETTINGS)}
    looked = Machine.look(list(nets.values()), jobs=1)
    splits = make_splits(digits.train.labels, digits.first_rows, holdout=0.1, folds=None, repeats=1, seed=0)
    adapted = {name: looked.adapt(settings) for name, settings in nets.items()}
    tasks, clean, foreign = training.make_fits(adapted, splits, refit=False, seed=0), {}, {}
    for task in tasks:
        clean |= fit_here(task, digits)
    with notebook():
        before = state()
        for task in tasks:
            foreign |= fit_here(task, digits)
        assert state() == before
    return clean, foreign


@pytest.fixture(scope="module")
def both(digits: data.Dataset) -> tuple[Fitted, Fitted]:
    training.stop_workers()
    settings = recipes.RECIPES[RECIPES[0]].settings
    [[found]] = training.map_on_workers(fit_twice, [(settings, digits)], workers=1, threads=1)
    return found


@pytest.fixture(scope="module")
def reference(both: tuple[Fitted, Fitted]) -> Fitted:
    """The bytes of all fits in a clean environment."""
    return both[0]


@pytest.fixture(scope="module")
def typed_run(home: Path) -> runs.Run:
    """A run by the command line whose user has set everything otherwise."""
    (home / "keras.json").write_text('{"floatx": "float12"}')  # Keras itself refuses it
    ended = run_program(
        sys.executable, "-m", "digit_recognizer", "train", "--out", home, "--name", "typed", "--jobs", 1,
        *(word for name in RECIPES for word in ("--recipe", name)),
        *set_options(("channels=4,4", "strides=2,2", "hidden=8", "output=sigmoid", "epochs=1")),
        cwd=home, **VARIABLES, KERAS_HOME=str(home),
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert "Warning" not in ended.err
    return runs.load(home / "typed")


@pytest.mark.slow
def test_the_users_variables_files_and_options_of_python_change_no_number(
    typed_run: runs.Run, reference: Fitted
) -> None:
    assert fitted(typed_run) == reference


def state() -> dict[str, Any]:
    """Return all that a notebook may have set, as it is."""
    import keras
    import tensorflow as tf

    found = {name: getattr(keras.config, name)() for name in keras_model.KERAS_CONFIG}
    return found | {
        "dtype_policy": found["dtype_policy"].name,
        "eager": tf.config.functions_run_eagerly(),
        "numpy": np.geterr(),
        "sklearn": sklearn.get_config(),
        "cv2": (cv2.useOptimized(), cv2.getNumThreads()),
        "warnings": warnings.filters[:],
        "environ": dict(os.environ),
        "start method": multiprocessing.get_start_method(allow_none=True),
    }


@contextmanager
def notebook() -> Iterator[None]:
    """Set whatever a user can set after TensorFlow was imported, and set it back."""
    keras = keras_model.import_keras()
    import tensorflow as tf

    policy, optimized, threads = keras.config.dtype_policy(), cv2.useOptimized(), cv2.getNumThreads()
    modes = {"transform_output": "pandas", "enable_metadata_routing": True, "assume_finite": True}
    with (
        warnings.catch_warnings(),
        np.errstate(all="raise"),
        sklearn.config_context(**modes),
        joblib.parallel_config("threading", n_jobs=3, require="sharedmem"),
    ):
        warnings.simplefilter("error")
        cv2.setUseOptimized(False)
        cv2.setNumThreads(1)
        keras.utils.set_random_seed(7)
        keras.config.set_dtype_policy("mixed_float16")
        keras.config.set_floatx("float16")
        keras.config.set_epsilon(0.1)
        keras.config.set_image_data_format("channels_first")
        tf.config.run_functions_eagerly(True)
        yield
    tf.config.run_functions_eagerly(False)
    for name, value in {**keras_model.KERAS_CONFIG, "dtype_policy": policy}.items():
        getattr(keras.config, f"set_{name}")(value)
    cv2.setUseOptimized(optimized)
    cv2.setNumThreads(threads)


@pytest.mark.slow
def test_a_notebooks_settings_change_no_number_and_are_as_they_were(
    home: Path, typed_run: runs.Run, reference: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "notebook").mkdir()
    (home / "notebook/keras.json").write_text(json.dumps(FOREIGN_JSON))
    monkeypatch.setenv("KERAS_HOME", str(home / "notebook"))
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    training.stop_workers()  # else a process that has read no keras.json would fit
    with notebook():
        before = state()
        finished = digit_recognizer.train(
            RECIPES, settings=SETTINGS, jobs=1, data_dir=home / "data", out=home, name="from-cells"
        )
        predicted = digit_recognizer.predict(home / "data/test.csv", run=finished)
        assert state() == before
    assert fitted(finished.run) == reference
    assert blended(finished.run) == blended(typed_run)
    submitted = np.loadtxt(finished.submission, int, delimiter=",", skiprows=1)[:, 1]
    assert [digit.label for digit in predicted] == submitted.tolist()


@pytest.mark.slow
def test_a_fit_in_a_notebooks_own_process_gives_the_same_numbers(
    both: tuple[Fitted, Fitted],
) -> None:
    """As beside a GPU, whose memory another process might not get."""
    clean, foreign = both
    assert foreign == clean


@pytest.fixture(scope="module")
def tiny(home: Path) -> Fitted:
    """The bytes of two tiny nets of scikit-learn, fitted in this process."""
    return fitted(train(tiny_job(home, name="tiny")))


def test_where_no_process_can_be_started_one_fit_is_done_after_the_other(
    home: Path, tiny: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBLIB_MULTIPROCESSING", "0")
    monkeypatch.setattr(joblib, "effective_n_jobs", lambda _: 1)  # as it then is if joblib is imported later
    notices: list[str] = []
    run = train(tiny_job(home, name="one", jobs=2), notices)
    assert notices[1:] == [ALONE.format("JOBLIB_MULTIPROCESSING=0")]
    assert fitted(run) == tiny
    settings = [recipes.RECIPES[name].settings for name in ("cnn", "keras-mlp")]
    alone = Machine.look(settings, jobs=4)
    for minutes in (None, 1, 60):
        assert alone.split_cores(settings, fits=5, minutes=minutes) == (1, 4)
        assert alone.split_cores(settings[1:], fits=5, minutes=minutes) == (1, 1)


def in_read_only_shm(command: list[str]) -> list[str]:
    """Return the command, for a process whose /dev/shm is read-only."""
    mount = 'mount -t tmpfs -o ro none /dev/shm; exec "$@"'
    return ["unshare", "--mount", "sh", "-c", mount, "sh", *command]


def is_root_on_linux() -> bool:
    return sys.platform == "linux" and not subprocess.run(in_read_only_shm(["true"]), check=False).returncode


@pytest.mark.slow
@pytest.mark.skipif(not is_root_on_linux(), reason="takes a mount namespace")
def test_with_a_read_only_shm_one_fit_is_done_after_the_other(home: Path, tiny: Fitted) -> None:
    command = [sys.executable, "-m", "digit_recognizer", "train", "--folds", "2", "--jobs", "2",
               "--recipe", "sklearn-mlp", "--recipe", "sklearn-mlp-plain", "--name", "shm",
               *set_options(TINY)]  # fmt: skip
    ended = run_program(*in_read_only_shm(command), cwd=home)
    assert ended.code == 0, ended.err
    reason = "no semaphores, which Linux keeps in /dev/shm, or this is a daemon of multiprocessing"
    told = [line for line in ended.err.splitlines() if "epoch" not in line]
    assert told[1:-1] == [ALONE.format(reason)]
    assert told[-1].startswith("Expect ")
    assert fitted(runs.load(home / "submissions/shm")) == tiny


@pytest.mark.slow
def test_a_process_that_is_refused_leaves_the_fits_to_this_one(
    home: Path, tiny: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    from joblib.externals.loky.backend.process import LokyProcess

    start, started = LokyProcess.start, []

    def refuse(self: LokyProcess) -> None:
        if started:  # the second, as by a limit (ulimit -u)
            raise BlockingIOError(11, "Resource temporarily unavailable")
        started.append(self)
        start(self)

    training.stop_workers()
    notices: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(LokyProcess, "start", refuse)
        run = train(tiny_job(home, name="refused", jobs=2), notices)
    assert notices[1:] == [
        "One fit is done after the other, as 2 processes cannot be started: Resource temporarily unavailable"
    ]
    assert fitted(run) == tiny
    assert not started[0].is_alive()
    assert fitted(train(tiny_job(home, name="after", jobs=2))) == tiny  # with processes, as it may be again


@pytest.mark.slow
def test_without_tensorflow_the_other_nets_are_fitted_unless_it_was_named(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    anew = "; install the packages of requirements.txt anew"
    advice = f"{anew}, or choose a net of scikit-learn, such as "

    def train_without(code: str, *options: object) -> tuple[int, str]:
        """Return how it ends, and the last line on stderr, where importing TensorFlow runs this code."""
        (tmp_path / "tensorflow.py").write_text(code)
        quick = set_options(("epochs=1", "hidden=8"))
        ended = typed("train", *quick, *options, "--jobs", 1, "--name", "without", cwd=home)
        lines = [line for line in ended.err.splitlines() if "epoch" not in line]
        read, *_, line = [line for line in lines if not line.startswith("Expect ")]
        assert read.startswith("Read ")
        assert advice in line
        return ended.code, line

    training.stop_workers()  # those that are started now find the broken one
    monkeypatch.syspath_prepend(tmp_path)
    for code, options, cause in (
        ("raise ImportError('libcudart.so.12: no such file')",
         ("--recipe", "sklearn-mlp", "--recipe", "softmax"), "ImportError: libcudart.so.12: no such file"),
        ("raise OSError('[WinError 126] The module\\nwas not found')",
         ("--minutes", 0.5), "OSError: [WinError 126] The module was not found"),
    ):  # fmt: skip
        code, line = train_without(code, *options)
        assert code == 1
        assert line.startswith(f"Error: keras cannot be imported ({cause}){advice}")
        assert line.endswith("No run was written.")
        assert not (home / "submissions/without").exists()
    code, line = train_without("import numpy; numpy.no_such_name")
    assert code == 0
    assert line.startswith(
        "keras-mlp holdout failed; keras-mlp is left out: keras cannot be imported (AttributeError: "
    )
    assert list(runs.load(home / "submissions/without").manifest.scores) == ["sklearn-mlp"]
    training.stop_workers()


def test_a_library_that_is_missing_or_broken_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    job = ("--recipe", "sklearn-mlp", "--jobs", 1, *set_options(TINY), "--name", "none")
    ended = typed("train", *job, cwd=home)
    assert ended.code == 1
    assert ended.err.splitlines()[-1] == (
        "Error: threadpoolctl cannot be imported (ModuleNotFoundError: import of threadpoolctl halted; "
        "None in sys.modules); install the packages of requirements.txt anew. No run was written."
    )
    with pytest.raises(ImportError, match="no_such"):  # a bug of the package's own keeps its traceback
        LibraryError.of_import(ImportError("no_such", name="digit_recognizer.no_such"))
    too_little = ImportError("libvpx.so: failed to map segment from shared object")
    with pytest.raises(MemoryError):
        LibraryError.of_import(too_little)
    assert str(machine_fault(too_little)).startswith("out of memory; ")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "Error: out of memory; close other programs"),
        (RuntimeError("can't start new thread"), "Error: no thread can be started; close other programs"),
        (ModuleNotFoundError("No scipy", name="scipy"), "Error: scipy cannot be imported (Modul"),
    ],
)
def test_what_the_machine_lacks_is_one_line(
    home: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, line: str
) -> None:
    monkeypatch.setattr(data, "load", mock.Mock(side_effect=error))
    assert typed("train", cwd=home).refusal().startswith(line)


@pytest.mark.slow
def test_a_keras_that_computes_with_another_backend_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    keras = keras_model.import_keras()
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(LibraryError, match=r"^Keras computes with jax in this Python; start it anew, and"):
        keras_model.import_keras()


def test_own_settings_are_nested_and_leave_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_DETERMINISTIC_OPS", "1")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    before = dict(os.environ)
    with pytest.raises(KeyError), own_settings(KERAS_HOME="a"):
        assert "TF_DETERMINISTIC_OPS" not in os.environ
        with own_settings(KERAS_HOME="b", KERAS_BACKEND="tensorflow"):
            assert (os.environ["KERAS_HOME"], os.environ["TF_CPP_MIN_LOG_LEVEL"]) == ("b", "0")
        assert os.environ["KERAS_HOME"] == "a"
        raise KeyError
    assert dict(os.environ) == before
