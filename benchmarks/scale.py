"""What pseudo labels cost from a thousand to a million samples, and how approximate neighbours change them.

    python benchmarks/scale.py [--quick] [--json FILE] [--png FILE] [--sizes N …] [--exact-limit 100000]
        [--approximate-from 3000] [--threads N]

For each size, in a process of its own: seconds of the neighbour search, of the Jaccard similarity and of DBSCAN, and
the peak memory beyond the features. Search is exact up to one limit and approximate (faiss) from another; where both
run, their labels are compared by the adjusted Rand index. Recall is the share of true neighbours found, on a thousand
samples. The cost of each step grows like a power of the number of samples; the exponents are fitted to sizes from
10,000 on.

With --json, sizes that are in the file already are not measured again, so the benchmark can be run in parts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.made_up import crowd_of, made_up_features
from benchmarks.measuring import Steps, as_singletons, in_a_process, keep_to_threads, machine
from benchmarks.showing import markdown_table, name_the_ends, read_rows, short, write_json, write_png

from pclhd.clustering.density import dbscan_labels
from pclhd.clustering.jaccard import jaccard_similarity
from pclhd.clustering.neighbours import Neighbours
from pclhd.clustering.options import SearchMethod
from pclhd.clustering.quality import clustering_quality
from pclhd.clustering.search import find_neighbours, neighbour_recall
from pclhd.report.figures import AMBER, BLUE, GREEN, GREY, style
from pclhd.report.figures import VERMILLION as RED

SIZES = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
QUICK_SIZES = (1_000, 2_000, 4_000)
FITTED_FROM = 10_000
WIDTH, K1, K2, EPS, MIN_SAMPLES = 256, 30, 6, 0.6, 4
SETTINGS = {"width": WIDTH, "k1": K1, "k2": K2, "eps": EPS, "min_samples": MIN_SAMPLES}


def main() -> None:
    """Measure the sizes that are missing, then print the table and draw the curves."""
    arguments = parse()
    keep_to_threads(arguments.threads)
    rows = read_rows(arguments.json, SETTINGS)
    for number in arguments.sizes or (QUICK_SIZES if arguments.quick else SIZES):
        searches = wanted_searches(number, arguments.exact_limit, arguments.approximate_from)
        if {(row["samples"], row["search"]) for row in rows} >= {(number, search) for search in searches}:
            continue
        rows = [row for row in rows if row["samples"] != number] + compare(number, searches)
        rows.sort(key=lambda row: (row["samples"], row["search"] != "exact"))
        if arguments.json:
            write_json(arguments.json, summary(rows))
    print(as_markdown(rows))
    print("\n" + ", ".join(f"{name}: N^{short(value)}" for name, value in exponents(rows).items()))
    if arguments.png:
        write_png(figure_of(rows), arguments.png)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="up to 4,000 samples, to show that it runs")
    parser.add_argument("--json", type=Path, help="write the figures to this file; measure only what it lacks")
    parser.add_argument("--png", type=Path, help="draw the curves to this file")
    parser.add_argument("--sizes", type=int, nargs="+", help="numbers of samples")
    parser.add_argument("--exact-limit", type=int, default=100_000, help="the largest size with exact search")
    parser.add_argument("--approximate-from", type=int, default=3_000, help="the smallest size with approximate search")
    parser.add_argument("--threads", type=int, help="default: chosen by each step")
    return parser.parse_args()


def wanted_searches(number: int, exact_limit: int, approximate_from: int) -> list[SearchMethod]:
    """The kinds of neighbour search to measure at a size; beyond the exact limit only the approximate one."""
    exact: list[SearchMethod] = ["exact"] if number <= exact_limit else []
    approximate: list[SearchMethod] = ["approximate"] if number >= approximate_from or not exact else []
    return exact + approximate


def compare(number: int, searches: Sequence[SearchMethod]) -> list[dict[str, Any]]:
    """One row per kind of search, on the same features."""
    rows = []
    labels = {}
    with TemporaryDirectory() as folder:
        work = Path(folder)
        in_a_process(draw, work, number)
        person = np.load(work / "person.npy")
        for search in searches:
            row = in_a_process(measure, work, search)
            labels[search] = np.load(work / f"{search}.npy")
            quality = clustering_quality(labels[search], person)
            row |= {"ari": quality["ari"], "nmi": quality["nmi"], "ari_exact": None}
            if search == "approximate" and "exact" in labels:
                row["ari_exact"] = clustering_quality(labels[search], as_singletons(labels["exact"]))["ari"]
            rows.append({"samples": number, "search": search, **row})
            print("  ".join(f"{name} {short(value)}" for name, value in rows[-1].items()), flush=True)
    return rows


def draw(work: Path, number: int) -> None:
    """Draw the features and save them in a folder."""
    drawn = made_up_features(crowd_of(number, WIDTH), np.random.default_rng(number))
    np.save(work / "features.npy", drawn.features)
    np.save(work / "person.npy", drawn.person)


def in_steps(
    features: NDArray[np.float32], search: SearchMethod, steps: Steps
) -> tuple[Neighbours, csr_matrix, NDArray[np.int64]]:
    """Neighbours, similarity and labels."""
    table = steps.run("search", lambda: find_neighbours(features, max(K1, K2), method=search))
    similarity = steps.run("jaccard", lambda: jaccard_similarity(features, K1, K2, neighbours=table, max_distance=EPS))
    return table, similarity, steps.run("dbscan", lambda: dbscan_labels(similarity, EPS, MIN_SAMPLES))


def measure(work: Path, search: SearchMethod) -> dict[str, Any]:
    """Measure each step once, after a run on a few samples; save the labels in the folder."""
    features = np.load(work / "features.npy")
    in_steps(features[:500], search, Steps())  # compiles
    steps = Steps()
    table, similarity, labels = in_steps(features, search, steps)
    np.save(work / f"{search}.npy", labels)
    return {
        **{f"seconds_{name}": seconds for name, seconds in steps.seconds.items()},
        "peak_gib": steps.peak_gib,
        "gib": steps.gib,
        "features_gib": features.nbytes / 2**30,
        "pairs": similarity.nnz,
        "recall": neighbour_recall(features, table, sample=1000, generator=np.random.default_rng(0)),
        "clusters": int(labels.max(initial=-1)) + 1,
        "noise": float(np.mean(labels < 0)),
    }


def after_search(row: dict[str, Any]) -> float:
    """Seconds from the neighbour table to the labels."""
    return float(row["seconds_jaccard"] + row["seconds_dbscan"])


def exponents(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """p of cost ≈ c·N^p, by least squares on logarithms, for sizes from 10,000 on (all, if fewer than two are)."""

    def fitted(chosen: Sequence[dict[str, Any]], cost: Callable[[dict[str, Any]], float]) -> float:
        large = [row for row in chosen if row["samples"] >= FITTED_FROM]
        used = large if len(large) > 1 else chosen
        if len(used) < 2:
            return float("nan")
        return float(np.polyfit(np.log([row["samples"] for row in used]), np.log([cost(row) for row in used]), 1)[0])

    result = {"after the search": fitted(one_per_size(rows), after_search)}
    for search in ("exact", "approximate"):
        chosen = [row for row in rows if row["search"] == search]
        result[f"{search} search"] = fitted(chosen, lambda row: float(row["seconds_search"]))
    return result


def one_per_size(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The exact row of each size, else the approximate one."""
    return list({row["samples"]: row for row in sorted(rows, key=lambda row: row["search"] == "exact")}.values())


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What is written to a file."""
    return {
        "benchmark": "scale",
        "machine": machine(),
        "settings": SETTINGS,
        "rows": rows,
        "exponents": {name: value if np.isfinite(value) else None for name, value in exponents(rows).items()},
    }


def as_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The table as the documentation shows it."""
    titles = ["Samples", "Search", "search s", "Jaccard s", "DBSCAN s", "GiB", "recall", "ARI to exact", "ARI", "noise"]
    keys = ["seconds_search", "seconds_jaccard", "seconds_dbscan", "peak_gib"]
    shares = ["recall", "ari_exact", "ari", "noise"]
    return markdown_table(
        titles,
        [
            [f"{row['samples']:,}", row["search"]]
            + [short(row[key]) for key in keys]
            + ["–" if row[key] is None else f"{row[key]:.3f}" for key in shares]
            for row in rows
        ],
        words=2,
    )


def figure_of(rows: Sequence[dict[str, Any]]) -> Figure:
    """Seconds of each step, and memory, against the number of samples; both axes logarithmic."""
    power = exponents(rows)
    every = sorted(one_per_size(rows), key=lambda row: row["samples"])
    exact = [row for row in rows if row["search"] == "exact"]
    approximate = [row for row in rows if row["search"] == "approximate"]
    with style():
        figure = Figure(figsize=(11.0, 4.4), layout="constrained")
        seconds, memory = figure.subplots(1, 2)
        seconds.set_title("seconds per step", loc="left")
        memory.set_title("GiB beyond the features, at the peak", loc="left")
        searching = _curve(seconds, f"exact search, N^{power['exact search']:.2f}", exact, "seconds_search", BLUE, "o")
        name = f"approximate search, N^{power['approximate search']:.2f}"
        costs = [
            _curve(seconds, name, approximate, "seconds_search", GREEN, "s"),
            _curve(
                seconds, f"Jaccard (with DBSCAN: N^{power['after the search']:.2f})", every, "seconds_jaccard", RED, "^"
            ),
            _curve(seconds, "DBSCAN", every, "seconds_dbscan", AMBER, "D"),
        ]
        holding = _curve(memory, "exact", exact, "peak_gib", BLUE, "o")
        needs = [
            _curve(memory, "approximate search", approximate, "peak_gib", GREEN, "s"),
            _curve(memory, "the features themselves", every, "features_gib", GREY, "v"),
            _dense_matrix(memory, every),
        ]
        # Exact search ends earlier than the others, so its name is placed where no other curve passes.
        if searching:
            seconds.annotate(
                searching[0], searching[1:3], (-7, 3), textcoords="offset points", ha="right", color=BLUE, fontsize=8.5
            )
        if holding:
            memory.annotate(
                holding[0], holding[1:3], (0, -12), textcoords="offset points", ha="center", color=BLUE, fontsize=8.5
            )
        for axes in (seconds, memory):
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_xticks([row["samples"] for row in every])
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: _size_name(size)))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.set_xlabel("samples")
            axes.grid(True, linewidth=0.6)
            axes.set_axisbelow(True)
        name_the_ends(figure, seconds, [end for end in costs if end])
        name_the_ends(figure, memory, [end for end in needs if end])
    return figure


def _curve(
    axes: Axes, name: str, rows: Sequence[dict[str, Any]], key: str, colour: str, marker: str
) -> tuple[str, float, float, str] | None:
    """Draw one curve and return its end, for its label; None if no point of it is known."""
    known = [(float(row["samples"]), float(row[key])) for row in rows if row[key] is not None and row[key] > 0]
    if not known:
        return None
    axes.plot(*zip(*known, strict=True), color=colour, marker=marker)
    return (name, *known[-1], colour)


def _dense_matrix(axes: Axes, rows: Sequence[dict[str, Any]]) -> tuple[str, float, float, str]:
    """Draw the size of one samples × samples matrix of float32, as far as it is within the picture."""
    highest = 100 * max(row["peak_gib"] or row["features_gib"] for row in rows)
    sizes = np.array([row["samples"] for row in rows], dtype=np.float64)
    gib = sizes**2 * 4 / 2**30
    shown = np.append(gib[:1] > 0, gib[1:] < highest)
    axes.plot(sizes[shown], gib[shown], color=GREY, linestyle="--", linewidth=1.2)
    return "one dense matrix", float(sizes[shown][-1]), float(gib[shown][-1]), GREY


def _size_name(size: float) -> str:
    return f"{size / 1e6:g}M" if size >= 1e6 else f"{size / 1e3:g}k"


if __name__ == "__main__":
    main()
