"""Evaluate a run folder: each of its sets of weights, by the protocol of its data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pclhd.data.layouts import held_out_people, is_drawn
from pclhd.data.near_copies import NEAR_COPY_BITS, image_hashes, nearest_hashes
from pclhd.data.open import resolve_layout
from pclhd.data.records import Dataset, LabelledImages, digest_files
from pclhd.errors import ArgumentError, UserError
from pclhd.evaluation.evaluate import evaluate_embeddings
from pclhd.evaluation.examples import (
    chosen_examples,
    confused_people,
    is_answerable,
    pair_similarities,
    ranked_examples,
)
from pclhd.evaluation.protocols import Protocol, Search, protocol_for
from pclhd.models.encoder import Encoder, embed_records
from pclhd.runs.folder import RunFolder, owning_run, trained_labels
from pclhd.runs.records import Results
from pclhd.runs.training_images import TrainingImages

#: The kind of training by the setting ``method.labels``.
TRAINING = {"clusters": "unsupervised", "identities": "supervised", "visible_identities": "semi-supervised"}

#: Layouts that number the people of both splits in one way. RegDB and LLCM number the training people apart.
_ONE_NUMBERING = frozenset({"sysu", "own"})
_EXAMPLES = 3


def evaluate_run(
    run: RunFolder,
    dataset: Dataset,
    *,
    device: str = "auto",
    on_progress: Callable[[int, int], None] | None = None,
    force: bool = False,
    write: bool = False,
) -> Results:
    """Measure the start, stage I and final weights of a run.

    The final weights are those after the last epoch, or those that a label-free selection chose; weights are never
    chosen by test results.

    Test images that the run was trained on are refused. Own data that name no test images are the exception: their
    labelled training images are the test by intent (`pclhd.data.folder.read_csv`), and the results say so.

    Args:
        run: The run folder.
        dataset: Its data, with a test part.
        device: Where to embed; ``auto`` takes a GPU where there is one.
        on_progress: Called with the number of images embedded and of all.
        force: Measure on test images that the run was trained on, too; the results say how many there are.
        write: Save the results in the run folder.

    Returns:
        Results with one row per search and set of weights, and a few ranked lists.

    Raises:
        UserError: There is no finished model, no test part, or nothing in it to search; test images were training
            images; or `run` cannot be written.
    """
    run.require_model()
    with owning_run(run) if write else nullcontext():
        results = _measure(run, dataset, device, on_progress, force=force)
        if write:
            run.write_results(results)
    return results


def _measure(
    run: RunFolder,
    dataset: Dataset,
    device: str,
    on_progress: Callable[[int, int], None] | None,
    *,
    force: bool,
) -> Results:
    settings = run.settings()
    test = dataset.test
    if test is None:
        raise UserError(
            f"{dataset.root}: has no labelled test images to evaluate on; to see what the model makes of images "
            f"without labels: pclhd report {run}"
        )
    layout = resolve_layout(settings.data.layout, dataset.root)
    protocol = _answerable(protocol_for(layout, test, same_camera_rule=settings.data.same_camera_rule), test)
    searches = protocol.searches
    training_images = _training_images(run, dataset)
    digests = digest_files([image.path for image in test.images])
    trained_on = [row for row, digest in enumerate(digests) if digest in (training_images or {})]
    if trained_on and not force and not _tests_on_its_training_images(dataset, test):
        example = _shown(test.images[trained_on[0]].path, dataset)
        raise ArgumentError(
            "data",
            f"{len(trained_on):,} of {len(test):,} test images were training images of this run, such as {example}; "
            "name data with other test images (RegDB: the trial of the training), or measure all the same with `force`",
        )
    encoders = {name: Encoder.load(path, device=device) for name, path in run.weights().items()}
    hashes = np.zeros((len(test), 32), dtype=np.uint8)

    def hash_pixels(rows: list[int], pixels: NDArray[np.uint8]) -> None:
        hashes[rows] = image_hashes(pixels)

    embedded = embed_records(
        list(encoders.values()),
        test.images,
        workers=settings.data.workers,
        on_progress=on_progress,
        on_pixels=hash_pixels,
    )
    shown = _search_to_show(searches)
    rows: list[dict[str, Any]] = []
    examples: dict[str, Any] = {}
    similarities: dict[str, Any] = {}
    for name, embeddings in zip(encoders, embedded, strict=True):
        results = evaluate_embeddings(embeddings, test, searches)
        rows.extend({"weights": name, **result.to_dict()} for result in results)
        if name != "stage1":
            examples[name] = ranked_examples(embeddings, test, shown, dataset.folder)
            similarities[name] = pair_similarities(embeddings, test)
    final = embedded[-1]
    training = _training(run, trained_labels(run) or settings.method.labels)
    imported = training == "imported"
    return Results.model_validate(
        {
            "schema": 1,
            "dataset": {
                "name": dataset.name,
                "checksum": dataset.train.checksum,
                "test_checksum": test.checksum(),
                "train_images": len(dataset.train),
                "test_images": len(test),
                # Recorded because synthetic people have the layouts of real data sets and cannot be distinguished
                # later.
                "synthetic": is_drawn(dataset.folder),
                "held_out": held_out_people(dataset.folder),
            },
            "training": training,
            # The settings of an import do not describe its training.
            "recipe": None if imported else settings.recipe,
            "seed": None if imported else settings.seed,
            "trained_on_test_images": None if training_images is None else len(trained_on),
            "near_copies": _near_copies(dataset, test, hashes, training_images, without=trained_on),
            "people_in_both_splits": _people_in_both_splits(dataset, test, layout, training_images),
            "left_out": dict(protocol.left_out),
            "rows": rows,
            "ranked_examples": {
                "search": shown.name,
                "weights": examples,
                "chosen": chosen_examples(final, test, shown, dataset.folder),
            },
            "similarities": similarities,
            "confused": confused_people(final, test, shown, dataset.folder),
        },
        extra="forbid",
    )


def _answerable(protocol: Protocol, test: LabelledImages) -> Protocol:
    """The protocol without searches in which no query has a correct gallery image; if there are no others, as it is."""
    kept = tuple(search for search in protocol.searches if is_answerable(search, test))
    if not kept:
        return protocol  # the measurement refuses it, with the reason
    none = {search.name: "no query has a correct gallery image" for search in protocol.searches if search not in kept}
    return replace(protocol, searches=kept, left_out={**protocol.left_out, **none})


def _search_to_show(searches: Sequence[Search]) -> Search:
    """The search of the examples: infrared queries where there is a choice, as in the benchmarks."""
    return next((search for search in searches if search.direction == "infrared→visible"), searches[0])


def _training_images(run: RunFolder, dataset: Dataset) -> TrainingImages | None:
    """What a run was trained on: its record, or else the data set's training images if their checksum is the run's."""
    recorded = run.training_images()
    if recorded is None and run.facts().get("data.training_checksum") == dataset.train.checksum:
        return dict.fromkeys(dataset.train.digests)
    return recorded


def _tests_on_its_training_images(dataset: Dataset, test: LabelledImages) -> bool:
    """Whether the data name no test images, and so their labelled training images are the test."""
    return {image.path for image in test.images} <= {image.path for image in dataset.train.images}


def _near_copies(
    dataset: Dataset,
    test: LabelledImages,
    hashes: NDArray[np.uint8],
    training_images: TrainingImages | None,
    *,
    without: list[int],
) -> dict[str, Any] | None:
    """Test images whose pixels are nearly those of a training image; None where no hashes of these are known."""
    known = {digest: value for digest, value in (training_images or {}).items() if value is not None}
    if not known:
        return None
    rows = np.setdiff1d(np.arange(len(test)), without)
    among = np.array([list(bytes.fromhex(value)) for value in known.values()], dtype=np.uint8)
    nearest, bits = nearest_hashes(hashes[rows], among)
    near = np.flatnonzero(bits <= NEAR_COPY_BITS)
    digests = list(known)
    paths = dict(zip(dataset.train.digests, (image.path for image in dataset.train.images), strict=True))
    examples = []
    for found in near[:_EXAMPLES].tolist():
        original = paths.get(digests[int(nearest[found])])
        copied = "" if original is None else f" ({_shown(original, dataset)})"
        examples.append(_shown(test.images[int(rows[found])].path, dataset) + copied)
    return {"count": len(near), "examples": examples}


def _people_in_both_splits(
    dataset: Dataset, test: LabelledImages, layout: str, training_images: Mapping[str, str | None] | None
) -> list[int]:
    """Test people of whom the run had training images, as far as their identities are known."""
    if layout not in _ONE_NUMBERING or training_images is None or _tests_on_its_training_images(dataset, test):
        return []
    identities = dataset.train_identities or ()
    trained = {one for one, digest in zip(identities, dataset.train.digests, strict=False) if digest in training_images}
    return sorted(trained & set(test.identities))


def _shown(path: Path, dataset: Dataset) -> str:
    return (path.relative_to(dataset.folder) if path.is_relative_to(dataset.folder) else path).as_posix()


def _training(run: RunFolder, labels: str) -> str:
    """How the final weights were trained: what their file says, or else the labels of the training."""
    made = run.model_metadata().get("weights")
    return made if made in ("supervised", "imported") else TRAINING.get(labels, labels)
