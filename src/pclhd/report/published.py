"""Published figures, transcribed second-hand, and tables of them with those of one run or of several."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Literal, cast, get_args

from pclhd.report.tables import Column, Table, percent
from pclhd.runs.records import ResultRow, Results

Setting = Literal["supervised", "semi-supervised", "unsupervised"]
Benchmark = Literal["sysu", "regdb"]

SETTINGS: dict[Setting, str] = {
    "supervised": "trained with the identities of all training images",
    "semi-supervised": "with the identities of some images, usually the visible ones",
    "unsupervised": "without identities",
}
"""The groups of the table in order, and their meanings."""


@dataclass(frozen=True)
class Measure:
    """A column of figures: its names in the file and in the table, and the corresponding result of a run.

    Attributes:
        column: Name in the file.
        heading: Heading in the table.
        search: Search in the run's results.
        metric: Measure of that search, ``rank1`` or ``mAP``.
    """

    column: str
    heading: str
    search: str
    metric: Literal["rank1", "mAP"]


MEASURES: dict[Benchmark, tuple[Measure, ...]] = {
    "sysu": (
        Measure("sysu_all_r1", "All R1", "all/single-shot", "rank1"),
        Measure("sysu_all_map", "All mAP", "all/single-shot", "mAP"),
        Measure("sysu_indoor_r1", "Indoor R1", "indoor/single-shot", "rank1"),
        Measure("sysu_indoor_map", "Indoor mAP", "indoor/single-shot", "mAP"),
    ),
    "regdb": (
        Measure("regdb_v2t_r1", "V→I R1", "visible→infrared", "rank1"),
        Measure("regdb_v2t_map", "V→I mAP", "visible→infrared", "mAP"),
        Measure("regdb_t2v_r1", "I→V R1", "infrared→visible", "rank1"),
        Measure("regdb_t2v_map", "I→V mAP", "infrared→visible", "mAP"),
    ),
}

#: Queries and gallery images of the published test sets in one search, to detect subsets.
PUBLISHED_SIZES: dict[Benchmark, tuple[str, int, int]] = {
    "sysu": ("all/single-shot", 3_803, 301),
    "regdb": ("visible→infrared", 2_060, 2_060),
}

COLUMNS = (
    "setting",
    "method",
    "venue",
    *(measure.column for measures in MEASURES.values() for measure in measures),
    "camera_labels",
    "source",
)

_ABBREVIATIONS: dict[Benchmark, str] = {
    "sysu": "Rank-1 (R1) and mAP of all and indoor search, single-shot",
    "regdb": "Rank-1 (R1) and mAP of visible (V) queries for infrared (I) images and the reverse",
}
_TITLES: dict[Benchmark, str] = {"sysu": "SYSU", "regdb": "RegDB"}
_CAMERA_LABELS = {"yes": True, "no": False, "": None}
_CAMERA_TEXTS = {True: "yes", False: "no", None: "–"}


@dataclass(frozen=True)
class PublishedRow:
    """The figures reported for one method.

    Attributes:
        setting: Labels used in training.
        method: Name of the method.
        venue: Venue and year of publication.
        figures: Percent by column name, such as ``sysu_all_r1``; None if not reported.
        camera_labels: Whether training uses camera numbers; None if not stated.
        source: Source of the figures, which is not the method's paper.
    """

    setting: Setting
    method: str
    venue: str
    figures: Mapping[str, float | None]
    camera_labels: bool | None
    source: str


@dataclass(frozen=True)
class MeasuredRow:
    """The name of a run in the table.

    Attributes:
        name: For example its recipe.
        remark: Text in the venue column, for example the labels used.
        camera_labels: Whether training used camera numbers; None if unknown.
    """

    name: str
    remark: str
    camera_labels: bool | None


def read_published() -> tuple[PublishedRow, ...]:
    """The published figures shipped with the package, in the order of the file: by setting, then by year."""
    return parse_published(resources.files("pclhd.report").joinpath("published.csv").read_text("utf-8"))


def parse_published(text: str) -> tuple[PublishedRow, ...]:
    """Read published figures from CSV text.

    Args:
        text: Lines beginning with ``#``, then a header with exactly the names of `COLUMNS`, then one row per method.
            Empty cells are figures that were not reported; ``camera_labels`` is ``yes``, ``no`` or empty.

    Raises:
        ValueError: The text is invalid; the message names the line and the value.
    """
    lines = text.splitlines()
    comments = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    reader = csv.reader(lines[comments:])
    header = next(reader, [])
    if tuple(header) != COLUMNS:
        raise ValueError(f"line {comments + 1}: columns are {header}, expected {list(COLUMNS)}")
    rows: list[PublishedRow] = []
    for cells in reader:
        where = f"line {comments + reader.line_num}"
        if len(cells) != len(COLUMNS):
            raise ValueError(f"{where}: {len(cells)} cells, expected {len(COLUMNS)}")
        row = _parse_row(dict(zip(COLUMNS, cells, strict=True)), where)
        if any((row.setting, row.method) == (other.setting, other.method) for other in rows):
            raise ValueError(f"{where}: {row.method!r} appears twice as {row.setting}")
        rows.append(row)
    return tuple(rows)


def benchmark_of(results: Results) -> Benchmark | None:
    """The benchmark whose published figures are comparable with a run's; None for other data, such as synthetic people.

    It depends on the layout and the recorded origin of the data, not on the number of images.
    """
    layout = results.dataset.name.partition("-")[0]
    if layout not in get_args(Benchmark) or results.dataset.synthetic:
        return None
    return cast(Benchmark, layout)


def other_test_set(benchmark: Benchmark, results: Results) -> str | None:
    """The difference between the evaluated test set and the published one, in words; None if their sizes are equal."""
    search, queries, gallery = PUBLISHED_SIZES[benchmark]
    row = _final(results).get(search)
    if row is None or (row.queries, row.gallery) == (queries, gallery):
        return None
    return f"{row.queries} queries and {row.gallery} gallery images, not {queries:,} and {gallery:,}"


def published_table(benchmark: Benchmark, results: Results, measured: MeasuredRow) -> tuple[Table, tuple[str, ...]]:
    """Published figures by setting, with the run's final weights in the last row, all in percent.

    Args:
        benchmark: Benchmark, which determines the columns.
        results: Results of the run; searches that were not evaluated are shown as a dash.
        measured: Name of the run in the table.

    Returns:
        The table, and the sources, which its last column references by number from 1. Methods without figures on this
        benchmark are left out.
    """
    measures = MEASURES[benchmark]
    published = [row for row in read_published() if any(row.figures[m.column] is not None for m in measures)]
    published.sort(key=lambda row: list(SETTINGS).index(row.setting))
    sources = tuple(dict.fromkeys(row.source for row in published))
    rows = [
        (
            row.setting,
            row.method,
            row.venue,
            _CAMERA_TEXTS[row.camera_labels],
            *(_as_reported(row.figures[measure.column]) for measure in measures),
            str(sources.index(row.source) + 1),
        )
        for row in published
    ]
    final = _final(results)
    figures = [
        percent(getattr(final[measure.search], measure.metric).mean) if measure.search in final else "–"
        for measure in measures
    ]
    camera_text = _CAMERA_TEXTS[measured.camera_labels]
    rows.append(("this run", measured.name, measured.remark, camera_text, *figures, "measured here"))
    columns = (
        *(Column(heading) for heading in ("Setting", "Method", "Venue", "Camera labels")),
        *(Column(measure.heading, "right") for measure in measures),
        Column("Source"),
    )
    caption = (
        f"{_ABBREVIATIONS[benchmark]}, in percent. Published figures are transcribed second-hand and were not measured "
        "here; the last row is this run's final weights, measured here."
    )
    return Table(caption, columns, tuple(rows), headers=2), sources


@dataclass(frozen=True)
class MeasuredMethod:
    """A method measured here, for the comparison table.

    Attributes:
        setting: Labels used in training; None for imported weights, whose training is unknown.
        row: Its name, remark and camera labels.
        benchmark: The benchmark that it was measured on.
        figures: Mean and, over several runs, standard deviation in percent, by column name such as ``sysu_all_r1``.
    """

    setting: Setting | None
    row: MeasuredRow
    benchmark: Benchmark
    figures: Mapping[str, tuple[float, float | None]]


def comparison_table(measured: Sequence[MeasuredMethod] = ()) -> tuple[Table, tuple[str, ...]]:
    """All published figures in blocks by the labels used, in each block followed by those measured here (paper).

    Args:
        measured: Methods measured on SYSU-MM01 or RegDB; none shows the published figures alone.

    Returns:
        The table, and the sources, which its last column references by number from 1.
    """
    published = read_published()
    sources = tuple(dict.fromkeys(row.source for row in published))
    columns = [measure.column for measures in MEASURES.values() for measure in measures]
    rows: list[tuple[str, ...]] = []
    for setting in (*SETTINGS, None):
        rows += [
            (
                row.setting,
                row.method,
                row.venue,
                _CAMERA_TEXTS[row.camera_labels],
                *(_as_reported(row.figures[column]) for column in columns),
                f"published ({sources.index(row.source) + 1})",
            )
            for row in published
            if row.setting == setting
        ]
        rows += [
            (
                setting or "unknown labels",
                method.row.name,
                method.row.remark,
                _CAMERA_TEXTS[method.row.camera_labels],
                *(spread_percent(method.figures.get(column)) for column in columns),
                "measured here",
            )
            for method in measured
            if method.setting == setting
        ]
    headings = [f"{_TITLES[name]} {measure.heading}" for name, measures in MEASURES.items() for measure in measures]
    table_columns = (
        *(Column(heading) for heading in ("Setting", "Method", "Venue", "Camera labels")),
        *(Column(heading, "right") for heading in headings),
        Column("Figures"),
    )
    caption = (
        "Rank-1 (R1) and mAP in percent: SYSU-MM01 in all and indoor search, single-shot; RegDB with visible (V) "
        "queries for infrared (I) images and the reverse. Published figures are transcribed second-hand and were not "
        "measured here. Camera labels: whether training uses them; – where the source does not say."
    )
    if measured:
        caption += " Measured here: final weights; mean ± standard deviation (n − 1) over several runs."
    return Table(caption, table_columns, tuple(rows), headers=2), sources


def spread_percent(value: tuple[float, float | None] | None) -> str:
    """Mean ± deviation of figures in percent; a dash for none."""
    if value is None:
        return "–"
    mean, std = value
    return f"{mean:.1f}" if std is None else f"{mean:.1f} ± {std:.1f}"


def _parse_row(cells: Mapping[str, str], where: str) -> PublishedRow:
    setting, camera_labels = cells["setting"], cells["camera_labels"]
    if setting not in SETTINGS:
        raise ValueError(f"{where}: setting {setting!r}, expected one of {', '.join(SETTINGS)}")
    if camera_labels not in _CAMERA_LABELS:
        raise ValueError(f"{where}: camera_labels {camera_labels!r}, expected yes, no or nothing")
    for name in ("method", "venue", "source"):
        if not cells[name].strip():
            raise ValueError(f"{where}: {name} is empty")
    columns = [measure.column for measures in MEASURES.values() for measure in measures]
    return PublishedRow(
        setting=setting,
        method=cells["method"],
        venue=cells["venue"],
        figures={column: _parse_percent(cells[column], f"{where}: {column}") for column in columns},
        camera_labels=_CAMERA_LABELS[camera_labels],
        source=cells["source"],
    )


def _parse_percent(cell: str, where: str) -> float | None:
    if not cell:
        return None
    try:
        value = float(cell)
    except ValueError:
        raise ValueError(f"{where} is {cell!r}, expected a number or nothing") from None
    if not 0 <= value <= 100:
        raise ValueError(f"{where} is {cell}, expected a percentage from 0 to 100")
    return value


def _as_reported(figure: float | None) -> str:
    return "–" if figure is None else f"{figure:.1f}"


def _final(results: Results) -> dict[str, ResultRow]:
    return {row.search: row for row in results.rows if row.weights == "final"}
