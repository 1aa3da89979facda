"""Trainings that are killed: a process that has loaded everything forks a process for each life of a run.

`python -m tests.engine.killing FOLDER` prints the result as JSON; `tests/engine/test_kill.py` checks it. A place is a
function of the program and a phase of its call; a life ends by SIGKILL when its place is reached for the n-th time, or
after some seconds.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch

from pclhd import files
from pclhd.engine import checkpoint, epoch, labelling, trainer
from pclhd.engine.checkpoint import load_checkpoint
from pclhd.errors import UserError
from pclhd.models.momentum import MomentumNetwork
from pclhd.runs.folder import checkpoint_files
from pclhd.runs.metrics_log import MetricsLog
from tests.engine.runs import SmallData, digest, draw_people, records, write_start

#: A checkpoint after every step, with everything that a recipe can put into a checkpoint.
OVERRIDES = (
    "recipe=paper",
    "method.dynamic_redraw=step",
    "method.confidence=weight",
    "selection=cycle",
    "engine.checkpoint_minutes=0",
    "schedule.stage1_epochs=1",
    "schedule.stage2_epochs=2",
    "schedule.iterations=2",
    "data.height=32",
    "data.width=16",
    "batch.clusters=2",
    "batch.instances=3",
)

CHOSEN, AT_RANDOM = 36, 14


@dataclass(frozen=True)
class Life:
    """How one process of a run ends.

    Attributes:
        place: Where, by the names of `PLACES`; None: wherever it is when its time is up.
        visit: At which visit of the place, counted from 1.
        seconds: After how long, if there is no place.
    """

    place: str | None = None
    visit: int = 1
    seconds: float = 0.0


class _Deadly:
    """Counts visits of a place, and kills this process at the chosen one."""

    def __init__(self, visit: int) -> None:
        self.left = visit

    def visited(self) -> bool:
        self.left -= 1
        return self.left == 0


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("a process outlived SIGKILL")


Install = Callable[[_Deadly], None]


def _within(owner: Any, name: str, strike: Callable[..., None]) -> Install:
    """Call `strike` instead of the function, with the same arguments, at the chosen visit."""

    def install(deadly: _Deadly) -> None:
        real = getattr(owner, name)

        def watched(*arguments: Any, **options: Any) -> Any:
            if deadly.visited():
                strike(*arguments, **options)
                die()
            return real(*arguments, **options)

        setattr(owner, name, watched)

    return install


def _before(owner: Any, name: str) -> Install:
    return _within(owner, name, lambda *_, **__: None)


def _after(owner: Any, name: str) -> Install:
    return _within(owner, name, getattr(owner, name))


def _half_a_file(path: Path, content: bytes) -> None:
    with files.replacing(path) as file:
        file.write(content[: len(content) // 2])
        file.flush()
        die()


def _half_a_line(log: MetricsLog, record: dict[str, Any]) -> None:
    line = json.dumps(record)
    with log._path.open("a", encoding="utf-8") as file:
        file.write(line[: len(line) // 2])


#: Where a training can be killed, and how. `os.fsync` and `Path.replace` are those of every file that is written.
PLACES: dict[str, Install] = {
    "half of a checkpoint's temporary file is written": _within(checkpoint, "write_durably", _half_a_file),
    "a temporary file is written, but not flushed": _before(os, "fsync"),
    "a temporary file is flushed, but not renamed": _before(Path, "replace"),
    "a file is renamed": _after(Path, "replace"),
    "a checkpoint is in place, the old ones are still there": _after(checkpoint, "write_durably"),
    "an old checkpoint is removed": _after(checkpoint, "_remove"),
    "before embedding": _before(epoch, "embed_images"),
    "after embedding": _after(epoch, "embed_images"),
    "before clustering": _before(labelling, "cluster_features"),
    "after clustering": _after(labelling, "cluster_features"),
    "after matching": _after(labelling, "_match"),
    "after building memories": _after(epoch, "build_memories"),
    "before the optimiser moves": _before(torch.optim.Adam, "step"),
    "after the optimiser moved": _after(torch.optim.Adam, "step"),
    "after the momentum network moved": _after(MomentumNetwork, "update"),
    "before a line of the log": _before(MetricsLog, "write"),
    "half of a line of the log is written": _within(MetricsLog, "write", _half_a_line),
    "after a line of the log": _after(MetricsLog, "write"),
    "the log is read on resuming": _before(trainer, "MetricsLog"),
    "before a model file": _before(trainer, "save_model"),
    "after a model file": _after(trainer, "save_model"),
}


def plan_lives(generator: random.Random, whole_seconds: float) -> list[Life]:
    """Every place at least once, in random order at random visits, mixed with lives of random length."""
    places = list(PLACES) + generator.choices(list(PLACES), k=CHOSEN - len(PLACES))
    lives = [Life(place, generator.choice([1, 1, 2, 3])) for place in places]
    lives += [Life(seconds=generator.uniform(0.05, 0.6) * whole_seconds) for _ in range(AT_RANDOM)]
    generator.shuffle(lives)
    return lives


def main(folder: Path) -> dict[str, Any]:
    """Train once without a kill; then kill, resume and finish runs until all lives are spent."""
    data = SmallData(draw_people(folder / "people"), write_start(folder / "start.safetensors"))
    whole = folder / "whole"
    _live(data, whole, None)  # compiles what is not compiled yet
    started = time.monotonic()
    _live(data, folder / "timed", None)
    seconds = time.monotonic() - started
    lives = plan_lives(random.Random(0), seconds)
    result: dict[str, Any] = {
        "seconds": seconds,
        "kills": [],
        "spared": 0,
        "runs": 0,
        "different": [],
        "unreadable": [],
    }
    while lives:
        run = folder / f"run{result['runs']}"
        result["runs"] += 1
        _one_run(data, run, lives, result)
        if _outcome(run) != _outcome(whole):
            result["different"].append(run.name)
        leftovers = [path.name for path in run.rglob("*.part")]
        if leftovers:
            result["unreadable"].append(f"{run.name}: {leftovers}")
    return result


def _one_run(data: SmallData, run: Path, lives: list[Life], result: dict[str, Any]) -> None:
    """Use up lives on a run until one of them finishes it."""
    while True:
        life = lives.pop(0) if lives else None
        survived = _live(data, run, life)
        if life is not None and survived:
            result["spared"] += 1  # the place was not reached that often
            lives.append(Life(life.place, 1, life.seconds / 2))
        if survived:
            return
        assert life is not None
        result["kills"].append(life.place or "by the clock")
        for path in checkpoint_files(run / "checkpoints"):
            try:
                load_checkpoint(path)
            except UserError as error:
                result["unreadable"].append(str(error))


def _live(data: SmallData, run: Path, life: Life | None) -> bool:
    """Run one process from the newest checkpoint, or from the start if there is none; returns whether it survived."""
    child = os.fork()
    if child == 0:
        try:
            if life is not None and life.place is not None:
                PLACES[life.place](_Deadly(life.visit))
            data.train(run, *OVERRIDES, resume=bool(checkpoint_files(run / "checkpoints")))
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    if life is not None and life.place is None:
        time.sleep(life.seconds)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False
    if os.WEXITSTATUS(status) != 0:
        raise RuntimeError(f"{life} ended with an error of its own")
    return True


def _outcome(run: Path) -> tuple[Any, ...]:
    names = ("model.safetensors", "checkpoints/stage1.safetensors", "checkpoints/selected.safetensors")
    kinds = ("epoch", "step", "selection")
    return *(digest(run / name) for name in names), *(records(run, kind) for kind in kinds)


if __name__ == "__main__":
    torch.set_num_threads(1)
    json.dump(main(Path(sys.argv[1])), sys.stdout)
