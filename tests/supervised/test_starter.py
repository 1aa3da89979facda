from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from pclhd.data.datasets import load_training_images
from pclhd.errors import ArgumentError, UserError
from pclhd.models.two_stream import NARROW, TwoStreamNetwork
from pclhd.models.weights import load_model, model_metadata
from pclhd.streams import Streams
from pclhd.supervised.starter import StarterSchedule, make_starter, train_starter
from tests.commands import Call
from tests.engine.runs import HEIGHT, WIDTH, SmallData


@pytest.fixture(scope="module")
def labelled(small: SmallData) -> tuple[Tensor, NDArray[np.int64]]:
    """Visible images, and who is in each."""
    images = load_training_images(small.training_set, HEIGHT, WIDTH, workers=1).visible.images
    # Files are named PERSON-CAMERA-NUMBER.
    records = small.training_set.images[: len(images)]
    return images, np.array([int(record.path.name.partition("-")[0]) for record in records])


def new_network() -> TwoStreamNetwork:
    return TwoStreamNetwork(NARROW, generator=Streams(0).torch("network"))


def train(labelled: tuple[Tensor, NDArray[np.int64]], steps: int) -> tuple[TwoStreamNetwork, list[float]]:
    network = new_network()
    losses: list[float] = []
    schedule = StarterSchedule(steps=steps, people=4, instances=2)
    train_starter(network, *labelled, schedule, Streams(0), on_step=lambda step, loss: losses.append(loss))
    return network, losses


def test_the_rate_rises_and_falls() -> None:
    schedule = StarterSchedule(steps=50, learning_rate=2.0)
    rates = [schedule.rate(step) for step in range(50)]
    assert max(rates) == pytest.approx(2.0)
    assert rates[0] == pytest.approx(0.4)
    assert rates.index(max(rates)) in (4, 5)
    assert rates[:5] == sorted(rates[:5])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert 0 < rates[-1] < 0.02
    assert StarterSchedule(steps=1).rate(0) > 0


@pytest.mark.slow
def test_training_lowers_the_loss(labelled: tuple[Tensor, NDArray[np.int64]]) -> None:
    network, losses = train(labelled, steps=24)
    assert len(losses) == 24
    assert np.mean(losses[-4:]) < 0.7 * np.mean(losses[:4])
    start = new_network().state_dict()
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    still = {name for name, value in network.state_dict().items() if torch.equal(value, start[name])}
    assert still == frozen


@pytest.mark.slow
def test_the_same_streams_give_the_same_weights(labelled: tuple[Tensor, NDArray[np.int64]]) -> None:
    first, losses = train(labelled, steps=2)
    second, again = train(labelled, steps=2)
    assert losses == again
    for mine, theirs in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.slow
@pytest.mark.parametrize(("fast", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_bfloat16_only_in_hardware(
    labelled: tuple[Tensor, NDArray[np.int64]], monkeypatch: pytest.MonkeyPatch, fast: bool, expected: torch.dtype
) -> None:
    kinds: set[torch.dtype] = set()
    monkeypatch.setattr("pclhd.supervised.starter.computes_bfloat16", lambda device: fast)
    network = new_network()
    network.visible_stem.register_forward_hook(lambda stem, images, maps: kinds.add(maps.dtype))
    train_starter(network, *labelled, StarterSchedule(steps=1, people=2, instances=2), Streams(0))
    assert kinds == {expected}


@pytest.mark.slow
def test_the_infrared_stem_is_a_copy_of_the_visible_one(labelled: tuple[Tensor, NDArray[np.int64]]) -> None:
    network, _ = train(labelled, steps=2)
    visible, infrared = network.visible_stem.state_dict(), network.infrared_stem.state_dict()
    assert visible.keys() == infrared.keys()
    assert all(torch.equal(visible[name], infrared[name]) for name in visible)
    start = new_network().visible_stem.state_dict()
    assert not all(torch.equal(visible[name], start[name]) for name in visible)


@pytest.mark.slow
def test_starter_weights(pclhd: Call, tmp_path: Path) -> None:
    path = tmp_path / "starter.safetensors"
    made = pclhd("starter", "--out", path, "--people", 6, "--images", 2, "--steps", 1)
    assert made.code == 0, made
    assert re.search(r"^step 1/1 ", made.out, re.MULTILINE), "the last step is shown"
    facts = {"weights": "starter", "people": "6", "images_per_person": "2", "steps": "1", "seed": "1"}
    assert model_metadata(path) == facts
    network = load_model(path)
    assert network.architecture == NARROW
    again = tmp_path / "again.safetensors"
    make_starter(again, people=6, images_per_person=2, steps=1, seed=1, device="cpu")
    assert again.read_bytes() == path.read_bytes()


def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "starter.safetensors"
    with pytest.raises(UserError, match="device=abacus"):
        make_starter(path, people=6, images_per_person=2, steps=1, seed=1, device="abacus")
    assert not path.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"people": 0},
        {"people": 10**9},
        {"images_per_person": 0},
        {"images_per_person": 10**9},
        {"steps": -1},
        {"steps": 10**20},
        {"seed": -1},
        {"seed": 10**20},
        {"learning_rate": 0.0},
        {"learning_rate": float("inf")},
        {"learning_rate": float("nan")},
    ],
)
def test_numbers_out_of_range(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match="expected"):
        make_starter(
            tmp_path / "x.safetensors", **{"people": 4, "images_per_person": 2, "steps": 1, "seed": 1, **changes}
        )
    assert not list(tmp_path.iterdir())


def test_a_loss_that_is_not_finite_is_never_saved(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with pytest.raises(ArgumentError, match="no longer finite"):
        make_starter(path, people=4, images_per_person=2, steps=3, seed=1, learning_rate=1e30)
    assert not list(tmp_path.iterdir())


def test_more_images_than_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"images=1000: with 9,000 people gives 9,000,000 images"):
        make_starter(tmp_path / "x.safetensors", people=9000, images_per_person=1000, steps=1, seed=0)
    assert not any(tmp_path.iterdir())
