from __future__ import annotations

import json
from typing import Any

import pytest

from pclhd.models.two_stream import NARROW, TwoStreamNetwork
from pclhd.models.weights import save_model
from pclhd.report.compare.comparison import compare_runs
from pclhd.report.compare.text import comparison_text
from tests.report.compare.fixtures import MakeRun, line_with, results_with
from tests.report.fixtures import make_metrics, make_results


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        ({"name": "regdb-1"}, "tested on regdb-1, one on synthetic-small"),
        ({"checksum": "ab" * 32}, "tested on data with checksum abababababab, one on data with checksum 5f5f5f5f5f5f"),
        ({"test_images": 7}, "tested on 7 images, one on 4104 images"),
    ],
)
def test_other_test_data_is_warned_of(make_run: MakeRun, dataset: dict[str, Any], said: str) -> None:
    compared = compare_runs([make_run("one"), make_run("two", results=results_with(**dataset))])
    (warning,) = compared.warnings
    assert warning.startswith("not comparable: two was ")
    assert said in warning
    assert comparison_text(compared).startswith(f"warning: {warning}\n")


def test_other_training_images_are_warned_of(make_run: MakeRun) -> None:
    other = {"data": {"training_checksum": "ab" * 32}}
    (warning,) = compare_runs([make_run("one"), make_run("two", facts=other)]).warnings
    assert warning == "two was trained on other images (checksum abababababab) than one (5f5f5f5f5f5f)"


def test_searches_that_differ_are_warned_of(make_run: MakeRun) -> None:
    other = make_results(searches=("all/single-shot", "indoor/single-shot"))
    (warning,) = compare_runs([make_run("one"), make_run("two", results=other)]).warnings
    assert warning.endswith("only one of them has: indoor/single-shot")


@pytest.mark.parametrize(("key", "what"), [("queries", "queries"), ("gallery", "gallery images"), ("trials", "trials")])
def test_searches_of_another_size_are_warned_of(make_run: MakeRun, key: str, what: str) -> None:
    other = make_results(searches=("all/single-shot",))
    for row in other["rows"]:
        row[key] = 1
    (warning,) = compare_runs([make_run("one"), make_run("two", results=other)]).warnings
    assert f"not comparable: all/single-shot had 1 {what} in two" in warning


def test_another_rule_of_the_search_is_warned_of(make_run: MakeRun) -> None:
    runs = [make_run("one"), make_run("two", config={"data": {"same_camera_rule": True}})]
    (warning,) = compare_runs(runs).warnings
    assert "data.same_camera_rule" in warning
    assert not compare_runs([make_run("off", config={"data": {"same_camera_rule": False}}), runs[0]]).warnings


@pytest.mark.parametrize("labels", ["identities", "visible_identities"])
def test_training_with_labels_is_warned_of(make_run: MakeRun, labels: str) -> None:
    compared = compare_runs([make_run("one"), make_run("two", config={"method": {"labels": labels}})])
    (warning,) = compared.warnings
    assert warning.startswith("two was trained with the identities of ")
    assert ("visible images" in warning) == (labels == "visible_identities")
    assert [run["labels"] for run in compared.to_dict()["runs"]] == ["none", labels]


def test_the_upper_bound_is_known_by_its_model_file(make_run: MakeRun) -> None:
    runs = [make_run("one"), make_run("two", seed=1)]
    save_model(runs[1] / "model.safetensors", TwoStreamNetwork(NARROW), {"weights": "supervised"})
    compared = compare_runs(runs)
    assert [warning.split(" was ")[0] for warning in compared.warnings] == ["two"]
    # It has the settings of an unsupervised run, but is not one.
    assert not compared.grouped
    save_model(runs[1] / "model.safetensors", TwoStreamNetwork(NARROW), {"weights": "final"})
    assert not compare_runs(runs).warnings


@pytest.mark.parametrize("content", [b"", b"\xff" * 8, b"\x02" + b"\0" * 7 + b"{}", b"\x02" + b"\0" * 7 + b"[]"])
def test_a_strange_model_file_is_ignored(make_run: MakeRun, content: bytes) -> None:
    run = make_run("two")
    (run / "model.safetensors").write_bytes(content)
    assert not compare_runs([make_run("one"), run]).warnings


def test_imported_runs_are_warned_of_and_never_grouped(make_run: MakeRun) -> None:
    imported = {"imported": {"file": "best.pth"}}
    runs = [make_run("one", facts=imported), make_run("two", seed=1, facts=imported)]
    compared = compare_runs(runs)
    assert not compared.grouped
    assert [warning.split(" was ")[0] for warning in compared.warnings] == ["one", "two"]


def test_an_import_has_no_seed_to_be_paired_by(make_run: MakeRun) -> None:
    known = {"imported": {"file": "best.pth"}, "data": {"training_checksum": "6a" * 32}}
    runs = [make_run("a-0", level=0.5), make_run("a-1", seed=1, level=0.6), make_run("theirs", level=0.3, facts=known)]
    compared = compare_runs(runs)
    assert [run["seed"] for run in compared.to_dict()["runs"]] == [0, 1, None]
    assert line_with(comparison_text(compared), "final", "Rank-1").endswith("30.0  – (no seed in common)")
    # Nor are two imports a pair.
    other = make_run("others", level=0.4, facts=known)
    text = comparison_text(compare_runs([runs[2], other, *runs[:2]]))
    assert "one seed in common" not in text
    # The warning says that its training images are not known, so there is none about their checksum.
    (warning,) = compared.warnings
    assert "was imported" in warning


def test_an_interrupted_run_is_noted(make_run: MakeRun) -> None:
    schedule = {"schedule": {"stage1_epochs": 4, "stage2_epochs": 10}}
    runs = [make_run("one", config=schedule), make_run("two", config=schedule)]
    (runs[1] / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in make_metrics(4, 10)))
    assert compare_runs(runs).notes == (f"one logged 12 of 14 epochs; continue with: pclhd train --resume {runs[0]}",)


def test_a_run_without_provenance_is_noted(make_run: MakeRun) -> None:
    runs = [make_run("one"), make_run("two")]
    (runs[1] / "provenance.json").unlink()
    compared = compare_runs(runs)
    assert compared.facts() == {}
    assert compared.notes == ("two has no provenance, so its versions and its machine are unknown",)
