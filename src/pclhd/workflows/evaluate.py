"""Evaluate a run folder: every set of weights it holds, by the protocol of its data."""

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
from pclhd.runs.folder import RunFolder, trained_labels
from pclhd.runs.records import Results

#: Which labels a training has, by the setting ``method.labels``.
TRAINING = {"clusters": "unsupervised", "identities": "supervised", "visible_identities": "semi-supervised"}


def evaluate_run(
    run: RunFolder,
    dataset: Dataset,
    *,
    device: str = "auto",
    on_progress: Callable[[int, int], None] | None = None,
) -> Results:
    """Measure the start, stage I and final weights of a run. Nothing is written.

    The final weights are those after the last epoch, or those that a label-free selection chose; none is ever chosen
    by test results.

    Args:
        run: The run folder.
        dataset: Its data, with a test part.
        device: Where to embed; ``auto`` takes a GPU where there is one.
        on_progress: Called with the number of images embedded and of all.

    Returns:
        One row per search and set of weights, and a few ranked lists.

    Raises:
        UserError: There is no finished model, no test part, or nothing in it to search.
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
                # Drawn people come in the layouts of real data sets; nothing else distinguishes them later.
                "synthetic": is_drawn(dataset.folder),
            },
            "training": training,
            # An import has settings, but how it was trained is not known.
            "recipe": None if imported else settings.recipe,
            "seed": None if imported else settings.seed,
            "rows": rows,
            "ranked_examples": {"search": searches[0].name, "weights": examples},
        },
        extra="forbid",
    )


def _training(run: RunFolder, labels: str) -> str:
    """How the final weights were trained: what their file says, or else the labels of the training."""
    made = run.model_metadata().get("weights")
    return made if made in ("supervised", "imported") else TRAINING.get(labels, labels)
