"""The training steps of an epoch. `Steps.take` is one step, from the forward pass to the momentum network."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pclhd.data.augment import infrared_view, visible_views
from pclhd.engine.across import joint_losses, own_losses
from pclhd.engine.batches import Batches
from pclhd.engine.diagnosis import NotFinite, explain_loss
from pclhd.engine.interruption import Interruption
from pclhd.engine.labelling import Confidence, Labels, used_labels
from pclhd.engine.memories import as_tensor
from pclhd.engine.networks import momentum_waits
from pclhd.engine.position import Position
from pclhd.engine.session import Session
from pclhd.engine.state import EpochState
from pclhd.engine.term_weights import TermWeights
from pclhd.engine.terms import Losses, Queries
from pclhd.pair import Pair
from pclhd.prototypes import normalise

StepObserver = Callable[[int, dict[str, float]], None]


def run_steps(
    session: Session,
    position: Position,
    state: EpochState,
    on_step: StepObserver,
    interruption: Interruption | None = None,
) -> None:
    """Run the remaining steps of an epoch.

    Args:
        session: Its networks are changed in place.
        position: Position in the schedule.
        state: From `begin_epoch`, or from a checkpoint within the epoch; changed in place after each complete step.
        on_step: Called after each step with its number and its losses by name.
        interruption: Defers signals until the end of a step.

    Raises:
        NotFinite: The loss is no longer finite.
        Interrupted: A signal arrived; `state` includes all completed steps.
    """
    with closing(Steps(session, position, state)) as steps:
        for number in range(state.step, session.settings.schedule.numbers().iterations):
            with (interruption or Interruption()).deferred():
                started = time.perf_counter()
                values = steps.take(number)
                for name, value in values.items():
                    state.sums[name] = state.sums.get(name, 0.0) + value
                state.step = number + 1
                state.seconds_steps += time.perf_counter() - started
                on_step(number, values)


class Steps:
    """The steps of one epoch.

    Args:
        session: Its networks are changed by the steps.
        position: Position in the schedule.
        state: Labels and memories; the memories are changed by the steps.
    """

    def __init__(self, session: Session, position: Position, state: EpochState) -> None:
        self.session, self.position, self.state = session, position, state
        recipe, device = session.settings.method, session.networks.fabric.device
        self.weights = TermWeights.at(recipe, stage=position.stage, progress=position.progress)
        labels = used_labels(state.labels, recipe)
        matching = Pair(labels.matching.visible_to_infrared, labels.matching.infrared_to_visible)
        self.partners = matching.map(lambda partners: as_tensor(partners).to(device))
        self.own_batches = Batches(session, position, "own", labels.own, labels.confidence())
        #: Batches of one round share an optimiser step.
        self.rounds = [[self.own_batches]]
        joint = labels.joint_for_batches(every=recipe.joint_batches == "all")
        if joint is not None:
            joint_batches = Batches(session, position, "joint", joint, labels.joint_confidence())
            # With `own`, the joint batch is embedded after the optimiser step on the others (released code).
            if recipe.joint_step == "own":
                self.rounds.append([joint_batches])
            else:
                self.rounds[0].append(joint_batches)

    def close(self) -> None:
        """Stop fetching batches."""
        for round_ in self.rounds:
            for batches in round_:
                batches.close()

    def take(self, number: int) -> dict[str, float]:
        """One training step: forward, losses, backward, optimiser, memories, and finally the momentum network.

        Args:
            number: Number of the step within the epoch.

        Returns:
            The losses by name, and the total of those that are minimised.

        Raises:
            NotFinite: A loss is no longer finite.
        """
        networks, recipe = self.session.networks, self.session.settings.method
        if recipe.dynamic_redraw == "step" and number > 0:
            self.state.memories.redraw(self.state.redraws)
        values: dict[str, float] = {}
        only_logged: set[str] = set()
        for round_ in self.rounds:
            losses = Losses()
            for batches in round_:
                queries = self._forward(batches, number)
                losses.add(self._losses(batches, queries))
            total = losses.total
            if not math.isfinite(float(total.detach())):
                raise self._explain(losses, queries)
            networks.optimiser.zero_grad(set_to_none=True)
            networks.fabric.backward(total)
            networks.processes.add_gradients(networks.online.parameters())
            networks.optimiser.step()
            for update_memories in losses.updates:
                update_memories()
            values |= losses.numbers()
            only_logged |= losses.logged.keys()
        if not momentum_waits(recipe, self.position.stage):
            networks.momentum.update(networks.online, self.session.settings.schedule.numbers().ema_decay)
        values["total"] = sum(value for name, value in values.items() if name not in only_logged)
        return values

    def _losses(self, batches: Batches, queries: Pair[Queries]) -> Losses:
        """The losses of a batch, and the updates of the memories they use."""
        recipe, temperature = self.session.settings.method, self.session.settings.memory.temperature
        memories, weights, draws = self.state.memories, self.weights, self.state.redraws
        if batches is not self.own_batches and memories.joint is not None:
            return joint_losses(queries, memories.joint, weights, recipe=recipe, temperature=temperature, draws=draws)
        epoch = self.position.epoch_of_stage
        return own_losses(
            queries, memories, self.partners, weights, epoch=epoch, recipe=recipe, temperature=temperature, draws=draws
        )

    def _forward(self, batches: Batches, number: int) -> Pair[Queries]:
        """Augment the images of a batch and embed them, also with the momentum network if the recipe uses it."""
        networks, random = self.session.networks, self.state.augmentation
        batch = batches[number]
        pixels = batch.pixels.map(lambda part: part.to(networks.fabric.device, non_blocking=True))
        scale = {"mean": networks.online.image_mean, "std": networks.online.image_std}
        views = Pair(visible_views(pixels.visible, random, **scale), infrared_view(pixels.infrared, random, **scale))
        self.state.images_seen += sum(map(len, views))
        features = self._embed(networks.wrapped, views)
        averaged: Pair[Tensor] | Pair[None] = Pair(None, None)
        if batches is self.own_batches and self._runs_momentum_network():
            with torch.no_grad(), networks.fabric.autocast():
                averaged = self._embed(networks.momentum.network.train(), views)
        return Pair(*map(_queries, features, averaged, batch.labels, batch.confidence))

    def _embed(self, network: Any, views: Pair[Tensor]) -> Pair[Tensor]:
        """Unit-length embeddings of the whole batch; this process computes its share."""
        processes = self.session.networks.processes
        shares = views.map(lambda part: part[processes.share(len(part))])
        embedded = torch.split(normalise(network(*shares).embedding), [len(part) for part in shares])
        return Pair(*(processes.gather(own, len(part)) for own, part in zip(embedded, views, strict=True)))

    def _runs_momentum_network(self) -> bool:
        return self.position.stage == 2 and self.session.settings.method.momentum_buffers == "own"

    def _explain(self, losses: Losses, queries: Pair[Queries]) -> NotFinite:
        return explain_loss(
            losses.terms,
            [part.features.detach() for part in queries],
            self.session.networks.online,
            where=f"epoch {self.position.epoch + 1}, step {self.state.step + 1}",
            learning_rate=self.position.learning_rate,
        )


def _queries(features: Tensor, averaged: Tensor | None, labels: Labels, confidence: Confidence | None) -> Queries:
    # Visible images have two views: the first views of all images, then the second views.
    views = len(features) // len(labels)
    weights = None if confidence is None else torch.tensor(np.tile(confidence, views), dtype=torch.float32)
    return Queries(
        features,
        as_tensor(np.tile(labels, views)).to(features.device),
        averaged,
        None if weights is None else weights.to(features.device),
    )
