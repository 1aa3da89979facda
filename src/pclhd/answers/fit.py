"""Fit a calibration to embeddings whose labels say which images show one person.

All pairs are counted in a fine histogram of their similarity. Curves and thresholds need nothing but these counts, so a
million pairs cost as little as a thousand, and nothing is drawn at random.

The curves: *logistic* (Platt, 1999), *beta* (Kull, Silva Filho and Flach, 2017) and *isotonic* (Zadrozny and Elkan,
2002). The one with the smallest log loss on people that it was not fitted to is kept, refitted to all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pclhd.answers.calibration import Calibration, Direction, Source
from pclhd.pair import ModalityName, Pair

Counts = NDArray[np.int64]
Curve = NDArray[np.float64]

#: False match rates whose thresholds are kept, if there are enough queries to measure them.
RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)

_BINS = 4096
_EDGES = np.linspace(-1, 1, _BINS + 1)
_CENTRES = (_EDGES[:-1] + _EDGES[1:]) / 2
_KNOTS = 129
_MOST_QUERIES = 1000
_BLOCK = 128
# Fewer say nothing about other people.
_FEWEST_PEOPLE = 10
_FEWEST_PAIRS = 20


@dataclass(frozen=True)
class Labelled:
    """Embeddings of one modality, and what they show.

    Attributes:
        features: (N, D) of unit length.
        labels: (N,) people or pseudo labels, the same numbers in both modalities; −1 is unknown, and left out.
        cameras: (N,) camera numbers, −1 where unknown; None if all are.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    cameras: NDArray[np.int64] | None = None

    def known(self) -> Labelled:
        """Without images of unknown people."""
        kept = self.labels >= 0
        return Labelled(self.features[kept], self.labels[kept], None if self.cameras is None else self.cameras[kept])


def fit_calibration(images: Pair[Labelled], *, model_id: str, source: Source) -> Calibration:
    """Calibrate all four directions.

    Within a modality, pairs from one camera are left out where cameras are known: neighbouring frames say
    little about recognising someone. An image is never compared with itself.

    Args:
        images: Visible and infrared images.
        model_id: Id of the encoder.
        source: What the labels are.

    Returns:
        The calibration; directions with too few pairs are absent.
    """
    known = images.map(Labelled.known)
    directions = [_fit_direction(*query, *gallery) for query in known.items() for gallery in known.items()]
    return Calibration(model_id=model_id, source=source, directions=[one for one in directions if one is not None])


def _fit_direction(
    query_name: ModalityName, query: Labelled, gallery_name: ModalityName, gallery: Labelled
) -> Direction | None:
    same, different, people = count_pairs(query, gallery, itself=query_name == gallery_name)
    asked = np.flatnonzero(different.sum(axis=1))
    half = np.searchsorted(np.unique(people), people) % 2 == 0
    parts = [(same[rows].sum(axis=0), different[rows].sum(axis=0)) for rows in (half, ~half)]
    found = np.unique(people[same.any(axis=1)])
    if len(found) < _FEWEST_PEOPLE or min(counts.sum() for part in parts for counts in part) < _FEWEST_PAIRS:
        return None
    losses = {
        name: float(np.mean([log_loss(fit(*fitted), *held_out) for fitted, held_out in (parts, parts[::-1])]))
        for name, fit in CURVES.items()
    }
    method = min(losses, key=losses.__getitem__)
    whole = (same.sum(axis=0), different.sum(axis=0))
    knots, values = _thinned(CURVES[method](*whole), *whole)
    sizes, rates, thresholds = _thresholds(different[asked])
    return Direction.model_validate(
        {
            "query": query_name,
            "gallery": gallery_name,
            "method": method,
            "log_loss": losses,
            "queries": len(asked),
            "same_pairs": int(whole[0].sum()),
            "different_pairs": int(whole[1].sum()),
            "same_per_query": float(same[asked].sum() / len(asked)),
            "similarity": knots.tolist(),
            "log_likelihood_ratio": values.tolist(),
            "sizes": sizes,
            "rates": rates,
            "thresholds": thresholds.tolist(),
        }
    )


def count_pairs(query: Labelled, gallery: Labelled, *, itself: bool) -> tuple[Counts, Counts, NDArray[np.int64]]:
    """Count the pairs of each query by similarity.

    Args:
        query: Images that search; of more than a thousand, every n-th is taken.
        gallery: Images that are searched.
        itself: Whether both are the same images.

    Returns:
        (Q, B) pairs that show one person, (Q, B) that show two, by bin of the similarity; (Q,) labels of the queries.
    """
    rows = np.unique(np.linspace(0, len(query.labels) - 1, min(_MOST_QUERIES, len(query.labels))).astype(np.int64))
    same = np.zeros((len(rows), _BINS), dtype=np.int64)
    different = np.zeros_like(same)
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        table = query.features[block] @ gallery.features.T
        bins = np.clip(((table + 1) * (_BINS / 2)).astype(np.int64), 0, _BINS - 1)
        bins += np.arange(len(block))[:, None] * _BINS
        counted = np.ones(table.shape, dtype=bool)
        if itself:
            counted[np.arange(len(block)), block] = False
            if query.cameras is not None:
                cameras = query.cameras[block][:, None]
                counted &= (cameras < 0) | (cameras != query.cameras[None, :])
        one_person = query.labels[block][:, None] == gallery.labels[None, :]
        for counts, chosen in ((same, counted & one_person), (different, counted & ~one_person)):
            counts[start : start + len(block)] = np.bincount(bins[chosen], minlength=len(block) * _BINS).reshape(
                len(block), _BINS
            )
    return same, different, query.labels[rows]


def log_loss(curve: Curve, same: Counts, different: Counts) -> float:
    """Mean log loss of a curve, in nats per pair, with the share of pairs of one person as the prior.

    Args:
        curve: (B,) logarithms of the likelihood ratio.
        same: (B,) pairs that show one person.
        different: (B,) pairs that show two.
    """
    odds = curve + np.log(same.sum() / different.sum())
    loss = same @ np.logaddexp(0, -odds) + different @ np.logaddexp(0, odds)
    return float(loss / (same.sum() + different.sum()))


def logistic(same: Counts, different: Counts) -> Curve:
    """The likelihood ratio as the exponential of a line in the similarity."""
    return _regress([_CENTRES], same, different)


def beta(same: Counts, different: Counts) -> Curve:
    """The likelihood ratio of two beta distributions, by regression on the logarithms of both distances to the ends."""
    share = (_CENTRES + 1) / 2
    return _regress([np.log(share), -np.log1p(-share)], same, different)


def _regress(columns: list[Curve], same: Counts, different: Counts) -> Curve:
    """Logistic regression; a column whose coefficient is negative is left out, since the curve must not descend."""
    from sklearn.linear_model import LogisticRegression

    inputs = np.stack(columns, axis=1)
    weights = np.concatenate([same, different]).astype(np.float64)
    used = np.concatenate([same, different]) > 0
    both = np.concatenate([inputs, inputs])
    centre = np.average(both[used], axis=0, weights=weights[used])
    spread = np.sqrt(np.average((both[used] - centre) ** 2, axis=0, weights=weights[used]))
    truth = np.repeat([1, 0], len(same))
    # A weak penalty, for pairs that a similarity separates completely. The weights are scaled, so that its strength
    # does not depend on the number of pairs.
    model = LogisticRegression(C=1e3, solver="newton-cholesky", max_iter=1000, tol=1e-8)
    model.fit(((both - centre) / spread)[used], truth[used], sample_weight=weights[used] / weights.mean())
    slopes = model.coef_[0]
    if (slopes < 0).any():
        kept = [column for column, slope in zip(columns, slopes, strict=True) if slope >= 0]
        return _regress(kept, same, different) if kept else np.zeros(len(same))
    prior = np.log(same.sum() / different.sum())
    curve: Curve = ((inputs - centre) / spread) @ slopes + model.intercept_[0] - prior
    return curve


def isotonic(same: Counts, different: Counts) -> Curve:
    """Any curve that does not descend, with half a pair added to each count, so that no ratio is infinite."""
    from sklearn.isotonic import IsotonicRegression

    total = same + different
    used = np.flatnonzero(total)
    shares = IsotonicRegression().fit_transform(_CENTRES[used], same[used] / total[used], sample_weight=total[used])
    _, block = np.unique(shares, return_inverse=True)
    ones, twos, pairs = (np.bincount(block, weights=counts[used]) for counts in (same, different, total))
    ratio = (ones + 0.5) / (same.sum() + 1) / ((twos + 0.5) / (different.sum() + 1))
    middle = np.bincount(block, weights=_CENTRES[used] * total[used]) / pairs
    return np.interp(_CENTRES, middle, np.maximum.accumulate(np.log(ratio)))


CURVES: dict[str, Callable[[Counts, Counts], Curve]] = {"logistic": logistic, "beta": beta, "isotonic": isotonic}
"""The curves that compete: from (B,) counts of both kinds of pairs to (B,) logarithms of the likelihood ratio."""


def _thinned(curve: Curve, same: Counts, different: Counts) -> tuple[Curve, Curve]:
    """A curve at a few knots between the smallest and the largest similarity that was seen."""
    seen = np.flatnonzero(same + different)
    knots = np.linspace(_CENTRES[seen[0]], _CENTRES[max(seen[-1], seen[0] + 1)], _KNOTS)
    return knots, np.maximum.accumulate(np.interp(knots, _CENTRES, curve))


def _thresholds(different: Counts) -> tuple[list[int], list[float], Curve]:
    """Thresholds for galleries of several sizes.

    The best of n images of other people is below t with probability (1 − f)ⁿ, where f is the share of other people's
    images above t. f differs between queries, so the mean over the queries is taken last.

    Args:
        different: (Q, B) pairs that show two people, at least one per query.

    Returns:
        Sizes, rates, and thresholds (sizes, rates).
    """
    images = different.sum(axis=1)
    most = int(np.median(images))
    sizes = sorted({1, *(size for power in range(1, 8) for size in (10**power // 3, 10**power) if size < most), most})
    rates = [rate for rate in RATES if rate * len(different) >= 1]
    # (Q, B + 1): share of images at or above each edge; the last edge has none.
    above = np.cumsum(different[:, ::-1], axis=1)[:, ::-1] / images[:, None]
    below = np.log1p(-np.minimum(above, 1 - 1e-12))
    thresholds = np.empty((len(sizes), len(rates)))
    for row, size in enumerate(sizes):
        rate = np.append((-np.expm1(size * below)).mean(axis=0), 0.0)
        # The rate descends along the edges: the first edge at which it is low enough.
        thresholds[row] = [_EDGES[int(np.argmax(rate <= wanted))] for wanted in rates]
    return sizes, rates, np.maximum.accumulate(thresholds, axis=0)
