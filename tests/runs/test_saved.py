from __future__ import annotations

import json
from pathlib import Path

import pytest

from pclhd.errors import UserError
from pclhd.runs.folder import RunFolder
from pclhd.runs.saved import read_run
from tests.report.fixtures import make_results, write_run


def test_an_empty_folder_is_an_empty_run(tmp_path: Path) -> None:
    run = read_run(RunFolder(tmp_path))
    assert (run.settings_text, run.settings, run.facts, run.epochs, run.results) == ("", {}, {}, (), None)
    assert (run.labels, run.imported, run.setting("seed")) == ("none", False, None)


def test_all_files_are_read(tmp_path: Path) -> None:
    run = read_run(RunFolder(write_run(tmp_path / "run")))
    assert run.settings_text.endswith("# a < b & c\n")
    assert run.setting("model.architecture") == "narrow"
    assert run.facts["libraries.torch"] == "2.99.0"
    assert len(run.epochs) == 12
    assert run.results is not None
    assert run.results.dataset.name == "synthetic-small"


@pytest.mark.parametrize(
    ("setting", "training", "labels"),
    [
        ("clusters", "unsupervised", "none"),
        ("clusters", None, "none"),
        ("clusters", "imported", "none"),
        ("clusters", "supervised", "identities"),
        ("clusters", "semi-supervised", "visible_identities"),
        ("identities", None, "identities"),
        ("visible_identities", "semi-supervised", "visible_identities"),
    ],
)
def test_which_labels_trained_it(tmp_path: Path, setting: str, training: str | None, labels: str) -> None:
    run = write_run(tmp_path / "run", results={**make_results(), "training": training})
    (run / "config.yaml").write_text(f"method: {{labels: {setting}}}\n")
    assert read_run(RunFolder(run)).labels == labels


def test_an_import_is_known_by_its_provenance(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / "provenance.json").write_text(json.dumps({"imported": {"file": "best.pth"}}))
    assert read_run(RunFolder(run)).imported


@pytest.mark.parametrize("file", ["config.yaml", "provenance.json", "metrics.jsonl", "results.json"])
def test_damaged_files_are_named(tmp_path: Path, file: str) -> None:
    run = write_run(tmp_path / "run")
    (run / file).write_text("{ no\n[\n")
    with pytest.raises(UserError, match=f"run/{file}"):
        read_run(RunFolder(run))
