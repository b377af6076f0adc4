"""`tune` on small real digits: what it draws, ends early, keeps, refuses and concludes."""

import errno
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any
from unittest import mock
from xml.etree import ElementTree

import optuna
import pytest
from conftest import Start, changed, set_options, typed, wait_until

import digit_recognizer
from digit_recognizer import comparison, runs
from digit_recognizer.cli import commands
from digit_recognizer.errors import FitError, OptionError, RunError, WriteError
from digit_recognizer.files import delete
from digit_recognizer.tuning import judge, search
from digit_recognizer.tuning.space import Tune

pytestmark = pytest.mark.slow
TINY = {"hidden": [8], "epochs": 2}
RATES = {"learning_rate": "0.001..0.1", "hidden": [[8], [16, 8]]}
Find = Callable[..., judge.Found]
RECIPE = ("--recipe", "sklearn-mlp-plain", "--folds", 3, "--jobs", 1)


@pytest.fixture
def find(home: Path) -> Find:
    """Return a function that searches settings of a tiny net on three folds, in this process."""

    def find(
        name: str, space: dict[str, Any], *, minutes: float | None = None, **options: Any
    ) -> judge.Found:
        on_progress = options.pop("on_progress", lambda _: None)
        given = {"recipes": "sklearn-mlp-plain", "settings": TINY, "folds": 3, "jobs": 1,
                 "data_dir": home / "data", "out": home / "submissions", **options}  # fmt: skip
        asked = changed(Tune(**given, name=name, space=space), minutes=minutes)
        return judge.tune(asked, on_notice=lambda _: None, on_progress=on_progress)

    return find


def candidates(folder: Path) -> list[dict[str, Any]]:
    """Return the values of each candidate that a search's folder, or its run's, holds."""
    entries = [json.loads(line) for line in (folder / "search.jsonl").read_text().splitlines()]
    return [entry["params"] for entry in entries if "params" in entry]


def stop(after: int) -> Callable[[object], None]:
    """Return a callback that is Ctrl-C when a search has told of so many epochs."""
    told: list[object] = []

    def on_progress(progress: object) -> None:
        told.append(progress)
        if len(told) == after:
            signal.raise_signal(signal.SIGINT)

    return on_progress


def test_a_search_that_is_stopped_goes_on_with_the_same_candidates(home: Path, find: Find) -> None:
    submissions = home / "submissions"
    whole = find("whole", RATES, trials=6)
    with pytest.raises(KeyboardInterrupt) as stopped:
        find("stopped", RATES, trials=6, on_progress=stop(after=20))
    kept = "stopped-search keeps the search; the same command with --resume and --name stopped goes on."
    assert stopped.value.__notes__ == [f"{submissions}/{kept}"]
    before = candidates(submissions / "stopped-search")
    resumed = find("stopped", RATES, trials=6, resume=True)
    assert 0 < len(before) < 6
    assert before == candidates(submissions / "whole")[: len(before)]
    assert candidates(submissions / "stopped") == candidates(submissions / "whole")
    assert not (submissions / "stopped-search").exists()
    for one, other in zip(whole.candidates, resumed.candidates, strict=True):
        assert {**one, "seconds": None} == {**other, "seconds": None}


def test_candidates_follow_from_the_seed_and_their_number(home: Path) -> None:
    def draw(seed: int, trials: int, space: dict[str, Any]) -> list[search.Values]:
        asked = Tune(
            recipes="sklearn-mlp-plain", folds=2, jobs=1, seed=seed, trials=trials, space=space,
            data_dir=home / "data",
        )  # fmt: skip
        searched = search.Search(optuna, asked, 0.0, lambda _: None, lambda _: None)
        return [values for values, _ in zip(searched._candidates(), range(trials), strict=False)]

    space = {"alpha": "0.0001..1", "epochs": "1..3", "activation": "relu,tanh"}
    drawn = draw(0, 12, space)
    assert drawn[0] == {}
    assert draw(0, 5, space) == drawn[:5]
    assert draw(1, 5, space)[1:] != drawn[1:5]
    for values in drawn[1:]:
        assert 0.0001 <= values["alpha"] <= 1
        assert len(str(values["alpha"]).strip("0.").replace(".", "")) <= 5  # three digits, or 1e-05
        assert values["epochs"] in (1, 2, 3)
        assert values["activation"] in ("relu", "tanh")
    assert sum(values["alpha"] < 0.01 for values in drawn[1:]) in range(4, 8)  # a half, by the logarithm
    assert len(draw(0, 99, {"activation": "relu,tanh", "epochs": [20, 30]})) == 4  # as it stands: relu, 20
    exclusive = draw(0, 99, {"patience": "0,3", "averaged_epochs": "1,2"})  # as it stands: 0, 1
    values = [{"patience": "0", "averaged_epochs": "2"}, {"patience": "3", "averaged_epochs": "1"}]
    assert sorted(exclusive[1:], key=str) == values


BAD = ("hidden=8", "epochs=4", "optimizer=sgd", "learning_rate=1e-05")


def test_bad_candidates_end_early_and_a_bad_start_is_bettered(home: Path) -> None:
    rates = set_options((*BAD, "learning_rate=0.000001,0.3,1000000"))
    ended = typed("tune", *RECIPE, *rates, "--name", "bad", cwd=home)
    assert ended.code == 0, ended.err
    assert "search: candidate 4 of 4" in ended.err
    assert "failed; candidate" in ended.err
    head, *lines = ended.out.splitlines()
    fixed = ["folds", "accuracy", "errors", "digits", "verdict", "p", "seconds", "state"]
    assert re.split(r" {2,}", head) == ["candidate", "learning_rate", *fixed]
    assert [re.split(r" {2,}", line)[6] for line in lines[:3]] == ["better", "-", "cannot tell"]
    rows = {row[1]: row for row in map(str.split, lines[:4])}
    states = {"0.3": "3 complete", "1e-05": "3 complete", "1e-06": "1 pruned", "1000000.0": "0 failed"}
    assert {rate: f"{row[2]} {row[-1]}" for rate, row in rows.items()} == states
    assert lines[0].startswith(("1 ", "2 ", "3 "))
    assert rows["1e-05"][0] == "0"
    better = set_options((*BAD[:3], "learning_rate=0.3"))
    assert (
        lines[-2] == f"better settings than the recipe with {' '.join(set_options(BAD))}: {' '.join(better)}"
    )
    assert lines[-3].startswith("bad is better than bad-as-it-stands, as they are fitted")
    assert lines[-1] == "submissions/bad/search.svg"
    picture = ElementTree.parse(home / lines[-1]).getroot()
    assert picture.tag == "{http://www.w3.org/2000/svg}svg"
    assert "as it stands" in picture.attrib["aria-label"]


def test_the_best_is_judged_on_folds_that_the_search_has_not_seen(home: Path, find: Find) -> None:
    found = find("judged", {"alpha": "0.0001..0.00011"}, trials=3, seed=2**31 + 7)
    assert found.verdict == "cannot tell"
    assert [row["state"] for row in found.candidates] == ["complete"] * 3
    assert found.settings == {**TINY, "alpha": found.candidates[1]["alpha"]}
    best, base = runs.load(found.run), runs.load(found.as_it_stands)
    for run, settings in ((best, found.settings), (base, TINY)):
        assert (run.manifest.config.command, run.manifest.config.seed) == ("validate", 7)
        (fitted,) = run.manifest.settings.values()
        assert fitted == fitted.replace(**settings)
    assert found.comparison.p == comparison.compare(best, base).p
    assert sorted(path.name for path in found.run.iterdir()) == [
        "fits", "probabilities-1.npz", "run.json", "search.jsonl", "search.svg",
    ]  # fmt: skip
    assert typed("report", found.run, cwd=home).code == 0


def test_a_search_whose_comparison_has_begun_keeps_its_best(
    home: Path, find: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(judge, "_validate", mock.Mock(side_effect=KeyboardInterrupt))
        find("compared", RATES, trials=3)
    (line,) = [line for line in runs.list_unfinished(home / "submissions") if "compared" in line]
    assert line == "compared-search was cut off; its command with --name compared --resume goes on"
    for name in ("compared", "compared-as-it-stands"):  # somebody has taken it meanwhile
        typed("validate", *RECIPE, "--set", "epochs=1", "--name", name, cwd=home)
        with pytest.raises(RunError, match=f"{name}: is not of this search, which needs the name; rename"):
            find("compared", RATES, trials=9, resume=True)
        delete(home / "submissions" / name)
    with (home / "submissions" / "compared-search" / "search.jsonl").open("a") as journal:  # of a stranger's
        journal.write('{"op_code": 2, "worker_id": "", "study_id": 0, "user_attr": {"best": "x"}}\n')
    found = find("compared", RATES, trials=9, resume=True)
    assert len(found.candidates) == 3
    assert runs.list_newest(home / "submissions", pytest.fail)[0].folder == found.run


def test_a_field_that_is_repeated_is_searched_for_all_its_values(home: Path) -> None:
    options = set_options(("hidden=8", "epochs=1,2", "epochs=3,4"))
    ended = typed("tune", *RECIPE, *options, "--name", "repeated", cwd=home)
    assert ended.code == 0, ended.err
    kept = "\nKeep the recipe with --set hidden=8. The best other candidate was: --set hidden=8 --set epochs="
    assert kept in ended.out  # it has 20 epochs
    assert "There are 5 different candidates in all, the recipe as it stands among them" in ended.err
    rows = [line.split() for line in ended.out.splitlines()]
    epochs = {row[1] for row in rows if row and row[-1] in search.STATES.values()}
    assert epochs == {"1", "2", "3", "4", "20"}


def test_json_is_one_object(home: Path) -> None:
    options = set_options(("hidden=8", "epochs=1", "epochs=1,2"))
    ended = typed("tune", *RECIPE, *options, "--name", "json", "--json", cwd=home)
    found = json.loads(ended.out)
    assert found["verdict"] in ("better", "cannot tell", "worse")
    assert found["settings"] == {"hidden": [8], "epochs": 2}
    assert [row["candidate"] for row in found["candidates"]] == [1, 0]
    assert found["comparison"]["common"] == 600
    assert (home / found["picture"]).exists()


def test_minutes_bound_search_and_comparison_together(
    home: Path, find: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "END_SECONDS", 1.0)
    began, told = time.monotonic(), list[Any]()
    found = find("timed", {"learning_rate": "0.001..0.1"}, minutes=5 / 60, on_progress=told.append)
    assert time.monotonic() - began < 10  # a busy machine is late
    assert len(found.candidates) > 1
    shares = [progress.done for progress in told if progress.fit == "search"]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert all(progress.epochs is None for progress in told if progress.fit == "search")
    with pytest.raises(OptionError, match=r"--minutes: at least 0\.\d are needed; give more"):
        find("short", {"learning_rate": "0.001..0.1"}, minutes=0.001)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "lerning_rate=0.1,0.2"], "--set lerning_rate: no selected recipe has that field; did you"),
        (["--set", "learning_rate=0.1..0.01"], "--set learning_rate: found 0.1..0.01, expected LOW..HIGH"),
        (["--set", "epochs=1..2..3"], "--set epochs: found 1..2..3, expected LOW..HIGH, two numbers"),
        (["--set", "activation=relu..tanh"], "--set activation: found relu..tanh, expected LOW..HIGH"),
        (["--set", "deskew=no..yes"], "--set deskew: found no..yes, expected LOW..HIGH, two numbers"),
        (["--set", "epochs=1..20000"], "--set epochs: found 20000, expected an integer from 1 to 10000"),
        (["--set", "epochs=5,x"], "--set epochs: found 'x', expected an integer from 1 to 10000"),
        (["--set", "hidden=8-16,0"], "--set hidden: found 0, expected a list of up to 20, each an inte"),
        (["--set", "epochs=3"], "--set: found 'epochs=3', expected values or a range to try, such as"),
        (["--set", "epochs=3,4", "--trials", 5, "--minutes", 1], "--trials and --minutes exclude each other"),
        (["--set", "epochs=3,4", "--recipe", "cnn"], "--recipe: give one, whose settings are searched"),
        (["--set", "epochs=3,4", "--resume"], "--resume: give the --name of the search as well"),
        (["--set", "epochs=3,4", "--trials", 1], "found '1', expected an integer from 2 to 1000"),
        (["--set", "epochs=3,4", "--cluster", "tcp://here:1"], "--jobs counts cores of this machine"),
        (["--epochs", "3"], "No such option '--epochs'; give --set epochs=3."),
    ],
)
def test_what_cannot_be_searched_is_a_line_before_any_work(
    tmp_path: Path, options: list[Any], message: str
) -> None:
    assert message in typed("tune", *RECIPE, *options, cwd=tmp_path).refusal(2)
    assert list(tmp_path.iterdir()) == []


def test_digits_that_cannot_be_read_leave_no_folder(tmp_path: Path) -> None:
    ended = typed("tune", *RECIPE, "--set", "epochs=1,2", "--data-dir", "nosuch", cwd=tmp_path)
    assert ended.refusal().startswith("Error: nosuch: no such folder")
    assert list(tmp_path.rglob("*")) == []


def test_another_search_is_not_gone_on_with(home: Path, find: Find, folder: Path) -> None:
    unfinished = home / "submissions" / "kept-search"
    with pytest.raises(RunError, match="holds no search to go on with; leave out --resume"):
        find("kept", RATES, resume=True)
    with pytest.raises(KeyboardInterrupt):
        find("kept", RATES, on_progress=stop(after=9))
    with pytest.raises(RunError, match="kept-search: is an unfinished search; give --resume"):
        find("kept", RATES)
    for change, options in {
        "seed": {"seed": 1},
        "number of folds or threads": {"folds": 4},
        "space": {"space": {"learning_rate": "0.001..0.2"}},
        "recipe": {"settings": {"hidden": [8]}},
    }.items():
        with pytest.raises(RunError, match=f"is a search of another {change}; take another") as refused:
            find("kept", **{"space": RATES, "resume": True, **options})
        assert not hasattr(refused.value, "__notes__")
    digits = folder / "train.csv"
    digits.write_text(digits.read_text().rpartition("\n1,")[0] + "\n")
    with pytest.raises(RunError, match="is a search of another data set; take another --name"):
        find("kept", RATES, resume=True, data_dir=folder)
    journal = unfinished / "search.jsonl"
    journal.write_text(journal.read_text() + '{"op_code": 8, "tri')  # as a killed process may leave it
    assert find("kept", RATES, resume=True, trials=3).run.name == "kept"
    unfinished.mkdir()
    study = '{"op_code": 0, "worker_id": "", "study_name": "tune", "directions": [1]}\n'
    other = '{"op_code": 2, "worker_id": "", "study_id": 0, "user_attr": {"search": "x"}}\n'
    deep, long = "[" * 2**16 + "]" * 2**16 + "\n", "[" + "[]," * 2**21 + "[]]\n"
    for hostile in ("{}\n{}\n", study + other, deep, long):
        journal.write_text(hostile)
        with pytest.raises(RunError, match=r"kept-search/search\.jsonl: is damaged"):
            find("kept", RATES, resume=True)
    delete(unfinished)
    with pytest.raises(RunError, match="exists already; take another --name"):
        find("kept", RATES)


def test_a_full_disk_is_told_with_the_journal(find: Find, monkeypatch: pytest.MonkeyPatch) -> None:
    backend, calls = optuna.storages.journal.JournalFileBackend, iter(range(100))
    append = backend.append_logs

    def write(self: Any, logs: Any) -> None:
        if next(calls) > 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        append(self, logs)

    monkeypatch.setattr(backend, "append_logs", write)
    with pytest.raises(WriteError, match=r"full-search/search\.jsonl: cannot be written \(No space"):
        find("full", RATES)


def test_a_run_that_is_called_like_a_search_stays(home: Path, find: Find) -> None:
    run = find("its-search", RATES, trials=2).run
    assert not [line for line in runs.list_unfinished(home / "submissions") if line.startswith("its-")]
    with pytest.raises(RunError, match="its-search: exists already; take another --name"):
        find("its", RATES, trials=2)
    with pytest.raises(RunError, match="its-search: holds no search to go on with"):
        find("its", RATES, trials=2, resume=True)
    assert runs.load(run)


def test_a_recipe_that_cannot_be_fitted_as_it_stands_ends_the_search(find: Find) -> None:
    wrong = {"optimizer": "sgd", "learning_rate": 1e6}
    with pytest.raises(FitError, match="sklearn-mlp-plain-0 fold 1: the net diverged"):
        find("hopeless", {"epochs": [1, 2]}, settings=wrong)
    with pytest.raises(FitError, match="no candidate could be fitted; try other values"):
        find("worse", {"learning_rate": [1e6]}, settings={"optimizer": "sgd", "epochs": 1})


def test_a_killed_search_in_two_processes_goes_on(home: Path, start: Start) -> None:
    options = set_options(("epochs=3", "learning_rate=0.001..0.1"))
    words = ["tune", *RECIPE[:-1], 2, *options, "--name", "killed"]
    journal = home / "submissions/killed-search/search.jsonl"
    process = start("-m", "digit_recognizer", *words, cwd=home)
    wait_until(lambda: journal.exists() and journal.read_text().count("wrong") >= 4, process)
    process.kill()
    process.wait()
    before = candidates(journal.parent)
    ended = typed(*words, "--jobs", 1, "--trials", len(before), "--resume", cwd=home)  # fewer cores: the same
    assert ended.code == 0, ended.err
    assert candidates(home / "submissions/killed") == before


def test_without_optuna_its_install_line_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    line = "Error: `tune` needs optuna, which is not installed: pip install optuna"
    assert typed("tune", *RECIPE, "--set", "epochs=1,2", cwd=home).refusal() == line


def test_the_function_has_the_commands_options(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = signature(digit_recognizer.tune).parameters
    typed_options = {parameter.name for parameter in commands.cli.commands["tune"].params}
    assert set(parameters) - {"settings"} == typed_options - {"as_json"}
    for name, parameter in parameters.items():
        if parameter.default is not parameter.empty:
            assert parameter.default == (5 if name == "folds" else Tune.model_fields[name].default)
    asked: list[Tune] = []
    monkeypatch.setattr(judge, "tune", lambda tune, **_: asked.append(tune))
    space = {"epochs": range(2, 5), "learning_rate": "0.1,0.2"}
    digit_recognizer.tune("softmax", space, settings={"tta": True})
    assert asked[0].searched == {"epochs": (2, 3, 4), "learning_rate": (0.1, 0.2)}
    with pytest.raises(OptionError, match="`space` or `settings` epochs: found 0, expected an integer"):
        digit_recognizer.tune("softmax", {"epochs": [0]})
    with pytest.raises(OptionError, match="`space` or `settings`: found 3, expected values or a range"):
        digit_recognizer.tune("softmax", {"epochs": 3})
