"""The measurement of how often the expected intervals hold, on made-up predictions."""

from pathlib import Path

import numpy as np
from report_runs import predict

from digit_recognizer import data
from scripts import coverage


def test_every_kind_of_run_is_held_against_its_block(digits: data.Dataset, tmp_path: Path) -> None:
    found: list[coverage.Case] = []
    for block in (0, 1):
        dataset = coverage.without_block(digits.train, block)
        assert len(dataset.train) + len(dataset.test) == len(digits.train)
        arrays = {}
        for run, asked in coverage.asked(block).items():
            splits = asked.splits(dataset)
            rows = np.concatenate([split.valid for split in splits])
            for seed, name in enumerate(asked.models):
                arrays[f"{run}/{name}/out_of_fold"] = predict(dataset.train.labels[rows], 0.2, seed)
                arrays[f"{run}/{name}/test"] = predict(dataset.test_labels, 0.2, seed + 100)
        for name in coverage.REFITTED:
            arrays[f"refit/{name}/test"] = predict(dataset.test_labels, 0.0)
        found += coverage.cases(dataset, block, arrays)
    kinds = {case.kind for case in found}
    assert kinds == {"folds", "holdout", "blend", "refit", "best of ten"}
    assert np.mean([case.inside for case in found if case.kind == "holdout"]) > 0.8
    refits = [case for case in found if case.kind == "refit"]
    assert min(case.actual for case in refits) > max(case.expected.value for case in refits)
    assert [case.inside for case in found] == [abs(case.relative_gap) <= 1 for case in found]
    coverage.draw(found, tmp_path / "coverage.png")
    assert (tmp_path / "coverage.png").stat().st_size > 10_000
    head, _, *rows = coverage.describe(found)
    assert len({line.count("|") for line in (head, *rows)}) == 1
    assert [row.split(" | ")[0].strip("| ") for row in rows] == [*dict.fromkeys(c.kind for c in found), "all"]
