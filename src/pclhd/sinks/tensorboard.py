"""TensorBoard events in the run folder: scalars, clusters as pictures, and the final embeddings with thumbnails."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pclhd.data.datasets import TrainingImages
from pclhd.data.records import Modality
from pclhd.engine.labelling import EpochLabels
from pclhd.engine.position import Position
from pclhd.errors import UserError
from pclhd.models.embed import embed_images
from pclhd.models.weights import load_model
from pclhd.pair import Pair
from pclhd.runs.folder import RunFolder
from pclhd.sinks.observing import Ending, place, scalars

#: Rows of a sheet, one for each cluster, and images in a row.
_CLUSTERS, _IMAGES = 8, 8
_HEIGHT = 96
#: Embeddings of each modality, and the side of their square thumbnails.
_EMBEDDED, _THUMBNAIL = 200, 64


class TensorBoard:
    """Writes events.

    Args:
        run: The run folder.

    Raises:
        UserError: TensorBoard is not installed.
    """

    name = "TensorBoard"

    def __init__(self, run: RunFolder) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UserError("engine.tensorboard=true needs TensorBoard: pip install tensorboard") from error
        self._run, self._make = run, SummaryWriter
        self._events: Any = None
        self._images: TrainingImages | None = None
        self._labels: EpochLabels | None = None

    def loaded(self, images: TrainingImages, epochs: int) -> None:
        """Open the folder."""
        self._images, self._events = images, self._make(str(self._run.tensorboard_folder))

    def logged(self, record: Mapping[str, Any]) -> None:
        """Write the numbers."""
        for name, value in scalars(record).items():
            self._events.add_scalar(name, value, place(record))
        if record["kind"] == "epoch":
            # The program does not wait for the writer's thread at its end.
            self._events.flush()

    def labelled(self, position: Position, labels: EpochLabels) -> None:
        """Write a sheet of clusters of each modality: what training took for one person in this epoch."""
        assert self._images is not None
        self._labels = labels
        for name, part, own in zip(("visible", "infrared"), self._images, labels.own, strict=True):
            sheet = cluster_sheet(part.images, own)
            if sheet is not None:
                self._events.add_image(f"clusters/{name}", sheet, position.epoch)

    def finished(self, model: Path) -> None:
        """Write embeddings of some images of both modalities, with their last pseudo labels and thumbnails."""
        assert self._images is not None
        network = load_model(model)
        rows = self._images.map(lambda part: np.unique(np.linspace(0, len(part) - 1, _EMBEDDED).astype(np.int64)))
        vectors, notes, thumbnails = [], [], []
        labels = Pair(None, None) if self._labels is None else self._labels.own
        for modality, part, chosen, own in zip(Modality, self._images, rows, labels, strict=True):
            images = part.images[torch.from_numpy(chosen)]
            vectors.append(embed_images(network, images, modality))
            notes += [[str(modality), "" if own is None else str(own[row])] for row in chosen]
            thumbnails.append(squared(images))
        self._events.add_embedding(
            torch.cat(vectors),
            metadata=notes,
            metadata_header=["modality", "pseudo label"],
            label_img=torch.cat(thumbnails),
            tag="final",
        )

    def close(self, ending: Ending) -> None:
        """Write what is left."""
        if self._events is not None:
            self._events.close()


def cluster_sheet(images: Tensor, labels: NDArray[np.int64]) -> Tensor | None:
    """The largest clusters as rows of images, the largest first.

    Args:
        images: (N, 3, H, W) bytes.
        labels: (N,) clusters, −1 for noise.

    Returns:
        (3, H', W') bytes; None if there is no cluster.
    """
    numbers, counts = np.unique(labels[labels >= 0], return_counts=True)
    largest = numbers[np.argsort(-counts, kind="stable")][:_CLUSTERS]
    if len(largest) == 0:
        return None
    height, width = images.shape[-2:]
    size = (min(_HEIGHT, height), max(1, round(width * min(_HEIGHT, height) / height)))
    sheet = torch.full((len(largest), _IMAGES, 3, *size), 255, dtype=torch.uint8)
    for row, cluster in enumerate(largest):
        members = np.flatnonzero(labels == cluster)
        # Spread over the cluster: neighbours in the list are often frames of one passage.
        chosen = members[np.unique(np.linspace(0, len(members) - 1, _IMAGES).astype(np.int64))]
        sheet[row, : len(chosen)] = _resized(images[torch.from_numpy(chosen)], size)
    return sheet.permute(2, 0, 3, 1, 4).reshape(3, len(largest) * size[0], _IMAGES * size[1])


def squared(images: Tensor) -> Tensor:
    """Thumbnails on a white square, as the embedding projector needs them: (N, 3, S, S) from 0 to 1."""
    height, width = images.shape[-2:]
    scale = _THUMBNAIL / max(height, width)
    small = _resized(images, (max(1, round(height * scale)), max(1, round(width * scale))))
    square = torch.full((len(images), 3, _THUMBNAIL, _THUMBNAIL), 255, dtype=torch.uint8)
    left = (_THUMBNAIL - small.shape[-1]) // 2
    square[..., : small.shape[-2], left : left + small.shape[-1]] = small
    return square.float() / 255


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(images.shape[-2:]) == size:
        return images
    smaller = functional.interpolate(images.float(), size, mode="bilinear", antialias=True, align_corners=False)
    return smaller.round().clamp(0, 255).to(torch.uint8)
