"""Quality of pseudo labels and matches, measured with identities. For evaluation only, never for training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from pclhd.clustering.matching import NO_PARTNER, Matching
from pclhd.clustering.pseudo_labels import NOISE

NoiseHandling = Literal["singletons", "cluster", "dropped"]


def clustering_quality(
    labels: NDArray[np.integer],
    identities: Sequence[int] | NDArray[np.integer],
    *,
    noise: NoiseHandling = "singletons",
) -> dict[str, float]:
    """Agreement of pseudo labels with identities (ours).

    ARI and NMI need every sample in a cluster, but DBSCAN leaves noise, so `noise` defines how it counts:

    * "singletons", the default: each noise sample is a separate cluster. Leaving samples unclustered is neither
      rewarded nor counted as one large wrong cluster.
    * "cluster": all noise is one cluster, as when −1 goes into a score like any other label.
    * "dropped": noise is left out. This favours a clustering that leaves hard samples unclustered.

    Purity, pairwise precision and recall do not depend on it: noise samples are in no cluster and in no pair.

    Args:
        labels: (N,) pseudo labels, −1 for noise.
        identities: (N,) true identities.
        noise: See above.

    Returns:
        Fractions (ARI may be below zero):
        `ari`, `nmi` (arithmetic mean);
        `purity`: clustered samples whose identity is the most frequent of their cluster;
        `pair_precision`: pairs in one cluster that are of one identity;
        `pair_recall`: pairs of one identity that are in one cluster.
        Where nothing can be counted (no clusters, no pairs, no samples) the value is 0.

    Raises:
        ValueError: Different lengths, or an unknown `noise`.
    """
    if noise not in get_args(NoiseHandling):
        raise ValueError(f"noise must be one of {', '.join(get_args(NoiseHandling))}, got {noise!r}")
    clusters, people = _same_length(labels, identities)
    clustered = clusters != NOISE
    counted = clustered if noise == "dropped" else np.ones_like(clustered)
    partition = clusters.copy()
    if noise == "singletons":
        partition[~clustered] = clusters.max(initial=0) + 1 + np.arange(int((~clustered).sum()))
    cluster_of, _, counts = _contingency(clusters[clustered], people[clustered])
    largest = np.zeros(clusters.max(initial=NOISE) + 1, dtype=np.int64)
    np.maximum.at(largest, cluster_of, counts)
    together = _pairs(counts)
    return {
        "ari": float(adjusted_rand_score(people[counted], partition[counted])) if counted.any() else 0.0,
        "nmi": float(normalized_mutual_info_score(people[counted], partition[counted])) if counted.any() else 0.0,
        "purity": _share(int(largest.sum()), int(clustered.sum())),
        "pair_precision": _share(together, _pairs(np.bincount(clusters[clustered]))),
        "pair_recall": _share(together, _pairs(np.unique(people, return_counts=True)[1])),
    }


def matching_precision(
    matching: Matching,
    visible_labels: NDArray[np.integer],
    visible_identities: Sequence[int] | NDArray[np.integer],
    infrared_labels: NDArray[np.integer],
    infrared_identities: Sequence[int] | NDArray[np.integer],
) -> float:
    """Share of matched cluster pairs in which the most frequent identities agree (ours).

    A pair in both maps counts once. Of equally frequent identities, the smallest counts.

    Args:
        matching: Partners of the clusters in the labels.
        visible_labels: (N,) pseudo labels of visible samples, −1 for noise.
        visible_identities: (N,) their identities.
        infrared_labels: (M,) pseudo labels of infrared samples, −1 for noise.
        infrared_identities: (M,) their identities.

    Returns:
        A fraction; 0 if nothing is matched.

    Raises:
        ValueError: Labels and identities differ in length, or labels and matching in the number of clusters.
    """
    visible = majority_identities(visible_labels, visible_identities)
    infrared = majority_identities(infrared_labels, infrared_identities)
    expected = (len(matching.visible_to_infrared), len(matching.infrared_to_visible))
    if (len(visible), len(infrared)) != expected:
        raise ValueError(f"labels have {len(visible)} and {len(infrared)} clusters, the matching {expected}")
    pairs = {(v, r) for v, r in enumerate(matching.visible_to_infrared.tolist()) if r != NO_PARTNER}
    pairs |= {(v, r) for r, v in enumerate(matching.infrared_to_visible.tolist()) if v != NO_PARTNER}
    return _share(sum(bool(visible[v] == infrared[r]) for v, r in pairs), len(pairs))


def matching_outcomes(
    matching: Matching,
    visible_labels: NDArray[np.integer],
    visible_identities: Sequence[int] | NDArray[np.integer],
    infrared_labels: NDArray[np.integer],
    infrared_identities: Sequence[int] | NDArray[np.integer],
) -> dict[str, float]:
    """What a matching does with the clusters of both modalities, as four shares that sum to 1 (ours).

    A cluster is of its most frequent identity. It may have no partner to find: a person who appears in one modality
    only. Leaving such a cluster without a partner is right.

    Args:
        matching: Partners of the clusters in the labels.
        visible_labels: (N,) pseudo labels of visible samples, −1 for noise.
        visible_identities: (N,) their identities.
        infrared_labels: (M,) pseudo labels of infrared samples, −1 for noise.
        infrared_identities: (M,) their identities.

    Returns:
        `match_right` and `match_wrong`: clusters whose partner is, or is not, of the same identity;
        `unmatched_right` and `unmatched_wrong`: clusters without a partner whose identity has no, or has some, sample
        in the other modality. All are 0 without clusters.

    Raises:
        ValueError: Labels and identities differ in length.
    """
    people = [np.asarray(part, dtype=np.int64) for part in (visible_identities, infrared_identities)]
    clusters = [
        majority_identities(labels, known)
        for labels, known in zip((visible_labels, infrared_labels), people, strict=True)
    ]
    counts = dict.fromkeys(("match_right", "match_wrong", "unmatched_right", "unmatched_wrong"), 0)
    ways = (
        (matching.visible_to_infrared, clusters[0], clusters[1], people[1]),
        (matching.infrared_to_visible, clusters[1], clusters[0], people[0]),
    )
    for partners, own, others, there in ways:
        matched = partners != NO_PARTNER
        right = others[partners[matched]] == own[matched]
        to_find = np.isin(own[~matched], there)
        counts["match_right"] += int(right.sum())
        counts["match_wrong"] += int((~right).sum())
        counts["unmatched_right"] += int((~to_find).sum())
        counts["unmatched_wrong"] += int(to_find.sum())
    whole = sum(counts.values())
    return {name: _share(count, whole) for name, count in counts.items()}


def majority_identities(
    labels: NDArray[np.integer], identities: Sequence[int] | NDArray[np.integer]
) -> NDArray[np.int64]:
    """The most frequent identity of each cluster 0, 1, …, the smallest in a tie: (clusters,)."""
    clusters, people = _same_length(labels, identities)
    clustered = clusters != NOISE
    cluster_of, person_of, counts = _contingency(clusters[clustered], people[clustered])
    majority = np.full(clusters.max(initial=NOISE) + 1, -1, dtype=np.int64)
    # In order of frequency, and from large to small identities: the last one written is kept.
    order = np.lexsort((-person_of, counts))
    majority[cluster_of[order]] = person_of[order]
    return majority


def _same_length(
    labels: NDArray[np.integer], identities: Sequence[int] | NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    clusters = np.asarray(labels, dtype=np.int64)
    people = np.asarray(identities, dtype=np.int64)
    if clusters.ndim != 1 or clusters.shape != people.shape:
        raise ValueError(f"labels and identities must be (N,), got shapes {clusters.shape} and {people.shape}")
    return clusters, people


def _contingency(
    clusters: NDArray[np.int64], people: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Each cluster and identity that occur together, and how often: three arrays of the same length."""
    pairs, counts = np.unique(np.stack([clusters, people]), axis=1, return_counts=True)
    return pairs[0], pairs[1], counts.astype(np.int64)


def _pairs(sizes: NDArray[np.integer]) -> int:
    """Pairs of samples within groups of these sizes."""
    return int((sizes * (sizes - 1)).sum()) // 2


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
