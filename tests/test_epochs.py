import numpy as np
import pytest

from digit_recognizer import data
from digit_recognizer.nets import pipelines
from digit_recognizer.nets.epochs import passes


@pytest.fixture(scope="module")
def images(digits: data.Dataset) -> np.ndarray:
    return pipelines.scale(digits.train.pixels[:40])


def test_passes_take_every_row_once_in_new_orders(images: np.ndarray) -> None:
    orders = []
    for one in passes(images, 3, None, 0.0, 0.0, np.random.RandomState(0)):
        np.testing.assert_array_equal(one.images, images[one.order])
        assert sorted(one.order) == list(range(40))
        orders.append(one.order.tolist())
    assert len(orders) == 3
    assert orders[0] != orders[1] != orders[2]


def test_passes_share_out_the_training(images: np.ndarray) -> None:
    parts = [(one.start, one.end) for one in passes(images, 4, None, 0.0, 0.0, np.random.RandomState(0))]
    np.testing.assert_allclose(parts, [(0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1)])
    assert parts[-1][1] == 1


def in_rows_order(images: np.ndarray, warp: float, last: float, seed: int) -> list[np.ndarray]:
    found = []
    for one in passes(images, 3, None, warp, last, np.random.RandomState(seed)):
        back = np.empty_like(one.images)
        back[one.order] = one.images
        found.append(back)
    return found


def test_passes_warp_afresh_and_by_their_seed_alone(images: np.ndarray) -> None:
    first, second, third = in_rows_order(images, 1.0, 1.0, seed=0)
    assert (first != second).any(axis=1).all()
    assert (second != third).any(axis=1).all()
    for before, after in zip((first, second, third), in_rows_order(images, 1.0, 1.0, seed=0), strict=True):
        np.testing.assert_array_equal(after, before)
    assert (in_rows_order(images, 1.0, 1.0, seed=1)[0] != first).any()


def test_warps_grow_weaker_along_the_training(images: np.ndarray) -> None:
    moved = [np.abs(warped - images).mean() for warped in in_rows_order(images, 2.0, 0.0, seed=0)]
    assert moved == sorted(moved, reverse=True)
    assert moved[2] < 0.8 * moved[0]


class Clock:
    """Stands for the module `time`: each pass takes as long as the test says."""

    now = 1000.0

    def time(self) -> float:
        return self.now


def timed(
    images: np.ndarray, monkeypatch: pytest.MonkeyPatch, expected: int, took: list[float]
) -> list[float]:
    """The ends of the passes of a training of 10 seconds, of which each takes its own time."""
    clock = Clock()
    monkeypatch.setattr("digit_recognizer.nets.epochs.time", clock)
    ends = []
    for one in passes(images, expected, clock.now + 10, 0.0, 0.0, np.random.RandomState(0)):
        clock.now += took[min(len(ends), len(took) - 1)]
        ends.append(one.end)
    assert clock.now < 1000 + 10 + 0.1 * took[-1] + 1e-9
    return ends


def test_the_time_there_is_decides_how_many(images: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    for expected in (1, 5, 10, 40):
        ends = timed(images, monkeypatch, expected, [1.0])
        assert len(ends) == (1 if expected == 1 else pytest.approx(9.5, abs=0.6))
        assert ends[-1] == 1
        assert ends == sorted(ends)


def test_the_first_pass_is_slow_and_not_believed(images: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = timed(images, monkeypatch, 8, [3.0, 1.0])
    assert len(ends) >= 7
    assert ends[-1] == 1


def test_a_machine_that_grows_slow_trains_less_to_the_same_end(
    images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = timed(images, monkeypatch, 20, [0.5] * 6 + [1.0])
    assert len(ends) == pytest.approx(12.5, abs=0.6)
    assert ends[-1] == 1


def test_a_machine_that_stalls_ends_early(images: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("digit_recognizer.nets.epochs.time", clock)
    ends = []
    for one in passes(images, 20, clock.now + 10, 0.0, 0.0, np.random.RandomState(0)):
        clock.now += 0.5 if len(ends) < 4 else 20
        ends.append(one.end)
    assert len(ends) == 5
    assert ends[-1] < 1
