"""Cycle consistency: how often nearest neighbours across the modalities lead back to the cluster. No identities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pclhd.clustering.neighbours import NearestSearch, nearest_neighbours
from pclhd.clustering.pseudo_labels import NOISE


def cycle_consistency(
    visible: NDArray[np.float32],
    visible_labels: NDArray[np.int64],
    infrared: NDArray[np.float32],
    infrared_labels: NDArray[np.int64],
    *,
    nearest: NearestSearch = nearest_neighbours,
) -> float:
    """Share of images whose nearest image in the other modality leads back to their own cluster (ours).

    From each image, take the nearest image of the other modality, and from that the nearest image of the first
    modality. The image in between may be noise, but a cycle that begins or ends at noise does not count as consistent.

    Args:
        visible: (Nv, D) embeddings, Nv ≥ 1.
        visible_labels: (Nv,) clusters, −1 for noise.
        infrared: (Nr, D) embeddings, Nr ≥ 1.
        infrared_labels: (Nr,) clusters, −1 for noise.
        nearest: Searches for neighbours.

    Returns:
        0 to 1: the mean of the visible and of the infrared share, so that the larger modality does not outweigh the
        other.

    Raises:
        ValueError: A modality is empty, or labels and embeddings differ in number.
    """
    for name, features, labels in (
        ("visible", visible, visible_labels),
        ("infrared", infrared, infrared_labels),
    ):
        if len(features) == 0 or labels.shape != (len(features),):
            raise ValueError(f"{len(features)} {name} embeddings and labels of shape {labels.shape}, expected one each")
    across = nearest(visible, 1, base=infrared).index[:, 0]
    back = nearest(infrared, 1, base=visible).index[:, 0]
    shares = [
        float(np.mean((labels != NOISE) & (labels[there_and_back] == labels)))
        for labels, there_and_back in ((visible_labels, back[across]), (infrared_labels, across[back]))
    ]
    return sum(shares) / 2
