"""The end of a training: what the final model makes of the training images, for the report. Nothing is trained here."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pclhd.clustering.pseudo_labels import cluster_centres
from pclhd.data.records import Modality
from pclhd.engine.labelling import EpochLabels, Features, Labels
from pclhd.engine.session import Session
from pclhd.models.activation import activation_maps
from pclhd.models.two_stream import TwoStreamNetwork
from pclhd.pair import Pair
from pclhd.runs.survey import CHOSEN_AS, Survey

# At most this number is shown; the file stays below about two megabytes for 34,000 images.
_MAP_IMAGES = 1500
_MAP_COMPONENTS = 32
_ALIKE = 12
_QUERIES = {"spread": 6, "surest": 3, "least sure": 3}
_HITS = 10
_FOCUS = 8
# Queries that are ranked to find the surest ones, and rows of similarities in memory at once.
_RANKED = 2000
_BLOCK = 128


Look = Callable[[Modality, list[int]], Features]
"""Activation maps, (A, h, w), of some images of a modality by their rows."""


def survey_session(
    session: Session, network: TwoStreamNetwork, features: Pair[Features], labels: EpochLabels, checksum: str
) -> Survey:
    """Describe the training images of a session as the final model sees them; see `survey_images`."""

    def look(modality: Modality, rows: list[int]) -> Features:
        return activation_maps(network, session.images.of(modality.value).images[rows], modality)

    return survey_images(features, labels, checksum, random=session.streams.numpy("survey"), look=look)


def survey_images(
    features: Pair[Features], labels: EpochLabels, checksum: str, *, random: np.random.Generator, look: Look
) -> Survey:
    """Describe the training images as the final model sees them.

    Args:
        features: (N, D) and (M, D), unit length.
        labels: The clusters of each modality and their partners.
        checksum: Checksum of the training set.
        random: Draws the images of the map.
        look: Makes activation maps.

    Returns:
        Arrays of bounded size; see `Survey`.
    """
    centres = Pair(*map(_unit_centres, features, labels.own))
    alike = centres.map(most_alike)
    queries, kinds, hits, similarity = _ranked(features, labels.infrared, random)
    rows = np.sort(random.permutation(sum(map(len, features)))[:_MAP_IMAGES])
    focus_rows, focus = _focus(len(features.visible), queries, look)
    return Survey(
        checksum=checksum,
        visible=labels.visible.astype(np.int32),
        infrared=labels.infrared.astype(np.int32),
        to_centroid=np.concatenate([*map(_to_centroid, features, labels.own, centres)]),
        visible_partners=labels.matching.visible_to_infrared.astype(np.int32),
        infrared_partners=labels.matching.infrared_to_visible.astype(np.int32),
        partner_similarity=_partner_similarity(centres, labels.matching.visible_to_infrared),
        visible_alike=alike.visible[0],
        visible_alike_similarity=alike.visible[1],
        infrared_alike=alike.infrared[0],
        infrared_alike_similarity=alike.infrared[1],
        queries=queries,
        query_kind=kinds,
        hits=hits,
        hit_similarity=similarity,
        map_rows=rows.astype(np.int32),
        map_features=principal_components(np.concatenate(features)[rows], _MAP_COMPONENTS),
        focus_rows=focus_rows,
        focus=focus,
    )


def principal_components(features: Features, most: int) -> Features:
    """(N, F) coordinates along the directions of largest variance, F at most `most`.

    Args:
        features: (N, D).
        most: Largest number of directions.
    """
    centred = features - features.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    found: Features = (centred @ directions[:most].T).astype(np.float32)
    return found


def _unit_centres(features: Features, labels: Labels) -> Features:
    centres = cluster_centres(features, labels)
    unit: Features = (centres / np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-12)).astype(np.float32)
    return unit


def _to_centroid(features: Features, labels: Labels, centres: Features) -> Features:
    cosine = np.einsum("nd,nd->n", features, centres[labels])
    found: Features = np.where(labels >= 0, cosine, 0).astype(np.float32)
    return found


def _partner_similarity(centres: Pair[Features], partners: Labels) -> Features:
    cosine = np.einsum("cd,cd->c", centres.visible, centres.infrared[partners])
    found: Features = np.where(partners >= 0, cosine, 0).astype(np.float32)
    return found


def most_alike(centres: Features) -> tuple[NDArray[np.int32], Features]:
    """Pairs of clusters with the most similar centroids, each cluster in at most one pair."""
    if len(centres) < 2:
        return np.empty((0, 2), np.int32), np.empty(0, np.float32)
    nearest, cosine = np.empty(len(centres), np.int64), np.empty(len(centres), np.float32)
    for start in range(0, len(centres), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(centres)))
        table = centres[rows] @ centres.T
        table[np.arange(len(rows)), rows] = -np.inf
        nearest[rows], cosine[rows] = table.argmax(axis=1), table.max(axis=1)
    pairs: dict[tuple[int, int], float] = {}
    used: set[int] = set()
    for row in np.argsort(-cosine, kind="stable").tolist():
        pair = (row, int(nearest[row]))
        if len(pairs) < _ALIKE and not used & set(pair):
            pairs[pair] = float(cosine[row])
            used |= set(pair)
    return np.array(list(pairs), dtype=np.int32), np.array(list(pairs.values()), dtype=np.float32)


def _ranked(
    features: Pair[Features], infrared: Labels, random: np.random.Generator
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], Features]:
    """Infrared queries with the nearest visible images: some spread over the clusters, the surest, the least sure.

    Returns:
        Rows of the queries, their kinds, rows of the hits, cosines.
    """
    asked = np.sort(random.permutation(len(features.infrared))[:_RANKED])
    nearest = np.concatenate(
        [(features.infrared[asked[k : k + _BLOCK]] @ features.visible.T).max(1) for k in range(0, len(asked), _BLOCK)]
    )
    clusters = np.flatnonzero(np.bincount(infrared[infrared >= 0]))
    spread = clusters[np.linspace(0, len(clusters) - 1, min(_QUERIES["spread"], len(clusters))).round().astype(int)]
    chosen = {int(np.flatnonzero(infrared == cluster)[0]): "spread" for cluster in spread}
    by_similarity = asked[np.argsort(-nearest, kind="stable")].tolist()
    for kind, order in (("surest", by_similarity), ("least sure", by_similarity[::-1])):
        left = [row for row in order if row not in chosen]
        chosen |= dict.fromkeys(left[: _QUERIES[kind]], kind)
    rows = np.array(list(chosen), dtype=np.int32)
    cosine = features.infrared[rows] @ features.visible.T
    hits = np.argsort(-cosine, axis=1, kind="stable")[:, :_HITS].astype(np.int32)
    kinds = np.array([CHOSEN_AS.index(kind) for kind in chosen.values()], dtype=np.int32)
    return rows + len(features.visible), kinds, hits, np.take_along_axis(cosine, hits, axis=1)


def _focus(visible: int, queries: NDArray[np.int32], look: Look) -> tuple[NDArray[np.int32], Features]:
    """Activation maps of some visible and some infrared images; none if the network keeps no grid of positions."""
    half = _FOCUS // 2
    spread = np.linspace(0, visible - 1, min(half, visible)).round().astype(np.int32)
    asked = queries[:half]
    maps = [look(Modality.VISIBLE, spread.tolist()), look(Modality.INFRARED, (asked - visible).tolist())]
    if maps[0].shape[2] < 2:
        return np.empty(0, np.int32), np.empty((0, 1, 1), np.float32)
    return np.concatenate([spread, asked]), np.concatenate(maps)
