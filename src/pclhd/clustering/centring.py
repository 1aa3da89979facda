"""Features without what all images of a modality or camera have in common, before clustering and matching (ours).

Light, colours and height of a camera move all its embeddings in one direction, so images of one person by two cameras
are further apart than they need be, and clusters fall apart by camera. The mean of a camera is about that direction,
if the camera has seen many people.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pclhd.clustering.pseudo_labels import cluster_centres

#: The mean of a camera counts as if it had this many images more, with the mean of the modality: the mean of a camera
#: with few images is mostly the people on them, and without it nothing would be left of them.
PRIOR_IMAGES = 16

Features = NDArray[np.float32]


def centred(features: Features, cameras: NDArray[np.int64] | None) -> Features:
    """Features minus the mean of their camera, at unit length.

    Args:
        features: (N, D) of one modality.
        cameras: (N,) camera numbers; None subtracts the mean of all instead.

    Returns:
        (N, D); rows that equal the mean stay zero.
    """
    if len(features) == 0:
        return features
    centres = cluster_centres(features, np.zeros(len(features), dtype=np.int64))
    if cameras is not None:
        rows = np.unique(cameras, return_inverse=True)[1].astype(np.int64)
        images = np.bincount(rows)[:, None]
        of_cameras = (images * cluster_centres(features, rows) + PRIOR_IMAGES * centres) / (images + PRIOR_IMAGES)
        centres = of_cameras[rows].astype(np.float32)
    moved = features - centres
    lengths = np.linalg.norm(moved, axis=1, keepdims=True)
    unit: Features = (moved / np.maximum(lengths, 1e-12)).astype(np.float32)
    return unit
