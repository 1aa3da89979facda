"""How long trainings will take on this machine, before the first of them begins (ours)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from pclhd.config import Settings
from pclhd.data.datasets import load_training_images
from pclhd.data.records import Dataset, Modality, TrainingSet
from pclhd.distributed.processes import Processes
from pclhd.engine.duration import Speed, measure_speed, plan_with
from pclhd.engine.networks import make_networks, resolve_precision
from pclhd.engine.session import Session
from pclhd.streams import Streams

_IMAGES = 32
_EVALUATED = 3  # start, stage I and final weights


def estimate_seconds(trainings: Sequence[Settings], dataset: Dataset) -> list[float]:
    """Expected seconds of each training and its evaluation, in a process with one thread.

    The machine is measured once, on a few images and with the network of the first training. Starting a process and
    decoding the images are not counted.

    Args:
        trainings: Their settings.
        dataset: The images of all.
    """
    visible = sum(image.modality is Modality.VISIBLE for image in dataset.train.images)
    infrared = len(dataset.train) - visible
    resolved = [resolve_precision(settings).with_sizes_for(visible, infrared) for settings in trainings]
    if not resolved:
        return []
    with _one_thread():
        speed = _speed(resolved[0], dataset)
    evaluated = 0 if dataset.test is None else _EVALUATED * len(dataset.test) * speed.embed
    return [
        sum(epoch.seconds for epoch in plan_with(speed, settings, len(dataset.train))) + evaluated
        for settings in resolved
    ]


def _speed(settings: Settings, dataset: Dataset) -> Speed:
    images, digests = dataset.train.images, dataset.train.digests
    rows = [
        row
        for kind in Modality
        for row in [row for row, image in enumerate(images) if image.modality is kind][:_IMAGES]
    ]
    few = TrainingSet(tuple(images[row] for row in rows), tuple(digests[row] for row in rows))
    loaded = load_training_images(few, settings.data.height, settings.data.width, workers=1)
    session = Session(settings, loaded, make_networks(settings, Processes()), Streams(settings.seed))
    return measure_speed(session)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
