"""Studies with real trainings of about a second each."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pclhd.engine.interruption import Interrupted, Interruption
from pclhd.study.definition import Definition
from pclhd.study.folder import StudyFolder
from pclhd.study.running import StudyData, StudyObserver, run_study
from pclhd.study.summary import Summary, read_study
from tests.engine.runs import SmallData

SPACE: dict[str, Any] = {
    "clustering.eps": {"type": "float", "low": 0.5, "high": 0.8},
    "clustering.k1": {"type": "int", "low": 5, "high": 9},
}


def definition_of(small: SmallData, **changes: Any) -> Definition:
    """A study of two settings; trainings on the small data."""
    words = (word.partition("=") for word in small.words if not word.startswith("clustering.k1"))
    settings: dict[str, Any] = {key: _number(value) for key, _, value in words}
    settings |= {"engine.checkpoint_minutes": 0, "engine.accelerator": "cpu"}
    content = {"preset": "tiny", "settings": settings, "space": SPACE, "startup_trials": 2, "pruner": "none"}
    return Definition.model_validate({**content, **changes})


def _number(text: str) -> Any:
    return float(text) if text.replace(".", "").isdecimal() and "." in text else int(text) if text.isdecimal() else text


def search(
    small: SmallData,
    folder: Path,
    trials: int,
    *,
    definition: Definition | None = None,
    observer: StudyObserver | None = None,
    interruption: Interruption | None = None,
) -> Summary:
    """Work on a study in this process; its trials."""
    definition = definition or definition_of(small)
    run_study(
        definition,
        StudyData(small.dataset()),
        StudyFolder(folder),
        trials=trials,
        observer=observer,
        interruption=interruption,
    )
    return read_study(StudyFolder(folder), None)[1]


def outcome(summary: Summary) -> list[tuple[int, str, float | None, Mapping[str, Any]]]:
    """What must not depend on interruptions."""
    return [(row.number, row.state, row.value, row.params) for row in summary.rows]


def until_a_signal(search_once: Callable[[Interruption], object]) -> int:
    """Search in a process of its own, as the verb does; its exit status, negative for a signal that ended it."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            interruption = Interruption()
            with interruption.handling():
                search_once(interruption)
            status = 0
        except Interrupted as stop:
            status = stop.exit_code
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Deadly(StudyObserver):
    """Sends this process a signal when a trial begins, ends, or its training warns.

    Args:
        number: Of the trial.
        moment: ``began`` or ``ended``.
        deadly: The signal.
    """

    def __init__(self, number: int, moment: str, deadly: signal.Signals) -> None:
        self._at, self._deadly = (moment, number), deadly

    def began(self, number: int, params: Mapping[str, Any]) -> None:
        self._strike("began", number)

    def ended(self, trial: Any, seconds: float, left: int) -> None:
        self._strike("ended", trial.number)

    def _strike(self, moment: str, number: int) -> None:
        if (moment, number) == self._at:
            os.kill(os.getpid(), self._deadly)
