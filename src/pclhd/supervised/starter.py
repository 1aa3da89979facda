"""Training a classifier with identities: for the shipped starter weights, and for a bound to hold results against.

The unsupervised engine neither imports this module nor shares its loop. The recipes `supervised` and `semi-supervised`
are something else: the engine's own loop, given identities by `pclhd.supervised.labeller`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pclhd.config import ModelSettings, Settings
from pclhd.data.augment import infrared_view, visible_views
from pclhd.data.datasets import load_training_images
from pclhd.data.image_cache import ImageCache
from pclhd.data.records import Dataset, Modality
from pclhd.data.samplers import cluster_batches
from pclhd.devices import resolve_device
from pclhd.errors import UserError
from pclhd.files import make_new_folder, write_durably
from pclhd.models.backbones import build_network
from pclhd.models.two_stream import TwoStreamNetwork, to_channels_last
from pclhd.models.weights import initialise, save_model
from pclhd.runs.provenance import provenance_json
from pclhd.streams import Streams
from pclhd.synthetic import draw_population


@dataclass(frozen=True)
class LabelledBatchSource:
    """Images of one modality with their identities, ready for batches.

    Attributes:
        images: Bytes (N, 3, H, W).
        identities: (N,) class indices 0..C−1; the classes are shared by both modalities.
        cameras: (N,) camera numbers, or None.
    """

    images: Tensor
    identities: NDArray[np.int64]
    cameras: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class SupervisedSchedule:
    """How long and how fast to train with labels.

    Attributes:
        steps: Optimiser steps.
        clusters: Identities per batch.
        instances: Images per identity and modality.
        learning_rate: Peak of the one-cycle schedule: a tenth of the steps up, then a cosine down to zero.
        weight_decay: Adam's (decoupled).
        temperature: Divides the cosine scores of the classifier.
        smoothing: Label smoothing.
        half: Run the network in bfloat16; the loss stays in 32 bits.
    """

    steps: int
    clusters: int = 16
    instances: int = 4
    learning_rate: float = 2e-3
    weight_decay: float = 5e-4
    temperature: float = 0.05
    smoothing: float = 0.1
    half: bool = True

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        warm = max(1, self.steps // 10)
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, self.steps - warm)))


def train_with_labels(
    network: TwoStreamNetwork,
    visible: LabelledBatchSource,
    infrared: LabelledBatchSource | None,
    schedule: SupervisedSchedule,
    streams: Streams,
    *,
    device: torch.device | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> None:
    """Train the network in place, on the cosine scores of a linear classifier over identities (ours).

    Visible images enter in colour and with one channel copied to all, as in the unsupervised loop. Both modalities
    share one classifier row per identity, which is what pulls them together.

    Args:
        network: Trained in place. It is on the CPU before and after.
        visible: Visible images.
        infrared: Infrared images, or None to train on visible ones alone. The infrared stem is then a copy of the
            visible one at the end, as ImageNet weights give both stems the same start.
        schedule: See there.
        streams: Source of all draws, which are made on the CPU.
        device: Where to compute; None takes the CPU.
        on_step: Called with the step and its loss.
    """
    device = device or torch.device("cpu")
    network.to(device)
    sources = [source for source in (visible, infrared) if source is not None]
    classes = 1 + max(int(source.identities.max()) for source in sources)
    drawn = torch.randn(classes, network.embedding_size, generator=streams.torch("classifier"))
    classifier = torch.nn.Parameter(drawn.to(device))
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW([*parameters, classifier], lr=0.0, weight_decay=schedule.weight_decay)
    batches = [
        cluster_batches(
            source.identities,
            source.cameras,
            batches=schedule.steps,
            clusters=schedule.clusters,
            instances=schedule.instances,
            generator=streams.numpy("batches", number),
        )
        for number, source in enumerate(sources)
    ]
    noise = streams.torch("augment")
    network.train()
    for step in range(schedule.steps):
        for group in optimiser.param_groups:
            group["lr"] = schedule.rate(step)
        rows = batches[0][step]
        views = visible_views(visible.images[rows], noise).to(device)
        classes_of = [np.tile(visible.identities[rows], 2)]
        other = None
        if infrared is not None:
            rows = batches[1][step]
            other = infrared_view(infrared.images[rows], noise).to(device)
            classes_of.append(infrared.identities[rows])
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=schedule.half):
            embedding = network(views, other).embedding
        embedding = functional.normalize(embedding.float())
        scores = embedding @ functional.normalize(classifier).T / schedule.temperature
        targets = torch.from_numpy(np.concatenate(classes_of)).to(device)
        loss = functional.cross_entropy(scores, targets, label_smoothing=schedule.smoothing)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if on_step is not None:
            on_step(step, float(loss.detach()))
    if infrared is None:
        network.infrared_stem.load_state_dict(network.visible_stem.state_dict())
    network.to("cpu")


def train_upper_bound(
    settings: Settings,
    dataset: Dataset,
    run: Path,
    *,
    on_step: Callable[[int, int, float], None] | None = None,
) -> Path:
    """Train the preset's network with the identities of the training part, and leave a run folder to evaluate.

    What it reaches is an upper bound for the methods that must do without labels: same network, start weights, images,
    batch size and number of optimiser steps.

    Args:
        settings: The run's settings; its recipe is not used.
        dataset: The data, with identities.
        run: A new run folder.
        on_step: Called with the step, the number of steps and the loss.

    Returns:
        ``model.safetensors``.

    Raises:
        UserError: The training part has no identities, or the folder is not empty.
    """
    if dataset.train_identities is None:
        raise UserError(f"{dataset.root}: the training images have no identities, so there is nothing to train with")
    network = build_network(settings.model, generator=Streams(settings.seed).torch("network"))
    initialise(network, settings.model.weights)
    to_channels_last(network)
    images = load_training_images(
        dataset.train,
        settings.data.height,
        settings.data.width,
        workers=settings.data.workers,
        cache=ImageCache.of(settings.data.cache, settings.data.cache_gib),
    )
    classes = np.unique(np.array(dataset.train_identities), return_inverse=True)[1].astype(np.int64)
    visible_classes, infrared_classes = np.split(classes, [len(images.visible)])
    schedule = SupervisedSchedule(
        # Stage II of the unsupervised methods makes two optimiser steps an iteration.
        steps=(settings.schedule.stage1_epochs + 2 * settings.schedule.stage2_epochs) * settings.schedule.iterations,
        clusters=settings.batch.clusters,
        instances=settings.batch.instances,
    )
    # Only now, when weights and images are known to be readable, is anything written.
    make_new_folder(run)
    (run / "checkpoints").mkdir()
    write_durably(run / "config.yaml", settings.to_yaml())
    precise = settings.engine.model_copy(update={"precision": "bf16-mixed" if schedule.half else "32-true"})
    session = settings.model_copy(update={"engine": precise})
    write_durably(run / "provenance.json", provenance_json(session, dataset.train, torch.device("cpu")))
    save_model(run / "checkpoints" / "start.safetensors", network, {"weights": "start"})
    train_with_labels(
        network,
        LabelledBatchSource(images.visible.images, visible_classes, images.visible.cameras),
        LabelledBatchSource(images.infrared.images, infrared_classes, images.infrared.cameras),
        schedule,
        Streams(settings.seed),
        on_step=None if on_step is None else lambda step, loss: on_step(step, schedule.steps, loss),
    )
    save_model(run / "model.safetensors", network, {"weights": "supervised"})
    return run / "model.safetensors"


def make_starter(
    path: Path,
    *,
    people: int,
    images_per_person: int,
    steps: int,
    seed: int,
    preset: Settings | None = None,
    learning_rate: float | None = None,
    device: str = "cpu",
    on_step: Callable[[int, int, float], None] | None = None,
) -> None:
    """Train a network on visible images of synthetic people who are in no benchmark, and save it.

    It stands in for ImageNet weights where those cannot be had: it knows what people look like in colour, and nothing
    of infrared.

    Args:
        path: The model file to write.
        people: How many to draw.
        images_per_person: Of each.
        steps: Optimiser steps.
        seed: Of the people and of the training.
        preset: Whose network, from a random start, and at what size; by default the narrow one for 96 × 48.
        learning_rate: Peak of the schedule; None takes `SupervisedSchedule`'s.
        device: Where to compute; see `resolve_device`. The shipped weights were made on the CPU.
        on_step: Called with the step, the number of steps and the loss.

    Raises:
        UserError: There is no such folder to write to, or the preset's network cannot be built.
    """
    if not path.parent.is_dir():
        raise UserError(f"{path.parent}: no such folder; make it first, the model file is written there")
    place = resolve_device(device)
    model = ModelSettings(architecture="narrow") if preset is None else preset.model
    network = build_network(model, generator=Streams(seed).torch("network"))
    to_channels_last(network)
    height, width = (96, 48) if preset is None else (preset.data.height, preset.data.width)
    pixels, identities = draw_population(
        people,
        images_per_person,
        modality=Modality.VISIBLE,
        seed=seed,
        population="starter",
        height=height,
        width=width,
    )
    schedule = SupervisedSchedule(steps=steps, clusters=32, instances=4)
    if learning_rate is not None:
        schedule = replace(schedule, learning_rate=learning_rate)
    train_with_labels(
        network,
        LabelledBatchSource(torch.from_numpy(pixels), identities),
        None,
        schedule,
        Streams(seed),
        device=place,
        on_step=None if on_step is None else lambda step, loss: on_step(step, schedule.steps, loss),
    )
    facts: dict[str, object] = {"people": people, "images_per_person": images_per_person, "steps": steps, "seed": seed}
    if preset is not None:
        facts["preset"] = preset.preset
    if learning_rate is not None:
        facts["learning_rate"] = learning_rate
    save_model(path, network, {"weights": "starter", **{key: str(value) for key, value in facts.items()}})
