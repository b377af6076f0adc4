"""`predict` reads new digits as the run read its own test digits."""

import gzip
import json
import os
import pickle
import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from conftest import tiny_job, train, typed
from PIL import Image

import digit_recognizer
from digit_recognizer import data, pipeline, runs
from digit_recognizer.errors import PictureError
from digit_recognizer.inference import files
from digit_recognizer.nets import arrays


def save(pixels: np.ndarray, path: Path) -> Path:
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def test_a_run_reads_its_own_test_csv_byte_for_byte(tiny_run: runs.Run, tmp_path: Path) -> None:
    out = tiny_run.folder.parent
    test_csv = out.parent / "data" / "test.csv"
    for method in ("weighted", "stacked"):
        blend = pipeline.blend_runs([tiny_run], method, out=tmp_path, name=method, on_notice=print)
        for run in (tiny_run, blend):
            ended = typed("predict", test_csv, "--run", run.folder, "--csv", "read.csv", cwd=tmp_path)
            assert ended.code == 0, ended.err
            assert (tmp_path / "read.csv").read_bytes() == run.submission.read_bytes()


OF_THE_RUN = [
    "run.json", "submission.csv", "submission-2.csv", "probabilities-2.npz", "config.json", "lock", "fits",
    "fits/x.csv", "fits/new.npz", "report/x.csv", "report/a/b/x.csv",
]  # fmt: skip


ELSEWHERE = ["test.csv", "link.csv", "inside/x.csv", "nosuch/x.csv", ".", ".submitted.json"]


@pytest.mark.parametrize("name", [*ELSEWHERE, *(f"run/{name}" for name in OF_THE_RUN)])
def test_a_csv_that_cannot_be_written_is_refused_before_the_digits_are_read(
    tiny_run: runs.Run, tmp_path: Path, name: str
) -> None:
    (tmp_path / "test.csv").write_text("none of these are digits")
    (tmp_path / "link.csv").symlink_to("test.csv")
    (tmp_path / "inside").symlink_to("run/fits")
    run = shutil.copytree(tiny_run.folder, tmp_path / "run")
    if name.endswith("new.npz"):  # of a run that is not complete
        (run / "run.json").rename(run / "config.json")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    ended = typed("predict", "test.csv", "--run", tiny_run.folder, "--csv", name, cwd=tmp_path)
    assert ended.refusal().startswith(f"Error: {name}: cannot be written (")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_csv_beside_the_runs_own_is_the_users(tiny_run: runs.Run, test_csv: str, tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text(test_csv)
    run = shutil.copytree(tiny_run.folder, tmp_path / "run")
    ended = typed("predict", "test.csv", "--run", run, "--csv", "run/mine.csv", cwd=tmp_path)
    assert (ended.code, ended.out) == (0, "run/mine.csv\n")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no /dev/fd")
def test_stdout_gets_the_csv_alone(
    tiny_run: runs.Run, test_csv: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test.csv").write_text(test_csv)
    (tmp_path / "stdout").symlink_to("/dev/fd/1")  # as /dev/stdout is, which a fault here could replace
    ended = typed("predict", "test.csv", "--run", tiny_run.folder, "--csv", "stdout", cwd=tmp_path)
    assert (ended.code, ended.out) == (0, "")
    assert capfd.readouterr().out == tiny_run.submission.read_text()


def shown(digits: data.Dataset, number: int = 0) -> np.ndarray:
    """Return a test digit dark on light, 112x112."""
    return 255 - np.kron(digits.test[number].reshape(28, 28), np.ones((4, 4), np.uint8))


def animate(path: Path, grey: np.ndarray, form: str) -> None:
    frames = [Image.fromarray(grey), Image.fromarray(255 - grey)]
    frames[0].save(path, format=form, save_all=True, append_images=frames[1:])


def box(brands: bytes) -> bytes:
    return (len(brands) + 8).to_bytes(4, "big") + b"ftyp" + brands + bytes(64)


FOREIGN: dict[str, tuple[Callable[[Path, np.ndarray], object], str]] = {
    "a.png": (lambda path, _: path.write_text("seven"), "is no picture, expected PNG"),
    "b.png": (lambda path, _: path.touch(), "is empty"),
    "c.png": (lambda path, grey: path.write_bytes(save(grey, path).read_bytes()[:150]), "cut off or damaged"),
    "d.png": (lambda path, grey: animate(path, grey, "PNG"), "is animated"),
    "e.gif": (lambda path, grey: animate(path, grey, "GIF"), "is animated"),
    "f.tiff": (lambda path, grey: animate(path, grey, "TIFF"), "several pages"),
    "g.png": (lambda path, grey: save(grey[:1, :1], path), "is 1x1 pixels"),
    "h.png": (lambda path, grey: save(grey * 0, path), "is blank"),
    "i.png": (lambda path, grey: save(np.hstack([grey, grey]), path), "several digits"),
    "j.png": (lambda path, _: Image.new("1", (20_000, 20_000)).save(path), "has more than"),
    "k.png": (lambda path, _: path.mkdir(), "is a folder"),
    "l.png": (lambda path, _: None, "there is no such file"),
    "m.png": (lambda path, _: path.symlink_to("nowhere"), "there is no such file"),
    "n.png": (lambda path, _: os.mkfifo(path), "is no plain file"),
    "o.heic": (lambda path, _: path.write_bytes(box(b"heic\0\0\0\0mif1heic")), "is HEIC, expected PNG"),
    "p.avif": (lambda path, _: path.write_bytes(box(b"avif\0\0\0\0avifmif1")), "is AVIF, expected PNG"),
    "q.jpg": (lambda path, _: path.write_bytes(box(b"isom\0\0\0\0isomavc1")), "is a video"),
    "r.svg": (lambda path, _: path.write_text('<?xml version="1.0"?>\n<svg/>'), "is an SVG drawing"),
    "s.pdf": (lambda path, _: path.write_bytes(b"%PDF-1.7"), "is a PDF"),
    "t.png": (lambda path, _: path.write_text("<!DOCTYPE html>"), "is a web page"),
    "u.tiff": (lambda path, grey: Image.fromarray(grey * np.float32("nan")).save(path), "no number"),
    "v.csv": (lambda path, _: path.write_text("seven"), "the header lacks"),
    "w.csv": (lambda path, _: path.mkdir(), "cannot be read"),
}


def test_a_batch_is_read_but_for_what_is_no_digit(
    tiny_run: runs.Run, digits: data.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PICTURES", 5)
    good = [save(shown(digits, number), tmp_path / f"good-{number}.png") for number in range(3)]
    alone = [typed("predict", path, "--run", tiny_run.folder, cwd=tmp_path).out for path in good]
    paths = [tmp_path / name for name in FOREIGN]
    for path in paths:
        FOREIGN[path.name][0](path, shown(digits))
    batch = [good[0], *paths[:9], good[1], *paths[9:], good[2]]
    ended = typed("predict", *batch, "--run", tiny_run.folder, cwd=tmp_path)
    assert (ended.code, ended.out) == (1, "".join(alone))
    assert all(re.fullmatch(r".*: \d, (1\.0000|0\.\d{4} \(runner-up \d\))\n", line) for line in alone)
    for path, line in zip(paths, ended.err.splitlines(), strict=True):
        assert line.startswith(f"Error: {path}: "), line
        assert FOREIGN[path.name][1] in line, line
    told = typed("predict", *batch, "--run", tiny_run.folder, "--json", cwd=tmp_path)
    entries = json.loads(told.out)["predictions"]
    assert (told.code, [entry["file"] for entry in entries]) == (1, list(map(str, batch)))
    assert [entry["file"] for entry in entries if "label" in entry] == list(map(str, good))
    assert [f"Error: {entry['error']}" for entry in entries if "error" in entry] == ended.err.splitlines()
    refused = typed("predict", *batch, "--run", tiny_run.folder, "--csv", "x.csv", cwd=tmp_path)
    counted = f"{len(paths)} of {len(batch)} files could not be read"
    assert (refused.code, refused.err.splitlines()[-1]) == (1, f"x.csv is not written: {counted}")
    assert not (tmp_path / "x.csv").exists()


def test_python_gets_what_can_be_read_of_a_batch(
    tiny_run: runs.Run, digits: data.Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = save(shown(digits), tmp_path / "good.png"), save(shown(digits) * 0, tmp_path / "bad.png")
    assert [each.file for each in digit_recognizer.predict([bad, good], run=tiny_run.folder)] == [str(good)]
    assert f"{bad}: is blank" in capsys.readouterr().out
    with pytest.raises(PictureError, match="is blank"):
        digit_recognizer.predict(bad, run=tiny_run.folder)


def scaled(grey: np.ndarray, low: float, high: float) -> np.ndarray:
    return low + grey / 255 * (high - low)


def even(grey: np.ndarray, level: int) -> Image.Image:
    return Image.new("L", grey.shape, level)


KINDS: dict[str, Callable[[np.ndarray], Image.Image]] = {
    "8.gif": lambda grey: Image.fromarray(grey),
    "1.png": lambda grey: Image.fromarray(grey).convert("1"),
    "12.png": lambda grey: Image.fromarray(scaled(grey, 0, 4080).astype(np.uint16)),
    "16.png": lambda grey: Image.fromarray(scaled(grey, 30_000, 30_500).astype(np.uint16)),
    "16.tiff": lambda grey: Image.fromarray(scaled(grey, 0, 65535).astype(np.uint16)),
    "32.tiff": lambda grey: Image.fromarray(scaled(grey, -5, 70_000).astype(np.int32)),
    "float.tiff": lambda grey: Image.fromarray(scaled(grey, 0, 1).astype(np.float32)),
    "cmyk.jpg": lambda grey: Image.fromarray(grey).convert("CMYK"),
    "lab.tiff": lambda grey: Image.merge("LAB", [Image.fromarray(grey), *[even(grey, 128)] * 2]),
    "palette.png": lambda grey: Image.fromarray(grey).convert("RGB").quantize(16),
    "white ink.png": lambda grey: Image.merge("LA", [even(grey, 255), Image.fromarray(255 - grey)]),
    "black ink.webp": lambda grey: Image.merge("RGBA", [*[even(grey, 0)] * 3, Image.fromarray(255 - grey)]),
    "turned.jpg": lambda grey: Image.fromarray(grey),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_picture_shows_the_digit(digits: data.Dataset, tmp_path: Path, name: str) -> None:
    picture, exif = KINDS[name](shown(digits)), Image.Exif()
    if name == "turned.jpg":
        picture, exif[0x0112] = picture.transpose(Image.Transpose.ROTATE_90), 6
    picture.save(tmp_path / name, **({"exif": exif} if exif else {}))
    plain = files.read_picture(save(shown(digits), tmp_path / "a.bmp"))
    assert np.abs(files.read_picture(tmp_path / name).astype(int) - plain).mean() < 8


class MakesFolder:
    """An object whose unpickling makes the folder `ran`."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("ran",)


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps(MakesFolder()))


def other_shape(path: Path) -> None:
    stored = arrays.read_arrays(path.read_bytes())
    wider = {name: np.append(array, array[..., -1:], axis=-1) for name, array in stored.items() if array.ndim}
    path.write_bytes(arrays.write_arrays(stored | wider))


@pytest.mark.parametrize("write", [pickled, other_shape, Path.unlink])
def test_what_is_no_model_of_the_run_is_refused_unrun(
    tiny_run: runs.Run, digits: data.Dataset, tmp_path: Path, write: Callable[[Path], None]
) -> None:
    stranger = shutil.copytree(tiny_run.folder, tmp_path / "stranger")
    path = stranger / runs.FITS / tiny_run.manifest.inference_fits["sklearn-mlp"][0]
    write(path)
    picture = save(digits.test[0].reshape(28, 28), tmp_path / "digit.png")
    for words in (("predict", picture, "--run", stranger), ("draw", stranger, "--no-open")):
        assert typed(*words, cwd=tmp_path).refusal().startswith(f"Error: {path}: ")
    assert not (tmp_path / "ran").exists()


STACKED = {
    "method": "stacked", "weights": [0.5, 0.5], "classes": [0, 1], "coefficients": [[1.0], [1.0]],
    "intercepts": [0.0, 0.0],
}  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("inference_fits", {"sklearn-mlp": ["../../x.npz"], "sklearn-mlp-plain": []}),
        ("inference_fits", {"sklearn-mlp": [], "sklearn-mlp-plain": []}),
        ("submission_model", "other"),
        ("blend", None),
        ("blend", {"method": "mean", "weights": [1.0]}),
        ("blend", STACKED | {"classes": [0, 99]}),
        ("blend", STACKED),  # its rows are too short
    ],
)
def test_a_manifest_that_lies_is_refused_in_one_line(
    tiny_run: runs.Run, digits: data.Dataset, tmp_path: Path, field: str, value: object
) -> None:
    stranger = shutil.copytree(tiny_run.folder, tmp_path / "stranger")
    manifest = json.loads((stranger / runs.MANIFEST).read_text())
    (stranger / runs.MANIFEST).write_text(json.dumps(manifest | {field: value}))
    picture = save(digits.test[0].reshape(28, 28), tmp_path / "digit.png")
    ended = typed("predict", picture, "--run", stranger, cwd=tmp_path)
    assert ended.refusal().startswith(f"Error: {stranger / runs.MANIFEST}: ")


def test_a_csv_is_read_in_parts_as_it_is_whole(
    tiny_run: runs.Run, test_csv: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PREDICT_BATCH", 50)  # the test's 150 rows are three parts
    path = tmp_path / "test.csv"
    path.write_text(test_csv + "\n\n")
    assert [len(part.pixels) for part in files.read_csv(path)] == [50, 50, 50]
    ended = typed("predict", path, "--run", tiny_run.folder, "--csv", "read.csv", cwd=tmp_path)
    assert ended.code == 0, ended.err
    assert (tmp_path / "read.csv").read_bytes() == tiny_run.submission.read_bytes()
    packed = tmp_path / "TEST.CSV.GZ"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert typed("predict", packed, "--run", tiny_run.folder, "--csv", "packed.csv", cwd=tmp_path).code == 0
    assert (tmp_path / "packed.csv").read_bytes() == tiny_run.submission.read_bytes()
    packed.write_bytes(packed.read_bytes()[:-9])
    ended = typed("predict", packed, "--run", tiny_run.folder, "--csv", "cut.csv", cwd=tmp_path)
    assert (ended.code, (tmp_path / "cut.csv").exists()) == (1, False)
    assert ended.err.startswith(f"Error: {packed}: cannot be read (Compressed file ended before")
    lines = test_csv.splitlines()
    lines[121] = "256" + lines[121][1:]
    path.write_text("\n".join(lines))
    ended = typed("predict", path, "--run", tiny_run.folder, "--csv", "read.csv", cwd=tmp_path)
    assert "row 121 below the header" in ended.refusal()


def test_a_phones_further_pictures_are_no_animation(digits: data.Dataset, tmp_path: Path) -> None:
    photo = Image.fromarray(np.kron(digits.test[0].reshape(28, 28), np.ones((8, 8), np.uint8)))
    photo.save(tmp_path / "photo.jpg", format="MPO", save_all=True, append_images=[photo.resize((28, 28))])
    photo.save(tmp_path / "plain.jpg")
    read, plain = (files.read_picture(tmp_path / f"{name}.jpg") for name in ("photo", "plain"))
    np.testing.assert_array_equal(read, plain)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "options"),
    [
        ("sklearn-mlp", {"folds": None}),
        ("keras-mlp", {"overrides": ("hidden=16", "epochs=1")}),
        ("sklearn-mlp", {"minutes": 0.1, "folds": None, "jobs": 2}),
    ],
    ids=["holdout", "folds of a Keras net", "minutes"],
)
def test_each_kind_of_run_reads_its_own_test_csv(
    home: Path, recipe: str, options: dict[str, object], tmp_path: Path
) -> None:
    run = train(tiny_job(home, recipes=(recipe,), out=tmp_path, name="own", **options))
    ended = typed("predict", home / "data/test.csv", "--run", run.folder, "--csv", "read.csv", cwd=tmp_path)
    assert ended.code == 0, ended.err
    assert (tmp_path / "read.csv").read_bytes() == run.submission.read_bytes()


def test_a_newest_run_that_is_worse_than_another_is_told(
    tiny_run: runs.Run, digits: data.Dataset, tmp_path: Path
) -> None:
    score = tiny_run.main_score.model_copy(update={"accuracy": 1.0, "low": 0.999, "high": 1.0})
    earlier = {
        "created": datetime(2026, 1, 1, tzinfo=UTC),
        "scores": dict.fromkeys(tiny_run.manifest.scores, score),
    }
    for name, changes in {"newest": {}, "better": earlier}.items():
        folder = shutil.copytree(tiny_run.folder, tmp_path / "submissions" / name)
        runs.write_manifest(folder, tiny_run.manifest.model_copy(update=changes))
    picture = save(digits.test[0].reshape(28, 28), tmp_path / "digit.png")
    ended = typed("predict", picture, cwd=tmp_path)
    newest, better = ended.err.splitlines()
    assert newest.startswith("newest is the newest run: validation accuracy ")
    assert better == "better is better; name it to use it"
