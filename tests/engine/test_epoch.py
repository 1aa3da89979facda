from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from pclhd.clustering.matching import Matching
from pclhd.config import Settings
from pclhd.data.datasets import TrainingImages, load_training_images
from pclhd.engine import epoch as module
from pclhd.engine.epoch import (
    Moment,
    begin_epoch,
    describe_labels,
    embed_both,
    end_epoch,
    momentum_waits,
    run_steps,
)
from pclhd.engine.labelling import EpochLabels, Grouping
from pclhd.engine.memories import Memories, build_memories
from pclhd.engine.trainee import Trainee
from pclhd.models.momentum import MomentumNetwork
from pclhd.models.two_stream import NARROW, TwoStreamNetwork
from pclhd.models.weights import initialise
from pclhd.recipes import PAPER, RECIPES, RELEASED
from pclhd.streams import Streams
from tests.engine.runs import HEIGHT, WIDTH, SmallData


@pytest.fixture(scope="module")
def images(small: SmallData) -> TrainingImages:
    return load_training_images(small.training_set, HEIGHT, WIDTH, workers=1)


def trainee_for(small: SmallData, settings: Settings) -> Trainee:
    fabric = Fabric(accelerator="cpu", devices=1)
    network = TwoStreamNetwork(NARROW)
    initialise(network, str(small.start))
    wrapped = fabric.setup_module(network)
    momentum = MomentumNetwork(network, buffers=settings.method.momentum_buffers)
    optimiser = fabric.setup_optimizers(torch.optim.Adam(network.parameters(), lr=1e-3))
    wrapped.train()
    return Trainee(fabric, network, wrapped, optimiser, momentum)


def run(
    small: SmallData,
    images: TrainingImages,
    *overrides: str,
    stage: int = 2,
    number: int = 1,
    on_step: Callable[[int, dict[str, float]], None] = lambda step, losses: None,
) -> tuple[Trainee, EpochLabels, dict[str, Any]]:
    settings = small.settings(*overrides)
    trainee = trainee_for(small, settings)
    moment = Moment(number, stage, progress=0.5, learning_rate=1e-3, epoch_of_stage=number)
    streams = Streams(0)
    state = begin_epoch(trainee, images, settings, streams, moment)
    run_steps(trainee, images, settings, streams, moment, state, on_step)
    return trainee, state.labels, end_epoch(trainee, settings, moment, state)


def parameters(network: torch.nn.Module) -> torch.Tensor:
    return torch.nn.utils.parameters_to_vector(network.parameters()).detach()


def test_an_epoch_trains_and_reports(small: SmallData, images: TrainingImages) -> None:
    seen: list[dict[str, float]] = []
    trainee, labels, record = run(small, images, "recipe=paper", on_step=lambda step, losses: seen.append(losses))
    assert len(seen) == 2
    start = TwoStreamNetwork(NARROW)
    initialise(start, str(small.start))
    assert not torch.equal(parameters(trainee.online), parameters(start))
    # The slow network lies between: (1 − decay) of the way, twice.
    assert not torch.equal(parameters(trainee.momentum.network), parameters(trainee.online))
    assert not torch.equal(parameters(trainee.momentum.network), parameters(start))
    assert record["loss"]["total"] == pytest.approx(np.mean([losses["total"] for losses in seen]))
    assert record.keys() >= {"seconds", "seconds_clustering", "images_per_second", "lr", "visible", "infrared", "joint"}
    assert labels.joint is not None
    for losses in seen:
        assert {"visible_joint", "infrared_joint"} <= losses.keys()


@pytest.mark.parametrize("recipe", RECIPES)
def test_stage_two_trains_every_part_of_the_network(small: SmallData, images: TrainingImages, recipe: str) -> None:
    trainee, *_ = run(small, images, f"recipe={recipe}")
    start = TwoStreamNetwork(NARROW)
    initialise(start, str(small.start))
    still = [
        name
        for (name, before), after in zip(start.named_parameters(), trainee.online.parameters(), strict=True)
        if after.requires_grad and torch.equal(before, after)
    ]
    assert still == []


def test_printed_losses_are_no_part_of_the_total(small: SmallData, images: TrainingImages) -> None:
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
    assert not momentum_waits(PAPER, 1)
    trainee, *_ = run(small, images, "recipe=released", stage=1)
    for mine, theirs in zip(
        trainee.momentum.network.state_dict().values(), trainee.online.state_dict().values(), strict=True
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
            source = built[-1].visible.dynamic
            assert source is not None
            states.append(source.memory.instances.numpy().tobytes())

        run(small, images, "recipe=paper", f"method.dynamic_redraw={choice}", "schedule.iterations=3", on_step=look)
        assert len(set(states)) == distinct


def test_features_in_both_lengths(small: SmallData, images: TrainingImages) -> None:
    for choice, unit in (("true", True), ("false", False)):
        settings = small.settings(f"method.renormalise={choice}")
        network = trainee_for(small, settings).online
        parts = embed_both(network, images, settings)
        for features, part in zip(parts, (images.visible, images.infrared), strict=True):
            assert features.shape == (len(part), network.embedding_size)
            lengths = features.norm(dim=1)
            assert bool((lengths > 0.999).all()) == unit
            assert bool((lengths < 1.001).all())


def test_labels_described() -> None:
    labels = EpochLabels(
        np.array([0, 0, 1, -1]),
        np.array([0, -1]),
        np.array([0, 0, 1, -1, 0, -1]),
        Matching(np.array([0, -1]), np.array([0])),
    )
    described = describe_labels(labels)
    assert described["visible"] == {
        "images": 4,
        "clusters": 2,
        "noise": 0.25,
        "size_min": 1,
        "size_median": 1.5,
        "size_max": 2,
    }
    assert described["infrared"]["noise"] == 0.5
    assert described["joint"]["shared_clusters"] == 1
    assert described["matched"] == {"visible": 0.5, "infrared": 1.0}
    nothing = EpochLabels(labels.visible, labels.infrared, np.full(6, -1), labels.matching)
    assert describe_labels(nothing)["joint"] == {
        "images": 6,
        "clusters": 0,
        "noise": 1.0,
        "size_min": 0,
        "size_median": 0.0,
        "size_max": 0,
        "shared_clusters": 0,
    }
    told = replace(
        labels,
        groupings={
            "visible": Grouping(labels.visible, np.array([1.0, 0.5, 0.0, 0.9]), 0.4, 0.3),
            "infrared": Grouping(labels.infrared, recall=0.9),
        },
    )
    described = describe_labels(told)
    assert {name: described["visible"][name] for name in ("eps", "silhouette", "confidence")} == {
        "eps": 0.4,
        "silhouette": 0.3,
        "confidence": 0.5,
    }
    assert "recall" not in described["visible"]
    assert described["infrared"]["recall"] == 0.9
    assert described["infrared"].keys().isdisjoint({"eps", "confidence"})
    assert "joint" not in describe_labels(EpochLabels(labels.visible, labels.infrared, None, labels.matching))
