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
from pclhd.engine.memories import DynamicSource, Memories, ModalityMemories
from pclhd.pair import Pair
from pclhd.prototypes import ClusterMemory, DynamicMemory, MultiMemory


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

_NAMES = ("visible", "infrared", "joint")
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
        tensors |= _tensors(f"{name}/clusters", part.clusters)
        if part.multi is not None:
            tensors |= _tensors(f"{name}/multi", part.multi)
        if part.dynamic is not None:
            tensors |= _tensors(f"{name}/dynamic", part.dynamic.memory)
            rows = slice(None) if redraws_each_step else slice(0)
            tensors[f"{name}/source/features"] = part.dynamic.features[rows]
            tensors[f"{name}/source/labels"] = part.dynamic.labels[rows]
    if memories.joint is not None:
        tensors |= _tensors("joint/clusters", memories.joint)
    tensors["augmentation"], tensors["redraws"] = state.augmentation.get_state(), state.redraws.get_state()
    return tensors, facts


def assemble(
    tensors: Mapping[str, Tensor], facts: Mapping[str, Any], *, momentum: float, device: torch.device
) -> EpochState:
    """Rebuild the state that `dismantle` took apart, bit-identical.

    Args:
        tensors: See `dismantle`; on the CPU.
        facts: See `dismantle`.
        momentum: Momentum of the memories.
        device: Device of the memories.
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
    own = Pair(*(_modality(tensors, name, momentum, device) for name in ("visible", "infrared")))
    joint = _clusters(tensors, "joint/clusters", momentum, device) if "joint/clusters/centroids" in tensors else None
    return EpochState(
        EpochLabels(labels["visible"], labels["infrared"], labels.get("joint"), matching, groupings),
        memories=Memories(own, joint),
        augmentation=_generator(tensors["augmentation"]),
        redraws=_generator(tensors["redraws"]),
        **{name: facts[name] for name in _NUMBERS},
    )


def _tensors(prefix: str, memory: nn.Module) -> dict[str, Tensor]:
    return {f"{prefix}/{name}": buffer for name, buffer in memory.named_buffers()}


def _modality(tensors: Mapping[str, Tensor], name: str, momentum: float, device: torch.device) -> ModalityMemories:
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
    return ModalityMemories(_clusters(tensors, f"{name}/clusters", momentum, device), dynamic, multi)


def _clusters(tensors: Mapping[str, Tensor], prefix: str, momentum: float, device: torch.device) -> ClusterMemory:
    memory = ClusterMemory(tensors[f"{prefix}/centroids"], momentum=momentum)
    return _filled(memory, tensors, prefix).to(device)


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
