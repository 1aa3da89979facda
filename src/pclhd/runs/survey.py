"""What the final model makes of the training images: clusters, partners, ranked lists, a map. Written by a training.

The file holds numbers only. They refer to the images by their place in the `TrainingSet`, so it has no paths and no
identities, and says nothing about images whose checksum is not the run's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save

from pclhd.errors import UserError
from pclhd.pair import Pair
from pclhd.parsing import open_tensors, parse_json

FORMAT = "pclhd-survey-1"
_PREFIX = "survey/"
_FACTS = "pclhd"

Integers = NDArray[np.int32]
Floats = NDArray[np.float32]

#: How the queries of the ranked lists were chosen, by code.
CHOSEN_AS = ("spread", "surest", "least sure")


@dataclass(frozen=True, eq=False)
class Survey:
    """The training images as the final model sees them; no label was used.

    Rows number the training images, N visible ones first, then M infrared ones.

    Attributes:
        checksum: Checksum of the training images.
        visible: (N,) cluster of each visible image; −1 is noise.
        infrared: (M,) cluster of each infrared image.
        to_centroid: (N + M,) cosine of each image with the centroid of its cluster; 0 for noise.
        visible_partners: (Cv,) the infrared cluster that each visible cluster was matched with, or −1.
        infrared_partners: (Cr,) the reverse.
        partner_similarity: (Cv,) cosine of the centroids of a visible cluster and its partner; 0 without a partner.
        visible_alike: (P, 2) pairs of visible clusters with the most similar centroids, the most similar pair first.
        visible_alike_similarity: (P,) their cosines.
        infrared_alike: The same of infrared clusters.
        infrared_alike_similarity: Their cosines.
        queries: (Q,) rows of infrared images.
        query_kind: (Q,) places in `CHOSEN_AS`.
        hits: (Q, T) rows of the nearest visible images, the nearest first.
        hit_similarity: (Q, T) their cosines.
        map_rows: (S,) rows of the images on the map, drawn at random.
        map_features: (S, F) the leading principal components of their embeddings.
        focus_rows: (A,) rows of images with an activation map.
        focus: (A, h, w) length of the last feature map at each position, from 0 to 1.
    """

    checksum: str
    visible: Integers
    infrared: Integers
    to_centroid: Floats
    visible_partners: Integers
    infrared_partners: Integers
    partner_similarity: Floats
    visible_alike: Integers
    visible_alike_similarity: Floats
    infrared_alike: Integers
    infrared_alike_similarity: Floats
    queries: Integers
    query_kind: Integers
    hits: Integers
    hit_similarity: Floats
    map_rows: Integers
    map_features: Floats
    focus_rows: Integers
    focus: Floats

    @property
    def labels(self) -> Pair[Integers]:
        """The clusters of both modalities."""
        return Pair(self.visible, self.infrared)

    @property
    def clusters(self) -> Pair[int]:
        """The number of clusters of each modality."""
        return Pair(len(self.visible_partners), len(self.infrared_partners))

    def __len__(self) -> int:
        return len(self.visible) + len(self.infrared)

    def members(self, modality: str, cluster: int) -> Integers:
        """Rows of a cluster's images, the one nearest its centroid first."""
        first = 0 if modality == "visible" else len(self.visible)
        rows = first + np.flatnonzero(self.labels.of(modality) == cluster)  # type: ignore[arg-type]
        ordered: Integers = rows[np.argsort(-self.to_centroid[rows], kind="stable")].astype(np.int32)
        return ordered


_ARRAYS = tuple(one.name for one in fields(Survey) if one.name != "checksum")
_FLOATS = {name for name in _ARRAYS if "similarity" in name} | {"to_centroid", "map_features", "focus"}
_DIMENSIONS = {
    **dict.fromkeys(("visible_alike", "infrared_alike", "hits", "hit_similarity", "map_features"), 2),
    "focus": 3,
}


def survey_bytes(survey: Survey) -> bytes:
    """The content of the file; half precision is enough for what is shown."""
    arrays = {f"{_PREFIX}{name}": _narrow(name, getattr(survey, name)) for name in _ARRAYS}
    # One entry: safetensors writes several in any order, and equal trainings are to leave equal files.
    return save(arrays, {_FACTS: json.dumps({"format": FORMAT, "checksum": survey.checksum})})


def _narrow(name: str, array: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(array, dtype=np.float16 if name in _FLOATS else np.int32)


def read_survey(path: Path) -> Survey | None:
    """Read the file; None if there is none, as in runs of older versions and imported ones.

    Raises:
        UserError: The file is unreadable or damaged, or a number in it refers to nothing.
    """
    if not path.exists():
        return None
    try:
        with open_tensors(path, "numpy") as file:
            facts = parse_json((file.metadata() or {})[_FACTS])
            if facts["format"] != FORMAT:
                raise ValueError("it has another format")
            saved = {name: _wide(name, file.get_tensor(f"{_PREFIX}{name}")) for name in _ARRAYS}
        survey = Survey(checksum=str(facts["checksum"]), **saved)
        _check(survey)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); delete it: the report then leaves its part out") from error
    return survey


def _wide(name: str, array: NDArray[Any]) -> NDArray[Any]:
    kind = np.floating if name in _FLOATS else np.integer
    if array.ndim != _DIMENSIONS.get(name, 1) or not np.issubdtype(array.dtype, kind):
        raise ValueError(f"`{name}` has shape {array.shape} and type {array.dtype}")
    wide = array.astype(np.float32 if name in _FLOATS else np.int32)
    if name in _FLOATS and not np.isfinite(wide).all():
        raise ValueError(f"`{name}` is not finite")
    return wide


def _check(survey: Survey) -> None:
    """Every number must refer to something, because the report looks it up."""
    images, clusters = len(survey), survey.clusters
    for name, numbers, below, lowest in (
        ("visible", survey.visible, clusters.visible, -1),
        ("infrared", survey.infrared, clusters.infrared, -1),
        ("visible_partners", survey.visible_partners, clusters.infrared, -1),
        ("infrared_partners", survey.infrared_partners, clusters.visible, -1),
        ("visible_alike", survey.visible_alike, clusters.visible, 0),
        ("infrared_alike", survey.infrared_alike, clusters.infrared, 0),
        ("queries", survey.queries, images, len(survey.visible)),
        ("query_kind", survey.query_kind, len(CHOSEN_AS), 0),
        ("hits", survey.hits, len(survey.visible), 0),
        ("map_rows", survey.map_rows, images, 0),
        ("focus_rows", survey.focus_rows, images, 0),
    ):
        if numbers.size and not (lowest <= numbers.min() and numbers.max() < below):
            raise ValueError(f"`{name}` has a number out of range")
    for name, count in (("visible", clusters.visible), ("infrared", clusters.infrared)):
        present = np.unique(survey.labels.of(name))  # type: ignore[arg-type]
        if len(present[present >= 0]) != count:
            raise ValueError(f"a cluster of `{name}` has no image")
    pairs = (
        ("to_centroid", images),
        ("partner_similarity", clusters.visible),
        ("visible_alike_similarity", len(survey.visible_alike)),
        ("infrared_alike_similarity", len(survey.infrared_alike)),
        ("query_kind", len(survey.queries)),
        ("hits", len(survey.queries)),
        ("map_features", len(survey.map_rows)),
        ("focus", len(survey.focus_rows)),
    )
    for name, length in pairs:
        if len(getattr(survey, name)) != length:
            raise ValueError(f"`{name}` has {len(getattr(survey, name))} rows instead of {length}")
    if survey.hits.shape != survey.hit_similarity.shape:
        raise ValueError("`hits` and `hit_similarity` have different shapes")
    for name in ("visible_alike", "infrared_alike"):
        if getattr(survey, name).shape[1:] != (2,):
            raise ValueError(f"`{name}` has no pairs")
