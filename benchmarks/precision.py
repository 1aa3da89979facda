"""Does bfloat16 cost accuracy? The same labels and the same batches, once in 32 bits and once in bfloat16.

Usage: python benchmarks/precision.py [--data DIR] [--recipes NAME …] [--seeds N …] [--json FILE] [--quick]

Two seeds of one recipe differ by several points of rank-1, so comparing trainings would need dozens of them. A replay
needs few: the first training records the pseudo labels and the matching of each epoch, and the second gets these
instead of its own, so both see the same batches, augmentations and labels, and only the arithmetic differs. Even seeds
record in 32 bits and replay in bfloat16, odd seeds the reverse, so that neither side trains on its own labels only.

Trainings are shorter than the preset's: 1 + 1 epochs of 40 iterations, on one thread. With --json, finished pairs are
kept in the file and only the missing ones are trained. `--quick` draws tiny data and trains the `tiny` preset.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.showing import markdown_table, read_rows, write_json
from benchmarks.training_runs import pclhd

from pclhd.config import Settings, load_preset
from pclhd.data.records import Dataset
from pclhd.engine.labelling import EpochLabels, LabelRequest, label_epoch
from pclhd.report.compare.seeds import compare_seeds
from pclhd.runs.folder import RunFolder
from pclhd.workflows.evaluate import evaluate_run
from pclhd.workflows.train import open_data, train_run

RECIPES = ("released", "pclhd")
SCHEDULE = ("schedule.stage1_epochs=1", "schedule.stage2_epochs=1")
PRECISIONS = ("32-true", "bf16-mixed")


class Tape:
    """Records the labels of each epoch, then gives them back in the same order."""

    def __init__(self) -> None:
        self.labels: list[EpochLabels] = []
        self._next = 0

    def record(self, request: LabelRequest, /) -> EpochLabels:
        """Label an epoch, and keep the labels."""
        self.labels.append(label_epoch(request))
        return self.labels[-1]

    def replay(self, request: LabelRequest, /) -> EpochLabels:
        """The recorded labels of the next epoch; `request` is not read."""
        self._next += 1
        return self.labels[self._next - 1]


def pair(preset: str, recipe: str, seed: int, dataset: Dataset, words: Sequence[str]) -> dict[str, Any]:
    """Train one recording and one replay, and measure both.

    Returns:
        Rank-1 and mAP (percent) of the stage I and final weights in each precision, and CPU seconds of each training.
    """
    tape, row = Tape(), dict[str, Any](recipe=recipe, seed=seed)
    order = PRECISIONS if seed % 2 == 0 else PRECISIONS[::-1]
    for precision, labeller in zip(order, (tape.record, tape.replay), strict=True):
        settings = load_preset(
            preset, [f"recipe={recipe}", f"seed={seed}", f"engine.precision={precision}", "data.workers=1", *words]
        )
        row[precision] = measure(settings, dataset, labeller)
    return row


def measure(settings: Settings, dataset: Dataset, labeller: Callable[[LabelRequest], EpochLabels]) -> dict[str, float]:
    """Train with a labeller in place of the engine's, and evaluate."""
    with tempfile.TemporaryDirectory() as folder, mock.patch("pclhd.engine.trainer.label_epoch", labeller):
        started = time.process_time()
        run = train_run(settings, dataset, RunFolder(Path(folder, "run")))
        seconds = time.process_time() - started
        results = evaluate_run(run, dataset)
    rows = {row.weights: row for row in results.rows if row.search == results.rows[0].search}
    found = {"cpu_seconds": round(seconds, 1)}
    for weights in ("stage1", "final"):
        found |= {f"{weights}_rank1": 100 * rows[weights].rank1.mean, f"{weights}_mAP": 100 * rows[weights].mAP.mean}
    return found


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Mean difference, bfloat16 minus 32 bits, with its 95 % interval, for each recipe and figure."""
    lines = []
    for recipe in dict.fromkeys(row["recipe"] for row in rows):
        own = [row for row in rows if row["recipe"] == recipe]
        for figure in ("stage1_rank1", "stage1_mAP", "final_rank1", "final_mAP"):
            sides = [{row["seed"]: row[precision][figure] for row in own} for precision in PRECISIONS]
            difference = compare_seeds(*sides)
            assert difference is not None
            means = [f"{np.mean([*side.values()]):.1f}" for side in sides]
            seconds = [f"{np.median([row[precision]['cpu_seconds'] for row in own]):.0f}" for precision in PRECISIONS]
            reach = "" if difference.high is None else f" ± {difference.high - difference.mean:.2f}"
            lines.append(
                [recipe, figure.replace("_", " "), str(len(own)), *means, f"{difference.mean:+.2f}{reach}", *seconds]
            )
    titles = ["recipe", "figure", "replays", "32 bits", "bfloat16", "difference", "CPU s, 32 bits", "CPU s, bfloat16"]
    return markdown_table(titles, lines, words=2)


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, help="images (default: the synthetic benchmark); drawn if they are not there"
    )
    parser.add_argument("--recipes", nargs="+", default=[*RECIPES])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--json", type=Path, help="keep the figures in this file")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    preset, scale, words = ("tiny", "tiny", ()) if arguments.quick else ("synthetic", "small", SCHEDULE)
    data = arguments.data or Path("build/benchmarks/precision", f"data-{scale}")
    if not data.exists():
        pclhd("synth", "--out", data, "--scale", scale, "--generator", "1")
    dataset = open_data(load_preset(preset, [*words]), data)
    # Kept figures of another schedule must not be mixed with these.
    settings = {"preset": preset, "words": [*words], "data": dataset.train.checksum, "threads": torch.get_num_threads()}
    rows = read_rows(arguments.json, settings)
    finished = {(row["recipe"], row["seed"]) for row in rows}
    for seed in arguments.seeds:
        for recipe in arguments.recipes:
            if (recipe, seed) not in finished:
                rows.append(pair(preset, recipe, seed, dataset, words))
                if arguments.json:
                    write_json(arguments.json, {"settings": settings, "rows": rows})
    print(table(rows))


if __name__ == "__main__":
    main()
