"""From embeddings to pseudo labels: Jaccard distance, then DBSCAN.

`Clusterer` is what the training loop asks for; any other clustering that keeps it can take the place of ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.cluster import DBSCAN
from sklearn.neighbors import sort_graph_by_row_values

from pclhd.clustering.jaccard import Neighbourhood, jaccard_similarity

NOISE = -1


@dataclass(frozen=True)
class PseudoLabels:
    """A clustering of samples.

    Attributes:
        labels: (N,) int64, clusters 0, 1, …, and −1 for samples in no cluster (noise).
    """

    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        present = np.unique(self.labels[self.labels != NOISE])
        if not np.array_equal(present, np.arange(len(present))):
            raise ValueError(f"labels must be −1 or count from 0 without gaps, got {present[:10].tolist()}…")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_clusters(self) -> int:
        """Number of clusters, noise not counted."""
        return int(self.labels.max(initial=NOISE)) + 1

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Samples per cluster: (num_clusters,)."""
        return np.bincount(self.labels[self.labels != NOISE], minlength=self.num_clusters).astype(np.int64)

    @property
    def noise_share(self) -> float:
        """Fraction of samples in no cluster; 0 if there are no samples."""
        return float(np.mean(self.labels == NOISE)) if len(self.labels) else 0.0


class Clusterer(Protocol):
    """Anything that turns features into pseudo labels."""

    def __call__(
        self, features: NDArray[np.floating] | torch.Tensor, *, modality: NDArray[np.integer] | None = None
    ) -> PseudoLabels:
        """Cluster (N, D) features; `modality` holds (N,) integer codes if both modalities are clustered together."""
        ...


@dataclass(frozen=True)
class JaccardDBSCAN:
    """The clustering of the released code, as a `Clusterer`: see `cluster_features` for the attributes."""

    k1: int
    k2: int
    eps: float
    min_samples: int = 4
    neighbourhood: Neighbourhood = "released"
    device: torch.device | str = "cpu"

    def __call__(
        self, features: NDArray[np.floating] | torch.Tensor, *, modality: NDArray[np.integer] | None = None
    ) -> PseudoLabels:
        """Cluster (N, D) features."""
        return cluster_features(
            features,
            k1=self.k1,
            k2=self.k2,
            eps=self.eps,
            min_samples=self.min_samples,
            modality=modality,
            neighbourhood=self.neighbourhood,
            device=self.device,
        )


def cluster_features(
    features: NDArray[np.floating] | torch.Tensor,
    *,
    k1: int,
    k2: int,
    eps: float,
    min_samples: int = 4,
    modality: NDArray[np.integer] | None = None,
    neighbourhood: Neighbourhood = "released",
    device: torch.device | str = "cpu",
) -> PseudoLabels:
    """Cluster features by DBSCAN on their Jaccard distance (released code).

    Args:
        features: (N, D).
        k1: Size of the neighbourhood.
        k2: Samples in the query expansion.
        eps: Largest Jaccard distance of neighbours, 0 < eps < 1.
        min_samples: Neighbours within eps, itself counted, that make a sample a core of its cluster.
        modality: (N,) integer codes, for a clustering of both modalities together.
        neighbourhood: See `jaccard_similarity`.
        device: Where neighbours are searched.

    Raises:
        ValueError: A parameter out of range, or features that are not finite.
    """
    _check_eps(eps)
    similarity = jaccard_similarity(
        features, k1, k2, modality=modality, max_distance=eps, neighbourhood=neighbourhood, device=device
    )
    return PseudoLabels(dbscan_labels(similarity, eps, min_samples))


def dbscan_labels(similarity: csr_matrix, eps: float, min_samples: int = 4) -> NDArray[np.int64]:
    """DBSCAN on the distance 1 − similarity: the same labels as on the dense matrix (ours).

    Args:
        similarity: (N, N) symmetric, as `jaccard_similarity` returns it; absent pairs are at distance 1.
        eps: Largest distance of neighbours, 0 < eps < 1: absent pairs must be out of reach.
        min_samples: Neighbours within eps, itself counted, that make a sample a core of its cluster.

    Returns:
        (N,) labels: clusters in the order of their first core sample, −1 for noise.

    Raises:
        ValueError: eps or min_samples out of range, or a matrix that is not square.
    """
    _check_eps(eps)
    if min_samples < 1:
        raise ValueError(f"min_samples must be at least 1, got {min_samples}")
    number = similarity.shape[0]
    if similarity.shape != (number, number):
        raise ValueError(f"similarity must be square, got shape {similarity.shape}")
    if number == 0:
        return np.empty(0, dtype=np.int64)
    # Explicit zeros stay: they are duplicates, not absent pairs.
    data = np.float32(1) - similarity.data.astype(np.float32)
    distance = csr_matrix((data, similarity.indices, similarity.indptr), shape=similarity.shape, copy=True)
    distance = sort_graph_by_row_values(distance, warn_when_not_sorted=False)
    fitted = DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed").fit(distance)
    labels: NDArray[np.int64] = np.asarray(fitted.labels_, dtype=np.int64)
    return labels


def compact_labels(labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """Number clusters 0, 1, … without gaps, in the order of their old labels; −1 stays −1."""
    present, inverse = np.unique(labels, return_inverse=True)
    noise = int(np.sum(present < 0))
    compact: NDArray[np.int64] = np.maximum(inverse.reshape(-1) - noise, NOISE).astype(np.int64)
    return compact


def _check_eps(eps: float) -> None:
    if not 0 < eps < 1:
        raise ValueError(f"eps must be above 0 and below 1, the distance of pairs with nothing in common, got {eps}")
