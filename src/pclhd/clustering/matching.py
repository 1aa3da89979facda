"""Matching of visible and infrared clusters by their centres.

The cost of a pair is exp(−cosine), between 1/e (same direction) and e (opposite). An assignment minimises the sum of
costs, so the exponential matters: −cosine may give another answer.

Up to `DENSE_PAIRS` pairs, all of them are compared. Beyond that, only candidates are: the nearest few of each cluster.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_matrix

from pclhd.clustering.candidates import (
    assign_candidates,
    candidate_costs,
    nearest_across,
    pair_cosines,
    share_candidates,
    unit_length,
)
from pclhd.clustering.transport import REGULARISATION, match_by_transport

MatchingMethod = Literal["progressive", "mutual", "transport", "released_sysu", "released_regdb"]

NO_PARTNER = -1

#: Largest number of pairs for which all pairs are compared. For 2,000 × 2,000 clusters, the cost matrix takes 32 MB,
#: and the assignment's time grows with the cube of the number of clusters. Public benchmarks are far below this.
DENSE_PAIRS = 2000 * 2000
#: Beyond that, the number of nearest clusters of each cluster that are compared.
CANDIDATES = 50


@dataclass(frozen=True)
class Matching:
    """Matched clusters across the modalities.

    Attributes:
        visible_to_infrared: (Nv,) int64, the matched infrared cluster of each visible cluster, −1 where there is none.
        infrared_to_visible: (Nr,) int64, the matched visible cluster of each infrared cluster, −1 where there is none.
            Not always the inverse: several clusters of one modality may share a partner, whose own partner is only one
            of them.
    """

    visible_to_infrared: NDArray[np.int64]
    infrared_to_visible: NDArray[np.int64]


def match_clusters(
    visible: NDArray[np.floating],
    infrared: NDArray[np.floating],
    *,
    method: MatchingMethod = "progressive",
    max_cost: float | None = None,
    candidates: int | None = None,
    dustbin: float | None = None,
    regularisation: float = REGULARISATION,
) -> Matching:
    """Match visible and infrared clusters.

    Args:
        visible: (Nv, D) cluster centres of any length; Nv may be 0.
        infrared: (Nr, D) cluster centres of any length; Nr may be 0, smaller or larger than Nv.
        method: "progressive" (paper; for any counts, ours): one-to-one assignment of least total cost; clusters left
            over are assigned again, round by round, and share partners, until each cluster has one. "mutual" (ours):
            only pairs in which each is the other's nearest. "transport" (ours): a soft one-to-one assignment in which a
            cluster may stay unmatched; see `pclhd.clustering.transport` for the scores. "released_sysu",
            "released_regdb" (released code): the two versions unchanged, missing and misplaced entries included. With
            fewer visible than infrared clusters, the first one fails in the released code; here the modalities swap
            roles. The second one matches nothing.
        max_cost: Pairs with a higher exp(−cosine) are not matched, so clusters may stay unmatched; None allows all.
            "progressive" and "transport" then search for the best allowed partner, the others drop such pairs at the
            end.
        candidates: How many nearest clusters of the other modality each cluster is compared with; a pair is a candidate
            if either is among the nearest of the other. None: all, up to `DENSE_PAIRS` pairs, else `CANDIDATES`.
            "mutual" gives the same result with any number, as it needs only the nearest. The released methods always
            compare all.
        dustbin: "transport" only: standard deviations by which a pair's cosine must exceed the mean of all pairs to be
            preferred to no match. A higher value leaves more clusters unmatched. None: 2, or less where few pairs reach
            2.
        regularisation: "transport" only: weight of the entropy, in the same unit. A lower value is closer to a strict
            assignment, and slower.

    Raises:
        ValueError: An unknown method, centres that are not finite or of different widths, candidates below 1 or given
            to a released method, a dustbin that is not finite, a regularisation that is not positive.
    """
    if method not in get_args(MatchingMethod):
        raise ValueError(f"method must be one of {', '.join(get_args(MatchingMethod))}, got {method!r}")
    _check_centres(visible, infrared)
    if candidates is not None and method in ("released_sysu", "released_regdb"):
        raise ValueError(f"method {method} compares all pairs, so candidates must be None, got {candidates}")
    if candidates is not None and candidates < 1:
        raise ValueError(f"candidates must be at least 1, got {candidates}")
    if candidates is None and len(visible) * len(infrared) > DENSE_PAIRS:
        candidates = CANDIDATES
    if method == "transport":
        return Matching(
            *match_by_transport(
                visible,
                infrared,
                candidates=candidates,
                max_cost=max_cost,
                dustbin=dustbin,
                regularisation=regularisation,
            )
        )
    if candidates is not None and method == "progressive":
        return _progressive_among(
            candidate_costs(unit_length(visible), unit_length(infrared), candidates, max_cost=max_cost)
        )
    if candidates is not None and method == "mutual":
        return _mutual_by_search(unit_length(visible), unit_length(infrared), max_cost)
    costs = matching_costs(visible, infrared)
    if method == "progressive":
        return match_by_costs(costs, max_cost=max_cost)
    if method == "mutual":
        matching = _mutual(costs)
    elif method == "released_regdb":
        matching = _released_regdb(costs)
    elif costs.shape[0] < costs.shape[1]:
        swapped = _released_sysu(costs.T)
        matching = Matching(swapped.infrared_to_visible, swapped.visible_to_infrared)
    else:
        matching = _released_sysu(costs)
    return matching if max_cost is None else _drop_expensive(matching, costs, max_cost)


def match_by_costs(costs: NDArray[np.float64], *, max_cost: float | None = None) -> Matching:
    """The "progressive" matching of `match_clusters` with given costs.

    Args:
        costs: (Nv, Nr), the cost of each pair, at least 0; all pairs are compared.
        max_cost: Pairs above this cost are not matched, so clusters may stay unmatched; None allows all.

    Raises:
        ValueError: Costs that are not two-dimensional, not finite, or negative.
    """
    if costs.ndim != 2 or not (np.isfinite(costs) & (costs >= 0)).all():
        raise ValueError(f"costs must be (visible, infrared), finite and at least 0, got shape {costs.shape}")
    return _progressive(costs, np.inf if max_cost is None else max_cost)


def matching_costs(visible: NDArray[np.floating], infrared: NDArray[np.floating]) -> NDArray[np.float64]:
    """exp(−cosine) of all pairs of centres (released code): (Nv, Nr). A centre of length zero has cosine 0."""
    _check_centres(visible, infrared)
    costs: NDArray[np.float64] = np.exp(-(unit_length(visible) @ unit_length(infrared).T))
    return costs


def _check_centres(visible: NDArray[np.floating], infrared: NDArray[np.floating]) -> None:
    if visible.ndim != 2 or infrared.ndim != 2 or visible.shape[1] != infrared.shape[1]:
        raise ValueError(f"centres must be (clusters, width) of one width, got {visible.shape} and {infrared.shape}")
    for name, centres in (("visible", visible), ("infrared", infrared)):
        wrong = np.flatnonzero(~np.isfinite(centres).all(axis=1))
        if len(wrong):
            raise ValueError(f"{name} centres must be finite, but row {wrong[0]} holds NaN or infinity")


def _assign(costs: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of the pairs of least total cost; as many pairs as the shorter side allows."""
    rows, columns = linear_sum_assignment(costs)
    return rows.astype(np.int64), columns.astype(np.int64)


def _no_partners(number: int) -> NDArray[np.int64]:
    return np.full(number, NO_PARTNER, dtype=np.int64)


def _progressive(costs: NDArray[np.float64], max_cost: float) -> Matching:
    allowed = costs <= max_cost
    # A forbidden pair costs more than all allowed ones together: each round makes as many allowed pairs as possible.
    total = float(costs.max(initial=0.0)) * (min(costs.shape) + 1)
    priced = np.where(allowed, costs, total)
    rows, columns = _assign(priced)
    good = allowed[rows, columns]
    visible_to_infrared, infrared_to_visible = _no_partners(costs.shape[0]), _no_partners(costs.shape[1])
    visible_to_infrared[rows[good]] = columns[good]
    infrared_to_visible[columns[good]] = rows[good]
    _assign_left_over(visible_to_infrared, priced, allowed)
    _assign_left_over(infrared_to_visible, priced.T, allowed.T)
    return Matching(visible_to_infrared, infrared_to_visible)


def _assign_left_over(partners: NDArray[np.int64], priced: NDArray[np.float64], allowed: NDArray[np.bool_]) -> None:
    """Give every row that has an allowed column a partner, in rounds of one-to-one assignments, in place."""
    reachable = allowed.any(axis=1)
    while True:
        left = np.flatnonzero((partners == NO_PARTNER) & reachable)
        if len(left) == 0:
            return
        rows, columns = _assign(priced[left])
        good = allowed[left[rows], columns]
        partners[left[rows[good]]] = columns[good]


def _progressive_among(costs: csr_matrix) -> Matching:
    """Like `_progressive`, among candidates: absent pairs are forbidden."""
    visible_to_infrared, infrared_to_visible = _no_partners(costs.shape[0]), _no_partners(costs.shape[1])
    rows, columns = assign_candidates(costs)
    visible_to_infrared[rows], infrared_to_visible[columns] = columns, rows
    share_candidates(visible_to_infrared, costs)
    share_candidates(infrared_to_visible, costs.T.tocsr())
    return Matching(visible_to_infrared, infrared_to_visible)


def _mutual(costs: NDArray[np.float64]) -> Matching:
    visible_to_infrared, infrared_to_visible = _no_partners(costs.shape[0]), _no_partners(costs.shape[1])
    if costs.size:
        nearest_infrared, nearest_visible = costs.argmin(axis=1), costs.argmin(axis=0)
        pairs = np.flatnonzero(nearest_visible[nearest_infrared] == np.arange(costs.shape[0]))
        visible_to_infrared[pairs] = nearest_infrared[pairs]
        infrared_to_visible[nearest_infrared[pairs]] = pairs
    return Matching(visible_to_infrared, infrared_to_visible)


def _mutual_by_search(visible: NDArray[np.float64], infrared: NDArray[np.float64], max_cost: float | None) -> Matching:
    """Like `_mutual`, without the matrix of all costs."""
    visible_to_infrared, infrared_to_visible = _no_partners(len(visible)), _no_partners(len(infrared))
    if len(visible) and len(infrared):
        nearest_infrared, nearest_visible = (index[:, 0] for index in nearest_across(visible, infrared, 1))
        pairs = np.flatnonzero(nearest_visible[nearest_infrared] == np.arange(len(visible)))
        if max_cost is not None:
            costs = np.exp(-pair_cosines(visible, infrared, pairs, nearest_infrared[pairs]))
            pairs = pairs[costs <= max_cost]
        visible_to_infrared[pairs] = nearest_infrared[pairs]
        infrared_to_visible[nearest_infrared[pairs]] = pairs
    return Matching(visible_to_infrared, infrared_to_visible)


def _released_sysu(costs: NDArray[np.float64]) -> Matching:
    """At least as many rows as columns. Matches of rounds 2 and 3 overwrite better ones in the inverse map."""
    number = costs.shape[1]
    forward, backward = _no_partners(costs.shape[0]), _no_partners(number)
    if number == 0:
        return Matching(forward, backward)
    rows, columns = _assign(costs)
    forward[rows], backward[columns] = columns, rows
    left = np.flatnonzero(forward == NO_PARTNER)
    if len(left) < number:
        forward[left] = _assign(costs[left])[1]
        return Matching(forward, backward)
    rows, columns = _assign(costs[left])
    forward[left[rows]], backward[columns] = columns, left[rows]
    left = np.flatnonzero(forward == NO_PARTNER)
    # The solver's columns go to the first rows left over, not to the rows it chose; further rows get nothing.
    columns = _assign(costs[left])[1]
    forward[left[: len(columns)]], backward[columns] = columns, left[: len(columns)]
    return Matching(forward, backward)


def _released_regdb(costs: NDArray[np.float64]) -> Matching:
    """No matches with fewer rows than columns; otherwise two rounds, the second only in the forward map."""
    forward, backward = _no_partners(costs.shape[0]), _no_partners(costs.shape[1])
    if costs.shape[0] < costs.shape[1]:
        return Matching(forward, backward)
    rows, columns = _assign(costs)
    forward[rows], backward[columns] = columns, rows
    left = np.flatnonzero(forward == NO_PARTNER)
    columns = _assign(costs[left])[1]
    forward[left[: len(columns)]] = columns
    return Matching(forward, backward)


def _drop_expensive(matching: Matching, costs: NDArray[np.float64], max_cost: float) -> Matching:
    def keep(partners: NDArray[np.int64], pair_costs: NDArray[np.float64]) -> NDArray[np.int64]:
        kept = partners.copy()
        matched = np.flatnonzero(partners != NO_PARTNER)
        kept[matched[pair_costs[matched, partners[matched]] > max_cost]] = NO_PARTNER
        return kept

    return Matching(keep(matching.visible_to_infrared, costs), keep(matching.infrared_to_visible, costs.T))
