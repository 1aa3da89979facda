"""Studies that are interrupted again and again: a process that has loaded everything forks one for each life.

`python -m tests.study.killing FOLDER` prints the result as JSON; `tests/study/test_running.py` checks it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pclhd.engine.interruption import Interrupted, Interruption
from pclhd.study import running
from pclhd.study.folder import StudyFolder
from pclhd.study.running import StudyObserver
from pclhd.study.summary import read_study
from tests.engine.runs import SmallData, draw_people, write_start
from tests.study.trials import outcome, search, short

TRIALS = 2
DEADLY = (signal.SIGKILL, signal.SIGTERM)


class _Struck(StudyObserver):
    """Struck by a signal when a trial begins, or when one has ended."""

    def __init__(self, moment: str, number: int, deadly: signal.Signals) -> None:
        self._at, self._deadly = (moment, number), deadly

    def began(self, number: int, params: Mapping[str, Any]) -> None:
        self._strike("began", number)

    def ended(self, trial: Any, seconds: float, left: int) -> None:
        self._strike("ended", trial.number)

    def _strike(self, moment: str, number: int) -> None:
        if (moment, number) == self._at:
            os.kill(os.getpid(), self._deadly)


def _at_a_step(deadly: signal.Signals) -> StudyObserver:
    """Struck at the second step of the first training."""
    real, left = running._Reporting.stepped, [1]

    def stepped(self: Any, position: Any, number: int, losses: Mapping[str, float]) -> None:
        if left[0] == 0:
            os.kill(os.getpid(), deadly)
        left[0] -= 1
        real(self, position, number, losses)

    setattr(running._Reporting, "stepped", stepped)  # noqa: B010
    return StudyObserver()


#: As a trial begins, in the middle of a training, and as a trial has ended.
_LIVES: tuple[Callable[[signal.Signals], StudyObserver], ...] = (
    lambda deadly: _Struck("began", 0, deadly),
    _at_a_step,
    lambda deadly: _Struck("ended", 0, deadly),
)
STRIKES = len(_LIVES)


def main(root: Path) -> dict[str, Any]:
    """Search once without an interruption, and once for each signal with several.

    This process computes nothing, since numba's threads do not survive a fork.
    """
    small = SmallData(draw_people(root / "people"), write_start(root / "start.safetensors"))
    result: dict[str, Any] = {"whole": _one_study(small, root / "whole", [])["outcome"]}
    for deadly in DEADLY:
        result[deadly.name] = _one_study(small, root / deadly.name, [partial(life, deadly) for life in _LIVES])
    return result


def _one_study(small: SmallData, folder: Path, lives: list[Callable[[], StudyObserver]]) -> dict[str, Any]:
    """Search in one process for each life and a last one that finishes; how they ended, and the result."""
    statuses = [_live(small, folder, life) for life in [*lives, StudyObserver]]
    if statuses.pop() != 0:
        raise RuntimeError("the last process failed")
    found = read_study(StudyFolder(folder), None)[1]
    return {"statuses": statuses, "outcome": outcome(found), "folders": len(list(folder.glob("trial-*")))}


def _live(small: SmallData, folder: Path, life: Callable[[], StudyObserver]) -> int:
    """Search in a process of its own, as the verb does; its exit status, negative for a signal that ended it."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            observer, interruption = life(), Interruption()
            with interruption.handling():
                search(small, folder, TRIALS, definition=short(small), observer=observer, interruption=interruption)
            status = 0
        except Interrupted as stop:
            status = stop.exit_code
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    torch.set_num_threads(1)
    json.dump(main(Path(sys.argv[1])), sys.stdout)
