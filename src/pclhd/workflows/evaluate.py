"""Evaluate a run folder: every set of weights it holds, by the protocol of its data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pclhd.config import Settings
from pclhd.data.images import load_images
from pclhd.data.open import resolve_layout
from pclhd.data.records import Dataset, LabelledImages, Modality
from pclhd.errors import UserError
from pclhd.evaluation.evaluate import evaluate_embeddings, ranked_examples
from pclhd.evaluation.protocols import searches_for
from pclhd.files import write_durably
from pclhd.models.embed import embed_images, require_finite
from pclhd.models.two_stream import TwoStreamNetwork
from pclhd.models.weights import load_model, model_metadata
from pclhd.synthetic.write import FACTS_NAME

#: The weights a run may hold, in the order of training.
WEIGHTS = {
    "start": Path("checkpoints") / "start.safetensors",
    "stage1": Path("checkpoints") / "stage1.safetensors",
    "final": Path("model.safetensors"),
}

#: Which labels a training has, by the setting ``method.labels``.
TRAINING = {"clusters": "unsupervised", "identities": "supervised", "visible_identities": "semi-supervised"}


def evaluate_run(run: Path, settings: Settings, dataset: Dataset) -> dict[str, Any]:
    """Measure all weights of a run and write ``results.json``.

    The final weights are those after the last epoch; no other is ever chosen by looking at test results.

    Args:
        run: The run folder.
        settings: Its settings.
        dataset: Its data, with a test part.

    Returns:
        What was written.

    Raises:
        UserError: There is no finished model, no test part, or nothing in it to search.
    """
    final = run / WEIGHTS["final"]
    if not final.exists():
        raise UserError(f"{final}: is missing, the training is not finished; go on with: pclhd train --resume {run}")
    test = dataset.test
    if test is None:
        raise UserError(f"{dataset.root}: has no labelled test images to evaluate on")
    layout = resolve_layout(settings.data.layout, dataset.root)
    searches = searches_for(layout, test, same_camera_rule=settings.data.same_camera_rule)
    pixels = load_test_images(test, settings)
    # One's own images may have been read from a CSV file; their paths are relative to its folder.
    folder = dataset.root.parent if dataset.root.is_file() else dataset.root
    rows: list[dict[str, Any]] = []
    examples: dict[str, Any] = {}
    for name, path in WEIGHTS.items():
        if not (run / path).exists():
            continue
        embeddings = embed_test(load_model(run / path), test, pixels)
        require_finite(embeddings, run / path)
        results = evaluate_embeddings(embeddings, test, searches)
        rows.extend({"weights": name, **result.to_dict()} for result in results)
        if name != "stage1":
            examples[name] = ranked_examples(embeddings, test, searches[0], folder)
    training = _training(final, settings)
    results_tree = {
        "schema": 1,
        "dataset": {
            "name": dataset.name,
            "checksum": dataset.train.checksum,
            "test_checksum": test.checksum(),
            "train_images": len(dataset.train),
            "test_images": len(test),
            # Drawn people come in the layouts of real data sets; nothing else tells them apart later.
            "synthetic": (folder / FACTS_NAME).is_file(),
        },
        "training": training,
        # An import has settings, but nobody knows what it was trained with.
        "recipe": None if training == "imported" else settings.recipe,
        "seed": None if training == "imported" else settings.seed,
        "rows": rows,
        "ranked_examples": {"search": searches[0].name, "weights": examples},
    }
    write_durably(run / "results.json", json.dumps(results_tree, indent=1, ensure_ascii=False) + "\n")
    return results_tree


def _training(model: Path, settings: Settings) -> str:
    """How final weights came to be: what their file says, or else the settings."""
    made = model_metadata(model).get("weights")
    return made if made in ("supervised", "imported") else TRAINING[settings.method.labels]


def embed_test(
    network: TwoStreamNetwork, test: LabelledImages, pixels: dict[Modality, NDArray[np.uint8]]
) -> NDArray[np.float32]:
    """Embeddings (N, D) of the test images, unit length, rows in the order of `test`."""
    embeddings = np.empty((len(test), network.embedding_size), dtype=np.float32)
    for modality, images in pixels.items():
        embeddings[_rows(test, modality)] = embed_images(network, images, modality).numpy()
    return embeddings


def load_test_images(test: LabelledImages, settings: Settings) -> dict[Modality, NDArray[np.uint8]]:
    """The test images' bytes (N, 3, H, W) by modality, in the order of `test`."""
    data = settings.data
    return {
        modality: load_images(
            [test.images[row].path for row in _rows(test, modality)],
            data.height,
            data.width,
            # The released code resizes test images with another filter than training images.
            resample="lanczos",
            workers=data.workers,
        )
        for modality in Modality
    }


def _rows(test: LabelledImages, modality: Modality) -> list[int]:
    return [row for row, image in enumerate(test.images) if image.modality is modality]
