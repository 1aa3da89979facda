"""A slow twin of the recipe `released`: its whole training in plain loops, from the description of the released code.

Nothing here calls the engine, the losses or the memories of the package; only the network itself is shared, which has
golden vectors of its own. Random choices are not repeated but given: a `Story` holds the pseudo labels, the maps
between the modalities, the images of every batch and their augmented pixels.

There is no autograd in the losses. Each pass through a memory is an object that reads the memory when it is made, and
multiplies its score gradient by the memory *as it is then* when it goes backward, and writes it afterwards. So
`SlowTraining` shows the order of these steps, which is what matters here.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pclhd.models.two_stream import TwoStreamNetwork

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


# What is given.


@dataclass(frozen=True)
class Half:
    """One modality's part of a batch: row numbers of its images, and the pixels that the network saw.

    Visible pixels are both views, one after the other, so there are twice as many as rows.
    """

    rows: list[int]
    pixels: Tensor


@dataclass(frozen=True)
class Batch:
    visible: Half
    infrared: Half


@dataclass(frozen=True)
class Chapter:
    """One epoch.

    `drawn_visible` and `drawn_infrared` are the members drawn for the instance memories, K for each cluster; empty in
    stage I. The maps name only clusters that have a partner.
    """

    stage: int
    number_in_stage: int
    visible_labels: list[int]
    infrared_labels: list[int]
    joint_labels: list[int]
    visible_to_infrared: dict[int, int]
    infrared_to_visible: dict[int, int]
    drawn_visible: list[list[int]]
    drawn_infrared: list[list[int]]
    own_batches: list[Batch]
    joint_batches: list[Batch]


@dataclass(frozen=True)
class Numbers:
    rate: float
    decay_every: int
    decay_factor: float
    weight_decay: float
    average_decay: float
    memory_momentum: float
    temperature: float
    cross: float


@dataclass(frozen=True)
class Story:
    start: TwoStreamNetwork
    visible_images: Tensor
    infrared_images: Tensor
    chapters: list[Chapter]
    numbers: Numbers


@dataclass(frozen=True)
class Page:
    """The state after a step."""

    losses: dict[str, float]
    memories: dict[str, Tensor]
    online: dict[str, Tensor]
    average: dict[str, Tensor] | None
    optimiser: dict[str, dict[str, Tensor]] = field(default_factory=dict)


# Vectors.


def dot(a: Tensor, b: Tensor) -> float:
    return float((a * b).sum())


def unit(row: Tensor) -> Tensor:
    return row / math.sqrt(dot(row, row))


def through_unit(row: Tensor, gradient: Tensor) -> Tensor:
    """From the gradient of the unit-length row to that of the row itself."""
    x = unit(row)
    return (gradient - dot(gradient, x) * x) / math.sqrt(dot(row, row))


def mean(rows: list[Tensor]) -> Tensor:
    total = torch.zeros_like(rows[0])
    for row in rows:
        total = total + row
    return total / len(rows)


def cross_entropies(scores: list[list[float]], targets: list[int]) -> list[float]:
    return [
        math.log(sum(math.exp(score - row[target]) for score in row))
        for row, target in zip(scores, targets, strict=True)
    ]


def score_gradients(scores: list[list[float]], targets: list[int]) -> list[list[float]]:
    """Of the mean cross-entropy: softmax minus one at the target, over the number of samples."""
    gradients = []
    for row, target in zip(scores, targets, strict=True):
        shares = [1 / sum(math.exp(other - score) for other in row) for score in row]
        gradients.append([(share - (c == target)) / len(targets) for c, share in enumerate(shares)])
    return gradients


# Memories.


@dataclass
class HybridMemory:
    """Centroids and hard prototypes, both starting as the unit-length cluster centres."""

    centroids: list[Tensor]
    hard: list[Tensor]
    momentum: float
    temperature: float

    @classmethod
    def start(cls, centres: list[Tensor], numbers: Numbers) -> HybridMemory:
        rows = [unit(centre) for centre in centres]
        return cls(list(rows), list(rows), numbers.memory_momentum, numbers.temperature)

    def write(self, inputs: list[Tensor], targets: list[int]) -> None:
        m = self.momentum
        for c in sorted(set(targets)):
            mine = [x for x, target in zip(inputs, targets, strict=True) if target == c]
            # Chosen by the centroid before its update; of equals, the first in the batch.
            furthest = min(mine, key=lambda x: dot(x, self.centroids[c]))
            self.hard[c] = unit(m * self.hard[c] + (1 - m) * furthest)
            self.centroids[c] = unit(m * self.centroids[c] + (1 - m) * mean(mine))


class HybridPass:
    """A forward pass through a memory: ½·(CE(hard) + max(CE(centroid) − margin, 0)), times a weight."""

    margin = 0.2

    def __init__(self, memory: HybridMemory, inputs: list[Tensor], targets: list[int], weight: float = 1.0) -> None:
        self.memory, self.inputs, self.targets = memory, inputs, targets
        centroid_scores = [[dot(x, row) / memory.temperature for row in memory.centroids] for x in inputs]
        hard_scores = [[dot(x, row) / memory.temperature for row in memory.hard] for x in inputs]
        centroid = self.centroid = sum(cross_entropies(centroid_scores, targets)) / len(targets)
        hard = sum(cross_entropies(hard_scores, targets)) / len(targets)
        self.loss = weight * 0.5 * (hard + max(centroid - self.margin, 0.0))
        self.hard_gradients = [[weight * 0.5 * g for g in row] for row in score_gradients(hard_scores, targets)]
        pull = weight * 0.5 if centroid > self.margin else 0.0
        self.centroid_gradients = [[pull * g for g in row] for row in score_gradients(centroid_scores, targets)]

    def backward(self) -> list[Tensor]:
        """The gradient of each input from the memory as it is now; then the memory is written."""
        gradients = []
        for i in range(len(self.inputs)):
            gradient = torch.zeros_like(self.inputs[i])
            for c in range(len(self.memory.centroids)):
                gradient = gradient + self.centroid_gradients[i][c] * self.memory.centroids[c] / self.memory.temperature
                gradient = gradient + self.hard_gradients[i][c] * self.memory.hard[c] / self.memory.temperature
            gradients.append(gradient)
        self.memory.write(self.inputs, self.targets)
        return gradients


def instance_loss(inputs: list[Tensor], targets: list[int], instances: list[list[Tensor]], temperature: float) -> float:
    """The smallest score over the own cluster's instances, the largest over each other's; cross-entropy of these."""
    scores = []
    for x, target in zip(inputs, targets, strict=True):
        every = [[dot(x, instance) / temperature for instance in members] for members in instances]
        scores.append([min(of) if c == target else max(of) for c, of in enumerate(every)])
    return sum(cross_entropies(scores, targets)) / len(targets)


# Features of all images, and centres.


def clustering_features(network: TwoStreamNetwork, images: Tensor, *, visible: bool) -> list[Tensor]:
    """Mean of the unit-length outputs for an image and its mirror image, not scaled back to unit length."""
    network.eval()
    features = []
    for image in images:
        pixels = torch.stack([(image[c] / 255 - MEAN[c]) / DEVIATION[c] for c in range(3)])
        outputs = []
        for picture in (pixels, pixels.flip(2)):
            with torch.no_grad():
                output = network(picture[None], None) if visible else network(None, picture[None])
            outputs.append(unit(output.embedding[0].double()))
        features.append((outputs[0] + outputs[1]) / 2)
    network.train()
    return features


def centres(features: list[Tensor], labels: list[int]) -> list[Tensor]:
    return [
        mean([feature for feature, label in zip(features, labels, strict=True) if label == c])
        for c in range(max(labels) + 1)
    ]


def balanced_centres(visible: list[Tensor], infrared: list[Tensor], labels: list[int]) -> list[Tensor]:
    """The mean of the two modalities' means, whatever their numbers of images; with one modality, its mean."""
    found = []
    for c in range(max(labels) + 1):
        parts = [
            [feature for feature, label in zip(features, of, strict=True) if label == c]
            for features, of in ((visible, labels[: len(visible)]), (infrared, labels[len(visible) :]))
        ]
        found.append(mean([mean(part) for part in parts if part]))
    return found


# The training.


class SlowTraining:
    def __init__(self, story: Story) -> None:
        self.story, self.numbers = story, story.numbers
        self.online = copy.deepcopy(story.start)
        self.online.train()
        self.average: TwoStreamNetwork | None = None
        self.memories: dict[str, HybridMemory] = {}
        self.instances: dict[str, list[list[Tensor]]] = {}

    def run(self) -> list[list[Page]]:
        """For each epoch, the state after each of its steps."""
        return [self._chapter(chapter) for chapter in self.story.chapters]

    def _chapter(self, chapter: Chapter) -> list[Page]:
        numbers = self.numbers
        if chapter.number_in_stage == 0:
            # Each stage is a training of its own, with a new Adam. The bias of the bottleneck is not trained.
            self.trained = [
                (name, parameter) for name, parameter in self.online.named_parameters() if name != "neck.bias"
            ]
            self.adam = torch.optim.Adam(
                [parameter for _, parameter in self.trained],
                lr=numbers.rate,
                weight_decay=numbers.weight_decay,
                foreach=False,
            )
            if chapter.stage == 2:
                self.average = copy.deepcopy(self.online)
        rate = numbers.rate * numbers.decay_factor ** (chapter.number_in_stage // numbers.decay_every)
        self.adam.param_groups[0]["lr"] = rate
        self._build_memories(chapter)
        pages = []
        for number, batch in enumerate(chapter.own_batches):
            losses = self._own_step(chapter, batch)
            total = sum(value for name, value in losses.items() if "dynamic" not in name)
            if chapter.stage == 2:
                joint = self._joint_step(chapter, chapter.joint_batches[number])
                losses |= joint
                total += sum(joint.values())
                self._move_average()
            pages.append(self._page({**losses, "total": total}))
        return pages

    def _build_memories(self, chapter: Chapter) -> None:
        story = self.story
        visible = clustering_features(self.online, story.visible_images, visible=True)
        infrared = clustering_features(self.online, story.infrared_images, visible=False)
        self.memories = {
            "visible": HybridMemory.start(centres(visible, chapter.visible_labels), self.numbers),
            "infrared": HybridMemory.start(centres(infrared, chapter.infrared_labels), self.numbers),
        }
        if self.average is None:
            return
        joint = balanced_centres(visible, infrared, chapter.joint_labels)
        self.memories["joint"] = HybridMemory.start(joint, self.numbers)
        slow_visible = clustering_features(self.average, story.visible_images, visible=True)
        slow_infrared = clustering_features(self.average, story.infrared_images, visible=False)
        self.instances = {
            "visible": [[unit(slow_visible[row]) for row in members] for members in chapter.drawn_visible],
            "infrared": [[unit(slow_infrared[row]) for row in members] for members in chapter.drawn_infrared],
        }

    def _own_step(self, chapter: Chapter, batch: Batch) -> dict[str, float]:
        output = self.online(batch.visible.pixels, batch.infrared.pixels).embedding
        rows = [unit(row.detach().double()) for row in output]
        border = len(batch.visible.pixels)
        visible, infrared = rows[:border], rows[border:]
        visible_targets = [chapter.visible_labels[row] for row in batch.visible.rows] * 2
        infrared_targets = [chapter.infrared_labels[row] for row in batch.infrared.rows]
        gradients = [torch.zeros_like(row) for row in rows]

        first = HybridPass(self.memories["infrared"], infrared, infrared_targets)
        second = HybridPass(self.memories["visible"], visible, visible_targets)
        losses = {"infrared_hybrid": first.loss, "visible_hybrid": second.loss}
        third, places = None, list[int]()
        if chapter.stage == 2 and chapter.number_in_stage % 2 == 0 and chapter.visible_to_infrared:
            places = list(range(border))
            targets = [chapter.visible_to_infrared[target] for target in visible_targets]
            third = HybridPass(self.memories["infrared"], visible, targets, self.numbers.cross)
            losses["visible_cross"] = third.loss
        if chapter.stage == 2 and chapter.number_in_stage % 2 == 1 and chapter.infrared_to_visible:
            places = list(range(border, len(rows)))
            targets = [chapter.infrared_to_visible[target] for target in infrared_targets]
            third = HybridPass(self.memories["visible"], infrared, targets, self.numbers.cross)
            losses["infrared_cross"] = third.loss
        if self.average is not None:
            # In training mode and without a gradient: it updates the average's statistics and is logged, nothing else.
            with torch.no_grad():
                slow = self.average(batch.visible.pixels, batch.infrared.pixels).embedding
            slow_rows = [unit(row.double()) for row in slow]
            for name, part, targets in (
                ("visible", slow_rows[:border], visible_targets),
                ("infrared", slow_rows[border:], infrared_targets),
            ):
                losses[f"{name}_dynamic"] = instance_loss(part, targets, self.instances[name], self.numbers.temperature)

        # Backward visits the latest pass first.
        if third is not None:
            for place, gradient in zip(places, third.backward(), strict=True):
                gradients[place] = gradients[place] + gradient
        for place, gradient in enumerate(second.backward()):
            gradients[place] = gradients[place] + gradient
        for place, gradient in enumerate(first.backward(), start=border):
            gradients[place] = gradients[place] + gradient
        self._optimise(output, gradients)
        return losses

    def _joint_step(self, chapter: Chapter, batch: Batch) -> dict[str, float]:
        output = self.online(batch.visible.pixels, batch.infrared.pixels).embedding
        rows = [unit(row.detach().double()) for row in output]
        border = len(batch.visible.pixels)
        of_visible = chapter.joint_labels[: len(chapter.visible_labels)]
        of_infrared = chapter.joint_labels[len(chapter.visible_labels) :]
        memory = self.memories["joint"]
        first = HybridPass(memory, rows[border:], [of_infrared[row] for row in batch.infrared.rows])
        second = HybridPass(memory, rows[:border], [of_visible[row] for row in batch.visible.rows] * 2)
        of_second = second.backward()
        of_first = first.backward()
        self._optimise(output, of_second + of_first)
        return {"infrared_joint": first.loss, "visible_joint": second.loss}

    def _optimise(self, output: Tensor, gradients: list[Tensor]) -> None:
        """From the gradient of the unit-length rows to that of the network's output, and one step of Adam."""
        of_output = [
            through_unit(row, gradient) for row, gradient in zip(output.detach().double(), gradients, strict=True)
        ]
        self.adam.zero_grad()
        torch.autograd.backward([output], [torch.stack(of_output).to(output.dtype)])
        self.adam.step()

    def _move_average(self) -> None:
        """Parameters only."""
        if self.average is None:
            raise ValueError("stage II without an averaged network")
        decay = self.numbers.average_decay
        online = dict(self.online.named_parameters())
        with torch.no_grad():
            for name, parameter in self.average.named_parameters():
                parameter.copy_(decay * parameter.double() + (1 - decay) * online[name].double())

    def _page(self, losses: dict[str, float]) -> Page:
        memories = {}
        for name, memory in self.memories.items():
            memories[f"{name} centroids"] = torch.stack(memory.centroids)
            memories[f"{name} hard"] = torch.stack(memory.hard)
        for name, instances in self.instances.items():
            memories[f"{name} instances"] = torch.stack([torch.stack(members) for members in instances])
        states = [self.adam.state[parameter] for _, parameter in self.trained]
        return Page(
            losses,
            memories,
            snapshot(self.online),
            None if self.average is None else snapshot(self.average),
            {
                name: {key: value.clone() for key, value in state.items()}
                for (name, _), state in zip(self.trained, states, strict=True)
            },
        )


def snapshot(network: TwoStreamNetwork) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
