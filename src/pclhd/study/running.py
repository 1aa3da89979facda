"""Run a study: train one trial after the other, and record the result of each in the database."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from pclhd.data.records import Dataset
from pclhd.engine.interruption import Interruption
from pclhd.engine.labelling import EpochLabels
from pclhd.engine.observer import Silent
from pclhd.engine.position import Position
from pclhd.errors import UserError
from pclhd.files import UNFINISHED, discard
from pclhd.runs.folder import RunFolder, checkpoint_files, owning_run
from pclhd.runs.records import SelectionRecord
from pclhd.study.definition import ORACLE, Definition, Scalar
from pclhd.study.folder import StudyFolder
from pclhd.study.sampling import TrialSampler, distributions, make_pruner
from pclhd.study.slots import ERROR, Slots, count_finished
from pclhd.study.storage import find_study, open_study, speaking_plainly, write_record
from pclhd.workflows.evaluate import evaluate_run
from pclhd.workflows.train import train_run

#: After this number of trials in a row that could not be trained, the study stops.
_MOST_ERRORS = 3


class Pruned(BaseException):
    """A trial ends early, since others were better at the same epoch. Not an `Exception`: nothing failed."""


class StudyObserver:
    """Methods that are called during a study. Each does nothing."""

    def began(self, number: int, params: Mapping[str, Any]) -> None:
        """A trial begins, or is continued."""

    def ended(self, trial: FrozenTrial, seconds: float, left: int) -> None:
        """A trial is over; `left` others are missing."""

    def waiting(self) -> None:
        """All trials that are left are run by other processes."""

    def warned(self, message: str) -> None:
        """A training recovered from a problem."""


@dataclass(frozen=True)
class StudyData:
    """The images of a study.

    Attributes:
        dataset: Those that are trained with.
        validation: Labelled people for the oracle; None for all other objectives.
    """

    dataset: Dataset
    validation: Dataset | None = None

    def checksums(self) -> dict[str, str]:
        """What makes them these images."""
        found = {"training": self.dataset.train.checksum}
        if self.validation is not None and self.validation.test is not None:
            found["validation"] = self.validation.test.checksum()
        return found


def run_study(
    definition: Definition,
    data: StudyData,
    folder: StudyFolder,
    *,
    trials: int,
    name: str | None = None,
    url: str | None = None,
    device: str | None = None,
    observer: StudyObserver | None = None,
    interruption: Interruption | None = None,
) -> None:
    """Work on a study until it has a number of finished trials; others may work on it at the same time.

    Args:
        definition: What is searched.
        data: The images.
        folder: The study's folder here; new, or that of the same study.
        trials: How many finished trials the study is to have in all, pruned ones included.
        name: Its name in the database; by default that of the folder.
        url: Address of a server's database; None for a file in the folder.
        device: Where to train; None as the preset says.
        observer: Called during the study.
        interruption: Ends the training on a signal, with a checkpoint; the same call then continues the study.

    Raises:
        UserError: The folder or the database holds another study or cannot be used, or several trials in a row failed.
        Interrupted: A signal arrived.
    """
    observer = observer or StudyObserver()
    found = find_study(folder, url)
    if found is not None and name not in (None, found[1]):
        raise UserError(f"{folder}: holds the study {found[1]}, not {name}; leave out --name, or name another folder")
    if found is None and folder.path.exists() and any(folder.path.iterdir()):
        raise UserError(f"{folder}: is not the folder of a study, and not empty; name another one")
    name = found[1] if found is not None else name or folder.path.absolute().name
    identity = definition.identity(data.checksums())
    folder.path.mkdir(parents=True, exist_ok=True)
    try:
        study, storage = open_study(folder, url, name, identity)
    except UserError:
        with suppress(OSError):  # one that holds anything stays
            folder.path.rmdir()
        raise
    with speaking_plainly(url):
        study.sampler, study.pruner = TrialSampler(definition), make_pruner(definition)
        if found is None:
            write_record(folder, url, name, identity)
        slots = Slots(study, storage, folder, trials, shared=url is not None, on_wait=observer.waiting)
        runner = _Runner(definition, data, folder, device, observer, interruption)
        while True:
            with slots.next() as trial:
                if trial is None:
                    return
                _run(runner, study, trial, slots, trials, observer)


def _run(
    runner: _Runner, study: optuna.Study, trial: Trial, slots: Slots, wanted: int, observer: StudyObserver
) -> None:
    """Run a trial, and record the result."""
    started = time.monotonic()
    value, state = None, TrialState.PRUNED
    try:
        value, state = runner.value_of(trial), TrialState.COMPLETE
    except Pruned:
        pass
    except UserError as error:
        if isinstance(error.__cause__, OSError):
            raise  # of the disk, not of the settings: the trial is continued by the next call
        trial.set_user_attr(ERROR, str(error))
    if value is not None and not math.isfinite(value):
        trial.set_user_attr(ERROR, f"its objective is {value}")
        value, state = None, TrialState.PRUNED
    try:
        study.tell(trial, value, state)
    except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
        if next(one.state for one in slots.trials() if one.number == trial.number) == TrialState.RUNNING:
            raise
        observer.warned(f"trial {trial.number}: others took this process for dead and try its settings again")
        return
    if state == TrialState.COMPLETE:
        runner.clear_up(trial)
    trials = slots.trials()
    ended = next(one for one in trials if one.number == trial.number)
    observer.ended(ended, time.monotonic() - started, max(0, wanted - count_finished(trials)))
    last = [one for one in trials if one.state.is_finished()][-_MOST_ERRORS:]
    if ERROR in ended.user_attrs and len(last) == _MOST_ERRORS and all(ERROR in one.user_attrs for one in last):
        raise UserError(
            f"{_MOST_ERRORS} trials in a row could not be trained, the last because: {ended.user_attrs[ERROR]}; "
            "correct the study's settings, and name another folder"
        )


class _Runner:
    """Trains trials."""

    def __init__(
        self,
        definition: Definition,
        data: StudyData,
        folder: StudyFolder,
        device: str | None,
        observer: StudyObserver,
        interruption: Interruption | None,
    ) -> None:
        self._definition, self._data, self._folder = definition, data, folder
        self._device, self._observer, self._interruption = device, observer, interruption
        self._space = distributions(definition)

    def value_of(self, trial: Trial) -> float:
        """The objective of a trial: the mean over its seeds.

        Raises:
            Pruned: The trial is not worth its end.
            UserError: Its settings cannot be trained with.
        """
        params = {key: suggest(trial, key, distribution) for key, distribution in self._space.items()}
        self._observer.began(trial.number, params)
        values = []
        for index, seed in enumerate(self._definition.seeds):
            run = self._folder.run(trial.number, seed)
            self._train(trial, params, seed, index, run)
            values.append(self._measure(run))
        return fmean(values)

    def clear_up(self, trial: Trial) -> None:
        """Remove the checkpoints of a complete trial: hundreds of trials would fill a disk."""
        for seed in self._definition.seeds:
            run = self._folder.run(trial.number, seed)
            with owning_run(run):
                for path in checkpoint_files(run.checkpoints_folder):
                    discard(path)

    def _train(self, trial: Trial, params: Mapping[str, Scalar], seed: int, index: int, run: RunFolder) -> None:
        """Train, or continue what an interrupted process left."""
        if run.model_file.is_file():
            return
        resume = run.is_run() and run.is_begun() and not (run.path / UNFINISHED).exists()
        settings = run.settings() if resume else self._definition.settings_for(params, seed, device=self._device)
        watching = _Reporting(trial, self._definition, index, self._observer)
        train_run(
            settings,
            self._data.dataset,
            run,
            observer=watching,
            resume=resume,
            interruption=self._interruption,
        )

    def _measure(self, run: RunFolder) -> float:
        """The objective of a finished training."""
        if self._definition.objective != ORACLE:
            return selected_value(run)
        results = run.results()
        if results is None:
            assert self._data.validation is not None
            results = evaluate_run(run, self._data.validation, write=True)
        return next(row.rank1.mean for row in results.rows if row.weights == "final")


class _Reporting(Silent):
    """Reports a label-free criterion after each epoch, and ends the training where the pruner says so."""

    def __init__(self, trial: Trial, definition: Definition, index: int, observer: StudyObserver) -> None:
        self._trial, self._objective, self._prunes = trial, definition.objective, definition.prunes
        self._index, self._observer, self._epochs = index, observer, 0

    def loaded(self, images: object, epochs: int) -> None:
        """Remember how many epochs there are: those of a later seed come after them."""
        self._epochs = epochs

    def epoch_started(self, position: Position, steps: int) -> None:
        """End the training here, between two epochs, where everything is saved.

        Raises:
            Pruned: The last reported criterion is below the median of the other trials.
        """
        if self._prunes and self._trial.should_prune():
            raise Pruned

    def epoch_ended(self, position: Position, labels: EpochLabels, record: Mapping[str, Any]) -> dict[str, float]:
        """Report the criterion."""
        value = record["criteria"].get(self._objective)
        step = self._index * self._epochs + position.epoch
        if value is not None and self._prunes:
            self._trial.report(value, step)
        return {}

    def warned(self, message: str) -> None:
        """Pass the warning on."""
        self._observer.warned(f"trial {self._trial.number}: {message}")


def selected_value(run: RunFolder) -> float:
    """The criterion of a run's final weights, by which `selection` chose them.

    Raises:
        UserError: The log does not say.
    """
    selections = [record for record in run.log() if isinstance(record, SelectionRecord)]
    if selections:
        last = selections[-1]
        by, epoch = last.selected.by, last.selected.epoch
        if epoch == last.epoch and by in last.criteria:
            return last.criteria[by]
        for record in run.epochs():
            if record.epoch == epoch and by in record.criteria:
                return record.criteria[by]
    raise UserError(f"{run.log_file}: says nothing about the selected epoch; restore the file that training wrote")


def suggest(trial: Trial, key: str, distribution: optuna.distributions.BaseDistribution) -> Any:
    """A value for a setting: a new one, or the one that the trial has already."""
    if isinstance(distribution, optuna.distributions.CategoricalDistribution):
        return trial.suggest_categorical(key, distribution.choices)
    if isinstance(distribution, optuna.distributions.IntDistribution):
        return trial.suggest_int(key, distribution.low, distribution.high, log=distribution.log, step=distribution.step)
    assert isinstance(distribution, optuna.distributions.FloatDistribution)
    return trial.suggest_float(key, distribution.low, distribution.high, log=distribution.log, step=distribution.step)
