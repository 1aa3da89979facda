"""Many trainings: each in a process of its own with one thread, trained once and then only read.

Several calls, also on several machines with one folder, share the work: each training is claimed by a lock. What is
finished is left alone, and what was interrupted is resumed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pclhd.config import Settings, load_preset
from pclhd.errors import UserError
from pclhd.files import UNFINISHED, InUse, claiming
from pclhd.runs.folder import RunFolder
from pclhd.runs.records import flatten

SECONDS_BETWEEN_LOOKS = 10.0
_SECONDS_BETWEEN_POLLS = 0.2

#: Settings that say where images are and how they are read.
_WHERE = {"data.root", "data.workers", "data.cache", "data.cache_gib"}


@dataclass(frozen=True)
class TrainingRun:
    """One training.

    Attributes:
        name: What is trained; runs of one name differ in their seed.
        seed: Of the training.
        folder: Its run folder.
        words: The words after ``pclhd`` that train it, without seed, data and folder.
    """

    name: str
    seed: int
    folder: Path
    words: tuple[str, ...]

    @property
    def finished(self) -> bool:
        """Whether it was trained and evaluated."""
        return RunFolder(self.folder).results_file.exists()

    def settings(self) -> Settings:
        """The settings that its words ask for.

        Raises:
            UserError: One of them is unknown or invalid.
        """
        return load_preset(self.words[1], [*self.words[2:], f"seed={self.seed}"])


@dataclass(frozen=True)
class Task:
    """A training to do.

    Attributes:
        run: The training.
        data: Its images.
        needs: A file that it begins with; None if it needs none.
        evaluate: Whether the run is evaluated afterwards.
        test: Data whose test people are searched; None for those of `data`.
        test_checksum: Of these test images; results of others are measured again. None does not look.
    """

    run: TrainingRun
    data: Path
    needs: Path | None = None
    evaluate: bool = True
    test: Path | None = None
    test_checksum: str | None = None

    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return self._is_evaluated() if self.evaluate else self.is_trained()

    def is_trained(self) -> bool:
        """Whether there is a final model."""
        return RunFolder(self.run.folder).model_file.exists()

    def _is_evaluated(self) -> bool:
        """Whether the run has results of the wanted test images."""
        if self.test_checksum is None or not self.run.finished:
            return self.run.finished
        try:
            results = RunFolder(self.run.folder).results()
        except UserError:
            return True  # damaged; who reads the results says so
        found = None if results is None else results.dataset.test_checksum
        return found in (None, self.test_checksum)  # older results do not say which images they are of

    def commands(self) -> list[tuple[str, ...]]:
        """The words after ``pclhd`` that do what is left to do."""
        run, folder = self.run, RunFolder(self.run.folder)
        left: list[tuple[str, ...]] = []
        if not self.is_trained():
            if folder.is_run() and not (folder.path / UNFINISHED).exists():
                left.append(("train", "--resume", str(folder), "--data", str(self.data)))
            else:
                left.append((*run.words, f"seed={run.seed}", "--data", str(self.data), "--out", str(folder)))
        if self.evaluate and not self._is_evaluated():
            left.append(("evaluate", str(folder), "--data", str(self.test or self.data)))
        return left


class Process(Protocol):
    """A command that runs."""

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        ...

    def terminate(self) -> None:
        """Ask it to end; a training saves a checkpoint first."""
        ...

    def wait(self) -> int:
        """Wait for its end."""
        ...


Starter = Callable[[Sequence[str], Path], Process]
"""A function that starts ``pclhd`` with some words and appends what it prints to a file."""


def start_process(words: Sequence[str], log: Path) -> Process:
    """Start ``pclhd`` in a process with one thread, so that its numbers do not depend on the number of processors."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        # In a session of its own: Ctrl-C reaches this process alone, which then ends the others, once.
        return subprocess.Popen(
            [sys.executable, "-m", "pclhd", *words],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def log_file(folder: Path) -> Path:
    """What the commands of a run print when they run here."""
    return folder.parent / "logs" / f"{folder.name}.txt"


def work(
    tasks: Sequence[Task],
    *,
    jobs: int = 1,
    start: Starter = start_process,
    on_start: Callable[[Task], None] = lambda task: None,
    pause: float = SECONDS_BETWEEN_LOOKS,
) -> list[str]:
    """Do the tasks that no other process does, and wait for what they need from others.

    Args:
        tasks: In the order in which they are begun.
        jobs: How many run at a time.
        start: Starts a command.
        on_start: Called when a task begins here.
        pause: Seconds between two looks at the work of others.

    Returns:
        What failed here, a line each. What needs it is left out, and the others are done all the same.
    """
    failed: dict[Path, str] = {}
    running: list[_Running] = []
    looked = float("-inf")
    try:
        while True:
            ended = [one for one in running if one.advance(failed)]
            running = [one for one in running if one not in ended]
            if ended or time.monotonic() - looked >= pause:
                looked = time.monotonic()
                left = _left(tasks, failed)
                if not left and not running:
                    return list(failed.values())
                for task in left:
                    if len(running) < jobs and (begun := _begin(task, start)) is not None:
                        on_start(task)
                        running.append(begun)
            time.sleep(min(pause, _SECONDS_BETWEEN_POLLS))
    finally:
        for one in running:
            one.stop()


def _left(tasks: Sequence[Task], failed: dict[Path, str]) -> list[Task]:
    left = [task for task in tasks if not task.is_finished() and task.run.folder not in failed]
    return [task for task in left if task.needs is None or task.needs.parent not in failed]


@dataclass
class _Running:
    """A task that is being done here: its claim, the command that runs, and those that follow."""

    task: Task
    claim: ExitStack
    commands: list[tuple[str, ...]]
    start: Starter
    process: Process

    def advance(self, failed: dict[Path, str]) -> bool:
        """Look at the command, begin the next one if it has ended, and return whether all is over."""
        code = self.process.poll()
        if code is None:
            return False
        if code == 0 and self.commands:
            self.process = self.start(self.commands.pop(0), log_file(self.task.run.folder))
            return False
        if code != 0:
            failed[self.task.run.folder] = _reason(self.task.run.folder, code)
        self.claim.close()
        return True

    def stop(self) -> None:
        """End the command; a training can be resumed then."""
        self.process.terminate()
        self.process.wait()
        self.claim.close()


def _begin(task: Task, start: Starter) -> _Running | None:
    """Begin a task, unless what it needs is not there, or another process does it or has done it."""
    if task.needs is not None and not task.needs.exists():
        return None
    folder = task.run.folder
    with ExitStack() as claim:
        try:
            claim.enter_context(claiming(folder.parent / "claims" / folder.name))
        except InUse:
            return None
        commands = task.commands()
        if not commands:  # another process was faster
            return None
        process = start(commands.pop(0), log_file(folder))
        return _Running(task, claim.pop_all(), commands, start, process)


def _reason(folder: Path, code: int) -> str:
    log = log_file(folder)
    try:
        lines = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    except OSError:
        lines = []
    said = lines[-1].removeprefix("pclhd: ") if lines else f"exit code {code}"
    return f"{folder.name} failed: {said} (all that it printed: {log})"


def refuse_other_settings(runs: Iterable[TrainingRun]) -> None:
    """Raise an error if an existing run was trained with settings other than the wanted ones.

    Recipes and presets change, and figures of an earlier version must not pass for those of the current one. A setting
    that did not exist when the run was made is ignored.

    Raises:
        UserError: The first such run, and the setting.
    """
    for run in runs:
        saved = RunFolder(run.folder).saved_settings()
        if saved is None:
            continue
        reached = flatten(saved[1])  # as saved: nothing filled in from the current recipe
        for name, value in _choices(run.settings()).items():
            if name in reached and not _same(name, reached[name], value):
                raise UserError(
                    f"{RunFolder(run.folder).settings_file}: {name} is {reached[name]}, but {value} is wanted; "
                    "move the run elsewhere"
                )


def _same(name: str, one: object, other: object) -> bool:
    """Whether a run with a value is what was asked for; weights of an earlier run may be reached by another path."""
    if other == "auto":  # saved as the number that it stood for
        return True
    if name == "model.weights" and isinstance(one, str) and isinstance(other, str):
        return Path(one).parts[-2:] == Path(other).parts[-2:]
    return one == other


def _choices(settings: Settings) -> dict[str, Any]:
    """What a training's result depends on besides its images.

    That is all settings except those of folders and hardware, and except the communities' resolution when there are no
    communities.
    """
    unread = _WHERE if settings.method.clustering == "community" else _WHERE | {"clustering.resolution"}
    found = flatten(settings.model_dump(mode="json", exclude={"preset", "recipe", "engine"}))
    return {name: value for name, value in found.items() if name not in unread}
