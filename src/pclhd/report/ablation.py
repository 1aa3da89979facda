"""The rows of an ablation folder, and its tables: means over seeds, and differences to the floor paired by seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from pclhd.errors import UserError
from pclhd.report.compare.seeds import SeedDifference, compare_seeds
from pclhd.report.tables import Column
from pclhd.report.tables import Table as TextTable
from pclhd.runs.ablation import AblationFolder, Entry, Table
from pclhd.runs.folder import RunFolder

MEASURES = {"rank1": "rank-1", "mAP": "mAP"}
#: What the log says about the last epoch, where the training images have identities.
OF_LABELS = (
    *("match_precision", "match_right", "match_wrong", "unmatched_right", "unmatched_wrong"),
    *("ari_visible", "ari_infrared", "ari_joint"),
)
_SHOWN_OF_LABELS = {
    "match_right": "right",
    "match_wrong": "wrong",
    "unmatched_right": "alone, rightly",
    "unmatched_wrong": "alone, wrongly",
}
_NOTHING = "–"


@dataclass(frozen=True)
class Row:
    """A finished run of an entry.

    Attributes:
        entry: The entry.
        seed: Of the training.
        search: The search of its measures.
        test_images: Checksum of the test images; None if it was not recorded.
        figures: Rank-1, mAP and mINP of the final weights, and what the log says about the last epoch; fractions.
    """

    entry: Entry
    seed: int
    search: str
    test_images: str | None
    figures: Mapping[str, float | None]

    def to_dict(self) -> dict[str, object]:
        """The row for a CSV file."""
        entry = self.entry
        return {
            "entry": entry.name,
            "recipe": entry.recipe,
            "settings": " ".join(entry.settings),
            "start": entry.start,
            "variant": entry.variant,
            "seed": self.seed,
            "search": self.search,
            "test_images": self.test_images,
            **self.figures,
        }


def read_rows(
    folder: AblationFolder, tables: Iterable[Table], seeds: Sequence[int], search: str | None = None
) -> list[Row]:
    """A row for each finished run.

    Args:
        folder: Of the ablation.
        tables: Whose entries are read.
        seeds: Of the trainings.
        search: The search whose measures are shown; None for the first of the first run.

    Raises:
        UserError: A file is damaged, a run has no such search, or runs were evaluated with different test images.
    """
    rows: dict[tuple[str, int], Row] = {}
    for entry in (entry for table in tables for entry in table.entries):
        for seed in seeds:
            run = folder.run(entry, seed)
            if (entry.name, seed) not in rows and run.results_file.exists():
                rows[entry.name, seed] = row = _row(run, entry, seed, search)
                search = row.search
    _refuse_other_people(folder, rows.values())
    return list(rows.values())


def _row(run: RunFolder, entry: Entry, seed: int, search: str | None) -> Row:
    results = run.require_results()
    found = {row.search: row for row in results.rows if row.weights == "final"}
    if not found or (search is not None and search not in found):
        raise UserError(f"{run}: has no search {search or ''}; expected one of {', '.join(found)}")
    shown = search or next(iter(found))
    epochs = run.epochs()
    last = epochs[-1] if epochs else None
    labels = (last and last.labels) or {}
    figures: dict[str, float | None] = {name: getattr(found[shown], name).mean for name in ("rank1", "mAP", "mINP")}
    figures |= {name: labels.get(name) for name in OF_LABELS}
    for name in ("visible", "infrared"):
        clusters = getattr(last, name, None)
        figures[f"{name}_clusters"] = None if clusters is None else clusters.clusters
    figures["loss"] = last.loss.get("total") if last else None
    figures["seconds"] = sum(epoch.seconds or 0.0 for epoch in epochs)
    return Row(entry, seed, shown, results.dataset.test_checksum, figures)


def _refuse_other_people(folder: AblationFolder, rows: Iterable[Row]) -> None:
    searched: dict[str, Row] = {}
    for row in rows:
        first = searched.setdefault(row.entry.variant, row)
        if row.test_images != first.test_images:
            raise UserError(
                f"{folder.path}: {row.entry.name}-{row.seed} and {first.entry.name}-{first.seed} were evaluated with "
                "different test images; remove one results.json, and evaluate again with the wanted data"
            )


def values_of(rows: Iterable[Row], entry: str, measure: str) -> dict[int, float]:
    """A figure of an entry in percent, by seed; only where it is known."""
    found = {row.seed: row.figures.get(measure) for row in rows if row.entry.name == entry}
    return {seed: 100 * value for seed, value in found.items() if value is not None}


def difference_of(rows: Sequence[Row], entry: Entry, measure: str) -> SeedDifference | None:
    """The difference of an entry to its floor in percentage points, paired by seed; None if they share no seed."""
    if not entry.against:
        return None
    return compare_seeds(values_of(rows, entry.against, measure), values_of(rows, entry.name, measure))


def ablation_table(table: Table, rows: Sequence[Row], *, with_settings: bool = True) -> TextTable:
    """The table in percent: a row for each entry that has a finished run.

    Args:
        table: The entries.
        rows: Their runs.
        with_settings: Whether to show the settings of each entry, which may be long.
    """
    names = {entry.name for entry in table.entries}
    rows = [row for row in rows if row.entry.name in names]
    labelled = any(row.figures.get(name) is not None for row in rows for name in _SHOWN_OF_LABELS)
    of_labels = _SHOWN_OF_LABELS if labelled else {}
    lines = []
    for entry in table.entries:
        seeds = values_of(rows, entry.name, "rank1")
        if not seeds:
            continue
        cells = [entry.about]
        if with_settings:
            cells.append(" ".join(f"`{word}`" for word in entry.settings) or f"`recipe={entry.recipe}`")
        cells += [spread_text(values_of(rows, entry.name, measure)) for measure in MEASURES]
        cells += [_difference_text(difference_of(rows, entry, measure)) for measure in MEASURES]
        cells += [spread_text(values_of(rows, entry.name, name)) for name in of_labels]
        lines.append((*cells, str(len(seeds))))
    columns = (
        *(Column(heading) for heading in ("What it is", "Settings")[: 1 + with_settings]),
        *(Column(heading, "right") for heading in MEASURES.values()),
        *(Column(f"Δ {heading}", "right") for heading in MEASURES.values()),
        *(Column(heading, "right") for heading in of_labels.values()),
        Column("seeds", "right"),
    )
    searches = ", ".join(dict.fromkeys(row.search for row in rows))
    caption = (
        f"{table.title}. Percent, {searches} search; mean ± standard deviation (n − 1) over seeds. Δ: mean difference "
        "to the row that it is compared with, over the same seeds, with its 95 % confidence interval; with an asterisk "
        "(*) where that leaves out zero."
    )
    if of_labels:
        caption += " Right, wrong, alone: clusters by their partner in the last epoch."
    return TextTable(caption, columns, tuple(lines))


def without_effect(table: Table, rows: Sequence[Row]) -> list[Entry]:
    """Entries whose figures are those of the row that they are compared with, to the last digit, in all seeds.

    The method then does not read what distinguishes them, such as the number of hard samples where hard prototypes
    start as centroids.
    """
    found = {(row.entry.name, row.seed): _without_clock(row) for row in rows}
    idle = []
    for entry in table.entries:
        seeds = [seed for name, seed in found if name == entry.name and (entry.against, seed) in found]
        if seeds and all(found[entry.name, seed] == found[entry.against, seed] for seed in seeds):
            idle.append(entry)
    return idle


def _without_clock(row: Row) -> dict[str, float | None]:
    return {name: value for name, value in row.figures.items() if name != "seconds"}


def spread_text(values: Mapping[int, float]) -> str:
    """Mean ± standard deviation (n − 1); the mean alone of a single value."""
    if not values:
        return _NOTHING
    mean = f"{fmean(values.values()):.1f}"
    return f"{mean} ± {stdev(values.values()):.1f}" if len(values) > 1 else mean


def _difference_text(found: SeedDifference | None) -> str:
    if found is None:
        return _NOTHING
    text = _signed(found.mean)
    if found.low is None or found.high is None:
        return text
    return f"{text} ({_signed(found.low)} to {_signed(found.high)})" + ("*" if found.distinguishable else "")


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")
