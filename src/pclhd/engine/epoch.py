"""One epoch: embed all images, cluster, match, build memories, then train on batches (`pclhd.engine.steps`)."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from pclhd.data.records import Modality
from pclhd.distributed.search import shared_search
from pclhd.engine.diagnosis import refuse_useless_embeddings
from pclhd.engine.epoch_record import describe_epoch
from pclhd.engine.labelling import EpochLabels, LabelRequest, Labels, refuse_what_trains_nothing, used_labels
from pclhd.engine.memories import build_memories
from pclhd.engine.networks import autocast_type, momentum_waits
from pclhd.engine.position import Position
from pclhd.engine.selection import measure_criteria
from pclhd.engine.session import Session
from pclhd.engine.state import EpochState
from pclhd.engine.subset import draw_rows, narrowed, widened
from pclhd.engine.term_weights import TermWeights
from pclhd.models.embed import embed_images
from pclhd.models.two_stream import TwoStreamNetwork
from pclhd.pair import Pair
from pclhd.recipes import Recipe


def begin_epoch(session: Session, position: Position, previous: Pair[Labels] | None = None) -> EpochState:
    """Embed all images, cluster, match, and build the memories.

    Args:
        session: Its networks embed the images and are not changed. All draws come from streams named after the epoch.
        position: Position in the schedule.
        previous: The labels of the previous epoch; None for the first.

    Returns:
        The state that the steps need.

    Raises:
        UserError: A modality has no cluster, or there is nothing to contrast.
    """
    started = time.perf_counter()
    settings, recipe, networks = session.settings, session.settings.method, session.networks
    joint = TermWeights.at(recipe, stage=position.stage, progress=position.progress).joint > 0
    features, labels, criteria = embed_and_label(session, previous, epoch=position.epoch, joint=joint)
    used = used_labels(labels, recipe)
    refuse_what_trains_nothing(used, settings.clustering)
    memories = build_memories(
        features,
        embed_both(session, networks.momentum.network) if uses_dynamic(recipe, position.stage) else None,
        used,
        recipe=recipe,
        settings=settings.memory,
        generator=session.streams.torch("prototypes", position.epoch),
        device=networks.fabric.device,
    )
    return EpochState(
        labels,
        criteria,
        memories,
        session.streams.torch("augment", position.epoch),
        session.streams.torch("redraw", position.epoch),
        seconds_clustering=time.perf_counter() - started,
    )


def embed_and_label(
    session: Session, previous: Pair[Labels] | None, *, epoch: int, joint: bool
) -> tuple[Pair[Tensor], EpochLabels, dict[str, float]]:
    """Embed all images with the online network, and label them.

    Args:
        session: Not changed.
        previous: The labels of the previous epoch, or None.
        epoch: Names the stream that draws the images, where the recipe leaves some out.
        joint: Whether to form joint clusters.

    Returns:
        Embeddings, (Nv, D) and (Nr, D); their labels; the criteria (`pclhd.engine.selection`).
    """
    settings, processes = session.settings, session.networks.processes
    features = embed_both(session, session.networks.online)
    with processes.raise_once():
        for name, part in features.items():
            refuse_useless_embeddings(part, name)
    arrays, cameras = features.map(Tensor.numpy), session.images.map(lambda part: part.cameras)
    nearest = shared_search(processes, session.networks.fabric.device)

    counts = features.map(len)
    rows = draw_rows(settings, counts, session.streams.numpy("subset", epoch))

    def label() -> tuple[EpochLabels, dict[str, float]]:
        request = LabelRequest(arrays, settings.clustering, settings.method, joint, cameras, previous, nearest)
        request = narrowed(request, rows)
        labels = session.labeller(request)
        criteria = measure_criteria(request.features, labels, request.previous, nearest=nearest)
        return widened(labels, rows, counts), criteria

    # Numba changes the number of OpenMP threads that torch uses. Restored, so that a resumed epoch, which does not
    # cluster, uses the same number.
    threads = torch.get_num_threads()
    labels, criteria = processes.by_the_first(label)
    torch.set_num_threads(threads)
    return features, labels, criteria


def embed_both(session: Session, network: TwoStreamNetwork) -> Pair[Tensor]:
    """Embeddings of all training images for clustering, (Nv, D) and (Nr, D) on the CPU.

    Each process embeds its share and returns all embeddings.

    Args:
        session: Images and settings.
        network: One of its networks.
    """
    settings, processes = session.settings, session.networks.processes
    half = autocast_type(settings)
    parts = []
    for part, modality in zip(session.images, Modality, strict=True):
        rows = part.images[processes.share(len(part))]
        own = embed_images(network, rows, modality, renormalise=settings.method.renormalise, autocast_dtype=half)
        # GPUs can only send tensors in their memory.
        where = next(network.parameters()).device if processes.count > 1 else own.device
        parts.append(processes.gather(own.to(where), len(part)).cpu())
    return Pair(*parts)


def end_epoch(session: Session, position: Position, state: EpochState) -> dict[str, Any]:
    """The epoch's record for the log. A momentum network that is not averaged yet becomes a copy of the online one."""
    networks = session.networks
    if momentum_waits(session.settings.method, position.stage):
        networks.momentum.network.load_state_dict(networks.online.state_dict())
    return describe_epoch(session.settings, position, state)


def uses_dynamic(recipe: Recipe, stage: int) -> bool:
    """Whether a stage has dynamic prototypes, for which the momentum network embeds all images."""
    # The released code keeps dynamic prototypes in stage II although they train nothing.
    return stage == 2 and (not recipe.dynamic_gradient or recipe.stage2 in {"dynamic", "hard+dynamic"})
