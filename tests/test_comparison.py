"""Which of two runs is better: on the same held-out digits, on others, and when they cannot tell."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import TEST, TRAIN, changed, typed
from report_runs import config_of, write_run
from scipy.stats import binom

from digit_recognizer import data, runs
from digit_recognizer.comparison import against_best, better_than, compare, mid_p
from digit_recognizer.data import references
from digit_recognizer.errors import RunError
from digit_recognizer.predictions import HeldOut, Predictions
from digit_recognizer.scoring import Accuracy

Make = Callable[..., runs.Run]


@pytest.fixture
def make(tmp_path: Path, digits: data.Dataset) -> Make:
    """Return a function that writes a run which held out these rows and is wrong on some of them."""

    def make_run(
        name: str, rows: np.ndarray, wrong: np.ndarray, certain: float = 0.91,
        probabilities: np.ndarray | None = None, **changes: object,
    ) -> runs.Run:  # fmt: skip
        labels = digits.train.labels[rows].astype(int)
        predicted = np.where(np.isin(rows, wrong), (labels + 1) % 10, labels)
        if probabilities is None:
            probabilities = np.full((len(rows), 10), (1 - certain) / 9, np.float32)
            probabilities[np.arange(len(rows)), predicted] = certain
        held_out = HeldOut(rows, np.zeros(len(rows), int), labels)
        model = Predictions("sklearn-mlp", probabilities, np.full((TEST, 10), 0.1, np.float32))
        return write_run(tmp_path / name, digits, held_out, [model], **changes)

    return make_run


EVERY = np.arange(TRAIN)


@pytest.mark.parametrize("b", [0, 1, 5, 20], ids=str)
@pytest.mark.parametrize("c", [0, 3, 20, 900], ids=str)
def test_mid_p_counts_half_of_what_was_found(b: int, c: int) -> None:
    """Two-sided: twice the chance of a lesser split, and of this one once."""
    fewer, n = min(b, c), b + c
    expected = min(1.0, 2 * binom.cdf(fewer, n, 0.5)) - binom.pmf(fewer, n, 0.5) / (2 if b == c else 1)
    assert mid_p(b, c) == pytest.approx(expected if n else 1.0)


def test_the_same_digits_say_which_is_better(make: Make) -> None:
    good, bad = make("good", EVERY, EVERY[:10]), make("bad", EVERY, EVERY[5:40])
    better, worse = compare(good, bad), compare(bad, good)
    assert (better.verdict, worse.verdict) == ("better", "worse")
    assert better.difference == pytest.approx(25 / TRAIN) == pytest.approx(-worse.difference)
    assert (better.only_first.tolist(), better.only_second.tolist()) == (list(range(10, 40)), list(range(5)))
    assert better.p == worse.p == pytest.approx(mid_p(30, 5))
    error = (35 / TRAIN - (25 / TRAIN) ** 2) ** 0.5 / TRAIN**0.5
    interval = (25 / TRAIN - 1.96 * error, 25 / TRAIN + 1.96 * error)
    assert (better.low, better.high) == pytest.approx(interval, rel=0.05)
    assert better.log_loss
    assert better.log_loss[0] < 0
    assert better.common == TRAIN


def test_a_small_difference_cannot_be_told_and_says_what_it_takes(make: Make) -> None:
    found = compare(make("a", EVERY, EVERY[:10]), make("b", EVERY, EVERY[5:17]))
    assert found.verdict == "cannot tell"
    assert found.p > 0.3
    # 12 of 600 differ, by 2: (1.96 + 0.84)² * (12 / 600 - (2 / 600)²) / (2 / 600)²
    assert found.needed == pytest.approx(14_120, abs=5)


def test_a_run_equals_itself_and_other_probabilities_do_not(make: Make) -> None:
    run, surer = make("a", EVERY, EVERY[:10]), make("surer", EVERY, EVERY[:10], certain=0.99)
    assert (compare(run, run).verdict, compare(run, run).needed) == ("equal", None)
    assert (compare(run, surer).verdict, compare(run, surer).p) == ("cannot tell", 1)


def test_the_order_of_the_rows_does_not_matter(make: Make) -> None:
    run, turned = make("a", EVERY, EVERY[:10]), make("turned", EVERY[::-1].copy(), EVERY[:10])
    assert compare(run, turned).verdict == "equal"


def test_disjoint_holdouts_are_compared_less_sharply(make: Make) -> None:
    half = TRAIN // 2
    good, bad = make("good", EVERY[:half], EVERY[:2]), make("bad", EVERY[half:], EVERY[half : half + 60])
    found = compare(good, bad)
    assert (found.verdict, found.common, found.log_loss) == ("better", 0, None)
    shares = np.array([2 / half, 60 / half])
    error = np.sqrt(np.sum(shares * (1 - shares)) / half)
    assert found.high - found.difference == pytest.approx(1.96 * error, rel=0.1)
    like = compare(good, make("like", EVERY[half:], EVERY[half : half + 4]))
    assert like.verdict == "cannot tell"


def test_a_run_without_an_error_on_few_digits_is_not_better(make: Make) -> None:
    """All of 20 right leaves room for an accuracy of 0.84."""
    few, many = make("few", EVERY[-20:], EVERY[:5]), make("many", EVERY[:500], EVERY[:25])
    assert few.main_score.accuracy == 1
    assert compare(few, many).verdict == compare(many, few).verdict == "cannot tell"
    assert against_best([few, many]) == ["cannot tell", "best"]


def test_repeated_folds_are_compared_by_their_means(make: Make) -> None:
    """Two equally good models, one of which predicts each digit twice."""
    rng = np.random.default_rng(0)
    below = 0
    for seed in range(40):
        chance = np.where(EVERY < 200, 0.3, 0.02)
        rows = np.concatenate([EVERY, EVERY + 0])
        wrongs = [EVERY[rng.random(TRAIN) < chance] for _ in range(3)]
        once = make(f"once-{seed}", EVERY, wrongs[0])
        labels = once.predictions()[0].labels
        probabilities = np.full((2 * TRAIN, 10), 0.01, np.float32)
        for repeat, wrong in enumerate(wrongs[1:]):
            predicted = np.where(np.isin(EVERY, wrong), (labels + 1) % 10, labels)
            probabilities[repeat * TRAIN + EVERY, predicted] = 0.91
        twice = make(f"twice-{seed}", rows, EVERY[:0], probabilities=probabilities)
        found = compare(once, twice)
        assert found.low <= found.difference <= found.high
        below += found.p < 0.05
    assert below <= 6  # McNemar's test of any difference calls a third of them different


def test_only_a_run_that_is_ahead_is_better(make: Make) -> None:
    """The score of an earlier version is not adjusted: it is higher, though its run makes more errors."""
    new, old = make("new", EVERY, EVERY[:20]), make("old", EVERY, EVERY[:40])
    raw = Accuracy(**old.main_score.model_dump(include={"accuracy", "low", "high"}))
    score = changed(old.main_score, accuracy=0.97, low=0.95, high=0.985, raw=raw)
    old = runs.Run(old.folder, changed(old.manifest, scores={"sklearn-mlp": score}))
    assert against_best([new, old]) == ["cannot tell", "best"]
    assert better_than(new, [old]) == []
    assert better_than(old, [new]) == [new]
    assert compare(new, old).verdict == "better"


def test_overlapping_holdouts_are_paired_on_what_they_share(make: Make) -> None:
    """The same errors on the 400 common digits cancel: the error of the difference is less than unpaired."""
    hard = EVERY[::6]
    a, b = make("a", EVERY[:500], hard), make("b", EVERY[100:], hard)
    found = compare(a, b)
    assert (found.common, found.only_first.size, found.only_second.size) == (400, 0, 0)
    unpaired = 1.96 * np.sqrt(2 * (1 / 6) * (5 / 6) / 500)
    assert found.high - found.difference < 0.6 * unpaired


def test_known_difficulty_makes_other_holdouts_comparable(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One run held out the hard digits by chance; with margins, nothing tells the runs apart."""
    rng = np.random.default_rng(0)
    difficulty = rng.normal(size=TRAIN)
    wrong = np.flatnonzero(difficulty + rng.normal(size=TRAIN) / 2 > 1.2)
    order = np.argsort(difficulty + rng.normal(size=TRAIN) * 2)
    easy, hard = make("easy", np.sort(order[:300]), wrong), make("hard", np.sort(order[300:]), wrong)
    assert compare(easy, hard).verdict == "better"
    monkeypatch.setattr(references, "margins", lambda *_: -difficulty[:, None])
    assert compare(easy, hard).verdict == "cannot tell"


def test_runs_on_different_digits_are_not_compared(make: Make, digits: data.Dataset) -> None:
    run = make("a", EVERY, EVERY[:10])
    config = changed(config_of(digits, ["sklearn-mlp"]), **{"data.fingerprint.train": "f" * 64})
    other = make("b", EVERY, EVERY[:10], config=config)
    with pytest.raises(RunError, match=r"a \(.*b \(.* are runs on different data"):
        compare(run, other)
    assert against_best([run, other]) == ["best", "best"]


def test_runs_are_marked_against_the_best(make: Make) -> None:
    half = TRAIN // 2
    listed = [
        make("near", EVERY, EVERY[5:17]),
        make("best", EVERY, EVERY[:10]),
        make("bad", EVERY, EVERY[:200]),
        make("worse", EVERY, EVERY[:24]),
        make("elsewhere", EVERY[:half], EVERY[:6]),
        make("bad elsewhere", EVERY[:half], EVERY[:30]),
    ]
    assert against_best(listed) == ["cannot tell", "best", "worse", "worse", "cannot tell", "worse"]
    (listed[0].folder / "probabilities-1.npz").unlink()
    assert against_best(listed)[0] == "cannot tell"  # by its score in run.json


def test_the_page_shows_the_digits_that_they_differ_on(make: Make, tmp_path: Path) -> None:
    make("good", EVERY, EVERY[:10]), make("bad", EVERY, EVERY[5:40])
    result = typed("compare", "good", "bad", "--report", "--out", ".", cwd=tmp_path)
    assert result.out.splitlines()[-1] == "good-vs-bad.html"
    page = (tmp_path / "good-vs-bad.html").read_text()
    rows = [str(row + 1) for row in [*range(10, 40), *range(5)]]
    assert re.findall(r"<small>row (\d+)</small>", page) == rows
    assert page.count("<img ") == 35
    assert page.index("Above each digit its label") < page.index("<img ")
    assert "good alone is right: 30" in page
    assert "good is better than bad" in page
    assert "<script" not in page


def test_a_page_that_cannot_be_written_is_one_line(make: Make, tmp_path: Path) -> None:
    make("good", EVERY, EVERY[:10]), make("bad", EVERY, EVERY[5:40])
    (tmp_path / "file").touch()
    result = typed("compare", "good", "bad", "--report", "--out", "file", cwd=tmp_path)
    told = "Error: file: cannot be written (Not a directory); choose another --out. The runs are compared."
    assert (result.code, result.last_line) == (1, told)


def test_the_command_says_it_in_words_and_in_json(make: Make, tmp_path: Path) -> None:
    for name, errors in {"good": EVERY[:10], "bad": EVERY[5:40], "near": EVERY[5:17]}.items():
        make(name, EVERY, errors)
    result = typed("compare", "good", "bad", "--out", ".", cwd=tmp_path)
    assert result.code == 0, result
    lines = result.out.splitlines()
    assert lines[0] == "good: validation accuracy 0.9833 (0.9696 to 0.9909), from 600 held-out digits"
    assert lines[2].startswith("difference of these accuracies: +0.0417 (+0.0")
    assert lines[2].endswith(" (McNemar's test)")
    paired = "On the 600 digits that both held out, good alone is right for 30, bad alone for 5; "
    assert lines[3].startswith(f"{paired}difference of the log loss (less is better): -")
    assert lines[4] == "good is better than bad, as they are fitted; other seeds of their recipes may differ"
    result = typed("compare", "good", "near", "--out", ".", cwd=tmp_path)
    assert result.out.splitlines()[4] == (
        "The held-out digits cannot tell good from near: to find such a difference takes about 14,000 "
        "held-out digits, more than there are"
    )
    result = typed("compare", "bad", "good", "--out", ".", "--json", cwd=tmp_path)
    said = json.loads(result.out)
    counts = {"verdict": "worse", "common": TRAIN, "only_first": 5, "only_second": 30}
    assert said.items() >= counts.items()
    others = {"difference", "low", "high", "p", "log_loss", "needed", "test", "scores", "report"}
    assert set(said) == {*counts, *others}
    (tmp_path / "bad").rename(tmp_path / "{bad}")  # a name is no format
    assert "{bad} alone for 5; " in typed("compare", "good", "{bad}", "--out", ".", cwd=tmp_path).out
    assert typed("compare", "good", "none", "--out", ".", cwd=tmp_path).refusal()
    result = typed("compare", "good", "near", "--out", ".", "--data-dir", ".", cwd=tmp_path)
    assert (
        result.refusal(2) == "Error: --data-dir is for --report, as nothing else reads the digits; give both"
    )
