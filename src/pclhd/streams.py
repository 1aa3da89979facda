"""Random streams named by what they are for, all grown from one seed.

A stream depends only on the seed and its name (``"augment", epoch``, say), so no generator state has to be saved: a
resumed run asks for the stream of the epoch it starts with and gets what the uninterrupted run had. Evaluating, logging
or drawing a picture cannot disturb training, because nobody shares a stream.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Streams:
    """Makes generators from a seed and a name.

    Attributes:
        seed: The run's seed.
    """

    seed: int

    def _derive(self, name: tuple[str | int, ...]) -> int:
        text = "/".join([str(self.seed), *(str(part) for part in name)])
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

    def torch(self, *name: str | int) -> torch.Generator:
        """A CPU generator for tensors; draws are moved to the device afterwards, so devices agree."""
        return torch.Generator().manual_seed(self._derive(name))

    def numpy(self, *name: str | int) -> np.random.Generator:
        """A generator for indices and the like."""
        return np.random.default_rng(self._derive(name))
