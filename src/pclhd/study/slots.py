"""Which trial a process runs next, so that all processes of a study together finish exactly as many as asked for.

The database gives trials their numbers, and a process counts those before its own. A trial whose process ended without
finishing it is continued: in the same folder at once, since the lock on its claim shows that no process runs it;
elsewhere after its process has shown no sign of life for long, as a new trial with the same settings.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from pclhd.files import InUse, claiming
from pclhd.study.folder import StudyFolder

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

HOME, BEAT = "home", "beat"
#: A trial that broke off because its settings cannot be trained with; it counts as finished.
ERROR = "error"
#: Why a failed trial does not count.
DROPPED = "dropped"

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
SECONDS_BETWEEN_BEATS = 60.0
SECONDS_TO_WAIT = 900.0
SECONDS_BETWEEN_LOOKS = 5.0


def count_finished(trials: list[FrozenTrial]) -> int:
    """How many trials are finished, pruned ones included."""
    return sum(trial.state in FINISHED for trial in trials)


class Slots:
    """Hands out trials to this process.

    Args:
        study: The study.
        storage: Its database.
        folder: Its folder here.
        wanted: How many trials the study is to have.
        shared: Whether processes with other folders may work on it, too.
        on_wait: Called when all that is left to do is done by other processes.
    """

    def __init__(
        self,
        study: optuna.Study,
        storage: RDBStorage,
        folder: StudyFolder,
        wanted: int,
        *,
        shared: bool,
        on_wait: Callable[[], None] = lambda: None,
    ) -> None:
        self._study, self._storage, self._folder = study, storage, folder
        self._wanted, self._shared, self._on_wait = wanted, shared, on_wait
        self._home = f"{socket.gethostname()}:{folder.path.absolute()}"
        self._seen: dict[int, tuple[Any, float]] = {}

    def trials(self) -> list[FrozenTrial]:
        """All trials, as the database has them now."""
        return self._study.get_trials(deepcopy=False)

    @contextmanager
    def next(self) -> Iterator[Trial | None]:
        """A trial that only this process runs during the block; None when the study has as many as wanted."""
        with ExitStack() as held:
            waits = False
            while True:
                trials = self.trials()
                if count_finished(trials) >= self._wanted:
                    yield None
                    return
                trial = next(filter(partial(self._take, held), chain(self._abandoned(trials), self._new(trials))), None)
                if trial is not None:
                    held.enter_context(self._beating(trial.number))
                    yield trial
                    return
                if not waits:
                    self._on_wait()
                    waits = True
                if self._shared:
                    self._drop_dead(trials)
                time.sleep(SECONDS_BETWEEN_LOOKS)

    def _abandoned(self, trials: list[FrozenTrial]) -> Iterator[Trial]:
        """Trials of this folder that are not finished; those that a process still runs are claimed by it."""
        for trial in trials:
            here = not self._shared or trial.user_attrs.get(HOME) == self._home
            if trial.state == TrialState.RUNNING and here:
                yield Trial(self._study, self._id(trial.number))

    def _new(self, trials: list[FrozenTrial]) -> Iterator[Trial]:
        """A new trial, if one is missing."""
        if _count_live(trials) < self._wanted or any(trial.state == TrialState.WAITING for trial in trials):
            trial = self._study.ask()
            trial.set_user_attr(HOME, self._home)
            yield trial

    def _take(self, held: ExitStack, trial: Trial) -> bool:
        """Claim a trial; returns whether it is this process's now."""
        with ExitStack() as claimed:
            try:
                claimed.enter_context(claiming(self._folder.claim(trial.number)))
            except InUse:
                return False
            trials = self.trials()
            if next(one.state for one in trials if one.number == trial.number) != TrialState.RUNNING:
                return False
            if _count_live([one for one in trials if one.number < trial.number]) >= self._wanted:
                # Another process asked at the same time, and was first.
                trial.set_user_attr(DROPPED, "one too many")
                self._study.tell(trial, state=TrialState.FAIL)
                return False
            held.enter_context(claimed.pop_all())
            return True

    def _drop_dead(self, trials: list[FrozenTrial]) -> None:
        """Give up trials of other folders whose processes show no sign of life; their settings are tried again."""
        for trial in trials:
            if trial.state != TrialState.RUNNING:
                continue
            beat, since = self._seen.setdefault(trial.number, (trial.user_attrs.get(BEAT), time.monotonic()))
            if beat != trial.user_attrs.get(BEAT):
                self._seen[trial.number] = trial.user_attrs.get(BEAT), time.monotonic()
            elif time.monotonic() - since > SECONDS_TO_WAIT:
                with suppress(optuna.exceptions.UpdateFinishedTrialError):
                    self._storage.set_trial_user_attr(self._id(trial.number), DROPPED, "its process ended")
                    self._storage.set_trial_state_values(self._id(trial.number), TrialState.FAIL)
                    if trial.params:
                        self._study.enqueue_trial(trial.params)

    @contextmanager
    def _beating(self, number: int) -> Iterator[None]:
        """Show signs of life during the block."""
        trial_id, over = self._id(number), threading.Event()

        def beat() -> None:
            pause = 0.0
            while not over.wait(pause):
                pause = SECONDS_BETWEEN_BEATS
                # A database that cannot be reached for a moment will be reached later.
                with suppress(Exception):
                    self._storage.set_trial_user_attr(trial_id, BEAT, f"{time.time():.0f}")

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _id(self, number: int) -> int:
        study_id = self._storage.get_study_id_from_name(self._study.study_name)
        return self._storage.get_trial_id_from_study_id_trial_number(study_id, number)


def _count_live(trials: list[FrozenTrial]) -> int:
    return sum(trial.state != TrialState.FAIL for trial in trials)
