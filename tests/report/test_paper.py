from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from statistics import stdev
from typing import Any

import numpy as np
import pytest

from pclhd.report.ablation import read_rows
from pclhd.report.methods import MethodsOfData, methods_of_runs, methods_of_table
from pclhd.report.paper import (
    agreement_points,
    ari_drawing,
    comparison_tables,
    in_order,
    named_table,
    run_rows,
    setting_of,
    table_drawing,
    uses_cameras,
)
from pclhd.report.published import MEASURES, read_published
from pclhd.report.table_formats import csv_text
from pclhd.runs.ablation import AblationFolder
from pclhd.runs.folder import RunFolder
from pclhd.runs.saved import read_run
from tests.report.ablations import CURVE, METHODS, PARTS, SEARCH, TABLES, ari, make_ablation, rank1
from tests.report.fixtures import make_results, write_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> AblationFolder:
    return make_ablation(tmp_path_factory.mktemp("ablation"))


def read_back(columns: object, rows: object) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(csv_text(columns, rows))))  # type: ignore[arg-type]


def test_the_file_of_a_curve_has_what_is_drawn(folder: AblationFolder) -> None:
    rows = read_rows(folder, TABLES.values(), (0, 1, 2))
    drawing = table_drawing("k", CURVE, rows)
    assert drawing is not None
    lines = [line for line in read_back(drawing.columns, drawing.rows) if line["measure"] == "rank-1"]
    assert [line["value"] for line in lines] == ["1", "2", "8"]  # ascending, the method's own among them
    expected = [100 * rank1(name, 1) for name in ("base-1", "base", "base-8")]
    np.testing.assert_allclose([float(line["mean"]) for line in lines], expected)
    drawn: Any = drawing.figure.axes[0].containers[0]
    np.testing.assert_array_equal(drawn.lines[0].get_ydata(), [float(line["mean"]) for line in lines])
    low, high = zip(*(segment[:, 1] for segment in drawn.lines[2][0].get_segments()), strict=True)
    np.testing.assert_allclose((np.array(high) - low) / 2, [float(line["std"]) for line in lines])
    assert lines[0]["std"] == pytest.approx(lines[0]["std"])
    assert [float(value) for value in lines[0]["by_seed"].split()] == pytest.approx([30, 40, 50])
    assert float(lines[0]["std"]) == pytest.approx(stdev([30, 40, 50]))
    assert SEARCH in drawing.caption


def test_the_file_of_parts_has_what_is_drawn(folder: AblationFolder) -> None:
    drawing = table_drawing("parts", PARTS, read_rows(folder, [PARTS], (0, 1, 2)))
    assert drawing is not None
    lines = read_back(drawing.columns, drawing.rows)
    containers: list[Any] = drawing.figure.axes[0].containers
    drawn = [float(one.lines[0].get_xdata()[0]) for one in containers]
    by_measure = sorted(lines, key=lambda line: line["measure"] != "rank-1")
    assert drawn == [float(line["mean"]) for line in by_measure]
    assert table_drawing("methods", METHODS, read_rows(folder, [METHODS], (0,))) is None
    assert table_drawing("parts", PARTS, []) is None


def test_the_file_of_agreement_has_what_is_drawn(folder: AblationFolder) -> None:
    drawing = ari_drawing(methods_of_table(folder, METHODS, (0, 1, 2)))
    assert drawing is not None
    lines = read_back(drawing.columns, drawing.rows)
    own = [line for line in lines if (line["method"], line["modality"]) == ("pclhd", "visible")]
    assert [int(line["epoch"]) for line in own] == [1, 2, 3, 4, 5]
    np.testing.assert_allclose([float(line["ari"]) for line in own], [ari(1, epoch) for epoch in range(1, 6)])
    assert float(own[0]["std"]) == pytest.approx(0.02)
    drawn = drawing.figure.axes[0].get_lines()[1]
    np.testing.assert_array_equal(drawn.get_xydata(), [[float(line["epoch"]), float(line["ari"])] for line in own])
    stages = drawing.figure.axes[0].get_lines()[2]
    assert np.asarray(stages.get_xdata()).tolist() == [2.5, 2.5]
    assert "drawn people in SYSU-MM01's layout" in drawing.caption


def test_runs_that_know_no_identities_have_no_agreement(tmp_path: Path) -> None:
    folder = make_ablation(tmp_path, {"methods": METHODS}, seeds=(0,), labels=False)
    assert ari_drawing(methods_of_table(folder, METHODS, (0,))) is None


def test_a_shorter_run_counts_only_in_its_epochs(folder: AblationFolder) -> None:
    method = methods_of_table(folder, METHODS, (0, 1)).methods[0]
    longer = method.runs[1]
    shorter = replace(longer, saved=replace(longer.saved, epochs=longer.saved.epochs[:1]))
    points = agreement_points(replace(method, runs=(method.runs[0], shorter)))
    assert [point.ari.seeds for point in points if point.modality == "visible"] == [2, 2, 2, 1, 1]
    assert points[-1].ari.std is None


def test_entries_whose_values_are_words_stay_in_order() -> None:
    words = [replace(entry, value=value) for entry, value in zip(CURVE.entries, ("own", "auto", "1"), strict=True)]
    assert in_order(words) == words


def test_a_table_has_no_settings_and_the_file_of_the_runs_has_them(folder: AblationFolder) -> None:
    rows = read_rows(folder, TABLES.values(), (0, 1, 2))
    named = named_table("k", CURVE, rows)
    assert named.name == "k-table"
    assert [row[0] for row in named.table.rows] == ["base", "k = 8", "k = 1"]
    assert named.table.columns[1].heading == "rank-1"
    runs = read_back(run_rows(rows).columns, run_rows(rows).rows)
    assert len(runs) == 3 * sum(len(table.entries) for table in TABLES.values())
    assert {run["settings"] for run in runs if run["entry"] == "base-8"} == {"method.hard_samples=8"}


# The comparison table.


def measured_on(root: Path, name: str, benchmark: str, *, synthetic: bool | None = False, **facts: object) -> Path:
    searches = tuple(dict.fromkeys(measure.search for measure in MEASURES[benchmark]))  # type: ignore[index]
    results = make_results(searches=searches)
    results["dataset"] = {"name": benchmark, "checksum": "5f" * 32, "synthetic": synthetic}
    results |= {"training": "unsupervised", **facts}
    return write_run(root / name, results=results)


def test_published_figures_alone_are_in_three_blocks() -> None:
    (named,) = comparison_tables([])
    groups = [row[0] for row in named.table.rows]
    assert list(dict.fromkeys(groups)) == ["supervised", "semi-supervised", "unsupervised"]
    assert groups == sorted(groups, key=["supervised", "semi-supervised", "unsupervised"].index)
    assert len(named.table.rows) == len(read_published())
    pclhd = next(row for row in named.table.rows if row[1] == "PCLHD")
    assert pclhd[2:6] == ("NeurIPS 2024", "–", "64.4", "58.7")
    assert pclhd[-1] == "published (1)"
    assert "(1) transcription of the PCLHD comparison table" in named.table.caption
    assert comparison_tables([], published=False) == []


def test_runs_on_a_benchmark_stand_below_the_published_ones_of_their_block(tmp_path: Path) -> None:
    ours = methods_of_runs(
        [measured_on(tmp_path, "ours", "sysu"), measured_on(tmp_path, "bound", "regdb", training="supervised")]
    )
    (named,) = comparison_tables(ours, published=False)
    last = [row for row in named.table.rows if row[0] == "unsupervised"][-1]
    assert last[1:4] == ("pclhd", "1 run", "–")
    assert last[4:8] == ("47.0", "44.0", "51.0", "48.0")
    assert last[8:] == ("–", "–", "–", "–", "measured here")
    bound = [row for row in named.table.rows if row[0] == "supervised"][-1]
    assert bound[4:8] == ("–",) * 4
    assert bound[8] == "47.0"
    assert bound[3] == "no"  # one camera for each modality says nothing
    assert sum(row[-1] == "measured here" for row in named.table.rows) == 2


@pytest.mark.parametrize("synthetic", [True, None])
def test_drawn_or_doubtful_people_are_never_beside_published_ones(tmp_path: Path, synthetic: bool | None) -> None:
    found = methods_of_runs([measured_on(tmp_path, "drawn", "sysu", synthetic=synthetic)])
    published, own = comparison_tables(found)
    assert all(row[-1] != "measured here" for row in published.table.rows)
    assert own.name == "measured"
    assert "drawn people" in own.table.caption
    assert "cannot be compared" in own.table.caption
    (row,) = own.table.rows
    assert row[:2] == ("unsupervised", "pclhd")
    assert row[4:] == ("47.0", "44.0", "51.0", "48.0", "measured here")
    assert [column.heading for column in own.table.columns][4] == "all/single-shot R1"


def test_an_ablation_has_means_over_seeds(folder: AblationFolder) -> None:
    (named,) = comparison_tables([methods_of_table(folder, METHODS, (0, 1, 2))], published=False)
    assert [row[1:5] for row in named.table.rows] == [
        ("baseline", "3 runs", "no", "30.0 ± 10.0"),
        ("pclhd", "3 runs", "no", "70.0 ± 10.0"),
    ]


def test_imported_weights_have_a_block_of_their_own(tmp_path: Path) -> None:
    run = measured_on(tmp_path, "theirs", "sysu", training="imported")
    facts = {"pclhd": "1", "imported": {"from": "elsewhere"}}
    (run / "provenance.json").write_text(json.dumps(facts))
    (found,) = methods_of_runs([run])
    (named,) = comparison_tables([found])
    assert named.table.rows[-1][:4] == ("unknown labels", "theirs", "1 run", "–")


def test_what_a_run_was_trained_with(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    settings = "seed: 0\nrecipe: pclhd\nmethod: {labels: %s, centre_features: %s}\nbatch: {sampler: cluster}\n"
    results = json.loads((run / "results.json").read_text())
    for labels, centre, expected in (
        ("clusters", "none", ("unsupervised", False)),
        ("identities", "none", ("supervised", False)),
        ("visible_identities", "camera", ("semi-supervised", True)),
    ):
        (run / "config.yaml").write_text(settings % (labels, centre))
        saved = read_run(RunFolder(run))
        assert (setting_of(saved), uses_cameras(saved)) == expected
    (run / "config.yaml").write_text("seed: 0\n")
    assert uses_cameras(read_run(RunFolder(run))) is None
    (run / "results.json").write_text(json.dumps({**results, "training": "imported"}))
    assert setting_of(read_run(RunFolder(run))) is None


def test_methods_that_were_not_evaluated_are_in_no_table() -> None:
    assert comparison_tables([MethodsOfData("nothing", ())], published=False) == []
