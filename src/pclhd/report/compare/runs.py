"""A compared run: its results and clusters as numbers by name."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pclhd.runs.folder import RunFolder
from pclhd.runs.records import ClusterRecord, Results, flatten
from pclhd.runs.saved import SavedRun, read_run

MEASURES = {"rank1": "Rank-1", "mAP": "mAP", "mINP": "mINP"}
"""The compared measures, and their names in tables."""

Value = str | int | float | bool | None

ResultKey = tuple[str, str, str]
"""Search, weights and measure of a result."""


@dataclass(frozen=True)
class ComparedRun:
    """A run with its name in a comparison.

    Attributes:
        name: The folder's name; more of its path where runs share a name.
        saved: The contents of the folder.
        settings: The settings by dotted key.
    """

    name: str
    saved: SavedRun
    settings: Mapping[str, Value]

    @property
    def facts(self) -> Mapping[str, str]:
        """The provenance by dotted key."""
        return self.saved.facts

    @property
    def results(self) -> Results | None:
        """The last evaluation, or None."""
        return self.saved.results

    @property
    def seed(self) -> Value:
        """The seed of its training; None if it is unknown."""
        return None if self.saved.imported else self.settings.get("seed")

    @property
    def trial(self) -> int | None:
        """Which of RegDB's ten splits it was trained and tested on; None for other data, or if it is unknown."""
        if self.results is not None:
            layout, _, number = self.results.dataset.name.partition("-")
            return int(number) if layout == "regdb" and number.isdecimal() else None
        number_set = self.settings.get("data.trial")
        return number_set if self.settings.get("data.layout") == "regdb" and isinstance(number_set, int) else None

    @property
    def draw(self) -> Value:
        """What differs between the runs of a group: the seed, and in RegDB the trial; None if the seed is unknown."""
        return self.seed if self.seed is None or self.trial is None else f"trial {self.trial}, seed {self.seed}"

    @property
    def pool(self) -> tuple[Hashable, ...]:
        """What the runs of a group have in common besides settings: images, or in RegDB those of all trials.

        The trials have other images each, so the folder says that they are of one data set.
        """
        if self.trial is not None:
            return "regdb", self.settings.get("data.root")
        return (self.facts.get("data.training_checksum"),)

    def measured(self) -> dict[ResultKey, float]:
        """Means over the trials, by search, weights and measure."""
        rows = () if self.results is None else self.results.rows
        return {(row.search, row.weights, measure): getattr(row, measure).mean for row in rows for measure in MEASURES}

    def clusters(self) -> dict[str, float]:
        """The last epoch's pseudo labels: counts, shares, and agreement with identities if it was logged."""
        if not self.saved.epochs:
            return {}
        epoch = self.saved.epochs[-1]
        numbers: dict[str, float] = {"epochs": len(self.saved.epochs)}
        parts: dict[str, ClusterRecord | None] = {
            "visible": epoch.visible,
            "infrared": epoch.infrared,
            "joint": epoch.joint,
        }
        for name, part in parts.items():
            if part is not None:
                numbers |= {f"{name} clusters": part.clusters, f"{name} noise": part.noise}
        for prefix, tree in (("matched ", epoch.matched), ("", epoch.labels)):
            numbers |= {f"{prefix}{name}": value for name, value in (tree or {}).items() if value is not None}
        return {name: value for name, value in numbers.items() if math.isfinite(value)}


def read_runs(folders: Sequence[Path]) -> tuple[ComparedRun, ...]:
    """Read different run folders, in the order given.

    Raises:
        UserError: One of them is not a run folder, or a file is malformed.
    """
    return tuple(_read_run(RunFolder(folder), name) for folder, name in zip(folders, _names(folders), strict=True))


def _read_run(folder: RunFolder, name: str) -> ComparedRun:
    folder.require_run()
    saved = read_run(folder)
    settings = {
        key: value if value is None or isinstance(value, str | int | float) else str(value)
        for key, value in flatten(saved.settings).items()
    }
    return ComparedRun(name, saved, settings)


def _names(folders: Sequence[Path]) -> list[str]:
    """The last part of each path; as many parts as needed to make the names differ."""
    parts = [folder.resolve().parts for folder in folders]
    length = 1
    while len({names[-length:] for names in parts}) < len(parts):
        length += 1
    return ["/".join(names[-length:]) for names in parts]
