"""Read what `pclhd embed` wrote: embeddings with their images and their encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pclhd.data.records import Modality
from pclhd.errors import UserError
from pclhd.features.read import INFRARED, FeatureTable, load_pyarrow, read_features
from pclhd.parsing import open_tensors, parse_json

_SUFFIXES = (".parquet", ".safetensors")


@dataclass(frozen=True)
class EmbeddedFile:
    """Embeddings of images, read from a file.

    Attributes:
        features: (N, D).
        paths: The path of each image, as the file has it.
        modalities: The modality of each image.
        cameras: Its camera by number or name, None where unknown.
        model_id: Id of the encoder.
    """

    features: NDArray[np.float32]
    paths: tuple[str, ...]
    modalities: tuple[Modality, ...]
    cameras: tuple[int | str | None, ...]
    model_id: str


def read_embedded(path: Path) -> EmbeddedFile:
    """Read a ``.parquet`` or ``.safetensors`` file of `pclhd embed`.

    Raises:
        UserError: It is another kind of file, damaged, or lacks paths, modalities or the encoder's id.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise UserError(
            f"{path}: names no images and no encoder; expected a file of pclhd embed, {' or '.join(_SUFFIXES)}"
        )
    table = read_features(path)
    paths: Sequence[Any] | NDArray[Any] | None
    cameras: Sequence[Any] | NDArray[Any] | None
    if path.suffix.lower() == ".parquet":
        metadata = _parquet_metadata(path)
        paths = table.columns.get("path")
        cameras = table.columns.get("camera")
        modalities = [str(one) for one in table.columns.get("modality", ())]
    else:
        with open_tensors(path, "numpy") as file:
            metadata = file.metadata() or {}
        paths = _listed(metadata, "paths", path)
        cameras = _cameras(table, metadata, path)
        codes = table.columns.get("modality", ())
        modalities = ["infrared" if one == INFRARED else "visible" for one in codes]
    facts = _json(metadata.get("pclhd", "{}"), path)
    model_id = facts.get("model_id") if isinstance(facts, dict) else None
    if paths is None or len(modalities) != len(table) or len(paths) != len(table) or not isinstance(model_id, str):
        raise UserError(
            f"{path}: lacks paths, modalities or the encoder's id; make it with: pclhd embed RUN --out FILE"
        )
    if not set(modalities) <= set(Modality):
        raise UserError(f"{path}: has a modality other than visible and infrared; make it with: pclhd embed RUN")
    known = [None] * len(table) if cameras is None else [_camera(one) for one in cameras]
    return EmbeddedFile(
        table.features, tuple(map(str, paths)), tuple(map(Modality, modalities)), tuple(known), model_id
    )


def _camera(value: Any) -> int | str | None:
    if value is None or isinstance(value, str):
        return value
    return None if np.isnan(value) or value < 0 else int(value)


def _cameras(table: FeatureTable, metadata: dict[str, str], path: Path) -> list[Any] | NDArray[Any] | None:
    numbers = table.columns.get("camera")
    names = _listed(metadata, "camera_names", path)
    if numbers is None or names is None:
        return numbers
    return [names[number] if 0 <= number < len(names) else None for number in numbers.tolist()]


def _listed(metadata: dict[str, str], key: str, path: Path) -> list[Any] | None:
    if key not in metadata:
        return None
    values = _json(metadata[key], path)
    return values if isinstance(values, list) else None


def _parquet_metadata(path: Path) -> dict[str, str]:
    pa = load_pyarrow(path)
    saved = pa.parquet.read_schema(path).metadata or {}
    return {"pclhd": saved[b"pclhd"].decode("utf-8", "replace")} if b"pclhd" in saved else {}


def _json(text: str, path: Path) -> Any:
    try:
        return parse_json(text)
    except ValueError as error:
        raise UserError(
            f"{path}: its metadata are damaged; make it again with: pclhd embed RUN --out {path}"
        ) from error
