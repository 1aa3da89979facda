"""The training images, in memory or mapped into it: bytes and cameras by modality, and no place for an identity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pclhd.data.image_cache import ImageCache
from pclhd.data.images import DecodingOptions, load_images
from pclhd.data.records import ImageRecord, Modality, TrainingSet
from pclhd.data.stretch import Stretch
from pclhd.errors import UserError
from pclhd.pair import Pair


@dataclass(frozen=True)
class ModalityImages:
    """All training images of one modality.

    Attributes:
        images: Bytes (N, 3, H, W); read only where they come from a cache.
        cameras: (N,) camera numbers, or None if the data does not tell them all.
    """

    images: Tensor
    cameras: NDArray[np.int64] | None

    def __len__(self) -> int:
        return len(self.images)


#: The training images of both modalities, each in the order of the `TrainingSet`.
TrainingImages = Pair[ModalityImages]


def load_training_images(
    training_set: TrainingSet,
    height: int,
    width: int,
    *,
    workers: int = 0,
    cache: ImageCache | None = None,
    stretches: Mapping[Modality, Stretch] | None = None,
) -> TrainingImages:
    """Decode a training set, resized with the bicubic filter (released code).

    Args:
        training_set: The unlabelled images.
        height: Pixels.
        width: Pixels.
        workers: Decoding threads; 0 takes one per usable processor.
        cache: Where decoded images are kept for the next training, and mapped into memory from; the numbers are the
            same. None decodes all into memory.
        stretches: For each modality, the range of values of grey with more than 8 bits that becomes 0 to 255.

    Returns:
        The images of both modalities.

    Raises:
        UserError: A modality has no image, an image cannot be read, or the cache cannot be used.
    """
    parts = {}
    for modality in Modality:
        records = [record for record in training_set.images if record.modality is modality]
        if not records:
            raise UserError(
                f"the training set has no {modality} image; both modalities are needed to train across them"
            )
        paths = [record.path for record in records]
        options: DecodingOptions = {
            "upright": all(record.upright for record in records),
            "stretch": (stretches or {}).get(modality),
        }
        if cache is None:
            loaded = load_images(paths, height, width, resample="bicubic", workers=workers, **options)
            pixels = torch.from_numpy(loaded)
        else:
            checksum = f"{training_set.checksum} {modality}"
            pixels = cache.load(paths, checksum, height, width, resample="bicubic", workers=workers, **options)
        parts[modality] = ModalityImages(pixels, _cameras(records))
    return TrainingImages(visible=parts[Modality.VISIBLE], infrared=parts[Modality.INFRARED])


def _cameras(records: list[ImageRecord]) -> NDArray[np.int64] | None:
    cameras = [record.camera for record in records if record.camera is not None]
    return np.array(cameras, dtype=np.int64) if len(cameras) == len(records) else None
