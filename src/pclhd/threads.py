"""Threads and memory of this process: how much it may use, and how threads wait for each other.

A container may allow fewer processors and less memory than the machine has. Libraries look at the machine: numpy,
Python's thread pools and, in a container with a quota, torch and numba start a thread for each processor, and these
then wait for each other's turn.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path

#: What makes waiting threads sleep, unless the user has set it. While a thread waits for others, GNU's OpenMP (torch,
#: numba, faiss) keeps its processor busy for about three milliseconds, and OpenBLAS (numpy) for about twenty, before it
#: sleeps. Beside other busy processes, that is time taken from the thread that is waited for. A thousand turns take
#: about ten microseconds and save the sleep between two short computations on an idle machine (docs/speed.md).
_WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "OPENBLAS_THREAD_TIMEOUT": "4"}
_SPINS = {"GOMP_SPINCOUNT": "1000"}

_NUMBERS = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
_LOADS_THREADS = ("torch", "numba", "numpy")
_UNLIMITED = 1 << 60  # version 1 of control groups writes a number near 2**63


def usable_cpus(*, root: Path = Path("/"), environ: Mapping[str, str] = os.environ) -> int:
    """Number of threads that can compute at the same time.

    The least of: the processors that the process may run on, the quota of its control groups (version 1 or 2, rounded
    up), and ``OMP_NUM_THREADS``.

    Args:
        root: Where ``proc`` and ``sys`` lie.
        environ: The environment.
    """
    asked = environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    limits = [_processors(), *([int(asked)] if asked.isascii() and asked.isdigit() else [])]
    quota = cpu_quota(root)
    if quota is not None:
        limits.append(math.ceil(quota))
    return max(1, min(limits))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Processors' worth of time that the control groups of this process allow; None without a limit."""
    quotas = []
    for folder in _groups(root, "cpu"):
        words = _read(folder / "cpu.max").split()  # "max 100000" or "150000 100000"
        if not words:
            words = [_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")]
        numbers = [int(word) for word in words if word.isdigit()]  # version 1 writes -1 for no limit
        if len(numbers) == 2 and min(numbers) > 0:
            quotas.append(numbers[0] / numbers[1])
    return min(quotas, default=None)


def usable_memory(root: Path = Path("/")) -> int | None:
    """Bytes of memory that this process may use: of the machine, its control groups and ``ulimit -v``.

    Args:
        root: Where ``proc`` and ``sys`` lie.

    Returns:
        The smallest of these limits; None if the system reports none.
    """
    lines = _read(root / "proc/meminfo").splitlines()
    limits = [1024 * int(line.split()[1]) for line in lines if line.startswith("MemTotal:")]
    for folder in _groups(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = _read(folder / name)
            if text.isdigit() and 0 < int(text) < _UNLIMITED:
                limits.append(int(text))
    if sys.platform != "win32":
        import resource

        soft = resource.getrlimit(resource.RLIMIT_AS)[0]
        if soft != resource.RLIM_INFINITY:
            limits.append(soft)
    return min(limits, default=None)


def set_up_threads(environ: MutableMapping[str, str] = os.environ) -> None:
    """Set what numeric libraries read when they are loaded: how threads wait, and how many start.

    Nothing that the user has set is changed. Without effect once such a library has been loaded, so the command line
    calls it first. Child processes inherit it.
    """
    if not any(name in sys.modules for name in _LOADS_THREADS):
        environ.update(thread_settings(environ))


def thread_settings(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What `set_up_threads` adds to an environment, for processes that are started with it."""
    # The number of turns precedes the policy, so a policy that the user has set stays alone.
    settings = dict(_WAITING if "OMP_WAIT_POLICY" in environ else _WAITING | _SPINS)
    cpus = usable_cpus(environ=environ)
    if cpus < _processors():
        settings |= dict.fromkeys(_NUMBERS, str(cpus))
    return {name: value for name, value in settings.items() if name not in environ}


def _processors() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # not every platform reports it
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of the control groups that limit this process, inner ones first.

    In a container the path in ``/proc/self/cgroup`` may be that of the host; its parents that exist are taken.
    """
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        names = ("cgroup", "cgroup/unified") if not controllers else (f"cgroup/{controller}", f"cgroup/{controllers}")
        for name in names:
            mounted = root / "sys/fs" / name
            inner = mounted / path.lstrip("/")
            if ".." in inner.parts:
                inner = mounted
            yield inner
            yield from (folder for folder in inner.parents if folder == mounted or folder.is_relative_to(mounted))


def _read(file: Path) -> str:
    try:
        return file.read_text("ascii").strip()
    except (OSError, ValueError):
        return ""
