"""Rows to test prototypes with, and the slow twins that several tests share."""

from __future__ import annotations

import torch
from torch import Tensor

from pclhd.prototypes import normalise

WIDTH = 6


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_rows(count: int, seed: int = 0, width: int = WIDTH) -> Tensor:
    return torch.randn(count, width, generator=generator(seed))


def unit_rows(count: int, seed: int = 0, width: int = WIDTH) -> Tensor:
    return normalise(random_rows(count, seed, width))


def lengths(rows: Tensor) -> Tensor:
    return rows.square().sum(-1).sqrt()


def unit(row: Tensor) -> Tensor:
    length = row.square().sum().sqrt().clamp(min=1e-12)
    return row.div(length)


def unit_of(values: list[float]) -> Tensor:
    return unit(torch.tensor(values))


def slow_means(features: Tensor, labels: Tensor, num_clusters: int) -> Tensor:
    return torch.stack([features[labels == cluster].mean(0) for cluster in range(num_clusters)])
