"""From features to pseudo labels: neighbours, Jaccard similarity, a clustering of the sparse graph, outliers.

The same call serves the training loop, the command line and people who train elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from pclhd.clustering.community import DEFAULT_RESOLUTION, community_labels
from pclhd.clustering.confidence import drop_outliers, label_confidence, rescue_outliers
from pclhd.clustering.density import check_eps, dbscan_labels, hdbscan_labels
from pclhd.clustering.eps import CANDIDATES, choose_eps
from pclhd.clustering.jaccard import Neighbourhood, jaccard_similarity, table_size
from pclhd.clustering.linkage import agglomerative_labels
from pclhd.clustering.neighbours import NearestSearch, Neighbours, as_features, nearest_neighbours
from pclhd.clustering.search import SearchMethod, find_neighbours

ClusteringMethod = Literal["dbscan", "hdbscan", "agglomerative", "community"]
Outliers = Literal["keep", "rescue", "drop", "both"]

_DROPPED_BELOW = 0.2  # confidence; benchmarks/without_labels.py shows what it does

#: Clusterings that cut the graph at a distance.
CUTS_AT_EPS = frozenset({"dbscan", "agglomerative"})


@dataclass(frozen=True)
class ClusteringOptions:
    """How features are clustered.

    Attributes:
        method: ``dbscan`` (released code), ``hdbscan``, ``agglomerative`` (average linkage) or ``community``
            (constant Potts model); all on the Jaccard similarity.
        k1: Size of the neighbourhood that must be mutual.
        k2: Samples in the query expansion.
        eps: Jaccard distance at which ``dbscan`` and ``agglomerative`` cut, above 0 and below 1; ``auto`` lets
            `choose_eps` choose it. The others do without.
        min_samples: ``dbscan``, ``hdbscan``: neighbours that make a core, itself counted. Except for ``dbscan``, also
            the size of the smallest cluster that is kept.
        resolution: ``community`` only: mean similarity above which two communities are joined.
        neighbourhood: Whether k1 counts the sample itself, see `jaccard_similarity`.
        search: ``exact``, ``approximate`` (needs faiss), or ``auto``, by the number of samples.
        balanced_neighbours: With a modality: half of the neighbours come from each modality.
        balanced_expansion: With a modality: query expansion gives both modalities equal weight (released code).
        outliers: ``rescue`` noise that both its neighbours and the prototypes assign to the same cluster, ``drop``
            members that neither supports, do ``both``, or ``keep`` what the clustering says.
        device: Where an exact search multiplies.
    """

    method: ClusteringMethod = "dbscan"
    k1: int = 30
    k2: int = 6
    eps: float | Literal["auto"] = 0.6
    min_samples: int = 4
    resolution: float = DEFAULT_RESOLUTION
    neighbourhood: Neighbourhood = "released"
    search: SearchMethod = "auto"
    balanced_neighbours: bool = False
    balanced_expansion: bool = True
    outliers: Outliers = "keep"
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.method not in get_args(ClusteringMethod):
            raise ValueError(f"method must be one of {', '.join(get_args(ClusteringMethod))}, got {self.method!r}")
        if self.outliers not in get_args(Outliers):
            raise ValueError(f"outliers must be one of {', '.join(get_args(Outliers))}, got {self.outliers!r}")
        if self.eps != "auto":
            check_eps(self.eps)
        if self.min_samples < 1:
            raise ValueError(f"min_samples must be at least 1, got {self.min_samples}")


@dataclass(frozen=True)
class Clustering:
    """What came of it.

    Attributes:
        labels: (N,) int64, clusters 0, 1, …, and −1 for samples in no cluster (noise).
        similarity: (N, N) the Jaccard similarity that was clustered, pairs out of the clustering's reach left out.
        neighbours: The table that it was made from.
        options: As asked, with ``auto`` replaced by the eps that was chosen.
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
        features: (N, D); the field's are of unit length or nearly so.
        options: How; the defaults are those of `ClusteringOptions`.
        modality: (N,) integer codes, for a clustering of both modalities together.
        nearest: Makes an exact search; by default `nearest_neighbours` on the options' device.

    Returns:
        The labels, and what they were made from.

    Raises:
        ValueError: A parameter out of range, or features that are not finite.
        UserError: An optional package that was asked for is not installed.
    """
    chosen = options or ClusteringOptions()
    samples = as_features(features)
    neighbours = _neighbours(samples, chosen, modality, nearest or partial(nearest_neighbours, device=chosen.device))
    similarity = jaccard_similarity(
        samples,
        chosen.k1,
        chosen.k2,
        modality=modality if chosen.balanced_expansion else None,
        neighbours=neighbours,
        max_distance=_reach(chosen),
        neighbourhood=chosen.neighbourhood,
    )
    if chosen.method in CUTS_AT_EPS and chosen.eps == "auto":
        cut = dbscan_labels if chosen.method == "dbscan" else agglomerative_labels
        chosen = replace(chosen, eps=choose_eps(similarity, min_samples=chosen.min_samples, cluster=cut).eps)
    labels = _refined(similarity, samples, graph_labels(similarity, chosen), chosen)
    return Clustering(labels, similarity, neighbours, chosen)


def graph_labels(similarity: csr_matrix, options: ClusteringOptions) -> NDArray[np.int64]:
    """Cluster a sparse similarity: (N,) labels, −1 for noise. The eps must be a number here."""
    smallest = max(2, options.min_samples)
    if options.method == "hdbscan":
        return hdbscan_labels(similarity, options.min_samples, smallest)
    if options.method == "community":
        return community_labels(similarity, options.resolution, smallest)
    if options.eps == "auto":
        raise ValueError("eps is still 'auto'; cluster_features chooses it")
    if options.method == "agglomerative":
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
    if options.method != "dbscan" or options.outliers in ("rescue", "both"):
        return 1.0
    return max(CANDIDATES) if options.eps == "auto" else options.eps


def _refined(
    similarity: csr_matrix, samples: NDArray[np.float32], labels: NDArray[np.int64], options: ClusteringOptions
) -> NDArray[np.int64]:
    if options.outliers in ("drop", "both"):
        trust = label_confidence(similarity, samples, labels, device=options.device)
        labels = drop_outliers(labels, trust, _DROPPED_BELOW, min_cluster_size=max(2, options.min_samples))
    if options.outliers in ("rescue", "both"):
        labels = rescue_outliers(similarity, samples, labels, device=options.device)
    return labels
