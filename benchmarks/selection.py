"""The cost of choosing the epoch without test labels: the last one, or the best by each label-free criterion.

Usage: python benchmarks/selection.py [--data DIR] [--out DIR] [--recipes NAME …] [--seeds N …] [--jobs N] [--quick]
    [--json FILE]

Trains each recipe once per seed with `engine.keep_weights=true`, which keeps the weights of every epoch, and evaluates
those of stage II on the test people. The table shows the last epoch, the epoch that each criterion prefers, and the
oracle: the epoch with the best test rank-1, which must not be chosen, since that needs test labels. The cost of a
choice is the oracle's figure minus its own. Finished runs and evaluated weights are only read.

`--quick` draws tiny data and runs the `tiny` preset with one seed: it shows that the benchmark works, not how good the
criteria are.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.showing import markdown_table, write_json
from benchmarks.training_runs import benchmark_of, complete, epoch_rows, log_rows, training_parser

from pclhd.config import load_settings
from pclhd.data.open import open_dataset
from pclhd.data.records import LabelledImages
from pclhd.engine.selection import Criterion, Selection
from pclhd.evaluation.evaluate import evaluate_embeddings
from pclhd.evaluation.protocols import searches_for
from pclhd.models.encoder import Encoder, embed_records
from pclhd.runs.folder import RunFolder
from pclhd.workflows.trainings import TrainingRun

CRITERIA: tuple[Criterion, ...] = ("silhouette", "stability", "cycle")
CHOICES = ("last", *CRITERIA, "oracle")
SEARCH = "all/single-shot"


def main() -> None:
    """Train and measure what is missing, print the table."""
    arguments = parse()
    benchmark = benchmark_of(arguments, "selection", seeds=3, quick_seeds=1, folder="recipes")
    runs = [
        TrainingRun(
            recipe,
            seed,
            benchmark.out / f"{recipe}-{seed}",
            ("train", benchmark.preset, f"recipe={recipe}", "engine.keep_weights=true"),
        )
        for recipe in arguments.recipes
        for seed in benchmark.seeds
    ]
    benchmark.draw()
    complete(runs, benchmark.data, arguments.jobs)
    dataset = open_dataset("sysu", benchmark.data)
    if dataset.test is None:
        sys.exit(f"{benchmark.data}: has no test images")
    table = [judge(run, dataset.test) for run in runs]
    print(as_markdown(table))
    if arguments.json:
        write_json(arguments.json, {"benchmark": "selection", "quick": arguments.quick, "runs": table})


def parse() -> argparse.Namespace:
    """The command line."""
    parser = training_parser(__doc__)
    parser.add_argument("--recipes", nargs="+", default=["pclhd", "adca", "pgm"])
    return parser.parse_args()


def judge(run: TrainingRun, test: LabelledImages) -> dict[str, Any]:
    """Criteria and test figures after each epoch of the last stage, and which epoch each choice takes."""
    schedule = load_settings(run.folder / "config.yaml").schedule.numbers()
    criteria = {row["epoch"]: row["criteria"] for row in [*epoch_rows(run), *log_rows(run, "selection")]}
    first = schedule.stage1_epochs + 1 if schedule.stage2_epochs else 1
    candidates = list(range(first, schedule.stage1_epochs + schedule.stage2_epochs + 1))
    reached = measure(run, candidates, test)
    chosen = {"last": candidates[-1], "oracle": max(candidates, key=lambda epoch: reached[epoch]["rank1"])}
    for name in CRITERIA:
        selection = Selection(name)
        for epoch in candidates:
            selection.consider(epoch, criteria[epoch])
        chosen[name] = selection.epoch or 0
    return {
        "recipe": run.name,
        "seed": run.seed,
        "epochs": [{"epoch": epoch, **criteria[epoch], **reached[epoch]} for epoch in candidates],
        "chosen": {name: {"epoch": epoch, **reached[epoch]} for name, epoch in chosen.items()},
    }


def measure(run: TrainingRun, epochs: Sequence[int], test: LabelledImages) -> dict[int, dict[str, float]]:
    """Rank-1 and mAP of the kept weights; measured once, then read from a file beside them."""
    known = run.folder / "epochs.json"
    if known.exists():
        return {int(epoch): figures for epoch, figures in json.loads(known.read_text("utf-8")).items()}
    folder = RunFolder(run.folder)
    encoders = [Encoder.load(folder.kept_weights_file(epoch)) for epoch in epochs]
    embedded = embed_records(encoders, test.images)
    searches = [search for search in searches_for("sysu", test) if search.name == SEARCH]
    reached = {}
    for epoch, embeddings in zip(epochs, embedded, strict=True):
        row = evaluate_embeddings(embeddings, test, searches)[0].to_dict()
        reached[epoch] = {"rank1": row["rank1"]["mean"], "mAP": row["mAP"]["mean"]}
    write_json(known, reached)
    return reached


def as_markdown(table: Sequence[dict[str, Any]]) -> str:
    """The table as the documentation shows it, in percent."""
    rows = []
    for recipe in dict.fromkeys(entry["recipe"] for entry in table):
        mine = [entry for entry in table if entry["recipe"] == recipe]
        oracle = np.array([entry["chosen"]["oracle"]["rank1"] for entry in mine])
        for choice in CHOICES:
            rank1 = np.array([entry["chosen"][choice]["rank1"] for entry in mine])
            mean_ap = np.array([entry["chosen"][choice]["mAP"] for entry in mine])
            cost = oracle - rank1
            epochs = ", ".join(str(entry["chosen"][choice]["epoch"]) for entry in mine)
            cells = [f"{100 * values.mean():.1f} ± {100 * values.std():.1f}" for values in (rank1, mean_ap)]
            rows.append([recipe, choice, epochs, *cells, f"{100 * cost.mean():.1f} (at most {100 * cost.max():.1f})"])
    titles = ["Recipe", "Chosen by", "Epochs", "rank-1", "mAP", "Cost in rank-1"]
    return "\n".join(
        [
            markdown_table(titles, rows, words=3),
            "",
            f"Percent; {SEARCH}, ten gallery trials; mean ± standard deviation over seeds. Cost: the oracle's rank-1 "
            "minus this one, mean over seeds and the largest. Epochs: the chosen one, by seed.",
        ]
    )


if __name__ == "__main__":
    main()
