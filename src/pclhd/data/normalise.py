"""Bytes to numbers: the normalisation that every ImageNet-pretrained encoder expects."""

from __future__ import annotations

import torch
from torch import Tensor

Channels = tuple[float, float, float]
"""A number per channel: red, green, blue."""

IMAGENET_MEAN: Channels = (0.485, 0.456, 0.406)
IMAGENET_STD: Channels = (0.229, 0.224, 0.225)


def normalise(images: Tensor, mean: Channels = IMAGENET_MEAN, std: Channels = IMAGENET_STD) -> Tensor:
    """Scale bytes to 0..1, subtract a mean and divide by a standard deviation; by default ImageNet's (released code).

    Infrared images go through the same numbers: after it, their three equal channels are no longer equal.

    Args:
        images: (…, 3, H, W) uint8, channels red, green, blue.
        mean: Per channel, of values from 0 to 1.
        std: Per channel.

    Returns:
        (…, 3, H, W) float32 on the same device and in the same memory format.

    Raises:
        ValueError: Other numbers than bytes, or other than three channels.
    """
    if images.dtype != torch.uint8:
        raise ValueError(f"images must be uint8, not {images.dtype}")
    if images.dim() < 3 or images.shape[-3] != 3:
        raise ValueError(f"images must have the shape (…, 3, height, width), not {tuple(images.shape)}")
    centre = torch.tensor(mean, device=images.device).view(3, 1, 1)
    scale = torch.tensor(std, device=images.device).view(3, 1, 1)
    return images.to(torch.float32).mul_(1 / (255 * scale)).sub_(centre / scale)
