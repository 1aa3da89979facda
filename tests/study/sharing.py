"""Processes that work on one study with trials that train nothing: they only say who ran what."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path

import optuna
from optuna.trial import TrialState

from pclhd.study import slots
from pclhd.study.folder import StudyFolder
from pclhd.study.slots import Slots
from pclhd.study.storage import open_study

IDENTITY = {"objective": "silhouette", "space": {"x": {}}}


def in_processes(work: Sequence[Callable[[], None]]) -> list[int]:
    """Run each function in a process of its own; their exit statuses, negative for signals."""
    children = [in_a_process(one) for one in work]
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def in_a_process(work: Callable[[], None]) -> int:
    """Run a function in a process of its own; its number."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return child


def work_on(
    folder: Path,
    wanted: int,
    *,
    url: str | None = None,
    name: str = "study",
    seconds: float = 0.0,
    die_in: int | None = None,
    start: Barrier | None = None,
) -> None:
    """Work on a study until it has enough trials.

    Args:
        folder: The study's folder.
        wanted: How many trials it is to have.
        url: Its database.
        name: Its name.
        seconds: How long a trial takes.
        die_in: This process is killed in the trial of this number, or a later one.
        start: All begin together here.
    """
    slots.SECONDS_BETWEEN_LOOKS = 0.05
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder.mkdir(exist_ok=True)
    study, storage = open_study(StudyFolder(folder), url, name, IDENTITY)
    queue = Slots(study, storage, StudyFolder(folder), wanted, shared=url is not None)
    if start is not None:
        start.wait(60)
    while True:
        with queue.next() as trial:
            if trial is None:
                return
            x = trial.suggest_float("x", 0, 1)
            trial.set_user_attr("by", str(os.getpid()))
            if die_in is not None and trial.number >= die_in:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(seconds)
            study.tell(trial, x, TrialState.COMPLETE)


def finished(folder: Path, *, url: str | None = None, name: str = "study") -> list[optuna.trial.FrozenTrial]:
    """The finished trials."""
    study, _ = open_study(StudyFolder(folder), url, name, None)
    return [trial for trial in study.get_trials() if trial.state in slots.FINISHED]
