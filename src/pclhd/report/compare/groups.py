"""Groups of runs that differ only in their seed, or in the trial of RegDB, each of which is a training of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from pclhd.report.compare.runs import ComparedRun, ResultKey, Value
from pclhd.runs.records import Results

# Settings that may differ within a group: seed and trial, and those that do not affect any number.
_MAY_VARY = frozenset(
    {
        "seed",
        "data.trial",
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
    """Runs that differ only in the seed, or in the trial.

    Attributes:
        name: The common beginning of its runs' names; the run's name if there is only one.
        runs: Its runs, in the given order.
    """

    name: str
    runs: tuple[ComparedRun, ...]

    def by_seed(self, key: ResultKey) -> dict[Value, float]:
        """A measure of its runs, by seed and trial; runs that were not evaluated are left out.

        The key of a run with an unknown seed is its name, which is unique, so it is not paired with any other run.
        """
        values = {run.name if run.draw is None else run.draw: run.measured().get(key) for run in self.runs}
        return {seed: value for seed, value in values.items() if value is not None}


def group_runs(runs: Sequence[ComparedRun]) -> tuple[Group, ...]:
    """Group runs that differ only in seed or trial; a second run with the same seed and trial starts another group.

    Args:
        runs: Runs with different names.

    Returns:
        The groups in the order of their first runs.
    """
    trained = [_trained_with(run) for run in runs]
    tested: dict[Hashable, Hashable] = {}
    for run, same in zip(runs, trained, strict=True):
        if run.results is not None:
            tested.setdefault(same, _tested_on(run, run.results))
    groups: dict[Hashable, list[ComparedRun]] = {}
    for run, same in zip(runs, trained, strict=True):
        # A run that has not been evaluated joins those that have.
        on = tested.get(same) if run.results is None else _tested_on(run, run.results)
        times = 0
        while any(_exclude_each_other(run, other) for other in groups.get((same, on, times), [])):
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
        run.pool,
        run.facts.get("start_weights.sha256"),
        run.saved.labels,
        # The training of an imported run is unknown, so it does not share a group with any other.
        run.name if run.saved.imported else None,
    )


def _tested_on(run: ComparedRun, results: Results) -> Hashable:
    return None if run.trial is not None else (results.dataset.checksum, results.dataset.test_checksum)


def _exclude_each_other(one: ComparedRun, other: ComparedRun) -> bool:
    """Whether two runs cannot be of one group: they are the same draw, or the same trial of other images."""
    if one.draw == other.draw:
        return True
    images = [(run.facts.get("data.training_checksum"), run.trial) for run in (one, other)]
    return one.trial is not None and one.trial == other.trial and images[0] != images[1]


def _group_name(names: Sequence[str]) -> str:
    """The common beginning of the names; for ``paper-0`` and ``paper-1`` it is ``paper``."""
    if len(names) == 1:
        return names[0]
    common = names[0]
    while not all(name.startswith(common) for name in names):
        common = common[:-1]
    return common.rstrip("-_. /") or f"{names[0]} …"
