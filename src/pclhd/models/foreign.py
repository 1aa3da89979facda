"""Checkpoints of other programs: files of named tensors, read without running code from the file."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from pclhd.errors import UserError

_RESAVE = "where it was made, save the weights alone: torch.save(model.state_dict(), FILE)"


@dataclass(frozen=True)
class ForeignCheckpoint:
    """The content of a checkpoint as a flat mapping.

    Attributes:
        tensors: All tensors by their places in the file: the keys of nested mappings, joined by dots, such as
            ``state_dict.module.bottleneck.weight``.
        others: Places of all other values (epochs, scores, settings), sorted. The values are dropped.
    """

    tensors: dict[str, Tensor]
    others: tuple[str, ...]


def read_foreign_checkpoint(path: Path) -> ForeignCheckpoint:
    """Read a checkpoint on the CPU: a file of `torch.save` (old or new format), or a ``.safetensors`` file.

    NumPy numbers, which many trainings save with the weights (``best_mAP``), are ignored. All other classes that need
    code to restore are refused.

    Raises:
        UserError: There is no such file, it cannot be read, is damaged or truncated, contains no tensors, or needs code
            to load.
    """
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no such file"
        raise UserError(f"{path}: {what}; expected a checkpoint (.pth, .pth.tar or .safetensors)")
    try:
        content = load_file(path) if _is_safetensors(path) else _load(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check the file's permissions") from error
    except Exception as error:  # the readers raise many exception types on invalid files, IndexError included
        raise UserError(f"{path}: {_reason(path, error)}") from error
    tensors: dict[str, Tensor] = {}
    others: list[str] = []
    try:
        for name, value in _leaves(content, ""):
            if isinstance(value, Tensor):
                tensors[name] = value.detach()
            else:
                others.append(name)
    except RecursionError as error:
        raise UserError(f"{path}: its entries are nested too deeply; {_RESAVE}") from error
    if not tensors:
        raise UserError(f"{path}: contains {_what(content)} without any tensor; expected weights by name")
    return ForeignCheckpoint(tensors, tuple(sorted(others)))


class _Dropped:
    """Placeholder for a NumPy number: no NumPy code runs, and the value is dropped."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


# Each number includes a `numpy.dtype`. The two paths are those of NumPy 1 and 2.
_NUMPY_NUMBERS = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype")


def _load(path: Path) -> object:
    allowed = torch.serialization.safe_globals([(_Dropped, name) for name in _NUMPY_NUMBERS])
    # A pickle with an unusual protocol is read or refused; the warning is not useful.
    with allowed, warnings.catch_warnings(category=UserWarning, action="ignore"):
        return torch.load(path, map_location="cpu", weights_only=True)


def _reason(path: Path, error: Exception) -> str:
    foreign = re.search(r"GLOBAL ([\w.]+)", str(error))
    if foreign:
        return f"contains an object of {foreign[1]}, which needs code to restore; {_RESAVE}"
    if path.stat().st_size == 0:
        return "is empty; fetch the checkpoint again"
    if not _begins_like_a_checkpoint(path):
        return "is not a checkpoint; expected a file of torch.save (.pth, .pth.tar) or a .safetensors file"
    if "TorchScript" in str(error):
        return f"is a TorchScript program, not weights by name; {_RESAVE}"
    if "Unsupported operand" in str(error):
        return f"is damaged, or cannot be read without running code from it; {_RESAVE}"
    return f"is damaged or truncated ({type(error).__name__}); fetch it again"


def _is_safetensors(path: Path) -> bool:
    return path.suffix.lower() == ".safetensors"


def _begins_like_a_checkpoint(path: Path) -> bool:
    """New files of `torch.save` are zip archives, old ones a pickle of protocol 2."""
    if _is_safetensors(path):
        return True
    with path.open("rb") as file:
        return file.read(2) in (b"PK", b"\x80\x02")


def _leaves(value: object, name: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def _what(content: object) -> str:
    return "entries" if isinstance(content, Mapping) else f"a {type(content).__name__}"
