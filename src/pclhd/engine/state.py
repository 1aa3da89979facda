"""State of an epoch in progress: everything that a checkpoint within an epoch must contain.

Batches are not included: they are drawn from streams named after the epoch, and are the same when drawn again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pclhd.clustering.matching import Matching
from pclhd.engine.labelling import EpochLabels, Grouping
from pclhd.engine.memories import DynamicSource, JointMemories, Memories, ModalityMemories
from pclhd.pair import Pair
from pclhd.prototypes import ClusterMemory, DynamicMemory, MultiMemory, SplitRows


@dataclass
class EpochState:
    """An epoch in progress.

    Attributes:
        labels: The pseudo labels.
        criteria: Criteria of the network that the labels come from (`pclhd.engine.selection`).
        memories: The memories, changed by the steps.
        augmentation: Generator for the views.
        redraws: Generator for redrawing dynamic prototypes.
        step: The next step.
        sums: Sum of each named loss over the steps so far.
        images_seen: Number of views processed by the online network.
        seconds_clustering: Seconds from the epoch's start to its first step.
        seconds_steps: Seconds of the steps so far.
    """

    labels: EpochLabels
    criteria: dict[str, float]
    memories: Memories
    augmentation: torch.Generator
    redraws: torch.Generator
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    images_seen: int = 0
    seconds_clustering: float = 0.0
    seconds_steps: float = 0.0


Memory = TypeVar("Memory", bound=nn.Module)

_MODALITIES = ("visible", "infrared")
_NAMES = (*_MODALITIES, "joint")
_NUMBERS = ("criteria", "step", "sums", "images_seen", "seconds_clustering", "seconds_steps")


def dismantle(state: EpochState, *, redraws_each_step: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A state as tensors by name, and as JSON-compatible facts.

    Args:
        state: Not changed; the tensors share its memory where they are tensors already.
        redraws_each_step: Whether dynamic prototypes are drawn again within the epoch. Only then are the features from
            which they are drawn needed.
    """
    labels, memories = state.labels, state.memories
    arrays: dict[str, NDArray[Any]] = {
        "matching/visible_to_infrared": labels.matching.visible_to_infrared,
        "matching/infrared_to_visible": labels.matching.infrared_to_visible,
    }
    facts: dict[str, Any] = {name: getattr(state, name) for name in _NUMBERS}
    for name, own in zip(_NAMES, (*labels.own, labels.joint), strict=True):
        if own is not None:
            arrays[f"labels/{name}"] = own
    arrays |= {f"drawn/{name}": rows for name, rows in labels.drawn.items() if rows is not None}
    facts["groupings"] = {}
    for name, grouping in labels.groupings.items():
        facts["groupings"][name] = {
            "eps": grouping.eps,
            "silhouette": grouping.silhouette,
            "recall": grouping.recall,
            "kept": grouping.kept,
            "loosened": grouping.loosened,
        }
        if grouping.confidence is not None:
            arrays[f"confidence/{name}"] = grouping.confidence
    tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
    for name, part in memories.own.items():
        tensors |= _of_modality(name, part, redraws_each_step=redraws_each_step)
    if memories.joint is not None:
        tensors |= _of_modality("joint", memories.joint.held, redraws_each_step=redraws_each_step)
        if memories.joint.split is not None:
            tensors |= {f"joint/split/{name}": rows for name, rows in memories.joint.split.of.items()}
    tensors["augmentation"], tensors["redraws"] = state.augmentation.get_state(), state.redraws.get_state()
    return tensors, facts


def assemble(
    tensors: Mapping[str, Tensor],
    facts: Mapping[str, Any],
    *,
    momentum: float,
    device: torch.device,
    hard_samples: int = 1,
) -> EpochState:
    """Rebuild the state that `dismantle` took apart, bit-identical.

    Args:
        tensors: See `dismantle`; on the CPU.
        facts: See `dismantle`.
        momentum: Momentum of the memories.
        device: Device of the memories.
        hard_samples: Queries that update a hard prototype (`ClusterMemory`).
    """
    labels = {name: _frozen(tensors[f"labels/{name}"]) for name in _NAMES if f"labels/{name}" in tensors}
    groupings = {
        name: Grouping(
            labels[name],
            tensors[f"confidence/{name}"].numpy() if f"confidence/{name}" in tensors else None,
            **measures,
        )
        for name, measures in facts["groupings"].items()
    }
    matching = Matching(
        tensors["matching/visible_to_infrared"].numpy(), tensors["matching/infrared_to_visible"].numpy()
    )
    held = {
        name: _modality(tensors, name, momentum, hard_samples, device)
        for name in _NAMES
        if f"{name}/clusters/centroids" in tensors
    }
    split = None
    if "joint/split/visible" in tensors:
        split = SplitRows(Pair(*(tensors[f"joint/split/{name}"].to(device) for name in _MODALITIES)))
    joint = JointMemories(held["joint"], split) if "joint" in held else None
    drawn = [tensors[f"drawn/{name}"].numpy() if f"drawn/{name}" in tensors else None for name in _MODALITIES]
    return EpochState(
        EpochLabels(labels["visible"], labels["infrared"], labels.get("joint"), matching, groupings, Pair(*drawn)),
        memories=Memories(Pair(held["visible"], held["infrared"]), joint),
        augmentation=_generator(tensors["augmentation"]),
        redraws=_generator(tensors["redraws"]),
        **{name: facts[name] for name in _NUMBERS},
    )


def _tensors(prefix: str, memory: nn.Module) -> dict[str, Tensor]:
    return {f"{prefix}/{name}": buffer for name, buffer in memory.named_buffers()}


def _of_modality(name: str, part: ModalityMemories, *, redraws_each_step: bool) -> dict[str, Tensor]:
    tensors = _tensors(f"{name}/clusters", part.clusters)
    if part.multi is not None:
        tensors |= _tensors(f"{name}/multi", part.multi)
    if part.dynamic is not None:
        tensors |= _tensors(f"{name}/dynamic", part.dynamic.memory)
        rows = slice(None) if redraws_each_step else slice(0)
        tensors[f"{name}/source/features"] = part.dynamic.features[rows]
        tensors[f"{name}/source/labels"] = part.dynamic.labels[rows]
    return tensors


def _modality(
    tensors: Mapping[str, Tensor], name: str, momentum: float, hard_samples: int, device: torch.device
) -> ModalityMemories:
    multi = dynamic = None
    if f"{name}/multi/present" in tensors:
        present, prototypes = tensors[f"{name}/multi/present"], tensors[f"{name}/multi/prototypes"]
        empty = MultiMemory(prototypes[present], present.nonzero()[:, 0], momentum=momentum)
        multi = _filled(empty, tensors, f"{name}/multi").to(device)
    if f"{name}/dynamic/instances" in tensors:
        instances = DynamicMemory(tensors[f"{name}/dynamic/instances"])
        dynamic = DynamicSource(
            _filled(instances, tensors, f"{name}/dynamic").to(device),
            tensors[f"{name}/source/features"],
            tensors[f"{name}/source/labels"],
        )
    clusters = ClusterMemory(tensors[f"{name}/clusters/centroids"], momentum=momentum, hard_samples=hard_samples)
    return ModalityMemories(_filled(clusters, tensors, f"{name}/clusters").to(device), dynamic, multi)


def _filled(memory: Memory, tensors: Mapping[str, Tensor], prefix: str) -> Memory:
    # A new memory scales rows to unit length, which may change the last bit even if they have unit length already.
    for name, buffer in memory.named_buffers():
        buffer.copy_(tensors[f"{prefix}/{name}"])
    return memory


def _generator(state: Tensor) -> torch.Generator:
    generator = torch.Generator()
    generator.set_state(state)
    return generator


def _frozen(labels: Tensor) -> NDArray[np.int64]:
    array: NDArray[np.int64] = labels.numpy()
    array.setflags(write=False)
    return array
