"""The first half of an epoch: from features to pseudo labels in each modality, across both, and the matching."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pclhd.clustering.jaccard import jaccard_similarity
from pclhd.clustering.matching import Matching, match_clusters
from pclhd.clustering.pseudo_labels import dbscan_labels
from pclhd.config import ClusteringSettings
from pclhd.errors import UserError
from pclhd.recipes import Recipe

Features = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class EpochLabels:
    """The pseudo labels of one epoch; −1 is noise.

    Attributes:
        visible: (Nv,) labels of the visible images.
        infrared: (Nr,) labels of the infrared images.
        joint: (Nv + Nr,) labels over both, visible rows first; None where the recipe does without.
        matching: Which infrared cluster each visible one is taken to be, and the reverse.
    """

    visible: Labels
    infrared: Labels
    joint: Labels | None
    matching: Matching

    def joint_shared(self) -> tuple[Labels, Labels] | None:
        """Joint labels of the visible and of the infrared images, only of clusters that hold both.

        The clusters are numbered anew from 0; None if no cluster holds both.
        """
        if self.joint is None:
            return None
        visible, infrared = np.split(self.joint, [len(self.visible)])
        shared = np.intersect1d(visible[visible >= 0], infrared[infrared >= 0])
        if shared.size == 0:
            return None
        number = np.full(int(self.joint.max()) + 2, -1, dtype=np.int64)
        number[shared] = np.arange(shared.size)
        # Noise, −1, indexes the last entry, which no cluster has.
        return number[visible], number[infrared]


def label_epoch(
    visible: Features,
    infrared: Features,
    cameras: tuple[NDArray[np.int64] | None, NDArray[np.int64] | None],
    *,
    settings: ClusteringSettings,
    recipe: Recipe,
    joint: bool,
) -> EpochLabels:
    """Cluster each modality by itself, match the clusters, and, if asked, cluster both modalities together.

    Args:
        visible: Embeddings (Nv, D).
        infrared: Embeddings (Nr, D).
        cameras: Camera numbers of each, or None.
        settings: Sizes and radii.
        recipe: Which variant of each part.
        joint: Whether to cluster both together as well.

    Returns:
        The labels.

    Raises:
        UserError: A modality has no cluster at all.
    """
    visible, infrared = _centre(visible, cameras[0], recipe), _centre(infrared, cameras[1], recipe)
    eps_infrared = settings.eps if settings.eps_infrared is None else settings.eps_infrared
    visible_labels = _cluster(visible, settings.k1, settings.k2, settings.eps, settings, recipe)
    infrared_labels = _cluster(infrared, settings.k1, settings.k2, eps_infrared, settings, recipe)
    for name, labels, eps in (("visible", visible_labels, settings.eps), ("infrared", infrared_labels, eps_infrared)):
        if labels.max(initial=-1) < 0:
            raise UserError(
                f"no {name} cluster: all {len(labels)} images are noise at eps {eps:g}; raise "
                f"clustering.eps{'_infrared' if name == 'infrared' else ''} or lower clustering.min_samples"
            )
    matching = match_clusters(
        cluster_centres(visible, visible_labels), cluster_centres(infrared, infrared_labels), method=recipe.matching
    )
    joint_labels = None
    if joint:
        both = np.concatenate([visible, infrared])
        eps_joint = settings.eps if settings.eps_joint is None else settings.eps_joint
        modality = np.repeat(np.array([0, 1], dtype=np.int64), [len(visible), len(infrared)])
        joint_labels = _cluster(
            both,
            settings.joint_k1,
            settings.joint_k2,
            eps_joint,
            settings,
            recipe,
            modality=modality if recipe.modality_balance else None,
        )
    for frozen in (visible_labels, infrared_labels, joint_labels):
        if frozen is not None:
            frozen.setflags(write=False)
    return EpochLabels(visible_labels, infrared_labels, joint_labels, matching)


def cluster_centres(features: Features, labels: Labels) -> Features:
    """Mean features (C, D) of the clusters, not normalised."""
    kept = labels >= 0
    count = int(labels.max(initial=-1)) + 1
    totals = np.zeros((count, features.shape[1]), dtype=np.float64)
    np.add.at(totals, labels[kept], features[kept])
    sizes = np.bincount(labels[kept], minlength=count)
    return (totals / sizes[:, None]).astype(np.float32)


def _cluster(
    features: Features,
    k1: int,
    k2: int,
    eps: float,
    settings: ClusteringSettings,
    recipe: Recipe,
    *,
    modality: NDArray[np.int64] | None = None,
) -> Labels:
    similarity = jaccard_similarity(
        features, k1, k2, modality=modality, neighbourhood=recipe.neighbourhood, max_distance=eps
    )
    return dbscan_labels(similarity, eps, settings.min_samples)


def _centre(features: Features, cameras: NDArray[np.int64] | None, recipe: Recipe) -> Features:
    if recipe.centre_features == "none":
        return features
    groups = np.zeros(len(features), dtype=np.int64)
    if recipe.centre_features == "camera" and cameras is not None:
        groups = np.unique(cameras, return_inverse=True)[1].astype(np.int64)
    centred = features - cluster_centres(features, groups)[groups]
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    unit: Features = (centred / np.maximum(lengths, 1e-12)).astype(np.float32)
    return unit
