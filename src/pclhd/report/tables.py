"""Tables as data, with a plain-text format for the terminal; a template of the report makes the HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pclhd.data.data_name import shown_data_name
from pclhd.runs.records import ResultRow, Results, Spread, parse_results
from pclhd.text_tables import text_table

Align = Literal["left", "right"]

WEIGHTS = {"start": "start", "stage1": "stage I", "final": "final", "oracle": "oracle (test labels)"}
"""Names of the sets of weights in tables and legends, in order; other names are shown unchanged."""

_METRICS = ("rank1", "rank10", "mAP", "mINP")
_GAINS = ("rank1", "mAP")
_NAMED = 10
# A smaller fall of rank-1 or mAP, as a fraction, is taken for chance.
_LEAST_DECLINE = 0.01
# Trials that are all alike have a deviation of a rounding error.
_ROUNDING = 1e-9
_OF_GROUP = {
    "validation": "the test images show the drawing's validation people, who are for choosing; for final figures, test "
    "on pclhd synth --held-out test",
    "test": "the test images show the drawing's test people, who are for final figures; choose nothing by them",
}
METRIC_NAMES = {"rank1": "Rank-1", "rank10": "Rank-10", "mAP": "mAP", "mINP": "mINP"}
"""The measures of a results table, and their headings."""


@dataclass(frozen=True)
class Column:
    """One column: its heading and the alignment of its cells."""

    heading: str
    align: Align = "left"


@dataclass(frozen=True)
class Table:
    """Cells of text under headings.

    Attributes:
        caption: What the table shows, in one sentence.
        columns: One for each cell of a row.
        rows: Plain text; templates escape it.
        headers: How many leading columns name the row (they become row headers in HTML). If there are two, the first is
            the group's name, shown once for consecutive rows with the same name.
    """

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    headers: int = 1

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"row {row!r} has {len(row)} cells for {len(self.columns)} columns")

    def to_text(self) -> str:
        """Plain text: columns two spaces apart, a dashed line under the headings, no trailing spaces."""
        rows = [row if self.starts_group(index) else ("", *row[1:]) for index, row in enumerate(self.rows)]
        right = {number for number, column in enumerate(self.columns) if column.align == "right"}
        return text_table(rows, headings=[column.heading for column in self.columns], right=right) + "\n"

    def starts_group(self, index: int) -> bool:
        """Whether a row is the first of its group; true for each row of a table without groups."""
        return self.headers < 2 or index == 0 or self.rows[index][0] != self.rows[index - 1][0]

    def group_size(self, index: int) -> int:
        """Number of rows of the group that starts at a row."""
        size = 1
        while index + size < len(self.rows) and not self.starts_group(index + size):
            size += 1
        return size


def weights_name(weights: str) -> str:
    """The display name of a set of weights."""
    return WEIGHTS.get(weights, weights)


def order_weights(names: Sequence[str]) -> list[str]:
    """Each name once: start, stage I, final, oracle, then all others in the given order."""
    known = [name for name in WEIGHTS if name in names]
    return known + [name for name in dict.fromkeys(names) if name not in WEIGHTS]


def percent(fraction: float | None) -> str:
    """A share in percent with one decimal, without the percent sign: 0.316 gives 31.6; None gives a dash."""
    return "–" if fraction is None else f"{100 * fraction:.1f}"


def percent_spread(spread: Spread, trials: int) -> str:
    """Mean ± standard deviation in percent; only the mean for a single trial, and for trials that were all alike."""
    if trials < 2 or spread.std is None or spread.std < _ROUNDING:
        return percent(spread.mean)
    return f"{percent(spread.mean)} ± {percent(spread.std)}"


def percent_gain(after: float, before: float | None) -> str:
    """A difference in percentage points with its sign; a dash if there is nothing to compare with."""
    if before is None:
        return "–"
    text = f"{100 * (after - before):+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def results_table(results: Mapping[str, Any] | Results) -> Table:
    """The table of retrieval results: per search, the weights from start to final.

    Args:
        results: The results.

    Returns:
        Rank-1, rank-10, mAP and mINP as mean ± standard deviation over the trials in percent, and the gain against the
        starting weights of the same search in percentage points.

    Raises:
        ValueError: A value is missing or out of range.
    """
    parsed = parse_results(results)
    columns = (
        Column("Search"),
        Column("Weights"),
        *(Column(METRIC_NAMES[metric], "right") for metric in _METRICS),
        *(Column(f"{METRIC_NAMES[metric]} gain", "right") for metric in _GAINS),
    )
    rows = []
    for search in dict.fromkeys(row.search for row in parsed.rows):
        by_weights = {row.weights: row for row in parsed.rows if row.search == search}
        start = by_weights.get("start")
        rows += [_result_cells(by_weights[weights], start) for weights in order_weights(list(by_weights))]
    caption = (
        "Retrieval in percent (mean ± standard deviation over the trials); gains are percentage points against the "
        "starting weights."
    )
    return Table(caption, columns, tuple(rows), headers=2)


def results_text(results: Mapping[str, Any] | Results) -> str:
    """The results table as text, with the data's name above and the sizes of each search below.

    Raises:
        ValueError: A value is missing or out of range.
    """
    parsed = parse_results(results)
    if not parsed.rows:
        return f"{shown_data_name(parsed.dataset.name, drawn=parsed.dataset.synthetic)}: no search was evaluated\n"
    sizes = "".join(f"{search}: {size}\n" for search, size in search_sizes(parsed).items())
    name = shown_data_name(parsed.dataset.name, drawn=parsed.dataset.synthetic)
    drawn = "the people are synthetic, drawn by pclhd synth\n" if parsed.dataset.synthetic else ""
    notes = "".join(f"note: {note}\n" for note in result_notes(parsed))
    return f"{name}, percent\n\n{results_table(parsed).to_text()}\n{sizes}{drawn}{notes}"


def result_notes(results: Results) -> list[str]:
    """What a reader must know of the test before comparing its figures, a sentence each."""
    notes = [_OF_GROUP[results.dataset.held_out]] if results.dataset.held_out else []
    if results.trained_on_test_images:
        total = results.dataset.test_images
        of_all = "" if total is None or results.runs else f" of the {total:,}"
        notes.append(
            f"the weights were trained on {results.trained_on_test_images:,}{of_all} test images; these figures do not "
            "show how well other images are found"
        )
    if results.people_in_both_splits:
        people = results.people_in_both_splits
        more = ", …" if len(people) > _NAMED else ""
        notes.append(
            f"{_counted(len(people), 'person is', 'people are')} in both training and test images: "
            f"{', '.join(map(str, people[:_NAMED]))}{more}"
        )
    if results.near_copies is not None and results.near_copies.count:
        count = _counted(results.near_copies.count, "test image looks", "test images look")
        notes.append(f"{count} like a training image saved again: {', '.join(results.near_copies.examples)}")
    notes += _declines(results)
    notes += [f"{search} search is left out: {reason}" for search, reason in results.left_out.items()]
    return notes


def _declines(results: Results) -> list[str]:
    """The searches in which the final weights are below the start weights in rank-1 or mAP, a sentence each."""
    rows = {(row.search, row.weights): row for row in results.rows}
    notes = []
    for (search, weights), final in rows.items():
        start = rows.get((search, "start"))
        if weights != "final" or start is None:
            continue
        measures = (("rank-1", start.rank1.mean, final.rank1.mean), ("mAP", start.mAP.mean, final.mAP.mean))
        fallen = [
            f"{name} fell from {percent(before)} to {percent(after)}"
            for name, before, after in measures
            if after < before - _LEAST_DECLINE
        ]
        if fallen:
            notes.append(f"{search} search: the final weights are below the start weights, {' and '.join(fallen)}")
    return notes


def search_sizes(results: Results) -> dict[str, str]:
    """The number of queries, gallery images and trials of each search, in words."""
    sizes: dict[str, str] = {}
    for row in results.rows:
        parts = []
        if row.queries is not None:
            left_out = row.queries - (row.queries if row.valid_queries is None else row.valid_queries)
            parts.append(_counted(row.queries, "query", "queries"))
            if left_out:
                parts[-1] += f" ({left_out:,} without a correct image in the gallery)"
        if row.gallery is not None:
            parts.append(_counted(row.gallery, "gallery image", "gallery images"))
        alike = " with the same result" if row.trials > 1 and _is_constant(row) else ""
        parts.append(_counted(row.trials, "trial", "trials") + alike)
        sizes.setdefault(row.search, ", ".join(parts))
    return sizes


def _result_cells(row: ResultRow, start: ResultRow | None) -> tuple[str, ...]:
    spreads: dict[str, Spread] = {metric: getattr(row, metric) for metric in _METRICS}
    values = [percent_spread(spreads[metric], row.trials) for metric in _METRICS]
    if row.weights == "start":
        gains = ["" for _ in _GAINS]
    else:
        gains = [
            percent_gain(spreads[metric].mean, None if start is None else getattr(start, metric).mean)
            for metric in _GAINS
        ]
    return (row.search, weights_name(row.weights), *values, *gains)


def _is_constant(row: ResultRow) -> bool:
    return all(spread.std is not None and spread.std < _ROUNDING for spread in (row.rank1, row.mAP, row.mINP))


def _counted(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
