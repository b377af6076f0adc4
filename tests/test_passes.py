import time

import numpy as np
import pytest

from digit_recognizer import data, models
from digit_recognizer.passes import passes


@pytest.fixture(scope="module")
def images(digits: data.Dataset) -> np.ndarray:
    return models.scale(digits.train.pixels[:40])


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


@pytest.mark.parametrize(("seconds", "fewest", "most"), [(0.5, 5, 10), (2.0, 30, 40)])
def test_a_moment_to_end_by_decides_how_many(
    images: np.ndarray, seconds: float, fewest: int, most: int
) -> None:
    until = time.time() + seconds
    ends = []
    for one in passes(images, 20, until, 0.0, 0.0, np.random.RandomState(0)):
        time.sleep(0.05)
        ends.append(one.end)
    assert time.time() < until + 0.05
    assert fewest <= len(ends) <= most
    assert ends == sorted(ends)
    assert ends[-1] > 0.95


def test_a_machine_that_stalls_ends_early(images: np.ndarray) -> None:
    until = time.time() + 0.3
    ends = []
    for one in passes(images, 20, until, 0.0, 0.0, np.random.RandomState(0)):
        ends.append(one.end)
        time.sleep(0.01 if len(ends) < 4 else 0.4)
    assert time.time() < until + 0.4
    assert len(ends) == 4
