"""Contrastive losses against prototypes: pure functions of similarities.

A loss has one value per sample; the caller averages. A larger similarity means closer. Half-precision similarities are
converted to float32 first.

Letters: B queries of a batch, C clusters, K instances per cluster.
"""

from __future__ import annotations

import torch
from torch import Tensor

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
