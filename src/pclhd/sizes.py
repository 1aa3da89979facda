"""Sizes of batches and lengths of trainings that follow the number of images: what ``auto`` stands for (ours)."""

from __future__ import annotations

import math
from typing import NamedTuple

from pclhd.clustering.options import automatic_k1

_FEWEST_STEPS, _MOST_STEPS = 10, 200
_MOST_EPOCHS = 30


class BatchSize(NamedTuple):
    """Clusters of each modality in a batch, and images of each cluster."""

    clusters: int
    instances: int


class Lengths(NamedTuple):
    """Epochs of each stage, optimiser steps of an epoch, and the share of old weights in the momentum network."""

    stage1_epochs: int
    stage2_epochs: int
    iterations: int
    ema_decay: float


def automatic_batch(images: int) -> BatchSize:
    """Batch for the images of the smaller modality: 8 × 6 for 72 images, 8 × 16 from about 500 on.

    As for k1, people and images per person are taken to grow alike. A batch asks for no more images of a cluster than a
    person is taken to have, and for no more clusters than there are people.
    """
    per_person = automatic_k1(images)
    return BatchSize(clusters=min(max(images // per_person, 2), 8), instances=min(per_person, 16))


def automatic_lengths(images: int, batch: BatchSize) -> Lengths:
    """Schedule for the images of the larger modality.

    An epoch passes twice over the images, in 10 to 200 steps. Both stages have more epochs for more images, up to 30:
    4 and 6 for 72 images, 11 and 21 for 1,000.

    Args:
        images: Images of the larger modality.
        batch: The batch of one modality.
    """
    steps = min(max(math.ceil(2 * images / (batch.clusters * batch.instances)), _FEWEST_STEPS), _MOST_STEPS)
    stage1 = min(max(round(math.sqrt(images) / 3), 4), _MOST_EPOCHS)
    stage2 = min(max(round(2 * math.sqrt(images) / 3), 6), _MOST_EPOCHS)
    return Lengths(stage1, stage2, steps, automatic_decay(steps * stage2))


def automatic_decay(steps: int) -> float:
    """Share of old weights with which the momentum network averages over a tenth of the steps, from 0.9 to 0.999.

    With 0.999 throughout, a training of 100 steps would end with nine tenths of its start weights.
    """
    return round(min(max(1 - 10 / max(steps, 1), 0.9), 0.999), 4)
