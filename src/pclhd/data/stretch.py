"""The range of pixel values that becomes 0 to 255: one for all images of a modality, never one per image."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pclhd.errors import UserError


@dataclass(frozen=True, slots=True)
class Stretch:
    """A range of values of grey images with more than 8 bits.

    Attributes:
        low: Becomes 0, with all values below.
        high: Becomes 255, with all values above.

    Raises:
        UserError: A bound is not finite, or there is nothing between them.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise UserError(
                f"a stretch from {self.low} to {self.high}: expected two finite numbers, the lower one first"
            )

    def to_bytes(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Scale values to 0 to 255 and round; NaN becomes 0.

        Args:
            values: Numbers of any type and shape.

        Returns:
            Bytes of the same shape.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = (values.astype(np.float64) - self.low) * (255 / (self.high - self.low))
        return np.nan_to_num(np.floor(scaled.clip(0, 255) + 0.5), nan=0.0).astype(np.uint8)

    def to_dict(self) -> dict[str, float]:
        """As JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Stretch:
        """The value that `to_dict` gave.

        Raises:
            UserError: It is not one.
        """
        if set(values) != {"low", "high"} or not all(_is_number(value) for value in values.values()):
            raise UserError(f"{dict(values)!r} is not a stretch; expected two numbers, low and high")
        return cls(float(values["low"]), float(values["high"]))


FULL_RANGE = Stretch(0, 65535)
"""All 16 bits: what is taken where no stretch was measured."""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
