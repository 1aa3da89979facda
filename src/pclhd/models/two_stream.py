"""The encoder: a stem per modality, a shared ResNet trunk with non-local blocks, power-mean pooling, and the neck."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from pclhd.data.normalise import IMAGENET_MEAN, IMAGENET_STD
from pclhd.models.architecture import ARCHITECTURES, NARROW, RESNET50_AGW, AnyArchitecture, Architecture

__all__ = [
    "ARCHITECTURES",
    "NARROW",
    "RESNET50_AGW",
    "Architecture",
    "NetworkOutput",
    "NonLocalBlock",
    "TwoStreamNetwork",
    "power_mean_pool",
    "to_channels_last",
]


class NetworkOutput(NamedTuple):
    """The outputs of the network for a batch.

    Attributes:
        embedding: (B, D) output of the neck, not normalised. Rows: visible images, then infrared ones.
        pooled: (B, D) pooled features, before the neck.
    """

    embedding: Tensor
    pooled: Tensor


class TwoStreamNetwork(nn.Module):
    """A network that embeds visible and infrared images in one space (released code).

    Colours differ between the modalities, so each has a separate stem; shapes do not, so the rest is shared. In
    training, both modalities of a batch share the batch-norm statistics of the trunk and the neck.

    The neck is a batch norm whose bias is frozen at its initial value.

    Args:
        architecture: Which network to build.
        generator: Generator of the random initial weights, on the CPU. None gives the same weights every time.

    Attributes:
        image_mean: Mean per channel of the images that the start weights were trained on, from 0 to 1.
        image_std: Their standard deviation.
    """

    image_mean, image_std = IMAGENET_MEAN, IMAGENET_STD

    def __init__(self, architecture: Architecture, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.architecture: AnyArchitecture = architecture
        self.gem_power = architecture.gem_power
        self.embedding_size = architecture.embedding_size
        # Built without storage, so that torch does not draw initial weights from the global generator.
        with torch.device("meta"):
            self.visible_stem = Stem(architecture)
            self.infrared_stem = Stem(architecture)
            self.trunk, self.non_local = _build_stages(architecture)
            self.neck = nn.BatchNorm1d(self.embedding_size)
        self.to_empty(device="cpu")
        self.neck.bias.requires_grad_(False)
        self._draw_start_weights(generator if generator is not None else torch.Generator().manual_seed(0))

    def forward(self, visible: Tensor | None, infrared: Tensor | None) -> NetworkOutput:
        """Embed a batch of visible images, of infrared images, or of both.

        Args:
            visible: (Bv, 3, H, W) normalised images, or None.
            infrared: (Br, 3, H, W) normalised images, or None.

        Returns:
            Embeddings and pooled features, (Bv + Br, D) each, visible rows first.

        Raises:
            ValueError: Neither modality was given.
        """
        pooled = power_mean_pool(self.last_map(visible, infrared), self.gem_power)
        return NetworkOutput(embedding=self.neck(pooled), pooled=pooled)

    def last_map(self, visible: Tensor | None, infrared: Tensor | None) -> Tensor:
        """(Bv + Br, C, h, w) features before pooling; arguments and errors as in `forward`."""
        return self._run_stages(self._join_stems(visible, infrared))

    def _join_stems(self, visible: Tensor | None, infrared: Tensor | None) -> Tensor:
        """The features of each modality's stem, visible rows first."""
        maps = []
        if visible is not None:
            maps.append(self.visible_stem(visible))
        if infrared is not None:
            maps.append(self.infrared_stem(infrared))
        if not maps:
            raise ValueError("the network needs visible images, infrared images or both, not None and None")
        return torch.cat(maps) if len(maps) > 1 else maps[0]

    def _run_stages(self, features: Tensor) -> Tensor:
        for name, module in self.trunk.items():
            stage = cast(nn.ModuleList, module)
            attention = cast(nn.ModuleList, self.non_local[name]) if name in self.non_local else nn.ModuleList()
            first_attended = len(stage) - len(attention)
            for position, block in enumerate(stage):
                features = block(features)
                if position >= first_attended:
                    features = attention[position - first_attended](features)
        return features

    def _draw_start_weights(self, generator: torch.Generator) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
            elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.reset_parameters()
        for module in self.modules():
            if isinstance(module, NonLocalBlock):
                module.draw_start_weights(generator)
        nn.init.normal_(self.neck.weight, 1.0, 0.01, generator=generator)


def to_channels_last(network: TwoStreamNetwork, device: torch.device | None = None) -> None:
    """Store convolution weights channels-last, which is faster on most CPUs; results do not change.

    Args:
        network: Changed in place.
        device: Device to move it to, or None not to move it.
    """
    cast(Any, network).to(device=device, memory_format=torch.channels_last)


class Stem(nn.Module):
    """Convolution, batch norm, ReLU and (depending on the architecture) a max-pool of stride 2.

    Args:
        architecture: Its `stem_…` fields are used.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            3,
            architecture.stem_channels,
            kernel_size=architecture.stem_kernel,
            stride=architecture.stem_stride,
            padding=architecture.stem_kernel // 2,
            bias=False,
        )
        self.norm = nn.BatchNorm2d(architecture.stem_channels)
        self.pool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1) if architecture.stem_pool else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images to (B, stem_channels, h, w) features."""
        return cast(Tensor, self.pool(functional.relu(self.norm(self.conv(images)), inplace=True)))


class BasicBlock(nn.Module):
    """Residual block of two 3×3 convolutions, as in ResNet-18.

    Args:
        channels: Input channels.
        planes: Output channels.
        stride: Stride of the first convolution.
    """

    def __init__(self, channels: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _convolution(channels, planes, 3, stride)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = _convolution(planes, planes, 3)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = _shortcut(channels, planes, stride)

    def forward(self, features: Tensor) -> Tensor:
        """(B, channels, h, w) to (B, planes, h / stride, w / stride)."""
        branch = functional.relu(self.bn1(self.conv1(features)), inplace=True)
        branch = self.bn2(self.conv2(branch))
        return functional.relu(branch + self.downsample(features), inplace=True)


class BottleneckBlock(nn.Module):
    """Residual block of 1×1, 3×3 and 1×1 convolutions, as in ResNet-50; the 3×3 one has the stride.

    Args:
        channels: Input channels.
        planes: Channels of the 3×3 convolution; a quarter of the output channels.
        stride: Stride of the 3×3 convolution.
    """

    def __init__(self, channels: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _convolution(channels, planes, 1)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = _convolution(planes, planes, 3, stride)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = _convolution(planes, 4 * planes, 1)
        self.bn3 = nn.BatchNorm2d(4 * planes)
        self.downsample = _shortcut(channels, 4 * planes, stride)

    def forward(self, features: Tensor) -> Tensor:
        """(B, channels, h, w) to (B, 4 · planes, h / stride, w / stride)."""
        branch = functional.relu(self.bn1(self.conv1(features)), inplace=True)
        branch = functional.relu(self.bn2(self.conv2(branch)), inplace=True)
        branch = self.bn3(self.conv3(branch))
        return functional.relu(branch + self.downsample(features), inplace=True)


class NonLocalBlock(nn.Module):
    """Each position gains a share of all positions, weighted by a dot product without softmax (released code).

    With queries Q, keys K and values V of P positions, the output is x + norm(W(Q Kᵀ V / P)). The norm starts at zero,
    so a fresh block changes nothing.

    Args:
        channels: Input and output channels.
        inner: Channels of queries, keys and values; 1 in the released code.
    """

    def __init__(self, channels: int, inner: int = 1) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, inner, kernel_size=1)
        self.key = nn.Conv2d(channels, inner, kernel_size=1)
        self.value = nn.Conv2d(channels, inner, kernel_size=1)
        self.output = nn.Conv2d(inner, channels, kernel_size=1)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, features: Tensor) -> Tensor:
        """(B, channels, h, w) to (B, channels, h, w)."""
        # 1×1 convolutions as matrix products: torch treats a map of one channel as channels-first, which would make all
        # following operations slow.
        height, width = features.shape[2:]
        rows = features.permute(0, 2, 3, 1).flatten(1, 2)
        projections = (self.query, self.key, self.value)
        weight = torch.cat([projection.weight.flatten(1) for projection in projections])
        bias = torch.cat([cast(Tensor, projection.bias) for projection in projections])
        query, key, value = functional.linear(rows, weight, bias).chunk(3, dim=2)
        # Without a softmax, the product can be computed from the right: inner × inner values instead of one per pair of
        # positions.
        summary = key.transpose(1, 2) @ value / key.shape[1]
        attended = functional.linear(query @ summary, self.output.weight.flatten(1), self.output.bias)
        attended = attended.view(features.shape[0], height, width, -1).permute(0, 3, 1, 2)
        return cast(Tensor, self.norm(attended) + features)

    def draw_start_weights(self, generator: torch.Generator) -> None:
        """Convolutions scaled by their input channels (some have one output channel), biases and the norm at zero."""
        for convolution in (self.query, self.key, self.value, self.output):
            nn.init.kaiming_normal_(convolution.weight, mode="fan_in", nonlinearity="relu", generator=generator)
            nn.init.zeros_(cast(nn.Parameter, convolution.bias))
        nn.init.zeros_(self.norm.weight)


def power_mean_pool(features: Tensor, power: float) -> Tensor:
    """Generalised-mean pooling: (mean over positions of xᵖ + 1e-12)^(1/p) (released code).

    Always computed in float32, because 1e-12 is zero in half precision.

    Args:
        features: (B, C, h, w), not negative.
        power: The exponent p. 1 gives the mean; larger values approach the maximum.

    Returns:
        (B, C) float32.
    """
    return features.float().pow(power).mean(dim=(2, 3)).add(1e-12).pow(1 / power)


def _build_stages(architecture: Architecture) -> tuple[nn.ModuleDict, nn.ModuleDict]:
    """The residual stages, and the non-local blocks of the stages that have any, by name of the stage."""
    block = BottleneckBlock if architecture.block == "bottleneck" else BasicBlock
    trunk, non_local = nn.ModuleDict(), nn.ModuleDict()
    channels = architecture.stem_channels
    strides = (1, 2, 2, architecture.last_stride)
    stages = zip(architecture.depths, architecture.widths, strides, architecture.non_local, strict=True)
    for number, (depth, planes, stride, attended) in enumerate(stages, start=1):
        blocks = nn.ModuleList()
        for position in range(depth):
            blocks.append(block(channels, planes, stride if position == 0 else 1))
            channels = planes * architecture.expansion
        trunk[f"stage{number}"] = blocks
        if attended:
            non_local[f"stage{number}"] = nn.ModuleList(NonLocalBlock(channels) for _ in range(attended))
    return trunk, non_local


def _convolution(channels: int, planes: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, planes, kernel_size=kernel, stride=stride, padding=kernel // 2, bias=False)


def _shortcut(channels: int, planes: int, stride: int) -> nn.Module:
    """The identity, or a projection where the shape changes."""
    if stride == 1 and channels == planes:
        return nn.Identity()
    return nn.Sequential(_convolution(channels, planes, 1, stride), nn.BatchNorm2d(planes))
