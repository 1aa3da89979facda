from __future__ import annotations

from typing import Any

import optuna
import pytest
from optuna.pruners import MedianPruner, NopPruner
from optuna.trial import Trial

from pclhd.study.definition import Definition
from pclhd.study.running import suggest
from pclhd.study.sampling import TrialSampler, distributions, make_pruner

optuna.logging.set_verbosity(optuna.logging.ERROR)


def definition(**changes: Any) -> Definition:
    space = {
        "clustering.eps": {"type": "float", "low": 0.4, "high": 0.7},
        "clustering.k1": {"type": "int", "low": 4, "high": 40, "log": True},
        "method.hard_share": {"type": "float", "low": 0.0, "high": 1.0, "step": 0.25},
        "recipe": {"type": "categorical", "choices": ["paper", "released"]},
    }
    return Definition.model_validate({"preset": "tiny", "space": space, "startup_trials": 4, **changes})


def tell(study: optuna.Study, trial: Trial, space: dict[str, Any]) -> dict[str, Any]:
    params = {key: suggest(trial, key, one) for key, one in space.items()}
    study.tell(trial, (params["clustering.eps"] - 0.5) ** 2 + params["clustering.k1"] / 40)
    return params


def trials(one: Definition, number: int, *, restart_every: int = 1000) -> list[dict[str, Any]]:
    """The settings of the first trials, with a new process every few of them."""
    study, found = optuna.create_study(direction="maximize"), []
    for index in range(number):
        if index % restart_every == 0:
            study.sampler = TrialSampler(one)
        found.append(tell(study, study.ask(), distributions(one)))
    return found


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_restarts_change_no_trial(sampler: str) -> None:
    one = definition(sampler=sampler)
    whole = trials(one, 9)
    assert trials(one, 9, restart_every=1) == whole
    assert trials(one, 9, restart_every=4) == whole
    # A sampler that begins again would draw its first trial again.
    assert len({tuple(params.items()) for params in whole}) == 9
    assert trials(definition(sampler=sampler, sampler_seed=1), 9) != whole


def test_tpe_learns_and_random_does_not() -> None:
    assert trials(definition(), 4) == trials(definition(sampler="random"), 4)
    assert trials(definition(), 9) != trials(definition(sampler="random"), 9)


def test_settings_of_one_trial_are_drawn_apart() -> None:
    params = [one["clustering.eps"] for one in trials(definition(sampler="random"), 20)]
    shares = [one["method.hard_share"] for one in trials(definition(sampler="random"), 20)]
    scaled = [(one - 0.4) / 0.3 for one in params]
    assert max(abs(a - b) for a, b in zip(scaled, shares, strict=True)) > 0.3


def test_a_trial_keeps_the_settings_it_has() -> None:
    one = definition(sampler="random")
    study = optuna.create_study(direction="maximize", sampler=TrialSampler(one))
    begun = study.ask()
    space = distributions(one)
    first = suggest(begun, "clustering.eps", space["clustering.eps"])
    again = Trial(study, begun._trial_id)
    params = {key: suggest(again, key, part) for key, part in space.items()}
    assert params["clustering.eps"] == first
    # Killed between two settings, or not: the others are the same.
    whole = optuna.create_study(direction="maximize", sampler=TrialSampler(one))
    assert params == tell(whole, whole.ask(), space)


def test_the_pruner() -> None:
    assert isinstance(make_pruner(definition()), MedianPruner)
    assert isinstance(make_pruner(definition(pruner="none")), NopPruner)
    assert isinstance(make_pruner(definition(objective="oracle")), NopPruner)
