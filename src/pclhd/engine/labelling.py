"""The first half of an epoch: pseudo labels of each modality and of both together, and the matching."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pclhd.clustering.centring import centred
from pclhd.clustering.confidence import label_confidence, silhouettes
from pclhd.clustering.matching import Matching, match_clusters
from pclhd.clustering.multi_memory import match_by_memories
from pclhd.clustering.neighbourhoods import Neighbourhoods
from pclhd.clustering.neighbours import NearestSearch, nearest_neighbours
from pclhd.clustering.options import CUTS_AT_EPS, ClusteringOptions
from pclhd.clustering.pipeline import Clustering, cluster_features
from pclhd.clustering.pseudo_labels import cluster_centres, compact_labels
from pclhd.clustering.search import is_approximate, neighbour_recall
from pclhd.clustering.votes import match_by_votes
from pclhd.config import ClusteringSettings
from pclhd.errors import UserError
from pclhd.pair import ModalityName, Pair
from pclhd.recipes import Recipe

Features = NDArray[np.float32]
Labels = NDArray[np.int64]
Confidence = NDArray[np.float64]
Cameras = NDArray[np.int64]

_RECALL_SAMPLES = 200

#: Step by which eps is raised, where ``clustering.loosen`` allows it.
LOOSEN_STEP = 0.05


@dataclass(frozen=True)
class Grouping:
    """One clustering of an epoch.

    Attributes:
        labels: (N,) pseudo labels; −1 is noise.
        confidence: (N,) agreement of neighbours and prototypes on each label, 0..1; None where the recipe does not use
            it.
        eps: The distance at which the graph was cut; None where the clustering needs none.
        silhouette: Mean silhouette of the clustered images, measured without identities.
        recall: Share of the true neighbours that an approximate search found, on a sample of the images; None if it was
            exact.
        kept: Everything was noise; these are the labels of the epoch before.
        loosened: Everything was noise at the eps asked for; `eps` is a larger one.
        neighbourhoods: What the neighbour table says about itself; not kept in checkpoints, as the next one.
        rows: The images that were clustered; None for all, unless near-copies are thinned.
    """

    labels: Labels
    confidence: Confidence | None = None
    eps: float | None = None
    silhouette: float = 0.0
    recall: float | None = None
    kept: bool = False
    loosened: bool = False
    neighbourhoods: Neighbourhoods | None = None
    rows: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class EpochLabels:
    """The pseudo labels of one epoch; −1 is noise.

    Attributes:
        visible: (Nv,) labels of the visible images.
        infrared: (Nr,) labels of the infrared images.
        joint: (Nv + Nr,) labels over both, visible rows first; None where the recipe does not use them.
        matching: The matched infrared cluster of each visible cluster, and the reverse.
        groupings: Measures of the clusterings, by the names above; absent where there was no clustering.
        drawn: The rows of each modality that the epoch uses, ascending; the others are noise. None for all.
    """

    visible: Labels
    infrared: Labels
    joint: Labels | None
    matching: Matching
    groupings: Mapping[str, Grouping] = field(default_factory=dict)
    drawn: Pair[NDArray[np.int64] | None] = Pair(None, None)  # noqa: RUF009

    @property
    def own(self) -> Pair[Labels]:
        """The labels of each modality's own clusters."""
        return Pair(self.visible, self.infrared)

    def confidence(self) -> Pair[Confidence | None]:
        """Confidence in the visible and in the infrared labels, where the recipe uses it."""
        groupings = Pair(self.groupings.get("visible"), self.groupings.get("infrared"))
        return groupings.map(lambda grouping: None if grouping is None else grouping.confidence)

    def of_drawn(self) -> dict[str, Labels]:
        """The labels of the images that the epoch uses, by name: of each modality, and joint ones where there are."""

        def taken(parts: Pair[Labels]) -> list[Labels]:
            return [part if rows is None else part[rows] for part, rows in zip(parts, self.drawn, strict=True)]

        joint = self.joint_parts()
        visible, infrared = taken(self.own)
        own = {"visible": visible, "infrared": infrared}
        return own if joint is None else {**own, "joint": np.concatenate(taken(joint))}

    def kept(self) -> list[str]:
        """The modalities that keep the labels of the previous epoch because all images were noise."""
        return [name for name, grouping in self.groupings.items() if grouping.kept]

    def warnings(self) -> list[str]:
        """Problems that training recovers from, one line each."""
        warnings = []
        for name, labels in self.own.items():
            grouping = self.groupings.get(name)
            if grouping is not None and grouping.kept:
                warnings.append(f"all {len(labels)} {name} images are noise; the labels of the previous epoch are kept")
            if grouping is not None and grouping.loosened:
                warnings.append(f"all {len(labels)} {name} images were noise; eps is raised to {grouping.eps:g}")
            if labels.max(initial=-1) == 0:
                warnings.append(f"there is one {name} cluster; contrasts with {name} prototypes train nothing")
        return warnings

    def neighbourhood_warnings(self) -> list[str]:
        """What the neighbours of the images say against any clustering of them, a line each."""
        return [
            f"{name}: {warning}"
            for name, grouping in self.groupings.items()
            if grouping.neighbourhoods is not None
            for warning in grouping.neighbourhoods.warnings()
        ]

    def joint_confidence(self) -> Pair[Confidence | None]:
        """Confidence in the joint labels of the visible and of the infrared images, where the recipe uses it."""
        if self.joint is None:
            return Pair(None, None)
        joint = self.groupings.get("joint")
        if joint is None:  # merged from the modalities' clusters, so their confidence applies
            return self.confidence()
        if joint.confidence is None:
            return Pair(None, None)
        return Pair(*np.split(joint.confidence, [len(self.visible)]))

    def joint_parts(self) -> Pair[Labels] | None:
        """Joint labels of the visible and of the infrared images; None without joint clusters."""
        return None if self.joint is None else Pair(*np.split(self.joint, [len(self.visible)]))

    def joint_shared(self) -> Pair[Labels] | None:
        """Joint labels of the visible and of the infrared images; −1 in clusters without images of both.

        The numbers are those of `joint`; None if no cluster has both.
        """
        parts = self.joint_parts()
        if parts is None:
            return None
        shared = np.intersect1d(parts.visible[parts.visible >= 0], parts.infrared[parts.infrared >= 0])
        if shared.size == 0:
            return None
        return parts.map(lambda part: np.where(np.isin(part, shared), part, -1))

    def joint_for_batches(self, *, every: bool) -> Pair[Labels] | None:
        """As `joint_shared`; with `every`, clusters of one modality keep their images."""
        shared = self.joint_shared()
        return self.joint_parts() if every and shared is not None else shared

    def without_joint_clusters_of_one_modality(self) -> EpochLabels:
        """The same labels, but joint clusters without both modalities become noise; the others are renumbered."""
        shared = self.joint_shared()
        if shared is None:
            return self
        joint = compact_labels(np.concatenate(shared))
        joint.setflags(write=False)
        return replace(self, joint=joint)


@dataclass(frozen=True)
class LabelRequest:
    """An epoch's embeddings, and how to label them.

    Attributes:
        features: Embeddings, (Nv, D) and (Nr, D).
        settings: Sizes and radii of the clustering.
        recipe: The method.
        joint: Whether to form joint clusters.
        cameras: Camera numbers, (Nv,) and (Nr,), where they are known.
        previous: The labels of the previous epoch, which a modality keeps if it is all noise. None at the start.
        nearest: Function for an exact neighbour search.
        uncentred: The embeddings, where `features` are no longer what was embedded.
    """

    features: Pair[Features]
    settings: ClusteringSettings
    recipe: Recipe
    joint: bool
    cameras: Pair[Cameras | None] = Pair(None, None)  # noqa: RUF009
    previous: Pair[Labels] | None = None
    nearest: NearestSearch = nearest_neighbours
    uncentred: Pair[Features] | None = None

    def centred(self) -> LabelRequest:
        """The same, with features centred, and whitened, by modality or camera if the recipe requires it."""
        how = self.recipe.centre_features
        if how == "none":
            return self
        cameras = self.cameras if how == "camera" else Pair(None, None)
        without = partial(centred, whitening=self.recipe.whitening)
        return replace(self, features=Pair(*map(without, self.features, cameras)), uncentred=self.features)


class Labeller(Protocol):
    """A function from an epoch's embeddings to labels: `label_epoch`, or one that uses identities."""

    def __call__(self, request: LabelRequest, /) -> EpochLabels:
        """See `label_epoch`."""


def label_epoch(request: LabelRequest) -> EpochLabels:
    """Cluster each modality separately, match the clusters, and, if requested, cluster both modalities together.

    Args:
        request: The embeddings, and how to label them.

    Returns:
        The labels.

    Raises:
        UserError: A modality has no cluster, and had none in the previous epoch.
    """
    request = request.centred()
    own = Pair(cluster_modality(request, "visible"), cluster_modality(request, "infrared"))
    return label_across_modalities(request, own)


def cluster_modality(request: LabelRequest, modality: ModalityName) -> Grouping:
    """Cluster one modality separately.

    If all images are noise, eps is raised as far as ``clustering.loosen`` allows; if that does not help, the labels of
    the previous epoch are kept (ours).

    Args:
        request: With centred features.
        modality: The modality to cluster; infrared may have a different eps.

    Raises:
        UserError: All images are noise, as in the previous epoch.
    """
    settings, recipe = request.settings, request.recipe
    features = request.features.of(modality)
    previous = None if request.previous is None else request.previous.of(modality)
    options = ClusteringOptions.of(settings, recipe)
    if modality == "infrared" and settings.eps_infrared is not None:
        options = options.changed(eps=settings.eps_infrared)
    uncentred = None if request.uncentred is None else request.uncentred.of(modality)
    cluster = partial(cluster_features, features, nearest=request.nearest, uncentred=uncentred)
    clustering = cluster(options)
    loosened = False
    for eps in _looser(clustering, settings):
        if _is_all_noise(clustering.labels):
            clustering = cluster(options.changed(eps=eps))
            loosened = True
    if not _is_all_noise(clustering.labels):
        return replace(_grouping(features, clustering, clustering.labels, recipe), loosened=loosened)
    if previous is not None and not _is_all_noise(previous):
        return replace(_grouping(features, clustering, previous.copy(), recipe), kept=True, eps=None)
    raise _nothing_but_noise(modality, clustering, settings)


def _is_all_noise(labels: Labels) -> bool:
    return bool(labels.max(initial=-1) < 0)


def _looser(clustering: Clustering, settings: ClusteringSettings) -> list[float]:
    """Larger values of eps than that of a clustering, in steps, up to the limit of the settings."""
    eps = clustering.options.eps
    if clustering.options.clustering not in CUTS_AT_EPS or eps == "auto" or settings.loosen <= eps:
        return []
    steps = math.ceil(round((settings.loosen - eps) / LOOSEN_STEP, 6))
    return [min(round(eps + LOOSEN_STEP * (number + 1), 6), settings.loosen) for number in range(steps)]


def used_labels(labels: EpochLabels, recipe: Recipe) -> EpochLabels:
    """The labels for memories and batches."""
    return labels.without_joint_clusters_of_one_modality() if recipe.joint_prototypes == "shared" else labels


def refuse_what_trains_nothing(labels: EpochLabels, settings: ClusteringSettings) -> None:
    """Raise an error where no loss can contrast anything: one cluster in each modality, at most one that has both.

    Args:
        labels: The labels for memories and batches.
        settings: For the message.

    Raises:
        UserError: There is nothing to contrast.
    """
    own = max(labels.visible.max(initial=-1), labels.infrared.max(initial=-1))
    joint = -1 if labels.joint is None or labels.joint_shared() is None else labels.joint.max(initial=-1)
    if max(own, joint) <= 0:
        raise UserError(
            "each modality is a single cluster, so there is nothing to contrast and nothing would be trained; lower "
            f"clustering.eps ({settings.eps}) or clustering.k1 ({settings.k1}), or add images of other people"
        )


def label_across_modalities(request: LabelRequest, own: Pair[Grouping]) -> EpochLabels:
    """Match the clusters of both modalities, and, if requested, form joint clusters.

    Args:
        request: With centred features.
        own: Clusters of each modality, at least one each.
    """
    settings, recipe = request.settings, request.recipe
    labels = own.map(lambda grouping: grouping.labels)
    groupings: dict[str, Grouping] = dict(own.items())
    matching = _match(request.features, labels, recipe)
    joint = None
    if request.joint and recipe.joint_labels == "matching":
        joint = _merge_matched(labels, matching)
    elif request.joint:
        options = ClusteringOptions.of(settings, recipe, k1=settings.joint_k1, k2=settings.joint_k2)
        if settings.eps_joint is not None:
            options = options.changed(eps=settings.eps_joint)
        modality = np.repeat(np.array([0, 1], dtype=np.int64), [len(part) for part in request.features])
        both = np.concatenate(request.features)
        uncentred = None if request.uncentred is None else np.concatenate(request.uncentred)
        clustering = cluster_features(both, options, modality=modality, nearest=request.nearest, uncentred=uncentred)
        groupings["joint"] = _grouping(both, clustering, clustering.labels, recipe, modality=modality)
        joint = groupings["joint"].labels
    return EpochLabels(labels.visible, labels.infrared, joint, matching, groupings)


def _match(features: Pair[Features], labels: Pair[Labels], recipe: Recipe) -> Matching:
    if recipe.matching == "votes":
        return match_by_votes(features.visible, labels.visible, features.infrared, labels.infrared)
    if recipe.matching == "multi_memory":
        return match_by_memories(
            features.visible, labels.visible, features.infrared, labels.infrared, most=recipe.sub_prototypes
        )
    return match_clusters(*map(cluster_centres, features, labels), method=recipe.matching)


def _merge_matched(labels: Pair[Labels], matching: Matching) -> Labels:
    """A visible cluster and the infrared clusters matched to it get one label; the other clusters one label each."""
    partners = matching.infrared_to_visible
    clusters = len(matching.visible_to_infrared)
    renamed = np.where(partners >= 0, partners, clusters + np.arange(len(partners)))
    infrared = np.where(labels.infrared >= 0, renamed[labels.infrared], -1)
    merged = compact_labels(np.concatenate([labels.visible, infrared]))
    merged.setflags(write=False)
    return merged


def _grouping(
    features: Features,
    clustering: Clustering,
    labels: Labels,
    recipe: Recipe,
    *,
    modality: NDArray[np.int64] | None = None,
) -> Grouping:
    """Labels with their measures on the graph of a clustering; the labels may come from elsewhere."""
    labels.setflags(write=False)
    # Near-copies that were left out have no say in the measures.
    measured, own = clustering.clustered(features), clustering.clustered(labels)
    confidence = None
    if recipe.confidence == "weight":
        confidence = clustering.of_all(label_confidence(clustering.similarity, measured, own), 0.0)
    eps = clustering.options.eps
    clustered = own >= 0
    return Grouping(
        labels,
        confidence,
        eps if clustering.options.clustering in CUTS_AT_EPS and eps != "auto" else None,
        float(silhouettes(clustering.similarity, own)[clustered].mean()) if clustered.any() else 0.0,
        _recall(measured, clustering, None if modality is None else clustering.clustered(modality)),
        neighbourhoods=clustering.neighbourhoods,
        rows=None if clustering.thinned is None else clustering.thinned.rows,
    )


def _recall(features: Features, clustering: Clustering, modality: NDArray[np.int64] | None) -> float | None:
    options = clustering.options
    if not is_approximate(options.search, len(features)):
        return None
    # The same sample in each epoch, so that epochs can be compared, from a separate generator.
    generator = np.random.default_rng(0)
    balance = modality if options.balanced_neighbours else None
    return neighbour_recall(
        features, clustering.neighbours, modality=balance, sample=_RECALL_SAMPLES, generator=generator
    )


def _nothing_but_noise(name: str, clustering: Clustering, settings: ClusteringSettings) -> UserError:
    images, eps = len(clustering.labels), clustering.options.eps
    if clustering.options.clustering not in CUTS_AT_EPS or eps == "auto":
        return UserError(f"no {name} cluster: all {images} images are noise; lower clustering.min_samples")
    suffix = "_infrared" if name == "infrared" else ""
    limit = " with clustering.loosen" if eps == settings.loosen else ""
    return UserError(
        f"no {name} cluster: all {images} images are noise at eps {eps:g}; raise clustering.eps{suffix}{limit} or "
        "lower clustering.min_samples"
    )
