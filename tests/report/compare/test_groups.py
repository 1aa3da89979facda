from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from pclhd.report.compare.comparison import compare_runs
from pclhd.report.compare.text import comparison_text
from tests.report.compare.fixtures import MakeRun, line_with, results_with


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


def test_data_folders_and_logging_do_not_split_a_group(make_run: MakeRun) -> None:
    runs = [
        make_run("a-0", config={"data": {"root": "here", "workers": 0}, "engine": {"log_every": 10}}),
        make_run("a-1", seed=1, config={"data": {"root": "there", "workers": 2}, "engine": {"log_every": 5}}),
    ]
    compared = compare_runs(runs)
    assert [len(group.runs) for group in compared.groups] == [2]
    assert line_with(comparison_text(compared), "data.root").split() == ["data.root", "here,", "there"]
    assert "against" not in comparison_text(compared).split("multiple comparisons")[1]


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


def test_other_data_split_a_group(make_run: MakeRun) -> None:
    runs = [make_run("a-0"), make_run("a-1", seed=1, results=results_with(checksum="ab" * 32))]
    assert not compare_runs(runs).grouped


@pytest.mark.parametrize("facts", [{"data": {"training_checksum": "6a" * 32}}, {"start_weights": {"sha256": "ab"}}])
def test_other_training_images_or_start_weights_split_a_group(make_run: MakeRun, facts: dict[str, Any]) -> None:
    first, same, other = make_run("a-0"), make_run("a-1", seed=1), make_run("b-1", seed=1, facts=facts)
    assert compare_runs([first, same]).grouped
    assert not compare_runs([first, other]).grouped


def test_other_test_images_split_a_group_and_are_warned_of(make_run: MakeRun) -> None:
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


def trial(make_run: MakeRun, name: str, number: int, level: float, **config: Any) -> Path:
    """A run on a trial of RegDB, which has images of its own."""
    checksum = f"{number:02d}" * 32
    results = results_with(name=f"regdb-{number}", checksum=checksum, test_checksum=checksum[::-1], synthetic=True)
    return make_run(
        f"{name}-{number}",
        level=level,
        results=results,
        config={"data": {"root": "/regdb", "layout": "regdb", "trial": number}, **config},
        facts={"data": {"training_checksum": checksum}},
    )


def test_the_trials_of_regdb_are_one_method(make_run: MakeRun) -> None:
    first, second = [0.5, 0.52, 0.48], [0.6, 0.63, 0.57]
    runs = [trial(make_run, "a", number, level) for number, level in enumerate(first, start=1)]
    runs += [trial(make_run, "b", number, level, recipe="b") for number, level in enumerate(second, start=1)]
    compared = compare_runs(runs)
    assert [(group.name, [run.trial for run in group.runs]) for group in compared.groups] == [
        ("a", [1, 2, 3]),
        ("b", [1, 2, 3]),
    ]
    assert compared.warnings == ()
    (row,) = [row for row in compared.to_dict()["results"] if (row["weights"], row["measure"]) == ("final", "rank1")]
    a, b = row["groups"]
    assert (a["mean"], a["std"]) == (pytest.approx(0.5), pytest.approx(0.02))
    # The same trials of both methods are compared.
    wanted = stats.ttest_rel(second, first).confidence_interval(0.95)
    assert b["difference"]["low"] == pytest.approx(wanted.low)
    text = comparison_text(compared)
    assert "Groups of runs that differ only in trial and seed" in text
    assert "trial 1, seed 0; trial 2, seed 0; trial 3, seed 0" in text
    assert "over the trials and seeds" in text


def test_which_trials_of_regdb_do_not_belong_together(make_run: MakeRun) -> None:
    one = trial(make_run, "a", 1, 0.5)
    for name, number, changes in (
        ("other-settings", 2, {"recipe": "b"}),
        ("other-data", 2, {"data": {"root": "/elsewhere", "layout": "regdb", "trial": 2}}),
        ("the-same-again", 1, {}),
    ):
        assert not compare_runs([one, trial(make_run, name, number, 0.5, **changes)]).grouped, name
    (warning,) = compare_runs([one, trial(make_run, "apart", 2, 0.5, recipe="b")]).warnings
    assert warning == "not comparable: apart-2 was tested on regdb-2, a-1 on regdb-1"


def test_a_trial_that_is_not_evaluated_yet_stays_in_its_group(make_run: MakeRun) -> None:
    runs = [trial(make_run, "a", number, 0.5) for number in (1, 2, 3)]
    (runs[1] / "results.json").unlink()
    assert [len(group.runs) for group in compare_runs(runs).groups] == [3]
