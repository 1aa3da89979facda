"""`pclhd cluster`: read features, cluster them, measure the clusters, write the labels."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pclhd import __version__
from pclhd.clustering.options import CUTS_AT_EPS, JOINT_DEFAULTS, ClusteringOptions
from pclhd.errors import ArgumentError
from pclhd.features.labels import check_labels_path, write_labels
from pclhd.features.read import INFRARED, VISIBLE, FeatureTable, read_features, read_identities, read_modality
from pclhd.files import claiming
from pclhd.workflows.cluster_summary import ClusterSummary, GroupSummary, MatchSummary, Stability

# Imports that take seconds are in the functions that compute, so that errors in options or files are reported
# immediately.
if TYPE_CHECKING:
    from pclhd.clustering.matching import Matching
    from pclhd.clustering.pipeline import Clustering

Match = Literal["progressive", "mutual", "transport"]

_SECOND_EPS = 0.9  # relative to the first: only pairs up to the first are stored
_RECALL_SAMPLES = 1000
_ROWS_PER_BLOCK = 4096
_UNIT_TOLERANCE = 1e-3  # rounding error of unit-length features saved in half precision

Phase = Callable[[str], AbstractContextManager[object]]


@dataclass(frozen=True)
class ClusterRequest:
    """The arguments of `pclhd cluster`.

    Attributes:
        features: See `read_features`.
        out: See `write_labels`.
        key: See `read_features`.
        modality: See `read_modality`; without it, all samples are clustered together.
        identities: See `read_identities`; the clusters are compared with them at the end.
        per_modality: Cluster each modality separately, then match the clusters.
        matching: Matching method; None means ``progressive``.
        normalise: Scale rows to length 1 first, unless they have it. The Jaccard similarity weights neighbours by −(2 −
            2 x·y), which is meaningful only for features of this length.
        options: Clustering options. Some sizes have other defaults if both modalities are clustered together
            (`JOINT_DEFAULTS`).
        force: Whether to replace an existing `out`.
    """

    features: Path
    out: Path
    key: str | None = None
    modality: str | None = None
    identities: str | None = None
    per_modality: bool = False
    matching: Match | None = None
    normalise: bool = True
    options: ClusteringOptions = field(default_factory=ClusteringOptions)
    force: bool = False

    @property
    def joint(self) -> bool:
        """Whether both modalities are clustered together."""
        return self.modality is not None and not self.per_modality


def run_clustering(request: ClusterRequest, phase: Phase | None = None) -> ClusterSummary:
    """Read, cluster, measure and write.

    Args:
        request: The arguments.
        phase: Called with the name of each phase; returns a context manager for the phase.

    Returns:
        A summary; the labels are in the file.

    Raises:
        UserError: Options that contradict each other, an unusable file, or an existing output. Nothing is written then.
    """
    check_request(request)
    check_labels_path(request.out, force=request.force)
    with claiming(request.out, replace=request.force):
        return _run_claimed(request, phase)


def _run_claimed(request: ClusterRequest, phase: Phase | None) -> ClusterSummary:
    seconds: dict[str, float] = {}

    @contextmanager
    def timed(name: str, text: str) -> Iterator[None]:
        begin = time.perf_counter()
        with phase(text) if phase is not None else nullcontext():
            yield
        seconds[name] = time.perf_counter() - begin

    with timed("reading", f"reading {request.features}"):
        table = read_features(request.features, key=request.key)
        modality = None if request.modality is None else read_modality(request.modality, table, request.features)
        identities = (
            None if request.identities is None else read_identities(request.identities, table, request.features)
        )
        lengths = np.sqrt(np.einsum("nd,nd->n", table.features, table.features, dtype=np.float64))
        scale = request.normalise and bool((np.abs(lengths - 1) > _UNIT_TOLERANCE).any())
        features = unit_length(table.features) if scale else table.features
    with timed("clustering", f"clustering {len(table):,} samples by {request.options.clustering}"):
        parts = _cluster(features, modality, request)
        matching = _match(features, parts, request) if request.per_modality else None
    with timed("measuring", "measuring the clusters"):
        confidence = _confidence(features, parts)
        groups = tuple(_describe(features, part, modality, identities, request) for part in parts)
        matched = None if matching is None else _describe_matching(matching, parts, identities, request)
    with timed("writing", f"writing {request.out}"):
        columns = _columns(table, request, modality, parts, matching, confidence)
        facts = {"pclhd": _provenance(parts, request, scale)}
        write_labels(request.out, columns, facts, replace=request.force)
    return ClusterSummary(
        features=str(request.features),
        out=str(request.out),
        columns=("label",) if request.out.suffix.lower() == ".npy" else tuple(columns),
        samples=len(table),
        width=features.shape[1],
        visible=None if modality is None else int((modality == VISIBLE).sum()),
        infrared=None if modality is None else int((modality == INFRARED).sum()),
        length_min=float(lengths.min()),
        length_max=float(lengths.max()),
        normalised=scale,
        method=request.options.clustering,
        groups=groups,
        matching=matched,
        seconds=seconds,
    )


def check_request(request: ClusterRequest) -> None:
    """Refuse values out of range, and options without effect.

    Raises:
        UserError: There is such an option.
    """
    options, given = request.options, request.options.model_fields_set
    for argument, needed, has in (
        ("eps", "`clustering` dbscan or agglomerative", options.clustering in CUTS_AT_EPS),
        ("resolution", "`clustering` community", options.clustering == "community"),
        ("balanced_neighbours", "`modality`", request.modality is not None),
        ("modality_balance", "`modality`", request.modality is not None),
    ):
        if argument in given and not has:
            raise ArgumentError(argument, f"has an effect only with {needed}; add that, or leave it out")
        if needed == "`modality`" and argument in given and request.per_modality:
            raise ArgumentError(
                argument,
                "is for both modalities together, `per_modality` for each separately; leave out one of the two",
            )
    if request.per_modality and request.modality is None:
        raise ArgumentError("per_modality", "has an effect only with `modality`; add that, or leave it out")
    if request.matching is not None and not request.per_modality:
        raise ArgumentError("matching", "has an effect only with `per_modality`; add that, or leave it out")


def clustering_options(request: ClusterRequest) -> ClusteringOptions:
    """The options of `cluster_features` for a request."""
    from pclhd.devices import resolve_device

    options = request.options
    joint = {name: size for name, size in JOINT_DEFAULTS.items() if name not in options.model_fields_set}
    return options.changed(device=str(resolve_device(options.device)), **(joint if request.joint else {}))


def unit_length(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows scaled to length 1; rows of zeros do not change."""
    scaled = np.empty_like(features)
    for start in range(0, len(features), _ROWS_PER_BLOCK):
        rows = features[start : start + _ROWS_PER_BLOCK].astype(np.float64)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        scaled[start : start + _ROWS_PER_BLOCK] = rows / np.where(lengths > 0, lengths, 1.0)
    return scaled


@dataclass(frozen=True)
class _Part:
    """Samples that were clustered together: their rows and the clustering."""

    name: str
    rows: NDArray[np.int64]
    clustering: Clustering


def _cluster(
    features: NDArray[np.float32], modality: NDArray[np.int64] | None, request: ClusterRequest
) -> tuple[_Part, ...]:
    from pclhd.clustering.pipeline import cluster_features

    options = clustering_options(request)
    if modality is None or not request.per_modality:
        rows = np.arange(len(features))
        return (_Part("all", rows, cluster_features(features, options, modality=modality)),)
    return tuple(
        _Part(name, rows, cluster_features(features[rows], options))
        for name, rows in (
            ("visible", np.flatnonzero(modality == VISIBLE)),
            ("infrared", np.flatnonzero(modality == INFRARED)),
        )
    )


def _match(features: NDArray[np.float32], parts: Sequence[_Part], request: ClusterRequest) -> Matching:
    from pclhd.clustering.matching import match_clusters
    from pclhd.clustering.pseudo_labels import cluster_centres

    visible, infrared = (cluster_centres(features[part.rows], part.clustering.labels) for part in parts)
    return match_clusters(visible, infrared, method=request.matching or "progressive")


def _confidence(features: NDArray[np.float32], parts: Sequence[_Part]) -> NDArray[np.float32]:
    """The confidence of each row, over all parts."""
    from pclhd.clustering.confidence import label_confidence

    result = np.empty(len(features), dtype=np.float32)
    for part in parts:
        clustering = part.clustering
        found = label_confidence(
            clustering.similarity,
            clustering.clustered(features[part.rows]),
            clustering.clustered(clustering.labels),
            device=clustering.options.device,
        )
        result[part.rows] = clustering.of_all(found, 0.0)
    return result


def _describe(
    features: NDArray[np.float32],
    part: _Part,
    modality: NDArray[np.int64] | None,
    identities: NDArray[np.int64] | None,
    request: ClusterRequest,
) -> GroupSummary:
    from pclhd.clustering.confidence import silhouettes
    from pclhd.clustering.pseudo_labels import NOISE, PseudoLabels
    from pclhd.clustering.quality import clustering_quality

    labels, options = part.clustering.labels, part.clustering.options
    pseudo = PseudoLabels(labels)
    sizes, measured = pseudo.sizes, part.clustering.clustered(labels)
    clustered = measured != NOISE
    k1, k2 = options.numbers()
    return GroupSummary(
        name=part.name,
        samples=len(pseudo),
        clusters=pseudo.num_clusters,
        noise=pseudo.noise_share,
        size_min=int(sizes.min(initial=len(pseudo))) if len(sizes) else 0,
        size_median=float(np.median(sizes)) if len(sizes) else 0.0,
        size_max=int(sizes.max(initial=0)),
        k1=k1,
        k2=k2,
        eps=_eps_used(part.clustering),
        eps_chosen=request.options.eps == "auto",
        silhouette=float(silhouettes(part.clustering.similarity, measured)[clustered].mean()) if len(sizes) else None,
        stability=_stability(part.clustering),
        recall=_recall(features[part.rows], part.clustering, None if request.per_modality else modality),
        thinned=part.clustering.neighbourhoods.thinned,
        warnings=tuple(part.clustering.neighbourhoods.warnings()),
        quality=None if identities is None else clustering_quality(labels, identities[part.rows]),
    )


def _eps_used(clustering: Clustering) -> float | None:
    eps = clustering.options.eps
    return float(eps) if clustering.options.clustering in CUTS_AT_EPS and not isinstance(eps, str) else None


def _stability(clustering: Clustering) -> Stability | None:
    """Cluster the same graph at a smaller eps, and compare."""
    from pclhd.clustering.confidence import stability
    from pclhd.clustering.pipeline import graph_labels

    eps = _eps_used(clustering)
    if eps is None or clustering.labels.max(initial=-1) < 0:
        return None
    second = graph_labels(clustering.similarity, clustering.options.changed(eps=_SECOND_EPS * eps))
    return Stability(_SECOND_EPS * eps, stability(clustering.clustered(clustering.labels), second))


def _recall(features: NDArray[np.float32], clustering: Clustering, modality: NDArray[np.int64] | None) -> float | None:
    """Recall of an approximate search on a sample of the rows; None if the search was exact."""
    from pclhd.clustering.search import is_approximate, neighbour_recall

    options = clustering.options
    if not is_approximate(options.search, len(features)):
        return None
    balance = modality if options.balanced_neighbours else None
    generator = np.random.default_rng(0)
    return neighbour_recall(
        clustering.clustered(features),
        clustering.neighbours,
        modality=None if balance is None else clustering.clustered(balance),
        sample=_RECALL_SAMPLES,
        generator=generator,
    )


def _describe_matching(
    matching: Matching, parts: Sequence[_Part], identities: NDArray[np.int64] | None, request: ClusterRequest
) -> MatchSummary:
    from pclhd.clustering.matching import NO_PARTNER
    from pclhd.clustering.quality import matching_outcomes, matching_precision

    precision = outcomes = None
    if identities is not None:
        visible, infrared = ((part.clustering.labels, identities[part.rows]) for part in parts)
        precision = matching_precision(matching, *visible, *infrared)
        outcomes = matching_outcomes(matching, *visible, *infrared)
    return MatchSummary(
        method=request.matching or "progressive",
        visible=int((matching.visible_to_infrared != NO_PARTNER).sum()),
        infrared=int((matching.infrared_to_visible != NO_PARTNER).sum()),
        precision=precision,
        outcomes=outcomes,
    )


def _columns(
    table: FeatureTable,
    request: ClusterRequest,
    modality: NDArray[np.int64] | None,
    parts: Sequence[_Part],
    matching: Matching | None,
    confidence: NDArray[np.float32],
) -> dict[str, NDArray[Any]]:
    """The output columns: row number, columns of the input file, and results."""
    label, partner = _numbered_once(len(table), parts, matching)
    after: dict[str, NDArray[Any]] = {"label": label, "confidence": confidence}
    if modality is not None and request.modality not in table.columns:
        after = {"modality": np.array(["visible", "infrared"])[modality], **after}
    if partner is not None:
        after["partner"] = partner
    columns: dict[str, NDArray[Any]] = {"row": np.arange(len(table), dtype=np.int64)}
    for name, values in table.columns.items():
        # A column of the features' file with the name of one of ours is renamed, without clashing with another column.
        new_name = name
        while new_name == "row" or new_name in after or (new_name != name and new_name in table.columns):
            new_name = f"input_{new_name}"
        columns[new_name] = values
    return {**columns, **after}


def _numbered_once(
    number: int, parts: Sequence[_Part], matching: Matching | None
) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """Labels and partners of all rows. The numbers of infrared clusters follow those of the visible ones."""
    label = np.full(number, -1, dtype=np.int64)
    if matching is None:
        (part,) = parts
        label[part.rows] = part.clustering.labels
        return label, None
    partner = np.full(number, -1, dtype=np.int64)
    visible, infrared = parts
    first_infrared = len(matching.visible_to_infrared)
    for part, partners, own_first, other_first in (
        (visible, matching.visible_to_infrared, 0, first_infrared),
        (infrared, matching.infrared_to_visible, first_infrared, 0),
    ):
        labels = part.clustering.labels
        rows, clusters = part.rows[labels >= 0], labels[labels >= 0]
        label[rows] = clusters + own_first
        other = partners[clusters]
        partner[rows] = np.where(other >= 0, other + other_first, -1)
    return label, partner


def _provenance(parts: Sequence[_Part], request: ClusterRequest, normalised: bool) -> str:
    """How the labels were made, for the file's metadata."""
    return json.dumps(
        {
            "version": __version__,
            "normalised": normalised,
            "match": (request.matching or "progressive") if request.per_modality else None,
            "clustering": {part.name: part.clustering.options.model_dump() for part in parts},
        },
        sort_keys=True,
    )
