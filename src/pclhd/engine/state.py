"""What an epoch began with and how far its steps got: all that a checkpoint within an epoch has to hold.

Batches need no place here: they are drawn from streams named after the epoch, and are the same when drawn again.
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
    """An epoch under way.

    Attributes:
        labels: The pseudo labels.
        criteria: Measures of the network that they come from (`pclhd.engine.selection`).
        memories: Changed by the steps.
        augmentation: Draws the views.
        redraws: Draws other dynamic prototypes.
        step: The step to make next.
        sums: Sum of each named loss over the steps so far.
        images_seen: Views that went through the online network.
        seconds_clustering: From the epoch's start to its first step.
        seconds_steps: Of the steps so far.
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
    """A state as tensors by name, and as facts that JSON can hold.

    Args:
        state: Not changed; the tensors are its own.
        redraws_each_step: Whether dynamic prototypes are drawn again within the epoch. Only then are the features
            needed that they are drawn from.
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
            kept = slice(None) if redraws_each_step else slice(0)
            tensors[f"{name}/source/features"] = part.dynamic.features[kept]
            tensors[f"{name}/source/labels"] = part.dynamic.labels[kept]
    if memories.joint is not None:
        tensors |= _tensors("joint/clusters", memories.joint)
    tensors["augmentation"], tensors["redraws"] = state.augmentation.get_state(), state.redraws.get_state()
    return tensors, facts


def assemble(
    tensors: Mapping[str, Tensor], facts: Mapping[str, Any], *, momentum: float, device: torch.device
) -> EpochState:
    """The state that `dismantle` took apart, to the last bit.

    Args:
        tensors: On the CPU.
        facts: See `dismantle`.
        momentum: Of the memories.
        device: Where the memories live.
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
    # A memory scales what it is made of to unit length, which may change the last bit of what has unit length already.
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
