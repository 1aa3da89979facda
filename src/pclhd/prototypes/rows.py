"""Rows of unit length and their similarities, in float32 at least."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SMALLEST_LENGTH = 1e-12


def normalise(features: Tensor) -> Tensor:
    """Scale rows to unit length, in float32 at least.

    Args:
        features: (…, D), any floating type.

    Returns:
        (…, D), float32, or float64 for float64. A row of zeros stays zero.
    """
    return F.normalize(at_least_float32(features), dim=-1, eps=SMALLEST_LENGTH)


def at_least_float32(values: Tensor) -> Tensor:
    """Half-precision values as float32; everything else unchanged."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def similarities(queries: Tensor, rows: Tensor) -> Tensor:
    """Dot products of queries and rows, never in half precision.

    Losses divide similarities by a temperature near 0.05, which would make the rounding errors of bfloat16 as large as
    the differences that matter. So autocast is switched off here.

    Args:
        queries: (B, D).
        rows: (R, D).

    Returns:
        (B, R), in the type of `rows`.
    """
    with torch.autocast(device_type=queries.device.type, enabled=False):
        return queries.to(rows.dtype) @ rows.T
