from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pclhd.config import load_preset
from pclhd.data.datasets import load_training_images
from pclhd.data.open import open_dataset
from pclhd.errors import UserError
from pclhd.models.two_stream import NARROW, TwoStreamNetwork
from pclhd.models.weights import load_model, model_metadata
from pclhd.streams import Streams
from pclhd.supervised.starter import (
    LabelledBatchSource,
    SupervisedSchedule,
    make_starter,
    train_upper_bound,
    train_with_labels,
)
from tests.commands import Call
from tests.engine.runs import HEIGHT, WIDTH, SmallData

PEOPLE = 6


@pytest.fixture(scope="module")
def sources(small: SmallData) -> tuple[LabelledBatchSource, LabelledBatchSource]:
    images = load_training_images(small.training_set, HEIGHT, WIDTH, workers=1)
    # Files are named PERSON-CAMERA-NUMBER.
    people = np.array([int(record.path.name.partition("-")[0]) for record in small.training_set.images])
    visible, infrared = np.split(people, [len(images.visible)])
    return (
        LabelledBatchSource(images.visible.images, visible, images.visible.cameras),
        LabelledBatchSource(images.infrared.images, infrared, images.infrared.cameras),
    )


def new_network() -> TwoStreamNetwork:
    return TwoStreamNetwork(NARROW, generator=Streams(0).torch("network"))


def train(
    visible: LabelledBatchSource, infrared: LabelledBatchSource | None, steps: int
) -> tuple[TwoStreamNetwork, list[float]]:
    network = new_network()
    losses: list[float] = []
    schedule = SupervisedSchedule(steps=steps, clusters=4, instances=2, half=False)
    train_with_labels(network, visible, infrared, schedule, Streams(0), on_step=lambda step, loss: losses.append(loss))
    return network, losses


def test_the_rate_rises_and_falls() -> None:
    schedule = SupervisedSchedule(steps=50, learning_rate=2.0)
    rates = [schedule.rate(step) for step in range(50)]
    assert max(rates) == pytest.approx(2.0)
    assert rates[0] == pytest.approx(0.4)
    assert rates.index(max(rates)) in (4, 5)
    assert rates[:5] == sorted(rates[:5])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert 0 < rates[-1] < 0.02
    assert SupervisedSchedule(steps=1).rate(0) > 0


@pytest.mark.slow
def test_labels_lower_the_loss(sources: tuple[LabelledBatchSource, LabelledBatchSource]) -> None:
    network, losses = train(*sources, steps=24)
    assert len(losses) == 24
    assert np.mean(losses[-4:]) < 0.7 * np.mean(losses[:4])
    start = new_network().state_dict()
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    still = {name for name, value in network.state_dict().items() if torch.equal(value, start[name])}
    assert still == frozen


@pytest.mark.slow
def test_the_same_streams_give_the_same_weights(sources: tuple[LabelledBatchSource, LabelledBatchSource]) -> None:
    first, losses = train(*sources, steps=2)
    second, again = train(*sources, steps=2)
    assert losses == again
    for mine, theirs in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.slow
def test_without_infrared_images_the_stem_is_copied(sources: tuple[LabelledBatchSource, LabelledBatchSource]) -> None:
    network, _ = train(sources[0], None, steps=2)
    visible, infrared = network.visible_stem.state_dict(), network.infrared_stem.state_dict()
    assert visible.keys() == infrared.keys()
    assert all(torch.equal(visible[name], infrared[name]) for name in visible)
    start = new_network().visible_stem.state_dict()
    assert not all(torch.equal(visible[name], start[name]) for name in visible)
    both, _ = train(*sources, steps=2)
    pairs = zip(both.visible_stem.parameters(), both.infrared_stem.parameters(), strict=True)
    assert not all(torch.equal(mine, theirs) for mine, theirs in pairs)


def test_without_identities_there_is_no_upper_bound(tiny_sysu: Path, tmp_path: Path) -> None:
    dataset = replace(open_dataset("sysu", tiny_sysu), train_identities=None)
    with pytest.raises(UserError, match="no identities"):
        train_upper_bound(load_preset("tiny", ["model.weights=none"]), dataset, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_upper_bound_can_be_evaluated_and_reported(pclhd: Call, tiny_sysu: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    quick = ("model.weights=none", "data.height=48", "data.width=24", "schedule.iterations=1")
    trained = pclhd("upper-bound", "tiny", "--data", tiny_sysu, "--out", run, *quick)
    assert trained.code == 0, trained
    assert re.search(r"^step (\d+)/\1 ", trained.out, re.MULTILINE), "the last step is shown"
    assert model_metadata(run / "model.safetensors") == {"weights": "supervised"}
    assert pclhd("evaluate", run).code == 0
    results = json.loads((run / "results.json").read_text("utf-8"))
    assert {row["weights"] for row in results["rows"]} == {"start", "final"}
    dataset = open_dataset("sysu", tiny_sysu)
    assert dataset.test is not None
    assert results["dataset"]["test_checksum"] == dataset.test.checksum()
    facts = json.loads((run / "provenance.json").read_text("utf-8"))
    assert facts["data"]["training_checksum"] == dataset.train.checksum
    assert (facts["seed"], facts["precision"], facts["start_weights"]) == (0, "bf16-mixed", None)
    reported = pclhd("report", run)
    assert reported.code == 0, reported
    assert pclhd("upper-bound", "tiny", "--data", tiny_sysu, "--out", run, *quick).code == 2


@pytest.mark.slow
def test_starter_weights(pclhd: Call, tmp_path: Path) -> None:
    path = tmp_path / "starter.safetensors"
    made = pclhd("starter", path, "--people", 6, "--images", 2, "--steps", 1)
    assert made.code == 0, made
    facts = {"weights": "starter", "people": "6", "images_per_person": "2", "steps": "1", "seed": "1"}
    assert model_metadata(path) == facts
    network = load_model(path)
    assert network.architecture == NARROW
    again = tmp_path / "again.safetensors"
    make_starter(again, people=6, images_per_person=2, steps=1, seed=1)
    assert again.read_bytes() == path.read_bytes()
