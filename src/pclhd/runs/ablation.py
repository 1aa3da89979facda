"""The folder of an ablation: runs, and a record of the tables that say which of them belong together (ours).

The record lets figures be drawn from the folder alone. This module owns the names of the folder's files; those within
a run are `pclhd.runs.folder`'s.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from pclhd.errors import UserError
from pclhd.files import InUse, claiming, write_durably
from pclhd.parsing import read_text
from pclhd.runs.folder import RunFolder

SCHEMA: Literal[1] = 1

TableKind = Literal["parts", "curve", "methods", "table"]


@dataclass(frozen=True)
class Entry:
    """One row of a table, trained with each seed.

    Attributes:
        name: Unique in all tables; tables share the runs of an entry by using one name.
        recipe: The method.
        settings: Overrides of the recipe, as on the command line.
        about: What it is, for the table.
        start: Name of the stage I that it continues.
        against: Name of the entry that it is compared with; empty for that entry itself.
        variant: End of the name of the data's folder, for tables over several data sets; empty for the data themselves.
        value: The value of the table's setting, in a curve.
    """

    name: str
    recipe: str
    settings: tuple[str, ...] = ()
    about: str = ""
    start: str = "centroid"
    against: str = ""
    variant: str = ""
    value: str = ""


@dataclass(frozen=True)
class Table:
    """A table, and the figure that goes with it.

    Attributes:
        title: Its heading.
        entries: Its rows; the first one is the floor of those that name no other.
        quick: Names of the entries that the quick form trains; all if empty.
        kind: How it is drawn: ``parts``, a ``curve`` over the values of a setting, ``methods``, or only a ``table``.
        setting: The setting of a curve.
        symbol: The name of that setting in the figure.
    """

    title: str
    entries: tuple[Entry, ...]
    quick: tuple[str, ...] = field(default=())
    kind: TableKind = "table"
    setting: str = ""
    symbol: str = ""


@dataclass(frozen=True)
class AblationRecord:
    """What an ablation folder holds.

    Attributes:
        preset: What all entries were trained with.
        settings: Overrides of all trainings.
        search: The search whose figures are shown.
        seeds: Of the trainings.
        tables: By name.
        schema: Version of this record.
    """

    preset: str
    settings: tuple[str, ...]
    search: str | None
    seeds: tuple[int, ...]
    tables: dict[str, Table]
    schema: Literal[1] = SCHEMA

    def with_older(self, older: AblationRecord) -> AblationRecord:
        """This record, with the seeds, tables and entries that another call left in the folder."""
        tables = dict(older.tables)
        for name, table in self.tables.items():
            names = {entry.name for entry in table.entries}
            others = () if name not in tables else tables[name].entries
            kept = [entry for entry in others if entry.name not in names]
            tables[name] = replace(table, entries=(*table.entries, *kept))
        seeds = tuple(sorted({*older.seeds, *self.seeds}))
        return replace(self, tables=tables, seeds=seeds)


_RECORD = TypeAdapter(AblationRecord)


@dataclass(frozen=True)
class AblationFolder:
    """The folder of an ablation.

    Attributes:
        path: The folder.
    """

    path: Path

    @property
    def record_file(self) -> Path:
        """The tables, as JSON."""
        return self.path / "ablation.json"

    @property
    def figures_folder(self) -> Path:
        """Where `pclhd ablate` puts tables and figures."""
        return self.path / "figures"

    @property
    def drawn_data_folder(self) -> Path:
        """Where data are drawn if none are named."""
        return self.path / "data"

    def run(self, entry: Entry, seed: int) -> RunFolder:
        """Stage II of an entry."""
        return RunFolder(self.path / f"{entry.name}-{seed}")

    def start(self, entry: Entry, seed: int) -> RunFolder:
        """The stage I that an entry continues."""
        return RunFolder(self.path / f"{start_name(entry)}-{seed}")

    def is_ablation(self) -> bool:
        """Whether the folder has a record."""
        return self.record_file.is_file()

    def record(self) -> AblationRecord:
        """What the folder holds.

        Raises:
            UserError: There is no record, or it is damaged.
        """
        if not self.is_ablation():
            raise UserError(f"{self.path}: is not the folder of an ablation (no {self.record_file.name})")
        advice = "remove the file, and call pclhd ablate again"
        try:
            return _RECORD.validate_json(read_text(self.record_file, advice), strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            where = "".join(f"{part}: " for part in first["loc"])
            raise UserError(f"{self.record_file}: {where}{first['msg']}; {advice}") from error

    def add(self, record: AblationRecord) -> AblationRecord:
        """Save a record, together with what is already there; returns both.

        Raises:
            UserError: The folder holds runs of another preset or with other settings, or cannot be written.
        """
        while True:
            try:
                with claiming(self.record_file):
                    if self.is_ablation():
                        older = self.record()
                        if (older.preset, older.settings) != (record.preset, record.settings):
                            made = " ".join([older.preset, *older.settings])
                            raise UserError(f"{self.path}: holds an ablation with `{made}`; name another folder")
                        record = record.with_older(older)
                    write_durably(self.record_file, _RECORD.dump_json(record, indent=1) + b"\n")
                    return record
            except InUse:  # another process of the same ablation, for a moment
                time.sleep(0.05)


def start_name(entry: Entry) -> str:
    """Name of the stage I that an entry continues, without the seed."""
    return f"start-{entry.start}" + (f"-{entry.variant}" if entry.variant else "")
