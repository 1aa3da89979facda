"""Write embeddings to a file: one row per image, in a format that `pclhd.features.read` reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
        record: The image record.
        shown: Path to write: relative to the data set's folder, or as given.
        identity: The person, if the data set has identities. Nothing is computed from it.
        split: ``train`` or ``test``; None for images outside a data set.
    """

    record: ImageRecord
    shown: str
    identity: int | None = None
    split: str | None = None


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


def write_embeddings(
    path: Path, embeddings: NDArray[np.float32], rows: Sequence[EmbeddedImage], facts: Mapping[str, object]
) -> None:
    """Write embeddings and the data of their images.

    Args:
        path: ``.npy`` (embeddings only), ``.safetensors`` or ``.parquet``.
        embeddings: (N, D).
        rows: The images.
        facts: Origin of the embeddings; stored in the file if its format supports metadata.

    Raises:
        UserError: The file cannot be written.
    """
    suffix = path.suffix.lower()
    with replacing(path) as file:
        if suffix == ".npy":
            np.save(file, embeddings)
        elif suffix == ".safetensors":
            file.write(_safetensors(path, embeddings, rows, facts))
        else:
            pa = load_pyarrow(path)
            width = embeddings.shape[1]
            columns = {
                "path": pa.array([row.shown for row in rows]),
                "modality": pa.array([str(row.record.modality) for row in rows]),
                "camera": pa.array([row.record.camera for row in rows], pa.int64()),
                "identity": pa.array([row.identity for row in rows], pa.int64()),
                "split": pa.array([row.split for row in rows], pa.string()),
                "embedding": pa.FixedSizeListArray.from_arrays(pa.array(embeddings.reshape(-1)), width),
            }
            table = pa.table({name: column for name, column in columns.items() if column.null_count < len(rows)})
            pa.parquet.write_table(table.replace_schema_metadata({"pclhd": json.dumps(dict(facts))}), file)


def _safetensors(
    path: Path, embeddings: NDArray[np.float32], rows: Sequence[EmbeddedImage], facts: Mapping[str, object]
) -> bytes:
    """Numbers as tensors, −1 where unknown; the paths are in the metadata."""
    columns = {
        "modality": [_CODES[row.record.modality] for row in rows],
        "camera": [_UNKNOWN if row.record.camera is None else row.record.camera for row in rows],
        "identity": [_UNKNOWN if row.identity is None else row.identity for row in rows],
    }
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
    return safetensors_bytes(
        {"embedding": torch.from_numpy(embeddings), **tensors}, {"pclhd": json.dumps(dict(facts)), "paths": paths}
    )
