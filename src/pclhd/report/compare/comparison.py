"""Compare run folders: settings, provenance and results; several seeds of one setting form a group, and so do the
trials of RegDB.

Nothing is computed from images or models. If two numbers must not be compared, there is a warning, and they are still
shown. `pclhd.report.compare.text` formats a comparison.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from pclhd.errors import UserError
from pclhd.report.compare.groups import Group, group_runs
from pclhd.report.compare.runs import MEASURES, ComparedRun, ResultKey, Value, read_runs
from pclhd.report.compare.seeds import compare_seeds
from pclhd.report.compare.warnings import find_notes, find_warnings
from pclhd.report.tables import order_weights
from pclhd.runs.records import recorded_fact


@dataclass(frozen=True)
class RunComparison:
    """A comparison of runs.

    Attributes:
        runs: The runs in the given order.
        groups: The same runs; those that differ only in seed or trial form a group.
        warnings: Why some of the numbers must not be compared.
        notes: What is missing.
    """

    runs: tuple[ComparedRun, ...]
    groups: tuple[Group, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def grouped(self) -> bool:
        """Whether any group has more than one run."""
        return len(self.groups) < len(self.runs)

    @property
    def draws(self) -> str:
        """What the runs of a group differ in, in words."""
        return "seeds" if all(run.trial is None for run in self.runs) else "trials and seeds"

    def result_keys(self) -> list[ResultKey]:
        """Keys of all results: searches in order of occurrence, weights in order of training, measures as listed."""
        pairs = [(row.search, row.weights) for run in self.runs if run.results is not None for row in run.results.rows]
        return [
            (search, weights, measure)
            for search in dict.fromkeys(search for search, _ in pairs)
            for weights in order_weights([name for of, name in pairs if of == search])
            for measure in MEASURES
        ]

    def cluster_names(self) -> list[str]:
        """The names of all numbers of the last epoch's pseudo labels, over all runs."""
        return list(dict.fromkeys(name for run in self.runs for name in run.clusters()))

    def settings(self) -> dict[str, list[Value]]:
        """Settings that differ: one value per run, None where it is null or was not recorded."""
        keys = dict.fromkeys(key for run in self.runs for key in run.settings)
        values = {key: [run.settings.get(key) for run in self.runs] for key in keys}
        return {key: of_runs for key, of_runs in values.items() if len(set(map(repr, of_runs))) > 1}

    def facts(self) -> dict[str, list[str | None]]:
        """Provenance that differs between runs that recorded it: one text per run."""
        facts: dict[str, list[str | None]] = {}
        for key in dict.fromkeys(key for run in self.runs for key in run.facts if key != "seed"):
            texts = [recorded_fact(run.facts, key) for run in self.runs]
            if len(set(texts) - {None}) > 1:
                facts[key] = texts
        return facts

    def to_dict(self) -> dict[str, Any]:
        """The comparison for JSON; shares are fractions."""
        return {
            "runs": [
                {
                    "folder": str(run.saved.folder),
                    "name": run.name,
                    "seed": run.seed,
                    "labels": run.saved.labels,
                    "imported": run.saved.imported,
                    "epochs": len(run.saved.epochs),
                    "evaluated": run.results is not None,
                }
                for run in self.runs
            ],
            "groups": [
                {
                    "name": group.name,
                    "runs": [run.name for run in group.runs],
                    "seeds": [run.seed for run in group.runs],
                    "trials": [run.trial for run in group.runs],
                }
                for group in self.groups
            ],
            "warnings": list(self.warnings),
            "notes": list(self.notes),
            "settings": self.settings(),
            "provenance": self.facts(),
            "results": [
                {"search": search, "weights": weights, "measure": measure, **self._numbers((search, weights, measure))}
                for search, weights, measure in self.result_keys()
            ],
            "clusters": {name: [run.clusters().get(name) for run in self.runs] for name in self.cluster_names()},
        }

    def _numbers(self, key: ResultKey) -> dict[str, Any]:
        values = [run.measured().get(key) for run in self.runs]
        first = values[0]
        numbers: dict[str, Any] = {
            "runs": values,
            "differences": [None if first is None or value is None else value - first for value in values],
        }
        if self.grouped:
            numbers["groups"] = [self._group_numbers(group, key) for group in self.groups]
        return numbers

    def _group_numbers(self, group: Group, key: ResultKey) -> dict[str, Any]:
        values = group.by_seed(key)
        difference = None if group is self.groups[0] else compare_seeds(self.groups[0].by_seed(key), values)
        return {
            "mean": fmean(values.values()) if values else None,
            "std": stdev(values.values()) if len(values) > 1 else None,
            "seeds": len(values),
            "difference": None
            if difference is None
            else {
                "mean": difference.mean,
                "low": difference.low,
                "high": difference.high,
                "seeds": difference.seeds,
                "distinguishable": difference.distinguishable,
            },
        }


def compare_runs(folders: Sequence[Path]) -> RunComparison:
    """Read runs and compare them.

    Args:
        folders: Two run folders or more; the others are compared with the first.

    Raises:
        UserError: There are fewer than two different folders, one of them is not a run folder, or a file is malformed.
    """
    if len(folders) < 2:
        raise UserError("one run cannot be compared; name two or more run folders: pclhd compare RUN RUN")
    seen = Counter(folder.resolve() for folder in folders)
    twice = [folder for folder in folders if seen[folder.resolve()] > 1]
    if twice:
        raise UserError(f"{twice[0]}: is named twice; name each run once")
    runs = read_runs(folders)
    groups = group_runs(runs)
    return RunComparison(runs, groups, tuple(find_warnings(runs, groups)), tuple(find_notes(runs)))
