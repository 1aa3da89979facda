"""How each clustering, matching and treatment of outliers does in training, on the synthetic benchmark.

    python benchmarks/loop_yields.py [--data DIR] [--out DIR] [--variants NAME …] [--seeds N …] [--jobs N] [--quick]
        [--read] [--json FILE] [--png FILE]

Each variant is the recipe `pclhd`, as it was when these figures were first measured (RECIPE), with one choice changed
(VARIANTS says by which settings); `progressive` changes none. Every seed is trained and evaluated in a process of its
own with one thread. Finished runs are only read, and --read trains nothing and shows the finished runs. The table has
the final network's rank-1 and mAP, the mean difference to the default with the same seed, with its standard error, and
how good clusters and matches were in the last epoch; the picture shows the latter for all epochs. Identities are only
used for measuring.

`--quick` draws tiny data and runs the `tiny` preset with one seed: it shows that the settings reach the training, not
what they are worth.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.showing import colour_of, markdown_table, name_the_ends, write_json, write_png
from benchmarks.training_runs import (
    benchmark_of,
    complete,
    epoch_rows,
    refuse_other_settings,
    result_rows,
    training_parser,
)

from pclhd.config import load_preset
from pclhd.report.figures import DASHES, GREY, INK, style
from pclhd.workflows.trainings import TrainingRun

#: The default recipe as it was when these were measured. Since then its joint memory holds all clusters, and it no
#: longer computes the dynamic loss that was only logged.
RECIPE = ("recipe=pclhd", "method.joint_prototypes=shared", "method.dynamic_gradient=false")
DEFAULT = "progressive"
VARIANTS: dict[str, tuple[str, ...]] = {
    DEFAULT: (),
    "mutual": ("method.matching=mutual",),
    "transport": ("method.matching=transport",),
    "hdbscan": ("method.clustering=hdbscan",),
    "agglomerative": ("method.clustering=agglomerative", "clustering.eps=0.65"),
    "community": ("method.clustering=community",),
    "eps-auto": ("clustering.eps=auto",),
    "balanced": ("method.balanced_neighbours=true",),
    "rescue": ("method.outliers=rescue",),
    "drop": ("method.outliers=drop",),
    "both": ("method.outliers=both",),
    "confidence-weight": ("method.confidence=weight",),
}
SEARCHES = ("all/single-shot", "indoor/single-shot")
MEASURES = {"rank1": "rank-1", "mAP": "mAP"}
LABELS = {
    "ari_visible": "ARI visible",
    "ari_infrared": "ARI infrared",
    "ari_joint": "ARI joint",
    "match_precision": "right matches",
}


def main() -> None:
    """Train what is missing, print the table, draw the curves."""
    arguments = parse()
    benchmark = benchmark_of(arguments, "yields", seeds=3, quick_seeds=1)
    runs = [
        TrainingRun(name, seed, benchmark.out / f"{name}-{seed}", ("train", benchmark.preset, *RECIPE, *VARIANTS[name]))
        for seed in benchmark.seeds
        for name in arguments.variants
    ]
    if arguments.read:
        runs = [run for run in runs if run.finished]
        refuse_other_settings(runs)
    else:
        for name in arguments.variants:
            load_preset(
                benchmark.preset, [*RECIPE, *VARIANTS[name]]
            )  # a wrong setting ends the program before anything is trained
        benchmark.draw()
        complete(runs, benchmark.data, arguments.jobs)
    if not runs:
        sys.exit(f"{benchmark.out}: no run is finished")
    table = collect(runs)
    print(as_markdown(table))
    if arguments.json:
        write_json(arguments.json, {"benchmark": "loop_yields", "quick": arguments.quick, "variants": table})
    if arguments.png:
        write_png(figure_of(table), arguments.png)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = training_parser(__doc__)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--read", action="store_true", help="train nothing, show the finished runs")
    parser.add_argument("--png", type=Path, help="draw the curves to this file")
    return parser.parse_args()


def collect(runs: Sequence[TrainingRun]) -> list[dict[str, Any]]:
    """For each variant: results, paired differences to the default, quality of labels, curves."""
    results = {(run.name, run.seed): result_rows(run, "final") for run in runs}
    table = []
    for name in dict.fromkeys(run.name for run in runs):
        mine = [run for run in runs if run.name == name]
        epochs = [epoch_rows(run) for run in mine]
        curves = {key: [[_label(row, key) for row in rows] for rows in epochs] for key in LABELS}
        entry: dict[str, Any] = {
            "variant": name,
            "overrides": VARIANTS[name],
            "seeds": [run.seed for run in mine],
            "results": {search: {} for search in SEARCHES},
            "difference": {search: {} for search in SEARCHES},
            "labels": {key: _spread([rows[-1] for rows in seeds]) for key, seeds in curves.items()},
            "stages": [row["stage"] for row in epochs[0]],
            "curves": curves,
        }
        for search in SEARCHES:
            for measure in MEASURES:
                reached = {key: rows[search][measure]["mean"] for key, rows in results.items()}
                gained = [
                    reached[name, run.seed] - reached[DEFAULT, run.seed]
                    for run in mine
                    if name != DEFAULT and (DEFAULT, run.seed) in reached
                ]
                entry["results"][search][measure] = _spread([reached[name, run.seed] for run in mine])
                entry["difference"][search][measure] = _spread(gained)
        table.append(entry)
    return table


def _label(row: dict[str, Any], key: str) -> float | None:
    value = (row.get("labels") or {}).get(key)
    return None if value is None else float(value)


def _spread(values: Sequence[float | None]) -> dict[str, Any]:
    """Mean over seeds; with two or more, also their standard deviation and the standard error of the mean."""
    known = np.array([value for value in values if value is not None], dtype=np.float64)
    return {
        "mean": float(known.mean()) if len(known) else None,
        "std": float(known.std()) if len(known) > 1 else None,
        "standard_error": float(known.std(ddof=1) / np.sqrt(len(known))) if len(known) > 1 else None,
        "seeds": known.tolist(),
    }


def as_markdown(table: Sequence[dict[str, Any]]) -> str:
    """The table as the documentation shows it, in percent."""
    titles = [f"{search.split('/')[0]} {title}" for search in SEARCHES for title in MEASURES.values()]
    differences = [f"Δ {title}" for title in titles[: len(MEASURES)]]
    rows = []
    for entry in table:
        cells = [_percent(entry["results"][search][measure], "std") for search in SEARCHES for measure in MEASURES]
        gained = entry["difference"][SEARCHES[0]]
        cells += [_percent(gained[measure], "standard_error", sign="+") for measure in MEASURES]
        cells += [_percent(entry["labels"][key], "std") for key in LABELS]
        rows.append([entry["variant"], str(len(entry["seeds"])), *cells])
    return "\n".join(
        [
            markdown_table(["Variant", "seeds", *titles, *differences, *LABELS.values()], rows),
            "",
            "Percent; single-shot searches, ten gallery trials each; clusters and matches of the last epoch. Mean ± "
            f"standard deviation over seeds. Δ: mean of the differences to `{DEFAULT}`, seed by seed, ± its standard "
            "error.",
        ]
    )


def _percent(figure: dict[str, Any], spread: str, *, sign: str = "") -> str:
    if figure["mean"] is None:
        return "–"
    mean = f"{100 * figure['mean']:{sign}.1f}"
    return mean if figure[spread] is None else f"{mean} ± {100 * figure[spread]:.1f}"


def figure_of(table: Sequence[dict[str, Any]]) -> Figure:
    """One panel per measure of the labels, one line per variant: the mean over seeds after each epoch."""
    with style():
        figure = Figure(figsize=(11.0, 7.4), layout="constrained")
        figure.subplots(2, 2, sharex=True)
        curves = []
        for axes, (key, title) in zip(figure.axes, LABELS.items(), strict=True):
            ends = []
            for place, entry in enumerate(table):
                colour = INK if entry["variant"] == DEFAULT else colour_of(place - 1)
                mean = _mean_curve(entry["curves"][key])
                axes.plot(
                    np.arange(1, len(mean) + 1),
                    mean,
                    color=colour,
                    linestyle=DASHES[place // 7 % len(DASHES)],
                    linewidth=2.4 if entry["variant"] == DEFAULT else 1.4,
                )
                if len(mean) and np.isfinite(mean[-1]):
                    ends.append((entry["variant"], float(len(mean)), float(mean[-1]), colour))
            stages = table[0]["stages"]
            if 2 in stages and stages.index(2):
                axes.axvline(stages.index(2) + 0.5, color=GREY, linewidth=1, linestyle=":")
            axes.set_title(f"{title} (1 = all)" if key == "match_precision" else f"{title} (1 = perfect)", loc="left")
            axes.set_xlim(0.5, len(stages) + 0.5)
            axes.grid(True, linewidth=0.6)
            axes.set_axisbelow(True)
            curves.append((axes, ends))
        for axes in figure.axes[2:]:
            axes.set_xlabel("epoch (stage II begins at the dotted line)")
        for axes, ends in curves:
            name_the_ends(figure, axes, ends)
    return figure


def _mean_curve(seeds: Sequence[Sequence[float | None]]) -> NDArray[np.float64]:
    """Mean over seeds per epoch, up to the last epoch that all seeds have; NaN where a seed has no value."""
    length = min(len(values) for values in seeds)
    table = np.array([[np.nan if value is None else value for value in values[:length]] for values in seeds])
    mean: NDArray[np.float64] = table.mean(axis=0)
    return mean


if __name__ == "__main__":
    main()
