"""A comparison of runs as text: tables as printed by `pclhd evaluate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

from pclhd.report.compare.comparison import RunComparison
from pclhd.report.compare.groups import Group
from pclhd.report.compare.runs import MEASURES, ComparedRun, ResultKey, Value
from pclhd.report.compare.seeds import SeedDifference, compare_seeds
from pclhd.report.tables import Column, Table, percent, percent_gain, weights_name

_NOTHING = "–"


def comparison_text(compared: RunComparison) -> str:
    """A comparison as text, warnings first."""
    lines = [f"warning: {warning}\n" for warning in compared.warnings] + [f"note: {note}\n" for note in compared.notes]
    blocks = ["".join(lines)] if lines else []
    for title, table in comparison_tables(compared).items():
        blocks.append(f"{title}: none\n" if table is None else f"{title}\n\n{table.to_text()}")
    return "\n".join(blocks)


def comparison_tables(compared: RunComparison) -> dict[str, Table | None]:
    """The tables of a comparison by title; None where the runs do not differ."""
    tables: dict[str, Table | None] = {}
    if compared.grouped:
        apart = "the seed" if compared.draws == "seeds" else "trial and seed"
        tables[f"Groups of runs that differ only in {apart}"] = _group_table(compared)
    differing: dict[str, Mapping[str, Sequence[Value]]] = {
        "Settings that differ": compared.settings(),
        "Provenance that differs": compared.facts(),
    }
    for title, rows in differing.items():
        tables[title] = _differing_table(title, compared, rows) if rows else None
    if any(run.results is not None for run in compared.runs):
        tables[_results_caption(compared)] = _results_table(compared)
    if compared.cluster_names():
        tables["Clusters of the last epoch; shares in percent"] = _cluster_table(compared)
    return tables


def _group_table(compared: RunComparison) -> Table:
    between = ", " if compared.draws == "seeds" else "; "
    rows = tuple(
        (group.name, between.join(str(run.draw) for run in group.runs), ", ".join(run.name for run in group.runs))
        for group in compared.groups
    )
    return Table("Groups", (Column("Group"), Column(compared.draws.capitalize()), Column("Runs")), rows)


def _differing_table(title: str, compared: RunComparison, rows: Mapping[str, Sequence[Value]]) -> Table:
    """One column per group; all different values of its runs in one cell."""
    place = {run.name: number for number, run in enumerate(compared.runs)}
    columns = (Column("Key"), *(Column(group.name) for group in compared.groups))
    cells = []
    for key, values in rows.items():
        of_groups = (dict.fromkeys(_shown(values[place[run.name]]) for run in group.runs) for group in compared.groups)
        cells.append((key, *(", ".join(cell) for cell in of_groups)))
    return Table(title, columns, tuple(cells))


def _results_caption(compared: RunComparison) -> str:
    first = compared.groups[0].name
    if not compared.grouped:
        return f"Results in percent; in brackets, percentage points against {first}"
    return (
        f"Results in percent: mean ± standard deviation (n − 1) over the {compared.draws}, and the difference to "
        f"{first} over the {compared.draws}\nthat both have, with its 95 % confidence interval, "
        "not corrected for multiple comparisons"
    )


def _results_table(compared: RunComparison) -> Table:
    """One column per run; with groups, a second one for the difference to the first group."""
    first, *others = compared.groups
    columns = [Column("Search"), Column("Weights"), Column("Measure"), Column(first.name, "right")]
    for group in others:
        columns.append(Column(group.name, "right"))
        if compared.grouped:
            columns.append(Column(f"against {first.name}"))
    rows = []
    for key in compared.result_keys():
        search, weights, measure = key
        cells = [search, weights_name(weights), MEASURES[measure]]
        for group in compared.groups:
            cells += _group_cells(group, first, key) if compared.grouped else [_run_cell(group, first, key)]
        rows.append(tuple(cells))
    return Table(_results_caption(compared), tuple(columns), tuple(rows), headers=2)


def _run_cell(group: Group, first: Group, key: ResultKey) -> str:
    """A cell for groups of one run each."""
    value, base = (_only_run(one).measured().get(key) for one in (group, first))
    if value is None or group is first:
        return percent(value)
    return f"{percent(value)} ({percent_gain(value, base)})"


def _only_run(group: Group) -> ComparedRun:
    (run,) = group.runs
    return run


def _group_cells(group: Group, first: Group, key: ResultKey) -> list[str]:
    """Mean and deviation; for all groups except the first, the difference to it."""
    values = group.by_seed(key)
    cell = percent(fmean(values.values()) if values else None)
    if len(values) > 1:
        cell += f" ± {percent(stdev(values.values()))}"
    if group is first:
        return [cell]
    if not values:
        return [cell, _NOTHING]
    return [cell, _difference_text(compare_seeds(first.by_seed(key), values))]


def _difference_text(difference: SeedDifference | None) -> str:
    if difference is None:
        return f"{_NOTHING} (no seed in common)"
    text = percent_gain(difference.mean, 0.0)
    if difference.low is None or difference.high is None:
        return f"{text} (one seed in common: no interval)"
    text += f" [{percent_gain(difference.low, 0.0)}, {percent_gain(difference.high, 0.0)}]"
    return text if difference.distinguishable else f"{text} not distinguishable"


def _cluster_table(compared: RunComparison) -> Table:
    rows = []
    for name in compared.cluster_names():
        cells = [name]
        for group in compared.groups:
            values = [value for run in group.runs if (value := run.clusters().get(name)) is not None]
            cells.append(_cluster_cell(name, values))
        rows.append(tuple(cells))
    columns = (Column("Figure"), *(Column(group.name, "right") for group in compared.groups))
    return Table("Clusters", columns, tuple(rows))


def _cluster_cell(name: str, values: Sequence[float]) -> str:
    if not values:
        return _NOTHING
    share = not (name == "epochs" or name.endswith(" clusters"))
    if len(values) > 1 and len(set(values)) > 1:
        mean, spread = fmean(values), stdev(values)
        return f"{percent(mean)} ± {percent(spread)}" if share else f"{mean:.1f} ± {spread:.1f}"
    return percent(values[0]) if share else f"{values[0]:.0f}"


def _shown(value: Value) -> str:
    return _NOTHING if value is None else str(value)
