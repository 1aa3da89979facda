from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from scipy import stats

from pclhd.errors import UserError
from pclhd.models.two_stream import NARROW, TwoStreamNetwork
from pclhd.models.weights import save_model
from pclhd.report.compare.runs import compare_runs
from pclhd.report.compare.text import comparison_text
from tests.report.fixtures import make_metrics, make_results, write_run

MakeRun = Callable[..., Path]
DEMO = {"preset": "synthetic", "seed": 0, "recipe": "pclhd", "method": {"hard_samples": 1, "labels": "clusters"}}
FACTS: dict[str, Any] = {
    "pclhd": "0.1.0",
    "commit": "aaaa",
    "libraries": {"torch": "2.13.0"},
    "machine": {"model": "this one"},
    "seed": 0,
    "data": {"training_checksum": "5f" * 32},
}


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Writes a run folder: what is asked for is changed, all else is the same."""

    def make(
        name: str,
        *,
        seed: int = 0,
        level: float | None = None,
        config: dict[str, Any] | None = None,
        facts: dict[str, Any] | None = None,
        results: dict[str, Any] | None = None,
    ) -> Path:
        saved = make_results(searches=("all/single-shot",)) if results is None else results
        if level is not None:
            for row in saved["rows"]:
                row["rank1"]["mean"] = level if row["weights"] == "final" else 0.2
        run = write_run(tmp_path / name, results=saved)
        tree = {**DEMO, "seed": seed, **(config or {})}
        (run / "config.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
        (run / "provenance.json").write_text(json.dumps({**FACTS, "seed": seed, **(facts or {})}))
        return run

    return make


def line_with(text: str, *words: str) -> str:
    """The one line that holds all the words."""
    (line,) = [line for line in text.splitlines() if all(word in line for word in words)]
    return line


# What differs.


def test_settings_that_differ_are_told_by_dotted_key(make_run: MakeRun) -> None:
    one = make_run("one")
    two = make_run("two", config={"recipe": "paper", "method": {"hard_samples": 4, "labels": "clusters"}})
    compared = compare_runs([one, two])
    assert compared.settings() == {"recipe": ["pclhd", "paper"], "method.hard_samples": [1, 4]}
    assert line_with(comparison_text(compared), "method.hard_samples").split() == ["method.hard_samples", "1", "4"]
    assert not compared.warnings


def test_kinds_of_values_are_told_apart_and_null_is_as_good_as_absent(make_run: MakeRun) -> None:
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


def test_results_stand_side_by_side_with_differences_to_the_first(make_run: MakeRun) -> None:
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
    assert list(compared.notes) == [f"two was not evaluated; do so with: pclhd evaluate {runs[1]}"]
    (runs[0] / "results.json").unlink()
    assert "Rank-1" not in comparison_text(compare_runs(runs))


def test_weights_that_one_run_lacks(make_run: MakeRun) -> None:
    without = make_results(searches=("all/single-shot",))
    without["rows"] = [row for row in without["rows"] if row["weights"] != "stage1"]
    text = comparison_text(compare_runs([make_run("one"), make_run("two", results=without, config={"recipe": "x"})]))
    assert line_with(text, "stage I", "mINP").split()[-1] == "–"


def test_the_last_epoch_tells_of_clusters(make_run: MakeRun) -> None:
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


# Warnings.


def results_with(**dataset: Any) -> dict[str, Any]:
    results = make_results(searches=("all/single-shot",))
    results["dataset"] |= dataset
    return results


@pytest.mark.parametrize(
    ("dataset", "told"),
    [
        ({"name": "regdb-1"}, "tested on regdb-1, one on synthetic-small"),
        ({"checksum": "ab" * 32}, "tested on data with checksum abababababab, one on data with checksum 5f5f5f5f5f5f"),
        ({"test_images": 7}, "tested on 7 images, one on 4104 images"),
    ],
)
def test_other_test_data_is_warned_of(make_run: MakeRun, dataset: dict[str, Any], told: str) -> None:
    compared = compare_runs([make_run("one"), make_run("two", results=results_with(**dataset))])
    (warning,) = compared.warnings
    assert warning.startswith("not comparable: two was ")
    assert told in warning
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
    # It has the settings of an unsupervised run, and is none.
    assert not compared.grouped
    save_model(runs[1] / "model.safetensors", TwoStreamNetwork(NARROW), {"weights": "final"})
    assert not compare_runs(runs).warnings


@pytest.mark.parametrize("content", [b"", b"\xff" * 8, b"\x02" + b"\0" * 7 + b"{}", b"\x02" + b"\0" * 7 + b"[]"])
def test_a_strange_model_file_says_nothing(make_run: MakeRun, content: bytes) -> None:
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
    # That nobody knows what it was trained on is said; its data's checksum would say otherwise.
    (warning,) = compared.warnings
    assert "was imported" in warning


def test_an_interrupted_run_is_noted(make_run: MakeRun) -> None:
    schedule = {"schedule": {"stage1_epochs": 4, "stage2_epochs": 10}}
    runs = [make_run("one", config=schedule), make_run("two", config=schedule)]
    (runs[1] / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in make_metrics(4, 10)))
    assert compare_runs(runs).notes == (f"one logged 12 of 14 epochs; go on with: pclhd train --resume {runs[0]}",)


def test_a_run_without_provenance_is_noted(make_run: MakeRun) -> None:
    runs = [make_run("one"), make_run("two")]
    (runs[1] / "provenance.json").unlink()
    compared = compare_runs(runs)
    assert compared.facts() == {}
    assert compared.notes == ("two has no provenance, so its versions and its machine are unknown",)


# Seeds.


def test_seeds_of_a_setting_make_a_group(make_run: MakeRun) -> None:
    first, second = [0.5, 0.52, 0.48], [0.6, 0.63, 0.57]
    runs = [make_run(f"a-{seed}", seed=seed, level=level) for seed, level in enumerate(first)]
    runs += [make_run(f"b-{seed}", seed=seed, level=v, config={"recipe": "b"}) for seed, v in enumerate(second)]
    compared = compare_runs(runs)
    tree = compared.to_dict()
    assert [(group["name"], group["seeds"]) for group in tree["groups"]] == [("a", [0, 1, 2]), ("b", [0, 1, 2])]
    (row,) = [row for row in tree["results"] if (row["weights"], row["measure"]) == ("final", "rank1")]
    a, b = row["groups"]
    assert a == {"mean": pytest.approx(0.5), "std": pytest.approx(0.02), "seeds": 3, "difference": None}
    assert (b["mean"], b["std"]) == (pytest.approx(0.6), pytest.approx(0.03))
    wanted = stats.ttest_rel(second, first).confidence_interval(0.95)
    difference = b["difference"]
    assert (difference["low"], difference["high"]) == (pytest.approx(wanted.low), pytest.approx(wanted.high))
    assert (difference["mean"], difference["seeds"], difference["distinguishable"]) == (pytest.approx(0.1), 3, True)
    text = comparison_text(compared)
    assert line_with(text, "a-0, a-1, a-2").split()[:4] == ["a", "0,", "1,", "2"]
    shown = " ".join(line_with(text, "final", "Rank-1").split())
    assert shown == "final Rank-1 50.0 ± 2.0 60.0 ± 3.0 +10.0 [+7.5, +12.5]"
    # The other measures are the same in all runs.
    assert line_with(text, "final", "mAP").endswith("0.0 [0.0, 0.0] not distinguishable")


def test_pairs_are_made_by_seed_and_not_by_place(make_run: MakeRun) -> None:
    runs = [make_run(f"a-{seed}", seed=seed, level=0.3 + 0.1 * seed) for seed in (0, 1, 2)]
    runs += [make_run(f"b-{seed}", seed=seed, level=0.35 + 0.1 * seed, config={"recipe": "b"}) for seed in (3, 2, 1)]
    (row,) = [
        row for row in compare_runs(runs).to_dict()["results"] if (row["weights"], row["measure"]) == ("final", "rank1")
    ]
    difference = row["groups"][1]["difference"]
    assert (difference["seeds"], difference["mean"]) == (2, pytest.approx(0.05))
    assert difference["high"] - difference["low"] == pytest.approx(0, abs=1e-12)


def test_one_common_seed_has_no_interval_and_none_no_difference(make_run: MakeRun) -> None:
    runs = [make_run(f"a-{seed}", seed=seed, level=0.5) for seed in (0, 1)]
    runs += [make_run("b", seed=1, level=0.6, config={"recipe": "b"})]
    assert line_with(comparison_text(compare_runs(runs)), "final", "Rank-1").endswith(
        "+10.0 (one seed in common: no interval)"
    )
    runs[-1] = make_run("c", seed=7, level=0.6, config={"recipe": "b"})
    assert line_with(comparison_text(compare_runs(runs)), "final", "Rank-1").endswith("60.0  – (no seed in common)")
    (runs[-1] / "results.json").unlink()
    assert line_with(comparison_text(compare_runs(runs)), "final", "Rank-1").split()[-2:] == ["–", "–"]


def test_where_data_lie_and_what_is_logged_does_not_part_a_group(make_run: MakeRun) -> None:
    runs = [
        make_run("a-0", config={"data": {"root": "here", "workers": 0}, "engine": {"log_every": 10}}),
        make_run("a-1", seed=1, config={"data": {"root": "there", "workers": 2}, "engine": {"log_every": 5}}),
    ]
    compared = compare_runs(runs)
    assert [len(group.runs) for group in compared.groups] == [2]
    assert line_with(comparison_text(compared), "data.root").split() == ["data.root", "here,", "there"]
    assert "against" not in comparison_text(compared).split("interval by itself")[1]


def test_the_same_seed_twice_makes_two_groups(make_run: MakeRun) -> None:
    runs = [
        make_run(f"{version}-{seed}", seed=seed, facts={"commit": version})
        for version in ("old", "new")
        for seed in (0, 1)
    ]
    compared = compare_runs(runs)
    assert [(group.name, [run.name for run in group.runs]) for group in compared.groups] == [
        ("old", ["old-0", "old-1"]),
        ("new", ["new-0", "new-1"]),
    ]
    assert line_with(comparison_text(compared), "commit").split() == ["commit", "old", "new"]


def test_other_data_part_a_group(make_run: MakeRun) -> None:
    runs = [make_run("a-0"), make_run("a-1", seed=1, results=results_with(checksum="ab" * 32))]
    assert not compare_runs(runs).grouped


@pytest.mark.parametrize("facts", [{"data": {"training_checksum": "6a" * 32}}, {"start_weights": {"sha256": "ab"}}])
def test_other_training_images_or_start_weights_part_a_group(make_run: MakeRun, facts: dict[str, Any]) -> None:
    first, same, other = make_run("a-0"), make_run("a-1", seed=1), make_run("b-1", seed=1, facts=facts)
    assert compare_runs([first, same]).grouped
    assert not compare_runs([first, other]).grouped


def test_other_test_images_part_a_group_and_are_warned_of(make_run: MakeRun) -> None:
    results = [results_with(test_checksum=letter * 64) for letter in "aab"]
    same, other = (
        compare_runs([make_run(f"{name}-{seed}", seed=seed, results=results[seed]) for seed in seeds])
        for name, seeds in (("a", (0, 1)), ("b", (0, 2)))
    )
    assert same.grouped
    assert same.warnings == ()
    assert not other.grouped
    tested = "not comparable: b-2 was tested on test images with checksum {}, b-0 on test images with checksum {}"
    assert other.warnings == (tested.format("b" * 12, "a" * 12),)


def test_the_same_test_images_beside_other_training_images_are_comparable(make_run: MakeRun) -> None:
    results = [results_with(checksum=letter * 64, test_checksum="c" * 64) for letter in "ab"]
    facts = [{"data": {"training_checksum": letter * 64}} for letter in "ab"]
    compared = compare_runs([make_run(str(n), results=results[n], facts=facts[n]) for n in range(2)])
    assert compared.warnings == (f"1 was trained on other images (checksum {'b' * 12}) than 0 ({'a' * 12})",)


def test_a_seed_that_is_not_evaluated_yet_stays_in_its_group(make_run: MakeRun) -> None:
    runs = [make_run(f"a-{seed}", seed=seed, level=0.5 + 0.1 * seed) for seed in (0, 1, 2)]
    (runs[0] / "results.json").unlink()
    compared = compare_runs(runs)
    assert [len(group.runs) for group in compared.groups] == [3]
    (row,) = [row for row in compared.to_dict()["results"] if (row["weights"], row["measure"]) == ("final", "rank1")]
    assert row["groups"] == [
        {"mean": pytest.approx(0.65), "std": pytest.approx(0.1 / math.sqrt(2)), "seeds": 2, "difference": None}
    ]
    assert row["runs"] == [None, pytest.approx(0.6), pytest.approx(0.7)]


def test_groups_of_one_name_are_numbered(make_run: MakeRun) -> None:
    runs = [make_run(f"run-{n}", seed=n % 2, config={"recipe": "ab"[n // 2]}) for n in range(4)]
    assert [group.name for group in compare_runs(runs).groups] == ["run (1)", "run (2)"]
    runs = [make_run("x", seed=0), make_run("y", seed=1)]
    assert [group.name for group in compare_runs(runs).groups] == ["x …"]


# Names and mistakes.


def test_runs_of_one_name_are_told_apart_by_their_folders(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run("old/demo"), make_run("new/demo")]
    assert [run.name for run in compare_runs(runs).runs] == ["old/demo", "new/demo"]


def test_one_run_or_one_named_twice(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("one")
    with pytest.raises(UserError, match="two run folders or more"):
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
