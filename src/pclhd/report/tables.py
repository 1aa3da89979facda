"""Tables as data, rendered three ways: plain text for a terminal, Markdown for documents, HTML for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

from pclhd.runs.records import ResultRow, Results, Spread, parse_results

Align = Literal["left", "right"]

WEIGHTS = {"start": "start", "stage1": "stage I", "final": "final", "oracle": "oracle (test labels)"}
"""How the sets of weights are called in tables and legends, in their order; any other name is shown as it is."""

_METRICS = ("rank1", "rank10", "mAP", "mINP")
_GAINS = ("rank1", "mAP")
_NAMES = {"rank1": "Rank-1", "rank10": "Rank-10", "mAP": "mAP", "mINP": "mINP"}


@dataclass(frozen=True)
class Column:
    """One column: its heading and the side its cells lean to."""

    heading: str
    align: Align = "left"


@dataclass(frozen=True)
class Table:
    """Cells of text under headings.

    Attributes:
        caption: What the table shows, in one sentence.
        columns: One per cell of a row.
        rows: Plain text, escaped only when rendered.
        headers: How many leading columns name the row (they become row headers in HTML). Of two, the first names a
            group: it is printed once per run of equal names.
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
        """Plain text: columns two spaces apart, a rule under the headings, no trailing spaces."""
        shown = [self._thinned(index) for index in range(len(self.rows))]
        cells = [[column.heading for column in self.columns], *shown]
        widths = [max(len(row[k]) for row in cells) for k in range(len(self.columns))]
        lines = [self._text_line(row, widths) for row in cells]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join(lines) + "\n"

    def to_markdown(self) -> str:
        """A Markdown table; pipes and line ends in cells are made harmless."""
        headings = "| " + " | ".join(_markdown_cell(column.heading) for column in self.columns) + " |"
        rule = "|" + "|".join("---:" if column.align == "right" else "---" for column in self.columns) + "|"
        rows = ["| " + " | ".join(_markdown_cell(cell) for cell in row) + " |" for row in self.rows]
        return "\n".join([headings, rule, *rows]) + "\n"

    def to_html(self) -> str:
        """An HTML table with a caption and scoped headers, inside a box that scrolls on narrow screens."""
        head = "".join(f'<th scope="col"{_html_class(column)}>{escape(column.heading)}</th>' for column in self.columns)
        body = ""
        for index in range(len(self.rows)):
            # Every group is a body of its own, so that its header's scope ends where the group ends.
            opening = "</tbody>\n<tbody>\n" if self.headers > 1 and index > 0 and self._starts_group(index) else ""
            body += f"{opening}<tr>{self._html_row(index)}</tr>\n"
        return (
            f'<div class="scroll" tabindex="0"><table>\n<caption>{escape(self.caption)}</caption>\n'
            f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>\n"
        )

    def _starts_group(self, index: int) -> bool:
        return self.headers < 2 or index == 0 or self.rows[index][0] != self.rows[index - 1][0]

    def _thinned(self, index: int) -> list[str]:
        """The row with its group name left out where it only repeats the line above."""
        row = list(self.rows[index])
        if not self._starts_group(index):
            row[0] = ""
        return row

    def _text_line(self, row: Sequence[str], widths: Sequence[int]) -> str:
        cells = [
            cell.rjust(width) if column.align == "right" else cell.ljust(width)
            for cell, width, column in zip(row, widths, self.columns, strict=True)
        ]
        return "  ".join(cells).rstrip()

    def _html_row(self, index: int) -> str:
        cells = []
        for k, (cell, column) in enumerate(zip(self.rows[index], self.columns, strict=True)):
            if k == 0 and self.headers > 1:
                if self._starts_group(index):
                    cells.append(f'<th scope="rowgroup" rowspan="{self._group_size(index)}">{escape(cell)}</th>')
            elif k < self.headers:
                cells.append(f'<th scope="row"{_html_class(column)}>{escape(cell)}</th>')
            else:
                cells.append(f"<td{_html_class(column)}>{escape(cell)}</td>")
        return "".join(cells)

    def _group_size(self, index: int) -> int:
        size = 1
        while index + size < len(self.rows) and not self._starts_group(index + size):
            size += 1
        return size


def weights_name(weights: str) -> str:
    """The name of a set of weights as readers see it."""
    return WEIGHTS.get(weights, weights)


def order_weights(names: Sequence[str]) -> list[str]:
    """Each name once: starter, stage I, final, then all others in the order given."""
    known = [name for name in WEIGHTS if name in names]
    return known + [name for name in dict.fromkeys(names) if name not in WEIGHTS]


def percent(fraction: float | None) -> str:
    """A share in percent with one decimal, without the sign: 0.316 gives 31.6; None gives a dash."""
    return "–" if fraction is None else f"{100 * fraction:.1f}"


def percent_spread(spread: Spread, trials: int) -> str:
    """Mean ± standard deviation in percent; the deviation of a single trial says nothing and is left out."""
    if trials < 2 or spread.std is None:
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
        *(Column(_NAMES[metric], "right") for metric in _METRICS),
        *(Column(f"{_NAMES[metric]} gain", "right") for metric in _GAINS),
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
    """The results table for a terminal, with the data's name above and the sizes of each search below.

    Raises:
        ValueError: A value is missing or out of range.
    """
    parsed = parse_results(results)
    if not parsed.rows:
        return f"{parsed.dataset.name}: no search was evaluated\n"
    sizes = "".join(f"{search}: {size}\n" for search, size in search_sizes(parsed).items())
    return f"{parsed.dataset.name}, percent\n\n{results_table(parsed).to_text()}\n{sizes}"


def search_sizes(results: Results) -> dict[str, str]:
    """For each search, how many queries, gallery images and trials its numbers rest on, in words."""
    sizes: dict[str, str] = {}
    for row in results.rows:
        parts = []
        if row.queries is not None:
            left_out = row.queries - (row.queries if row.valid_queries is None else row.valid_queries)
            parts.append(_counted(row.queries, "query", "queries"))
            if left_out:
                parts[-1] += f" ({left_out:,} without a right answer in the gallery)"
        if row.gallery is not None:
            parts.append(_counted(row.gallery, "gallery image", "gallery images"))
        parts.append(_counted(row.trials, "trial", "trials"))
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


def _counted(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _markdown_cell(cell: str) -> str:
    return " ".join(cell.split()).replace("|", "\\|").replace("<", "&lt;")


def _html_class(column: Column) -> str:
    return ' class="number"' if column.align == "right" else ""
