"""Export a run as an ONNX file with a model card, checked against torch on real images before it gets its name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pclhd import __version__
from pclhd.data.images import load_images
from pclhd.data.open import resolve_layout
from pclhd.data.records import Dataset, ImageRecord, LabelledImages, Modality
from pclhd.errors import ArgumentError, UserError
from pclhd.evaluation.evaluate import evaluate_embeddings
from pclhd.evaluation.examples import is_answerable
from pclhd.evaluation.protocols import protocol_for
from pclhd.files import check_output, claiming, replacing
from pclhd.models.encoder import Encoder, embed_records
from pclhd.models.onnx_encoder import OnnxEncoder
from pclhd.models.onnx_export import int8_bytes, onnx_bytes
from pclhd.runs.folder import RunFolder
from pclhd.workflows.train import open_data

#: Smallest cosine between the embeddings of torch and of onnxruntime, in single precision.
PARITY = 0.9999

_CHECKED = 64  # images per modality
_CALIBRATED = 128
_LARGEST_TEST = 4000


@dataclass(frozen=True)
class OnnxExport:
    """What was exported, and how it compares with torch.

    Attributes:
        file: The ONNX file.
        card: The model card beside it.
        precision: ``float32`` or ``int8``.
        images: Number of images that were compared.
        lowest_cosine: Smallest cosine between both embeddings of an image.
        mean_cosine: Mean cosine.
        accuracy: Rank-1 and mAP of torch and of the file by search, as fractions; empty without labelled test images.
        same_first: Share of images of each modality whose nearest image of the other one is the same for both.
    """

    file: Path
    card: Path
    precision: Literal["float32", "int8"]
    images: int
    lowest_cosine: float
    mean_cosine: float
    accuracy: dict[str, tuple[tuple[float, float], tuple[float, float]]]
    same_first: float


def export_onnx(
    run: Path, out: Path, *, data: Path | None = None, int8: bool = False, force: bool = False
) -> OnnxExport:
    """Write a run's final model as an ONNX file, and a model card (``.md``) beside it.

    Args:
        run: A run folder with a final model.
        out: The ``.onnx`` file.
        data: The run's data set, if it has moved: its images compare the file with torch.
        int8: Write 8-bit integers instead of single precision.
        force: Whether to replace existing files.

    Returns:
        How the file compares with torch.

    Raises:
        UserError: There is no model or no image, a package is missing, the network cannot be expressed, or the file's
            embeddings differ (single precision: a cosine below `PARITY`). Nothing is left then.
    """
    card = out.with_suffix(".md")
    check_output(out, (".onnx",), "an ONNX model", force=force)
    check_output(card, (".md",), "a model card", force=force)
    with claiming(out, replace=force), claiming(card, replace=force):
        folder = RunFolder(run)
        folder.require_model()
        settings = folder.settings()
        dataset = open_data(settings, data)
        encoder = Encoder.load(folder, device="cpu")
        records = _spread(dataset.train.images, _CHECKED)
        if not records:
            raise ArgumentError("data", f"{dataset.root} has no training image to compare the file with torch on")
        content = onnx_bytes(encoder)
        with TemporaryDirectory(prefix="pclhd-") as temporary:
            made = Path(temporary) / "model.onnx"
            made.write_bytes(content)
            _require_parity(made, encoder, records)
            if int8:
                content = int8_bytes(content, encoder, _crops(encoder, dataset, settings.data.workers))
                made.write_bytes(content)
            exported = OnnxEncoder(made)
            report = _compare(
                encoder,
                exported,
                records,
                dataset,
                out,
                card,
                layout=resolve_layout(settings.data.layout, dataset.root),
            )
        with replacing(card, replace=force) as text, replacing(out, replace=force) as file:
            text.write(card_text(report, folder, encoder, exported).encode())
            file.write(content)
    return report


def _spread(images: tuple[ImageRecord, ...], most: int) -> list[ImageRecord]:
    """At most `most` images of each modality, evenly spread over the training set."""
    chosen: list[ImageRecord] = []
    for modality in Modality:
        rows = [image for image in images if image.modality is modality]
        places = np.linspace(0, max(len(rows) - 1, 0), min(most, len(rows))).astype(np.int64)
        chosen += [rows[place] for place in places]
    return chosen


def _crops(encoder: Encoder, dataset: Dataset, workers: int) -> list[tuple[Modality, NDArray[np.uint8]]]:
    """Training images for the ranges of the 8-bit activations."""
    wanted = encoder.preprocessing
    crops = []
    for modality in Modality:
        images = [one for one in _spread(dataset.train.images, _CALIBRATED) if one.modality is modality]
        if images:
            pixels = load_images(
                [image.path for image in images],
                wanted.height,
                wanted.width,
                resample=wanted.resample,
                workers=workers,
                stretch=wanted.stretch(modality),
                upright=all(image.upright for image in images),
            )
            crops.append((modality, np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))))
    return crops


def _require_parity(file: Path, encoder: Encoder, records: list[ImageRecord]) -> None:
    torch_features, features = embed_records([encoder, OnnxEncoder(file)], records)
    lowest = float((torch_features * features).sum(axis=1).min())
    if not lowest >= PARITY:
        raise UserError(
            f"{encoder.origin}: the ONNX file would give other embeddings than torch (cosine {lowest:.5f} on "
            f"{len(records)} images, expected {PARITY}); nothing was written; report this with the run's settings"
        )


def _compare(
    encoder: Encoder,
    exported: OnnxEncoder,
    records: list[ImageRecord],
    dataset: Dataset,
    out: Path,
    card: Path,
    *,
    layout: str,
) -> OnnxExport:
    torch_features, features = embed_records([encoder, exported], records)
    cosines = (torch_features * features).sum(axis=1)
    visible = np.array([record.modality is Modality.VISIBLE for record in records])
    firsts = []
    for query, gallery in ((visible, ~visible), (~visible, visible)):
        if query.any() and gallery.any():
            ranked = [np.argmax(one[query] @ one[gallery].T, axis=1) for one in (torch_features, features)]
            firsts.append((ranked[0] == ranked[1]).mean())
    accuracy = {}
    if exported.facts.precision == "int8" and dataset.test is not None and len(dataset.test) <= _LARGEST_TEST:
        accuracy = _accuracy(encoder, exported, dataset.test, layout)
    return OnnxExport(
        out,
        card,
        exported.facts.precision,
        len(records),
        float(cosines.min()),
        float(cosines.mean()),
        accuracy,
        float(np.mean(firsts)) if firsts else float("nan"),
    )


def _accuracy(
    encoder: Encoder, exported: OnnxEncoder, test: LabelledImages, layout: str
) -> dict[str, tuple[tuple[float, float], tuple[float, float]]]:
    searches = [search for search in protocol_for(layout, test).searches if is_answerable(search, test)]
    if not searches:
        return {}
    figures: list[dict[str, tuple[float, float]]] = []
    for features in embed_records([encoder, exported], test.images):
        rows = [result.to_dict() for result in evaluate_embeddings(features, test, searches)]
        figures.append({row["search"]: (row["rank1"]["mean"], row["mAP"]["mean"]) for row in rows})
    return {name: (figures[0][name], figures[1][name]) for name in figures[0]}


def export_text(report: OnnxExport) -> str:
    """The comparison in a few lines."""
    lines = [
        f"{report.precision}: cosine with torch at least {report.lowest_cosine:.5f}, on average "
        f"{report.mean_cosine:.5f}, on {report.images} training images; the nearest image of the other modality is the "
        f"same for {100 * report.same_first:.1f} %"
    ]
    for search, ((rank1, mean_ap), (rank1_file, mean_ap_file)) in report.accuracy.items():
        lines.append(
            f"{search}: rank-1 {100 * rank1:.1f} → {100 * rank1_file:.1f}, mAP {100 * mean_ap:.1f} → "
            f"{100 * mean_ap_file:.1f} (torch → {report.precision})"
        )
    return "\n".join(lines)


def card_text(report: OnnxExport, run: RunFolder, encoder: Encoder, exported: OnnxEncoder) -> str:
    """The model card, in Markdown."""
    settings, facts, wanted = run.settings(), run.facts(), encoder.preprocessing
    training = {
        "model": f"`{settings.model.architecture}`, {encoder.embedding_size} values per embedding",
        "model id": f"`{exported.model_id}`",
        "made from": f"`{encoder.model_id}` (torch)",
        "recipe": f"`{settings.recipe}`, {settings.epochs} epochs, seed {settings.seed}",
        "labels used": "none" if settings.method.labels == "clusters" else settings.method.labels,
        "training images": f"checksum `{facts.get('data.training_checksum', 'not recorded')}`",
        "written by": f"pclhd {__version__}, {report.precision}",
    }
    stretch = [
        f"{modality} images with more than 8 bits: {wanted.stretch(modality)}"
        for modality in Modality
        if wanted.stretch(modality) is not None
    ]
    measured = "\n".join(f"* {line}" for line in export_text(report).splitlines())
    table = "\n".join(f"| {name} | {value} |" for name, value in training.items())
    extra = "".join(f"\n* {line}" for line in stretch)
    calibration = run.calibration()
    known = "none" if calibration is None else f"{calibration.source}; in the run's `{run.calibration_file.name}`"
    return f"""# {report.file.name}

An encoder of person crops, visible and infrared, for searching the same person across both.

| | |
|---|---|
{table}
| calibration | {known} |

## Input and output

* `images`: (N, {wanted.height}, {wanted.width}, 3) uint8, red, green, blue. Resize each crop to {wanted.width} × \
{wanted.height} with a {wanted.resample} filter first; infrared images repeat their channel three times.{extra}
* `infrared`: (N,) bool, true where an image is infrared.
* `embedding`: (N, {encoder.embedding_size}) float32 of unit length. The cosine of two is their similarity.

Normalisation{" and the average with the mirror image are" if wanted.mirror else " is"} part of the graph. N is free.

## Measured

{measured}

## Limits

The list of similar images that comes out is not an identification, and its first entry is often wrong, more so on
other cameras and other people than those of the training. Error rates may differ between groups of people; this was
not measured. Use it only on images that are collected and kept with a lawful basis, and never let it decide anything
about a person alone.
"""
