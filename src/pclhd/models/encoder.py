"""The encoder: a trained network with everything needed to embed images.

`embed`, `evaluate`, `verify` and the Python API all use this class. A model file includes its preprocessing, so the
file alone, copied to another folder, gives bit-identical embeddings.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from pclhd.data.records import ImageInfo, ImageRecord, Modality
from pclhd.data.sources import Images, ImageSource, decode_sources, gather_images
from pclhd.devices import resolve_device
from pclhd.errors import UserError
from pclhd.models.embed import embed_images, require_finite
from pclhd.models.preprocessing import Preprocessing
from pclhd.models.two_stream import TwoStreamNetwork
from pclhd.models.weights import load_model_with_preprocessing
from pclhd.runs.folder import RunFolder

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
_AUTOCAST: dict[str, torch.dtype | None] = {
    "32-true": None,
    "bf16-mixed": torch.bfloat16,
    "16-mixed": torch.float16,
}

# Decoded images in memory at a time; whole batches, so that a batch does not depend on the number of images.
_CHUNK = 1024


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Embeddings of images, with descriptions of the images.

    Attributes:
        features: (N, D) float32, rows of unit length.
        images: Description of each image.
        model_id: Id of the encoder; embeddings of different encoders cannot be compared.
    """

    features: NDArray[np.float32]
    images: tuple[ImageInfo, ...]
    model_id: str

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or len(self.features) != len(self.images):
            raise ValueError(f"features of shape {self.features.shape} for {len(self.images)} images")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: slice) -> Embeddings:
        return Embeddings(self.features[rows], self.images[rows], self.model_id)

    def __array__(self, dtype: np.dtype[np.generic] | None = None, copy: bool | None = None) -> NDArray[np.generic]:
        return np.array(self.features, dtype=dtype) if copy or dtype is not None else self.features

    @property
    def paths(self) -> list[Path | None]:
        """The file of each image; None for images in memory."""
        return [image.path for image in self.images]


class ImageEncoder(ABC):
    """What embeds images: `Encoder`, with torch, or `pclhd.models.onnx_encoder.OnnxEncoder`, with onnxruntime.

    Attributes:
        preprocessing: Preprocessing of the images.
        origin: File of the weights, for messages.
    """

    preprocessing: Preprocessing
    origin: Path | None

    @property
    @abstractmethod
    def embedding_size(self) -> int:
        """The width D of the embeddings."""

    @property
    @abstractmethod
    def model_id(self) -> str:
        """Id of the encoder; embeddings are comparable if the ids are equal."""

    @abstractmethod
    def embed_pixels(self, pixels: NDArray[np.uint8], modality: Modality) -> NDArray[np.float32]:
        """Embed decoded images that have the size of the preprocessing.

        Args:
            pixels: (N, 3, H, W), red, green, blue.
            modality: Modality of the images.

        Returns:
            (N, D) float32 of unit length.
        """

    def embed(
        self,
        images: Images,
        *,
        modality: Modality | Literal["visible", "infrared"],
        workers: int = 0,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Embeddings:
        """Embed images of one modality, a bounded number in memory at a time.

        Args:
            images: Paths, folders, patterns, PIL images, arrays, open files, or any mix; see
                `pclhd.data.sources.gather_images`.
            modality: Modality of the images.
            workers: Threads for decoding; 0 uses one per usable processor. It does not change the result.
            on_progress: Called with the number of embedded images and the total.

        Returns:
            Unit-length embeddings, rows in the order of the images.

        Raises:
            UserError: An image is missing or cannot be decoded, or the network's output is not finite.
            ValueError: The modality is unknown.
        """
        light = Modality(modality)
        sources = gather_images(images)
        (features,) = embed_sources([self], [(source, light) for source in sources], workers, on_progress)
        infos = tuple(ImageInfo(source.path, light, source.camera) for source in sources)
        return Embeddings(features, infos, self.model_id)


class Encoder(ImageEncoder):
    """A network, its preprocessing, a device and a precision.

    Args:
        network: The network; it is moved to the device, and used in evaluation mode.
        preprocessing: Preprocessing of the images.
        device: ``auto`` uses a GPU if there is one.
        precision: Precision of the network; embeddings are always 32-bit.
        origin: File of the weights, for messages.

    Raises:
        UserError: The device cannot be used here.
        ValueError: The precision is unknown.
    """

    def __init__(
        self,
        network: TwoStreamNetwork,
        preprocessing: Preprocessing,
        *,
        device: str | torch.device = "auto",
        precision: Precision = "32-true",
        origin: Path | None = None,
    ) -> None:
        if precision not in _AUTOCAST:
            raise ValueError(f"precision is {precision!r}, expected one of {', '.join(_AUTOCAST)}")
        self.device = device if isinstance(device, torch.device) else resolve_device(device)
        self.network = network.to(self.device).eval()
        self.preprocessing = preprocessing
        self.precision = precision
        self.origin = origin

    @classmethod
    def load(
        cls,
        source: Path | str | RunFolder,
        *,
        device: str | torch.device = "auto",
        precision: Precision = "32-true",
    ) -> Encoder:
        """Load an encoder.

        Args:
            source: A run folder, whose final model is loaded, or a model file.
            device: ``auto`` uses a GPU if there is one.
            precision: Precision of the network.

        Raises:
            UserError: There is no such model, it is damaged, or its preprocessing is unknown.
        """
        path = source.path if isinstance(source, RunFolder) else Path(source)
        file = RunFolder(path).require_model() if path.is_dir() else path
        network, preprocessing = load_model_with_preprocessing(file)
        preprocessing = preprocessing or _preprocessing_of_run(file)
        return cls(network, preprocessing, device=device, precision=precision, origin=file)

    @property
    def embedding_size(self) -> int:
        """The width D of the embeddings."""
        return self.network.embedding_size

    @cached_property
    def model_id(self) -> str:
        """SHA-256 over architecture, weights and preprocessing; embeddings are comparable if the ids are equal."""
        facts = {"architecture": asdict(self.network.architecture), "preprocessing": self.preprocessing.to_dict()}
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        for name, tensor in sorted(self.network.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def embed_pixels(self, pixels: NDArray[np.uint8], modality: Modality) -> NDArray[np.float32]:
        """Embed decoded images that have the size of the preprocessing.

        Args:
            pixels: (N, 3, H, W), red, green, blue.
            modality: Modality of the images.

        Returns:
            (N, D) float32 of unit length.
        """
        return embed_images(
            self.network,
            pixels,
            modality,
            flip=self.preprocessing.mirror,
            autocast_dtype=_AUTOCAST[self.precision],
            mean=self.preprocessing.mean,
            std=self.preprocessing.std,
        ).numpy()


def embed_records(
    encoders: Sequence[ImageEncoder],
    records: Sequence[ImageRecord],
    *,
    workers: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
    on_pixels: Callable[[list[int], NDArray[np.uint8]], None] | None = None,
) -> list[NDArray[np.float32]]:
    """Embed image files of both modalities with several encoders, a bounded number in memory at a time.

    Args:
        encoders: At least one; their preprocessing must be equal, since each image is decoded once for all.
        records: The images, in any order.
        workers: Threads that decode; 0 takes one per usable processor.
        on_progress: Called with the number of images done and of all.
        on_pixels: Called with rows of `records` and their decoded images (n, 3, H, W), a part at a time.

    Returns:
        For each encoder (N, D) float32 of unit length, rows in the order of `records`.

    Raises:
        UserError: An image cannot be decoded, or a network's output is not finite.
        ValueError: The encoders differ in their preprocessing.
    """
    sources = [(ImageSource.of(record), record.modality) for record in records]
    return embed_sources(encoders, sources, workers, on_progress, on_pixels)


def embed_sources(
    encoders: Sequence[ImageEncoder],
    sources: Sequence[tuple[ImageSource, Modality]],
    workers: int,
    on_progress: Callable[[int, int], None] | None,
    on_pixels: Callable[[list[int], NDArray[np.uint8]], None] | None = None,
) -> list[NDArray[np.float32]]:
    """As `embed_records`, for images in any form."""
    wanted = encoders[0].preprocessing
    if any(encoder.preprocessing != wanted for encoder in encoders):
        raise ValueError("the encoders differ in their preprocessing; embed with one at a time")
    features = [np.empty((len(sources), encoder.embedding_size), dtype=np.float32) for encoder in encoders]
    done = 0
    for modality, rows in _chunks([modality for _, modality in sources]):
        images = [sources[row][0] for row in rows]
        pixels = decode_sources(
            images,
            wanted.height,
            wanted.width,
            resample=wanted.resample,
            workers=workers,
            stretch=wanted.stretch(modality),
        )
        if on_pixels is not None:
            on_pixels(rows, pixels)
        for encoder, own in zip(encoders, features, strict=True):
            own[rows] = encoder.embed_pixels(pixels, modality)
        done += len(rows)
        if on_progress is not None:
            on_progress(done, len(sources))
    for encoder, own in zip(encoders, features, strict=True):
        require_finite(own, encoder.origin or Path("the network"))
    return features


def _chunks(modalities: Sequence[Modality]) -> Iterator[tuple[Modality, list[int]]]:
    for modality in Modality:
        rows = [row for row, one in enumerate(modalities) if one is modality]
        for start in range(0, len(rows), _CHUNK):
            yield modality, rows[start : start + _CHUNK]


def _preprocessing_of_run(file: Path) -> Preprocessing:
    """The preprocessing from the settings of the run that a model file is in: older files do not include it."""
    for folder in (file.parent, file.parent.parent):
        run = RunFolder(folder)
        if run.is_run():
            data = run.settings().data
            return Preprocessing(data.height, data.width)
    raise UserError(
        f"{file}: was written by an older version without its preprocessing; leave it in its run folder, "
        "whose settings contain it"
    )
