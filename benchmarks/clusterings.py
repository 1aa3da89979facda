"""What each clustering costs with a hundred thousand samples, and how it compares with a dense one if that fits.

    python benchmarks/clusterings.py [--quick] [--json FILE] [--number 100000] [--width 512] [--variants NAME …]
        [--dense-number 20000] [--threads N]

First table: `cluster_features` on made-up people, one call per variant, each in a process of its own. It shows the
seconds of the neighbour search, of the Jaccard similarity and of the clustering (which includes the choice of eps), the
peak memory beyond the features, and how well clusters agree with people. Noise counts as clusters of one. In
`two-modalities` the features of a third of the cameras are shifted in one direction, as those of infrared cameras would
be. Made-up people form clusters on two levels: one per person, and within it one per camera. A clustering that finds
the finer ones scores low, so the scores only show that labels are plausible; `loop_yields.py` shows which clustering is
best for training.

Second table: the clustering alone, on one similarity: ours, scikit-learn's of the same name, and their agreement.
All of scikit-learn's take the dense matrix of the same distances; its DBSCAN also takes the stored pairs alone, which
is the fair comparison. Memory is beyond features and similarity, and includes the matrix of distances.

With --json, variants that are in the file already are not measured again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.cluster import DBSCAN, HDBSCAN, AgglomerativeClustering
from sklearn.neighbors import sort_graph_by_row_values

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.made_up import crowd_of, made_up_features
from benchmarks.measuring import Steps, as_singletons, in_a_process, keep_to_threads, machine
from benchmarks.showing import markdown_table, read_rows, short, write_json

from pclhd.clustering import pipeline
from pclhd.clustering.density import number_clusters
from pclhd.clustering.jaccard import jaccard_similarity
from pclhd.clustering.options import CUTS_AT_EPS, ClusteringOptions
from pclhd.clustering.pipeline import cluster_features, graph_labels
from pclhd.clustering.quality import clustering_quality
from pclhd.clustering.search import find_neighbours, neighbour_recall

EPS, MIN_SAMPLES = 0.6, 4
GAP = 1.0
REPETITIONS = 3
_EXACT = ClusteringOptions(k1=30, k2=6, eps=EPS, min_samples=MIN_SAMPLES, search="exact")
VARIANTS: dict[str, ClusteringOptions] = {
    "dbscan": _EXACT,
    "dbscan-approximate": _EXACT.changed(search="approximate"),
    "dbscan-auto-eps": _EXACT.changed(eps="auto"),
    "hdbscan": _EXACT.changed(clustering="hdbscan"),
    "agglomerative": _EXACT.changed(clustering="agglomerative"),
    "community": _EXACT.changed(clustering="community"),
    "two-modalities": _EXACT,
    "two-modalities-balanced": _EXACT.changed(balanced_neighbours=True),
}
_DBSCAN = DBSCAN(eps=EPS, min_samples=MIN_SAMPLES, metric="precomputed")


def _dbscan_of_stored_pairs(distance: csr_matrix) -> NDArray[np.int64]:
    return np.asarray(_DBSCAN.fit_predict(sort_graph_by_row_values(distance, copy=True, warn_when_not_sorted=False)))


SCIKIT_LEARN: dict[str, Callable[[Any], Any]] = {
    "dbscan dense": _DBSCAN.fit_predict,
    "dbscan sparse": _dbscan_of_stored_pairs,
    "hdbscan dense": HDBSCAN(
        min_cluster_size=MIN_SAMPLES, min_samples=MIN_SAMPLES, metric="precomputed", copy=False
    ).fit_predict,
    "agglomerative dense": AgglomerativeClustering(
        n_clusters=None, distance_threshold=EPS, metric="precomputed", linkage="average"
    ).fit_predict,
}


def main() -> None:
    """Measure every variant, then scikit-learn's; print both tables."""
    arguments = parse()
    keep_to_threads(arguments.threads)
    settings = {
        "number": arguments.number or (2_000 if arguments.quick else 100_000),
        "width": arguments.width or (64 if arguments.quick else 512),
        "dense_number": arguments.dense_number or (1_000 if arguments.quick else 20_000),
    }
    rows = read_rows(arguments.json, settings)
    with TemporaryDirectory() as folder:
        work = Path(folder)
        drawn = None
        for name, measure in [
            *((name, measure_variant) for name in arguments.variants),
            *((name, compare) for name in SCIKIT_LEARN if name.split()[0] in arguments.variants),
        ]:
            if any(row["name"] == name for row in rows):
                continue
            number = settings["number" if measure is measure_variant else "dense_number"]
            wanted = (number, settings["width"], GAP if name.startswith("two-modalities") else 0.0)
            if drawn != wanted:
                in_a_process(draw, work, *wanted)
                drawn = wanted
            rows.append({"name": name, **in_a_process(measure, work, name)})
            print("  ".join(f"{key} {short(value)}" for key, value in rows[-1].items()), flush=True)
            if arguments.json:
                content = {"benchmark": "clusterings", "machine": machine(), "settings": settings, "rows": rows}
                write_json(arguments.json, content)
    print(as_markdown(rows, settings))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2,000 samples, to show that it runs")
    parser.add_argument("--json", type=Path, help="write the figures to this file; measure only what it lacks")
    parser.add_argument("--number", type=int, help="samples")
    parser.add_argument("--width", type=int, help="numbers per feature")
    parser.add_argument("--dense-number", type=int, help="samples of the comparison with scikit-learn")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--threads", type=int, help="default: chosen by each step")
    return parser.parse_args()


def draw(work: Path, number: int, width: int, gap: float) -> None:
    """Draw the features and save them in a folder."""
    drawn = made_up_features(crowd_of(number, width, gap=gap), np.random.default_rng(number))
    np.savez(work / "drawn.npz", **drawn._asdict())


def measure_variant(work: Path, name: str) -> dict[str, Any]:
    """Measure one call, each step of the pipeline by itself."""
    options = VARIANTS[name]
    with np.load(work / "drawn.npz") as drawn:
        features, person = drawn["features"], drawn["person"]
        modality = drawn["modality"] if name.startswith("two-modalities") else None
    cluster_features(features[:500], options, modality=None if modality is None else modality[:500])  # compiles
    steps = Steps()
    tables = []

    def search(*arguments: Any, **named: Any) -> Any:
        tables.append(steps.run("search", lambda: find_neighbours(*arguments, **named)))
        return tables[0]

    with (
        patch.object(pipeline, "find_neighbours", search),
        patch.object(pipeline, "jaccard_similarity", steps.watch("jaccard", jaccard_similarity)),
    ):
        found = steps.run("whole", lambda: cluster_features(features, options, modality=modality))
    balance = modality if options.balanced_neighbours else None
    recall = neighbour_recall(features, tables[0], modality=balance, generator=np.random.default_rng(0))
    return {
        "seconds_search": steps.seconds["search"],
        "seconds_jaccard": steps.seconds["jaccard"],
        "seconds_clustering": steps.seconds["whole"] - steps.seconds["search"] - steps.seconds["jaccard"],
        "seconds_whole": steps.seconds["whole"],
        "peak_gib": steps.peak_gib,
        "gib": steps.gib,
        "pairs": found.similarity.nnz,
        "eps": found.options.eps,
        "recall": recall,
        "clusters": int(found.labels.max(initial=-1)) + 1,
        "people": int((np.unique(person, return_counts=True)[1] > 1).sum()),
        "noise": float(np.mean(found.labels < 0)),
        **clustering_quality(found.labels, person),
    }


def compare(work: Path, name: str) -> dict[str, Any]:
    """Ours and scikit-learn's on the same similarity."""
    with np.load(work / "drawn.npz") as drawn:
        features = drawn["features"]
    method, form = name.split()
    options = VARIANTS[method]
    similarity = jaccard_similarity(features, *options.numbers())
    graph_labels(jaccard_similarity(features[:500], *options.numbers()), options)  # compiles
    steps = Steps()
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(REPETITIONS):
        labels = steps.run("ours", lambda: graph_labels(similarity, options))
        seconds["ours"].append(steps.seconds["ours"])
    distance = steps.run("matrix", lambda: _distances(similarity, form))
    for _ in range(REPETITIONS if form == "sparse" else 1):
        theirs = steps.run("theirs", lambda: np.asarray(SCIKIT_LEARN[name](distance)))
        seconds["theirs"].append(steps.seconds["theirs"])
    if method == "agglomerative":
        theirs = number_clusters(theirs, MIN_SAMPLES)
    return {
        "seconds_ours": median(seconds["ours"]),
        "seconds_theirs": median(seconds["theirs"]),
        "ratio": median(seconds["theirs"]) / median(seconds["ours"]),
        "gib_ours": steps.gib["ours"],
        "gib_theirs": steps.gib["theirs"],
        "clusters_ours": int(labels.max(initial=-1)) + 1,
        "clusters_theirs": int(theirs.max(initial=-1)) + 1,
        "agreement": clustering_quality(labels, as_singletons(theirs))["ari"],
    }


def _distances(similarity: csr_matrix, form: str) -> NDArray[np.float32] | csr_matrix:
    if form == "dense":
        return np.maximum(np.float32(1) - similarity.toarray(), np.float32(0))
    distance = similarity.copy()
    distance.data = np.maximum(np.float32(1) - similarity.data, np.float32(0))
    return distance


def as_markdown(rows: Sequence[dict[str, Any]], settings: dict[str, int]) -> str:
    """Both tables as the documentation shows them."""
    calls = [row for row in rows if "seconds_whole" in row]
    pairs = [row for row in rows if "ratio" in row]
    lines = [f"{settings['number']:,} × {settings['width']}", ""]
    titles = ["Clustering", "search s", "Jaccard s", "clustering s", "GiB", "recall", "eps", "clusters", "people"]
    titles += ["noise", "ARI", "NMI"]
    keys = ["seconds_search", "seconds_jaccard", "seconds_clustering", "peak_gib", "recall"]
    lines.append(
        markdown_table(
            titles,
            [
                [row["name"]]
                + [short(row[key]) for key in keys]
                + [short(row["eps"]) if VARIANTS[row["name"]].clustering in CUTS_AT_EPS else "–"]
                + [short(row["clusters"]), short(row["people"])]
                + [f"{row[key]:.3f}" for key in ("noise", "ari", "nmi")]
                for row in calls
            ],
        )
    )
    if pairs:
        lines += ["", f"{settings['dense_number']:,} × {settings['width']}, the clustering alone", ""]
        titles = [
            "Clustering",
            "scikit-learn's input",
            "ours s",
            "scikit-learn s",
            "ratio",
            "ours GiB",
            "scikit-learn GiB",
            "agreement (ARI)",
        ]
        keys = ["seconds_ours", "seconds_theirs", "ratio", "gib_ours", "gib_theirs"]
        cells = [[*row["name"].split(), *(short(row[key]) for key in keys), f"{row['agreement']:.4f}"] for row in pairs]
        lines.append(markdown_table(titles, cells, words=2))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
