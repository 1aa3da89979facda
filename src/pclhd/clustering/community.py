"""Clusters as communities of the similarity graph."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from pclhd.clustering.density import number_clusters
from pclhd.clustering.options import DEFAULT_RESOLUTION
from pclhd.errors import UserError

# A pass, or a level, that gains less than this share of all similarity is the last one.
_TOLERANCE = 1e-5


def community_labels(
    similarity: csr_matrix, resolution: float = DEFAULT_RESOLUTION, min_cluster_size: int = 4
) -> NDArray[np.int64]:
    """Communities that maximise Σ (similarity − resolution) over the pairs within them (ours).

    This is the constant Potts model (Traag, Van Dooren and Nesterov, 2011). `resolution` is a similarity: a pair counts
    for a community if it is more similar than that, and against it if it is less; absent pairs have similarity 0. So
    two communities are worth joining just if the mean similarity between them is above `resolution`, and a community
    is worth keeping if the mean within it is. Neither depends on how many other samples there are. Modularity, the
    more common aim, compares with what a random graph of this size would have, and in a large graph it joins small
    communities however little they share.

    The search is the Louvain method of scikit-network: samples move, in their order, to the community that gains most,
    then communities do the same, until little is gained. At the end, communities that are not connected are taken
    apart, and so are those with a mean similarity below `resolution`. Nothing is drawn, so the result is deterministic,
    but another order of the samples may give somewhat other communities.

    Args:
        similarity: (N, N) symmetric, as `jaccard_similarity` returns it. The diagonal counts for nothing.
        resolution: See above; 0 < resolution < 1. If people have fewer images than k1, more than the default is better.
        min_cluster_size: Smaller communities become noise.

    Returns:
        (N,) labels: communities in the order of their first sample, −1 for noise.

    Raises:
        UserError: scikit-network is not installed.
        ValueError: A parameter out of range, or a matrix that is not square.
    """
    if not 0 < resolution < 1:
        raise ValueError(f"resolution must be above 0 and below 1, as it is a similarity, got {resolution}")
    if min_cluster_size < 1:
        raise ValueError(f"min_cluster_size must be at least 1, got {min_cluster_size}")
    number = similarity.shape[0]
    if similarity.shape != (number, number):
        raise ValueError(f"similarity must be square, got shape {similarity.shape}")
    pairs = similarity.tocoo(copy=False)
    once = (pairs.row < pairs.col) & (pairs.data > 0)
    row, column, weight = pairs.row[once], pairs.col[once], pairs.data[once].astype(np.float64)
    communities = _louvain(row, column, weight, number, resolution) if len(weight) else np.arange(number)
    return number_clusters(_worth_keeping(communities, row, column, weight, resolution), min_cluster_size)


def _louvain(
    row: NDArray[np.int32], column: NDArray[np.int32], weight: NDArray[np.float64], number: int, resolution: float
) -> NDArray[np.int64]:
    """Communities, numbered anyhow: (N,). Each pair is given once."""
    try:
        # Its Leiden method draws from the C library's generator, which has no seed of ours.
        from sknetwork.clustering import Louvain
    except ImportError as missing:
        raise UserError(
            "clustering by communities needs scikit-network, which is not installed: pip install scikit-network"
        ) from missing
    # scikit-network adds the transpose, divides by the sum of everything, and gives every sample a share of 1 / N
    # instead of 1. Times N² / sum, its resolution is ours again.
    scaled = resolution * number**2 / (2 * weight.sum())
    method = Louvain(
        resolution=scaled,
        modularity="potts",
        tol_optimization=_TOLERANCE,
        tol_aggregation=_TOLERANCE,
        shuffle_nodes=False,
        sort_clusters=False,
        return_probs=False,
        return_aggregate=False,
        random_state=0,
    )
    # In float64: anything else it would round to whole numbers.
    adjacency = csr_matrix((weight, (row, column)), shape=(number, number))
    communities: NDArray[np.int64] = method.fit_predict(adjacency).astype(np.int64)
    return communities


def _worth_keeping(
    communities: NDArray[np.int64],
    row: NDArray[np.int32],
    column: NDArray[np.int32],
    weight: NDArray[np.float64],
    resolution: float,
) -> NDArray[np.int64]:
    """Take apart what gains by it: communities into connected pieces, pieces below the resolution into samples.

    The search leaves such communities because it moves samples one at a time, and only to where they have neighbours.
    """
    number = len(communities)
    within = communities[row] == communities[column]
    row, column, weight = row[within], column[within], weight[within]
    graph = csr_matrix((weight, (row, column)), shape=(number, number))
    pieces = connected_components(graph, directed=False)[1].astype(np.int64)
    sizes = np.bincount(pieces)
    gain = np.bincount(pieces[row], weights=weight, minlength=len(sizes)) - resolution * sizes * (sizes - 1) / 2
    return np.where(gain[pieces] >= 0, pieces, len(sizes) + np.arange(number))
