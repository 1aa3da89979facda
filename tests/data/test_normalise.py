from __future__ import annotations

import numpy as np
import pytest
import torch

from pclhd.data.normalise import IMAGENET_MEAN, IMAGENET_STD, normalise


def test_matches_the_formula_pixel_by_pixel() -> None:
    images = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    values = images.numpy().astype(np.float64) / 255
    for channel in range(3):
        values[:, channel] = (values[:, channel] - IMAGENET_MEAN[channel]) / IMAGENET_STD[channel]
    result = normalise(images)
    assert result.dtype == torch.float32
    np.testing.assert_allclose(result.numpy(), values, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 4, 5), (0, 3, 4, 5), (2, 2, 3, 4, 5)])
def test_keeps_the_shape_and_leaves_the_input_alone(shape: tuple[int, ...]) -> None:
    images = torch.full(shape, 7, dtype=torch.uint8)
    assert normalise(images).shape == shape
    assert torch.equal(images, torch.full(shape, 7, dtype=torch.uint8))


def test_keeps_the_memory_format() -> None:
    images = torch.zeros(2, 3, 4, 5, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    assert normalise(images).is_contiguous(memory_format=torch.channels_last)


def test_refuses_what_is_no_image() -> None:
    with pytest.raises(ValueError, match="float32"):
        normalise(torch.zeros(1, 3, 4, 5))
    with pytest.raises(ValueError, match=r"\(1, 4, 5, 3\)"):
        normalise(torch.zeros(1, 4, 5, 3, dtype=torch.uint8))
