"""Identities in the place of pseudo labels: for the supervised and semi-supervised bounds on the same engine.

The engine asks a labeller what the clusters of an epoch are, and takes what it gets. Here is the one that answers with
identities. Nothing that the engine imports imports this module, and only the recipes whose `labels` say so get it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pclhd.clustering.matching import NO_PARTNER, Matching
from pclhd.clustering.neighbours import NearestSearch, nearest_neighbours
from pclhd.config import ClusteringSettings
from pclhd.data.records import Dataset, Modality
from pclhd.engine.labelling import (
    EpochLabels,
    Features,
    Grouping,
    Labels,
    across_modalities,
    centre_features,
    cluster_modality,
)
from pclhd.errors import UserError
from pclhd.recipes import Recipe


class IdentityLabeller:
    """Labels an epoch with identities: those of all images, or of the visible ones alone.

    Args:
        dataset: With identities of its training part.
        visible_only: Cluster the infrared images instead of looking at their identities.

    Raises:
        UserError: The training part has no identities.
    """

    def __init__(self, dataset: Dataset, *, visible_only: bool) -> None:
        if dataset.train_identities is None:
            raise UserError(
                f"{dataset.root}: the training images have no identities, which this recipe trains with; choose one "
                "without, such as recipe=pclhd"
            )
        identities = np.array(dataset.train_identities, dtype=np.int64)
        infrared = np.array([image.modality is Modality.INFRARED for image in dataset.train.images])
        self._visible = _numbered(identities[~infrared])
        # Whoever asks for the visible identities must not be able to reach the others: nothing of them is kept.
        self._everybody = None if visible_only else _Everybody.of(identities, infrared)

    def __call__(
        self,
        visible: Features,
        infrared: Features,
        cameras: tuple[NDArray[np.int64] | None, NDArray[np.int64] | None],
        *,
        settings: ClusteringSettings,
        recipe: Recipe,
        joint: bool,
        previous: tuple[Labels, Labels] | None = None,
        nearest: NearestSearch = nearest_neighbours,
    ) -> EpochLabels:
        """See `pclhd.engine.labelling.label_epoch`, whose place this takes."""
        everybody = self._everybody
        if everybody is not None:
            return EpochLabels(
                self._visible, everybody.infrared, everybody.joint if joint else None, everybody.matching
            )
        visible, infrared = centre_features(visible, infrared, cameras, recipe)
        labels = across_modalities(
            visible,
            infrared,
            Grouping(self._visible),
            cluster_modality(
                infrared,
                "infrared",
                settings=settings,
                recipe=recipe,
                previous=None if previous is None else previous[1],
                nearest=nearest,
            ),
            settings=settings,
            recipe=recipe,
            joint=joint,
            nearest=nearest,
        )
        # Of identities there is nothing to tell: no radius, no silhouette, no confidence.
        clustered = {name: grouping for name, grouping in labels.groupings.items() if name != "visible"}
        return replace(labels, groupings=clustered)


@dataclass(frozen=True)
class _Everybody:
    """What the identities of both modalities say.

    Attributes:
        infrared: (Nr,) labels of the infrared images.
        joint: (Nv + Nr,) labels of all images, visible rows first.
        matching: The same person in both.
    """

    infrared: Labels
    joint: Labels
    matching: Matching

    @classmethod
    def of(cls, identities: Labels, infrared: NDArray[np.bool_]) -> _Everybody:
        parts = identities[~infrared], identities[infrared]
        return cls(_numbered(parts[1]), _numbered(np.concatenate(parts)), _same_person(*parts))


def _same_person(visible: NDArray[np.int64], infrared: NDArray[np.int64]) -> Matching:
    """Partners are the same person; one who was seen in one modality only has none."""
    people = np.unique(visible), np.unique(infrared)
    _, in_visible, in_infrared = np.intersect1d(*people, return_indices=True)
    nobody = [np.full(len(part), NO_PARTNER, dtype=np.int64) for part in people]
    matching = Matching(nobody[0], nobody[1])
    matching.visible_to_infrared[in_visible] = in_infrared
    matching.infrared_to_visible[in_infrared] = in_visible
    return matching


def _numbered(identities: Labels) -> Labels:
    """Labels 0, 1, … in the order of the identities, which may be any whole numbers."""
    labels = np.unique(identities, return_inverse=True)[1].reshape(-1).astype(np.int64)
    labels.setflags(write=False)
    return labels
