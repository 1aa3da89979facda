"""Identities in the place of pseudo labels: for the supervised and semi-supervised bounds on the same engine.

The engine asks a labeller what the clusters of an epoch are, and takes what it gets. Here is the one that answers with
identities. Nothing that the engine imports imports this module, and only the recipes whose `labels` say so get it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pclhd.clustering.matching import Matching
from pclhd.clustering.pseudo_labels import compact_labels
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
        self._identities = _frozen(compact_labels(identities))
        self._visible = _frozen(compact_labels(identities[~infrared]))
        # Whoever asks for the visible identities must not be able to reach the others.
        self._infrared = None if visible_only else _frozen(compact_labels(identities[infrared]))
        self._matching = None if visible_only else _same_person(identities[~infrared], identities[infrared])

    def __call__(
        self,
        visible: Features,
        infrared: Features,
        cameras: tuple[NDArray[np.int64] | None, NDArray[np.int64] | None],
        *,
        settings: ClusteringSettings,
        recipe: Recipe,
        joint: bool,
    ) -> EpochLabels:
        """See `pclhd.engine.labelling.label_epoch`, whose place this takes."""
        if self._infrared is not None and self._matching is not None:
            groupings = {"visible": Grouping(self._visible), "infrared": Grouping(self._infrared)}
            if joint:
                groupings["joint"] = Grouping(self._identities)
            return EpochLabels(
                self._visible, self._infrared, self._identities if joint else None, self._matching, groupings
            )
        visible, infrared = centre_features(visible, infrared, cameras, recipe)
        return across_modalities(
            visible,
            infrared,
            Grouping(self._visible),
            cluster_modality(infrared, "infrared", settings=settings, recipe=recipe),
            settings=settings,
            recipe=recipe,
            joint=joint,
        )


def _same_person(visible: NDArray[np.int64], infrared: NDArray[np.int64]) -> Matching:
    """Partners are the same person; one who was seen in one modality only has none."""
    people = np.unique(visible), np.unique(infrared)
    _, in_visible, in_infrared = np.intersect1d(*people, return_indices=True)
    matching = Matching(np.full(len(people[0]), -1, dtype=np.int64), np.full(len(people[1]), -1, dtype=np.int64))
    matching.visible_to_infrared[in_visible] = in_infrared
    matching.infrared_to_visible[in_infrared] = in_visible
    return matching


def _frozen(labels: Labels) -> Labels:
    labels.setflags(write=False)
    return labels
