"""Compare runs by what their folders say: settings, provenance, results; several seeds of one setting as a group.

Nothing is computed from images or models. Where two numbers must not be compared, a warning says so, and they are
there all the same. `pclhd.report.compare.text` prints what is found here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from pclhd.errors import UserError
from pclhd.report.compare.seeds import compare_seeds
from pclhd.report.tables import order_weights
from pclhd.runs.folder import RunFolder
from pclhd.runs.records import (
    ClusterRecord,
    EpochRecord,
    Results,
    find_setting,
    recorded_fact,
)

MEASURES = {"rank1": "Rank-1", "mAP": "mAP", "mINP": "mINP"}
"""The measures that are compared, and how tables call them."""

# What may differ within a group: the seed, and what changes no number.
_MAY_VARY = frozenset(
    {
        "seed",
        "data.root",
        "data.workers",
        "data.cache",
        "data.cache_gib",
        "engine.log_every",
        "engine.checkpoint_minutes",
        "engine.keep_weights",
        "engine.tensorboard",
    }
)

Value = str | int | float | bool | None

ResultKey = tuple[str, str, str]
"""Search, weights and measure of a result."""


@dataclass(frozen=True)
class ComparedRun:
    """What a run folder says.

    Attributes:
        folder: The folder.
        name: Its name; more of its path where runs share a name.
        settings: The settings by dotted key.
        facts: The provenance by dotted key.
        results: What was measured, or None.
        last_epoch: The last one logged, or None.
        epochs: How many were logged.
        labels: Whether identities trained it: ``none``, ``identities`` or ``visible_identities``.
    """

    folder: Path
    name: str
    settings: Mapping[str, Value]
    facts: Mapping[str, str]
    results: Results | None
    last_epoch: EpochRecord | None
    epochs: int
    labels: str

    @property
    def seed(self) -> Value:
        """The seed it was trained with; None where that is not known."""
        return None if self.imported else self.settings.get("seed")

    @property
    def imported(self) -> bool:
        """Whether its weights come from somewhere else."""
        return any(key.startswith("imported.") for key in self.facts)

    def measured(self) -> dict[ResultKey, float]:
        """Means over the trials, by search, weights and measure."""
        rows = () if self.results is None else self.results.rows
        return {(row.search, row.weights, measure): getattr(row, measure).mean for row in rows for measure in MEASURES}

    def clusters(self) -> dict[str, float]:
        """The last epoch's pseudo labels: counts, shares, and agreement with identities where it was logged."""
        epoch = self.last_epoch
        if epoch is None:
            return {}
        found: dict[str, float] = {"epochs": self.epochs}
        parts: dict[str, ClusterRecord | None] = {
            "visible": epoch.visible,
            "infrared": epoch.infrared,
            "joint": epoch.joint,
        }
        for name, part in parts.items():
            if part is not None:
                found |= {f"{name} clusters": part.clusters, f"{name} noise": part.noise}
        for prefix, tree in (("matched ", epoch.matched), ("", epoch.labels)):
            found |= {f"{prefix}{name}": value for name, value in (tree or {}).items() if value is not None}
        return {name: value for name, value in found.items() if math.isfinite(value)}


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but the seed.

    Attributes:
        name: Of the group; of the run, if it is only one.
        runs: Its runs, in the order in which they were given.
    """

    name: str
    runs: tuple[ComparedRun, ...]

    def by_seed(self, key: ResultKey) -> dict[Value, float]:
        """A measure of its runs, by their seed; those that were not evaluated are left out.

        Of a run whose seed is not known, the name stands for it, which no other run has.
        """
        found = {run.name if run.seed is None else run.seed: run.measured().get(key) for run in self.runs}
        return {seed: value for seed, value in found.items() if value is not None}


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
        runs: In the order given.
        groups: The same runs, those that differ only in their seed together.
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

    def result_keys(self) -> list[ResultKey]:
        """What was measured: searches as first met, weights in the order of training, measures as listed."""
        pairs = [(row.search, row.weights) for run in self.runs if run.results is not None for row in run.results.rows]
        return [
            (search, weights, measure)
            for search in dict.fromkeys(search for search, _ in pairs)
            for weights in order_weights([name for of, name in pairs if of == search])
            for measure in MEASURES
        ]

    def cluster_names(self) -> list[str]:
        """What is known of the last epoch's pseudo labels, in any run."""
        return list(dict.fromkeys(name for run in self.runs for name in run.clusters()))

    def settings(self) -> dict[str, list[Value]]:
        """Settings that differ: a value per run, None where it is null or was not recorded."""
        keys = dict.fromkeys(key for run in self.runs for key in run.settings)
        values = {key: [run.settings.get(key) for run in self.runs] for key in keys}
        return {key: found for key, found in values.items() if len(set(map(repr, found))) > 1}

    def facts(self) -> dict[str, list[str | None]]:
        """Provenance that differs between runs that recorded it: a text per run."""
        found: dict[str, list[str | None]] = {}
        for key in dict.fromkeys(key for run in self.runs for key in run.facts if key != "seed"):
            texts = [recorded_fact(run.facts, key) for run in self.runs]
            if len(set(texts) - {None}) > 1:
                found[key] = texts
        return found

    def to_dict(self) -> dict[str, Any]:
        """All of it for JSON; shares as fractions."""
        return {
            "runs": [
                {
                    "folder": str(run.folder),
                    "name": run.name,
                    "seed": run.seed,
                    "labels": run.labels,
                    "imported": run.imported,
                    "epochs": run.epochs,
                    "evaluated": run.results is not None,
                }
                for run in self.runs
            ],
            "groups": [
                {
                    "name": group.name,
                    "runs": [run.name for run in group.runs],
                    "seeds": [run.seed for run in group.runs],
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


def compare_runs(folders: Sequence[Path]) -> Comparison:
    """Read runs and lay them side by side.

    Args:
        folders: Two run folders or more; the first is what the others are compared with.

    Raises:
        UserError: There are fewer than two different folders, one of them is no run folder, or a file is damaged.
    """
    if len(folders) < 2:
        raise UserError("one run cannot be compared; name two run folders or more: pclhd compare RUN RUN")
    seen = Counter(folder.resolve() for folder in folders)
    twice = [folder for folder in folders if seen[folder.resolve()] > 1]
    if twice:
        raise UserError(f"{twice[0]}: is named twice; name each run once")
    runs = tuple(_read_run(folder, name) for folder, name in zip(folders, _names(folders), strict=True))
    return Comparison(runs, _group(runs), tuple(_warnings(runs)), tuple(_notes(runs)))


def _read_run(folder: Path, name: str) -> ComparedRun:
    run = RunFolder(folder)
    run.require_run()
    _, settings = run.saved_settings() or ("", {})
    labels = find_setting(settings, "method.labels")
    if labels in (None, "clusters"):
        labels = "identities" if run.model_metadata().get("weights") == "supervised" else "none"
    epochs = run.epochs()
    return ComparedRun(
        folder,
        name,
        _flatten(settings),
        run.facts(),
        run.results(),
        epochs[-1] if epochs else None,
        len(epochs),
        str(labels),
    )


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Value]:
    flat: dict[str, Value] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if value is None or isinstance(value, str | int | float) else str(value)
    return flat


def _names(folders: Sequence[Path]) -> list[str]:
    """The last part of each path; as many as tell them apart, if that does not."""
    parts = [folder.resolve().parts for folder in folders]
    length = 1
    while len({found[-length:] for found in parts}) < len(parts):
        length += 1
    return ["/".join(found[-length:]) for found in parts]


def _group(runs: Sequence[ComparedRun]) -> tuple[Group, ...]:
    """Runs that are the same but for the seed; a seed that is there twice opens another group."""
    trained = [_trained_with(run) for run in runs]
    tested: dict[Hashable, Hashable] = {}
    for run, same in zip(runs, trained, strict=True):
        if run.results is not None:
            tested.setdefault(same, _tested_on(run.results))
    groups: dict[Hashable, list[ComparedRun]] = {}
    for run, same in zip(runs, trained, strict=True):
        # A run that is not evaluated yet goes with those that are.
        on = tested.get(same) if run.results is None else _tested_on(run.results)
        times = 0
        while any(run.seed == other.seed for other in groups.get((same, on, times), [])):
            times += 1
        groups.setdefault((same, on, times), []).append(run)
    names = [_group_name([run.name for run in members]) for members in groups.values()]
    repeated = Counter(names)
    return tuple(
        Group(name if repeated[name] == 1 else f"{name} ({number})", tuple(members))
        for number, (name, members) in enumerate(zip(names, groups.values(), strict=True), start=1)
    )


def _trained_with(run: ComparedRun) -> Hashable:
    """What runs of a group have in common, apart from what they were tested on."""
    return (
        tuple(sorted((k, repr(v)) for k, v in run.settings.items() if v is not None and k not in _MAY_VARY)),
        run.facts.get("data.training_checksum"),
        run.facts.get("start_weights.sha256"),
        run.labels,
        # What an import was trained with, nobody knows.
        run.name if run.imported else None,
    )


def _tested_on(results: Results) -> Hashable:
    return results.dataset.checksum, results.dataset.test_checksum


def _group_name(names: Sequence[str]) -> str:
    """What the runs' names begin with in common; ``paper-0`` and ``paper-1`` are ``paper``."""
    if len(names) == 1:
        return names[0]
    common = names[0]
    while not all(name.startswith(common) for name in names):
        common = common[:-1]
    return common.rstrip("-_. /") or f"{names[0]} …"


def _warnings(runs: Sequence[ComparedRun]) -> Iterable[str]:
    first = runs[0]
    for run in runs[1:]:
        yield from _data_warnings(first, run)
        yield from _search_warnings(first, run)
    for run in runs:
        if run.labels != "none":
            which = "the visible images" if run.labels == "visible_identities" else "all training images"
            yield f"{run.name} was trained with the identities of {which}; it is a bound, not a rival"
        if run.imported:
            yield f"{run.name} was imported: how it was trained, and on what, is not known; its settings do not tell"


def _data_warnings(first: ComparedRun, run: ComparedRun) -> Iterable[str]:
    if first.results is not None and run.results is not None:
        ours, theirs = first.results.dataset, run.results.dataset
        if ours.name != theirs.name:
            yield f"not comparable: {run.name} was tested on {theirs.name}, {first.name} on {ours.name}"
            return
        # Files from before test images had a checksum tell data sets apart by their training images.
        known = None not in (ours.test_checksum, theirs.test_checksum)
        for what, before, now in (
            ("test images with checksum {}", _short(ours.test_checksum), _short(theirs.test_checksum)),
            ("data with checksum {}", None if known else _short(ours.checksum), _short(theirs.checksum)),
            ("{} images", ours.test_images, theirs.test_images),
        ):
            if None not in (before, now) and before != now:
                tested = what.format(now), what.format(before)
                yield f"not comparable: {run.name} was tested on {tested[0]}, {first.name} on {tested[1]}"
                return
    if first.imported or run.imported:
        return
    before, now = (_short(one.facts.get("data.training_checksum")) for one in (first, run))
    if None not in (before, now) and before != now:
        yield f"{run.name} was trained on other images (checksum {now}) than {first.name} ({before})"


def _search_warnings(first: ComparedRun, run: ComparedRun) -> Iterable[str]:
    if first.results is None or run.results is None:
        return
    ours = {row.search: (row.queries, row.gallery, row.trials) for row in first.results.rows}
    theirs = {row.search: (row.queries, row.gallery, row.trials) for row in run.results.rows}
    if ours.keys() != theirs.keys():
        apart = ", ".join(sorted(ours.keys() ^ theirs.keys()))
        yield f"{run.name} and {first.name} were not searched alike; only one of them has: {apart}"
    for search in ours.keys() & theirs.keys():
        for what, before, now in zip(
            ("queries", "gallery images", "trials"), ours[search], theirs[search], strict=True
        ):
            if None not in (before, now) and before != now:
                yield (f"not comparable: {search} had {now:,} {what} in {run.name}, and {before:,} in {first.name}")
    rules = [run.settings.get("data.same_camera_rule", False) for run in (first, run)]
    if rules[0] != rules[1]:
        yield f"not comparable: {run.name} and {first.name} differ in data.same_camera_rule, a rule of the search"


def _notes(runs: Sequence[ComparedRun]) -> Iterable[str]:
    for run in runs:
        if run.results is None:
            yield f"{run.name} was not evaluated; do so with: pclhd evaluate {run.folder}"
        if not run.facts:
            yield f"{run.name} has no provenance, so its versions and its machine are unknown"
        planned = [run.settings.get(f"schedule.stage{stage}_epochs") for stage in (1, 2)]
        total = sum(number for number in planned if isinstance(number, int))
        if run.epochs and run.epochs < total:
            yield f"{run.name} logged {run.epochs} of {total} epochs; go on with: pclhd train --resume {run.folder}"


def _short(checksum: str | None) -> str | None:
    return None if checksum is None else checksum[:12]
