"""How the settings of a trial are chosen: Optuna's samplers and pruners, with a seed for each trial (ours)."""

from __future__ import annotations

from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from pclhd.streams import Streams
from pclhd.study.definition import Categorical, Definition, IntRange


class TrialSampler(BaseSampler):
    """A sampler whose draws depend on the study's seed, the trial's number and the finished trials, and nothing else.

    Optuna's samplers count on one process that never ends: after a restart they would draw the same values again. Here
    each trial has a sampler of its own, so a study that was interrupted has the trials of one that was not.

    Args:
        definition: Says which sampler.
    """

    def __init__(self, definition: Definition) -> None:
        self._definition = definition
        self._streams = Streams(definition.sampler_seed)
        self._of_trial: tuple[int, BaseSampler] | None = None

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The settings that are chosen together."""
        return self._for(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Values that are chosen together."""
        return self._for(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A value that is chosen alone."""
        return self._make(trial, param_name).sample_independent(study, trial, param_name, param_distribution)

    def _for(self, trial: FrozenTrial) -> BaseSampler:
        if self._of_trial is None or self._of_trial[0] != trial.number:
            self._of_trial = trial.number, self._make(trial, "together")
        return self._of_trial[1]

    def _make(self, trial: FrozenTrial, purpose: str) -> BaseSampler:
        seed = int(self._streams.numpy("sampler", trial.number, purpose).integers(2**32))
        if self._definition.sampler == "random":
            return RandomSampler(seed=seed)
        return TPESampler(seed=seed, n_startup_trials=self._definition.startup_trials)


def make_pruner(definition: Definition) -> BasePruner:
    """The pruner of a study: a trial below the median of the others at the same epoch ends there, or none ever does."""
    if not definition.prunes:
        return NopPruner()
    return MedianPruner(n_startup_trials=definition.pruner_trials, n_warmup_steps=definition.pruner_epochs)


def distributions(definition: Definition) -> dict[str, BaseDistribution]:
    """The space in Optuna's terms."""
    return {key: _distribution(part) for key, part in definition.space.items()}


def _distribution(part: Any) -> BaseDistribution:
    if isinstance(part, Categorical):
        return CategoricalDistribution(part.choices)
    if isinstance(part, IntRange):
        return IntDistribution(part.low, part.high, log=part.log, step=part.step)
    return FloatDistribution(part.low, part.high, log=part.log, step=part.step)
