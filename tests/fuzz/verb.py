"""Run a command in a process that may be killed, and judge how it ended."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from pclhd.cli import main
from tests.fuzz.world import World
from tests.privileges import obey_modes

#: Seconds of waiting, without any computing, that are a hang.
LIMIT = 30.0
#: Seconds of computing that are one.
_COMPUTING = 20.0
#: Seconds of computing after which a command that may be long is asked to end.
_PATIENCE = 2.0
_FROM_ONE_PROCESS = 200
_MEMORY = 2 * 2**30
#: Among the patterns of what a command may write: anything that was not there.
NEW = "new"
_ROOT = Path(__file__).parent.parent.parent
_PARTIAL = re.compile(r"(^|/)(\.[^/]+\.part|\.lock|\.[^/]+\.lock|\.unfinished)$")
#: What Rust prints where LanceDB's own code ends over damaged files; it goes to stderr past Python, and stays there.
_PANIC = re.compile(r"^\nthread '[^']*' \(\d+\) panicked at .*?(?=^pclhd: )", re.MULTILINE | re.DOTALL)
_TABLES = r"(people|indexed)/(facts|images)\.lance(/.*)?"
_TRACEBACK = re.compile(r"pclhd-[^/]+\.traceback\.txt$")


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: Exit code; minus the signal's number; None if it had to be killed.
        out: What it printed on stdout.
        err: What it printed on stderr.
        seconds: How long it took.
        memory: Largest resident memory, in bytes.
    """

    code: int | None
    out: str
    err: str
    seconds: float
    memory: int


@dataclass(frozen=True)
class Command:
    """A command and what it may do.

    Attributes:
        words: Those after `pclhd`.
        writes: What it may write, as regular expressions of names in the world.
        codes: Exit codes that are right.
        as_nobody: Whether it runs without the rights of root.
        alone: Whether it runs in a new process instead of the common one.
        may_be_long: Whether it may take as long as it likes, as long as SIGTERM ends it.
        serves: Whether it serves HTTP until it is ended. Once it says that it does, a request is made, then it is asked
            to end.
    """

    words: tuple[str, ...]
    writes: tuple[str, ...] = ()
    codes: tuple[int, ...] = (0, 2)
    as_nobody: bool = False
    alone: bool = False
    may_be_long: bool = False
    serves: bool = False


class Runner:
    """Runs commands in a world's folder: in a forked process that does many in turn, or each in a new one.

    Args:
        world: The world.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._child = 0
        self._done = 0
        self._serves = False
        self._out, self._err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115

    def run(self, command: Command) -> Ended:
        """Run a command to its end, which is forced where it does not come."""
        for stream in (self._out, self._err):
            os.ftruncate(stream.fileno(), 0)
            os.lseek(stream.fileno(), 0, os.SEEK_SET)  # for all processes that have this file
        began = time.monotonic()
        code, memory = self._run_alone(command) if command.alone and not command.serves else self._run_forked(command)
        texts = [_text(stream) for stream in (self._out, self._err)]
        return Ended(code, texts[0], texts[1], time.monotonic() - began, memory)

    def close(self) -> None:
        """End the process."""
        if self._child:
            os.kill(self._child, signal.SIGKILL)
            os.waitpid(self._child, 0)
            os.close(self._questions)
            self._answers.close()
        self._child = 0

    def _run_alone(self, command: Command) -> tuple[int | None, int]:
        importable = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        started = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.small", *map(os.fsencode, command.words)],
            cwd=self._world.root,
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=self._err,
            env={**os.environ, **_environment(self._world), "PYTHONPATH": importable},
        )
        for number in (*([signal.SIGTERM] if command.may_be_long else []), signal.SIGKILL):
            try:
                code = started.wait(10 * LIMIT)
            except subprocess.TimeoutExpired:
                started.send_signal(number)
            else:
                return (0 if command.may_be_long and code == 143 else code), 0
        started.wait()
        return None, 0

    def _run_forked(self, command: Command) -> tuple[int | None, int]:
        if self._done >= _FROM_ONE_PROCESS:
            self.close()
        if not self._child:
            self._fork()
        self._done += 1
        question = {"words": command.words, "as_nobody": command.as_nobody}
        os.write(self._questions, json.dumps(question).encode() + b"\n")
        patience = _PATIENCE if command.may_be_long else _COMPUTING
        ended, asked = self._answered(patience, serves=command.serves), False
        if not ended and (command.may_be_long or self._serves):
            os.kill(self._child, signal.SIGTERM)
            ended, asked = self._answered(_COMPUTING), True
        if not ended:
            self.close()
            return None, 0
        answer = self._answers.readline()
        if not answer:
            _, status = os.waitpid(self._child, 0)
            self._child = 0
            return os.waitstatus_to_exitcode(status), 0
        code, memory = json.loads(answer)
        return (0 if asked and code == 143 else code), memory

    def _address(self) -> str | None:
        """Where the command says that it serves; None if it does not."""
        found = re.search(r"; open (http://\S+) in a browser", _text(self._out))
        return None if found is None else found[1]

    def _answered(self, computing: float, *, serves: bool = False) -> bool:
        """Whether the command ends before it has computed for some seconds, or has done nothing for `LIMIT` seconds.

        The clock alone would not do: beside many busy processes, a moment takes a minute. One that serves has not ended
        either once it has answered a request.
        """
        before = last = _computed(self._child)
        began = moved = time.monotonic()
        self._serves = False
        while not select.select([self._answers], [], [], 0.1)[0]:
            self._serves = serves and (address := self._address()) is not None and _asked(address)
            if self._serves or (serves and time.monotonic() - began > 10 * LIMIT):  # an idle server computes a little
                return False
            now = _computed(self._child)
            if now > last:
                last, moved = now, time.monotonic()
            if now - before > computing or time.monotonic() - moved > LIMIT:
                return False
        return True

    def _fork(self) -> None:
        questions, self._questions = os.pipe()
        answers_from, answers_to = os.pipe()
        self._done = 0
        self._child = os.fork()
        if self._child == 0:
            try:
                os.close(self._questions)
                os.close(answers_from)
                self._serve(questions, answers_to)
            finally:
                os._exit(0)
        os.close(questions)
        os.close(answers_to)
        self._answers = os.fdopen(answers_from, "rb")

    def _serve(self, questions: int, answers: int) -> None:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(self._out.fileno(), 1)
        os.dup2(self._err.fileno(), 2)
        os.environ.update(_environment(self._world))
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # until a command handles it
        resource.setrlimit(resource.RLIMIT_FSIZE, (_MEMORY, _MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with os.fdopen(questions, "rb") as lines:
            for line in lines:
                question = json.loads(line)
                code = _called(self._world, question["words"], as_nobody=question["as_nobody"])
                signal.signal(signal.SIGTERM, signal.SIG_IGN)  # one that comes too late
                memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
                os.write(answers, json.dumps([code, memory]).encode() + b"\n")


def _asked(address: str) -> bool:
    """Whether a server answers, whatever it says."""
    try:
        directly = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with directly.open(f"{address}api/v1/gallery", timeout=LIMIT) as answer:
            answer.read()
    except urllib.error.HTTPError as refused:
        refused.close()
    except OSError:
        return False
    return True


def _computed(process: int) -> float:
    """Seconds of CPU time that a process and its ended children have had, as Linux says."""
    ticks = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:15]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def _text(stream: IO[bytes]) -> str:
    size = os.fstat(stream.fileno()).st_size
    return os.pread(stream.fileno(), size, 0).decode("utf-8", "backslashreplace")


def _environment(world: World) -> dict[str, str]:
    folders = {"HOME": str(world.root / "home"), "TMPDIR": str(world.root / "tmp")}
    nowhere = "http://127.0.0.1:9"  # nothing is fetched
    return {**folders, "COLUMNS": "80", "https_proxy": nowhere, "http_proxy": nowhere}


def _called(world: World, words: list[str], *, as_nobody: bool) -> int:
    """The exit code of a command in this process, whose output goes to the files behind 1 and 2."""
    os.chdir(world.root)
    tempfile.tempdir = None
    warnings.resetwarnings()  # those of earlier cases must not count as seen
    for stream, number in (("stdout", 1), ("stderr", 2)):
        setattr(sys, stream, os.fdopen(number, "w", encoding="utf-8", errors="strict", closefd=False))
    sys.argv = ["pclhd", *words]
    code = 0
    if as_nobody:
        obey_modes()
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 99
    finally:
        if as_nobody:
            obey_modes(False)
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    return code


def faults(command: Command, ended: Ended, world: World) -> Iterator[str]:
    """What is wrong with how a command ended."""
    changed = world.changed()
    saved = [name for name in changed if _TRACEBACK.search(name)]
    lines = [line for line in _PANIC.sub("", ended.err).splitlines() if line.strip()]
    # A training that was asked to end says so.
    no_errors = ("note: ", "warning: ", *(["interrupted; "] if command.may_be_long else []))
    errors = [line for line in lines if not line.startswith(no_errors)]
    if ended.code is None:
        yield "hang: it computed too long, or waited for something"
    elif ended.code == 70:
        yield f"unexpected: {_last_frames(world.root / saved[0]) if saved else ended.err}"
    elif ended.code not in command.codes:
        yield f"exit code {ended.code}: {ended.err[-600:]}"
    if "Traceback" in ended.out + ended.err:
        yield f"traceback: {ended.err[-600:]}"
    elif ended.code == 2 and (len(errors) != 1 or not errors[0].startswith("pclhd: ")):
        yield f"not one line: {ended.err[:600]!r}"
    elif ended.code in (0, 1) and errors:
        yield f"success with errors: {ended.err[:600]!r}"
    if re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", ended.out + ended.err):
        yield f"control characters: {ended.out[:300]!r} {ended.err[:300]!r}"
    if ended.memory > _MEMORY:
        yield f"memory: {ended.memory / 2**30:.1f} GiB"
    left = [name for name in changed if name not in saved and _wrongly_changed(name, command, ended, world)]
    left = [name for name in left if not (world.root / name).is_dir() or name not in world.known]
    if left and ended.code is not None:
        yield f"left: exit code {ended.code}, {left[:5]}: {ended.err[:300]}"
    if ended.code == 0:
        yield from (f"not finite: {name}" for name in changed if not _is_finite(world.root / name))


def _wrongly_changed(name: str, command: Command, ended: Ended, world: World) -> bool:
    if name.startswith("home"):  # caches of libraries
        return False
    if _PARTIAL.search(name):
        path = world.root / name
        return not (path.name == ".lock" and any(path.parent.glob("images-*.npy")))  # a cache of images keeps its lock
    if name.startswith("cache/"):  # decoded images stay, whatever happens afterwards
        return False
    # A training that ends in the middle leaves a run that can be resumed, and a grid of trainings those that ended.
    trains = command.words[0] in {"train", "study", "ablate"} if command.words else False
    begun = trains and list(world.root.glob("**/checkpoints/epoch-*"))
    if command.words[:1] == ("gallery",) and re.fullmatch(_TABLES, name) and command.writes:
        return False  # a change of a gallery is several commits, each there as a whole
    if ended.code not in (0, 1) and not begun:
        return True
    if NEW in command.writes and (name not in world.known or "--force" in command.words):
        return False
    return not any(re.fullmatch(pattern, name) for pattern in command.writes)


def _is_finite(path: Path) -> bool:
    """Whether an output holds only finite numbers."""
    if not path.is_file():
        return True
    if path.suffix == ".npy":
        array = np.load(path)
        return array.dtype.kind != "f" or bool(np.isfinite(array).all())
    if path.suffix in {".json", ".jsonl"}:
        text = path.read_text("utf-8", "replace")
        return not re.search(r"\b(NaN|Infinity)\b", text)
    return True


def _last_frames(saved: Path) -> str:
    """The error of a saved traceback, with the last places in our own source."""
    text = saved.read_text("utf-8", "replace")
    places = re.findall(r'File ".*/(?:src|site-packages)/([\w/.]+)", line (\d+)', text)
    ours = [f"{name}:{line}" for name, line in places if name.startswith("pclhd")][-2:]
    error = next(
        (line for line in reversed(text.splitlines()) if re.match(r"[\w.]+(Error|Exception|Interrupt)", line)), ""
    )
    return f"{' < '.join(reversed(ours))}: {error[:300]}"


def kind_of(fault: str) -> str:
    """A fault without what differs from case to case, to count each once."""
    return re.sub(r"0x[0-9a-f]+|\d+|/tmp/\S+|'[^']*'", "…", fault)[:200]


def words_text(words: Sequence[str]) -> str:
    """Words as they can be read."""
    return " ".join(word if re.fullmatch(r"[\w./=:-]+", word) else json.dumps(word)[:120] for word in words)
