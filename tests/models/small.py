"""Small networks for tests, which together have every kind of part."""

from __future__ import annotations

import torch
from torch import nn

from pclhd.models.two_stream import Architecture, TwoStreamNetwork

SMALL_BASIC = Architecture(
    block="basic",
    depths=(1, 2, 1, 1),
    widths=(8, 8, 12, 16),
    stem_channels=8,
    stem_kernel=3,
    non_local=(0, 2, 1, 0),
)
SMALL_BOTTLENECK = Architecture(
    block="bottleneck",
    depths=(1, 2, 1, 1),
    widths=(4, 4, 6, 8),
    stem_channels=8,
    stem_pool=False,
    last_stride=2,
    non_local=(1, 0, 1, 0),
)
SMALL = {"basic": SMALL_BASIC, "bottleneck": SMALL_BOTTLENECK}


def stirred(architecture: Architecture, seed: int = 0) -> TwoStreamNetwork:
    """A network in which no part is at a special value: norms away from one and zero, statistics as after training."""
    generator = torch.Generator().manual_seed(seed)
    network = TwoStreamNetwork(architecture, generator=generator)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0, 0.1, generator=generator)
                module.running_mean.normal_(0, 0.1, generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                # Three of these are multiplied with each other: keep their product moderate.
                module.weight.mul_(0.3)
                module.bias.normal_(0, 0.1, generator=generator)
    return network


def pictures(count: int, seed: int = 0, height: int = 32, width: int = 16) -> torch.Tensor:
    """Random normalised images."""
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(seed))
