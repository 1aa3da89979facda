"""Choosing eps, the radius of a clustering, without identities.

A radius that is too small splits people into several clusters and leaves the rest as noise; one that is too large
merges people. Both are visible without identities: the parts of a split person lie near each other, and merged clusters
are wide.
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
    """The chosen radius, and the measurements at each candidate.

    Attributes:
        eps: The chosen candidate.
        labels: (N,) the clustering at this candidate, −1 for noise.
        clustered: Whether any candidate gave a cluster. If none did, `eps` is the largest candidate.
        scores: The criterion at each candidate, from −1 to 1, candidates in ascending order; 0 where all samples are
            noise.
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
    `confidence.separations`); noise counts as 0 in the mean. The first factor is a silhouette without its denominator.
    Splitting a cluster lowers b, merging two raises a, and noise lowers both factors. The second factor is needed
    because the few samples that a very small radius clusters are always well separated.

    Of candidates with equal scores, the smallest is chosen; candidates without clusters are chosen only if there are no
    others.

    This criterion was chosen on synthetic features and embeddings of synthetic people, among silhouettes, stability
    between neighbouring candidates, modularity and products of them. It comes close to the best candidate where a
    person has no more images than a neighbourhood (k1). Where people have many more, or where their numbers of images
    differ by orders of magnitude, most pairs within a correct cluster are absent, its a is near 1, and the chosen
    radius is too small.

    Args:
        similarity: (N, N) symmetric, as `jaccard_similarity` returns it. It must contain all pairs within the largest
            candidate, which cannot be checked here. Pairs beyond it do not matter: they count as distance 1.
        min_samples: Passed to `cluster`.
        candidates: Radii to compare, above 0 and below 1, in any order.
        cluster: Clusters a similarity with a radius: (similarity, eps, min_samples) → (N,) labels, −1 for noise.

    Raises:
        ValueError: No candidates, one out of range, or a matrix that is not square.
    """
    radii = sorted({float(eps) for eps in candidates})
    if not radii:
        raise ValueError("candidates must contain at least one radius, got none")
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
        candidate_labels = cluster(near, radius, min_samples)
        share = float(np.mean(candidate_labels != NOISE)) if len(candidate_labels) else 0.0
        scores[radius] = float(separations(near, candidate_labels).mean()) * share if share > 0 else 0.0
        clusters[radius] = int(candidate_labels.max(initial=NOISE)) + 1
        noise[radius] = 1.0 - share if len(candidate_labels) else 0.0
        if share > 0 and (not clustered or scores[radius] > scores[eps]):
            eps, labels, clustered = radius, candidate_labels, True
    return EpsChoice(eps, labels, clustered, scores, clusters, noise)


def _within(similarity: csr_matrix, radius: float) -> csr_matrix:
    """The similarity without pairs further apart than the radius."""
    near = np.float32(1) - similarity.data.astype(np.float32) <= np.float32(radius)
    if near.all():
        return similarity
    before = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(near)])
    return csr_matrix(
        (similarity.data[near], similarity.indices[near], before[similarity.indptr]), shape=similarity.shape
    )
