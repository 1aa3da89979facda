"""Embed images with a run's weights and save the embeddings, for clustering, search or plots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pclhd import __version__
from pclhd.config import DataSettings
from pclhd.data.image_folders import FoundImages, images_anywhere_in
from pclhd.data.image_formats import FORMAT_NAMES
from pclhd.data.open import open_dataset
from pclhd.data.passed_over import PassedOver
from pclhd.data.records import NOBODY, Dataset, ImageRecord, Modality, digest_file
from pclhd.errors import ArgumentError
from pclhd.features.write import EmbeddedImage, check_embeddings_path, write_embeddings
from pclhd.files import claiming
from pclhd.models.encoder import embed_records
from pclhd.models.opening import Runtime, open_encoder
from pclhd.runs.folder import RunFolder, WeightsName
from pclhd.text_tables import escaped_bytes


@dataclass(frozen=True)
class EmbeddingRequest:
    """The arguments of `pclhd embed`.

    Attributes:
        run: The run folder, a model file, or an ONNX file.
        out: Output file: ``.npy``, ``.safetensors`` or ``.parquet``.
        data: A data set; None for the run's, unless there are `images`.
        layout: Layout of the data set; None for the run's.
        split: ``train``, ``test``, or ``all`` for both; images that are in both appear once.
        images: Folders or image files instead of a data set.
        modality: Modality of `images`.
        device: Device for the computation; ``auto`` uses a GPU if there is one.
        runtime: ``torch``, or ``onnx`` for the ONNX file in the run folder.
        weights: Which weights of a run folder: at the start, after stage I, or at the end.
        force: Whether to replace an existing `out`.
    """

    run: Path
    out: Path
    data: Path | None = None
    layout: str | None = None
    split: str = "all"
    images: tuple[Path, ...] = ()
    modality: Modality | None = None
    device: str = "auto"
    runtime: Runtime = "torch"
    weights: WeightsName = "final"
    force: bool = False


def run_embedding(
    request: EmbeddingRequest, on_progress: Callable[[int, int], None] | None = None
) -> tuple[int, PassedOver]:
    """Embed images as the evaluation does (Lanczos filter, average with the mirror image, unit length), and save them.

    Args:
        request: The arguments.
        on_progress: Called with the number of embedded images and the total.

    Returns:
        The number of images, and what was passed over where they were found.

    Raises:
        UserError: An argument or a file is unusable; no file is left.
    """
    check_embeddings_path(request.out, force=request.force)
    with claiming(request.out, replace=request.force):
        return _embed_claimed(request, on_progress)


def _embed_claimed(request: EmbeddingRequest, on_progress: Callable[[int, int], None] | None) -> tuple[int, PassedOver]:
    run = RunFolder(request.run)
    is_folder = request.run.suffix.lower() not in (".onnx", ".safetensors")
    source = request.run
    if request.weights != "final":
        if not is_folder or request.runtime != "torch":
            raise ArgumentError("weights", "applies only to a run folder and torch", value=request.weights)
        source = run.require_weights(request.weights)
    elif is_folder:
        run.require_model()
    data = run.settings().data if is_folder else DataSettings()
    encoder = open_encoder(source, device=request.device, runtime=request.runtime)
    rows, passed_over = _find_images(request, data)
    records = [row.record for row in rows]
    (embeddings,) = embed_records([encoder], records, workers=data.workers, on_progress=on_progress)
    facts = {
        "pclhd": __version__,
        "model_id": encoder.model_id,
        "model_sha256": None if encoder.origin is None else digest_file(encoder.origin),
        "height": encoder.preprocessing.height,
        "width": encoder.preprocessing.width,
    }
    write_embeddings(request.out, embeddings, rows, facts, replace=request.force)
    return len(rows), passed_over


def _find_images(request: EmbeddingRequest, data: DataSettings) -> tuple[list[EmbeddedImage], PassedOver]:
    if request.images:
        if request.data is not None or request.layout is not None or request.split != "all":
            raise ArgumentError("images", "takes no data set; leave out `data`, `layout` and `split`")
        if request.modality is None:
            raise ArgumentError("modality", "is missing: state whether `images` are visible or infrared")
        return loose_images(request.images, request.modality)
    if request.modality is not None:
        raise ArgumentError("modality", "applies only to `images`; a data set defines its modalities")
    root = request.data or data.root
    if root is None:
        raise ArgumentError("data", "is missing: name a data set, or name folders with `images`")
    dataset = open_dataset(request.layout or data.layout, root, trial=data.trial)
    return _data_set_images(dataset, request.split), dataset.passed_over


def loose_images(
    places: Sequence[Path], modality: Modality, *, argument: str = "images"
) -> tuple[list[EmbeddedImage], PassedOver]:
    """The images in folders, and image files, each once.

    Args:
        places: Folders and files.
        modality: The modality of all.
        argument: Where they were named, for messages.

    Raises:
        UserError: There is no image at one of the places.
    """
    paths: list[Path] = []
    passed_over = PassedOver()
    for place in places:
        found = FoundImages((place,)) if place.is_file() else images_anywhere_in(place)
        if not found.paths:
            raise ArgumentError(argument, f"no image there; expected {FORMAT_NAMES} files", value=place)
        paths += found.paths
        passed_over += found.passed_over
    records = [ImageRecord(path, modality, upright=True) for path in dict.fromkeys(paths)]
    return [EmbeddedImage(record, escaped_bytes(record.path.as_posix())) for record in records], passed_over


def _data_set_images(dataset: Dataset, split: str) -> list[EmbeddedImage]:
    rows: list[EmbeddedImage] = []
    if split in ("all", "train"):
        known = dataset.train_identities or (None,) * len(dataset.train)
        for record, identity in zip(dataset.train.images, known, strict=True):
            rows.append(_row(dataset, record, identity, "train"))
    if split in ("all", "test"):
        if dataset.test is not None:
            # Labelled images of your own may serve both.
            present = {row.record.path for row in rows}
            for row, record in enumerate(dataset.test.images):
                if record.path not in present:
                    identity = dataset.test.identities[row]
                    rows.append(_row(dataset, record, None if identity == NOBODY else identity, "test"))
        elif split == "test":
            raise ArgumentError("split", f"{dataset.root} has no labelled test images; leave it out", value=split)
    return rows


def _row(dataset: Dataset, record: ImageRecord, identity: int | None, split: str) -> EmbeddedImage:
    names = dataset.names
    return EmbeddedImage(
        record,
        _shown(record.path, dataset.folder),
        None if identity is None else names.identity(identity),
        split,
        names.camera(record.camera),
    )


def _shown(path: Path, folder: Path) -> str:
    return escaped_bytes((path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix())
