"""Features without what belongs to a modality or camera, before clustering and matching (ours).

Light, colours and height of a camera move all its embeddings in one direction, so images of one person by two cameras
are further apart than they need be, and clusters fall apart by camera. The mean of a camera is about that direction,
if the camera has seen many people.

A camera also stretches embeddings: what it sees well varies much, what it hardly sees varies little, and infrared light
shows other things than visible light. Whitening takes this out. Correlation alignment (CORAL, Sun et al. 2016) whitens
one domain and gives it the covariance of another; here each camera is only whitened, wholly or in part.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pclhd.clustering.pseudo_labels import cluster_centres

#: The mean of a camera counts as if it had this many images more, with the mean of the modality: the mean of a camera
#: with few images is mostly the people on them, and without it nothing would be left of them.
PRIOR_IMAGES = 16

Features = NDArray[np.float32]


def centred(features: Features, cameras: NDArray[np.int64] | None, *, whitening: float = 0.0) -> Features:
    """Features minus the mean of their camera, whitened by camera if asked, at unit length.

    Args:
        features: (N, D) of one modality.
        cameras: (N,) camera numbers; None takes all images as of one camera.
        whitening: 0..1. The centred features of a camera are multiplied by their second moment (D, D) to the power
            −whitening / 2: with 1, all directions vary alike, with 0 none changes. The moment of a camera counts as if
            it had D images more with the moment of the modality, and that of the modality as if it had D images more
            that vary alike in all directions. So little changes where there are few images.

    Returns:
        (N, D); rows that equal the mean stay zero.
    """
    if len(features) == 0:
        return features
    rows = np.zeros(len(features), dtype=np.int64)
    centres = cluster_centres(features, rows)
    if cameras is not None:
        rows = np.unique(cameras, return_inverse=True)[1].astype(np.int64)
        images = np.bincount(rows)[:, None]
        of_cameras = (images * cluster_centres(features, rows) + PRIOR_IMAGES * centres) / (images + PRIOR_IMAGES)
        centres = of_cameras[rows].astype(np.float32)
    moved = features - centres
    # Features that are not finite are refused by the clustering, which says so.
    if whitening > 0 and moved.any() and np.isfinite(moved).all():
        moved = _whitened(moved, rows, whitening)
    lengths = np.linalg.norm(moved, axis=1, keepdims=True)
    unit: Features = (moved / np.maximum(lengths, 1e-12)).astype(np.float32)
    return unit


def _whitened(moved: Features, rows: NDArray[np.int64], power: float) -> Features:
    """Whiten centred features (N, D), not all zero, within each of the groups that (N,) `rows` numbers from 0."""
    width = moved.shape[1]
    groups = [np.flatnonzero(rows == group) for group in range(rows.max() + 1)]
    sums = [part.T @ part for part in (moved[group].astype(np.float64) for group in groups)]
    total = np.sum(sums, axis=0)
    alike = np.trace(total) / len(moved) * np.eye(width) / width
    modality = (total + width * alike) / (len(moved) + width)
    whitened = np.empty_like(moved)
    for group, of_camera in zip(groups, sums, strict=True):
        values, directions = np.linalg.eigh((of_camera + width * modality) / (len(group) + width))
        whitened[group] = (moved[group] @ directions) * values ** (-power / 2) @ directions.T
    return whitened
