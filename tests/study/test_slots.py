from __future__ import annotations

import multiprocessing
import signal
import time
from collections import Counter
from functools import partial
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from pclhd.study import slots
from pclhd.study.folder import StudyFolder
from pclhd.study.slots import DROPPED, HOME, Slots
from pclhd.study.storage import open_study
from tests.study.sharing import IDENTITY, finished, in_processes, work_on

optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "SECONDS_BETWEEN_LOOKS", 0.01)


@pytest.mark.slow
def test_processes_share_a_study_and_finish_exactly_as_many(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    start = multiprocessing.get_context("fork").Barrier(2)
    assert in_processes([partial(work_on, folder, 6, seconds=0.02, start=start)] * 2) == [0, 0]
    done = finished(folder)
    assert len(done) == 6
    assert len(Counter(trial.user_attrs["by"] for trial in done)) > 1
    # The claims are gone.
    assert sorted(path.name for path in folder.iterdir()) == ["study.db"]
    work_on(folder, 6)
    assert len(finished(folder)) == 6
    work_on(folder, 7)
    assert len(finished(folder)) == 7


@pytest.mark.slow
def test_a_killed_process_leaves_its_trial_to_the_next(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    assert in_processes([partial(work_on, folder, 4, die_in=2)]) == [-signal.SIGKILL]
    assert len(finished(folder)) == 2
    study, _ = open_study(StudyFolder(folder), None, "study", None)
    (left,) = [trial for trial in study.get_trials() if trial.state == TrialState.RUNNING]
    work_on(folder, 4)
    done = finished(folder)
    # The same trial, with the settings that it had; none besides.
    assert [trial.number for trial in done] == [0, 1, 2, 3]
    assert done[2].params == left.params
    assert len(study.get_trials()) == 4


@pytest.mark.slow
def test_a_trial_that_another_process_runs_is_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    assert in_processes([partial(work_on, folder, 1, seconds=0.3), partial(work_on, folder, 1, seconds=0.3)]) == [0, 0]
    assert len(finished(folder)) == 1


def _slots(folder: Path, wanted: int, *, shared: bool = False) -> tuple[optuna.Study, Slots]:
    folder.mkdir(exist_ok=True)
    study, storage = open_study(StudyFolder(folder), None, "study", IDENTITY)
    return study, Slots(study, storage, StudyFolder(folder), wanted, shared=shared)


def test_of_two_that_ask_for_the_last_trial_the_second_gets_none(tmp_path: Path) -> None:
    study, queue = _slots(tmp_path / "study", 1)
    first = study.ask()
    asked = study.ask()  # between the other's look and its question
    with queue.next() as trial:
        assert trial is not None
        assert trial.number == first.number
        study.tell(trial, 1.0)
    with queue.next() as nothing:
        assert nothing is None
    # The superfluous one is still open; the next process takes it.
    _, more = _slots(tmp_path / "study", 2)
    with more.next() as trial:
        assert trial is not None
        assert trial.number == asked.number


def test_a_superfluous_trial_is_dropped(tmp_path: Path) -> None:
    study, queue = _slots(tmp_path / "study", 1)
    before, late = study.ask(), study.ask()
    with pytest.MonkeyPatch.context() as patch:
        # Another process has the first.
        patch.setattr(Slots, "_abandoned", lambda self, trials: iter([late]))
        patch.setattr(time, "sleep", lambda _: study.tell(before, 1.0))
        with queue.next() as nothing:
            assert nothing is None
    dropped = study.get_trials()[late.number]
    assert (dropped.state, dropped.user_attrs[DROPPED]) == (TrialState.FAIL, "one too many")


def test_trials_of_other_folders_are_tried_again_once_their_process_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, queue = _slots(tmp_path / "study", 1, shared=True)
    theirs = study.ask()
    x = theirs.suggest_float("x", 0, 1)
    theirs.set_user_attr(HOME, "elsewhere:/study")
    beats = iter(range(100))
    monkeypatch.setattr(slots, "SECONDS_TO_WAIT", 3.0)
    clock = iter(range(1000))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    alive = 5

    def sleep(_: float) -> None:
        if next(beats) < alive:
            theirs.set_user_attr("beat", str(next(beats)))

    monkeypatch.setattr(time, "sleep", sleep)
    with queue.next() as trial:
        assert trial is not None
        assert trial.number == 1
        assert trial.suggest_float("x", 0, 1) == x
        assert study.get_trials()[0].user_attrs[DROPPED] == "its process ended"
        study.tell(trial, 0.5)
    assert slots.count_finished(study.get_trials()) == 1
    # The other process was only slow: it cannot finish its trial any more.
    with pytest.raises(ValueError, match="FAIL"):
        study.tell(theirs, 0.7)


def test_signs_of_life(tmp_path: Path) -> None:
    study, queue = _slots(tmp_path / "study", 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slots, "SECONDS_BETWEEN_BEATS", 0.01)
        with queue.next() as trial:
            assert trial is not None
            for _ in range(500):
                if slots.BEAT in study.get_trials()[0].user_attrs:
                    break
                time.sleep(0.01)
            study.tell(trial, 1.0)
    assert slots.BEAT in study.get_trials()[0].user_attrs
