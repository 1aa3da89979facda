from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from pclhd.data.augment import (
    ERASED,
    LUMINANCE,
    copy_one_channel,
    erase_boxes,
    infrared_view,
    shift_and_mirror,
    vary_grey,
    visible_views,
)
from pclhd.data.normalise import normalise


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int, height: int = 12, width: int = 6, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (count, 3, height, width), generator=generator(seed), dtype=torch.uint8)


def floats(count: int, height: int = 12, width: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, height, width, generator=generator(seed))


# Shift and mirror.


def slow_shift_and_mirror(image: Tensor, padding: int, top: int, left: int, mirrored: bool) -> Tensor:
    channels, height, width = image.shape
    padded = torch.zeros(channels, height + 2 * padding, width + 2 * padding, dtype=image.dtype)
    padded[:, padding : padding + height, padding : padding + width] = image
    crop = padded[:, top : top + height, left : left + width]
    return crop.flip(2) if mirrored else crop


@pytest.mark.parametrize("padding", [1, 3])
def test_shift_and_mirror_equals_one_image_at_a_time(padding: int) -> None:
    images = pictures(40)
    before = images.clone()
    moved = shift_and_mirror(images, padding, generator(5))
    draws = generator(5)
    tops = torch.randint(0, 2 * padding + 1, (40,), generator=draws).tolist()
    lefts = torch.randint(0, 2 * padding + 1, (40,), generator=draws).tolist()
    mirrored = (torch.rand(40, generator=draws) < 0.5).tolist()
    assert len(set(zip(tops, lefts, mirrored, strict=True))) > 10, "one draw per image"
    for number, draw in enumerate(zip(tops, lefts, mirrored, strict=True)):
        assert torch.equal(moved[number], slow_shift_and_mirror(images[number], padding, *draw))
    assert torch.equal(images, before)
    assert moved.dtype == torch.uint8
    assert moved.shape == images.shape


def test_all_shifts_occur_equally_often() -> None:
    bright = torch.zeros(4000, 1, 5, 5, dtype=torch.uint8)
    bright[:, :, 2, 2] = 1
    where = shift_and_mirror(bright, 1, generator()).double().mean(0)[0]
    assert where[1:4, 1:4].numpy() == pytest.approx(np.full((3, 3), 1 / 9), abs=0.02)
    assert float(where.sum()) == 1


def test_half_are_mirrored() -> None:
    images = torch.arange(3).to(torch.uint8).view(1, 1, 1, 3).repeat(2000, 1, 3, 1)
    middle = shift_and_mirror(images, 1, generator())[:, 0, 1].int()
    rising, falling = (middle.diff(dim=1) > 0).any(1), (middle.diff(dim=1) < 0).any(1)
    only_rising = (rising & ~falling).double().mean()
    only_falling = (falling & ~rising).double().mean()
    # A shift may push a black edge in, on either side alike; so compare the two.
    assert float(only_rising) == pytest.approx(float(only_falling), abs=0.04)


# Erasing.


def test_half_are_erased_by_one_box_of_the_fill_values() -> None:
    images = floats(1500, 24, 12)
    before = images.clone()
    erased = erase_boxes(images, generator(1))
    assert torch.equal(images, before)
    changed = erased != images
    touched = changed.flatten(1).any(1)
    assert float(touched.double().mean()) == pytest.approx(0.5, abs=0.05)
    shares = []
    for number in touched.nonzero().flatten().tolist():
        mask = changed[number].any(0)
        rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
        assert bottom - top < 24
        assert right - left < 12
        box = erased[number, :, top:bottom, left:right]
        assert torch.equal(box, torch.tensor(ERASED).view(3, 1, 1).expand_as(box)), "a full box"
        outside = torch.ones(24, 12, dtype=torch.bool)
        outside[top:bottom, left:right] = False
        assert torch.equal(erased[number][:, outside], images[number][:, outside])
        shares.append((bottom - top) * (right - left) / (24 * 12))
    # Rounding to whole pixels may step over the ends of the range a little.
    assert 0.01 < min(shares) < 0.06
    assert 0.3 < max(shares) < 0.45


@pytest.mark.parametrize(("probability", "share"), [(0.0, 0.0), (1.0, 1.0)])
def test_probability_of_erasing(probability: float, share: float) -> None:
    images = floats(50)
    erased = erase_boxes(images, generator(), probability=probability)
    assert float((erased != images).flatten(1).any(1).double().mean()) == share


def test_boxes_reach_every_pixel() -> None:
    images = floats(3000)
    hit = (erase_boxes(images, generator(), probability=1.0) != images).any(1).any(0)
    assert bool(hit.all())


def test_no_box_fits() -> None:
    # The whole image is asked for, and a box must be smaller than it.
    images = floats(8)
    assert torch.equal(erase_boxes(images, generator(), probability=1.0, area=(1.0, 1.0), aspect=(2.0, 2.0)), images)


# Channels.


def test_one_channel_is_copied_to_all() -> None:
    images = floats(3000, 2, 2)
    copied = copy_one_channel(images, generator())
    which = torch.tensor(
        [
            [torch.equal(result, image[channel].expand(3, 2, 2)) for channel in range(3)]
            for image, result in zip(images, copied, strict=True)
        ]
    )
    assert bool((which.sum(1) == 1).all())
    assert which.double().mean(0).tolist() == pytest.approx([1 / 3] * 3, abs=0.03)


def test_grey_variants_and_how_often_they_come() -> None:
    images = floats(4000, 2, 2)
    varied = vary_grey(images, generator())
    luminance = sum(weight * images[:, channel] for channel, weight in enumerate(LUMINANCE))
    assert isinstance(luminance, Tensor)
    variants = [*(images[:, channel] for channel in range(3)), luminance]
    kinds = [torch.isclose(varied, variant[:, None], atol=1e-6).flatten(1).all(1) for variant in variants]
    kinds.append((varied == images).flatten(1).all(1))
    which = torch.stack(kinds, dim=1)
    assert bool((which.sum(1) == 1).all())
    assert which.double().mean(0).tolist() == pytest.approx([1 / 4, 1 / 4, 1 / 4, 1 / 8, 1 / 8], abs=0.025)


# Whole views.


def test_both_visible_views() -> None:
    images = pictures(64)
    before = images.clone()
    views = visible_views(images, generator(3))
    assert views.shape == (128, 3, 12, 6)
    assert views.dtype == torch.float32
    assert torch.equal(images, before)
    colour, channel = views[:64], views[64:]
    grey = [bool((view == view[:1]).all()) for view in channel]
    # Boxes have other fill values per channel, but the copied channel goes over them too.
    assert all(grey)
    assert not any(bool((view == view[:1]).all()) for view in colour)


def test_the_colour_view_is_the_plain_chain() -> None:
    images = pictures(16, 288, 20)
    expected = erase_boxes(normalise(shift_and_mirror(images, 10, (draws := generator(2)))), draws)
    assert torch.equal(visible_views(images, generator(2))[:16], expected)


def test_the_infrared_view_is_the_plain_chain() -> None:
    images = pictures(16, 96, 48)
    draws = generator(2)
    expected = vary_grey(erase_boxes(normalise(shift_and_mirror(images, 3, draws)), draws), draws)
    assert torch.equal(infrared_view(images, generator(2)), expected)
    assert infrared_view(images, generator(2)).shape == (16, 3, 96, 48)


def test_one_draw_per_image_and_the_same_again() -> None:
    images = pictures(1).expand(30, -1, -1, -1)
    for view in (visible_views, infrared_view):
        first = view(images, generator(4))
        assert len({tuple(image.flatten().tolist()) for image in first}) > 0.7 * len(first)
        assert torch.equal(view(images, generator(4)), first)
        assert not torch.equal(view(images, generator(5)), first)


def test_an_empty_batch() -> None:
    assert visible_views(pictures(0), generator()).shape == (0, 3, 12, 6)
    assert infrared_view(pictures(0), generator()).shape == (0, 3, 12, 6)
