"""Architectures of two-stream networks: their parameters, validated and saved as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from pclhd.parsing import parse_json

PerStage = tuple[int, int, int, int]

# Far beyond any network in use. A header from elsewhere may ask for more than can be built.
_HIGHEST = {
    **dict.fromkeys(("depths", "non_local"), 256),
    **dict.fromkeys(("widths", "stem_channels"), 16384),
    "stem_kernel": 63,
    "stem_stride": 16,
    "last_stride": 16,
}


def _check_per_stage(name: str, values: Any, lowest: int) -> None:
    if not isinstance(values, tuple) or len(values) != 4:
        raise ValueError(f"{name} must have one number for each of the four stages, not {values!r}")
    for value in values:
        _check_count(name, value, lowest)


def _check_count(name: str, value: Any, lowest: int) -> None:
    highest = _HIGHEST[name]
    if type(value) is not int or not lowest <= value <= highest:
        raise ValueError(f"{name} must hold whole numbers from {lowest} to {highest}, not {str(value)[:20]}")


def _check_power(power: Any) -> None:
    if not isinstance(power, int | float) or not 0 < power < float("inf"):
        raise ValueError(f"gem_power must be a positive number, not {power!r}")


@dataclass(frozen=True)
class Architecture:
    """A ResNet with one stem per modality, four shared stages and optional non-local blocks.

    Attributes:
        block: Kind of residual block: two 3×3 convolutions, or 1×1, 3×3 and 1×1 with four times the planes as output.
        depths: Blocks in each stage.
        widths: Planes of each stage. A basic block has this many output channels, a bottleneck four times as many.
        stem_channels: Output channels of a stem.
        stem_kernel: Size of the stem's convolution, odd.
        stem_stride: Its stride, in pixels.
        stem_pool: Whether a 3×3 max-pool of stride 2 follows.
        last_stride: Stride of the fourth stage; 1 gives a larger feature map than in ImageNet classifiers.
        non_local: How many blocks at the end of each stage are followed by a non-local block.
        gem_power: Exponent of the generalised-mean pooling. Fixed, not learned.
    """

    block: Literal["basic", "bottleneck"]
    depths: PerStage
    widths: PerStage
    stem_channels: int
    stem_kernel: int = 7
    stem_stride: int = 2
    stem_pool: bool = True
    last_stride: int = 1
    non_local: PerStage = (0, 0, 0, 0)
    gem_power: float = 3.0

    def __post_init__(self) -> None:
        if self.block not in ("basic", "bottleneck"):
            raise ValueError(f"block must be 'basic' or 'bottleneck', not {self.block!r}")
        for name, lowest in (("depths", 1), ("widths", 1), ("non_local", 0)):
            _check_per_stage(name, getattr(self, name), lowest)
        for name in ("stem_channels", "stem_kernel", "stem_stride", "last_stride"):
            _check_count(name, getattr(self, name), 1)
        if self.stem_kernel % 2 == 0:
            raise ValueError(f"stem_kernel must be odd, not {self.stem_kernel}")
        if type(self.stem_pool) is not bool:
            raise ValueError(f"stem_pool must be true or false, not {self.stem_pool!r}")
        _check_power(self.gem_power)
        if any(attended > depth for attended, depth in zip(self.non_local, self.depths, strict=True)):
            raise ValueError(f"non_local {self.non_local} has more blocks than depths {self.depths}")
        if self.non_local[3] > 0:
            # A non-local block does not end with a ReLU, and power-mean pooling needs non-negative values.
            raise ValueError(f"non_local must be 0 in the fourth stage, which pooling follows, not {self.non_local[3]}")

    @property
    def expansion(self) -> int:
        """Output channels of a block per plane."""
        return 4 if self.block == "bottleneck" else 1

    @property
    def embedding_size(self) -> int:
        """Width of an embedding: the output channels of the fourth stage."""
        return self.widths[3] * self.expansion

    @property
    def fewest_weights(self) -> int:
        """A number of weights that the network surely has: those of the stem and of a 3×3 convolution per block."""
        blocks = sum(9 * depth * width**2 for depth, width in zip(self.depths, self.widths, strict=True))
        return blocks + 3 * self.stem_channels * self.stem_kernel**2

    def to_json(self) -> str:
        """One line of JSON with sorted keys: equal architectures give equal text."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Architecture:
        """Read the text of `to_json`.

        Raises:
            ValueError: Not JSON, or a field is missing, unknown or invalid.
        """
        values = parse_json(text)
        if not isinstance(values, Mapping):
            raise ValueError(f"an architecture must be a JSON object, not {text[:40]!r}")
        known = {field.name for field in fields(cls)}
        if set(values) != known:
            raise ValueError(f"an architecture has the fields {sorted(known)}, not {sorted(values)}")
        arguments: dict[str, Any] = {}
        for name, value in values.items():
            arguments[name] = tuple(value) if isinstance(value, list) else value
        return cls(**arguments)


@dataclass(frozen=True)
class BackboneArchitecture:
    """A network of the `transformers` library with one stem per modality (ours).

    Attributes:
        config: Its complete configuration, as made by `pclhd.models.backbones.settle`; ``model_type`` names its family.
        pooling: ``power``: the generalised mean with exponent 3, for non-negative features. ``mean``: the mean over
            positions, for all others.
    """

    config: dict[str, Any]
    pooling: Literal["mean", "power"]

    def __post_init__(self) -> None:
        if not isinstance(self.config, dict) or not isinstance(self.config.get("model_type"), str):
            raise ValueError(f"config must be an object with a model_type, not {str(self.config)[:40]!r}")
        if self.pooling not in ("mean", "power"):
            raise ValueError(f"pooling must be 'mean' or 'power', not {self.pooling!r}")

    @property
    def family(self) -> str:
        """The name of the kind of network in transformers, such as ``convnext``."""
        return str(self.config["model_type"])


@dataclass(frozen=True)
class LiteArchitecture:
    """EfficientNet-Lite0 with one stem per modality (ours); `pclhd.models.efficientnet_lite` builds it.

    Attributes:
        kind: ``efficientnet_lite0``.
        last_stride: Stride of the last block that has one; 1 gives a larger feature map than in ImageNet classifiers.
        gem_power: Exponent of the generalised-mean pooling. Fixed, not learned.
    """

    kind: str = "efficientnet_lite0"
    last_stride: int = 2
    gem_power: float = 3.0

    def __post_init__(self) -> None:
        if self.kind != "efficientnet_lite0":
            raise ValueError(f"kind must be 'efficientnet_lite0', not {str(self.kind)[:40]!r}")
        if type(self.last_stride) is not int or self.last_stride not in (1, 2):
            raise ValueError(f"last_stride must be 1 or 2, not {str(self.last_stride)[:20]}")
        _check_power(self.gem_power)


AnyArchitecture = Architecture | BackboneArchitecture | LiteArchitecture


def read_architecture(values: object) -> AnyArchitecture:
    """An architecture of any kind from its parsed JSON.

    Raises:
        ValueError: As `Architecture.from_json`.
    """
    if isinstance(values, Mapping) and "config" in values:
        if set(values) != {"config", "pooling"}:
            raise ValueError(f"a backbone has the fields config and pooling, not {sorted(values)}")
        return BackboneArchitecture(**values)
    if isinstance(values, Mapping) and "kind" in values:
        if set(values) != {field.name for field in fields(LiteArchitecture)}:
            raise ValueError(f"efficientnet_lite0 has the fields kind, last_stride and gem_power, not {sorted(values)}")
        return LiteArchitecture(**values)
    return Architecture.from_json(json.dumps(values))


def first_difference(ours: AnyArchitecture, theirs: AnyArchitecture) -> tuple[str, object, object] | None:
    """Where two architectures differ: the field's name, our value and theirs; None if they are equal.

    Settings of a backbone that only one of them has are ignored: newer versions of transformers add some.
    """
    mine, other = _flat(ours), _flat(theirs)
    for name, value in mine.items():
        if name in other and other[name] != value:
            return name, value, other[name]
    return None


def _flat(architecture: AnyArchitecture) -> dict[str, object]:
    if isinstance(architecture, Architecture):
        return {"kind": "ResNet", **asdict(architecture)}
    if isinstance(architecture, LiteArchitecture):
        return asdict(architecture)
    family = {"kind": f"backbone {architecture.family}", "pooling": architecture.pooling}
    return {**family, **{f"backbone.{name}": value for name, value in architecture.config.items()}}


RESNET50_AGW = Architecture(
    block="bottleneck",
    depths=(3, 4, 6, 3),
    widths=(64, 128, 256, 512),
    stem_channels=64,
    non_local=(0, 2, 3, 0),
)
"""The network of the released code: ResNet-50 with the AGW baseline's non-local blocks and pooling."""

NARROW = Architecture(
    block="basic",
    depths=(1, 1, 1, 1),
    widths=(32, 64, 128, 256),
    stem_channels=32,
)
"""A small network for 96 × 48 images that trains in minutes on two CPU cores (ours)."""

LITE0 = LiteArchitecture()
"""EfficientNet-Lite0, for training on a processor from ImageNet weights (ours)."""

ARCHITECTURES: dict[str, Architecture] = {"resnet50": RESNET50_AGW, "narrow": NARROW}
"""The ResNets by their names in the settings."""
