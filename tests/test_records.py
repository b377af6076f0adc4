"""Records read from files that may hold anything: one line that names the file and the field, or a record."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import PLAIN, make_config

from digit_recognizer import recipes, records, runs
from digit_recognizer.cli import tables
from digit_recognizer.errors import RunError
from digit_recognizer.manifest import Manifest, RunConfig
from digit_recognizer.nets.progress import Budget
from digit_recognizer.schedule import Member, Schedule, Tier
from digit_recognizer.settings import MLPSettings, parse
from digit_recognizer.splits import Split

MISSING = object()
NESTED = "[" * 150 + "]" * 150  # of as many levels as a parser may take
# Of every type one, and numbers that are out of bounds; NaN, infinity and huge numbers as JSON writes them.
VALUES = [
    "null", "true", "-1", "0", "1.5", "1e300", "1e999", "NaN", "-Infinity", "9" * 30, "9" * 5000, '"text"',
    '""', json.dumps("\x1b[2J\n\u202e"), "[]", "[null]", "{}", '{"x": 1}', NESTED,
]  # fmt: skip


def paths_of(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of each field, also inside its first element if it is a list."""
    if path:
        yield path
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from paths_of(inner, (*path, name))
    elif isinstance(value, list) and value:
        yield from paths_of(value[0], (*path, 0))


def changed(document: Any, path: tuple[str | int, ...], text: object) -> str:
    """Return the document as JSON, without the field or with that text as its value."""
    copy = json.loads(json.dumps(document))
    inner = copy
    for name in path[:-1]:
        inner = inner[name]
    if text is MISSING:
        del inner[path[-1]]
        return json.dumps(copy)
    inner[path[-1]] = "@@@"
    return json.dumps(copy).replace('"@@@"', str(text))


def check_every_field(file: Path, record: records.Record, read: Callable[[], Any]) -> int:
    """Spoil each field of a record's file in each way; return how many were refused."""
    document = json.loads(record.model_dump_json())
    refused = 0
    for path in paths_of(document):
        for value in (MISSING, *VALUES):
            file.write_text(changed(document, path, value))
            try:
                read()
            except RunError as error:
                message = str(error)
            else:
                continue
            refused += 1
            names = [name for name in path if isinstance(name, str)]
            told = (file.name in message, "\n" not in message, any(name in message for name in names))
            assert all(told) or "Invalid" in message or "invalid JSON" in message, (path, value, message)
    return refused


def test_every_field_of_a_manifest_is_read_or_named(tmp_path: Path, tiny_run: runs.Run) -> None:
    def read_and_show() -> None:
        run = runs.load(tmp_path)
        for show in (tables.scores, tables.folds, tables.weights):
            list(show(run))
        list(tables.runs([run], {}))
        tables.summary(run)
        tables.run_list([run], {})

    refused = check_every_field(tmp_path / "run.json", tiny_run.manifest, read_and_show)
    assert refused > 1000


def test_every_field_of_a_config_is_read_or_named(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    config = make_config()

    def read_and_compare() -> None:
        difference = config.difference_from(records.read(file, RunConfig))
        assert "\n" not in difference

    assert check_every_field(file, config, read_and_compare) > 300


def make_schedule() -> Schedule:
    settings = recipes.select(["sklearn-mlp"], dict(map(parse, PLAIN)))[0].settings
    plain = Member(name="other", recipe="other", settings=settings)
    timed = tuple(
        Member(name=f"sklearn-mlp-{n}", recipe="sklearn-mlp", settings=settings, budget=budget)
        for n, budget in enumerate([Budget(seconds=3.0, epoch=0.1, predict=0.5)] * 2, start=1)
    )
    return Schedule(tiers=tuple(Tier(members=m, workers=2, threads=1) for m in (timed, (plain,))))


def test_every_field_of_a_schedule_is_read_or_named(tmp_path: Path) -> None:
    file = tmp_path / "schedule.json"
    split = Split("holdout", np.arange(9), np.arange(1))

    def read_and_use() -> None:
        schedule = records.read(file, Schedule)
        list(schedule.describe())
        tasks = schedule.tasks([split], refit=False, seed=0)
        rounds = list(schedule.rounds(tasks))
        assert all(tasks for _, tasks in rounds)
        assert all(Path(task.file_name).name == task.file_name for _, tasks in rounds for task in tasks)
        schedule.best_members(["sklearn-mlp-1"])

    assert check_every_field(file, make_schedule(), read_and_use) > 150


@pytest.mark.parametrize("name", ["../../up", "a/b", "", ".hidden", "two words"])
def test_a_member_whose_name_is_no_files_is_refused(tmp_path: Path, name: str) -> None:
    document = json.loads(make_schedule().model_dump_json())
    document["tiers"][1]["members"][0]["name"] = name
    (tmp_path / "schedule.json").write_text(json.dumps(document))
    with pytest.raises(RunError, match=r"schedule\.json: tiers\.1\.members\.0\.name: found"):
        records.read(tmp_path / "schedule.json", Schedule)


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    document = json.loads(make_schedule().model_dump_json())
    document["tiers"] *= 2
    (tmp_path / "schedule.json").write_text(json.dumps(document))
    with pytest.raises(RunError, match=r"schedule\.json: value error, two members have"):
        records.read(tmp_path / "schedule.json", Schedule)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "invalid JSON: EOF"),
        ("{", "invalid JSON: EOF"),
        ("[]", "input should be an object"),
        ("3", "input should be an object"),
        ("{}", "name: field required"),
        ("null", "input should be an object"),
        ('{"a":' * 10_000 + "1" + "}" * 10_000, "invalid JSON: recursion limit exceeded"),
        ("[" * 10_000, "invalid JSON: recursion limit exceeded"),
        ("\x00" * 1000, "invalid JSON"),
        ('{"data": 3}', "name: field required"),
    ],
)
def test_a_file_that_holds_no_manifest_raises_run_error(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunError, match=message) as error:
        runs.load(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / 'run.json'}: ")
    assert "\n" not in str(error.value)


def test_bytes_that_are_no_text_raise_run_error(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(b'{"name": "\xff\xfe"}')
    with pytest.raises(RunError, match=r"run\.json: invalid JSON"):
        runs.load(tmp_path)


def test_a_file_of_100_megabytes_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "run.json").open("wb") as file:
        os.truncate(file.fileno(), 100 << 20)
    with pytest.raises(RunError, match=r"run\.json: is larger than 64 MB, so it is not a file"):
        runs.load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "written"),
    [({"format": 1}, 1), ({"format": 99}, 99), ({"format": MISSING, "submitted": "blend"}, 1)],
)
def test_a_manifest_of_another_format_says_so(
    tmp_path: Path, tiny_run: runs.Run, changes: dict[str, Any], written: int
) -> None:
    document = {**json.loads(tiny_run.manifest.model_dump_json()), **changes}
    document = {name: value for name, value in document.items() if value is not MISSING}
    (tmp_path / "run.json").write_text(json.dumps(document))
    with pytest.raises(
        RunError, match=rf"run\.json: was written by another version .*\(format {written}, expected 3\)"
    ):
        runs.load(tmp_path)


def test_a_folder_in_place_of_the_file_raises_run_error(tmp_path: Path) -> None:
    (tmp_path / "run.json").mkdir()
    with pytest.raises(RunError, match=r"run\.json: cannot be read \(Is a directory\)"):
        runs.load(tmp_path)


def test_a_record_comes_back_from_its_file(tmp_path: Path, tiny_run: runs.Run) -> None:
    file = tmp_path / "new/run.json"
    records.write(file, tiny_run.manifest)
    assert records.read(file, Manifest) == tiny_run.manifest
    assert [path.name for path in file.parent.iterdir()] == ["run.json"]


def test_a_record_that_cannot_be_written_raises_run_error(tmp_path: Path, tiny_run: runs.Run) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"file/run\.json: cannot be written"):
        records.write(tmp_path / "file/run.json", tiny_run.manifest)


@pytest.mark.parametrize(
    ("field", "value"), [("epochs", 0), ("hidden", [0]), ("net", "cnn"), ("epochs", None)]
)
def test_stored_settings_are_held_to_the_bounds_of_typed_ones(
    tmp_path: Path, tiny_run: runs.Run, field: str, value: Any
) -> None:
    document = json.loads(tiny_run.manifest.model_dump_json())
    assert isinstance(tiny_run.manifest.recipes["sklearn-mlp"], MLPSettings)
    document["recipes"]["sklearn-mlp"][field] = value
    (tmp_path / "run.json").write_text(json.dumps(document))
    with pytest.raises(RunError, match=rf"run\.json: recipes\.sklearn-mlp.*{field}"):
        runs.load(tmp_path)


STACKED = {"method": "stacked", "weights": [0.5, 0.5], "classes": list(range(10)), "intercepts": [0.0] * 10}
WEIGHTED = {"method": "weighted", "inverse_temperatures": [1.0, 1.0], "inverse_temperature": 1.0}


@pytest.mark.parametrize(
    ("blend", "message"),
    [
        ({"method": "mean", "weights": [1e308, 1e308]}, "less than or equal to 1"),
        (WEIGHTED | {"weights": [1e308, 1e308]}, "less than or equal to 1"),
        (WEIGHTED | {"weights": [2.0, -1.0]}, "less than or equal to 1"),
        (WEIGHTED | {"weights": [0.0, 0.0]}, "the weights do not sum to 1"),
        (WEIGHTED | {"weights": [0.5, 0.4]}, "the weights do not sum to 1"),
        (WEIGHTED | {"weights": [0.5, 0.5], "inverse_temperatures": [1.0, 1e3]}, "less than or equal to 10"),
        (WEIGHTED | {"weights": [0.5, 0.5], "inverse_temperature": 0.0}, "greater than or equal to 0.1"),
        (STACKED | {"coefficients": [[1e300] * 20] * 10}, "less than or equal to 1000000"),
        (STACKED | {"coefficients": [[1.0] * 20]}, "other numbers of coefficients, intercepts and classes"),
        (
            STACKED | {"coefficients": [[1.0] * 20] * 10, "intercepts": [-1e300] * 10},
            "greater than or equal to -1000000",
        ),
        (STACKED | {"coefficients": [[1.0] * 20] * 10, "classes": [0] * 10}, "names a class twice"),
    ],
)
def test_a_blend_that_would_answer_nonsense_is_refused(
    tmp_path: Path, tiny_run: runs.Run, blend: dict[str, Any], message: str
) -> None:
    document = json.loads(tiny_run.manifest.model_dump_json())
    (tmp_path / "run.json").write_text(json.dumps({**document, "blend": blend}))
    with pytest.raises(RunError, match=rf"run\.json: .*blend.*{message}") as error:
        runs.load(tmp_path)
    assert "\n" not in str(error.value)
