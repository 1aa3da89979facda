"""Verbs that are ended while they write, or called where they cannot: a process that has loaded everything forks one
for each case.

`python -m tests.cli.ending FOLDER` prints as JSON how each case ended, what it left, and how the same command ended
when it was given again; `tests/cli/test_ending.py` looks at that. With `--world` it only makes the files that the verbs
start from, those of `tests/fuzz/world.py`.
"""

from __future__ import annotations

import os

# Read by torch and numba when they are imported. Cases are forked: a process that has none but its own thread may be
# forked at any time, and one with GNU's OpenMP never.
if __name__ == "__main__":
    os.environ.update(OMP_NUM_THREADS="1", NUMBA_NUM_THREADS="1", NUMBA_THREADING_LAYER="workqueue")

import errno
import json
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pclhd.cli import main
from pclhd.supervised import starter
from pclhd.synthetic import write
from pclhd.workflows import cluster, embed, exchange
from tests.fuzz.further import ABLATION, STUDY
from tests.fuzz.small import use_small_networks
from tests.fuzz.world import SIZES, World, states
from tests.privileges import obey_modes

#: Commands by the verb, and what they do where a verb is there twice. All write to files that exist, or below `out`.
COMMANDS: dict[str, tuple[str, ...]] = {
    "cluster": ("cluster", "features.npy", "--out", "out/labels.csv", "--k1", "4", "--k2", "2"),
    "embed": ("embed", "runs/one", "--out", "out/features.npy", "--split", "test", "--device", "cpu"),
    "export": ("export", "runs/theirs", "--out", "out/model.pth"),
    "export --format onnx": ("export", "runs/one", "--format", "onnx", "--out", "out/model.onnx"),
    "import": ("import", "theirs.pth", "--layout", "sysu", "--out", "out/made"),
    "synth": ("synth", "--out", "out/drawn", "--scale", "tiny", "--workers", "1"),
    "starter": ("starter", "--out", "out/start.safetensors", "--people", "4", "--images", "1", "--steps", "1"),
    "evaluate": ("evaluate", "runs/one", "--device", "cpu"),
    "report": ("report", "runs/one"),
    "report of two": ("report", "runs/one", "runs/two", "--out", "out/both.html"),
    "calibrate": ("calibrate", "runs/one", "--data", "data/people", "--device", "cpu"),
    "search": (
        *("search", "runs/one", "data/own/infrared/0-0.png", "--modality", "visible", "--images", "data/own/visible"),
        *("--csv", "out/found.csv", "--sheet", "out/found.html", "--device", "cpu"),
    ),
    "figures": ("figures", "runs/one", "runs/two", "--out", "out/figures", "--device", "cpu"),
    "ablate": ("ablate", "tiny", *SIZES, *ABLATION, "--seeds", "0"),
    "study run": (*STUDY[:-1], "3"),
    "study plot": ("study", "plot", "studies/one"),
    "token create": ("token", "create", "new", "--tokens", "tokens.json"),
    "token revoke": ("token", "revoke", "desk", "--tokens", "tokens.json"),
    "gallery add": ("gallery", "add", "people", "data/people/visible", "--modality", "visible", "--device", "cpu"),
    "gallery remove": ("gallery", "remove", "people", "--only", "visible", "--yes"),
    "gallery expire": ("gallery", "expire", "people", "--older-than", "30d"),
    "gallery compact": ("gallery", "compact", "people"),
    "gallery export": ("gallery", "export", "people", "--out", "out/people.parquet", "--map", "pca"),
}
#: Commands whose second run has nothing left to do, and says so with exit code 2, if the first had done its work.
DONE_ALREADY = {"token create", "token revoke"}
#: Slow ones, or of a group that was tested by another verb: they are ended, but not given other outputs.
FEW = {"figures", "study run", "study plot", "ablate", "export --format onnx"}
_WRITES_TO = ("out", "runs/one", "studies/one", "ablation", "people", ".")


def _end(how: str) -> None:
    if how == "full disk":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.kill(os.getpid(), getattr(signal, how))
    for _ in range(1000):  # the interpreter looks for signals between two instructions
        pass


ENDINGS = ("SIGKILL", "SIGTERM", "SIGINT", "full disk")


def _at(owner: Any, name: str) -> Callable[[str], None]:
    """Ends the process in the place of a function's first call."""

    def install(how: str) -> None:
        real = getattr(owner, name)
        calls: list[int] = []

        def watched(*arguments: Any, **options: Any) -> Any:
            calls.append(1)
            if len(calls) == 1:
                _end(how)
            return real(*arguments, **options)

        setattr(owner, name, watched)

    return install


def _in_lance(method: str) -> Callable[[str], None]:
    """The same, before a change of a gallery's tables. LanceDB is loaded then, in the process that does the work."""

    def install(how: str) -> None:
        from lancedb.table import LanceTable

        _at(LanceTable, method)(how)

    return install


#: Where a file is whole but has not got its name, by verb; `synth` writes a folder.
FLUSHED = _at(os, "fsync")
PLACES: dict[str, dict[str, Callable[[str], None]]] = {
    "while it works": {
        "cluster": _at(cluster, "_cluster"),
        "embed": _at(embed, "embed_records"),
        "export": _at(exchange, "released_state"),
        "import": _at(exchange, "load_released_state"),
        "synth": _at(write, "render"),
        "starter": _at(starter, "train_starter"),
    },
    "while it writes": dict.fromkeys(COMMANDS, FLUSHED)
    | {"synth": _at(write, "contact_sheet")}
    | {"gallery add": _in_lance("add"), "gallery compact": _in_lance("update")}
    | dict.fromkeys(("gallery remove", "gallery expire"), _in_lance("delete")),
}


def _stdout(number: int) -> None:
    os.dup2(number, 1)
    sys.stdout = os.fdopen(1, "w", closefd=False)


def _no_stdout() -> None:
    os.close(1)
    setattr(sys, "stdout", None)  # noqa: B010  # what Python does when it starts like this


def _full_stdout() -> None:
    _stdout(os.open("/dev/full", os.O_WRONLY))


def _no_reader() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    _stdout(writing)


def _read_only() -> None:
    """What a command writes to cannot be written, not even by root."""
    for name in _WRITES_TO:
        for folder, _, _ in list(os.walk(name)) if name != "." else [(name, [], [])]:
            Path(folder).chmod(0o555)
    obey_modes()


def _no_columns() -> None:
    os.environ["COLUMNS"] = "0"


#: What a verb may meet, and how it is brought about in its process.
CIRCUMSTANCES: dict[str, Callable[[], None]] = {
    "closed stdout": _no_stdout,
    "stdout on a full disk": _full_stdout,
    "stdout without a reader": _no_reader,
    "no columns": _no_columns,
    "read-only folders": _read_only,
}


@dataclass(frozen=True)
class Ended:
    """How a case ended.

    Attributes:
        verb: Of the command line.
        place: Where the end came.
        how: What ended it, or what it met.
        status: Exit code, or minus the signal's number.
        said: What was printed on stderr.
        left: Files that are new, and old ones that changed.
        again: Exit code of the same command, run again after SIGKILL; None for the others, which leave nothing.
        left_again: What that leaves.
    """

    verb: str
    place: str
    how: str
    status: int
    said: str
    left: list[str]
    again: int | None
    left_again: list[str]


def prepare(folder: Path) -> World:
    """What the verbs start from: a world, whose folder becomes the current one."""
    use_small_networks()
    world = World.make(folder)
    os.chdir(world.root)
    return world


def run_verb(verb: str, said: Path, install: Callable[[], None] | None = None) -> int:
    """One process of a verb; its exit code, or minus the signal's number."""
    child = os.fork()
    if child == 0:
        try:
            stream = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(stream, 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.argv = ["pclhd", *COMMANDS[verb]]
            if install is not None:
                install()
            main()
        except SystemExit as end:
            os._exit(end.code if isinstance(end.code, int) else int(end.code is not None))
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(99)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run_case(world: World, verb: str, place: str, how: str) -> Ended:
    """End a verb, run it again, and put everything back."""
    said = world.root.parent / "said.txt"
    met = CIRCUMSTANCES.get(how)
    status = run_verb(verb, said, partial(PLACES[place][verb], how) if met is None else met)
    if how == "read-only folders":
        for folder, _, _ in os.walk(world.root):
            Path(folder).chmod(0o777)
    printed, left = said.read_text("utf-8"), changed(world)
    again = run_verb(verb, said) if how == "SIGKILL" else None
    ended = Ended(verb, place, how, status, printed, left, again, changed(world))
    world.restore()
    return ended


def changed(world: World) -> list[str]:
    """New, lost and changed files and folders, but not those below new folders other than galleries."""
    now = states(world.root)
    names = [name for name in now.keys() | world.known.keys() if now.get(name, ())[2:] != world.known.get(name, ())[2:]]
    return sorted(name for name in names if not (name.startswith("out/") and name.count("/") > 2))


def cases() -> list[tuple[str, str, str]]:
    """Every verb at every place that it has; a full disk is noticed where something is written."""
    return _endings() + [
        (verb, "from the start", how)
        for verb in COMMANDS
        for how in CIRCUMSTANCES
        if how == "read-only folders" or not (verb in FEW or verb.startswith("gallery"))
    ]


def _endings() -> list[tuple[str, str, str]]:
    return [
        (verb, place, how)
        for place, verbs in PLACES.items()
        for verb in verbs
        for how in ENDINGS
        if how != "full disk" or place == "while it writes"
    ]


if __name__ == "__main__":
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are started deaf to it
    made = prepare(Path(sys.argv[1]))
    if "--world" not in sys.argv:
        json.dump([asdict(run_case(made, *case)) for case in cases()], sys.stdout)
