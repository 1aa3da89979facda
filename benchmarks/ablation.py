"""Ablations: tables of settings over seeds, each compared with its floor seed by seed.

Usage: python benchmarks/ablation.py --tables NAME … [--entries NAME …] [--seeds N …] [--preset NAME] [--scale NAME]
    [--data DIR] [--validation DIR] [--out DIR] [--set KEY=VALUE …] [--search NAME] [--read] [--csv FILE]
    [--markdown FILE] [--json FILE] [--quick]

`benchmarks/ablation_tables.py` has the tables. All entries with one start continue the same stage-I weights of a seed,
so their differences are those of stage II. Stage I is trained once (``start-NAME-SEED``), and stage II begins with its
momentum network (``schedule.stage1_epochs=0 model.weights=…``), as the released code begins stage II.

What is finished is only read, and what was interrupted is resumed, so the same command continues. Start it several
times, also on several machines with one folder, to share the work: each training is claimed by a lock. `--set` changes
all trainings, for example the schedule. The figures are those of the last epoch. Choose with people of a validation
drawing (`--validation`), and look at test people only for the final table. `--quick` draws tiny data and trains a few
entries with two seeds: it shows that everything works, not what anything is worth.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any, Literal, get_args

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import training_runs
from benchmarks.ablation_tables import STARTS, TABLES, Entry, Table
from benchmarks.showing import markdown_table, write_json
from benchmarks.training_runs import TrainingRun, epoch_rows, refuse_other_settings, result_rows

from pclhd.config import load_preset
from pclhd.errors import UserError
from pclhd.files import UNFINISHED, InUse, claiming, write_durably
from pclhd.report.compare.seeds import compare_seeds
from pclhd.synthetic import write_synthetic

Scale = Literal["tiny", "small", "sysu"]

MEASURES = {"rank1": "rank-1", "mAP": "mAP"}
#: What the log says about the last epoch, where the training images have identities.
OF_LABELS = (
    *("match_precision", "match_right", "match_wrong", "unmatched_right", "unmatched_wrong"),
    *("ari_visible", "ari_infrared", "ari_joint"),
)
SECONDS_BETWEEN_LOOKS = 10.0


@dataclass(frozen=True)
class Ablation:
    """Where an ablation trains, and on what.

    Attributes:
        preset: What is trained with.
        data: Folder of the images; with unpaired people, its name with a suffix.
        out: Folder of the runs.
        settings: Overrides of all trainings.
        validation: Data whose test people are searched; None for those of `data`.
        scale: Size of data that are not there yet and are drawn.
        data_seed: Their seed.
    """

    preset: str
    data: Path
    out: Path
    settings: tuple[str, ...] = ()
    validation: Path | None = None
    scale: Scale = "small"
    data_seed: int = 0

    def data_of(self, unpaired: float) -> Path:
        """The images with a share of unpaired people."""
        return self.data if unpaired == 0 else self.data.with_name(f"{self.data.name}-unpaired-{round(100 * unpaired)}")

    def draw(self, unpaired: float) -> Path:
        """The same, drawn if they are not there."""
        data = self.data_of(unpaired)
        while not data.exists():
            try:
                write_synthetic(data, scale=self.scale, seed=self.data_seed, one_modality_share=unpaired)
            except InUse:
                time.sleep(SECONDS_BETWEEN_LOOKS)
            except UserError:
                if not data.exists():  # else another process was faster
                    raise
        return data

    def start(self, entry: Entry, seed: int) -> TrainingRun:
        """The stage I that an entry continues."""
        suffix = "" if entry.unpaired == 0 else f"-unpaired-{round(100 * entry.unpaired)}"
        name = f"start-{entry.start}{suffix}"
        words = ("train", self.preset, *STARTS[entry.start], *self.settings, "schedule.stage2_epochs=0")
        return TrainingRun(name, seed, self.out / f"{name}-{seed}", words)

    def run(self, entry: Entry, seed: int) -> TrainingRun:
        """The stage II of an entry."""
        begin = self.start(entry, seed).folder / "model.safetensors"
        words = ("train", self.preset, f"recipe={entry.recipe}", *self.settings, *entry.settings)
        only_stage2 = ("schedule.stage1_epochs=0", f"model.weights={begin}")
        return TrainingRun(entry.name, seed, self.out / f"{entry.name}-{seed}", (*words, *only_stage2))


@dataclass(frozen=True)
class Task:
    """A training to do.

    Attributes:
        run: The training.
        data: Its images.
        needs: A file that it begins with; None if it needs none.
        evaluate: Whether the run is evaluated afterwards.
    """

    run: TrainingRun
    data: Path
    needs: Path | None
    evaluate: bool

    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.run.finished if self.evaluate else (self.run.folder / "model.safetensors").exists()


def main() -> None:
    """Train what is missing, then print the tables."""
    arguments = parse()
    tables = {name: chosen(TABLES[name], arguments) for name in arguments.tables}
    ablation = ablation_of(arguments)
    tasks = tasks_of(ablation, tables.values(), arguments.seeds)
    refuse_other_settings(task.run for task in tasks)
    failed: list[str] = []
    if not arguments.read:
        for run in (task.run for task in tasks):
            load_preset(
                run.words[1], list(run.words[2:])
            )  # a wrong setting ends the program before anything is trained
        for share in sorted({entry.unpaired for table in tables.values() for entry in table.entries}):
            ablation.draw(share)
        failed = work(tasks, ablation.validation)
    rows = collect(ablation, tables, arguments.seeds, arguments.search)
    if not rows:
        sys.exit(f"{ablation.out}: no run is finished")
    text = "\n\n".join(as_markdown(tables[name], rows) for name in tables)
    print(text)
    for path, content in ((arguments.csv, as_csv(rows)), (arguments.markdown, text + "\n")):
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(path, content)
    if arguments.json:
        write_json(arguments.json, {"benchmark": "ablation", "quick": arguments.quick, "rows": rows})
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
    parser.add_argument("--search", default="all/single-shot", help="which search's figures are shown")
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


def ablation_of(arguments: argparse.Namespace) -> Ablation:
    """What the command line asks for."""
    out = arguments.out or Path("build/benchmarks/ablation" if arguments.quick else "runs/ablation")
    return Ablation(
        arguments.preset,
        arguments.data or out / "data",
        out,
        tuple(arguments.set),
        arguments.validation,
        arguments.scale,
        arguments.data_seed,
    )


def chosen(table: Table, arguments: argparse.Namespace) -> Table:
    """The table with the wanted entries and those that they are compared with."""
    wanted = set(arguments.entries or (table.quick if arguments.quick else [entry.name for entry in table.entries]))
    wanted |= {entry.against for entry in table.entries if entry.name in wanted}
    return Table(table.title, tuple(entry for entry in table.entries if entry.name in wanted))


def tasks_of(ablation: Ablation, tables: Iterable[Table], seeds: Sequence[int]) -> list[Task]:
    """All trainings, each once, those of a seed together; a stage I comes before what continues it."""
    tasks: dict[Path, Task] = {}
    entries = [entry for table in tables for entry in table.entries]
    for seed in seeds:
        for entry in entries:
            data = ablation.data_of(entry.unpaired)
            start, run = ablation.start(entry, seed), ablation.run(entry, seed)
            tasks.setdefault(start.folder, Task(start, data, None, evaluate=False))
            tasks.setdefault(run.folder, Task(run, data, start.folder / "model.safetensors", evaluate=True))
    return list(tasks.values())


def work(tasks: Sequence[Task], validation: Path | None, *, pause: float = SECONDS_BETWEEN_LOOKS) -> list[str]:
    """Do the tasks that no other process does, and wait for what they need from others.

    Args:
        tasks: In the order in which they are done.
        validation: Data whose test people are searched; None for those of the task's data.
        pause: Seconds between two looks at the work of others.

    Returns:
        What failed here, a text each; the others are done all the same.
    """
    failed: dict[Path, str] = {}
    while True:
        left = [task for task in tasks if not task.is_finished() and task.run.folder not in failed]
        left = [task for task in left if task.needs is None or task.needs.parent not in failed]
        done = [attempt(task, validation, failed) for task in left]
        if not left:
            return list(failed.values())
        if not any(done):
            time.sleep(pause)


def attempt(task: Task, validation: Path | None, failed: dict[Path, str]) -> bool:
    """Do a task, unless another process does it or what it needs is not there; returns whether it was done."""
    if task.is_finished():
        return True
    if task.needs is not None and not task.needs.exists():
        return False
    with ExitStack() as claimed:
        try:
            claimed.enter_context(claiming(task.run.folder.parent / "claims" / task.run.folder.name))
        except InUse:
            return False
        if task.is_finished():  # by another process, since the list was made
            return True
        print(f"{time.strftime('%H:%M:%S')} {task.run.folder.name}", file=sys.stderr, flush=True)
        try:
            train(task)
            if task.evaluate:
                data = () if validation is None else ("--data", validation)
                training_runs.pclhd("evaluate", task.run.folder, *data)
        except SystemExit as error:
            failed[task.run.folder] = str(error)
    return True


def train(task: Task) -> None:
    """Train, or continue a training that was interrupted."""
    run = task.run
    if (run.folder / "model.safetensors").exists():
        return
    if (run.folder / "config.yaml").exists() and not (run.folder / UNFINISHED).exists():
        training_runs.pclhd("train", "--resume", run.folder)
    else:
        training_runs.pclhd(*run.words, f"seed={run.seed}", "--data", task.data, "--out", run.folder)


def collect(ablation: Ablation, tables: dict[str, Table], seeds: Sequence[int], search: str) -> list[dict[str, Any]]:
    """A row for each finished run: its figures, and what the log says about its last epoch."""
    rows: dict[Path, dict[str, Any]] = {}
    for entry in (entry for table in tables.values() for entry in table.entries):
        for seed in seeds:
            run = ablation.run(entry, seed)
            if run.finished and run.folder not in rows:
                rows[run.folder] = row_of(entry, run, search)
    refuse_other_people(ablation.out, rows.values())
    return list(rows.values())


def refuse_other_people(out: Path, rows: Iterable[dict[str, Any]]) -> None:
    """End the program with one line if runs that are compared were evaluated with different test images."""
    searched: dict[float, dict[str, Any]] = {}
    for row in rows:
        first = searched.setdefault(row["unpaired"], row)
        if row["test_images"] != first["test_images"]:
            sys.exit(
                f"{out}: {row['entry']}-{row['seed']} and {first['entry']}-{first['seed']} were evaluated with "
                "different test images; remove one results.json, and run again with the wanted --validation"
            )


def row_of(entry: Entry, run: TrainingRun, search: str) -> dict[str, Any]:
    """The row of a run."""
    found = result_rows(run, "final")
    if search not in found:
        sys.exit(f"{run.folder}: has no search {search}; expected one of {', '.join(found)}")
    epochs = epoch_rows(run)
    last, labels = epochs[-1], epochs[-1].get("labels") or {}
    return {
        "entry": entry.name,
        "recipe": entry.recipe,
        "settings": " ".join(entry.settings),
        "start": entry.start,
        "unpaired": entry.unpaired,
        "seed": run.seed,
        "search": search,
        "test_images": searched_images(run),
        **{measure: found[search][measure]["mean"] for measure in ("rank1", "mAP", "mINP")},
        **{name: labels.get(name) for name in OF_LABELS},
        **{f"{name}_clusters": last[name]["clusters"] for name in ("visible", "infrared")},
        "loss": last["loss"]["total"],
        "seconds": sum(epoch["seconds"] for epoch in epochs),
    }


def searched_images(run: TrainingRun) -> str | None:
    """Checksum of the test images that a run was evaluated with, where its results name one."""
    results = json.loads((run.folder / "results.json").read_text("utf-8"))
    checksum: str | None = results.get("dataset", {}).get("test_checksum")
    return checksum


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """A line per run; fractions from 0 to 1."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_markdown(table: Table, rows: Sequence[dict[str, Any]]) -> str:
    """The table in percent: means over seeds, and differences paired by seed with their 95 % intervals."""
    of_entry = {entry.name: [row for row in rows if row["entry"] == entry.name] for entry in table.entries}
    lines = []
    for entry in table.entries:
        own = of_entry[entry.name]
        if not own:
            continue
        floor = of_entry.get(entry.against, [])
        cells = [entry.about, " ".join(f"`{word}`" for word in entry.settings) or f"`recipe={entry.recipe}`"]
        cells += [_mean(own, measure) for measure in MEASURES]
        cells += [_difference(floor, own, measure) for measure in MEASURES]
        cells += [_mean(own, name) for name in OF_LABELS[1:5]]
        lines.append([*cells, str(len(own))])
    titles = ["What it is", "Settings", *MEASURES.values(), *(f"Δ {title}" for title in MEASURES.values())]
    titles += ["right", "wrong", "alone, rightly", "alone, wrongly", "seeds"]
    return "\n".join(
        [
            f"### {table.title}",
            "",
            markdown_table(titles, lines, words=2),
            "",
            "Percent; mean ± standard deviation over seeds. Δ: mean difference to the floor with the same seeds, with "
            "its 95 % confidence interval; **bold** where that leaves out zero. Right, wrong, alone: clusters by their "
            "partner in the last epoch.",
        ]
    )


def _mean(rows: Sequence[dict[str, Any]], name: str) -> str:
    values = [100 * row[name] for row in rows if row[name] is not None]
    return f"{fmean(values):.1f} ± {pstdev(values):.1f}" if values else "–"


def _difference(floor: Sequence[dict[str, Any]], own: Sequence[dict[str, Any]], measure: str) -> str:
    first, other = ({row["seed"]: 100 * row[measure] for row in rows} for rows in (floor, own))
    found = compare_seeds(first, other)
    if found is None:
        return "–"
    if found.low is None or found.high is None:
        return f"{found.mean:+.1f}"
    text = f"{found.mean:+.1f} ({found.low:+.1f} to {found.high:+.1f})"
    return f"**{text}**" if found.distinguishable else text


if __name__ == "__main__":
    main()
