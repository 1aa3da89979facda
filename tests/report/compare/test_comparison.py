from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from pclhd.errors import UserError
from pclhd.report.compare.comparison import compare_runs
from pclhd.report.compare.text import comparison_text
from tests.report.compare.fixtures import MakeRun, line_with
from tests.report.fixtures import make_metrics, make_results

# What differs.


def test_settings_that_differ_are_listed_by_dotted_key(make_run: MakeRun) -> None:
    one = make_run("one")
    two = make_run("two", config={"recipe": "paper", "method": {"hard_samples": 4, "labels": "clusters"}})
    compared = compare_runs([one, two])
    assert compared.settings() == {"recipe": ["pclhd", "paper"], "method.hard_samples": [1, 4]}
    assert line_with(comparison_text(compared), "method.hard_samples").split() == ["method.hard_samples", "1", "4"]
    assert not compared.warnings


def test_values_of_different_types_differ_and_null_equals_absent(make_run: MakeRun) -> None:
    one = make_run("one", config={"data": {"trial": 1, "root": None, "flag": True}})
    two = make_run("two", config={"data": {"trial": "1", "flag": 1}})
    assert compare_runs([one, two]).settings() == {"data.trial": [1, "1"], "data.flag": [True, 1]}


def test_a_setting_that_only_one_run_has(make_run: MakeRun) -> None:
    compared = compare_runs([make_run("one"), make_run("two", config={"new": {"key": 5}})])
    assert compared.settings() == {"new.key": [None, 5]}
    assert line_with(comparison_text(compared), "new.key").split() == ["new.key", "–", "5"]


def test_provenance_that_differs(make_run: MakeRun) -> None:
    other = {"libraries": {"torch": "2.12.0", "numba": "0.6"}, "commit": None, "machine": {"model": "that one"}}
    compared = compare_runs([make_run("one"), make_run("two", facts=other)])
    assert compared.facts() == {
        "commit": ["aaaa", "none"],
        "libraries.numba": ["none", "0.6"],
        "libraries.torch": ["2.13.0", "2.12.0"],
        "machine.model": ["this one", "that one"],
    }
    assert line_with(comparison_text(compared), "libraries.torch").split() == ["libraries.torch", "2.13.0", "2.12.0"]


def test_a_section_that_was_not_recorded_is_no_difference(make_run: MakeRun) -> None:
    cameras = {"cameras": {"visible": {"1": 5}}, "resumed": []}
    one, two = make_run("one"), make_run("two", facts=cameras)
    assert compare_runs([one, two]).facts() == {}
    three = make_run("three", facts={**cameras, "resumed": [{"epoch": 3, "threads": 1}]})
    assert compare_runs([two, three]).facts() == {
        "resumed.0.epoch": ["none", "3"],
        "resumed.0.threads": ["none", "1"],
    }


def test_equal_runs_differ_in_nothing(make_run: MakeRun) -> None:
    compared = compare_runs([make_run("one"), make_run("two")])
    assert (compared.settings(), compared.facts(), compared.warnings, compared.notes) == ({}, {}, (), ())
    assert "Settings that differ: none" in comparison_text(compared)
    assert "Provenance that differs: none" in comparison_text(compared)


# Results.


def test_results_are_side_by_side_with_differences_to_the_first(make_run: MakeRun) -> None:
    runs = [make_run("one", level=0.5), make_run("two", level=0.625, config={"recipe": "paper"})]
    compared = compare_runs(runs)
    rows = compared.to_dict()["results"]
    assert [(row["weights"], row["measure"]) for row in rows] == [
        (weights, measure) for weights in ("start", "stage1", "final") for measure in ("rank1", "mAP", "mINP")
    ]
    (final,) = [row for row in rows if (row["weights"], row["measure"]) == ("final", "rank1")]
    assert final == {
        "search": "all/single-shot",
        "weights": "final",
        "measure": "rank1",
        "runs": [0.5, 0.625],
        "differences": [0.0, 0.125],
    }
    assert line_with(comparison_text(compared), "final", "Rank-1").split() == [
        "final",
        "Rank-1",
        "50.0",
        "62.5",
        "(+12.5)",
    ]


def test_a_run_that_was_not_evaluated_gets_dashes_and_a_note(make_run: MakeRun) -> None:
    runs = [make_run("one", level=0.5), make_run("two", config={"recipe": "paper"})]
    (runs[1] / "results.json").unlink()
    compared = compare_runs(runs)
    assert line_with(comparison_text(compared), "final", "Rank-1").split() == ["final", "Rank-1", "50.0", "–"]
    assert list(compared.notes) == [f"two was not evaluated; evaluate it with: pclhd evaluate {runs[1]}"]
    (runs[0] / "results.json").unlink()
    assert "Rank-1" not in comparison_text(compare_runs(runs))


def test_weights_that_one_run_lacks(make_run: MakeRun) -> None:
    without = make_results(searches=("all/single-shot",))
    without["rows"] = [row for row in without["rows"] if row["weights"] != "stage1"]
    text = comparison_text(compare_runs([make_run("one"), make_run("two", results=without, config={"recipe": "x"})]))
    assert line_with(text, "stage I", "mINP").split()[-1] == "–"


def test_clusters_are_those_of_the_last_epoch(make_run: MakeRun) -> None:
    runs = [make_run("one"), make_run("two", config={"recipe": "paper"}), make_run("none", config={"recipe": "dcl"})]
    lines = make_metrics(2, 3)
    lines[-1]["labels"]["ari_visible"] = math.nan
    (runs[1] / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (runs[2] / "metrics.jsonl").unlink()
    compared = compare_runs(runs)
    clusters = compared.to_dict()["clusters"]
    assert clusters["epochs"] == [12, 5, None]
    assert clusters["visible clusters"] == [270, 270, None]
    assert clusters["ari_visible"] == [pytest.approx(0.93), None, None]
    assert line_with(comparison_text(compared), "visible clusters").split()[-3:] == ["270", "270", "–"]
    assert line_with(comparison_text(compared), "match_precision").split() == ["match_precision", "55.0", "55.0", "–"]
    json.dumps(compared.to_dict(), allow_nan=False)


# Names and mistakes.


def test_runs_of_one_name_are_called_by_their_folders(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run("old/demo"), make_run("new/demo")]
    assert [run.name for run in compare_runs(runs).runs] == ["old/demo", "new/demo"]


def test_one_run_or_one_named_twice(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("one")
    with pytest.raises(UserError, match="two or more run folders"):
        compare_runs([run])
    with pytest.raises(UserError, match="named twice"):
        compare_runs([run, tmp_path / "." / "one"])


def test_no_run_folder(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere: is not a run folder \(no config.yaml\)"):
        compare_runs([make_run("one"), tmp_path / "nowhere"])


@pytest.mark.parametrize("file", ["config.yaml", "provenance.json", "metrics.jsonl", "results.json"])
def test_damaged_files_are_named(make_run: MakeRun, file: str) -> None:
    runs = [make_run("one"), make_run("two")]
    (runs[1] / file).write_text("{ no\n[\n")
    with pytest.raises(UserError, match=f"two/{file}"):
        compare_runs(runs)


def test_folders_are_only_read(make_run: MakeRun) -> None:
    runs = [make_run("one"), make_run("two", seed=1)]

    def contents() -> dict[Path, bytes]:
        return {path: path.read_bytes() for run in runs for path in sorted(run.rglob("*")) if path.is_file()}

    before = contents()
    comparison_text(compare_runs(runs))
    assert contents() == before
