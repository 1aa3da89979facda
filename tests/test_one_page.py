"""The example that shows the method on one page computes the losses that the engine computes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from examples import one_page

from pclhd.data.datasets import load_training_images
from pclhd.engine.observer import Silent
from pclhd.engine.position import Position
from pclhd.engine.trainer import train
from pclhd.synthetic import write_synthetic
from tests.engine.double import in_double_precision
from tests.engine.runs import HEIGHT, WIDTH, SmallData


class Losses(Silent):
    """Keeps the losses of every step."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []

    def stepped(self, position: Position, step: int, losses: Mapping[str, float]) -> None:
        self.steps.append({name: value for name, value in losses.items() if name != "total"})


@pytest.mark.slow
def test_the_losses_are_those_of_the_engine(small: SmallData, tmp_path: Path) -> None:
    # The second step of an epoch depends on the optimiser and the memories, stage II on the momentum network.
    settings = small.settings("recipe=paper", "engine.precision=32-true", "schedule.decay_every=1")
    observer = Losses()
    with in_double_precision():
        train(settings, small.training_set, tmp_path / "run", observer)
        images = load_training_images(small.training_set, HEIGHT, WIDTH)
        steps = list(one_page.train(settings, images))
    kinds = [{name.partition("_")[2] for name in losses} for losses in steps]
    mix = ["centroid", "hard", "dynamic"]
    second = {*mix, *(f"cross_{kind}" for kind in mix), *(f"joint_{kind}" for kind in mix)}
    assert kinds == [{"centroid"}] * 2 + [second] * 4
    assert ["visible_cross_hard" in losses for losses in steps] == [False, False, True, True, False, False]
    for ours, engines in zip(steps, observer.steps, strict=True):
        assert ours == pytest.approx(engines, rel=1e-6)


@pytest.mark.slow
def test_it_runs_on_a_drawn_data_set(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "data", scale="tiny", workers=1)
    ran = subprocess.run(
        [sys.executable, one_page.__file__, str(tmp_path / "data")], capture_output=True, text=True, check=True
    )
    lines = ran.stdout.splitlines()
    assert len(lines) == 9
    assert lines[0].startswith("visible_centroid ")
    assert "infrared_joint_hard" in lines[-1]
