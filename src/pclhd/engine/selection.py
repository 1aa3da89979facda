"""Which epoch's weights a run ends with, chosen without identities.

The last epoch's by default. The criteria measure the clusters that the weights lead to, so those of an epoch are known
when the next one begins; after the last epoch, the images are clustered once more. Noise never counts as good: a
clustering that calls all but the clearest images noise is not preferred for that.
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
        labels: Their clusters.
        previous: The labels one epoch earlier, or None at the start.
        nearest: Searches for neighbours.

    Returns:
        Each from 0 to 1 (silhouettes from −1), the higher the better, means over the two modalities:
        `silhouette`: mean silhouette over all images, noise as 0;
        `stability`: how much of the clusters existed one epoch earlier, times the share of clustered images; absent at
        the start;
        `cycle`: see `pclhd.clustering.cycle`.
    """
    # Labels that were kept from the epoch before are not this network's, for which all is noise.
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
        by: What decides.
        epoch: The number of epochs after which the network had the best weights; None before the first candidate.
        value: Their criterion.
    """

    by: Criterion
    epoch: int | None = None
    value: float | None = None

    def consider(self, epoch: int, criteria: Mapping[str, float]) -> bool:
        """Take the weights after `epoch` epochs if the criterion prefers them; of equals the later stay.

        Args:
            epoch: After how many epochs.
            criteria: See `measure_criteria`.

        Returns:
            Whether they are the best so far.
        """
        if self.by == "last":
            self.epoch = epoch
            return True
        value = criteria[self.by]
        if self.value is not None and value < self.value:
            return False
        self.epoch, self.value = epoch, value
        return True
