"""`predict` reads new digits as the run read its own test digits."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Run, typed
from PIL import Image

from digit_recognizer import data, pipeline, runs


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


def test_pictures_are_read_as_the_rows_that_they_show(
    tiny_run: runs.Run, digits: data.Dataset, tmp_path: Path
) -> None:
    shown = digits.test[:20].reshape(-1, 28, 28)
    plain = [save(digit, tmp_path / f"{number}.png") for number, digit in enumerate(shown)]
    inverted = [save(255 - digit, tmp_path / f"{number}.bmp") for number, digit in enumerate(shown)]
    expected = tiny_run.submission.read_text().split()[1:21]
    for pictures in (plain, inverted):
        ended = typed("predict", *pictures, "--run", tiny_run.folder, "--json", cwd=tmp_path)
        read = json.loads(ended.out)["predictions"]
        assert [digit["file"] for digit in read] == [str(picture) for picture in pictures]
        same = [
            f"{i},{digit['label']}" == row
            for i, (digit, row) in enumerate(zip(read, expected, strict=True), 1)
        ]
        assert np.mean(same) >= 0.95


@pytest.mark.parametrize("kind", ["text", "cut off", "animated", "1x1", "blank", "several", "bomb"])
def test_what_is_no_digit_is_refused_in_one_line(
    tiny_run: runs.Run, digits: data.Dataset, tmp_path: Path, kind: str
) -> None:
    digit = digits.test[0].reshape(28, 28)
    path = tmp_path / "picture.png"
    if kind == "text":
        path.write_text("seven")
    elif kind == "cut off":
        path.write_bytes(save(np.kron(digit, np.ones((9, 9))), path).read_bytes()[:600])
    elif kind == "animated":
        frames = [Image.fromarray(digit), Image.fromarray(255 - digit)]
        frames[0].save(path, save_all=True, append_images=frames[1:])
    elif kind == "bomb":
        Image.new("1", (20_000, 20_000)).save(path)
    else:
        pixels = {"1x1": digit[:1, :1], "blank": digit * 0, "several": np.hstack([digit, digit * 0, digit])}
        save(pixels[kind], path)
    ended = typed("predict", path, "--run", tiny_run.folder, cwd=tmp_path)
    assert (ended.code, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert ended.err.startswith(f"Error: {path}: ")


def test_a_file_that_is_no_model_is_refused(tiny_run: runs.Run, tmp_path: Path) -> None:
    import pickle
    import shutil

    run = shutil.copytree(tiny_run.folder, tmp_path / "stranger")
    for file in (run / runs.MODELS).iterdir():
        file.write_bytes(pickle.dumps(print))
    ended = typed("predict", tiny_run.folder.parents[1] / "data" / "test.csv", "--run", run, cwd=tmp_path)
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert "not a model's .npz file" in ended.err


def test_without_a_run_one_line_says_what_to_do(run: Run, tmp_path: Path, digits: data.Dataset) -> None:
    picture = save(digits.test[0].reshape(28, 28), tmp_path / "digit.png")
    ended = run("predict", picture)
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert "`train` makes one" in ended.err
