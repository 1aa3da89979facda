"""Checkpoints: everything that cannot be recomputed, written so that a file is always complete.

Between two epochs, these are both networks and the optimiser. Pseudo labels, matching, memories and batches are
functions of the networks, the images and the seed, and random streams are named by epoch (`pclhd.streams`). Within an
epoch, the labels, the memories and the states of the generators are saved too (`pclhd.engine.state`). Checkpoints are
safetensors files, with counters as JSON and a checksum in the metadata. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor

from pclhd.engine.labelling import Labels
from pclhd.engine.selection import Selection
from pclhd.errors import UserError
from pclhd.files import write_durably
from pclhd.pair import Pair
from pclhd.parsing import open_tensors, parse_json
from pclhd.runs.folder import checkpoint_files, checkpoint_name
from pclhd.runs.records import Count

FORMAT = "pclhd-checkpoint-2"
KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training.

    Attributes:
        next_epoch: The epoch to run next, or the epoch in progress.
        online: State of the online network.
        momentum: State of the momentum network.
        optimiser: State of the optimiser per parameter; None between the stages, where a new optimiser begins.
        previous: Pseudo labels of the last epoch; None before the first.
        selection: The best epoch so far.
        data_checksum: Checksum of the training set; resuming with other images is refused.
        state: The epoch in progress, as `pclhd.engine.state.dismantle` returns it; None between two epochs.
        restarts: Number of automatic restarts, each of which lowers the learning rate.
        loss_scale: See `pclhd.engine.networks.Networks`.
        settings: Those that it was trained with, see `pclhd.engine.resuming`; empty in files of older versions.
    """

    next_epoch: int
    online: dict[str, Tensor]
    momentum: dict[str, Tensor]
    optimiser: dict[int, dict[str, Tensor]] | None
    previous: Pair[Labels] | None
    selection: Selection
    data_checksum: str
    state: tuple[dict[str, Tensor], dict[str, Any]] | None = None
    restarts: int = 0
    loss_scale: dict[str, float] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint to a temporary file, flush it to disk, rename it, and delete those no longer needed.

    It keeps the last two, and the one at the start of the epoch in progress, to which a restart goes back.

    Args:
        folder: The run's ``checkpoints`` folder.
        checkpoint: The state to save.

    Returns:
        The file.

    Raises:
        UserError: It cannot be written; the existing ones are kept.
    """
    tensors = {f"online/{name}": tensor for name, tensor in checkpoint.online.items()}
    tensors |= {f"momentum/{name}": tensor for name, tensor in checkpoint.momentum.items()}
    for index, state in (checkpoint.optimiser or {}).items():
        tensors |= {f"optimiser/{index}/{name}": tensor for name, tensor in state.items()}
    if checkpoint.previous is not None:
        for name, labels in checkpoint.previous.items():
            tensors[f"previous/{name}"] = torch.from_numpy(labels.copy())
    if checkpoint.state is not None:
        tensors |= {f"state/{name}": tensor for name, tensor in checkpoint.state[0].items()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    facts = {
        "next_epoch": checkpoint.next_epoch,
        "data_checksum": checkpoint.data_checksum,
        "has_optimiser": checkpoint.optimiser is not None,
        "selection": vars(checkpoint.selection),
        "state": None if checkpoint.state is None else checkpoint.state[1],
        "restarts": checkpoint.restarts,
        "loss_scale": checkpoint.loss_scale,
        "settings": checkpoint.settings,
    }
    text = json.dumps(facts, sort_keys=True)
    path = folder / _name(checkpoint)
    write_durably(path, save(tensors, {"format": FORMAT, "facts": text, "sha256": _digest(tensors, text)}))
    files = checkpoint_files(folder)
    began = [file for file in files if _begins_epoch(file)][-1:]
    for old in files[:-KEPT]:
        if old not in began:
            _remove(old)
    return path


def rewind_to_epoch(folder: Path, warn: Callable[[str], None]) -> Checkpoint:
    """The checkpoint at the start of the newest epoch; later ones are removed after it has been read.

    Args:
        folder: The run's ``checkpoints`` folder.
        warn: As in `load_latest_checkpoint`.

    Raises:
        UserError: There is no complete checkpoint.
    """
    files = checkpoint_files(folder)
    began = [file for file in files if _begins_epoch(file)]
    checkpoint = _load_newest(folder, began, warn)
    # The newest is removed first, so that training can always resume from the newest file left.
    for later in reversed(files):
        if later.name > _name(checkpoint):
            _remove(later)
    return checkpoint


def _begins_epoch(path: Path) -> bool:
    return path.stem.endswith("-step-00000")


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be removed ({error.strerror}); make its folder writable") from error


def _name(checkpoint: Checkpoint) -> str:
    step = 0 if checkpoint.state is None else checkpoint.state[1]["step"]
    return checkpoint_name(checkpoint.next_epoch, step)


def load_latest_checkpoint(folder: Path, warn: Callable[[str], None]) -> Checkpoint:
    """Read the newest complete checkpoint.

    Args:
        folder: The run's ``checkpoints`` folder.
        warn: Called with a message about a damaged checkpoint, if there is an older one to continue from.

    Raises:
        UserError: There is none, or all are damaged.
    """
    return _load_newest(folder, checkpoint_files(folder), warn)


def _load_newest(folder: Path, files: list[Path], warn: Callable[[str], None]) -> Checkpoint:
    if not files:
        raise UserError(f"{folder}: no checkpoint to resume from; start a new training")
    for path, older in zip(reversed(files), [*reversed(files[:-1]), None], strict=True):
        try:
            return load_checkpoint(path)
        except UserError as error:
            if older is None:
                raise
            fault = str(error).removesuffix("; start a new training")
            warn(f"{fault}; continuing from {older.name}")
    raise AssertionError("the loop returns or raises")


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        UserError: The file is damaged or not a checkpoint.
    """
    try:
        with open_tensors(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: is not a readable checkpoint ({error}); start a new training") from error
    if metadata.get("format") != FORMAT:
        raise UserError(f"{path}: is not a checkpoint of this version (expected format {FORMAT})")
    if metadata.get("sha256") != _digest(tensors, metadata.get("facts", "")):
        raise UserError(f"{path}: is damaged (its checksum does not fit its content); start a new training")
    try:
        return _assembled(tensors, _Facts.model_validate(parse_json(metadata["facts"])))
    except (ValueError, KeyError, TypeError) as error:  # of pydantic, too
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: holds no state of a training ({reason}); start a new training") from error


class _Facts(BaseModel):
    """What a checkpoint says besides its tensors."""

    model_config = ConfigDict(strict=True)

    next_epoch: Count
    data_checksum: str
    has_optimiser: bool
    selection: dict[str, Any]
    state: dict[str, Any] | None
    restarts: Count = 0
    loss_scale: dict[str, int | float] = {}  # a counter that comes back as a float is refused by torch
    settings: dict[str, Any] = {}


def _assembled(tensors: Mapping[str, Tensor], facts: _Facts) -> Checkpoint:
    optimiser: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _below(tensors, "optimiser/").items():
        index, _, key = name.partition("/")
        optimiser.setdefault(int(index), {})[key] = tensor
    previous = _below(tensors, "previous/")
    return Checkpoint(
        next_epoch=facts.next_epoch,
        online=_below(tensors, "online/"),
        momentum=_below(tensors, "momentum/"),
        optimiser=optimiser if facts.has_optimiser else None,
        previous=Pair(previous["visible"].numpy(), previous["infrared"].numpy()) if previous else None,
        selection=Selection(**facts.selection),
        data_checksum=facts.data_checksum,
        state=None if facts.state is None else (_below(tensors, "state/"), facts.state),
        restarts=facts.restarts,
        loss_scale={**facts.loss_scale},
        settings=facts.settings,
    )


def _digest(tensors: Mapping[str, Tensor], facts: str) -> str:
    """SHA-256 over facts, names, types, shapes and bytes."""
    digest = hashlib.sha256(facts.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[int, dict[str, Tensor]]:
    """The optimiser's state as tensors per parameter index."""
    state: dict[int, dict[str, Any]] = optimiser.state_dict()["state"]
    return {index: {key: torch.as_tensor(value) for key, value in entry.items()} for index, entry in state.items()}


def restore_optimiser(optimiser: torch.optim.Optimizer, state: dict[int, dict[str, Tensor]]) -> None:
    """Load saved state into a new optimiser of the same parameters.

    Averages get the memory layout of their parameter (files store tensors row by row), so that a resumed step runs the
    same loops over the same bytes as an uninterrupted one.
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
