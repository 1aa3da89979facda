"""From features to pseudo labels: neighbours, Jaccard similarity, a clustering of the sparse graph, outliers.

The training loop, the command line and users with their own training code call the same function.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

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
        similarity: (N, N) the Jaccard similarity that was clustered; pairs beyond the clustering's reach are not
            stored.
        neighbours: The table from which the similarity was computed.
        options: The options used, with ``auto`` replaced by the options eps.
    """

    labels: NDArray[np.int64]
    similarity: csr_matrix
    neighbours: Neighbours
    options: ClusteringOptions


def cluster_features(
    features: NDArray[np.floating] | torch.Tensor,
    options: ClusteringOptions | None = None,
    *,
    modality: NDArray[np.integer] | None = None,
    nearest: NearestSearch | None = None,
) -> Clustering:
    """Cluster features by their Jaccard similarity.

    Args:
        features: (N, D), usually of unit length or nearly so.
        options: By default those of `ClusteringOptions`.
        modality: (N,) integer codes, for a clustering of both modalities together.
        nearest: Function for an exact search; by default `nearest_neighbours` on the options' device.

    Returns:
        The labels, the similarity and the neighbours.

    Raises:
        ValueError: A parameter out of range, or features that are not finite.
        UserError: An optional package that the options need is not installed.
    """
    options = options or ClusteringOptions()
    samples = as_features(features)
    neighbours = _neighbours(samples, options, modality, nearest or partial(nearest_neighbours, device=options.device))
    similarity = jaccard_similarity(
        samples,
        options.k1,
        options.k2,
        modality=modality if options.modality_balance else None,
        neighbours=neighbours,
        max_distance=_reach(options),
        neighbourhood=options.neighbourhood,
    )
    if options.clustering in CUTS_AT_EPS and options.eps == "auto":
        cut = dbscan_labels if options.clustering == "dbscan" else agglomerative_labels
        options = options.changed(eps=choose_eps(similarity, min_samples=options.min_samples, cluster=cut).eps)
    labels = _refined(similarity, samples, graph_labels(similarity, options), options)
    return Clustering(labels, similarity, neighbours, options)


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
    balance = modality if options.balanced_neighbours else None
    size = table_size(options.k1, options.k2, options.neighbourhood)
    return find_neighbours(samples, size, method=options.search, modality=balance, nearest=nearest)


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
