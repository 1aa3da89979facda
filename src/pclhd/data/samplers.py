"""Which images make up each batch: P clusters × K instances, drawn again every epoch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray


def cluster_batches(
    labels: NDArray[np.int64],
    cameras: NDArray[np.int64] | None,
    *,
    batches: int,
    clusters: int,
    instances: int,
    generator: np.random.Generator,
    drop_incomplete: bool = False,
) -> NDArray[np.int64]:
    """Draw the batches of one epoch; see `endless_batches`.

    Args:
        labels: Pseudo labels (N,), −1 for noise, which is never drawn.
        cameras: Cameras (N,), or None for the camera-blind sampler.
        batches: Number of batches.
        clusters: Clusters in a batch, P.
        instances: Images per cluster, K.
        generator: Source of all draws.
        drop_incomplete: See `endless_batches`.

    Returns:
        Indices (batches, P·K) into the N images, the K of a cluster side by side.

    Raises:
        ValueError: There is no cluster, or a count is not positive.
    """
    if batches < 1:
        raise ValueError(f"batches must be positive, not {batches}")
    drawn = endless_batches(
        labels, cameras, clusters=clusters, instances=instances, generator=generator, drop_incomplete=drop_incomplete
    )
    return np.stack(list(islice(drawn, batches)))


def endless_batches(
    labels: NDArray[np.int64],
    cameras: NDArray[np.int64] | None,
    *,
    clusters: int,
    instances: int,
    generator: np.random.Generator,
    drop_incomplete: bool = False,
) -> Iterator[NDArray[np.int64]]:
    """Batches without end, each drawn when it is asked for, so that an epoch of any length takes no memory.

    Clusters are visited in random order, all of them before any comes again; each gives one anchor and
    ``instances − 1`` more of its images. With `cameras`, the others come from cameras other than the anchor's where the
    cluster has any (released code's ``RandomMultipleGallerySampler``); without, from the whole cluster (its ``NoCam``
    variant). They are drawn without replacement if the candidates suffice, else with. A cluster of one image repeats it
    (in the released code it shifts the groups after it), so every batch has the same size whatever the number of
    clusters.

    Args:
        labels: Pseudo labels (N,), −1 for noise, which is never drawn.
        cameras: Cameras (N,), or None for the camera-blind sampler.
        clusters: Clusters in a batch, P.
        instances: Images per cluster, K.
        generator: Source of all draws.
        drop_incomplete: Leave out the batch in which a pass over the clusters ends (released code), instead of filling
            it from the next pass. With fewer than P clusters it is filled all the same.

    Returns:
        Indices (P·K,) into the N images, the K of a cluster side by side; again and again.

    Raises:
        ValueError: There is no cluster, or a count is not positive.
    """
    if min(clusters, instances) < 1:
        raise ValueError(f"clusters and instances must be positive, not {clusters}, {instances}")
    members = _members(labels)
    if not members:
        raise ValueError("no cluster to draw from: every sample is noise")
    visits = _endless_passes(len(members), clusters if drop_incomplete else 1, generator)
    groups = (_draw_group(members[visit], cameras, instances, generator) for visit in visits)
    return (np.concatenate([first, *islice(groups, clusters - 1)]) for first in groups)


def _members(labels: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The image indices of each cluster, clusters in increasing label order."""
    order = np.argsort(labels, kind="stable")
    kept = order[labels[order] >= 0]
    if kept.size == 0:
        return []
    starts = np.flatnonzero(np.diff(labels[kept])) + 1
    return [part.astype(np.int64) for part in np.split(kept, starts)]


def _endless_passes(count: int, multiple: int, generator: np.random.Generator) -> Iterator[int]:
    """Permutations of 0…count−1 one after the other, each cut to a multiple where it has that many."""
    kept = count - count % multiple if count >= multiple else count
    while True:
        yield from generator.permutation(count)[:kept].tolist()


def _draw_group(
    members: NDArray[np.int64],
    cameras: NDArray[np.int64] | None,
    instances: int,
    generator: np.random.Generator,
) -> NDArray[np.int64]:
    anchor = members[generator.integers(len(members))]
    candidates = members[members != anchor]
    if cameras is not None:
        elsewhere = members[cameras[members] != cameras[anchor]]
        candidates = elsewhere if elsewhere.size else candidates
    if candidates.size == 0:
        return np.repeat(anchor, instances)
    # The released code compares with `instances`, not with the `instances - 1` that are needed; kept.
    others = generator.choice(candidates, instances - 1, replace=candidates.size < instances)
    return np.concatenate([anchor[None], others])
