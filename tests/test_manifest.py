"""What decides a run's numbers: all of it is in the config, and nothing else is."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, changed, make_config

from digit_recognizer import manifest
from digit_recognizer.manifest import EnsembleConfig, RunConfig, SplitConfig

CONFIG = make_config()
SETTINGS = dict(CONFIG.recipes)
SHORT = SETTINGS["sklearn-mlp"].replace(epochs=7)


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"command": "validate"}, "command train, not validate"),
        ({"recipes": dict(reversed(SETTINGS.items()))}, "recipes sklearn-mlp, .*, not sklearn-mlp-plain, "),
        ({"recipes": {"sklearn-mlp": SETTINGS["sklearn-mlp"]}}, "recipes sklearn-mlp, .*, not sklearn-mlp$"),
        ({"recipes": {**SETTINGS, "sklearn-mlp": SHORT}}, "recipes.sklearn-mlp.epochs 60, not 7"),
        ({"split": SplitConfig(holdout=0.1, folds=None)}, "split.holdout None, not 0.1"),
        ({"split": SplitConfig(holdout=None, folds=3)}, "split.folds 2, not 3"),
        ({"split": SplitConfig(holdout=None, folds=2, repeats=2)}, "split.repeats 1, not 2"),
        ({"seed": 4}, "seed 3, not 4"),
        ({"refit": True}, "refit False, not True"),
        ({"minutes": 5.0}, "minutes None, not 5.0"),
        ({"blend": False}, "blend True, not False"),
        ({"threads": 2}, "threads 1, not 2"),
        ({"gpus": 1}, "gpus 0, not 1"),
        ({"bfloat16": True}, "bfloat16 None, not True"),
        ({"source_hash": "0" * 16}, "source_hash .*, not 0000000000000000"),
        ({"ensemble": EnsembleConfig(runs=("a",), method="mean")}, r"ensemble.* None, not "),
        ({"data.fingerprint.test": "c" * 64}, "data.fingerprint.test b+, not c+"),
        ({"data.rows.test": 1}, "data.rows.test 150, not 1"),
    ],
)  # fmt: skip
def test_whatever_decides_a_number_is_a_difference(changes: dict[str, Any], difference: str) -> None:
    found = changed(CONFIG, **changes).difference_from(CONFIG)
    assert re.match(difference, found), found
    assert "\n" not in found


def test_cores_are_compared_unless_a_cluster_has_fitted() -> None:
    two, three, cluster = (changed(CONFIG, cores=cores) for cores in (2, 3, None))
    assert three.difference_from(two) == "cores 2, not 3"
    assert cluster.difference_from(two) == two.difference_from(cluster) == ""


def test_all_fields_of_a_config_are_compared_but_how_they_were_typed() -> None:
    tested = {"command", "data", "recipes", "split", "seed", "refit", "minutes", "blend", "threads", "cores",
              "gpus", "bfloat16", "ensemble", "versions", "source_hash"}  # fmt: skip
    assert set(RunConfig.model_fields) == tested | {"options"}
    assert CONFIG.model_copy(update={"options": "--seed 3"}).difference_from(CONFIG) == ""


def test_another_version_of_a_library_is_a_difference() -> None:
    versions = manifest.current_versions()
    assert {"digit_recognizer", "python", "opencv-python-headless", "scipy", "tensorflow"} <= set(versions)
    for library, found in versions.items():
        assert re.match(r"\d+\.", found)
        other = changed(CONFIG, versions={**versions, library: "0"})
        assert other.difference_from(CONFIG) == f"versions.{library} {found}, not 0"


def test_the_folder_that_data_lies_in_is_no_difference() -> None:
    assert changed(CONFIG, **{"data.source": "/elsewhere"}).difference_from(CONFIG) == ""
    assert RunConfig.model_validate_json(CONFIG.model_dump_json()).difference_from(CONFIG) == ""


def test_a_change_of_code_that_decides_numbers_is_a_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "digit_recognizer"
    shutil.copytree(ROOT / "digit_recognizer", package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(manifest, "__file__", str(package / "manifest.py"))
    for file in ("cli/tables.py", "reports/__init__.py", "leaderboard/client.py"):
        (package / file).write_text("")
    assert manifest.source_hash() == CONFIG.source_hash
    seen = {CONFIG.source_hash}
    for file in ("nets/augment.py", "data/parsing.py", "blending.py", "settings.py", "training/fit.py"):
        (package / file).write_text((package / file).read_text() + "# changed\n")
        seen.add(manifest.source_hash())
        (package / file).rename(package / file.replace(".py", "_renamed.py"))
        seen.add(manifest.source_hash())
    assert len(seen) == 11
