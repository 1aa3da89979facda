"""One alternation: embed everything, cluster, match, build memories, then train on batches against them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pclhd.config import Settings
from pclhd.data.ahead import Ahead
from pclhd.data.augment import infrared_view, visible_views
from pclhd.data.datasets import TrainingImages
from pclhd.data.records import Modality
from pclhd.data.samplers import cluster_batches
from pclhd.distributed.processes import Processes
from pclhd.distributed.search import shared_search
from pclhd.engine.diagnosis import explain_loss, refuse_useless_embeddings
from pclhd.engine.interruption import Interruption
from pclhd.engine.labelling import (
    Confidence,
    EpochLabels,
    Grouping,
    Labeller,
    LabelRequest,
    Labels,
    label_epoch,
    refuse_what_trains_nothing,
    used_labels,
)
from pclhd.engine.memories import as_tensor, build_memories
from pclhd.engine.selection import measure_criteria
from pclhd.engine.state import EpochState
from pclhd.engine.terms import Losses, Queries, TermWeights, joint_losses, own_losses
from pclhd.engine.trainee import Trainee, autocast_type
from pclhd.models.embed import embed_images
from pclhd.models.two_stream import TwoStreamNetwork
from pclhd.pair import Pair
from pclhd.prototypes import normalise
from pclhd.recipes import Recipe
from pclhd.streams import Streams


@dataclass(frozen=True)
class Moment:
    """Where training stands.

    Attributes:
        epoch: Counted from 0 over both stages.
        stage: 1 or 2.
        progress: Share of the stage that is over after this epoch, 0..1.
        learning_rate: Of this epoch.
        epoch_of_stage: Counted from 0 within the stage.
    """

    epoch: int
    stage: int
    progress: float
    learning_rate: float
    epoch_of_stage: int


StepObserver = Callable[[int, dict[str, float]], None]


def begin_epoch(
    trainee: Trainee,
    images: TrainingImages,
    settings: Settings,
    streams: Streams,
    moment: Moment,
    *,
    labeller: Labeller = label_epoch,
    previous: Pair[Labels] | None = None,
) -> EpochState:
    """Embed everything, cluster, match, and build the memories.

    Args:
        trainee: Its networks embed; they are not changed.
        images: The unlabelled training images.
        settings: The run's.
        streams: All draws of this epoch come from streams named after it.
        moment: Where training stands.
        labeller: What makes pseudo labels of embeddings.
        previous: The labels of the epoch before, visible and infrared; None for the first.

    Returns:
        What the steps need.

    Raises:
        UserError: A modality has no cluster, or there is nothing to contrast.
    """
    recipe = settings.method
    started = time.perf_counter()
    joint = TermWeights.at(recipe, stage=moment.stage, progress=moment.progress).joint > 0
    features, labels, criteria = look(trainee, images, settings, labeller, previous, joint=joint)
    refuse_what_trains_nothing(used_labels(labels, recipe), settings.clustering)
    momentum_features = (
        embed_both(trainee.momentum.network, images, settings, trainee.processes)
        if _uses_dynamic(settings, moment)
        else None
    )
    memories = build_memories(
        features,
        momentum_features,
        used_labels(labels, recipe),
        recipe=recipe,
        settings=settings.memory,
        generator=streams.torch("prototypes", moment.epoch),
        device=trainee.fabric.device,
    )
    return EpochState(
        labels,
        criteria,
        memories,
        streams.torch("augment", moment.epoch),
        streams.torch("redraw", moment.epoch),
        seconds_clustering=time.perf_counter() - started,
    )


def look(
    trainee: Trainee,
    images: TrainingImages,
    settings: Settings,
    labeller: Labeller,
    previous: Pair[Labels] | None,
    *,
    joint: bool,
) -> tuple[Pair[Tensor], EpochLabels, dict[str, float]]:
    """Embed and label all images with the online network as it stands.

    Args:
        trainee: Not changed.
        images: The unlabelled training images.
        settings: The run's.
        labeller: What makes pseudo labels of embeddings.
        previous: The labels of the epoch before, or None.
        joint: Whether joint clusters are wanted.

    Returns:
        Embeddings of the visible and the infrared images, their labels, and the criteria.
    """
    features = embed_both(trainee.online, images, settings, trainee.processes)
    with trainee.processes.told_once():
        for name, part in features.items():
            refuse_useless_embeddings(part, name)

    nearest = shared_search(trainee.processes, trainee.fabric.device)

    def label() -> tuple[EpochLabels, dict[str, float]]:
        arrays = features.map(Tensor.numpy)
        cameras = images.map(lambda part: part.cameras)
        request = LabelRequest(arrays, settings.clustering, settings.method, joint, cameras, previous, nearest)
        labels = labeller(request)
        return labels, measure_criteria(arrays, labels, previous, nearest=nearest)

    # Numba's threads and torch's are the same to OpenMP; a resumed epoch, which clusters nothing, must have as many.
    threads = torch.get_num_threads()
    labels, criteria = trainee.processes.by_the_first(label)
    torch.set_num_threads(threads)
    return features, labels, criteria


def run_steps(
    trainee: Trainee,
    images: TrainingImages,
    settings: Settings,
    streams: Streams,
    moment: Moment,
    state: EpochState,
    on_step: StepObserver,
    interruption: Interruption | None = None,
) -> None:
    """Make the steps of an epoch that are still to be made.

    Args:
        trainee: Changed in place.
        images: The unlabelled training images.
        settings: The run's.
        streams: As in `begin_epoch`.
        moment: Where training stands.
        state: From `begin_epoch`, or from a checkpoint within the epoch; changed in place, after each step as a whole.
        on_step: Called after each step with its number and its named losses.
        interruption: Signals wait until a step is whole.

    Raises:
        NotFinite: The loss is no longer finite.
        Interrupted: A signal came; the state tells how to go on.
    """
    with closing(_Steps(trainee, images, settings, streams, moment, state)) as steps:
        for number in range(state.step, settings.schedule.iterations):
            with (interruption or Interruption()).deferred():
                started = time.perf_counter()
                values = steps.run(number)
                for name, value in values.items():
                    state.sums[name] = state.sums.get(name, 0.0) + value
                state.step = number + 1
                state.seconds_steps += time.perf_counter() - started
                on_step(number, values)


def end_epoch(trainee: Trainee, settings: Settings, moment: Moment, state: EpochState) -> dict[str, Any]:
    """The epoch's record for the log; a momentum network that waits is made a copy of the online one."""
    if momentum_waits(settings.method, moment.stage):
        trainee.momentum.network.load_state_dict(trainee.online.state_dict())
    return {
        "seconds": state.seconds_clustering + state.seconds_steps,
        "seconds_clustering": state.seconds_clustering,
        "images_per_second": state.images_seen / state.seconds_steps,
        "lr": moment.learning_rate,
        "loss": {name: value / settings.schedule.iterations for name, value in state.sums.items()},
        "criteria": state.criteria,
        **({"kept_labels": state.labels.kept()} if state.labels.kept() else {}),
        **describe_labels(state.labels),
    }


def embed_both(
    network: TwoStreamNetwork, images: TrainingImages, settings: Settings, processes: Processes | None = None
) -> Pair[Tensor]:
    """Clustering features of all training images, visible and infrared, (N, D) each on the CPU.

    Each process embeds its share, and all get everything.
    """
    processes = processes or Processes()
    half = autocast_type(settings)
    parts = []
    for part, modality in ((images.visible, Modality.VISIBLE), (images.infrared, Modality.INFRARED)):
        rows = part.images[processes.share(len(part))]
        own = embed_images(network, rows, modality, renormalise=settings.method.renormalise, autocast_dtype=half)
        # GPUs can only send what lies on them.
        where = next(network.parameters()).device if processes.count > 1 else own.device
        parts.append(processes.gather(own.to(where), len(part)).cpu())
    return Pair(*parts)


def momentum_waits(recipe: Recipe, stage: int) -> bool:
    """Whether the momentum network is still a mere copy of the online one."""
    return stage == 1 and recipe.momentum_from == "stage2"


def _uses_dynamic(settings: Settings, moment: Moment) -> bool:
    # The released code keeps dynamic prototypes in stage II although they train nothing.
    recipe = settings.method
    return moment.stage == 2 and (not recipe.dynamic_gradient or recipe.stage2 in {"dynamic", "hard+dynamic"})


class _Steps:
    """The steps of one epoch: which images, which labels, which losses."""

    def __init__(
        self,
        trainee: Trainee,
        images: TrainingImages,
        settings: Settings,
        streams: Streams,
        moment: Moment,
        state: EpochState,
    ) -> None:
        self.trainee, self.images, self.settings, self.moment = trainee, images, settings, moment
        self.state, self.memories = state, state.memories
        self.recipe = settings.method
        self.weights = TermWeights.at(self.recipe, stage=moment.stage, progress=moment.progress)
        self.device = trainee.fabric.device
        labels = used_labels(state.labels, self.recipe)
        matching = labels.matching
        self.partners = Pair(
            as_tensor(matching.visible_to_infrared).to(self.device),
            as_tensor(matching.infrared_to_visible).to(self.device),
        )
        self.own_labels = labels.own
        self.own_confidence = labels.confidence()
        self.own_batches = _Batches(self._draw(self.own_labels, streams, "own"), images, self.device)
        self.joint_labels = labels.joint_shared()
        self.joint_confidence = labels.joint_confidence()
        self.joint_batches = (
            None
            if self.joint_labels is None
            else _Batches(self._draw(self.joint_labels, streams, "joint"), images, self.device)
        )
        self.embedded: list[Tensor] = []

    def close(self) -> None:
        """No more steps."""
        for batches in (self.own_batches, self.joint_batches):
            if batches is not None:
                batches.pixels.close()

    def run(self, number: int) -> dict[str, float]:
        """One iteration; returns the named losses."""
        if self.recipe.dynamic_redraw == "step" and number > 0:
            self.memories.redraw(self.state.redraws)
        losses = self._own_and_cross(number)
        joint = None
        if self.recipe.joint_step == "shared":
            joint = self._joint(number)
            if joint is not None:
                losses.add(joint)
        self._optimise(losses)
        values = _numbers(losses)
        if self.recipe.joint_step == "own":
            joint = self._joint(number)
            if joint is not None:
                self._optimise(joint)
                values.update(_numbers(joint))
        if not momentum_waits(self.recipe, self.moment.stage):
            self.trainee.momentum.update(self.trainee.online, self.settings.schedule.ema_decay)
        values["total"] = sum(value for name, value in values.items() if name not in losses.logged)
        return values

    def _own_and_cross(self, number: int) -> Losses:
        queries = self._forward(self.own_batches, self.own_labels, self.own_confidence, number, momentum=True)
        return own_losses(
            queries,
            self.memories,
            self.partners,
            self.weights,
            epoch=self.moment.epoch_of_stage,
            recipe=self.recipe,
            temperature=self.settings.memory.temperature,
        )

    def _joint(self, number: int) -> Losses | None:
        if self.joint_batches is None or self.joint_labels is None or self.memories.joint is None:
            return None
        queries = self._forward(self.joint_batches, self.joint_labels, self.joint_confidence, number)
        return joint_losses(
            queries,
            self.memories.joint,
            self.weights.joint,
            recipe=self.recipe,
            temperature=self.settings.memory.temperature,
        )

    def _forward(
        self,
        batches: _Batches,
        labels: Pair[Labels],
        confidence: Pair[Confidence | None],
        number: int,
        *,
        momentum: bool = False,
    ) -> Pair[Queries]:
        rows = batches.rows[0][number], batches.rows[1][number]
        pixels = [part.to(self.device, non_blocking=True) for part in batches.pixels[number]]
        views = (
            visible_views(pixels[0], self.state.augmentation),
            infrared_view(pixels[1], self.state.augmentation),
        )
        self.state.images_seen += sum(map(len, views))
        targets = np.tile(labels[0][rows[0]], 2), labels[1][rows[1]]
        features = self._embed(self.trainee.wrapped, views)
        self.embedded = [part.detach() for part in features]
        averaged: tuple[Tensor, ...] | tuple[None, None] = (None, None)
        if momentum and self._runs_momentum_network():
            network = self.trainee.momentum.network
            with torch.no_grad(), self.trainee.fabric.autocast():
                averaged = self._embed(network.train(), views)
        # Two views of each visible image come from `visible_views`, so that rows repeat.
        trust = (
            None if confidence[0] is None else np.tile(confidence[0][rows[0]], 2),
            None if confidence[1] is None else confidence[1][rows[1]],
        )
        return Pair(
            *(
                Queries(
                    feature,
                    as_tensor(target).to(self.device),
                    slow,
                    None if sure is None else torch.tensor(sure, dtype=torch.float32, device=self.device),
                )
                for feature, target, slow, sure in zip(features, targets, averaged, trust, strict=True)
            )
        )

    def _embed(self, network: Any, views: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        """Unit-length embeddings of the whole batch, visible and infrared; this process computes its share of them."""
        processes = self.trainee.processes
        shares = [part[processes.share(len(part))] for part in views]
        embedded = torch.split(normalise(network(*shares).embedding), [len(part) for part in shares])
        return tuple(processes.gather(own, len(part)) for own, part in zip(embedded, views, strict=True))

    def _runs_momentum_network(self) -> bool:
        return self.moment.stage == 2 and self.recipe.momentum_buffers == "own"

    def _optimise(self, losses: Losses) -> None:
        total = losses.total
        if not math.isfinite(float(total.detach())):
            raise explain_loss(
                losses.terms,
                self.embedded,
                self.trainee.online,
                where=f"epoch {self.moment.epoch + 1}, step {self.state.step + 1}",
                learning_rate=self.moment.learning_rate,
            )
        self.trainee.optimiser.zero_grad(set_to_none=True)
        self.trainee.fabric.backward(total)
        self.trainee.processes.add_gradients(self.trainee.online.parameters())
        self.trainee.optimiser.step()
        for update in losses.updates:
            update()

    def _draw(self, labels: Pair[Labels], streams: Streams, purpose: str) -> Pair[NDArray[np.int64]]:
        batch = self.settings.batch
        drawn = [
            cluster_batches(
                pseudo,
                part.cameras if batch.sampler == "camera" else None,
                batches=self.settings.schedule.iterations,
                clusters=batch.clusters,
                instances=batch.instances,
                generator=streams.numpy("batches", purpose, modality, self.moment.epoch),
                drop_incomplete=self.recipe.batch_passes == "drop",
            )
            for part, pseudo, modality in zip(self.images, labels, Modality, strict=True)
        ]
        return Pair(*drawn)


class _Batches:
    """The batches of an epoch: which rows of either modality, and their pixels, fetched ahead."""

    def __init__(self, rows: Pair[NDArray[np.int64]], images: TrainingImages, device: torch.device) -> None:
        self.rows = rows
        parts = tuple(zip(rows, (images.visible.images, images.infrared.images), strict=True))

        def fetch(number: int) -> list[Tensor]:
            fetched = [pixels[drawn[number]] for drawn, pixels in parts]
            # A GPU takes pinned memory while it computes.
            return [part.pin_memory() for part in fetched] if device.type == "cuda" else fetched

        self.pixels = Ahead(fetch, min(map(len, rows)))


def _numbers(losses: Losses) -> dict[str, float]:
    return {name: float(value.detach()) for name, value in {**losses.terms, **losses.logged}.items()}


def describe_labels(labels: EpochLabels) -> dict[str, Any]:
    """Cluster counts, noise, sizes and matched shares of an epoch, as they are logged."""
    matching = labels.matching
    described: dict[str, Any] = {"visible": _describe(labels.visible), "infrared": _describe(labels.infrared)}
    if labels.joint is not None:
        described["joint"] = _describe(labels.joint)
    for name, grouping in labels.groupings.items():
        described[name] |= _describe_grouping(grouping)
    if labels.joint is not None:
        shared = labels.joint_shared()
        described["joint"]["shared_clusters"] = 0 if shared is None else len(np.unique(shared[0][shared[0] >= 0]))
    described["matched"] = {
        "visible": float((matching.visible_to_infrared >= 0).mean()),
        "infrared": float((matching.infrared_to_visible >= 0).mean()),
    }
    return described


def _describe_grouping(grouping: Grouping) -> dict[str, Any]:
    described: dict[str, Any] = {"silhouette": grouping.silhouette}
    if grouping.eps is not None:
        described["eps"] = grouping.eps
    if grouping.recall is not None:
        described["recall"] = grouping.recall
    if grouping.loosened:
        described["loosened"] = True
    if grouping.confidence is not None and (grouping.labels >= 0).any():
        described["confidence"] = float(grouping.confidence[grouping.labels >= 0].mean())
    return described


def _describe(labels: Labels) -> dict[str, Any]:
    sizes = np.bincount(labels[labels >= 0])
    return {
        "images": len(labels),
        "clusters": len(sizes),
        "noise": float((labels < 0).mean()),
        "size_min": int(sizes.min()) if len(sizes) else 0,
        "size_median": float(np.median(sizes)) if len(sizes) else 0.0,
        "size_max": int(sizes.max()) if len(sizes) else 0,
    }
