import gzip
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, TEST, TRAIN, memory_below, raises_line

from digit_recognizer import data
from digit_recognizer.errors import DataError


def zipped(folder: Path, archive: str, *entries: tuple[str, bytes]) -> Path:
    with zipfile.ZipFile(folder / archive, "w", zipfile.ZIP_DEFLATED) as content:
        for name, text in entries:
            content.writestr(name, text)
    return folder


def taken(folder: Path) -> dict[str, bytes]:
    """Return what is in the folder's two files, and delete them."""
    contents = {name: (folder / name).read_bytes() for name in ("train.csv", "test.csv")}
    for name in contents:
        (folder / name).unlink()
    return contents


def pack(folder: Path) -> Path:
    """The folder's two files as Kaggle delivers them, with its line ends."""
    contents = taken(folder).items()
    return zipped(folder, data.ARCHIVE, *((name, text.replace(b"\n", b"\r\n")) for name, text in contents))


def squeeze(folder: Path) -> Path:
    for name, content in taken(folder).items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
    return folder


def repacked(folder: Path) -> Path:
    """The folder's two files in a zip of their folder, as Finder makes one."""
    entries = [(f"digit-recognizer/{name}", content) for name, content in taken(folder).items()]
    hidden = [(f"__MACOSX/digit-recognizer/._{Path(name).name}", bytes(99)) for name, _ in entries]
    return zipped(folder, data.ARCHIVE, *entries, *hidden)


def one_zip_each(folder: Path) -> Path:
    """Each file in a zip of its own, as Kaggle delivers single files."""
    for name, content in taken(folder).items():
        zipped(folder, f"{name}.zip", (name, content))
    return folder


@pytest.mark.parametrize("packed", [pack, squeeze, repacked, one_zip_each])
def test_zip_and_gz_give_the_same_digits(
    folder: Path, digits: data.Dataset, packed: Callable[[Path], Path]
) -> None:
    assert data.load(packed(folder)).fingerprint == digits.fingerprint


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
        ("test.csv", "", r"holds neither train\.csv, train\.csv\.gz nor digit-recognizer\.zip, but found"),
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
    with raises_line(DataError, found):
        data.load(data.find(None))


def test_the_sample_is_recognized_in_any_folder(tmp_path: Path) -> None:
    for file in (ROOT / "data" / "sample").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    sample = data.load(tmp_path)
    assert (sample.kind, len(sample.train), len(sample.test_labels)) == ("sample", 6000, 4000)


def write_labels(folder: Path) -> None:
    (folder / "test_labels.csv").write_text("ImageId,Label\n" + "".join(f"{i + 1},3\n" for i in range(TEST)))


def test_labels_of_the_competitions_test_rows_are_never_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_labels(folder)
    other = data.load(folder)
    assert (other.kind, len(other.test_labels)) == ("other", TEST)
    monkeypatch.setitem(data.KNOWN_FINGERPRINTS, other.fingerprint["test"], "competition")
    competitions = data.load(folder)
    assert (competitions.kind, competitions.test_labels) == ("competition", None)


@pytest.mark.parametrize("packed", [pack, squeeze])
def test_unpacking_stops_at_a_limit(
    folder: Path, monkeypatch: pytest.MonkeyPatch, packed: Callable[[Path], Path]
) -> None:
    monkeypatch.setattr("digit_recognizer.data.MAX_UNPACKED_BYTES", 2**20)
    with pytest.raises(DataError, match=r"cannot be read \(it holds more than 1,048,576 bytes\)"):
        data.load(packed(folder))


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
        ("two", "holds 2 files called train.csv, expected one; download the archive again"),
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
        monkeypatch.setattr("digit_recognizer.data.MAX_UNPACKED_BYTES", 2**20)
        os.truncate(path, 2**21)
    (folder / "train.csv").unlink()
    with pytest.raises(DataError) as error:
        data.load(folder)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)


@pytest.mark.parametrize("packed", [squeeze, one_zip_each])
def test_what_was_compressed_twice_is_told(folder: Path, packed: Callable[[Path], Path]) -> None:
    for path in folder.iterdir():
        path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(DataError, match=r"train\.csv\S*( \(train\.csv\))?: is compressed twice; unpack"):
        data.load(packed(folder))


NAMES = ["train.csv", "train.csv.gz", data.ARCHIVE, "test.csv", "test_labels.csv", data.OPENML_MARKER]


def unreadable(folder: Path, name: str) -> str:
    """Return why the file cannot be read."""
    with pytest.raises(DataError) as error:
        data.load(folder)
    start, _, reason = str(error.value).partition(": cannot be read ")
    assert start == str(folder / name)
    return reason


@pytest.mark.parametrize("name", NAMES)
def test_only_plain_files_are_read(folder: Path, tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    if name in ("train.csv.gz", data.ARCHIVE):
        (folder / "train.csv").unlink()
    (folder / name).unlink(missing_ok=True)
    for target in ("/dev/zero", tmp_path / "pipe"):  # neither ever ends
        (folder / name).symlink_to(target)
        assert unreadable(folder, name).startswith("(is no plain file)")
        (folder / name).unlink()
    (folder / name).mkdir()
    assert unreadable(folder, name).startswith("(Is a directory)")


def test_a_packed_bomb_takes_little_memory(folder: Path, train_csv: str) -> None:
    row = train_csv.splitlines()[1].encode() + b"\n"
    (folder / "train.csv").unlink()
    with gzip.open(folder / "train.csv.gz", "wb", compresslevel=1) as file:
        file.write(train_csv.encode() + row * 5_000)
        for _ in range(10):
            file.write(b"5\n" * 5_000_000)
    told = "row 5601 below the header is cut short: found 1 of 785"
    with memory_below(2**28), pytest.raises(DataError, match=told):
        data.load(folder)


@pytest.mark.parametrize("packed", [pack, squeeze])
def test_a_damaged_archive_raises_data_error_or_gives_the_same_digits(
    folder: Path, digits: data.Dataset, packed: Callable[[Path], Path]
) -> None:
    broken = packed(folder) / ("train.csv.gz" if packed is squeeze else data.ARCHIVE)
    good, rng, refused = broken.read_bytes(), np.random.default_rng(0), 0
    broken.write_bytes(good[:-200])
    assert unreadable(folder, broken.name).endswith("; download it again")
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


def add_to_train(folder: Path, rows: list[str]) -> None:
    with (folder / "train.csv").open("a") as file:
        file.writelines(f"{row}\n" for row in rows)


def test_test_rows_among_the_train_rows_are_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, test_csv: str
) -> None:
    test_rows = test_csv.splitlines()[1:]
    write_labels(folder)
    monkeypatch.setitem(data.KNOWN_FINGERPRINTS, data.load(folder).fingerprint["test"], "competition")
    add_to_train(folder, [f"3,{row}" for row in (test_rows[6], test_rows[4], test_rows[4])])
    dataset = data.load(folder)
    assert dataset.kind == "train_test_overlap"
    assert dataset.test_labels is None
    _, _, notice = dataset.notices()
    assert f"train.csv holds 2 of the {TEST} rows of test.csv with their labels" in notice
    assert f"row 5 of test.csv is row {TRAIN + 2} of train.csv" in notice
    assert "no run on this data can be uploaded" in notice
    assert notice.isprintable()


def test_a_train_row_that_is_nearly_a_test_row_leaves_the_kind(folder: Path, test_csv: str) -> None:
    changed = test_csv.splitlines()[1].split(",")
    changed[300] = str((int(changed[300]) + 1) % 256)
    add_to_train(folder, [",".join(["3", *changed])])
    assert data.load(folder).kind == "other"


def test_test_labels_of_other_rows_raise_data_error(folder: Path) -> None:
    (folder / "test_labels.csv").write_text("ImageId,Label\n1,3\n")
    with pytest.raises(DataError, match=rf"test_labels\.csv: found 1 rows, expected {TEST}"):
        data.load(folder)
    (folder / "test_labels.csv").write_text("ImageId,Label\n1,12\n")
    with pytest.raises(DataError, match=r"test_labels\.csv: line 2: found Label '12'"):
        data.load(folder)


def test_equal_train_rows_are_found_and_told(folder: Path, digits: data.Dataset, train_csv: str) -> None:
    assert digits.first_rows.tolist() == list(range(TRAIN))
    assert len(list(digits.notices())) == 1
    rows = train_csv.splitlines()[1:]
    relabelled = f"{(int(rows[4][0]) + 1) % 10}{rows[4][1:]}"
    add_to_train(folder, [rows[2], rows[2], relabelled])
    repeated = data.load(folder)
    assert repeated.kind == "other"
    assert repeated.first_rows.tolist() == [*range(TRAIN), 2, 2, 4]
    _, notice = repeated.notices()
    assert f"3 of the {TRAIN + 3} rows of train.csv repeat the pixels of an earlier row, 1 with" in notice
    assert f"row {TRAIN + 1} those of row 3" in notice
    assert notice.isprintable()
