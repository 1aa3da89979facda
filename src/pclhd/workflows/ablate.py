"""`pclhd ablate`: a grid of trainings, and the tables and figures that it gives."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from pclhd.config import Settings, load_preset
from pclhd.data.open import resolve_layout
from pclhd.data.records import Dataset, LabelledImages
from pclhd.errors import ArgumentError, UserError
from pclhd.evaluation.protocols import protocol_for
from pclhd.files import InUse
from pclhd.recipes import DEFAULT_RECIPE
from pclhd.report.ablation import read_rows
from pclhd.report.paper import named_table
from pclhd.report.tables import Table as TextTable
from pclhd.runs.ablation import AblationFolder, Table
from pclhd.runs.folder import RunFolder
from pclhd.workflows.ablation_runs import Ablation, chosen, run_ablation
from pclhd.workflows.ablation_tables import (
    FLOORS,
    METHODS,
    check_common_start,
    check_recipes,
    k_table,
    lambda_table,
    methods_table,
    parse_setting,
    parts_table,
    setting_table,
    with_own_starts,
)
from pclhd.workflows.figures import FiguresRequest, make_figures
from pclhd.workflows.train import open_data
from pclhd.workflows.trainings import Task

TABLES = ("parts", "lambda", "k", "methods")
_QUICK_SEEDS = 2


@dataclass(frozen=True)
class AblationRequest:
    """The arguments of `pclhd ablate`.

    Attributes:
        preset: A preset, or a YAML file.
        settings: ``KEY=VALUE`` for all trainings.
        data: The data set; None only in the quick form, which draws tiny data.
        out: Folder of the runs, new or of the same ablation.
        tables: Names of tables, of `TABLES`; all of them if there is nothing to vary either.
        floor: The recipe on which the parts stand.
        varied: Settings to vary, each as ``KEY=VALUE,VALUE``.
        recipe: The recipe whose settings are varied.
        methods: The recipes of the table of methods, the first of which is the one to compare with.
        both_stages: Whether varied settings apply to stage I too, which is then trained for each value.
        seeds: Of the trainings.
        test_data: Data whose test people are searched; None for those of `data`.
        search: The search whose figures are shown; None for the protocol's first.
        entries: Train only these entries, and those that they are compared with; all if empty.
        jobs: Trainings at a time.
        quick: Whether to train a few entries on tiny drawn data.
    """

    preset: str
    out: Path
    settings: tuple[str, ...] = ()
    data: Path | None = None
    tables: tuple[str, ...] = ()
    floor: str = FLOORS[0]
    varied: tuple[str, ...] = ()
    recipe: str = DEFAULT_RECIPE
    methods: tuple[str, ...] = METHODS
    both_stages: bool = False
    seeds: tuple[int, ...] = (0, 1, 2)
    test_data: Path | None = None
    search: str | None = None
    entries: tuple[str, ...] = ()
    jobs: int = 1
    quick: bool = False

    @property
    def used_seeds(self) -> tuple[int, ...]:
        """The seeds of the trainings; the quick form has two at most."""
        return self.seeds[:_QUICK_SEEDS] if self.quick else self.seeds


@dataclass(frozen=True)
class Planned:
    """A training of an ablation.

    Attributes:
        name: Of its run folder.
        state: ``finished``, ``to evaluate``, ``begun`` or ``to do``.
        seconds: Expected seconds of the training, begun ones from their start; 0 if it is done.
    """

    name: str
    state: str
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What a call of `pclhd ablate` made.

    Attributes:
        tables: The tables, in the order in which they were asked for.
        files: Figures and tables; empty if another process writes them.
        notes: What was left out of the figures, and why.
        failed: Trainings that failed here, a line each.
    """

    tables: tuple[TextTable, ...]
    files: tuple[Path, ...]
    notes: tuple[str, ...]
    failed: tuple[str, ...]


def plan(request: AblationRequest) -> list[Planned]:
    """The trainings that a call would do or read, with an estimate of their time; nothing is trained or written.

    Raises:
        UserError: As `ablate`.
    """
    from pclhd.workflows.estimate import estimate_seconds

    with _prepared(request, draw_into_folder=False) as (ablation, tables, dataset):
        tasks = ablation.checked_tasks(tables.values(), request.used_seeds)
        left = [task for task in tasks if not task.is_trained()]
        expected = dict(
            zip(
                (task.run.folder for task in left),
                estimate_seconds([task.run.settings() for task in left], dataset),
                strict=True,
            )
        )
        return [
            Planned(
                task.run.folder.name,
                _state(task),
                expected.get(task.run.folder, 0.0),
            )
            for task in tasks
        ]


def _state(task: Task) -> str:
    if task.is_finished():
        return "finished"
    if task.is_trained():
        return "to evaluate"
    return "begun" if RunFolder(task.run.folder).is_begun() else "to do"


def ablate(
    request: AblationRequest,
    *,
    on_start: Callable[[Task], None] = lambda task: None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Outcome:
    """Train what is missing, then make all tables and figures that the folder allows.

    Args:
        request: The arguments.
        on_start: Called when a training begins here.
        on_progress: Called with the number of images embedded for a map and of all.

    Raises:
        UserError: An argument, the data or the folder are unusable, and nothing is trained; or no training is finished.
    """
    with _prepared(request, draw_into_folder=True) as (ablation, tables, _):
        failed = run_ablation(
            ablation, tables, request.used_seeds, search=request.search, jobs=request.jobs, on_start=on_start
        )
    folder = ablation.folder
    rows = read_rows(folder, tables.values(), request.used_seeds, request.search)
    if not rows:
        raise UserError("; ".join(failed) or f"{folder.path}: no training is finished")
    shown = tuple(named_table(name, table, rows).table for name, table in tables.items())
    figures = FiguresRequest((folder.path,), folder.figures_folder, published=True, force=True)
    try:
        files, notes = make_figures(figures, on_progress)
    except InUse:
        files, notes = [], ("the figures are being written by another process of this ablation",)
    return Outcome(shown, tuple(files), notes, tuple(failed))


def tables_of(request: AblationRequest) -> dict[str, Table]:
    """The tables that are asked for, by name.

    Raises:
        UserError: A table, recipe, setting or entry is unknown, or cannot be trained as asked for.
    """
    names = request.tables or (() if request.varied else TABLES)
    for name in names:
        if name not in TABLES:
            raise ArgumentError("table", f"is no table; expected {', '.join(TABLES)}", value=name)
    check_recipes(request.methods, "methods")
    check_recipes([request.recipe], "recipe")
    made: dict[str, tuple[str, Callable[[], Table]]] = {
        "parts": (f"parts-{request.floor}", lambda: parts_table(request.floor)),
        "lambda": ("lambda", lambda_table),
        "k": ("k", k_table),
        "methods": ("methods", lambda: methods_table(request.methods)),
    }
    tables = {made[name][0]: made[name][1]() for name in names}
    varied = {}
    for text in request.varied:
        key, values = parse_setting(text)
        table = setting_table(request.preset, request.recipe, key, values)
        varied[f"{request.recipe}-{key}"] = with_own_starts(table) if request.both_stages else table
    check_common_start(varied.values())
    tables |= varied
    known = [entry.name for table in tables.values() for entry in table.entries]
    for name in request.entries:
        if name not in known:
            raise ArgumentError("entry", f"is no entry; expected {', '.join(dict.fromkeys(known))}", value=name)
    if request.entries:
        tables = {name: chosen(table, request.entries) for name, table in tables.items()}
    elif request.quick:
        tables = {name: chosen(table, table.quick) if table.quick else table for name, table in tables.items()}
    return {name: table for name, table in tables.items() if table.entries}


@contextmanager
def _prepared(
    request: AblationRequest, *, draw_into_folder: bool
) -> Iterator[tuple[Ablation, dict[str, Table], Dataset]]:
    """The ablation and its tables, once arguments and data are found usable.

    Without data, in the quick form, tiny data are drawn: into the ablation's folder, or for the block.
    """
    if request.data is None and not request.quick:
        raise ArgumentError("data", "is missing: name the data set's folder")
    if any(word.partition("=")[0] == "recipe" for word in request.settings):
        raise UserError(
            "recipe=…: an ablation compares recipes; name them with --methods, or with --recipe to vary one"
        )
    settings = load_preset(request.preset, list(request.settings))
    tables = tables_of(request)
    with TemporaryDirectory() as temporary:
        data = request.data
        if data is None:
            folder = AblationFolder(request.out if draw_into_folder else Path(temporary))
            data = _drawn(folder.drawn_data_folder)
        dataset = open_data(settings, data)
        tested = dataset if request.test_data is None else open_data(settings, request.test_data)
        test = _searchable(tested, settings, request.search)
        ablation = Ablation(
            request.preset, data, request.out, request.settings, request.test_data, test_checksum=test.checksum()
        )
        yield ablation, tables, dataset


def _drawn(folder: Path) -> Path:
    """Tiny drawn data, drawn if they are not there; another process may be drawing them."""
    from pclhd.synthetic import write_synthetic

    while not folder.exists():
        try:
            write_synthetic(folder, scale="tiny")
        except InUse:
            time.sleep(1)
        except UserError:
            if not folder.exists():  # else another process was faster
                raise
    return folder


def _searchable(dataset: Dataset, settings: Settings, search: str | None) -> LabelledImages:
    """The test images, once it is found that trainings can be measured by them, in the named search.

    Raises:
        UserError: There are no labelled test images, or there is no such search.
    """
    if dataset.test is None:
        raise UserError(f"{dataset.root}: has no labelled test images, and an ablation compares trainings by them")
    layout = resolve_layout(settings.data.layout, dataset.root)
    protocol = protocol_for(layout, dataset.test, same_camera_rule=settings.data.same_camera_rule)
    names = [one.name for one in protocol.searches]
    if search is not None and search not in names:
        raise ArgumentError("search", f"is no search of {dataset.root}; expected {', '.join(names)}", value=search)
    return dataset.test
