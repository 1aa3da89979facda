"""How well pseudo labels agree with identities, for whoever watches a training and happens to know them."""

from __future__ import annotations

import numpy as np

from pclhd.clustering.quality import clustering_quality, matching_precision
from pclhd.data.records import Dataset, Modality
from pclhd.engine.labelling import EpochLabels


class ClusterMeter:
    """Measures the pseudo labels of an epoch against identities; training never sees what it finds.

    Args:
        dataset: With identities of its training part.

    Raises:
        ValueError: It has none.
    """

    def __init__(self, dataset: Dataset) -> None:
        if dataset.train_identities is None:
            raise ValueError(f"{dataset.name} has no training identities to measure clusters with")
        identities = np.array(dataset.train_identities, dtype=np.int64)
        infrared = np.array([image.modality is Modality.INFRARED for image in dataset.train.images])
        self._visible, self._infrared = identities[~infrared], identities[infrared]

    def measure(self, labels: EpochLabels) -> dict[str, float]:
        """ARI and NMI of each clustering, and the share of right pairs among matched clusters."""
        parts = {
            "visible": (labels.visible, self._visible),
            "infrared": (labels.infrared, self._infrared),
        }
        if labels.joint is not None:
            parts["joint"] = (labels.joint, np.concatenate([self._visible, self._infrared]))
        measured: dict[str, float] = {}
        for name, (pseudo, identities) in parts.items():
            quality = clustering_quality(pseudo, identities)
            measured |= {f"ari_{name}": quality["ari"], f"nmi_{name}": quality["nmi"]}
        measured["match_precision"] = matching_precision(
            labels.matching, labels.visible, self._visible, labels.infrared, self._infrared
        )
        return measured
