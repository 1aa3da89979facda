"""The trials of a study as rows, for tables, JSON and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from pclhd.study.definition import ORACLE
from pclhd.study.folder import StudyFolder
from pclhd.study.slots import DROPPED, ERROR
from pclhd.study.storage import find_study, identity_of, open_study, speaking_plainly
from pclhd.text_tables import duration, text_table

#: How an objective is named wherever its values are shown.
NAMES = {
    "silhouette": "silhouette (label-free)",
    "stability": "stability (label-free)",
    "cycle": "cycle (label-free)",
    ORACLE: "ORACLE: rank-1 on labelled people",
}


@dataclass(frozen=True)
class TrialRow:
    """A trial.

    Attributes:
        number: From 0.
        state: complete, pruned, error, running or waiting.
        value: The objective of a complete trial.
        params: Its settings.
        seconds: From its beginning to its end, pauses included; None before that.
        error: Why it could not be trained.
    """

    number: int
    state: str
    value: float | None
    params: Mapping[str, Any]
    seconds: float | None
    error: str | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible values."""
        return {**self.__dict__, "params": dict(self.params)}


@dataclass(frozen=True)
class Summary:
    """A study and its trials.

    Attributes:
        name: Of the study.
        objective: What is searched for.
        keys: The settings of its space.
        rows: The trials by number, without those that were dropped.
    """

    name: str
    objective: str
    keys: tuple[str, ...]
    rows: tuple[TrialRow, ...]

    @property
    def best(self) -> TrialRow | None:
        """The complete trial with the largest value, the first of equal ones; None if none is complete."""
        complete = [row for row in self.rows if row.value is not None and row.state == "complete"]
        return max(complete, key=lambda row: row.value or 0.0, default=None)

    def count(self, state: str) -> int:
        """How many trials are in a state."""
        return sum(row.state == state for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible values."""
        best = self.best
        return {
            "name": self.name,
            "objective": self.objective,
            "uses_identities": self.objective == ORACLE,
            "best": None if best is None else best.to_dict(),
            "trials": [row.to_dict() for row in self.rows],
        }


def read_study(folder: StudyFolder, url: str | None) -> tuple[Study, Summary]:
    """The study of a folder.

    Raises:
        UserError: It is not a study's folder, or its database cannot be used.
    """
    url, name = find_study(folder, url) or (url, folder.path.absolute().name)
    with speaking_plainly(url):
        study, _ = open_study(folder, url, name, None)
        return study, summarise(study)


def summarise(study: Study) -> Summary:
    """The trials of a study."""
    identity = identity_of(study)
    rows = [_row(trial) for trial in study.get_trials(deepcopy=False) if DROPPED not in trial.user_attrs]
    return Summary(study.study_name, str(identity["objective"]), tuple(identity["space"]), tuple(rows))


def _row(trial: FrozenTrial) -> TrialRow:
    error = trial.user_attrs.get(ERROR)
    state = "error" if error is not None else trial.state.name.lower()
    value = trial.value if trial.state == TrialState.COMPLETE else None
    seconds = None if trial.duration is None else trial.duration.total_seconds()
    return TrialRow(trial.number, state, value, trial.params, seconds, error)


def summary_text(summary: Summary) -> str:
    """Best trial and table, best values first."""
    objective, best = NAMES[summary.objective], summary.best
    counts = [f"{summary.count(state)} {state}" for state in ("complete", "pruned", "error", "running", "waiting")]
    lines = [f"study {summary.name}, objective {objective}: {', '.join(one for one in counts if one[:2] != '0 ')}"]
    if summary.objective == ORACLE:
        lines.append("identities chose between these trials: the best value is a bound, not a label-free result")
    if best is not None:
        lines.append(f"best: trial {best.number} with {best.value:.4f}: {words_of(best.params)}")
    if summary.rows:
        lines += ["", _table(summary)]
    return "\n".join(lines)


def words_of(params: Mapping[str, Any]) -> str:
    """Settings as they are given to `pclhd train`."""
    return " ".join(f"{key}={shown(value)}" for key, value in params.items())


def shown(value: object) -> str:
    """A value of a setting: numbers with four significant digits."""
    if isinstance(value, bool) or value is None:
        return str(value).lower().replace("none", "null")
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(summary: Summary) -> str:
    rows = sorted(summary.rows, key=lambda row: (row.value is None, -(row.value or 0.0), row.number))
    cells = [
        [
            str(row.number),
            row.state,
            "" if row.value is None else f"{row.value:.4f}",
            *(shown(row.params[key]) if key in row.params else "" for key in summary.keys),
            "" if row.seconds is None else duration(row.seconds),
        ]
        for row in rows
    ]
    headings = ["trial", "state", summary.objective, *summary.keys, "time"]
    return text_table(cells, headings=headings, right={0, *range(2, len(headings))})


def trials_csv(summary: Summary) -> str:
    """A line for each trial, with all digits."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(["trial", "state", summary.objective, *summary.keys, "seconds", "error"])
    for row in summary.rows:
        values: Sequence[object] = [row.params.get(key) for key in summary.keys]
        writer.writerow([row.number, row.state, row.value, *values, row.seconds, row.error])
    return target.getvalue()
