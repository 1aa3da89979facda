"""Trainings that a benchmark needs: each in a process of its own with one thread, trained once and then only read."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pclhd.errors import UserError
from pclhd.synthetic import VERSIONS
from pclhd.workflows import trainings
from pclhd.workflows.trainings import Task, TrainingRun, work


@dataclass(frozen=True)
class Benchmark:
    """Where a benchmark trains, and on what.

    Attributes:
        preset: What is trained with.
        scale: Size of the synthetic data.
        data: Its folder.
        out: Folder of the runs.
        seeds: Of the trainings.
        generator: Version of the generator that draws the data.
        held_out: Who is in the test split; None for the generator's default.
    """

    preset: str
    scale: str
    data: Path
    out: Path
    seeds: list[int]
    generator: int = 1
    held_out: str | None = None

    def draw(self, seed: int = 0) -> None:
        """Draw the synthetic data if they are not there."""
        whom = () if self.held_out is None else ("--held-out", self.held_out)
        words = ("--scale", self.scale, "--seed", seed, "--generator", self.generator, *whom)
        pclhd("synth", "--out", self.data, *words)


def training_parser(description: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark with trainings has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the synthetic benchmark; drawn if it is not there")
    parser.add_argument(
        "--generator", type=int, choices=VERSIONS, default=1, help="version that draws; published tables are of 1"
    )
    parser.add_argument("--held-out", choices=["validation", "test"], help="people of the test split, from version 2")
    parser.add_argument("--out", type=Path, help="folder of the runs")
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="trainings at a time")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    return parser


def benchmark_of(
    arguments: argparse.Namespace, name: str, *, seeds: int, quick_seeds: int, folder: str | None = None
) -> Benchmark:
    """What the options of `training_parser` ask for.

    Args:
        arguments: As parsed.
        name: Of the benchmark; its quick form uses a folder of this name.
        seeds: How many, if none are named.
        quick_seeds: How many in the quick form.
        folder: Under ``runs``, if it is not `name`.
    """
    drawing = (arguments.generator, arguments.held_out)
    if arguments.quick:
        out = arguments.out or Path("build/benchmarks", name)
        data, chosen = arguments.data or out / "data", arguments.seeds or [*range(quick_seeds)]
        return Benchmark("tiny", "tiny", data, out, chosen, *drawing)
    # Runs and data of version 1 keep the folders that they always had.
    version = [] if arguments.generator == 1 else [str(arguments.generator), *filter(None, [arguments.held_out])]
    out = arguments.out or Path("runs", "-".join([folder or name, *version]))
    data = arguments.data or Path("build", "-".join(["synthetic", *(version or ["1"])]))
    return Benchmark("synthetic", "small", data, out, arguments.seeds or [*range(seeds)], *drawing)


def pclhd(*words: object) -> None:
    """Run the command line in a process with one thread; its output is shown only if it fails."""
    command = [sys.executable, "-m", "pclhd.cli", *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if finished.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{finished.stdout}{finished.stderr}")


def complete(runs: list[TrainingRun], data: Path, jobs: int) -> None:
    """Train and evaluate what is not finished, `jobs` runs at a time; failures end the program at the end.

    With one thread each, the figures do not depend on the number of cores.
    """
    refuse_other_settings(runs)
    failed = work([Task(run, data) for run in runs], jobs=jobs)
    if failed:
        sys.exit("\n".join(failed))


def refuse_other_settings(runs: Iterable[TrainingRun]) -> None:
    """End the program with one line if an existing run was trained with settings other than the wanted ones."""
    try:
        trainings.refuse_other_settings(runs)
    except UserError as error:
        sys.exit(str(error))


def result_rows(run: TrainingRun, weights: str) -> dict[str, dict[str, Any]]:
    """What a finished run's ``results.json`` says of some weights: search → row."""
    results = json.loads((run.folder / "results.json").read_text("utf-8"))
    return {row["search"]: row for row in results["rows"] if row["weights"] == weights}


def epoch_rows(run: TrainingRun) -> list[dict[str, Any]]:
    """The lines of a run's ``metrics.jsonl`` about epochs, in order."""
    return log_rows(run, "epoch")


def log_rows(run: TrainingRun, kind: str) -> list[dict[str, Any]]:
    """The lines of a kind in a run's ``metrics.jsonl``, in order."""
    lines = (run.folder / "metrics.jsonl").read_text("utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]
