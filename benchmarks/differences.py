"""What each difference between the recipes `released`, `paper` and `pclhd` is worth, one at a time, over five seeds.

`paper` is measured in its former reading (`ablation_tables.FORMER`), `pclhd` without centring by camera and
self-distillation (`BEFORE`).

Usage: python benchmarks/differences.py [--data DIR] [--out DIR] [--differences NAME …] [--seeds N …] [--jobs N]
    [--quick] [--read] [--json FILE]

Each row is one recipe with one choice changed (DIFFERENCES says by which setting), compared with the recipe itself
trained with the same seed. Trainings are shorter than the preset's, 2 + 4 epochs instead of 4 + 10, so that 150 of them
are affordable. The interval is the 95 % confidence interval of the mean difference, by Student's t; where it contains
zero, the effect is not statistically distinguishable from zero. By chance alone, about one interval in twenty leaves
out zero.

Every seed is trained and evaluated in a process of its own with one thread. Finished runs are only read, and --read
trains nothing and shows the finished runs. `--quick` draws tiny data and runs the `tiny` preset with two seeds: it
shows that the settings reach the training, not what they are worth.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.ablation_tables import BEFORE, FORMER
from benchmarks.showing import markdown_table, write_json
from benchmarks.training_runs import (
    benchmark_of,
    complete,
    refuse_other_settings,
    result_rows,
    training_parser,
)

from pclhd.config import load_preset
from pclhd.report.compare.seeds import compare_seeds
from pclhd.workflows.trainings import TrainingRun


@dataclass(frozen=True)
class Difference:
    """One choice changed in one recipe.

    Attributes:
        recipe: The recipe that it is changed in.
        change: The setting, as on the command line; empty for the recipe itself.
        about: What it is, for the table.
    """

    recipe: str
    change: str
    about: str


DIFFERENCES: dict[str, Difference] = {
    "pclhd": Difference("pclhd", "", "the recipe itself"),
    "stage1-centroid": Difference("pclhd", "method.stage1=centroid", "no hard prototypes in stage I"),
    "stage2-centroid": Difference("pclhd", "method.stage2=centroid", "no hard prototypes in stage II"),
    "stage2-hard-dynamic": Difference("pclhd", "method.stage2=hard+dynamic", "the paper's loss in stage II"),
    "hard-start-furthest": Difference("pclhd", "method.hard_start=furthest", "hard prototypes start as the furthest"),
    "update-after-step": Difference("pclhd", "method.memory_update=after_step", "memories updated after the step"),
    "buffers-average": Difference("pclhd", "method.momentum_buffers=average", "averaged batch statistics"),
    "momentum-from-start": Difference("pclhd", "method.momentum_from=start", "momentum network from the start"),
    "renormalise": Difference("pclhd", "method.renormalise=true", "unit-length clustering features"),
    "neighbourhood-paper": Difference("pclhd", "method.neighbourhood=paper", "one neighbour more in k1"),
    "plain-expansion": Difference("pclhd", "method.modality_balance=false", "plain joint query expansion"),
    "plain-joint-means": Difference("pclhd", "method.joint_means=plain", "joint means not balanced"),
    "matching-released": Difference("pclhd", "method.matching=released_sysu", "the released code's matching"),
    "joint-shared": Difference("pclhd", "method.joint_prototypes=shared", "only shared joint clusters"),
    "joint-step-shared": Difference("pclhd", "method.joint_step=shared", "joint loss in the same step"),
    "drop-batches": Difference("pclhd", "method.batch_passes=drop", "incomplete batches dropped"),
    "visible-first": Difference("pclhd", "method.loss_order=visible_first", "visible losses first"),
    "cross-both": Difference("pclhd", "method.cross_direction=both", "cross term in both directions"),
    "paper": Difference("paper", "", "the former reading itself"),
    "centroid": Difference("paper", "method.stage2=centroid", "neither hard nor dynamic: `baseline`"),
    "hybrid": Difference("paper", "method.stage2=hybrid", "the released code's loss in stage II"),
    "dynamic-detached": Difference("paper", "method.dynamic_gradient=false", "no gradient from the dynamic loss"),
    "dynamic-mean": Difference("paper", "method.dynamic_similarity=mean", "mean instead of hardest of K"),
    "dynamic-K4": Difference("paper", "method.dynamic_samples=4", "K = 4 instead of 16"),
    "hard-k4": Difference("paper", "method.hard_samples=4", "k = 4 instead of 1"),
    "redraw-step": Difference("paper", "method.dynamic_redraw=step", "redrawn every step"),
    "only-dynamic": Difference("paper", "method.hard_share=0", "λ = 0: dynamic only"),
    "only-hard": Difference("paper", "method.hard_share=1", "λ = 1: hard only"),
    "update-in-backward": Difference("paper", "method.memory_update=in_backward", "memories updated in the backward"),
    "ramp": Difference("paper", "method.progressive=ramp", "stage II enters gradually"),
}
SEARCH = "all/single-shot"
MEASURES = {"rank1": "rank-1", "mAP": "mAP"}
SCHEDULE = ("schedule.stage1_epochs=2", "schedule.stage2_epochs=4")


def main() -> None:
    """Train what is missing, then print the table."""
    arguments = parse()
    benchmark = benchmark_of(arguments, "differences", seeds=5, quick_seeds=2)
    runs = [
        TrainingRun(name, seed, benchmark.out / f"{name}-{seed}", training_words(name, benchmark.preset))
        for name in arguments.differences
        for seed in benchmark.seeds
    ]
    if arguments.read:
        runs = [run for run in runs if run.finished]
        refuse_other_settings(runs)
    else:
        for name in arguments.differences:
            # a wrong setting ends the program before anything is trained
            load_preset(benchmark.preset, list(training_words(name, benchmark.preset)[2:]))
        benchmark.draw()
        complete(runs, benchmark.data, arguments.jobs)
    if not runs:
        sys.exit(f"{benchmark.out}: no run is finished")
    table = collect(runs)
    print(as_markdown(table))
    if arguments.json:
        write_json(arguments.json, {"benchmark": "differences", "quick": arguments.quick, "differences": table})


def parse() -> argparse.Namespace:
    """The command line."""
    parser = training_parser(__doc__)
    parser.add_argument("--differences", nargs="+", choices=DIFFERENCES, default=list(DIFFERENCES))
    parser.add_argument("--read", action="store_true", help="train nothing, show the finished runs")
    return parser.parse_args()


def base_words(recipe: str) -> tuple[str, ...]:
    """The settings of a recipe before a change: `paper` in its former reading, `pclhd` as it was before."""
    return (f"recipe={recipe}", *{"paper": FORMER, "pclhd": BEFORE}.get(recipe, ()))


def training_words(name: str, preset: str) -> tuple[str, ...]:
    """The command that trains a row."""
    difference = DIFFERENCES[name]
    schedule = () if preset == "tiny" else SCHEDULE
    change = (difference.change,) if difference.change else ()
    return ("train", preset, *base_words(difference.recipe), *schedule, *change)


def collect(runs: Sequence[TrainingRun]) -> list[dict[str, Any]]:
    """Per row: figures of each seed, and the paired difference to its recipe with a 95 % interval."""
    results = {(run.name, run.seed): result_rows(run, "final")[SEARCH] for run in runs}
    table = []
    for name in dict.fromkeys(run.name for run in runs):
        difference = DIFFERENCES[name]
        seeds = [run.seed for run in runs if run.name == name]
        entry: dict[str, Any] = {"name": name, **vars(difference), "seeds": seeds}
        for measure in MEASURES:
            reached = {seed: results[name, seed][measure]["mean"] for seed in seeds}
            recipe = {
                seed: results[difference.recipe, seed][measure]["mean"]
                for seed in seeds
                if (difference.recipe, seed) in results
            }
            entry[measure] = {
                "mean": float(np.mean(list(reached.values()))),
                "std": float(np.std(list(reached.values()))),
                "seeds": list(reached.values()),
                "difference": interval(recipe, reached) if name != difference.recipe else None,
            }
        table.append(entry)
    return table


def interval(recipe: Mapping[int, float], changed: Mapping[int, float]) -> dict[str, Any] | None:
    """Mean of the differences per seed and half the width of its 95 % interval; None for fewer than two seeds."""
    found = compare_seeds(recipe, changed)
    if found is None or found.low is None or found.high is None:
        return None
    half = (found.high - found.low) / 2
    return {"mean": found.mean, "half_width": half, "distinguishable": abs(found.mean) > half, "pairs": found.seeds}


def as_markdown(table: Sequence[dict[str, Any]]) -> str:
    """The table as the documentation shows it, in percent."""
    rows = []
    for entry in table:
        cells = [f"`{entry['change']}`" if entry["change"] else f"**`{entry['recipe']}`**", entry["about"]]
        cells += [f"{100 * entry[measure]['mean']:.1f} ± {100 * entry[measure]['std']:.1f}" for measure in MEASURES]
        cells += [_difference(entry[measure]["difference"]) for measure in MEASURES]
        rows.append([*cells, str(len(entry["seeds"]))])
    titles = ["Setting", "What it is", *MEASURES.values(), *(f"Δ {title}" for title in MEASURES.values()), "seeds"]
    return "\n".join(
        [
            markdown_table(titles, rows, words=2),
            "",
            f"Percent; {SEARCH}, ten gallery trials. Mean ± standard deviation over seeds. Δ: mean difference to the "
            "recipe above with the same seeds, with its 95 % confidence interval; **bold** where that leaves out zero.",
        ]
    )


def _difference(difference: dict[str, Any] | None) -> str:
    if difference is None:
        return "–"
    text = f"{100 * difference['mean']:+.1f} ± {100 * difference['half_width']:.1f}"
    return f"**{text}**" if difference["distinguishable"] else text


if __name__ == "__main__":
    main()
