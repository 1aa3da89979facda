"""How good the choices made without labels are: the automatic eps, the confidence, rescuing and dropping.

    python benchmarks/without_labels.py [--quick] [--json FILE] [--sets 16]

Sets of made-up people: each has its own number of images per person, its own spreads and its own unevenness.

First table: the ARI that DBSCAN reaches with `eps="auto"`, with fixed radii, and with the best and the worst candidate
of each set, which only identities reveal; noise counts as clusters of one. Means over the sets, and the largest loss
against the best candidate. Second table: how well a confidence separates right members of a cluster from wrong ones, as
the area under the ROC curve (0.5 is chance), at eps 0.5 and 0.6. A member is right if it shows its cluster's most
frequent person. Third table: pairs and ARI with outliers kept, rescued, dropped and both.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.made_up import Crowd, made_up_features
from benchmarks.measuring import machine
from benchmarks.showing import markdown_table, short, write_json

from pclhd.clustering.confidence import global_confidence, label_confidence, local_confidence, silhouettes
from pclhd.clustering.density import dbscan_labels
from pclhd.clustering.eps import CANDIDATES, choose_eps
from pclhd.clustering.jaccard import jaccard_similarity
from pclhd.clustering.options import ClusteringOptions, Outliers
from pclhd.clustering.pipeline import cluster_features
from pclhd.clustering.quality import clustering_quality, majority_identities

K1, K2 = 30, 6
FIXED = (0.4, 0.5, 0.6, 0.7)
LOOKED_AT = (0.5, 0.6)
OUTLIERS: tuple[Outliers, ...] = get_args(Outliers)
QUALITY = {"ari": "ARI", "pair_precision": "pair precision", "pair_recall": "pair recall"}


def main() -> None:
    """Measure all sets, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two small sets, to show that it runs")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--sets", type=int, help="number of made-up sets; 16 by default")
    arguments = parser.parse_args()
    number = arguments.sets or (2 if arguments.quick else 16)
    rows = [measure(seed, 600 if arguments.quick else 3000) for seed in range(number)]
    print(as_markdown(rows))
    if arguments.json:
        write_json(arguments.json, {"benchmark": "without_labels", "machine": machine(), "rows": rows})


def random_crowd(generator: np.random.Generator, number: int) -> Crowd:
    """Settings of a set: from 8 to 60 images a person, spreads from easy to hard."""
    each = float(np.exp(generator.uniform(np.log(8), np.log(60))))
    return Crowd(
        number,
        width=256,
        people=max(2, round(number / each)),
        camera_spread=float(generator.uniform(0.2, 0.8)),
        image_spread=float(generator.uniform(0.3, 0.8)),
        uneven=float(generator.uniform(0.0, 0.8)),
        outliers=float(generator.uniform(0.0, 0.05)),
        full_spread=0.2,
    )


def measure(seed: int, number: int) -> dict[str, Any]:
    """All figures of one set."""
    generator = np.random.default_rng([2024, seed])
    crowd = random_crowd(generator, number)
    features, person, _ = made_up_features(crowd, generator)
    similarity = jaccard_similarity(features, K1, K2)
    ari = {
        eps: clustering_quality(dbscan_labels(similarity, eps), person)["ari"] for eps in sorted({*CANDIDATES, *FIXED})
    }
    row: dict[str, Any] = {
        "images_per_person": crowd.number / crowd.people,
        "chosen_eps": choose_eps(similarity).eps,
        "ari": {f"{eps:g}": value for eps, value in ari.items()},
        "auc": {},
        "outliers": {},
    }
    for eps in LOOKED_AT:
        labels = dbscan_labels(similarity, eps)
        confidences = {
            "local_confidence": local_confidence(similarity, labels),
            "global_confidence": global_confidence(features, labels),
            "silhouettes": silhouettes(similarity, labels),
            "label_confidence": label_confidence(similarity, features, labels),
        }
        row["auc"][f"{eps:g}"] = {name: _auc(values, labels, person) for name, values in confidences.items()}
        row["outliers"][f"{eps:g}"] = {
            outliers: clustering_quality(
                cluster_features(features, ClusteringOptions(k1=K1, k2=K2, eps=eps, outliers=outliers)).labels, person
            )
            for outliers in OUTLIERS
        }
    return row


def _auc(values: NDArray[np.float64], labels: NDArray[np.int64], person: NDArray[np.int64]) -> float | None:
    held = labels >= 0
    right = majority_identities(labels, person)[labels[held]] == person[held]
    return float(roc_auc_score(right, values[held])) if 0 < right.sum() < len(right) else None


def as_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The three tables."""
    best = [max(row["ari"][f"{eps:g}"] for eps in CANDIDATES) for row in rows]
    reached = {
        "auto": [row["ari"][f"{row['chosen_eps']:g}"] for row in rows],
        **{f"{eps:g}": [row["ari"][f"{eps:g}"] for row in rows] for eps in FIXED},
        "best of each set": best,
        "worst of each set": [min(row["ari"][f"{eps:g}"] for eps in CANDIDATES) for row in rows],
    }
    first = markdown_table(
        ["eps", "mean ARI", "largest loss"],
        [[name, short(_mean(values)), short(max(np.subtract(best, values)))] for name, values in reached.items()],
    )
    names = list(rows[0]["auc"][f"{LOOKED_AT[0]:g}"])
    second = markdown_table(
        ["Confidence", *(f"AUC at eps {eps:g}" for eps in LOOKED_AT)],
        [
            [f"`{name}`", *(short(_mean([row["auc"][f"{eps:g}"][name] for row in rows])) for eps in LOOKED_AT)]
            for name in names
        ],
    )
    third = markdown_table(
        ["Outliers", *(f"{title} at eps {eps:g}" for eps in LOOKED_AT for title in QUALITY.values())],
        [
            [
                f"`{outliers}`",
                *(
                    short(_mean([row["outliers"][f"{eps:g}"][outliers][key] for row in rows]))
                    for eps in LOOKED_AT
                    for key in QUALITY
                ),
            ]
            for outliers in OUTLIERS
        ],
    )
    return f"{first}\n\n{second}\n\n{third}\n\nMeans over {len(rows)} sets."


def _mean(values: Sequence[float | None]) -> float:
    return float(np.mean([value for value in values if value is not None]))


if __name__ == "__main__":
    main()
