"""The batches of an epoch: images and labels; pixels are fetched ahead of time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pclhd.data.ahead import Ahead
from pclhd.data.samplers import endless_batches
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


@dataclass(frozen=True)
class _Drawn:
    rows: Pair[NDArray[np.int64]]
    pixels: Pair[Tensor]


class Batches:
    """All batches of an epoch that are drawn from one set of clusters, each drawn shortly before it is needed.

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
        self._images = session.images.map(lambda part: part.images)
        self._pin = session.networks.fabric.device.type == "cuda"
        self._draws = Pair(
            *(
                _draw(session, ("batches", purpose, name, position.epoch), part, images.cameras)
                for (name, part), images in zip(labels.items(), session.images, strict=True)
            )
        )
        self._next = 0
        self._ahead = Ahead(self._fetch, session.settings.schedule.numbers().iterations)

    def __getitem__(self, number: int) -> Batch:
        """The batch of a step. Steps ascend; those that a resumed epoch leaves out are drawn and dropped."""
        drawn = self._ahead[number]
        labels = Pair(*(part[own] for part, own in zip(self._labels, drawn.rows, strict=True)))
        confidence = Pair(
            *(None if part is None else part[own] for part, own in zip(self._confidence, drawn.rows, strict=True))
        )
        return Batch(drawn.pixels, labels, confidence)

    def close(self) -> None:
        """Stop fetching."""
        self._ahead.close()

    def _fetch(self, number: int) -> _Drawn:
        skipped = number - self._next
        if skipped < 0:
            raise ValueError(f"batch {number} was drawn already; the next one is {self._next}")
        self._next = number + 1
        rows = self._draws.map(lambda draws: next(islice(draws, skipped, None)))
        pixels = Pair(*(_take(part, own) for part, own in zip(self._images, rows, strict=True)))
        # A GPU can copy from pinned memory while it computes.
        return _Drawn(rows, pixels.map(Tensor.pin_memory) if self._pin else pixels)


def _take(images: Tensor, rows: NDArray[np.int64]) -> Tensor:
    # By numpy: torch would start threads for it, beside those that compute the step before.
    return torch.from_numpy(np.take(images.numpy(), rows, axis=0))


def _draw(
    session: Session, stream: tuple[str | int, ...], labels: Labels, cameras: Cameras | None
) -> Iterator[NDArray[np.int64]]:
    settings, batch = session.settings, session.settings.batch
    size = batch.numbers()
    return endless_batches(
        labels,
        cameras if batch.sampler == "camera" else None,
        clusters=size.clusters,
        instances=size.instances,
        generator=session.streams.numpy(*stream),
        drop_incomplete=settings.method.batch_passes == "drop",
    )
