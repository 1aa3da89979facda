"""From features to pseudo labels: neighbours, Jaccard similarity, a clustering of the sparse graph, outliers.

The training loop, the command line and users with their own training code call the same function.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from pclhd.clustering.community import community_labels
from pclhd.clustering.confidence import drop_outliers, label_confidence, rescue_outliers
from pclhd.clustering.density import dbscan_labels, hdbscan_labels
from pclhd.clustering.eps import CANDIDATES, choose_eps
from pclhd.clustering.jaccard import jaccard_similarity, table_size
from pclhd.clustering.linkage import agglomerative_labels
from pclhd.clustering.neighbourhoods import Neighbourhoods, Thinned, read_neighbourhoods, thin
from pclhd.clustering.neighbours import NearestSearch, Neighbours, as_features, nearest_neighbours
from pclhd.clustering.options import CUTS_AT_EPS, ClusteringOptions
from pclhd.clustering.search import find_neighbours

__all__ = ["Clustering", "ClusteringOptions", "cluster_features", "graph_labels"]

_DROPPED_BELOW = 0.2  # confidence; benchmarks/without_labels.py measures its effect


@dataclass(frozen=True)
class Clustering:
    """The result of `cluster_features`.

    Attributes:
        labels: (N,) int64, clusters 0, 1, …, and −1 for samples in no cluster (noise).
        similarity: (M, M) the Jaccard similarity that was clustered, pairs out of the clustering's reach left out. M is
            N, or the number of samples that were left after thinning.
        neighbours: The table that it was made from, of the same samples.
        options: As used: ``auto`` is replaced by what was chosen.
        neighbourhoods: What the table says about itself.
        thinned: Which samples were clustered; None for all.
    """

    labels: NDArray[np.int64]
    similarity: csr_matrix
    neighbours: Neighbours
    options: ClusteringOptions
    neighbourhoods: Neighbourhoods
    thinned: Thinned | None = None

    def clustered(self, values: NDArray[Any]) -> NDArray[Any]:
        """The rows of (N, …) values that belong to the M clustered samples.

        Measures of the clusters are taken on these: near-copies, which agree with each other whatever the clusters
        are, would praise any.
        """
        return values if self.thinned is None else values[self.thinned.rows]

    def of_all(self, values: NDArray[Any], absent: float) -> NDArray[Any]:
        """(N,) values from those of the M clustered samples; `absent` for samples without a representative."""
        if self.thinned is None:
            return values
        speaker = self.thinned.speaker
        return np.where(speaker >= 0, values[speaker] if len(values) else absent, absent)


def cluster_features(
    features: NDArray[np.floating] | torch.Tensor,
    options: ClusteringOptions | None = None,
    *,
    modality: NDArray[np.integer] | None = None,
    nearest: NearestSearch | None = None,
    uncentred: NDArray[np.floating] | None = None,
) -> Clustering:
    """Cluster features by their Jaccard similarity.

    Rows without direction (`pclhd.clustering.neighbourhoods.has_direction`) are noise, and neighbours of none.

    Args:
        features: (N, D), usually of unit length or nearly so.
        options: By default those of `ClusteringOptions`.
        modality: (N,) integer codes, for a clustering of both modalities together.
        nearest: Function for an exact search; by default `nearest_neighbours` on the options' device.
        uncentred: (N, D) the features before a mean was subtracted, in which near-copies are seen: their similarity is
            lower without what all images have in common. None: the features.

    Returns:
        The labels, the similarity and the neighbours.

    Raises:
        ValueError: A parameter out of range, or features that are not finite.
        UserError: An optional package that the options need is not installed.
    """
    chosen, joint = options or ClusteringOptions(), modality is not None
    samples = as_features(features)
    search = nearest or partial(nearest_neighbours, device=chosen.device)
    original = None if uncentred is None else as_features(uncentred)
    thinned = thin(samples, modality, near_copies=chosen.near_copies == "thin", uncentred=original)
    if thinned is None:
        return _cluster(samples, chosen.resolved(len(samples), joint=joint), modality, search, original)
    left = samples[thinned.rows]
    if chosen.near_copies == "thin":
        chosen = chosen.at_most_automatic(len(left), joint=joint)
    chosen = chosen.resolved(len(left), joint=joint)
    found = _cluster(
        left,
        chosen,
        None if modality is None else modality[thinned.rows],
        search,
        None if original is None else original[thinned.rows],
    )
    without = int((thinned.speaker < 0).sum())
    seen = replace(found.neighbourhoods, without_direction=without, thinned=len(samples) - without - len(thinned.rows))
    return replace(found, labels=thinned.labels(found.labels), neighbourhoods=seen, thinned=thinned)


def _cluster(
    samples: NDArray[np.float32],
    chosen: ClusteringOptions,
    modality: NDArray[np.integer] | None,
    nearest: NearestSearch,
    uncentred: NDArray[np.float32] | None,
) -> Clustering:
    """Cluster all samples; k1 and k2 are numbers here."""
    k1, k2 = chosen.numbers()
    neighbours = _neighbours(samples, chosen, modality, nearest)
    similarity = jaccard_similarity(
        samples,
        k1,
        k2,
        modality=modality if chosen.modality_balance else None,
        neighbours=neighbours,
        max_distance=_reach(chosen),
        neighbourhood=chosen.neighbourhood,
        half_by_similarity=_is_balanced(chosen, modality) and chosen.balanced_order == "similarity",
    )
    if chosen.clustering in CUTS_AT_EPS and chosen.eps == "auto":
        cut = dbscan_labels if chosen.clustering == "dbscan" else agglomerative_labels
        chosen = chosen.changed(eps=choose_eps(similarity, min_samples=chosen.min_samples, cluster=cut).eps)
    labels = _refined(similarity, samples, graph_labels(similarity, chosen), chosen)
    read = read_neighbourhoods(samples, neighbours, k1, uncentred=uncentred)
    return Clustering(labels, similarity, neighbours, chosen, read)


def graph_labels(similarity: csr_matrix, options: ClusteringOptions) -> NDArray[np.int64]:
    """Cluster a sparse similarity: (N,) labels, −1 for noise. eps must be a number here."""
    smallest = max(2, options.min_samples)
    if options.clustering == "hdbscan":
        return hdbscan_labels(similarity, options.min_samples, smallest)
    if options.clustering == "community":
        return community_labels(similarity, options.resolution, smallest)
    if options.eps == "auto":
        raise ValueError("eps is still 'auto'; cluster_features chooses it")
    if options.clustering == "agglomerative":
        return agglomerative_labels(similarity, options.eps, smallest)
    return dbscan_labels(similarity, options.eps, options.min_samples)


def _neighbours(
    samples: NDArray[np.float32],
    options: ClusteringOptions,
    modality: NDArray[np.integer] | None,
    nearest: NearestSearch,
) -> Neighbours:
    balance = modality if _is_balanced(options, modality) else None
    size = table_size(*options.numbers(), options.neighbourhood)
    return find_neighbours(samples, size, method=options.search, modality=balance, nearest=nearest)


def _is_balanced(options: ClusteringOptions, modality: NDArray[np.integer] | None) -> bool:
    return options.balanced_neighbours and modality is not None


def _reach(options: ClusteringOptions) -> float:
    """The distance beyond which no pair matters."""
    if options.clustering != "dbscan" or options.outliers in ("rescue", "both"):
        return 1.0
    return max(CANDIDATES) if options.eps == "auto" else options.eps


def _refined(
    similarity: csr_matrix, samples: NDArray[np.float32], labels: NDArray[np.int64], options: ClusteringOptions
) -> NDArray[np.int64]:
    if options.outliers in ("drop", "both"):
        confidence = label_confidence(similarity, samples, labels, device=options.device)
        labels = drop_outliers(labels, confidence, _DROPPED_BELOW, min_cluster_size=max(2, options.min_samples))
    if options.outliers in ("rescue", "both"):
        labels = rescue_outliers(similarity, samples, labels, device=options.device)
    return labels
