"""Records read from files that may hold anything: one line that names the file and the field, or a record."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import PLAIN, make_config, raises_line
from pydantic_core import to_jsonable_python

from digit_recognizer import expected, recipes, records, runs, training
from digit_recognizer.cli import tables
from digit_recognizer.errors import RunError
from digit_recognizer.manifest import RunConfig
from digit_recognizer.nets.progress import Budget
from digit_recognizer.schedule import Member, Schedule, Tier
from digit_recognizer.settings import parse
from digit_recognizer.splits import Split

MISSING = object()
NESTED = "[" * 150 + "]" * 150  # of as many levels as a parser may take
# Of every type one, and numbers that are out of bounds; NaN and huge numbers as JSON writes them.
VALUES = [
    "null", "true", "-1", "1.5", "1e300", "NaN", "9" * 5000, json.dumps("\x1b[2J\n\u202e"), "[]", "[null]",
    "{}", NESTED,
]  # fmt: skip
BY_NAME = {"scores", "settings", "recipes", "inference_fits", "fits", "seconds", "versions"}


def paths_of(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of each field, also inside the first element of lists and of what is listed by name."""
    if path:
        yield path
    inside: list[tuple[str | int, Any]] = []
    if isinstance(value, list):
        inside = list(enumerate(value))[:1]
    elif isinstance(value, dict):
        inside = list(value.items())[: 1 if BY_NAME.intersection(path[-1:]) else None]
    for name, inner in inside:
        yield from paths_of(inner, (*path, name))


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
        for show in (tables.scores, tables.folds, tables.footer):
            list(show(run))
        list(tables.runs([run], {}, ["best"]))
        expected.describe(run.manifest)
        to_jsonable_python([tables.summary(run), *tables.run_list([run], {}, ["best"])])

    refused = check_every_field(tmp_path / "run.json", tiny_run.manifest, read_and_show)
    assert refused > 600


def test_every_field_of_a_config_is_read_or_named(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    config = make_config()

    def read_and_compare() -> None:
        difference = config.difference_from(records.read(file, RunConfig))
        assert "\n" not in difference

    assert check_every_field(file, config, read_and_compare) > 200


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
        rounds = list(schedule.budgeted_rounds(tasks))
        assert all(tasks for _, tasks in rounds)
        files = [training.file_name(task.name) for _, tasks in rounds for task in tasks]
        assert all(Path(name).name == name for name in files)
        schedule.best_members(["sklearn-mlp-1"])

    assert check_every_field(file, make_schedule(), read_and_use) > 100


@pytest.mark.parametrize("name", ["../../up", "a/b", "", ".hidden", "two words"])
def test_a_member_whose_name_is_no_files_is_refused(tmp_path: Path, name: str) -> None:
    text = changed(
        make_schedule().model_dump(mode="json"), ("tiers", 1, "members", 0, "name"), json.dumps(name)
    )
    (tmp_path / "schedule.json").write_text(text)
    with pytest.raises(RunError, match=r"schedule\.json: tiers\.1\.members\.0\.name: found"):
        records.read(tmp_path / "schedule.json", Schedule)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "invalid JSON: EOF"),
        ("[]", "input should be an object"),
        ("null", "input should be an object"),
        ('{"a":' * 10_000 + "1" + "}" * 10_000, "invalid JSON: recursion limit exceeded"),
        ("\x00" * 1000, "invalid JSON"),
        (b'{"name": "\xff\xfe"}', "invalid JSON"),
        (bytes(100 << 20), r"cannot be read \(is larger than 67,108,864 bytes\)"),
        ('{"data": 3}', "name: field required"),
    ],
)
def test_a_file_that_holds_no_manifest_raises_run_error(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    (tmp_path / "run.json").write_bytes(content.encode() if isinstance(content, str) else content)
    advice = "; train that run again, or use the version that wrote it"
    with raises_line(RunError, rf"^{tmp_path}/run\.json: .*{message}.*{advice}$"):
        runs.load(tmp_path)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("format",), 1, "format: found 1; input should be 4; train that run again, or use the version"),
        (("format",), 99, "format: found 99; input should be 4; train that run again, or use the version"),
        (("inference_fits", "sklearn-mlp"), ["a.npz"] * 9, ".*inference_fits names a file twice"),
        *(
            (("settings", "sklearn-mlp", field), value, rf"settings\.sklearn-mlp.*{field}")
            for field, value in (("epochs", 0), ("hidden", [0]), ("net", "cnn"), ("depth", 3))
        ),
    ],
)
def test_a_manifest_of_another_format_or_with_a_wrong_setting_says_so(
    tmp_path: Path, tiny_run: runs.Run, path: tuple[str, ...], value: Any, message: str
) -> None:
    document = tiny_run.manifest.model_dump(mode="json")
    (tmp_path / "run.json").write_text(changed(document, path, json.dumps(value)))
    with pytest.raises(RunError, match=rf"run\.json: {message}"):
        runs.load(tmp_path)


def test_a_run_of_an_earlier_version_is_read(tmp_path: Path, tiny_run: runs.Run) -> None:
    document = tiny_run.manifest.model_dump(mode="json")
    for score in document["scores"].values():
        score["seconds"] = score.pop("fit_seconds")
    document["recipes"] = document.pop("settings")
    (tmp_path / "run.json").write_text(json.dumps({**document, "replaced_sha256": None}))
    assert runs.read_manifest(tmp_path) == tiny_run.manifest


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
        (WEIGHTED | {"weights": [0.2] * 5}, "another number of temperatures than of weights"),
        (STACKED | {"coefficients": [[1e300] * 20] * 10}, "less than or equal to 1000000"),
        (STACKED | {"coefficients": [[1.0] * 20]}, "other numbers of coefficients, intercepts and classes"),
        (STACKED | {"coefficients": [[1.0] * 20] * 10, "intercepts": [-1e300] * 10}, "equal to -1000000"),
        (STACKED | {"coefficients": [[1.0] * 20] * 10, "classes": [0] * 10}, "names a class twice"),
    ],
)
def test_a_blend_that_would_answer_nonsense_is_refused(
    tmp_path: Path, tiny_run: runs.Run, blend: dict[str, Any], message: str
) -> None:
    document = json.loads(tiny_run.manifest.model_dump_json())
    (tmp_path / "run.json").write_text(json.dumps({**document, "blend": blend}))
    with raises_line(RunError, rf"run\.json: .*blend.*{message}"):
        runs.load(tmp_path)
