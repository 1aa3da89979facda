"""Which epoch's weights a run ends with, told without identities.

The last epoch's by default. The criteria look at the clusters that the weights lead to, so those of an epoch are known
when the next one begins; after the last epoch, one more clustering tells. Noise never counts as good: a clustering
that calls all but the clearest images noise is not preferred for that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pclhd.clustering.confidence import stability
from pclhd.clustering.cycle import cycle_consistency
from pclhd.clustering.neighbours import NearestSearch, nearest_neighbours
from pclhd.clustering.pseudo_labels import NOISE
from pclhd.engine.labelling import EpochLabels, Labels

Criterion = Literal["last", "silhouette", "stability", "cycle"]

#: Labels of the visible and of the infrared images.
OwnLabels = tuple[Labels, Labels]


def measure_criteria(
    visible: NDArray[np.float32],
    infrared: NDArray[np.float32],
    labels: EpochLabels,
    previous: OwnLabels | None,
    *,
    nearest: NearestSearch = nearest_neighbours,
) -> dict[str, float]:
    """What the criteria say of the network whose embeddings were clustered (ours).

    Args:
        visible: Embeddings (Nv, D).
        infrared: Embeddings (Nr, D).
        labels: Their clusters.
        previous: The labels one epoch earlier, or None at the start.
        nearest: Searches for neighbours.

    Returns:
        Each from 0 to 1 (silhouettes from −1), the higher the better, means over the two modalities:
        `silhouette`: mean silhouette over all images, noise as 0;
        `stability`: how much of the clusters stood one epoch earlier, times the share of clustered images; absent at
        the start;
        `cycle`: see `pclhd.clustering.cycle`.
    """
    # Labels that were kept say nothing of this network, which found only noise.
    own: dict[str, Labels] = {
        name: np.full_like(part, NOISE) if name in labels.kept() else part
        for name, part in (("visible", labels.visible), ("infrared", labels.infrared))
    }
    clustered = {name: float((part >= 0).mean()) for name, part in own.items()}
    found = {
        "silhouette": _mean(
            labels.groupings[name].silhouette * share if name in labels.groupings else 0.0
            for name, share in clustered.items()
        )
    }
    if previous is not None:
        pairs = zip(own.items(), previous, strict=True)
        found["stability"] = _mean(clustered[name] * stability(part, before) for (name, part), before in pairs)
    found["cycle"] = cycle_consistency(visible, own["visible"], infrared, own["infrared"], nearest=nearest)
    return found


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


@dataclass
class Selection:
    """The best epoch so far.

    Attributes:
        by: What decides.
        epoch: After so many epochs the best weights stood; None before the first candidate.
        value: What the criterion said of them.
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
