"""Preprocessing of images for a network; saved in the model file with the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from pclhd.data.images import RESAMPLING, Resample
from pclhd.data.normalise import IMAGENET_MEAN, IMAGENET_STD, Channels
from pclhd.data.records import Modality
from pclhd.data.stretch import Stretch


@dataclass(frozen=True)
class Preprocessing:
    """Processing of an image before and after the network, for retrieval.

    Attributes:
        height: Image height in pixels.
        width: Image width in pixels.
        resample: Filter for resizing. The released code uses Lanczos for test images.
        mean: Mean per channel (red, green, blue) of values from 0 to 1; subtracted.
        std: Standard deviation per channel; a divisor.
        mirror: Whether the embeddings of an image and of its mirror image are averaged (released code).
        visible_stretch: The range of grey values of more than 8 bits that became 0 to 255 in training; None for 8 bits.
        infrared_stretch: The same for infrared images.

    Raises:
        ValueError: A value is impossible.
    """

    height: int
    width: int
    resample: Resample = "lanczos"
    mean: Channels = IMAGENET_MEAN
    std: Channels = IMAGENET_STD
    mirror: bool = True
    visible_stretch: Stretch | None = None
    infrared_stretch: Stretch | None = None

    def __post_init__(self) -> None:
        for name in ("height", "width"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} must be a positive whole number, not {value!r}")
        if self.resample not in RESAMPLING:
            raise ValueError(f"resample must be one of {', '.join(RESAMPLING)}, not {self.resample!r}")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if not isinstance(values, tuple) or len(values) != 3 or not all(type(one) is float for one in values):
                raise ValueError(f"{name} must be three numbers, not {values!r}")
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive, not {self.std}")
        if type(self.mirror) is not bool:
            raise ValueError(f"mirror must be true or false, not {self.mirror!r}")

    def stretch(self, modality: Modality) -> Stretch | None:
        """The range of values of a modality that becomes 0 to 255, where its images have more than 8 bits."""
        return self.visible_stretch if modality is Modality.VISIBLE else self.infrared_stretch

    def to_dict(self) -> dict[str, Any]:
        """The values in JSON-compatible form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """Read the result of `to_dict`.

        Raises:
            ValueError: A value is missing, unknown or impossible.
        """
        known = {field.name for field in fields(cls)}
        if not isinstance(values, Mapping) or set(values) != known:
            raise ValueError(f"preprocessing must have the fields {sorted(known)}")
        arguments: dict[str, Any] = {}
        for name, value in values.items():
            arguments[name] = tuple(value) if isinstance(value, list) else value
            if name.endswith("_stretch") and value is not None:
                arguments[name] = Stretch.from_dict(value)
        return cls(**arguments)
