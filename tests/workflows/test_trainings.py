"""Many trainings: what is done, resumed, shared, stopped and refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pclhd.config import load_preset
from pclhd.errors import UserError
from pclhd.files import UNFINISHED, claiming
from pclhd.workflows.trainings import Task, TrainingRun, refuse_other_settings, start_process, work
from tests.report.fixtures import make_results


class Ended:
    """A command that has ended."""

    def __init__(self, code: int) -> None:
        self.code = code

    def poll(self) -> int | None:
        return self.code

    def terminate(self) -> None:
        pass

    def wait(self) -> int:
        return self.code


class Fake:
    """Stands in for the command line: writes what a training and an evaluation leave behind."""

    def __init__(self, fails: str = "nothing") -> None:
        self.calls: list[tuple[str, ...]] = []
        self.fails = fails

    def __call__(self, words: Sequence[str], log: Path) -> Ended:
        self.calls.append(tuple(words))
        folder = Path(words[words.index("--out") + 1] if "--out" in words else words[1 + (words[0] == "train")])
        log.parent.mkdir(parents=True, exist_ok=True)
        if self.fails in folder.name:
            log.write_text("loading\npclhd: no memory left\n\n")
            return Ended(2)
        folder.mkdir(parents=True, exist_ok=True)
        names = ("results.json",) if words[0] == "evaluate" else ("config.yaml", "model.safetensors")
        for name in names:
            (folder / name).write_text("")
        return Ended(0)

    @property
    def trained(self) -> list[str]:
        return [Path(call[-1]).name for call in self.calls if call[0] == "train"]


def task(root: Path, name: str, *, needs: str | None = None, evaluate: bool = True) -> Task:
    run = TrainingRun(name, 3, root / f"{name}-3", ("train", "tiny", "recipe=pgm"))
    begin = None if needs is None else root / f"{needs}-3" / "model.safetensors"
    return Task(run, root / "data", begin, evaluate)


@pytest.fixture
def tasks(tmp_path: Path) -> list[Task]:
    return [task(tmp_path, "start", evaluate=False), task(tmp_path, "one", needs="start"), task(tmp_path, "other")]


def test_each_task_is_trained_and_evaluated_once(tasks: list[Task], tmp_path: Path) -> None:
    fake = Fake()
    begun: list[str] = []
    assert work(tasks, start=fake, on_start=lambda task: begun.append(task.run.name), pause=0.01) == []
    assert fake.trained == ["start-3", "one-3", "other-3"]
    assert begun == ["start", "one", "other"]
    first, one, evaluated, *_ = fake.calls
    assert first == (
        "train",
        "tiny",
        "recipe=pgm",
        "seed=3",
        "--data",
        f"{tmp_path}/data",
        "--out",
        f"{tmp_path}/start-3",
    )
    assert one[-1] == f"{tmp_path}/one-3"
    assert evaluated == ("evaluate", f"{tmp_path}/one-3", "--data", f"{tmp_path}/data")
    assert sum(call[0] == "evaluate" for call in fake.calls) == 2
    assert not list((tmp_path / "claims").glob("*")) if (tmp_path / "claims").exists() else True
    again = Fake()
    assert work(tasks, start=again, pause=0.01) == []
    assert again.calls == []


def test_only_what_is_missing_is_done(tmp_path: Path) -> None:
    run = task(tmp_path, "one")
    folder, data = str(run.run.folder), str(tmp_path / "data")
    evaluate = ("evaluate", folder, "--data", data)
    fresh = ("train", "tiny", "recipe=pgm", "seed=3", "--data", data, "--out", folder)
    assert run.commands() == [fresh, evaluate]
    run.run.folder.mkdir()
    (run.run.folder / "config.yaml").touch()
    assert run.commands() == [("train", "--resume", folder, "--data", data), evaluate]
    (run.run.folder / UNFINISHED).touch()  # killed before its first checkpoint
    assert run.commands() == [fresh, evaluate]
    (run.run.folder / "model.safetensors").touch()
    assert run.commands() == [evaluate]
    (run.run.folder / "results.json").touch()
    assert run.commands() == []
    assert run.is_finished()


def test_other_test_people(tmp_path: Path) -> None:
    made = Task(task(tmp_path, "one").run, tmp_path / "data", test=tmp_path / "validation")
    assert made.commands()[-1][-1] == str(tmp_path / "validation")


def test_results_of_other_test_images_are_measured_again(tmp_path: Path) -> None:
    made = replace(task(tmp_path, "one"), test=tmp_path / "test", test_checksum="b" * 64)
    evaluate = ("evaluate", str(made.run.folder), "--data", str(tmp_path / "test"))
    made.run.folder.mkdir()
    (made.run.folder / "model.safetensors").touch()
    results = made.run.folder / "results.json"
    for found, left in (("a" * 64, [evaluate]), ("b" * 64, []), (None, [])):
        content = make_results()
        content["dataset"]["test_checksum"] = found
        results.write_text(json.dumps(content), encoding="utf-8")
        assert made.commands() == left
        assert made.is_finished() == (not left)
    results.write_text("{", encoding="utf-8")
    assert made.is_finished()  # read_rows names the damaged file


def test_a_failure_stops_what_needs_it_and_nothing_else(tasks: list[Task], tmp_path: Path) -> None:
    fake = Fake(fails="start")
    (failed,) = work(tasks, start=fake, pause=0.01)
    assert failed == f"start-3 failed: no memory left (all that it printed: {tmp_path}/logs/start-3.txt)"
    assert fake.trained == ["start-3", "other-3"]


class Slow:
    """Commands that run until the test ends them; counts those that run at a time."""

    def __init__(self) -> None:
        self.running, self.most = 0, 0

    def __call__(self, words: Sequence[str], log: Path) -> SlowProcess:
        self.running += 1
        self.most = max(self.most, self.running)
        folder = Path(words[-1])
        folder.mkdir(parents=True)
        return SlowProcess(self, folder)


class SlowProcess(Ended):
    def __init__(self, starter: Slow, folder: Path) -> None:
        super().__init__(0)
        self.starter, self.folder, self.polls = starter, folder, 0

    def poll(self) -> int | None:
        self.polls += 1
        if self.polls < 3:
            return None
        self.starter.running -= 1
        (self.folder / "model.safetensors").touch()
        return 0


def test_jobs_is_the_number_at_a_time(tmp_path: Path) -> None:
    slow = Slow()
    several = [task(tmp_path, f"run{number}", evaluate=False) for number in range(5)]
    assert work(several, jobs=2, start=slow, pause=0.001) == []
    assert slow.most == 2


@pytest.mark.skipif(sys.platform == "win32", reason="has no locks")
def test_two_workers_share_the_work(tasks: list[Task], tmp_path: Path) -> None:
    fake = Fake()
    # Another process trains stage I: what needs it waits.
    with claiming(tmp_path / "claims" / "start-3"):
        worker = threading.Thread(target=work, args=(tasks,), kwargs={"start": fake, "pause": 0.01})
        worker.start()
        deadline = time.monotonic() + 10
        while fake.trained != ["other-3"] and time.monotonic() < deadline:
            time.sleep(0.01)
        assert worker.is_alive()
        assert fake.trained == ["other-3"]
        Fake()(("train", "tiny", "--out", f"{tmp_path}/start-3"), tmp_path / "logs" / "x.txt")
    worker.join(10)
    assert not worker.is_alive()
    assert fake.trained == ["other-3", "one-3"]


class Waiting(Ended):
    def __init__(self) -> None:
        super().__init__(0)
        self.asked: list[str] = []

    def poll(self) -> int | None:
        raise KeyboardInterrupt

    def terminate(self) -> None:
        self.asked.append("terminate")

    def wait(self) -> int:
        self.asked.append("wait")
        return 143


def test_an_interruption_ends_the_command_once_and_gives_the_claim_back(tmp_path: Path) -> None:
    process = Waiting()
    with pytest.raises(KeyboardInterrupt):
        work([task(tmp_path, "one")], start=lambda words, log: process, pause=0.01)
    assert process.asked == ["terminate", "wait"]
    with claiming(tmp_path / "claims" / "one-3"):
        pass


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="has no sessions")
def test_a_command_has_a_session_and_a_log_of_its_own(tmp_path: Path) -> None:
    process = start_process(["--version"], tmp_path / "logs" / "one.txt")
    assert process.wait() == 0
    assert (tmp_path / "logs" / "one.txt").read_text().startswith("pclhd ")
    waiting = start_process(["help"], tmp_path / "logs" / "two.txt")
    assert isinstance(waiting, subprocess.Popen)
    assert os.getsid(waiting.pid) != os.getsid(0)
    waiting.send_signal(signal.SIGKILL)
    waiting.wait()


def run_with_settings(root: Path, *changed: str, without: str = "") -> TrainingRun:
    run = TrainingRun("pclhd", 3, root / "pclhd-3", ("train", "tiny", "recipe=pclhd"))
    run.folder.mkdir()
    text = load_preset("tiny", ["recipe=pclhd", "seed=3", *changed], root=root).to_yaml()
    kept = [line for line in text.splitlines() if not without or without not in line]
    (run.folder / "config.yaml").write_text("\n".join(kept))
    return run


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ("method.joint_prototypes=shared", "method.joint_prototypes is shared, but all is wanted"),
        ("schedule.iterations=999", "schedule.iterations is 999, but"),
        ("seed=4", "seed is 4, but 3 is wanted"),
        ("model.weights=random", "model.weights is random, but"),
    ],
)
def test_a_run_with_other_settings_does_not_pass_for_the_wanted_one(tmp_path: Path, change: str, name: str) -> None:
    with pytest.raises(UserError) as refused:
        refuse_other_settings([run_with_settings(tmp_path, change)])
    assert str(tmp_path / "pclhd-3" / "config.yaml") in str(refused.value)
    assert name in str(refused.value)


@pytest.mark.parametrize(
    "change", ["engine.keep_weights=true", "engine.accelerator=cpu", "data.workers=2", "clustering.resolution=0.7"]
)
def test_a_run_made_in_another_place_is_accepted(tmp_path: Path, change: str) -> None:
    refuse_other_settings([run_with_settings(tmp_path, change)])


def test_weights_of_a_run_may_be_reached_by_another_path(tmp_path: Path) -> None:
    run = run_with_settings(tmp_path, "model.weights=/mnt/a/start-0/model.safetensors")
    for weights, accepted in (("b/start-0/model.safetensors", True), ("b/start-1/model.safetensors", False)):
        wanted = TrainingRun(run.name, run.seed, run.folder, (*run.words, f"model.weights={weights}"))
        if accepted:
            refuse_other_settings([wanted])
        else:
            with pytest.raises(UserError, match=r"model\.weights is"):
                refuse_other_settings([wanted])


def test_sizes_that_follow_the_data_are_accepted(tmp_path: Path) -> None:
    run = run_with_settings(tmp_path, "batch.clusters=6")
    refuse_other_settings([TrainingRun(run.name, 3, run.folder, (*run.words, "batch.clusters=auto"))])


def test_the_resolution_counts_where_there_are_communities(tmp_path: Path) -> None:
    run = run_with_settings(tmp_path, "method.clustering=community", "clustering.resolution=0.7")
    wanted = TrainingRun(run.name, run.seed, run.folder, (*run.words, "method.clustering=community"))
    with pytest.raises(UserError, match=r"clustering\.resolution is 0\.7"):
        refuse_other_settings([wanted])


def test_a_setting_that_did_not_exist_is_ignored_and_so_is_a_missing_run(tmp_path: Path) -> None:
    refuse_other_settings([run_with_settings(tmp_path, without="joint_prototypes")])
    refuse_other_settings([TrainingRun("pclhd", 0, tmp_path / "none", ("train", "tiny"))])
