from __future__ import annotations

import csv
import fnmatch
import tomllib
from pathlib import Path
from typing import Any

import pytest

from pclhd.report import published
from pclhd.report.published import (
    COLUMNS,
    MEASURES,
    PUBLISHED_SIZES,
    SETTINGS,
    Benchmark,
    MeasuredRow,
    benchmark_of,
    other_test_set,
    parse_published,
    published_table,
    read_published,
)
from pclhd.runs.records import Results, parse_results
from tests.report.fixtures import make_results

FILE = Path(published.__file__).with_name("published.csv")
MEASURED = MeasuredRow("recipe pclhd", "unsupervised", True)
FIGURES = [measure.column for measures in MEASURES.values() for measure in measures]


def line(**cells: str) -> str:
    """A row of the file; cells that are not given get plausible values."""
    given = {"setting": "unsupervised", "method": "M", "venue": "V 2024", "source": "somewhere"} | cells
    return ",".join(given.get(column, "50.0" if column in FIGURES else "") for column in COLUMNS)


def text(*lines: str) -> str:
    return "\n".join(["# a comment", ",".join(COLUMNS), *lines]) + "\n"


def results(benchmark: Benchmark, *, queries: int | None = None, **dataset: Any) -> Results:
    searches = tuple(dict.fromkeys(measure.search for measure in MEASURES[benchmark]))
    tree = make_results(searches=searches, trials=1)
    tree["dataset"] = {"name": {"sysu": "sysu", "regdb": "regdb-3"}[benchmark], "synthetic": False, **dataset}
    _, asking, searched = PUBLISHED_SIZES[benchmark]
    for row in tree["rows"]:
        row.update(queries=queries or asking, gallery=searched, valid_queries=1)
    return parse_results(tree)


def test_the_file_is_read_as_the_csv_module_reads_it() -> None:
    with FILE.open(encoding="utf-8", newline="") as file:
        assert next(file).startswith("#")
        twin = list(csv.DictReader(file))
    rows = read_published()
    assert len(rows) == len(twin) > 30
    for row, cells in zip(rows, twin, strict=True):
        assert [row.setting, row.method, row.venue, row.source] == [
            cells[name] for name in ("setting", "method", "venue", "source")
        ]
        assert row.camera_labels == {"yes": True, "no": False, "": None}[cells["camera_labels"]]
        assert {column: "" if figure is None else f"{figure:.1f}" for column, figure in row.figures.items()} == {
            column: cells[column] for column in FIGURES
        }


def test_some_figures_as_they_are_known() -> None:
    rows = {(row.setting, row.method): row for row in read_published()}
    assert rows["unsupervised", "PCLHD"].figures["sysu_all_r1"] == 64.4
    assert rows["unsupervised", "PCLHD"].camera_labels is None
    assert rows["unsupervised", "GUR"].camera_labels is False
    assert rows["unsupervised", "CEIL"].camera_labels is True
    assert rows["unsupervised", "H2H"].figures["sysu_indoor_r1"] is None
    assert rows["semi-supervised", "OTLA"].figures != rows["unsupervised", "OTLA"].figures
    assert {row.setting for row in rows.values()} == set(SETTINGS)


def test_the_file_says_that_it_is_second_hand_and_ships_with_the_package() -> None:
    assert "second-hand" in FILE.read_text("utf-8").splitlines()[0]
    root = Path(__file__).parents[2]
    patterns = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["package-data"]
    name = FILE.relative_to(root / "src" / "pclhd").as_posix()
    assert any(fnmatch.fnmatch(name, pattern) for pattern in patterns["pclhd"])


def test_empty_cells() -> None:
    (row,) = parse_published(text(line(**dict.fromkeys(FIGURES, ""))))
    assert set(row.figures.values()) == {None}
    assert row.camera_labels is None
    assert parse_published(text()) == ()
    (zero,) = parse_published(text(line(sysu_all_r1="0", regdb_v2t_map="100", camera_labels="no", method='"A, B"')))
    assert (zero.figures["sysu_all_r1"], zero.figures["regdb_v2t_map"]) == (0.0, 100.0)
    assert zero.camera_labels is False
    assert zero.method == "A, B"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "line 1: columns are"),
        ("# only\n# comments\n", "line 3: columns are"),
        ("a,b\n", "expected"),
        (text(line(), line(method="N", sysu_all_r1="n/a")), "line 4: sysu_all_r1 is 'n/a'"),
        (text(line(sysu_all_map="100.1")), "sysu_all_map is 100.1"),
        (text(line(sysu_all_map="-1")), "percentage"),
        (text(line(sysu_all_map="nan")), "percentage"),
        (text(line(setting="weakly")), "setting 'weakly'"),
        (text(line(camera_labels="maybe")), "camera_labels 'maybe'"),
        (text(line(source=" ")), "source is empty"),
        (text(line(method="")), "method is empty"),
        (text(line() + ",more"), "14 cells, expected 13"),
        (text("unsupervised,M"), "2 cells"),
        (text(line(), "", line()), "0 cells"),
        (text(line(), line()), "line 4: 'M' appears twice"),
    ],
)
def test_a_wrong_line_is_reported_with_its_number(content: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_published(content)


@pytest.mark.parametrize("benchmark", ["sysu", "regdb"])
def test_the_table_by_settings_with_the_run_last(benchmark: Benchmark) -> None:
    measured = results(benchmark)
    table, sources = published_table(benchmark, measured, MEASURED)
    *others, ours = table.rows
    groups = [row[0] for row in others]
    assert list(dict.fromkeys(groups)) == list(SETTINGS)
    assert groups == sorted(groups, key=[*map(str, SETTINGS)].index)
    assert ours[:4] == ("this run", "recipe pclhd", "unsupervised", "yes")
    assert ours[4:] == ("47.0", "44.0", "51.0", "48.0", "measured here")
    twin = {
        (row.setting, row.method): row
        for row in read_published()
        if any(row.figures[measure.column] is not None for measure in MEASURES[benchmark])
    }
    assert len(others) == len(twin)
    for setting, method, venue, cameras, *cells in others:
        row = twin[setting, method]  # type: ignore[index]
        assert venue == row.venue
        expected = [row.figures[measure.column] for measure in MEASURES[benchmark]]
        assert cells[:4] == ["–" if figure is None else str(figure) for figure in expected]
        assert cameras == {True: "yes", False: "no", None: "–"}[row.camera_labels]
        assert sources[int(cells[4]) - 1] == row.source
    assert "second-hand" in table.caption


def test_a_method_without_a_figure_on_the_benchmark_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    sysu_only = line(method="S", **{column: "" for column in FIGURES if column.startswith("regdb")})
    # The settings are in another order, too.
    rows = parse_published(text(sysu_only, line(setting="supervised", method="B")))
    monkeypatch.setattr(published, "read_published", lambda: rows)
    table, _ = published_table("regdb", results("regdb"), MEASURED)
    assert [row[1] for row in table.rows] == ["B", "recipe pclhd"]
    table, _ = published_table("sysu", results("sysu"), MEASURED)
    assert [row[1] for row in table.rows] == ["B", "S", "recipe pclhd"]


def test_only_final_weights_count_and_a_missing_search_is_a_dash() -> None:
    tree = results("sysu")
    kept = [row for row in tree.rows if (row.search, row.weights) != ("indoor/single-shot", "final")]
    table, _ = published_table("sysu", tree.model_copy(update={"rows": kept}), MEASURED)
    assert table.rows[-1][4:8] == ("47.0", "44.0", "–", "–")


def test_which_runs_are_compared_with_published_figures() -> None:
    assert benchmark_of(results("sysu")) == "sysu"
    assert benchmark_of(results("regdb")) == "regdb"
    assert benchmark_of(results("sysu", synthetic=True)) is None
    assert benchmark_of(results("regdb", synthetic=True)) is None
    for name in ("own", "llcm", "synthetic-small", "sysuX", ""):
        assert benchmark_of(results("sysu", name=name)) is None


@pytest.mark.parametrize("benchmark", ["sysu", "regdb"])
def test_a_subset_is_not_the_published_test_set(benchmark: Benchmark) -> None:
    assert other_test_set(benchmark, results(benchmark)) is None
    difference = other_test_set(benchmark, results(benchmark, queries=720))
    assert difference is not None
    assert difference.startswith("720 queries")
