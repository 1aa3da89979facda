"""Checkpoints of other programs: files of named tensors, read without running code from the file."""

from __future__ import annotations

import pickle
import re
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from pclhd.errors import UserError
from pclhd.text_tables import printable

_MOST_ENTRIES = 200_000
_MOST_CLASSES = 200
_LONGEST_NAME = 10_000
_DEEPEST = 64
_FOREIGN = re.compile(r"Unsupported global: GLOBAL ([\w.]+)")

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

    Whatever needs code of its own to be restored is dropped: numbers and arrays of numpy, arguments, settings, all that
    trainings save beside the weights. None of that code is looked for, let alone run.

    Raises:
        UserError: There is no such file, it cannot be read, is damaged or cut short, or holds no tensors.
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
        for number, (name, value) in enumerate(_entries(content, "")):
            if number > _MOST_ENTRIES:
                raise UserError(f"{path}: has more than {_MOST_ENTRIES:,} entries; {_RESAVE}")
            if len(name) > _LONGEST_NAME:
                raise UserError(f"{path}: an entry has a name of {len(name):,} characters; {_RESAVE}")
            if isinstance(value, Tensor):
                tensors[name] = value.detach()
            elif not isinstance(value, Mapping):
                others.append(name)
    except RecursionError as error:
        raise UserError(f"{path}: its entries are nested too deeply; {_RESAVE}") from error
    if not tensors:
        raise UserError(f"{path}: contains {_what(content)} without any tensor; expected weights by name")
    return ForeignCheckpoint(tensors, tuple(sorted(others)))


class _Dropped:
    """What stands for an object of a foreign class after reading: none of its code runs, and the value is lost."""

    def __new__(cls, *_: object) -> _Dropped:
        return super().__new__(cls)

    def __setstate__(self, _: object) -> None:
        pass


class _AsMapping:
    """As `_Dropped`, for objects that entries are put into, such as a `defaultdict`: the entries are kept."""

    def __new__(cls, *_: object) -> OrderedDict[object, object]:  # type: ignore[misc]
        return OrderedDict()


class _AsList:
    """As `_Dropped`, for objects that members are appended to."""

    def __new__(cls, *_: object) -> list[object]:  # type: ignore[misc]
        return []


def _load(path: Path) -> object:
    """Read a file of `torch.save`; each class that torch does not know by itself gets a stand-in."""
    stand_ins: dict[str, type] = {}
    while True:
        allowed = torch.serialization.safe_globals([(kind, name) for name, kind in stand_ins.items()])
        try:
            # A pickle of another protocol than usual is read or refused; a warning would add nothing.
            with allowed, warnings.catch_warnings(category=UserWarning, action="ignore"):
                return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            if not _stand_in(stand_ins, str(error)):
                raise


def _stand_in(stand_ins: dict[str, type], fault: str) -> bool:
    """Add a stand-in for the class that reading failed at, or one of another form; False if that cannot help."""
    foreign = _FOREIGN.search(fault)
    if foreign:
        name = foreign[1] if "." in foreign[1] else f"builtins.{foreign[1]}"
        if name in stand_ins or len(stand_ins) == _MOST_CLASSES:
            return False
        # Python 2 calls builtins otherwise, and torch leaves the module out of its message.
        stand_ins |= {name: _Dropped, name.replace("builtins.", "__builtin__."): _Dropped}
        return True
    wanted = (
        _AsMapping if "Can only SETITEM" in fault else _AsList if re.search("Can only (append|ext)", fault) else None
    )
    others = [name for name, kind in stand_ins.items() if kind is _Dropped and not name.startswith("numpy")]
    if wanted is None or not others:
        return False
    stand_ins[others[-1]] = wanted
    return True


def _reason(path: Path, error: Exception) -> str:
    foreign = re.search(r"GLOBAL ([\w.]+)", str(error))
    if foreign:
        return f"contains an object of {foreign[1]}, which needs code to restore; {_RESAVE}"
    if path.stat().st_size == 0:
        return "is empty; fetch the checkpoint again"
    if path.name == "data.pkl" or (path.parent / "data.pkl").is_file():
        return "is a part of an unpacked checkpoint; name the whole file, or pack its folder as a zip file again"
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


def _entries(value: object, name: str, depth: int = 0) -> Iterator[tuple[str, object]]:
    """All entries with their places, mappings included: mappings that share each other may lead to no other entry."""
    if depth > _DEEPEST:  # Python's own limit is another where a library has raised it
        raise RecursionError
    yield name, value
    if isinstance(value, Mapping):
        for key, inner in value.items():
            place = f"{name}.{printable(str(key))}" if name else printable(str(key))
            yield from _entries(inner, place, depth + 1)


def _what(content: object) -> str:
    return "entries" if isinstance(content, Mapping) else f"a {type(content).__name__}"
