"""What is fitted when, on which cores: no net is trained here, and the clock is the tests' own."""

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from math import ceil
from typing import Any
from unittest import mock

import numpy as np
import pytest
from conftest import TRAIN, Clock

from digit_recognizer import recipes, schedule, training
from digit_recognizer.data import Dataset
from digit_recognizer.errors import OptionError, RunError
from digit_recognizer.nets.progress import Budget
from digit_recognizer.schedule import BLEND_SECONDS, END_SECONDS, Member, Schedule, Tier, fill_minutes
from digit_recognizer.settings import Settings
from digit_recognizer.splits import Split, make_splits
from digit_recognizer.training import Cost, Machine
from digit_recognizer.training.machine import MAX_THREAD_MINUTES, MAX_THREADS

CNN, DENSE, SKLEARN = (recipes.RECIPES[name].settings for name in ("cnn", "keras-mlp", "sklearn-mlp"))
QUICK, BEST = ("keras-mlp",), ("cnn",)
# Seconds of an epoch and of the predictions, of 20 epochs for `cnn` and 90 for `keras-mlp`.
COSTS = {"keras-mlp": Cost(0.5, 0.5), "cnn-small": Cost(5, 4), "cnn": Cost(20, 15)}
COSTS["cnn-deskewed"] = COSTS["cnn"]
Fill = Callable[..., Schedule]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """Let measuring tell COSTS; return a list that gets each recipe with its workers and threads."""
    seen: list[tuple[str, int, int]] = []
    names = {recipes.RECIPES[name].settings: name for name in COSTS}

    def measure(nets: Sequence[Settings], *_: object, refit: bool, workers: int, threads: int) -> list[Cost]:
        seen.extend((names[settings], workers, threads) for settings in nets)
        return [COSTS[names[settings]] for settings in nets]

    monkeypatch.setattr(training, "measure", measure)
    monkeypatch.setattr(training, "import_libraries", lambda *_, **__: None)
    return seen


@pytest.fixture
def fill(digits: Dataset, measured: object) -> Fill:
    """Return a function that fills a time with recipes, by default on two cores."""

    def fill(
        *tiers: tuple[str, ...],
        minutes: float,
        cores: int = 2,
        folds: int | None = None,
        refit: bool = False,
        elapsed: Callable[[], float] = lambda: 0.0,
        on_notice: Callable[[str], object] = lambda _: None,
    ) -> Schedule:
        splits = make_splits(digits.train.labels, holdout=0.1, folds=folds, seed=0)
        return fill_minutes(
            [recipes.select(tier) for tier in tiers], splits, digits, refit=refit,
            machine=Machine(cores, 0, None), minutes=minutes, elapsed=elapsed, on_notice=on_notice,
        )  # fmt: skip

    return fill


def names(filled: Schedule) -> list[str]:
    return [member.name for member in filled.members]


def seconds(tier: Tier) -> float:
    (seconds,) = {member.budget.seconds for member in tier.members}
    return seconds


def end(members: int, rows: int = TRAIN // 10) -> float:
    """Return the seconds that are kept for what comes after the fits."""
    return END_SECONDS + members * rows * BLEND_SECONDS


def total(filled: Schedule, fits: int = 1) -> float:
    """Return the seconds of all rounds."""
    return sum(seconds(tier) * ceil(len(tier.members) * fits / tier.workers) for tier in filled.tiers)


@pytest.mark.parametrize(
    ("minutes", "rounds"), [(9, 1), (15, 1), (27, 1), (30, 2), (60, 2), (100, 3), (230, 4), (600, 5)]
)
def test_more_time_gives_longer_trainings_and_then_more_nets(fill: Fill, minutes: int, rounds: int) -> None:
    filled = fill(BEST, minutes=minutes)
    (tier,) = filled.tiers
    assert names(filled) == [f"cnn-{number + 1}" for number in range(2 * rounds)]
    assert (tier.workers, tier.threads) == (2, 1)
    assert total(filled) == pytest.approx(minutes * 60 - end(2 * rounds))
    assert rounds == 1 or (seconds(tier) - 15) / 20 / CNN.epochs >= schedule.MIN_EPOCHS_SHARE * rounds**2
    assert tier.members[0].budget == Budget(seconds=seconds(tier), epoch=20, predict=15)
    assert tier.members[0].settings == CNN  # its epochs are no matter
    assert len(fill(QUICK, minutes=600).members) == schedule.MAX_TIMES_ROUNDS


@pytest.mark.parametrize(
    ("options", "members"),
    [
        ({"folds": 5, "minutes": 15}, ["cnn-1"]),  # three rounds on two cores
        ({"folds": 5, "refit": True, "cores": 1, "minutes": 40}, ["cnn-1"]),
        ({"folds": 5, "refit": True, "cores": 1, "minutes": 190}, ["cnn-1", "cnn-2"]),
        ({"refit": True, "cores": 8, "minutes": 30}, [f"cnn-{n}" for n in range(1, 9)]),
    ],
)  # fmt: skip
def test_every_member_is_fitted_on_every_fold(
    fill: Fill, options: dict[str, Any], members: list[str]
) -> None:
    filled = fill(BEST, **options)
    assert names(filled) == members
    fits = options.get("folds", 1) + options.get("refit", False)
    rows = TRAIN if "folds" in options else TRAIN // 10
    assert total(filled, fits) == pytest.approx(options["minutes"] * 60 - end(len(members), rows))


def test_each_recipe_that_the_user_names_gets_a_net_in_turn(fill: Fill) -> None:
    both = ("cnn", "keras-mlp")
    for options in ({"minutes": 9}, {"minutes": 9, "folds": 5, "cores": 1}):
        assert names(fill(both, **options)) == ["cnn-1", "keras-mlp-1"]
    assert names(fill(both, minutes=60)) == ["cnn-1", "keras-mlp-1", "cnn-2", "keras-mlp-2"]


@pytest.mark.parametrize(
    ("cnn", "small", "chosen", "seen"),
    [
        (1, 0.5, "cnn", ["keras-mlp", "cnn-small", "cnn"]),
        (8, 2, "cnn", ["keras-mlp", "cnn-small", "cnn"]),
        (25, 2, "cnn-small", ["keras-mlp", "cnn-small", "cnn"]),
        (25, 30, "cnn-small", ["keras-mlp", "cnn-small"]),
        (100, 60, None, ["keras-mlp", "cnn-small"]),
    ],
)
def test_the_best_recipe_with_time_for_half_of_its_epochs_fills_the_time(
    fill: Fill, measured: list[tuple[str, int, int]], monkeypatch: pytest.MonkeyPatch,
    cnn: float, small: float, chosen: str | None, seen: list[str],
) -> None:  # fmt: skip
    monkeypatch.setitem(COSTS, "cnn", Cost(cnn, 1))
    monkeypatch.setitem(COSTS, "cnn-small", Cost(small, 1))
    filled = fill(*recipes.for_minutes(4), minutes=4)
    assert [name for name, _, _ in measured] == seen
    tiers = [{member.recipe for member in tier.members} for tier in filled.tiers]
    assert tiers == [{"keras-mlp"}, *([{chosen}] if chosen else [])]


def test_a_quick_tier_gives_an_early_submission(fill: Fill) -> None:
    quick, main = fill(QUICK, BEST, minutes=10).tiers
    assert (quick.members[0].name, main.members[0].name) == ("keras-mlp-1", "cnn-1")
    assert seconds(quick) == pytest.approx(60, abs=0.1)
    left = 600 - end(len(quick.members) + len(main.members))
    assert total(Schedule(tiers=(quick, main))) == pytest.approx(left)
    quick, _ = fill(QUICK, ("cnn-small",), minutes=2).tiers
    assert seconds(quick) == pytest.approx((120 - END_SECONDS) / 8, abs=0.1)


def test_without_time_to_train_there_is_no_quick_tier(fill: Fill, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COSTS, "keras-mlp", Cost(0.5, 20))
    (tier,) = fill(QUICK, ("cnn-small",), minutes=2).tiers
    assert tier.members[0].recipe == "cnn-small"


def test_the_minutes_decide_which_recipes_there_are(fill: Fill) -> None:
    assert recipes.for_minutes(1.9) == (QUICK,)
    assert recipes.for_minutes(2) == (QUICK, ("cnn-small",), BEST)
    _, fourteen = fill(*recipes.for_minutes(14), minutes=14).tiers
    assert {member.recipe for member in fourteen.members} == {"cnn"}
    _, fifteen = fill(*recipes.for_minutes(15), minutes=15).tiers
    assert [member.name for member in fifteen.members] == ["cnn-1", "cnn-deskewed-1"]


def test_a_recipe_without_time_to_train_raises_recipe_error(fill: Fill) -> None:
    with pytest.raises(OptionError, match=r"--minutes: 14 s are left for each fit, not enough to train"):
        fill(BEST, minutes=0.25)
    with pytest.raises(OptionError, match="--minutes: 0 s are left for each fit"):
        fill(QUICK, minutes=0.5, elapsed=lambda: 40.0)  # measuring took longer than there was time


@pytest.mark.parametrize(("named", "rounds"), [((), 1), (("keras-mlp", "softmax"), 2)])
def test_a_machine_too_busy_to_measure_fits_the_quick_nets_at_once(
    fill: Fill, measured: list[object], named: tuple[str, ...], rounds: int
) -> None:
    tiers = [named] if named else recipes.for_minutes(2)
    notices: list[str] = []
    (tier,) = fill(*tiers, minutes=0.5, cores=1, elapsed=lambda: 16.0, on_notice=notices.append).tiers
    (line,) = notices
    assert line.startswith("The machine is so busy that no net could be measured; if it stays so, give more")
    assert [member.recipe for member in tier.members] == list(named or QUICK)
    assert not measured
    budget = tier.members[0].budget
    assert budget.seconds == pytest.approx((14 - END_SECONDS) / rounds, abs=0.01)
    assert budget.epoch == budget.predict == pytest.approx(budget.seconds / 4, abs=0.01)


def test_little_time_for_a_recipes_epochs_is_told(fill: Fill) -> None:
    notices: list[str] = []
    fill(QUICK, minutes=0.5, elapsed=lambda: 12.0, on_notice=notices.append)  # 17 s, of 45 s for all epochs
    (line,) = notices
    assert line.startswith("This machine has time for about 37% of a recipe's epochs now; give more minutes")
    fill(QUICK, minutes=0.5, elapsed=lambda: 5.0, on_notice=pytest.fail)


def test_a_machine_that_takes_long_to_measure_tries_no_better_recipe(
    fill: Fill, measured: list[tuple[str, int, int]]
) -> None:
    """Else all of the time would go by, and the quick nets' with it."""
    filled = fill(*recipes.for_minutes(2), minutes=2, elapsed=lambda: 20.0 * (1 + len(measured)))
    assert [name for name, _, _ in measured] == ["keras-mlp", "cnn-small"][: len(measured)]
    assert names(filled)
    assert total(filled) <= 120 - END_SECONDS - 20 * (1 + len(measured))


# Rounds, and what is left of the time.


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(schedule, "time", clock := Clock())
    return clock


HOLDOUT = [Split("holdout", np.arange(9), np.arange(1))]
Fits = list[tuple[str, float | None]]


def make_tier(recipe: str, count: int, seconds: float | None, workers: int = 2) -> Tier:
    budget = None if seconds is None else Budget(seconds=seconds, epoch=0.5, predict=1)
    settings = recipes.RECIPES[recipe].settings
    members = tuple(
        Member(name=f"{recipe}-{number}", recipe=recipe, settings=settings, budget=budget)
        for number in range(1, count + 1)
    )
    return Tier(members=members, workers=workers, threads=1)


TWO_TIERS = Schedule(tiers=(make_tier("keras-mlp", 2, 50), make_tier("cnn", 4, 175)))


def rounds_of(planned: Schedule, finished: Sequence[str] = ()) -> Iterator[Fits]:
    """Yield the fits of each round with their seconds."""
    tasks = planned.tasks(HOLDOUT, refit=False, seed=0)
    for _, fits in planned.budgeted_rounds([task for task in tasks if task.model not in finished]):
        yield [(task.model, task.budget and task.budget.seconds) for task in fits]


@pytest.mark.parametrize(
    ("first", "second"), [(50, 175), (60, 190), (30, 100), (390, 3), (395, 20), (4000, 7)]
)
def test_rounds_share_what_is_left(clock: Clock, first: float, second: float) -> None:
    """A round may take longer than planned, or end early as its fits fail; then the run is written."""
    rounds = rounds_of(TWO_TIERS)
    assert next(rounds) == [("keras-mlp-1", 50), ("keras-mlp-2", 50)]
    clock.now += first
    left = max(1e-3, 400 - first)
    assert next(rounds) == [("cnn-1", pytest.approx(left / 2)), ("cnn-2", pytest.approx(left / 2))]
    clock.now += second
    left = max(1e-3, 400 - first - second)
    assert next(rounds) == [("cnn-3", pytest.approx(left)), ("cnn-4", pytest.approx(left))]
    assert next(rounds, None) is None


def test_a_resumed_run_takes_the_time_of_the_rounds_it_has_left(clock: Clock) -> None:
    rounds = rounds_of(TWO_TIERS, finished=("keras-mlp-1", "cnn-1", "cnn-2", "cnn-3"))
    assert next(rounds) == [("keras-mlp-2", 50)]
    clock.now += 60
    assert list(rounds) == [[("cnn-4", 165)]]


def test_workers_that_join_or_leave_change_the_rounds_that_are_left(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = 2
    monkeypatch.setattr(training, "workers_now", lambda planned: workers)
    planned = Schedule(tiers=(make_tier("cnn", 12, 100),))  # for 600 s
    rounds = rounds_of(planned)
    assert [seconds for _, seconds in next(rounds)] == [100, 100]
    clock.now += 120
    workers = 5
    assert [seconds for _, seconds in next(rounds)] == [240] * 5  # of two rounds
    clock.now += 240
    workers = 1
    assert [seconds for _, seconds in next(rounds)] == [48]  # of five
    clock.now += 48
    workers = 4
    assert [seconds for _, seconds in next(rounds)] == [192] * 4
    assert list(rounds) == []


def test_a_resumed_run_takes_no_more_workers_than_the_machine_has() -> None:
    one = [(1, tier.members) for tier in TWO_TIERS.tiers]
    assert [(tier.workers, tier.members) for tier in TWO_TIERS.limited_to(1).tiers] == one
    assert TWO_TIERS.limited_to(16) == TWO_TIERS


def test_folds_fill_rounds_across_members(clock: Clock) -> None:
    splits = [Split(f"fold {n}", np.arange(9), np.arange(1)) for n in (1, 2, 3)]
    planned = Schedule(tiers=(make_tier("cnn", 2, 10),))
    rounds = [fits for _, fits in planned.budgeted_rounds(planned.tasks(splits, refit=False, seed=0))]
    assert [[task.name for task in fits] for fits in rounds] == [
        ["cnn-1 fold 1", "cnn-1 fold 2"], ["cnn-1 fold 3", "cnn-2 fold 1"], ["cnn-2 fold 2", "cnn-2 fold 3"],
    ]  # fmt: skip
    fitted = {(task.recipe, task.threads, task.settings) for fits in rounds for task in fits}
    assert fitted == {("cnn", 1, CNN)}


def test_a_schedule_is_described_in_words_and_without_minutes_it_is_one_round() -> None:
    planned = Schedule(tiers=(make_tier("cnn", 5, None),))
    assert list(rounds_of(planned)) == [[(f"cnn-{n}", None) for n in range(1, 6)]]
    assert list(rounds_of(planned, finished=[member.name for member in planned.members])) == []
    assert list(planned.describe()) == []
    assert list(TWO_TIERS.describe()) == [
        "Fits of 50 s, 2 at a time: 2 keras-mlp",
        "Fits of 175 s, 2 at a time: 4 cnn",
    ]


def test_quick_members_count_until_there_are_better_ones() -> None:
    quick, main = (tier.members for tier in TWO_TIERS.tiers)
    assert TWO_TIERS.best_members([]) == []
    assert TWO_TIERS.best_members([member.name for member in quick]) == list(quick)
    assert TWO_TIERS.best_members(["keras-mlp-1", "keras-mlp-2", "cnn-2"]) == [main[1]]
    assert TWO_TIERS.members_left(["keras-mlp-1"]) == [*quick, *main]
    assert TWO_TIERS.members_left(["cnn-2"]) == list(main)


# Cores.


@pytest.mark.parametrize(
    ("settings", "cores", "minutes", "fits", "shares"),
    [
        (CNN, 2, 8, 1, (1, 2)),
        (CNN, 2, 8.5, 1, (2, 1)),
        (CNN, 2, 5, 2, (2, 1)),
        (CNN, 3, 5, 1, (1, 3)),
        (CNN, 4, 5, 1, (2, 2)),  # one net in three threads would leave a core idle
        (CNN, 8, 5, 1, (2, 3)),  # four threads for five minutes would be too many
        (CNN, 16, 1, 1, (4, 4)),
        (CNN, 16, 1, 5, (5, 3)),
        (CNN, 16, 10, 1, (16, 1)),
        (DENSE, 1, 5, 1, (1, 1)),  # one core to train and one to augment
        (DENSE, 7, 60, 2, (3, 1)),
        (SKLEARN, 16, 1, 1, (8, 1)),
        (CNN, 8, None, 2, (2, 4)),
        (CNN, 3, None, 2, (2, 1)),
        (DENSE, 8, None, 2, (2, 1)),  # dense nets share no steps
        (SKLEARN, 2, None, 10, (2, 1)),
    ],
)
@pytest.mark.parametrize("gpus", [0, 2])
def test_cores_are_shared_by_the_fits_and_minutes_there_are(
    settings: Settings, cores: int, minutes: float | None, fits: int, shares: tuple[int, int], gpus: int
) -> None:
    if gpus and settings.net == "keras":  # one at a time
        shares = 1, cores if settings.is_convolutional else 1
    assert Machine(cores, gpus, None).split_cores([settings], fits=fits, minutes=minutes) == shares


@pytest.mark.parametrize("time", [1, 2, 5, 8, 30])
def test_threads_of_a_net_never_exceed_their_limits(time: int) -> None:
    for cores, fits in product(range(1, 65), (1, 2, 3, 5, 10)):
        processes, threads = Machine(cores, 0, None).split_cores([CNN], fits=fits, minutes=time)
        assert processes * threads <= cores
        assert threads <= MAX_THREADS
        assert threads == 1 or threads * time <= MAX_THREAD_MINUTES


@pytest.mark.parametrize(
    ("cores", "minutes", "quick", "best"),
    [
        (16, 1, (8, 1), (4, 4)),  # each tier has the cores that suit it
        (3, 5, (1, 3), (1, 3)),  # in one process, all nets have the same threads
        (2, 5, (1, 2), (1, 2)),
        (2, 15, (1, 1), (2, 1)),
    ],
)
def test_each_tier_is_measured_and_fitted_on_the_cores_that_suit_it(
    fill: Fill, measured: list[tuple[str, int, int]], monkeypatch: pytest.MonkeyPatch,
    cores: int, minutes: float, quick: tuple[int, int], best: tuple[int, int],
) -> None:  # fmt: skip
    monkeypatch.setitem(COSTS, "cnn", Cost(1, 1))
    filled = fill(QUICK, BEST, minutes=minutes, cores=cores)
    assert measured == [("keras-mlp", *quick), ("cnn", *best)]
    assert [(tier.workers, tier.threads) for tier in filled.tiers] == [quick, best]
    tasks = filled.tasks(HOLDOUT, refit=False, seed=0)
    assert {task.threads for task in tasks if task.recipe == "cnn"} == {best[1]}


@pytest.mark.parametrize(
    ("minutes", "fits", "shares"), [(1, 1, (4, 1)), (None, 3, (3, 1)), (None, 9, (4, 1))]
)
def test_a_fit_on_a_cluster_has_a_worker(minutes: float | None, fits: int, shares: tuple[int, int]) -> None:
    for settings in (CNN, DENSE):
        machine = Machine(4, 0, None, cluster=True)
        assert machine.split_cores([settings], fits=fits, minutes=minutes) == shares


@pytest.mark.parametrize("gpus", [0, 1])
@pytest.mark.parametrize("fast", [False, True])
def test_bfloat16_is_decided_once_for_all_fits(
    monkeypatch: pytest.MonkeyPatch, gpus: int, fast: bool
) -> None:
    monkeypatch.setattr(training.machine, "gpu_count", lambda: gpus)
    monkeypatch.setattr("digit_recognizer.nets.keras_net.cpu_computes_bfloat16", lambda: fast)
    machine = Machine.look([CNN, DENSE], jobs=3)
    assert machine == Machine(3, gpus, fast and not gpus)
    assert machine.adapt(CNN).bfloat16 is machine.bfloat16
    assert (machine.adapt(DENSE), machine.adapt(SKLEARN)) == (DENSE, SKLEARN)
    assert Machine.look([DENSE], jobs=1) == Machine(1, gpus, None)
    assert Machine.look([SKLEARN], jobs=1) == Machine(1, 0, None)


# Measuring.


@pytest.fixture
def measure(digits: Dataset) -> Callable[..., list[Cost]]:
    return lambda settings, *, refit=False, workers=1: training.measure(
        [settings], TRAIN // 10, digits, refit=refit, workers=workers, threads=1
    )


def test_measuring_tells_seconds_of_an_epoch_and_of_the_predictions(
    measure: Callable[..., list[Cost]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slowest process counts."""
    monkeypatch.setattr(training.machine, "map_on_workers", lambda *_, **__: [[(1e-3, 1e-2), (2e-3, 1e-3)]])
    rows = 2 * 60 + training.CURVE_ROWS + 150
    assert measure(DENSE) == [pytest.approx((0.002 * 540, 0.01 * rows))]
    assert measure(DENSE, refit=True) == [pytest.approx((0.002 * 600, 0.01 * rows))]


def test_no_memory_for_measuring_is_one_line(
    measure: Callable[..., list[Cost]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.machine, "map_on_workers", mock.Mock(side_effect=MemoryError))
    with pytest.raises(RunError, match="out of memory while the speed of the nets is measured"):
        measure(SKLEARN)
