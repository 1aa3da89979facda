"""Trainings of about a second: a few drawn people, images of 48 × 24, start weights with two equal stems."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pclhd.config import Settings, load_preset
from pclhd.data.records import Dataset, ImageRecord, Modality, TrainingSet, make_training_set
from pclhd.engine.labelling import EpochLabels
from pclhd.engine.observer import Observer, Silent
from pclhd.engine.position import Position
from pclhd.engine.trainer import train
from pclhd.models.two_stream import NARROW, TwoStreamNetwork
from pclhd.models.weights import save_model
from pclhd.streams import Streams
from pclhd.supervised.labeller import IdentityLabeller

HEIGHT, WIDTH = 48, 24
CAMERAS = {Modality.VISIBLE: (1, 2), Modality.INFRARED: (3, 6)}

#: The choices of several ideas together, for recipes with either way of updating memories.
TOGETHER = {
    "paper": (
        "recipe=paper",
        "method.dynamic_redraw=batch",
        "method.cross_contrast=own",
        "method.joint_contrast=own",
        "method.joint_memory=split",
        "method.hard_batch_samples=2",
        "method.progressive=ramp",
        "method.centroid_share=0.5",
    ),
    "pclhd": (
        "recipe=pclhd",
        "method.cross_form=unified",
        "method.cross_contrast=hard",
        "method.distillation=1",
        "method.joint_memory=split",
        "method.joint_negatives=2",
        "method.joint_batches=all",
        "method.balanced_neighbours=true",
        "method.balanced_order=similarity",
        "method.confidence=weight",
    ),
}


def draw_people(root: Path, *, people: int = 6, per_camera: int = 3, noise: float = 12, seed: int = 0) -> TrainingSet:
    """People as stacks of grey blocks, almost grey in visible light too, so that clusters may span the modalities.

    With little noise every person is found; with much noise, each setting of the clustering changes the clusters.
    """
    random = np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    images, identities = [], []
    for person in range(people):
        blocks = random.integers(0, 256, (6, 3))
        pattern = np.kron(blocks, np.ones((HEIGHT // 6, WIDTH // 3)))
        for modality, cameras in CAMERAS.items():
            for camera in cameras:
                for number in range(per_camera):
                    grain = random.normal(0, noise, (HEIGHT, WIDTH, 3))
                    tint = random.normal(0, 4, 3)
                    if modality is Modality.INFRARED:
                        grain, tint = grain[..., :1], tint[:1]
                    pixels = np.clip(pattern[..., None] + 15 * (camera % 2) + grain + tint, 0, 255).astype(np.uint8)
                    path = root / f"{person}-{camera}-{number}.png"
                    Image.fromarray(np.broadcast_to(pixels, (HEIGHT, WIDTH, 3)).copy()).save(path)
                    images.append(ImageRecord(path, modality, camera))
                    identities.append(person)
    training_set, _ = make_training_set(images, identities)
    return training_set


def write_start(path: Path) -> Path:
    """Random weights with equal stems, as ImageNet weights would give."""
    network = TwoStreamNetwork(NARROW, generator=Streams(0).torch("start"))
    network.infrared_stem.load_state_dict(network.visible_stem.state_dict())
    save_model(path, network)
    return path


@dataclass(frozen=True)
class SmallData:
    """What a small run needs besides its settings."""

    training_set: TrainingSet
    start: Path

    @property
    def words(self) -> list[str]:
        """Overrides of the preset `tiny`: two steps an epoch, among others."""
        return [
            f"model.weights={self.start}",
            f"data.height={HEIGHT}",
            f"data.width={WIDTH}",
            "data.workers=1",
            "schedule.iterations=2",
            "schedule.learning_rate=0.001",
            "batch.clusters=3",
            "batch.instances=4",
            "clustering.k1=6",
            "clustering.k2=2",
            "clustering.joint_k1=8",
            "clustering.joint_k2=3",
            "engine.log_every=1",
        ]

    def settings(self, *overrides: str) -> Settings:
        """One epoch of stage I and two of stage II, two steps each."""
        return load_preset("tiny", [*self.words, *overrides])

    def dataset(self) -> Dataset:
        """The images with their people, as in the files' names: PERSON-CAMERA-NUMBER."""
        people = tuple(int(image.path.name.partition("-")[0]) for image in self.training_set.images)
        return Dataset("drawn", self.training_set.images[0].path.parent, self.training_set, people, None)

    def train(
        self,
        run: Path,
        *overrides: str,
        observer: Observer | None = None,
        resume: bool = False,
        dataset: Dataset | None = None,
    ) -> str:
        """Train and return the digest of the model file.

        Recipes with labels get those of `dataset`, by default our own; others get none.
        """
        settings = self.settings(*overrides)
        labeller = None
        if settings.method.labels != "clusters":
            visible_only = settings.method.labels == "visible_identities"
            labeller = IdentityLabeller(dataset or self.dataset(), visible_only=visible_only)
        path = train(settings, self.training_set, run, observer, resume=resume, labeller=labeller)
        return digest(path)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def records(run: Path, kind: str = "epoch") -> list[dict[str, Any]]:
    """The lines of a kind in a run's log, without fields that depend on the clock."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    clock = {"seconds", "seconds_clustering", "images_per_second"}
    return [{key: value for key, value in line.items() if key not in clock} for line in lines if line["kind"] == kind]


class Watcher(Silent):
    """Does something after chosen steps or epochs."""

    def __init__(
        self,
        *,
        step: Callable[[Position, int], None] | None = None,
        epoch: Callable[[Position, EpochLabels], dict[str, float]] | None = None,
    ) -> None:
        self._step, self._epoch = step, epoch
        self.warnings: list[str] = []

    def warned(self, message: str) -> None:
        self.warnings.append(message)

    def stepped(self, position: Position, step: int, losses: Mapping[str, float]) -> None:
        if self._step is not None:
            self._step(position, step)

    def epoch_ended(self, position: Position, labels: EpochLabels, record: Mapping[str, object]) -> dict[str, float]:
        return {} if self._epoch is None else self._epoch(position, labels)
