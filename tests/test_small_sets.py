"""Small sets of your own images: the sizes follow them, and the training ends in minutes and well."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from pclhd.data.records import Modality
from pclhd.runs.folder import RunFolder
from pclhd.synthetic import draw_population
from pclhd.weights import lite0_path
from tests.commands import call

NARROW = ("model.architecture=narrow", "model.weights=starter", "data.height=96", "data.width=48")


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve drawn people, six images in each modality, listed with their identities."""
    root = tmp_path_factory.mktemp("mine")
    rows = [("path", "modality", "camera", "identity")]
    for modality, cameras in ((Modality.VISIBLE, (1, 2, 4, 5)), (Modality.INFRARED, (3, 6))):
        pixels, people = draw_population(12, 6, modality=modality, seed=3, population="benchmark", workers=1)
        for number, (image, person) in enumerate(zip(pixels, people, strict=True)):
            name = f"{modality}-{number:03}.png"
            Image.fromarray(image.transpose(1, 2, 0)).save(root / name)
            rows.append((name, str(modality), str(cameras[number % 6 % len(cameras)]), str(person)))
    with (root / "images.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return root


def test_the_sizes_are_printed_and_saved(mine: Path, tmp_path: Path) -> None:
    short = ("schedule.stage1_epochs=1", "schedule.stage2_epochs=0", "schedule.iterations=1", "batch.clusters=2")
    outcome = call("train", "own-laptop", *NARROW, *short, "--data", mine, "--out", tmp_path / "run")
    assert outcome.code == 0, outcome.err
    assert "clustering.k1=6 clustering.k2=3 clustering.joint_k1=12 clustering.joint_k2=4 (auto, from 72" in outcome.out
    assert "schedule.ema_decay=0.9 (auto" in outcome.out
    assert "batch.clusters" not in outcome.out  # it was given
    saved = RunFolder(tmp_path / "run").settings()
    assert saved.schedule.numbers() == (1, 0, 1, 0.9)
    assert saved.batch.numbers() == (2, 4)
    assert "auto" not in json.dumps({**saved.schedule.model_dump(), **saved.batch.model_dump()})


@pytest.mark.slow
def test_72_images_end_well(mine: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    outcome = call("train", "own-laptop", *NARROW, "--data", mine, "--out", run)
    assert outcome.code == 0, outcome.err
    assert "may be worse than the start weights" not in outcome.out
    last = RunFolder(run).epochs()[-1]
    assert last.visible is not None
    assert last.infrared is not None
    assert 9 <= last.visible.clusters <= 15
    assert 9 <= last.infrared.clusters <= 15
    assert call("evaluate", run).code == 0
    rows = {(row.weights, row.search): row for row in RunFolder(run).require_results().rows}
    searches = {search for _, search in rows}
    assert len(searches) == 2
    for search in searches:
        assert rows["final", search].mAP.mean > rows["start", search].mAP.mean


@pytest.mark.slow
@pytest.mark.skipif(lite0_path() is None, reason="needs the extra photos")
def test_the_laptop_preset_from_training_to_search(mine: Path, tmp_path: Path) -> None:
    """With smaller images and fewer steps; a longer schedule then continues the run."""
    run = tmp_path / "run"
    shorter = ("data.height=64", "data.width=32", "schedule.stage1_epochs=1", "schedule.stage2_epochs=1")
    cached = ("schedule.iterations=2", f"data.cache={tmp_path / 'cache'}")
    outcome = call("train", "own-laptop", *shorter, *cached, "--data", mine, "--out", run)
    assert outcome.code == 0, outcome.err
    settings = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(re.sub("stage2_epochs: 1", "stage2_epochs: 2", settings))
    assert call("train", "--resume", run).code == 0
    assert len(RunFolder(run).epochs()) == 3
    facts = RunFolder(run).facts()
    assert facts["start_weights.file"] == "efficientnet-lite0-57934424.pth"
    assert call("evaluate", run).code == 0
    assert call("report", run).code == 0
    assert call("embed", run, "--out", tmp_path / "features.safetensors").code == 0
    refused = call("export", run, "--out", tmp_path / "out.pth")
    assert refused.code == 2
    assert "is efficientnet_lite0" in refused.err
