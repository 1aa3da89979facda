"""Checkpoints at epoch boundaries: everything that cannot be computed again, written so that none is ever half there.

Pseudo labels, matching, memories and batches are functions of the networks, the images and the seed, so they are made
anew on resuming; random streams are named by epoch (`pclhd.streams`) and need no saving. What remains are both networks
and the optimiser: safetensors, with the counters as JSON in the metadata. Nothing is pickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from pclhd.errors import UserError
from pclhd.files import write_durably

FORMAT = "pclhd-checkpoint-1"
KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """The state between two epochs.

    Attributes:
        next_epoch: The epoch to run next.
        online: State of the online network.
        momentum: State of the momentum network.
        optimiser: Its state per parameter; None between the stages, where a new optimiser begins.
        data_checksum: Of the training set; resuming with other images is refused.
    """

    next_epoch: int
    online: dict[str, Tensor]
    momentum: dict[str, Tensor]
    optimiser: dict[int, dict[str, Tensor]] | None
    data_checksum: str


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint aside, flush it to disk, rename it into place, and drop all but the last two.

    Args:
        folder: The run's ``checkpoints`` folder.
        checkpoint: What to save.

    Returns:
        The file.
    """
    tensors = {f"online/{name}": tensor for name, tensor in checkpoint.online.items()}
    tensors |= {f"momentum/{name}": tensor for name, tensor in checkpoint.momentum.items()}
    for index, state in (checkpoint.optimiser or {}).items():
        tensors |= {f"optimiser/{index}/{name}": tensor for name, tensor in state.items()}
    facts = {
        "format": FORMAT,
        "next_epoch": str(checkpoint.next_epoch),
        "data_checksum": checkpoint.data_checksum,
        "has_optimiser": json.dumps(checkpoint.optimiser is not None),
    }
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, facts)
    path = folder / f"epoch-{checkpoint.next_epoch:04d}.safetensors"
    write_durably(path, content)
    for old in checkpoint_files(folder)[:-KEPT]:
        old.unlink()
    return path


def checkpoint_files(folder: Path) -> list[Path]:
    """The epoch checkpoints of a folder, oldest first."""
    return sorted(folder.glob("epoch-*.safetensors"))


def load_latest_checkpoint(folder: Path) -> Checkpoint:
    """Read the newest checkpoint.

    Raises:
        UserError: There is none, or it is damaged.
    """
    files = checkpoint_files(folder)
    if not files:
        raise UserError(f"{folder}: no checkpoint to resume from; start the training anew with another --out")
    return load_checkpoint(files[-1])


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        UserError: The file is damaged or of another kind.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path}: is not a readable checkpoint ({error}); delete it to resume from the one before"
        ) from error
    if facts.get("format") != FORMAT:
        raise UserError(f"{path}: is not a checkpoint of this version (expected format {FORMAT})")
    optimiser: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _below(tensors, "optimiser/").items():
        index, key = name.split("/")
        optimiser.setdefault(int(index), {})[key] = tensor
    return Checkpoint(
        next_epoch=int(facts["next_epoch"]),
        online=_below(tensors, "online/"),
        momentum=_below(tensors, "momentum/"),
        optimiser=optimiser if json.loads(facts["has_optimiser"]) else None,
        data_checksum=facts["data_checksum"],
    )


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[int, dict[str, Tensor]]:
    """The optimiser's state as tensors per parameter index."""
    state: dict[int, dict[str, Any]] = optimiser.state_dict()["state"]
    return {index: {key: torch.as_tensor(value) for key, value in entry.items()} for index, entry in state.items()}


def restore_optimiser(optimiser: torch.optim.Optimizer, state: dict[int, dict[str, Tensor]]) -> None:
    """Put saved state into a fresh optimiser over the same parameters.

    Averages get their parameter's memory order back (files hold tensors row by row), so that a resumed step runs the
    same loops over the same bytes as one that was never interrupted.
    """
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    ordered = {
        index: {
            key: torch.empty_like(parameters[index]).copy_(value) if value.shape == parameters[index].shape else value
            for key, value in entry.items()
        }
        for index, entry in state.items()
    }
    optimiser.load_state_dict({"state": ordered, "param_groups": optimiser.state_dict()["param_groups"]})
