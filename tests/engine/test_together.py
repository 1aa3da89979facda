from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.engine.runs import TOGETHER, records, write_start

REPOSITORY = Path(__file__).parents[2]
# Ten steps of each stage. Batches of 12 divide evenly among two or three processes, but not among five.
OVERRIDES = ("schedule.iterations=10", "schedule.stage1_epochs=1", "schedule.stage2_epochs=1")
TOLERANCE = 1e-5


def run(folder: Path, out: str, processes: int, *overrides: str, expect: int = 0) -> str:
    """Train in this number of processes; returns what they printed."""
    start = folder / "start.safetensors"
    if not start.exists():
        write_start(start)
    alone = [sys.executable]
    together = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [*(alone if processes == 1 else together), "-m", "tests.engine.together", str(folder), str(start)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(folder / out), *overrides],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (done.returncode != 0) == (expect != 0), done.stdout + done.stderr
    return done.stdout


def largest_difference(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    assert first.keys() == second.keys()
    return max(
        float((first[name].double() - second[name].double()).abs().max()) for name in first if first[name].numel()
    )


def losses(folder: Path, kind: str) -> list[dict[str, float]]:
    lines: list[dict[str, Any]] = records(folder, kind)
    return [line["loss"] for line in lines]


def assert_alike(folder: Path, first: str, second: str, processes: int) -> None:
    for kind in ("step", "epoch"):
        pairs = list(zip(losses(folder / first, kind), losses(folder / second, kind), strict=True))
        assert pairs
        for ours, theirs in pairs:
            assert ours == pytest.approx(theirs, abs=TOLERANCE)
    for name in ("model.safetensors", "checkpoints/stage1.safetensors"):
        assert largest_difference(load_file(folder / first / name), load_file(folder / second / name)) < TOLERANCE
    for epoch in (0, 1):
        alone = load_file(folder / f"{first}-memories-{epoch}-of-0.safetensors")
        for rank in range(processes):
            shared = load_file(folder / f"{second}-memories-{epoch}-of-{rank}.safetensors")
            assert largest_difference(alone, shared) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "processes"), [("paper", 2), ("released", 3)], ids=["paper-2", "released-3"])
def test_several_processes_train_what_one_trains(tmp_path: Path, recipe: str, processes: int) -> None:
    overrides = (*OVERRIDES, f"recipe={recipe}")
    run(tmp_path, "alone", 1, *overrides)
    run(tmp_path, "together", processes, *overrides)
    assert_alike(tmp_path, "alone", "together", processes)


@pytest.mark.slow
def test_shares_of_different_sizes_and_everything_on(tmp_path: Path) -> None:
    overrides = (
        *OVERRIDES,
        "recipe=paper",
        "batch.clusters=2",
        "batch.instances=5",
        "selection=cycle",
        "method.confidence=weight",
        "method.joint_step=shared",
        "method.momentum_buffers=own",
    )
    run(tmp_path, "alone", 1, *overrides)
    run(tmp_path, "together", 3, *overrides)
    assert_alike(tmp_path, "alone", "together", 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", TOGETHER)
def test_several_ideas_together_in_two_processes(tmp_path: Path, name: str) -> None:
    run(tmp_path, "alone", 1, *OVERRIDES, *TOGETHER[name])
    run(tmp_path, "together", 2, *OVERRIDES, *TOGETHER[name])
    assert_alike(tmp_path, "alone", "together", 2)


@pytest.mark.slow
def test_a_mistake_is_reported_once(tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "something").write_text("mine")
    output = run(tmp_path, "used", 2, *OVERRIDES, expect=2)
    assert output.count("already holds files") == 1
    assert [path.name for path in (tmp_path / "used").iterdir()] == ["something"]


@pytest.mark.slow
def test_more_processes_than_images(tmp_path: Path) -> None:
    output = run(tmp_path, "run", 3, "batch.clusters=1", "batch.instances=2", expect=2)
    assert output.count("cannot be shared by 3 processes") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_loss_that_is_not_finite_is_reported_once(tmp_path: Path) -> None:
    output = run(tmp_path, "run", 2, *OVERRIDES, "schedule.learning_rate=1e300", expect=2)
    assert output.count("no longer finite") == 1


def test_sixty_four_bits_are_for_the_tests_alone() -> None:
    assert torch.get_default_dtype() == torch.float32
