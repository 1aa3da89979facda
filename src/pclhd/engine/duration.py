"""How long a training takes: a measured plan at its start, corrected by each epoch (ours)."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch

from pclhd.config import Settings
from pclhd.data.normalise import normalise
from pclhd.data.records import Modality
from pclhd.engine.epoch import uses_dynamic
from pclhd.engine.networks import autocast_type
from pclhd.engine.position import position_of
from pclhd.engine.session import Session
from pclhd.engine.term_weights import TermWeights
from pclhd.models.embed import embed_images

# A small batch takes longer for each image than a large one, and a large one of a large network takes minutes: what is
# measured grows until it takes long enough or is as large as a batch on a processor.
_FIRST, _LAST = 8, 64
_LONG_ENOUGH = 0.3

# Measured on two cores (docs/speed.md): seconds for an image in a clustering of k1 = 20, and the number of images from
# which the exact search takes as long as the rest. The first epoch's own time replaces it.
_CLUSTERING = 1e-4
_SEARCH_DOMINATES = 50_000


class Speed(NamedTuple):
    """Seconds that one image takes.

    Attributes:
        embed: Embedded together with its mirror image.
        forward: Forward in training.
        train: Forward and backward.
    """

    embed: float
    forward: float
    train: float


# Only their ratios mean something, where nothing is measured.
_RATIOS = Speed(2.0, 1.0, 3.0)


@dataclass(frozen=True)
class EpochPlan:
    """Expected seconds of an epoch.

    Attributes:
        begin: Embedding and clustering.
        step: One step.
        steps: Number of steps.
    """

    begin: float
    step: float
    steps: int

    @property
    def seconds(self) -> float:
        """Of the whole epoch."""
        return self.begin + self.steps * self.step


@dataclass(frozen=True)
class Plan:
    """Expected seconds of the epochs to come.

    Attributes:
        first: Number of the first of them.
        epochs: One for each.
        measured: Whether the seconds were measured here. If not, only their ratios mean something.
    """

    first: int
    epochs: tuple[EpochPlan, ...]
    measured: bool

    @property
    def seconds(self) -> float:
        """Of all epochs."""
        return sum(epoch.seconds for epoch in self.epochs)


def plan_epochs(session: Session, first: int = 0) -> Plan:
    """Measure this machine on a few images, and extrapolate to all epochs.

    Networks and random streams do not change. Several processes, or a network that is still to be compiled, are not
    measured.

    Args:
        session: Images, settings and networks.
        first: The first epoch to come.
    """
    measured = session.networks.processes.count == 1 and not session.settings.engine.compile
    speed = measure_speed(session) if measured else _RATIOS
    plans = plan_with(speed, session.settings, sum(map(len, session.images)), first)
    return Plan(first, plans, measured)


def plan_with(speed: Speed, settings: Settings, number: int, first: int = 0) -> tuple[EpochPlan, ...]:
    """Extrapolate from the speed for one image to all epochs.

    Args:
        speed: As measured by `measure_speed`.
        settings: With sizes that are numbers.
        number: Training images of both modalities.
        first: The first epoch to come.
    """
    size = settings.batch.numbers()
    batch = 3 * size.clusters * size.instances  # two views of visible images, one of infrared
    plans = []
    for epoch in range(first, settings.epochs):
        position = position_of(settings, epoch)
        joint = TermWeights.at(settings.method, stage=position.stage, progress=position.progress).joint > 0
        clustered = 2 if joint else 1
        clustering = _CLUSTERING * number * clustered * (1 + number * clustered / _SEARCH_DOMINATES)
        own_pass = position.stage == 2 and settings.method.momentum_buffers == "own"
        step = batch * ((2 if joint else 1) * speed.train + (speed.forward if own_pass else 0.0))
        embedded = 2 if uses_dynamic(settings.method, position.stage) else 1
        begin = embedded * number * speed.embed + clustering
        plans.append(EpochPlan(begin, step, settings.schedule.numbers().iterations))
    return tuple(plans)


def measure_speed(session: Session) -> Speed:
    """Measure this machine on a few images; networks and random streams do not change."""
    networks, half = session.networks, autocast_type(session.settings)
    device = networks.fabric.device
    # A copy, since batch norms keep statistics. Dropout draws from the global generator, which is put back.
    twin = copy.deepcopy(networks.online).train()

    def embed(count: int) -> int:
        some = session.images.visible.images[:count]
        embed_images(networks.online, some, Modality.VISIBLE, autocast_dtype=half)
        return len(some)

    def forward(count: int) -> tuple[torch.Tensor, int]:
        pair = [normalise(part.images[:count].clone().to(device)) for part in session.images]
        with networks.fabric.autocast():
            total: torch.Tensor = twin(*pair).embedding.float().square().mean()
        return total, sum(map(len, pair))

    def train(count: int) -> int:
        total, images = forward(count)
        torch.autograd.backward(total)
        return images

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        train_seconds = _per_image(train, device)
        with torch.no_grad():
            forward_seconds = _per_image(lambda count: forward(count)[1], device)
    return Speed(_per_image(embed, device), forward_seconds, train_seconds)


def _per_image(work: Callable[[int], int], device: torch.device) -> float:
    """Seconds for an image of some work, which is given a number of images and returns how many it took."""
    count = _FIRST
    while True:
        seconds, images = _timed(partial(work, count), device)
        if seconds >= _LONG_ENOUGH or count >= _LAST:
            return seconds / images
        count *= 2


def _timed(work: Callable[[], int], device: torch.device) -> tuple[float, int]:
    """Seconds of the faster of two calls, since the first one may prepare kernels, and what the last one returns."""
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        images = work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return min(seconds), images


class TimeLeft:
    """Seconds until the end of a training: the plan, scaled by what was really measured last.

    Args:
        plan: The epochs to come.
        clock: Seconds.
    """

    def __init__(self, plan: Plan, clock: Callable[[], float] = time.monotonic) -> None:
        self._plan, self._clock = plan, clock
        self._known = plan.measured
        self._slower_begin = self._slower_step = 1.0
        self._epoch = plan.first
        self._done = self._next_step = 0
        self._started = self._first_step = clock()

    def epoch_started(self, epoch: int) -> None:
        """An epoch begins, for the first time or again."""
        self._epoch, self._done, self._next_step, self._started = epoch, 0, 0, self._clock()

    def stepped(self, step: int) -> None:
        """A step of this epoch is over. After an interruption, steps begin with another number than 0."""
        now = self._clock()
        self._done, self._next_step = self._done + 1, step + 1
        plan = self._plan.epochs[self._epoch - self._plan.first]
        if self._done == 1:
            self._first_step = now
        elif plan.step > 0:
            each = (now - self._first_step) / (self._done - 1)
            self._slower_step = each / plan.step
            # What came before the first step was embedding and clustering.
            begin = max(0.0, self._first_step - self._started - each)
            self._slower_begin = begin / plan.begin if plan.begin > 0 else 1.0
            self._known = True

    def seconds(self) -> float | None:
        """The seconds left; None while nothing is known."""
        if not self._known:
            return None
        current, *later = self._plan.epochs[self._epoch - self._plan.first :]
        begin = 0.0
        if self._done == 0:
            begin = max(0.0, self._slower_begin * current.begin - (self._clock() - self._started))
        steps = self._slower_step * current.step * max(0, current.steps - self._next_step)
        return begin + steps + sum(map(self._expected, later))

    def _expected(self, epoch: EpochPlan) -> float:
        return self._slower_begin * epoch.begin + self._slower_step * epoch.step * epoch.steps
