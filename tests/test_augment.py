import numpy as np
import pytest

from digit_recognizer import data
from digit_recognizer.nets import augment, pipelines


@pytest.fixture(scope="module")
def images(digits: data.Dataset) -> np.ndarray:
    return pipelines.scale(digits.train.pixels)


def moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean column and row of each image's ink, and how far its columns go with its rows."""
    y, x = np.mgrid[:28, :28].reshape(2, -1)
    mass = images.sum(axis=1)
    column, row = images @ x / mass, images @ y / mass
    return column, row, images @ (x * y) / mass - column * row


def test_no_strength_is_no_warp(images: np.ndarray) -> None:
    np.testing.assert_allclose(augment.warp(images, 0.0, np.random.default_rng(0)), images, atol=1e-6)


def test_a_warp_is_seeded_and_each_image_gets_its_own(images: np.ndarray) -> None:
    same = np.repeat(images[:1], 50, axis=0)
    warped = augment.warp(same, 1.0, np.random.default_rng(0))
    assert warped.dtype == np.float32
    assert warped.shape == same.shape
    assert len(np.unique(warped, axis=0)) == 50
    np.testing.assert_array_equal(warped, augment.warp(same, 1.0, np.random.default_rng(0)))
    assert (warped != augment.warp(same, 1.0, np.random.default_rng(1))).any()
    assert 0 <= warped.min() <= warped.max() <= 1


def test_shifts_have_the_size_they_are_said_to_have(
    images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    for other in ("ROTATION", "STRETCH", "SHEAR", "ELASTIC"):
        monkeypatch.setattr(augment, other, 0.0)
    warped = augment.warp(images, 1.0, np.random.default_rng(0))
    for before, after in zip(moments(images)[:2], moments(warped)[:2], strict=True):
        assert abs((after - before).mean()) < 0.1
        assert (after - before).std() == pytest.approx(augment.SHIFT, rel=0.1)


def test_a_warp_keeps_digits_recognisable(digits: data.Dataset, images: np.ndarray) -> None:
    from sklearn.neighbors import KNeighborsClassifier

    neighbours = KNeighborsClassifier(1).fit(images, digits.train.labels)
    warped = augment.warp(images, 0.5, np.random.default_rng(0))
    assert neighbours.score(warped, digits.train.labels) > 0.9


def test_upright_images_are_centred_and_do_not_lean(images: np.ndarray) -> None:
    column, row, lean = moments(augment.upright(images))
    # where ink runs over the edge the centre stays off: an image or two
    assert (np.hypot(column - 13.5, row - 13.5) < 0.1).mean() > 0.99
    assert np.abs(lean).mean() < 0.1 * np.abs(moments(images)[2]).mean()


def test_upright_twice_is_as_once_and_nothing_stays_nothing(images: np.ndarray) -> None:
    once = augment.upright(images)
    assert np.abs(augment.upright(once) - once).mean() < 0.02
    np.testing.assert_array_equal(augment.upright(np.zeros((2, 784), np.float32)), 0)


def test_shifted_are_the_image_and_its_four_neighbours(images: np.ndarray) -> None:
    point = np.zeros((1, 784), np.float32)
    point[0, 5 * 28 + 9] = 1
    views = list(augment.shifted(point))
    assert sorted(divmod(int(view.argmax()), 28) for view in views) == [
        (4, 9),
        (5, 8),
        (5, 9),
        (5, 10),
        (6, 9),
    ]
    np.testing.assert_array_equal(views[0], point)
    corner = np.zeros((1, 784), np.float32)
    corner[0, 0] = 1
    assert (
        sum(view.sum() for view in augment.shifted(corner)) == 3
    )  # what leaves the image does not come back


def test_what_is_no_square_is_said(images: np.ndarray) -> None:
    with pytest.raises(ValueError, match="783 values are no square images"):
        augment.warp(images[:, :-1], 1.0, np.random.default_rng(0))
