"""The batches of an epoch: images and labels; pixels are fetched ahead of time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pclhd.data.ahead import Ahead
from pclhd.data.samplers import cluster_batches
from pclhd.engine.labelling import Cameras, Confidence, Labels
from pclhd.engine.position import Position
from pclhd.engine.session import Session
from pclhd.pair import Pair


@dataclass(frozen=True)
class Batch:
    """Images of both modalities before augmentation.

    Attributes:
        pixels: (B, 3, H, W) uint8 of each modality, on the CPU.
        labels: (B,) pseudo labels of each modality.
        confidence: (B,) confidence in the labels, or None.
    """

    pixels: Pair[Tensor]
    labels: Pair[Labels]
    confidence: Pair[Confidence | None]


class Batches:
    """All batches of an epoch that are drawn from one set of clusters.

    Args:
        session: Images, settings and random streams.
        position: Position in the schedule.
        purpose: Name of the random stream that they are drawn from.
        labels: (N,) labels of all images of each modality; −1 is never drawn.
        confidence: (N,) confidence in these labels, or None.
    """

    def __init__(
        self,
        session: Session,
        position: Position,
        purpose: str,
        labels: Pair[Labels],
        confidence: Pair[Confidence | None],
    ) -> None:
        self._labels, self._confidence = labels, confidence
        self._rows = Pair(
            *(
                _draw(session, ("batches", purpose, name, position.epoch), part, images.cameras)
                for (name, part), images in zip(labels.items(), session.images, strict=True)
            )
        )
        pin = session.networks.fabric.device.type == "cuda"

        def fetch(number: int) -> Pair[Tensor]:
            pixels = Pair(*(part.images[rows[number]] for part, rows in zip(session.images, self._rows, strict=True)))
            # A GPU can copy from pinned memory while it computes.
            return pixels.map(Tensor.pin_memory) if pin else pixels

        self._pixels = Ahead(fetch, min(map(len, self._rows)))

    def __getitem__(self, number: int) -> Batch:
        """The batch of a step."""
        rows = self._rows.map(lambda drawn: drawn[number])
        labels = Pair(*(part[own] for part, own in zip(self._labels, rows, strict=True)))
        confidence = Pair(
            *(None if part is None else part[own] for part, own in zip(self._confidence, rows, strict=True))
        )
        return Batch(self._pixels[number], labels, confidence)

    def close(self) -> None:
        """Stop fetching."""
        self._pixels.close()


def _draw(
    session: Session, stream: tuple[str | int, ...], labels: Labels, cameras: Cameras | None
) -> NDArray[np.int64]:
    settings, batch = session.settings, session.settings.batch
    size = batch.numbers()
    return cluster_batches(
        labels,
        cameras if batch.sampler == "camera" else None,
        batches=settings.schedule.numbers().iterations,
        clusters=size.clusters,
        instances=size.instances,
        generator=session.streams.numpy(*stream),
        drop_incomplete=settings.method.batch_passes == "drop",
    )
