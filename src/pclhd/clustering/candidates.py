"""Candidate pairs of clusters across the modalities, for sets with too many pairs to compare all.

20,000 visible and 25,000 infrared clusters have 500 million pairs, and nearly all of them are far apart. The nearest
few clusters of each cluster, in both directions, include every pair that a matching would choose freely, and the best
of those that it would choose only because nothing better is left.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix, hstack
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from pclhd.clustering.neighbours import nearest_neighbours

_NUMBERS_PER_BLOCK = 2**22  # 32 MiB of float64


def unit_length(rows: NDArray[np.floating], shortest: float = 0.0) -> NDArray[np.float64]:
    """Rows (N, D) scaled to length one; rows no longer than `shortest` become zero, so that their cosines are zero."""
    wide = rows.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return wide / np.where(lengths <= shortest, np.inf, lengths)  # NaN stays NaN


def nearest_across(
    visible: NDArray[np.float64], infrared: NDArray[np.float64], number: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The clusters of the other modality with the highest cosines, for both modalities (ours).

    The full matrix of cosines is never in memory: the search is exact, in blocks, with ties ordered by index.

    Args:
        visible: (Nv, D), of length one or zero.
        infrared: (Nr, D), of length one or zero.
        number: How many to return for each cluster; all, if there are fewer.

    Returns:
        (Nv, number) infrared clusters of each visible one, nearest first, and (Nr, number) the reverse.
    """
    # Among rows of length one, the nearest by distance is the nearest by cosine. A row of length zero gets an extra
    # axis, which makes its length one and leaves its cosines zero.
    lonely = [np.flatnonzero(~centres.any(axis=1)) for centres in (visible, infrared)]
    if any(len(rows) for rows in lonely):
        visible, infrared = (np.pad(centres, ((0, 0), (0, 2))) for centres in (visible, infrared))
        visible[lonely[0], -2] = 1.0
        infrared[lonely[1], -1] = 1.0
    forward = nearest_neighbours(visible, number, base=infrared).index
    backward = nearest_neighbours(infrared, number, base=visible).index
    return forward.astype(np.int64), backward.astype(np.int64)


def candidate_pairs(
    visible: NDArray[np.float64], infrared: NDArray[np.float64], number: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of the pairs in which one is among the `number` nearest of the other, by row, then column.

    Args:
        visible: (Nv, D), of length one or zero.
        infrared: (Nr, D), of length one or zero.
        number: Nearest clusters of each cluster.
    """
    if len(visible) == 0 or len(infrared) == 0:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    forward, backward = nearest_across(visible, infrared, number)
    of_visible = np.arange(len(visible))[:, None] * len(infrared) + forward
    of_infrared = np.arange(len(infrared))[:, None] + len(infrared) * backward
    rows, columns = np.divmod(np.union1d(of_visible, of_infrared), len(infrared))
    return rows, columns


def pair_cosines(
    visible: NDArray[np.float64], infrared: NDArray[np.float64], rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Cosines (P,) of the pairs (rows[p], columns[p]) of centres of length one or zero."""
    cosines = np.empty(len(rows), dtype=np.float64)
    step = max(1, _NUMBERS_PER_BLOCK // max(1, visible.shape[1]))
    for start in range(0, len(rows), step):
        block = slice(start, start + step)
        cosines[block] = np.einsum("pd,pd->p", visible[rows[block]], infrared[columns[block]])
    return cosines


def candidate_costs(
    visible: NDArray[np.float64], infrared: NDArray[np.float64], number: int, max_cost: float | None = None
) -> csr_matrix:
    """exp(−cosine) of the candidate pairs, as a sparse (Nv, Nr) matrix; absent pairs are not candidates.

    A cost is never zero, so a sparse matrix does not drop any pair.

    Args:
        visible: (Nv, D), of length one or zero.
        infrared: (Nr, D), of length one or zero.
        number: Nearest clusters of each cluster.
        max_cost: Pairs of a higher cost are not candidates; None keeps all.
    """
    rows, columns = candidate_pairs(visible, infrared, number)
    costs = np.exp(-pair_cosines(visible, infrared, rows, columns))
    if max_cost is not None:
        allowed = costs <= max_cost
        rows, columns, costs = rows[allowed], columns[allowed], costs[allowed]
    return coo_matrix((costs, (rows, columns)), shape=(len(visible), len(infrared))).tocsr()


def assign_candidates(costs: csr_matrix) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """One-to-one pairs among the candidates: as many as possible, at the least total cost (ours).

    Args:
        costs: (R, C), positive where a pair is a candidate.

    Returns:
        Rows, ascending, and columns of the pairs.
    """
    if costs.shape[0] > costs.shape[1]:
        # The solver is slow for rows that must stay unmatched: let the shorter side be the rows.
        assigned_columns, assigned_rows = assign_candidates(costs.T.tocsr())
        order = np.argsort(assigned_rows)
        return assigned_rows[order], assigned_columns[order]
    number, real = costs.shape
    if costs.nnz == 0:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    # A dummy column for each row makes the problem always solvable. It costs more than all real pairs together, so it
    # is chosen only where no further pair is possible.
    price = float(costs.data.max()) * (number + 1)
    dummies = coo_matrix((np.full(number, price), (np.arange(number), np.arange(number))), shape=(number, number))
    rows, columns = min_weight_full_bipartite_matching(hstack([costs, dummies], format="csr"))
    paired = columns < real
    return rows[paired].astype(np.int64), columns[paired].astype(np.int64)


def share_candidates(partners: NDArray[np.int64], costs: csr_matrix) -> None:
    """Give every row that has a candidate and no partner (−1) one, in rounds of one-to-one assignments, in place.

    All columns are free again in each round, so several rows can share a partner. Each round pairs at least one row, so
    the loop ends.

    Args:
        partners: (R,) column of each row, −1 where there is none yet.
        costs: (R, C), positive where a pair is a candidate.
    """
    reachable = np.diff(costs.indptr) > 0
    while len(left := np.flatnonzero((partners < 0) & reachable)):
        waiting = costs[left]
        used = np.unique(waiting.indices)
        rows, columns = assign_candidates(waiting[:, used])
        partners[left[rows]] = used[columns]
