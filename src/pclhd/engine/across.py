"""The losses across the modalities: with the partner's prototypes, by self-distillation, and with joint clusters.

`own_losses` and `joint_losses` put together all losses of a batch, with those within a modality
(`pclhd.engine.terms`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from pclhd.engine.memories import JointMemories, Memories, ModalityMemories
from pclhd.engine.term_weights import Prototypes, TermWeights
from pclhd.engine.terms import (
    MEMORY_USE,
    Losses,
    Positives,
    Queries,
    Term,
    cluster_loss,
    compute_losses,
    dynamic_loss,
    dynamic_similarities,
    in_order,
    memory_updates,
    own_terms,
)
from pclhd.losses import mean_over, prototype_distillation
from pclhd.pair import ModalityName, Pair
from pclhd.prototypes import similarities
from pclhd.recipes import Contrast, Recipe


def own_losses(
    queries: Pair[Queries],
    memories: Memories,
    partners: Pair[Tensor],
    weights: TermWeights,
    *,
    epoch: int,
    recipe: Recipe,
    temperature: float,
    draws: torch.Generator | None = None,
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
        draws: Draws dynamic prototypes from the batch, where the recipe does.

    Returns:
        The losses by name, and the memory updates.
    """
    terms = [
        term
        for name, part, memory in in_order(recipe, queries, memories.own)
        for term in own_terms(name, part, memory, weights, recipe=recipe)
    ]
    if recipe.cross_form == "partner":
        terms += cross_terms(queries, memories.own, partners, weights, epoch=epoch, recipe=recipe)
    losses = compute_losses(terms, recipe=recipe, temperature=temperature)
    if recipe.cross_form == "unified":
        losses.terms |= unified_losses(
            queries, memories.own, partners, weights, epoch=epoch, recipe=recipe, temperature=temperature
        )
    if weights.distillation:
        losses.terms |= distillation_losses(queries, memories.own, weights.distillation, temperature=temperature)
    for part, memory in zip(queries, memories.own, strict=True):
        losses.updates += memory_updates(part, memory, recipe, draws)
    return losses


def kinds_across(choice: Contrast, weights: TermWeights, recipe: Recipe) -> tuple[tuple[Prototypes, float], ...]:
    """The prototypes of a loss across the modalities, and the share of each.

    Args:
        choice: What the recipe asks for.
        weights: Weights of the terms in the epoch; ``own`` takes the mix within a modality.
        recipe: The method.
    """
    if choice == "own":
        return weights.within(recipe)
    return ((MEMORY_USE[recipe.memory_update].across if choice == "auto" else choice, 1.0),)


def _name(name: str, kinds: tuple[tuple[Prototypes, float], ...], kind: Prototypes) -> str:
    return name if len(kinds) == 1 else f"{name}_{kind}"


def _directions(epoch: int, recipe: Recipe) -> list[ModalityName]:
    """The modalities whose features the cross-modality loss trains."""
    if recipe.cross_direction == "both":
        return ["visible", "infrared"]
    return ["visible"] if epoch % 2 == 0 else ["infrared"]


def cross_terms(
    queries: Pair[Queries],
    memories: Pair[ModalityMemories],
    partners: Pair[Tensor],
    weights: TermWeights,
    *,
    epoch: int,
    recipe: Recipe,
) -> list[Term]:
    """The terms of each modality's batch against the other's memory, through the matching.

    Args:
        queries: The batch.
        memories: The modalities' own memories.
        partners: See `own_losses`.
        weights: Weights of the terms; with a weight of 0 for `cross` there are none.
        epoch: See `own_losses`.
        recipe: The method.
    """
    if not weights.cross:
        return []
    kinds = kinds_across(recipe.cross_contrast, weights, recipe)
    others = Pair(memories.infrared, memories.visible)
    return [
        Term(
            _name(f"{name}_cross", kinds, kind),
            kind,
            queries.of(name),
            others.of(name),
            weights.cross * share,
            partners.of(name),
        )
        for name in _directions(epoch, recipe)
        for kind, share in kinds
    ]


def unified_losses(
    queries: Pair[Queries],
    memories: Pair[ModalityMemories],
    partners: Pair[Tensor],
    weights: TermWeights,
    *,
    epoch: int,
    recipe: Recipe,
    temperature: float,
) -> dict[str, Tensor]:
    """The cross-modality losses against the prototypes of both modalities in one softmax (idea of PoSeD).

    Positives are the own cluster and all its partners in either direction of the matching; without a partner, the own
    cluster alone. Prototypes are read as they are before the step, and these losses write no memory (ours).

    Args:
        queries: The batch.
        memories: The modalities' own memories.
        partners: See `own_losses`.
        weights: Weights of the terms; with a weight of 0 for `cross` there are none.
        epoch: See `own_losses`.
        recipe: The method.
        temperature: τ.

    Returns:
        The losses by name.
    """
    if not weights.cross:
        return {}
    losses = {}
    kinds = kinds_across(recipe.cross_contrast, weights, recipe)
    belong = partner_table(partners)
    for name in _directions(epoch, recipe):
        part = queries.of(name)
        if name == "visible":
            held, matched = (memories.visible, memories.infrared), belong
        else:
            held, matched = (memories.infrared, memories.visible), belong.T
        own = torch.eye(len(matched), dtype=torch.bool, device=matched.device)
        positives = Positives(torch.cat([own, matched], dim=1))
        for kind, share in kinds:
            if kind == "dynamic":
                to = torch.cat([dynamic_similarities(memory, part.features, recipe) for memory in held], dim=1)
                loss = dynamic_loss(to, part, recipe=recipe, temperature=temperature, positives=positives)
            else:
                both = [_constant_reading(memory, part.features) for memory in held]
                reading = torch.cat([one[0] for one in both], dim=1), torch.cat([one[1] for one in both], dim=1)
                loss = cluster_loss(kind, reading, part, recipe=recipe, temperature=temperature, positives=positives)
            losses[_name(f"{name}_cross", kinds, kind)] = weights.cross * share * loss
    return losses


def partner_table(partners: Pair[Tensor]) -> Tensor:
    """(Cv, Cr) bool: whether either cluster of a pair is the other's partner."""

    def marked(towards: Tensor, others: int) -> Tensor:
        # An extra column takes those without a partner.
        table = torch.zeros(len(towards), others + 1, dtype=torch.bool, device=towards.device)
        return table.scatter_(1, torch.where(towards >= 0, towards, others)[:, None], True)[:, :others]

    return marked(partners.visible, len(partners.infrared)) | marked(partners.infrared, len(partners.visible)).T


def distillation_losses(
    queries: Pair[Queries], memories: Pair[ModalityMemories], weight: float, *, temperature: float
) -> dict[str, Tensor]:
    """Prototype self-distillation of both modalities' batches, over the centroids of both (idea of PoSeD).

    Args:
        queries: The batch.
        memories: The modalities' own memories; they are not written.
        weight: Factor of the losses.
        temperature: τ.

    Returns:
        The losses by name.
    """
    # Copies: a memory that is written in the backward pass must not change what is read here.
    centroids = Pair(*(memory.clusters.centroids.clone() for memory in memories))
    losses = {}
    for (name, part), own in zip(queries.items(), centroids, strict=True):
        prototypes = own[part.labels]
        values = prototype_distillation(
            Pair(*(similarities(part.features, rows) for rows in centroids)),
            Pair(*(similarities(prototypes, rows) for rows in centroids)),
            temperature,
        )
        losses[f"{name}_distillation"] = weight * mean_over(values, part.confidence)
    return losses


def _constant_reading(memory: ModalityMemories, features: Tensor) -> tuple[Tensor, Tensor]:
    """Similarities to centroids and hard prototypes as they are now; the backward pass may write the memory."""
    if memory.multi is not None:
        to_centroid = memory.centroid_similarities(features)
    else:
        to_centroid = similarities(features, memory.clusters.centroids.clone())
    return to_centroid, similarities(features, memory.clusters.hard.clone())


def joint_losses(
    queries: Pair[Queries],
    memories: JointMemories,
    weights: TermWeights,
    *,
    recipe: Recipe,
    temperature: float,
    draws: torch.Generator | None = None,
) -> Losses:
    """The losses of a batch with joint labels against the joint memory.

    Args:
        queries: The batch.
        memories: Prototypes of the joint clusters.
        weights: Weights of the terms.
        recipe: The method.
        temperature: τ.
        draws: Draws dynamic prototypes from the batch, where the recipe does.

    Returns:
        The losses, and the memory update.
    """
    held, split = memories.held, memories.split
    kinds = kinds_across(recipe.joint_contrast, weights, recipe)
    label_maps: Pair[Tensor | None] = Pair(None, None) if split is None else Pair(*split.of)
    positives = None if split is None else Positives(split.siblings, recipe.joint_negatives)
    terms = [
        Term(
            _name(f"{name}_joint", kinds, kind),
            kind,
            part,
            held,
            weights.joint * share,
            label_maps.of(name),
            positives=positives,
        )
        for name, part, _ in in_order(recipe, queries, Pair(held, held))
        for kind, share in kinds
    ]
    losses = compute_losses(terms, recipe=recipe, temperature=temperature)
    # One update with both modalities: a centroid moves towards the mean of all its queries.
    mapped = [part if rows is None else part.relabelled(rows) for part, rows in zip(queries, label_maps, strict=True)]
    both = Queries(torch.cat([part.features for part in mapped]), torch.cat([part.labels for part in mapped]))
    losses.updates = memory_updates(both, held, recipe, draws)
    return losses
