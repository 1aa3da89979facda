"""The figures and tables of the paper, drawn from run folders and from the folders of ablations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pclhd.report.ablation import MEASURES, Row, ablation_table, values_of
from pclhd.report.drawings import Drawing, NamedRows, NamedTable
from pclhd.report.figures.several import (
    AgreementPoint,
    Spread,
    ValuePoint,
    ari_figure,
    parts_figure,
    value_figure,
)
from pclhd.report.methods import Method, MethodsOfData, final_measures, mean_and_std
from pclhd.report.published import MEASURES as PUBLISHED_MEASURES
from pclhd.report.published import (
    SETTINGS,
    MeasuredMethod,
    MeasuredRow,
    Setting,
    benchmark_of,
    comparison_table,
    spread_percent,
)
from pclhd.report.tables import Column
from pclhd.report.tables import Table as TextTable
from pclhd.runs.ablation import Entry, Table
from pclhd.runs.saved import SavedRun

_SETTING_OF: dict[str, Setting] = {
    "none": "unsupervised",
    "identities": "supervised",
    "visible_identities": "semi-supervised",
}


# ARI over the epochs.


def ari_drawing(of_data: MethodsOfData, name: str = "ari", *, colours_of: Sequence[str] = ()) -> Drawing | None:
    """The ARI over the epochs; None if no run logged it, as with images without identities.

    Args:
        of_data: The methods.
        name: Of the files.
        colours_of: Labels in the order in which another figure gave them colours.
    """
    points = [point for method in of_data.methods for point in agreement_points(method)]
    if not points:
        return None
    figure = ari_figure(points, _boundary(of_data.methods), methods=colours_of)
    caption = (
        f"Adjusted Rand Index of the clusters with the identities over the epochs, on {of_data.data}. Training does "
        "not use the identities. Lines are means over the runs of a method, bands a standard deviation (n − 1) to "
        "either side."
    )
    columns = ("method", "modality", "epoch", "ari", "std", "seeds")
    rows = [(one.method, one.modality, one.epoch, one.ari.mean, one.ari.std, one.ari.seeds) for one in points]
    return Drawing(name, caption, figure, columns, rows)


def agreement_points(method: Method) -> list[AgreementPoint]:
    """The ARI of a method by modality and epoch, over the runs that logged that epoch."""
    points = []
    histories = [run.epochs() for run in method.runs]
    for modality in ("visible", "infrared"):
        by_epoch: dict[int, list[float]] = {}
        for history in histories:
            for epoch in history:
                value = (epoch.labels or {}).get(f"ari_{modality}")
                if value is not None and value == value:
                    by_epoch.setdefault(epoch.epoch, []).append(value)
        points += [
            AgreementPoint(method.label, modality, epoch, _spread(values)) for epoch, values in sorted(by_epoch.items())
        ]
    return points


def _boundary(methods: Iterable[Method]) -> float | None:
    """Where stage II begins, if that is the same place in all runs."""
    lengths = {
        sum(epoch.stage == 1 for epoch in epochs) if any(epoch.stage == 2 for epoch in epochs) else None
        for epochs in (run.epochs() for method in methods for run in method.runs)
    }
    only = lengths.pop() if len(lengths) == 1 else None
    return None if not only else only + 0.5


# The tables of an ablation.


def table_drawing(name: str, table: Table, rows: Sequence[Row]) -> Drawing | None:
    """The figure of an ablation's table: a curve over the values of a setting, or the parts; None for other kinds."""
    entries = [entry for entry in table.entries if values_of(rows, entry.name, "rank1")]
    if table.kind not in ("curve", "parts") or not entries:
        return None
    points = [point for entry in in_order(entries) for point in _value_points(table, entry, rows)]
    if table.kind == "curve":
        figure = value_figure(points, table.symbol or table.setting)
        about = f"{table.title}: rank-1 and mAP over the values; a ring marks the value that the method has by itself."
    else:
        figure, about = parts_figure(points), f"{table.title}: rank-1 and mAP."
    caption = (
        f"{about} Percent, {rows[0].search} search. Bars are a standard deviation (n − 1) over the seeds to either "
        "side, small dots single seeds."
    )
    columns = ("entry", "value", "measure", "mean", "std", "seeds", "by_seed")
    data = [
        (
            entry.name,
            point.value,
            point.measure,
            point.reached.mean,
            point.reached.std,
            point.reached.seeds,
            " ".join(map(repr, point.by_seed)),
        )
        for entry in in_order(entries)
        for point in _value_points(table, entry, rows)
    ]
    return Drawing(name, caption, figure, columns, data)


def in_order(entries: Sequence[Entry]) -> list[Entry]:
    """Entries by ascending value where all values are numbers, else as they are."""
    try:
        return sorted(entries, key=lambda entry: float(entry.value))
    except ValueError:
        return list(entries)


def _value_points(table: Table, entry: Entry, rows: Sequence[Row]) -> Iterator[ValuePoint]:
    for measure, shown in MEASURES.items():
        values = tuple(values_of(rows, entry.name, measure).values())
        value = entry.value if table.kind == "curve" else entry.about
        yield ValuePoint(value, shown, _spread(values), values, own=table.kind == "curve" and not entry.against)


def named_table(name: str, table: Table, rows: Sequence[Row]) -> NamedTable:
    """The table of an ablation, without the settings of its entries, which are in `run_rows`."""
    return NamedTable(f"{name}-table", ablation_table(table, rows, with_settings=table.kind == "table"))


def run_rows(rows: Sequence[Row]) -> NamedRows:
    """A row for each run of an ablation."""
    lines = [row.to_dict() for row in rows]
    about = "A row for each run, with its settings; measures are fractions."
    return NamedRows("runs", about, list(lines[0]), [list(line.values()) for line in lines])


# The comparison table.


def comparison_tables(of_datas: Sequence[MethodsOfData], *, published: bool = True) -> list[NamedTable]:
    """The comparison table, with methods measured on SYSU-MM01 or RegDB, and a table for each other data set.

    Figures of other data, such as drawn people, are never in the columns of a benchmark.

    Args:
        of_datas: The methods by their data.
        published: Whether to show the published figures where nothing was measured on their benchmarks.
    """
    measured = [one for of_data in of_datas for method in of_data.methods for one in _measured(method)]
    tables = []
    if measured or published:
        table, sources = comparison_table(measured)
        listed = "; ".join(f"({number}) {source}" for number, source in enumerate(sources, start=1))
        tables.append(
            NamedTable(
                "comparison", TextTable(f"{table.caption} Sources: {listed}.", table.columns, table.rows, headers=2)
            )
        )
    others = [(of_data, _own_table(of_data)) for of_data in of_datas]
    found = [(of_data, table) for of_data, table in others if table is not None]
    for number, (_, table) in enumerate(found, start=1):
        tables.append(NamedTable("measured" if len(found) == 1 else f"measured-{number}", table))
    return tables


def _measured(method: Method) -> Iterator[MeasuredMethod]:
    results = [run.saved.results for run in method.runs if run.saved.results is not None]
    benchmark = benchmark_of(results[0]) if results else None
    if benchmark is None or any(one.dataset.synthetic is None for one in results):
        return
    measures = [final_measures(run.saved) for run in method.runs]
    figures = {}
    for column in PUBLISHED_MEASURES[benchmark]:
        values = [100 * one[column.search, column.metric] for one in measures if (column.search, column.metric) in one]
        if values:
            figures[column.column] = mean_and_std(values)
    saved = method.first.saved
    cameras = False if benchmark == "regdb" else uses_cameras(saved)  # one camera per modality in RegDB
    row = MeasuredRow(method.label, runs_text(method), None if saved.imported else cameras)
    yield MeasuredMethod(setting_of(saved), row, benchmark, figures)


def _own_table(of_data: MethodsOfData) -> TextTable | None:
    """The methods measured on data without published figures, in the same blocks."""
    methods = [method for method in of_data.methods if not list(_measured(method)) and _searches(method)]
    searches = list(dict.fromkeys(search for method in methods for search in _searches(method)))
    if not methods:
        return None
    rows = []
    for setting in (*SETTINGS, None):
        for method in (one for one in methods if setting_of(one.first.saved) == setting):
            cameras = uses_cameras(method.first.saved)
            cells = [setting or "unknown labels", method.label, runs_text(method)]
            cells.append("–" if cameras is None else "yes" if cameras else "no")
            measures = [final_measures(run.saved) for run in method.runs]
            for search in searches:
                for measure in MEASURES:
                    values = [100 * one[search, measure] for one in measures if (search, measure) in one]
                    cells.append(spread_percent(mean_and_std(values) if values else None))
            rows.append((*cells, "measured here"))
    columns = (
        *(Column(heading) for heading in ("Setting", "Method", "Runs", "Camera labels")),
        *(Column(f"{search} {measure}", "right") for search in searches for measure in ("R1", "mAP")),
        Column("Figures"),
    )
    caption = (
        f"Rank-1 (R1) and mAP in percent on {of_data.data}: final weights, mean ± standard deviation (n − 1) over "
        "several runs, measured here. These data have no published figures, and those of other data cannot be compared."
    )
    return TextTable(caption, columns, tuple(rows), headers=2)


def setting_of(saved: SavedRun) -> Setting | None:
    """The block of a run by the labels that it was trained with; None for imported weights."""
    training = None if saved.results is None else saved.results.training
    return None if saved.imported or training == "imported" else _SETTING_OF.get(saved.labels)


def uses_cameras(saved: SavedRun) -> bool | None:
    """Whether training used camera numbers; None where its settings do not say."""
    if saved.imported or saved.setting("batch.sampler") is None:
        return None
    return "camera" in (saved.setting("batch.sampler"), saved.setting("method.centre_features"))


def runs_text(method: Method) -> str:
    """The number of runs, in words."""
    return "1 run" if len(method.runs) == 1 else f"{len(method.runs)} runs"


def _searches(method: Method) -> list[str]:
    return list(dict.fromkeys(search for run in method.runs for search, _ in final_measures(run.saved)))


def _spread(values: Sequence[float]) -> Spread:
    mean, std = mean_and_std(values)
    return Spread(mean, std, len(values))
