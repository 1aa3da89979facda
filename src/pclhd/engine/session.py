"""The objects that all parts of a training use."""

from __future__ import annotations

from dataclasses import dataclass

from pclhd.config import Settings
from pclhd.data.datasets import TrainingImages
from pclhd.engine.labelling import Labeller, label_epoch
from pclhd.engine.networks import Networks
from pclhd.streams import Streams


@dataclass(frozen=True)
class Session:
    """The inputs of a training, and the networks that it changes.

    Attributes:
        settings: Settings of the run.
        images: The unlabelled training images.
        networks: Networks and optimiser, changed in place.
        streams: Sources of all random draws, named after their epoch.
        labeller: Function from an epoch's embeddings to labels.
    """

    settings: Settings
    images: TrainingImages
    networks: Networks
    streams: Streams
    labeller: Labeller = label_epoch
