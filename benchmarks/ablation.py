"""Ablations beyond `pclhd ablate`: ideas of the field, readings of the paper, and people in one modality only.

Usage: python benchmarks/ablation.py --tables NAME … [--entries NAME …] [--seeds N …] [--preset NAME] [--scale NAME]
    [--data DIR] [--validation DIR] [--out DIR] [--set KEY=VALUE …] [--search NAME] [--jobs N] [--read] [--csv FILE]
    [--markdown FILE] [--json FILE] [--quick]

`benchmarks/ablation_tables.py` has the tables, and `pclhd.workflows.ablation_runs` does the work: it resumes, does what
is missing, and may be started several times with one folder, which `pclhd figures` reads. `--set` changes all
trainings, for example the schedule. The figures are those of the last epoch. Choose with people of a validation
drawing (`--validation`), and look at test people only for the final table. `--quick` draws tiny data and trains a few
entries with two seeds: it shows that everything works, not what anything is worth.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.ablation_tables import STARTS, TABLES
from benchmarks.showing import write_json

from pclhd.config import load_preset
from pclhd.errors import UserError
from pclhd.files import InUse, write_durably
from pclhd.report.ablation import Row, ablation_table, read_rows
from pclhd.report.table_formats import csv_text, table_markdown
from pclhd.runs.ablation import AblationRecord, Table
from pclhd.synthetic import write_synthetic
from pclhd.workflows.ablation_runs import Ablation, chosen, run_ablation
from pclhd.workflows.train import open_data
from pclhd.workflows.trainings import Task

Scale = Literal["tiny", "small", "sysu"]

#: The search whose figures are shown; that of all earlier tables.
SEARCH = "all/single-shot"


@dataclass(frozen=True)
class Drawing:
    """The drawn data that are trained on, if they are not there yet: their size, and the seed of the drawing."""

    scale: Scale
    seed: int

    def draw(self, ablation: Ablation, variant: str) -> None:
        """Draw the data of a variant: ``unpaired-25`` has a quarter of the people in one modality only."""
        data = ablation.data_of(variant)
        share = float(variant.rpartition("-")[2]) / 100 if variant else 0.0
        while not data.exists():
            try:
                write_synthetic(data, scale=self.scale, seed=self.seed, one_modality_share=share)
            except InUse:
                time.sleep(10)
            except UserError:
                if not data.exists():  # else another process was faster
                    raise


def main() -> None:
    """Train what is missing, then print the tables."""
    arguments = parse()
    tables = wanted_tables(arguments)
    out = arguments.out or Path("build/benchmarks/ablation" if arguments.quick else "runs/ablation")
    data, settings = arguments.data or out / "data", tuple(arguments.set)
    try:
        ablation = Ablation(
            arguments.preset,
            data,
            out,
            settings,
            arguments.validation,
            None if arguments.validation is None else checksum_of(arguments.validation, arguments.preset),
            STARTS,
        )
        failed, rows = train_and_read(ablation, tables, arguments)
    except UserError as error:
        sys.exit(str(error))
    if not rows:
        sys.exit("\n".join(failed) or f"{out}: no run is finished")
    text = "\n\n".join(markdown(table, rows) for table in tables.values())
    print(text)
    for path, content in ((arguments.csv, as_csv(rows)), (arguments.markdown, text + "\n")):
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(path, content)
    if arguments.json:
        lines = [row.to_dict() for row in rows]
        write_json(arguments.json, {"benchmark": "ablation", "quick": arguments.quick, "rows": lines})
    if failed:
        sys.exit("\n".join(failed))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument(
        "--entries", nargs="+", help="only these entries of the tables, and what they are compared with"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--preset", default="synthetic")
    parser.add_argument(
        "--scale", default="small", choices=get_args(Scale), help="size of the data, where they are drawn"
    )
    parser.add_argument("--data-seed", type=int, default=0, help="their seed")
    parser.add_argument("--data", type=Path, help="the synthetic benchmark; drawn if it is not there")
    parser.add_argument(
        "--validation", type=Path, help="data whose test people are searched; those of --data if left out"
    )
    parser.add_argument("--out", type=Path, help="folder of the runs")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings of all trainings")
    parser.add_argument("--search", default=SEARCH, help="which search's figures are shown")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time")
    parser.add_argument("--read", action="store_true", help="train nothing, show the finished runs")
    parser.add_argument("--csv", type=Path, help="write a line per run to this file")
    parser.add_argument("--markdown", type=Path, help="write the tables to this file")
    parser.add_argument("--json", type=Path, help="write a row per run to this file")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    known = {entry.name for name in arguments.tables for entry in TABLES[name].entries}
    for name in arguments.entries or []:
        if name not in known:
            parser.error(f"{name} is no entry of {', '.join(arguments.tables)}; known: {', '.join(sorted(known))}")
    if arguments.quick:
        arguments.preset, arguments.scale = "tiny", "tiny"
        arguments.seeds = arguments.seeds[:2]
    return arguments


def checksum_of(data: Path, preset: str) -> str:
    """Of the labelled test images; runs with results of others are searched again.

    Raises:
        UserError: There are none, or the data cannot be read.
    """
    test = open_data(load_preset(preset, []), data).test
    if test is None:
        raise UserError(f"{data}: has no labelled test images")
    return test.checksum()


def wanted_tables(arguments: argparse.Namespace) -> dict[str, Table]:
    """The tables with the wanted entries and those that they are compared with."""
    wanted = {}
    for name in arguments.tables:
        table = TABLES[name]
        entries = arguments.entries or (table.quick if arguments.quick else [entry.name for entry in table.entries])
        wanted[name] = chosen(table, entries)
    return wanted


def train_and_read(
    ablation: Ablation, tables: dict[str, Table], arguments: argparse.Namespace
) -> tuple[list[str], list[Row]]:
    """Train what is missing, unless only reading is wanted; what failed, and the rows of all finished runs.

    Raises:
        UserError: Settings, data or the folder are unusable.
    """
    failed: list[str] = []
    if arguments.read:
        ablation.checked_tasks(tables.values(), arguments.seeds)
        seeds = tuple(arguments.seeds)
        ablation.folder.add(AblationRecord(ablation.preset, ablation.settings, arguments.search, seeds, tables))
    else:
        for variant in sorted({entry.variant for table in tables.values() for entry in table.entries}):
            Drawing(arguments.scale, arguments.data_seed).draw(ablation, variant)
        failed = run_ablation(
            ablation, tables, arguments.seeds, search=arguments.search, jobs=arguments.jobs, on_start=announce
        )
    return failed, read_rows(ablation.folder, tables.values(), arguments.seeds, arguments.search)


def announce(task: Task) -> None:
    """Print which training begins."""
    print(f"{time.strftime('%H:%M:%S')} {task.run.folder.name}", file=sys.stderr, flush=True)


def markdown(table: Table, rows: list[Row]) -> str:
    """The table under its title."""
    return f"### {table.title}\n\n{table_markdown(ablation_table(table, rows))}".rstrip()


def as_csv(rows: list[Row]) -> str:
    """A line per run; fractions from 0 to 1."""
    lines = [row.to_dict() for row in rows]
    return csv_text(list(lines[0]), [list(line.values()) for line in lines])


if __name__ == "__main__":
    main()
