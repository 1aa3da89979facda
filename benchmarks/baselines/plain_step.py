"""A training step as this field's repositories write it; written by us, from the behaviour of the released code.

32 bits and channels-first throughout. Workers open every image again in every step and transform it by itself: Pillow
to resize, pad, crop and mirror, numpy for the rest. Batches of a step are read while the step before it computes.
Memories are written in a loop over clusters and samples, the momentum network is averaged parameter by parameter,
features for clustering are collected in a dictionary by file name. The convolutions and the norms are those of
`TwoStreamNetwork`, so that both loops compute the same.
"""

from __future__ import annotations

import copy
import random
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.nn import functional

from pclhd.models.architecture import Architecture
from pclhd.models.two_stream import NonLocalBlock, TwoStreamNetwork

MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32).reshape(3, 1, 1)
DEVIATION = np.array([0.229, 0.224, 0.225], dtype=np.float32).reshape(3, 1, 1)
FILL = (0.4914, 0.4822, 0.4465)

Pixels = NDArray[np.float32]


def read_image(path: Path, height: int, width: int) -> Image.Image:
    """Open and resize, every time."""
    return Image.open(path).convert("RGB").resize((width, height), Image.Resampling.BICUBIC)


def to_numbers(image: Image.Image) -> Pixels:
    """(3, H, W), normalised."""
    values = np.asarray(image, dtype=np.float32).transpose(2, 0, 1) / 255
    return np.asarray((values - MEAN) / DEVIATION, dtype=np.float32)


def transform(image: Image.Image) -> Pixels:
    """Pad, crop, mirror, normalise, erase."""
    width, height = image.size
    padding = max(1, round(height * 10 / 288))
    padded = ImageOps.expand(image, padding)
    left, top = random.randint(0, 2 * padding), random.randint(0, 2 * padding)
    cropped = padded.crop((left, top, left + width, top + height))
    if random.random() < 0.5:
        cropped = ImageOps.mirror(cropped)
    values = to_numbers(cropped)
    if random.random() >= 0.5:
        return values
    for _ in range(100):
        area, aspect = random.uniform(0.02, 0.4) * height * width, random.uniform(0.3, 1 / 0.3)
        h, w = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
        if w < width and h < height:
            top, left = random.randint(0, height - h), random.randint(0, width - w)
            for channel in range(3):
                values[channel, top : top + h, left : left + w] = FILL[channel]
            break
    return values


def visible_item(path: Path, height: int, width: int) -> tuple[Pixels, Pixels]:
    """Both views of a visible image: in colour, and one channel copied to all."""
    image = read_image(path, height, width)
    colour, other = transform(image), transform(image)
    other[:] = other[random.randint(0, 2)]
    return colour, other


def infrared_item(path: Path, height: int, width: int) -> Pixels:
    """The view of an infrared image."""
    values = transform(read_image(path, height, width))
    draw = random.randint(0, 7)
    if draw < 6:
        values[:] = values[draw // 2]
    elif draw == 6:
        values[:] = 0.2989 * values[0] + 0.5870 * values[1] + 0.1140 * values[2]
    return values


def read_part(paths: Sequence[Path], visible: bool, height: int, width: int) -> list[Pixels]:
    """A worker's share of a batch; for visible images all colour views first, then all single-channel views."""
    if not visible:
        return [np.stack([infrared_item(path, height, width) for path in paths])]
    pairs = [visible_item(path, height, width) for path in paths]
    return [np.stack([pair[view] for pair in pairs]) for view in (0, 1)]


def read_plain(paths: Sequence[Path], height: int, width: int) -> list[Pixels]:
    """A worker's share of a batch to embed."""
    return [np.stack([to_numbers(read_image(path, height, width)) for path in paths])]


class Loader:
    """Batches from workers, one ahead.

    Args:
        workers: Processes that read images.
        number: How many of them.
        height: Pixels.
        width: Pixels.
    """

    def __init__(self, workers: Executor, number: int, height: int, width: int) -> None:
        self.workers, self.number, self.height, self.width = workers, number, height, width

    def request(self, paths: Sequence[Path], kind: str) -> list[object]:
        """Start to read a batch; ``kind`` is visible, infrared or plain."""
        shares = [list(paths[i :: self.number]) for i in range(self.number) if paths[i :: self.number]]
        if kind == "plain":
            return [self.workers.submit(read_plain, share, self.height, self.width) for share in shares]
        visible = kind == "visible"
        return [self.workers.submit(read_part, share, visible, self.height, self.width) for share in shares]


def arrived(request: list[object]) -> list[Tensor]:
    """The requested batch: one tensor for each view, the workers' shares one after the other."""
    shares = [cast("list[Pixels]", part.result()) for part in request]  # type: ignore[attr-defined]
    return [torch.from_numpy(np.concatenate(views)) for views in zip(*shares, strict=True)]


class PlainNetwork(nn.Module):
    """The two-stream network with the field's non-local blocks (a number for each pair of positions) and pooling.

    Args:
        like: The network whose modules, and so start weights, are copied.
    """

    def __init__(self, like: TwoStreamNetwork) -> None:
        super().__init__()
        self.inner = copy.deepcopy(like)
        self.width = like.embedding_size

    def forward(self, visible: Tensor | None, infrared: Tensor | None) -> Tensor:
        """(B, D) not normalised; visible rows first."""
        maps = []
        if visible is not None:
            maps.append(self.inner.visible_stem(visible))
        if infrared is not None:
            maps.append(self.inner.infrared_stem(infrared))
        features = torch.cat(maps, 0)
        for name, module in self.inner.trunk.items():
            stage = cast(nn.ModuleList, module)
            attention = (
                cast(nn.ModuleList, self.inner.non_local[name]) if name in self.inner.non_local else nn.ModuleList()
            )
            first = len(stage) - len(attention)
            for position, block in enumerate(stage):
                features = block(features)
                if position >= first:
                    features = plain_non_local(cast(NonLocalBlock, attention[position - first]), features)
        batch, channels = features.shape[:2]
        power = cast(Architecture, self.inner.architecture).gem_power
        pooled = (torch.mean(features.view(batch, channels, -1) ** power, dim=-1) + 1e-12) ** (1 / power)
        return cast(Tensor, self.inner.neck(pooled))


def plain_non_local(block: NonLocalBlock, features: Tensor) -> Tensor:
    """A number for each pair of positions, as in the equation."""
    batch = len(features)
    value = block.value(features).view(batch, -1, features[0, 0].numel()).permute(0, 2, 1)
    query = block.query(features).view(batch, -1, features[0, 0].numel()).permute(0, 2, 1)
    key = block.key(features).view(batch, -1, features[0, 0].numel())
    pairs = torch.matmul(query, key)
    attended = torch.matmul(pairs / pairs.size(-1), value).permute(0, 2, 1).contiguous()
    attended = attended.view(batch, -1, *features.shape[2:])
    return cast(Tensor, block.norm(block.output(attended)) + features)


class PlainMemory:
    """Centroid and hard prototypes, written in Python loops.

    Args:
        rows: (C, D) start values, unit length.
        momentum: Share of the old value.
    """

    def __init__(self, rows: Tensor, momentum: float) -> None:
        self.centroids, self.hard, self.momentum = rows.clone(), rows.clone(), momentum

    def loss(self, features: Tensor, labels: Tensor, temperature: float) -> Tensor:
        """Half from the centroids, half from the hard prototypes."""
        losses = [
            functional.cross_entropy(features.mm(memory.t()) / temperature, labels)
            for memory in (self.centroids.clone(), self.hard.clone())
        ]
        return 0.5 * (losses[0] + losses[1])

    @torch.no_grad()
    def update(self, features: Tensor, labels: Tensor) -> None:
        """Centroids sample by sample; then each cluster's hard prototype, with the sample least like the centroid."""
        clusters: dict[int, list[Tensor]] = {}
        for feature, label in zip(features, labels.tolist(), strict=True):
            clusters.setdefault(label, []).append(feature)
        for label, members in clusters.items():
            distances = [
                float(feature.unsqueeze(0).mm(self.centroids[label].unsqueeze(0).t())[0][0]) for feature in members
            ]
            hardest = members[int(np.argmin(np.array(distances)))]
            mean = torch.stack(members).mean(0)
            for memory, value in ((self.centroids, mean), (self.hard, hardest)):
                memory[label] = memory[label] * self.momentum + (1 - self.momentum) * value
                memory[label] /= memory[label].norm()


@dataclass(frozen=True)
class PlainNumbers:
    """Settings of the step, as in the preset."""

    learning_rate: float
    weight_decay: float
    ema_decay: float
    momentum: float
    temperature: float
    cross: float


Batch = tuple[Sequence[Path], Tensor, Sequence[Path], Tensor]


class PlainTraining:
    """Both networks, the optimiser and the memories of a training, and its step.

    Args:
        start: Network with the start weights; copied, channels-first.
        clusters: Clusters of each modality and of both together.
        numbers: Settings.
        stage: 1 or 2. Stage II has the cross-modality loss, the momentum network, and a second pass with joint labels.
        loader: Reads images.
    """

    def __init__(
        self, start: TwoStreamNetwork, clusters: int, numbers: PlainNumbers, stage: int, loader: Loader
    ) -> None:
        self.numbers, self.stage, self.loader = numbers, stage, loader
        self.network = PlainNetwork(start).train()
        self.momentum = copy.deepcopy(self.network).requires_grad_(False)
        self.optimiser = torch.optim.Adam(
            [parameter for parameter in self.network.parameters() if parameter.requires_grad],
            lr=numbers.learning_rate,
            weight_decay=numbers.weight_decay,
        )
        generator = torch.Generator().manual_seed(0)
        rows = functional.normalize(torch.randn(clusters, self.network.width, generator=generator))
        self.memories = [PlainMemory(rows, numbers.momentum) for _ in range(3)]
        self.requested: list[list[list[object]]] | None = None

    def request(self, batches: Sequence[Batch]) -> list[list[list[object]]]:
        """Start to read the images of a step."""
        return [
            [self.loader.request(visible, "visible"), self.loader.request(infrared, "infrared")]
            for visible, _, infrared, _ in batches
        ]

    def step(self, batches: Sequence[Batch]) -> float:
        """One iteration on images that were requested before; meanwhile those of the next step are read.

        Args:
            batches: One in stage I, two in stage II: paths and labels of both modalities.

        Returns:
            The loss.
        """
        here = self.requested if self.requested is not None else self.request(batches)
        self.requested = self.request(batches)
        total = self._optimise(here[0], batches[0], joint=False)
        if self.stage == 2:
            total += self._optimise(here[1], batches[1], joint=True)
            decay = self.numbers.ema_decay
            for slow, fast in zip(self.momentum.parameters(), self.network.parameters(), strict=True):
                slow.data = slow.data * decay + fast.data * (1 - decay)
        for batch in self.requested:
            for part in batch:
                for share in part:
                    share.result()  # type: ignore[attr-defined]
        return total

    def _optimise(self, request: list[list[object]], batch: Batch, *, joint: bool) -> float:
        visible, infrared = torch.cat(arrived(request[0])), arrived(request[1])[0]
        labels = torch.cat([batch[1], batch[1]]), batch[3]
        features = functional.normalize(self.network(visible, infrared), dim=1)
        parts = features[: len(visible)], features[len(visible) :]
        if self.stage == 2 and not joint:
            with torch.no_grad():
                functional.normalize(self.momentum(visible, infrared), dim=1)
        own = (self.memories[2], self.memories[2]) if joint else (self.memories[0], self.memories[1])
        loss = own[1].loss(parts[1], labels[1], self.numbers.temperature)
        loss = loss + own[0].loss(parts[0], labels[0], self.numbers.temperature)
        if self.stage == 2 and not joint:
            loss = loss + self.numbers.cross * own[1].loss(parts[0], labels[0], self.numbers.temperature)
        self.optimiser.zero_grad()
        torch.autograd.backward(loss)
        self.optimiser.step()
        for memory, part, target in zip(own, parts, labels, strict=True):
            memory.update(part.detach(), target)
        return float(loss.detach())


@torch.no_grad()
def embed_as_the_field_does(
    network: PlainNetwork, paths: Sequence[Path], loader: Loader, *, batch_size: int = 64
) -> Tensor:
    """Features of visible images, averaged with those of their mirror images.

    Args:
        network: In evaluation mode afterwards.
        paths: Image files; every one is opened.
        loader: Reads them, one batch ahead.
        batch_size: Images in a pass.

    Returns:
        (N, D) in the order of the workers' shares of each batch.
    """
    network.eval()
    starts = range(0, len(paths), batch_size)
    features: OrderedDict[str, Tensor] = OrderedDict()
    request = loader.request(paths[:batch_size], "plain")
    for start in starts:
        images = arrived(request)[0]
        request = loader.request(paths[start + batch_size : start + 2 * batch_size], "plain")
        mirrored = images.index_select(3, torch.arange(images.size(3) - 1, -1, -1))
        both = [functional.normalize(network(view, None), dim=1) for view in (images, mirrored)]
        batch = paths[start : start + batch_size]
        names = [path for i in range(loader.number) for path in batch[i :: loader.number]]
        for path, feature in zip(names, (both[0] + both[1]) / 2, strict=True):
            features[str(path)] = feature
    return torch.cat([features[str(path)].unsqueeze(0) for path in paths], 0)
