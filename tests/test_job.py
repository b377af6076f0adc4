"""Hundreds of wrong and right calls from Python; the values follow from the functions' signatures."""

import inspect
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import chdir
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
from conftest import run_program

from digit_recognizer import (
    FinishedRun,
    data,
    ensemble,
    inference,
    pipeline,
    predict,
    report,
    reports,
    runs,
    train,
    validate,
)
from digit_recognizer.cli import commands
from digit_recognizer.cli.options import ask
from digit_recognizer.errors import DigitRecognizerError
from digit_recognizer.job import Job, in_python
from digit_recognizer.recipes import RECIPES

NAN, INF = float("nan"), float("inf")
PARAMETERS = inspect.signature(train).parameters  # those of `validate` are of the same record


class Unprintable:
    def __repr__(self) -> str:
        raise ZeroDivisionError


NESTED: list[object] = []
NESTED.append(NESTED)
NO_NUMBERS = [
    "3", "", b"3", "nan", True, False, np.True_, NAN, INF, -INF, -1, 10**400, -(10**5000), 1e300,
    Decimal("NaN"), Decimal("sNaN"), Decimal("1e1000000"), Fraction(10**400, 3), 3 + 0j, np.complex64(3),
    date(2026, 1, 1), np.datetime64("2026-01-01"), np.timedelta64(3, "ns"), [3], (3,), {3}, {"a": 3},
    np.array([3]), np.array("3"), pd.NA, pd.NaT, pd.Series([3]), object(), int, abs, NESTED, Unprintable(),
]  # fmt: skip
NO_TEXT = [
    3, 0.5, True, b"x", ["x"], {"x"}, {"x": 1}, object(), NAN, pd.NA, date(2026, 1, 1), np.array(["x"]),
]  # fmt: skip
WRONG: dict[str, list[Any]] = {
    "whole": [*NO_NUMBERS, 3.5, np.float32(2.5), Decimal("2.5"), Fraction(7, 2), 0.1],
    "number": [*NO_NUMBERS, 0, 1e9, Decimal(0), np.int64(-3)],
    "switch": ["yes", "", 0, 1, 1.0, np.int64(1), [], [True], NAN, pd.NA, object(), np.array([True])],
    "path": [*NO_TEXT, "", "  ", "x\0y", "\ud800", "x" * 300, "~nobody-of-this-name/x", "loop"],
    "name": [
        *NO_TEXT, Path("x"), "", ".", "..", "../x", "a/b", "a\\b", ".x", "a b", "x\n", "é", "\ud800",
        "x" * 101,
    ],
    "address": [
        *NO_TEXT, Path("x"), "", "localhost", "localhost:8786", "tcp://localhost", "tcp://:8786",
        "tcp://a b:1", "http://localhost:8786", "tcp://localhost:port", "tcp://localhost:123456", "tcp://localhost:8786\n",
    ],
    "names": [
        3, True, b"cnn", {"cnn"}, frozenset({"cnn"}), {"cnn": 1}, RECIPES, [], (), np.array([]), [None], [3],
        ["cnn", 3], [["cnn"]], "", "CNN ", "cnn,softmax", "nosuch", ["cnn", "nosuch"], "../cnn", "\ud800",
        [RECIPES["cnn"]], (name for name in ()), iter(int, 1), ["cnn"] * 101, pd.NA, object(), NESTED,
    ],
    "settings": [
        3, True, "epochs=2", ["epochs=2"], [("epochs", 2)], {"epochs"}, {3: 1}, {None: 1}, {b"epochs": 1},
        {("epochs",): 1}, {"": 1}, {"net": "mlp"}, {"epoch": 3}, {"\ud800": 1}, {"e" * 999: 1},
        {"replace": 1}, RECIPES["cnn"].settings,
        *({"epochs": value} for value in (*NO_NUMBERS, None, 0, 2.5, 10_001)),
        *({"hidden": value} for value in (64, "64", {64}, [0], ["64"], [True], [[64]], [8] * 21, None)),
        *({"tta": value} for value in ("yes", "no", 1, 0, None, [True])),
        *({"activation": value} for value in ("Relu", "", 3, None, ["relu"], True)),
        {"learning_rate": "0.1"}, {"learning_rate": 0}, {"hidden": NESTED}, {"hidden": {"a": {"b": {}}}},
    ],
}  # fmt: skip
THREE = [3, 3.0, np.int64(3), np.uint8(3), np.float32(3), np.float64(3), Decimal(3), Fraction(3), np.array(3)]
HALF = [0.5, np.float32(0.5), np.float16(0.5), Decimal("0.5"), Fraction(1, 2), np.array(0.5)]
CNN = ["cnn", ["cnn"], ("cnn",), np.array(["cnn"]), np.str_("cnn"), pd.Series(["cnn"]), ["cnn", "cnn"]]
RIGHT: dict[str, tuple[object, list[Any]]] = {
    "whole": (3, THREE),
    "number": (0.5, HALF),
    "switch": (True, [True, np.True_, np.array(True)]),
    "path": (Path("x/y"), ["x/y", Path("x/y"), os.fspath("x/y"), np.str_("x/y")]),
    "name": ("x", ["x", np.str_("x")]),
    "address": ("tcp://[::1]:8786", ["tcp://[::1]:8786", np.str_("tcp://[::1]:8786")]),
    "names": (("cnn",), CNN),
    "settings": (
        {"epochs": 3},
        [{"epochs": 3}, MappingProxyType({"epochs": 3}), *({"epochs": value} for value in THREE)],
    ),
}


def kind_of(name: str) -> str:
    if name == "cluster":
        return "address"
    annotation = PARAMETERS[name].annotation
    types = get_args(annotation) or (annotation,)
    for kind, of_kind in (("switch", bool), ("whole", int), ("number", float)):
        if of_kind in types:
            return kind
    origins = {getattr(one, "__origin__", None) for one in types}
    kinds = {Mapping: "settings", Iterable: "names", os.PathLike: "path"}
    return next((kind for origin, kind in kinds.items() if origin in origins), "name")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_run: runs.Run) -> list[Any]:
    """What reaches the pipeline, which does no work here, in a folder with a file and a circle of links."""
    jobs: list[Any] = []

    def record(job: object, *others: object, **options: object) -> runs.Run:
        jobs.append((job, *others, options))
        return tiny_run

    monkeypatch.setattr(pipeline, "train", record)
    monkeypatch.setattr(pipeline, "blend_runs", record)
    monkeypatch.setattr(reports, "write", lambda *given, **_: record(*given) and Path("page"))
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    Path("file").touch()
    return jobs


def refused(call: Callable[[], object]) -> str:
    """Return the one line of the package's error that the call raises."""
    with pytest.raises(DigitRecognizerError) as error:
        call()
    text = str(error.value)
    assert text.isprintable(), text
    assert len(text) < 700, text
    return text


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_wrong_value_is_refused_before_any_work(name: str, asked: list[Any]) -> None:
    for value in [*WRONG[kind_of(name)], *([None] if PARAMETERS[name].default is not None else [])]:
        text = refused(lambda value=value: train(**{name: value}))
        assert name in text or (name == "recipes" and "recipe" in text), text
        assert "expected" in text or "there are" in text, text
    assert asked == []
    assert {path.name for path in Path().iterdir()} == {"file", "loop"}


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_right_value_of_any_type_is_taken(name: str, asked: list[Any]) -> None:
    expected, values = RIGHT[kind_of(name)]
    others = {"folds": 2} if name == "repeats" else {}
    for value in [*values, *([iter(["cnn"]), {"cnn": 1}.keys()] if name == "recipes" else [])]:
        train(**{name: value}, **others)
        found = getattr(asked.pop()[0], name)
        if name == "settings":
            found = {"epochs": RECIPES["cnn"].settings.replace(**found).epochs}
        assert set(found) == {"cnn"} if name == "recipes" else found == expected
    train(**{name: PARAMETERS[name].default})
    assert getattr(asked.pop()[0], name) in (PARAMETERS[name].default, Path("submissions"))


@pytest.mark.parametrize("function", [train, validate])
def test_functions_commands_and_the_record_have_the_same_options(function: Callable[..., Any]) -> None:
    parameters = inspect.signature(function).parameters
    typed = {parameter.name for parameter in commands.cli.commands[function.__name__].params}
    assert set(parameters) == typed - {"as_json", "with_report"}
    for name, parameter in parameters.items():
        default = 5 if (function, name) == (validate, "folds") else Job.model_fields[name].default
        assert parameter.default in (default, str(default))


# fmt: off
MISUSES = {
    lambda: train("cnn", 3): "train: too many positional arguments",
    lambda: train(5): "`recipes`: found 5, expected a recipe's name, or a list of 1 to 100 names",
    lambda: train("softmax", recipes="cnn"): "train: multiple values for argument 'recipes'",
    lambda: train(epochs=3): "train: has no option 'epochs'; give the setting as settings={'epochs': 3}",
    lambda: validate(hidden=[64]): "has no option 'hidden'; give the setting as settings={'hidden': [64]}",
    lambda: train(learning_rte=0.1): "give the setting as settings={'learning_rate': 0.1}",
    lambda: train(recipe="cnn"): "train: has no option 'recipe'; did you mean recipes? it takes",
    lambda: train(fold=5): "did you mean folds?",
    lambda: train(write_submission=False): "has no option 'write_submission'",
    lambda: train(xyz=1): "train: has no option 'xyz'; it takes recipes, minutes",
    lambda: train(**{"\ud800\n": 1}): r"train: has no option '\ud800\n'; it takes",
    lambda: validate(holdout=0.2): "validate: has no option 'holdout'; it takes recipes, folds",
    lambda: validate(folds=None): "`folds`: found None, expected an integer from 2 to 100",
    lambda: train(holdout=0.2, folds=5): "`holdout` and `folds` exclude each other; give one",
    lambda: train(jobs=2, cluster="tcp://a:1"): "`jobs` counts cores of this machine; leave it out with",
    lambda: train(repeats=3): "`repeats`: found 3 without `folds`; give `folds` as well",
    lambda: train(minutes=1, ensemble=False): "`minutes` fits an ensemble; leave out `ensemble=False`",
    lambda: train("sklearn-mlp-pca", minutes=1): "`minutes` sets when to stop, and so does patience",
    lambda: train("sofmax"): "no recipe 'sofmax'; did you mean softmax? there are keras-mlp",
    lambda: train(settings={"hiden": [64]}): "`settings` hiden: no selected recipe has that field",
    lambda: train("softmax", settings={"alpha": 1}): "`settings` alpha: no selected recipe has that field",
    lambda: train(settings={"hidden": [8], "dropout": [0.1, 0.2]}): "dropout has 2 rates for 1 hidden",
    lambda: train(out="file"): "file: cannot be written (Not a directory); choose another `out`",
    lambda: ensemble(): "`runs`: found (), expected one or more runs, their names or folders",
    lambda: ensemble(None): "`runs`: found None, expected one or more runs",
    lambda: ensemble(["a", "b"]): "`runs`: found ['a', 'b'], expected one or more runs",
    lambda: ensemble("a", 3): "`runs`: found 3, expected",
    lambda: ensemble(*["a"] * 101): "`runs`: found ('a', 'a', 'a', 'a', 'a', 'a', ...), expected",
    lambda: ensemble(runs=["a", "b"]): "ensemble: got an unexpected keyword argument 'runs'",
    lambda: ensemble("a", "b", methd="mean"): "ensemble: has no option 'methd'; did you mean method?",
    lambda: ensemble("a", "b", epochs=3): "has no option 'epochs'; it takes runs, method, out",
    lambda: ensemble("a", "b", method="x"): "`method`: found 'x', expected weighted or mean or stacked",
    lambda: ensemble("a", "b", method=["mean"]): "`method`: found ('mean',), expected weighted",
    lambda: ensemble("a", "b", name=Path("x")): "`name`: found PosixPath('x'), expected up to 100 letters",
    lambda: ensemble("nosuch", "b"): "nosuch: no such run; `out` names another folder",
    lambda: predict(): "predict: missing a required argument: 'digits'",
    lambda: predict("a.png"): "argument: 'run'",  # Python 3.12 and later say that it is a keyword's
    lambda: predict("a.png", run="a", batch=3): "predict: has no option 'batch'; it takes digits, run, out",
    lambda: predict("a.png", run=None): "`run`: found None, expected a run, its name or folder",
    lambda: predict("a.png", run="nosuch"): "nosuch: no such run; `out` names another folder",
    lambda: report(): "report: missing a required argument: 'run'",
    lambda: report(3): "`run`: found 3, expected a run, its name or folder",
    lambda: report("x" * 300): "xxxxxxxxxx' (File name too long), expected a run, its name or folder",
    lambda: report("x", "submissions"): "report: too many positional arguments",
}
# fmt: on


@pytest.mark.parametrize(("call", "message"), MISUSES.items())
def test_a_call_that_makes_no_sense_is_refused_in_one_line(
    asked: list[Any], call: Callable[[], object], message: str
) -> None:
    assert message in refused(call)
    assert asked == []


def test_messages_of_the_package_name_options_as_a_call_has_them(tmp_path: Path, folder: Path) -> None:
    assert "no such folder; `data_dir` takes" in refused(lambda: train(data_dir=tmp_path / "x", out=tmp_path))
    assert "`holdout` 0.001 of 600" in refused(lambda: train(holdout=0.001, data_dir=folder, out=tmp_path))


def test_runs_are_taken_by_name_folder_or_as_they_were_returned(asked: list[Any], tiny_run: runs.Run) -> None:
    out, run = tiny_run.folder.parent, FinishedRun(tiny_run)
    given = (run, tiny_run.folder, str(tiny_run.folder), "tiny")
    assert repr(ensemble(*given, out=out, method="mean", name="both")) == repr(run)
    (parents, method, options), *_ = asked
    assert ([parent.folder for parent in parents], method) == ([tiny_run.folder] * 4, "mean")
    assert (options["out"], options["name"]) == (out, "both")
    del asked[:]
    for one in given:
        assert report(one, out=str(out), data_dir=Path("x")) == Path("page")
    assert {(written.folder, folder) for written, folder, _ in asked} == {(tiny_run.folder, Path("x"))}
    assert run.report() == Path("page")
    assert "has no option 'foo'" in refused(lambda: run.report(foo=1))
    assert "`data_dir`: found 3" in refused(lambda: run.report(3))


X = np.random.default_rng(0).integers(0, 256, (3, 784), dtype=np.uint8)
FRAME = pd.DataFrame(X, columns=data.PIXEL_COLUMNS)
NO_DIGITS: list[tuple[Any, str]] = [
    *(
        (value, "digits: found ")
        for value in (
            None, 3, 0.5, True, b"a.png", "", " ", [""], [None], ["a.png", None], ["a.png", X[0]], {"a.png"},
            {"a.png": 1}, [X[0], X[0, :5]], [[1, 2], [3]], [3, 4], "x\0.png", "x" * 300, "\ud800.png",
            object(), [{"a.png"}], np.array(None), pd.NA,
        )
    ),
    *(
        (value, "expected 0 to 255 (integers)")
        for value in (
            X / 255, X + 0.5, X.astype(int) - 1, X.astype(int) + 1, np.full(X.shape, NAN),
            np.full(X.shape, INF), X.astype(bool), X.astype(complex), X.astype("datetime64[s]"), X > 99,
            (X > 99) * 1.0, FRAME / 255,
            FRAME.astype(str), FRAME.astype("Int64").mask(FRAME > 99), list(X / 255), (X / 255).tolist(),
        )
    ),
    *(
        (value, "expected (n, 784) or (n, 28, 28)")
        for value in (X[0], X[0].reshape(28, 28), X[:, :5], X[:0], X.ravel(), np.array(3), np.empty(0),
                      [[1, 2], [3, 4]], pd.Series(X[0]), pd.Series([1, None], dtype="Int64"),
                      X.reshape(3, 28, 28, 1), FRAME[:0])
    ),
    *(
        (value, "expected pixel0 to pixel783, each once, and no others")
        for value in (FRAME.assign(label=3), FRAME.drop(columns="pixel7"), pd.DataFrame(X), pd.DataFrame(),
                      FRAME.rename(columns={"pixel3": "Pixel3"}), FRAME.T,
                      pd.concat([FRAME, FRAME[["pixel3"]]], axis=1))
    ),
    *((value, "no.png: ") for value in ("no.png", Path("no.png"), ["no.png"], np.array(["no.png"]))),
]  # fmt: skip


def test_what_is_no_digits_is_refused_before_a_net_is_read(
    asked: list[Any], tiny_run: runs.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "load", lambda run: pytest.fail("a net was read"))
    for digits, message in NO_DIGITS:
        assert message in refused(lambda digits=digits: predict(digits, run=tiny_run.folder))


class Raising:
    """An object of a class whose methods raise what is no error of ours."""

    def __init__(self, *methods: str, error: type[Exception] = ZeroDivisionError) -> None:
        def fail(*_: object) -> None:
            raise error("of theirs\nin two lines")

        self.__class__ = type("Theirs", (Raising,), dict.fromkeys(methods, fail))


METHODS = {
    "__fspath__": ("data_dir", "out", "run", "runs", "digits"), "__iter__": ("recipes", "digits"),
    "__array__": ("digits",),
}  # fmt: skip


@pytest.mark.parametrize("error", [ZeroDivisionError, ValueError, OSError])
@pytest.mark.parametrize(("method", "name"), [(m, name) for m, names in METHODS.items() for name in names])
def test_what_a_values_own_method_raises_is_told_in_our_line_and_chained(
    asked: list[Any], tiny_run: runs.Run, method: str, name: str, error: type[Exception]
) -> None:
    value = Raising(method, error=error)
    call = {
        "digits": lambda: predict([value, value] if method == "__array__" else value, run=tiny_run.folder),
        "run": lambda: predict("a.png", run=value),
        "runs": lambda: ensemble(value),
    }.get(name, lambda: train(**{name: value}))
    with pytest.raises(DigitRecognizerError) as raised:
        call()
    assert str(raised.value).isprintable()
    assert str(raised.value).strip("`").startswith(f"{name}")
    assert f"({error.__name__}('of theirs" in str(raised.value)
    assert isinstance(raised.value.__cause__, error)
    assert asked == []


def test_digits_are_read_from_all_that_holds_them(
    asked: list[Any], tiny_run: runs.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[np.ndarray] = []
    monkeypatch.setattr(inference, "load", lambda run: lambda pixels: read.append(pixels) or np.eye(10)[:3])
    FRAME.to_csv("x.csv", index=False)
    images = X.reshape(-1, 28, 28)
    for digits in (
        Path("x.csv"), ["x.csv"], ("x.csv",), Path().glob("*.csv"), np.array(["x.csv"]), pd.Series(["x.csv"]),
        X, images, X.astype(int), X.astype(float), X.astype(np.float32), X.astype(object), list(X),
        tuple(images), X.tolist(), iter(X), np.asfortranarray(X), FRAME, FRAME[data.PIXEL_COLUMNS[::-1]],
        FRAME.astype(float), FRAME.astype("Int64"), FRAME.set_index(pd.Index([7, 7, 7])), FRAME.to_numpy(),
    ):  # fmt: skip
        assert [digit.label for digit in predict(digits, run=tiny_run.folder)] == [0, 1, 2]
        np.testing.assert_array_equal(read.pop(), X)
    for nothing in ([], (), iter([])):
        assert predict(nothing, run=tiny_run.folder) == []


def test_a_wrong_call_is_refused_before_anything_slow_is_imported() -> None:
    call = "import sys, digit_recognizer\ntry: digit_recognizer.train(seed=-1)\n"
    code = f"{call}except digit_recognizer.errors.OptionError: print(*sys.modules)"
    modules = {name.split(".")[0] for name in run_program(sys.executable, "-c", code).out.split()}
    assert "pydantic" in modules
    assert not modules & {"numpy", "sklearn", "scipy", "keras", "tensorflow", "cv2", "pandas", "click"}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"recipes": ["cnn", "keras-mlp"], "settings": {"epochs": 3, "hidden": [64, 32], "tta": False}},
        {"minutes": 0.5, "seed": 7, "cluster": "tcp://localhost:8786"},
        {"folds": 3, "repeats": 2, "refit": True, "ensemble": False, "jobs": 1, "data_dir": "~/my digits"},
        {"holdout": 0.25, "recipes": "softmax", "settings": {"learning_rate": 1e-05}},
    ],
)
def test_a_job_is_typed_as_it_was_asked(options: dict[str, Any], tmp_path: Path) -> None:
    with chdir(tmp_path):
        job = Job(**options)
        params = commands.cli.commands["train"].make_context("train", shlex.split(job.typed)).params
        typed = {name: value for name, value in params.items() if name in Job.model_fields}
        assert ask(Job, **typed) == job
        assert "--out" not in Job(out=tmp_path / "elsewhere").typed  # it follows from the run's folder
        assert Job(data_dir="digits").typed == f"--data-dir {tmp_path / 'digits'}"


def test_a_command_to_be_typed_stays_as_it_is_in_messages_of_functions() -> None:
    assert (
        in_python("--seed: goes on by `train --seed 3 --resume`")
        == "`seed`: goes on by `train --seed 3 --resume`"
    )
