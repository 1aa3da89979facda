"""Worker processes end with their parent, whatever ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pclhd.synthetic.workers import worker_pool

SYNTH = [sys.executable, "-m", "pclhd", "synth", "--scale", "small", "--workers", "2", "--out"]


def processes_of(session: int) -> list[int]:
    """Living processes of a session, as Linux lists them."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(folder.name))
    return found


def wait_until(holds: object, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < until
        time.sleep(0.05)


def test_one_process_needs_no_pool() -> None:
    with worker_pool(1) as pool:
        assert pool is None


@pytest.mark.slow
def test_a_pool_computes_and_ends() -> None:
    with worker_pool(2) as pool:
        assert pool is not None
        assert list(pool.map(abs, [-1, 2, -3])) == [1, 2, 3]
        (left, right) = pool._processes.values()
    assert (left.is_alive(), right.is_alive()) == (False, False)


def _hear_signals() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads the processes of Linux")
@pytest.mark.parametrize(
    ("how", "when"),
    [
        ("SIGKILL", "workers import"),
        ("SIGKILL", "workers draw"),
        ("SIGHUP", "workers draw"),
        ("SIGTERM", "workers draw"),
        ("SIGINT", "workers import"),
    ],
)
def test_workers_end_with_their_parent(tmp_path: Path, how: str, when: str) -> None:
    number = getattr(signal, how)
    # A shell's background jobs are started deaf to SIGINT, and those of nohup to SIGHUP.
    started = subprocess.Popen(
        [*SYNTH, str(tmp_path / "drawn")],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_hear_signals,
    )
    session = started.pid
    wait_until(lambda: len(processes_of(session)) >= 3)
    if when == "workers draw":
        wait_until(lambda: any(tmp_path.rglob("*.jpg")))
    if how == "SIGINT":  # Ctrl-C goes to all processes of the terminal
        os.killpg(session, number)
    else:
        started.send_signal(number)
    _, said = started.communicate(timeout=60)
    assert started.returncode == (-9 if how == "SIGKILL" else 128 + number)
    if (how, when) != ("SIGKILL", "workers import"):
        # multiprocessing itself complains in a worker whose parent vanishes while it reads from it what to import.
        assert "Traceback" not in said
    wait_until(lambda: not processes_of(session))
    if how != "SIGKILL":
        assert list(tmp_path.iterdir()) == []
        return
    # The same command removes what the killed one has left.
    assert len(list(tmp_path.iterdir())) == 2  # the unfinished folder and its lock
    again = subprocess.run([*SYNTH, str(tmp_path / "drawn"), "--scale", "tiny", "--quiet"], check=False)
    assert again.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["drawn"]
