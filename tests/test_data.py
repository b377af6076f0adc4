import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, TEST, TRAIN

from digit_recognizer import data
from digit_recognizer.data import dataset
from digit_recognizer.errors import DataError


def pack(folder: Path) -> Path:
    """The folder's two files as Kaggle delivers them, with its line ends."""
    with zipfile.ZipFile(folder / data.ARCHIVE, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("train.csv", "test.csv"):
            archive.writestr(name, (folder / name).read_text().replace("\n", "\r\n"))
            (folder / name).unlink()
    return folder


def squeeze(folder: Path) -> Path:
    for name in ("train.csv", "test.csv"):
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
        (folder / name).unlink()
    return folder


@pytest.mark.parametrize("packed", [pack, squeeze])
def test_zip_and_gz_give_the_same_digits(
    folder: Path, digits: data.Dataset, packed: Callable[[Path], Path]
) -> None:
    assert data.load(packed(folder)).fingerprint == digits.fingerprint


def test_any_changed_pixel_or_label_changes_the_fingerprint(
    folder: Path, digits: data.Dataset, train_csv: str
) -> None:
    head, first, rest = train_csv.split("\n", 2)
    label = (int(first[0]) + 1) % 10
    (folder / "train.csv").write_text(f"{head}\n{label}{first[1:]}\n{rest}")
    changed = data.load(folder).fingerprint
    assert changed["train"] != digits.fingerprint["train"]
    assert changed["test"] == digits.fingerprint["test"]


def test_find_looks_in_the_usual_folders_in_order(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert data.find(None) == ROOT / "data" / "sample"
    (tmp_path / "data").mkdir()
    assert data.find(None) == ROOT / "data" / "sample"
    (tmp_path / "data" / "train.csv").touch()
    assert data.find(None) == Path("data")
    assert data.find(folder) == folder


def test_the_sample_is_recognized_in_any_folder(tmp_path: Path) -> None:
    for file in (ROOT / "data" / "sample").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    sample = data.load(tmp_path)
    assert sample.kind == "sample"
    assert sample.test_labels is not None
    assert len(sample.train.labels) == 6000
    assert len(sample.test_labels) == 4000


def test_labels_of_the_competitions_test_rows_are_never_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "test_labels.csv").write_text("ImageId,Label\n" + "".join(f"{i + 1},3\n" for i in range(TEST)))
    other = data.load(folder)
    assert other.kind == "other"
    assert other.test_labels is not None
    monkeypatch.setitem(data.KNOWN_FINGERPRINTS, other.fingerprint["test"], "competition")
    assert data.load(folder).kind == "competition"
    assert data.load(folder).test_labels is None


@pytest.mark.parametrize("packed", [pack, squeeze])
def test_a_truncated_archive_raises_data_error(folder: Path, packed: Callable[[Path], Path]) -> None:
    packed(folder)
    broken = folder / "train.csv.gz" if packed is squeeze else folder / data.ARCHIVE
    broken.write_bytes(broken.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"cannot be read .*; download it again") as error:
        data.load(folder)
    assert str(error.value).startswith(str(broken))


def test_missing_files_raise_data_error(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        data.find(tmp_path / "nowhere")
    (folder / "test.csv").unlink()
    with pytest.raises(DataError, match=r"holds neither test\.csv, test\.csv\.gz nor digit-recognizer\.zip"):
        data.load(folder)
    with zipfile.ZipFile(folder / data.ARCHIVE, "w") as archive:
        archive.writestr("sample_submission.csv", "ImageId,Label\n")
    with pytest.raises(DataError, match=r"holds no test\.csv"):
        data.load(folder)


def test_unpacking_stops_at_a_limit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "MAX_UNPACKED_BYTES", 2**21)
    (folder / "train.csv").unlink()
    (folder / "train.csv.gz").write_bytes(gzip.compress(bytes(2**26)))
    with pytest.raises(
        DataError, match=r"train\.csv\.gz: cannot be read \(it unpacks to more than 2,097,152 by"
    ):
        data.load(folder)
    (folder / "train.csv.gz").unlink()
    with zipfile.ZipFile(folder / data.ARCHIVE, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train.csv", bytes(2**26))
    with pytest.raises(
        DataError, match=r"digit-recognizer\.zip: cannot be read \(it unpacks to more than 2,0"
    ):
        data.load(folder)


@pytest.mark.parametrize("packed", [pack, squeeze])
def test_a_damaged_archive_raises_data_error_or_gives_the_same_digits(
    folder: Path, digits: data.Dataset, packed: Callable[[Path], Path]
) -> None:
    broken = packed(folder) / ("train.csv.gz" if packed is squeeze else data.ARCHIVE)
    good, rng, refused = broken.read_bytes(), np.random.default_rng(0), 0
    for _ in range(30):
        damaged = bytearray(good)
        for place in rng.integers(0, 400, 3) * rng.choice([1, -1]):  # heads and directories lie at the ends
            damaged[place] = rng.integers(256)
        broken.write_bytes(damaged)
        try:
            assert data.load(folder).fingerprint == digits.fingerprint
        except DataError:
            refused += 1
    assert refused > 5


@pytest.mark.parametrize("name", ["train.csv", "test.csv.gz", data.ARCHIVE])
def test_a_folder_in_a_files_place_raises_data_error(folder: Path, name: str) -> None:
    for file in folder.glob("*.csv" if name == data.ARCHIVE else name.removesuffix(".gz")):
        file.unlink()
    (folder / name).mkdir()
    with pytest.raises(
        DataError, match=r"cannot be read \(Is a directory\); expected a file that you may"
    ) as error:
        data.load(folder)
    assert str(error.value).startswith(f"{folder / name}: ")


@pytest.mark.parametrize("name", ["train.csv", "test.csv", "test_labels.csv"])
def test_a_file_without_permission_raises_data_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (folder / "test_labels.csv").touch()
    read = io.open

    def denied(path: object, *args: object, **options: object) -> object:
        if str(path).endswith(f"/{name}"):
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, *args, **options)

    monkeypatch.setattr(io, "open", denied)  # root may read whatever its mode
    with pytest.raises(DataError, match=rf"{name}: cannot be read \(Permission denied\)") as error:
        data.load(folder)
    assert str(error.value).startswith(f"{folder / name}: ")


def test_a_folder_moved_aside_by_a_killed_download_is_found(folder: Path) -> None:
    folder.rename(folder.with_name(f".{folder.name}-old"))
    assert data.find(folder) == folder
    assert data.load(folder).kind == "other"


def add_to_train(folder: Path, rows: list[str]) -> None:
    (folder / "train.csv").write_text(
        (folder / "train.csv").read_text() + "".join(f"{row}\n" for row in rows)
    )


def test_train_rows_among_the_test_rows_are_contamination(
    folder: Path, monkeypatch: pytest.MonkeyPatch, test_csv: str
) -> None:
    test_rows = test_csv.splitlines()[1:]
    (folder / "test_labels.csv").write_text("ImageId,Label\n" + "".join(f"{i + 1},3\n" for i in range(TEST)))
    monkeypatch.setitem(data.KNOWN_FINGERPRINTS, data.load(folder).fingerprint["test"], "competition")
    add_to_train(folder, [f"3,{row}" for row in (test_rows[6], test_rows[4], test_rows[4])])
    dataset = data.load(folder)
    assert dataset.kind == "contaminated"
    assert dataset.test_labels is None
    notice = data.contamination_notice(dataset)
    assert f"train.csv holds 2 of the {TEST} rows of test.csv with their labels" in notice
    assert f"row 5 of test.csv is row {TRAIN + 2} of train.csv" in notice
    assert "no run on this data can be uploaded" in notice
    assert notice.isprintable()


def test_more_train_rows_that_are_no_test_rows_leave_the_kind(
    folder: Path, monkeypatch: pytest.MonkeyPatch, test_csv: str
) -> None:
    monkeypatch.setitem(data.KNOWN_FINGERPRINTS, data.load(folder).fingerprint["test"], "competition")
    changed = test_csv.splitlines()[1].split(",")
    changed[300] = str((int(changed[300]) + 1) % 256)
    add_to_train(folder, [",".join(["3", *changed])])
    assert data.load(folder).kind == "competition"


def test_test_labels_of_other_rows_raise_data_error(folder: Path) -> None:
    (folder / "test_labels.csv").write_text("ImageId,Label\n1,3\n")
    with pytest.raises(DataError, match=rf"test_labels\.csv: found 1 rows, expected {TEST}"):
        data.load(folder)
    (folder / "test_labels.csv").write_text("ImageId,Label\n1,12\n")
    with pytest.raises(DataError, match=r"test_labels\.csv: line 2: found Label '12'"):
        data.load(folder)
