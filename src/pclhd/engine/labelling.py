"""The first half of an epoch: from features to pseudo labels in each modality, across both, and the matching."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pclhd.clustering.confidence import label_confidence, silhouettes
from pclhd.clustering.matching import Matching, match_clusters
from pclhd.clustering.multi_memory import match_by_memories
from pclhd.clustering.neighbours import NearestSearch, nearest_neighbours
from pclhd.clustering.options import CUTS_AT_EPS, ClusteringOptions
from pclhd.clustering.pipeline import Clustering, cluster_features
from pclhd.clustering.pseudo_labels import cluster_centres, compact_labels
from pclhd.clustering.search import is_approximate, neighbour_recall
from pclhd.clustering.votes import match_by_votes
from pclhd.config import ClusteringSettings
from pclhd.errors import UserError
from pclhd.recipes import Recipe

Features = NDArray[np.float32]
Labels = NDArray[np.int64]
Confidence = NDArray[np.float64]

_RECALL_SAMPLES = 200

#: By how much a radius is raised at a time, where ``clustering.loosen`` allows it.
LOOSEN_STEP = 0.05


@dataclass(frozen=True)
class Grouping:
    """One clustering of an epoch.

    Attributes:
        labels: (N,) pseudo labels; −1 is noise.
        confidence: (N,) how far neighbours and prototypes agree on each label, 0..1; None where nobody asks.
        eps: The distance at which the graph was cut; None where the clustering needs none.
        silhouette: Mean silhouette of the clustered images, measured without identities.
        recall: Share of the true neighbours that an approximate search found, on some of the images; None if it was
            exact.
        kept: Everything was noise; these are the labels of the epoch before.
        loosened: Everything was noise at the eps asked for; `eps` is a larger one.
    """

    labels: Labels
    confidence: Confidence | None = None
    eps: float | None = None
    silhouette: float = 0.0
    recall: float | None = None
    kept: bool = False
    loosened: bool = False


@dataclass(frozen=True)
class EpochLabels:
    """The pseudo labels of one epoch; −1 is noise.

    Attributes:
        visible: (Nv,) labels of the visible images.
        infrared: (Nr,) labels of the infrared images.
        joint: (Nv + Nr,) labels over both, visible rows first; None where the recipe does without.
        matching: Which infrared cluster each visible one is taken to be, and the reverse.
        groupings: More about the clusterings, by the names above; those that nothing was clustered for are absent.
    """

    visible: Labels
    infrared: Labels
    joint: Labels | None
    matching: Matching
    groupings: Mapping[str, Grouping] = field(default_factory=dict)

    def confidence(self) -> tuple[Confidence | None, Confidence | None]:
        """Confidence in the visible and in the infrared labels, where it was asked for."""
        found = [
            self.groupings[name].confidence if name in self.groupings else None for name in ("visible", "infrared")
        ]
        return found[0], found[1]

    def kept(self) -> list[str]:
        """The modalities that have the labels of the epoch before, because everything was noise."""
        return [name for name, grouping in self.groupings.items() if grouping.kept]

    def mishaps(self) -> list[str]:
        """What went wrong that training helps itself out of, a line each."""
        told = []
        for name, labels in (("visible", self.visible), ("infrared", self.infrared)):
            grouping = self.groupings.get(name)
            if grouping is not None and grouping.kept:
                told.append(f"all {len(labels)} {name} images are noise; the labels of the epoch before are kept")
            if grouping is not None and grouping.loosened:
                told.append(f"all {len(labels)} {name} images were noise; eps is raised to {grouping.eps:g}")
            if labels.max(initial=-1) == 0:
                told.append(f"there is one {name} cluster; contrasts with {name} prototypes train nothing")
        return told

    def joint_confidence(self) -> tuple[Confidence | None, Confidence | None]:
        """Confidence in the joint labels of the visible and of the infrared images, where it was asked for."""
        if self.joint is None:
            return None, None
        joint = self.groupings.get("joint")
        if joint is None:  # no clustering of its own: an image is in its joint cluster because it is in its own
            return self.confidence()
        if joint.confidence is None:
            return None, None
        visible, infrared = np.split(joint.confidence, [len(self.visible)])
        return visible, infrared

    def joint_shared(self) -> tuple[Labels, Labels] | None:
        """Joint labels of the visible and of the infrared images; −1 in clusters that do not hold both.

        The numbers are those of `joint`; None if no cluster holds both.
        """
        if self.joint is None:
            return None
        visible, infrared = np.split(self.joint, [len(self.visible)])
        shared = np.intersect1d(visible[visible >= 0], infrared[infrared >= 0])
        if shared.size == 0:
            return None
        return np.where(np.isin(visible, shared), visible, -1), np.where(np.isin(infrared, shared), infrared, -1)

    def without_joint_clusters_of_one_modality(self) -> EpochLabels:
        """The same labels, but joint clusters that do not hold both modalities are noise, the others numbered anew."""
        shared = self.joint_shared()
        if shared is None:
            return self
        joint = compact_labels(np.concatenate(shared))
        joint.setflags(write=False)
        return replace(self, joint=joint)


class Labeller(Protocol):
    """What turns an epoch's embeddings into labels: `label_epoch`, unless a bound hands in identities."""

    def __call__(
        self,
        visible: Features,
        infrared: Features,
        cameras: tuple[NDArray[np.int64] | None, NDArray[np.int64] | None],
        *,
        settings: ClusteringSettings,
        recipe: Recipe,
        joint: bool,
        previous: tuple[Labels, Labels] | None = None,
        nearest: NearestSearch = nearest_neighbours,
    ) -> EpochLabels:
        """See `label_epoch`."""


def label_epoch(
    visible: Features,
    infrared: Features,
    cameras: tuple[NDArray[np.int64] | None, NDArray[np.int64] | None],
    *,
    settings: ClusteringSettings,
    recipe: Recipe,
    joint: bool,
    previous: tuple[Labels, Labels] | None = None,
    nearest: NearestSearch = nearest_neighbours,
) -> EpochLabels:
    """Cluster each modality by itself, match the clusters, and, if asked, cluster both modalities together.

    Args:
        visible: Embeddings (Nv, D).
        infrared: Embeddings (Nr, D).
        cameras: Camera numbers of each, or None.
        settings: Sizes and radii.
        recipe: Which variant of each part.
        joint: Whether to cluster both together as well.
        previous: The labels of the epoch before, visible and infrared; a modality that is all noise keeps them.
        nearest: Makes an exact search for neighbours.

    Returns:
        The labels.

    Raises:
        UserError: A modality has no cluster at all, and had none before.
    """
    visible, infrared = centre_features(visible, infrared, cameras, recipe)
    before = previous or (None, None)
    return across_modalities(
        visible,
        infrared,
        cluster_modality(visible, "visible", settings=settings, recipe=recipe, previous=before[0], nearest=nearest),
        cluster_modality(infrared, "infrared", settings=settings, recipe=recipe, previous=before[1], nearest=nearest),
        settings=settings,
        recipe=recipe,
        joint=joint,
        nearest=nearest,
    )


def cluster_modality(
    features: Features,
    modality: Literal["visible", "infrared"],
    *,
    settings: ClusteringSettings,
    recipe: Recipe,
    previous: Labels | None = None,
    nearest: NearestSearch = nearest_neighbours,
) -> Grouping:
    """Cluster one modality by itself.

    If everything is noise, the radius is raised as far as ``clustering.loosen`` allows; if that does not help, the
    labels of the epoch before stay (ours).

    Args:
        features: Embeddings (N, D).
        modality: Which it is; infrared may have a radius of its own.
        settings: Sizes and radii.
        recipe: Which variant of each part.
        previous: (N,) labels of the epoch before, or None.
        nearest: Makes an exact search for neighbours.

    Raises:
        UserError: Everything is noise, and was before.
    """
    options = ClusteringOptions.of(settings, recipe)
    if modality == "infrared" and settings.eps_infrared is not None:
        options = options.changed(eps=settings.eps_infrared)
    clustering = cluster_features(features, options, nearest=nearest)
    loosened = False
    for eps in _looser(clustering, settings):
        if _is_all_noise(clustering.labels):
            clustering, loosened = cluster_features(features, options.changed(eps=eps), nearest=nearest), True
    if not _is_all_noise(clustering.labels):
        return replace(_grouping(features, clustering, clustering.labels, recipe), loosened=loosened)
    if previous is not None and not _is_all_noise(previous):
        return replace(_grouping(features, clustering, previous.copy(), recipe), kept=True, eps=None)
    raise _nothing_but_noise(modality, clustering, settings)


def _is_all_noise(labels: Labels) -> bool:
    return bool(labels.max(initial=-1) < 0)


def _looser(clustering: Clustering, settings: ClusteringSettings) -> list[float]:
    """Larger radii than that of a clustering, in steps, up to what the settings allow."""
    eps = clustering.options.eps
    if clustering.options.clustering not in CUTS_AT_EPS or eps == "auto" or settings.loosen <= eps:
        return []
    steps = math.ceil(round((settings.loosen - eps) / LOOSEN_STEP, 6))
    return [min(round(eps + LOOSEN_STEP * (number + 1), 6), settings.loosen) for number in range(steps)]


def refuse_what_trains_nothing(labels: EpochLabels, settings: ClusteringSettings) -> None:
    """Stop where no loss has anything to contrast: one cluster in each modality, and at most one that holds both.

    Args:
        labels: Those that memories and batches are made of.
        settings: Named in the message.

    Raises:
        UserError: It is so.
    """
    own = max(labels.visible.max(initial=-1), labels.infrared.max(initial=-1))
    joint = -1 if labels.joint is None or labels.joint_shared() is None else labels.joint.max(initial=-1)
    if max(own, joint) <= 0:
        raise UserError(
            "each modality is a single cluster, so there is nothing to contrast and nothing would be trained; lower "
            f"clustering.eps ({settings.eps}) or clustering.k1 ({settings.k1}), or add images of other people"
        )


def across_modalities(
    visible: Features,
    infrared: Features,
    visible_groups: Grouping,
    infrared_groups: Grouping,
    *,
    settings: ClusteringSettings,
    recipe: Recipe,
    joint: bool,
    nearest: NearestSearch = nearest_neighbours,
) -> EpochLabels:
    """Match the clusters of both modalities, and, if asked, find clusters that hold both.

    Args:
        visible: Embeddings (Nv, D).
        infrared: Embeddings (Nr, D).
        visible_groups: Clusters of the visible images, at least one.
        infrared_groups: Clusters of the infrared images, at least one.
        settings: Sizes and radii.
        recipe: Which variant of each part.
        joint: Whether joint clusters are wanted.
        nearest: Makes an exact search for neighbours.
    """
    groupings = {"visible": visible_groups, "infrared": infrared_groups}
    matching = _match(visible, infrared, visible_groups.labels, infrared_groups.labels, recipe)
    joint_labels = None
    if joint and recipe.joint_labels == "matching":
        joint_labels = _merge_matched(visible_groups.labels, infrared_groups.labels, matching)
    elif joint:
        options = ClusteringOptions.of(settings, recipe, k1=settings.joint_k1, k2=settings.joint_k2)
        if settings.eps_joint is not None:
            options = options.changed(eps=settings.eps_joint)
        modality = np.repeat(np.array([0, 1], dtype=np.int64), [len(visible), len(infrared)])
        both = np.concatenate([visible, infrared])
        clustering = cluster_features(both, options, modality=modality, nearest=nearest)
        groupings["joint"] = _grouping(both, clustering, clustering.labels, recipe, modality=modality)
        joint_labels = groupings["joint"].labels
    return EpochLabels(visible_groups.labels, infrared_groups.labels, joint_labels, matching, groupings)


def _match(
    visible: Features, infrared: Features, visible_labels: Labels, infrared_labels: Labels, recipe: Recipe
) -> Matching:
    if recipe.matching == "votes":
        return match_by_votes(visible, visible_labels, infrared, infrared_labels)
    if recipe.matching == "multi_memory":
        return match_by_memories(visible, visible_labels, infrared, infrared_labels, most=recipe.sub_prototypes)
    return match_clusters(
        cluster_centres(visible, visible_labels), cluster_centres(infrared, infrared_labels), method=recipe.matching
    )


def _merge_matched(visible: Labels, infrared: Labels, matching: Matching) -> Labels:
    """One label for a visible cluster and the infrared clusters whose partner it is; the others keep one each."""
    partners = matching.infrared_to_visible
    clusters = len(matching.visible_to_infrared)
    renamed = np.where(partners >= 0, partners, clusters + np.arange(len(partners)))
    merged = np.concatenate([visible, np.where(infrared >= 0, renamed[infrared], -1)])
    labels = compact_labels(merged)
    labels.setflags(write=False)
    return labels


def _grouping(
    features: Features,
    clustering: Clustering,
    labels: Labels,
    recipe: Recipe,
    *,
    modality: NDArray[np.int64] | None = None,
) -> Grouping:
    """What is told of labels on the graph of a clustering, which need not have made them."""
    labels.setflags(write=False)
    trust = None
    if recipe.confidence == "weight":
        trust = label_confidence(clustering.similarity, features, labels)
    eps = clustering.options.eps
    clustered = labels >= 0
    return Grouping(
        labels,
        trust,
        eps if clustering.options.clustering in CUTS_AT_EPS and eps != "auto" else None,
        float(silhouettes(clustering.similarity, labels)[clustered].mean()) if clustered.any() else 0.0,
        _recall(features, clustering, modality),
    )


def _recall(features: Features, clustering: Clustering, modality: NDArray[np.int64] | None) -> float | None:
    options = clustering.options
    if not is_approximate(options.search, len(features)):
        return None
    # The sample is drawn alike each time, so that epochs can be compared, and no other draw is disturbed.
    generator = np.random.default_rng(0)
    balance = modality if options.balanced_neighbours else None
    return neighbour_recall(
        features, clustering.neighbours, modality=balance, sample=_RECALL_SAMPLES, generator=generator
    )


def _nothing_but_noise(name: str, clustering: Clustering, settings: ClusteringSettings) -> UserError:
    images, eps = len(clustering.labels), clustering.options.eps
    if clustering.options.clustering not in CUTS_AT_EPS or eps == "auto":
        return UserError(f"no {name} cluster: all {images} images are noise; lower clustering.min_samples")
    of_its_own = "_infrared" if name == "infrared" else ""
    limit = " with clustering.loosen" if eps == settings.loosen else ""
    return UserError(
        f"no {name} cluster: all {images} images are noise at eps {eps:g}; raise clustering.eps{of_its_own}{limit} or "
        "lower clustering.min_samples"
    )


def centre_features(
    visible: Features,
    infrared: Features,
    cameras: tuple[NDArray[np.int64] | None, NDArray[np.int64] | None],
    recipe: Recipe,
) -> tuple[Features, Features]:
    """Both modalities' features, less the mean of their modality or camera if the recipe says so."""
    return _centre(visible, cameras[0], recipe), _centre(infrared, cameras[1], recipe)


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
