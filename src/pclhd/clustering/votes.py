"""Partners across the modalities by the votes of images, after ADCA's idea."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pclhd.clustering.candidates import unit_length
from pclhd.clustering.matching import NO_PARTNER, Matching
from pclhd.clustering.pseudo_labels import cluster_centres


def match_by_votes(
    visible: NDArray[np.floating],
    visible_labels: NDArray[np.int64],
    infrared: NDArray[np.floating],
    infrared_labels: NDArray[np.int64],
) -> Matching:
    """Every clustered image votes for the other modality's cluster whose centre is nearest to it.

    A pair of clusters has the votes of both sides, each side's as a share of its cluster, so that large clusters do not
    outvote small ones. Pairs are made one to one, those with the most votes first; of equal ones, that with the lower
    visible and then the lower infrared number. A cluster whose candidates are all taken, or for which nobody voted, has
    no partner. That the images of both sides vote, and that shares are counted, is (ours).

    Args:
        visible: (Nv, D) embeddings.
        visible_labels: (Nv,) pseudo labels 0…Cv−1 and −1 for noise, which does not vote; Cv ≥ 1.
        infrared: (Nr, D) embeddings.
        infrared_labels: (Nr,) likewise.

    Returns:
        One-to-one partners; −1 for none.

    Raises:
        ValueError: A modality has no cluster.
    """
    centres = cluster_centres(visible, visible_labels), cluster_centres(infrared, infrared_labels)
    for name, found in zip(("visible", "infrared"), centres, strict=True):
        if len(found) == 0:
            raise ValueError(f"there is no {name} cluster to vote for")
    votes = _votes(visible, visible_labels, centres[1], len(centres[0]))
    votes += _votes(infrared, infrared_labels, centres[0], len(centres[1])).T
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
    member = labels >= 0
    choice = np.argmax(unit_length(features[member]) @ unit_length(centres).T, axis=1)
    counts = np.zeros((clusters, len(centres)))
    np.add.at(counts, (labels[member], choice), 1.0)
    shares: NDArray[np.float64] = counts / counts.sum(axis=1, keepdims=True)
    return shares
