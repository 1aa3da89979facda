"""Agreement of pseudo labels with identities, for callers that have identities."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pclhd.clustering.matching import Matching
from pclhd.clustering.quality import clustering_quality, matching_outcomes, matching_precision
from pclhd.data.records import Dataset, Modality
from pclhd.pair import Pair


class PseudoLabels(Protocol):
    """Pseudo labels of an epoch, as the engine makes them; −1 is noise."""

    @property
    def visible(self) -> NDArray[np.int64]:
        """(Nv,) labels of the visible images."""

    @property
    def infrared(self) -> NDArray[np.int64]:
        """(Nr,) labels of the infrared images."""

    @property
    def joint(self) -> NDArray[np.int64] | None:
        """(Nv + Nr,) joint labels, visible rows first, or None."""

    @property
    def drawn(self) -> Pair[NDArray[np.int64] | None]:
        """The rows of each modality that the epoch used; None for all."""

    @property
    def matching(self) -> Matching:
        """The partners of the clusters."""


class ClusterMeter:
    """Measures the pseudo labels of an epoch against identities; training does not use the results.

    Args:
        dataset: A data set with identities of its training part.

    Raises:
        ValueError: It has no identities.
    """

    def __init__(self, dataset: Dataset) -> None:
        if dataset.train_identities is None:
            raise ValueError(f"{dataset.name} has no training identities to measure clusters with")
        identities = np.array(dataset.train_identities, dtype=np.int64)
        infrared = np.array([image.modality is Modality.INFRARED for image in dataset.train.images])
        self._visible, self._infrared = identities[~infrared], identities[infrared]

    def measure(self, labels: PseudoLabels) -> dict[str, float]:
        """ARI and NMI of each clustering, and what became of the matched clusters, over the images of the epoch."""
        rows = [slice(None) if part is None else part for part in labels.drawn]
        visible, infrared = labels.visible[rows[0]], labels.infrared[rows[1]]
        people = self._visible[rows[0]], self._infrared[rows[1]]
        parts = {"visible": (visible, people[0]), "infrared": (infrared, people[1])}
        if labels.joint is not None:
            halves = np.split(labels.joint, [len(self._visible)])
            joint = np.concatenate([half[part] for half, part in zip(halves, rows, strict=True)])
            parts["joint"] = (joint, np.concatenate(people))
        measured: dict[str, float] = {}
        for name, (pseudo, identities) in parts.items():
            quality = clustering_quality(pseudo, identities)
            measured |= {f"ari_{name}": quality["ari"], f"nmi_{name}": quality["nmi"]}
        matched = (labels.matching, visible, people[0], infrared, people[1])
        return measured | {"match_precision": matching_precision(*matched)} | matching_outcomes(*matched)
