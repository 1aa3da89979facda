"""One training step: forward, named losses, backward, optimiser, then the memories.

The order is the point. Memories are read while losses are computed and written only after the optimiser has moved, so
every loss of a step sees the same prototypes. With ``memory_update=in_backward`` memories are written inside the
backward pass (`pclhd.prototypes.released`): the released code's way, which the default recipe took over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from pclhd.engine.memories import DynamicSource, Memories
from pclhd.losses import contrast, hardest_similarities, mean_over, released_hybrid
from pclhd.prototypes import ClusterMemory, MultiMemory, coupled_similarities
from pclhd.recipes import Recipe

Part = TypeVar("Part")

#: Choices of stage II that contrast with something else than centroids, so that centroids can keep a share.
SHARP = frozenset({"hard", "dynamic", "hard+dynamic"})


@dataclass(frozen=True)
class TermWeights:
    """How much each kind of prototype counts at a moment of training; zero leaves the term out."""

    centroid: float = 0.0
    hybrid: float = 0.0
    hard: float = 0.0
    dynamic: float = 0.0
    cross: float = 0.0
    joint: float = 0.0

    @classmethod
    def at(cls, recipe: Recipe, *, stage: int, progress: float) -> TermWeights:
        """The weights of a stage.

        Args:
            recipe: The method.
            stage: 1 or 2.
            progress: Share of the stage's epochs that are over, 0..1; only a ramp looks at it.
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
        # Only the kinds of prototype are shifted gradually; the terms across the modalities belong to the whole stage.
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
    """The losses of one step by name, and what to do to the memories once the optimiser has moved.

    Attributes:
        terms: Name to weighted scalar; their sum is minimised.
        printed: Name to scalar that is logged and trains nothing.
        updates: Calls that refresh memories.
    """

    terms: dict[str, Tensor] = field(default_factory=dict)
    printed: dict[str, Tensor] = field(default_factory=dict)
    updates: list[Callable[[], None]] = field(default_factory=list)

    @property
    def total(self) -> Tensor:
        """The sum to minimise."""
        return torch.stack(list(self.terms.values())).sum()


@dataclass(frozen=True)
class Queries:
    """Unit-length features of one modality's batch and their pseudo labels.

    Attributes:
        features: (B, D) from the online network.
        labels: (B,) labels in the modality's own clusters.
        momentum: (B, D) from the momentum network, where the recipe runs it on batches.
        confidence: (B,) how much each query counts in a loss; None counts all alike.
    """

    features: Tensor
    labels: Tensor
    momentum: Tensor | None = None
    confidence: Tensor | None = None


def unit(features: Tensor) -> Tensor:
    """Rows scaled to unit length, in 32 bits whatever the network's precision."""
    return functional.normalize(features.float())


def own_losses(
    name: str,
    queries: Queries,
    clusters: ClusterMemory,
    dynamic: DynamicSource | None,
    weights: TermWeights,
    *,
    recipe: Recipe,
    temperature: float,
    losses: Losses,
    multi: MultiMemory | None = None,
) -> None:
    """Add a modality's losses against its own memory.

    Args:
        name: The modality, which names the losses.
        queries: Its batch.
        clusters: Its centroid and hard prototypes.
        dynamic: Its dynamic prototypes, or None.
        weights: What counts.
        recipe: The method.
        temperature: τ.
        losses: Receives the terms and the memory's update.
        multi: Several prototypes per cluster, which the centroid loss then reads in the centroids' place.
    """
    coupled = recipe.memory_update == "in_backward"
    features, labels, trust = queries.features, queries.labels, queries.confidence
    if weights.centroid or weights.hybrid or weights.hard:
        if coupled:
            to_centroid, to_hard = coupled_similarities(clusters, features, labels, "hybrid")
        else:
            to_centroid, to_hard = _to_centres(features, clusters, multi), clusters.hard_similarities(features)
        if weights.centroid:
            values = contrast(to_centroid, labels, temperature)
            losses.terms[f"{name}_centroid"] = weights.centroid * mean_over(values, trust)
        if weights.hybrid:
            hybrid = released_hybrid(to_centroid, to_hard, labels, temperature, confidence=trust)
            losses.terms[f"{name}_hybrid"] = weights.hybrid * hybrid
        if weights.hard:
            losses.terms[f"{name}_hard"] = weights.hard * mean_over(contrast(to_hard, labels, temperature), trust)
    if dynamic is not None:
        _dynamic_loss(name, queries, dynamic, weights.dynamic, recipe, temperature, losses)
    if not coupled:
        losses.updates.append(lambda: clusters.update(features.detach(), labels))
        if multi is not None:
            losses.updates.append(lambda: multi.update(features.detach(), labels))


def _to_centres(features: Tensor, clusters: ClusterMemory, multi: MultiMemory | None) -> Tensor:
    """(B, C): of several prototypes per cluster, the nearest counts, for one's own cluster and for the others."""
    return clusters.centroid_similarities(features) if multi is None else multi.nearest_similarities(features)


def _dynamic_loss(
    name: str,
    queries: Queries,
    dynamic: DynamicSource,
    weight: float,
    recipe: Recipe,
    temperature: float,
    losses: Losses,
) -> None:
    if recipe.dynamic_gradient:
        to_instances = dynamic.memory.similarities(queries.features)
        values = contrast(_one_per_cluster(to_instances, queries.labels, recipe), queries.labels, temperature)
        losses.terms[f"{name}_dynamic"] = weight * mean_over(values, queries.confidence)
    elif queries.momentum is not None:
        # The released code computes this from the momentum network's features, which carry no gradient.
        to_instances = dynamic.memory.similarities(queries.momentum)
        values = contrast(_one_per_cluster(to_instances, queries.labels, recipe), queries.labels, temperature)
        losses.printed[f"{name}_dynamic"] = values.mean()


def _one_per_cluster(similarities: Tensor, labels: Tensor, recipe: Recipe) -> Tensor:
    if recipe.dynamic_similarity == "mean":
        return similarities.mean(dim=2)
    return hardest_similarities(similarities, labels)


def cross_loss(
    name: str,
    queries: Queries,
    partner: Tensor,
    clusters: ClusterMemory,
    weight: float,
    *,
    recipe: Recipe,
    temperature: float,
    losses: Losses,
    multi: MultiMemory | None = None,
) -> None:
    """Add the loss of one modality's batch against the other's memory, through the matching.

    Args:
        name: Name of the loss.
        queries: The batch, labelled in its own clusters.
        partner: (C,) the other modality's cluster for each own one, −1 for none; such queries are left out.
        clusters: The other modality's memory.
        weight: Of the term.
        recipe: The method.
        temperature: τ.
        losses: Receives the term.
        multi: The other modality's several prototypes per cluster, read in the centroids' place.
    """
    labels = partner[queries.labels]
    kept = labels >= 0
    if weight == 0 or not bool(kept.any()):
        return
    features, labels = queries.features[kept], labels[kept]
    trust = None if queries.confidence is None else queries.confidence[kept]
    if recipe.memory_update == "in_backward":
        to_centroid, to_hard = coupled_similarities(clusters, features, labels, "hybrid")
        losses.terms[name] = weight * released_hybrid(to_centroid, to_hard, labels, temperature, confidence=trust)
    else:
        values = contrast(_to_centres(features, clusters, multi), labels, temperature)
        losses.terms[name] = weight * mean_over(values, trust)


def joint_losses(
    visible: Queries, infrared: Queries, memory: ClusterMemory, weight: float, *, recipe: Recipe, temperature: float
) -> Losses:
    """The losses of a joint batch, labelled in joint clusters, against the joint memory.

    Args:
        visible: The visible half.
        infrared: The infrared half.
        memory: Prototypes of the joint clusters.
        weight: Of both terms.
        recipe: The method.
        temperature: τ.

    Returns:
        Both terms, and the memory's update.
    """
    losses = Losses()
    for name, queries in _in_order(recipe, ("visible_joint", visible), ("infrared_joint", infrared)):
        if recipe.memory_update == "in_backward":
            to_centroid, to_hard = coupled_similarities(memory, queries.features, queries.labels, "hybrid")
            hybrid = released_hybrid(to_centroid, to_hard, queries.labels, temperature, confidence=queries.confidence)
            losses.terms[name] = weight * hybrid
        else:
            values = contrast(memory.centroid_similarities(queries.features), queries.labels, temperature)
            losses.terms[name] = weight * mean_over(values, queries.confidence)
    if recipe.memory_update == "after_step":
        features = torch.cat([visible.features, infrared.features]).detach()
        labels = torch.cat([visible.labels, infrared.labels])
        losses.updates.append(lambda: memory.update(features, labels))
    return losses


def collect_losses(
    visible: Queries,
    infrared: Queries,
    memories: Memories,
    partners: tuple[Tensor, Tensor],
    weights: TermWeights,
    *,
    epoch: int,
    recipe: Recipe,
    temperature: float,
) -> Losses:
    """All losses of a step but the joint one.

    Args:
        visible: Visible queries.
        infrared: Infrared queries.
        memories: The epoch's memories.
        partners: Matching, visible to infrared and infrared to visible.
        weights: What counts.
        epoch: Counted from 0 within the stage; its parity chooses the direction of an alternating cross term.
        recipe: The method.
        temperature: τ.

    Returns:
        The named losses and the memories' updates.
    """
    losses = Losses()
    parts = _in_order(recipe, ("visible", (visible, memories.visible)), ("infrared", (infrared, memories.infrared)))
    for name, (queries, memory) in parts:
        own_losses(
            name,
            queries,
            memory.clusters,
            memory.dynamic,
            weights,
            recipe=recipe,
            temperature=temperature,
            losses=losses,
            multi=memory.multi,
        )
    both = recipe.cross_direction == "both"
    if both or epoch % 2 == 0:
        cross_loss(
            "visible_cross",
            visible,
            partners[0],
            memories.infrared.clusters,
            weights.cross,
            recipe=recipe,
            temperature=temperature,
            losses=losses,
            multi=memories.infrared.multi,
        )
    if both or epoch % 2 == 1:
        cross_loss(
            "infrared_cross",
            infrared,
            partners[1],
            memories.visible.clusters,
            weights.cross,
            recipe=recipe,
            temperature=temperature,
            losses=losses,
            multi=memories.visible.multi,
        )
    return losses


def _in_order(recipe: Recipe, visible: Part, infrared: Part) -> tuple[Part, Part]:
    # Where memories are written inside the backward pass, the order decides who sees which prototypes.
    return (infrared, visible) if recipe.loss_order == "infrared_first" else (visible, infrared)
