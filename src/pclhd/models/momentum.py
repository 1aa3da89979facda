"""The momentum network: a slow average of the online one, and itself never trained by gradients."""

from __future__ import annotations

import copy
from enum import StrEnum
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


class BufferPolicy(StrEnum):
    """What becomes of the momentum network's buffers, that is of its batch-norm statistics.

    Attributes:
        AVERAGE: Averaged as the parameters are; counters are copied (ours).
        OWN: Left alone: they come from the momentum network's own forward passes in training mode (released code).
    """

    AVERAGE = "average"
    OWN = "own"


class MomentumNetwork(Generic[Network]):
    """An exponential moving average of the online network.

    Starts as a copy of it. Parameters never require a gradient.

    Args:
        online: The network to copy. It is not kept.
        buffers: What `update` does with batch-norm statistics.

    Attributes:
        network: The averaged network: run it, embed with it, save it.
    """

    def __init__(self, online: Network, *, buffers: BufferPolicy | str = BufferPolicy.OWN) -> None:
        self.network: Network = copy.deepcopy(online).requires_grad_(False)
        self.buffers = BufferPolicy(buffers)

    @torch.no_grad()
    def update(self, online: Network, decay: float) -> None:
        """Move towards the online network: each parameter becomes decay · own + (1 − decay) · online.

        Args:
            online: The network that the optimiser trains, on the same device.
            decay: Share that stays; 0 copies, 1 leaves everything as it is. The released code has 0.999.

        Raises:
            ValueError: The decay is not within 0..1, or the networks differ in their parts.
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
        raise ValueError(f"the online network is not of the momentum network's kind: only one of them has {odd!r}")
    if not mine:
        return
    # By name: an order of registration that differs must not mix up tensors.
    targets, sources = list(mine.values()), [theirs[name] for name in mine]
    if decay == 0.0:
        torch._foreach_copy_(targets, sources)
    else:
        torch._foreach_lerp_(targets, sources, 1.0 - decay)
