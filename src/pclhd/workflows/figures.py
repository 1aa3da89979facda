"""`pclhd figures`: the figures and tables of the paper, from runs and from the folders of ablations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pclhd.config import DataSettings
from pclhd.data.open import open_dataset
from pclhd.devices import resolve_device
from pclhd.errors import ArgumentError, UserError
from pclhd.report.ablation import read_rows, without_effect
from pclhd.report.drawings import Drawing, NamedRows, NamedTable
from pclhd.report.figure_folder import Contents, check_figure_folder, write_figure_folder
from pclhd.report.methods import Method, MethodsOfData, methods_of_runs, methods_of_table
from pclhd.report.paper import ari_drawing, comparison_tables, named_table, run_rows, table_drawing
from pclhd.runs.ablation import AblationFolder
from pclhd.workflows.maps import PEOPLE, Model, map_drawing

_MOST_PANELS = 6
_STAGES = {"start": "start weights", "stage1": "after stage I", "final": "final"}

Progress = Callable[[int, int], None] | None


@dataclass(frozen=True)
class FiguresRequest:
    """The arguments of `pclhd figures`.

    Attributes:
        sources: Run folders, and folders of ablations.
        out: A new folder.
        published: Whether to show the published figures even where nothing was measured on their benchmarks.
        data: The data set, if it has moved since training.
        people: People on the t-SNE maps.
        seed: Of the draw of these people, and of t-SNE.
        device: Where to embed their images.
        force: Whether to replace a folder of figures.
    """

    sources: tuple[Path, ...]
    out: Path
    published: bool = False
    data: Path | None = None
    people: int = PEOPLE
    seed: int = 0
    device: str = "auto"
    force: bool = False


def make_figures(request: FiguresRequest, on_progress: Progress = None) -> tuple[list[Path], tuple[str, ...]]:
    """Draw all figures that the runs allow, and write them to a folder.

    Args:
        request: The arguments.
        on_progress: Called with the number of images embedded for a map and of all.

    Returns:
        The files, and what was left out and why, a line each.

    Raises:
        UserError: There is nothing to draw, a run or an argument is unusable; the folder is as before.
    """
    if not request.sources and not request.published:
        raise UserError("which runs? For example: pclhd figures RUN RUN --out DIR, or pclhd figures --published")
    check_figure_folder(request.out, force=request.force)
    resolve_device(request.device)
    contents = collect(request, on_progress)
    return write_figure_folder(contents, request.out, force=request.force), tuple(contents.notes)


def collect(request: FiguresRequest, on_progress: Progress = None) -> Contents:
    """All figures and tables, not written yet.

    Raises:
        UserError: As `make_figures`.
    """
    ablations = [AblationFolder(path) for path in request.sources if AblationFolder(path).is_ablation()]
    runs = [path for path in request.sources if not AblationFolder(path).is_ablation()]
    made = _Made()
    for folder in ablations:
        _add_ablation(made, folder, request, on_progress)
    for number, of_data in enumerate(found := methods_of_runs(runs), start=1):
        made.compared.append(of_data)
        _add_methods(made, of_data, "" if len(found) == 1 else f"-{number}", request, on_progress)
    made.tables += comparison_tables(made.compared, published=request.published)
    return made.contents()


@dataclass
class _Made:
    """What was drawn so far."""

    drawings: list[Drawing] = field(default_factory=list)
    tables: list[NamedTable] = field(default_factory=list)
    rows: list[NamedRows] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    compared: list[MethodsOfData] = field(default_factory=list)

    def contents(self) -> Contents:
        """All of it, under names of which no two are the same."""
        names = [one.name for part in (self.drawings, self.tables, self.rows) for one in part]
        unique = _unique(names)
        return Contents(
            [replace(drawing, name=next(unique)) for drawing in self.drawings],
            [replace(table, name=next(unique)) for table in self.tables],
            [replace(rows, name=next(unique)) for rows in self.rows],
            self.notes,
        )


def _add_ablation(made: _Made, folder: AblationFolder, request: FiguresRequest, on_progress: Progress) -> None:
    """The tables and curves of an ablation, and the figures of its methods or else of its parts."""
    record = folder.record()
    rows = read_rows(folder, record.tables.values(), record.seeds, record.search)
    if not rows:
        raise UserError(f"{folder.path}: no training of this ablation is finished; continue it with pclhd ablate")
    for name, table in record.tables.items():
        finished = {row.entry.name for row in rows}
        missing = [entry.name for entry in table.entries if entry.name not in finished]
        if missing:
            made.notes.append(f"{table.title}: no finished training of {', '.join(missing)}")
        made.notes += [
            f"{table.title}: {entry.about} has exactly the figures of {entry.against}, so its settings do nothing"
            for entry in without_effect(table, rows)
        ]
        if len(missing) < len(table.entries):
            made.tables.append(named_table(name, table, rows))
            made.drawings += filter(None, [table_drawing(name, table, rows)])
    made.rows.append(run_rows(rows))
    whole = [table for table in record.tables.values() if table.kind == "methods"]
    for name, table in record.tables.items():
        of_data = methods_of_table(folder, table, record.seeds)
        if not of_data.methods or table.kind not in ("methods", "parts"):
            continue
        if table.kind == "methods":
            made.compared.append(of_data)
        _add_methods(
            made,
            of_data,
            "" if table.kind == "methods" else f"-{name}",
            request,
            on_progress,
            maps=table.kind == "methods" or not whole,
        )


def _add_methods(
    made: _Made,
    of_data: MethodsOfData,
    end: str,
    request: FiguresRequest,
    on_progress: Progress,
    *,
    maps: bool = True,
) -> None:
    """The ARI over the epochs, and the maps, of the methods of one data set."""
    drawn = ari_drawing(of_data, f"ari{end}")
    if drawn is None:
        made.notes.append(f"ARI over the epochs on {of_data.data}: left out, no run logged it (it needs identities)")
    else:
        made.drawings.append(drawn)
    for name, models in _maps(of_data.methods) if maps else ():
        try:
            drawing, table = _map(f"{name}{end}", models, of_data, request, on_progress)
        except UserError as error:
            made.notes.append(f"t-SNE maps on {of_data.data}: left out, {error}")
            break
        made.drawings.append(drawing)
        made.tables.append(table)


def _maps(methods: Sequence[Method]) -> Iterator[tuple[str, list[Model]]]:
    """The maps to draw: the final weights of all methods side by side, and the way of the last method."""
    final = [Model(method.label, method.first.weights()["final"]) for method in methods if _is_finished(method)]
    if len(final) > 1:
        yield "tsne", final[:_MOST_PANELS]
    finished = [method for method in methods if _is_finished(method)]
    if finished:
        last = finished[-1]
        weights = last.first.weights()
        yield "tsne-stages", [Model(f"{last.label}: {_STAGES[name]}", path) for name, path in weights.items()]


def _is_finished(method: Method) -> bool:
    return "final" in method.first.weights()


def _map(
    name: str, models: Sequence[Model], of_data: MethodsOfData, request: FiguresRequest, on_progress: Progress
) -> tuple[Drawing, NamedTable]:
    data = _data_settings(of_data)
    root = request.data or data.root
    if root is None:
        raise ArgumentError("data", "is missing: name the data set whose test people are shown")
    dataset = open_dataset(data.layout, root, trial=data.trial)
    return map_drawing(
        name,
        models,
        dataset,
        of_data.data,
        people=request.people,
        seed=request.seed,
        device=request.device,
        on_progress=on_progress,
    )


def _data_settings(of_data: MethodsOfData) -> DataSettings:
    return of_data.methods[0].first.folder.settings().data


def _unique(names: Sequence[str]) -> Iterator[str]:
    """The names in order; a later one of the same name gets a number."""
    seen: dict[str, int] = {}
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        yield name if seen[name] == 1 else f"{name}-{seen[name]}"


def published_text() -> str:
    """The published comparison table as plain text, for a terminal."""
    (named,) = comparison_tables([])
    return f"{named.table.to_text()}\n{named.table.caption}\n"
