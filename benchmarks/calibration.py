"""How far the drawn benchmark (generator version 2) is like published runs on SYSU-MM01.

Usage: python benchmarks/calibration.py [--people N] [--full] [--data DIR] [--out DIR] [--seeds N …] [--jobs N]
    [--generator N] [--gap NUMBER] [--quick] [--json FILE]

Trains the label-trained bound and the methods that are not ours, on a shortened schedule, and tests them on validation
people. It shows, beside published figures: clusters per person with the start weights and at the start of stage II, how
well they agree with the people (ARI, right matches), rank-1, the order of the methods, and their distances to the
bound. The generator's numbers (`pclhd.synthetic.variation`) were chosen by such figures alone, so `paper`, `released`,
`pclhd` and `baseline` are refused here. Finished runs are only read. `--quick` draws tiny data and runs the preset
`tiny`: it shows that the benchmark works, not how well it fits.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import kendalltau

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.showing import markdown_table, write_json
from benchmarks.training_runs import benchmark_of, complete, epoch_rows, result_rows, training_parser

from pclhd.data.open import open_dataset
from pclhd.synthetic import write_synthetic
from pclhd.workflows.trainings import TrainingRun

METHODS = ("dcl", "adca", "pgm", "mmm", "supervised")
SEARCH = "all/single-shot"

#: Rank-1 on SYSU-MM01, all-search, in percent, as published; the best supervised method is the bound. DCL has no row.
PUBLISHED = {"adca": 45.5, "pgm": 57.3, "mmm": 61.6, "supervised": 77.8}
#: Clusters per person at the start of stage II: 744 visible and 430 infrared ones of 395 people, in a published run.
PUBLISHED_CLUSTERS = {"visible": 744 / 395, "infrared": 430 / 395}
#: Shorter than the preset's, so that five trainings fit in half an hour of one core.
SCHEDULE = ("schedule.stage1_epochs=2", "schedule.stage2_epochs=4", "schedule.iterations=30")


def main() -> None:
    """Train what is missing, then print the tables."""
    parser = training_parser(__doc__)
    parser.set_defaults(generator=2)
    parser.add_argument("--people", type=int, default=200, help="training people")
    parser.add_argument("--full", action="store_true", help="the preset's own schedule (give other --out and --people)")
    parser.add_argument(
        "--gap", type=float, help="independence of infrared from colour; the generator's own if left out"
    )
    arguments = parser.parse_args()
    benchmark = benchmark_of(arguments, "calibration", seeds=1, quick_seeds=1)
    data = arguments.data or benchmark.out / "data"
    people = 12 if arguments.quick else arguments.people
    write_synthetic(
        data,
        scale="tiny" if arguments.quick else "small",
        people=people,
        generator=arguments.generator,
        held_out=arguments.held_out,
        gap=arguments.gap,
    )
    schedule = () if arguments.quick or arguments.full else SCHEDULE
    runs = [
        TrainingRun(
            method,
            seed,
            benchmark.out / f"{method}-{seed}",
            ("train", benchmark.preset, f"recipe={method}", *schedule),
        )
        for seed in benchmark.seeds
        for method in METHODS
    ]
    complete(runs, data, arguments.jobs)
    rows = [measured(run, people_in(data)) for run in runs]
    fit = fit_of(rows)
    print(as_markdown(rows), "", as_sentences(fit), sep="\n")
    if arguments.json:
        write_json(arguments.json, {"benchmark": "calibration", "quick": arguments.quick, "rows": rows, "fit": fit})


def people_in(data: Path) -> int:
    """The number of training people."""
    identities = open_dataset("auto", data).train_identities
    if identities is None:
        sys.exit(f"{data}: has no identities of training people")
    return len(set(identities))


def measured(run: TrainingRun, people: int) -> dict[str, Any]:
    """What a finished run shows: clusters per person and their agreement with people, and rank-1 of its weights."""
    epochs = epoch_rows(run)
    second = next(row for row in epochs if row["stage"] == 2)
    row: dict[str, Any] = {"method": run.name, "seed": run.seed}
    for moment, epoch in (("start", epochs[0]), ("stage2", second), ("end", epochs[-1])):
        row[moment] = {
            "clusters_per_person": {kind: epoch[kind]["clusters"] / people for kind in PUBLISHED_CLUSTERS},
            "noise": {kind: epoch[kind]["noise"] for kind in PUBLISHED_CLUSTERS},
            "ari": {kind: epoch["labels"][f"ari_{kind}"] for kind in PUBLISHED_CLUSTERS},
            "right_matches": epoch["labels"]["match_precision"],
        }
    for weights in ("start", "stage1", "final"):
        row[f"rank1_{weights}"] = 100 * result_rows(run, weights)[SEARCH]["rank1"]["mean"]
    return row


def fit_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """How the order of the methods, and their distances to the bound, compare with the published ones.

    Returns:
        Kendall's rank correlation over the methods with a published figure, mean rank-1 of each, and its distance to
        the bound here and as published, in points.
    """
    reached = {
        method: float(np.mean([row["rank1_final"] for row in rows if row["method"] == method])) for method in PUBLISHED
    }
    bound, published = reached["supervised"], PUBLISHED["supervised"]
    others = [method for method in PUBLISHED if method != "supervised"]
    correlation = kendalltau(list(reached.values()), list(PUBLISHED.values())).statistic
    return {
        "rank_correlation": None if np.isnan(correlation) else float(correlation),
        "rank1": reached,
        "distance": {method: bound - reached[method] for method in others},
        "published_distance": {method: published - PUBLISHED[method] for method in others},
    }


def as_markdown(rows: list[dict[str, Any]]) -> str:
    """One row for each run, and one for what is published."""
    titles = [
        "Method",
        "clusters per person, start",
        "at stage II",
        "ARI at stage II",
        "right matches at stage II, end",
    ]
    titles += ["rank-1 start", "stage I", "final", "published"]
    table = []
    for row in rows:
        # The bound's classes are people, so its clusters say nothing.
        known = row["method"] == "supervised"
        table.append(
            [
                row["method"],
                "–" if known else _both(row["start"]["clusters_per_person"]),
                "–" if known else _both(row["stage2"]["clusters_per_person"]),
                "–" if known else _both(row["stage2"]["ari"]),
                "–" if known else f"{row['stage2']['right_matches']:.0%}, {row['end']['right_matches']:.0%}",
                *(f"{row[f'rank1_{weights}']:.1f}" for weights in ("start", "stage1", "final")),
                f"{PUBLISHED[row['method']]:.1f}" if row["method"] in PUBLISHED else "–",
            ]
        )
    table.append(["published", "–", _both(PUBLISHED_CLUSTERS), *["–"] * 6])
    return markdown_table(titles, table)


def as_sentences(fit: dict[str, Any]) -> str:
    """The fit in words."""
    correlation = "–" if fit["rank_correlation"] is None else f"{fit['rank_correlation']:+.2f}"
    lines = [f"Rank correlation of the methods and the bound with the published order (Kendall): {correlation}."]
    lines += [
        f"{method}: {distance:.1f} points below the bound, {fit['published_distance'][method]:.1f} as published."
        for method, distance in fit["distance"].items()
    ]
    return "\n".join(lines)


def _both(values: dict[str, float]) -> str:
    return f"{values['visible']:.2f} visible, {values['infrared']:.2f} infrared"


if __name__ == "__main__":
    main()
