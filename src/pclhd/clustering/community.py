"""Clusters as communities of the similarity graph."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from pclhd.clustering.density import number_clusters
from pclhd.clustering.options import DEFAULT_RESOLUTION
from pclhd.errors import UserError

# The search stops after a pass or level that gains less than this share of the total similarity.
_TOLERANCE = 1e-5


def community_labels(
    similarity: csr_matrix, resolution: float = DEFAULT_RESOLUTION, min_cluster_size: int = 4
) -> NDArray[np.int64]:
    """Communities that maximise Σ (similarity − resolution) over the pairs within them (ours).

    This is the constant Potts model (Traag, Van Dooren and Nesterov, 2011). `resolution` is a similarity: a pair with a
    higher similarity raises the sum, a pair with a lower one reduces it; absent pairs have similarity 0. So joining two
    communities raises the sum exactly if the mean similarity between them is above `resolution`, and a community is
    kept if the mean within it is. Neither depends on how many other samples there are. Modularity, the more common
    objective, compares with a random graph of this size; in a large graph it joins small communities even if they share
    very little.

    The search is the Louvain method of scikit-network: samples move, in their order, to the community with the largest
    gain, then communities do the same, until the gain is small. At the end, communities that are not connected are
    split, and so are those with a mean similarity below `resolution`. There are no random draws, so the result is
    deterministic, but a different order of the samples may give slightly different communities.

    Args:
        similarity: (N, N) symmetric, as `jaccard_similarity` returns it. The diagonal is ignored.
        resolution: See above; 0 < resolution < 1. If people have fewer images than k1, a value above the default is
            better.
        min_cluster_size: Smaller communities become noise.

    Returns:
        (N,) labels: communities numbered in the order of their first sample, −1 for noise.

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
    return number_clusters(_split_weak(communities, row, column, weight, resolution), min_cluster_size)


def _louvain(
    row: NDArray[np.int32], column: NDArray[np.int32], weight: NDArray[np.float64], number: int, resolution: float
) -> NDArray[np.int64]:
    """Communities, numbered in any order: (N,). Each pair is given once."""
    try:
        # Its Leiden method draws from the C library's generator, which we cannot seed.
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
    # In float64: it rounds all other types to integers.
    adjacency = csr_matrix((weight, (row, column)), shape=(number, number))
    communities: NDArray[np.int64] = method.fit_predict(adjacency).astype(np.int64)
    return communities


def _split_weak(
    communities: NDArray[np.int64],
    row: NDArray[np.int32],
    column: NDArray[np.int32],
    weight: NDArray[np.float64],
    resolution: float,
) -> NDArray[np.int64]:
    """Split communities where that raises the sum: into connected pieces, and pieces below the resolution into samples.

    The search can leave such communities because it moves one sample at a time, and only to communities of its
    neighbours.
    """
    number = len(communities)
    within = communities[row] == communities[column]
    row, column, weight = row[within], column[within], weight[within]
    graph = csr_matrix((weight, (row, column)), shape=(number, number))
    pieces = connected_components(graph, directed=False)[1].astype(np.int64)
    sizes = np.bincount(pieces)
    gain = np.bincount(pieces[row], weights=weight, minlength=len(sizes)) - resolution * sizes * (sizes - 1) / 2
    return np.where(gain[pieces] >= 0, pieces, len(sizes) + np.arange(number))
