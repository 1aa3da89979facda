from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pclhd.config import Settings, load_preset
from pclhd.data.images import load_images
from pclhd.data.open import open_dataset
from pclhd.data.records import Dataset, Modality
from pclhd.errors import UserError
from pclhd.models.embed import embed_images
from pclhd.models.two_stream import NARROW, TwoStreamNetwork
from pclhd.models.weights import save_model
from pclhd.streams import Streams
from pclhd.workflows import evaluate as module
from pclhd.workflows.evaluate import embed_test, evaluate_run


def settings(*overrides: str) -> Settings:
    return load_preset("tiny", ["data.height=48", "data.width=24", *overrides])


@pytest.fixture(scope="module")
def dataset(tiny_sysu: Path) -> Dataset:
    return open_dataset("sysu", tiny_sysu)


def network(seed: int) -> TwoStreamNetwork:
    return TwoStreamNetwork(NARROW, generator=Streams(seed).torch("network")).eval()


def write_run(run: Path, *names: str) -> None:
    (run / "checkpoints").mkdir(parents=True)
    for seed, name in enumerate(names):
        save_model(run / module.WEIGHTS[name], network(seed))


def test_all_weights_there_are_are_measured(dataset: Dataset, tmp_path: Path) -> None:
    write_run(tmp_path, "final", "start")
    results = evaluate_run(tmp_path, settings("seed=5", "recipe=paper"), dataset)
    assert json.loads((tmp_path / "results.json").read_text("utf-8")) == results
    assert list(dict.fromkeys(row["weights"] for row in results["rows"])) == ["start", "final"]
    assert (results["recipe"], results["seed"]) == ("paper", 5)
    assert results["dataset"]["checksum"] == dataset.train.checksum
    assert results["ranked_examples"]["weights"].keys() == {"start", "final"}
    first, last = ([row["mAP"] for row in results["rows"] if row["weights"] == name] for name in ("start", "final"))
    assert first != last
    before = (tmp_path / "results.json").read_bytes()
    evaluate_run(tmp_path, settings("seed=5", "recipe=paper"), dataset)
    assert (tmp_path / "results.json").read_bytes() == before


def test_embeddings_stand_in_the_order_of_the_test_images(dataset: Dataset) -> None:
    assert dataset.test is not None
    # Any order: here the modalities alternate.
    order = np.random.default_rng(0).permutation(len(dataset.test))[:12]
    test = replace(
        dataset.test,
        images=tuple(dataset.test.images[row] for row in order),
        identities=tuple(dataset.test.identities[row] for row in order),
    )
    pixels = module.load_test_images(test, settings())
    embeddings = embed_test(network(0), test, pixels)
    for image, embedding in zip(test.images, embeddings, strict=True):
        alone = load_images([image.path], 48, 24, resample="lanczos", workers=1)
        expected = embed_images(network(0), alone, image.modality)[0].numpy()
        np.testing.assert_allclose(embedding, expected, atol=1e-5)
    assert {image.modality for image in test.images} == set(Modality)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-5)


def test_an_unfinished_training(dataset: Dataset, tmp_path: Path) -> None:
    write_run(tmp_path, "start")
    with pytest.raises(UserError, match="training is not finished; go on with: pclhd train --resume"):
        evaluate_run(tmp_path, settings(), dataset)
    assert not (tmp_path / "results.json").exists()


def test_no_test_part(dataset: Dataset, tmp_path: Path) -> None:
    write_run(tmp_path, "final")
    with pytest.raises(UserError, match="no labelled test images"):
        evaluate_run(tmp_path, settings(), replace(dataset, test=None))


def test_the_results_say_whether_the_people_were_drawn(dataset: Dataset, tmp_path: Path) -> None:
    write_run(tmp_path / "run", "final")
    assert evaluate_run(tmp_path / "run", settings(), dataset)["dataset"]["synthetic"] is True
    # What else would tell real data from a copy: without the generator's own file, data is taken for real.
    root = tmp_path / "copy"
    shutil.copytree(dataset.root, root, ignore=shutil.ignore_patterns("synthetic.json"))
    results = evaluate_run(tmp_path / "run", settings(), open_dataset("sysu", root))
    assert results["dataset"]["synthetic"] is False


@pytest.mark.parametrize(
    ("made", "labels", "training"),
    [
        ("final", "clusters", "unsupervised"),
        ("final", "identities", "supervised"),
        ("final", "visible_identities", "semi-supervised"),
        ("supervised", "clusters", "supervised"),
        ("imported", "clusters", "imported"),
    ],
)
def test_the_results_say_which_labels_trained(
    dataset: Dataset, tmp_path: Path, made: str, labels: str, training: str
) -> None:
    save_model(tmp_path / "model.safetensors", network(0), {"weights": made})
    results = evaluate_run(tmp_path, settings(f"method.labels={labels}"), dataset)
    assert results["training"] == training
