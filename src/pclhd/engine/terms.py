"""The losses of a training step: which queries are contrasted with which prototypes, and the weight of each.

A `Term` describes one loss; `compute_losses` computes it. Memories are read while losses are computed and written only
after the optimiser step, so that all losses of a step use the same prototypes. With ``memory_update=in_backward`` they
are written in the backward pass instead, as in the released code and in the default recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from pclhd.engine.memories import Memories, ModalityMemories
from pclhd.losses import contrast, hardest_similarities, mean_over, released_hybrid
from pclhd.pair import ModalityName, Pair
from pclhd.prototypes import ClusterMemory, coupled_similarities
from pclhd.recipes import Recipe

#: Choices of stage II without centroids, to which a share of the centroid loss can be added.
SHARP = frozenset({"hard", "dynamic", "hard+dynamic"})


@dataclass(frozen=True)
class TermWeights:
    """Weight of each kind of prototype in an epoch; zero leaves the term out."""

    centroid: float = 0.0
    hybrid: float = 0.0
    hard: float = 0.0
    dynamic: float = 0.0
    cross: float = 0.0
    joint: float = 0.0

    @classmethod
    def at(cls, recipe: Recipe, *, stage: int, progress: float) -> TermWeights:
        """The weights in an epoch.

        Args:
            recipe: The method.
            stage: 1 or 2.
            progress: Share of the stage's epochs that are over, 0..1; used only by a ramp.
        """
        first = cls(
            centroid=float(recipe.stage1 == "centroid"),
            hybrid=float(recipe.stage1 == "hybrid"),
            cross=recipe.cross if recipe.cross_stage1 else 0.0,
        )
        if stage == 1:
            return first
        rest = 1 - recipe.centroid_share
        second = cls(
            centroid=float(recipe.stage2 == "centroid") or (recipe.centroid_share if recipe.stage2 in SHARP else 0.0),
            hybrid=float(recipe.stage2 == "hybrid"),
            hard=rest * {"hard": 1.0, "hard+dynamic": recipe.hard_share}.get(recipe.stage2, 0.0),
            dynamic=rest * {"dynamic": 1.0, "hard+dynamic": 1 - recipe.hard_share}.get(recipe.stage2, 0.0),
            cross=recipe.cross,
            joint=recipe.joint,
        )
        if recipe.progressive == "switch":
            return second
        # Only the kinds of prototype change gradually; the terms across the modalities have full weight in the whole
        # stage.
        return cls(
            centroid=(1 - progress) * first.centroid + progress * second.centroid,
            hybrid=(1 - progress) * first.hybrid + progress * second.hybrid,
            hard=progress * second.hard,
            dynamic=progress * second.dynamic,
            cross=second.cross,
            joint=second.joint,
        )


@dataclass
class Losses:
    """The losses of one batch by name, and the memory updates to make after the optimiser step.

    Attributes:
        terms: Weighted scalars by name; their sum is minimised.
        logged: Scalars by name that are logged but not minimised.
        updates: Functions that update memories; empty where the backward pass does it.
    """

    terms: dict[str, Tensor] = field(default_factory=dict)
    logged: dict[str, Tensor] = field(default_factory=dict)
    updates: list[Callable[[], None]] = field(default_factory=list)

    @property
    def total(self) -> Tensor:
        """The sum to minimise."""
        return torch.stack(list(self.terms.values())).sum()

    def numbers(self) -> dict[str, float]:
        """All losses by name, minimised or only logged."""
        return {name: float(value.detach()) for name, value in (self.terms | self.logged).items()}

    def add(self, other: Losses) -> None:
        """Add the losses of another batch that shares the optimiser step."""
        self.terms |= other.terms
        self.logged |= other.logged
        self.updates += other.updates


@dataclass(frozen=True)
class Queries:
    """Unit-length features of one modality's batch and their pseudo labels.

    Attributes:
        features: (B, D) from the online network.
        labels: (B,) labels in the modality's own clusters.
        momentum: (B, D) from the momentum network, where the recipe uses it on batches.
        confidence: (B,) weight of each query in a loss; None for equal weights.
    """

    features: Tensor
    labels: Tensor
    momentum: Tensor | None = None
    confidence: Tensor | None = None

    def relabelled(self, label_map: Tensor) -> Queries:
        """The queries with their labels mapped to other clusters.

        Args:
            label_map: (C,) the other cluster of each cluster, −1 for none; queries without one are left out.
        """
        labels = label_map[self.labels]
        mapped = labels >= 0
        confidence = None if self.confidence is None else self.confidence[mapped]
        return Queries(self.features[mapped], labels[mapped], confidence=confidence)


Prototypes = Literal["centroid", "hybrid", "hard", "dynamic"]


@dataclass(frozen=True)
class Term:
    """One loss of a step: queries of one modality against the prototypes of one memory.

    Attributes:
        name: Name of the loss in the log.
        prototypes: Kind of prototypes; ``hybrid`` is the released mixture of hard and centroid.
        queries: The batch.
        memory: The modality's own, the other modality's, or the joint one.
        weight: Factor of the loss.
        label_map: (C,) cluster in `memory` of each cluster of the queries, −1 for none; None where they are the same.
        trains: Whether the loss is minimised; otherwise it is only logged.
    """

    name: str
    prototypes: Prototypes
    queries: Queries
    memory: ModalityMemories
    weight: float
    label_map: Tensor | None = None
    trains: bool = True


class AfterStep:
    """Memories are constants while losses are computed, and are updated after the optimiser step (paper).

    Attributes:
        across: Kind of prototypes for a batch in a memory other than its modality's own.
    """

    across: Prototypes = "centroid"

    def read(self, memory: ModalityMemories, queries: Queries) -> tuple[Tensor, Tensor]:
        """Similarities to the centroids and to the hard prototypes, (B, C) each."""
        return memory.centroid_similarities(queries.features), memory.clusters.hard_similarities(queries.features)

    def updates(self, memory: ModalityMemories, queries: Queries) -> list[Callable[[], None]]:
        """Functions to call after the optimiser step."""
        return [partial(memory.update, queries.features.detach(), queries.labels)]


class InBackward(AfterStep):
    """Memories are updated in the backward pass, by each batch that read them (released code).

    See `pclhd.prototypes.released`.
    """

    across: Prototypes = "hybrid"

    def read(self, memory: ModalityMemories, queries: Queries) -> tuple[Tensor, Tensor]:
        """Similarities to the centroids and to the hard prototypes; the backward pass updates the memory."""
        return coupled_similarities(memory.clusters, queries.features, queries.labels, "hybrid")

    def updates(self, memory: ModalityMemories, queries: Queries) -> list[Callable[[], None]]:
        """No functions: the backward pass updates the memory."""
        return []


#: Use of memories in a step, by `Recipe.memory_update`.
MEMORY_USE = {"after_step": AfterStep(), "in_backward": InBackward()}


def compute_losses(terms: Sequence[Term], *, recipe: Recipe, temperature: float) -> Losses:
    """The losses of terms, in their order. Each batch reads each memory once; memories are not written.

    Args:
        terms: Terms without any query labelled in their memory are left out.
        recipe: Defines how memories are used, and which dynamic prototype of a cluster counts.
        temperature: τ.

    Returns:
        The losses by name, without updates.
    """
    losses = Losses()
    readings: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
    for term in terms:
        queries = term.queries if term.label_map is None else term.queries.relabelled(term.label_map)
        if len(queries.labels) == 0:
            continue
        if term.prototypes == "dynamic":
            similarities = _dynamic_similarities(term.memory, queries, recipe)
            loss = mean_over(contrast(similarities, queries.labels, temperature), queries.confidence)
        else:
            # In the released code, each read is an update, so the terms of a batch share one.
            key = id(term.queries), id(term.memory)
            if key not in readings:
                readings[key] = MEMORY_USE[recipe.memory_update].read(term.memory, queries)
            loss = _loss(term.prototypes, *readings[key], queries, temperature)
        (losses.terms if term.trains else losses.logged)[term.name] = term.weight * loss
    return losses


def _loss(prototypes: Prototypes, to_centroid: Tensor, to_hard: Tensor, queries: Queries, temperature: float) -> Tensor:
    if prototypes == "hybrid":
        return released_hybrid(to_centroid, to_hard, queries.labels, temperature, confidence=queries.confidence)
    similarities = to_centroid if prototypes == "centroid" else to_hard
    return mean_over(contrast(similarities, queries.labels, temperature), queries.confidence)


def _dynamic_similarities(memory: ModalityMemories, queries: Queries, recipe: Recipe) -> Tensor:
    """(B, C): the hardest or the mean of the similarities to each cluster's instances."""
    if memory.dynamic is None:
        raise ValueError("a dynamic term needs a memory with dynamic prototypes")
    similarities = memory.dynamic.memory.similarities(queries.features)
    return (
        similarities.mean(dim=2)
        if recipe.dynamic_similarity == "mean"
        else hardest_similarities(similarities, queries.labels)
    )


def own_losses(
    queries: Pair[Queries],
    memories: Memories,
    partners: Pair[Tensor],
    weights: TermWeights,
    *,
    epoch: int,
    recipe: Recipe,
    temperature: float,
) -> Losses:
    """The losses of a batch with labels of each modality's own clusters: all except the joint ones.

    Args:
        queries: The batch.
        memories: The epoch's memories.
        partners: Matching, visible to infrared and infrared to visible: (C,) each, −1 for no partner.
        weights: Weights of the terms.
        epoch: Counted from 0 within the stage; its parity selects the direction of an alternating cross term.
        recipe: The method.
        temperature: τ.

    Returns:
        The losses by name, and the memory updates.
    """
    terms = [
        term
        for name, part, memory in _in_order(recipe, queries, memories.own)
        for term in own_terms(name, part, memory, weights, recipe=recipe)
    ]
    terms += cross_terms(queries, memories.own, partners, weights.cross, epoch=epoch, recipe=recipe)
    losses = compute_losses(terms, recipe=recipe, temperature=temperature)
    for part, memory in zip(queries, memories.own, strict=True):
        losses.updates += MEMORY_USE[recipe.memory_update].updates(memory, part)
    return losses


def own_terms(
    name: ModalityName, queries: Queries, memory: ModalityMemories, weights: TermWeights, *, recipe: Recipe
) -> list[Term]:
    """The terms of a modality's batch against its own memory.

    Args:
        name: The modality.
        queries: Its batch of queries.
        memory: Its memory.
        weights: Weights of the terms.
        recipe: The method.
    """
    kinds: tuple[tuple[Prototypes, float], ...] = (
        ("centroid", weights.centroid),
        ("hybrid", weights.hybrid),
        ("hard", weights.hard),
    )
    terms = [Term(f"{name}_{kind}", kind, queries, memory, weight) for kind, weight in kinds if weight]
    if memory.dynamic is not None and recipe.dynamic_gradient:
        terms.append(Term(f"{name}_dynamic", "dynamic", queries, memory, weights.dynamic))
    elif memory.dynamic is not None and queries.momentum is not None:
        # The released code computes this from the momentum network's features, which have no gradient.
        slow = Queries(queries.momentum, queries.labels)
        terms.append(Term(f"{name}_dynamic", "dynamic", slow, memory, 1.0, trains=False))
    return terms


def cross_terms(
    queries: Pair[Queries],
    memories: Pair[ModalityMemories],
    partners: Pair[Tensor],
    weight: float,
    *,
    epoch: int,
    recipe: Recipe,
) -> list[Term]:
    """The terms of each modality's batch against the other's memory, through the matching.

    Args:
        queries: The batch.
        memories: The modalities' own memories.
        partners: See `own_losses`.
        weight: Weight of the terms; with 0 there are none.
        epoch: See `own_losses`.
        recipe: The method.
    """
    across, both = MEMORY_USE[recipe.memory_update].across, recipe.cross_direction == "both"
    terms = []
    if both or epoch % 2 == 0:
        terms.append(Term("visible_cross", across, queries.visible, memories.infrared, weight, partners.visible))
    if both or epoch % 2 == 1:
        terms.append(Term("infrared_cross", across, queries.infrared, memories.visible, weight, partners.infrared))
    return terms if weight else []


def joint_losses(
    queries: Pair[Queries], memory: ClusterMemory, weight: float, *, recipe: Recipe, temperature: float
) -> Losses:
    """The losses of a batch with joint labels against the joint memory.

    Args:
        queries: The batch.
        memory: Prototypes of the joint clusters.
        weight: Weight of both terms.
        recipe: The method.
        temperature: τ.

    Returns:
        Both losses, and the memory update.
    """
    use, joint = MEMORY_USE[recipe.memory_update], ModalityMemories(memory)
    terms = [
        Term(f"{name}_joint", use.across, part, joint, weight)
        for name, part, _ in _in_order(recipe, queries, Pair(joint, joint))
    ]
    losses = compute_losses(terms, recipe=recipe, temperature=temperature)
    # One update with both modalities: a centroid moves towards the mean of all its queries.
    both = Queries(torch.cat([part.features for part in queries]), torch.cat([part.labels for part in queries]))
    losses.updates = use.updates(joint, both)
    return losses


def _in_order(
    recipe: Recipe, queries: Pair[Queries], memories: Pair[ModalityMemories]
) -> list[tuple[ModalityName, Queries, ModalityMemories]]:
    """Batches with their memories; the modality that `loss_order` names comes first.

    Where memories are written in the backward pass, the order determines which prototypes a batch uses.
    """
    parts = [(name, part, memory) for (name, part), memory in zip(queries.items(), memories, strict=True)]
    return parts[::-1] if recipe.loss_order == "infrared_first" else parts
