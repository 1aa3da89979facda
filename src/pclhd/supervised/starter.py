"""The training of the shipped starter weights: a classifier of synthetic people in visible images.

The unsupervised engine neither imports this module nor shares its loop. The recipes `supervised` and `semi-supervised`
do not use it either: they run the engine's loop with identities from `pclhd.supervised.labeller`.
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
from pclhd.data.augment import visible_views
from pclhd.data.records import Modality
from pclhd.data.samplers import cluster_batches
from pclhd.devices import computes_bfloat16, resolve_device
from pclhd.engine.diagnosis import first_not_finite
from pclhd.errors import ArgumentError
from pclhd.files import check_output, claiming
from pclhd.models.backbones import build_network
from pclhd.models.preprocessing import Preprocessing
from pclhd.models.two_stream import TwoStreamNetwork, to_channels_last
from pclhd.models.weights import save_model
from pclhd.streams import Streams
from pclhd.synthetic import draw_population

_MOST_PEOPLE, _MOST_IMAGES, _MOST_STEPS = 9_000, 1_000, 10_000_000
_MOST_DRAWN = 1_000_000  # 14 GB at 96 × 48
_HIGHEST_RATE = 1e30  # the optimiser computes in 32 bits


@dataclass(frozen=True)
class StarterSchedule:
    """Length and learning rate of the starter's training.

    Attributes:
        steps: Optimiser steps.
        people: People per batch.
        instances: Images per person.
        learning_rate: Peak of the one-cycle schedule: linear over a tenth of the steps, then a cosine to zero.
        weight_decay: Decoupled weight decay of AdamW.
        temperature: Divisor of the cosine scores of the classifier.
        smoothing: Label smoothing.
    """

    steps: int
    people: int = 32
    instances: int = 4
    learning_rate: float = 2e-3
    weight_decay: float = 5e-4
    temperature: float = 0.05
    smoothing: float = 0.1

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        warm = max(1, self.steps // 10)
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, self.steps - warm)))


def train_starter(
    network: TwoStreamNetwork,
    images: Tensor,
    people: NDArray[np.int64],
    schedule: StarterSchedule,
    streams: Streams,
    *,
    on_step: Callable[[int, float], None] | None = None,
) -> None:
    """Train the network in place with the cosine scores of a linear classifier over people (ours).

    Each image is used in colour and with one channel copied to all, like visible images in the unsupervised loop. The
    network computes in bfloat16 where the device does so in hardware, and otherwise in 32 bits; the loss in 32 bits. At
    the end, the infrared stem becomes a copy of the visible one, as with ImageNet weights.

    Args:
        network: Trained in place, on its device.
        images: (N, 3, H, W) uint8, on the CPU.
        people: (N,) person in each image, 0…C−1.
        schedule: See `StarterSchedule`.
        streams: Source of all draws.
        on_step: Called with the step and its loss.

    Raises:
        ArgumentError: The loss or the weights are no longer finite.
    """
    device = next(network.parameters()).device
    drawn = torch.randn(1 + int(people.max()), network.embedding_size, generator=streams.torch("classifier"))
    classifier = torch.nn.Parameter(drawn.to(device))
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW([*parameters, classifier], lr=0.0, weight_decay=schedule.weight_decay)
    batches = cluster_batches(
        people,
        None,
        batches=schedule.steps,
        clusters=schedule.people,
        instances=schedule.instances,
        generator=streams.numpy("batches", 0),
    )
    noise = streams.torch("augment")
    fast = computes_bfloat16(device)
    network.train()
    for step, rows in enumerate(batches):
        for group in optimiser.param_groups:
            group["lr"] = schedule.rate(step)
        views = visible_views(images[rows], noise, mean=network.image_mean, std=network.image_std).to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=fast):
            embedding = network(views, None).embedding
        embedding = functional.normalize(embedding.float())
        scores = embedding @ functional.normalize(classifier).T / schedule.temperature
        targets = torch.from_numpy(np.tile(people[rows], 2)).to(device)
        loss = functional.cross_entropy(scores, targets, label_smoothing=schedule.smoothing)
        if not math.isfinite(float(loss.detach())):
            raise _not_finite(f"the loss is no longer finite in step {step + 1}", schedule)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if on_step is not None:
            on_step(step, float(loss.detach()))
    broken = first_not_finite(network)
    if broken is not None:
        raise _not_finite(f"the weights are no longer finite after the last step (first {broken})", schedule)
    network.infrared_stem.load_state_dict(network.visible_stem.state_dict())


def _not_finite(what: str, schedule: StarterSchedule) -> ArgumentError:
    return ArgumentError("learning_rate", f"{what}; choose a lower one", value=schedule.learning_rate)


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
    force: bool = False,
    on_step: Callable[[int, int, float], None] | None = None,
) -> None:
    """Train a network on visible images of synthetic people who are in no benchmark, and save it.

    The network replaces ImageNet weights where these are not available. It is trained on people in colour, not in
    infrared.

    Args:
        path: The model file to write.
        people: Number of people to draw.
        images_per_person: Number of images of each person.
        steps: Optimiser steps.
        seed: Of the people and of the training.
        preset: Whose network, from a random start, and at what size; by default the narrow one for 96 × 48.
        learning_rate: Peak of the schedule; None takes `StarterSchedule`'s.
        device: Where to compute, see `pclhd.devices.resolve_device`. The shipped weights were trained on the CPU; a GPU
            gives slightly different ones, so the model file then names it.
        force: Whether `path` may replace a file.
        on_step: Called with the step, the number of steps and the loss.

    Raises:
        UserError: A number is out of range, the file exists or its folder does not, the preset's network cannot be
            built, or the device cannot be used.
    """
    for name, value, highest in (
        ("people", people, _MOST_PEOPLE),
        ("images", images_per_person, _MOST_IMAGES),
        ("steps", steps, _MOST_STEPS),
    ):
        if not 1 <= value <= highest:
            raise ArgumentError(name, f"is out of range; expected 1 to {highest}", value=value)
    if people * images_per_person > _MOST_DRAWN:
        raise ArgumentError(
            "images",
            f"with {people:,} people gives {people * images_per_person:,} images; expected {_MOST_DRAWN:,} at most",
            value=images_per_person,
        )
    if not 0 <= seed < 2**63:
        raise ArgumentError("seed", "is out of range; expected 0 or more, below 2**63", value=seed)
    if learning_rate is not None and not 0 < learning_rate <= _HIGHEST_RATE:
        raise ArgumentError(
            "learning_rate", f"is no rate; expected a number above 0, to {_HIGHEST_RATE:g}", value=learning_rate
        )
    check_output(path, (".safetensors",), "a model", force=force)
    place = resolve_device(device)
    with claiming(path, replace=force):
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
        schedule = StarterSchedule(steps=steps)
        if learning_rate is not None:
            schedule = replace(schedule, learning_rate=learning_rate)
        train_starter(
            network.to(place),
            torch.from_numpy(pixels),
            identities,
            schedule,
            Streams(seed),
            on_step=None if on_step is None else lambda step, loss: on_step(step, schedule.steps, loss),
        )
        facts: dict[str, object] = {
            "people": people,
            "images_per_person": images_per_person,
            "steps": steps,
            "seed": seed,
        }
        if preset is not None:
            facts["preset"] = preset.preset
        if learning_rate is not None:
            facts["learning_rate"] = learning_rate
        if place.type != "cpu":
            facts["device"] = place.type
        save_model(
            path,
            network.cpu(),
            {"weights": "starter", **{key: str(value) for key, value in facts.items()}},
            preprocessing=Preprocessing(height, width, mean=network.image_mean, std=network.image_std),
            replace=force,
        )
