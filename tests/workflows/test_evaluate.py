from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pclhd.config import load_preset
from pclhd.data.open import open_dataset
from pclhd.data.records import Dataset
from pclhd.errors import UserError
from pclhd.models.two_stream import NARROW, TwoStreamNetwork
from pclhd.models.weights import save_model
from pclhd.runs.folder import RunFolder, WeightsName
from pclhd.streams import Streams
from pclhd.workflows.evaluate import evaluate_run


@pytest.fixture(scope="module")
def dataset(tiny_sysu: Path) -> Dataset:
    return open_dataset("sysu", tiny_sysu)


def network(seed: int) -> TwoStreamNetwork:
    return TwoStreamNetwork(NARROW, generator=Streams(seed).torch("network")).eval()


def write_run(path: Path, *names: WeightsName, settings: tuple[str, ...] = (), made: str = "final") -> RunFolder:
    run = RunFolder(path)
    run.checkpoints_folder.mkdir(parents=True)
    run.write_settings(load_preset("tiny", ["data.height=48", "data.width=24", *settings]))
    for seed, name in enumerate(names):
        save_model(run.weights_file(name), network(seed), {"weights": made})
    return run


def test_all_weights_there_are_are_measured(dataset: Dataset, tmp_path: Path) -> None:
    run = write_run(tmp_path, "final", "start", settings=("seed=5", "recipe=paper"))
    results = evaluate_run(run, dataset)
    assert not run.results_file.exists(), "nothing is written unless asked"
    run.write_results(results)
    assert run.results() == results
    assert json.loads(run.results_file.read_text("utf-8")) == results.to_dict()
    assert list(dict.fromkeys(row.weights for row in results.rows)) == ["start", "final"]
    assert (results.recipe, results.seed) == ("paper", 5)
    assert results.dataset.checksum == dataset.train.checksum
    assert results.ranked_examples.weights.keys() == {"start", "final"}
    first, last = ([row.mAP for row in results.rows if row.weights == name] for name in ("start", "final"))
    assert first != last
    assert evaluate_run(run, dataset) == results


def test_progress_counts_the_test_images(dataset: Dataset, tmp_path: Path) -> None:
    assert dataset.test is not None
    seen: list[tuple[int, int]] = []
    evaluate_run(write_run(tmp_path, "final"), dataset, on_progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(dataset.test), len(dataset.test))


def test_a_device_that_is_not_there(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nonsense"):
        evaluate_run(write_run(tmp_path, "final"), dataset, device="nonsense")


def test_an_unfinished_training(dataset: Dataset, tmp_path: Path) -> None:
    run = write_run(tmp_path, "start")
    with pytest.raises(UserError, match="training is not finished; continue with: pclhd train --resume"):
        evaluate_run(run, dataset)


def test_no_test_part(dataset: Dataset, tmp_path: Path) -> None:
    run = write_run(tmp_path, "final")
    with pytest.raises(UserError, match="no labelled test images"):
        evaluate_run(run, replace(dataset, test=None))


def test_the_results_say_whether_the_people_were_drawn(dataset: Dataset, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "final")
    assert evaluate_run(run, dataset).dataset.synthetic is True
    # Without the generator's own file, data counts as real.
    root = tmp_path / "copy"
    shutil.copytree(dataset.root, root, ignore=shutil.ignore_patterns("synthetic.json"))
    assert evaluate_run(run, open_dataset("sysu", root)).dataset.synthetic is False


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
    run = write_run(tmp_path, "final", settings=(f"method.labels={labels}",), made=made)
    assert evaluate_run(run, dataset).training == training
