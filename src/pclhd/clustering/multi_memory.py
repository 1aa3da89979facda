"""Several memories per cluster, and matching across the modalities with them, after an idea of MMM.

One centre cannot represent a person seen from the front and from behind, by day and by night: it lies between the views
and is similar to none of them. So each cluster is split into a few parts by its own features; the mean of a part is a
memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pclhd.clustering.candidates import unit_length
from pclhd.clustering.matching import Matching, match_by_costs
from pclhd.clustering.pseudo_labels import NOISE, cluster_centres, compact_labels

#: Assignments to the nearest part are repeated until none changes, but at most this often.
ROUNDS = 20
#: Number of images of a cluster that may start a part; in a larger cluster, they are spread evenly over its images.
START_CANDIDATES = 256
#: A further part must raise the sum of cosines by more than this; below it, images count as identical.
ALIKE = 1e-6

_NUMBERS_PER_BLOCK = 2**22  # 32 MiB of float64


@dataclass(frozen=True)
class Parts:
    """A split of clusters.

    Attributes:
        labels: (N,) int64, the part of each image, 0…P−1 over all clusters; −1 for noise.
        owners: (P,) int64, the cluster of each part, ascending. Every cluster has at least one.
    """

    labels: NDArray[np.int64]
    owners: NDArray[np.int64]


def split_clusters(features: NDArray[np.floating], labels: NDArray[np.int64], most: int) -> Parts:
    """Split each cluster into at most `most` parts of images that resemble each other (ours).

    k-means with cosine similarity, without random draws. The first part starts at the image with the largest sum of
    cosines to all images of the cluster, each further one at the image that most raises the sum of the images' cosines
    to their nearest start. So an outlier starts a part only where nothing better is left to split; starts as far apart
    as possible would be outliers. A cluster gets fewer parts if it has fewer distinct images, or if a part loses its
    last image.

    Args:
        features: (N, D) embeddings of any length.
        labels: (N,) pseudo labels 0…C−1, none of them empty, and −1 for noise.
        most: Parts per cluster, at least 1.

    Raises:
        ValueError: `most` is below 1, shapes disagree, a label is below −1, a cluster is empty, or a feature is not
            finite.
    """
    if most < 1:
        raise ValueError(f"most must be at least 1, got {most}")
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise ValueError(f"features must be (N, D) and labels (N,), got {features.shape} and {labels.shape}")
    wrong = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(wrong):
        raise ValueError(f"features must be finite, but row {wrong[0]} holds NaN or infinity")
    if labels.min(initial=NOISE) < NOISE:
        raise ValueError(f"labels must be −1 or count from 0, got {labels.min()}")
    sizes = np.bincount(labels[labels != NOISE])
    if not sizes.all():
        raise ValueError(f"cluster {np.flatnonzero(sizes == 0)[0]} of {len(sizes)} has no image")
    by_cluster = np.argsort(labels, kind="stable")[len(labels) - sizes.sum() :]
    part_of = np.full(len(labels), NOISE, dtype=np.int64)
    owners: list[int] = []
    for cluster, members in enumerate(np.split(by_cluster, sizes.cumsum()[:-1]) if len(sizes) else []):
        parts = _split(unit_length(features[members]), most)
        part_of[members] = len(owners) + parts
        owners += [cluster] * (int(parts.max()) + 1)
    return Parts(part_of, np.array(owners, dtype=np.int64))


def _split(rows: NDArray[np.float64], most: int) -> NDArray[np.int64]:
    """The part (n,) of each row of one cluster, counted from 0 without gaps."""
    centres = rows[_starts(rows, most)]
    parts = np.full(len(rows), NOISE, dtype=np.int64)
    for _ in range(ROUNDS):
        nearest = compact_labels((rows @ centres.T).argmax(axis=1))
        if np.array_equal(nearest, parts):
            break
        parts = nearest
        centres = unit_length((parts == np.arange(parts.max() + 1)[:, None]).astype(np.float64) @ rows)
    return parts


def _starts(rows: NDArray[np.float64], most: int) -> list[int]:
    """Start rows: each next one is the row that most raises the sum of all rows' cosines to their nearest start."""
    candidates = np.linspace(0, len(rows) - 1, min(len(rows), START_CANDIDATES)).astype(np.int64)
    closeness = rows @ rows[candidates].T
    reached = np.full(len(rows), -1.0)  # the lowest cosine, so that there is always a first start
    starts: list[int] = []
    while len(starts) < most:
        totals = np.maximum(closeness, reached[:, None]).sum(axis=0)
        best = int(totals.argmax())
        if totals[best] - reached.sum() <= ALIKE:
            break
        starts.append(int(candidates[best]))
        reached = np.maximum(reached, closeness[:, best])
    return starts


def match_by_memories(
    visible: NDArray[np.floating],
    visible_labels: NDArray[np.int64],
    infrared: NDArray[np.floating],
    infrared_labels: NDArray[np.int64],
    *,
    most: int,
) -> Matching:
    """Match clusters by several memories per cluster: "progressive", with the costs of `multi_memory_costs`.

    With one memory per cluster, this is the progressive matching by centres of unit-length features. MMM's released
    code instead gives each visible cluster the infrared one of least cost, so some infrared clusters stay unmatched.

    Args:
        visible: (Nv, D) embeddings of any length.
        visible_labels: (Nv,) pseudo labels 0…Cv−1 and −1 for noise.
        infrared: (Nr, D) embeddings of any length.
        infrared_labels: (Nr,) likewise.
        most: Memories per cluster.

    Returns:
        Partners of all clusters; −1 only where the other modality has no cluster.

    Raises:
        ValueError: See `split_clusters`, or the modalities' features differ in width.
    """
    memories, owners = [], []
    for features, labels in ((visible, visible_labels), (infrared, infrared_labels)):
        parts = split_clusters(features, labels, most)
        memories.append(cluster_centres(unit_length(features), parts.labels))
        owners.append(parts.owners)
    return match_by_costs(multi_memory_costs(memories[0], owners[0], memories[1], owners[1]))


def multi_memory_costs(
    visible: NDArray[np.floating],
    visible_owners: NDArray[np.int64],
    infrared: NDArray[np.floating],
    infrared_owners: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Costs of pairs of clusters: the mean cost from each memory of both clusters to the nearest memory of the other.

    The cost of a memory is exp(−cosine) to the nearest memory of the other cluster. Costs are averaged over the
    memories of each cluster, then over the two clusters. MMM's released code sums distances over the infrared memories
    only; using both sides is ours: otherwise a cluster of many views would attract all clusters.

    Args:
        visible: (Pv, D) memories of any length.
        visible_owners: (Pv,) the cluster of each, ascending from 0 without gaps.
        infrared: (Pr, D) memories of any length.
        infrared_owners: (Pr,) likewise.

    Returns:
        (Cv, Cr), between 1/e and e; swapping the modalities transposes it. All pairs of memories are compared, a block
        of visible clusters at a time, so only the (Cv, Cr) matrix is kept in memory.

    Raises:
        ValueError: Widths differ.
    """
    if visible.ndim != 2 or infrared.ndim != 2 or visible.shape[1] != infrared.shape[1]:
        raise ValueError(f"memories must be (number, width) of one width, got {visible.shape} and {infrared.shape}")
    visible, infrared = unit_length(visible), unit_length(infrared)
    visible_sizes, infrared_sizes = np.bincount(visible_owners), np.bincount(infrared_owners)
    costs = np.empty((len(visible_sizes), len(infrared_sizes)))
    if costs.size == 0:
        return costs
    infrared_starts = infrared_sizes.cumsum() - infrared_sizes
    ends = visible_sizes.cumsum()
    step = max(1, _NUMBERS_PER_BLOCK // (int(visible_sizes.max()) * len(infrared)))
    for first in range(0, len(visible_sizes), step):
        sizes = visible_sizes[first : first + step]
        starts = sizes.cumsum() - sizes
        begin = ends[first] - sizes[0]
        cosines = visible[begin : begin + sizes.sum()] @ infrared.T
        of_visible = np.exp(-np.maximum.reduceat(cosines, infrared_starts, axis=1))
        of_infrared = np.exp(-np.maximum.reduceat(cosines, starts, axis=0))
        costs[first : first + step] = 0.5 * (
            np.add.reduceat(of_visible, starts, axis=0) / sizes[:, None]
            + np.add.reduceat(of_infrared, infrared_starts, axis=1) / infrared_sizes
        )
    return costs
