"""Rows grouped by their label: sums, ranks, and the checks that prototypes and memories share."""

from __future__ import annotations

import torch
from torch import Tensor

from pclhd.prototypes.rows import at_least_float32

_LONGEST_LIST_IN_AN_ERROR = 5


def sums_by_label(features: Tensor, labels: Tensor, num_clusters: int) -> tuple[Tensor, Tensor]:
    """Sum (C, D) and count (C,) of the rows of each label; zero for absent labels."""
    sums = features.new_zeros(num_clusters, features.shape[1])
    return sums.index_add_(0, labels, features), torch.bincount(labels, minlength=num_clusters)


def rank_within_cluster(labels: Tensor, num_clusters: int) -> Tensor:
    """How many rows of the same label come before each row: (N,) int64."""
    sizes = torch.bincount(labels, minlength=num_clusters)
    starts = sizes.cumsum(0) - sizes
    order = labels.argsort(stable=True)
    ranks = torch.empty_like(labels)
    ranks[order] = torch.arange(len(labels), device=labels.device) - starts[labels[order]]
    return ranks


def rank_by_value(values: Tensor, labels: Tensor, num_clusters: int) -> Tensor:
    """Rank of each row's value in its cluster, 0 for the smallest; of equal values, the earlier row comes first."""
    order = values.argsort(stable=True)
    ranks = torch.empty_like(labels)
    ranks[order] = rank_within_cluster(labels[order], num_clusters)
    return ranks


def members(features: Tensor, labels: Tensor, num_clusters: int) -> tuple[Tensor, Tensor]:
    """The rows that belong to a cluster, in float32 at least, and their labels; noise is left out."""
    check_rows(features, labels)
    check_labels(labels, num_clusters, lowest=-1)
    member = labels >= 0
    return at_least_float32(features[member]), labels[member]


def check_rows(features: Tensor, labels: Tensor) -> None:
    """Refuse features and labels of shapes that disagree."""
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise ValueError(
            f"features of shape {tuple(features.shape)} and labels of shape {tuple(labels.shape)}, "
            "expected (N, D) and (N,)"
        )


def check_width(features: Tensor, prototypes: Tensor) -> None:
    """Refuse features that are wider or narrower than the prototypes."""
    if features.shape[1] != prototypes.shape[-1]:
        raise ValueError(f"features of width {features.shape[1]}, prototypes of width {prototypes.shape[-1]}")


def check_batch(queries: Tensor, labels: Tensor, prototypes: Tensor) -> None:
    """Refuse queries whose shapes or labels do not fit a memory."""
    check_rows(queries, labels)
    check_width(queries, prototypes)
    check_labels(labels, len(prototypes))


def check_labels(labels: Tensor, num_clusters: int, lowest: int = 0) -> None:
    """Refuse labels that are not whole numbers from `lowest` to `num_clusters` − 1."""
    check_range(labels, lowest, num_clusters, "label")


def check_range(values: Tensor, lowest: int, end: int, name: str) -> None:
    """Refuse values that are not int64 or lie outside `lowest` … `end` − 1."""
    if values.dtype != torch.int64:
        raise ValueError(f"{name}s are {values.dtype}, expected torch.int64")
    outside = values[(values < lowest) | (values >= end)]
    if len(outside):
        raise ValueError(f"{name} {int(outside[0])} is out of range, expected {lowest} to {end - 1}")


def refuse_empty(counts: Tensor) -> None:
    """Refuse clusters without a member."""
    empty = (counts == 0).nonzero().flatten().tolist()
    if empty:
        named = ", ".join(str(cluster) for cluster in empty[:_LONGEST_LIST_IN_AN_ERROR])
        more = len(empty) - _LONGEST_LIST_IN_AN_ERROR
        raise ValueError(f"cluster {named}{f' and {more} more' if more > 0 else ''} of {len(counts)} has no member")
