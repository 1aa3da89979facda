"""The benchmarks run in their quick form, and the tools that they share work as documented."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from benchmarks import (
    ablation_tables,
    calibration,
    clusterings,
    differences,
    hard_prototypes,
    lite0,
    loop_yields,
    precision,
    rounding,
    scale,
    training_runs,
)
from benchmarks.baselines.dense_jaccard import (
    distance_by_definition,
    jaccard_as_the_field_does,
    jaccard_in_lean_loops,
    search_in_blocks,
)
from benchmarks.jaccard import EPS, largest_differences
from benchmarks.made_up import Crowd, crowd_of, even_crowd, made_up_features
from benchmarks.measuring import Steps, as_singletons, in_a_process
from benchmarks.showing import markdown_table, name_the_ends, read_rows, short, spread_out, write_json
from benchmarks.training_runs import complete
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from pclhd.clustering.eps import CANDIDATES
from pclhd.clustering.jaccard import jaccard_similarity
from pclhd.clustering.neighbours import nearest_neighbours
from pclhd.config import load_preset
from pclhd.engine.labelling import EpochLabels
from pclhd.models.architecture import NARROW
from pclhd.workflows.trainings import TrainingRun
from tests.readings import ABRUPT_WORDS

ROOT = Path(__file__).parent.parent


def draw(crowd: Crowd, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    return made_up_features(crowd, np.random.default_rng(seed))


def first_drawing(number: int, width: int, seed: int) -> NDArray[np.float32]:
    """The features of the first measurements, as they were drawn before crowds could be uneven."""
    generator = np.random.default_rng(seed)
    people = max(1, number // 56)
    person = generator.integers(0, people, number)
    camera = generator.integers(0, 4, number)
    low = generator.standard_normal((people, 32))[person]
    low += 0.5 * generator.standard_normal((people, 4, 32))[person, camera]
    low += 0.5 * generator.standard_normal((number, 32))
    projection = generator.standard_normal((32, width)).astype(np.float32)
    features = low.astype(np.float32) @ projection
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return features


@pytest.mark.parametrize("number", [1, 55, 56, 1500])
def test_the_even_crowd_is_that_of_the_first_measurements(number: int) -> None:
    features, person, modality = draw(even_crowd(number, 48), seed=number)
    np.testing.assert_allclose(features, first_drawing(number, 48, number), atol=1e-6)
    assert set(person.tolist()) <= set(range(max(1, number // 56)))
    assert not modality.any()


def test_a_crowd_has_uneven_people_outliers_and_both_modalities() -> None:
    features, person, modality = draw(crowd_of(4000, 32, gap=1.0))
    assert features.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)
    sizes = np.bincount(person)
    alone = sizes[100:]
    assert (alone == 1).all()
    assert 0.01 < len(alone) / 4000 < 0.04
    assert sizes[:100].max() > 4 * max(1, sizes[:100].min())
    assert 0.25 < modality.mean() < 0.42
    infrared_centre, visible_centre = (features[modality == code].mean(axis=0) for code in (1, 0))
    assert np.linalg.norm(infrared_centre - visible_centre) > 0.3


def test_images_of_a_person_are_nearer_than_others_but_not_all() -> None:
    features, person, _ = draw(crowd_of(3000, 64))
    distance = 1 - features @ features.T
    np.fill_diagonal(distance, np.inf)
    nearest = np.argsort(distance, axis=1)[:, :20]
    right = float(np.mean(person[nearest] == person[:, None]))
    assert 0.7 < right < 0.99


def test_a_drawing_depends_on_its_generator_alone() -> None:
    once, again, other = (draw(crowd_of(500, 16), seed) for seed in (3, 3, 4))
    assert np.array_equal(once[0], again[0])
    assert not np.array_equal(once[0], other[0])


def steps_within_steps() -> tuple[dict[str, float | None], dict[str, float], float | None]:
    steps = Steps()
    steps.run("nothing", lambda: None)

    def outer() -> float:
        first = float(np.ones(50 * 2**17).sum())  # 50 MiB, given back before the inner step
        return first + steps.run("inner", lambda: float(np.ones(200 * 2**17).sum()))

    steps.run("outer", outer)
    late = steps.run("late", lambda: float(np.ones(20 * 2**17).sum()))
    assert late == 20 * 2**17
    return steps.gib, steps.seconds, steps.peak_gib


def test_steps_measure_memory_of_inner_and_outer_steps() -> None:
    # In a process of its own: this one may hold freed memory of other tests, which a step would use first.
    gib, seconds, peak = in_a_process(steps_within_steps)
    if gib["nothing"] is None or gib["inner"] is None or gib["outer"] is None or gib["late"] is None:
        pytest.skip("this system does not report peak memory")
    assert gib["inner"] > 0.18
    assert gib["outer"] >= gib["inner"]
    assert gib["late"] < 0.1
    assert peak == gib["outer"]
    assert seconds["outer"] >= seconds["inner"] > 0


def test_a_watched_function_is_a_step() -> None:
    steps = Steps()
    watched = steps.watch("length", len)
    assert watched([1, 2, 3]) == 3
    assert set(steps.seconds) == {"length"}


def test_a_call_in_a_process_returns_and_raises() -> None:
    assert in_a_process(os.getpid) != os.getpid()
    with pytest.raises(ValueError, match="could not convert"):
        in_a_process(float, "nine")


def test_noise_becomes_clusters_of_one() -> None:
    assert as_singletons(np.array([1, -1, 0, -1])).tolist() == [1, 2, 0, 3]
    assert as_singletons(np.array([-1, -1])).tolist() == [0, 1]
    assert as_singletons(np.array([], dtype=np.int64)).tolist() == []


@given(st.lists(st.floats(0, 300), max_size=12).map(sorted), st.floats(1, 40))
@settings(max_examples=60, deadline=None)
def test_names_are_spread_out_no_further_than_needed(places: list[float], apart: float) -> None:
    spread = spread_out(places, apart)
    assert len(spread) == len(places)
    for below, above in itertools.pairwise(spread):
        assert above - below >= apart * (1 - 1e-6)
    if all(above - below >= apart for below, above in itertools.pairwise(places)):
        assert spread == places
    if places:
        assert sum(spread) == pytest.approx(sum(places), abs=1e-6)


def test_names_are_beside_their_curves() -> None:
    figure = Figure(figsize=(4, 3))
    axes = figure.subplots()
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    name_the_ends(figure, axes, [("high", 1.0, 0.9, "red"), ("low", 1.0, 0.1, "blue"), ("lower", 1.0, 0.099, "grey")])
    offsets = {text.get_text(): text.xyann[1] for text in axes.texts}  # type: ignore[attr-defined]
    assert offsets["high"] == 0
    assert offsets["low"] > 0 > offsets["lower"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (float("nan"), "–"), (1234567, "1,234,567"), (0.01234, "0.0123"), (1234.5, "1,234"), (True, "True")],
)
def test_values_in_tables_are_short(value: object, text: str) -> None:
    assert short(value) == text


def test_a_table_has_its_numbers_to_the_right() -> None:
    assert markdown_table(["a", "b"], [["x", "1"]]) == "| a | b |\n| --- | ---: |\n| x | 1 |"


def test_rows_of_other_settings_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "figures.json"
    assert read_rows(path, {"width": 4}) == []
    write_json(path, {"settings": {"width": 4}, "rows": [{"samples": 1}]})
    assert read_rows(path, {"width": 4}) == [{"samples": 1}]
    with pytest.raises(SystemExit, match="name another file"):
        read_rows(path, {"width": 5})


def refused(i: int, j: int) -> float:
    raise AssertionError(f"pair {i}, {j} should not be in doubt")


def test_a_pair_that_only_one_way_has_counts_as_a_difference() -> None:
    near = np.float32(EPS / 2)
    distance = np.array([[0, near, 1], [near, 0, 1], [1, 1, 0]], dtype=np.float32)
    similarity = csr_matrix(1 - distance)
    nothing = csr_matrix(np.eye(3, dtype=np.float32))
    assert largest_differences(similarity, distance, refused) == (0, 0)
    for sparse, dense in ((nothing, distance), (similarity, 1 - nothing.toarray())):
        raw, settled = largest_differences(sparse, dense, lambda i, j: float(distance[i, j]))
        assert raw == pytest.approx(1 - near)
        assert settled == pytest.approx(1 - near if sparse is nothing else 0)


def test_rounding_of_the_dense_way_is_settled_by_the_definition() -> None:
    exact = np.float32(0.25)
    ours = csr_matrix(np.array([[1, 1 - exact], [1 - exact, 1]], dtype=np.float32))
    dense = np.array([[0, exact + 3e-6], [exact + 5e-7, 0]], dtype=np.float32)
    raw, settled = largest_differences(ours, dense, lambda i, j: float(exact))
    assert raw == pytest.approx(3e-6, rel=0.1)
    assert settled == pytest.approx(5e-7, rel=0.1)


@pytest.mark.parametrize("width", [3, 16])
def test_all_ways_to_the_distance_agree_with_the_definition(width: int) -> None:
    features, _, _ = draw(crowd_of(150, width, people=9))
    table = nearest_neighbours(features, 12)
    similarity = jaccard_similarity(features, 12, 4, neighbours=table)
    lean = jaccard_in_lean_loops(features, table.index, 12, 4)
    np.testing.assert_allclose(lean, jaccard_as_the_field_does(features, table.index, 12, 4), atol=2e-6)
    np.testing.assert_allclose(lean, 1 - similarity.toarray(), atol=2e-6)
    for i, j in ((0, 0), (0, 1), (7, 100), *zip(*np.nonzero(lean < 0.5), strict=True)):
        assert distance_by_definition(features, table.index, 12, 4, i, j) == pytest.approx(lean[i, j], abs=2e-6)


def test_the_search_in_blocks_finds_the_nearest() -> None:
    features, _, _ = draw(crowd_of(300, 24))
    assert np.array_equal(search_in_blocks(features, 10), nearest_neighbours(features, 10).index)


def scale_row(samples: int, search: str = "exact", power: float = 1.5) -> dict[str, Any]:
    seconds = 1e-6 * float(samples) ** power
    return {
        "samples": samples,
        "search": search,
        "seconds_search": 1e-9 * samples**2,
        "seconds_jaccard": 0.75 * seconds,
        "seconds_dbscan": 0.25 * seconds,
        "peak_gib": samples / 1e6,
        "features_gib": samples / 2e6,
        "recall": 1.0,
        "ari_exact": None,
        "ari": 0.9,
        "noise": 0.1,
    }


def test_exponents_are_those_of_the_large_sizes() -> None:
    rows = [scale_row(100, power=3.0), *(scale_row(size) for size in (10_000, 30_000, 100_000))]
    rows.append(scale_row(1_000_000, "approximate"))
    powers = scale.exponents(rows)
    assert powers["after the search"] == pytest.approx(1.5)
    assert powers["exact search"] == pytest.approx(2)
    assert np.isnan(powers["approximate search"])  # one size only
    assert "1,000,000" in scale.as_markdown(rows)
    assert len(scale.figure_of(rows).axes) == 2


def test_approximate_search_is_wanted_where_exact_is_not() -> None:
    assert scale.wanted_searches(1_000, 100_000, 3_000) == ["exact"]
    assert scale.wanted_searches(3_000, 100_000, 3_000) == ["exact", "approximate"]
    assert scale.wanted_searches(300_000, 100_000, 3_000) == ["approximate"]
    assert scale.wanted_searches(2_000, 1_000, 3_000) == ["approximate"]


def finished_run(root: Path, name: str, seed: int, rank1: float, precision: Sequence[float]) -> TrainingRun:
    run = TrainingRun(name, seed, root / f"{name}-{seed}", ())
    run.folder.mkdir()
    rows = [
        {"weights": weights, "search": search, "rank1": {"mean": value}, "mAP": {"mean": value / 2}}
        for weights, value in (("start", 0.1), ("final", rank1))
        for search in loop_yields.SEARCHES
    ]
    (run.folder / "results.json").write_text(json.dumps({"rows": rows}))
    lines: list[dict[str, Any]] = [{"kind": "step"}]
    lines += [
        {"kind": "epoch", "epoch": epoch, "stage": 1 + epoch // 2, "labels": {"match_precision": value}}
        for epoch, value in enumerate(precision)
    ]
    (run.folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


def test_differences_are_paired_by_seed(tmp_path: Path) -> None:
    reached = {"pclhd": (0.5, 0.6, 0.7), "joint-shared": (0.4, 0.52, 0.58), "visible-first": (0.6, 0.5, 0.7)}
    runs = [
        finished_run(tmp_path, name, seed, value, ())
        for name, values in reached.items()
        for seed, value in enumerate(values)
    ]
    table = {entry["name"]: entry for entry in differences.collect(runs)}
    assert table["pclhd"]["rank1"]["difference"] is None
    difference = table["joint-shared"]["rank1"]["difference"]
    # -0.1, -0.08 and -0.12: a mean of -0.1, and 4.303 (t, two degrees) times 0.02 / sqrt(3).
    assert (difference["mean"], difference["half_width"]) == (pytest.approx(-0.1), pytest.approx(0.0497, abs=1e-4))
    assert difference["distinguishable"]
    assert difference["pairs"] == 3
    assert not table["visible-first"]["rank1"]["difference"]["distinguishable"]
    text = differences.as_markdown(list(table.values()))
    assert "| `method.joint_prototypes=shared` | only shared joint clusters | 50.0 ± 7.5 |" in text
    assert "| **-10.0 ± 5.0** |" in text
    assert "| +0.0 ± 24.8 |" in text


@pytest.mark.parametrize("name", differences.DIFFERENCES)
def test_a_difference_changes_one_setting_of_its_recipe(name: str) -> None:
    wanted = differences.DIFFERENCES[name]
    preset, *overrides = differences.training_words(name, "synthetic")[1:]
    base = [*differences.base_words(wanted.recipe)]
    changed, recipe = (load_preset(preset, words).method for words in (overrides, base))
    differing = {key for key, value in recipe.model_dump().items() if getattr(changed, key) != value}
    assert len(differing) == bool(wanted.change)


def test_the_former_reading_of_the_paper_is_that_of_the_tests() -> None:
    assert ablation_tables.FORMER == ABRUPT_WORDS


def test_failures_and_other_settings_end_a_benchmark_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = TrainingRun("pclhd", 3, tmp_path / "pclhd-3", ("train", "tiny", "recipe=pclhd"))
    monkeypatch.setattr(training_runs, "work", lambda tasks, jobs: [f"{tasks[0].run.name} failed"])
    with pytest.raises(SystemExit, match="pclhd failed"):
        complete([run], tmp_path / "data", jobs=1)
    run.folder.mkdir()
    (run.folder / "config.yaml").write_text(load_preset("tiny", ["recipe=pclhd", "seed=4"]).to_yaml())
    with pytest.raises(SystemExit, match="seed is 4, but 3 is wanted"):
        complete([run], tmp_path / "data", jobs=1)


def test_yields_are_compared_seed_by_seed(tmp_path: Path) -> None:
    runs = [
        finished_run(tmp_path, "progressive", 0, 0.50, [0.1, 0.2, 0.3]),
        finished_run(tmp_path, "progressive", 1, 0.60, [0.1, 0.2, 0.5]),
        finished_run(tmp_path, "mutual", 0, 0.53, [0.2, 0.4, 0.6]),
        finished_run(tmp_path, "mutual", 1, 0.61, [0.2, 0.4, 0.8]),
        finished_run(tmp_path, "mutual", 2, 0.90, [0.2, 0.4, 1.0]),  # without a partner of the default
        finished_run(tmp_path, "community", 0, 0.40, [0.0, 0.0, 0.0]),
    ]
    default, mutual, community = loop_yields.collect(runs)
    gained = mutual["difference"]["all/single-shot"]["rank1"]
    assert gained["seeds"] == pytest.approx([0.03, 0.01])
    assert gained["mean"] == pytest.approx(0.02)
    assert gained["standard_error"] == pytest.approx(0.01)
    assert mutual["results"]["indoor/single-shot"]["mAP"]["mean"] == pytest.approx((0.53 + 0.61 + 0.90) / 6)
    assert mutual["labels"]["match_precision"]["mean"] == pytest.approx(0.8)
    assert mutual["labels"]["ari_joint"]["mean"] is None
    assert default["difference"]["all/single-shot"]["rank1"]["mean"] is None
    assert community["difference"]["all/single-shot"]["rank1"]["standard_error"] is None
    table = loop_yields.as_markdown([default, mutual, community])
    assert "+2.0 ± 1.0" in table
    assert "-10.0" in table
    figure = loop_yields.figure_of([default, mutual, community])
    right = next(axes for axes in figure.axes if "right matches" in axes.get_title(loc="left"))
    assert [float(np.asarray(line.get_ydata())[-1]) for line in right.lines[:3]] == pytest.approx([0.4, 0.8, 0.0])


def quick(name: str, folder: Path, *words: object) -> dict[str, Any]:
    """Run a benchmark in its quick form; returns what it wrote to its file."""
    path = folder / "figures.json"
    command = [sys.executable, f"benchmarks/{name}.py", "--quick", "--json", path, *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    finished = subprocess.run(
        list(map(str, command)), cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "| --- |" in finished.stdout
    content: dict[str, Any] = json.loads(path.read_text())
    return content


@pytest.mark.slow
def test_report_in_its_quick_form(tmp_path: Path) -> None:
    (row,) = quick("report", tmp_path)["rows"]
    assert row["images"] == 120
    assert 0.1 < row["megabytes"] < 25
    assert row["survey_megabytes"] < 0.1


@pytest.mark.slow
def test_jaccard_in_its_quick_form(tmp_path: Path) -> None:
    rows = quick("jaccard", tmp_path, "--sizes", 700)["rows"]
    assert [row["way"] for row in rows][:2] == ["ours", "lean"]
    assert all(row["same_labels"] and row["largest_difference_exact"] <= 1e-6 for row in rows)
    assert rows[1]["ratio_whole"] == pytest.approx(rows[1]["seconds_whole"] / rows[0]["seconds_whole"])


@pytest.mark.slow
def test_the_service_in_its_quick_form(tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
    pytest.importorskip("lancedb", reason="the extra `gallery` is not installed")
    found = quick("service", tmp_path)
    assert set(found["statuses"]) == {"200"}
    assert {row[0] for row in found["rows"]} <= {"search", "add", "remove"}
    assert len(found["looks"]) >= 3
    assert all(look["mib"] >= look["own_mib"] > 0 for look in found["looks"])


@pytest.mark.slow
def test_clusterings_in_their_quick_form(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    rows = {row["name"]: row for row in quick("clusterings", tmp_path, "--dense-number", 500)["rows"]}
    assert set(rows) == {*clusterings.VARIANTS, *clusterings.SCIKIT_LEARN}
    assert all(rows[name]["ari"] > 0.25 for name in clusterings.VARIANTS)  # chance is 0
    assert rows["dbscan"]["recall"] == 1
    assert rows["dbscan dense"]["agreement"] == rows["dbscan sparse"]["agreement"] == 1


@pytest.mark.slow
def test_scale_in_its_quick_form_goes_on_where_it_stopped(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    rows = quick("scale", tmp_path, "--sizes", 1000)["rows"]
    words = ("--sizes", 1000, 3000, "--png", tmp_path / "scale.png")
    more = quick("scale", tmp_path, *words)
    assert more["rows"][0] == rows[0]
    assert [(row["samples"], row["search"]) for row in more["rows"]] == [
        (1000, "exact"),
        (3000, "exact"),
        (3000, "approximate"),
    ]
    assert more["rows"][2]["ari_exact"] > 0.9
    assert (tmp_path / "scale.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_loop_yields_in_their_quick_form(tmp_path: Path) -> None:
    out = ("--out", tmp_path / "runs", "--variants", "progressive", "hdbscan")
    trained = quick("loop_yields", tmp_path, *out)
    assert [entry["variant"] for entry in trained["variants"]] == ["progressive", "hdbscan"]
    read = quick("loop_yields", tmp_path, *out, "--read", "--png", tmp_path / "curves.png")
    assert read == trained
    assert (tmp_path / "curves.png").stat().st_size > 10_000


@pytest.mark.slow
def test_the_calibration_in_its_quick_form(tmp_path: Path) -> None:
    out = ("--out", tmp_path / "runs")
    trained = quick("calibration", tmp_path, *out)
    assert [row["method"] for row in trained["rows"]] == [*calibration.METHODS]
    bound = trained["rows"][-1]
    assert bound["stage2"]["clusters_per_person"] == {"visible": 1.0, "infrared": 1.0}
    assert bound["stage2"]["ari"] == {"visible": 1.0, "infrared": 1.0}
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.safetensors")}
    assert quick("calibration", tmp_path, *out) == trained
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.safetensors")} == before


def test_only_methods_that_are_not_ours_calibrate() -> None:
    assert not {"paper", "released", "pclhd", "baseline"} & set(calibration.METHODS)


@pytest.mark.parametrize(
    ("reached", "correlation"), [((40, 50, 60, 70), 1.0), ((50, 40, 60, 70), 2 / 3), ((70, 60, 50, 40), -1.0)]
)
def test_the_fit_compares_order_and_distances(reached: tuple[float, ...], correlation: float) -> None:
    rows = [
        {"method": method, "rank1_final": value + off}
        for method, value in zip(calibration.PUBLISHED, reached, strict=True)
        for off in (-1, 1)
    ]
    fit = calibration.fit_of([*rows, {"method": "dcl", "rank1_final": 99.0}])
    assert fit["rank_correlation"] == pytest.approx(correlation)
    assert fit["distance"]["mmm"] == pytest.approx(reached[3] - reached[2])
    assert fit["published_distance"]["pgm"] == pytest.approx(20.5)
    assert f"mmm: {reached[3] - reached[2]:.1f} points below the bound, 16.2 as published." in calibration.as_sentences(
        fit
    )


@pytest.mark.slow
def test_drawing_in_its_quick_form(tmp_path: Path) -> None:
    rows = quick("drawing", tmp_path, "--scales", "tiny", "small")["rows"]
    assert [(row["scale"], row["images"]) for row in rows] == [("tiny", 20), ("small", 20)]
    assert all(0 < row["ratio"] < 10 for row in rows)


@pytest.mark.slow
def test_the_differences_in_their_quick_form(tmp_path: Path) -> None:
    out = ("--out", tmp_path / "runs", "--differences", "pclhd", "visible-first", "--seeds", "1", "2")
    trained = quick("differences", tmp_path, *out)
    assert [(entry["name"], entry["seeds"]) for entry in trained["differences"]] == [
        ("pclhd", [1, 2]),
        ("visible-first", [1, 2]),
    ]
    assert trained["differences"][1]["rank1"]["difference"]["pairs"] == 2
    assert quick("differences", tmp_path, *out, "--read") == trained


@pytest.mark.slow
def test_choices_without_labels_in_their_quick_form(tmp_path: Path) -> None:
    rows = quick("without_labels", tmp_path)["rows"]
    assert len(rows) == 2
    for row in rows:
        candidates = [row["ari"][f"{eps:g}"] for eps in CANDIDATES]
        assert min(candidates) <= row["ari"][f"{row['chosen_eps']:g}"] <= max(candidates)
        assert row["outliers"]["0.5"]["keep"]["ari"] == row["ari"]["0.5"]
        assert row["auc"]["0.5"]["label_confidence"] > 0.6  # chance is 0.5


def test_a_replay_gives_the_recorded_labels_back_in_order() -> None:
    tape = precision.Tape()
    first, second = (mock.Mock(spec=EpochLabels) for _ in range(2))
    with mock.patch("benchmarks.precision.label_epoch", side_effect=[first, second]):
        assert [tape.record(mock.Mock()) for _ in range(2)] == [first, second]
    assert [tape.replay(mock.Mock()) for _ in range(2)] == [first, second]


def test_labels_at_eps_compares_clusters_whatever_their_numbers() -> None:
    # Three images at a distance of exactly 1/2 from each other, before two clear clusters, whose numbers thus shift.
    similarity = np.zeros((11, 11), dtype=np.float32)
    similarity[:3, :3] = 0.5
    similarity[3:7, 3:7] = similarity[7:, 7:] = 0.9
    np.fill_diagonal(similarity, 1)
    with mock.patch("benchmarks.rounding.jaccard_similarity", return_value=csr_matrix(similarity)):
        features = np.zeros((11, 2), dtype=np.float32)
        assert rounding.labels_at_eps(features, k1=4, k2=1, eps=0.5, min_samples=3) == 3
        assert rounding.labels_at_eps(features, k1=4, k2=1, eps=0.4, min_samples=3) == 0


@pytest.mark.slow
def test_rounding_in_its_quick_form(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/rounding.py", "--quick", "--data", str(tmp_path / "data")]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "| channels-last |" in shown
    assert "| 0.5 |" in shown


@pytest.mark.slow
def test_precision_in_its_quick_form(tmp_path: Path) -> None:
    trained = quick("precision", tmp_path, "--recipes", "pclhd", "--seeds", "1", "--data", tmp_path / "data")
    assert [(row["recipe"], row["seed"]) for row in trained["rows"]] == [("pclhd", 1)]
    for row in trained["rows"]:
        # The labels and batches are the same, so only rounding differs; but it does differ.
        full, half = (row[name] for name in precision.PRECISIONS)
        assert full != half
        assert full["final_rank1"] == pytest.approx(half["final_rank1"], abs=5)


@pytest.mark.slow
def test_averages_in_their_quick_form(tmp_path: Path) -> None:
    rows = quick("averages", tmp_path)["rows"]
    assert [row["decay"] for row in rows] == [0.0, 0.9, 0.95, 0.97, 0.98, 0.99]
    assert len({row["mAP"] for row in rows}) > 1


@pytest.mark.slow
def test_joint_sizes_in_their_quick_form(tmp_path: Path) -> None:
    rows = quick("joint_sizes", tmp_path, "--data", tmp_path / "data")["rows"]
    assert [(row["scale"], row["people"]) for row in rows] == [(s, n) for s in ("tiny", "tiny/3") for n in (6, 12)]
    assert rows[0]["images"] > rows[2]["images"]
    for row in rows:
        assert len({tuple(found) for found in row["ari"].values()}) > 1
        assert all(-1 <= value <= 1 for found in row["ari"].values() for value in found)


@pytest.mark.slow
def test_hard_prototypes_in_their_quick_form(tmp_path: Path) -> None:
    (row,) = quick("hard_prototypes", tmp_path, "--data", tmp_path / "data", "--batches", 2)["rows"]
    for figures in row["prototypes"].values():
        assert figures["centroid"]["another_person"] == 0
        assert figures["hard"]["similarity"] <= figures["dynamic"]["similarity"] < figures["centroid"]["similarity"]
    assert row["gradients"]["own centroid"]["length"] == 1
    assert {"own hard", "own dynamic", "partner's hard"} < set(row["gradients"])


def test_the_furthest_image_and_the_person_of_a_cluster() -> None:
    generator = torch.Generator().manual_seed(0)
    unit = torch.nn.functional.normalize(torch.randn(40, 5, generator=generator))
    labels = torch.randint(-1, 4, (40,), generator=generator)
    people = torch.randint(0, 3, (40,), generator=generator)
    centroids = torch.stack([unit[labels == cluster].mean(0) for cluster in range(4)])
    rows = hard_prototypes.furthest_rows(unit, labels, centroids).tolist()
    majority = hard_prototypes.majority(labels, people, 4).tolist()
    for cluster in range(4):
        members = [row for row in range(40) if labels[row] == cluster]
        assert rows[cluster] == min(members, key=lambda row: float(unit[row] @ centroids[cluster]))
        counts = [sum(int(people[row]) == person for row in members) for person in range(3)]
        assert counts[majority[cluster]] == max(counts)


@pytest.mark.slow
def test_answers_in_their_quick_form(tmp_path: Path) -> None:
    figures = quick("answers", tmp_path)
    assert set(figures) == {"pseudo labels", "labelled images", "one list"}
    orders = figures["one list"]["orders"]
    assert len(orders) == 3 * 2 * 3
    assert {"by similarity", "by probability, pseudo labels", "visible only"} <= set(orders[0])
    assert [row["rate"] for row in figures["one list"]["no one here"]] == [1, 5, 10] * 2


@pytest.mark.slow
def test_galleries_in_their_quick_form(tmp_path: Path) -> None:
    pytest.importorskip("lancedb")
    content = quick("gallery", tmp_path)
    figures = {row["name"]: {name: value for name, (value, _) in row["figures"].items()} for row in content["figures"]}
    assert figures["build"]["rows added"] == content["rows"] == 20_000
    assert figures["search"]["recall@10"] > 0.9
    assert figures["search in one camera"]["recall@10"] > 0.9
    assert 0 < figures["search, 8 clients"]["p50"] <= figures["search, 8 clients"]["p95"]
    assert figures["add images"]["images"] == 64


@pytest.mark.slow
def test_sizes_of_galleries_in_their_quick_form(tmp_path: Path) -> None:
    pytest.importorskip("lancedb")
    content = quick("gallery_sizes", tmp_path)
    one, totals = content["one_crop"], content["totals"]
    assert one["row_bytes"] > 4 * one["embedding_size"] + one["thumbnail_bytes"] > 4 * one["embedding_size"]
    assert one["index_bytes"] > one["embedding_size"], "the index holds the embeddings in 8 bits"
    assert min(one["processor_seconds"], one["list_bytes"]) > 0
    assert [set(total) for total in totals] == [set(totals[0])] * 2
    assert not any("price" in name for name in totals[0])


def test_sizes_and_prices_of_galleries_are_products() -> None:
    pytest.importorskip("lancedb")
    from benchmarks import gallery_sizes

    one = gallery_sizes.PerCrop(100, 256, 0.036, 3000, 1000, 72, 512)
    found = gallery_sizes.total(one, 2**20, 2.0, 0.5)
    assert found["GiB, with thumbnails and index"] == pytest.approx(3.0)
    assert found["GiB, without thumbnails"] == pytest.approx(2072 / 1024)
    assert found["hours of one worker to embed"] == pytest.approx(2**20 * 1e-5)
    assert found["price of embedding"] == pytest.approx(2**20 * 2e-5)
    assert found["price of a month, with thumbnails and index"] == pytest.approx(1.5)
    assert found["GiB of memory for the list, if added at once"] == pytest.approx(0.5)


def test_the_cost_of_a_network_is_measured() -> None:
    step, embedding = lite0.measure(NARROW, 32, 16, 2, torch.bfloat16)
    assert step > 0
    assert embedding > 0
