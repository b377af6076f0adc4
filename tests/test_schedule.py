"""What is fitted when, on which cores: no net is trained here."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from digit_recognizer import data, recipes, records, schedule
from digit_recognizer.errors import RecipeError, RunError
from digit_recognizer.recipes import Recipe
from digit_recognizer.schedule import Member, Schedule, make_schedule, minutes, speed
from digit_recognizer.schedule.minutes import PREDICT_MARGIN, Speed, Work
from digit_recognizer.schedule.stages import split_cores
from digit_recognizer.settings import MAX_EPOCHS
from digit_recognizer.splits import Split, make_splits

BIG, SMALL = recipes.select(["cnn", "keras-mlp"], {"epochs": 20})
# A big net takes 20 s for an epoch of 40,000 rows, a small one 0.8 s.
SPEEDS = {
    "cnn": Speed(2, 0.0, 20 / 40_000, predict_row=5 / 10_000, predict_row_without_tta=1 / 10_000),
    "keras-mlp": Speed(1, 0.0, 0.8 / 40_000, predict_row=0.1 / 10_000, predict_row_without_tta=0.1 / 10_000),
}
WORK = {"min_members": 1, "fits": 1, "train_rows": 40_000, "predict_rows": 10_000, "curve_rows": 5_000}
HOLDOUT = [Split("holdout", np.arange(9), np.arange(1))]


@pytest.fixture(autouse=True)
def writing_takes_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minutes, "MEMBER_SECONDS", 0.0)


def fill(seconds: float, *groups: list[Recipe], workers: int = 2, **work: int) -> Schedule:
    """Return the schedule that fills `seconds` with these groups, whose speeds are known."""
    measured = [minutes._MeasuredGroup(group, SPEEDS, workers, threads=1) for group in groups or [[BIG]]]
    return Schedule(stages=tuple(minutes._stages(measured, Work(**{**WORK, **work}), seconds)))


def members(schedule: Schedule) -> list[Member]:
    return [member for stage in schedule.stages for member in stage.members]


def names(schedule: Schedule) -> list[str]:
    return [member.name for member in members(schedule)]


def timed(schedule: Schedule, now: float, finished: tuple[str, ...] = ()) -> list[tuple[str, float | None]]:
    """Return the fits' names with their deadlines."""
    tasks = schedule.tasks(HOLDOUT, refit=False, seed=0)
    stages = schedule.timed([task for task in tasks if task.name not in finished])
    return [(task.name, task.deadline and task.deadline - now) for _, tasks in stages for task in tasks]


def test_epochs_fill_the_time_and_no_more() -> None:
    (stage,) = fill(300).stages
    first, second = stage.members
    used = 2 + 5 * PREDICT_MARGIN + first.settings.epochs * (20 + 0.5)
    assert stage.seconds_per_fit == 300
    assert (first.name, second.name) == ("cnn-1", "cnn-2")
    assert stage.epoch_fraction == first.settings.epochs / BIG.settings.epochs
    assert 300 - 20.5 < used <= 300
    assert stage.predict_seconds["cnn-1"] == 5 * PREDICT_MARGIN


@pytest.mark.parametrize(
    ("time", "rounds"), [(5, 1), (15, 1), (29, 2), (60, 2), (100, 3), (230, 4), (600, 5)]
)
def test_more_time_gives_more_nets_and_longer_ones(time: int, rounds: int) -> None:
    stages = fill(time * 60).stages
    assert [len(stage.members) for stage in stages] == [2] * rounds
    assert {stage.seconds_per_fit for stage in stages} == {time * 60 / rounds}
    assert rounds == 1 or stages[0].epoch_fraction >= minutes.MIN_EPOCH_FRACTION * rounds**2


def test_recipes_take_turns() -> None:
    assert names(fill(2000, [BIG, SMALL])) == ["cnn-1", "keras-mlp-1", "cnn-2", "keras-mlp-2"]


def test_every_member_is_fitted_on_every_fold() -> None:
    folded = fill(900, fits=5)  # five fits on two workers: three rounds
    assert names(folded) == ["cnn-1"]
    assert folded.stages[0].seconds_per_fit == 300
    full = fill(900, [BIG, SMALL], min_members=3)  # the second core is not left idle
    assert [len(stage.members) for stage in full.stages] == [2, 2]
    many = fill(2000, fits=2, workers=8)
    assert [len(stage.members) for stage in many.stages] == [4, 4]


def test_with_folds_and_a_refit_too_twice_the_epochs_make_a_second_net() -> None:
    once = fill(6 * 20 * BIG.settings.epochs, fits=6, workers=1)
    assert names(once) == ["cnn-1"]
    assert names(fill(6 * 2.2 * 20 * BIG.settings.epochs, fits=6, workers=1)) == ["cnn-1"]
    twice = fill(6 * 4.4 * 20 * BIG.settings.epochs, fits=6, workers=1)
    assert names(twice) == ["cnn-1", "cnn-2"]
    assert twice.stages[0].epoch_fraction > 2


def test_no_net_is_fitted_for_more_epochs_than_a_recipe_may_have() -> None:
    assert {member.settings.epochs for member in members(fill(36_000_000))} == {MAX_EPOCHS}


@pytest.mark.parametrize("options", [{"fits": 5}, {"workers": 1}])
def test_each_named_recipe_gets_a_member(options: dict[str, int]) -> None:
    assert names(fill(900, [BIG, SMALL], min_members=2, **options)) == ["cnn-1", "keras-mlp-1"]


@pytest.mark.parametrize(("workers", "fits", "size"), [(2, 3, 2), (2, 4, 1), (6, 4, 3), (1, 5, 1), (4, 1, 4)])
def test_a_stage_ends_when_its_fits_fill_whole_rounds(workers: int, fits: int, size: int) -> None:
    stages = fill(40_000, workers=workers, fits=fits).stages
    assert {len(stage.members) for stage in stages[:-1]} <= {size}
    assert size * fits % workers == 0


def test_three_folds_on_two_workers_are_complete_after_the_first_stage() -> None:
    first, second, *_ = fill(3600, [SMALL], [BIG], fits=3).stages
    assert (first.group, second.group) == (0, 1)
    assert [member.name for member in first.members] == ["keras-mlp-1"]  # three fits, in two rounds
    assert 2 * first.seconds_per_fit == minutes.FIRST_STAGE_MAX_SECONDS


def test_each_member_takes_its_time_to_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minutes, "MEMBER_SECONDS", 10.0)
    assert fill(300).stages[0].seconds_per_fit == 280


def test_the_epochs_there_is_time_for_may_be_none() -> None:
    assert fill(-5).stages[-1].seconds_per_fit == 0  # measuring took longer than there was time
    assert fill(20).stages[-1].epoch_fraction == 0
    assert fill(40).stages[-1].epoch_fraction == 1 / 20


@pytest.mark.parametrize(("seconds", "averaged"), [(220, 3), (410, 6), (20_000, 12)])
def test_fewer_epochs_average_fewer(seconds: float, averaged: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (mlp,) = recipes.select(["sklearn-mlp"], {"epochs": 40, "averaged_epochs": 12})
    monkeypatch.setitem(SPEEDS, "sklearn-mlp", SPEEDS["cnn"])
    first = members(fill(seconds, [mlp], workers=1, predict_rows=0, curve_rows=0))[0]
    assert first.settings.averaged_epochs == averaged


CORES = [
    (2, 1, 1, (1, 2)),
    (2, 8, 1, (1, 2)),
    (2, 8.5, 1, (2, 1)),
    (2, 600, 1, (2, 1)),
    (2, 5, 2, (2, 1)),
    (2, 5, 5, (2, 1)),
    (1, 5, 1, (1, 1)),
    (3, 5, 1, (1, 3)),
    (4, 5, 1, (2, 2)),  # one net in three threads would leave a core idle
    (7, 1, 1, (2, 3)),
    (8, 5, 1, (2, 3)),  # four threads for five minutes would be too many
    (16, 1, 1, (4, 4)),
    (16, 1, 5, (5, 3)),
    (16, 5, 1, (5, 3)),
    (16, 10, 1, (16, 1)),
]


@pytest.mark.parametrize(("cores", "time", "fits", "shares"), CORES)
def test_cores_are_split_by_the_minutes_there_are(
    cores: int, time: float, fits: int, shares: tuple[int, int]
) -> None:
    assert minutes.split_cores_for_minutes([BIG], cores, 0, time, fits=fits) == shares


@pytest.mark.parametrize("time", [1, 2, 5, 8, 30])
def test_threads_of_a_net_never_exceed_their_limits(time: int) -> None:
    for cores, fits in product(range(1, 65), (1, 2, 3, 5, 10)):
        processes, threads = minutes.split_cores_for_minutes([BIG], cores, 0, time, fits=fits)
        assert processes * threads <= cores
        assert threads <= minutes.MAX_THREADS
        assert threads == 1 or threads * time <= minutes.MAX_THREAD_MINUTES


@pytest.mark.parametrize(
    ("cores", "shares"), [(1, (1, 1)), (2, (1, 1)), (3, (1, 1)), (7, (3, 1)), (16, (8, 1))]
)
def test_a_dense_net_has_one_core_to_train_and_one_to_augment(cores: int, shares: tuple[int, int]) -> None:
    dense = recipes.select(["keras-mlp", "sklearn-mlp"])
    for time in (1, 8, 60):
        assert minutes.split_cores_for_minutes(dense, cores, 0, time, fits=2) == shares


def test_each_group_of_minutes_has_the_cores_that_suit_it(
    digits: data.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A minute that ends with a dense net must not leave most cores idle, as if a convolutional one came."""
    measured = {}

    def measure_speeds(group: list[Recipe], _: object, *shares: int) -> dict[str, Speed]:
        measured[group[0].name] = shares
        return {group[0].name: SPEEDS["cnn" if group[0] is BIG else "keras-mlp"]}

    monkeypatch.setattr(minutes, "measure_speeds", measure_speeds)
    splits = make_splits(digits.train.labels, holdout=0.1, folds=None, seed=0)
    stages = make_schedule(
        [[SMALL], [BIG]], splits, digits, refit=False, minutes=1, elapsed=lambda: 0.0, cores=16, gpus=0
    ).stages
    assert measured == {"keras-mlp": (8, 1), "cnn": (4, 4)}
    shares = {(stage.members[0].recipe, stage.workers, stage.threads) for stage in stages}
    assert shares <= {("keras-mlp", 8, 1), ("cnn", 4, 4)}


@pytest.mark.parametrize(("cores", "time", "shares"), [(3, 5, (1, 3)), (2, 5, (1, 2)), (2, 15, (1, 1))])
def test_in_one_process_all_nets_have_the_same_threads(
    cores: int, time: float, shares: tuple[int, int], digits: data.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = {}

    def measure_speeds(group: list[Recipe], _: object, *shares: int) -> dict[str, Speed]:
        measured[group[0].name] = shares
        return {group[0].name: SPEEDS[group[0].name]}

    monkeypatch.setattr(minutes, "measure_speeds", measure_speeds)
    splits = make_splits(digits.train.labels, holdout=0.1, folds=None, seed=0)
    make_schedule(
        [[SMALL], [BIG]], splits, digits, refit=False, minutes=time, elapsed=lambda: 0.0, cores=cores, gpus=0
    )
    assert measured["keras-mlp"] == shares
    assert measured["cnn"] == (shares if shares[1] > 1 else (2, 1))


@pytest.mark.parametrize(
    ("cores", "fits", "shares"),
    [(2, 2, (2, 1)), (2, 10, (2, 1)), (8, 2, (2, 4)), (3, 2, (2, 1)), (4, 1, (1, 4))],
)
def test_cores_are_split_among_the_fits(cores: int, fits: int, shares: tuple[int, int]) -> None:
    assert split_cores([SMALL, BIG], cores, gpus=0, fits=fits) == shares
    assert split_cores([SMALL], cores, gpus=0, fits=fits) == (shares[0], 1)  # dense nets share no steps


@pytest.mark.parametrize(
    ("time", "recipe", "gpus", "workers", "threads"),
    [
        (None, "keras-mlp", 0, 4, 1),
        (None, "keras-mlp", 1, 1, 1),
        (None, "cnn", 1, 1, 4),
        (None, "sklearn-mlp", 1, 4, 1),
        (5, "keras-mlp", 0, 2, 1),
        (5, "keras-mlp", 2, 1, 1),
        (5, "cnn", 2, 1, 4),
        (5, "sklearn-mlp", 1, 2, 1),
    ],
)
def test_with_a_gpu_keras_fits_run_one_at_a_time(
    time: float | None, recipe: str, gpus: int, workers: int, threads: int,
    digits: data.Dataset, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def measure_speeds(group: list[Recipe], _: object, processes: int, count: int) -> dict[str, Speed]:
        assert (processes, count) == (workers, threads)  # measured as it will be fitted
        return {recipe: Speed(0, 0, 1e-3, 0, 0)}

    monkeypatch.setattr(minutes, "measure_speeds", measure_speeds)
    splits = make_splits(digits.train.labels, holdout=0.1, folds=5, seed=0)
    stages = make_schedule(
        [recipes.select([recipe])], splits, digits, refit=False, minutes=time, elapsed=lambda: 0.0,
        cores=4, gpus=gpus,
    ).stages  # fmt: skip
    assert {(stage.workers, stage.threads) for stage in stages} == {(workers, threads)}


def test_a_short_first_stage_gives_an_early_submission() -> None:
    quick, main = fill(400, [SMALL], [BIG]).stages
    assert ([member.name for member in quick.members], quick.seconds_per_fit) == (
        ["keras-mlp-1", "keras-mlp-2"],
        50,
    )
    assert ([member.name for member in main.members], main.seconds_per_fit) == (["cnn-1", "cnn-2"], 350)
    quick, *mains = fill(36_000, [SMALL], [BIG]).stages
    assert quick.seconds_per_fit == 60
    assert sum(stage.seconds_per_fit for stage in mains) == pytest.approx(36_000 - 60)


def test_without_time_for_an_epoch_there_is_no_first_stage() -> None:
    (main,) = fill(12, [SMALL], [BIG]).stages
    assert ([member.name for member in main.members], main.seconds_per_fit) == (["cnn-1", "cnn-2"], 12)
    assert len(fill(20, [SMALL], [BIG]).stages) == 2


def test_quick_members_count_until_there_are_better_ones() -> None:
    schedule = fill(400, [SMALL], [BIG])
    quick, main = (stage.members for stage in schedule.stages)
    assert schedule.best_members([]) == []
    assert schedule.best_members([member.name for member in quick]) == list(quick)
    assert schedule.best_members(["keras-mlp-1", "keras-mlp-2", "cnn-2"]) == [main[1]]


def test_deadlines_follow_each_other_and_leave_time_to_predict() -> None:
    (stage,) = fill(300).stages
    tasks = Schedule(stages=(stage,)).tasks(HOLDOUT, refit=True, seed=0)  # four fits, two at a time
    with_deadlines, end = stage.with_deadlines(tasks, 1000.0)
    predicting = 5 * PREDICT_MARGIN
    assert [task.deadline for task in with_deadlines] == [1300 - predicting] * 2 + [1600 - predicting] * 2
    assert [task.name for task in with_deadlines] == [task.name for task in tasks]
    assert end == 1600


def test_a_stages_deadlines_follow_those_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule.stages.time, "time", lambda: 1000.0)
    staged = fill(400, [SMALL], [BIG])
    quick, main = 50 - 0.1 * PREDICT_MARGIN, 400 - 5 * PREDICT_MARGIN
    deadlines = timed(staged, 1000.0)
    assert [name for name, _ in deadlines] == [f"{name} holdout" for name in names(staged)]
    assert [deadline for _, deadline in deadlines] == pytest.approx([quick, quick, main, main])
    # of a resumed run, which does not repeat the finished ones
    assert timed(staged, 1000.0, finished=("keras-mlp-1 holdout",)) == deadlines[1:]
    (last,) = timed(staged, 1000.0, finished=tuple(name for name, _ in deadlines[:3]))
    assert last == ("cnn-2 holdout", pytest.approx(main - 50))


def test_a_schedule_comes_back_from_its_file(tmp_path: Path) -> None:
    before = fill(900, [SMALL], [BIG])
    records.write(tmp_path / "schedule.json", before)
    assert records.read(tmp_path / "schedule.json", Schedule) == before


def test_the_schedule_is_described_in_words() -> None:
    assert list(fill(400, [SMALL], [BIG]).describe()) == [
        "Fits of 50 s, 2 at a time in 1 thread each:",
        "  2 keras-mlp, about 57 epochs",
        "Fits of 350 s, 2 at a time in 1 thread each:",
        "  2 cnn, about 16 epochs",
    ]


def test_without_minutes_there_is_one_stage_and_nothing_to_say(digits: data.Dataset) -> None:
    splits = make_splits(digits.train.labels, holdout=0.1, folds=3, seed=0)
    plain = make_schedule(
        [[SMALL, BIG]], splits, digits, refit=True, minutes=None, elapsed=lambda: 0.0, cores=2, gpus=0
    )
    assert len(plain.stages) == 1
    assert names(plain) == ["keras-mlp", "cnn"]
    assert len(plain.tasks(splits, refit=True, seed=0)) == 8
    assert {deadline for _, deadline in timed(plain, 0.0)} == {None}
    assert list(plain.describe()) == []


QUICKER = {"keras-mlp": 40, "cnn-small": 3, "cnn": 1, "cnn-deskewed": 1}


def scheduled(
    digits: data.Dataset, monkeypatch: pytest.MonkeyPatch, row: float, time: float = 1
) -> tuple[Schedule, list[str]]:
    """Return what fills the time if a row of `cnn` takes `row` seconds, and which recipes were measured."""
    measured: list[str] = []

    def measure_speeds(group: list[Recipe], *_: object) -> dict[str, Speed]:
        measured.extend(recipe.name for recipe in group)
        return {recipe.name: Speed(1, 0, row / QUICKER[recipe.name], 0, 0) for recipe in group}

    monkeypatch.setattr(minutes, "measure_speeds", measure_speeds)
    monkeypatch.setattr(recipes, "CONVOLUTIONS_FROM_MINUTES", 0)
    splits = make_splits(digits.train.labels, holdout=0.1, folds=None, seed=0)
    groups = [recipes.select(group) for group in recipes.for_minutes(time)]
    filled = make_schedule(
        groups, splits, digits, refit=False, minutes=time, elapsed=lambda: 1.0, cores=2, gpus=0
    )
    return filled, measured


def test_convolutional_nets_come_from_2_minutes_on() -> None:
    assert recipes.for_minutes(1.9) == (("keras-mlp",),)
    assert recipes.for_minutes(2) == (("keras-mlp",), ("cnn-small",), ("cnn",))


def test_a_dense_net_has_one_thread_if_no_convolutions_can_follow(
    digits: data.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    speeds = {"keras-mlp": Speed(0, 0, 1e-4, 0, 0)}
    monkeypatch.setattr(minutes, "measure_speeds", lambda *_: speeds)
    splits = make_splits(digits.train.labels, holdout=0.1, folds=None, seed=0)
    stages = make_schedule(
        [[SMALL]], splits, digits, refit=False, minutes=1, elapsed=lambda: 0.0, cores=2, gpus=0
    ).stages
    assert {(stage.workers, stage.threads) for stage in stages} == {(1, 1)}


def test_from_15_minutes_on_every_second_net_sees_deskewed_digits(
    digits: data.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def later(time: float) -> list[str]:
        filled, _ = scheduled(digits, monkeypatch, 0.01, time)
        return [member.name for stage in filled.stages if stage.group for member in stage.members]

    assert set(later(14)) == {"cnn-1", "cnn-2", "cnn-3", "cnn-4"}
    assert later(15)[:4] == ["cnn-1", "cnn-deskewed-1", "cnn-2", "cnn-deskewed-2"]


@pytest.mark.parametrize(
    ("row", "fitted", "too_slow"),
    [
        (1e-5, "cnn-1", []),
        (0.02, "cnn-small-1", []),
        (0.04, "cnn-small-1", ["cnn"]),
        (0.1, "keras-mlp-1", ["cnn-small", "cnn"]),
        (0.2, "keras-mlp-1", ["cnn-small", "cnn"]),
        (0.5, "keras-mlp-1", ["cnn-small", "cnn"]),
    ],
)
def test_a_quicker_machine_fits_better_nets(
    row: float, fitted: str, too_slow: list[str], digits: data.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled, measured = scheduled(digits, monkeypatch, row)
    assert measured + too_slow == ["keras-mlp", "cnn-small", "cnn"]
    later = [member.name for stage in filled.stages if stage.group for member in stage.members]
    assert later[0] == fitted
    assert names(filled)[0] == "keras-mlp-1"


def test_where_convolutions_are_slow_the_quick_net_has_all_the_time(
    digits: data.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(QUICKER, "cnn-small", 1.0)
    filled, measured = scheduled(digits, monkeypatch, row=0.04)
    assert measured == ["keras-mlp", "cnn-small"]
    (main,) = filled.stages
    assert {member.recipe for member in main.members} == {"keras-mlp"}


def test_a_machine_too_slow_for_an_epoch_raises_recipe_error(
    digits: data.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(minutes, "MEMBER_SECONDS", 1e-3)
    with pytest.raises(RecipeError, match=r"--minutes: 5\d s are left for each fit, not enough"):
        scheduled(digits, monkeypatch, row=5.0)


def test_a_quick_net_is_timed_on_more_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []

    def measure(_: object, arguments: list[tuple[object, data.Digits, int]], **__: int) -> list[list[object]]:
        rows.extend(len(few) for _, few, _ in arguments)
        return [[(0.0,) * 5] for _ in arguments]

    monkeypatch.setattr(speed, "run_on_each", measure)
    blank = data.Digits(np.zeros((10_000, data.PIXELS), np.uint8), np.zeros(10_000, np.int64))
    wide, many_steps = (
        recipes.select(["keras-mlp"], option)[0] for option in ({"hidden": [4096, 4096]}, {"batch_size": 1})
    )
    speed.measure_speeds([BIG, SMALL, wide, many_steps], blank, 1, 1)
    assert rows == [speed.FEW_ROWS, speed.MANY_ROWS, speed.FEW_ROWS, speed.FEW_ROWS]


def test_no_memory_for_measuring_is_one_line(digits: data.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_out(*_: object, **__: object) -> list[list[object]]:
        raise MemoryError

    monkeypatch.setattr(speed, "run_on_each", run_out)
    with pytest.raises(RunError, match="out of memory while the speed of the nets is measured"):
        speed.measure_speeds([SMALL], digits.train, 1, 1)
