"""Which prototype belongs to which joint cluster, where each modality of a cluster has one (after an idea of BMIL)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from pclhd.pair import Pair


@dataclass(frozen=True)
class SplitRows:
    """The prototypes of joint clusters that have one for each modality, visible ones first.

    Attributes:
        of: (C,) int64 each: the row of each joint cluster's visible and of its infrared prototype; −1 where it has no
            image of that modality.
    """

    of: Pair[Tensor]

    @classmethod
    def from_labels(cls, visible: Tensor, infrared: Tensor) -> SplitRows:
        """Number the prototypes.

        Args:
            visible: (Nv,) joint clusters of the visible images, −1 for noise.
            infrared: (Nr,) joint clusters of the infrared images.
        """
        clusters = int(torch.cat([visible, infrared]).max()) + 1
        of, taken = [], 0
        for labels in (visible, infrared):
            present = torch.bincount(labels[labels >= 0], minlength=clusters) > 0
            of.append(torch.where(present, taken + present.cumsum(0) - 1, -1))
            taken += int(present.sum())
        return cls(Pair(*of))

    def labels(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """(Nv + Nr,) the row of each image, visible images first; −1 for noise."""
        parts = [
            torch.where(labels >= 0, rows[labels.clamp(min=0)], -1)
            for rows, labels in zip(self.of, (visible, infrared), strict=True)
        ]
        return torch.cat(parts)

    @cached_property
    def siblings(self) -> Tensor:
        """(P, P) bool: whether two rows are of one joint cluster; each row is its own sibling."""
        owners = torch.cat([(rows >= 0).nonzero().squeeze(1) for rows in self.of])
        return owners[:, None] == owners[None]
