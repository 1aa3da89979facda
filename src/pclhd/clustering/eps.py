"""Choosing the radius of a clustering without labels.

A radius that is too small splits people and leaves the rest as noise; one that is too large runs them together. Both
show in the data: clusters that are split lie near to each other, and clusters that are run together are wide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from pclhd.clustering.confidence import separations
from pclhd.clustering.density import dbscan_labels
from pclhd.clustering.pseudo_labels import NOISE

CANDIDATES = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7)

RadiusClustering = Callable[[csr_matrix, float, int], NDArray[np.int64]]


@dataclass(frozen=True)
class EpsChoice:
    """The chosen radius, and what was seen on the way.

    Attributes:
        eps: The chosen candidate.
        labels: (N,) the clustering at this candidate, −1 for noise.
        clustered: Whether any candidate gave a cluster. If not, `eps` is the largest candidate.
        scores: The criterion at each candidate, from −1 to 1, candidates in rising order; 0 where all is noise.
        clusters: Number of clusters at each candidate.
        noise: Share of samples in no cluster at each candidate; 0 if there are no samples.
    """

    eps: float
    labels: NDArray[np.int64]
    clustered: bool
    scores: dict[float, float]
    clusters: dict[float, int]
    noise: dict[float, float]


def choose_eps(
    similarity: csr_matrix,
    *,
    min_samples: int = 4,
    candidates: Sequence[float] = CANDIDATES,
    cluster: RadiusClustering = dbscan_labels,
) -> EpsChoice:
    """The candidate whose clusters are best separated and leave little noise (ours).

    score = (mean over all samples of b − a) · (share of samples in a cluster)

    with a = mean distance to the sample's own cluster and b = smallest mean distance to another one (see
    `confidence.separations`); noise counts 0 in the mean. It is a silhouette without its denominator. Splitting a
    cluster lowers b, running two together raises a, and noise counts twice: in the mean and in the share. The second
    time is needed, because the few samples that a very small radius holds are always well separated.

    Among candidates with equal scores the smallest is taken; candidates without clusters only if there are no others.

    Made-up data and embeddings of synthetic people served to choose this criterion among silhouettes, stability
    between neighbouring candidates, modularity and products of them. It comes near to the best candidate where a
    person has no more images than a neighbourhood (k1) holds. Where people have many more, or where their numbers of
    images differ by orders of magnitude, most pairs within a right cluster are absent, a is near 1 for it, and the
    radius comes out too small.

    Args:
        similarity: (N, N) symmetric, as `jaccard_similarity` returns it. It must hold all pairs within the largest
            candidate, which cannot be checked here. Pairs beyond it do not matter: they count as distance 1.
        min_samples: Handed on to `cluster`.
        candidates: Radii to compare, above 0 and below 1, in any order.
        cluster: Clusters a similarity with a radius: (similarity, eps, min_samples) → (N,) labels, −1 for noise.

    Raises:
        ValueError: No candidates, one out of range, or a matrix that is not square.
    """
    radii = sorted({float(eps) for eps in candidates})
    if not radii:
        raise ValueError("candidates must hold at least one radius, got none")
    if not all(0 < eps < 1 for eps in radii):
        raise ValueError(f"candidates must be above 0 and below 1, got {radii}")
    if similarity.shape[0] != similarity.shape[1]:
        raise ValueError(f"similarity must be square, got shape {similarity.shape}")
    near = _within(similarity, radii[-1])
    eps, labels, clustered = radii[-1], np.full(similarity.shape[0], NOISE, dtype=np.int64), False
    scores: dict[float, float] = {}
    clusters: dict[float, int] = {}
    noise: dict[float, float] = {}
    for radius in radii:
        found = cluster(near, radius, min_samples)
        share = float(np.mean(found != NOISE)) if len(found) else 0.0
        scores[radius] = float(separations(near, found).mean()) * share if share > 0 else 0.0
        clusters[radius] = int(found.max(initial=NOISE)) + 1
        noise[radius] = 1.0 - share if len(found) else 0.0
        if share > 0 and (not clustered or scores[radius] > scores[eps]):
            eps, labels, clustered = radius, found, True
    return EpsChoice(eps, labels, clustered, scores, clusters, noise)


def _within(similarity: csr_matrix, radius: float) -> csr_matrix:
    """The similarity without pairs that are further apart."""
    kept = np.float32(1) - similarity.data.astype(np.float32) <= np.float32(radius)
    if kept.all():
        return similarity
    before = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(kept)])
    return csr_matrix(
        (similarity.data[kept], similarity.indices[kept], before[similarity.indptr]), shape=similarity.shape
    )
