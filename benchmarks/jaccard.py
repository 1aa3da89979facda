"""From features to pseudo labels, sparse against dense: with and without the neighbour search.

    python benchmarks/jaccard.py [--quick] [--json FILE] [--sizes 22258 34167] [--width 2048] [--field] [--uneven]
        [--threads N]

22,258 is the number of visible training images of SYSU-MM01, 34,167 that of both modalities. Two dense baselines
(`baselines/dense_jaccard.py`) do the same with samples × samples matrices: `lean` is the best that we could make of
them; `field` (with --field, slow) follows the routine that is common in this field, with faiss's exact index.

Each runs in a process of its own on the same features, its own neighbour search included. Ours runs three times, and
the median counts; the dense ones run once. Their Jaccard routine then gets our neighbour table, so that labels and
distances can be compared: float32 searches order near ties differently. The dense ones also sum in float32; where the
two distances of a pair therefore differ by more than 1e-6, ours is compared with the definition in float64.

Memory is the peak beyond the features. The dense ones need about three times samples × samples × 4 bytes, 14 GiB for
the larger size; without that much free memory they are left out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, load_npz, save_npz
from sklearn.cluster import DBSCAN

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.baselines.dense_jaccard import (
    distance_by_definition,
    jaccard_as_the_field_does,
    jaccard_in_lean_loops,
    search_as_the_field_does,
    search_in_blocks,
)
from benchmarks.made_up import crowd_of, even_crowd, made_up_features
from benchmarks.measuring import Steps, free_gib, in_a_process, keep_to_threads, machine
from benchmarks.showing import markdown_table, short, write_json

from pclhd.clustering.density import dbscan_labels
from pclhd.clustering.jaccard import jaccard_similarity
from pclhd.clustering.neighbours import nearest_neighbours
from pclhd.clustering.pipeline import ClusteringOptions, cluster_features

K1, K2, EPS, MIN_SAMPLES = 30, 6, 0.6, 4
REPETITIONS = 3
MATRICES = 3.3  # of samples × samples × 4 bytes, which a dense baseline holds at its peak
TOLERANCE = 1e-6
SETTLED = 1000  # the most pairs whose distance is computed again in float64

Search = Callable[[NDArray[np.float32], int], NDArray[np.int64]]
Jaccard = Callable[[NDArray[np.float32], NDArray[Any], int, int], NDArray[np.float32]]
DENSE: dict[str, tuple[Search, Jaccard]] = {
    "lean": (search_in_blocks, jaccard_in_lean_loops),
    "field": (search_as_the_field_does, jaccard_as_the_field_does),
}


def main() -> None:
    """Measure every size, print the table, write it to a file if asked."""
    arguments = parse()
    keep_to_threads(arguments.threads)
    sizes = arguments.sizes or ([2000, 4000] if arguments.quick else [22258, 34167])
    names = ["lean", "field"] if arguments.field or arguments.quick else ["lean"]
    width = arguments.width or (256 if arguments.quick else 2048)
    rows = []
    for number in sizes:
        rows += compare(number, width, names, uneven=arguments.uneven)
        if arguments.json:
            write_json(arguments.json, {"benchmark": "jaccard", "machine": machine(), "width": width, "rows": rows})
    print(as_markdown(rows))
    wrong = [row for row in rows if row["largest_difference_exact"] > TOLERANCE or not row["same_labels"]]
    if wrong:
        sys.exit("the results disagree: " + ", ".join(f"{row['way']} at {row['samples']} samples" for row in wrong))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, to show that it runs and all agree")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--sizes", type=int, nargs="+", help="numbers of samples")
    parser.add_argument("--width", type=int, help="numbers per feature")
    parser.add_argument("--field", action="store_true", help="also time the routine that is common in the field (slow)")
    parser.add_argument("--uneven", action="store_true", help="draw people unevenly, with outliers among them")
    parser.add_argument("--threads", type=int, help="for all of them; default: chosen by each")
    return parser.parse_args()


def compare(number: int, width: int, names: list[str], *, uneven: bool) -> list[dict[str, Any]]:
    """One row of the table for ours, then one for each dense baseline."""
    with TemporaryDirectory() as folder:
        work = Path(folder)
        in_a_process(draw, work, number, width, uneven=uneven)
        ours = in_a_process(measure_ours, work)
        rows = [{"samples": number, "way": "ours", **ours, "same_labels": True, "largest_difference_exact": 0.0}]
        for name in names:
            needed = MATRICES * number**2 * 4 / 2**30
            if needed > free_gib():
                print(f"{name} at {number} samples is left out: it needs {needed:.0f} GiB, {free_gib():.0f} are free")
                continue
            try:
                dense = in_a_process(measure_dense, work, name)
            except ImportError as error:
                print(f"{name} is left out: {error}")
                continue
            for part in ("search", "after", "whole"):
                dense[f"ratio_{part}"] = dense[f"seconds_{part}"] / ours[f"seconds_{part}"]
            rows.append({"samples": number, "way": name, **dense})
    for row in rows:
        print("  ".join(f"{name} {short(value)}" for name, value in row.items()), flush=True)
    return rows


def draw(work: Path, number: int, width: int, *, uneven: bool) -> None:
    """Draw the features and save them in a folder."""
    crowd = crowd_of(number, width) if uneven else even_crowd(number, width)
    np.save(work / "features.npy", made_up_features(crowd, np.random.default_rng(number)).features)


def measure_ours(work: Path) -> dict[str, Any]:
    """Run the public call three times, and its part after the search; save table, labels and similarity."""
    features = np.load(work / "features.npy")
    options = ClusteringOptions(clustering="dbscan", k1=K1, k2=K2, eps=EPS, min_samples=MIN_SAMPLES, search="exact")
    cluster_features(features[:200], options)  # compiles
    steps = Steps()
    labels = steps.run("whole", lambda: cluster_features(features, options)).labels
    peak = steps.peak_gib
    whole = [steps.seconds["whole"]]
    for _ in range(REPETITIONS - 1):
        steps.run("whole", lambda: cluster_features(features, options))
        whole.append(steps.seconds["whole"])

    table = steps.run("search", lambda: nearest_neighbours(features, max(K1, K2)))

    def similarity(reach: float) -> csr_matrix:
        return jaccard_similarity(features, K1, K2, neighbours=table, max_distance=reach)

    after = []
    for _ in range(REPETITIONS):
        again = steps.run("after", lambda: dbscan_labels(similarity(EPS), EPS, MIN_SAMPLES))
        after.append(steps.seconds["after"])
        if not np.array_equal(labels, again):
            raise RuntimeError("the same features got different labels")

    np.savez(work / "ours.npz", index=table.index, labels=labels)
    save_npz(work / "similarity.npz", similarity(EPS + 0.05))  # pairs just beyond eps are compared too
    return {
        "seconds_search": steps.seconds["search"],
        "seconds_after": median(after),
        "seconds_whole": median(whole),
        "peak_gib": peak,
        "clusters": int(labels.max(initial=-1)) + 1,
        "noise": float(np.mean(labels < 0)),
    }


def measure_dense(work: Path, name: str) -> dict[str, Any]:
    """Measure a dense baseline, search included, and compare it with ours on our neighbour table."""
    search, jaccard = DENSE[name]
    features = np.load(work / "features.npy")
    with np.load(work / "ours.npz") as ours:
        index, labels = ours["index"], ours["labels"]
    similarity = csr_matrix(load_npz(work / "similarity.npz"))
    search(features[:200], K1)
    steps = Steps()
    found = steps.run("search", lambda: search(features, max(K1, K2)))

    def dense() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        distance = jaccard(features, index, K1, K2)
        return distance, DBSCAN(eps=EPS, min_samples=MIN_SAMPLES, metric="precomputed").fit(distance).labels_

    distance, expected = steps.run("after", dense)
    raw, settled = largest_differences(
        similarity, distance, lambda i, j: distance_by_definition(features, index, K1, K2, i, j)
    )
    return {
        "seconds_search": steps.seconds["search"],
        "seconds_after": steps.seconds["after"],
        "seconds_whole": steps.seconds["search"] + steps.seconds["after"],
        "peak_gib": steps.peak_gib,
        "clusters": int(expected.max(initial=-1)) + 1,
        "noise": float(np.mean(expected < 0)),
        "same_labels": bool(np.array_equal(labels, expected)),
        "largest_difference": raw,
        "largest_difference_exact": settled,
        "rows_found_otherwise": float(np.mean((np.sort(found) != np.sort(index[:, : found.shape[1]])).any(axis=1))),
    }


def largest_differences(
    similarity: csr_matrix, distance: NDArray[np.float32], exact: Callable[[int, int], float]
) -> tuple[float, float]:
    """Compare all pairs that are nearer than eps in either result; a pair that the sparse one lacks has distance 1.

    Args:
        similarity: The sparse result.
        distance: (N, N) the dense result, with float32 rounding errors of about the tolerance.
        exact: Computes the distance of a pair without such errors.

    Returns:
        The largest difference, and the largest when pairs beyond the tolerance are compared with the exact distance
        (unless there are too many of them to be rounding).
    """
    largest, settled = 0.0, 0.0
    doubtful: list[tuple[int, int, float]] = []
    for start in range(0, len(distance), 256):
        ours = np.float32(1) - similarity[start : start + 256].toarray()
        dense = distance[start : start + 256]
        difference = np.where((dense < EPS) | (ours < EPS), np.abs(ours - dense), 0)
        largest = max(largest, float(difference.max()))
        beyond = difference > TOLERANCE
        settled = max(settled, float(difference[~beyond].max(initial=0.0)))
        rows, columns = np.nonzero(beyond)
        values = ours[rows, columns]
        doubtful += zip((start + rows).tolist(), columns.tolist(), values.tolist(), strict=True)
        if len(doubtful) > SETTLED:
            return largest, largest
    return largest, max([settled, *(abs(value - exact(i, j)) for i, j, value in doubtful)])


def as_markdown(rows: list[dict[str, Any]]) -> str:
    """The table as the documentation shows it."""
    titles = ["Samples", "Way", "search s", "after s", "whole s", "after ×", "whole ×", "GiB", "labels", "difference"]
    return markdown_table(
        titles,
        [
            [
                f"{row['samples']:,}",
                row["way"],
                *(short(row[f"seconds_{part}"]) for part in ("search", "after", "whole")),
                *(short(row.get(f"ratio_{part}")) for part in ("after", "whole")),
                short(row["peak_gib"]),
                "same" if row["same_labels"] else "differ",
                "–" if row["way"] == "ours" else f"{row['largest_difference_exact']:.0e}",
            ]
            for row in rows
        ],
        words=2,
    )


if __name__ == "__main__":
    main()
