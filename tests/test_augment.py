import cv2
import numpy as np
import pytest

from digit_recognizer import data
from digit_recognizer.nets import augment, pipelines
from digit_recognizer.nets.epochs import iter_epochs
from digit_recognizer.nets.progress import Steps
from digit_recognizer.settings import MLPSettings, NetSettings


@pytest.fixture(scope="module")
def images(digits: data.Dataset) -> np.ndarray:
    return pipelines.scale(digits.train.pixels)


def moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean column and row of each image's ink, and how far its columns go with its rows."""
    y, x = np.mgrid[:28, :28].reshape(2, -1)
    mass = images.sum(axis=1)
    column, row = images @ x / mass, images @ y / mass
    return column, row, images @ (x * y) / mass - column * row


def distorted(images: np.ndarray, strength: float = 1.0, seed: int = 0) -> np.ndarray:
    changed = images.copy()
    augment.distort(changed, strength, np.random.default_rng(seed))
    return changed


def test_shifts_have_their_standard_deviation(images: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in ("ROTATION", "STRETCH", "SHEAR", "ELASTIC"):
        monkeypatch.setattr(augment, other, 0.0)
    for before, after in zip(moments(images)[:2], moments(distorted(images))[:2], strict=True):
        assert abs((after - before).mean()) < 0.1
        assert (after - before).std() == pytest.approx(augment.SHIFT, rel=0.1)


def test_distorted_digits_are_recognisable(digits: data.Dataset, images: np.ndarray) -> None:
    from sklearn.neighbors import KNeighborsClassifier

    neighbours = KNeighborsClassifier(1).fit(images, digits.train.labels)
    assert neighbours.score(distorted(images, 0.5), digits.train.labels) > 0.9


def test_deskewed_images_are_centred_and_do_not_lean(images: np.ndarray) -> None:
    column, row, lean = moments(augment.deskew(images))
    # where ink runs over the edge the centre stays off: an image or two
    assert (np.hypot(column - 13.5, row - 13.5) < 0.1).mean() > 0.99
    assert np.abs(lean).mean() < 0.1 * np.abs(moments(images)[2]).mean()


def test_deskewing_twice_changes_little_and_empty_images_stay_empty(images: np.ndarray) -> None:
    deskewed = augment.deskew(images)
    assert np.abs(augment.deskew(deskewed) - deskewed).mean() < 0.02
    np.testing.assert_array_equal(augment.deskew(np.zeros((2, 784), np.float32)), 0)


def test_tta_views_are_the_image_and_four_shifts(images: np.ndarray) -> None:
    point = np.zeros((1, 784), np.float32)
    point[0, 5 * 28 + 9] = 1
    views = list(augment.tta_views(point))
    places = {divmod(int(view.argmax()), 28) for view in views}
    assert places == {(4, 9), (5, 8), (5, 9), (5, 10), (6, 9)}
    np.testing.assert_array_equal(views[0], point)
    corner = np.zeros((1, 784), np.float32)
    corner[0, 0] = 1
    assert sum(view.sum() for view in augment.tta_views(corner)) == 3  # two left the image


def test_rows_that_are_no_squares_raise_value_error(images: np.ndarray) -> None:
    with pytest.raises(ValueError, match="783 values are no square images"):
        distorted(images[:, :-1])


def distort_one_by_one(images: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Return what `augment.distort` makes of them, each image's grid computed and remapped by itself."""
    n, side = len(images), 28
    spread = cv2.resize(
        np.eye(augment.GRID, dtype=np.float32), (augment.GRID, side), interpolation=cv2.INTER_CUBIC
    )
    angle, shear = rng.normal(0, strength, (2, n)) * [[augment.ROTATION], [augment.SHEAR]]
    width, height = np.exp(rng.normal(0, strength * augment.STRETCH, (2, n)))
    shift = rng.normal(0, strength * augment.SHIFT, (n, 2))
    bend = rng.normal(0, strength * augment.ELASTIC, (n, 2, augment.GRID, augment.GRID))
    x, y = np.meshgrid(np.arange(side) - 13.5, np.arange(side) - 13.5)
    found = []
    for i, image in enumerate(images.reshape(-1, side, side)):
        rotation = np.array([[np.cos(angle[i]), -np.sin(angle[i])], [np.sin(angle[i]), np.cos(angle[i])]])
        matrix = rotation @ [[1, shear[i]], [0, 1]] @ np.diag([width[i], height[i]])
        places = np.einsum("ij,jkl->ikl", matrix, [x, y]) + shift[i][:, None, None] + 13.5
        places += spread @ bend[i] @ spread.T
        x_from, y_from = places.astype(np.float32)
        found.append(cv2.remap(image, x_from, y_from, cv2.INTER_LINEAR).ravel())
    return np.stack(found)


@pytest.mark.parametrize("strength", [0.6, 1.6, 5.0])
def test_stacked_images_are_distorted_as_each_image_by_itself(digits: data.Dataset, strength: float) -> None:
    images = pipelines.scale(digits.train.pixels)
    ours = distorted(images, strength, seed=3)
    theirs = distort_one_by_one(images, strength, np.random.default_rng(3))
    # OpenCV before 5 rounds places to 1/32 of a pixel: some then fall on the other side.
    rounded = 0.0 if cv2.__version__ >= "5" else 0.002
    assert (np.abs(ours - theirs) > 1e-3).mean() <= rounded
    np.testing.assert_allclose(ours, theirs, atol=1 / 30)


STRENGTHS = [name for name, field in NetSettings.model_fields.items() if field.annotation is float]


def test_each_augmentation_has_two_strengths_and_a_function_of_its_own() -> None:
    assert len(set(augment.AUGMENTATIONS.values())) == len(augment.AUGMENTATIONS)
    fields = [name for name in NetSettings.model_fields if name.startswith("augment_")]
    assert fields == [field for name in augment.AUGMENTATIONS for field in (name, f"{name}_end")]


@pytest.mark.parametrize("name", augment.AUGMENTATIONS)
def test_an_augmentation_follows_from_generator_and_strength_on_every_image(
    name: str, images: np.ndarray
) -> None:
    many = np.tile(images, (augment.CHUNK // len(images) + 1, 1))

    def changed(strength: float, seed: int = 0) -> np.ndarray:
        rows = many.copy()
        augment.AUGMENTATIONS[name](rows, strength, np.random.default_rng(seed))
        return rows

    whole = changed(1.0)
    assert (whole.dtype, whole.shape) == (np.float32, many.shape)
    assert 0 <= whole.min() <= whole.max() <= 1
    for rows in (slice(augment.CHUNK), slice(augment.CHUNK, None)):
        assert (whole != many)[rows].any(axis=1).mean() > 0.5, "images that are not changed"
    np.testing.assert_array_equal(changed(1.0), whole)
    assert (changed(1.0, seed=1) != whole).any(), "the same for each generator"
    np.testing.assert_allclose(changed(0.0), many, atol=1e-6)
    assert np.abs(changed(0.25) - many).mean() < np.abs(whole - many).mean(), "the strength changes nothing"


@pytest.mark.parametrize("name", STRENGTHS)
def test_what_changes_images_is_called_so_and_its_end_changes_the_end(name: str) -> None:
    pixels = np.random.default_rng(0).random((40, 784), dtype=np.float32)

    def images(**settings: float) -> list[np.ndarray]:
        net = MLPSettings(batch_size=10, epochs=2, **settings)
        epochs = iter_epochs(pixels, net, Steps(2, 4), np.random.RandomState(0))
        return [np.concatenate([chunk.images for chunk in epoch]) for epoch in epochs]

    changed = [bool((a != b).any()) for a, b in zip(images(**{name: 1.0}), images(), strict=True)]
    if any(changed) or name.startswith("augment_"):
        assert name.startswith("augment_"), f"call it augment_{name}"
        assert changed == [not name.endswith("_end"), True], f"{name} changes epochs {changed}"
