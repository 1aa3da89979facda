"""`pclhd calibrate`: from labelled images, measured on other people."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pclhd.answers.fit import fit_calibration
from pclhd.answers.measures import measure_answers
from pclhd.config import load_preset
from pclhd.data.records import digest_files
from pclhd.models.preprocessing import Preprocessing
from pclhd.models.two_stream import NARROW
from pclhd.models.weights import save_model
from pclhd.pair import Pair
from pclhd.runs.folder import RunFolder
from pclhd.synthetic import write_synthetic
from pclhd.workflows.calibrate import split_people
from tests.answers.drawing import draw_both
from tests.commands import Call, complaint
from tests.models.small import stirred


@pytest.fixture
def run(tmp_path: Path, tiny_sysu: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    settings = load_preset("tiny", ["data.height=48", "data.width=24", "data.workers=1"], root=tiny_sysu)
    (folder / "config.yaml").write_text(settings.to_yaml())
    save_model(folder / "model.safetensors", stirred(NARROW), preprocessing=Preprocessing(48, 24))
    return folder


def test_halves_have_no_common_person() -> None:
    images = draw_both(people=9)
    first, second = split_people(images)
    for one, other, whole in zip(first, second, images, strict=True):
        assert set(one.labels) == {0, 2, 4, 6, 8}
        assert set(other.labels) == {1, 3, 5, 7}
        assert len(one.labels) + len(other.labels) == len(whole.labels)


def test_open_set_figures_by_hand() -> None:
    fitted, others = split_people(draw_both(people=80, noise=1.2))
    calibration = fit_calibration(fitted, model_id="m", source="labelled images")
    directions = {(one.query, one.gallery): one for one in measure_answers(calibration, others, rates=(0.1,))}
    measured = directions["infrared", "visible"]
    people = np.unique(others.visible.labels)
    absent = people[1::2]
    left = ~np.isin(others.visible.labels, absent)
    threshold = calibration.threshold(0.1, "infrared", "visible", gallery_size=int(left.sum()))
    alarms, identified = [], []
    for feature, person in zip(others.infrared.features, others.infrared.labels, strict=True):
        similarity = others.visible.features[left] @ feature
        best = int(np.argmax(similarity))
        if person in absent:
            alarms.append(similarity[best] >= threshold)
        else:
            identified.append(similarity[best] >= threshold and others.visible.labels[left][best] == person)
    found = measured.open_sets[0.1]
    assert found.false_alarm_rate == pytest.approx(np.mean(alarms))
    assert found.identification_rate == pytest.approx(np.mean(identified))
    assert (found.absent, found.present) == (len(alarms), len(identified))
    assert found.false_alarm_rate < 0.3


def test_directions_without_a_correct_image_are_left_out() -> None:
    images = draw_both()
    calibration = fit_calibration(images, model_id="m", source="labelled images")
    no_one = Pair(images.visible, images.infrared.__class__(images.infrared.features[:0], images.infrared.labels[:0]))
    assert {(one.query, one.gallery) for one in measure_answers(calibration, no_one)} == {("visible", "visible")}


def test_too_few_people_and_training_images(pclhd: Call, run: Path, tiny_sysu: Path) -> None:
    assert "people are too few" in complaint(pclhd("calibrate", run, "--device", "cpu"))
    assert "is missing; make it with" in complaint(pclhd("calibrate", run, "--measure"))
    RunFolder(run).write_training_images(dict.fromkeys(digest_files(sorted(tiny_sysu.rglob("*.jpg")))))
    assert "were training images of this run" in complaint(pclhd("calibrate", run, "--device", "cpu"))
    assert not RunFolder(run).calibration_file.exists()


def test_a_damaged_file(pclhd: Call, run: Path) -> None:
    RunFolder(run).calibration_file.write_text('{"model_id": 3}')
    assert "calibration.json: `model_id`" in complaint(pclhd("calibrate", run, "--measure"))


@pytest.mark.slow
def test_labelled_images_of_other_people(pclhd: Call, run: Path, tmp_path: Path) -> None:
    write_synthetic(tmp_path / "people", scale="small", layout="sysu", workers=2, people=8)
    outcome = pclhd("calibrate", run, "--data", tmp_path / "people", "--device", "cpu", "--json")
    assert outcome.code == 0, outcome.err
    shown = json.loads(outcome.out[: outcome.out.rindex("}") + 1])
    assert shown["source"] == "labelled images"
    assert {(one["query"], one["gallery"]) for one in shown["directions"]} >= {("infrared", "visible")}
    text = pclhd("calibrate", run, "--data", tmp_path / "people", "--device", "cpu", "--measure").out
    assert "infrared→visible" in text
    assert "wrote" not in text
