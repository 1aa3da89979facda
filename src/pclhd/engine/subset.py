"""An epoch with a random part of the larger modality (after an idea of BMIL, ``method.larger_share``).

The images that are left out have no label in this epoch: they are in no prototype and in no batch. Every epoch draws
again, from a stream named after it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pclhd.clustering.pseudo_labels import NOISE, compact_labels
from pclhd.config import Settings
from pclhd.engine.labelling import EpochLabels, Grouping, LabelRequest, Labels
from pclhd.pair import Pair

Rows = NDArray[np.int64]


def draw_rows(settings: Settings, counts: Pair[int], generator: np.random.Generator) -> Pair[Rows | None]:
    """The images of an epoch: the rows of each modality, ascending; None for all.

    Args:
        settings: For the share.
        counts: Images of each modality.
        generator: Draws them.
    """
    wanted = Pair(*settings.images_of_an_epoch(*counts))
    drawn = [
        None if number == count else np.sort(generator.choice(count, number, replace=False))
        for number, count in zip(wanted, counts, strict=True)
    ]
    return Pair(*drawn)


def narrowed(request: LabelRequest, rows: Pair[Rows | None]) -> LabelRequest:
    """The request for these images only."""
    if all(part is None for part in rows):
        return request
    previous = None if request.previous is None else Pair(*map(_previous, request.previous, rows))
    return replace(
        request,
        features=Pair(*map(_rows_of, request.features, rows)),
        cameras=Pair(*map(_rows_of, request.cameras, rows)),
        previous=previous,
    )


def widened(labels: EpochLabels, rows: Pair[Rows | None], counts: Pair[int]) -> EpochLabels:
    """The labels of these images as labels of all; the others are noise.

    Args:
        labels: Of the drawn images.
        rows: See `draw_rows`.
        counts: Images of each modality.
    """
    if all(part is None for part in rows):
        return labels
    own = {name: (rows.of(name), counts.of(name)) for name in ("visible", "infrared")}
    offsets = (0, counts.visible)
    both = np.concatenate(
        [
            np.arange(count) + offset if part is None else part + offset
            for part, count, offset in zip(rows, counts, offsets, strict=True)
        ]
    )
    places = {**own, "joint": (both, sum(counts))}
    groupings = {name: _widen_grouping(grouping, *places[name]) for name, grouping in labels.groupings.items()}
    return replace(
        labels,
        visible=_widen(labels.visible, *own["visible"]),
        infrared=_widen(labels.infrared, *own["infrared"]),
        joint=None if labels.joint is None else _widen(labels.joint, both, sum(counts)),
        groupings=groupings,
        drawn=rows,
    )


def _rows_of(values: Any, rows: Rows | None) -> Any:
    return values if values is None or rows is None else values[rows]


def _previous(labels: Labels, rows: Rows | None) -> Labels:
    return labels if rows is None else compact_labels(labels[rows])


def _widen(labels: Labels, rows: Rows | None, count: int) -> Labels:
    if rows is None:
        return labels
    wide = np.full(count, NOISE, dtype=np.int64)
    wide[rows] = labels
    wide.setflags(write=False)
    return wide


def _widen_grouping(grouping: Grouping, rows: Rows | None, count: int) -> Grouping:
    if rows is None:
        return grouping
    confidence = grouping.confidence
    if confidence is not None:
        wide = np.zeros(count)
        wide[rows] = confidence
        confidence = wide
    clustered = rows if grouping.rows is None else rows[grouping.rows]
    return replace(grouping, labels=_widen(grouping.labels, rows, count), confidence=confidence, rows=clustered)
