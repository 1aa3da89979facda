"""Training transforms on whole batches, on the device that holds the batch: one random draw per image.

Geometry (pad, crop, mirror) works on the bytes; then the image is normalised, partly erased, and its channels mixed, in
the order of the released code. All draws come from a CPU generator, so that a run is the same on every device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pclhd.data.normalise import IMAGENET_MEAN, IMAGENET_STD, Channels, normalise

# The released code fills erased boxes with these numbers in the *normalised* image; they look like a mean colour, but
# are not one there.
ERASED = (0.4914, 0.4822, 0.4465)
LUMINANCE = (0.2989, 0.5870, 0.1140)


def visible_views(
    images: Tensor, generator: torch.Generator, *, mean: Channels = IMAGENET_MEAN, std: Channels = IMAGENET_STD
) -> Tensor:
    """Both views of visible images: in colour, and with one random channel copied to all three.

    The views are cropped, mirrored and erased independently (released code: ``rgb`` and ``rgb1``).

    Args:
        images: Bytes (B, 3, H, W).
        generator: Source of all draws.
        mean: Mean per channel of the normalisation.
        std: Standard deviation per channel.

    Returns:
        Floats (2B, 3, H, W): the B colour views, then the B channel views.
    """
    colour = _common(images, generator, mean, std)
    channel = copy_one_channel(_common(images, generator, mean, std), generator)
    return torch.cat([colour, channel])


def infrared_view(
    images: Tensor, generator: torch.Generator, *, mean: Channels = IMAGENET_MEAN, std: Channels = IMAGENET_STD
) -> Tensor:
    """The view of infrared images: common transforms, then intensities varied through the channels (released code).

    Args:
        images: Bytes (B, 3, H, W).
        generator: Source of all draws.
        mean: Mean per channel of the normalisation.
        std: Standard deviation per channel.

    Returns:
        Floats (B, 3, H, W).
    """
    return vary_grey(_common(images, generator, mean, std), generator)


def _common(images: Tensor, generator: torch.Generator, mean: Channels, std: Channels) -> Tensor:
    # 10 pixels at 288 high in the released code; in proportion at other sizes.
    padding = max(1, round(images.shape[-2] * 10 / 288))
    return erase_boxes(normalise(shift_and_mirror(images, padding, generator), mean, std), generator)


def shift_and_mirror(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Pad with black, crop back at a random place, mirror with probability ½.

    Args:
        images: (B, C, H, W), any type.
        padding: Pixels on every side.
        generator: Source of all draws.

    Returns:
        (B, C, H, W), same type.
    """
    count, _, height, width = images.shape
    top = torch.randint(0, 2 * padding + 1, (count,), generator=generator)
    left = torch.randint(0, 2 * padding + 1, (count,), generator=generator)
    mirrored = torch.rand(count, generator=generator) < 0.5
    rows = top[:, None] + torch.arange(height)
    columns = torch.where(mirrored[:, None], torch.arange(width - 1, -1, -1), torch.arange(width)) + left[:, None]
    padded = torch.nn.functional.pad(images, (padding, padding, padding, padding))
    rows, columns = rows.to(images.device), columns.to(images.device)
    image = torch.arange(count, device=images.device)
    # Indexing with the channel axis kept as a slice puts it last: the channels-last order that convolutions like.
    return padded[image[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def erase_boxes(
    images: Tensor,
    generator: torch.Generator,
    *,
    probability: float = 0.5,
    area: tuple[float, float] = (0.02, 0.4),
    aspect: tuple[float, float] = (0.3, 1 / 0.3),
    attempts: int = 100,
) -> Tensor:
    """Fill a random box of some images (released code: ``ChannelRandomErasing``).

    Args:
        images: Floats (B, 3, H, W), normalised.
        generator: Source of all draws.
        probability: Chance that an image is erased at all.
        area: Range of the box's share of the image.
        aspect: Range of height over width, drawn uniformly (not in its logarithm).
        attempts: Boxes tried before an image is left alone; a box must be smaller than the image on both sides.

    Returns:
        A new tensor of the same shape.
    """
    count, _, height, width = images.shape
    chosen = torch.rand(count, generator=generator) < probability
    share = torch.empty(count, attempts).uniform_(*area, generator=generator) * (height * width)
    ratio = torch.empty(count, attempts).uniform_(*aspect, generator=generator)
    heights, widths = (share * ratio).sqrt().round(), (share / ratio).sqrt().round()
    fits = (heights < height) & (widths < width)
    first = fits.int().argmax(dim=1, keepdim=True)
    box_height = heights.gather(1, first)
    box_width = widths.gather(1, first)
    place = torch.rand(count, 2, generator=generator)
    top = (place[:, :1] * (height - box_height + 1)).floor()
    left = (place[:, 1:] * (width - box_width + 1)).floor()
    row, column = torch.arange(height), torch.arange(width)
    in_rows = (row >= top) & (row < top + box_height) & (chosen & fits.any(dim=1))[:, None]
    in_columns = (column >= left) & (column < left + box_width)
    box = (in_rows[:, None, :, None] & in_columns[:, None, None, :]).to(images.device)
    return torch.where(box, images.new_tensor(ERASED).view(1, 3, 1, 1), images)


def copy_one_channel(images: Tensor, generator: torch.Generator) -> Tensor:
    """Copy one of the three channels, chosen per image, to the other two (released code: ``ChannelExchange(gray=2)``).

    Args:
        images: (B, 3, H, W).
        generator: Source of all draws.

    Returns:
        (B, 3, H, W).
    """
    channel = torch.randint(0, 3, (len(images),), generator=generator)
    return _weigh_channels(images, torch.nn.functional.one_hot(channel, 3).float())


def vary_grey(images: Tensor, generator: torch.Generator) -> Tensor:
    """Copy channel 0, 1 or 2 to all (¼ each), or the luminance (⅛), or change nothing (⅛).

    On infrared images the channels differ only by their normalisation, so this varies brightness and contrast (released
    code: ``ChannelAdapGray(0.5)``).

    Args:
        images: (B, 3, H, W).
        generator: Source of all draws.

    Returns:
        (B, 3, H, W).
    """
    draw = torch.randint(0, 8, (len(images),), generator=generator)
    copied = torch.nn.functional.one_hot((draw // 2).clamp(max=2), 3).float()
    weights = torch.where((draw == 6)[:, None], torch.tensor(LUMINANCE), copied)
    unchanged = (draw == 7).to(images.device)
    return torch.where(unchanged.view(-1, 1, 1, 1), images, _weigh_channels(images, weights))


def _weigh_channels(images: Tensor, weights: Tensor) -> Tensor:
    mixed = (images * weights.to(images).view(-1, 3, 1, 1)).sum(dim=1, keepdim=True)
    return mixed.expand_as(images)
