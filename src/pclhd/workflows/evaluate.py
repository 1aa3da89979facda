"""Evaluate a run folder: each of its sets of weights, by the protocol of its data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pclhd.data.layouts import is_drawn
from pclhd.data.open import resolve_layout
from pclhd.data.records import Dataset
from pclhd.errors import UserError
from pclhd.evaluation.evaluate import evaluate_embeddings, ranked_examples
from pclhd.evaluation.protocols import searches_for
from pclhd.models.encoder import Encoder, embed_records
from pclhd.runs.folder import RunFolder
from pclhd.runs.records import Results

#: The kind of training by the setting ``method.labels``.
TRAINING = {"clusters": "unsupervised", "identities": "supervised", "visible_identities": "semi-supervised"}


def evaluate_run(
    run: RunFolder,
    dataset: Dataset,
    *,
    device: str = "auto",
    on_progress: Callable[[int, int], None] | None = None,
) -> Results:
    """Measure the start, stage I and final weights of a run. No file is written.

    The final weights are those after the last epoch, or those that a label-free selection chose; weights are never
    chosen by test results.

    Args:
        run: The run folder.
        dataset: Its data set, with a test part.
        device: Device for embedding; ``auto`` uses a GPU if there is one.
        on_progress: Called with the number of embedded images and the total.

    Returns:
        Results with one row per search and set of weights, and a few ranked lists.

    Raises:
        UserError: There is no finished model, no test part, or the test part has no queries or gallery.
    """
    run.require_model()
    settings = run.settings()
    test = dataset.test
    if test is None:
        raise UserError(f"{dataset.root}: has no labelled test images to evaluate on")
    layout = resolve_layout(settings.data.layout, dataset.root)
    searches = searches_for(layout, test, same_camera_rule=settings.data.same_camera_rule)
    encoders = {name: Encoder.load(path, device=device) for name, path in run.weights().items()}
    embedded = embed_records(
        list(encoders.values()), test.images, workers=settings.data.workers, on_progress=on_progress
    )
    rows: list[dict[str, Any]] = []
    examples: dict[str, Any] = {}
    for name, embeddings in zip(encoders, embedded, strict=True):
        results = evaluate_embeddings(embeddings, test, searches)
        rows.extend({"weights": name, **result.to_dict()} for result in results)
        if name != "stage1":
            examples[name] = ranked_examples(embeddings, test, searches[0], dataset.folder)
    training = _training(run, settings.method.labels)
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
            },
            "training": training,
            # The settings of an import do not describe its training.
            "recipe": None if imported else settings.recipe,
            "seed": None if imported else settings.seed,
            "rows": rows,
            "ranked_examples": {"search": searches[0].name, "weights": examples},
        },
        extra="forbid",
    )


def _training(run: RunFolder, labels: str) -> str:
    """How the final weights were trained: from the metadata of their file, or else from the settings."""
    made = run.model_metadata().get("weights")
    return made if made in ("supervised", "imported") else TRAINING[labels]
