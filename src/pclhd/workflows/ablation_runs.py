"""The trainings of an ablation: entries that continue common stage-I weights, done once, by any number of processes.

All entries with one start continue the same stage-I weights of a seed, so their differences are those of stage II.
Stage I is trained once, and stage II begins with its momentum network, as the released code begins stage II.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pclhd.runs.ablation import AblationFolder, AblationRecord, Entry, Table, start_name
from pclhd.workflows.ablation_tables import start_words
from pclhd.workflows.trainings import Task, TrainingRun, refuse_other_settings, work


@dataclass(frozen=True)
class Ablation:
    """What an ablation trains, where, and on what.

    Attributes:
        preset: What is trained with.
        data: Folder of the images; of a variant, its name with the variant's name at the end.
        out: Folder of the runs.
        settings: Overrides of all trainings.
        test: Data whose test people are searched; None for those of `data`.
        test_checksum: Of these test images, but not for variants; see `Task`.
        starts: Words of the stages I that are not those of a recipe, by name.
    """

    preset: str
    data: Path
    out: Path
    settings: tuple[str, ...] = ()
    test: Path | None = None
    test_checksum: str | None = None
    starts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def folder(self) -> AblationFolder:
        """The folder of the runs."""
        return AblationFolder(self.out)

    def data_of(self, variant: str) -> Path:
        """The images of a variant."""
        return self.data.with_name(f"{self.data.name}-{variant}") if variant else self.data

    def start(self, entry: Entry, seed: int) -> TrainingRun:
        """The stage I that an entry continues."""
        words = ("train", self.preset, *start_words(entry, self.starts), *self.settings, "schedule.stage2_epochs=0")
        return TrainingRun(start_name(entry), seed, self.folder.start(entry, seed).path, words)

    def run(self, entry: Entry, seed: int) -> TrainingRun:
        """The stage II of an entry."""
        begin = self.folder.start(entry, seed).model_file
        words = ("train", self.preset, f"recipe={entry.recipe}", *self.settings, *entry.settings)
        only_stage2 = ("schedule.stage1_epochs=0", f"model.weights={begin}")
        return TrainingRun(entry.name, seed, self.folder.run(entry, seed).path, (*words, *only_stage2))

    def tasks(self, tables: Iterable[Table], seeds: Sequence[int]) -> list[Task]:
        """All trainings, each once, those of a seed together; a stage I comes before what continues it."""
        tasks: dict[Path, Task] = {}
        entries = [entry for table in tables for entry in table.entries]
        for seed in seeds:
            for entry in entries:
                data = self.data_of(entry.variant)
                start, run = self.start(entry, seed), self.run(entry, seed)
                tasks.setdefault(start.folder, Task(start, data, evaluate=False))
                checksum = None if entry.variant else self.test_checksum
                begin = self.folder.start(entry, seed).model_file
                tasks.setdefault(run.folder, Task(run, data, begin, test=self.test, test_checksum=checksum))
        return list(tasks.values())

    def checked_tasks(self, tables: Iterable[Table], seeds: Sequence[int]) -> list[Task]:
        """The same, once all settings are found valid and no existing run has others.

        Raises:
            UserError: A setting is invalid, or a run in the folder has others.
        """
        tasks = self.tasks(tables, seeds)
        for task in tasks:
            task.run.settings()
        refuse_other_settings(task.run for task in tasks)
        return tasks


def chosen(table: Table, names: Sequence[str]) -> Table:
    """The table with the named entries and those that they are compared with."""
    wanted = set(names) | {entry.against for entry in table.entries if entry.name in names}
    return replace(table, entries=tuple(entry for entry in table.entries if entry.name in wanted))


def run_ablation(
    ablation: Ablation,
    tables: Mapping[str, Table],
    seeds: Sequence[int],
    *,
    search: str | None = None,
    jobs: int = 1,
    on_start: Callable[[Task], None] = lambda task: None,
) -> list[str]:
    """Record the tables in the folder, and train what is missing.

    Args:
        ablation: Where and on what.
        tables: By name.
        seeds: Of the trainings.
        search: The search whose figures are shown; None for the first one.
        jobs: Trainings at a time.
        on_start: Called when a training begins here.

    Returns:
        What failed, a line each.

    Raises:
        UserError: Settings or the folder are unusable; nothing is trained.
    """
    tasks = ablation.checked_tasks(tables.values(), seeds)
    asked = AblationRecord(ablation.preset, ablation.settings, search, tuple(seeds), dict(tables))
    recorded = ablation.folder.add(asked)
    # What was evaluated before, by another call, is evaluated again if that was on other test images: figures of the
    # folder must not mix them.
    known = {task.run.folder for task in tasks}
    others = ablation.tasks(recorded.tables.values(), recorded.seeds)
    tasks += [task for task in others if task.run.folder not in known and task.run.finished]
    return work(tasks, jobs=jobs, on_start=on_start)
