"""The losses of a training step: which queries are contrasted with which prototypes, and the weight of each.

A `Term` describes one loss; `compute_losses` computes it. Memories are read while losses are computed and written only
after the optimiser step, so that all losses of a step use the same prototypes. With ``memory_update=in_backward`` they
are written in the backward pass instead, as in the released code and in the default recipe.

This module has the terms within a modality; `pclhd.engine.across` has those across the modalities.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from pclhd.engine.memories import ModalityMemories
from pclhd.engine.term_weights import Prototypes, TermWeights
from pclhd.losses import (
    contrast,
    hardest_of_several,
    hardest_similarities,
    mean_over,
    released_hybrid,
    shared_contrast,
)
from pclhd.pair import ModalityName, Pair
from pclhd.prototypes import coupled_similarities, normalise, similarities
from pclhd.recipes import Recipe


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


@dataclass(frozen=True)
class Positives:
    """Several prototypes that a query belongs to, with equal shares of its loss.

    Attributes:
        of: (C, P) bool, the prototypes that queries of each label belong to; at least one each.
        negatives: How many of the other prototypes, the most similar ones, count; None for all.
    """

    of: Tensor
    negatives: int | None = None


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
        positives: Where a query belongs to several clusters in `memory`; None where it belongs to that of its label.
    """

    name: str
    prototypes: Prototypes
    queries: Queries
    memory: ModalityMemories
    weight: float
    label_map: Tensor | None = None
    trains: bool = True
    positives: Positives | None = None


Reading = tuple[Tensor, Tensor]


class AfterStep:
    """Memories are constants while losses are computed, and are updated after the optimiser step (paper).

    Attributes:
        across: Kind of prototypes for a batch in a memory other than its modality's own.
    """

    across: Prototypes = "centroid"

    def read(self, memory: ModalityMemories, queries: Queries) -> Reading:
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

    def read(self, memory: ModalityMemories, queries: Queries) -> Reading:
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
    readings: dict[tuple[int, int], Reading] = {}
    for term in terms:
        queries = term.queries if term.label_map is None else term.queries.relabelled(term.label_map)
        if len(queries.labels) == 0:
            continue
        positives = term.positives
        if term.prototypes == "dynamic":
            to_instances = dynamic_similarities(term.memory, queries.features, recipe)
            loss = dynamic_loss(to_instances, queries, recipe=recipe, temperature=temperature, positives=positives)
        else:
            # In the released code, each read is an update, so the terms of a batch share one.
            key = id(term.queries), id(term.memory)
            if key not in readings:
                readings[key] = MEMORY_USE[recipe.memory_update].read(term.memory, queries)
            loss = cluster_loss(
                term.prototypes, readings[key], queries, recipe=recipe, temperature=temperature, positives=positives
            )
        (losses.terms if term.trains else losses.logged)[term.name] = term.weight * loss
    return losses


def cluster_loss(
    prototypes: Prototypes,
    reading: Reading,
    queries: Queries,
    *,
    recipe: Recipe,
    temperature: float,
    positives: Positives | None = None,
) -> Tensor:
    """The loss of queries against centroids, hard prototypes, or both.

    With several positives, the hybrid loss is half of each without the released code's margin.

    Args:
        prototypes: Which of them.
        reading: Similarities to the centroids and to the hard prototypes, (B, C) each.
        queries: The queries.
        recipe: For the margin.
        temperature: τ.
        positives: See `Term`.
    """
    to_centroid, to_hard = reading
    if prototypes == "hybrid" and positives is None:
        return released_hybrid(to_centroid, to_hard, queries.labels, temperature, confidence=queries.confidence)
    if prototypes == "hybrid":
        return torch.stack([_mean_contrast(part, queries, temperature, positives) for part in reading]).mean()
    if prototypes == "hard":
        return _mean_contrast(to_hard, queries, temperature, positives)
    loss = _mean_contrast(to_centroid, queries, temperature, positives)
    return (loss - recipe.centroid_margin).relu() if recipe.centroid_margin else loss


def dynamic_similarities(memory: ModalityMemories, features: Tensor, recipe: Recipe) -> Tensor:
    """Similarities of queries to the dynamic prototypes: (B, C, K), or (B, C, 1) to their means (pooled).

    Raises:
        ValueError: The memory has no dynamic prototypes.
    """
    if memory.dynamic is None:
        raise ValueError("a dynamic term needs a memory with dynamic prototypes")
    instances = memory.dynamic.memory
    if recipe.dynamic_similarity == "pooled":
        return similarities(features, normalise(instances.instances.mean(1)))[:, :, None]
    return instances.similarities(features)


def dynamic_loss(
    to_instances: Tensor,
    queries: Queries,
    *,
    recipe: Recipe,
    temperature: float,
    positives: Positives | None = None,
) -> Tensor:
    """The loss of queries against dynamic prototypes; arguments as for `cluster_loss` and `dynamic_similarities`."""
    if recipe.dynamic_similarity != "hardest":
        combined = to_instances.mean(dim=2)
    elif positives is None:
        combined = hardest_similarities(to_instances, queries.labels)
    else:
        combined = hardest_of_several(to_instances, positives.of[queries.labels])
    return _mean_contrast(combined, queries, temperature, positives)


def _mean_contrast(to: Tensor, queries: Queries, temperature: float, positives: Positives | None) -> Tensor:
    if positives is None:
        return mean_over(contrast(to, queries.labels, temperature), queries.confidence)
    values = shared_contrast(to, positives.of[queries.labels], temperature, negatives=positives.negatives)
    return mean_over(values, queries.confidence)


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
    kinds = tuple((kind, weight) for kind, weight in weights.within(recipe) if kind != "dynamic")
    terms = [Term(f"{name}_{kind}", kind, queries, memory, weight) for kind, weight in kinds]
    if memory.dynamic is not None and recipe.dynamic_gradient:
        terms.append(Term(f"{name}_dynamic", "dynamic", queries, memory, weights.dynamic))
    elif memory.dynamic is not None and queries.momentum is not None:
        # The released code computes this from the momentum network's features, which have no gradient.
        slow = Queries(queries.momentum, queries.labels)
        terms.append(Term(f"{name}_dynamic", "dynamic", slow, memory, 1.0, trains=False))
    return terms


def memory_updates(
    queries: Queries, memory: ModalityMemories, recipe: Recipe, draws: torch.Generator | None
) -> list[Callable[[], None]]:
    """Functions that update a memory with a batch, to call after the optimiser step.

    Args:
        queries: The batch, with labels in the memory.
        memory: The memory.
        recipe: The method.
        draws: Draws dynamic prototypes from the batch, where the recipe does.
    """
    updates = MEMORY_USE[recipe.memory_update].updates(memory, queries)
    if recipe.dynamic_redraw == "batch" and memory.dynamic is not None and draws is not None:
        updates.append(partial(memory.dynamic.memory.refresh, queries.features.detach(), queries.labels, draws))
    return updates


def in_order(
    recipe: Recipe, queries: Pair[Queries], memories: Pair[ModalityMemories]
) -> list[tuple[ModalityName, Queries, ModalityMemories]]:
    """Batches with their memories; the modality that `loss_order` names comes first.

    Where memories are written in the backward pass, the order determines which prototypes a batch uses.
    """
    parts = [(name, part, memory) for (name, part), memory in zip(queries.items(), memories, strict=True)]
    return parts[::-1] if recipe.loss_order == "infrared_first" else parts
