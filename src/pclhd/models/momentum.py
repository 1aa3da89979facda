"""The momentum network: a moving average of the online network, never trained by gradients."""

from __future__ import annotations

import copy
from enum import StrEnum
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


class BufferPolicy(StrEnum):
    """How the momentum network's buffers, that is its batch-norm statistics, are updated.

    Attributes:
        AVERAGE: Averaged like the parameters; counters are copied (ours).
        OWN: Not averaged: they come from the momentum network's own forward passes in training mode (released code).
    """

    AVERAGE = "average"
    OWN = "own"


class MomentumNetwork(Generic[Network]):
    """An exponential moving average of the online network.

    It starts as a copy of the online network. Its parameters never require a gradient.

    Args:
        online: The network to copy; no reference to it is kept.
        buffers: How `update` handles batch-norm statistics.

    Attributes:
        network: The averaged network.
    """

    def __init__(self, online: Network, *, buffers: BufferPolicy | str = BufferPolicy.OWN) -> None:
        self.network: Network = copy.deepcopy(online).requires_grad_(False)
        self.buffers = BufferPolicy(buffers)

    @torch.no_grad()
    def update(self, online: Network, decay: float) -> None:
        """Move towards the online network: each parameter becomes decay · own + (1 − decay) · online.

        Args:
            online: The network that the optimiser trains, on the same device.
            decay: Share of the old values; 0 copies, 1 changes nothing. 0.999 in the released code.

        Raises:
            ValueError: The decay is not within 0..1, or the networks have different tensors.
        """
        if not 0.0 <= decay <= 1.0:
            raise ValueError(f"decay must lie within 0..1, not {decay}")
        _average(dict(self.network.named_parameters()), dict(online.named_parameters()), decay)
        if self.buffers is BufferPolicy.OWN:
            return
        mine, theirs = dict(self.network.named_buffers()), dict(online.named_buffers())
        averaged = {name for name, buffer in mine.items() if buffer.is_floating_point()}
        _average(_only(mine, averaged), _only(theirs, averaged), decay)
        _average(_only(mine, mine.keys() - averaged), _only(theirs, theirs.keys() - averaged), 0.0)


def _only(tensors: dict[str, Tensor], names: set[str]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if name in names}


def _average(mine: dict[str, Tensor], theirs: dict[str, Tensor], decay: float) -> None:
    if mine.keys() != theirs.keys():
        odd = sorted(mine.keys() ^ theirs.keys())[0]
        raise ValueError(f"the online network does not match the momentum network: only one of them has {odd!r}")
    if not mine:
        return
    # By name, so that a different order of registration cannot mix up tensors.
    targets, sources = list(mine.values()), [theirs[name] for name in mine]
    if decay == 0.0:
        torch._foreach_copy_(targets, sources)
    else:
        torch._foreach_lerp_(targets, sources, 1.0 - decay)
