"""Trainings in 64 bits, so that a difference between two of them is not rounding.

In 32 bits, a few steps of Adam amplify the last digit of a gradient to 1e-3.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from pclhd.data import augment
from pclhd.data.normalise import IMAGENET_MEAN, IMAGENET_STD
from pclhd.models import activation, embed


def normalise(images: Tensor, *_: object) -> Tensor:
    """As `pclhd.data.normalise`, in 64 bits."""
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (images.double() / 255 - mean) / deviation


@contextmanager
def in_double_precision() -> Iterator[None]:
    """Compute in 64 bits where the code asks for 32.

    It does so by `Tensor.float`, by torch's default type, and where bytes become numbers.
    """
    before = torch.get_default_dtype()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        patch.setattr(embed, "normalise", normalise)
        patch.setattr(augment, "normalise", normalise)
        patch.setattr(activation, "normalise", normalise)
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(before)
