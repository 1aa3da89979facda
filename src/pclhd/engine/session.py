"""What all parts of a training work with."""

from __future__ import annotations

from dataclasses import dataclass

from pclhd.config import Settings
from pclhd.data.datasets import TrainingImages
from pclhd.engine.labelling import Labeller, label_epoch
from pclhd.engine.networks import Networks
from pclhd.streams import Streams


@dataclass(frozen=True)
class Session:
    """A training's inputs, and the networks that it changes.

    Attributes:
        settings: The run's.
        images: The unlabelled training images.
        networks: Networks and optimiser, changed in place.
        streams: Sources of all random draws, named after their epoch.
        labeller: Makes an epoch's labels from embeddings.
    """

    settings: Settings
    images: TrainingImages
    networks: Networks
    streams: Streams
    labeller: Labeller = label_epoch
