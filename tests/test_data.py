import gzip
import os
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, TEST, TRAIN

from digit_recognizer import data
from digit_recognizer.data import source
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


def repacked(folder: Path) -> Path:
    """The folder's two files in a zip of their folder, as Finder makes one."""
    with zipfile.ZipFile(folder / data.ARCHIVE, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("train.csv", "test.csv"):
            archive.write(folder / name, f"digit-recognizer/{name}")
            archive.writestr(f"__MACOSX/digit-recognizer/._{name}", bytes(99))
            (folder / name).unlink()
    return folder


def one_zip_each(folder: Path) -> Path:
    """Each file in a zip of its own, as Kaggle delivers single files."""
    for name in ("train.csv", "test.csv"):
        with zipfile.ZipFile(folder / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(folder / name, name)
        (folder / name).unlink()
    return folder


@pytest.mark.parametrize("packed", [pack, squeeze, repacked, one_zip_each])
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
    for name in ("README.md", ".DS_Store"):
        (tmp_path / "data" / name).touch()
    for name in ("sample", "openml"):
        (tmp_path / "data" / name).mkdir()
    assert data.find(None) == ROOT / "data" / "sample"  # a clone's data/ is empty
    (tmp_path / "data" / "train.csv").touch()
    assert data.find(None) == Path("data")
    assert data.find(folder) == folder


@pytest.mark.parametrize(
    ("name", "target", "found"),
    [
        ("Train.csv", "", "found Train.csv"),
        ("train.csv.txt", "", r"found train\.csv\.txt"),
        ("train (1).csv", "", r"found train \(1\)\.csv"),
        ("digit-recognizer (1).zip", "", r"found digit-recognizer \(1\)\.zip"),
        ("sample_submission.csv", "", r"found sample_submission\.csv"),
        ("digits/train.csv", "", r"found digits/train\.csv; .* name its folder with --data-dir"),
        (
            "test.csv",
            "",
            r"holds neither train\.csv, train\.csv\.gz nor digit-recognizer\.zip, but found test",
        ),
        ("train.csv", "nowhere", r"data/train\.csv: cannot be read \(a link to what is not there\)"),
        ("", "nowhere", r"data: cannot be read \(a link to what is not there\)"),
        ("", "file", r"data: cannot be read \(Not a directory\)"),
    ],
)
def test_a_data_folder_with_anything_else_is_refused_and_no_sample_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, target: str, found: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    path = tmp_path / "data" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(tmp_path / target) if target else path.touch()
    with pytest.raises(DataError, match=found) as error:
        data.load(data.find(None))
    assert "\n" not in str(error.value)


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
    monkeypatch.setattr(source, "MAX_UNPACKED_BYTES", 2**21)
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


def patched(content: bytes, flags: int, method: int) -> bytes:
    """Return the zip archive with other flags and another method in all headers of its entries."""
    changed = bytearray(content)
    for magic, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = content.find(magic)
        while place >= 0:
            changed[place + at] |= flags
            changed[place + at + 2] = method
            place = content.find(magic, place + 1)
    return bytes(changed)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("encrypted", "is encrypted, password required"),
        ("deflate64", "train.csv is not compressed by deflate"),
        ("lzma", "train.csv is not compressed by deflate"),  # which unpacks a bomb in one piece
        ("two", "holds 2 files called train.csv, expected one"),
        ("many", "it has 10,001 entries, expected at most 10,000"),
        ("none", "holds no train.csv; download the archive again"),
        ("large", "is larger than 1,048,576 bytes"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_of_another_kind_raises_data_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str, message: str
) -> None:
    path = folder / data.ARCHIVE
    method = zipfile.ZIP_LZMA if kind == "lzma" else zipfile.ZIP_DEFLATED
    names = {"two": ["train.csv", "a/train.csv"], "none": []}.get(kind, ["train.csv"])
    with zipfile.ZipFile(path, "w", method) as archive:
        for name in names + ["x"] * (10_000 if kind == "many" else 0):
            archive.writestr(name, bytes(9))
    if kind == "encrypted":
        path.write_bytes(patched(path.read_bytes(), flags=1, method=8))
    if kind == "deflate64":
        path.write_bytes(patched(path.read_bytes(), flags=0, method=9))
    if kind == "large":
        monkeypatch.setattr(source, "MAX_UNPACKED_BYTES", 2**20)
        os.truncate(path, 2**21)
    (folder / "train.csv").unlink()
    with pytest.raises(DataError) as error:
        data.load(folder)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)


@pytest.mark.parametrize(
    "name", ["train.csv", "train.csv.gz", data.ARCHIVE, "test.csv", "test_labels.csv", data.OPENML_MARKER]
)
@pytest.mark.parametrize("target", ["/dev/zero", "pipe"])
def test_what_never_ends_is_refused(folder: Path, tmp_path: Path, name: str, target: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    if name in ("train.csv.gz", data.ARCHIVE):
        (folder / "train.csv").unlink()
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(tmp_path / target)
    with pytest.raises(DataError, match=r"cannot be read \(is no plain file\)") as error:
        data.load(folder)
    assert str(error.value).startswith(f"{folder / name}: ")


def test_a_packed_bomb_takes_little_memory(folder: Path, train_csv: str) -> None:
    row = train_csv.splitlines()[1].encode() + b"\n"
    bomb = train_csv.encode() + row * 5_000 + b"5\n" * 10_000_000
    (folder / "train.csv").unlink()
    (folder / "train.csv.gz").write_bytes(gzip.compress(bomb, 1))
    del bomb
    tracemalloc.start()
    with pytest.raises(DataError, match=r"row 5601 below the header is cut short: found 1 of 785"):
        data.load(folder)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**28


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
    opened = os.open

    def denied(path: str, *args: int, **options: int) -> int:
        if str(path).endswith(f"/{name}"):
            raise PermissionError(13, "Permission denied", path)
        return opened(path, *args, **options)

    monkeypatch.setattr(os, "open", denied)  # root may read whatever its mode
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


def test_equal_train_rows_are_found_and_told(folder: Path, digits: data.Dataset, train_csv: str) -> None:
    assert digits.first_rows.tolist() == list(range(TRAIN))
    assert data.repeats_notice(digits) == ""
    rows = train_csv.splitlines()[1:]
    relabelled = f"{(int(rows[4][0]) + 1) % 10}{rows[4][1:]}"
    add_to_train(folder, [rows[2], rows[2], relabelled])
    repeated = data.load(folder)
    assert repeated.kind == "other"
    assert repeated.first_rows.tolist() == [*range(TRAIN), 2, 2, 4]
    notice = data.repeats_notice(repeated)
    assert (
        f"3 of the {TRAIN + 3} rows of train.csv repeat the pixels of an earlier row, 1 with anoth" in notice
    )
    assert f"row {TRAIN + 1} those of row 3" in notice
    assert notice.isprintable()
