from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from rich.console import Console

from pclhd.cli.training_console import ConsoleObserver
from pclhd.clustering.matching import Matching
from pclhd.data.datasets import ModalityImages, TrainingImages
from pclhd.engine.duration import EpochPlan, Plan
from pclhd.engine.labelling import EpochLabels
from pclhd.engine.position import Position

PAIR = Matching(np.array([0]), np.array([0]))
LABELS = EpochLabels(
    np.zeros(3, dtype=np.int64), np.zeros(2, dtype=np.int64), None, Matching(np.array([0]), np.array([0]))
)
RECORD: dict[str, Any] = {
    "seconds": 12.34,
    "loss": {"total": 6.5, "visible_centroid": 3.0},
    "visible": {"clusters": 10, "noise": 0.125},
    "infrared": {"clusters": 4, "noise": 0.0},
}
MEASURED = {"ari_visible": 0.5, "ari_infrared": 0.25, "match_precision": 0.75}


def watch(
    *, measure: bool, terminal: bool = False, width: int = 40, plan: Plan | None = None
) -> tuple[str, list[dict[str, float]]]:
    output = io.StringIO()
    console = Console(file=output, width=width, force_terminal=terminal)
    images = TrainingImages(
        ModalityImages(torch.zeros(1234, 3, 1, 1), None), ModalityImages(torch.zeros(56, 3, 1, 1), None)
    )
    returned = []
    with ConsoleObserver(console, (lambda labels: MEASURED) if measure else None) as observer:
        observer.loaded(images, 2)
        if plan is not None:
            observer.estimated(3 * 2**30, lambda: plan)
        for epoch in range(2):
            position = Position(epoch, 1 + epoch, 1.0, 0.1, 0)
            observer.epoch_started(position, 3)
            for step in range(3):
                observer.stepped(position, step, {})
            returned.append(observer.epoch_ended(position, LABELS, RECORD))
    return output.getvalue(), returned


def test_one_line_per_epoch_whatever_the_width() -> None:
    text, returned = watch(measure=True)
    lines = text.splitlines()
    assert lines[0] == "1,234 visible and 56 infrared images, 2 epochs"
    assert len(lines) == 4
    assert lines[1] == (
        "epoch   1/2 stage 1  loss  6.500  visible 10 clusters, 12% noise  infrared 4 clusters, 0% noise  "
        "ARI 0.50 / 0.25, correct matches 75%  12.3 s"
    )
    assert lines[2].startswith("stage II has other loss terms, so the loss jumps here")
    assert lines[3].startswith("epoch   2/2 stage 2")
    assert returned == [MEASURED, MEASURED]


def test_without_identities_nothing_is_measured() -> None:
    text, returned = watch(measure=False)
    assert "ARI" not in text
    assert returned == [{}, {}]


def test_a_bar_in_a_terminal() -> None:
    text, _ = watch(measure=True, terminal=True, width=100)
    assert "epoch 2/2 (stage 2)" in text
    assert "3/3" in text


def test_time_and_memory_are_estimated_at_the_start_and_time_left_after_each_epoch() -> None:
    plan = Plan(0, (EpochPlan(0, 600, 3), EpochPlan(0, 1400, 3)), measured=True)
    lines = watch(measure=False, plan=plan)[0].splitlines()
    assert lines[1] == "about 1 h 40 min on this machine; about 3.0 GiB of memory"
    assert lines[2].startswith("epoch   1/2")
    assert lines[2].endswith("12.3 s  about 1 s left")  # the steps took no time
    assert lines[4].endswith("12.3 s")


def test_a_very_long_training_is_said_and_an_unmeasured_one_is_not() -> None:
    long = Plan(0, (EpochPlan(0, 1e6, 3), EpochPlan(0, 1e6, 3)), measured=True)
    assert (
        "about 69 d on this machine; the epochs and schedule.iterations decide over it"
        in watch(measure=False, plan=long)[0]
    )
    unknown = Plan(0, (EpochPlan(0, 1, 3), EpochPlan(0, 1, 3)), measured=False)
    assert watch(measure=False, plan=unknown)[0].splitlines()[1] == "about 3.0 GiB of memory"


def test_the_time_left_is_in_the_bar() -> None:
    plan = Plan(0, (EpochPlan(0, 600, 3), EpochPlan(0, 1400, 3)), measured=True)
    text, _ = watch(measure=True, terminal=True, width=120, plan=plan)
    assert "left" in text
