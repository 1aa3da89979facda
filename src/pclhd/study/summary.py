"""The trials of a study as rows, for tables, JSON and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from scipy.stats import spearmanr

from pclhd.study.definition import ORACLE
from pclhd.study.folder import StudyFolder
from pclhd.study.slots import DROPPED, ERROR
from pclhd.study.storage import find_study, identity_of, open_study, speaking_plainly
from pclhd.text_tables import duration, text_table

_NORMAL_95 = 1.959964

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
class Agreement:
    """How well an objective orders trials by rank-1.

    Attributes:
        correlation: Spearman's rank correlation.
        low: Lower end of its 95 % confidence interval; None below 4 trials.
        high: Upper end.
        trials: How many there are.
    """

    correlation: float
    low: float | None
    high: float | None
    trials: int


def rank_agreement(values: Sequence[float], measures: Sequence[float]) -> Agreement | None:
    """Spearman's rank correlation with its 95 % confidence interval; None below 3 pairs or where one side is constant.

    The interval is Fisher's, with the standard error of Bonett and Wright (2000, "Sample size requirements for
    estimating Pearson, Kendall and Spearman correlations"). It takes the pairs for independent, which the trials of a
    sampler that learns are not quite.
    """
    if len(values) < 3 or len(set(values)) == 1 or len(set(measures)) == 1:
        return None
    found = float(spearmanr(values, measures).statistic)
    if len(values) < 4 or abs(found) > 1 - 1e-12:
        return Agreement(found, None, None, len(values))
    reach = _NORMAL_95 * math.sqrt((1 + found**2 / 2) / (len(values) - 3))
    place = math.atanh(found)
    return Agreement(found, math.tanh(place - reach), math.tanh(place + reach), len(values))


@dataclass(frozen=True)
class Summary:
    """A study and its trials.

    Attributes:
        name: Of the study.
        objective: What is searched for.
        keys: The settings of its space.
        rows: The trials by number, without those that were dropped.
        rank1: By trial, rank-1 of the final weights in the first search of an evaluation, the mean over seeds; of
            trials that `pclhd evaluate` measured afterwards. It chose nothing.
        drawn: How many of the first trials were drawn at random, before the sampler learnt.
    """

    name: str
    objective: str
    keys: tuple[str, ...]
    rows: tuple[TrialRow, ...]
    rank1: Mapping[int, float] = field(default_factory=dict)
    drawn: int = 0

    @property
    def best(self) -> TrialRow | None:
        """The complete trial with the largest value, the first of equal ones; None if none is complete."""
        complete = [row for row in self.rows if row.value is not None and row.state == "complete"]
        return max(complete, key=lambda row: row.value or 0.0, default=None)

    def count(self, state: str) -> int:
        """How many trials are in a state."""
        return sum(row.state == state for row in self.rows)

    @property
    def agreement(self) -> Agreement | None:
        """The agreement of the objective with `rank1` over the trials that have both."""
        return self._agreement_of(self.rows)

    @property
    def agreement_at_random(self) -> Agreement | None:
        """The same over the trials that were drawn at random; None if those are all.

        Trials that were chosen for their objective may please it more than they find people.
        """
        drawn = [row for row in self.rows if row.number < self.drawn]
        return None if len(drawn) == len(self.rows) else self._agreement_of(drawn)

    def _agreement_of(self, rows: Iterable[TrialRow]) -> Agreement | None:
        both = [
            (row.value, self.rank1[row.number]) for row in rows if row.value is not None and row.number in self.rank1
        ]
        return rank_agreement([value for value, _ in both], [measure for _, measure in both])

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible values."""
        best = self.best
        return {
            "name": self.name,
            "objective": self.objective,
            "uses_identities": self.objective == ORACLE,
            "best": None if best is None else best.to_dict(),
            "trials": [{**row.to_dict(), "rank1": self.rank1.get(row.number)} for row in self.rows],
            "agreement": None if self.agreement is None else asdict(self.agreement),
            "agreement_at_random": None if self.agreement_at_random is None else asdict(self.agreement_at_random),
        }


def read_study(folder: StudyFolder, url: str | None) -> tuple[Study, Summary]:
    """The study of a folder.

    Raises:
        UserError: It is not a study's folder, or its database cannot be used.
    """
    url, name = find_study(folder, url) or (url, folder.path.absolute().name)
    with speaking_plainly(url):
        study, _ = open_study(folder, url, name, None)
        summary = summarise(study)
    seeds = identity_of(study).get("seeds", [])
    return study, replace(summary, rank1=_measured(folder, summary, seeds))


def _measured(folder: StudyFolder, summary: Summary, seeds: Sequence[int]) -> dict[int, float]:
    """Rank-1 of the trials whose runs were all evaluated, with the same test images; none for the oracle."""
    found: dict[int, float] = {}
    images = set()
    for row in summary.rows if summary.objective != ORACLE else ():
        results = [folder.run(row.number, seed).results() for seed in seeds]
        finals = [one for result in results if result is not None for one in result.rows if one.weights == "final"][:1]
        if len(seeds) == 0 or None in results or not finals:
            continue
        search = finals[0].search
        values = [
            one.rank1.mean
            for result in results
            if result
            for one in result.rows
            if (one.weights, one.search) == ("final", search)
        ]
        images |= {result.dataset.test_checksum for result in results if result}
        found[row.number] = fmean(values)
    return found if len(images) == 1 else {}


def summarise(study: Study) -> Summary:
    """The trials of a study."""
    identity = identity_of(study)
    rows = [_row(trial) for trial in study.get_trials(deepcopy=False) if DROPPED not in trial.user_attrs]
    drawn = identity.get("startup_trials", 0) if identity.get("sampler") == "tpe" else len(rows)
    return Summary(study.study_name, str(identity["objective"]), tuple(identity["space"]), tuple(rows), drawn=drawn)


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
    if summary.agreement is not None:
        lines.append(
            "rank-1 was measured afterwards and chose nothing; its rank correlation with the objective is "
            + _agreement_text(summary.agreement)
        )
    if summary.agreement_at_random is not None:
        lines.append(f"among the trials drawn at random it is {_agreement_text(summary.agreement_at_random)}")
    if summary.rows:
        lines += ["", _table(summary)]
    return "\n".join(lines)


def _agreement_text(agreement: Agreement) -> str:
    interval = "" if agreement.low is None else f" (95 % interval {agreement.low:.2f} to {agreement.high:.2f})"
    return f"{agreement.correlation:.2f}{interval} over {agreement.trials} trials"


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
            *([_percent(summary.rank1.get(row.number))] if summary.rank1 else []),
            "" if row.seconds is None else duration(row.seconds),
        ]
        for row in rows
    ]
    measured = ["rank-1 %"] if summary.rank1 else []
    headings = ["trial", "state", summary.objective, *summary.keys, *measured, "time"]
    return text_table(cells, headings=headings, right={0, *range(2, len(headings))})


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def trials_csv(summary: Summary) -> str:
    """A line for each trial, with all digits."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(["trial", "state", summary.objective, *summary.keys, "rank1", "seconds", "error"])
    for row in summary.rows:
        values: Sequence[object] = [row.params.get(key) for key in summary.keys]
        writer.writerow(
            [row.number, row.state, row.value, *values, summary.rank1.get(row.number), row.seconds, row.error]
        )
    return target.getvalue()
