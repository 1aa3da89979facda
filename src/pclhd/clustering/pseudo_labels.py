"""Pseudo labels: which cluster each sample is in, if any."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

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
        """Number of clusters, noise excluded."""
        return int(self.labels.max(initial=NOISE)) + 1

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Samples per cluster: (num_clusters,)."""
        return np.bincount(self.labels[self.labels != NOISE], minlength=self.num_clusters).astype(np.int64)

    @property
    def noise_share(self) -> float:
        """Fraction of samples in no cluster; 0 if there are no samples."""
        return float(np.mean(self.labels == NOISE)) if len(self.labels) else 0.0


def compact_labels(labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """Renumber clusters 0, 1, … without gaps, in the order of their old labels; −1 stays −1."""
    present, inverse = np.unique(labels, return_inverse=True)
    noise = int(np.sum(present < 0))
    compact: NDArray[np.int64] = np.maximum(inverse.reshape(-1) - noise, NOISE).astype(np.int64)
    return compact


def cluster_centres(features: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.float32]:
    """Mean features (C, D) of the clusters, not normalised; noise is excluded (released code)."""
    clustered = np.flatnonzero(labels != NOISE)
    count = int(labels.max(initial=NOISE)) + 1
    members = csr_matrix((np.ones(len(clustered)), (labels[clustered], clustered)), shape=(count, len(features)))
    sizes = np.bincount(labels[clustered], minlength=count)
    means: NDArray[np.float32] = (members @ features.astype(np.float64) / sizes[:, None]).astype(np.float32)
    return means
