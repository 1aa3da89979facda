from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from pclhd.config import Settings
from pclhd.data.datasets import TrainingImages, load_training_images
from pclhd.engine import epoch as module
from pclhd.engine.epoch import begin_epoch, embed_both, end_epoch
from pclhd.engine.labelling import EpochLabels
from pclhd.engine.memories import Memories, build_memories
from pclhd.engine.networks import Networks, momentum_waits
from pclhd.engine.position import Position
from pclhd.engine.session import Session
from pclhd.engine.steps import run_steps
from pclhd.models.momentum import MomentumNetwork
from pclhd.models.two_stream import NARROW, TwoStreamNetwork
from pclhd.models.weights import initialise
from pclhd.recipes import RECIPES, RELEASED
from pclhd.streams import Streams
from tests.engine.runs import HEIGHT, WIDTH, SmallData
from tests.readings import ABRUPT


@pytest.fixture(scope="module")
def images(small: SmallData) -> TrainingImages:
    return load_training_images(small.training_set, HEIGHT, WIDTH, workers=1)


def session_of(small: SmallData, images: TrainingImages, settings: Settings) -> Session:
    fabric = Fabric(accelerator="cpu", devices=1)
    network = TwoStreamNetwork(NARROW)
    initialise(network, str(small.start))
    wrapped = fabric.setup_module(network)
    momentum = MomentumNetwork(network, buffers=settings.method.momentum_buffers)
    optimiser = fabric.setup_optimizers(torch.optim.Adam(network.parameters(), lr=1e-3))
    wrapped.train()
    return Session(settings, images, Networks(fabric, network, wrapped, optimiser, momentum), Streams(0))


def run(
    small: SmallData,
    images: TrainingImages,
    *overrides: str,
    stage: int = 2,
    number: int = 1,
    on_step: Callable[[int, dict[str, float]], None] = lambda step, losses: None,
) -> tuple[Networks, EpochLabels, dict[str, Any]]:
    session = session_of(small, images, small.settings(*overrides))
    position = Position(number, stage, progress=0.5, learning_rate=1e-3, epoch_of_stage=number)
    state = begin_epoch(session, position)
    run_steps(session, position, state, on_step)
    return session.networks, state.labels, end_epoch(session, position, state)


def parameters(network: torch.nn.Module) -> torch.Tensor:
    return torch.nn.utils.parameters_to_vector(network.parameters()).detach()


def test_an_epoch_trains_and_reports(small: SmallData, images: TrainingImages) -> None:
    seen: list[dict[str, float]] = []
    networks, labels, record = run(small, images, "recipe=paper", on_step=lambda step, losses: seen.append(losses))
    assert len(seen) == 2
    start = TwoStreamNetwork(NARROW)
    initialise(start, str(small.start))
    assert not torch.equal(parameters(networks.online), parameters(start))
    # The momentum network is in between: (1 − decay) of the way, twice.
    assert not torch.equal(parameters(networks.momentum.network), parameters(networks.online))
    assert not torch.equal(parameters(networks.momentum.network), parameters(start))
    assert record["loss"]["total"] == pytest.approx(np.mean([losses["total"] for losses in seen]))
    assert record.keys() >= {"seconds", "seconds_clustering", "images_per_second", "lr", "visible", "infrared", "joint"}
    assert labels.joint is not None
    for losses in seen:
        assert {"visible_joint_centroid", "infrared_joint_dynamic"} <= losses.keys()


@pytest.mark.parametrize("recipe", RECIPES)
def test_stage_two_trains_every_part_of_the_network(small: SmallData, images: TrainingImages, recipe: str) -> None:
    networks, *_ = run(small, images, f"recipe={recipe}")
    start = TwoStreamNetwork(NARROW)
    initialise(start, str(small.start))
    still = [
        name
        for (name, before), after in zip(start.named_parameters(), networks.online.parameters(), strict=True)
        if after.requires_grad and torch.equal(before, after)
    ]
    assert still == []


def test_logged_losses_are_no_part_of_the_total(small: SmallData, images: TrainingImages) -> None:
    *_, record = run(small, images, "recipe=released")
    printed = {"visible_dynamic", "infrared_dynamic"}
    assert printed <= record["loss"].keys()
    trained = [value for name, value in record["loss"].items() if name not in printed | {"total"}]
    assert record["loss"]["total"] == pytest.approx(sum(trained))


def test_the_momentum_network_of_the_released_code_waits_for_stage_two(
    small: SmallData, images: TrainingImages
) -> None:
    assert momentum_waits(RELEASED, 1)
    assert not momentum_waits(RELEASED, 2)
    assert not momentum_waits(ABRUPT, 1)
    networks, *_ = run(small, images, "recipe=released", stage=1)
    for mine, theirs in zip(
        networks.momentum.network.state_dict().values(), networks.online.state_dict().values(), strict=True
    ):
        assert torch.equal(mine, theirs)


def test_statistics_of_its_own(small: SmallData, images: TrainingImages) -> None:
    def counters(*overrides: str) -> set[int]:
        network = run(small, images, *overrides)[0].momentum.network
        return {int(value) for name, value in network.named_buffers() if name.endswith("num_batches_tracked")}

    # Two steps: two passes of the momentum network itself, or counters copied from the online one, which also sees
    # the joint batches.
    assert counters("recipe=paper", "method.momentum_buffers=own") == {2}
    assert counters("recipe=paper", "method.momentum_buffers=average") == {4}
    assert counters("recipe=paper", "method.joint=0") == {2}


def test_one_step_for_both_kinds_of_batch_or_two(
    small: SmallData, images: TrainingImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []
    real = torch.optim.Adam.step

    def counted(self: torch.optim.Adam, *rest: Any, **more: Any) -> Any:
        steps.append(1)
        return real(self, *rest, **more)

    monkeypatch.setattr(torch.optim.Adam, "step", counted)
    for choice, expected in (("own", 4), ("shared", 2)):
        steps.clear()
        run(small, images, "recipe=paper", f"method.joint_step={choice}")
        assert len(steps) == expected


def test_dynamic_prototypes_are_redrawn_each_step_if_wished(
    small: SmallData, images: TrainingImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Memories] = []
    real = build_memories

    def spied(*rest: Any, **more: Any) -> Memories:
        built.append(real(*rest, **more))
        return built[-1]

    monkeypatch.setattr(module, "build_memories", spied)
    for choice, distinct in (("epoch", 1), ("step", 3)):
        states: list[bytes] = []

        def look(step: int, losses: dict[str, float], states: list[bytes] = states) -> None:
            source = built[-1].own.visible.dynamic
            assert source is not None
            states.append(source.memory.instances.numpy().tobytes())

        run(small, images, "recipe=paper", f"method.dynamic_redraw={choice}", "schedule.iterations=3", on_step=look)
        assert len(set(states)) == distinct


def test_features_in_both_lengths(small: SmallData, images: TrainingImages) -> None:
    for choice, unit in (("true", True), ("false", False)):
        settings = small.settings(f"method.renormalise={choice}")
        session = session_of(small, images, settings)
        network = session.networks.online
        for features, part in zip(embed_both(session, network), images, strict=True):
            assert features.shape == (len(part), network.embedding_size)
            lengths = features.norm(dim=1)
            assert bool((lengths > 0.999).all()) == unit
            assert bool((lengths < 1.001).all())
