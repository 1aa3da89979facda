"""The run folders below some folders: the state of each, its best figures and its size. Imports no torch."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pclhd.errors import UserError
from pclhd.files import UNFINISHED, is_owned
from pclhd.runs.folder import RunFolder
from pclhd.runs.records import EpochRecord, FailureRecord, Results
from pclhd.runs.saved import SavedRun, read_run

State = Literal["finished", "training", "in use", "interrupted", "failed", "unfinished", "damaged"]


@dataclass(frozen=True)
class ListedRun:
    """A run folder.

    Attributes:
        path: The folder.
        state: ``finished``; ``training``, where a process writes to it now, or ``in use``, where it does so although
            the model is there; ``interrupted``, by a signal or by a kill, so that ``pclhd train --resume`` continues;
            ``failed``, by an error; ``unfinished``, where it ended before the first checkpoint; or ``damaged``.
        bytes: Disk used.
        problem: What is damaged, or why the training failed, in a line.
        recipe: The method; ``imported`` for imported weights.
        preset: What the settings started from.
        data: Folder of the images.
        seed: Of the training.
        epochs: Epochs trained.
        of: Epochs that the training has.
        criteria: Label-free criteria of the last epoch.
        search: The search that the figures below are of, the first of the evaluation; None without an evaluation.
        rank1: Rank-1 of the final weights.
        mAP: Their mAP.
        best: The largest rank-1 of the evaluated weights: start, stage I and final.
        best_weights: Which weights that is.
    """

    path: str
    state: State
    bytes: int
    problem: str | None = None
    recipe: str | None = None
    preset: str | None = None
    data: str | None = None
    seed: int | None = None
    epochs: int | None = None
    of: int | None = None
    criteria: dict[str, float] | None = None
    search: str | None = None
    rank1: float | None = None
    mAP: float | None = None
    best: float | None = None
    best_weights: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible values."""
        return asdict(self)


def list_runs(folders: Sequence[Path]) -> list[ListedRun]:
    """All run folders in or below some folders, sorted by path, numbers in it by their size.

    A folder in a run folder, a hidden one and a link are not looked into.

    Raises:
        UserError: A folder does not exist or cannot be read.
    """
    found: dict[Path, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder}: is not a folder; expected one with run folders in it")
        for path in _run_folders(folder):
            found.setdefault(path.resolve(), path)
    return [_listed(RunFolder(path)) for path in sorted(found.values(), key=_natural)]


def _run_folders(folder: Path) -> Iterator[Path]:
    run = RunFolder(folder)
    if run.is_run() or run.is_begun() or (folder / UNFINISHED).is_file():
        yield folder
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror}); check its permissions") from error
    for entry in entries:
        if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
            yield from _run_folders(folder / entry.name)


def _natural(path: Path) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", str(path))
    return [(int(part), "") if part.isdecimal() else (0, part) for part in parts]


def _listed(run: RunFolder) -> ListedRun:
    size = _disk_used(run.path)
    try:
        saved = read_run(run)
        if saved.settings_text == "" and not (run.path / UNFINISHED).is_file():
            raise UserError(f"{run.settings_file}: is missing; restore the file that training wrote")
        return _read(run, saved, size)
    except UserError as error:
        return ListedRun(str(run.path), "damaged", size, problem=str(error))


def _read(run: RunFolder, saved: SavedRun, size: int) -> ListedRun:
    seed = saved.setting("seed")
    given = [saved.setting(f"schedule.{name}_epochs") for name in ("stage1", "stage2")]
    lengths = [length for length in given if isinstance(length, int)]
    last: EpochRecord | None = saved.epochs[-1] if saved.epochs else None
    state = _state(run)
    problem = _failure(run) if state == "interrupted" else None
    return ListedRun(
        str(run.path),
        state if problem is None else "failed",
        size,
        problem,
        recipe="imported" if saved.imported else _text(saved.setting("recipe")),
        preset=_text(saved.setting("preset")),
        data=_text(saved.setting("data.root")),
        seed=None if saved.imported or not isinstance(seed, int) else seed,
        epochs=None if saved.imported else len(saved.epochs),
        of=None if saved.imported or len(lengths) < 2 else sum(lengths),
        criteria=None if last is None else dict(last.criteria),
        **_figures(saved.results),
    )


def _figures(results: Results | None) -> dict[str, Any]:
    if results is None or not results.rows:
        return {}
    search = results.rows[0].search
    rows = [row for row in results.rows if row.search == search]
    best = max(rows, key=lambda row: row.rank1.mean)
    final = next((row for row in rows if row.weights == "final"), None)
    return {
        "search": search,
        "rank1": None if final is None else final.rank1.mean,
        "mAP": None if final is None else final.mAP.mean,
        "best": best.rank1.mean,
        "best_weights": best.weights,
    }


def _state(run: RunFolder) -> State:
    owned = is_owned(run.path)
    if run.model_file.is_file():
        return "in use" if owned else "finished"
    if owned:
        return "training"
    return "unfinished" if (run.path / UNFINISHED).is_file() or not run.is_begun() else "interrupted"


def _failure(run: RunFolder) -> str | None:
    """The error that ended the training; None if its log does not end with one."""
    log = run.log()
    return log[-1].reason if log and isinstance(log[-1], FailureRecord) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _disk_used(folder: Path) -> int:
    """Bytes of the files of a folder; what cannot be read, or goes away meanwhile, does not count."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                about = (Path(parent) / name).lstat()
            except OSError:
                continue
            total += about.st_size if stat.S_ISREG(about.st_mode) else 0
    return total
