"""`pclhd figures`: the figures and tables of the paper, from runs and from the folders of ablations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pclhd.config import DataSettings
from pclhd.data.open import open_dataset
from pclhd.errors import ArgumentError, UserError
from pclhd.report.ablation import read_rows
from pclhd.report.drawings import Drawing, NamedTable
from pclhd.report.figure_folder import Contents, check_figure_folder, write_figure_folder
from pclhd.report.methods import Method, MethodsOfData, methods_of_runs, methods_of_table
from pclhd.report.paper import ari_drawing, comparison_tables, named_table, table_drawing
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
    contents = collect(request, on_progress)
    return write_figure_folder(contents, request.out, force=request.force), tuple(contents.notes)


def collect(request: FiguresRequest, on_progress: Progress = None) -> Contents:
    """All figures and tables, not written yet.

    Raises:
        UserError: As `make_figures`.
    """
    ablations = [AblationFolder(path) for path in request.sources if AblationFolder(path).is_ablation()]
    runs = [path for path in request.sources if not AblationFolder(path).is_ablation()]
    parts = [*(_of_ablation(folder, request, on_progress) for folder in ablations)]
    if runs or not ablations:
        parts.append(_of_runs(methods_of_runs(runs), "", request, on_progress))
    drawings = [drawing for part in parts for drawing in part.drawings]
    tables = [table for part in parts for table in part.tables]
    names = [*(drawing.name for drawing in drawings), *(table.name for table in tables)]
    unique = iter(_unique(names))
    return Contents(
        [replace(drawing, name=next(unique)) for drawing in drawings],
        [replace(table, name=next(unique)) for table in tables],
        [note for part in parts for note in part.notes],
    )


def _of_ablation(folder: AblationFolder, request: FiguresRequest, on_progress: Progress) -> Contents:
    record = folder.record()
    rows = read_rows(folder, record.tables.values(), record.seeds, record.search)
    if not rows:
        raise UserError(f"{folder.path}: no training of this ablation is finished; continue it with pclhd ablate")
    drawings: list[Drawing] = []
    tables: list[NamedTable] = []
    notes: list[str] = []
    for name, table in record.tables.items():
        names = {entry.name for entry in table.entries}
        own = [row for row in rows if row.entry.name in names]
        missing = [entry.name for entry in table.entries if not any(row.entry.name == entry.name for row in own)]
        if missing:
            notes.append(f"{table.title}: no finished training of {', '.join(missing)}")
        if not own:
            continue
        tables.append(named_table(name, table, own))
        drawings += filter(None, [table_drawing(name, table, own)])
    for name, table in record.tables.items():
        of_data = methods_of_table(folder, table, record.seeds)
        if table.kind in ("methods", "parts") and of_data.methods:
            suffix = "" if table.kind == "methods" else f"-{name}"
            part = _of_runs([of_data], suffix, request, on_progress, compared=table.kind == "methods")
            drawings, tables, notes = [*drawings, *part.drawings], [*tables, *part.tables], [*notes, *part.notes]
    return Contents(drawings, tables, notes)


def _of_runs(
    of_datas: Sequence[MethodsOfData],
    suffix: str,
    request: FiguresRequest,
    on_progress: Progress,
    *,
    compared: bool = True,
) -> Contents:
    """The figures of methods, apart for each data set."""
    drawings: list[Drawing] = []
    tables = comparison_tables(of_datas, published=request.published or bool(suffix)) if compared else []
    notes: list[str] = []
    for number, of_data in enumerate(of_datas, start=1):
        end = suffix if len(of_datas) == 1 else f"{suffix}-{number}"
        drawn = ari_drawing(of_data, f"ari{end}")
        if drawn is None:
            notes.append(f"ARI over the epochs on {of_data.data}: left out, no run logged it (it needs identities)")
        else:
            drawings.append(drawn)
        for name, models in _maps(of_data.methods):
            try:
                drawing, table = _map(f"{name}{end}", models, of_data, request, on_progress)
            except UserError as error:
                notes.append(f"t-SNE map on {of_data.data}: left out, {error}")
                break
            drawings.append(drawing)
            tables.append(table)
    return Contents(drawings, tables, notes)


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
