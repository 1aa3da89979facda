"""Selection of the epoch whose weights become the final model, without identities.

By default, these are the weights after the last epoch. The criteria measure the clusters that the weights lead to, so
those of an epoch are known when the next one begins; after the last epoch, the images are clustered once more. Noise
never raises a criterion, so a clustering that leaves all but the clearest images as noise has no advantage.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pclhd.clustering.confidence import stability
from pclhd.clustering.cycle import cycle_consistency
from pclhd.clustering.neighbours import NearestSearch, nearest_neighbours
from pclhd.clustering.pseudo_labels import NOISE, compact_labels
from pclhd.engine.labelling import EpochLabels, Features, Labels
from pclhd.pair import Pair

Criterion = Literal["last", "silhouette", "stability", "cycle"]


def measure_criteria(
    features: Pair[Features],
    labels: EpochLabels,
    previous: Pair[Labels] | None,
    *,
    nearest: NearestSearch = nearest_neighbours,
) -> dict[str, float]:
    """The criteria of the network whose embeddings were clustered (ours).

    Args:
        features: Embeddings, (Nv, D) and (Nr, D).
        labels: Clusters of these embeddings.
        previous: The labels one epoch earlier, or None at the start.
        nearest: Function for the neighbour search.

    Returns:
        Values from 0 to 1 (silhouettes from −1), higher is better, averaged over the two modalities:
        `silhouette`: mean silhouette over all images, noise as 0;
        `stability`: how much of the clusters existed one epoch earlier, times the share of clustered images; absent at
        the start;
        `cycle`: see `pclhd.clustering.cycle`.
    """
    # Labels kept from the previous epoch do not measure this network, for which all images are noise.
    own: dict[str, Labels] = {
        name: np.full_like(part, NOISE) if name in labels.kept() else part for name, part in labels.own.items()
    }
    clustered = {name: float((part >= 0).mean()) for name, part in own.items()}
    criteria = {
        "silhouette": _mean(
            labels.groupings[name].silhouette * share if name in labels.groupings else 0.0
            for name, share in clustered.items()
        )
    }
    if previous is not None:
        pairs = zip(own.items(), previous, strict=True)
        criteria["stability"] = _mean(
            clustered[name] * stability(*_measured(labels, name, part, before)) for (name, part), before in pairs
        )
    criteria["cycle"] = cycle_consistency(
        features.visible, own["visible"], features.infrared, own["infrared"], nearest=nearest
    )
    return criteria


def _measured(labels: EpochLabels, name: str, *parts: Labels) -> list[Labels]:
    """Labels of the images that were clustered: near-copies of an image would speak for its cluster, right or wrong."""
    rows = labels.groupings[name].rows if name in labels.groupings else None
    return list(parts) if rows is None else [compact_labels(part[rows]) for part in parts]


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


@dataclass
class Selection:
    """The best epoch so far.

    Attributes:
        by: The criterion.
        epoch: The number of epochs after which the network had the best weights; None before the first candidate.
        value: The criterion at that epoch.
    """

    by: Criterion
    epoch: int | None = None
    value: float | None = None

    def consider(self, epoch: int, criteria: Mapping[str, float]) -> bool:
        """Select the weights after `epoch` epochs if the criterion is at least as good as before.

        Args:
            epoch: Number of epochs trained.
            criteria: See `measure_criteria`.

        Returns:
            Whether these weights are selected.
        """
        if self.by == "last":
            self.epoch = epoch
            return True
        value = criteria[self.by]
        if self.value is not None and value < self.value:
            return False
        self.epoch, self.value = epoch, value
        return True
