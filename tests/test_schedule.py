import json
from types import SimpleNamespace

import pytest

from digit_recognizer import data, pipeline, recipes, splits, training
from digit_recognizer import schedule as planner
from digit_recognizer.errors import RecipeError
from digit_recognizer.recipes import Recipe
from digit_recognizer.schedule import Schedule, Stage
from digit_recognizer.training import Fit, Speed

BIG, SMALL = recipes.choose(["cnn", "keras-mlp"], ["epochs=20"])
# A big net takes 20 s for a pass of 40,000 rows, a small one 0.8 s.
SPEEDS = {
    "cnn": Speed(start=2, prepare=0.0, row=20 / 40_000, predict=5 / 10_000, glance=1 / 10_000),
    "keras-mlp": Speed(start=1, prepare=0.0, row=0.8 / 40_000, predict=0.1 / 10_000, glance=0.1 / 10_000),
}


@pytest.fixture(autouse=True)
def writing_takes_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "WRITING_EACH", 0.0)


USUAL = {"least": 1, "parts": 1, "workers": 2, "rows": 40_000, "predicted": 10_000, "watched": 5_000}


def plan(seconds: float, pool: tuple = (BIG,), **others: int) -> Stage:
    """The only stage of a schedule for one group of recipes."""
    (stage,) = planner.plan([(pool, SPEEDS)], seconds=seconds, **{**USUAL, **others}).stages
    return stage


def staged(seconds: float) -> Schedule:
    """A schedule with a quick group before the last one."""
    return planner.plan([([SMALL], SPEEDS), ([BIG], SPEEDS)], seconds=seconds, **USUAL)


def names(plan: Stage | Schedule) -> list[str]:
    return [member.name for member in plan.members]


def test_passes_fill_the_slot_and_no_more() -> None:
    only = plan(300)
    (first, _) = only.members
    used = 2 + 5 * planner.CAUTION + first.settings.epochs * (20 + 0.5)
    assert (only.rounds, only.slot) == (1, 300)
    assert names(only) == ["cnn-1", "cnn-2"]
    assert only.share == first.settings.epochs / BIG.settings.epochs
    assert 300 - 20.5 < used <= 300
    assert only.predicting["cnn-1"] == 5 * planner.CAUTION


def test_more_time_gives_more_nets_and_longer_ones() -> None:
    for minutes, rounds in ((5, 1), (15, 1), (29, 2), (60, 2), (100, 3), (230, 4), (600, 5)):
        longer = plan(minutes * 60)
        assert longer.rounds == rounds
        assert len(longer.members) == 2 * rounds
        assert longer.slot == minutes * 60 / rounds
        assert rounds == 1 or longer.share >= planner.ENOUGH * rounds**2


def test_recipes_take_turns() -> None:
    assert names(plan(2000, (BIG, SMALL))) == ["cnn-1", "keras-mlp-1", "cnn-2", "keras-mlp-2"]


def test_every_member_is_fitted_on_every_part() -> None:
    folded = plan(900, parts=5)  # five fits on two workers: three rounds
    assert (names(folded), folded.rounds, folded.slot) == (["cnn-1"], 3, 300)
    full = plan(900, (BIG, SMALL), least=3)  # the second core is not left idle
    assert (len(full.members), full.rounds) == (4, 2)
    many = plan(2000, parts=2, workers=8)
    assert len(many.members) == 8
    assert many.rounds == 2


def test_each_recipe_that_was_named_gets_a_member() -> None:
    assert names(plan(900, (BIG, SMALL), parts=5, least=2)) == ["cnn-1", "keras-mlp-1"]
    assert names(plan(900, (BIG, SMALL), workers=1, least=2)) == ["cnn-1", "keras-mlp-1"]


def test_each_member_takes_its_time_to_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "WRITING_EACH", 10.0)
    assert plan(300).slot == 280


def test_not_one_pass_is_told() -> None:
    assert plan(20).share == 0
    assert plan(40).share == 1 / 20


def test_few_passes_average_fewer() -> None:
    (mlp,) = recipes.choose(["sklearn-mlp"], ["epochs=40", "averaged=12"])
    speeds = {"sklearn-mlp": SPEEDS["cnn"]}
    usual = {"least": 1, "parts": 1, "workers": 1, "rows": 40_000, "predicted": 0, "watched": 0}
    for seconds, averaged in ((220, 3), (410, 6), (20_000, 12)):
        first = planner.plan([([mlp], speeds)], seconds=seconds, **usual).members[0]
        assert first.settings.averaged == averaged


@pytest.mark.parametrize(
    ("jobs", "minutes", "fits", "shared"),
    [
        (2, 1, 1, (1, 2)),
        (2, 8, 1, (1, 2)),
        (2, 8.5, 1, (2, 1)),
        (2, 600, 1, (2, 1)),
        (2, 5, 2, (2, 1)),
        (2, 5, 5, (2, 1)),
        (1, 5, 1, (1, 1)),
        (3, 8, 1, (1, 3)),
        (7, 1, 1, (1, 7)),
        (8, 5, 1, (2, 4)),
        (16, 1, 1, (4, 4)),
        (16, 1, 5, (5, 3)),
        (16, 5, 1, (5, 3)),
        (16, 10, 1, (16, 1)),
    ],
)
def test_cores_are_shared_by_the_time_there_is(
    jobs: int, minutes: float, fits: int, shared: tuple[int, int]
) -> None:
    assert planner.share_cores(jobs, minutes, [SMALL, BIG], fits) == shared


def test_dense_nets_share_no_core() -> None:
    assert planner.share_cores(8, 1, recipes.choose(["keras-mlp", "sklearn-mlp"]), 2) == (8, 1)


def test_the_first_nets_are_finished_soon() -> None:
    quick, main = staged(400).stages
    assert (names(quick), quick.rounds, quick.slot) == (["keras-mlp-1", "keras-mlp-2"], 1, 50)
    assert (names(main), main.rounds, main.slot) == (["cnn-1", "cnn-2"], 1, 350)
    quick, main = staged(36_000).stages
    assert quick.rounds * quick.slot == 60
    assert main.rounds * main.slot == 36_000 - 60
    assert staged(400).members == [*staged(400).stages[0].members, *staged(400).stages[1].members]


def test_without_time_for_an_epoch_there_are_no_quick_nets() -> None:
    (main,) = staged(12).stages
    assert (names(main), main.slot) == (["cnn-1", "cnn-2"], 12)
    assert len(staged(20).stages) == 2


def test_the_quick_nets_count_until_there_are_better_ones() -> None:
    schedule = staged(400)
    quick, main = (stage.members for stage in schedule.stages)
    assert schedule.best([]) == []
    assert schedule.best(quick) == quick
    assert schedule.best([*quick, main[1]]) == [main[1]]


def test_deadlines_follow_each_other_and_leave_time_to_predict() -> None:
    twice = planner.plan([([BIG], SPEEDS)], seconds=2000, **USUAL)
    part = splits.Part("holdout", None, None)
    fits = [Fit(member, part, seed=0) for member in twice.members]
    timed = twice.deadlines(fits, workers=2, now=1000.0)
    predicting = 5 * planner.CAUTION
    assert [fit.until for fit in timed] == [2000 - predicting] * 2 + [3000 - predicting] * 2
    assert [fit.name for fit in timed] == [fit.name for fit in fits]


def test_a_stages_deadlines_follow_those_before_it() -> None:
    schedule = staged(400)
    part = splits.Part("holdout", None, None)
    fits = [Fit(member, part, seed=0) for member in schedule.members]
    quick, main = 0.1 * planner.CAUTION, 5 * planner.CAUTION
    untils = [fit.until for fit in schedule.deadlines(fits, workers=2, now=1000.0)]
    assert untils == [1050 - quick] * 2 + [1400 - main] * 2
    rest = [fit.until for fit in schedule.deadlines(fits[1:], workers=2, now=1000.0)]  # of a resumed run
    assert rest == untils[1:]
    last = [fit.until for fit in schedule.deadlines(fits[3:], workers=2, now=1000.0)]
    assert last == [1350 - main]


def test_a_schedule_comes_back_from_its_file() -> None:
    before = staged(900)
    stored = json.loads(json.dumps(before.to_json()))
    assert Schedule.from_json(stored, [BIG, SMALL]) == before


def test_the_schedule_is_told_in_words() -> None:
    lines = list(staged(400).lines(workers=2, threads=1))
    assert lines == [
        "1 round of 50 s, 2 at a time on 1 core each:",
        f"  2 keras-mlp, about 57 epochs: {SMALL.summary}",
        "1 round of 350 s, 2 at a time on 1 core each:",
        f"  2 cnn, about 16 epochs: {BIG.summary}",
    ]


def test_what_stops_early_by_itself_is_refused() -> None:
    with pytest.raises(RecipeError, match="and so does early_stopping of sklearn-mlp-pca"):
        planner.check(recipes.choose(["keras-mlp", "sklearn-mlp-pca"]), blended=True)


def scheduled(
    digits: data.Dataset, monkeypatch: pytest.MonkeyPatch, row: float, timed: list[str]
) -> tuple[Schedule, Schedule]:
    """What a minute is filled with where a row of `cnn` takes so long, as planned and as stored.

    timed: gets the names of the recipes whose first steps were timed.
    """
    speeds = {name: Speed(1, 0, row / less, 0, 0) for name, less in QUICKER.items()}

    def first_steps(pool: list[Recipe], *_: object, **__: object) -> dict[str, Speed]:
        timed.extend(recipe.name for recipe in pool)
        return speeds

    monkeypatch.setattr(training, "first_steps", first_steps)
    stored: list[dict] = []
    draft = SimpleNamespace(kept_schedule=lambda: None, keep_schedule=stored.append)
    parts = splits.split(digits.train.labels, holdout=0.1, folds=None, seed=0)
    pool = recipes.choose(list(QUICKER))
    clock = pipeline.Clock()
    chosen = pipeline._schedule(pipeline.Job(minutes=1), draft, pool, digits, parts, (2, 1), clock)
    return chosen, Schedule.from_json(stored[0], pool)


QUICKER = {"keras-mlp": 40, "cnn-small": 3, "cnn": 1}


@pytest.mark.parametrize(
    ("row", "fitted", "too_slow"),
    [
        (1e-5, "cnn-1", []),
        (0.02, "cnn-small-1", []),
        (0.04, "cnn-small-1", ["cnn"]),
        (0.1, "keras-mlp-1", ["cnn"]),
        (0.5, "keras-mlp-1", ["cnn"]),
    ],
)
def test_a_quicker_machine_fits_better_nets(
    row: float, fitted: str, too_slow: list[str], digits: data.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[str] = []
    chosen, stored = scheduled(digits, monkeypatch, row, timed)
    assert timed + too_slow == list(QUICKER)
    assert names(chosen.stages[-1])[0] == fitted
    assert names(chosen)[0] == "keras-mlp-1"
    assert stored == chosen


def test_a_machine_too_slow_for_all_is_told(digits: data.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RecipeError, match=r"--minutes 1: 5\d s are left for each fit, not enough for one"):
        scheduled(digits, monkeypatch, row=5.0, timed=[])
