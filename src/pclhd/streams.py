"""Random streams named by their purpose, all derived from one seed.

A stream depends only on the seed and its name (such as ``"augment", epoch``), so generator states need not be saved: a
resumed run gets the same stream for its epoch as an uninterrupted run. Evaluation, logging and drawing do not affect
training, because each use has a separate stream.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Streams:
    """Creates generators from a seed and a name.

    Attributes:
        seed: The run's seed.
    """

    seed: int

    def _derive(self, name: tuple[str | int, ...]) -> int:
        text = "/".join([str(self.seed), *(str(part) for part in name)])
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

    def torch(self, *name: str | int) -> torch.Generator:
        """A CPU generator for tensors; draws are moved to the device afterwards, so all devices use the same values."""
        return torch.Generator().manual_seed(self._derive(name))

    def numpy(self, *name: str | int) -> np.random.Generator:
        """A generator for NumPy arrays, such as indices."""
        return np.random.default_rng(self._derive(name))
