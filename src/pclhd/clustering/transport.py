"""Matching by optimal transport: each cluster spreads a mass of one over the other modality and a dustbin (ours).

The score of a pair is a cosine relative to all cosines. First, each modality's mean direction is subtracted from its
centres (if it has at least two): all visible clusters are similar because they are visible, and a centre near the other
modality would otherwise be near all of its clusters. Then the cosine of the centred vectors is expressed in standard
deviations from the mean over all pairs. So the parameters below do not depend on how far a network spreads its
embeddings.

The dustbin's score is the number of standard deviations that a pair must reach to be preferred to no match. The plan
maximises score plus `regularisation` × entropy, with these masses: one for each cluster, and for each dustbin the
number of clusters of the other modality. So the numbers of clusters may differ.

One correction is needed for the dustbin's score to have this meaning. For any such plan, with d the dustbins and s the
scores,

    P[i, j] · P[d, d] / (P[i, d] · P[d, j]) = exp((s[i, j] + s[d, d] − s[i, d] − s[d, j]) / regularisation).

A pair that is equal to its dustbins has P[i, j] = P[i, d] = P[d, j], and P[d, d] is the number of pairs made, up to
min(Nv, Nr). With s[d, d] = dustbin, this equality would be at dustbin + regularisation · log(pairs), which grows with
the number of clusters; therefore s[d, d] = dustbin + regularisation · log(min(Nv, Nr)).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix

from pclhd.clustering.candidates import candidate_pairs, pair_cosines, unit_length

#: Weight of the entropy, in standard deviations of the cosines. On synthetic clusters, smaller values were less precise
#: and needed many more iterations; larger ones left more clusters unmatched.
REGULARISATION = 0.4
#: The default dustbin is this share of the median over a modality's clusters of the score of their best pair, …
DUSTBIN_SHARE = 2 / 3
#: … but at most this many standard deviations above the mean. Both were chosen on synthetic centres with a modality
#: gap, split people and people of one modality: a share of 1/2 found a few more partners but many wrong ones, 3/4 found
#: fewer.
LARGEST_DUSTBIN = 2.0
ITERATIONS = 300
TOLERANCE = 1e-3

_SAME_DIRECTION = 1e-6


@dataclass(frozen=True)
class TransportPlan:
    """The mass assigned to each pair of clusters.

    Attributes:
        mass: (Nv + 1, Nr + 1); the last row and the last column are the dustbins. Forbidden pairs are absent.
        iterations: Number of iterations made.
        error: The largest relative deviation of a row's total from its mass. The column totals are exact.
    """

    mass: csr_matrix
    iterations: int
    error: float

    def partners(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The largest entry of each cluster's mass: (Nv,) and (Nr,), −1 for the dustbin, which loses ties."""
        return _largest_of_rows(self.mass), _largest_of_rows(self.mass.T.tocsr())


def transport_plan(
    scores: csr_matrix,
    *,
    dustbin: float,
    regularisation: float,
    iterations: int = ITERATIONS,
    tolerance: float = TOLERANCE,
) -> TransportPlan:
    """The plan with the largest score plus entropy, by Sinkhorn iterations on logarithms (ours).

    Dustbins are as in SuperGlue. Nothing overflows, even with a very small regularisation. Sums run in a fixed order on
    one thread.

    Args:
        scores: (Nv, Nr), Nv and Nr at least 1; the stored pairs are allowed, including those with score zero.
        dustbin: The score that a pair must exceed.
        regularisation: Weight of the entropy, in the unit of the scores; a higher value spreads the masses wider.
        iterations: Maximum number.
        tolerance: Stop once the relative error of all totals is at most this.

    Raises:
        ValueError: No clusters; regularisation, iterations or tolerance not positive; a score that is not finite.
    """
    for name, value in (("regularisation", regularisation), ("iterations", iterations), ("tolerance", tolerance)):
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(f"{name} must be above 0, got {value}")
    if min(scores.shape) == 0:
        raise ValueError(f"both modalities must have clusters, got scores {scores.shape}")
    if not (math.isfinite(dustbin) and np.isfinite(scores.data).all()):
        raise ValueError(f"scores and dustbin must be finite, got dustbin {dustbin}")
    by_row = _with_dustbins(scores, dustbin, regularisation)
    # The same entries, column by column; `order` has the position of each in by_row.
    numbered = csr_matrix((np.arange(1, by_row.nnz + 1), by_row.indices, by_row.indptr), shape=by_row.shape)
    by_column = numbered.T.tocsr()
    order = by_column.data - 1
    rows, columns = scores.shape
    row_totals = np.log(np.append(np.ones(rows), columns))
    column_totals = np.log(np.append(np.ones(columns), rows))
    row_potential, column_potential = np.zeros(rows + 1), np.zeros(columns + 1)
    column_data = by_row.data[order]
    for iteration in range(iterations + 1):
        totals = _log_sums(by_row.data + column_potential[by_row.indices], by_row.indptr)
        with np.errstate(over="ignore"):  # the error is large at the start
            error = float(np.abs(np.expm1(row_potential + totals - row_totals)).max())
        if iteration > 0 and (error <= tolerance or iteration == iterations):
            break
        row_potential = row_totals - totals
        totals = _log_sums(column_data + row_potential[by_column.indices], by_column.indptr)
        column_potential = column_totals - totals
    logarithms = by_row.data + row_potential[_row_of_entry(by_row)] + column_potential[by_row.indices]
    mass = csr_matrix((np.exp(logarithms), by_row.indices, by_row.indptr), shape=by_row.shape)
    return TransportPlan(mass, iteration, error)


def match_by_transport(
    visible: NDArray[np.floating],
    infrared: NDArray[np.floating],
    *,
    candidates: int | None = None,
    max_cost: float | None = None,
    dustbin: float | None = None,
    regularisation: float = REGULARISATION,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Partners (Nv,) and (Nr,), −1 for none, from the plan over the relative cosines of all pairs or candidate pairs.

    Args:
        visible: (Nv, D) finite centres of any length.
        infrared: (Nr, D) finite centres of any length.
        candidates: Allow only pairs in which one is among this many nearest of the other; None allows all.
        max_cost: Pairs with a higher exp(−cosine) are forbidden; the cosine is that of the centres before centring.
        dustbin: Standard deviations that a pair must exceed. None: `default_dustbin`.
        regularisation: In standard deviations, see `REGULARISATION`.
    """
    shape = len(visible), len(infrared)
    if min(shape) == 0:
        return np.full(shape[0], -1, dtype=np.int64), np.full(shape[1], -1, dtype=np.int64)
    unit_visible, unit_infrared = unit_length(visible), unit_length(infrared)
    centred_visible, centred_infrared = unit_visible, unit_infrared
    if min(shape) > 1:
        centred_visible, centred_infrared = _centred(unit_visible), _centred(unit_infrared)
    if candidates is None:
        rows, columns = (axis.ravel() for axis in np.indices(shape))
        cosines = (centred_visible @ centred_infrared.T).ravel()
    else:
        rows, columns = candidate_pairs(centred_visible, centred_infrared, candidates)
        cosines = pair_cosines(centred_visible, centred_infrared, rows, columns)
    mean, spread = _mean_and_spread(centred_visible, centred_infrared)
    if max_cost is not None:
        allowed = np.exp(-pair_cosines(unit_visible, unit_infrared, rows, columns)) <= max_cost
        rows, columns, cosines = rows[allowed], columns[allowed], cosines[allowed]
    # If all directions are equal, all pairs have the same score.
    relative = (cosines - mean) / spread if spread > _SAME_DIRECTION else np.zeros_like(cosines)
    scores = coo_matrix((relative, (rows, columns)), shape=shape).tocsr()
    if dustbin is None:
        dustbin = default_dustbin(scores)
    return transport_plan(scores, dustbin=dustbin, regularisation=regularisation).partners()


def default_dustbin(scores: csr_matrix) -> float:
    """Two thirds of the median of the clusters' best scores, but not above 2 (ours); 0 if no pair is allowed.

    Where partners are clear, their scores are far above 2, and a score of 2 is rare by chance. With few clusters, or in
    a space of few dimensions, even a perfect match does not reach 2; then the clusters' best scores define what is
    high. The higher of the two modalities' medians counts: if one modality has many more clusters, most of them have no
    partner.

    Args:
        scores: (Nv, Nr) relative cosines of the allowed pairs.
    """
    if scores.nnz == 0:
        return 0.0
    medians = [
        float(np.median(np.maximum.reduceat(side.data, side.indptr[:-1][np.diff(side.indptr) > 0])))
        for side in (scores, scores.T.tocsr())
    ]
    return min(LARGEST_DUSTBIN, DUSTBIN_SHARE * max(medians))


def _centred(unit: NDArray[np.float64]) -> NDArray[np.float64]:
    """Directions from the mean; zero for a centre that equals the mean up to rounding."""
    centred = unit - unit.mean(axis=0)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.where(lengths > _SAME_DIRECTION, centred / np.maximum(lengths, _SAME_DIRECTION), 0.0)


def _mean_and_spread(visible: NDArray[np.float64], infrared: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and standard deviation of the products of all pairs of rows, without forming them."""
    mean = float(visible.mean(axis=0) @ infrared.mean(axis=0))
    pairs = len(visible) * len(infrared)
    square = float(np.sum((visible.T @ visible) * (infrared.T @ infrared))) / pairs
    return mean, math.sqrt(max(0.0, square - mean**2))


def _with_dustbins(scores: csr_matrix, dustbin: float, regularisation: float) -> csr_matrix:
    """Scores in units of the regularisation, with the dustbins as the last row and the last column."""
    rows, columns = scores.shape
    values = np.concatenate([scores.data, np.full(rows + columns + 1, dustbin)]) / regularisation
    values[-1] += math.log(min(rows, columns))
    of_rows = np.concatenate([_row_of_entry(scores), np.arange(rows), np.full(columns + 1, rows)])
    of_columns = np.concatenate([scores.indices, np.full(rows, columns), np.arange(columns + 1)])
    whole = coo_matrix((values, (of_rows, of_columns)), shape=(rows + 1, columns + 1)).tocsr()
    whole.sort_indices()
    return whole


def _row_of_entry(matrix: csr_matrix) -> NDArray[np.int64]:
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))


def _log_sums(values: NDArray[np.float64], starts: NDArray[np.int32]) -> NDArray[np.float64]:
    """log Σ exp of each run of values; no run is empty, as each includes the dustbin."""
    largest = np.maximum.reduceat(values, starts[:-1])
    shares = np.exp(values - np.repeat(largest, np.diff(starts)))
    sums: NDArray[np.float64] = largest + np.log(np.add.reduceat(shares, starts[:-1]))
    return sums


def _largest_of_rows(mass: csr_matrix) -> NDArray[np.int64]:
    """Column of the largest entry of each row except the last, the first in a tie; −1 for the last column."""
    mass.sort_indices()
    largest = np.maximum.reduceat(mass.data, mass.indptr[:-1])
    rows = _row_of_entry(mass)
    reached = np.flatnonzero(mass.data == largest[rows])
    columns = mass.indices[reached[np.searchsorted(rows[reached], np.arange(mass.shape[0] - 1))]].astype(np.int64)
    return np.where(columns == mass.shape[1] - 1, np.int64(-1), columns)
