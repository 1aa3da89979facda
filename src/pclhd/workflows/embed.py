"""Embeddings of images with a run's final weights, as a file for whatever comes next: clustering, search, plots."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save as safetensors_bytes

from pclhd import __version__
from pclhd.config import DataSettings, load_settings
from pclhd.data.image_folders import IMAGE_EXTENSIONS, images_anywhere_in
from pclhd.data.images import load_images
from pclhd.data.open import open_dataset
from pclhd.data.records import Dataset, ImageRecord, Modality, digest_file
from pclhd.errors import ArgumentError
from pclhd.features.read import FEATURE_SUFFIXES, INFRARED, VISIBLE, listed, load_pyarrow
from pclhd.files import check_output, replacing
from pclhd.models.embed import embed_images, require_finite
from pclhd.models.two_stream import TwoStreamNetwork
from pclhd.workflows.exchange import load_final

_MODEL = "model.safetensors"
_BATCH = 256
# Images in memory at a time; whole batches, so that each batch holds what it would hold if all were in memory.
_CHUNK = 4 * _BATCH
_CODES = {Modality.VISIBLE: VISIBLE, Modality.INFRARED: INFRARED}
_UNKNOWN = -1
# Readers of safetensors accept no longer header.
_LONGEST_HEADER = 90_000_000


@dataclass(frozen=True)
class EmbeddedImage:
    """One row of the output.

    Attributes:
        record: The image.
        shown: Its path in the output: relative to the data set's folder, or as it was given.
        identity: The person, where the data says so. Nothing is computed from it.
        split: ``train`` or ``test``; None for images outside a data set.
    """

    record: ImageRecord
    shown: str
    identity: int | None = None
    split: str | None = None


@dataclass(frozen=True)
class EmbeddingRequest:
    """What to embed, and where to.

    Attributes:
        run: The run folder.
        out: File to make: ``.npy``, ``.safetensors`` or ``.parquet``.
        data: A data set; None for the run's own, unless there are `images`.
        layout: Its layout; None for the run's.
        split: ``train``, ``test``, or ``all``: both, and images that are in both once.
        images: Folders or image files instead of a data set.
        modality: What kind of light those were taken in.
        device: Where to compute; ``auto`` takes a GPU where there is one.
        force: Whether `out` may replace a file.
    """

    run: Path
    out: Path
    data: Path | None = None
    layout: str | None = None
    split: str = "all"
    images: tuple[Path, ...] = ()
    modality: Modality | None = None
    device: str = "auto"
    force: bool = False


def run_embedding(request: EmbeddingRequest, on_progress: Callable[[int, int], None] | None = None) -> int:
    """Embed images as the evaluation does (Lanczos filter, average with the mirror image, unit length), and save them.

    Args:
        request: What to embed.
        on_progress: Called with the number of images done and of all.

    Returns:
        The number of images.

    Raises:
        UserError: Something does not fit; no file is left behind then.
    """
    _check_out(request.out, force=request.force)
    settings = load_settings(request.run / "config.yaml")
    network = load_final(request.run)
    device = _device(request.device)
    rows = _find_images(request, settings.data)
    embeddings = embed_records(network.to(device), [row.record for row in rows], settings.data, on_progress=on_progress)
    require_finite(embeddings, request.run / _MODEL)
    facts = {
        "pclhd": __version__,
        "model_sha256": digest_file(request.run / _MODEL),
        "height": settings.data.height,
        "width": settings.data.width,
    }
    _write(request.out, embeddings, rows, facts)
    return len(rows)


def embed_records(
    network: TwoStreamNetwork,
    records: Sequence[ImageRecord],
    data: DataSettings,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Embed images from files, a few at a time in memory.

    Args:
        network: The encoder, on the device where to compute.
        records: The images, in any order.
        data: Height, width and the number of threads that decode.
        on_progress: Called with the number of images done and of all.

    Returns:
        (N, D) float32 of unit length, rows in the order of `records`.

    Raises:
        UserError: An image cannot be decoded.
    """
    embeddings = np.empty((len(records), network.embedding_size), dtype=np.float32)
    done = 0
    for modality, rows in _chunks(records):
        pixels = load_images(
            [records[row].path for row in rows], data.height, data.width, resample="lanczos", workers=data.workers
        )
        embeddings[rows] = embed_images(network, pixels, modality, batch_size=_BATCH).numpy()
        done += len(rows)
        if on_progress is not None:
            on_progress(done, len(records))
    return embeddings


def _chunks(records: Sequence[ImageRecord]) -> Iterator[tuple[Modality, list[int]]]:
    for modality in Modality:
        rows = [row for row, record in enumerate(records) if record.modality is modality]
        for start in range(0, len(rows), _CHUNK):
            yield modality, rows[start : start + _CHUNK]


def _find_images(request: EmbeddingRequest, data: DataSettings) -> list[EmbeddedImage]:
    if request.images:
        if request.data is not None or request.layout is not None or request.split != "all":
            raise ArgumentError("images", "takes no data set; leave out `data`, `layout` and `split`")
        if request.modality is None:
            raise ArgumentError("modality", "is missing: say whether `images` are visible or infrared")
        return _loose_images(request.images, request.modality)
    if request.modality is not None:
        raise ArgumentError("modality", "goes with `images` only; a data set knows its modalities")
    root = request.data or data.root
    if root is None:
        raise ArgumentError("data", "is missing: name a data set, or name folders with `images`")
    return _data_set_images(open_dataset(request.layout or data.layout, root, trial=data.trial), request.split)


def _loose_images(places: Sequence[Path], modality: Modality) -> list[EmbeddedImage]:
    paths: list[Path] = []
    for place in places:
        found = [place] if place.is_file() else images_anywhere_in(place)
        if not found:
            raise ArgumentError("images", f"no image there; expected files {listed(IMAGE_EXTENSIONS)}", value=place)
        paths += found
    return [EmbeddedImage(ImageRecord(path, modality), path.as_posix()) for path in dict.fromkeys(paths)]


def _data_set_images(dataset: Dataset, split: str) -> list[EmbeddedImage]:
    # One's own images may have been read from a CSV file; their paths are relative to its folder.
    folder = dataset.root.parent if dataset.root.is_file() else dataset.root
    rows: list[EmbeddedImage] = []
    if split in ("all", "train"):
        known = dataset.train_identities or (None,) * len(dataset.train)
        for record, identity in zip(dataset.train.images, known, strict=True):
            rows.append(EmbeddedImage(record, _shown(record.path, folder), identity, "train"))
    if split in ("all", "test"):
        if dataset.test is not None:
            # One's own labelled images may serve both.
            present = {row.record.path for row in rows}
            for record, identity in zip(dataset.test.images, dataset.test.identities, strict=True):
                if record.path not in present:
                    rows.append(EmbeddedImage(record, _shown(record.path, folder), identity, "test"))
        elif split == "test":
            raise ArgumentError("split", f"{dataset.root} has no labelled test images; leave it out", value=split)
    return rows


def _shown(path: Path, folder: Path) -> str:
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(1, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        said = str(error).splitlines()[0]
        raise ArgumentError(
            "device", f"cannot be used here ({said}); expected auto, cpu or cuda", value=name
        ) from error


def _check_out(path: Path, *, force: bool) -> None:
    check_output(path, FEATURE_SUFFIXES, "features", force=force)
    if path.suffix.lower() == ".parquet":
        load_pyarrow(path)


def _write(
    path: Path, embeddings: NDArray[np.float32], rows: Sequence[EmbeddedImage], facts: dict[str, object]
) -> None:
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
            pa.parquet.write_table(table.replace_schema_metadata({"pclhd": json.dumps(facts)}), file)


def _safetensors(
    path: Path, embeddings: NDArray[np.float32], rows: Sequence[EmbeddedImage], facts: dict[str, object]
) -> bytes:
    """Tensors for what is a number, −1 where it is not known; the paths stand in the metadata."""
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
        {"embedding": torch.from_numpy(embeddings), **tensors}, {"pclhd": json.dumps(facts), "paths": paths}
    )
