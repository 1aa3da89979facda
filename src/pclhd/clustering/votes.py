"""Matching across the modalities by votes of images, after an idea of ADCA."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pclhd.clustering.candidates import unit_length
from pclhd.clustering.matching import NO_PARTNER, Matching
from pclhd.clustering.pseudo_labels import PseudoLabels, cluster_centres

_NUMBERS_PER_BLOCK = 2**22  # 32 MiB of float64


def match_by_votes(
    visible: NDArray[np.floating],
    visible_labels: NDArray[np.int64],
    infrared: NDArray[np.floating],
    infrared_labels: NDArray[np.int64],
) -> Matching:
    """Every clustered image votes for the other modality's cluster whose centre is nearest to it.

    The votes of both clusters of a pair count, each as a share of its cluster, so that large clusters do not outvote
    small ones. Pairs are made one to one, those with the most votes first; of equal ones, the one with the lower
    visible and then the lower infrared number. A cluster whose candidates are all matched, or that has no votes, has no
    partner. Voting in both directions and counting shares are ours.

    Args:
        visible: (Nv, D) embeddings.
        visible_labels: (Nv,) pseudo labels 0…Cv−1 and −1 for noise, which does not vote; Cv ≥ 1.
        infrared: (Nr, D) embeddings.
        infrared_labels: (Nr,) likewise.

    Returns:
        One-to-one partners; −1 for none.

    Raises:
        ValueError: A modality has no cluster, a clustered image's embedding is not finite, the embeddings differ in
            width, labels and embeddings differ in number, or cluster numbers have gaps.
    """
    parts = (("visible", visible, visible_labels), ("infrared", infrared, infrared_labels))
    for name, features, labels in parts:
        if len(features) != len(labels):
            raise ValueError(f"{len(features)} {name} embeddings but {len(labels)} labels")
        if PseudoLabels(labels).num_clusters == 0:
            raise ValueError(f"there is no {name} cluster to vote for")
    centres = cluster_centres(visible, visible_labels), cluster_centres(infrared, infrared_labels)
    for (name, *_), means in zip(parts, centres, strict=True):
        wrong = np.flatnonzero(~np.isfinite(means).all(axis=1))
        if len(wrong):
            raise ValueError(f"{name} embeddings must be finite, but cluster {wrong[0]} holds NaN or infinity")
    votes = _votes(visible, visible_labels, centres[1], len(centres[0]))
    votes += _votes(infrared, infrared_labels, centres[0], len(centres[1])).T
    # Rounded, so that shares that are equal as fractions compare equal.
    votes = votes.round(12)
    matching = Matching(
        np.full(votes.shape[0], NO_PARTNER, dtype=np.int64), np.full(votes.shape[1], NO_PARTNER, dtype=np.int64)
    )
    rows, columns = np.nonzero(votes)
    for place in np.argsort(-votes[rows, columns], kind="stable"):
        row, column = rows[place], columns[place]
        if matching.visible_to_infrared[row] == NO_PARTNER and matching.infrared_to_visible[column] == NO_PARTNER:
            matching.visible_to_infrared[row], matching.infrared_to_visible[column] = column, row
    return matching


def _votes(
    features: NDArray[np.floating], labels: NDArray[np.int64], centres: NDArray[np.floating], clusters: int
) -> NDArray[np.float64]:
    """(clusters, centres) share of each cluster's images that are nearest to each centre."""
    members, towards = np.flatnonzero(labels >= 0), unit_length(centres).T
    counts = np.zeros((clusters, len(centres)))
    step = max(1, _NUMBERS_PER_BLOCK // len(centres))
    for start in range(0, len(members), step):
        block = members[start : start + step]
        np.add.at(counts, (labels[block], np.argmax(unit_length(features[block]) @ towards, axis=1)), 1.0)
    shares: NDArray[np.float64] = counts / counts.sum(axis=1, keepdims=True)
    return shares
