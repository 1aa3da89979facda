"""Contrastive losses against prototypes: pure functions of similarities.

A loss has one value per sample; the caller averages. A larger similarity means closer. Half-precision similarities are
converted to float32 first.

Letters: B queries of a batch, C clusters, K instances per cluster.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pclhd.pair import Pair
from pclhd.prototypes import at_least_float32


def contrast(similarities: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """−log softmax at the query's own cluster: −log( exp(s_y/τ) / Σ_c exp(s_c/τ) ) (released code).

    Args:
        similarities: (B, C), query against prototype.
        labels: (B,) int64, the own cluster of each query, 0…C−1.
        temperature: τ > 0.

    Returns:
        (B,), one value per query, at least 0.

    Raises:
        ValueError: Shapes disagree, or the temperature is not positive.
    """
    if similarities.ndim != 2 or labels.shape != similarities.shape[:1]:
        raise ValueError(
            f"similarities of shape {tuple(similarities.shape)} and labels of shape {tuple(labels.shape)}, "
            "expected (B, C) and (B,)"
        )
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}, expected a positive number")
    log_share = (at_least_float32(similarities) / temperature).log_softmax(dim=1)
    return -log_share.gather(1, labels[:, None]).squeeze(1)


def shared_contrast(
    similarities: Tensor, positives: Tensor, temperature: float, *, negatives: int | None = None
) -> Tensor:
    """−Σ_p 1/|P| · log( exp(s_p/τ) / (Σ_P exp(s/τ) + Σ_N exp(s/τ)) ): several positives P of equal share.

    With one positive and all negatives it is `contrast`. Equal shares and the limit on negatives are BMIL's.

    Args:
        similarities: (B, C), query against prototype.
        positives: (B, C) bool; at least one for each query.
        temperature: τ > 0.
        negatives: How many of the other prototypes, the most similar ones, are in the denominator; None for all.

    Returns:
        (B,), one value per query, at least log |P|.

    Raises:
        ValueError: Shapes disagree, or the temperature or the limit is not positive.
    """
    if similarities.ndim != 2 or positives.shape != similarities.shape:
        raise ValueError(
            f"similarities of shape {tuple(similarities.shape)} and positives of shape {tuple(positives.shape)}, "
            "expected (B, C) both"
        )
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}, expected a positive number")
    if negatives is not None and negatives < 1:
        raise ValueError(f"negatives is {negatives}; expected at least 1, or None for all")
    scores = at_least_float32(similarities) / temperature
    others = scores.masked_fill(positives, -torch.inf)
    if negatives is not None and negatives < scores.shape[1]:
        others = others.topk(negatives, dim=1).values
    denominator = torch.cat([scores.masked_fill(~positives, -torch.inf), others], dim=1).logsumexp(1)
    return denominator - torch.where(positives, scores, 0.0).sum(1) / positives.sum(1)


def prototype_distillation(queries: Pair[Tensor], prototypes: Pair[Tensor], temperature: float) -> Tensor:
    """Cross-entropy of a query's similarities to all prototypes with a teacher's (idea of PoSeD).

    The teacher's similarities are half those of the query, as a constant, and half those of the query's prototype; a
    softmax within each modality, divided by the two modalities, makes them shares. The student's softmax is over the
    prototypes of both modalities, so it has to give each modality half of its mass. That the teacher has no gradient
    is ours.

    Args:
        queries: (B, Cv) and (B, Cr), query against the visible and the infrared prototypes.
        prototypes: (B, Cv) and (B, Cr), the prototype of the query's own cluster against the same.
        temperature: τ > 0.

    Returns:
        (B,), one value per query.

    Raises:
        ValueError: Shapes disagree, or the temperature is not positive.
    """
    shapes = [[tuple(part.shape) for part in parts] for parts in (queries, prototypes)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"queries of shapes {shapes[0]} and prototypes of shapes {shapes[1]}, expected the same")
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}, expected a positive number")
    teacher = [
        (at_least_float32(own.detach() + theirs.detach()) / (2 * temperature)).softmax(1) / 2
        for own, theirs in zip(queries, prototypes, strict=True)
    ]
    student = (at_least_float32(torch.cat(queries, dim=1)) / temperature).log_softmax(1)
    return -(torch.cat(teacher, dim=1) * student).sum(1)


def hardest_similarities(similarities: Tensor, labels: Tensor) -> Tensor:
    """One similarity per cluster from K: the smallest for the own cluster, the largest for the others (released code).

    Args:
        similarities: (B, C, K), query against instance.
        labels: (B,) int64, the own cluster of each query, 0…C−1.

    Returns:
        (B, C).

    Raises:
        ValueError: Shapes disagree.
    """
    if similarities.ndim != 3 or labels.shape != similarities.shape[:1]:
        raise ValueError(
            f"similarities of shape {tuple(similarities.shape)} and labels of shape {tuple(labels.shape)}, "
            "expected (B, C, K) and (B,)"
        )
    own = similarities.gather(1, labels[:, None, None].expand(-1, 1, similarities.shape[2]))
    return similarities.amax(2).scatter(1, labels[:, None], own.amin(2))


def hardest_of_several(similarities: Tensor, positives: Tensor) -> Tensor:
    """As `hardest_similarities`, with several own clusters.

    Args:
        similarities: (B, C, K), query against instance.
        positives: (B, C) bool, the own clusters of each query.

    Returns:
        (B, C).

    Raises:
        ValueError: Shapes disagree.
    """
    if similarities.ndim != 3 or positives.shape != similarities.shape[:2]:
        raise ValueError(
            f"similarities of shape {tuple(similarities.shape)} and positives of shape {tuple(positives.shape)}, "
            "expected (B, C, K) and (B, C)"
        )
    return torch.where(positives, similarities.amin(2), similarities.amax(2))


def mean_over(values: Tensor, confidence: Tensor | None = None) -> Tensor:
    """Mean of a loss over the queries, weighted by the confidence in their labels (ours).

    Args:
        values: (B,), B ≥ 1.
        confidence: (B,) at least 0; only the proportions matter. None, or 0 for all, gives equal weights.

    Returns:
        A scalar.

    Raises:
        ValueError: Shapes disagree.
    """
    if confidence is None:
        return values.mean()
    if confidence.shape != values.shape:
        raise ValueError(f"confidence has shape {tuple(confidence.shape)}, expected {tuple(values.shape)}")
    total = confidence.sum()
    shares = torch.where(total > 0, confidence / total.clamp_min(1e-30), torch.full_like(confidence, 1 / len(values)))
    return (shares.to(values.dtype) * values).sum()


def released_hybrid(
    centroid_similarities: Tensor,
    hard_similarities: Tensor,
    labels: Tensor,
    temperature: float,
    margin: float = 0.2,
    *,
    confidence: Tensor | None = None,
) -> Tensor:
    """½·( mean hard contrast + max(mean centroid contrast − margin, 0) ) (released code).

    The maximum is applied to the batch mean, so this loss has no values per sample.

    Args:
        centroid_similarities: (B, C).
        hard_similarities: (B, C).
        labels: (B,) int64, 0…C−1.
        temperature: τ > 0.
        margin: Centroid contrast below which the centroids have no gradient.
        confidence: (B,) weights of the queries in both means; None for equal weights.

    Returns:
        A scalar.

    Raises:
        ValueError: The batch is empty, shapes disagree, or the temperature is not positive.
    """
    if len(labels) == 0:
        raise ValueError("the batch has 0 queries; the hybrid loss is a mean over at least one")
    centroid = mean_over(contrast(centroid_similarities, labels, temperature), confidence)
    hard = mean_over(contrast(hard_similarities, labels, temperature), confidence)
    return 0.5 * (hard + (centroid - margin).relu())
