"""The table of the references' margins, and what it does to a run's scores."""

from pathlib import Path

import numpy as np
import pytest
from conftest import TRAIN, tiny_job, train, typed

from digit_recognizer import runs
from digit_recognizer.data import references
from digit_recognizer.errors import DataError
from digit_recognizer.nets.arrays import read_arrays, write_arrays
from scripts.references import REFERENCES


def test_the_table_ranks_the_references_from_weak_to_strong() -> None:
    """A margin above 0 is a right prediction; the accuracies are those of docs/recipes.md."""
    assert references.TABLE.stat().st_size < 300_000
    fingerprint = read_arrays(references.TABLE.read_bytes())["fingerprint"].tobytes().hex()
    margins = references.margins(fingerprint, 42_000)
    assert margins is not None
    assert margins.shape == (42_000, len(REFERENCES))
    accuracies = (margins > 0).mean(axis=0)
    assert accuracies.tolist() == sorted(accuracies)
    np.testing.assert_allclose(accuracies, [0.9247, 0.9711, 0.9929, 0.9945], atol=0.02)


def test_other_training_digits_have_no_margins() -> None:
    assert references.margins("0" * 64, 42_000) is None
    fingerprint = read_arrays(references.TABLE.read_bytes())["fingerprint"].tobytes().hex()
    assert references.margins(fingerprint, 43_000) is None  # as a stranger's run.json may say


@pytest.mark.parametrize("content", [None, b"", b"PK no zip", write_arrays({"margins": np.zeros(3)})])
def test_a_damaged_table_is_told_before_long_work(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    table = tmp_path / "references.npz"
    if content is not None:
        table.write_bytes(content)
    monkeypatch.setattr(references, "TABLE", table)
    references._read.cache_clear()
    try:
        with pytest.raises(
            DataError, match=r"references\.npz: cannot be read \(.*; install this package anew"
        ):
            train(tiny_job(home, out=tmp_path, name="none"))
    finally:
        references._read.cache_clear()
    assert not (tmp_path / "none").exists()


def test_a_margin_is_of_the_label_against_the_likeliest_other_digit() -> None:
    probabilities = np.zeros((2, 10), np.float32)
    probabilities[0, [3, 5]] = 0.8, 0.2
    probabilities[1, [3, 5]] = 1, 0
    margins = references.margin(probabilities, np.array([3, 5]))
    np.testing.assert_allclose(margins, [np.log(4) ** 0.5, -(np.log(1e6) ** 0.5)], rtol=1e-5)
    assert np.abs(margins * references.STEPS).max() < 127  # it fits into a byte


def test_a_runs_score_is_adjusted_where_margins_are_known(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    monkeypatch.setattr(references, "margins", lambda *_: rng.normal(size=(TRAIN, 2)))
    run = train(tiny_job(home, folds=None, holdout=0.5, out=tmp_path, name="adjusted"))
    for score in run.manifest.scores.values():
        assert score.raw is not None
        assert score.raw.accuracy != score.accuracy
        assert score.low < score.accuracy < score.high
    held_out, models = run.predictions()
    main = next(model for model in models if model.name == run.manifest.main_model)
    right = main.out_of_fold.argmax(axis=1) == held_out.labels
    assert run.main_score.raw.accuracy == pytest.approx(right.mean())
    page = typed("report", "adjusted", "--out", ".", cwd=tmp_path)
    assert page.code == 0, page.err
    text = (tmp_path / "adjusted/report/report.html").read_text()
    assert f"<td>{run.main_score.raw.accuracy:.4f}</td>" in text
    assert runs.load(run.folder).manifest == run.manifest
