from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from pclhd.config import load_preset
from pclhd.data.images import load_images
from pclhd.data.near_copies import image_hashes
from pclhd.data.open import open_dataset
from pclhd.data.records import Dataset, LabelledImages
from pclhd.errors import UserError
from pclhd.models.two_stream import NARROW, TwoStreamNetwork
from pclhd.models.weights import save_model
from pclhd.report.tables import results_text
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
    drawn = evaluate_run(run, dataset).dataset
    assert (drawn.synthetic, drawn.held_out) == (True, None)  # version 1 does not divide people
    # Without the generator's own file, data counts as real.
    root = tmp_path / "copy"
    shutil.copytree(dataset.root, root, ignore=shutil.ignore_patterns("synthetic.json"))
    real = evaluate_run(run, open_dataset("sysu", root)).dataset
    assert (real.synthetic, real.held_out) == (False, None)
    mark = {"parameters": {"held_out": "test"}}
    (root / "synthetic.json").write_text(json.dumps(mark), encoding="utf-8")
    assert evaluate_run(run, open_dataset("sysu", root)).dataset.held_out == "test"


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


# The run's own record of its training.


def record(run: RunFolder, dataset: Dataset) -> None:
    """What a training writes: digests and hashes of its images."""
    images = dataset.train.images
    pixels = load_images([image.path for image in images], 48, 24, resample="bicubic")
    hashes = [row.tobytes().hex() for row in image_hashes(pixels)]
    run.write_training_images(dict(zip(dataset.train.digests, hashes, strict=True)))


@pytest.fixture
def regdb(tiny_regdb: Path, tmp_path: Path) -> Path:
    """Two trials: what is the test of the first is the training of the second."""
    root = tmp_path / "regdb"
    shutil.copytree(tiny_regdb, root, ignore=shutil.ignore_patterns("idx"))
    (root / "idx").mkdir()
    for kind in ("visible", "thermal"):
        for split, other in (("train", "test"), ("test", "train")):
            lines = (tiny_regdb / "idx" / f"{split}_{kind}_1.txt").read_text()
            (root / "idx" / f"{split}_{kind}_1.txt").write_text(lines)
            (root / "idx" / f"{other}_{kind}_2.txt").write_text(lines)
    return root


def test_another_trial_tests_on_training_images(regdb: Path, tmp_path: Path) -> None:
    own, other = (open_dataset("regdb", regdb, trial=trial) for trial in (1, 2))
    run = write_run(tmp_path / "run", "final")
    record(run, own)
    assert evaluate_run(run, own).trained_on_test_images == 0
    assert other.test is not None
    tested = len(other.test)
    with pytest.raises(UserError, match=rf"{tested} of {tested} test images were .* such as \w+/.*`force`"):
        evaluate_run(run, other)
    results = evaluate_run(run, other, force=True)
    assert results.trained_on_test_images == tested
    # RegDB numbers the people of each split from 0: equal numbers are not equal people.
    assert results.people_in_both_splits == []
    assert f"note: the weights were trained on {tested} of the {tested} test images" in results_text(results)


def test_a_run_of_an_older_version_has_no_record(dataset: Dataset, tmp_path: Path) -> None:
    run = write_run(tmp_path, "final")
    results = evaluate_run(run, dataset)
    assert (results.trained_on_test_images, results.near_copies) == (None, None)
    # Where the provenance has the checksum of the same training images, these are the record.
    run.provenance_file.write_text(json.dumps({"data": {"training_checksum": dataset.train.checksum}}))
    assert evaluate_run(run, dataset).trained_on_test_images == 0
    run.provenance_file.write_text(json.dumps({"data": {"training_checksum": "another"}}))
    assert evaluate_run(run, dataset).trained_on_test_images is None


def own_data(tiny_sysu: Path, folder: Path) -> Path:
    """A CSV file of drawn people; ``test`` rows are of people 1 and 2 of four, of other images than the training."""
    folder.mkdir()
    people = [sorted((tiny_sysu / f"cam{camera}").iterdir()) for camera in (1, 3)]
    rows = ["path,modality,identity,split"]
    for number, pair in enumerate(zip(*people, strict=False), start=1):
        for modality, place in zip(("visible", "infrared"), pair, strict=True):
            images = sorted(place.glob("*.jpg"))
            if number <= 4 and len(images) > 1:
                rows.append(f"{images[0]},{modality},{number},train")
                rows.append(f"{images[1]},{modality},{number},{'test' if number < 3 else 'train'}")
    (folder / "images.csv").write_text("\n".join(rows) + "\n")
    return folder / "images.csv"


def test_people_of_both_splits_are_named(tiny_sysu: Path, tmp_path: Path) -> None:
    data = open_dataset("own", own_data(tiny_sysu, tmp_path / "data"))
    run = write_run(tmp_path / "run", "final", settings=("data.layout=own",))
    record(run, data)
    results = evaluate_run(run, data)
    assert (results.trained_on_test_images, results.people_in_both_splits) == (0, [1, 2])
    assert "note: 2 people are in both training and test images: 1, 2\n" in results_text(results)


def test_near_copies_of_training_images_are_found(tiny_sysu: Path, tmp_path: Path) -> None:
    path = own_data(tiny_sysu, tmp_path / "data")
    first = path.read_text().splitlines()[1].split(",")
    image = Image.open(first[0])
    image.resize((image.width * 2, image.height * 2)).save(tmp_path / "data" / "again.png")
    path.write_text(path.read_text() + f"again.png,{first[1]},{first[2]},test\n")
    data = open_dataset("own", path)
    run = write_run(tmp_path / "run", "final", settings=("data.layout=own",))
    record(run, data)
    results = evaluate_run(run, data)
    assert results.near_copies is not None
    assert (results.trained_on_test_images, results.near_copies.count) == (0, 1)
    assert results.near_copies.examples == [f"again.png ({first[0]})"]
    assert "1 test image looks like a training image saved again: again.png" in results_text(results)
    # Where only digests are known, as of an import, nothing is claimed.
    run.write_training_images(dict.fromkeys(data.train.digests))
    assert evaluate_run(run, data).near_copies is None


def test_own_data_without_test_images_are_tested_on_the_training_images(tiny_sysu: Path, tmp_path: Path) -> None:
    path = own_data(tiny_sysu, tmp_path / "data")
    path.write_text(path.read_text().replace(",test", ",train"))
    data = open_dataset("own", path)
    assert data.test is not None
    run = write_run(tmp_path / "run", "final", settings=("data.layout=own",))
    record(run, data)
    results = evaluate_run(run, data)
    assert results.trained_on_test_images == len(data.test)
    assert results.people_in_both_splits == []


def test_searches_without_gallery_or_right_answer_are_left_out(dataset: Dataset, tmp_path: Path) -> None:
    assert dataset.test is not None
    run = write_run(tmp_path, "final")

    def without(*cameras: int) -> Dataset:
        test = dataset.test
        assert test is not None
        kept = [row for row, image in enumerate(test.images) if image.camera not in cameras]
        part = LabelledImages(tuple(test.images[row] for row in kept), tuple(test.identities[row] for row in kept))
        return replace(dataset, test=part)

    outdoor = evaluate_run(run, without(1, 2, 3))
    assert {row.search for row in outdoor.rows} == {"all/single-shot", "all/multi-shot"}
    assert outdoor.left_out.keys() == {"indoor/single-shot", "indoor/multi-shot"}
    assert "note: indoor/single-shot search is left out: no visible test images of camera 1 or 2" in results_text(
        outdoor
    )
    # Queries of camera 3 do not see camera 2, which is the whole gallery of the indoor search here.
    same_place = evaluate_run(run, without(1, 6))
    assert {row.search for row in same_place.rows} == {"all/single-shot", "all/multi-shot"}
    assert set(same_place.left_out.values()) == {"no query has a correct gallery image"}
