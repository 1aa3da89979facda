"""Verbs that are ended while they write, or called where they cannot: a process that has loaded everything forks one
for each case.

`python -m tests.cli.ending FOLDER` prints as JSON how each case ended, what it left, and how the same command ended
when it was given again; `tests/cli/test_ending.py` looks at that.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pclhd.cli import main
from pclhd.config import load_preset
from pclhd.models.released import released_state
from pclhd.models.two_stream import NARROW
from pclhd.models.weights import save_model
from pclhd.supervised import starter
from pclhd.synthetic import write, write_synthetic
from pclhd.workflows import cluster, embed, exchange
from tests.models.small import SMALL_BOTTLENECK, stirred
from tests.privileges import obey_modes

#: Each verb's words. Below the current folder, `data`, `run` and `theirs.pth` are there before.
VERBS: dict[str, tuple[str, ...]] = {
    "cluster": ("features.npy", "--out", "out/labels.csv", "--k1", "4", "--k2", "2"),
    "embed": ("run", "--out", "out/features.npy", "--split", "test", "--device", "cpu"),
    "export": ("theirs", "--out", "out/model.pth"),
    "import": ("theirs.pth", "--layout", "sysu", "--out", "out/made"),
    "synth": ("--out", "out/drawn", "--scale", "tiny", "--workers", "1"),
    "starter": ("--out", "out/start.safetensors", "--people", "4", "--images", "1", "--steps", "1"),
    "evaluate": ("run", "--device", "cpu"),
    "report": ("run",),
}


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
    "while it writes": dict.fromkeys(VERBS, FLUSHED) | {"synth": _at(write, "contact_sheet")},
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
    """Neither `out` nor `run` can be written to, not even by root."""
    for folder in ("out", "run"):
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


def prepare(folder: Path) -> None:
    """What the verbs start from."""
    os.chdir(folder)
    write_synthetic(Path("data"), scale="tiny", workers=1)
    size = ["data.height=48", "data.width=24", "data.workers=1"]
    for name, architecture in (("run", NARROW), ("theirs", SMALL_BOTTLENECK)):
        Path(name).mkdir()
        Path(name, "config.yaml").write_text(load_preset("tiny", size, root=Path("data").resolve()).to_yaml())
        save_model(Path(name, "model.safetensors"), stirred(architecture))
    torch.save(released_state(stirred(SMALL_BOTTLENECK, 1)), "theirs.pth")
    np.save("features.npy", np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32))
    setattr(exchange, "RELEASED_ARCHITECTURE", SMALL_BOTTLENECK)  # noqa: B010  # the released network has a hundred megabytes
    assert run_verb("evaluate", Path("said.txt")) == 0


def contents() -> dict[str, bytes]:
    """Files by name, with their bytes; folders too, with none. Not what is in folders below `out`."""
    kept = [path for pattern in ("run/**/*", "out/*", "out/made/*", "out/drawn/*") for path in Path().glob(pattern)]
    return {path.as_posix(): path.read_bytes() if path.is_file() else b"" for path in kept}


def run_verb(verb: str, said: Path, install: Callable[[], None] | None = None) -> int:
    """One process of a verb; its exit code, or minus the signal's number."""
    child = os.fork()
    if child == 0:
        try:
            stream = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(stream, 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.argv = ["pclhd", verb, *VERBS[verb]]
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


def run_case(verb: str, place: str, how: str) -> Ended:
    """End a verb, and run it again."""
    shutil.rmtree("out", ignore_errors=True)
    Path("out").mkdir()
    before = contents()

    def changed() -> list[str]:
        now = contents()
        return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))

    said = Path("said.txt")
    met = CIRCUMSTANCES.get(how)
    status = run_verb(verb, said, partial(PLACES[place][verb], how) if met is None else met)
    for folder in ("out", "run"):
        Path(folder).chmod(0o755)
    printed, left = said.read_text("utf-8"), changed()
    again = run_verb(verb, said) if how == "SIGKILL" else None
    ended = Ended(verb, place, how, status, printed, left, again, changed())
    for name in contents().keys() - before.keys():
        if name.startswith("run/"):
            shutil.rmtree(name) if Path(name).is_dir() else Path(name).unlink(missing_ok=True)
    return ended


def cases() -> list[tuple[str, str, str]]:
    """Every verb at every place that it has; a full disk is noticed where something is written."""
    return _endings() + [(verb, "from the start", how) for verb in VERBS for how in CIRCUMSTANCES]


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
    prepare(Path(sys.argv[1]))
    json.dump([asdict(run_case(*case)) for case in cases()], sys.stdout)
