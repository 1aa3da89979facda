"""Identities instead of pseudo labels, for the supervised and semi-supervised recipes.

The engine gets an epoch's labels from a labeller. This one returns identities. The engine never imports this module,
directly or indirectly; it gets such a labeller only for recipes whose `labels` are identities.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pclhd.clustering.matching import NO_PARTNER, Matching
from pclhd.data.records import Dataset, Modality
from pclhd.engine.labelling import (
    EpochLabels,
    Grouping,
    LabelRequest,
    Labels,
    cluster_modality,
    label_across_modalities,
)
from pclhd.errors import UserError
from pclhd.pair import Pair


class IdentityLabeller:
    """Labels an epoch with identities: those of all images, or only of the visible ones.

    Args:
        dataset: A data set with identities of its training part.
        visible_only: Cluster the infrared images instead of using their identities.

    Raises:
        UserError: The training part has no identities.
    """

    def __init__(self, dataset: Dataset, *, visible_only: bool) -> None:
        if dataset.train_identities is None:
            raise UserError(
                f"{dataset.root}: the training images have no identities, which this recipe needs; choose one "
                "without, such as recipe=pclhd"
            )
        identities = np.array(dataset.train_identities, dtype=np.int64)
        infrared = np.array([image.modality is Modality.INFRARED for image in dataset.train.images])
        self._visible = _numbered(identities[~infrared])
        # With `visible_only`, the infrared identities are not stored, so that they cannot be used.
        self._all_labels = None if visible_only else _AllLabels.of(identities, infrared)

    def __call__(self, request: LabelRequest, /) -> EpochLabels:
        """See `pclhd.engine.labelling.label_epoch`, which this replaces."""
        all_labels = self._all_labels
        if all_labels is not None:
            return EpochLabels(
                self._visible, all_labels.infrared, all_labels.joint if request.joint else None, all_labels.matching
            )
        request = request.centred()
        own = Pair(Grouping(self._visible), cluster_modality(request, "infrared"))
        labels = label_across_modalities(request, own)
        # Identities have no eps, no silhouette and no confidence.
        clustered = {name: grouping for name, grouping in labels.groupings.items() if name != "visible"}
        return replace(labels, groupings=clustered)


@dataclass(frozen=True)
class _AllLabels:
    """The labels from the identities of both modalities.

    Attributes:
        infrared: (Nr,) labels of the infrared images.
        joint: (Nv + Nr,) labels of all images, visible rows first.
        matching: Clusters of the same person.
    """

    infrared: Labels
    joint: Labels
    matching: Matching

    @classmethod
    def of(cls, identities: Labels, infrared: NDArray[np.bool_]) -> _AllLabels:
        parts = Pair(identities[~infrared], identities[infrared])
        return cls(_numbered(parts.infrared), _numbered(np.concatenate(parts)), _same_person(parts))


def _same_person(identities: Pair[Labels]) -> Matching:
    """Clusters of the same person are matched; a person in only one modality has no match."""
    people = identities.map(np.unique)
    _, in_visible, in_infrared = np.intersect1d(*people, return_indices=True)
    matching = Matching(*people.map(lambda part: np.full(len(part), NO_PARTNER, dtype=np.int64)))
    matching.visible_to_infrared[in_visible] = in_infrared
    matching.infrared_to_visible[in_infrared] = in_visible
    return matching


def _numbered(identities: Labels) -> Labels:
    """Labels 0, 1, … in the order of the identities, which may be any integers."""
    labels = np.unique(identities, return_inverse=True)[1].reshape(-1).astype(np.int64)
    labels.setflags(write=False)
    return labels
