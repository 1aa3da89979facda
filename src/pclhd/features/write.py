"""Write embeddings to a file: one row per image, in a format that `pclhd.features.read` reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save as safetensors_bytes

from pclhd.data.records import ImageRecord, Modality
from pclhd.errors import ArgumentError
from pclhd.features.read import FEATURE_SUFFIXES, INFRARED, VISIBLE, load_pyarrow
from pclhd.files import check_output, replacing

_CODES = {Modality.VISIBLE: VISIBLE, Modality.INFRARED: INFRARED}
_UNKNOWN = -1
# Safetensors readers do not accept longer headers.
_LONGEST_HEADER = 90_000_000


@dataclass(frozen=True)
class EmbeddedImage:
    """One row of an embeddings file.

    Attributes:
        record: The image.
        shown: Its path in the file: relative to the data set's folder, or as it was given.
        identity: The person by number or name, where the data says so. Nothing is computed from it.
        split: ``train`` or ``test``; None for images outside a data set.
        camera: Its number or name, where the data says so.
    """

    record: ImageRecord
    shown: str
    identity: int | str | None = None
    split: str | None = None
    camera: int | str | None = None


def check_embeddings_path(path: Path, *, force: bool) -> None:
    """Check that embeddings can be written to a path.

    Args:
        path: The file.
        force: Whether to replace an existing file.

    Raises:
        ArgumentError: It exists already, its folder does not, or its suffix is unknown.
    """
    check_output(path, FEATURE_SUFFIXES, "features", force=force)
    if path.suffix.lower() == ".parquet":
        load_pyarrow(path)


class _Output:
    """A file that numpy does not recognise as one: into those it writes by itself, and a full disk has no name then."""

    def __init__(self, file: BinaryIO) -> None:
        self.write = file.write


def write_npy(file: BinaryIO, array: NDArray[Any]) -> None:
    """Write an array as `numpy.save` does.

    Raises:
        OSError: It cannot be written; the error says why.
    """
    np.lib.format.write_array(_Output(file), array, allow_pickle=False)


def write_embeddings(
    path: Path,
    embeddings: NDArray[np.float32],
    rows: Sequence[EmbeddedImage],
    facts: Mapping[str, object],
    *,
    replace: bool = True,
) -> None:
    """Write embeddings and the data of their images.

    Args:
        path: ``.npy`` (embeddings only), ``.safetensors`` or ``.parquet``.
        embeddings: (N, D).
        rows: The images.
        facts: What made them; kept in the file where its kind has room for it.
        replace: Whether it may replace a file.

    Raises:
        UserError: The file cannot be written.
    """
    suffix = path.suffix.lower()
    with replacing(path, replace=replace) as file:
        if suffix == ".npy":
            write_npy(file, embeddings)
        elif suffix == ".safetensors":
            file.write(_safetensors(path, embeddings, rows, facts))
        else:
            pa = load_pyarrow(path)
            width = embeddings.shape[1]
            columns = {
                "path": pa.array([row.shown for row in rows]),
                "modality": pa.array([str(row.record.modality) for row in rows]),
                "camera": _names_or_numbers(pa, [row.camera for row in rows]),
                "identity": _names_or_numbers(pa, [row.identity for row in rows]),
                "split": pa.array([row.split for row in rows], pa.string()),
                "embedding": pa.FixedSizeListArray.from_arrays(pa.array(embeddings.reshape(-1)), width),
            }
            table = pa.table({name: column for name, column in columns.items() if column.null_count < len(rows)})
            pa.parquet.write_table(table.replace_schema_metadata({"pclhd": json.dumps(dict(facts))}), file)


def _safetensors(
    path: Path, embeddings: NDArray[np.float32], rows: Sequence[EmbeddedImage], facts: Mapping[str, object]
) -> bytes:
    """Tensors for what is a number, −1 where it is not known; the paths and the names are in the metadata."""
    cameras, camera_names = _numbered([row.camera for row in rows])
    identities, identity_names = _numbered([row.identity for row in rows])
    columns = {
        "modality": [_CODES[row.record.modality] for row in rows],
        "camera": cameras,
        "identity": identities,
    }
    names = {"camera_names": camera_names, "identity_names": identity_names}
    tensors = {
        name: torch.tensor(values, dtype=torch.int64)
        for name, values in columns.items()
        if any(value != _UNKNOWN for value in values)
    }
    paths = json.dumps([row.shown for row in rows], ensure_ascii=False)
    if len(json.dumps(paths, ensure_ascii=False).encode()) > _LONGEST_HEADER:
        raise ArgumentError(
            "out", "too many paths for the header of a .safetensors file; write .parquet instead", value=path
        )
    metadata = {"pclhd": json.dumps(dict(facts)), "paths": paths}
    metadata |= {name: json.dumps(known, ensure_ascii=False) for name, known in names.items() if known}
    return safetensors_bytes({"embedding": torch.from_numpy(embeddings), **tensors}, metadata)


def _names_or_numbers(pa: Any, values: Sequence[int | str | None]) -> Any:
    """A column of numbers, or of text if one of them is a name."""
    if any(isinstance(value, str) for value in values):
        return pa.array([None if value is None else str(value) for value in values], pa.string())
    return pa.array(values, pa.int64())


def _numbered(values: Sequence[int | str | None]) -> tuple[list[int], list[str]]:
    """Numbers, −1 where nothing is known; and, if one value is a name, the names by number."""
    if not any(isinstance(value, str) for value in values):
        return [_UNKNOWN if value is None else int(value) for value in values], []
    names = sorted({str(value) for value in values if value is not None})
    numbers = {name: number for number, name in enumerate(names)}
    return [_UNKNOWN if value is None else numbers[str(value)] for value in values], names
