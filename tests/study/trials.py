"""Studies with real trainings of about a second each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pclhd.engine.interruption import Interruption
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


def short(small: SmallData, **changes: Any) -> Definition:
    """The same with one step in an epoch of each stage."""
    one = definition_of(small, **changes)
    settings = {**one.settings, "schedule.stage2_epochs": 1, "schedule.iterations": 1}
    return one.model_copy(update={"settings": settings})


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
