"""Runs put together as methods: one label for all seeds and trials of a method, apart for each data set (ours)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from pclhd.data.data_name import shown_data_name
from pclhd.errors import UserError
from pclhd.report.compare.groups import Group, group_runs
from pclhd.report.compare.runs import ComparedRun, read_runs
from pclhd.runs.ablation import AblationFolder, Table
from pclhd.runs.folder import RunFolder, WeightsName
from pclhd.runs.records import EpochRecord
from pclhd.runs.saved import SavedRun, read_run


@dataclass(frozen=True)
class MethodRun:
    """A run of a method.

    Attributes:
        saved: The contents of its folder.
        before: The run that trained stage I, where this one only continues it.
    """

    saved: SavedRun
    before: SavedRun | None = None

    @property
    def folder(self) -> RunFolder:
        """The run folder."""
        return self.saved.folder

    def epochs(self) -> list[EpochRecord]:
        """All epochs in order, numbered from 1 over both stages."""
        earlier = () if self.before is None else self.before.epochs
        whole = [*earlier, *self.saved.epochs]
        return [epoch.model_copy(update={"epoch": number}) for number, epoch in enumerate(whole, start=1)]

    def weights(self) -> dict[WeightsName, Path]:
        """The existing model files from the start of stage I to the end, by `start`, `stage1`, `final`."""
        first = self.folder if self.before is None else self.before.folder
        found: dict[WeightsName, Path] = {
            "start": first.weights_file("start"),
            "stage1": first.weights_file("stage1"),
        }
        if self.before is not None:
            found["stage1"] = first.model_file
        found["final"] = self.folder.model_file
        return {name: path for name, path in found.items() if path.exists()}


@dataclass(frozen=True)
class Method:
    """All runs of one method on one data set; they differ in the seed only, and in RegDB in the trial.

    Attributes:
        label: Its name in legends and tables.
        runs: In the order of trials and seeds.
    """

    label: str
    runs: tuple[MethodRun, ...]

    @property
    def first(self) -> MethodRun:
        """The run that stands for the method where only one can be shown."""
        return self.runs[0]


@dataclass(frozen=True)
class MethodsOfData:
    """The methods that were trained on one data set.

    Attributes:
        data: Its name; drawn people are never called by the name of a benchmark.
        methods: In the order of the runs.
    """

    data: str
    methods: tuple[Method, ...]


def methods_of_runs(folders: Sequence[Path]) -> list[MethodsOfData]:
    """Put run folders together.

    Raises:
        UserError: A folder is named twice or is not a run folder, or a file is malformed.
    """
    seen = Counter(folder.resolve() for folder in folders)
    twice = [folder for folder in folders if seen[folder.resolve()] > 1]
    if twice:
        raise UserError(f"{twice[0]}: is named twice; name each run once")
    return methods_of_groups(group_runs(read_runs(folders)))


def methods_of_groups(groups: Sequence[Group], *, by_name: bool = False) -> list[MethodsOfData]:
    """Put groups of runs together by their data.

    Args:
        groups: The groups.
        by_name: Whether a method's label is the name of its group, and not that of its recipe.
    """
    of_data: dict[Hashable, list[Group]] = {}
    for group in groups:
        of_data.setdefault(_images_of(group), []).append(group)
    names = _distinct([_data_of(run for group in members for run in group.runs) for members in of_data.values()])
    return [
        MethodsOfData(name, tuple(_labelled(members, by_name=by_name)))
        for name, members in zip(names, of_data.values(), strict=True)
    ]


def methods_of_table(folder: AblationFolder, table: Table, seeds: Sequence[int]) -> MethodsOfData:
    """The entries of an ablation's table that have finished runs, on the data themselves.

    Raises:
        UserError: A file is malformed.
    """
    methods, data = [], ""
    for entry in table.entries:
        if entry.variant:
            continue
        runs = []
        for seed in seeds:
            run, start = folder.run(entry, seed), folder.start(entry, seed)
            if run.model_file.exists():
                runs.append(MethodRun(read_run(run), read_run(start) if start.is_run() else None))
        if runs:
            data = data or data_name(runs[0].saved)
            label = entry.recipe if table.kind == "methods" else entry.about
            methods.append(Method(label, tuple(runs)))
    return MethodsOfData(data, tuple(methods))


def data_name(saved: SavedRun) -> str:
    """The name of a run's data. Drawn people have the layout of a benchmark, and are not called by its name."""
    results = saved.results
    if results is None:
        return f"images in the layout {saved.setting('data.layout') or 'unknown'}, not evaluated"
    return shown_data_name(results.dataset.name, drawn=results.dataset.synthetic)


def mean_and_std(values: Iterable[float]) -> tuple[float, float | None]:
    """Mean, and standard deviation (n − 1) of several values."""
    found = list(values)
    return fmean(found), stdev(found) if len(found) > 1 else None


def final_measures(saved: SavedRun) -> Mapping[tuple[str, str], float]:
    """Rank-1 and mAP of the final weights as fractions, by search and measure."""
    rows = () if saved.results is None else saved.results.rows
    return {
        (row.search, measure): getattr(row, measure).mean
        for row in rows
        if row.weights == "final"
        for measure in ("rank1", "mAP")
    }


def _images_of(group: Group) -> Hashable:
    """What the groups of one data set have in common."""
    first = group.runs[0]
    return first.pool if first.trial is not None else (*first.pool, _data_of(group.runs))


def _data_of(runs: Iterable[ComparedRun]) -> str:
    """The name of the data of some runs."""
    every = list(runs)
    found = [run.results.dataset for run in every if run.results is not None]
    if not found:
        return data_name(every[0].saved)
    if all(run.trial is None for run in every):
        found = found[:1]
    return shown_data_name(", ".join(dict.fromkeys(one.name for one in found)), drawn=found[0].synthetic)


def _distinct(names: Sequence[str]) -> Iterator[str]:
    """The names, numbered where several data sets have one."""
    total, seen = Counter(names), Counter[str]()
    for name in names:
        seen[name] += 1
        yield name if total[name] == 1 else f"{name} ({seen[name]})"


def _labelled(groups: Sequence[Group], *, by_name: bool) -> Iterator[Method]:
    """A label for each group: its recipe, and the name of its runs where that is not enough."""
    recipes = [None if by_name else _recipe(group.runs[0]) for group in groups]
    for group, recipe in zip(groups, recipes, strict=True):
        label = group.name if recipe is None else recipe if recipes.count(recipe) == 1 else f"{recipe} ({group.name})"
        ordered = sorted(group.runs, key=lambda run: (run.trial or 0, str(type(run.seed)), run.seed or 0))
        yield Method(label, tuple(MethodRun(run.saved) for run in ordered))


def _recipe(run: ComparedRun) -> str | None:
    recipe = run.settings.get("recipe")
    return recipe if isinstance(recipe, str) and not run.saved.imported else None
