"""What each recipe reaches on the synthetic benchmark, compared with the start weights.

Usage: python benchmarks/recipes.py [--data DIR] [--data-seed N] [--out DIR] [--methods NAME …] [--seeds N …]
    [--jobs N] [--quick] [--json FILE]

Trains and evaluates every recipe with every seed, each in a process of its own with one thread, so that the figures do
not depend on the number of cores. Finished runs are only read. `--quick` draws tiny data and runs the `tiny` preset
with one seed: it shows that the benchmark works, not how good the recipes are. The recipes `supervised` and
`semi-supervised` train with identities.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.showing import write_json
from benchmarks.training_runs import benchmark_of, complete, result_rows, training_parser

from pclhd.recipes import RECIPES
from pclhd.workflows.trainings import TrainingRun

SEARCHES = ("all/single-shot", "indoor/single-shot")
MEASURES = ("rank1", "mAP")


def main() -> None:
    """Run what is missing, then print the table."""
    arguments = parse()
    benchmark = benchmark_of(arguments, "recipes", seeds=3, quick_seeds=1)
    benchmark.draw(arguments.data_seed)
    runs = [
        TrainingRun(method, seed, benchmark.out / f"{method}-{seed}", ("train", benchmark.preset, f"recipe={method}"))
        for seed in benchmark.seeds
        for method in arguments.methods
    ]
    complete(runs, benchmark.data, arguments.jobs)
    table = collect(runs)
    print(as_markdown(table, len(benchmark.seeds)))
    if arguments.json:
        write_json(arguments.json, {"benchmark": "recipes", "quick": arguments.quick, "methods": table})


def parse() -> argparse.Namespace:
    """The command line."""
    parser = training_parser(__doc__)
    parser.add_argument("--data-seed", type=int, default=0, help="seed of the drawn people")
    parser.add_argument("--methods", nargs="+", choices=RECIPES, default=list(RECIPES))
    return parser.parse_args()


def collect(runs: list[TrainingRun]) -> list[dict[str, Any]]:
    """Figures per method and search: the mean over gallery trials of each seed, and mean ± std over seeds."""
    wanted = [("start", "start", runs[0].name)] + [
        (method, weights, method)
        for method in dict.fromkeys(run.name for run in runs)
        for weights in ("stage1", "final")
    ]
    table = []
    for name, weights, method in wanted:
        rows = [result_rows(run, weights) for run in runs if run.name == method]
        for search in SEARCHES:
            entry: dict[str, Any] = {"method": name, "weights": weights, "search": search}
            for measure in MEASURES:
                values = [row[search][measure]["mean"] for row in rows]
                entry[measure] = {"mean": float(np.mean(values)), "std": float(np.std(values)), "seeds": values}
            table.append(entry)
    return table


def as_markdown(table: list[dict[str, Any]], seeds: int) -> str:
    """The table as docs/results.md shows it."""
    titles = [f"{search} {measure}" for search in SEARCHES for measure in ("rank-1", "mAP")]
    lines = ["| Method | Weights | " + " | ".join(titles) + " |", "|---|---|" + "---:|" * len(titles)]
    for first in table[:: len(SEARCHES)]:
        entries = [e for e in table if (e["method"], e["weights"]) == (first["method"], first["weights"])]
        cells = [
            f"{100 * entry[measure]['mean']:.1f} ± {100 * entry[measure]['std']:.1f}"
            for entry in entries
            for measure in MEASURES
        ]
        lines.append(f"| {first['method']} | {first['weights']} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", f"Percent, mean ± standard deviation over {seeds} seeds; ten gallery trials each."])


if __name__ == "__main__":
    main()
