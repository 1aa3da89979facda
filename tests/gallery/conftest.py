from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pclhd.models.encoder import Encoder
from pclhd.models.preprocessing import Preprocessing
from tests.models.small import SMALL_BASIC, stirred


@dataclass(frozen=True)
class Photos:
    """Folders of small images, and an encoder.

    Attributes:
        root: Has the folders `day` (six images, two of them of the same content) and `night` (four).
        encoder: A small network.
        model: Its model file.
    """

    root: Path
    encoder: Encoder
    model: Path

    @property
    def day(self) -> Path:
        return self.root / "day"

    @property
    def night(self) -> Path:
        return self.root / "night"


def picture(path: Path, seed: int, size: tuple[int, int] = (24, 48)) -> Path:
    """An image that can be told from others by any network: one colour above, another below, and noise."""
    random = np.random.default_rng(seed)
    pixels = np.empty((size[1], size[0], 3), dtype=np.int64)
    pixels[: size[1] // 2], pixels[size[1] // 2 :] = random.integers(0, 256, 3), random.integers(0, 256, 3)
    pixels += random.integers(-20, 20, pixels.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return path


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    """Not to be changed."""
    from pclhd.models.weights import save_model

    root = tmp_path_factory.mktemp("photos")
    for number in range(5):
        picture(root / "day" / f"2026030{number + 1}_120000.png", number)
    picture(root / "day" / "copy.png", 0)
    for number in range(4):
        picture(root / "night" / f"n{number}.png", 10 + number)
    model = root / "model.safetensors"
    save_model(model, stirred(SMALL_BASIC), preprocessing=Preprocessing(32, 16))
    return Photos(root, Encoder.load(model, device="cpu"), model)
