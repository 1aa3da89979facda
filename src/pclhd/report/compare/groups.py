"""Groups of runs that differ only in their seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from pclhd.report.compare.runs import ComparedRun, ResultKey, Value
from pclhd.runs.records import Results

# Settings that may differ within a group: the seed, and those that do not affect any number.
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
        "engine.mlflow",
        "engine.wandb",
    }
)


@dataclass(frozen=True)
class Group:
    """Runs that differ only in the seed.

    Attributes:
        name: The common beginning of its runs' names; the run's name if there is only one.
        runs: Its runs, in the given order.
    """

    name: str
    runs: tuple[ComparedRun, ...]

    def by_seed(self, key: ResultKey) -> dict[Value, float]:
        """A measure of its runs, by seed; runs that were not evaluated are left out.

        The key of a run with an unknown seed is its name, which is unique, so it is not paired with any other run.
        """
        values = {run.name if run.seed is None else run.seed: run.measured().get(key) for run in self.runs}
        return {seed: value for seed, value in values.items() if value is not None}


def group_runs(runs: Sequence[ComparedRun]) -> tuple[Group, ...]:
    """Group runs that differ only in their seed; a second run with the same seed starts another group.

    Args:
        runs: Runs with different names.

    Returns:
        The groups in the order of their first runs.
    """
    trained = [_trained_with(run) for run in runs]
    tested: dict[Hashable, Hashable] = {}
    for run, same in zip(runs, trained, strict=True):
        if run.results is not None:
            tested.setdefault(same, _tested_on(run.results))
    groups: dict[Hashable, list[ComparedRun]] = {}
    for run, same in zip(runs, trained, strict=True):
        # A run that has not been evaluated joins those that have.
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
    """The properties of training that are equal within a group."""
    return (
        tuple(sorted((k, repr(v)) for k, v in run.settings.items() if v is not None and k not in _MAY_VARY)),
        run.facts.get("data.training_checksum"),
        run.facts.get("start_weights.sha256"),
        run.saved.labels,
        # The training of an imported run is unknown, so it does not share a group with any other.
        run.name if run.saved.imported else None,
    )


def _tested_on(results: Results) -> Hashable:
    return results.dataset.checksum, results.dataset.test_checksum


def _group_name(names: Sequence[str]) -> str:
    """The common beginning of the names; for ``paper-0`` and ``paper-1`` it is ``paper``."""
    if len(names) == 1:
        return names[0]
    common = names[0]
    while not all(name.startswith(common) for name in names):
        common = common[:-1]
    return common.rstrip("-_. /") or f"{names[0]} …"
